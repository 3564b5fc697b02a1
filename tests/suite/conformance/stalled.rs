//! A client that stops reading: its own consumer stops, it keeps its session, nobody else notices.

use std::time::Duration;

use mediation_tests::raw_ws::{BINARY, PING, PONG, RawWs, TEXT};
use mediation_tests::{Broker, Spec, Sse, World, Ws, http};
use serde_json::{Value, json};

on_every_broker!(
    a_stalled_client_stops_its_own_consumer_and_nobody_elses_under_at_least_once,
    a_stalled_client_stops_its_own_consumer_and_nobody_elses_under_auto,
    a_stalled_sse_client_stops_its_own_consumer_and_nobody_elses,
    a_client_that_takes_nothing_is_closed_where_a_limit_is_set,
);

const EVENTS: usize = 300;
const SIZE: usize = 64 * 1024;
const CHANNEL: usize = 16;

fn spec(guarantee: &'static str) -> Spec {
    let listeners = json!({ "ws": { "ping_interval": "1s", "ping_timeout": "3s" }, "sse": { "ping_timeout": "3s" } });
    Spec { channel_size: CHANNEL, listeners, ..Spec::with(guarantee) }
}

fn event(n: usize) -> Vec<u8> {
    let mut payload = format!("{n} ").into_bytes();
    payload.resize(SIZE, b'.');
    payload
}

/// Which event a payload is.
fn number(payload: &[u8]) -> usize {
    String::from_utf8_lossy(payload).split(' ').next().and_then(|n| n.parse().ok()).expect("a number in front")
}

async fn a_stalled_client_stops_its_own_consumer_and_nobody_elses_under_at_least_once<B: Broker>() {
    stalled_websocket::<B>("at_least_once").await;
}

async fn a_stalled_client_stops_its_own_consumer_and_nobody_elses_under_auto<B: Broker>() {
    stalled_websocket::<B>("auto").await;
}

async fn stalled_websocket<B: Broker>(guarantee: &'static str) {
    let world = World::<B>::start(spec(guarantee)).await;
    let mut stalled = RawWs::open(world.engine.addr("ws"), "stalled", Some(8192)).await;
    beside_a_stalled_client(&world).await;
    let mut next = 0;
    while next < EVENTS {
        match stalled.frame().await {
            (TEXT | BINARY, payload) => {
                assert_eq!(number(&payload), next, "in order, none missing");
                next += 1;
            }
            (PING, payload) => stalled.send(PONG, &payload).await,
            other => panic!("events, not {other:?}"),
        }
    }
}

async fn a_stalled_sse_client_stops_its_own_consumer_and_nobody_elses<B: Broker>() {
    let world = World::<B>::start(spec("at_least_once")).await;
    let request = http().get(world.engine.url("sse", "/")).header("x-client-id", "stalled");
    let mut stalled = Sse::of(request.send().await.expect("an answer"));
    beside_a_stalled_client(&world).await;
    for n in 0..EVENTS {
        assert_eq!(number(stalled.event().await.data.as_bytes()), n, "in order, none missing");
    }
}

/// Publishes everything, sees it at another client, and that the stalled one took little, and stays.
async fn beside_a_stalled_client<B: Broker>(world: &World<B>) {
    let mut other = Ws::open(world.engine.addr("ws"), "other").await;
    let before = world.engine.usage();
    let publish = world.publish((0..EVENTS).map(event));
    let read = async {
        for n in 0..EVENTS {
            assert_eq!(number(&other.event().await), n, "the other client");
        }
    };
    tokio::join!(publish, read);
    let given = |s: &Value| s["delivered"].as_u64().unwrap_or(u64::MAX);
    let full = |s: &Value| given(s) > 0 && given(s) < EVENTS as u64;
    let first = world.engine.session_when("stalled", "the stalled client has taken some, not all", full).await;
    // Time must pass here: it is the ping timeout, thrice, that the client has to outlive.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let session = world.engine.session("stalled").await.expect("it keeps its session");
    assert!(given(&session) < EVENTS as u64, "it takes nothing more: {first} then {session}");
    assert!(session["unsettled"].as_u64().unwrap_or(u64::MAX) <= CHANNEL as u64, "{session}");
    // memory's own log holds what was published; nothing else may grow with it.
    let log = if B::KIND == "memory" { EVENTS * SIZE / 1024 } else { 0 };
    let grown = world.engine.usage().resident.saturating_sub(before.resident);
    assert!(grown < log + 48 * 1024, "resident memory grew by {grown} KiB");
    drop(tokio::spawn(async move { other.closed().await })); // goes on answering pings
}

async fn a_client_that_takes_nothing_is_closed_where_a_limit_is_set<B: Broker>() {
    let down = json!({ "slow_client_timeout": "3s" });
    let world = World::<B>::start(Spec { down, ..Spec::default() }).await;
    let stalled = RawWs::open(world.engine.addr("ws"), "stalled", Some(8192)).await;
    let mut other = Ws::open(world.engine.addr("ws"), "other").await;
    world.publish((0..10).map(event)).await;
    for n in 0..10 {
        assert_eq!(number(&other.event().await), n, "the other client");
    }
    let reads_on = tokio::spawn(async move { other.closed().await });
    world.engine.session_gone("stalled").await;
    assert!(world.engine.session("other").await.is_some(), "only the one that takes nothing");
    reads_on.abort();
    drop(stalled);
}
