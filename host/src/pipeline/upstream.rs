//! A client's events on their way to the broker: a bounded channel of publishes that are out, answered in order.
//!
//! Where the broker's client library repeats by itself (librdkafka) it alone does: there is no retry here.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, Stream as _};

use crate::config::{Direction, Guarantee};
use crate::endpoint::{Confirm, PublishError};
use crate::event::{Event, EventId, Header, ID_HEADER};
use crate::observe::packet::Record;
use crate::routing::Route;
use crate::session::Session;

/// Whether the guarantee answers the client only after the broker's confirm.
#[must_use]
pub fn confirms(guarantee: Guarantee) -> bool {
    matches!(guarantee, Guarantee::AtMostOnce | Guarantee::AtLeastOnce)
}

/// The header that makes an event recognisable when its client sends it again.
#[must_use]
pub fn id_header(id: impl Into<Bytes>) -> Header {
    Header { name: ID_HEADER.into(), value: Some(id.into()) }
}

/// Submits one event: the outer future is room, the inner one the confirm.
async fn submit(route: Arc<Route>, event: Arc<Event>) -> Result<Confirm, PublishError> {
    let timeout = route.config.publish_timeout;
    // Waiting for room counts too: without this a broker that hangs would hold its clients for ever.
    match tokio::time::timeout(timeout, route.endpoint.endpoint.publish(None, event, timeout)).await {
        Ok(submitted) => submitted,
        Err(_) => Err(PublishError::Unavailable(format!(
            "endpoint {:?} had no room for a publish in {timeout:?}; nothing was written",
            route.endpoint.name
        ))),
    }
}

/// Counts, and logs to the packet log, an event that enters the channel.
pub fn entered(route: &Route, session_id: &Arc<str>, event: &Event) {
    route.metrics.events.inc();
    route.metrics.bytes.inc_by(event.size() as u64);
    let mut batch = route.packets.batch();
    batch.push_with(|| Record {
        event_id: event.id.clone(),
        source: event.source.clone(),
        client_id: event.client_id.clone().unwrap_or_else(|| "".into()),
        session_id: session_id.clone(),
        target: route.endpoint.name.clone(),
        direction: Direction::Upstream,
        payload_bytes: event.payload.as_ref().map_or(0, |p| u32::try_from(p.len()).unwrap_or(u32::MAX)),
        timestamp_ms: event.timestamp_ms,
    });
    batch.send();
}

/// Publishes one event and waits for the broker's confirm.
///
/// # Errors
/// As the endpoint says; counted here.
pub async fn publish(route: Arc<Route>, event: Arc<Event>) -> Result<(), PublishError> {
    let done = match submit(route.clone(), event).await {
        Ok(confirm) => confirm.await,
        Err(error) => Err(error),
    };
    settled(&route, &done);
    done
}

fn settled(route: &Route, done: &Result<(), PublishError>) {
    match done {
        Ok(()) => {
            route.metrics.acked.inc();
        }
        Err(error) => {
            route.metrics.publish_failed(reason(error)).inc();
        }
    }
}

/// An event whose client has had its answer already could not be published.
pub fn lost(route: &Route, id: &EventId, error: &PublishError) {
    route.metrics.events_lost(reason(error)).inc();
    tracing::error!(event_id = %id, route = %route.name, endpoint = %route.endpoint.name, %error,
        "an event that its client was told is accepted could not be published");
}

fn reason(error: &PublishError) -> &'static str {
    match error {
        PublishError::TooLarge(_) => "too_large",
        PublishError::Refused(_) => "refused",
        PublishError::AddressNotFound(_) => "address_not_found",
        PublishError::TimedOut(_) => "timed_out",
        PublishError::Unavailable(_) => "unavailable",
        PublishError::NotBuiltIn(_) => "not_built_in",
    }
}

/// What became of one publish.
#[derive(Debug)]
pub struct Outcome {
    /// What the client called it.
    pub reference: Option<String>,
    /// The event.
    pub id: EventId,
    /// The broker's answer.
    pub result: Result<(), PublishError>,
}

struct Out {
    reference: Option<String>,
    id: EventId,
    bytes: usize,
}

