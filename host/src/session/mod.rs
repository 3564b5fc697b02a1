//! Sessions: what the rest of the engine may know of one and ask of it.
//!
//! - [`registry`] who is there: lookup by id and client id, durable takeover, closed ids
//! - [`socket`] the client's socket, shared between who reads, who writes and who watches
//! - [`sweeper`] one clock a listener: ticks sessions, finds dead peers, watches sockets that nobody reads
//!
//! The work of a session is done by its own task (`entrypoint`), which owns its socket and its delivery window; a
//! [`Session`] is the handle that others hold. It never touches a broker or a client.

pub mod registry;
pub mod socket;
pub mod sweeper;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime};

use futures_util::task::AtomicWaker;
use tokio::sync::watch;

use crate::endpoint::Address;
use crate::event::now_ms;
use crate::plugin::Facts;
use crate::routing::Route;
use socket::Socket;

/// How long the last commit of a replaced session is awaited before it is dropped.
pub const FLUSH: Duration = Duration::from_secs(5);

/// Something happened that a session has to look at; bits.
pub mod signal {
    /// The sweeper's second has passed.
    pub const TICK: u32 = 1;
    /// The state of the session's endpoint changed.
    pub const BROKER: u32 = 2;
    /// It is asked to end: see [`super::Session::leaving`].
    pub const LEAVE: u32 = 4;
}

/// Why a session is asked to end. Each entrypoint has its own way to say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// The engine stops.
    Drain,
    /// A newer session with the same durable client id.
    Replaced,
    /// The broker went away and the route says `on_broker_loss: close`.
    BrokerLost,
    /// It held up what others could have had.
    TooSlow,
    /// The client was found gone; nothing can be said to it.
    Gone,
    /// Not polled for `idle_timeout`, or unsubscribed.
    Idle,
    /// What it was admitted with is not valid any more.
    Expired,
    /// A reload changed or removed its route.
    RouteChanged,
}

impl Leave {
    /// As a metric label and in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Replaced => "replaced",
            Self::BrokerLost => "broker_lost",
            Self::TooSlow => "too_slow",
            Self::Gone => "gone",
            Self::Idle => "idle",
            Self::Expired => "expired",
            Self::RouteChanged => "route_changed",
        }
    }
}

/// What the admin page calls the state of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Its subscription is not open yet (a held SSE session).
    Opening,
    /// Events flow.
    Live,
    /// The broker is away and the session waits for it.
    Held,
    /// It was asked to end or its client left.
    Ending,
}

/// One partition's place, for the admin page.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Index of the topic.
    pub topic: u16,
    /// The partition.
    pub partition: i32,
    /// The first position not yet given to the client.
    pub given: i64,
    /// The first position not yet settled.
    pub settled: i64,
}

/// Counters that the session's task stores and the admin page loads.
#[derive(Debug, Default)]
pub struct Stats {
    /// Events given to the client, redeliveries included.
    pub delivered: AtomicU64,
    /// Events settled.
    pub settled: AtomicU64,
    /// Permits in use downstream.
    pub held: AtomicU32,
    /// Permits that are free.
    pub free: AtomicU32,
    /// Nacked events that wait to be given again.
    pub waiting: AtomicU32,
    /// When the oldest unsettled event was given: milliseconds after 1970, 0 for none.
    pub oldest_ms: AtomicU64,
    /// Upstream is out of permits: the client's socket is not read.
    pub parked: AtomicBool,
    /// Publishes that are out.
    pub publishing: AtomicU32,
    /// Partitions.
    pub places: Mutex<Vec<Place>>,
}

/// What a session begins with.
pub struct Start {
    /// The entrypoint's name.
    pub entrypoint: Arc<str>,
    /// What it reads.
    pub downstream: Option<Arc<Route>>,
    /// What it writes.
    pub upstream: Option<Arc<Route>>,
    /// Where it reads; None: the endpoint's own.
    pub reads_at: Option<Address>,
    /// Where it writes; None: the endpoint's own.
    pub writes_to: Option<Address>,
    /// Milliseconds since the Unix epoch; 0: never.
    pub expires_at_ms: u64,
    /// The client's socket.
    pub socket: Option<Arc<Socket>>,
    /// Who it is, as plugins see it.
    pub facts: Arc<Facts>,
}

