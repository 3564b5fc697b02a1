//! The protocol-neutral unit that travels: what endpoints make and take, what entrypoints read and write.
//!
//! Ids and metadata are built when somebody reads them, never as a map: most events pass without anybody asking.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use uuid::Uuid;

mod payload;

pub use payload::Payload;

/// One event, towards a broker or towards a client.
#[derive(Debug, Clone)]
pub struct Event {
    /// Which event this is: the same when it comes again.
    pub id: EventId,
    /// Name of the entrypoint or endpoint that it came from.
    pub source: Arc<str>,
    /// The client that sent it; none for events from brokers.
    pub client_id: Option<Arc<str>>,
    /// None is a Kafka tombstone.
    pub payload: Option<Payload>,
    /// The ordering key as the broker has it.
    pub key: Option<Bytes>,
    /// Broker or request headers, raw: they may repeat, be binary or null.
    pub headers: Vec<Header>,
    /// The named properties; absent when none is set.
    pub properties: Option<Box<Properties>>,
    /// Metadata that plugins set (or, None, removed) over what the event came with; absent when there is none.
    pub attributes: Option<Box<Vec<Attribute>>>,
    /// Where it came from.
    pub origin: Origin,
    /// Milliseconds since the Unix epoch: the broker's time, or the moment the engine read it.
    pub timestamp_ms: i64,
}

/// One raw header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// As the broker or client wrote it.
    pub name: Arc<str>,
    /// None is Kafka's null header.
    pub value: Option<Bytes>,
}

/// One metadata key that a plugin set, or removed (None).
pub type Attribute = (Box<str>, Option<Box<str>>);

/// Named properties that brokers have places of their own for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// `content_type`
    pub content_type: Option<String>,
    /// `correlation_id`
    pub correlation_id: Option<String>,
    /// `reply_to`
    pub reply_to: Option<String>,
    /// `traceparent`
    pub traceparent: Option<String>,
}

/// Where an event came from; the facts that its metadata is built from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A client of an entrypoint.
    Client {
        /// `websocket`, `sse`, `http_post` or `http_get`.
        protocol: &'static str,
    },
    /// A log: Kafka or memory.
    Log {
        /// `kafka` or `memory`.
        protocol: &'static str,
        /// The topic.
        topic: Arc<str>,
        /// The partition, 0 where there is but one.
        partition: i32,
        /// Its place in the partition.
        offset: i64,
    },
}

/// Which event this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventId {
    /// `topic-partition-offset`.
    Log {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// Given by the client.
    Text(Arc<str>),
    /// Made by the engine.
    Uuid(Uuid),
    /// One of several that a plugin made of one event: `ID#1` to `ID#n`.
    Part {
        /// The event's own.
        of: Arc<EventId>,
        /// From 1.
        part: u16,
    },
}

impl EventId {
    /// A fresh, time-ordered id.
    #[must_use]
    pub fn new() -> Self {
        Self::Uuid(Uuid::now_v7())
    }

    /// Whether `text` is this id as clients see it.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Log { offset, .. } => {
                // The offset differs first: look at it before formatting the rest.
                text.rsplit('-').next().and_then(|last| last.parse::<i64>().ok()) == Some(*offset)
                    && text == self.to_string()
            }
            _ => text == self.to_string(),
        }
    }
}

impl Default for EventId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log { topic, partition, offset } => write!(f, "{}-{partition}-{offset}", printable(topic)),
            Self::Text(text) => f.write_str(&printable(text)),
            Self::Uuid(uuid) => write!(f, "{}", uuid.as_hyphenated()),
            Self::Part { of, part } => write!(f, "{of}#{part}"),
        }
    }
}

/// Now, as events carry it.
#[must_use]
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// Percent-encodes CR, LF, NUL, `~`, `%` and what is not printable ASCII: what comes from a broker is not trusted in
/// `id:` lines and headers.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    const SET: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'~').add(b'%');
    percent_encoding::utf8_percent_encode(text, SET).into()
}

