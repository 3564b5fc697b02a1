//! What sessions hand to the packet log: a record for each event, a batch at a time.

use std::sync::Arc;

use super::Sampler;
use super::queue::{Chunk, Queue};
use crate::config::Direction;
use crate::event::EventId;

/// One event that passed.
#[derive(Debug, Clone)]
pub struct Record {
    /// Which event.
    pub event_id: EventId,
    /// Name of the entrypoint or endpoint that it came from.
    pub source: Arc<str>,
    /// The session's client.
    pub client_id: Arc<str>,
    /// The session.
    pub session_id: Arc<str>,
    /// Name of the entrypoint or endpoint that it goes to.
    pub target: Arc<str>,
    /// Which way.
    pub direction: Direction,
    /// Length of the payload as it travels.
    pub payload_bytes: u32,
    /// The event's own time.
    pub timestamp_ms: i64,
    /// The plugins that it passed with their generations, as a JSON object; None where there are none.
    pub plugins: Option<Arc<str>>,
}

/// Records on their way to the log. Dropping it sends it, so that no early return loses lines.
#[must_use = "a batch is for filling"]
pub struct Batch<'a> {
    /// None: the log is off.
    queue: Option<&'a Queue>,
    sampler: &'a Sampler,
    chunk: Chunk,
}

impl<'a> Batch<'a> {
    pub(super) fn new(queue: Option<&'a Queue>, sampler: &'a Sampler) -> Self {
        Self { queue, sampler, chunk: Chunk::default() }
    }

    /// Adds a record.
    pub fn push(&mut self, record: Record) {
        self.push_with(|| record);
    }

    /// Adds the record that `make` makes, if the log is on and this event is one of its sample.
    pub fn push_with(&mut self, make: impl FnOnce() -> Record) {
        let Some(queue) = self.queue.filter(|_| self.sampler.wants()) else { return };
        if self.chunk.entries.is_empty() {
            self.chunk = queue.spare();
        }
        self.chunk.push(make());
    }

    /// Hands the records over; does not wait for the writer.
    pub fn send(self) {
        drop(self);
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.filter(|_| !self.chunk.entries.is_empty()) {
            queue.put(std::mem::take(&mut self.chunk));
        }
    }
}
