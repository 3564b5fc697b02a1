//! The protocol-neutral unit that travels: what endpoints make and take, what entrypoints read and write.
//!
//! Ids and metadata are built when somebody reads them, never as a map: most events pass without anybody asking.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use uuid::Uuid;

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
    pub payload: Option<Bytes>,
    /// The ordering key as the broker has it.
    pub key: Option<Bytes>,
    /// Broker or request headers, raw: they may repeat, be binary or null.
    pub headers: Vec<Header>,
    /// The named properties; absent when none is set.
    pub properties: Option<Box<Properties>>,
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
        len(&self.payload) + len(&self.key) + headers
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

    /// The metadata as clients and plugins read it: lower-case keys, text values.
    #[must_use]
    pub fn metadata(&self) -> Vec<(String, String)> {
        let mut out = Vec::with_capacity(8 + self.headers.len());
        let mut put = |k: &str, v: String| out.push((k.to_owned(), v));
        match &self.origin {
            Origin::Client { protocol } => put("protocol", (*protocol).to_owned()),
            Origin::Log { protocol, topic, partition, offset } => {
                put("protocol", (*protocol).to_owned());
                put("topic", topic.to_string());
                put("partition", partition.to_string());
                put("offset", offset.to_string());
            }
        }
        if let Some(key) = self.key.as_ref().and_then(|k| std::str::from_utf8(k).ok()) {
            put("key", key.to_owned());
        }
        for name in NAMED {
            if let Some(value) = self.property(name) {
                put(name, value);
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
        out
    }

    fn property(&self, name: &str) -> Option<String> {
        let own = self.properties.as_deref().and_then(|p| match name {
            "content_type" => p.content_type.clone(),
            "correlation_id" => p.correlation_id.clone(),
            "reply_to" => p.reply_to.clone(),
            _ => p.traceparent.clone(),
        });
        own.or_else(|| self.header(header_of(name)).and_then(|v| String::from_utf8(v.to_vec()).ok()))
    }
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
