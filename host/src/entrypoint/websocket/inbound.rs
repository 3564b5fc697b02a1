//! From a client's message to an event, or to answers for events.

use std::sync::Arc;

use bytes::Bytes;

use crate::entrypoint::given::{event_id, from_metadata};
use crate::entrypoint::v1;
use crate::event::now_ms;
use crate::event::{Event, EventId, Header, Origin};
use crate::pipeline::upstream::id_header;
use crate::session::Session;

/// What a message asks for.
pub(super) enum Asked {
    /// An event for the broker.
    Publish(Option<String>, Box<Event>),
    /// Done with these.
    Ack(Vec<String>),
    /// Not done with these; false: never again.
    Nack(Vec<String>, bool),
    /// It makes no sense, in words.
    Nonsense(Option<String>, String),
}

/// A plain message: its bytes are the payload.
pub(super) fn plain(session: &Session, forwarded: &[Header], payload: Bytes) -> Box<Event> {
    let id = EventId::new();
    let mut headers = Vec::with_capacity(forwarded.len() + 1);
    headers.extend_from_slice(forwarded);
    headers.push(id_header(id.to_string()));
    Box::new(Event {
        id,
        source: session.entrypoint.clone(),
        client_id: Some(session.client_id.clone()),
        payload: Some(payload.into()),
        key: None,
        headers,
        properties: None,
        attributes: None,
        origin: Origin::Client { protocol: "websocket" },
        timestamp_ms: now_ms(),
    })
}

/// All that is looked for in a frame that makes no sense.
#[derive(serde::Deserialize)]
struct Reference {
    #[serde(rename = "ref")]
    reference: Option<String>,
}

/// A `mediation.v1` message.
pub(super) fn v1(session: &Arc<Session>, forwarded: &[Header], text: &[u8]) -> Asked {
    let frame: v1::In = match serde_json::from_slice(text) {
        Ok(frame) => frame,
        Err(error) => {
            let reference = serde_json::from_slice::<Reference>(text).ok().and_then(|frame| frame.reference);
            return Asked::Nonsense(reference, format!("not a mediation.v1 frame: {error}"));
        }
    };
    match frame {
        v1::In::Ack { ids } => Asked::Ack(ids),
        v1::In::Nack { ids, requeue } => Asked::Nack(ids, requeue),
        v1::In::Publish { reference, id, payload, payload_base64, metadata } => {
            let made = (|| {
                let mut event = plain(session, forwarded, Bytes::new());
                event.payload = v1::payload(payload, payload_base64)?;
                if let Some(id) = id {
                    event.id = event_id(&id)?;
                    event.headers.truncate(forwarded.len());
                    event.headers.push(id_header(event.id.to_string()));
                }
                let (properties, key) = from_metadata(metadata, &mut event.headers)?;
                (event.properties, event.key) = (properties, key);
                Ok::<_, String>(event)
            })();
            match made {
                Ok(event) => Asked::Publish(reference, event),
                Err(words) => Asked::Nonsense(reference, words),
            }
        }
    }
}