/// A WebSocket session's upstream half, made with its first message.
pub struct Upstream {
    session: Arc<Session>,
    route: Arc<Route>,
    /// At most one is waiting for room, so that the client's order holds.
    submitting: Option<(Out, BoxFuture<'static, Result<Confirm, PublishError>>)>,
    /// Read and not submitted yet: one decoded message, when it had no permit.
    parked: Option<(Out, Arc<Event>)>,
    confirming: FuturesOrdered<Confirm>,
    out: VecDeque<Out>,
    failed: VecDeque<(usize, Out, PublishError)>,
    bytes: usize,
}

impl Upstream {
    /// Of a session with an upstream route.
    #[must_use]
    pub fn new(session: Arc<Session>, route: Arc<Route>) -> Self {
        Self {
            session,
            route,
            submitting: None,
            parked: None,
            confirming: FuturesOrdered::new(),
            out: VecDeque::new(),
            failed: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Whether the client may be read on: nothing is parked.
    #[must_use]
    pub fn may_read(&self) -> bool {
        self.parked.is_none()
    }

    /// Nothing is out.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.parked.is_none() && self.submitting.is_none() && self.out.is_empty() && self.failed.is_empty()
    }

    /// Takes one event; it is parked when the channel is full.
    pub fn push(&mut self, reference: Option<String>, event: Event) {
        let out = Out { reference, id: event.id.clone(), bytes: event.size() };
        self.parked = Some((out, Arc::new(event)));
        self.admit();
    }

    fn in_flight(&self) -> usize {
        self.out.len() + self.failed.len() + usize::from(self.submitting.is_some())
    }

    fn admit(&mut self) {
        if self.submitting.is_some() || self.in_flight() >= self.route.config.channel_size {
            return;
        }
        if self.bytes >= self.route.config.channel_bytes && self.in_flight() > 0 {
            return;
        }
        if let Some((out, event)) = self.parked.take() {
            self.bytes += out.bytes;
            entered(&self.route, &self.session.id, &event);
            let submitting: BoxFuture<'static, _> = Box::pin(submit(self.route.clone(), event));
            self.submitting = Some((out, submitting));
        }
    }

    /// Drives what is out; gives outcomes in the client's order. Pending also when nothing is out.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        loop {
            if let Some((_, submitting)) = &mut self.submitting
                && let Poll::Ready(done) = submitting.as_mut().poll(cx)
                && let Some((out, _)) = self.submitting.take()
            {
                match done {
                    Ok(confirm) => {
                        self.confirming.push_back(confirm);
                        self.out.push_back(out);
                    }
                    // It failed behind those that are still out: its turn comes after them.
                    Err(error) => self.failed.push_back((self.out.len(), out, error)),
                }
                self.admit();
                continue;
            }
            let outcome = self.poll_outcome(cx);
            if outcome.is_ready() {
                self.admit();
            }
            let publishing = u32::try_from(self.in_flight()).unwrap_or(u32::MAX);
            self.session.stats.publishing.store(publishing, Ordering::Relaxed);
            return outcome;
        }
    }

    fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        if self.failed.front().is_some_and(|(behind, ..)| *behind == 0)
            && let Some((_, out, error)) = self.failed.pop_front()
        {
            return Poll::Ready(self.outcome(out, Err(error)));
        }
        if self.out.is_empty() {
            return Poll::Pending;
        }
        match Pin::new(&mut self.confirming).poll_next(cx) {
            Poll::Ready(Some(result)) => match self.out.pop_front() {
                Some(out) => {
                    for (behind, ..) in &mut self.failed {
                        *behind = behind.saturating_sub(1);
                    }
                    Poll::Ready(self.outcome(out, result))
                }
                None => Poll::Pending,
            },
            _ => Poll::Pending,
        }
    }

    fn outcome(&mut self, out: Out, result: Result<(), PublishError>) -> Outcome {
        self.bytes = self.bytes.saturating_sub(out.bytes);
        settled(&self.route, &result);
        if let Err(error) = &result
            && !confirms(self.route.config.delivery_guarantee)
        {
            lost(&self.route, &out.id, error);
        }
        Outcome { reference: out.reference, id: out.id, result }
    }
}
