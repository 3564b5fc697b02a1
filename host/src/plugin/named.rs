//! One plugin by its name: which generation serves, and how one comes and goes while events pass.
//!
//! Chains hold it; [`manager`](super::manager) gives it generations. What serves is one atomic pointer: an event keeps what
//! it was pinned to.
//!
//! A generation is young for its first 10,000 calls or the first minute after its first call, whichever ends first. Until
//! then an event on which it faults is tried on the one before, and three that pass there roll it back.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::canary::{self, Canary};
use super::generation::Generation;
use super::manager::Command;
use super::pin::Pin;
use super::voice::Voice;
use super::workers::Workers;
use crate::config::{Attach, OnError};
use crate::observe::metrics::PluginMetrics;

/// Events that failed on the new generation and passed on the old: so many roll it back.
const RESCUES: u32 = 3;
const YOUNG_CALLS: u64 = 10_000;
const YOUNG: Duration = Duration::from_secs(60);

/// One name that chains hold.
pub struct Plugin {
    name: Arc<str>,
    serving: ArcSwapOption<Serving>,
    on_error: AtomicU8,
    numbers: AtomicU32,
    /// Calls of generations that are gone.
    past: AtomicU64,
    pub(super) voice: Arc<Voice>,
    pub(super) workers: Workers,
    status: Mutex<Status>,
    manager: Sender<Command>,
}

/// What serves now.
pub(super) struct Serving {
    pub(super) now: Arc<Generation>,
    /// The one before: while the new one is young, or in its canary.
    pub(super) old: Option<Arc<Generation>>,
    pub(super) canary: Option<Canary>,
    first_call: Mutex<Option<Instant>>,
}

/// What people want to know besides.
#[derive(Default)]
pub(super) struct Status {
    /// The file that is there now cannot serve.
    pub(super) broken: Option<String>,
    /// Why an older generation serves again.
    pub(super) rolled_back: Option<String>,
    /// The file is gone.
    pub(super) missing: bool,
    pub(super) file: String,
    /// Where its settings come from.
    pub(super) source: String,
    pub(super) attach: Vec<Attach>,
    previous: Option<Arc<Generation>>,
}

