//! The client-facing listeners of the running configuration: opened, given other options in place, moved, and ended.
//!
//! A reload first opens what it has to ([`Plan::new`]), while the old ones go on; only then is anything changed.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::Inner;
use crate::config::{Config, Entrypoint};
use crate::entrypoint::{Context, halves::Halves};
use crate::http::listener::{self, Bound, Limits, Options, Place};
use crate::session::sweeper;

/// One of them.
pub(super) struct Running {
    pub(super) config: Entrypoint,
    pub(super) bound: Arc<Bound>,
    halves: Arc<Halves>,
    options: Arc<ArcSwap<Options>>,
    /// True: it accepts no more, and its connections end when they may.
    stop: watch::Sender<bool>,
    /// True: the sweeper ends.
    sweeping: watch::Sender<bool>,
}

/// Where an entrypoint listens.
pub(super) fn place(entrypoint: &Entrypoint) -> Place<'_> {
    match (&entrypoint.socket, entrypoint.port) {
        (Some(path), _) => Place::Unix(path),
        (None, port) => Place::Tcp(entrypoint.bind.as_deref(), port.unwrap_or(0)),
    }
}

/// The sockets of a configuration's entrypoints, in its order: those that are open already, and new ones.
pub(super) struct Plan(Vec<Arc<Bound>>);

impl Plan {
    /// # Errors
    /// All that cannot be opened.
    pub(super) fn new(config: &Config, now: &[Running]) -> Result<Self, Vec<String>> {
        let (mut plan, mut failed) = (Vec::new(), Vec::new());
        for one in &config.entrypoints {
            let wanted = place(one);
            let same = |other: &&Running| place(&other.config) == wanted;
            let named = now.iter().filter(same).find(|other| other.config.name == one.name);
            // Any free port is another one for each; a fixed place may go from one name to another.
            let open = named.or_else(|| now.iter().filter(|_| one.port != Some(0)).find(same));
            match open.map_or_else(|| Bound::new(&wanted).map(Arc::new), |open| Ok(open.bound.clone())) {
                Ok(bound) => plan.push(bound),
                Err(error) => failed.push(format!("{}: {error}", one.name)),
            }
        }
        if failed.is_empty() { Ok(Self(plan)) } else { Err(failed) }
    }

    /// Makes the listeners so; how many were touched.
    pub(super) fn apply(self, config: &Config, now: &mut Vec<Running>, inner: &Arc<Inner>) -> usize {
        let mut old = std::mem::take(now);
        let mut touched = 0;
        for (entrypoint, bound) in config.entrypoints.iter().zip(self.0) {
            let known = old.iter().position(|one| one.config.name == entrypoint.name);
            let known = known.map(|at| old.swap_remove(at));
            let running = match known {
                Some(one) if one.config == *entrypoint => one,
                Some(one) if Arc::ptr_eq(&one.bound, &bound) => {
                    touched += 1;
                    one.change(entrypoint, inner)
                }
                Some(one) => {
                    touched += 1;
                    let moved = Running::start(entrypoint, bound, one.halves.clone(), inner);
                    one.end();
                    moved
                }
                None => {
                    touched += 1;
                    Running::start(entrypoint, bound, Arc::default(), inner)
                }
            };
            now.push(running);
        }
        touched += old.len();
        old.into_iter().for_each(|one| one.retire(inner));
        touched
    }
}

impl Running {
    /// Serves on a bound socket. `halves`: of the listener that it takes the place of, whose sessions live on.
    fn start(config: &Entrypoint, bound: Arc<Bound>, halves: Arc<Halves>, inner: &Inner) -> Self {
        let name: Arc<str> = config.name.as_str().into();
        let options = Arc::new(ArcSwap::from_pointee(options(config, &halves, inner)));
        let (stop, sweeping) = (watch::Sender::new(false), watch::Sender::new(false));
        let metrics = inner.metrics.listener(&name, config.kind.name());
        let (tasks, told) = (inner.tasks.clone(), stop.subscribe());
        inner.tasks.spawn(listener::serve(name, bound.clone(), options.clone(), metrics, tasks, told));
        let running = Self { config: config.clone(), bound, halves, options, stop, sweeping };
        running.sweep(inner);
        running
    }

    fn sweep(&self, inner: &Inner) {
        let name = self.config.name.as_str().into();
        let told = self.sweeping.subscribe();
        inner.background.spawn(sweeper::sweep(inner.sessions.clone(), name, self.config.ping_timeout, told));
    }

    /// Other options on the same socket: for connections from now on.
    fn change(mut self, config: &Entrypoint, inner: &Inner) -> Self {
        self.options.store(Arc::new(options(config, &self.halves, inner)));
        let sweep_anew = self.config.ping_timeout != config.ping_timeout;
        self.config = config.clone();
        if sweep_anew {
            self.sweeping.send_replace(true);
            self.sweeping = watch::Sender::new(false);
            self.sweep(inner);
        }
        self
    }

    /// Accepts no more.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Accepts no more, and looks after nobody: its sessions have left, or belong to who took its place.
    pub(super) fn end(&self) {
        self.stop();
        self.sweeping.send_replace(true);
    }
}

impl Running {
    /// Accepts no more; its sessions are looked after until the last has left.
    fn retire(self, inner: &Arc<Inner>) {
        self.stop();
        let engine = inner.clone();
        inner.background.spawn(async move {
            let mut finish = engine.finish.subscribe();
            let empty = async {
                while engine.sessions.all().iter().any(|one| *one.entrypoint == *self.config.name) {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            };
            tokio::select! {
                () = empty => {}
                _ = finish.wait_for(|finish| *finish) => {}
            }
            self.end();
        });
    }
}

fn options(config: &Entrypoint, halves: &Arc<Halves>, inner: &Inner) -> Options {
    let name: Arc<str> = config.name.as_str().into();
    let context = Arc::new(Context {
        config: config.clone(),
        table: inner.table.clone(),
        sessions: inner.sessions.clone(),
        halves: halves.clone(),
        metrics: inner.metrics.listener(&name, config.kind.name()),
        tasks: inner.tasks.clone(),
        name,
    });
    Options {
        limits: Limits {
            max_connections: config.max_connections,
            per_second: config.max_handshakes_per_second,
            send_buffer: config.send_buffer,
            header_timeout: config.header_timeout,
        },
        handler: context.handler(),
    }
}