/// See the module's documentation.
pub struct Session {
    /// 128 random bits.
    pub id: Arc<str>,
    /// Given by the client or a resolver, or made up.
    pub client_id: Arc<str>,
    /// The entrypoint's name.
    pub entrypoint: Arc<str>,
    /// What it reads.
    pub downstream: Option<Arc<Route>>,
    /// What it writes.
    pub upstream: Option<Arc<Route>>,
    /// Where it reads; None: the endpoint's own.
    pub reads_at: Option<Address>,
    /// Where it writes; None: the endpoint's own.
    pub writes_to: Option<Address>,
    /// When it ends whatever happens, milliseconds since the Unix epoch; 0: never.
    pub expires_at_ms: u64,
    /// The client's socket; none for `http_get`, whose sessions outlive their connections.
    pub socket: Option<Arc<Socket>>,
    /// What plugins may know of it, in one of its directions: its path, the client's address as trusted proxies say it.
    pub facts: Arc<Facts>,
    /// When it came.
    pub since: SystemTime,
    /// For the admin page.
    pub stats: Stats,
    waker: AtomicWaker,
    signals: AtomicU32,
    leave: OnceLock<(Leave, Instant)>,
    phase: AtomicU8,
    /// Milliseconds after `started` at which the next tick is wanted.
    next_tick: AtomicU64,
    started: Instant,
    released: watch::Sender<bool>,
    /// Whose durable position it takes over, until that one has let go.
    predecessor: Mutex<Option<Arc<Session>>>,
}

impl Session {
    /// A new session; [`registry::Sessions::enter`] makes it known.
    #[must_use]
    pub fn new(start: Start) -> Arc<Self> {
        let Start { entrypoint, downstream, upstream, reads_at, writes_to, expires_at_ms, socket, facts } = start;
        Arc::new(Self {
            id: uuid::Uuid::new_v4().simple().to_string().into(),
            client_id: facts.client_id.clone(),
            entrypoint,
            downstream,
            upstream,
            reads_at,
            writes_to,
            expires_at_ms,
            socket,
            facts,
            since: SystemTime::now(),
            stats: Stats::default(),
            waker: AtomicWaker::new(),
            signals: AtomicU32::new(0),
            leave: OnceLock::new(),
            phase: AtomicU8::new(Phase::Opening as u8),
            next_tick: AtomicU64::new(0),
            started: Instant::now(),
            released: watch::Sender::new(false),
            predecessor: Mutex::default(),
        })
    }

    /// Whoever runs the session calls this in every poll, before it looks at anything.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// The signals since the last call.
    pub fn take_signals(&self) -> u32 {
        self.signals.swap(0, Ordering::AcqRel)
    }

    /// Wakes the session's task, to look at `signal`.
    pub fn notify(&self, signal: u32) {
        self.signals.fetch_or(signal, Ordering::AcqRel);
        self.waker.wake();
    }

    /// Asks it to end; the first reason stands.
    pub fn leave(&self, why: Leave) {
        if self.leave.set((why, Instant::now())).is_ok() {
            self.set_phase(Phase::Ending);
        }
        self.notify(signal::LEAVE);
    }

    /// Why it was asked to end.
    #[must_use]
    pub fn leaving(&self) -> Option<Leave> {
        self.leave.get().map(|(why, _)| *why)
    }

    /// How long ago it was asked to end.
    #[must_use]
    pub fn leaving_for(&self) -> Option<Duration> {
        self.leave.get().map(|(_, since)| since.elapsed())
    }

    /// Its state, for the admin page.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Opening,
            1 => Phase::Live,
            2 => Phase::Held,
            _ => Phase::Ending,
        }
    }

    /// Sets its state; one that ends stays so.
    pub fn set_phase(&self, phase: Phase) {
        if self.leaving().is_none() || phase == Phase::Ending {
            self.phase.store(phase as u8, Ordering::Relaxed);
        }
    }

    /// Whether its time is over.
    #[must_use]
    pub fn has_expired(&self) -> bool {
        self.expires_at_ms != 0 && now_ms().max(0).unsigned_abs() >= self.expires_at_ms
    }

    /// Wants no tick before `after` from now.
    pub fn tick_after(&self, after: Duration) {
        let at = (self.started.elapsed() + after).as_millis();
        self.next_tick.store(u64::try_from(at).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The sweeper's second: wakes the session if it wanted that by now.
    pub fn tick(&self) {
        if u128::from(self.next_tick.load(Ordering::Relaxed)) <= self.started.elapsed().as_millis() {
            self.notify(signal::TICK);
        }
    }

    /// Its downstream half is gone: nothing of it will be settled any more.
    pub fn mark_released(&self) {
        self.released.send_replace(true);
    }

    /// Waits for [`mark_released`](Self::mark_released).
    pub async fn released(&self) {
        let mut watch = self.released.subscribe();
        // The sender lives in self: the wait cannot end early.
        if watch.wait_for(|released| *released).await.is_err() {
            tracing::error!(session_id = %self.id, "a session ended without releasing its subscription");
        }
    }

    /// The routes that it uses.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        [&self.downstream, &self.upstream].into_iter().flatten()
    }

    /// It takes over from `older`.
    fn replace(&self, older: &Arc<Session>) {
        *self.predecessor.lock().unwrap_or_else(PoisonError::into_inner) = Some(older.clone());
    }

    /// Whom it was taking over from; once.
    fn replaced(&self) -> Option<Arc<Session>> {
        self.predecessor.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The places of its partitions, replaced.
    pub fn set_places(&self, places: impl Iterator<Item = Place>) {
        let mut kept = self.stats.places.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clear();
        kept.extend(places);
    }
}
