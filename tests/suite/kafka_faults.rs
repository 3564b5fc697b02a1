//! A Kafka that freezes or dies under the engine. One test at a time has it (`Kafka::victim`).

use std::time::Duration;

use futures_util::future::join_all;
use mediation_tests::raw_ws::{self, CLOSE, RawWs, TEXT};
use mediation_tests::spec::{entrypoint, route};
use mediation_tests::{Engine, Kafka, OnKafka, Record, Spec, Sse, World, Ws, http, run, unique};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

#[test]
fn forty_clients_leave_while_the_broker_is_frozen_and_nobody_else_notices() {
    run(async {
        let kafka = Kafka::victim().await;
        let world = OnKafka::world(&kafka, Spec { down: json!({ "on_broker_loss": "hold" }), ..Spec::default() }).await;
        let engine = &world.engine;
        let mut stays = Ws::open(engine.addr("ws"), "stays").await;
        let (mut stream, _) = Sse::open(engine, "stream", "").await;
        let leavers = join_all((0..40).map(|_| RawWs::open(engine.addr("ws"), "leaver", None))).await;
        world.publish(["before"]).await;
        assert_eq!(stays.event().await, b"before");
        kafka.freeze();
        for (n, leaver) in leavers.into_iter().enumerate() {
            if n % 2 == 0 { leaver.reset() } else { drop(leaver) }
        }
        engine.session_gone("leaver").await;
        kafka.thaw();
        world.publish(["after"]).await;
        assert_eq!(stays.event().await, b"after");
        assert_eq!(stream.events(2).await, ["before", "after"]);
    });
}

#[test]
fn the_broker_is_killed_within_a_second_of_the_first_connect_and_every_event_arrives() {
    run(async {
        let kafka = Kafka::victim().await;
        let world = OnKafka::world(&kafka, Spec { down: json!({ "on_broker_loss": "hold" }), ..Spec::default() }).await;
        let mut ws = Ws::open(world.engine.addr("ws"), "ws").await;
        let (mut sse, _) = Sse::open(&world.engine, "sse", "").await;
        kafka.kill();
        kafka.restart();
        let expected: Vec<String> = (0..20).map(|i| i.to_string()).collect();
        world.publish(expected.clone()).await;
        assert_eq!(ws.events(20).await, expected);
        assert_eq!(sse.events(20).await, expected);
    });
}

#[test]
fn a_lost_broker_closes_websockets_that_do_not_hold_and_refuses_new_ones() {
    run(async {
        let kafka = Kafka::victim().await;
        let world = OnKafka::world(&kafka, Spec { up: json!({ "publish_timeout": "3s" }), ..Spec::default() }).await;
        let engine = &world.engine;
        let mut ws = Ws::open(engine.addr("ws"), "ws").await;
        let (mut sse, _) = Sse::open(engine, "held", "").await;
        kafka.kill();
        assert_eq!(ws.closed().await.0, 1013);
        let refused = Ws::try_open(engine.addr("ws"), "/", &[]).await.expect_err("refused before the upgrade");
        assert_eq!((refused.status, refused.code.as_str()), (503, "broker_unavailable"));
        assert!(refused.retry_after.is_some(), "{refused:?}");
        let subscribe = http().post(engine.url("poll", "/subscribe")).send().await.expect("an answer");
        assert_eq!(subscribe.status(), 503);
        let post = http().post(engine.url("post", "/")).body("x").send().await.expect("an answer");
        assert_eq!(post.status(), 503);
        // An EventSource gives up for ever on anything but 200: it is held.
        let late = http().get(engine.url("sse", "/")).header("x-client-id", "late").send().await.expect("an answer");
        assert_eq!(late.status(), 200);
        let mut late = Sse::of(late);
        while late.next().await.expect("a notice").event != "mediation.notice" {}
        kafka.restart();
        loop {
            let event = late.next().await.expect("a notice");
            if event.event == "mediation.notice" && event.data.contains("live") {
                break; // `latest` is resolved now
            }
        }
        world.publish(["back"]).await;
        assert_eq!(sse.event().await.data, "back");
        assert_eq!(late.event().await.data, "back");
    });
}