impl Plugin {
    pub(super) fn new(name: Arc<str>, metrics: Arc<PluginMetrics>, manager: Sender<Command>) -> Self {
        Self {
            serving: ArcSwapOption::empty(),
            on_error: AtomicU8::new(0),
            numbers: AtomicU32::new(0),
            past: AtomicU64::new(0),
            voice: Arc::new(Voice::new(name.clone(), metrics)),
            workers: Workers::new(&name),
            status: Mutex::default(),
            manager,
            name,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What uses do that do not say.
    #[must_use]
    pub fn on_error(&self) -> OnError {
        match self.on_error.load(Relaxed) {
            0 => OnError::Closed,
            1 => OnError::Open,
            _ => OnError::DeadLetter,
        }
    }

    /// True when it differs from before.
    pub(super) fn set_on_error(&self, on_error: OnError) -> bool {
        let code = match on_error {
            OnError::Closed => 0,
            OnError::Open => 1,
            OnError::DeadLetter => 2,
        };
        self.on_error.swap(code, Relaxed) != code
    }

    /// The generation that serves now; `session` decides who is in a canary's share (any stable hash of the session).
    #[must_use]
    pub fn pin(self: &Arc<Self>, session: u64) -> Pin {
        Pin::new(self.clone(), self.serving.load_full(), session)
    }

    pub(super) fn serving(&self) -> Option<Arc<Serving>> {
        self.serving.load_full()
    }

    pub(super) fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the next generation.
    pub(super) fn number(&self) -> u32 {
        self.numbers.fetch_add(1, Relaxed) + 1
    }

    /// Calls of all its generations.
    pub(super) fn calls(&self) -> u64 {
        let serving = self.serving();
        let live = serving.iter().flat_map(|serving| serving.old.iter().chain([&serving.now]));
        self.past.load(Relaxed) + live.map(|generation| generation.latency.count()).sum::<u64>()
    }

    /// The new generation serves, or gets its canary's share first.
    pub(super) fn publish(&self, new: Arc<Generation>) {
        let mut status = self.status();
        let before = self.serving();
        let old = before.as_ref().map(|serving| match (&serving.canary, &serving.old) {
            // What its canary has not proven is nothing to fall back to.
            (Some(_), Some(old)) => old.clone(),
            _ => serving.now.clone(),
        });
        (status.broken, status.rolled_back, status.missing) = (None, None, false);
        let canary = old.as_ref().and_then(|_| new.settings.canary.as_ref()).map(Canary::begin);
        let (number, hash, size) = (new.number, cut(&new.code.hash), new.code.size);
        let worst = new.settings.max_memory;
        let plugin = &*self.name;
        match &canary {
            None => {
                tracing::info!(plugin, generation = number, hash, bytes = size, max_memory = worst, "plugin serves")
            }
            Some(canary) => {
                let percent = canary.percent;
                tracing::info!(plugin, generation = number, hash, percent, "plugin serves its canary's share");
            }
        }
        status.previous.clone_from(&old);
        self.replace(Some(Serving { now: new, old, canary, first_call: Mutex::default() }));
    }

    fn replace(&self, next: Option<Serving>) {
        let before = self.serving.swap(next.map(Arc::new));
        let next = self.serving();
        let kept = |one: &Arc<Generation>| {
            next.iter().any(|next| next.old.iter().chain([&next.now]).any(|kept| Arc::ptr_eq(kept, one)))
        };
        for gone in before.iter().flat_map(|serving| serving.old.iter().chain([&serving.now])) {
            if !kept(gone) {
                self.past.fetch_add(gone.latency.count(), Relaxed);
                gone.rest();
            }
        }
    }

    /// The file and what named it are gone.
    pub(super) fn retire(&self) {
        let mut status = self.status();
        if let Some(serving) = self.serving() {
            tracing::info!(plugin = &*self.name, generation = serving.now.number, "plugin retired: its file is gone");
        }
        status.previous = None;
        self.replace(None);
    }

    /// The generation before serves again; its number.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn roll_back(&self, why: &str) -> Result<u32, String> {
        let mut status = self.status();
        let Some(old) = status.previous.take() else {
            return Err("there is no generation before the current one".to_owned());
        };
        let from = self.serving().map_or(0, |serving| serving.now.number);
        let number = old.number;
        tracing::error!(plugin = &*self.name, from, generation = number, why, "plugin rolled back");
        status.rolled_back = Some(format!("generation {from}: {why}"));
        self.voice.metrics.rollbacks.inc();
        // Its own count goes on in `past` no longer: it lives again.
        let revived = self.serving().is_none_or(|serving| serving.old.as_ref().is_none_or(|o| !Arc::ptr_eq(o, &old)));
        if revived {
            self.past.fetch_sub(old.latency.count(), Relaxed);
        }
        self.replace(Some(Serving { now: old, old: None, canary: None, first_call: Mutex::default() }));
        Ok(number)
    }

    /// The old generation passed an event that `failed` did not.
    pub(super) fn rescued(&self, failed: &Generation) {
        let count = failed.rescued.fetch_add(1, Relaxed) + 1;
        let current = self.serving().is_some_and(|serving| std::ptr::eq(&*serving.now, failed));
        if count != RESCUES || !current {
            return;
        }
        let why = format!("{RESCUES} events failed on it that the one before passes");
        if self.roll_back(&why).is_ok() {
            // A manager that is gone has nobody left to tell.
            self.manager.send(Command::Changed).ok();
        }
    }

    /// Once a second: ends youth and canaries. True when another generation serves than before.
    pub(super) fn tick(&self, now: Instant) -> bool {
        let Some(serving) = self.serving() else { return false };
        let Some(old) = &serving.old else { return false };
        if let Some(canary) = &serving.canary {
            let verdict = canary.verdict(&serving.now, old, now);
            return match verdict {
                canary::Verdict::Wait => false,
                canary::Verdict::Back(why) => self.roll_back(&why).is_ok(),
                canary::Verdict::On => {
                    tracing::info!(plugin = &*self.name, generation = serving.now.number, "canary passed: serves all");
                    self.settle(&serving, Some(old.clone()));
                    true
                }
            };
        }
        let calls = serving.now.latency.count();
        let first = {
            let mut first = serving.first_call.lock().unwrap_or_else(PoisonError::into_inner);
            if calls > 0 && first.is_none() {
                *first = Some(now);
            }
            *first
        };
        if calls >= YOUNG_CALLS || first.is_some_and(|first| now.duration_since(first) >= YOUNG) {
            self.settle(&serving, None);
        }
        false
    }

    /// The same generation with another past, unless something else serves meanwhile.
    fn settle(&self, from: &Arc<Serving>, old: Option<Arc<Generation>>) {
        let _status = self.status();
        if self.serving().is_some_and(|serving| Arc::ptr_eq(&serving, from)) {
            let first_call = Mutex::default();
            self.replace(Some(Serving { now: from.now.clone(), old, canary: None, first_call }));
        }
    }
}

/// As much of a hash as people read.
pub(super) fn cut(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}
