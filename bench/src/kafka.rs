//! Filling a topic as fast as Kafka takes it, in this process.

use std::time::Duration;

use mediation_tests::Kafka;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::PAYLOAD;

/// The payload of every event: text that says nothing.
pub(crate) fn payload() -> Vec<u8> {
    (0..PAYLOAD).map(|n| b'a' + u8::try_from(n % 26).expect("a letter")).collect()
}

/// Publishes `count` events and returns when all are confirmed. Blocks.
pub(crate) fn fill(bootstrap: &str, topic: &str, count: usize) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("linger.ms", "5").set("batch.size", "1000000");
    config.set("queue.buffering.max.messages", "20000");
    let producer: BaseProducer = config.create().expect("a producer");
    let payload = payload();
    for _ in 0..count {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).payload(&payload);
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    producer.poll(Duration::from_millis(5));
                    record = back;
                }
                Err((error, _)) => panic!("produce: {error}"),
            }
        }
    }
    producer.flush(Duration::from_secs(120)).expect("everything is confirmed");
}

/// A topic of one partition with so many events in it.
pub(crate) async fn topic_with(kafka: &Kafka, topic: &str, count: usize) {
    kafka.create_topic(topic, 1).await;
    fill_in_background(kafka, topic, count).await.expect("filled");
}

/// [`fill`] beside whoever reads.
pub(crate) fn fill_in_background(kafka: &Kafka, topic: &str, count: usize) -> tokio::task::JoinHandle<()> {
    let (bootstrap, topic) = (kafka.bootstrap(), topic.to_owned());
    tokio::task::spawn_blocking(move || fill(&bootstrap, &topic, count))
}
