//! Clients that leave, in every way: the consumer is gone, the position stays, what was unacknowledged comes again.

use std::path::Path;
use std::time::{Duration, Instant};

use mediation_tests::process::spawn;
use mediation_tests::raw_ws::{CLOSE, PONG};
use mediation_tests::{Broker, Engine, OnKafka, RawWs, Spec, World, Ws, eventually, run};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::writing::ask;

on_every_broker!(
    what_was_not_acknowledged_comes_again_with_the_same_ids,
    a_client_that_closes_is_gone_and_its_position_stays,
    a_client_that_resets_is_gone_and_its_position_stays,
    a_silent_client_is_gone_and_its_position_stays,
    a_client_that_goes_is_gone_at_once,
    one_client_that_leaves_hurts_no_other,
);

fn durable() -> Spec {
    let listeners = json!({ "ws": { "ping_interval": "1s", "ping_timeout": "3s" } });
    Spec { down: json!({ "durable": true }), listeners, ..Spec::default() }
}

/// Leaves n of six events unacknowledged, and returns the ids of those.
async fn leave_unacknowledged<B: Broker>(world: &World<B>, acked: usize) -> Vec<Value> {
    let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "durable", "").await;
    world.acknowledged_is("durable", 0).await;
    world.publish((0..6).map(|i| i.to_string())).await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(ws.json_of("event").await["id"].clone());
    }
    ws.ack(&ids[..acked].iter().collect::<Vec<_>>()).await;
    world.acknowledged_is("durable", acked as i64).await;
    ws.close().await;
    world.engine.session_gone("durable").await;
    ids.split_off(acked)
}

async fn comes_again(engine: &Engine, ids: &[Value]) -> Ws {
    let (mut ws, _) = Ws::open_v1(engine.addr("ws"), "durable", "").await;
    for id in ids {
        let event = ws.json_of("event").await;
        assert_eq!(&event["id"], id, "{event}");
    }
    ws
}

async fn what_was_not_acknowledged_comes_again_with_the_same_ids<B: Broker>() {
    let world = World::<B>::start(durable()).await;
    let ids = leave_unacknowledged(&world, 2).await;
    let mut ws = comes_again(&world.engine, &ids).await;
    world.publish(["new"]).await;
    assert_eq!(ws.json_of("event").await["payload"], "new", "exactly those come again");
}

#[test]
fn what_was_not_acknowledged_comes_again_on_a_second_engine() {
    run(async {
        let world = World::<OnKafka>::start(durable()).await;
        let ids = leave_unacknowledged(&world, 2).await;
        let second = world.second_engine().await;
        let mut ws = comes_again(&second, &ids).await;
        world.publish(["new"]).await;
        assert_eq!(ws.json_of("event").await["payload"], "new", "exactly those come again");
    });
}

async fn a_client_that_closes_is_gone_and_its_position_stays<B: Broker>() {
    let world = World::<B>::start(durable()).await;
    let ws = held(&world).await;
    drop(ws);
    gone_with_position_zero(&world).await;
}

async fn a_client_that_resets_is_gone_and_its_position_stays<B: Broker>() {
    let world = World::<B>::start(durable()).await;
    held(&world).await.reset();
    gone_with_position_zero(&world).await;
}

async fn a_silent_client_is_gone_and_its_position_stays<B: Broker>() {
    let world = World::<B>::start(durable()).await;
    // v1: its pong proves that it lives, and acknowledges nothing.
    let mut ws = RawWs::open_v1(world.engine.addr("ws"), "durable").await;
    world.publish(["one"]).await;
    while !String::from_utf8_lossy(&ws.event().await).contains("\"event\"") {}
    let ping = ws.ping().await;
    ws.send(PONG, &ping).await;
    gone_with_position_zero(&world).await; // by the next ping, which it does not answer
    drop(ws);
}

