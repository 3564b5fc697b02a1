//! What a broker has arrives at clients as it was, on every entrypoint.

use base64::Engine as _;
use mediation_tests::broker::payload;
use mediation_tests::{Broker, OnKafka, Record, Spec, Sse, World, Ws, http, run};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

on_every_broker!(
    every_kind_of_payload_arrives_on_a_plain_websocket,
    every_kind_of_payload_arrives_in_v1_frames,
    sse_frames_newlines_cr_and_bytes,
    sse_gives_v1_frames_as_json,
    metadata_and_headers_arrive,
    events_arrive_in_order_on_every_entrypoint,
    everything_works_at_channel_size_one,
);

fn payloads() -> Vec<Vec<u8>> {
    vec![
        b"text".to_vec(),
        "gr\u{fc}\u{df}e \u{1f600}".into(),
        b"two\nlines\n".to_vec(),
        b"cr\rcrlf\r\n".to_vec(),
        Vec::new(),
        (0..=255).collect(),
        vec![0xff, 0xfe, 0xc0],
        "m".repeat(1_000_000).into_bytes(),
        vec![0xf5; 1 << 20],
    ]
}

async fn every_kind_of_payload_arrives_on_a_plain_websocket<B: Broker>() {
    let world = World::<B>::start(Spec::default()).await;
    let mut ws = Ws::open(world.engine.addr("ws"), "plain").await;
    world.publish(payloads()).await;
    for expected in payloads() {
        match (ws.next().await, String::from_utf8(expected.clone())) {
            (Message::Text(got), Ok(text)) => assert!(got.as_str() == text, "{} bytes of text", expected.len()),
            (Message::Binary(got), Err(_)) => assert!(got == expected, "{} bytes", expected.len()),
            (other, _) => panic!("text for valid UTF-8, else binary; not {} bytes of {other:.40?}", other.len()),
        }
    }
}

async fn every_kind_of_payload_arrives_in_v1_frames<B: Broker>() {
    let world = World::<B>::start(Spec::default()).await;
    let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "v1", "").await;
    world.publish(payloads()).await;
    for expected in payloads() {
        let frame = ws.json_of("event").await;
        assert!(payload(&frame) == expected, "{} bytes: {frame:.200}", expected.len());
        assert_eq!(
            frame["payload_base64"].is_string(),
            String::from_utf8(expected).is_err(),
            "base64 only for what needs it"
        );
        ws.ack(&[&frame["id"]]).await;
    }
}

async fn sse_frames_newlines_cr_and_bytes<B: Broker>() {
    let world = World::<B>::start(Spec::default()).await;
    let (mut sse, _) = Sse::open(&world.engine, "lines", "").await;
    world.publish(payloads()).await;
    for expected in payloads() {
        let event = sse.event().await;
        let text = String::from_utf8(expected.clone()).ok().filter(|text| !text.contains('\r'));
        match text {
            Some(text) => {
                assert_eq!(event.event, "", "plain text is a plain message");
                assert!(event.data == text, "{} bytes", text.len());
            }
            None => {
                assert_eq!(event.event, "binary");
                let bytes = base64::engine::general_purpose::STANDARD.decode(&event.data).expect("base64");
                assert!(bytes == expected, "{} bytes", expected.len());
            }
        }
        let id = event.id.as_deref().expect("every event has an id");
        assert_eq!(id.split('~').count(), 2, "event id and resume token: {id}");
    }
    assert!(sse.raw.starts_with(b":ok"), "a comment at once");
}

async fn sse_gives_v1_frames_as_json<B: Broker>() {
    let world = World::<B>::start(Spec::default()).await;
    let (mut sse, _) = Sse::open(&world.engine, "json", "?format=json").await;
    world.publish(["one\r\ntwo"]).await;
    let event = sse.event().await;
    let frame: Value = serde_json::from_str(&event.data).expect("a JSON frame");
    assert_eq!((frame["type"].as_str(), payload(&frame)), (Some("event"), b"one\r\ntwo".to_vec()), "{frame}");
    assert_eq!(frame["id"], event.event_id());
}

