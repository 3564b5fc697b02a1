//! The chain of each route: what the configuration names on its entrypoint and on itself, then what sidecars attach.
//! Built anew after a reload and whenever sidecars come or go, and swapped in place: sessions keep their routes.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::config::{Config, Entrypoint, Plugin, Route, Use};
use crate::plugin::Plugins;
use crate::plugin::chain::{Chain, Step};
use crate::routing::Table;

/// Everything that chains are built from.
pub(super) struct Chains {
    config: ArcSwap<Config>,
    table: Arc<ArcSwap<Table>>,
    plugins: Arc<Plugins>,
    /// Two at once could store the older last.
    one_at_a_time: Mutex<()>,
}

impl Chains {
    pub(super) fn new(config: Arc<Config>, table: Arc<ArcSwap<Table>>, plugins: Arc<Plugins>) -> Arc<Self> {
        Arc::new(Self { config: ArcSwap::new(config), table, plugins, one_at_a_time: Mutex::default() })
    }

    /// From another configuration from now on; [`build`](Self::build) follows.
    pub(super) fn configure(&self, config: Arc<Config>) {
        self.config.store(config);
    }

    /// Builds those of the current table.
    pub(super) fn build(&self) {
        let _one = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        self.fill(&self.table.load());
    }

    /// Builds those of a table, before anybody finds its routes.
    pub(super) fn fill(&self, table: &Table) {
        let config = self.config.load();
        for route in table.all() {
            let Some(settings) = config.routes.iter().find(|one| one.name == *route.name) else { continue };
            let entrypoint = config.entrypoints.iter().find(|one| one.name == *route.entrypoint);
            route.chain.store(Arc::new(chain(&self.plugins, &config.plugins, entrypoint, settings)));
        }
        let entrypoints = config.entrypoints.iter().map(|one| (&one.resolver, &one.plugins));
        let routes = config.routes.iter().map(|one| (&one.resolver, &one.plugins));
        let named = entrypoints.chain(routes).flat_map(|(resolver, uses)| {
            resolver.as_deref().into_iter().chain(uses.iter().map(|one| one.name.as_str()))
        });
        self.plugins.keep_named(&named.collect());
    }
}

fn chain(plugins: &Plugins, settings: &[Plugin], entrypoint: Option<&Entrypoint>, route: &Route) -> Chain {
    let resolvers = entrypoint.and_then(|one| one.resolver.as_deref()).into_iter().chain(route.resolver.as_deref());
    let uses: Vec<&Use> = entrypoint.into_iter().flat_map(|one| &one.plugins).chain(&route.plugins).collect();
    let mut chain = Chain {
        resolvers: resolvers.map(|name| plugins.plugin(name)).collect(),
        steps: uses
            .iter()
            .map(|one| {
                let plugin = plugins.plugin(&one.name);
                // Also of one whose component is not there.
                let set = settings.iter().find(|set| set.name == one.name).map(|set| set.on_error);
                let on_error = one.on_error.or(set).unwrap_or_else(|| plugin.on_error());
                Step { plugin, on_error }
            })
            .collect(),
    };
    // What the configuration names stands where the configuration says.
    let named: HashSet<Arc<str>> = chain.resolvers.iter().map(|one| one.name().clone()).collect();
    let attached = plugins.attached(&route.name);
    chain.resolvers.extend(attached.resolvers.into_iter().filter(|one| !named.contains(one.name())));
    let named: HashSet<&str> = uses.iter().map(|one| one.name.as_str()).collect();
    let steps = attached.steps.into_iter().filter(|one| !named.contains(&**one.name()));
    chain.steps.extend(steps.map(|plugin| Step { on_error: plugin.on_error(), plugin }));
    chain
}
