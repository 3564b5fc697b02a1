//! Two connections of one durable client: the newer goes on where the older was, the older is told.

use mediation_tests::{Broker, Spec, Sse, World, Ws, http};
use serde_json::json;

use super::writing::{ask, large};

on_every_broker!(
    a_newer_connection_takes_a_durable_session_over,
    a_replaced_sse_stream_is_told_not_to_come_back_soon,
    a_newer_session_waits_until_the_older_has_let_go,
    a_replaced_poll_is_410,
    two_connections_of_one_client_both_live_where_nothing_is_durable,
);

fn durable() -> Spec {
    Spec { down: json!({ "durable": true }), ..Spec::default() }
}

async fn a_newer_connection_takes_a_durable_session_over<B: Broker>() {
    let world = World::<B>::start(durable()).await;
    let (mut older, _) = Ws::open_v1(world.engine.addr("ws"), "one", "").await;
    world.publish((0..5).map(|i| i.to_string())).await;
    for n in 0..5 {
        let frame = older.json_of("event").await;
        if n < 3 {
            older.ack(&[&frame["id"]]).await;
        }
    }
    world.engine.session_when("one", "three acks were seen", |s| s["settled"] == 3).await;
    let (mut newer, _) = Ws::open_v1(world.engine.addr("ws"), "one", "").await;
    assert_eq!(older.closed().await.0, 4009, "the older is replaced");
    assert_eq!(newer.json_of("event").await["payload"], "3", "it goes on where the older had acknowledged");
    assert_eq!(newer.json_of("event").await["payload"], "4");
    world.publish(["5"]).await;
    assert_eq!(newer.json_of("event").await["payload"], "5");
}

async fn a_replaced_sse_stream_is_told_not_to_come_back_soon<B: Broker>() {
    let world = World::<B>::start(durable()).await;
    let (mut older, _) = Sse::open(&world.engine, "one", "").await;
    let (mut newer, _) = Sse::open(&world.engine, "one", "").await;
    let mut last = None;
    while let Some(event) = older.next().await {
        last = Some(event);
    }
    let last = last.expect("an event before the end");
    assert_eq!(last.event, "mediation.error", "{last:?}");
    assert!(last.data.contains("replaced"), "{last:?}");
    let raw = String::from_utf8_lossy(&older.raw).into_owned();
    assert!(raw.contains("retry: 3600000") || raw.contains("retry:3600000"), "{raw}");
    world.publish(["x"]).await;
    assert_eq!(newer.event().await.data, "x");
}

async fn a_newer_session_waits_until_the_older_has_let_go<B: Broker>() {
    let world = World::<B>::start(durable()).await;
    // It does not read: it cannot be told, and lets go when its patience is over.
    let older = ask(&world, "sse", "/", "one").await;
    world.engine.session_when("one", "it is there", |s| s["state"] == "live").await;
    world.publish([large()]).await;
    world.engine.session_when("one", "the event is its", |s| s["delivered"] == 1).await;
    let (mut newer, _) = Sse::open(&world.engine, "one", "").await;
    let left: Vec<_> = world.engine.sessions().await.into_iter().filter(|s| s["client_id"] == "one").collect();
    assert_eq!(left.len(), 1, "the older is still there: {left:?}");
    assert!(newer.event().await.data.as_bytes() == large(), "what the older was not given wholly");
    drop(older);
}

async fn a_replaced_poll_is_410<B: Broker>() {
    let world = World::<B>::start(durable()).await;
    let subscribe = || http().post(world.engine.url("poll", "/subscribe")).header("x-client-id", "one").send();
    let older: serde_json::Value = subscribe().await.expect("an answer").json().await.expect("JSON");
    let poll = |session: &serde_json::Value| {
        let id = session["session_id"].as_str().expect("an id").to_owned();
        http().get(world.engine.url("poll", "/poll?wait=30s")).header("x-session-id", id).send()
    };
    let waiting = tokio::spawn(poll(&older));
    let newer: serde_json::Value = subscribe().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(waiting.await.expect("no panic").expect("an answer").status(), 410);
    world.publish(["x"]).await;
    assert_eq!(poll(&newer).await.expect("an answer").text().await.expect("a body"), "x");
}

async fn two_connections_of_one_client_both_live_where_nothing_is_durable<B: Broker>() {
    let world = World::<B>::start(Spec::default()).await;
    let mut first = Ws::open(world.engine.addr("ws"), "one").await;
    let mut second = Ws::open(world.engine.addr("ws"), "one").await;
    world.publish(["x"]).await;
    assert_eq!(first.event().await, b"x");
    assert_eq!(second.event().await, b"x");
}
