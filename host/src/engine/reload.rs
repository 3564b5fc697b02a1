//! From the running configuration to another one: only what changed is touched.
//!
//! First all that may fail is made (endpoints, sockets): a reload that cannot be done as a whole changes nothing. Then
//! it is applied; sessions whose route is not there any more are asked to leave over `reload_spread`. It waits for no
//! broker and no client. The admin listener's address, and the plugins folder, need a restart.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::leaving::Gone;
use super::{Inner, Running, build, endpoints as running, listeners};
use crate::config::Config;
use crate::observe::metrics::Metrics;
use crate::routing::EndpointHandle;

/// What is said of the configuration file.
#[derive(Debug, Default)]
pub(super) struct FileState {
    /// Reloads since the start.
    pub(super) generation: u64,
    /// Why the file as it stands now does not serve.
    pub(super) errors: Vec<String>,
}

impl FileState {
    /// For the admin page.
    pub(super) fn view(&self) -> Value {
        let state = if self.errors.is_empty() { "serving" } else { "broken file" };
        json!({ "generation": self.generation, "state": state, "errors": self.errors })
    }
}

/// The endpoints of a configuration in its order: None for those of `now` that go on.
pub(super) fn endpoints(
    config: &Config,
    now: &[running::Running],
    metrics: &Metrics,
) -> Result<Vec<Option<running::Running>>, Vec<String>> {
    let (mut made, mut failed) = (Vec::new(), Vec::new());
    for one in &config.endpoints {
        let publish_timeout = running::publish_timeout(config, &one.name);
        if now.iter().any(|known| known.serves(one, publish_timeout)) {
            made.push(None);
            continue;
        }
        match running::Running::new(one, publish_timeout, metrics) {
            Ok(one) => made.push(Some(one)),
            Err(error) => failed.push(error),
        }
    }
    if failed.is_empty() { Ok(made) } else { Err(failed) }
}

impl Inner {
    /// Goes over to another configuration.
    ///
    /// # Errors
    /// What cannot be opened or made, each in words: nothing has changed then.
    pub(super) fn reload(self: &Arc<Self>, config: Config) -> Result<(), Vec<String>> {
        let mut now = self.running();
        if *self.stop.borrow() {
            return Err(vec!["the engine is stopping".to_owned()]);
        }
        if *now.config == config {
            return Ok(());
        }
        let made = endpoints(&config, &now.endpoints, &self.metrics)?;
        let plan = listeners::Plan::new(&config, &now.listeners)?;
        let config = Arc::new(config);
        let old = std::mem::replace(&mut now.config, config.clone());
        self.at_once(&old, &config);
        if old.plugins != config.plugins {
            self.plugins.configure(config.plugins.clone());
        }
        let (endpoints, dropped) = self.take(made, &config, &mut now);
        let (routes, gone) = self.route(&old, &config, &now);
        let listeners = plan.apply(&config, &mut now.listeners, self);
        let leaving = gone.sessions(&self.sessions).len();
        let patience = config.reload_spread + config.drain_timeout.max(Duration::from_secs(30));
        self.background.spawn(self.until_stop(gone.see_out(self.sessions.clone(), config.reload_spread, patience)));
        for one in dropped {
            let retire = one.retire(patience, config.drain_timeout);
            self.background.spawn(async move { retire.await });
        }
        let addresses = now.addresses();
        drop(now);
        tracing::info!(endpoints, routes, listeners, leaving, addresses = addresses.join(","), "reloaded");
        Ok(())
    }

    /// What needs nobody's leave.
    fn at_once(&self, old: &Config, new: &Config) {
        self.token.store(new.admin.token.clone().map(Arc::new));
        if (&old.admin.bind, old.admin.port) != (&new.admin.bind, new.admin.port) {
            tracing::warn!(
                "admin.port and admin.bind change with a restart only: the admin listener stays where it is"
            );
        }
        if old.plugins_dir != new.plugins_dir {
            tracing::warn!(serving = %old.plugins_dir.display(), "plugins_dir changes with a restart only");
        }
    }

    /// Starts the new endpoints, lets the unchanged go on; how many were touched, and those that are to be closed.
    fn take(
        &self,
        made: Vec<Option<running::Running>>,
        config: &Config,
        now: &mut Running,
    ) -> (usize, Vec<running::Running>) {
        let mut old = std::mem::take(&mut now.endpoints);
        let mut touched = 0;
        for (settings, made) in config.endpoints.iter().zip(made) {
            let timeout = running::publish_timeout(config, &settings.name);
            let kept = old.iter().position(|one| one.serves(settings, timeout)).filter(|_| made.is_none());
            if let Some(at) = kept {
                now.endpoints.push(old.swap_remove(at));
            } else if let Some(one) = made {
                touched += 1;
                one.supervise(&self.sessions, &self.metrics, &self.background);
                now.endpoints.push(one);
            }
        }
        let removed = old.iter().filter(|one| !config.endpoints.iter().any(|other| other.name == *one.handle.name));
        for one in removed {
            touched += 1;
            // Nobody else counts under that name from now on.
            self.metrics.endpoint(&one.handle.name, one.handle.kind).up.set(0);
        }
        (touched, old)
    }

    /// Puts the new table in place; how many routes are new, changed or gone, and who is to leave for it.
    fn route(&self, old: &Config, config: &Arc<Config>, now: &Running) -> (usize, Gone) {
        let handles: Vec<Arc<EndpointHandle>> = now.endpoints.iter().map(|one| one.handle.clone()).collect();
        let kind = |of: &Config, name: &str| of.entrypoints.iter().find(|one| one.name == name).map(|one| one.kind);
        let same = |name: &str| kind(old, name) == kind(config, name);
        let before = self.table.load_full();
        let table = Arc::new(build::table(config, &handles, &self.metrics, &self.packets, &before, &same));
        self.chains.configure(config.clone());
        self.chains.fill(&table);
        self.table.store(table.clone());
        // Sidecars may have come between the two.
        self.chains.build();
        let known = |route: &Arc<crate::routing::Route>| before.all().any(|other| Arc::ptr_eq(other, route));
        let fresh = table.all().filter(|route| !known(route)).count();
        let removed = before.all().filter(|route| !table.all().any(|other| other.name == route.name)).count();
        (fresh + removed, Gone::between(&before, &table))
    }

    /// Unless the engine stops before.
    fn until_stop(&self, work: impl Future<Output = ()> + Send + 'static) -> impl Future<Output = ()> + Send + 'static {
        let mut stop = self.stop.subscribe();
        async move {
            tokio::select! {
                () = work => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
    }
}
