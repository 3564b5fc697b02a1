//! One compiled component with one configuration: its instances, how it does, and how it is called.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use wasmtime::component::InstancePre;

use super::breaker::Breaker;
use super::clock::{Clock, INLINE};
use super::guest::{Deadlines, Exports, Failure, Guest};
use super::latency::Latency;
use super::lend::{Memory, State, Usage};
use super::pace::Pace;
use super::sandbox::Ticking;
use super::voice::Voice;
use super::workers::Workers;
use super::{Facts, FaultKind};
use crate::config;
use crate::event::Event;

/// An instance is replaced after so many calls,
const RECYCLE_CALLS: u64 = 1_000_000;
/// or so long.
const RECYCLE_AGE: Duration = Duration::from_secs(3600);
/// With a soft deadline from here on it never runs on I/O threads.
const NEVER_INLINE: Duration = Duration::from_millis(20);

/// A compiled component; shared by generations that differ in settings only.
pub(super) struct Code {
    pub(super) pre: InstancePre<State>,
    pub(super) exports: Exports,
    /// SHA-256 of the file, hexadecimal.
    pub(super) hash: String,
    /// Bytes of the file.
    pub(super) size: usize,
    pub(super) wasi_stub: bool,
}

impl Code {
    pub(super) fn resolves(&self) -> bool {
        self.exports.resolve.is_some()
    }

    pub(super) fn steps(&self) -> bool {
        self.exports.transform.is_some() || self.exports.enrich.is_some()
    }
}

/// A call of a guest.
pub(super) type Operation<T> = fn(&mut Guest, &Arc<Event>, &Arc<Facts>, Deadlines) -> Result<T, Failure>;

/// See the module's documentation.
pub struct Generation {
    pub(super) number: u32,
    pub(super) code: Arc<Code>,
    pub(super) settings: config::Plugin,
    pub(super) loaded_ms: i64,
    pub(super) version: String,
    config: String,
    voice: Arc<Voice>,
    counters: Arc<[(Box<str>, Counter)]>,
    workers: Workers,
    idle: Mutex<Vec<Guest>>,
    fresh: Mutex<Option<Guest>>,
    building: AtomicBool,
    pub(super) usage: Arc<Usage>,
    pub(super) pace: Pace,
    pub(super) breaker: Breaker,
    pub(super) latency: Latency,
    pub(super) faults: AtomicU64,
    /// Events on which it failed and the one before did not.
    pub(super) rescued: AtomicU32,
    _ticking: Ticking,
}

/// What a generation is made of.
pub(super) struct Parts {
    pub(super) number: u32,
    pub(super) code: Arc<Code>,
    pub(super) settings: config::Plugin,
    pub(super) version: String,
    pub(super) voice: Arc<Voice>,
    pub(super) counters: Arc<[(Box<str>, Counter)]>,
    pub(super) workers: Workers,
    pub(super) ticking: Ticking,
}

impl Generation {
    pub(super) fn new(parts: Parts) -> Arc<Self> {
        let Parts { number, code, settings, version, voice, counters, workers, ticking } = parts;
        Arc::new(Self {
            number,
            code,
            loaded_ms: crate::event::now_ms(),
            version,
            config: settings.config.0.to_string(),
            voice,
            counters,
            workers,
            idle: Mutex::default(),
            fresh: Mutex::default(),
            building: AtomicBool::new(false),
            usage: Arc::default(),
            pace: Pace::new(settings.deadline >= NEVER_INLINE),
            breaker: Breaker::default(),
            latency: Latency::default(),
            faults: AtomicU64::new(0),
            rescued: AtomicU32::new(0),
            settings,
            _ticking: ticking,
        })
    }

    /// An instance more.
    ///
    /// # Errors
    /// In words.
    pub(super) fn build(&self) -> Result<Guest, String> {
        Guest::new(&self.code.pre, &self.code.exports, self.state(), &self.config)
    }

    fn state(&self) -> State {
        State {
            event: None,
            facts: None,
            clock: Clock::default(),
            memory: Memory::new(self.settings.max_memory, self.usage.clone()),
            voice: self.voice.clone(),
            counters: self.counters.clone(),
        }
    }

