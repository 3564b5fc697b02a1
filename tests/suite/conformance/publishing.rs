//! What clients publish arrives at the broker, and what they are told about it.

use mediation_tests::raw_ws::{self, CLOSE, RawWs, TEXT};
use mediation_tests::{Broker, OnKafka, Record, Spec, World, Ws, http, run};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;

on_every_broker!(
    a_post_under_none_is_answered_202,
    a_post_under_auto_is_answered_202,
    a_post_under_at_most_once_is_answered_200,
    a_post_under_at_least_once_is_answered_200,
    v1_publishes_are_answered_by_their_ref,
    text_and_binary_frames_become_payloads,
    a_clients_own_event_id_is_kept,
    posted_headers_travel_when_they_are_listed,
    what_was_sent_before_a_close_is_published,
    what_was_sent_before_the_connection_breaks_is_published,
    bare_metadata_in_a_publish_is_an_error,
);

async fn a_post_under_none_is_answered_202<B: Broker>() {
    posted::<B>("none", 202, "accepted").await;
}

async fn a_post_under_auto_is_answered_202<B: Broker>() {
    posted::<B>("auto", 202, "accepted").await;
}

async fn a_post_under_at_most_once_is_answered_200<B: Broker>() {
    posted::<B>("at_most_once", 200, "published").await;
}

async fn a_post_under_at_least_once_is_answered_200<B: Broker>() {
    posted::<B>("at_least_once", 200, "published").await;
}

async fn posted<B: Broker>(guarantee: &'static str, status: u16, word: &str) {
    let world = World::<B>::start(Spec { tap: true, ..Spec::with(guarantee) }).await;
    for payload in ["one", "two", ""] {
        let answer = http().post(world.engine.url("post", "/any/path")).body(payload).send().await.expect("an answer");
        assert_eq!(answer.status(), status, "{guarantee}");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let body: Value = answer.json().await.expect("JSON");
        assert_eq!(body["status"], word, "{body}");
        assert!(body["id"].as_str().is_some_and(|id| id.len() == 36), "a UUID: {body}");
    }
    let mut texts: Vec<String> = world.published(3).await.iter().map(mediation_tests::Record::text).collect();
    texts.sort();
    assert_eq!(texts, ["", "one", "two"]);
}

async fn v1_publishes_are_answered_by_their_ref<B: Broker>() {
    for (guarantee, word) in [("auto", "accepted"), ("at_least_once", "published")] {
        let world = World::<B>::start(Spec { tap: true, ..Spec::with(guarantee) }).await;
        let (mut ws, _) = Ws::open_v1(world.engine.addr("up"), "v1", "").await;
        ws.send_json(json!({ "type": "publish", "ref": "a", "payload": "one" })).await;
        ws.send_json(
            json!({ "type": "publish", "ref": "b", "payload_base64": "/w==", "metadata": { "header.x-one": "1" } }),
        )
        .await;
        for expected in ["a", "b"] {
            let answer = ws.json().await;
            assert_eq!((&answer["type"], &answer["ref"]), (&word.into(), &expected.into()), "{answer}");
        }
        let out = world.published(2).await;
        assert_eq!(out[0].payload.as_deref(), Some(b"one".as_slice()));
        assert_eq!(out[1].payload.as_deref(), Some([0xff].as_slice()));
        assert_eq!(out[1].text_header("x-one").as_deref(), Some("1"), "{:?}", out[1]);
    }
}

async fn bare_metadata_in_a_publish_is_an_error<B: Broker>() {
    let world = World::<B>::start(Spec::default()).await;
    let (mut ws, _) = Ws::open_v1(world.engine.addr("up"), "v1", "").await;
    ws.send_json(json!({ "type": "publish", "ref": "a", "payload": "x", "metadata": { "topic": "elsewhere" } })).await;
    let answer = ws.json().await;
    assert_eq!((&answer["type"], &answer["ref"]), (&"error".into(), &"a".into()), "{answer}");
}

async fn text_and_binary_frames_become_payloads<B: Broker>() {
    let world = World::<B>::start(Spec { tap: true, ..Spec::default() }).await;
    let mut ws = Ws::open(world.engine.addr("up"), "up").await;
    let bytes: Vec<u8> = (0..=255).collect();
    ws.send(Message::text("text")).await;
    ws.send(Message::binary(bytes.clone())).await;
    ws.send(Message::text("")).await;
    let out = world.published(3).await;
    let payloads: Vec<_> = out.iter().map(|r| r.payload.clone().unwrap_or_default()).collect();
    assert_eq!(payloads, [b"text".to_vec(), bytes, Vec::new()]);
}