impl Event {
    /// Bytes it counts for against `channel_bytes`: payload, key and header values.
    #[must_use]
    pub fn size(&self) -> usize {
        let len = |b: &Option<Bytes>| b.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|h| h.name.len() + len(&h.value)).sum();
        let attributes = self.attributes.iter().flat_map(|list| list.iter());
        let attributes: usize = attributes.map(|(key, value)| key.len() + value.as_ref().map_or(0, |v| v.len())).sum();
        self.payload.as_ref().map_or(0, Payload::len) + len(&self.key) + headers + attributes
    }

    /// The raw value of the first header of that name, whatever its case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        self.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).and_then(|h| h.value.as_ref())
    }

    /// The content type: a property, or the header that carries it on brokers without one.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        match self.properties.as_deref().and_then(|p| p.content_type.as_deref()) {
            Some(found) => Some(found),
            None => self.header(header_of("content_type")).and_then(|v| std::str::from_utf8(v).ok()),
        }
    }

    /// The metadata as clients and plugins read it: lower-case keys, text values. What plugins set comes last and
    /// stands for what it hides.
    #[must_use]
    pub fn metadata(&self) -> Vec<(String, String)> {
        let mut out = Vec::with_capacity(8 + self.headers.len());
        let mut put = |k: &str, v: String| {
            if self.attribute(k).is_none() {
                out.push((k.to_owned(), v));
            }
        };
        for name in ORIGIN {
            if let Some(value) = self.origin(name) {
                put(name, value.into_owned());
            }
        }
        if let Some(key) = self.key.as_ref().and_then(|k| std::str::from_utf8(k).ok()) {
            put("key", key.to_owned());
        }
        for name in NAMED {
            if let Some(value) = self.property(name) {
                put(name, value.to_owned());
            }
        }
        if self.payload.is_none() {
            put("mediation.null", "true".to_owned());
        }
        for header in &self.headers {
            if let Some(text) = header.value.as_ref().and_then(|v| std::str::from_utf8(v).ok()) {
                put(&format!("header.{}", header.name.to_ascii_lowercase()), text.to_owned());
            }
        }
        let set = self.attributes.iter().flat_map(|list| list.iter());
        out.extend(set.filter_map(|(key, value)| Some((key.to_string(), value.as_ref()?.to_string()))));
        out
    }

    /// One key of [`metadata`](Self::metadata), without building the rest.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Cow<'_, str>> {
        if let Some(set) = self.attribute(key) {
            return set.map(Cow::Borrowed);
        }
        let text = |bytes: &'_ Bytes| std::str::from_utf8(bytes).ok().map(str::to_owned);
        match key {
            "key" => self.key.as_ref().and_then(text).map(Cow::Owned),
            "mediation.null" => self.payload.is_none().then_some(Cow::Borrowed("true")),
            _ if NAMED.contains(&key) => self.property(key).map(Cow::Borrowed),
            _ => match key.strip_prefix("header.") {
                Some(name) => self.header(name).and_then(|v| std::str::from_utf8(v).ok()).map(Cow::Borrowed),
                None => self.origin(key),
            },
        }
    }

    /// Sets one metadata key as a plugin may: headers and named properties where they travel, others beside them.
    /// False: the key is the engine's own (`mediation.*`, `session.*`).
    pub fn set(&mut self, key: &str, value: &str) -> bool {
        if reserved(key) {
            return false;
        }
        if key == "key" {
            self.key = Some(Bytes::copy_from_slice(value.as_bytes()));
        } else if NAMED.contains(&key) {
            self.headers.retain(|h| !h.name.eq_ignore_ascii_case(header_of(key)));
            *self.properties.get_or_insert_default().of(key) = Some(value.to_owned());
        } else if let Some(name) = key.strip_prefix("header.") {
            self.headers.retain(|h| !h.name.eq_ignore_ascii_case(name));
            let value = Some(Bytes::copy_from_slice(value.as_bytes()));
            self.headers.push(Header { name: name.into(), value });
        } else {
            self.put_attribute(key, Some(value.into()));
        }
        true
    }

    /// Removes one metadata key as a plugin may; false as in [`set`](Self::set).
    pub fn remove(&mut self, key: &str) -> bool {
        if reserved(key) {
            return false;
        }
        if key == "key" {
            self.key = None;
        } else if NAMED.contains(&key) {
            self.headers.retain(|h| !h.name.eq_ignore_ascii_case(header_of(key)));
            if let Some(properties) = &mut self.properties {
                *properties.of(key) = None;
            }
        } else if let Some(name) = key.strip_prefix("header.") {
            self.headers.retain(|h| !h.name.eq_ignore_ascii_case(name));
        } else {
            self.put_attribute(key, None);
        }
        true
    }

    fn put_attribute(&mut self, key: &str, value: Option<Box<str>>) {
        let list = self.attributes.get_or_insert_default();
        match list.iter_mut().find(|(known, _)| **known == *key) {
            Some(entry) => entry.1 = value,
            None => list.push((key.into(), value)),
        }
    }

    /// What plugins made of a key: outer None where they left it alone.
    fn attribute(&self, key: &str) -> Option<Option<&str>> {
        let list = self.attributes.as_deref()?;
        list.iter().find(|(known, _)| **known == *key).map(|(_, value)| value.as_deref())
    }

    fn origin(&self, key: &str) -> Option<Cow<'_, str>> {
        match (&self.origin, key) {
            (Origin::Client { protocol } | Origin::Log { protocol, .. }, "protocol") => Some(Cow::Borrowed(protocol)),
            (Origin::Log { topic, .. }, "topic") => Some(Cow::Borrowed(topic)),
            (Origin::Log { partition, .. }, "partition") => Some(partition.to_string().into()),
            (Origin::Log { offset, .. }, "offset") => Some(offset.to_string().into()),
            _ => None,
        }
    }

    fn property(&self, name: &str) -> Option<&str> {
        let own = self.properties.as_deref().and_then(|p| match name {
            "content_type" => p.content_type.as_deref(),
            "correlation_id" => p.correlation_id.as_deref(),
            "reply_to" => p.reply_to.as_deref(),
            _ => p.traceparent.as_deref(),
        });
        own.or_else(|| self.header(header_of(name)).and_then(|v| std::str::from_utf8(v).ok()))
    }
}

