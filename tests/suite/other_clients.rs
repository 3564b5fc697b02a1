//! Clients that we did not write: Python `websockets` and `confluent-kafka`, from tests/python.

use std::path::{Path, PathBuf};

use mediation_tests::process::{Child, cache, spawn};
use mediation_tests::{Kafka, OnKafka, Spec, World, eventually, run};
use nix::sys::signal::Signal;
use serde_json::json;

fn python() -> PathBuf {
    let python = cache().join("venv/bin/python");
    assert!(python.exists(), "{} is not there: run scripts/setup.sh test", python.display());
    python
}

fn script(name: &str, world: &World<OnKafka<'static>>) -> Child {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name);
    let url = |listener: &str| world.engine.addr(listener).to_string();
    let envs = [
        ("KAFKA", Kafka::shared().bootstrap()),
        ("TOPIC_IN", world.broker.topic_in.clone()),
        ("TOPIC_OUT", world.broker.topic_out.clone()),
        ("WS", url("ws")),
        ("UP", url("up")),
        ("PYTHONUNBUFFERED", "1".to_owned()),
    ];
    let envs: Vec<(&str, &str)> = envs.iter().map(|(k, v)| (*k, v.as_str())).collect();
    spawn(&python(), &[path.to_str().expect("a plain path")], &envs)
}

async fn passes(child: &Child) {
    let status = child.wait().await;
    assert!(status.success(), "{status}\n{}\n{}", child.stdout.tail(20), child.stderr.tail(20));
}

#[test]
fn python_clients_go_round_through_kafka() {
    run(async {
        let world = World::<OnKafka>::start(Spec { channel_size: 16, ..Spec::default() }).await;
        passes(&script("round_trip.py", &world)).await;
    });
}

#[test]
fn a_killed_python_client_leaves_its_position_and_gets_the_rest_again() {
    run(async {
        let spec = Spec { down: json!({ "durable": true }), ..Spec::default() };
        let world = World::<OnKafka>::start(spec).await;
        let victim = script("hold.py", &world);
        eventually("it has subscribed", async || {
            let said = victim.stdout.tail(5);
            if said.contains("subscribed") { Ok(()) } else { Err(said + &victim.stderr.tail(5)) }
        })
        .await;
        world.publish((0..5).map(|i| i.to_string())).await;
        eventually("it holds all five", async || {
            let said = victim.stdout.tail(5);
            if said.contains("holding 5") { Ok(()) } else { Err(said + &victim.stderr.tail(5)) }
        })
        .await;
        world.acknowledged_is("python", 2).await; // it acknowledged two
        victim.signal(Signal::SIGKILL);
        world.engine.session_gone("python").await;
        assert_eq!(world.acknowledged("python").await, Some(2), "frozen");
        let again = script("hold.py", &world);
        eventually("the other three come again", async || {
            let said = again.stdout.tail(10);
            if said.contains("got 2\n") && said.ends_with("got 4\nholding 3") {
                Ok(())
            } else {
                Err(said + &again.stderr.tail(5))
            }
        })
        .await;
        assert!(!again.stdout.tail(10).contains("got 1"), "only those");
    });
}
