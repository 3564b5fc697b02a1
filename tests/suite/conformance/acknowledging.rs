//! When the broker gets its ack, under each guarantee and receipt, with the client held at each step.
//!
//! Clients are durable, so that the position is to be seen at the broker; every topic starts empty, at position 0.

use mediation_tests::raw_ws::{PONG, RawWs};
use mediation_tests::{Broker, Spec, Sse, World, Ws, http};
use serde_json::{Value, json};

on_every_broker!(
    under_none_the_ack_does_not_wait_for_the_client,
    under_auto_the_ack_does_not_wait_for_the_client,
    under_at_most_once_the_ack_is_there_before_the_event_is,
    under_at_least_once_the_ack_waits_for_the_pong,
    under_at_least_once_an_sse_event_is_acknowledged_once_written,
    under_at_least_once_ack_client_waits_for_the_post,
    acks_out_of_order_move_only_the_watermark,
    a_double_ack_moves_nothing,
    a_nack_holds_the_position_and_brings_the_event_again,
    a_nack_without_requeue_settles_the_event,
    a_client_never_holds_more_than_the_channel_size,
    a_posted_nack_without_requeue_settles_the_event,
    what_is_not_acknowledged_in_ack_timeout_comes_again,
);

pub(super) fn durable(guarantee: &'static str) -> Spec {
    Spec { down: json!({ "durable": true, "redelivery_backoff": "100ms" }), ..Spec::with(guarantee) }
}

/// A second client that acknowledges n events: what has had time to reach the broker for it, has had for others.
pub(super) async fn sentinel<B: Broker>(world: &World<B>, mut ws: Ws, n: i64) {
    for _ in 0..n {
        ws.event().await;
    }
    let pongs = tokio::spawn(async move { ws.closed().await }); // goes on answering pings
    world.acknowledged_is("sentinel", n).await;
    pongs.abort();
}

async fn under_none_the_ack_does_not_wait_for_the_client<B: Broker>() {
    acknowledged_without_a_pong::<B>("none").await;
}

async fn under_auto_the_ack_does_not_wait_for_the_client<B: Broker>() {
    acknowledged_without_a_pong::<B>("auto").await;
}

async fn acknowledged_without_a_pong<B: Broker>(guarantee: &'static str) {
    let world = World::<B>::start(durable(guarantee)).await;
    let held = RawWs::open(world.engine.addr("ws"), "held", None).await;
    world.acknowledged_is("held", 0).await;
    world.publish(["one", "two", "three"]).await;
    world.acknowledged_is("held", 3).await;
    drop(held); // it has read nothing
}

async fn under_at_most_once_the_ack_is_there_before_the_event_is<B: Broker>() {
    let world = World::<B>::start(durable("at_most_once")).await;
    let mut ws = RawWs::open(world.engine.addr("ws"), "once", None).await;
    for n in 1..=10 {
        world.publish([format!("{n}")]).await;
        assert_eq!(ws.event().await, format!("{n}").into_bytes());
        let now = world.acknowledged("once").await; // no waiting: it must be there already
        assert_eq!(now, Some(n), "event {n} was written before it was acknowledged");
    }
}

async fn under_at_least_once_the_ack_waits_for_the_pong<B: Broker>() {
    let world = World::<B>::start(durable("at_least_once")).await;
    let mut held = RawWs::open(world.engine.addr("ws"), "held", None).await;
    let other = Ws::open(world.engine.addr("ws"), "sentinel").await;
    world.publish(["one"]).await;
    assert_eq!(held.event().await, b"one");
    let ping = held.ping().await;
    sentinel(&world, other, 1).await;
    assert_eq!(world.acknowledged("held").await, Some(0), "acknowledged without a pong");
    let session = world.engine.session("held").await.expect("it lives");
    assert_eq!(session["unsettled"], 1, "{session}");
    held.send(PONG, &ping).await;
    world.acknowledged_is("held", 1).await;
}

async fn under_at_least_once_an_sse_event_is_acknowledged_once_written<B: Broker>() {
    let world = World::<B>::start(durable("at_least_once")).await;
    let (mut sse, _) = Sse::open(&world.engine, "sse", "").await;
    world.acknowledged_is("sse", 0).await;
    world.publish(["one", "two", "three"]).await;
    sse.events(3).await;
    world.acknowledged_is("sse", 3).await;
}

