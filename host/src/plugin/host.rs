//! All plugins, and one plugin: placeholders of the contract until the runtime is here.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Called, Decision, Facts, Fault, FaultKind, Resolution, SessionEnriched, Stepped};
use crate::config::{self, OnError};
use crate::event::Event;
use crate::observe::metrics::Metrics;

/// What the host of plugins is started with.
pub struct Options {
    /// The watched folder.
    pub dir: PathBuf,
    /// Settings from the configuration.
    pub settings: Vec<config::Plugin>,
    /// Told after sidecars came, changed or went: chains are to be built anew.
    pub changed: Arc<dyn Fn() + Send + Sync>,
}

/// All plugins of the engine. Dropping it ends its threads.
pub struct Plugins {}

impl Plugins {
    /// Loads what is in the folder (a missing folder is an empty one) and watches it from now on. What is broken is
    /// logged and shown, never an error here.
    ///
    /// # Errors
    /// The Wasm engine or a thread could not be made.
    pub fn start(_options: Options, _metrics: &Arc<Metrics>) -> Result<Arc<Self>, String> {
        Ok(Arc::new(Self {}))
    }

    /// The plugin of that name; made when first asked for, without a generation until its file is there.
    #[must_use]
    pub fn plugin(&self, name: &str) -> Arc<Plugin> {
        Arc::new(Plugin { name: name.into() })
    }

    /// Plugins that sidecars attach to a route, in order, with what sidecars say of failures; and resolvers so attached.
    #[must_use]
    pub fn attached(&self, _route: &str) -> Attached {
        Attached::default()
    }

    /// New settings from a reloaded configuration: only plugins whose settings differ get a new generation.
    pub fn configure(&self, _settings: Vec<config::Plugin>) {}

    /// For the admin page: `{"plugins":[..]}`.
    #[must_use]
    pub fn view(&self) -> Value {
        json!({ "plugins": [] })
    }

    /// Reads the file again and makes a new generation of it, whatever has changed.
    ///
    /// # Errors
    /// Why it stays as it is, in words; the flag says whether the plugin is known at all.
    pub async fn reload(&self, name: &str) -> Result<u32, (bool, String)> {
        Err((false, format!("there is no plugin {name:?}")))
    }

    /// Makes the generation before the current one serve again.
    ///
    /// # Errors
    /// As [`reload`](Self::reload).
    pub async fn rollback(&self, name: &str) -> Result<u32, (bool, String)> {
        Err((false, format!("there is no plugin {name:?}")))
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

/// One name that chains hold.
pub struct Plugin {
    name: Arc<str>,
}

/// One compiled component with one configuration.
pub struct Generation {}

/// Which generation of a plugin one event sees.
pub struct Pin {
    plugin: Arc<Plugin>,
}

impl Plugin {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What uses do that do not say.
    #[must_use]
    pub fn on_error(&self) -> OnError {
        OnError::Closed
    }

    /// The generation that serves now; `session` decides who is in a canary's share (any stable hash of the session).
    #[must_use]
    pub fn pin(self: &Arc<Self>, _session: u64) -> Pin {
        Pin { plugin: self.clone() }
    }
}

impl Pin {
    /// Of the generation; 0 while none is loaded.
    #[must_use]
    pub fn generation(&self) -> u32 {
        0
    }

    /// Enriches the event, then maps it, as far as the plugin exports these.
    #[must_use]
    pub fn step(&self, _event: &Arc<Event>, _facts: &Arc<Facts>) -> Called<Stepped> {
        Called::Ready(Err(self.not_loaded()))
    }

    /// Asks the resolver about an upstream event. A plugin that exports no resolver passes.
    #[must_use]
    pub fn resolve(&self, _event: &Arc<Event>, _facts: &Arc<Facts>) -> Called<Resolution> {
        Called::Ready(Err(self.not_loaded()))
    }

    /// Asks the resolver at connect; always on the plugin's own threads. The event carries the connect data: all request
    /// headers, no payload.
    #[must_use]
    pub fn connect(&self, _event: &Arc<Event>, _facts: &Arc<Facts>) -> Called<Decision> {
        Called::Ready(Err(self.not_loaded()))
    }

    /// Asks the enricher at connect; as [`connect`](Self::connect).
    #[must_use]
    pub fn enrich_session(&self, _event: &Arc<Event>, _facts: &Arc<Facts>) -> Called<SessionEnriched> {
        Called::Ready(Err(self.not_loaded()))
    }

    fn not_loaded(&self) -> Fault {
        let plugin = self.plugin.name.clone();
        let message = "no component of that name is in the plugins folder".to_owned();
        Fault { plugin, kind: FaultKind::NotLoaded, message }
    }
}
