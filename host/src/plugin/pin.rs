//! Which generation of a plugin one event sees, and how it is asked: on the thread that asks where it is proven quick,
//! else on the plugin's own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::clock::{CONNECT, OWN};
use super::generation::{Generation, Operation};
use super::guest::{Failure, Guest};
use super::named::{Plugin, Serving};
use super::{Called, Decision, Facts, Fault, FaultKind, Resolution, Served, SessionEnriched, Stepped};
use crate::event::Event;

/// See the module's documentation.
pub struct Pin {
    plugin: Arc<Plugin>,
    serving: Option<Arc<Serving>>,
    /// Outside of a canary's share.
    outside: bool,
}

impl Pin {
    pub(super) fn new(plugin: Arc<Plugin>, serving: Option<Arc<Serving>>, session: u64) -> Self {
        let canary = serving.as_ref().and_then(|serving| serving.canary.as_ref());
        let outside = canary.is_some_and(|canary| !canary.has(session));
        Self { plugin, serving, outside }
    }

    /// Of the generation; 0 while none is loaded.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.chosen().map_or(0, |(generation, _)| generation.number)
    }

    /// Who is asked, and who is when that fails.
    fn chosen(&self) -> Option<(&Arc<Generation>, Option<&Arc<Generation>>)> {
        let serving = self.serving.as_deref()?;
        match &serving.old {
            Some(old) if self.outside => Some((old, None)),
            old => Some((&serving.now, old.as_ref())),
        }
    }

    /// Enriches the event, then maps it, as far as the plugin exports these.
    #[must_use]
    pub fn step(&self, event: &Arc<Event>, facts: &Arc<Facts>) -> Called<Stepped> {
        let exports = |one: &Generation| one.code.steps();
        self.call(event, facts, Guest::step, exports, Stepped::Pass, OWN, true)
    }

    /// Asks the resolver about an upstream event. A plugin that exports no resolver passes.
    #[must_use]
    pub fn resolve(&self, event: &Arc<Event>, facts: &Arc<Facts>) -> Called<Resolution> {
        let exports = |one: &Generation| one.code.resolves();
        self.call(event, facts, Guest::resolve, exports, Resolution::Pass, OWN, true)
    }

    /// Asks the resolver at connect; always on the plugin's own threads. The event carries the connect data: all request
    /// headers, no payload.
    #[must_use]
    pub fn connect(&self, event: &Arc<Event>, facts: &Arc<Facts>) -> Called<Decision> {
        let exports = |one: &Generation| one.code.resolves();
        self.call(event, facts, Guest::connect, exports, Decision::Pass, CONNECT, false)
    }

    /// Asks the enricher at connect; as [`connect`](Self::connect).
    #[must_use]
    pub fn enrich_session(&self, event: &Arc<Event>, facts: &Arc<Facts>) -> Called<SessionEnriched> {
        let exports = |one: &Generation| one.code.exports.enrich_session.is_some();
        self.call(event, facts, Guest::enrich_session, exports, SessionEnriched::Pass, CONNECT, false)
    }

    #[expect(clippy::too_many_arguments, reason = "one place for all four calls")]
    fn call<T: Send + 'static>(
        &self,
        event: &Arc<Event>,
        facts: &Arc<Facts>,
        ask: Operation<T>,
        exports: fn(&Generation) -> bool,
        pass: T,
        hard: Duration,
        inline: bool,
    ) -> Called<T> {
        let Some((generation, old)) = self.chosen() else { return Called::Ready(Err(self.not_loaded())) };
        if !exports(generation) {
            return Called::Ready(Ok(Served { value: pass, generation: generation.number }));
        }
        let mut failed = None;
        if inline && generation.pace.is_inline() {
            match generation.inline(event, facts, ask) {
                Some(Ok(value)) => return Called::Ready(Ok(Served { value, generation: generation.number })),
                Some(Err(failure)) if old.is_none() => return Called::Ready(Err(self.fault(failure))),
                Some(Err(failure)) => failed = Some(failure),
                None => {}
            }
        }
        let asked = Asked(Arc::new(Mutex::new(Some((event.clone(), facts.clone())))));
        let job = Job {
            plugin: self.plugin.clone(),
            generation: generation.clone(),
            old: old.filter(|old| exports(old)).cloned(),
            ask,
            hard,
        };
        let (answer, result) = oneshot::channel();
        let input = asked.0.clone();
        self.plugin.workers.submit(move || {
            let Some((event, facts)) = input.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
            // Who asked may be gone meanwhile: the call was made all the same.
            answer.send(job.run(&event, &facts, failed)).ok();
        });
        let name = self.plugin.name().clone();
        let later = async move {
            let result = result.await;
            drop(asked);
            result.unwrap_or_else(|_| {
                let message = "no thread could be made for it".to_owned();
                Err(Fault { plugin: name, kind: FaultKind::NotLoaded, message })
            })
        };
        Called::Later(later.boxed())
    }

    fn fault(&self, (kind, message): Failure) -> Fault {
        Fault { plugin: self.plugin.name().clone(), kind, message }
    }

    fn not_loaded(&self) -> Fault {
        let status = self.plugin.status();
        let message = match &status.broken {
            Some(why) => format!("its component is broken: {why}"),
            None => "no component of that name is in the plugins folder".to_owned(),
        };
        self.fault((FaultKind::NotLoaded, message))
    }
}

/// What a waiting call is about, taken back when nobody waits any more: the queue holds nothing of clients that hung up.
struct Asked(Arc<Mutex<Option<Input>>>);

type Input = (Arc<Event>, Arc<Facts>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// One call on the plugin's own threads.
struct Job<T> {
    plugin: Arc<Plugin>,
    generation: Arc<Generation>,
    old: Option<Arc<Generation>>,
    ask: Operation<T>,
    hard: Duration,
}

impl<T> Job<T> {
    /// `failed`: how it went on the thread that asked.
    fn run(self, event: &Arc<Event>, facts: &Arc<Facts>, failed: Option<Failure>) -> Result<Served<T>, Fault> {
        let generation = &self.generation;
        let first = match failed {
            Some(failure) => Err(failure),
            None => generation.own(event, facts, self.ask, self.hard),
        };
        let (kind, message) = match first {
            Ok(value) => return Ok(Served { value, generation: generation.number }),
            Err(failure) => failure,
        };
        if let Some(old) = &self.old
            && let Ok(value) = old.own(event, facts, self.ask, self.hard)
        {
            if kind != FaultKind::Breaker {
                self.plugin.rescued(generation);
            }
            return Ok(Served { value, generation: old.number });
        }
        Err(Fault { plugin: self.plugin.name().clone(), kind, message })
    }
}