async fn under_at_least_once_ack_client_waits_for_the_post<B: Broker>() {
    let world = World::<B>::start(durable("at_least_once")).await;
    let (mut sse, session) = Sse::open(&world.engine, "held", "?ack=client").await;
    let session: Value = serde_json::from_str(&session.data).expect("the session as JSON");
    let other = Ws::open(world.engine.addr("ws"), "sentinel").await;
    world.publish(["one", "two"]).await;
    let ids = [sse.event().await.event_id().to_owned(), sse.event().await.id.expect("an id")];
    sentinel(&world, other, 2).await;
    assert_eq!(world.acknowledged("held").await, Some(0), "acknowledged before the client did");
    for (n, id) in ids.iter().enumerate() {
        // the event id alone, and the whole `id:` value
        let post = http()
            .post(world.engine.url("sse", "/ack"))
            .header("x-session-id", session["session_id"].as_str().unwrap());
        let answer = post.json(&json!({ "ids": [id] })).send().await.expect("an answer");
        assert_eq!(answer.status(), 204);
        world.acknowledged_is("held", n as i64 + 1).await;
    }
}

/// A `mediation.v1` client with n events in hand.
async fn holding<B: Broker>(world: &World<B>, n: usize) -> (Ws, Vec<Value>) {
    let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "v1", "").await;
    world.acknowledged_is("v1", 0).await;
    world.publish((0..n).map(|i| i.to_string())).await;
    let mut ids = Vec::new();
    for _ in 0..n {
        ids.push(ws.json_of("event").await["id"].clone());
    }
    (ws, ids)
}

async fn acks_out_of_order_move_only_the_watermark<B: Broker>() {
    let world = World::<B>::start(durable("at_least_once")).await;
    let (mut ws, ids) = holding(&world, 5).await;
    ws.ack(&[&ids[4], &ids[2]]).await;
    ws.ack(&[&ids[0]]).await; // behind them: when this one counts, those were seen
    world.acknowledged_is("v1", 1).await;
    let session = world.engine.session("v1").await.expect("it lives");
    assert_eq!(session["unsettled"], 2, "three of five were settled: {session}");
    ws.ack(&[&ids[1]]).await;
    world.acknowledged_is("v1", 3).await;
    ws.ack(&[&ids[3]]).await;
    world.acknowledged_is("v1", 5).await;
}

async fn a_double_ack_moves_nothing<B: Broker>() {
    let world = World::<B>::start(durable("at_least_once")).await;
    let (mut ws, ids) = holding(&world, 3).await;
    ws.ack(&[&ids[0], &ids[0]]).await;
    ws.ack(&[&ids[0]]).await;
    ws.ack(&[&ids[2]]).await; // behind them
    world.engine.session_when("v1", "the third is settled", |s| s["unsettled"] == 1).await;
    world.acknowledged_is("v1", 1).await;
    ws.ack(&[&ids[1]]).await;
    world.acknowledged_is("v1", 3).await;
}

async fn a_nack_holds_the_position_and_brings_the_event_again<B: Broker>() {
    let world = World::<B>::start(durable("at_least_once")).await;
    let (mut ws, ids) = holding(&world, 3).await;
    ws.send_json(json!({ "type": "nack", "ids": [ids[1]], "requeue": true })).await;
    ws.ack(&[&ids[0], &ids[2]]).await;
    let again = ws.json_of("event").await;
    assert_eq!((&again["id"], again["payload"].as_str()), (&ids[1], Some("1")), "{again}");
    assert_eq!(again["metadata"]["mediation.redelivered"], "true", "{again}");
    world.acknowledged_is("v1", 1).await;
    world.publish(["3"]).await; // newer ones pass
    let next = ws.json_of("event").await;
    assert_eq!(next["payload"], "3", "{next}");
    ws.ack(&[&next["id"], &again["id"]]).await;
    world.acknowledged_is("v1", 4).await;
}

