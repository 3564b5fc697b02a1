//! One topic: a log bounded in events and bytes, and the readers that wait at its end.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::event::Event;

/// A topic.
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    retain: usize,
    retain_bytes: usize,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    events: VecDeque<Arc<Event>>,
    first: i64,
    bytes: usize,
    waiting: HashMap<u64, Waker>,
}

/// What a read brought.
pub(super) enum Read {
    Events,
    /// Nothing yet; the waker is kept.
    AtEnd,
    /// The position is older than the log, which starts at this one.
    FellOff(i64),
}

impl Topic {
    pub(super) fn new(name: Arc<str>, retain: usize, retain_bytes: usize) -> Self {
        Self { name, retain: retain.max(1), retain_bytes, log: Mutex::default() }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn first(&self) -> i64 {
        self.log().first
    }

    pub(super) fn end(&self) -> i64 {
        let log = self.log();
        log.first + log.events.len() as i64
    }

    pub(super) fn append(&self, event: Arc<Event>) {
        let mut log = self.log();
        log.bytes += event.size();
        log.events.push_back(event);
        while log.events.len() > self.retain || (log.bytes > self.retain_bytes && log.events.len() > 1) {
            if let Some(oldest) = log.events.pop_front() {
                log.bytes -= oldest.size();
                log.first += 1;
            }
        }
        let waiting = std::mem::take(&mut log.waiting);
        drop(log);
        for (_, waker) in waiting {
            waker.wake();
        }
    }

    /// Gives events from `position` on until `take` has had enough.
    pub(super) fn read(
        &self,
        reader: u64,
        position: i64,
        waker: &Waker,
        mut take: impl FnMut(i64, &Arc<Event>) -> bool,
    ) -> Read {
        let mut log = self.log();
        if position < log.first {
            return Read::FellOff(log.first);
        }
        let from = usize::try_from(position - log.first).unwrap_or(usize::MAX);
        if from >= log.events.len() {
            log.waiting.insert(reader, waker.clone());
            return Read::AtEnd;
        }
        for (offset, event) in (position..).zip(log.events.range(from..)) {
            if !take(offset, event) {
                break;
            }
        }
        Read::Events
    }

    pub(super) fn leave(&self, reader: u64) {
        self.log().waiting.remove(&reader);
    }
}
