//! New generations while events pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mediation_tests::guests::{guest, variant};
use mediation_tests::run::{run_within, soak};
use mediation_tests::{Broker, Memory, OnKafka, Plugins, Spec, World, Ws, run};
use serde_json::{Value, json};

use super::world;

/// Publishes numbers while generations change ten times a second; a client sees all of them, once and in order.
async fn under_load<B: Broker>(guarantee: &'static str, lasting: Duration) {
    let folder = Plugins::with(&["tag", "mapper-pass"]);
    let top = json!({
        "plugins_dir": folder.path(),
        "plugins": [{ "name": "tag", "config": { "tag": "x" } }],
        "packet_log": { "enabled": true, "sample": 1 },
    });
    let down = json!({ "plugins": ["tag", "mapper-pass"] });
    let spec = Spec { guarantee, channel_size: 256, down, top, ..Spec::default() };
    let world: World<B> = World::start(spec).await;
    world.engine.plugin_serves("tag").await;
    world.engine.plugin_serves("mapper-pass").await;
    let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "c", "").await;
    let seen = Arc::new(AtomicU64::new(0));
    let reading = tokio::spawn({
        let seen = seen.clone();
        async move {
            let mut next = 0_u64;
            loop {
                let frame = ws.json().await;
                assert_eq!(frame["type"], "event", "{frame}");
                let payload = frame["payload"].as_str().expect("text").to_owned();
                if payload == "end" {
                    return next;
                }
                assert_eq!(payload, next.to_string(), "lost, doubled or reordered: {frame}");
                assert_eq!(frame["metadata"]["x-tag"], "x", "{frame}");
                next += 1;
                seen.store(next, Ordering::Relaxed);
                ws.ack(&[&frame["id"]]).await;
            }
        }
    });
    let swapping = async {
        let mut swaps = 0_u64;
        let begun = Instant::now();
        while begun.elapsed() < lasting {
            let name = if swaps.is_multiple_of(2) { "tag" } else { "mapper-pass" };
            let (status, answer) = world.engine.plugin_act(name, "reload").await;
            assert_eq!(status, 200, "{answer}");
            swaps += 1;
            // Ten a second at most; the answers pace it too.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        swaps
    };
    let publishing = async {
        let (begun, mut sent) = (Instant::now(), 0_u64);
        while begun.elapsed() < lasting {
            // Never so far ahead that a bounded log would lose what the reader has not seen.
            while sent > seen.load(Ordering::Relaxed) + 20_000 && !reading.is_finished() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            world.publish((sent..sent + 500).map(|n| n.to_string())).await;
            sent += 500;
        }
        sent
    };
    let (swaps, sent) = tokio::join!(swapping, publishing);
    world.publish(["end"]).await;
    assert_eq!(reading.await.expect("the reader saw what it should"), sent);
    assert!(swaps >= 5, "{swaps} swaps are too few to show anything");
    for name in ["tag", "mapper-pass"] {
        let plugin = world.engine.plugin(name).await.expect("it is there");
        assert_eq!((&plugin["state"], &plugin["faults"]), (&json!("serving"), &json!(0)), "{plugin}");
        assert!(plugin["generation"].as_u64() > Some(2), "{plugin}");
    }
}

fn lasting() -> Duration {
    Duration::from_secs(if soak() { 60 } else { 5 })
}

#[test]
fn swaps_under_load_lose_double_and_reorder_nothing_on_memory() {
    run_within(Duration::from_secs(240), under_load::<Memory>("at_least_once", lasting()));
}