#[test]
fn the_engine_starts_without_a_broker_and_finds_it_later() {
    run(async {
        let kafka = Kafka::victim().await;
        let spec = Spec::default();
        let world = OnKafka::world(&kafka, spec.clone()).await;
        kafka.kill();
        let second = world.second_engine().await; // ready although there is no broker
        assert_eq!(second.admin("/healthz").await["status"], "ok");
        kafka.restart();
        let mut ws = mediation_tests::eventually("a session is admitted", async || {
            Ws::try_open(second.addr("ws"), "/", &[]).await.map_err(|e| format!("{e:?}"))
        })
        .await;
        world.publish(["hello"]).await;
        assert_eq!(ws.event().await, b"hello");
    });
}

#[test]
fn a_frozen_broker_leaves_accepted_posts_at_202_and_confirmed_ones_waiting() {
    run(async {
        let kafka = Kafka::victim().await;
        for (confirmed, accepted) in [("at_least_once", "auto"), ("at_most_once", "none")] {
            let up = json!({ "publish_timeout": "40s" });
            let world = |guarantee| OnKafka::world(&kafka, Spec { up: up.clone(), ..Spec::with(guarantee) });
            let (confirmed, accepted) = (world(confirmed).await, world(accepted).await);
            for world in [&confirmed, &accepted] {
                let post = http().post(world.engine.url("post", "/")).body("warm").send().await.expect("an answer");
                assert!(post.status().is_success());
                world.published(1).await;
            }
            kafka.freeze();
            let post = |url: String| async move { http().post(url).body("x").send().await.expect("an answer") };
            let waiting = tokio::spawn(post(confirmed.engine.url("post", "/")));
            // It is behind the one above, and answered although nothing is confirmed.
            assert_eq!(post(accepted.engine.url("post", "/")).await.status(), 202);
            assert!(!waiting.is_finished(), "answered 200 without a confirm");
            kafka.thaw();
            assert_eq!(waiting.await.expect("no panic").status(), 200);
            assert_eq!(confirmed.published(2).await[1].text(), "x");
            assert_eq!(accepted.published(2).await[1].text(), "x");
        }
    });
}

#[test]
fn a_post_that_the_broker_does_not_confirm_in_time_is_504_outcome_unknown() {
    run(async {
        let kafka = Kafka::victim().await;
        for guarantee in ["at_least_once", "at_most_once"] {
            let up = json!({ "publish_timeout": "3s" });
            let world = OnKafka::world(&kafka, Spec { up, ..Spec::with(guarantee) }).await;
            let post = || http().post(world.engine.url("post", "/")).body("x").send();
            assert_eq!(post().await.expect("an answer").status(), 200);
            kafka.freeze();
            let answer = post().await.expect("an answer");
            assert_eq!(answer.status(), 504, "{guarantee}");
            let body: Value = answer.json().await.expect("JSON");
            assert_eq!(body["error"]["code"], "outcome_unknown", "{body}");
            kafka.thaw();
        }
    });
}

#[test]
fn a_full_upstream_stops_reading_the_clients_socket_in_bounded_memory() {
    run(async {
        let kafka = Kafka::victim().await;
        let up = json!({ "publish_timeout": "100s" });
        let world = OnKafka::world(&kafka, Spec { channel_size: 4, up, ..Spec::default() }).await;
        let mut ws = RawWs::open(world.engine.addr("up"), "up", None).await;
        ws.send(TEXT, b"first").await;
        world.published(1).await;
        kafka.freeze();
        let before = world.engine.usage().resident;
        let mut frame = raw_ws::frame(TEXT, &[b'x'; 32 * 1024]);
        let mut sent = 0;
        // Until the socket takes nothing for two seconds.
        let mut half_sent = 0;
        while sent < 4096 && half_sent == 0 {
            let mut at = 0;
            while at < frame.len() {
                match tokio::time::timeout(Duration::from_secs(2), ws.socket().write(&frame[at..])).await {
                    Ok(written) => at += written.expect("sent"),
                    Err(_) => {
                        half_sent = at.max(1);
                        break;
                    }
                }
            }
            if at == frame.len() {
                sent += 1;
            } else {
                frame.drain(..at);
            }
        }
        assert!(sent < 4096, "128 MiB were taken from the client while nothing was confirmed");
        let grown = world.engine.usage().resident.saturating_sub(before);
        assert!(grown < 16 * 1024, "resident memory grew by {grown} KiB");
        let session = world.engine.session_when("up", "it is parked", |s| s["parked"] == true).await;
        assert_eq!(session["publishing"], 4, "as many as the channel has places: {session}");
        kafka.thaw();
        ws.send_bytes(&frame).await;
        ws.send(TEXT, b"last").await;
        let out = world.published(sent + 3).await;
        assert!(out[1..=sent + 1].iter().all(|r| r.payload.as_ref().map(Vec::len) == Some(32 * 1024)));
        assert_eq!(out.last().map(Record::text).as_deref(), Some("last"));
    });
}

