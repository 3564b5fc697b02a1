//! One supervisor an endpoint: asks the broker whether it is there and tells those who watch.
//!
//! `engine` starts [`supervise`] once an endpoint; endpoints report what looks wrong with [`Status::suspect`]. It opens
//! and repairs nothing: client libraries reconnect by themselves, sessions are told by `on_change`.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::{Endpoint, State};

/// How often a broker that is up is asked.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// A suspicion right after a check waits this long: a client library that complains without end is not a check storm.
const CHECK_AT_MOST_EVERY: Duration = Duration::from_millis(500);
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MOST: Duration = Duration::from_secs(5);
/// A broker that was up is away only once it failed two checks, this far apart.
const SECOND_OPINION: Duration = Duration::from_millis(300);
/// Checks end by themselves; one that does not counts as failed.
const CHECK_LIMIT: Duration = Duration::from_secs(15);

/// Whether an endpoint's broker is there; one value an endpoint, read by sessions and the admin listener.
#[derive(Debug)]
pub struct Status {
    name: Arc<str>,
    state: AtomicU8,
    facts: Mutex<Facts>,
    suspect: Notify,
}

#[derive(Debug)]
struct Facts {
    since: Instant,
    error: Option<String>,
}

impl Status {
    /// Of the endpoint of that name; `Connecting` until the first check.
    #[must_use]
    pub fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            state: AtomicU8::new(State::Connecting as u8),
            facts: Mutex::new(Facts { since: Instant::now(), error: None }),
            suspect: Notify::new(),
        })
    }

    /// The endpoint's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What the last check said.
    #[must_use]
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            x if x == State::Up as u8 => State::Up,
            x if x == State::Down as u8 => State::Down,
            _ => State::Connecting,
        }
    }

    /// Why the last failed check failed; kept after the broker is back.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        self.facts().error.clone()
    }

    /// How long it has been in its state.
    #[must_use]
    pub fn lasting(&self) -> Duration {
        self.facts().since.elapsed()
    }

    /// Something looks wrong: have it checked at once. Cheap, may be called for every error.
    pub fn suspect(&self) {
        self.suspect.notify_one();
    }

    /// Whether the state is another than before.
    fn set(&self, result: &Result<(), String>) -> Option<State> {
        let state = if result.is_ok() { State::Up } else { State::Down };
        let mut facts = self.facts();
        if let Err(reason) = result {
            facts.error = Some(reason.clone());
        }
        if self.state.swap(state as u8, Ordering::AcqRel) == state as u8 {
            return None;
        }
        facts.since = Instant::now();
        Some(state)
    }

    fn facts(&self) -> std::sync::MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks the endpoint until `shutdown` turns true or its sender is gone; every transition is logged and told once.
pub async fn supervise(
    endpoint: Arc<dyn Endpoint>,
    status: Arc<Status>,
    on_change: Arc<dyn Fn(State) + Send + Sync>,
    mut shutdown: watch::Receiver<bool>,
) {
    tokio::select! {
        _ = shutdown.wait_for(|stop| *stop) => {}
        () = watch_over(endpoint, &status, on_change) => {}
    }
}

async fn watch_over(endpoint: Arc<dyn Endpoint>, status: &Status, on_change: Arc<dyn Fn(State) + Send + Sync>) {
    let mut backoff = BACKOFF_FIRST;
    loop {
        let mut result = check(&*endpoint).await;
        if result.is_err() && status.state() == State::Up {
            // One broker of several that hangs may be the one that was asked: the client asks another the second time.
            sleep(SECOND_OPINION).await;
            result = check(&*endpoint).await;
        }
        if let Some(state) = status.set(&result) {
            match &result {
                Ok(()) => tracing::info!(endpoint = %status.name, "the broker is up"),
                Err(reason) => tracing::warn!(endpoint = %status.name, %reason, "the broker is down"),
            }
            on_change(state);
        }
        if result.is_ok() {
            backoff = BACKOFF_FIRST;
            sleep(CHECK_AT_MOST_EVERY).await;
            tokio::select! {
                () = sleep(CHECK_EVERY - CHECK_AT_MOST_EVERY) => {}
                () = status.suspect.notified() => {}
            }
        } else {
            sleep(jittered(backoff)).await;
            backoff = (backoff * 2).min(BACKOFF_MOST);
        }
    }
}

async fn check(endpoint: &dyn Endpoint) -> Result<(), String> {
    match timeout(CHECK_LIMIT, endpoint.check()).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {} s", CHECK_LIMIT.as_secs())),
    }
}

