//! Kafka to one WebSocket client, flat out: what is there already (backlog), and what comes meanwhile (live).

use std::process::Stdio;

use mediation_tests::spec::{entrypoint, merge, route};
use mediation_tests::{Engine, Kafka, unique};
use serde_json::{Value, json};

use crate::bare::Process;
use crate::proc::{Cost, Meter};
use crate::report::{Figure, Report};
use crate::{Scale, client, kafka};

/// Goal, CPU microseconds an event.
const GOAL: f64 = 3.0;

fn config(kafka: &Kafka, properties: &Value, topic: &str, start: &str, guarantee: &str) -> Value {
    let mut downstream = route("broker", "ws", "downstream", guarantee);
    merge(&mut downstream, &json!({ "channel_size": 256 }));
    json!({
        "admin": { "port": 0, "bind": "127.0.0.1" },
        "entrypoints": [entrypoint("ws", "websocket")],
        "endpoints": [{
            "name": "broker", "type": "kafka",
            "config": { "brokers": kafka.bootstrap(), "topic_in": topic, "start": start, "properties": properties },
        }],
        "routes": [downstream],
    })
}

/// An engine with its packet log on. It goes to /dev/null: somebody who drains a pipe would take CPU from a machine of
/// few cores and change the rates, and the engine's share of a write to a pipe is one copy of 64 KiB in 230 lines.
pub(crate) async fn engine(config: &Value) -> Engine {
    let engine = Engine::start_to(Stdio::null(), config).await;
    mediation_tests::eventually("the endpoint is up", async || {
        let ready = engine.admin("/readyz").await;
        if ready["endpoints"]["broker"] == "up" { Ok(()) } else { Err(ready.to_string()) }
    })
    .await;
    engine
}

/// Warns when the packet log dropped lines: then it cost less than it should.
pub(crate) async fn check_packet_log(engine: &Engine, report: &mut Report) {
    let metrics = engine.admin_text("/metrics").await;
    let dropped =
        metrics.lines().find_map(|line| line.strip_prefix("mediation_packet_log_dropped_total ")).unwrap_or("?");
    if dropped != "0" {
        report.warn(format!("THE PACKET LOG DROPPED {dropped} LINES in one run: with all of them it costs more"));
    }
}

/// Measures, and adds to the report.
pub(crate) async fn measure(kafka: &Kafka, scale: &Scale, report: &mut Report) {
    let (count, properties) = (scale.events, &scale.properties);
    let topic = unique("backlog");
    kafka::topic_with(kafka, &topic, count).await;
    for _ in 0..scale.runs {
        let bare = [consumer(kafka, &topic, count, false).await, socket(count).await];
        report.add_baseline("bare rdkafka StreamConsumer, backlog", "us an event", bare[0], count);
        report.add_baseline("bare socket, 128 frames a write", "us an event", bare[1], count);
        let beside = Some(("bare consumer + bare socket", us(bare[0], count) + us(bare[1], count)));
        for (name, guarantee, goal) in [
            ("Kafka -> 1 WebSocket, backlog, auto", "auto", Some(GOAL)),
            ("Kafka -> 1 WebSocket, backlog, at_least_once", "at_least_once", None),
        ] {
            let engine = engine(&config(kafka, properties, &topic, "earliest", guarantee)).await;
            let cost = backlog(&engine, count).await;
            check_packet_log(&engine, report).await;
            report.add(Figure { name, unit: "us an event", goal, beside }, us(cost, count), Some(rate(cost, count)));
        }
        let topic = unique("bare-live");
        kafka.create_topic(&topic, 1).await;
        let bare_live = consumer(kafka, &topic, count, true).await;
        report.add_baseline("bare rdkafka StreamConsumer, live", "us an event", bare_live, count);
        kafka.forget_all(&topic).await;
        let topic = unique("live");
        kafka.create_topic(&topic, 1).await;
        let engine = engine(&config(kafka, properties, &topic, "latest", "auto")).await;
        let cost = live(&engine, kafka, &topic, count).await;
        check_packet_log(&engine, report).await;
        kafka.forget_all(&topic).await;
        let beside = Some(("bare consumer + bare socket", us(bare_live, count) + us(bare[1], count)));
        let figure = Figure { name: "Kafka -> 1 WebSocket, live, auto", unit: "us an event", goal: Some(GOAL), beside };
        report.add(figure, us(cost, count), Some(rate(cost, count)));
    }
}

/// CPU microseconds each.
pub(crate) fn us(cost: Cost, count: usize) -> f64 {
    cost.cpu.as_secs_f64() * 1e6 / count as f64
}

/// A second.
pub(crate) fn rate(cost: Cost, count: usize) -> f64 {
    count as f64 / cost.took.as_secs_f64()
}

async fn backlog(engine: &Engine, count: usize) -> Cost {
    let meter = Meter::start(engine.child.pid().unsigned_abs());
    let addr = engine.addr("ws");
    tokio::task::spawn_blocking(move || {
        let mut socket = client::open(addr);
        client::drain(&mut socket, count);
        meter.stop()
    })
    .await
    .expect("the client reads everything")
}

async fn live(engine: &Engine, kafka: &Kafka, topic: &str, count: usize) -> Cost {
    let addr = engine.addr("ws");
    let mut socket = tokio::task::spawn_blocking(move || client::open(addr)).await.expect("admitted");
    let meter = Meter::start(engine.child.pid().unsigned_abs());
    let filling = kafka::fill_in_background(kafka, topic, count);
    let reading = tokio::task::spawn_blocking(move || {
        client::drain(&mut socket, count);
        meter.stop()
    });
    let cost = reading.await.expect("the client reads everything");
    filling.await.expect("filled");
    cost
}

async fn consumer(kafka: &Kafka, topic: &str, count: usize, live: bool) -> Cost {
    let args = ["consumer", &kafka.bootstrap(), topic, &count.to_string()];
    let process = Process::start(&args).await;
    if live {
        kafka::fill_in_background(kafka, topic, count).await.expect("filled");
    }
    process.cost().await
}

async fn socket(count: usize) -> Cost {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let reading = tokio::task::spawn_blocking(move || {
        let (mut socket, _) = listener.accept().expect("the baseline connects");
        client::drain(&mut socket, count);
    });
    let process = Process::start(&["socket", &addr.to_string(), &count.to_string()]).await;
    let cost = process.cost().await;
    reading.await.expect("the client reads everything");
    cost
}
