//! A client's events on their way to the broker: through the plugins into a bounded channel of publishes that are out,
//! answered in the client's order.
//!
//! Where the broker's client library repeats by itself (librdkafka) it alone does: there is no retry here.
//!
//! - [`Upstream`] a session's half
//! - [`once`] one event of a request (`http_post`)
//! - `parts`, `target` which event goes where; one queue an endpoint

pub mod once;
mod parts;
mod target;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, Stream as _};

use super::generations::Shown;
use super::{Leg, dead_letter};
use crate::config::{Direction, Guarantee};
use crate::endpoint::{Confirm, PublishError};
use crate::event::{Event, EventId, Header, ID_HEADER};
use crate::observe::packet::Record;
use crate::plugin::chain::{Failure, Passed, Passing};
use crate::routing::Route;
use crate::session::Session;
use parts::Part;
use target::Target;

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

/// Why an event of a client did not get where it should.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// It did not pass the plugins.
    #[error("{0}")]
    Plugin(Failure),
    /// A plugin named an endpoint that is not there.
    #[error("route {route:?}: a plugin chose endpoint {endpoint:?}, which is not configured")]
    NoTarget {
        /// What it named.
        endpoint: String,
        /// On which route.
        route: Arc<str>,
    },
    /// A plugin named an address that is none.
    #[error("{0}")]
    BadAddress(String),
    /// An endpoint did not confirm it.
    #[error("endpoint {endpoint:?}: {error}")]
    Publish {
        /// Why.
        error: PublishError,
        /// Which.
        endpoint: Arc<str>,
        /// Endpoints of the same event that did.
        confirmed: Vec<Arc<str>>,
    },
}

impl Refusal {
    /// As a metric label, and as `mediation.reason`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Plugin(failure) => failure.label(),
            Self::NoTarget { .. } => "target_not_found",
            Self::BadAddress(_) => "bad_address",
            Self::Publish { error, .. } => reason(error),
        }
    }
}

/// Submits one event: the outer future is room, the inner one the confirm.
async fn submit(part: Part, deadline: Instant) -> Result<Confirm, PublishError> {
    let Part { event, endpoint, address } = part;
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    // Waiting for room counts too: without this a broker that hangs would hold its clients for ever.
    match tokio::time::timeout(left, endpoint.endpoint.publish(address, event, left)).await {
        Ok(submitted) => submitted,
        Err(_) => Err(PublishError::Unavailable(format!(
            "endpoint {:?} had no room for a publish within publish_timeout; nothing was written",
            endpoint.name
        ))),
    }
}