#[test]
fn however_a_client_goes_its_consumer_on_kafka_is_gone_within_seconds() {
    run(async {
        // No ping is due meanwhile: only the connection says it.
        let world = World::<OnKafka>::start(Spec { down: json!({ "durable": true }), ..Spec::default() }).await;
        let engine = &world.engine;
        let consumers = || engine.metric("mediation_endpoint_dedicated_consumers{", &["broker"]);
        let stays = Ws::open(engine.addr("ws"), "stays").await;
        let come = async || {
            eventually("its consumer is counted beside the one that stays", async || {
                let now = consumers().await;
                if now == 2.0 { Ok(()) } else { Err(now.to_string()) }
            })
            .await;
        };
        let gone = async |how: &str| {
            let start = Instant::now();
            eventually(&format!("the consumer is gone after {how}"), async || {
                let now = consumers().await;
                if now == 1.0 { Ok(()) } else { Err(now.to_string()) }
            })
            .await;
            assert!(start.elapsed() < Duration::from_secs(5), "{how}: {:?}", start.elapsed());
        };
        assert_eq!(consumers().await, 1.0);

        let ws = Ws::open(engine.addr("ws"), "goes").await;
        come().await;
        ws.close().await;
        gone("a close").await;

        let ws = held(&world).await;
        come().await;
        ws.reset();
        gone("a reset").await;

        let url = engine.url("sse", "/");
        let args = ["--silent", "--no-buffer", "--header", "X-Client-ID: goes", &url];
        let curl = spawn(Path::new("curl"), &args, &[]);
        engine.session_when("goes", "the stream is there", |s| s["state"] == "live").await;
        come().await;
        curl.signal(Signal::SIGKILL);
        gone("kill -9").await;
        drop(stays);
    });
}

/// A client with an event in hand that it does not confirm.
async fn held<B: Broker>(world: &World<B>) -> RawWs {
    let mut ws = RawWs::open(world.engine.addr("ws"), "durable", None).await;
    world.publish(["one"]).await;
    assert_eq!(ws.event().await, b"one");
    ws
}

async fn gone_with_position_zero<B: Broker>(world: &World<B>) {
    world.engine.session_gone("durable").await;
    let mut ws = Ws::open(world.engine.addr("ws"), "durable").await;
    assert_eq!(ws.event().await, b"one", "it was not acknowledged");
    world.publish(["two"]).await;
    assert_eq!(ws.event().await, b"two");
}

async fn a_client_that_goes_is_gone_at_once<B: Broker>() {
    // No ping is due meanwhile: only the connection says it.
    let world = World::<B>::start(Spec::default()).await;
    let websocket = || RawWs::open(world.engine.addr("ws"), "goes", None);
    let at_once = async |how: &str| {
        let start = Instant::now();
        world.engine.session_gone("goes").await;
        assert!(start.elapsed() < Duration::from_secs(6), "{how}: {:?}", start.elapsed());
    };
    drop(websocket().await);
    at_once("the end of a WebSocket").await;
    websocket().await.reset();
    at_once("a WebSocket's reset").await;
    let mut stays = websocket().await;
    stays.send(CLOSE, &1000_u16.to_be_bytes()).await;
    at_once("a close frame, and the connection stays").await;
    drop(stays);
    let live = || world.engine.session_when("goes", "the stream is there", |s| s["state"] == "live");
    let stream = ask(&world, "sse", "/", "goes").await;
    live().await;
    drop(stream);
    at_once("the end of a stream").await;
    let mut stream = ask(&world, "sse", "/", "goes").await;
    live().await;
    stream.write_all(b"GET / HTTP/1.1\r\n").await.expect("sent");
    drop(stream);
    at_once("the end of a stream, behind what nobody reads").await;
}

async fn one_client_that_leaves_hurts_no_other<B: Broker>() {
    let world = World::<B>::start(Spec::default()).await;
    let mut stays = Ws::open(world.engine.addr("ws"), "stays").await;
    for n in 0..10 {
        let leaver = RawWs::open(world.engine.addr("ws"), "leaver", None).await;
        world.publish([format!("{n}")]).await;
        if n % 2 == 0 {
            leaver.reset()
        } else {
            drop(leaver)
        }
        assert_eq!(stays.event().await, format!("{n}").into_bytes());
    }
    world.engine.session_gone("leaver").await;
}
