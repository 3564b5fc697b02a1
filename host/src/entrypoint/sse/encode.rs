//! The text of an event stream (WHATWG HTML, section 9.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::entrypoint::v1::{self, EventFrame};
use crate::event::{Event, Payload};

/// A comment: a heartbeat that no script sees.
pub(super) fn comment(out: &mut Vec<u8>) {
    out.extend_from_slice(b":\n\n");
}

/// How long an EventSource waits before it connects again, milliseconds.
pub(super) fn retry(out: &mut Vec<u8>, milliseconds: u32) {
    out.extend_from_slice(format!("retry: {milliseconds}\n\n").as_bytes());
}

/// One message whose data has no CR.
pub(super) fn message(out: &mut Vec<u8>, event: Option<&str>, id: Option<&str>, data: &str) {
    if let Some(id) = id {
        line(out, b"id: ", id.as_bytes());
    }
    if let Some(event) = event {
        line(out, b"event: ", event.as_bytes());
    }
    lines(out, data.as_bytes());
    out.push(b'\n');
}

/// An event of the broker: `id:` is `<event id>~<resume token>`.
pub(super) fn event(out: &mut Vec<u8>, event: &Event, redelivered: bool, resume: Option<String>, json: bool) {
    let id = event.id.to_string();
    out.extend_from_slice(b"id: ");
    out.extend_from_slice(id.as_bytes());
    if let Some(token) = &resume {
        out.push(b'~');
        out.extend_from_slice(token.as_bytes());
    }
    out.push(b'\n');
    if json {
        lines(out, &v1::encode(&v1::Out::Event(EventFrame::new(event, redelivered, resume))));
    } else {
        let payload = event.payload.as_ref().map(Payload::contiguous).unwrap_or_default();
        let payload = &*payload;
        // A CR would end a line at the reader, and what is not UTF-8 would be replaced there.
        if payload.contains(&b'\r') || simdutf8::basic::from_utf8(payload).is_err() {
            out.extend_from_slice(b"event: binary\n");
            line(out, b"data: ", STANDARD.encode(payload).as_bytes());
        } else {
            lines(out, payload);
        }
    }
    out.push(b'\n');
}

fn lines(out: &mut Vec<u8>, data: &[u8]) {
    for part in data.split(|b| *b == b'\n') {
        line(out, b"data: ", part);
    }
}

fn line(out: &mut Vec<u8>, field: &[u8], value: &[u8]) {
    out.extend_from_slice(field);
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{EventId, Origin};

    fn text(payload: Option<&'static [u8]>) -> String {
        let topic: Arc<str> = "t~\n".into();
        let made = Event {
            id: EventId::Log { topic: topic.clone(), partition: 0, offset: 7 },
            source: "m".into(),
            client_id: None,
            payload: payload.map(|bytes| bytes::Bytes::from_static(bytes).into()),
            key: None,
            headers: Vec::new(),
            properties: None,
            attributes: None,
            origin: Origin::Log { protocol: "memory", topic, partition: 0, offset: 7 },
            timestamp_ms: 0,
        };
        let mut out = Vec::new();
        event(&mut out, &made, false, Some("tok".into()), false);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn each_payload_line_is_a_data_line_and_hostile_ids_are_encoded() {
        assert_eq!(text(Some(b"a\n\nb\n")), "id: t%7E%0A-0-7~tok\ndata: a\ndata: \ndata: b\ndata: \n\n");
        assert_eq!(text(None), "id: t%7E%0A-0-7~tok\ndata: \n\n");
    }

    #[test]
    fn what_an_event_stream_cannot_carry_goes_as_base64() {
        for payload in [&b"a\rb"[..], &b"\xff"[..]] {
            let payload: &'static [u8] = payload.to_vec().leak();
            assert_eq!(
                text(Some(payload)),
                format!("id: t%7E%0A-0-7~tok\nevent: binary\ndata: {}\n\n", STANDARD.encode(payload))
            );
        }
    }
}