/// Counts, and logs to the packet log, an event that enters the channel: a line for each publish.
fn entered(leg: &Leg, session_id: &Arc<str>, parts: &[Part], plugins: Option<&Arc<str>>) {
    let route = &leg.route;
    let mut batch = route.packets.batch();
    for Part { event, endpoint, .. } in parts {
        route.metrics.events.inc();
        route.metrics.bytes.inc_by(event.size() as u64);
        batch.push_with(|| Record {
            event_id: event.id.clone(),
            source: event.source.clone(),
            client_id: event.client_id.clone().unwrap_or_else(|| "".into()),
            session_id: session_id.clone(),
            target: endpoint.name.clone(),
            direction: Direction::Upstream,
            payload_bytes: event.payload.as_ref().map_or(0, |p| u32::try_from(p.len()).unwrap_or(u32::MAX)),
            timestamp_ms: event.timestamp_ms,
            plugins: plugins.cloned(),
        });
    }
    batch.send();
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

/// An event whose client has had its answer already did not get there, and the route has no place for it.
fn lost(route: &Route, id: &EventId, refusal: &Refusal) {
    route.metrics.events_lost(refusal.reason()).inc();
    tracing::error!(event_id = %id, route = %route.name, error = %refusal,
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

fn letter_of(refusal: &Refusal) -> dead_letter::Why {
    let reason = match refusal {
        Refusal::Plugin(failure) => failure.reason(),
        other => other.reason().to_owned(),
    };
    dead_letter::Why { reason, attempts: 1 }
}

/// What became of a client's event.
#[derive(Debug)]
pub enum Happened {
    /// It is in the channel.
    Entered {
        /// What the client called it.
        reference: Option<String>,
        /// The event.
        id: EventId,
    },
    /// It is done.
    Done {
        /// What the client called it.
        reference: Option<String>,
        /// The event.
        id: EventId,
        /// None of its publishes failed, or the dead letters have it.
        result: Result<(), Refusal>,
        /// It was in the channel, or the guarantee answers before: what is left is only counted.
        answered: bool,
    },
}

struct Out {
    reference: Option<String>,
    id: EventId,
    /// For the dead letters, where the route has such.
    event: Option<Arc<Event>>,
    bytes: usize,
    /// Publishes that are not confirmed.
    left: usize,
    confirmed: Vec<Arc<str>>,
    refused: Option<Refusal>,
    entered: bool,
    /// On its way to the dead letters.
    letter: bool,
}

type Letter = BoxFuture<'static, (u64, bool)>;

/// A WebSocket session's upstream half, made with its first message.
pub struct Upstream {
    session: Arc<Session>,
    leg: Leg,
    /// The client is told of failures (`mediation.v1`); else they go to the dead letters.
    told: bool,
    /// Read, and in the plugins.
    passing: Option<(Out, BoxFuture<'static, Passed>)>,
    /// Read and not admitted yet: one decoded message, when it had no permit.
    parked: Option<(Out, Arc<Event>)>,
    /// One an endpoint; nearly always there is one.
    targets: Vec<Target>,
    /// In the client's order; the number of the first is `base`.
    out: VecDeque<Out>,
    base: u64,
    entered: VecDeque<(Option<String>, EventId)>,
    letters: Option<FuturesUnordered<Letter>>,
    bytes: usize,
    shown: Shown,
}

impl Upstream {
    /// Of a session with an upstream leg.
    #[must_use]
    pub fn new(session: Arc<Session>, leg: Leg, told: bool) -> Self {
        Self {
            session,
            leg,
            told,
            passing: None,
            parked: None,
            targets: Vec::new(),
            out: VecDeque::new(),
            base: 0,
            entered: VecDeque::new(),
            letters: None,
            bytes: 0,
            shown: Shown::default(),
        }
    }

    /// Whether the client may be read on: nothing is parked.
    #[must_use]
    pub fn may_read(&self) -> bool {
        self.parked.is_none() && self.passing.is_none()
    }

    /// Nothing is out.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.may_read() && self.out.is_empty() && self.entered.is_empty()
    }

    /// Takes one event; it is parked when the channel is full, or a plugin takes its time.
    pub fn push(&mut self, reference: Option<String>, event: Event) {
        let (id, bytes) = (event.id.clone(), event.size());
        let event = Arc::new(event);
        let kept = dead_letter::takes(&self.leg, &event).then(|| event.clone());
        let (confirmed, refused) = (Vec::new(), None);
        let out = Out { reference, id, event: kept, bytes, left: 0, confirmed, refused, entered: false, letter: false };
        self.parked = Some((out, event));
        self.admit();
    }

    fn guarantee(&self) -> Guarantee {
        self.leg.route.config.delivery_guarantee
    }

    fn admit(&mut self) {
        let config = &self.leg.route.config;
        let full =
            self.out.len() >= config.channel_size || (self.bytes >= config.channel_bytes && !self.out.is_empty());
        if self.passing.is_some() || full {
            return;
        }
        let Some((out, event)) = self.parked.take() else { return };
        let chain = self.leg.route.chain.load_full();
        match chain.pass(&event, &self.leg.facts, self.leg.seed) {
            Passing::Ready(passed) => self.passed(out, passed),
            Passing::Later(running) => self.passing = Some((out, running)),
        }
    }

    fn passed(&mut self, mut out: Out, passed: Passed) {
        let Passed { result, generations } = passed;
        let made = match result {
            Ok(outcome) => parts::of(&self.leg, outcome),
            Err(failure) => {
                self.leg.route.metrics.plugin_failed(failure.label()).inc();
                Err(Refusal::Plugin(failure))
            }
        };
        self.bytes += out.bytes;
        let number = self.base + self.out.len() as u64;
        match made {
            Ok(parts) => {
                let plugins = self.shown.of(&generations);
                entered(&self.leg, &self.session.id, &parts, plugins.as_ref());
                if parts.is_empty() {
                    self.leg.route.metrics.plugin_dropped.inc();
                }
                out.entered = true;
                out.left = parts.len();
                self.entered.push_back((out.reference.clone(), out.id.clone()));
                let deadline = Instant::now() + self.leg.route.config.publish_timeout;
                for part in parts {
                    self.target(&part).push(number, part, deadline);
                }
            }
            Err(refusal) => out.refused = Some(refusal),
        }
        self.out.push_back(out);
        self.give_up(number);
    }

    fn target(&mut self, part: &Part) -> &mut Target {
        let at = self.targets.iter().position(|target| Arc::ptr_eq(&target.endpoint, &part.endpoint));
        let at = at.unwrap_or_else(|| {
            self.targets.retain(|target| !target.is_idle());
            self.targets.push(Target::new(part.endpoint.clone()));
            self.targets.len() - 1
        });
        // It has just been found, or put there.
        #[expect(clippy::indexing_slicing, reason = "the index is of an element of this very list")]
        &mut self.targets[at]
    }

    fn find(&mut self, number: u64) -> Option<&mut Out> {
        self.out.get_mut(usize::try_from(number.checked_sub(self.base)?).ok()?)
    }

    /// Whether the client has had its answer, or will not be told.
    fn answered(&self, out: &Out) -> bool {
        match self.guarantee() {
            Guarantee::None => true,
            Guarantee::Auto => out.entered,
            Guarantee::AtMostOnce | Guarantee::AtLeastOnce => false,
        }
    }

    /// All publishes of an event have ended and one failed: to the dead letters, if nobody is told.
    fn give_up(&mut self, number: u64) {
        let (told, guarantee) = (self.told, self.guarantee());
        let Some(out) = self.find(number) else { return };
        let answered = guarantee == Guarantee::None || (guarantee == Guarantee::Auto && out.entered);
        let ended = out.left == 0 && !out.letter;
        let (Some(refusal), Some(event)) = (out.refused.as_ref().filter(|_| ended), &out.event) else { return };
        if told && !answered {
            return;
        }
        let (event, why) = (event.clone(), letter_of(refusal));
        out.letter = true;
        let publishing = dead_letter::publish(self.leg.clone(), event, why);
        let letters = self.letters.get_or_insert_default();
        letters.push(Box::pin(async move { (number, publishing.await.is_ok()) }));
    }

    /// Drives what is out; what happened to each event, in the client's order. Pending also when nothing is out.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Happened> {
        if let Some((out, mut running)) = self.passing.take() {
            match running.as_mut().poll(cx) {
                Poll::Ready(passed) => self.passed(out, passed),
                Poll::Pending => self.passing = Some((out, running)),
            }
        }
        self.poll_publishes(cx);
        self.poll_letters(cx);
        let publishing = u32::try_from(self.out.len()).unwrap_or(u32::MAX);
        self.session.stats.publishing.store(publishing, Ordering::Relaxed);
        if let Some((reference, id)) = self.entered.pop_front() {
            return Poll::Ready(Happened::Entered { reference, id });
        }
        if self.out.front().is_none_or(|out| out.left > 0 || out.letter) {
            return Poll::Pending;
        }
        let Some(out) = self.out.pop_front() else { return Poll::Pending };
        self.base += 1;
        self.bytes = self.bytes.saturating_sub(out.bytes);
        let answered = self.answered(&out);
        let Out { reference, id, refused, .. } = out;
        if let Some(refusal) = refused.as_ref().filter(|_| answered) {
            lost(&self.leg.route, &id, refusal);
        }
        self.admit();
        Poll::Ready(Happened::Done { reference, id, result: refused.map_or(Ok(()), Err), answered })
    }

    fn poll_publishes(&mut self, cx: &mut Context<'_>) {
        for at in 0..self.targets.len() {
            while let Some(Poll::Ready((number, done))) = self.targets.get_mut(at).map(|target| target.poll(cx)) {
                let endpoint = self.targets.get(at).map(|target| target.endpoint.name.clone()).unwrap_or_default();
                settled(&self.leg.route, &done);
                let Some(out) = self.find(number) else { continue };
                out.left = out.left.saturating_sub(1);
                match done {
                    Ok(()) if out.confirmed.contains(&endpoint) => {}
                    Ok(()) => out.confirmed.push(endpoint),
                    Err(error) => {
                        let confirmed = Vec::new();
                        out.refused.get_or_insert(Refusal::Publish { error, endpoint, confirmed });
                    }
                }
                if let (0, Some(Refusal::Publish { confirmed, endpoint, .. })) = (out.left, &mut out.refused) {
                    *confirmed = std::mem::take(&mut out.confirmed);
                    confirmed.retain(|name| name != endpoint);
                }
                self.give_up(number);
            }
        }
    }

    fn poll_letters(&mut self, cx: &mut Context<'_>) {
        while let Some(letters) = &mut self.letters {
            match std::pin::Pin::new(letters).poll_next(cx) {
                Poll::Ready(Some((number, there))) => {
                    if let Some(out) = self.find(number) {
                        out.letter = false;
                        // Once is enough: what they did not take is lost, or the client's to know.
                        out.event = None;
                        if there {
                            out.refused = None;
                        }
                    }
                }
                Poll::Ready(None) => self.letters = None,
                Poll::Pending => return,
            }
        }
    }
}
