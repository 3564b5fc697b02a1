//! Slow is not gone: who does not read keeps its session, until `slow_client_timeout` where a route has one.

use std::time::Duration;

use mediation_tests::raw_ws::{CLOSE, PONG};
use mediation_tests::{Memory, RawHttp, RawWs, Spec, Sse, World, Ws, run};
use serde_json::json;

#[test]
fn a_client_that_stops_reading_right_after_a_pong_outlives_ping_timeout() {
    run(async {
        let listeners = json!({ "ws": { "ping_interval": "1s", "ping_timeout": "3s" } });
        let world = World::<Memory>::start(Spec { listeners, ..Spec::default() }).await;
        let mut ws = RawWs::open(world.engine.addr("ws"), "slow", None).await;
        world.publish(["one"]).await;
        assert_eq!(ws.event().await, b"one");
        let ping = ws.ping().await;
        world.publish(["two"]).await;
        world.engine.session_when("slow", "two is written behind the ping", |s| s["delivered"] == 2).await;
        ws.send(PONG, &ping).await;
        world.engine.session_when("slow", "the pong is seen", |s| s["settled"] == 1).await;
        // Time must pass here: it is the ping timeout, twice, that the client has to outlive.
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert!(world.engine.session("slow").await.is_some(), "ended although an event is unread");
        assert_eq!(ws.event().await, b"two");
        let ping = ws.ping().await;
        ws.send(PONG, &ping).await;
        world.publish(["three"]).await;
        assert_eq!(ws.event().await, b"three");
    });
}

fn bounded(guarantee: &'static str) -> Spec {
    Spec { channel_size: 16, down: json!({ "slow_client_timeout": "4s" }), ..Spec::with(guarantee) }
}

#[test]
fn stalled_clients_are_ended_by_slow_client_timeout_and_nobody_else() {
    run(async {
        const EVENTS: usize = 60;
        let world = World::<Memory>::start(bounded("auto")).await;
        let engine = &world.engine;
        let stalled_ws = RawWs::open(engine.addr("ws"), "stalled-ws", Some(4096)).await;
        let mut stalled_sse = RawHttp::connect(engine.addr("sse"), Some(4096)).await;
        stalled_sse.send("GET / HTTP/1.1\r\nHost: x\r\nX-Client-ID: stalled-sse\r\n\r\n").await;
        stalled_sse.read_until("event: mediation.session").await;
        let mut ws = Ws::open(engine.addr("ws"), "reads-ws").await;
        let (mut sse, _) = Sse::open(engine, "reads-sse", "").await;
        let publish = world.publish((0..EVENTS).map(|_| "x".repeat(60_000)));
        tokio::join!(publish, ws.events(EVENTS), sse.events(EVENTS));
        let (reads_ws, reads_sse) =
            (tokio::spawn(async move { ws.event().await }), tokio::spawn(async move { sse.event().await }));
        engine.session_gone("stalled-ws").await;
        engine.session_gone("stalled-sse").await;
        assert_eq!(engine.metric("mediation_sessions_closed_total", &["too_slow"]).await, 2.0);
        world.publish(["after"]).await;
        assert_eq!(reads_ws.await.expect("it lives"), b"after");
        assert_eq!(reads_sse.await.expect("it lives").data, "after");
        drop((stalled_ws, stalled_sse));
    });
}

#[test]
fn a_websocket_client_that_is_too_slow_reads_4008() {
    run(async {
        let world = World::<Memory>::start(bounded("at_least_once")).await;
        let mut stalled = RawWs::open(world.engine.addr("ws"), "stalled", None).await;
        let mut reads = Ws::open(world.engine.addr("ws"), "reads").await;
        world.publish(["one"]).await;
        assert_eq!(reads.event().await, b"one");
        let reads = tokio::spawn(async move { reads.event().await }); // goes on answering pings
        world.engine.session_gone("stalled").await;
        assert_eq!(stalled.event().await, b"one");
        let close = loop {
            if let (CLOSE, payload) = stalled.frame().await {
                break payload;
            }
        };
        assert_eq!(close[..2], 4008_u16.to_be_bytes());
        world.publish(["two"]).await;
        assert_eq!(reads.await.expect("it lives"), b"two");
    });
}
