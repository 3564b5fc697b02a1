//! The packet log's thread: renders what is queued and writes it, 64 KiB at a time.
//!
//! It may stall as long as stdout does; what does not fit the queue meanwhile is dropped by the senders.

use std::io::{ErrorKind, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;

use super::line::Formatter;
use super::queue::{NAP, Queue};

/// What goes out in one write.
const BUFFER: usize = 64 * 1024;

/// Runs as long as the process.
pub(super) fn run(queue: &Queue, mut out: Output) {
    let mut formatter = Formatter::default();
    let mut rendered = None;
    loop {
        let Some(chunk) = queue.next(rendered.take()) else {
            out.write();
            queue.rest();
            continue;
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        formatter.begin(i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
        let mut entries = chunk.entries.iter();
        for run in &chunk.runs {
            formatter.run(run);
            for entry in entries.by_ref().take(run.entries) {
                formatter.line(&mut out.buffer, entry);
                if out.buffer.len() >= BUFFER {
                    out.write();
                }
            }
        }
        rendered = Some(chunk);
    }
}

/// Where lines go, and what became of it.
pub(super) struct Output {
    sink: Box<dyn Write + Send>,
    buffer: Vec<u8>,
    state: Sink,
    /// The operator was told of the failure that lasts.
    warned: bool,
    dropped: Counter,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sink {
    Whole,
    /// The last write failed inside a line: the next begins on a line of its own.
    Torn,
    /// The reader is gone for good.
    Closed,
}

impl Output {
    pub(super) fn new(sink: Box<dyn Write + Send>, dropped: Counter) -> Self {
        Self { sink, buffer: Vec::with_capacity(BUFFER + 1024), state: Sink::Whole, warned: false, dropped }
    }

    /// Writes the buffer, or gives it up and counts its lines.
    fn write(&mut self) {
        let mut from = 0;
        while let Some(rest) = self.buffer.get(from..).filter(|rest| !rest.is_empty() && self.state != Sink::Closed) {
            let torn = self.state == Sink::Torn;
            match self.sink.write(if torn { b"\n" } else { rest }) {
                Ok(0) => break,
                Ok(_) if torn => self.state = Sink::Whole,
                Ok(count) => {
                    from += count;
                    self.warned = false;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Somebody made the pipe non-blocking; this thread has nothing better to do than to wait.
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(NAP),
                Err(error) => {
                    self.state = self.after(error.kind(), from);
                    if !self.warned {
                        tracing::warn!(%error, "packet log: stdout cannot be written, lines are dropped and counted");
                        self.warned = true;
                    }
                    break;
                }
            }
        }
        let lost = self.buffer.iter().skip(from).filter(|byte| **byte == b'\n').count();
        self.dropped.inc_by(lost as u64);
        self.buffer.clear();
    }

    /// The state after a write that failed with `from` bytes of the buffer out.
    fn after(&self, error: ErrorKind, from: usize) -> Sink {
        if error == ErrorKind::BrokenPipe {
            return Sink::Closed;
        }
        match from.checked_sub(1).and_then(|last| self.buffer.get(last)) {
            None => self.state,
            Some(b'\n') => Sink::Whole,
            Some(_) => Sink::Torn,
        }
    }
}
