//! The packet log: one JSON line on stdout for each event and direction.
//!
//! Sessions hand over batches of small records; one thread renders and writes them. It holds nobody up: a full queue or
//! a stalled stdout drops lines and counts them (`mediation_packet_log_dropped_total`), never events. So it is no audit
//! trail, unless whoever reads stdout keeps up.
//!
//! - [`batch`] what sessions fill
//! - [`queue`] between sessions and the thread
//! - [`writer`] the thread
//! - [`line`] how a line looks

mod batch;
mod line;
mod queue;
mod writer;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

pub use batch::{Batch, Record};
use queue::Queue;

/// Records that wait for the thread, at most: 3 MiB.
const CAPACITY: usize = 65_536;

/// Which events are logged: every nth; 0 is none.
struct Sampler {
    every: AtomicU64,
    seen: AtomicU64,
}

impl Sampler {
    fn new(every: u32) -> Arc<Self> {
        Arc::new(Self { every: AtomicU64::new(u64::from(every)), seen: AtomicU64::new(0) })
    }

    /// Whether the event that just passed is one of those to be logged.
    fn wants(&self) -> bool {
        match self.every.load(Ordering::Relaxed) {
            0 => false,
            1 => true,
            every => self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(every),
        }
    }
}

/// The handle that sessions hold; clones are one log.
#[derive(Clone)]
pub struct PacketLog {
    /// None: switched off.
    queue: Option<Arc<Queue>>,
    sampler: Arc<Sampler>,
    dropped: Counter,
}

impl PacketLog {
    /// Starts the thread that writes to stdout. `sample`: every nth event is logged; 0 counts as 1.
    ///
    /// # Errors
    /// When the system gives no thread or no descriptor.
    pub fn start(enabled: bool, sample: u32) -> io::Result<Self> {
        if !enabled {
            return Ok(Self::off());
        }
        // A descriptor of its own: std's stdout has a lock that a stalled write would hold, and a line buffer.
        let stdout = io::stdout().as_fd().try_clone_to_owned()?;
        Self::start_on(Box::new(File::from(stdout)), sample, CAPACITY)
    }

    /// A log that takes everything and writes nothing.
    #[must_use]
    pub fn off() -> Self {
        Self { queue: None, sampler: Sampler::new(1), dropped: Counter::default() }
    }

    fn start_on(sink: Box<dyn Write + Send>, sample: u32, capacity: usize) -> io::Result<Self> {
        let dropped = Counter::default();
        let queue = Arc::new(Queue::new(capacity, dropped.clone()));
        let out = writer::Output::new(sink, dropped.clone());
        let theirs = Arc::clone(&queue);
        std::thread::Builder::new().name("packet-log".to_owned()).spawn(move || writer::run(&theirs, out))?;
        Ok(Self { queue: Some(queue), sampler: Sampler::new(sample.max(1)), dropped })
    }

    /// The same log for events that are sampled on their own: a route's.
    #[must_use]
    pub fn sampled(&self, enabled: bool, sample: u32) -> Self {
        let every = if enabled { sample.max(1) } else { 0 };
        Self { queue: self.queue.clone(), sampler: Sampler::new(every), dropped: self.dropped.clone() }
    }

    /// What this handle and its clones log from now on; one that was made by [`off`](Self::off) stays off.
    pub fn set(&self, enabled: bool, sample: u32) {
        let every = if enabled { u64::from(sample.max(1)) } else { 0 };
        self.sampler.every.store(every, Ordering::Relaxed);
    }

