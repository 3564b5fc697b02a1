//! The engine's own log: JSON lines on stderr, through `tracing`.
//!
//! `main` starts it and keeps the handle. Lines are queued and written by a thread of its own, so that a stalled stderr
//! stops nobody: lines that do not fit are dropped, counted, and owned up to in a line of their own.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// Beats `log_level` where it is set.
pub const VARIABLE: &str = "MEDIATION_LOG";

/// Bytes of lines that wait for the thread, at most.
const CAPACITY: usize = 1024 * 1024;

/// Why the log did not start or did not take a level.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is neither a word nor a filter.
    #[error(
        "{place}: {text:?} is no log level: {reason}; use error, warn, info, debug or trace, or a filter such as info,rdkafka=debug"
    )]
    Level {
        /// `log_level` or the variable's name.
        place: &'static str,
        /// What stands there.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The system gave no thread.
    #[error("the log's thread did not start: {0}")]
    Thread(#[from] io::Error),
    /// Somebody else had set one up.
    #[error("the log was started twice in one process")]
    Twice,
    /// The subscriber is gone.
    #[error("the log has ended")]
    Ended,
}

/// The running log.
pub struct EngineLog {
    filter: reload::Handle<EnvFilter, Registry>,
    queue: Arc<Queue>,
}

impl EngineLog {
    /// Starts the log of this process. `level` is the configuration's `log_level`; `MEDIATION_LOG` overrides it.
    ///
    /// # Errors
    /// When the level does not parse, or on a second call.
    pub fn start(level: &str) -> Result<Self, LogError> {
        let filter = filter(level, std::env::var(VARIABLE).ok())?;
        let queue = Queue::start(Box::new(io::stderr()), CAPACITY)?;
        let (filter, handle) = reload::Layer::new(filter);
        let subscriber = Registry::default().with(filter).with(lines(Arc::clone(&queue)));
        tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
        Ok(Self { filter: handle, queue })
    }

    /// Takes a new `log_level`; `MEDIATION_LOG` still overrides it.
    ///
    /// # Errors
    /// When it does not parse: the old one stays.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        let filter = filter(level, std::env::var(VARIABLE).ok())?;
        self.filter.reload(filter).map_err(|_| LogError::Ended)
    }

    /// Counts the lines that were not written.
    #[must_use]
    pub fn dropped(&self) -> Counter {
        self.queue.dropped.clone()
    }

    /// Waits until what was logged so far is written; false when `timeout` was over first. Blocks the calling thread:
    /// for the end of the process.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> bool {
        self.queue.flush(timeout)
    }
}

/// Whether `level` is one that [`EngineLog::start`] takes: for `check`.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_level(level: &str) -> Result<(), LogError> {
    filter(level, None).map(drop)
}

fn filter(level: &str, variable: Option<String>) -> Result<EnvFilter, LogError> {
    let (place, text) = match variable.filter(|text| !text.trim().is_empty()) {
        Some(text) => (VARIABLE, text),
        None => ("log_level", level.to_owned()),
    };
    let bad = |reason: String| LogError::Level { place, text: text.clone(), reason };
    // A lone word that is no level would be taken as the name of a module.
    let word = text.trim();
    let level = || word.parse::<tracing_subscriber::filter::LevelFilter>();
    if word.is_empty() || (!word.contains(['=', ',', '[']) && level().is_err()) {
        return Err(bad("unknown word".to_owned()));
    }
    EnvFilter::try_new(word).map_err(|error| bad(error.to_string()))
}

fn lines<S>(queue: Arc<Queue>) -> impl tracing_subscriber::Layer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false).with_writer(Lines(queue))
}

struct Lines(Arc<Queue>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

/// Takes one line: the formatter hands it over in one piece.
struct Line<'a>(&'a Queue);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    written: Condvar,
    dropped: Counter,
    capacity: usize,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    writing: bool,
}

