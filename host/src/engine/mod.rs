//! The composition root: from a configuration to everything that runs, and back to nothing. Only this module sees all.
//!
//! - [`build`] endpoints and the route table; [`endpoints`] and [`listeners`] what of them runs; [`chains`] plugins
//! - [`reload`] from one configuration to the next; [`watch`] when; [`leaving`] who has to go for it
//! - [`admin`], [`gauges`] what is shown; [`drain`] the stop

mod admin;
mod build;
mod chains;
mod drain;
mod endpoints;
mod gauges;
mod leaving;
mod listeners;
mod reload;
mod watch;

use std::io;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::watch::Sender;
use tokio_util::task::TaskTracker;

use crate::config::{Config, Secret};
use crate::http::listener::{self, Bound, Limits, Options, Place};
use crate::observe::metrics::Metrics;
use crate::observe::packet::PacketLog;
use crate::plugin::{self, Plugins};
use crate::routing::{EndpointHandle, Table};
use crate::session::registry::Sessions;
use chains::Chains;
use reload::FileState;

pub use watch::Watched;

/// A running engine.
pub struct Engine(Arc<Inner>);

struct Inner {
    packets: PacketLog,
    metrics: Arc<Metrics>,
    table: Arc<ArcSwap<Table>>,
    plugins: Arc<Plugins>,
    chains: Arc<Chains>,
    sessions: Arc<Sessions>,
    /// What callers of the admin listener from elsewhere show.
    token: Arc<ArcSwapOption<Secret>>,
    /// What is said of the configuration file.
    file: Arc<ArcSwap<FileState>>,
    /// What a reload changes, one at a time.
    running: Mutex<Running>,
    /// Connections, sessions and publishes that are out.
    tasks: TaskTracker,
    /// Supervisors and sweepers: stopped last.
    background: TaskTracker,
    /// True: no reload any more.
    stop: Sender<bool>,
    /// True: what runs in the background ends.
    finish: Sender<bool>,
}

struct Running {
    config: Arc<Config>,
    endpoints: Vec<endpoints::Running>,
    listeners: Vec<listeners::Running>,
}

impl Engine {
    /// Builds everything and opens the listeners. Never waits for a broker.
    ///
    /// # Errors
    /// What cannot be opened or made, each in words.
    pub fn start(config: Config, metrics: Arc<Metrics>) -> Result<Self, Vec<String>> {
        raise_descriptor_limit();
        let one = |error: io::Error| vec![format!("the packet log cannot start: {error}")];
        // Always there: a reload may switch it on.
        let packets = PacketLog::start(true, 1).map_err(one)?;
        metrics.show_packet_log(packets.dropped());
        let config = Arc::new(config);
        let endpoints = reload::endpoints(&config, &[], &metrics)?.into_iter().flatten().collect::<Vec<_>>();
        let handles: Vec<Arc<EndpointHandle>> = endpoints.iter().map(|one| one.handle.clone()).collect();
        let table = build::table(&config, &handles, &metrics, &packets, &Table::default(), &|_| false);
        let table = Arc::new(ArcSwap::from_pointee(table));
        let (plugins, chains) = plugins(&config, &table, &metrics)?;
        let inner = Arc::new(Inner {
            packets,
            table,
            plugins,
            chains,
            sessions: Arc::default(),
            token: Arc::new(ArcSwapOption::from_pointee(config.admin.token.clone())),
            file: Arc::default(),
            running: Mutex::new(Running { config: config.clone(), endpoints: Vec::new(), listeners: Vec::new() }),
            tasks: TaskTracker::new(),
            background: TaskTracker::new(),
            stop: Sender::new(false),
            finish: Sender::new(false),
            metrics,
        });
        let admin = Bound::new(&Place::Tcp(config.admin.bind.as_deref(), config.admin.port));
        let plan = match (listeners::Plan::new(&config, &[]), admin) {
            (Ok(plan), Ok(admin)) => (plan, admin),
            (plan, admin) => {
                let mut failed = plan.err().unwrap_or_default();
                failed.extend(admin.err().map(|error| format!("admin: {error}")));
                return Err(failed);
            }
        };
        gauges::keep(&inner.metrics, inner.sessions.clone(), inner.table.clone());
        let mut running = inner.running();
        endpoints.iter().for_each(|one| one.supervise(&inner.sessions, &inner.metrics, &inner.background));
        running.endpoints = endpoints;
        plan.0.apply(&config, &mut running.listeners, &inner);
        let mut addresses = running.addresses();
        drop(running);
        addresses.push(inner.show(plan.1));
        tracing::info!(listeners = addresses.join(","), version = env!("CARGO_PKG_VERSION"), "ready");
        Ok(Self(inner))
    }

    /// What `start` would refuse besides the configuration's own rules: settings that a broker's client library knows
    /// better.
    ///
    /// # Errors
    /// All of them, in words.
    pub fn verify(config: &Config) -> Result<(), Vec<String>> {
        build::verify(config)
    }
}

impl Running {
    /// Where each listener is reached.
    fn addresses(&self) -> Vec<String> {
        self.listeners.iter().map(|one| format!("{}={}", one.config.name, one.bound.address())).collect()
    }
}

impl Inner {
    fn running(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Serves the admin listener; where.
    fn show(&self, bound: Bound) -> String {
        let address = format!("admin={}", bound.address());
        let limits = Limits {
            max_connections: 256,
            per_second: 1000,
            send_buffer: 64 * 1024,
            header_timeout: Duration::from_secs(10),
        };
        let view = admin::Shown::new(&self.sessions, &self.table, &self.file, &self.plugins);
        let handler = admin::handler(view, self.token.clone(), self.metrics.clone());
        let options = Arc::new(ArcSwap::from_pointee(Options { limits, handler }));
        let observer = self.metrics.listener("admin", "admin");
        // It answers until the very end: probes want to see the drain.
        let (stop, tasks) = (self.finish.subscribe(), self.background.clone());
        self.background.spawn(listener::serve("admin".into(), Arc::new(bound), options, observer, tasks, stop));
        address
    }
}

/// The plugins and the chains of them, which follow each other's changes.
fn plugins(
    config: &Arc<Config>,
    table: &Arc<ArcSwap<Table>>,
    metrics: &Arc<Metrics>,
) -> Result<(Arc<Plugins>, Arc<Chains>), Vec<String>> {
    let known: Arc<OnceLock<Weak<Chains>>> = Arc::default();
    let told = known.clone();
    let changed = Arc::new(move || {
        if let Some(chains) = told.get().and_then(Weak::upgrade) {
            chains.build();
        }
    });
    let options = plugin::Options { dir: config.plugins_dir.clone(), settings: config.plugins.clone(), changed };
    let plugins = Plugins::start(options, metrics).map_err(|error| vec![error])?;
    let chains = Chains::new(config.clone(), table.clone(), plugins.clone());
    // What was told before this is seen by the first build.
    known.get_or_init(|| Arc::downgrade(&chains));
    chains.build();
    Ok((plugins, chains))
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