impl Properties {
    fn of(&mut self, name: &str) -> &mut Option<String> {
        match name {
            "content_type" => &mut self.content_type,
            "correlation_id" => &mut self.correlation_id,
            "reply_to" => &mut self.reply_to,
            _ => &mut self.traceparent,
        }
    }
}

/// Metadata keys that say where an event came from.
const ORIGIN: [&str; 4] = ["protocol", "topic", "partition", "offset"];

/// Whether a metadata key is the engine's own: plugins cannot set it.
#[must_use]
pub fn reserved(key: &str) -> bool {
    key.starts_with("mediation.") || key.starts_with("session.") || key.strip_prefix("header.").is_some_and(is_ours)
}

/// The named properties, as metadata keys.
pub const NAMED: [&str; 4] = ["content_type", "correlation_id", "reply_to", "traceparent"];

/// The header that carries a named property on brokers that have only headers (Kafka).
#[must_use]
pub fn header_of(property: &str) -> &'static str {
    match property {
        "content_type" => "content-type",
        "correlation_id" => "correlation-id",
        "reply_to" => "reply-to",
        _ => "traceparent",
    }
}

/// Whether a header's name is the engine's own to give.
#[must_use]
pub fn is_ours(header: &str) -> bool {
    header.get(..10).is_some_and(|start| start.eq_ignore_ascii_case("mediation."))
}

/// The header that carries the event's id to the broker.
pub const ID_HEADER: &str = "mediation.id";

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            id: EventId::Log { topic: "t".into(), partition: 2, offset: 7 },
            source: "memory-main".into(),
            client_id: None,
            payload: None,
            key: Some(Bytes::from_static(b"k")),
            headers: vec![Header { name: "X-A".into(), value: Some(Bytes::from_static(b"1")) }],
            properties: None,
            attributes: None,
            origin: Origin::Log { protocol: "memory", topic: "t".into(), partition: 2, offset: 7 },
            timestamp_ms: 0,
        }
    }

    #[test]
    fn get_says_what_metadata_says() {
        let mut event = event();
        assert!(event.set("content_type", "text/plain") && event.set("colour", "red") && event.set("topic", "other"));
        assert!(event.remove("partition"));
        let all = event.metadata();
        for key in ["protocol", "topic", "partition", "offset", "key", "content_type", "header.x-a", "colour", "none"] {
            let listed: Vec<&str> = all.iter().filter(|(k, _)| k == key).map(|(_, v)| v.as_str()).collect();
            assert_eq!(listed, event.get(key).as_deref().into_iter().collect::<Vec<_>>(), "{key}");
        }
        assert_eq!((event.get("topic").as_deref(), event.get("partition")), (Some("other"), None));
        assert_eq!(event.get("mediation.null").as_deref(), Some("true"));
    }

    #[test]
    fn what_plugins_set_travels_where_it_belongs() {
        let mut event = event();
        assert!(event.set("header.x-a", "2") && event.set("key", "other") && event.remove("header.x-none"));
        assert_eq!(event.headers, [Header { name: "x-a".into(), value: Some(Bytes::from_static(b"2")) }]);
        assert_eq!(event.key.as_deref(), Some(&b"other"[..]));
        assert!(event.remove("key") && event.key.is_none());
        for key in ["mediation.id", "session.tenant", "header.mediation.id", "header.Mediation.ID"] {
            assert!(!event.set(key, "x") && !event.remove(key), "{key}");
        }
    }

    #[test]
    fn the_parts_of_an_event_have_ids_of_their_own() {
        let part = EventId::Part { of: Arc::new(event().id), part: 2 };
        assert_eq!(part.to_string(), "t-2-7#2");
        assert!(part.matches("t-2-7#2") && !part.matches("t-2-7#1") && !part.matches("t-2-7"));
        assert!(!event().id.matches("t-2-7#2"));
    }
}
