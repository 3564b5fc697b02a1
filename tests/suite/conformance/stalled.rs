//! A client that stops reading: its own consumer stops, it keeps its session, nobody else notices.

use std::time::Duration;

use mediation_tests::raw_ws::{BINARY, PING, PONG, RawWs, TEXT};
use mediation_tests::{Broker, Spec, Sse, World, Ws, http};
use serde_json::json;

on_every_broker!(
    a_stalled_client_stops_its_own_consumer_and_nobody_elses_under_at_least_once,
    a_stalled_client_stops_its_own_consumer_and_nobody_elses_under_auto,
    a_stalled_sse_client_stops_its_own_consumer_and_nobody_elses,
    a_client_that_takes_nothing_is_closed_where_a_limit_is_set,
);

/// 125 MiB, well above what the engine may grow by.
const EVENTS: usize = 2000;
const SIZE: usize = 64 * 1024;
const CHANNEL: usize = 16;
/// Published, then read by the neighbour, at a time: far less than memory's log holds, so that the neighbour misses none.
const BATCH: usize = 25;
/// What memory's log holds, in MiB.
const LOG: usize = 8;
/// What the kernel's and a library client's buffers hold at most, in events.
const BUFFERS: usize = 8 * 1024 * 1024 / SIZE;

fn spec<B: Broker>(guarantee: &'static str) -> Spec {
    let listeners = json!({ "ws": { "ping_interval": "1s", "ping_timeout": "3s" }, "sse": { "ping_timeout": "3s" } });
    let endpoint = if B::KIND == "memory" { json!({ "retain_bytes": format!("{LOG}MiB") }) } else { json!({}) };
    Spec { channel_size: CHANNEL, listeners, endpoint, ..Spec::with(guarantee) }
}

/// What the stalled client reads in the end: everything in order; on memory without what its log let go while its
/// connection took nothing.
struct Rest {
    next: usize,
    read: usize,
    delivered: usize,
    may_miss: bool,
}

impl Rest {
    fn after<B: Broker>(delivered: usize) -> Self {
        Self { next: 0, read: 0, delivered, may_miss: B::KIND == "memory" }
    }

    fn ended(&self) -> bool {
        self.next == EVENTS
    }

    fn take(&mut self, payload: &[u8]) {
        let n = number(payload);
        assert!(n == self.next || (self.may_miss && n > self.next), "{n} instead of {}", self.next);
        self.next = n + 1;
        self.read += 1;
        let all = self.read >= self.delivered;
        assert!(all || !self.ended(), "{} read, {} were delivered", self.read, self.delivered);
    }
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
    let world = World::<B>::start(spec::<B>(guarantee)).await;
    let mut stalled = RawWs::open(world.engine.addr("ws"), "stalled", Some(8192)).await;
    let mut rest = Rest::after::<B>(beside_a_stalled_client(&world).await);
    while !rest.ended() {
        match stalled.frame().await {
            (TEXT | BINARY, payload) => rest.take(&payload),
            (PING, payload) => stalled.send(PONG, &payload).await,
            other => panic!("events, not {other:?}"),
        }
    }
}

async fn a_stalled_sse_client_stops_its_own_consumer_and_nobody_elses<B: Broker>() {
    let world = World::<B>::start(spec::<B>("at_least_once")).await;
    let request = http().get(world.engine.url("sse", "/")).header("x-client-id", "stalled");
    let mut stalled = Sse::of(request.send().await.expect("an answer"));
    let mut rest = Rest::after::<B>(beside_a_stalled_client(&world).await);
    let mut told = false;
    while !rest.ended() {
        let event = stalled.next().await.expect("a stream that goes on");
        match event.event.as_str() {
            "" => {
                let n = number(event.data.as_bytes());
                assert!(n == rest.next || told, "{n} instead of {}, and no notice of a gap", rest.next);
                told = false;
                rest.take(event.data.as_bytes());
            }
            "mediation.notice" => told |= event.data.contains("gap"),
            _ => {}
        }
    }
}

/// Publishes everything, sees it at another client, and that the stalled one took little, then nothing, and stays.
/// Returns how many it took.
async fn beside_a_stalled_client<B: Broker>(world: &World<B>) -> usize {
    let mut other = Ws::open(world.engine.addr("ws"), "other").await;
    let before = world.engine.usage();
    let mut taken = Vec::new();
    for first in (0..EVENTS).step_by(BATCH) {
        world.publish((first..first + BATCH).map(event)).await;
        for n in first..first + BATCH {
            assert_eq!(number(&other.event().await), n, "the other client");
        }
        let session = world.engine.session("stalled").await.expect("it keeps its session");
        taken.push(session["delivered"].as_u64().and_then(|n| usize::try_from(n).ok()).expect("a number"));
    }
    // Once two readings are the same its window is shut. The half is plenty of time for that on a busy machine.
    let half = &taken[taken.len() / 2..];
    let settled = half.windows(2).find(|w| w[0] == w[1]).map(|w| w[0]);
    let settled = settled.unwrap_or_else(|| panic!("it never ceased to take events: {taken:?}"));
    assert!(settled > 0 && settled <= CHANNEL + BUFFERS, "more than buffers hold: {taken:?}");
    // Time must pass here: it is the ping timeout, thrice, that the client has to outlive.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let session = world.engine.session("stalled").await.expect("it keeps its session");
    assert_eq!(session["delivered"], settled, "it takes nothing more: {taken:?} then {session}");
    assert!(session["unsettled"].as_u64().unwrap_or(u64::MAX) <= CHANNEL as u64, "{session}");
    // memory's own log holds its part of what was published; nothing else may grow with it.
    let log = if B::KIND == "memory" { LOG * 1024 } else { 0 };
    let grown = world.engine.usage().resident.saturating_sub(before.resident);
    assert!(grown < log + 48 * 1024, "resident memory grew by {grown} KiB of {} KiB", EVENTS * SIZE / 1024);
    drop(tokio::spawn(async move { other.closed().await })); // goes on answering pings
    settled
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
