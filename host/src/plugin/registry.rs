//! All plugins by name, and what sidecars attach of them. Shared by [`Plugins`](super::Plugins) and its manager.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::folder::fits;
use super::host::Attached;
use super::manager::Command;
use super::named::Plugin;
use crate::config::OnError;
use crate::observe::metrics::Metrics;

/// See the module's documentation.
pub(super) struct Registry {
    inner: Mutex<Inner>,
    metrics: Arc<Metrics>,
    manager: Sender<Command>,
}

#[derive(Default)]
struct Inner {
    plugins: BTreeMap<String, Arc<Plugin>>,
    /// Those that chains of the configuration name.
    named: BTreeSet<String>,
    attached: Vec<Attachment>,
}

/// What chains depend on of one plugin that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attachment {
    name: String,
    resolves: bool,
    steps: bool,
    on_error: OnError,
    routes: Vec<(String, i32)>,
}

impl Registry {
    pub(super) fn new(metrics: Arc<Metrics>, manager: Sender<Command>) -> Self {
        Self { inner: Mutex::default(), metrics, manager }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plugin of that name; made when first asked for.
    pub(super) fn plugin(&self, name: &str) -> Arc<Plugin> {
        self.in_(&mut self.inner(), name)
    }

    /// The same for a chain that names it: it stays when its file goes.
    pub(super) fn named(&self, name: &str) -> Arc<Plugin> {
        let mut inner = self.inner();
        if inner.named.insert(name.to_owned()) {
            // A manager that is gone has nothing to look for.
            self.manager.send(Command::Look).ok();
        }
        self.in_(&mut inner, name)
    }

    /// Of those that were named, only these are from now on.
    pub(super) fn keep_named(&self, names: &BTreeSet<&str>) {
        let mut inner = self.inner();
        let before = inner.named.len();
        inner.named.retain(|name| names.contains(name.as_str()));
        if inner.named.len() < before {
            self.manager.send(Command::Look).ok();
        }
    }

    fn in_(&self, inner: &mut Inner, name: &str) -> Arc<Plugin> {
        if let Some(found) = inner.plugins.get(name) {
            return found.clone();
        }
        let new = Arc::new(Plugin::new(name.into(), self.metrics.plugin(name), self.manager.clone()));
        inner.plugins.insert(name.to_owned(), new.clone());
        new
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<Plugin>> {
        self.inner().plugins.get(name).cloned()
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.inner().named.contains(name)
    }

    pub(super) fn names(&self) -> BTreeSet<String> {
        self.inner().plugins.keys().cloned().collect()
    }

    pub(super) fn all(&self) -> Vec<Arc<Plugin>> {
        self.inner().plugins.values().cloned().collect()
    }

    pub(super) fn remove(&self, name: &str) {
        self.inner().plugins.remove(name);
        self.metrics.forget_plugin(name);
    }

    /// Takes down what is attached now.
    pub(super) fn attach(&self) -> Vec<Attachment> {
        let mut inner = self.inner();
        let serving = inner.plugins.iter().filter_map(|(name, plugin)| {
            let serving = plugin.serving()?;
            let routes = plugin.status().attach.iter().map(|one| (one.route.clone(), one.order)).collect();
            let code = &serving.now.code;
            let (resolves, steps, on_error) = (code.resolves(), code.steps(), plugin.on_error());
            Some(Attachment { name: name.clone(), resolves, steps, on_error, routes })
        });
        let attached: Vec<Attachment> = serving.collect();
        inner.attached.clone_from(&attached);
        attached
    }

    pub(super) fn attached(&self, route: &str) -> Attached {
        let inner = self.inner();
        let mut found: Vec<(i32, &Attachment)> = inner
            .attached
            .iter()
            .filter_map(|one| {
                let orders = one.routes.iter().filter(|(pattern, _)| fits(pattern, route)).map(|(_, order)| *order);
                orders.min().map(|order| (order, one))
            })
            .collect();
        found.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.name.cmp(&other.name)));
        let of = |kind: fn(&Attachment) -> bool| {
            let these = found.iter().filter(|(_, one)| kind(one));
            these.filter_map(|(_, one)| inner.plugins.get(&one.name).cloned()).collect()
        };
        Attached { resolvers: of(|one| one.resolves), steps: of(|one| one.steps) }
    }
}