#[test]
fn swaps_under_load_lose_double_and_reorder_nothing_on_kafka() {
    run_within(Duration::from_secs(240), under_load::<OnKafka<'static>>("at_least_once", lasting()));
}

#[test]
fn a_new_file_is_a_new_generation_and_no_connection_notices() {
    run(async {
        let folder = Plugins::with(&["tag"]);
        let spec = Spec { down: json!({ "plugins": ["tag"] }), ..Spec::default() };
        let world = world(&folder, json!([{ "name": "tag", "config": { "tag": "x" } }]), spec).await;
        let first = world.engine.plugin_serves("tag").await;
        let (mut ws, session) = Ws::open_v1(world.engine.addr("ws"), "c", "").await;
        folder.put("tag.wasm", &variant(guest("tag"), 1));
        let newer = |p: &Value| p["generation"].as_u64() > first["generation"].as_u64() && p["state"] == "serving";
        let second = world.engine.plugin_when("tag", "a new generation", newer).await;
        assert_ne!(first["hash"], second["hash"]);
        world.publish(["a"]).await;
        assert_eq!(ws.json_of("event").await["metadata"]["x-tag"], "x");
        let now = world.engine.session("c").await.expect("it is still there");
        assert_eq!(now["session_id"], session["session_id"]);
    });
}

#[test]
fn a_symlink_that_is_turned_is_a_new_generation() {
    run(async {
        let folder = Plugins::new();
        let (versions, early) = (folder.dir().join("versions"), folder.dir().join(".next"));
        std::fs::create_dir(&versions).expect("a folder");
        for n in 1..=2_u8 {
            std::fs::write(versions.join(format!("{n}.bin")), variant(guest("tag"), n)).expect("written");
        }
        let turn = |n: u8| {
            std::os::unix::fs::symlink(versions.join(format!("{n}.bin")), &early).expect("a link");
            std::fs::rename(&early, folder.dir().join("tag.wasm")).expect("turned");
        };
        turn(1);
        let world = world(&folder, json!([{ "name": "tag", "config": { "tag": "x" } }]), Spec::default()).await;
        let first = world.engine.plugin_serves("tag").await;
        turn(2);
        world.engine.plugin_when("tag", "a new generation", |p| p["hash"] != first["hash"]).await;
    });
}

#[test]
fn rollback_by_hand_brings_the_generation_before_back() {
    run(async {
        let folder = Plugins::with(&["tag"]);
        let world = world(&folder, json!([{ "name": "tag", "config": { "tag": "x" } }]), Spec::default()).await;
        let first = world.engine.plugin_serves("tag").await;
        assert_eq!(world.engine.plugin_act("tag", "rollback").await.0, 409, "there is none before the first");
        folder.put("tag.wasm", &variant(guest("tag"), 1));
        world.engine.plugin_when("tag", "the second", |p| p["hash"] != first["hash"]).await;
        let (status, answer) = world.engine.plugin_act("tag", "rollback").await;
        assert_eq!(status, 200, "{answer}");
        let now = world.engine.plugin("tag").await.expect("there");
        assert_eq!(now["hash"], first["hash"], "{now}");
        assert!(now["state"].as_str().is_some_and(|state| state.starts_with("rolled back")), "{now}");
        let (status, answer) = world.engine.plugin_act("nobody", "reload").await;
        assert_eq!(status, 404, "{answer}");
    });
}

#[test]
fn a_generation_that_faults_where_the_one_before_does_not_is_rolled_back() {
    run(async {
        let folder = Plugins::with(&["mapper-pass"]);
        folder.put("worker.wasm", &guest("mapper-pass"));
        let spec = Spec { down: json!({ "plugins": ["worker"] }), ..Spec::default() };
        let world = world(&folder, json!([{ "name": "worker", "config": null }]), spec).await;
        let first = world.engine.plugin_serves("worker").await;
        let mut ws = Ws::open(world.engine.addr("ws"), "c").await;
        folder.put("worker.wasm", &guest("trap"));
        world.engine.plugin_when("worker", "the second", |p| p["hash"] != first["hash"]).await;
        // Each fails on the new one and passes on the old: nobody notices.
        world.publish(["TRAP 1", "TRAP 2", "TRAP 3", "TRAP 4"]).await;
        assert_eq!(ws.events(4).await, ["TRAP 1", "TRAP 2", "TRAP 3", "TRAP 4"]);
        let now = world
            .engine
            .plugin_when("worker", "rolled back", |p| p["state"].as_str().is_some_and(|s| s.starts_with("rolled back")))
            .await;
        assert_eq!(now["hash"], first["hash"], "{now}");
    });
}
