//! Both modes, there and back.

use super::*;
use mediation_plugin::{Body, Piece, config, testing};

fn run(config: &str, event: &testing::Event) -> Output {
    match config::parse::<CloudEvents>(config).unwrap().transform(&event.lend()) {
        Mapping::Emit(mut outputs) => outputs.remove(0),
        other => panic!("{other:?}"),
    }
}

fn event(payload: &[u8]) -> testing::Event {
    testing::Event::upstream().with_payload(payload)
}

fn value<'a>(output: &'a Output, key: &str) -> Option<&'a str> {
    output.set.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
}

#[test]
fn json_is_wrapped_without_a_copy() {
    let config = r#"{"action": "wrap", "attributes": {"type": "order.{topic}", "subject": "{client_id}"}}"#;
    let output = run(config, &event(b"{\"a\":1}").with("topic", "t"));
    assert!(matches!(&output.body, Body::Pieces(pieces) if matches!(pieces[1], Piece::Range((0, 7)))));
    let envelope: Value = serde_json::from_slice(&testing::payload_of(&output, b"{\"a\":1}").unwrap()).unwrap();
    let expected = json!({"specversion": "1.0", "id": "event-1", "source": "/source-1", "type": "order.t",
        "subject": "client-1", "time": "2023-11-14T22:13:20.000Z", "datacontenttype": "application/json", "data": {"a": 1}});
    assert_eq!(envelope, expected);
    assert_eq!(value(&output, "content_type"), Some(STRUCTURED));
}

#[test]
fn what_was_wrapped_is_unwrapped() {
    for (content_type, payload) in [
        ("application/json", &b"{\"a\": [1, 2]}"[..]),
        ("text/plain", b"say \"hi\"\n"),
        ("application/octet-stream", b"\xff\x00"),
        ("image/png", b"text by chance"),
        ("application/json", b""),
    ] {
        let wrapped = run(r#"{"action": "wrap"}"#, &event(payload).with("content_type", content_type));
        let envelope = testing::payload_of(&wrapped, payload).unwrap();
        let unwrapped = run(r#"{"action": "unwrap"}"#, &event(&envelope));
        assert_eq!(testing::payload_of(&unwrapped, &envelope).unwrap(), payload, "{content_type}");
        assert_eq!(value(&unwrapped, "content_type"), Some(content_type));
        assert_eq!(value(&unwrapped, "ce.id"), Some("event-1"));
    }
}

#[test]
fn binary_mode_is_headers() {
    let output = run(r#"{"action": "wrap", "mode": "binary"}"#, &event(b"x"));
    assert_eq!(output.body, Body::Same);
    assert_eq!(value(&output, "header.ce_id"), Some("event-1"));
    let mut given = event(b"x");
    for (key, value) in &output.set {
        given = given.with(key, value);
    }
    let back = run(r#"{"action": "unwrap", "mode": "binary"}"#, &given);
    assert_eq!(value(&back, "ce.type"), Some("mediation.event"));
    assert!(back.remove.contains(&"header.ce_type".to_owned()));
}

#[test]
fn what_is_no_cloudevent_is_rejected() {
    for (config, payload) in [
        (r#"{"action": "unwrap"}"#, "hello"),
        (r#"{"action": "unwrap"}"#, r#"{"specversion": "0.3"}"#),
        (r#"{"action": "unwrap", "mode": "binary"}"#, "hello"),
    ] {
        let plugin: CloudEvents = config::parse(config).unwrap();
        let mapping = plugin.transform(&event(payload.as_bytes()).lend());
        assert!(matches!(&mapping, Mapping::Reject(why) if why.code == "cloudevents-invalid"), "{mapping:?}");
    }
}

#[test]
fn a_wrong_configuration_names_the_key() {
    for (config, says) in [
        ("{}", "missing field `action`"),
        (r#"{"action": "wrap", "attributes": {"Type": "x"}}"#, "\"Type\" may have lower-case"),
        (r#"{"action": "wrap", "attributes": {"data": "x"}}"#, "config.attributes.data: is set by the plugin"),
        (r#"{"action": "unwrap", "attributes": {"type": "x"}}"#, "`action: wrap` only"),
    ] {
        let error = config::parse::<CloudEvents>(config).err().unwrap();
        assert!(error.contains(says), "{error}");
    }
}