    /// Ready for the next call.
    pub(super) fn put(&self, guest: Guest) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(guest);
    }

    fn take(&self) -> Option<Guest> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// It serves no longer, but may again: it keeps its code, not its instances.
    pub(super) fn rest(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
    }

    /// On the thread that asks. None when no instance is free: it is for the plugin's own threads then.
    pub(super) fn inline<T>(
        self: &Arc<Self>,
        event: &Arc<Event>,
        facts: &Arc<Facts>,
        ask: Operation<T>,
    ) -> Option<Result<T, Failure>> {
        let guest = self.take()?;
        if let Err(refused) = self.allowed() {
            self.put(guest);
            return Some(Err(refused));
        }
        let soft = self.settings.deadline;
        let (result, guest, took) = self.ask(guest, event, facts, ask, Deadlines { soft, hard: INLINE });
        let went = match (&guest, &result) {
            (Some(guest), Ok(_)) if guest.was_slow() => self.pace.slow(self.latency.count()),
            (_, Err(_)) => self.pace.leave(),
            _ => false,
        };
        if went {
            tracing::info!(plugin = &*self.voice.plugin, "runs on threads of its own now: slow, or a fault");
        }
        self.give_back(guest, took);
        Some(result)
    }

    /// On one of the plugin's own threads.
    pub(super) fn own<T>(
        self: &Arc<Self>,
        event: &Arc<Event>,
        facts: &Arc<Facts>,
        ask: Operation<T>,
        hard: Duration,
    ) -> Result<T, Failure> {
        self.allowed()?;
        let guest = match self.take() {
            Some(guest) => guest,
            None => self.build().map_err(|text| self.fault((FaultKind::Trap, text)))?,
        };
        let soft = self.settings.deadline.min(hard);
        let begun = Instant::now();
        let (result, guest, ended) = self.ask(guest, event, facts, ask, Deadlines { soft, hard });
        if result.is_ok() && self.pace.own(ended.duration_since(begun)) {
            tracing::debug!(plugin = &*self.voice.plugin, generation = self.number, "runs on I/O threads now");
        }
        self.give_back(guest, ended);
        result
    }

    fn allowed(&self) -> Result<(), Failure> {
        self.breaker.allow().map_err(|left| {
            let text = format!("it failed too often; asked again in {:.1} s", left.as_secs_f64());
            (FaultKind::Breaker, text)
        })
    }

    /// The call itself. The guest comes back unless it is spoilt, and the time at the end.
    fn ask<T>(
        &self,
        mut guest: Guest,
        event: &Arc<Event>,
        facts: &Arc<Facts>,
        ask: Operation<T>,
        time: Deadlines,
    ) -> (Result<T, Failure>, Option<Guest>, Instant) {
        let begun = Instant::now();
        let result = ask(&mut guest, event, facts, time);
        let ended = Instant::now();
        self.latency.add(ended.duration_since(begun));
        match result {
            Ok(answer) => {
                self.breaker.passed();
                (Ok(answer), Some(guest), ended)
            }
            Err(failure) => {
                // After a trap wasmtime refuses that store for ever; an answer that we refuse leaves it whole.
                let guest = (failure.0 == FaultKind::Output).then_some(guest);
                (Err(self.fault(failure)), guest, ended)
            }
        }
    }

    fn fault(&self, failure: Failure) -> Failure {
        self.faults.fetch_add(1, Relaxed);
        self.voice.metrics.faults(failure.0.as_str()).inc();
        self.voice.warn(&format!("generation {}: {}", self.number, failure.1));
        if self.breaker.failed() {
            let plugin = &*self.voice.plugin;
            tracing::error!(
                plugin,
                generation = self.number,
                "five faults in ten seconds: it is not asked for a while"
            );
        }
        failure
    }

    fn give_back(self: &Arc<Self>, guest: Option<Guest>, now: Instant) {
        let Some(guest) = guest else { return };
        let full = guest.memory() >= self.settings.max_memory / 4 * 3;
        if !full && guest.calls < RECYCLE_CALLS && now.duration_since(guest.born) < RECYCLE_AGE {
            return self.put(guest);
        }
        let fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(fresh) = fresh {
            tracing::debug!(
                plugin = &*self.voice.plugin,
                calls = guest.calls,
                memory = guest.memory(),
                "instance replaced"
            );
            return self.put(fresh);
        }
        self.put(guest);
        if !self.building.swap(true, Relaxed) {
            let this = self.clone();
            self.workers.submit(move || {
                match this.build() {
                    Ok(guest) => *this.fresh.lock().unwrap_or_else(PoisonError::into_inner) = Some(guest),
                    Err(text) => this.voice.warn(&format!("no new instance: {text}")),
                }
                this.building.store(false, Relaxed);
            });
        }
    }
}
