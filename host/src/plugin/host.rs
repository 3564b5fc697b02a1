//! All plugins of the engine: what `engine` starts, asks and tells. The work is done by [`manager`](super::manager).

use std::path::PathBuf;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Weak};
use std::thread;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::folder::Folder;
use super::manager::{Answer, Begin, Command, Manager, START};
use super::named::Plugin;
use super::registry::Registry;
use super::sandbox::Sandbox;
use super::view;
use crate::config;
use crate::observe::metrics::Metrics;

/// What the host of plugins is started with.
pub struct Options {
    /// The watched folder.
    pub dir: PathBuf,
    /// Settings from the configuration.
    pub settings: Vec<config::Plugin>,
    /// Told after sidecars came, changed or went, and after plugins did: chains are to be built anew. Called on the
    /// manager's thread, never before [`Plugins::start`] has returned.
    pub changed: Arc<dyn Fn() + Send + Sync>,
}

/// All plugins of the engine. Dropping it ends its threads.
pub struct Plugins {
    registry: Arc<Registry>,
    manager: Sender<Command>,
}

impl Plugins {
    /// Loads what is in the folder (a missing folder is an empty one) and watches it from now on. What is broken is
    /// logged and shown, never an error here. Waits until what lies there is loaded, ten seconds at most.
    ///
    /// # Errors
    /// The Wasm engine or a thread could not be made.
    pub fn start(options: Options, metrics: &Arc<Metrics>) -> Result<Arc<Self>, String> {
        let Options { dir, settings, changed } = options;
        let sandbox = Arc::new(Sandbox::new()?);
        let (manager, commands) = mpsc::channel();
        let registry = Arc::new(Registry::new(metrics.clone(), manager.clone()));
        let (ready, started) = mpsc::sync_channel(1);
        let myself = manager.clone();
        let folder = Folder::new(dir);
        let shared = registry.clone();
        let begin = Begin { folder, settings, registry: shared, sandbox, commands, myself, ready, changed };
        let named = thread::Builder::new().name("plugins".into());
        named.spawn(move || Manager::new(begin).run()).map_err(|error| format!("no thread for plugins: {error}"))?;
        // It takes care of its own time limit; what is late comes as a change.
        started.recv_timeout(START * 2).ok();
        let seen: Weak<Registry> = Arc::downgrade(&registry);
        metrics.before_scrape(move || {
            for plugin in seen.upgrade().iter().flat_map(|registry| registry.all()) {
                view::gauges(&plugin);
            }
        });
        Ok(Arc::new(Self { registry, manager }))
    }

    /// The plugin of that name; made when first asked for, without a generation until its file is there. For chains of the
    /// configuration: what was asked for here stays when its file goes.
    #[must_use]
    pub fn plugin(&self, name: &str) -> Arc<Plugin> {
        self.registry.named(name)
    }

    /// Plugins that sidecars attach to a route, in order, with what sidecars say of failures; and resolvers so attached.
    #[must_use]
    pub fn attached(&self, route: &str) -> Attached {
        self.registry.attached(route)
    }

    /// New settings from a reloaded configuration: only plugins whose settings differ get a new generation. Waits until
    /// these serve, ten seconds at most, so that no chain names what is not there yet; not for I/O threads.
    pub fn configure(&self, settings: Vec<config::Plugin>) {
        let (done, serve) = mpsc::sync_channel(1);
        // A manager that is gone serves nobody.
        if self.manager.send(Command::Configure(settings, done)).is_ok() {
            serve.recv_timeout(START * 2).ok();
        }
    }

    /// For the admin page: `{"plugins":[..]}`.
    #[must_use]
    pub fn view(&self) -> Value {
        let rows: Vec<Value> = self.registry.all().iter().map(|plugin| view::row(plugin)).collect();
        json!({ "plugins": rows })
    }

    /// Reads the file again and makes a new generation of it, whatever has changed.
    ///
    /// # Errors
    /// Why it stays as it is, in words; the flag says whether the plugin is known at all.
    pub async fn reload(&self, name: &str) -> Result<u32, (bool, String)> {
        self.ask(|answer| Command::Reload(name.to_owned(), answer)).await
    }

    /// Makes the generation before the current one serve again.
    ///
    /// # Errors
    /// As [`reload`](Self::reload).
    pub async fn rollback(&self, name: &str) -> Result<u32, (bool, String)> {
        self.ask(|answer| Command::Rollback(name.to_owned(), answer)).await
    }

    async fn ask(&self, command: impl FnOnce(Answer) -> Command) -> Result<u32, (bool, String)> {
        let (answer, result) = oneshot::channel();
        let ends = || Err((true, "the engine ends".to_owned()));
        if self.manager.send(command(answer)).is_err() {
            return ends();
        }
        result.await.unwrap_or_else(|_| ends())
    }
}

impl Drop for Plugins {
    fn drop(&mut self) {
        // One that is gone has stopped.
        self.manager.send(Command::Stop).ok();
    }
}

/// What sidecars attach to one route.
#[derive(Default)]
pub struct Attached {
    /// By order, then name.
    pub resolvers: Vec<Arc<Plugin>>,
    /// By order, then name.
    pub steps: Vec<Arc<Plugin>>,
}