async fn a_nack_without_requeue_settles_the_event<B: Broker>() {
    let world = World::<B>::start(durable("at_least_once")).await;
    let (mut ws, ids) = holding(&world, 2).await;
    ws.send_json(json!({ "type": "nack", "ids": [ids[0]], "requeue": false })).await;
    world.acknowledged_is("v1", 1).await;
    ws.ack(&[&ids[1]]).await;
    world.acknowledged_is("v1", 2).await;
    world.publish(["sentinel"]).await;
    assert_eq!(ws.json_of("event").await["payload"], "sentinel", "the rejected one does not come again");
}

async fn a_client_never_holds_more_than_the_channel_size<B: Broker>() {
    let world = World::<B>::start(Spec { channel_size: 3, ..durable("at_least_once") }).await;
    let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "v1", "").await;
    let mut held = RawWs::open(world.engine.addr("ws"), "held", None).await;
    let other = Ws::open(world.engine.addr("ws"), "sentinel").await;
    world.publish((0..10).map(|i| i.to_string())).await;
    for n in 0..3 {
        assert_eq!(held.event().await, n.to_string().into_bytes());
    }
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(ws.json_of("event").await["id"].clone());
    }
    sentinel(&world, other, 10).await; // it had all ten meanwhile
    for client in ["v1", "held"] {
        let session = world.engine.session(client).await.expect("it lives");
        assert_eq!((&session["delivered"], &session["permits_free"]), (&json!(3), &json!(0)), "{session}");
    }
    ws.ack(&[&ids[0]]).await;
    assert_eq!(ws.json_of("event").await["payload"], "3", "a permit for a permit");
    let session = world.engine.session("v1").await.expect("it lives");
    assert_eq!(session["unsettled"], 3, "{session}");
}

async fn a_posted_nack_without_requeue_settles_the_event<B: Broker>() {
    let world = World::<B>::start(durable("at_least_once")).await;
    let (mut sse, _) = Sse::open(&world.engine, "sse", "?ack=client&format=json").await;
    world.acknowledged_is("sse", 0).await;
    world.publish(["one", "two"]).await;
    let ids = [sse.event().await.id.expect("an id"), sse.event().await.id.expect("an id")];
    let post = async |body: Value| {
        let post = http().post(world.engine.url("sse", "/ack")).header("x-client-id", "sse").json(&body);
        assert_eq!(post.send().await.expect("an answer").status(), 204);
    };
    post(json!({ "nack": [ids[0]], "requeue": false })).await;
    world.acknowledged_is("sse", 1).await;
    post(json!({ "nack": [ids[1]], "requeue": true })).await;
    let again = sse.event().await;
    assert_eq!(again.id.as_deref().and_then(|id| id.split('~').next()), ids[1].split('~').next(), "only that one");
    let frame: Value = serde_json::from_str(&again.data).expect("a JSON frame");
    assert_eq!(frame["metadata"]["mediation.redelivered"], "true", "{frame}");
    world.publish(["three"]).await;
    let next: Value = serde_json::from_str(&sse.event().await.data).expect("a JSON frame");
    assert_eq!(next["payload"], "three", "{next}");
    assert_eq!(world.acknowledged("sse").await, Some(1), "the other one is not settled");
}

async fn what_is_not_acknowledged_in_ack_timeout_comes_again<B: Broker>() {
    let listeners = json!({ "ws": { "ack_timeout": "3s" }, "sse": { "ack_timeout": "3s" } });
    let world = World::<B>::start(Spec { listeners, ..durable("at_least_once") }).await;
    let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "v1", "").await;
    let (mut sse, _) = Sse::open(&world.engine, "sse", "?ack=client").await;
    world.publish(["one"]).await;
    let (first, streamed) = (ws.json_of("event").await, sse.event().await);
    let (again, streamed_again) = (ws.json_of("event").await, sse.event().await);
    assert_eq!((&again["id"], &again["metadata"]["mediation.redelivered"]), (&first["id"], &json!("true")), "{again}");
    assert_eq!(streamed_again.event_id(), streamed.event_id());
    ws.ack(&[&first["id"]]).await;
    world.acknowledged_is("v1", 1).await;
}