/// Between half and all of it: a fleet of engines does not come back in one wave.
pub(super) fn jittered(backoff: Duration) -> Duration {
    backoff.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::future::BoxFuture;

    use super::super::{Address, Confirm, PublishError, Subscribe, SubscribeError, Subscription};
    use super::*;
    use crate::event::Event;

    #[derive(Default)]
    struct Double {
        down: std::sync::atomic::AtomicBool,
        checks: AtomicUsize,
    }

    impl Endpoint for Double {
        fn publish(
            &self,
            _: Option<Address>,
            _: Arc<Event>,
            _: Duration,
        ) -> BoxFuture<'_, Result<Confirm, PublishError>> {
            unimplemented!()
        }
        fn subscribe(&self, _: Subscribe) -> BoxFuture<'_, Result<Box<dyn Subscription>, SubscribeError>> {
            unimplemented!()
        }
        fn check(&self) -> BoxFuture<'_, Result<(), String>> {
            Box::pin(async {
                self.checks.fetch_add(1, Ordering::SeqCst);
                if self.down.load(Ordering::SeqCst) { Err("pulled the plug".to_owned()) } else { Ok(()) }
            })
        }
        fn close(&self, _: Duration) -> BoxFuture<'_, ()> {
            Box::pin(async {})
        }
    }

    struct Fixture {
        broker: Arc<Double>,
        status: Arc<Status>,
        told: Arc<Mutex<Vec<State>>>,
        stop: watch::Sender<bool>,
        task: tokio::task::JoinHandle<()>,
    }

    fn start(down: bool) -> Fixture {
        let broker = Arc::new(Double::default());
        broker.down.store(down, Ordering::SeqCst);
        let status = Status::new("double");
        let told = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = watch::channel(false);
        let tell = Arc::clone(&told);
        let task = tokio::spawn(supervise(
            Arc::clone(&broker) as Arc<dyn Endpoint>,
            Arc::clone(&status),
            Arc::new(move |state| tell.lock().unwrap().push(state)),
            stopped,
        ));
        Fixture { broker, status, told, stop, task }
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_is_up_is_asked_every_ten_seconds() {
        let f = start(false);
        assert_eq!(f.status.state(), State::Connecting);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(f.status.state(), State::Up);
        sleep(Duration::from_secs(35)).await;
        assert_eq!(f.broker.checks.load(Ordering::SeqCst), 4);
        assert_eq!(*f.told.lock().unwrap(), [State::Up]);
        assert!(f.status.lasting() >= Duration::from_secs(35));
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspicion_is_checked_at_once_and_told_once() {
        let f = start(false);
        sleep(Duration::from_secs(1)).await;
        f.broker.down.store(true, Ordering::SeqCst);
        f.status.suspect();
        sleep(Duration::from_millis(1)).await;
        assert_eq!(f.status.state(), State::Up, "a second opinion is asked");
        sleep(SECOND_OPINION).await;
        assert_eq!(f.status.state(), State::Down);
        assert_eq!(f.status.error().as_deref(), Some("pulled the plug"));
        sleep(Duration::from_secs(60)).await;
        f.broker.down.store(false, Ordering::SeqCst);
        sleep(Duration::from_secs(6)).await;
        assert_eq!(*f.told.lock().unwrap(), [State::Up, State::Down, State::Up]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_is_down_is_asked_with_back_off_whatever_is_suspected() {
        let f = start(true);
        for _ in 0..600 {
            f.status.suspect();
            sleep(Duration::from_millis(100)).await;
        }
        // 0.2, 0.4, 0.8, 1.6, 3.2 s, then 5 s, each at least halved: between 15 and 30 in a minute.
        let checks = f.broker.checks.load(Ordering::SeqCst);
        assert!((15..=32).contains(&checks), "{checks}");
        assert_eq!(*f.told.lock().unwrap(), [State::Down]);
    }

    #[tokio::test(start_paused = true)]
    async fn endless_suspicion_of_a_broker_that_is_up_is_no_check_storm() {
        let f = start(false);
        for _ in 0..100 {
            f.status.suspect();
            sleep(Duration::from_millis(100)).await;
        }
        assert!(f.broker.checks.load(Ordering::SeqCst) <= 22);
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_ends_it() {
        let f = start(true);
        f.stop.send(true).expect("it listens");
        f.task.await.expect("no panic");
    }
}
