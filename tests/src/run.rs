//! Runs one test, and waits for what comes true by itself. Every test of the suite goes through [`run`].

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// Hard end of a test.
const HARD: Duration = Duration::from_secs(120);
/// How long `eventually` waits. Two busy cores stop a process for a second and more.
const EVENTUALLY: Duration = Duration::from_secs(60);
/// Tests at once.
const AT_ONCE: usize = 4;

thread_local! {
    static OUT_OF_TIME: Cell<bool> = const { Cell::new(false) };
}

/// Whether the test on this thread is failing: then engines and brokers dump what they know as they are dropped.
#[must_use]
pub fn failing() -> bool {
    std::thread::panicking() || OUT_OF_TIME.get()
}

/// Runs a test on a runtime of its own, 120 s at most, four at once.
///
/// # Panics
/// When the test does, or its time is over.
pub fn run(test: impl Future<Output = ()>) {
    run_within(HARD, test);
}

/// As [`run`], for the long forms of `make soak`.
///
/// # Panics
/// When the test does, or its time is over.
pub fn run_within(hard: Duration, test: impl Future<Output = ()>) {
    let _slot = Slot::take();
    let start = Instant::now();
    let _record = Record(start);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    let in_time = runtime.block_on(async {
        let mut test = Box::pin(test);
        let ended = tokio::time::timeout(hard, &mut test).await.is_ok();
        OUT_OF_TIME.set(!ended);
        drop(test);
        ended
    });
    OUT_OF_TIME.set(false);
    runtime.shutdown_background();
    assert!(in_time, "the test did not end within {hard:?}; see the dump above");
}

/// Whether the long forms are asked for (`make soak`).
#[must_use]
pub fn soak() -> bool {
    std::env::var_os("MEDIATION_SOAK").is_some()
}

/// Probes until `Ok`, 60 s at most; the failure prints the last value seen.
///
/// # Panics
/// When the time is over.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + EVENTUALLY;
    loop {
        let last = match probe().await {
            Ok(value) => return value,
            Err(last) => last,
        };
        assert!(Instant::now() < end, "not within {EVENTUALLY:?}: {what}; last seen: {last}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits for something that must come within 60 s.
///
/// # Panics
/// When it does not.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(EVENTUALLY, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {EVENTUALLY:?}: {what}"),
    }
}

/// A name that no other test and no other run uses.
#[must_use]
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

static FREE: Mutex<usize> = Mutex::new(AT_ONCE);
static FREED: Condvar = Condvar::new();

struct Slot;

impl Slot {
    fn take() -> Self {
        let mut free =
            FREED.wait_while(FREE.lock().expect("never poisoned"), |free| *free == 0).expect("never poisoned");
        *free -= 1;
        Self
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *FREE.lock().expect("never poisoned") += 1;
        FREED.notify_one();
    }
}

/// Appends the test's seconds and name to the file that `make test` prints the slowest from.
struct Record(Instant);

impl Drop for Record {
    fn drop(&mut self) {
        let Some(path) = std::env::var_os("MEDIATION_TEST_TIMES") else { return };
        let mut line = String::new();
        let name = std::thread::current().name().unwrap_or("?").to_owned();
        writeln!(line, "{:7.1}  {name}", self.0.elapsed().as_secs_f64()).expect("to a string");
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
            eprintln!("test times: {error}");
        }
    }
}