    /// A batch to fill; costs nothing until the first record.
    pub fn batch(&self) -> Batch<'_> {
        Batch::new(self.queue.as_deref(), &self.sampler)
    }

    /// Counts the lines that were not written.
    #[must_use]
    pub fn dropped(&self) -> Counter {
        self.dropped.clone()
    }

    /// Waits until what was sent so far is written or given up; false when `timeout` was over first. Blocks the calling
    /// thread: for the end of the process.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> bool {
        self.queue.as_ref().is_none_or(|queue| queue.flush(timeout))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::config::Direction;
    use crate::event::EventId;

    const LONG: Duration = Duration::from_secs(60);

    /// Keeps what is written; asks `gate`, where there is one, before each write.
    struct Kept {
        written: Arc<Mutex<Vec<u8>>>,
        gate: Option<(Sender<()>, Receiver<io::Result<usize>>)>,
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut count = bytes.len();
            if let Some((entered, answer)) = &self.gate {
                entered.send(()).unwrap();
                // The test has ended: as if all were well.
                count = answer.recv().unwrap_or(Ok(count))?.min(count);
            }
            self.written.lock().unwrap().extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Fixture {
        log: PacketLog,
        written: Arc<Mutex<Vec<u8>>>,
        entered: Receiver<()>,
        answer: Sender<io::Result<usize>>,
    }

    fn gated(capacity: usize) -> Fixture {
        let (enter, entered) = channel();
        let (answer, answered) = channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Kept { written: Arc::clone(&written), gate: Some((enter, answered)) };
        let log = PacketLog::start_on(Box::new(sink), 1, capacity).unwrap();
        Fixture { log, written, entered, answer }
    }

    fn open(sample: u32) -> (PacketLog, Arc<Mutex<Vec<u8>>>) {
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Kept { written: Arc::clone(&written), gate: None };
        (PacketLog::start_on(Box::new(sink), sample, CAPACITY).unwrap(), written)
    }

    fn lines(written: &Mutex<Vec<u8>>) -> Vec<serde_json::Value> {
        let bytes = written.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    fn record(offset: i64) -> Record {
        Record {
            event_id: EventId::Log { topic: "t".into(), partition: 0, offset },
            source: "kafka-main".into(),
            client_id: "c".into(),
            session_id: "s".into(),
            target: "ws-inbound".into(),
            direction: Direction::Downstream,
            payload_bytes: 5,
            timestamp_ms: 1_709_251_199_007,
            plugins: None,
        }
    }

    fn send(log: &PacketLog, offsets: std::ops::Range<i64>) {
        let mut batch = log.batch();
        offsets.for_each(|offset| batch.push(record(offset)));
        batch.send();
    }

    #[test]
    fn a_line_has_every_field_of_the_format() {
        let (log, written) = open(1);
        send(&log, 7..8);
        assert!(log.flush(LONG));
        let mut lines = lines(&written);
        let time = lines[0]["time"].take();
        assert!(time.as_str().unwrap().ends_with('Z') && time.as_str().unwrap().len() == 24, "{time}");
        let expected = serde_json::json!({
            "time": null, "level": "info", "msg": "packet", "event_id": "t-0-7", "source_id": "kafka-main",
            "client_id": "c", "session_id": "s", "target": "ws-inbound", "direction": "downstream",
            "payload_bytes": 5, "timestamp": "2024-02-29T23:59:59.007Z",
        });
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn hostile_ids_stay_inside_their_json_strings() {
        let hostile: Arc<str> = "a\"b\\c\n\r\t\0\u{1f}\u{7f}\u{2028}é~%{}".into();
        let ids = [
            EventId::Log { topic: Arc::clone(&hostile), partition: i32::MIN, offset: i64::MIN },
            EventId::Text(Arc::clone(&hostile)),
            EventId::new(),
        ];
        let (log, written) = open(1);
        let mut batch = log.batch();
        for event_id in &ids {
            let (source, client_id) = (Arc::clone(&hostile), Arc::clone(&hostile));
            let (session_id, target) = (Arc::clone(&hostile), Arc::clone(&hostile));
            let direction = Direction::Upstream;
            let event_id = event_id.clone();
            batch.push(Record { event_id, source, client_id, session_id, target, direction, ..record(0) });
        }
        batch.send();
        assert!(log.flush(LONG));
        let lines = lines(&written);
        assert_eq!(lines.len(), 3);
        for (line, id) in lines.iter().zip(&ids) {
            assert_eq!(line["event_id"], id.to_string());
            for key in ["source_id", "client_id", "session_id", "target"] {
                assert_eq!(line[key], *hostile, "{key}");
            }
            assert_eq!(line["direction"], "upstream");
        }
    }

    #[test]
    fn a_stalled_stdout_drops_and_counts_and_holds_nobody_up() {
        let Fixture { log, written, entered, answer } = gated(8);
        send(&log, 0..4);
        entered.recv_timeout(LONG).unwrap();
        // The thread hangs in its write now.
        send(&log, 4..8);
        send(&log, 8..12);
        send(&log, 12..16);
        assert_eq!(log.dropped().get(), 4);
        assert!(!log.flush(Duration::ZERO));
        answer.send(Ok(usize::MAX)).unwrap();
        entered.recv_timeout(LONG).unwrap();
        answer.send(Ok(usize::MAX)).unwrap();
        assert!(log.flush(LONG));
        let ids: Vec<_> = lines(&written).iter().map(|line| line["event_id"].to_string()).collect();
        assert_eq!(ids, (0..12).map(|offset| format!("\"t-0-{offset}\"")).collect::<Vec<_>>());
        assert_eq!(log.dropped().get(), 4);
    }

    #[test]
    fn a_closed_stdout_ends_the_writing_and_nothing_else() {
        let Fixture { log, written, entered, answer } = gated(8);
        send(&log, 0..4);
        entered.recv_timeout(LONG).unwrap();
        answer.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        assert!(log.flush(LONG));
        assert_eq!(log.dropped().get(), 4);
        send(&log, 4..8);
        assert!(log.flush(LONG));
        assert_eq!(log.dropped().get(), 8);
        assert!(entered.try_recv().is_err(), "no write after the pipe broke");
        assert!(lines(&written).is_empty());
    }

    #[test]
    fn after_a_full_disk_the_next_line_begins_on_a_line_of_its_own() {
        let Fixture { log, written, entered, answer } = gated(8);
        send(&log, 0..2);
        entered.recv_timeout(LONG).unwrap();
        answer.send(Ok(10)).unwrap();
        entered.recv_timeout(LONG).unwrap();
        answer.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        assert!(log.flush(LONG));
        assert_eq!(log.dropped().get(), 2);
        send(&log, 2..3);
        for _ in 0..2 {
            entered.recv_timeout(LONG).unwrap();
            answer.send(Ok(usize::MAX)).unwrap();
        }
        assert!(log.flush(LONG));
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let (torn, whole) = text.split_once('\n').unwrap();
        assert_eq!(torn.len(), 10);
        assert_eq!(serde_json::from_str::<serde_json::Value>(whole).unwrap()["event_id"], "t-0-2");
    }

    #[test]
    fn interrupted_and_short_writes_are_continued() {
        let Fixture { log, written, entered, answer } = gated(8);
        send(&log, 0..2);
        for step in [Err(io::ErrorKind::Interrupted.into()), Ok(3), Err(io::ErrorKind::WouldBlock.into()), Ok(999)] {
            entered.recv_timeout(LONG).unwrap();
            answer.send(step).unwrap();
        }
        drop(answer);
        assert!(log.flush(LONG));
        assert_eq!(lines(&written).len(), 2);
        assert_eq!(log.dropped().get(), 0);
    }

    #[test]
    fn a_sample_of_three_logs_every_third_event_across_batches() {
        let (log, written) = open(3);
        send(&log, 0..4);
        send(&log, 4..8);
        assert!(log.flush(LONG));
        let ids: Vec<_> = lines(&written).iter().map(|line| line["event_id"].to_string()).collect();
        assert_eq!(ids, ["\"t-0-0\"", "\"t-0-3\"", "\"t-0-6\""]);
    }

    #[test]
    fn each_line_of_a_batch_names_its_own_session_and_direction() {
        let (log, written) = open(1);
        let same = record(0);
        let mut batch = log.batch();
        batch.push(same.clone());
        batch.push(Record { session_id: "other".into(), ..same.clone() });
        batch.push(Record { direction: Direction::Upstream, ..same.clone() });
        batch.push(same.clone());
        batch.push(same);
        batch.send();
        assert!(log.flush(LONG));
        let lines = lines(&written);
        let seen: Vec<_> = lines.iter().map(|line| (line["session_id"].as_str(), line["direction"].as_str())).collect();
        let (down, up) = (Some("downstream"), Some("upstream"));
        let (s, other) = (Some("s"), Some("other"));
        assert_eq!(seen, [(s, down), (other, down), (s, up), (s, down), (s, down)]);
    }

    #[test]
    fn a_log_that_is_off_makes_no_records() {
        let log = PacketLog::off();
        let mut batch = log.batch();
        batch.push_with(|| panic!("made"));
        batch.send();
        assert!(log.flush(Duration::ZERO));
    }

    #[test]
    fn many_senders_lose_no_line() {
        let (log, written) = open(1);
        std::thread::scope(|scope| {
            for sender in 0..4 {
                let log = &log;
                scope.spawn(move || (0..500).for_each(|n| send(log, sender * 10_000 + n..sender * 10_000 + n + 1)));
            }
        });
        assert!(log.flush(LONG));
        assert_eq!(lines(&written).len() as u64 + log.dropped().get(), 2000);
        assert_eq!(log.dropped().get(), 0);
    }

    /// Not a test: prints what a record costs its session and what a line costs the thread.
    /// `cargo test -p mediation-engine packet::tests::cost -- --ignored --nocapture`
    #[test]
    #[ignore = "a measurement"]
    fn cost() {
        let log = PacketLog::start_on(Box::new(io::sink()), 1, CAPACITY).unwrap();
        let template = record(0);
        const ROUNDS: u32 = 20_000;
        const BATCH: u32 = 32;
        let mut pushing = Duration::ZERO;
        let start = std::time::Instant::now();
        for round in 0..ROUNDS {
            let begun = std::time::Instant::now();
            let mut batch = log.batch();
            for _ in 0..BATCH {
                batch.push_with(|| template.clone());
            }
            batch.send();
            pushing += begun.elapsed();
            if round % 500 == 499 {
                assert!(log.flush(LONG));
            }
        }
        let count = ROUNDS * BATCH;
        let all = start.elapsed();
        println!("a record in a batch of {BATCH}: {:?}; with its line: {:?}", pushing / count, all / count);
        println!("dropped {}", log.dropped().get());
    }
}
