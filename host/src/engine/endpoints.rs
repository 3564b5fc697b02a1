//! The endpoints of the running configuration, each with its supervisor: made, kept over a reload, and ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::config::{self, Config, EndpointKind};
use crate::endpoint::{State, supervisor};
use crate::observe::metrics::Metrics;
use crate::routing::EndpointHandle;
use crate::session::registry::Sessions;

/// One of them.
pub(super) struct Running {
    pub(super) handle: Arc<EndpointHandle>,
    config: config::Endpoint,
    /// What its client library was told is the longest wait for a confirm.
    publish_timeout: Duration,
    /// True: the supervisor ends.
    stop: watch::Sender<bool>,
}

/// The longest `publish_timeout` of the routes to an endpoint.
pub(super) fn publish_timeout(config: &Config, name: &str) -> Duration {
    let routes = config.routes.iter().filter(|route| route.target == name);
    routes.map(|route| route.publish_timeout).max().unwrap_or(Duration::from_secs(30))
}

impl Running {
    /// Not supervised yet.
    pub(super) fn new(config: &config::Endpoint, publish_timeout: Duration, metrics: &Metrics) -> Result<Self, String> {
        let handle = super::build::endpoint(config, publish_timeout, metrics)?;
        Ok(Self { handle: Arc::new(handle), config: config.clone(), publish_timeout, stop: watch::Sender::new(false) })
    }

    /// Whether it serves as that one, too.
    pub(super) fn serves(&self, config: &config::Endpoint, publish_timeout: Duration) -> bool {
        let long_enough = !matches!(config.kind, EndpointKind::Kafka(_)) || publish_timeout <= self.publish_timeout;
        self.config == *config && long_enough
    }

    /// Starts its supervisor.
    pub(super) fn supervise(&self, sessions: &Arc<Sessions>, metrics: &Metrics, tasks: &TaskTracker) {
        let handle = &self.handle;
        if !handle.built_in {
            return;
        }
        let (sessions, status) = (sessions.clone(), handle.status.clone());
        let metrics = metrics.endpoint(&handle.name, handle.kind);
        let told = Arc::new(move |state| {
            metrics.up.set(i64::from(state == State::Up));
            match state {
                State::Up => metrics.connects.inc(),
                State::Down => metrics.losses.inc(),
                State::Connecting => 0,
            };
            sessions.broker_changed(&status, state);
        });
        let (endpoint, status) = (handle.endpoint.clone(), handle.status.clone());
        tasks.spawn(supervisor::supervise(endpoint, status, told, self.stop.subscribe()));
    }

    /// Ends the supervisor.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until nobody holds it any more, `patience` at most, and closes it. Its supervisor watches it until then.
    pub(super) async fn retire(self, patience: Duration, close: Duration) {
        let begun = Instant::now();
        while Arc::strong_count(&self.handle) > 1 && begun.elapsed() < patience {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.handle.endpoint.close(close).await;
        self.stop();
        tracing::info!(endpoint = %self.handle.name, "an endpoint that the configuration dropped or changed is closed");
    }
}
