//! Broker connections: one folder per kind, behind one small trait.
//!
//! Endpoints know no HTTP, entrypoints no brokers; `pipeline` joins the two. `memory` is the reference implementation.

pub mod address;
pub mod kafka;
pub mod memory;
pub mod not_built_in;
pub mod position;
pub mod supervisor;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::event::Event;
use position::ResumeToken;

/// Where to publish to or read from, resolved from the endpoint's configuration (`topic_in`, `topic_out`).
pub type Address = Arc<str>;

/// One configured broker connection. Every method may be called from any task.
pub trait Endpoint: Send + Sync {
    /// Submits an event. The order of the calls of one session is the order at the broker: a caller awaits the outer
    /// future (room in the client library's queue) before it submits the next; the inner one is the broker's confirm.
    /// `timeout` is final: the confirm fails with [`PublishError::TimedOut`] when it is over.
    fn publish(
        &self,
        address: Option<Address>,
        event: Arc<Event>,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Confirm, PublishError>>;

    /// Opens a subscription. Resolved means live: nothing that is published after it is missed.
    fn subscribe(&self, request: Subscribe) -> BoxFuture<'_, Result<Box<dyn Subscription>, SubscribeError>>;

    /// Asks the broker whether it is there. The supervisor calls it; it ends by itself within a few seconds.
    fn check(&self) -> BoxFuture<'_, Result<(), String>>;

    /// Ends the connection; publishes that are out are given until `within`.
    fn close(&self, within: Duration) -> BoxFuture<'_, ()>;
}

/// The broker's confirm of one publish.
pub type Confirm = BoxFuture<'static, Result<(), PublishError>>;

/// What a session asks for.
#[derive(Debug, Clone)]
pub struct Subscribe {
    /// Topic or queue to read, taken literally; None: the endpoint's own.
    pub address: Option<Address>,
    /// Where to go on; beats `start` where its partitions match.
    pub resume: Option<ResumeToken>,
    /// A durable client id: where the position is kept at the broker. A resume token beside it: the earlier counts.
    pub durable: Option<Arc<str>>,
    /// Events the session can hold: what prefetch is set to where there is one.
    pub window: usize,
}

/// A live subscription that a session pulls from. Dropping it releases what it holds at the broker without blocking.
pub trait Subscription: Send {
    /// Appends what is ready, up to the budget, in the broker's order; waits (Pending, waker registered) when nothing
    /// is. Nothing is taken from the broker beyond the budget but what its client library prefetches.
    fn poll_pull(
        &mut self,
        cx: &mut Context<'_>,
        budget: Budget,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<Pulled, Lost>>;

    /// The lanes (partitions) so far; grows when a partition appears, or when its log was made anew (then a later lane of
    /// the same partition stands for it), never shrinks. `Delivery::lane` indexes it.
    fn lanes(&self) -> &[Lane];

    /// Everything of `lane` before `position` is settled; never goes back. Durable positions are committed from here,
    /// coalesced. Cheap, never blocks.
    fn settle(&mut self, lane: usize, position: i64);

    /// Ready when all that was settled so far is known to the broker. `at_most_once` waits for it before the first
    /// write, a takeover before the newer session fetches. Ready at once where nothing is committed.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>>;

    /// What a resume token of this subscription belongs to; None where the endpoint has no log.
    fn scope(&self) -> Option<position::Scope>;
}

/// How much a pull may take.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Events, at least one.
    pub events: usize,
    /// Bytes; the event that passes it is still taken, the next is not.
    pub bytes: usize,
}

/// What a pull brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulled {
    /// At least one delivery was appended.
    Events,
    /// Events were lost to retention before this session read them; it goes on at the log's start. Counted.
    Gap,
}

/// One event on its way to a session.
#[derive(Debug)]
pub struct Delivery {
    /// The event.
    pub event: Event,
    /// Index into [`Subscription::lanes`].
    pub lane: usize,
    /// The first position after this event in its lane.
    pub next: i64,
}

/// One ordered part of a subscription: a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    /// Index of the topic in the endpoint's list.
    pub topic: u16,
    /// The partition.
    pub partition: i32,
    /// The first position that this subscription reads.
    pub start: i64,
}

/// A subscription that ended by itself and for good (deleted topic, fatal client error, lost authorisation).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Lost(pub String);

/// Why a subscription was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The endpoint's configuration names nothing to read.
    #[error("endpoint {0:?} has no topic_in: it can only be published to")]
    NoSource(String),
    /// The broker has no such address: 502 `address_not_found`.
    #[error("{0}")]
    AddressNotFound(String),
    /// The resume token is of another endpoint, other topics or unreadable: 400.
    #[error("{0}")]
    BadToken(String),
    /// The broker refuses: credentials, rights: 502.
    #[error("{0}")]
    Refused(String),
    /// The broker is not there now: 503.
    #[error("{0}")]
    Unavailable(String),
    /// A cap of the engine is reached (`max_dedicated_consumers`): 503.
    #[error("{0}")]
    Full(String),
    /// The kind is not built into this engine: 501 `not_built_in`.
    #[error("{0}")]
    NotBuiltIn(String),
}

/// Why a publish failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Larger than the broker or its client takes: 413.
    #[error("{0}")]
    TooLarge(String),
    /// The broker refuses this event or this client: 422.
    #[error("{0}")]
    Refused(String),
    /// The broker has no such address, or the endpoint names none: 502 `address_not_found`.
    #[error("{0}")]
    AddressNotFound(String),
    /// Not confirmed in `publish_timeout`; it may have been written: 504 `outcome_unknown`.
    #[error("{0}")]
    TimedOut(String),
    /// The broker is not there, nothing was written: 503.
    #[error("{0}")]
    Unavailable(String),
    /// The kind is not built into this engine: 501 `not_built_in`.
    #[error("{0}")]
    NotBuiltIn(String),
}

/// Whether the broker is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not asked yet.
    Connecting,
    /// It answered the last check.
    Up,
    /// It did not.
    Down,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}