impl Queue {
    fn start(sink: Box<dyn Write + Send>, capacity: usize) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            written: Condvar::new(),
            dropped: Counter::default(),
            capacity,
        });
        let theirs = Arc::clone(&queue);
        std::thread::Builder::new().name("engine-log".to_owned()).spawn(move || theirs.run(sink))?;
        Ok(queue)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.bytes + line.len() > self.capacity {
            drop(state);
            self.dropped.inc();
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line.into());
        drop(state);
        self.wake.notify_one();
    }

    /// The thread; it lives as long as the process.
    fn run(&self, mut sink: Box<dyn Write + Send>) {
        let mut told = 0;
        loop {
            let mut state = self.lock();
            state.writing = false;
            if state.lines.is_empty() {
                self.written.notify_all();
            }
            let woken = self.wake.wait_while(state, |state| state.lines.is_empty());
            state = woken.unwrap_or_else(PoisonError::into_inner);
            let line = state.lines.pop_front().unwrap_or_default();
            state.bytes -= line.len();
            state.writing = true;
            drop(state);
            if write(&mut *sink, &line).is_err() {
                self.dropped.inc();
                continue;
            }
            let dropped = self.dropped.get();
            if dropped > told {
                let fields = serde_json::json!({
                    "level": "WARN", "message": "stderr stalled: lines of the engine's log were dropped",
                    "lines": dropped - told, "target": module_path!(),
                });
                if write(&mut *sink, format!("{fields}\n").as_bytes()).is_ok() {
                    told = dropped;
                }
            }
        }
    }

    fn flush(&self, timeout: Duration) -> bool {
        let out = |state: &mut State| state.writing || !state.lines.is_empty();
        let waited = self.written.wait_timeout_while(self.lock(), timeout, out);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// `write_all` that waits where somebody made the pipe non-blocking.
fn write(sink: &mut dyn Write, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match sink.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Hands each write to the test and waits for its leave.
    struct Gate(Sender<Vec<u8>>, Receiver<()>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.1.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_stderr_drops_counts_and_says_so() {
        let (line, lines) = channel();
        let (leave, left) = channel();
        let queue = Queue::start(Box::new(Gate(line, left)), 8).unwrap();
        queue.put(b"first\n");
        assert_eq!(lines.recv().unwrap(), b"first\n");
        // The thread hangs in its write now.
        queue.put(b"second\n");
        queue.put(b"third\n");
        queue.put(b"4th\n");
        assert_eq!(queue.dropped.get(), 2);
        assert!(!queue.flush(Duration::ZERO));
        leave.send(()).unwrap();
        let told: serde_json::Value = serde_json::from_slice(&lines.recv().unwrap()).unwrap();
        assert_eq!(told["lines"], 2);
        leave.send(()).unwrap();
        assert_eq!(lines.recv().unwrap(), b"second\n");
        leave.send(()).unwrap();
        assert!(queue.flush(LONG));
    }

    #[test]
    fn lines_are_flat_json_and_the_level_can_change() {
        let (line, lines_out) = channel();
        let (leave, left) = channel();
        (0..10).for_each(|_| leave.send(()).unwrap());
        let queue = Queue::start(Box::new(Gate(line, left)), CAPACITY).unwrap();
        let (layer, handle) = reload::Layer::new(filter("info", None).unwrap());
        let subscriber = Registry::default().with(layer).with(lines(Arc::clone(&queue)));
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("unheard");
            tracing::info!(port = 8066, name = "a\"b\n", "ready");
            handle.reload(filter("debug", None).unwrap()).unwrap();
            tracing::debug!("heard");
        });
        let first: serde_json::Value = serde_json::from_slice(&lines_out.recv().unwrap()).unwrap();
        assert_eq!(first["message"], "ready");
        assert_eq!(first["level"], "INFO");
        assert_eq!(first["port"], 8066);
        assert_eq!(first["name"], "a\"b\n");
        assert!(first["timestamp"].as_str().unwrap().ends_with('Z'));
        let second: serde_json::Value = serde_json::from_slice(&lines_out.recv().unwrap()).unwrap();
        assert_eq!(second["message"], "heard");
    }

    #[test]
    fn a_level_that_is_none_is_refused_with_its_place() {
        for good in ["error", "WARN", "info", "debug", "trace", "off", "info,rdkafka=debug", "mediation_engine=trace"] {
            assert!(check_level(good).is_ok(), "{good}");
        }
        for bad in ["", "loud", "info,rdkafka=loud", "a=b=c"] {
            let error = check_level(bad).expect_err(bad).to_string();
            assert!(error.starts_with("log_level: ") && error.contains("use error, warn"), "{error}");
        }
        let error = filter("info", Some("loud".to_owned())).unwrap_err().to_string();
        assert!(error.starts_with("MEDIATION_LOG: "), "{error}");
        assert_eq!(filter("info", Some("debug".to_owned())).unwrap().to_string(), "debug");
        assert_eq!(filter("info", Some(" ".to_owned())).unwrap().to_string(), "info");
    }
}
