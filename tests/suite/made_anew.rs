//! A topic that is deleted and made again under its name while sessions read it: its offsets start again, and what was
//! known of the old log must not hide the new one's events.

use mediation_tests::spec::{entrypoint, route};
use mediation_tests::{Engine, Kafka, Record, Sse, eventually, run, unique};
use serde_json::json;

fn records(name: &str, n: usize) -> Vec<Record> {
    (0..n).map(|i| Record::new(format!("{name}{i}"))).collect()
}

fn names(name: &str, from: usize, to: usize) -> Vec<String> {
    (from..to).map(|i| format!("{name}{i}")).collect()
}

async fn engine(kafka: &Kafka, topic: &str) -> Engine {
    let mut down = route("k", "sse", "downstream", "at_least_once");
    down["durable"] = json!(true);
    Engine::start(&json!({
        "admin": { "port": 0, "bind": "127.0.0.1" },
        "entrypoints": [entrypoint("sse", "sse")],
        "endpoints": [{ "name": "k", "type": "kafka", "config": { "brokers": kafka.bootstrap(), "topic_in": topic } }],
        "routes": [down],
    }))
    .await
}

/// Reads on until the notice `gap`, or the stream's own error.
async fn until(sse: &mut Sse, what: &str) {
    loop {
        let event = sse.next().await.expect("a stream that goes on");
        if event.data.contains(what) {
            return;
        }
    }
}

#[test]
fn a_durable_session_settles_in_the_new_log_and_comes_back_to_it() {
    run(async {
        let kafka = Kafka::shared();
        let topic = unique("anew");
        kafka.create_topic(&topic, 1).await;
        let engine = engine(kafka, &topic).await;
        let (mut sse, _) = Sse::open(&engine, "anew-1", "").await;
        kafka.produce(&topic, &records("old", 20)).await;
        assert_eq!(sse.events(20).await, names("old", 0, 20));
        engine.session_when("anew-1", "the old log is settled", |s| s["positions"][0]["settled"] == 20).await;

        kafka.delete_topic(&topic).await;
        kafka.create_topic(&topic, 1).await;
        kafka.produce(&topic, &records("new", 10)).await;
        until(&mut sse, "gap").await;
        assert_eq!(sse.events(10).await, names("new", 0, 10));
        let group = "mediation.k.anew-1";
        eventually("the new log's position is committed", async || match kafka.committed(group, &topic, 0).await {
            Some(10) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;

        drop(sse);
        engine.session_gone("anew-1").await;
        kafka.produce(&topic, &records("later", 15)).await;
        let (mut sse, _) = Sse::open(&engine, "anew-1", "").await;
        assert_eq!(sse.events(15).await, names("later", 0, 15));
    });
}

#[test]
fn a_session_whose_partitions_are_gone_is_told_and_ended() {
    run(async {
        let kafka = Kafka::shared();
        let topic = unique("fewer");
        kafka.create_topic(&topic, 3).await;
        let engine = engine(kafka, &topic).await;
        let (mut sse, _) = Sse::open(&engine, "fewer-1", "").await;
        kafka.produce(&topic, &records("old", 9)).await;
        sse.events(9).await;
        kafka.delete_topic(&topic).await;
        kafka.create_topic(&topic, 1).await;
        until(&mut sse, "fewer partitions").await;
        engine.session_gone("fewer-1").await;
    });
}