async fn metadata_and_headers_arrive<B: Broker>() {
    let world = World::<B>::start(Spec::default()).await;
    let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "meta", "").await;
    let record =
        Record::new("x").header("x-one", "1").header("x-two", "a").header("x-two", "b").header("x-bytes", [0xff, 0xfe]);
    world.publish_records(&[record]).await;
    let frame = ws.json_of("event").await;
    let metadata = &frame["metadata"];
    assert_eq!(metadata["protocol"], B::KIND, "{frame}");
    assert_eq!((&metadata["partition"], &metadata["offset"]), (&"0".into(), &"0".into()), "{frame}");
    assert_eq!(metadata["header.x-one"], "1", "{frame}");
    assert!(metadata["header.x-two"] == "a" || metadata["header.x-two"] == "b", "a repeated header: {frame}");
    assert_eq!(metadata["header.x-bytes"], Value::Null, "a binary header is not text: {frame}");
    let topic = metadata["topic"].as_str().expect("a topic");
    assert_eq!(frame["id"], format!("{topic}-0-0"), "the broker's own identity");
}

async fn events_arrive_in_order_on_every_entrypoint<B: Broker>() {
    let world = World::<B>::start(Spec { channel_size: 8, ..Spec::default() }).await;
    in_order_everywhere(&world, 300).await;
}

async fn everything_works_at_channel_size_one<B: Broker>() {
    let world = World::<B>::start(Spec { channel_size: 1, ..Spec::default() }).await;
    in_order_everywhere(&world, 50).await;
}

async fn in_order_everywhere<B: Broker>(world: &World<B>, n: usize) {
    let expected: Vec<String> = (0..n).map(|i| format!("event {i}")).collect();
    let mut ws = Ws::open(world.engine.addr("ws"), "ws").await;
    let (mut sse, _) = Sse::open(&world.engine, "sse", "").await;
    let subscribed = http().post(world.engine.url("poll", "/subscribe")).header("x-client-id", "poll").send().await;
    assert_eq!(subscribed.expect("an answer").status(), 201);
    let polled = async {
        let mut out = Vec::new();
        while out.len() < n {
            let poll = http().get(world.engine.url("poll", "/poll?limit=10")).header("x-client-id", "poll");
            let answer = poll.header("accept", "application/json").send().await.expect("an answer");
            let items: Value = answer.json().await.expect("items");
            let items = items["items"].as_array().cloned().unwrap_or_default();
            out.extend(items.iter().map(|i| String::from_utf8(payload(i)).expect("text")));
        }
        out
    };
    let publish = world.publish(expected.clone());
    let ((), on_ws, on_sse, on_poll) = tokio::join!(publish, ws.events(n), sse.events(n), polled);
    assert!(on_ws == expected, "websocket: {on_ws:?}");
    assert!(on_sse == expected, "sse: {on_sse:?}");
    assert!(on_poll == expected, "poll: {on_poll:?}");
}

#[test]
fn a_kafka_tombstone_is_an_empty_frame_and_says_so() {
    run(async {
        let world = World::<OnKafka>::start(Spec::default()).await;
        let mut plain = Ws::open(world.engine.addr("ws"), "plain").await;
        let (mut v1, _) = Ws::open_v1(world.engine.addr("ws"), "v1", "").await;
        let key = Some(b"k".to_vec());
        let null = ("x-null".to_owned(), None);
        world.publish_records(&[Record { key, payload: None, headers: vec![null], ..Record::default() }]).await;
        assert_eq!(plain.event().await, b"");
        let frame = v1.json_of("event").await;
        assert_eq!(frame["metadata"]["mediation.null"], "true", "{frame}");
        assert_eq!(frame["metadata"]["key"], "k", "{frame}");
        assert_eq!(payload(&frame), b"");
    });
}
