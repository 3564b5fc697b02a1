//! An event as a Kafka record, and back: key, headers, named properties, null payload and timestamp are kept.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use rdkafka::Message as _;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Header as KafkaHeader, Headers as _, OwnedHeaders};

use crate::config::KeyFrom;
use crate::event::{Event, EventId, Header, NAMED, Origin, Properties, header_of};

/// The key to publish with: the event's own, else what the configuration says.
pub(super) fn key(event: &Event, from: Option<&KeyFrom>) -> Option<Bytes> {
    if event.key.is_some() {
        return event.key.clone();
    }
    match from? {
        KeyFrom::EventId => Some(event.id.to_string().into()),
        KeyFrom::ClientId => event.client_id.as_deref().map(|id| Bytes::copy_from_slice(id.as_bytes())),
        KeyFrom::Header(name) => event.header(name).cloned(),
    }
}

/// The event's headers as they are (its id among them, where a client sent it), and the named properties where no header
/// of that name is there.
pub(super) fn headers(event: &Event) -> OwnedHeaders {
    let mut out = OwnedHeaders::new_with_capacity(event.headers.len() + 1);
    for header in &event.headers {
        // A name with NUL cannot be said to librdkafka.
        if !header.name.contains('\0') {
            out = out.insert(KafkaHeader { key: &header.name, value: header.value.as_deref() });
        }
    }
    if let Some(properties) = event.properties.as_deref() {
        for name in NAMED {
            let header = header_of(name);
            if let Some(value) = property(properties, name)
                && !event.headers.iter().any(|h| h.name.eq_ignore_ascii_case(header))
            {
                out = out.insert(KafkaHeader { key: header, value: Some(value.as_bytes()) });
            }
        }
    }
    out
}

fn property<'a>(properties: &'a Properties, name: &str) -> Option<&'a str> {
    match name {
        "content_type" => properties.content_type.as_deref(),
        "correlation_id" => properties.correlation_id.as_deref(),
        "reply_to" => properties.reply_to.as_deref(),
        _ => properties.traceparent.as_deref(),
    }
}

/// The event that a record is. The payload is copied: keeping the record would pin the whole fetched batch.
pub(super) fn event(message: &BorrowedMessage<'_>, topic: &Arc<str>, source: &Arc<str>) -> Event {
    let (partition, offset) = (message.partition(), message.offset());
    Event {
        id: EventId::Log { topic: Arc::clone(topic), partition, offset },
        source: Arc::clone(source),
        client_id: None,
        payload: message.payload().map(|payload| Bytes::copy_from_slice(payload).into()),
        key: message.key().map(Bytes::copy_from_slice),
        headers: message.headers().map_or_else(Vec::new, |raw| read_headers(raw, topic, partition, offset)),
        properties: None,
        attributes: None,
        origin: Origin::Log { protocol: "kafka", topic: Arc::clone(topic), partition, offset },
        timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
    }
}

fn read_headers(raw: &BorrowedHeaders, topic: &str, partition: i32, offset: i64) -> Vec<Header> {
    let mut out = Vec::with_capacity(raw.count());
    for index in 0..raw.count() {
        // rdkafka panics on a name that is not UTF-8, which any producer can write: such a header is left out, the
        // event is not lost and the session not ended.
        match catch_unwind(AssertUnwindSafe(|| raw.try_get(index))) {
            Ok(Some(header)) => {
                out.push(Header { name: header.key.into(), value: header.value.map(Bytes::copy_from_slice) });
            }
            Ok(None) => break,
            Err(_) => {
                tracing::warn!(target: "kafka", topic, partition, offset, "left out a header whose name is not UTF-8");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::testing::sample;
    use super::*;

    fn pairs(headers: &OwnedHeaders) -> Vec<(String, Option<Vec<u8>>)> {
        headers.as_borrowed().iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect()
    }

    #[test]
    fn headers_go_as_they_are_repeated_binary_and_null() {
        let mut event = sample(b"x");
        for (name, value) in [("a", Some(&b"1"[..])), ("a", Some(&[0xff, 0][..])), ("n", None)] {
            event.headers.push(Header { name: name.into(), value: value.map(Bytes::copy_from_slice) });
        }
        assert_eq!(
            pairs(&headers(&event)),
            [("a".to_owned(), Some(b"1".to_vec())), ("a".to_owned(), Some(vec![0xff, 0])), ("n".to_owned(), None),]
        );
    }

    #[test]
    fn properties_become_headers_unless_one_is_there() {
        let mut event = sample(b"x");
        event.headers.push(Header { name: "Content-Type".into(), value: Some(Bytes::from_static(b"text/x")) });
        event.properties = Some(Box::new(Properties {
            content_type: Some("ignored".into()),
            correlation_id: Some("c".into()),
            ..Properties::default()
        }));
        let names: Vec<_> = pairs(&headers(&event)).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["Content-Type", "correlation-id"]);
    }

    #[test]
    fn the_key_is_the_events_else_what_is_configured() {
        let mut event = sample(b"x");
        event.client_id = Some("c7".into());
        event.headers.push(Header { name: "X-Tenant".into(), value: Some(Bytes::from_static(b"t1")) });
        assert_eq!(key(&event, None), None);
        assert_eq!(key(&event, Some(&KeyFrom::ClientId)), Some(Bytes::from_static(b"c7")));
        assert_eq!(key(&event, Some(&KeyFrom::EventId)), Some(event.id.to_string().into()));
        assert_eq!(key(&event, Some(&KeyFrom::Header("x-tenant".into()))), Some(Bytes::from_static(b"t1")));
        event.key = Some(Bytes::from_static(b"own"));
        assert_eq!(key(&event, Some(&KeyFrom::ClientId)), Some(Bytes::from_static(b"own")));
    }
}
