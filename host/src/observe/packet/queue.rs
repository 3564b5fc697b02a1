//! The bounded queue between sessions and the packet log's thread, and the batches that go round in it.
//!
//! One short lock a batch on either side, nothing allocated once enough batches are in circulation, and no wake-up per
//! batch: the thread naps between looks while events flow.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

use super::Record;
use crate::config::Direction;
use crate::event::EventId;

/// How long the thread lets records gather after it has written.
pub(super) const NAP: Duration = Duration::from_millis(5);

/// The part of a record that differs from event to event.
pub(super) struct Entry {
    pub(super) event_id: EventId,
    pub(super) payload_bytes: u32,
    pub(super) timestamp_ms: i64,
}

/// The part that a session's events have in common: kept once, so that its reference counts do not travel between
/// cores for every event.
pub(super) struct Run {
    pub(super) source: Arc<str>,
    pub(super) client_id: Arc<str>,
    pub(super) session_id: Arc<str>,
    pub(super) target: Arc<str>,
    pub(super) direction: Direction,
    pub(super) plugins: Option<Arc<str>>,
    /// How many entries it covers.
    pub(super) entries: usize,
}

impl Run {
    fn covers(&self, record: &Record) -> bool {
        Arc::ptr_eq(&self.session_id, &record.session_id)
            && Arc::ptr_eq(&self.client_id, &record.client_id)
            && Arc::ptr_eq(&self.source, &record.source)
            && Arc::ptr_eq(&self.target, &record.target)
            && self.direction == record.direction
            && match (&self.plugins, &record.plugins) {
                (None, None) => true,
                (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
                _ => false,
            }
    }
}

/// What one batch carries.
#[derive(Default)]
pub(super) struct Chunk {
    pub(super) runs: Vec<Run>,
    pub(super) entries: Vec<Entry>,
}

impl Chunk {
    pub(super) fn push(&mut self, record: Record) {
        match self.runs.last_mut() {
            Some(run) if run.covers(&record) => run.entries += 1,
            _ => self.runs.push(Run {
                source: record.source,
                client_id: record.client_id,
                session_id: record.session_id,
                target: record.target,
                direction: record.direction,
                plugins: record.plugins,
                entries: 1,
            }),
        }
        let (event_id, payload_bytes, timestamp_ms) = (record.event_id, record.payload_bytes, record.timestamp_ms);
        self.entries.push(Entry { event_id, payload_bytes, timestamp_ms });
    }
}

pub(super) struct Queue {
    state: Mutex<State>,
    /// Wakes the thread.
    wake: Condvar,
    /// Wakes who waits in [`Queue::flush`].
    written: Condvar,
    pub(super) dropped: Counter,
    /// Records in the queue at most; what is kept for reuse has the same bound.
    capacity: usize,
}

struct State {
    queue: VecDeque<Chunk>,
    /// Records in `queue` and in the chunk that the thread is at.
    queued: usize,
    spare: Vec<Chunk>,
    /// Room for records in `spare`.
    spare_room: usize,
    /// Records ever taken into the queue, of these rendered, and of these written or given up.
    accepted: u64,
    rendered: u64,
    done: u64,
    thread: Thread,
}

#[derive(PartialEq, Eq)]
enum Thread {
    Working,
    /// Lets records gather: woken only when many have, or by a flush.
    Napping,
    /// Woken by the next record.
    Asleep,
}

impl Queue {
    pub(super) fn new(capacity: usize, dropped: Counter) -> Self {
        let state = State {
            queue: VecDeque::new(),
            queued: 0,
            spare: Vec::new(),
            spare_room: 0,
            accepted: 0,
            rendered: 0,
            done: 0,
            thread: Thread::Working,
        };
        Self { state: Mutex::new(state), wake: Condvar::new(), written: Condvar::new(), dropped, capacity }
    }

    /// An empty chunk, with room where one has been round before.
    pub(super) fn spare(&self) -> Chunk {
        let mut state = self.lock();
        let chunk = state.spare.pop().unwrap_or_default();
        state.spare_room -= chunk.entries.capacity();
        chunk
    }

    /// Hands a chunk to the thread, or drops and counts it.
    pub(super) fn put(&self, chunk: Chunk) {
        let count = chunk.entries.len();
        let mut state = self.lock();
        if state.queued + count > self.capacity {
            state.recycle(chunk, self.capacity);
            drop(state);
            self.dropped.inc_by(count as u64);
            return;
        }
        state.queued += count;
        state.accepted += count as u64;
        state.queue.push_back(chunk);
        let wake = match state.thread {
            Thread::Working => false,
            Thread::Napping => state.queued > self.capacity / 4,
            Thread::Asleep => true,
        };
        if wake {
            state.thread = Thread::Working;
            drop(state);
            self.wake.notify_one();
        }
    }

    /// The next chunk, for the one that is rendered; None when there is no more.
    pub(super) fn next(&self, rendered: Option<Chunk>) -> Option<Chunk> {
        let mut state = self.lock();
        if let Some(chunk) = rendered {
            state.queued -= chunk.entries.len();
            state.rendered += chunk.entries.len() as u64;
            state.recycle(chunk, self.capacity);
        }
        state.queue.pop_front()
    }

    /// Says that all that was rendered is written or given up, then waits for more.
    pub(super) fn rest(&self) {
        let mut state = self.lock();
        state.done = state.rendered;
        self.written.notify_all();
        if !state.queue.is_empty() {
            return;
        }
        state.thread = Thread::Napping;
        let nap = self.wake.wait_timeout_while(state, NAP, |state| state.thread == Thread::Napping);
        state = nap.unwrap_or_else(PoisonError::into_inner).0;
        if state.queue.is_empty() {
            state.thread = Thread::Asleep;
            let sleep = self.wake.wait_while(state, |state| state.thread == Thread::Asleep);
            state = sleep.unwrap_or_else(PoisonError::into_inner);
        }
        state.thread = Thread::Working;
    }

    /// Waits until all that is in the queue now is written or given up; false when `timeout` was over first.
    pub(super) fn flush(&self, timeout: Duration) -> bool {
        let mut state = self.lock();
        let target = state.accepted;
        if state.thread == Thread::Napping {
            state.thread = Thread::Working;
            self.wake.notify_one();
        }
        let waited = self.written.wait_timeout_while(state, timeout, |state| state.done < target);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn recycle(&mut self, mut chunk: Chunk, bound: usize) {
        chunk.runs.clear();
        chunk.entries.clear();
        let room = chunk.entries.capacity();
        if self.spare_room + room <= bound {
            self.spare_room += room;
            self.spare.push(chunk);
        }
    }
}
