//! The frames of sub-protocol `mediation.v1`, JSON both ways. `sse?format=json` and JSON polls use its event frame too.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::event::{Event, Payload};

/// Its name in `Sec-WebSocket-Protocol`.
pub const PROTOCOL: &str = "mediation.v1";

/// What the engine sends.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Out<'a> {
    /// First: who the session is, and where it stands before any event.
    Session {
        /// The session.
        session_id: &'a str,
        /// The client.
        client_id: &'a str,
        /// Its first resume token.
        #[serde(skip_serializing_if = "Option::is_none")]
        resume: Option<String>,
    },
    /// An event.
    Event(EventFrame<'a>),
    /// Confirmed by the broker.
    Published {
        /// What the client called it.
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
        /// The event's id.
        id: String,
    },
    /// In the channel: guarantees `none` and `auto`.
    Accepted {
        /// What the client called it.
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
        /// The event's id.
        id: String,
    },
    /// Something that the client may want to know.
    Notice {
        /// `gap`, `broker_lost`, `live`, ..
        code: &'a str,
    },
    /// Something that the client asked for failed.
    Error {
        /// What the client called it.
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
        /// As in HTTP answers.
        code: &'a str,
        /// In words.
        message: String,
    },
}

/// One event.
#[derive(Debug, Serialize)]
pub struct EventFrame<'a> {
    /// Its id.
    pub id: String,
    /// Where a client that has it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<String>,
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    metadata: Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

impl<'a> EventFrame<'a> {
    /// Of an event; a null payload is neither `payload` nor `payload_base64`.
    #[must_use]
    pub fn new(event: &'a Event, redelivered: bool, resume: Option<String>) -> Self {
        let mut metadata = event.metadata();
        if redelivered {
            metadata.push(("mediation.redelivered".to_owned(), "true".to_owned()));
        }
        let (payload, payload_base64) = match &event.payload {
            None => (None, None),
            Some(payload) => text_or_base64(payload.contiguous()),
        };
        Self { id: event.id.to_string(), resume, metadata: Metadata(metadata), payload, payload_base64 }
    }
}

fn text_or_base64(payload: Cow<'_, [u8]>) -> (Option<Cow<'_, str>>, Option<String>) {
    if simdutf8::basic::from_utf8(&payload).is_err() {
        return (None, Some(STANDARD.encode(payload)));
    }
    let text = match payload {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    };
    (Some(text), None)
}

/// Pairs as a JSON object; of a repeated header the first value counts.
#[derive(Debug)]
struct Metadata(Vec<(String, String)>);

impl Metadata {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (at, (key, value)) in self.0.iter().enumerate() {
            if !self.0.iter().take(at).any(|(earlier, _)| earlier == key) {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }
}

/// What clients send.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum In {
    /// An event for the broker.
    Publish {
        /// Comes back with the answer.
        #[serde(rename = "ref")]
        reference: Option<String>,
        /// The event's id, so that a retry is recognisable.
        id: Option<String>,
        /// Text.
        payload: Option<String>,
        /// Anything else.
        payload_base64: Option<String>,
        /// `header.NAME` and the named properties.
        #[serde(default)]
        metadata: std::collections::BTreeMap<String, String>,
    },
    /// Done with these.
    Ack {
        /// Event ids.
        ids: Vec<String>,
    },
    /// Not done with these.
    Nack {
        /// Event ids.
        ids: Vec<String>,
        /// False: never again.
        #[serde(default = "requeue")]
        requeue: bool,
    },
}

fn requeue() -> bool {
    true
}

/// The payload of a publish; neither is a null payload.
///
/// # Errors
/// Says what is wrong.
pub fn payload(text: Option<String>, base64: Option<String>) -> Result<Option<Payload>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err("give payload or payload_base64, not both".to_owned()),
        (Some(text), None) => Ok(Some(bytes::Bytes::from(text).into())),
        (None, Some(coded)) => match STANDARD.decode(coded) {
            Ok(bytes) => Ok(Some(bytes::Bytes::from(bytes).into())),
            Err(error) => Err(format!("payload_base64: {error}")),
        },
        (None, None) => Ok(None),
    }
}

/// As JSON text.
#[must_use]
pub fn encode(frame: &Out<'_>) -> Vec<u8> {
    // Text keys and values only: it cannot fail.
    serde_json::to_vec(frame).unwrap_or_default()
}
