//! Dead letters: an event that nobody could take, as it was, with what happened to it in headers.

use std::sync::Arc;

use bytes::Bytes;

use super::Leg;
use crate::endpoint::PublishError;
use crate::event::{Event, Header, Origin};

/// What is said of a dead letter.
#[derive(Debug, Clone)]
pub struct Why {
    /// Machine-readable: `rejected`, `max_redeliveries`, `plugin_trap`, ..
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
}

/// Whether the route has a place for this event. One that came from that very place does not go there again: it would be
/// read, and fail, for ever.
#[must_use]
pub fn takes(leg: &Leg, event: &Event) -> bool {
    let Some(to) = &leg.route.config.dead_letter else { return false };
    let from = match &event.origin {
        Origin::Log { topic, .. } => Some(topic),
        Origin::Client { .. } => None,
    };
    !(to.endpoint == *event.source && from.is_some_and(|topic| **topic == *to.address))
}

/// Publishes an event there and waits for the confirm.
///
/// # Errors
/// As the endpoint says; logged and counted here.
pub async fn publish(leg: Leg, event: Arc<Event>, why: Why) -> Result<(), PublishError> {
    let Some(to) = &leg.route.config.dead_letter else {
        return Err(PublishError::Refused(format!("route {:?} has no dead_letter", leg.route.name)));
    };
    let id = event.id.to_string();
    let reason = why.reason.clone();
    let letter = Arc::new(letter(&leg, &event, why));
    let done = match leg.table.load().endpoint(&to.endpoint).cloned() {
        None => Err(PublishError::Unavailable(format!("the dead-letter endpoint {:?} is not there", to.endpoint))),
        Some(handle) => {
            let timeout = leg.route.config.publish_timeout;
            let submitted = handle.endpoint.publish(Some(to.address.as_str().into()), letter, timeout);
            match tokio::time::timeout(timeout, submitted).await {
                Ok(Ok(confirm)) => confirm.await,
                Ok(Err(error)) => Err(error),
                Err(_) => Err(PublishError::Unavailable(format!("endpoint {:?} had no room", to.endpoint))),
            }
        }
    };
    match &done {
        Ok(()) => {
            leg.route.metrics.dead_lettered.inc();
            tracing::warn!(event_id = %id, route = %leg.route.name, reason, endpoint = %to.endpoint,
                address = %to.address, "an event went to the dead letters");
        }
        Err(error) => {
            tracing::error!(event_id = %id, route = %leg.route.name, reason, endpoint = %to.endpoint,
                address = %to.address, %error, "an event could not be put to the dead letters");
        }
    }
    done
}

/// Payload, key and headers unchanged, and the engine's own headers beside them.
fn letter(leg: &Leg, event: &Event, why: Why) -> Event {
    let mut letter = event.clone();
    let client_id = event.client_id.clone().unwrap_or_else(|| leg.facts.client_id.clone());
    let said = [
        ("mediation.reason", why.reason),
        ("mediation.source", event.source.to_string()),
        ("mediation.event_id", event.id.to_string()),
        ("mediation.attempts", why.attempts.to_string()),
        ("mediation.client_id", client_id.to_string()),
    ];
    letter.headers.retain(|header| said.iter().all(|(name, _)| !header.name.eq_ignore_ascii_case(name)));
    let said = said.into_iter().map(|(name, value)| Header { name: name.into(), value: Some(Bytes::from(value)) });
    letter.headers.extend(said);
    letter
}