async fn a_clients_own_event_id_is_kept<B: Broker>() {
    let world = World::<B>::start(Spec { tap: true, ..Spec::default() }).await;
    let post = http().post(world.engine.url("post", "/")).header("x-event-id", "order-17").body("x");
    let body: Value = post.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(body["id"], "order-17");
    let (mut ws, _) = Ws::open_v1(world.engine.addr("up"), "v1", "").await;
    ws.send_json(json!({ "type": "publish", "ref": "a", "id": "order-18", "payload": "y" })).await;
    assert_eq!(ws.json().await["id"], "order-18");
    let out = world.published(2).await;
    let ids: Vec<_> = out.iter().map(|r| r.text_header("mediation.id")).collect();
    assert_eq!(ids, [Some("order-17".to_owned()), Some("order-18".to_owned())], "{out:?}");
}

async fn posted_headers_travel_when_they_are_listed<B: Broker>() {
    let listeners = json!({ "post": { "forward_headers": ["X-One"] } });
    let world = World::<B>::start(Spec { tap: true, listeners, ..Spec::default() }).await;
    let post = http().post(world.engine.url("post", "/")).header("x-one", "1").header("x-other", "2");
    let post = post.header("authorization", "Bearer secret").header("content-type", "application/json").body("{}");
    assert_eq!(post.send().await.expect("an answer").status(), 200);
    let out = &world.published(1).await[0];
    assert_eq!(out.text_header("x-one").as_deref(), Some("1"), "{out:?}");
    assert_eq!((out.text_header("x-other"), out.text_header("authorization")), (None, None), "{out:?}");
}

#[test]
fn repeated_and_binary_headers_reach_kafka_raw() {
    run(async {
        let listeners = json!({ "post": { "forward_headers": ["X-Two", "X-Bytes"] } });
        let world = World::<OnKafka>::start(Spec { listeners, ..Spec::default() }).await;
        let post = http().post(world.engine.url("post", "/")).header("x-two", "a").header("x-two", "b");
        let post = post.header("x-bytes", b"\xff\xfe".as_slice()).header("content-type", "text/csv").body("x");
        assert_eq!(post.send().await.expect("an answer").status(), 200);
        let out = &world.published(1).await[0];
        let values = |name: &str| -> Vec<Vec<u8>> {
            let named = out.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
            named.map(|(_, v)| v.clone().expect("a value")).collect()
        };
        assert_eq!(values("x-two"), [b"a".to_vec(), b"b".to_vec()], "{out:?}");
        assert_eq!(values("x-bytes"), [vec![0xff, 0xfe]], "{out:?}");
        assert_eq!(out.text_header("content-type").as_deref(), Some("text/csv"), "{out:?}");
    });
}

#[test]
fn the_kafka_key_is_what_the_endpoint_says() {
    run(async {
        let world = World::<OnKafka>::start(Spec { endpoint: json!({ "key": "client_id" }), ..Spec::default() }).await;
        let post = http().post(world.engine.url("post", "/")).header("x-client-id", "me").body("x");
        assert_eq!(post.send().await.expect("an answer").status(), 200);
        assert_eq!(world.published(1).await[0].key.as_deref(), Some(b"me".as_slice()));
    });
}

#[test]
fn a_key_and_a_null_payload_of_v1_reach_kafka() {
    run(async {
        let world = World::<OnKafka>::start(Spec::default()).await;
        let (mut ws, _) = Ws::open_v1(world.engine.addr("up"), "v1", "").await;
        ws.send_json(json!({ "type": "publish", "ref": "a", "metadata": { "key": "k1" } })).await;
        ws.send_json(json!({ "type": "publish", "ref": "b", "payload": "", "metadata": { "key": "k2" } })).await;
        let out = world.published(2).await;
        let seen: Vec<_> = out.iter().map(|r| (r.key.as_deref(), r.payload.as_deref())).collect();
        assert_eq!(seen, [(Some(&b"k1"[..]), None), (Some(&b"k2"[..]), Some(&b""[..]))], "{out:?}");
    });
}

