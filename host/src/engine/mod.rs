//! The composition root: from a configuration to everything that runs, and back to nothing. Only this module sees all.

mod admin;
mod build;
mod drain;
mod gauges;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::entrypoint::{Context, halves::Halves};
use crate::http::listener::{self, Bound, Limits};
use crate::observe::metrics::Metrics;
use crate::observe::packet::PacketLog;
use crate::routing::{EndpointHandle, Table};
use crate::session::registry::Sessions;
use crate::session::sweeper;

/// A running engine.
pub struct Engine {
    config: Config,
    packets: PacketLog,
    metrics: Arc<Metrics>,
    endpoints: Vec<Arc<EndpointHandle>>,
    table: Arc<ArcSwap<Table>>,
    sessions: Arc<Sessions>,
    /// Connections, sessions and publishes that are out.
    tasks: TaskTracker,
    /// Supervisors and sweepers: stopped last.
    background: TaskTracker,
    /// True: listeners close and connections end when they may.
    stop: watch::Sender<bool>,
    /// True: supervisors and sweepers end.
    finish: watch::Sender<bool>,
}

impl Engine {
    /// Builds everything and opens the listeners. Never waits for a broker.
    ///
    /// # Errors
    /// What cannot be opened or made, each in words.
    pub fn start(config: Config, metrics: Arc<Metrics>) -> Result<Self, Vec<String>> {
        raise_descriptor_limit();
        let one = |error: io::Error| vec![format!("the packet log cannot start: {error}")];
        let logs = config.routes.iter().filter_map(|route| route.packet_log.as_ref()).chain([&config.packet_log]);
        let log = PacketLog::start(logs.into_iter().any(|log| log.enabled), 1).map_err(one)?;
        metrics.show_packet_log(log.dropped());
        let endpoints = build::endpoints(&config, &metrics)?;
        let table = Arc::new(ArcSwap::from_pointee(build::table(&config, &endpoints, &metrics, &log)));
        let engine = Self {
            packets: log,
            metrics,
            endpoints,
            table,
            sessions: Arc::default(),
            tasks: TaskTracker::new(),
            background: TaskTracker::new(),
            stop: watch::Sender::new(false),
            finish: watch::Sender::new(false),
            config,
        };
        let bound = engine.bind()?;
        gauges::keep(&engine.metrics, engine.sessions.clone(), engine.table.clone());
        engine.supervise();
        engine.serve(bound);
        Ok(engine)
    }

    /// What `start` would refuse besides the configuration's own rules: settings that a broker's client library knows
    /// better.
    ///
    /// # Errors
    /// All of them, in words.
    pub fn verify(config: &Config) -> Result<(), Vec<String>> {
        build::verify(config)
    }

    /// All listeners, or all that cannot be opened.
    fn bind(&self) -> Result<Vec<Bound>, Vec<String>> {
        let places = self.config.entrypoints.iter().map(|entrypoint| match (&entrypoint.socket, entrypoint.port) {
            (Some(path), _) => (entrypoint.name.as_str(), listener::Place::Unix(path)),
            (None, port) => {
                (entrypoint.name.as_str(), listener::Place::Tcp(entrypoint.bind.as_deref(), port.unwrap_or(0)))
            }
        });
        let admin = &self.config.admin;
        let places = places.chain([("admin", listener::Place::Tcp(admin.bind.as_deref(), admin.port))]);
        let (mut bound, mut failed) = (Vec::new(), Vec::new());
        for (name, place) in places {
            match Bound::new(&place) {
                Ok(one) => bound.push(one),
                Err(error) => failed.push(format!("{name}: {error}")),
            }
        }
        if failed.is_empty() { Ok(bound) } else { Err(failed) }
    }

    fn supervise(&self) {
        for handle in self.endpoints.iter().filter(|handle| handle.built_in) {
            let (sessions, name) = (self.sessions.clone(), handle.name.clone());
            let metrics = self.metrics.endpoint(&handle.name, handle.kind);
            let told = Arc::new(move |state| {
                use crate::endpoint::State;
                metrics.up.set(i64::from(state == State::Up));
                match state {
                    State::Up => metrics.connects.inc(),
                    State::Down => metrics.losses.inc(),
                    State::Connecting => 0,
                };
                sessions.broker_changed(&name, state);
            });
            let (endpoint, status) = (handle.endpoint.clone(), handle.status.clone());
            let supervisor = crate::endpoint::supervisor::supervise(endpoint, status, told, self.finish.subscribe());
            self.background.spawn(supervisor);
        }
    }

    fn serve(&self, bound: Vec<Bound>) {
        let mut addresses = Vec::new();
        let mut bound = bound.into_iter();
        for (config, bound) in self.config.entrypoints.iter().zip(&mut bound) {
            let name: Arc<str> = config.name.as_str().into();
            addresses.push(format!("{name}={}", bound.address()));
            let metrics = self.metrics.listener(&name, config.kind.name());
            let context = Arc::new(Context {
                name: name.clone(),
                config: config.clone(),
                table: self.table.clone(),
                sessions: self.sessions.clone(),
                halves: Halves::default(),
                metrics: metrics.clone(),
                tasks: self.tasks.clone(),
            });
            let limits = Limits {
                max_connections: config.max_connections,
                per_second: config.max_handshakes_per_second,
                send_buffer: config.send_buffer,
                header_timeout: config.header_timeout,
            };
            let (stop, tasks) = (self.stop.subscribe(), self.tasks.clone());
            self.tasks.spawn(listener::serve(name.clone(), bound, limits, context.handler(), metrics, tasks, stop));
            let sweep = sweeper::sweep(self.sessions.clone(), name, config.ping_timeout, self.finish.subscribe());
            self.background.spawn(sweep);
        }
        if let Some(bound) = bound.next() {
            addresses.push(format!("admin={}", bound.address()));
            let limits = Limits {
                max_connections: 256,
                per_second: 1000,
                send_buffer: 64 * 1024,
                header_timeout: Duration::from_secs(10),
            };
            let view = admin::Shown::new(&self.sessions, &self.table, &self.endpoints);
            let handler = admin::handler(view, self.config.admin.token.clone(), self.metrics.clone());
            let observer = self.metrics.listener("admin", "admin");
            // It answers until the very end: probes want to see the drain.
            let (stop, tasks) = (self.finish.subscribe(), self.background.clone());
            self.background.spawn(listener::serve("admin".into(), bound, limits, handler, observer, tasks, stop));
        }
        tracing::info!(listeners = addresses.join(","), version = env!("CARGO_PKG_VERSION"), "ready");
    }
}

/// A session is a descriptor: take all that the system grants.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard));
    match raised {
        Ok(limit) => tracing::debug!(limit, "descriptors"),
        Err(error) => tracing::warn!(%error, "the limit of descriptors could not be raised"),
    }
}
