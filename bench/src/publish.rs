//! POST to Kafka, answered after the broker's confirm: 64 keep-alive connections.

use mediation_tests::spec::{entrypoint, route};
use mediation_tests::{Kafka, unique};
use serde_json::{Value, json};

use crate::bare::Process;
use crate::downstream::{check_packet_log, engine, rate, us};
use crate::proc::{Cost, Meter};
use crate::report::{Figure, Report};
use crate::{Scale, client};

/// Connections, each with one request out.
const CONNECTIONS: usize = 64;

/// Requests before it counts: the first ones wait for connections and metadata.
const WARM: usize = 2_000;

/// Goal, CPU microseconds a request.
const GOAL: f64 = 25.0;

/// Measures, and adds to the report.
pub(crate) async fn measure(kafka: &Kafka, scale: &Scale, report: &mut Report) {
    let (count, properties) = (scale.requests, &scale.properties);
    for _ in 0..scale.runs {
        let topic = unique("posted");
        kafka.create_topic(&topic, 1).await;
        let (producer, hyper) = (producer(kafka, &topic, count).await, hyper(count).await);
        report.add_baseline("bare rdkafka FutureProducer, 64 in flight", "us a request", producer, count);
        report.add_baseline("bare hyper, 2 workers, 64 connections", "us a request", hyper, count);
        let cost = through_engine(kafka, properties, &topic, count, report).await;
        let beside = Some(("bare hyper + bare producer", us(producer, count) + us(hyper, count)));
        let figure =
            Figure { name: "POST -> Kafka, confirmed (at_least_once)", unit: "us a request", goal: Some(GOAL), beside };
        report.add(figure, us(cost, count), Some(rate(cost, count)));
        kafka.forget_all(&topic).await;
    }
}

async fn through_engine(kafka: &Kafka, properties: &Value, topic: &str, count: usize, report: &mut Report) -> Cost {
    let config = json!({
        "admin": { "port": 0, "bind": "127.0.0.1" },
        "entrypoints": [entrypoint("post", "http_post")],
        "endpoints": [{
            "name": "broker", "type": "kafka", "config": { "brokers": kafka.bootstrap(), "topic_out": topic, "properties": properties },
        }],
        "routes": [route("post", "broker", "upstream", "at_least_once")],
    });
    let engine = engine(&config).await;
    let (addr, pid) = (engine.addr("post"), engine.child.pid().unsigned_abs());
    client::post(addr, CONNECTIONS, WARM).await;
    let meter = Meter::start(pid);
    client::post(addr, CONNECTIONS, count).await;
    let cost = meter.stop();
    check_packet_log(&engine, report).await;
    cost
}

async fn hyper(count: usize) -> Cost {
    let process = Process::start(&["http"]).await;
    let addr = process.addr().await;
    client::post(addr, CONNECTIONS, WARM).await;
    let meter = Meter::start(process.pid());
    client::post(addr, CONNECTIONS, count).await;
    meter.stop()
}

async fn producer(kafka: &Kafka, topic: &str, count: usize) -> Cost {
    let args = ["producer", &kafka.bootstrap(), topic, &count.to_string(), &CONNECTIONS.to_string()];
    Process::start(&args).await.cost().await
}