#[test]
fn kafkas_timestamp_is_the_events_both_ways() {
    run(async {
        let world = World::<OnKafka>::start(Spec::default()).await;
        let mut ws = Ws::open(world.engine.addr("ws"), "reader").await;
        let made = 1_600_000_000_123;
        world.publish_records(&[Record { timestamp: Some(made), ..Record::new("old") }]).await;
        assert_eq!(ws.event().await, b"old");
        let post = http().post(world.engine.url("post", "/")).header("x-client-id", "writer").body("new");
        assert_eq!(post.send().await.expect("an answer").status(), 200);
        let stamp = async |direction: &str| {
            mediation_tests::eventually("a packet log line", async || {
                let lines = world.engine.packets();
                let found = lines.iter().find(|l| l["direction"] == direction);
                found.map(|l| l["timestamp"].clone()).ok_or_else(|| format!("{lines:?}"))
            })
            .await
        };
        assert_eq!(stamp("downstream").await, "2020-09-13T12:26:40.123Z");
        let written = world.published(1).await[0].timestamp.expect("every record has one");
        let logged = stamp("upstream").await;
        let logged = logged.as_str().expect("text");
        assert!(logged.ends_with(&format!(".{:03}Z", written % 1000)), "{logged}, in Kafka {written}");
    });
}

#[test]
fn what_kafka_refuses_closes_a_plain_websocket_and_is_an_error_in_v1() {
    run(async {
        let endpoint = json!({ "topic_out": mediation_tests::unique("absent") });
        let world = World::<OnKafka>::start(Spec { endpoint, ..Spec::default() }).await;
        let (mut v1, _) = Ws::open_v1(world.engine.addr("up"), "v1", "").await;
        v1.send_json(json!({ "type": "publish", "ref": "a", "payload": "x" })).await;
        let answer = v1.json().await;
        assert_eq!((&answer["type"], &answer["ref"]), (&"error".into(), &"a".into()), "{answer}");
        assert_eq!(answer["code"], "address_not_found", "{answer}");
        let mut plain = Ws::open(world.engine.addr("up"), "plain").await;
        plain.send(Message::text("x")).await;
        assert_eq!(plain.closed().await.0, 1011);
    });
}

#[test]
fn what_kafka_refuses_after_a_202_is_counted_as_lost() {
    run(async {
        let endpoint = json!({ "topic_out": mediation_tests::unique("absent") });
        let world = World::<OnKafka>::start(Spec { endpoint, ..Spec::with("auto") }).await;
        let post = http().post(world.engine.url("post", "/")).body("x").send().await.expect("an answer");
        assert_eq!(post.status(), 202);
        mediation_tests::eventually("the loss is counted", async || {
            let metrics = world.engine.admin_text("/metrics").await;
            let mut lost = metrics.lines().filter(|l| l.starts_with("mediation_events_lost_total"));
            let counted =
                lost.any(|l| l.contains("post->broker") && l.contains("address_not_found") && l.ends_with(" 1"));
            if counted { Ok(()) } else { Err(metrics) }
        })
        .await;
    });
}

async fn what_was_sent_before_a_close_is_published<B: Broker>() {
    let world = World::<B>::start(Spec { tap: true, channel_size: 4, ..Spec::default() }).await;
    let mut ws = RawWs::open(world.engine.addr("up"), "leaver", None).await;
    let mut all: Vec<u8> = (0..50).flat_map(|i| raw_ws::frame(TEXT, format!("{i}").as_bytes())).collect();
    all.extend(raw_ws::frame(CLOSE, &1000_u16.to_be_bytes()));
    ws.send_bytes(&all).await;
    drop(ws);
    in_order(&world, 50).await;
}

async fn what_was_sent_before_the_connection_breaks_is_published<B: Broker>() {
    let world = World::<B>::start(Spec { tap: true, channel_size: 4, ..Spec::default() }).await;
    let mut ws = RawWs::open(world.engine.addr("up"), "leaver", None).await;
    let all: Vec<u8> = (0..50).flat_map(|i| raw_ws::frame(TEXT, format!("{i}").as_bytes())).collect();
    ws.send_bytes(&all).await;
    ws.socket().shutdown().await.expect("half-closed");
    drop(ws);
    in_order(&world, 50).await;
}

async fn in_order<B: Broker>(world: &World<B>, n: usize) {
    let texts: Vec<String> = world.published(n).await.iter().map(mediation_tests::Record::text).collect();
    let expected: Vec<String> = (0..n).map(|i| i.to_string()).collect();
    assert_eq!(texts, expected);
}
