//! Downstream halves that other connections than their own answer (`POST /ack`) or poll.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

use crate::pipeline::downstream::Downstream;
use crate::pipeline::shared::SharedHalf;
use crate::session::Session;

/// The downstream halves of sessions that other connections may answer or poll.
#[derive(Default)]
pub struct Halves(Mutex<HashMap<Arc<str>, Half>>);

enum Half {
    Streaming(Weak<SharedHalf>),
    Polled(Weak<Poller>),
}

impl Halves {
    fn all(&self) -> MutexGuard<'_, HashMap<Arc<str>, Half>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a stream's half reachable.
    pub fn insert(&self, session: &Session, half: &Arc<SharedHalf>) {
        self.all().insert(session.id.clone(), Half::Streaming(Arc::downgrade(half)));
    }

    /// Makes a polled session reachable.
    pub fn insert_poller(&self, session: &Session, poller: &Arc<Poller>) {
        self.all().insert(session.id.clone(), Half::Polled(Arc::downgrade(poller)));
    }

    /// Forgets it.
    pub fn remove(&self, session_id: &str) {
        self.all().remove(session_id);
    }

    /// The half of a session, while it lives.
    #[must_use]
    pub fn of(&self, session_id: &str) -> Option<Arc<SharedHalf>> {
        match self.all().get(session_id)? {
            Half::Streaming(half) => half.upgrade(),
            Half::Polled(poller) => poller.upgrade().map(|poller| poller.half.clone()),
        }
    }

    /// A polled session, while it lives.
    #[must_use]
    pub fn poller(&self, session_id: &str) -> Option<Arc<Poller>> {
        match self.all().get(session_id)? {
            Half::Polled(poller) => poller.upgrade(),
            Half::Streaming(_) => None,
        }
    }
}

/// A session between its polls.
pub struct Poller {
    pub(super) half: Arc<SharedHalf>,
    pub(super) by_client: bool,
    polling: AtomicBool,
    /// Events were lost to retention: the next answer says so.
    pub(super) gap: AtomicBool,
    polled: Mutex<Instant>,
    /// The poll that waits.
    pub(super) waker: AtomicWaker,
}

impl Poller {
    pub(super) fn new(half: Downstream, by_client: bool) -> Arc<Self> {
        Arc::new(Self {
            half: Arc::new(SharedHalf::new(half)),
            by_client,
            polling: AtomicBool::new(false),
            gap: AtomicBool::new(false),
            polled: Mutex::new(Instant::now()),
            waker: AtomicWaker::new(),
        })
    }

    /// Takes the one place for a poll.
    pub(super) fn begin(self: &Arc<Self>) -> Option<Polling> {
        (!self.polling.swap(true, Ordering::AcqRel)).then(|| Polling(self.clone()))
    }

    pub(super) fn idle_for(&self) -> Duration {
        if self.polling.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        self.polled.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// A poll that runs.
pub(super) struct Polling(pub(super) Arc<Poller>);

impl Drop for Polling {
    fn drop(&mut self) {
        *self.0.polled.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.polling.store(false, Ordering::Release);
    }
}