#[test]
fn a_durable_stream_that_came_while_the_broker_was_frozen_is_not_evicted_by_itself() {
    run(async {
        let kafka = Kafka::victim().await;
        let world = OnKafka::world(&kafka, Spec { down: json!({ "durable": true }), ..Spec::default() }).await;
        kafka.freeze();
        let (mut sse, opening) = Sse::open(&world.engine, "durable", "").await;
        assert_eq!(opening.id, None, "it is held: no position is known yet");
        kafka.thaw();
        loop {
            let event = sse.next().await.expect("a stream that goes on");
            assert_ne!(event.event, "mediation.error", "{event:?}");
            if event.event == "mediation.notice" && event.data.contains("live") {
                break;
            }
        }
        world.publish(["x"]).await;
        assert_eq!(sse.event().await.data, "x");
    });
}

#[test]
fn a_durable_client_that_left_with_a_publish_out_is_replaced_at_once() {
    run(async {
        let kafka = Kafka::victim().await;
        let topic = unique("slow-confirm");
        kafka.create_topic(&topic, 1).await;
        let memory = json!({ "name": "m", "type": "memory", "config": { "topic_in": "t", "topic_out": "t" } });
        let config = json!({ "brokers": kafka.bootstrap(), "topic_in": topic, "topic_out": topic });
        let mut down = route("m", "ws", "downstream", "at_least_once");
        down["durable"] = json!(true);
        let engine = Engine::start(&json!({
            "admin": { "port": 0, "bind": "127.0.0.1" },
            "entrypoints": [entrypoint("ws", "websocket")],
            "endpoints": [memory, { "name": "k", "type": "kafka", "config": config }],
            "routes": [down, route("ws", "k", "upstream", "at_least_once")],
        }))
        .await;
        let mut older = RawWs::open(engine.addr("ws"), "one", None).await;
        older.send(TEXT, b"warm").await;
        kafka.read(&topic, 1).await;
        kafka.freeze();
        older.send(TEXT, b"held").await;
        engine.session_when("one", "its publish is out", |s| s["publishing"] == 1).await;
        older.send(CLOSE, &1000_u16.to_be_bytes()).await;
        engine.session_when("one", "its end is seen", |s| s["state"] == "ending").await;
        let newer = RawWs::open(engine.addr("ws"), "one", None).await;
        kafka.thaw();
        assert_eq!(kafka.read(&topic, 2).await[1].text(), "held", "it is published all the same");
        let log = engine.child.stderr.lines();
        assert!(!log.iter().any(|line| line.contains("did not let go")), "the newer one had to wait: {log:?}");
        drop((older, newer));
    });
}

#[test]
fn held_clients_are_told_that_the_broker_is_lost_and_back() {
    run(async {
        let kafka = Kafka::victim().await;
        let world = OnKafka::world(&kafka, Spec { down: json!({ "on_broker_loss": "hold" }), ..Spec::default() }).await;
        let (mut v1, _) = Ws::open_v1(world.engine.addr("ws"), "v1", "").await;
        let (mut sse, _) = Sse::open(&world.engine, "sse", "").await;
        kafka.kill();
        assert_eq!(v1.json_of("notice").await["code"], "broker_lost");
        let notice = sse.next().await.expect("a notice");
        assert_eq!(
            (notice.event.as_str(), notice.data.contains("broker_lost")),
            ("mediation.notice", true),
            "{notice:?}"
        );
        let session = world.engine.session("v1").await.expect("it is held");
        assert_eq!(session["state"], "held", "{session}");
        kafka.restart();
        assert_eq!(v1.json_of("notice").await["code"], "broker_back");
        let notice = sse.next().await.expect("a notice");
        assert_eq!(
            (notice.event.as_str(), notice.data.contains("broker_back")),
            ("mediation.notice", true),
            "{notice:?}"
        );
    });
}

