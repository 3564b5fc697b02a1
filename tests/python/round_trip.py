"""Kafka -> WebSocket -> Kafka with clients that the project did not write; ends with 0 when all is as it should be."""

import asyncio
import os

from confluent_kafka import Consumer, Producer, TopicPartition
from websockets.asyncio.client import connect

COUNT = 500


def produce(topic):
    producer = Producer({"bootstrap.servers": os.environ["KAFKA"]})
    failures = []
    for n in range(COUNT):
        producer.produce(topic, f"down {n}".encode(), on_delivery=lambda error, _: error and failures.append(error))
        producer.poll(0)
    assert producer.flush(30) == 0 and not failures, failures


def consume(topic):
    consumer = Consumer({"bootstrap.servers": os.environ["KAFKA"], "group.id": "python", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    out = []
    while len(out) < COUNT:
        message = consumer.poll(30)
        assert message is not None, f"{len(out)} of {COUNT} came"
        if not message.error():
            out.append(message)
    consumer.close()
    return out


async def main():
    async with asyncio.timeout(90):
        async with connect(f"ws://{os.environ['WS']}/", additional_headers={"X-Client-ID": "python"}) as ws:
            await asyncio.to_thread(produce, os.environ["TOPIC_IN"])
            for n in range(COUNT):
                got = await ws.recv()
                assert got == f"down {n}", f"event {n}: {got!r}"
        async with connect(f"ws://{os.environ['UP']}/") as ws:
            for n in range(COUNT):
                await ws.send(f"up {n}")
        # It closed right behind its last frame: nothing is lost by that.
        messages = await asyncio.to_thread(consume, os.environ["TOPIC_OUT"])
        for n, message in enumerate(messages):
            assert message.value() == f"up {n}".encode(), f"message {n}: {message.value()!r}"
            assert any(key == "mediation.id" for key, _ in message.headers()), message.headers()


asyncio.run(main())