#[test]
fn a_frozen_broker_leaves_v1_publishes_unanswered_until_it_confirms() {
    run(async {
        let kafka = Kafka::victim().await;
        for guarantee in ["at_least_once", "at_most_once"] {
            let (world, mut v1) = warm_v1(&kafka, guarantee, "published").await;
            kafka.freeze();
            v1.send_json(publish("a")).await;
            // Behind it, and answered at once: what comes first tells which was waited for.
            v1.send_json(json!({ "type": "publish", "ref": "bad", "metadata": { "topic": "elsewhere" } })).await;
            let first = v1.json().await;
            assert_eq!((&first["type"], &first["ref"]), (&"error".into(), &"bad".into()), "unconfirmed: {first}");
            kafka.thaw();
            let second = v1.json().await;
            assert_eq!((&second["type"], &second["ref"]), (&"published".into(), &"a".into()), "{second}");
            assert_eq!(world.published(2).await[1].text(), "a", "{guarantee}");
        }
    });
}

#[test]
fn a_frozen_broker_leaves_v1_publishes_accepted_where_none_is_confirmed() {
    run(async {
        let kafka = Kafka::victim().await;
        for guarantee in ["none", "auto"] {
            let (world, mut v1) = warm_v1(&kafka, guarantee, "accepted").await;
            kafka.freeze();
            for name in ["a", "b"] {
                v1.send_json(publish(name)).await;
                let answer = v1.json().await;
                assert_eq!((&answer["type"], &answer["ref"]), (&"accepted".into(), &name.into()), "{answer}");
            }
            kafka.thaw();
            let out = world.published(3).await;
            assert_eq!([out[1].text(), out[2].text()], ["a", "b"], "{guarantee}");
        }
    });
}

fn publish(name: &str) -> Value {
    json!({ "type": "publish", "ref": name, "payload": name })
}

/// A client whose first publish is through.
async fn warm_v1<'a>(kafka: &'a Kafka, guarantee: &'static str, answer: &str) -> (World<OnKafka<'a>>, Ws) {
    let up = json!({ "publish_timeout": "40s" });
    let world = OnKafka::world(kafka, Spec { up, ..Spec::with(guarantee) }).await;
    let (mut v1, _) = Ws::open_v1(world.engine.addr("up"), "v1", "").await;
    v1.send_json(publish("warm")).await;
    assert_eq!(v1.json().await["type"], answer, "{guarantee}");
    world.published(1).await;
    (world, v1)
}

#[test]
fn a_post_beside_a_full_route_is_503_busy() {
    run(async {
        let kafka = Kafka::victim().await;
        let up = json!({ "publish_timeout": "40s", "max_in_flight": 1, "accept_timeout": "1s" });
        let world = OnKafka::world(&kafka, Spec { up, ..Spec::default() }).await;
        let post = || http().post(world.engine.url("post", "/")).header("x-client-id", "post").body("x").send();
        assert_eq!(post().await.expect("an answer").status(), 200);
        kafka.freeze();
        let both = async { tokio::join!(post(), post()) };
        let thaw = async {
            // Longer than accept_timeout, shorter than publish_timeout.
            tokio::time::sleep(Duration::from_secs(4)).await;
            kafka.thaw();
        };
        let ((one, other), ()) = tokio::join!(both, thaw);
        let (one, other) = (one.expect("an answer"), other.expect("an answer"));
        let (fine, busy) = if one.status() == 200 { (one, other) } else { (other, one) };
        assert_eq!((fine.status().as_u16(), busy.status().as_u16()), (200, 503));
        let body: Value = busy.json().await.expect("JSON");
        assert_eq!(body["error"]["code"], "busy", "{body}");
    });
}
