//! The chain of a route: which plugins an event passes, in which order, and what a failure of each means.
//!
//! An event sees one generation of each plugin: they are pinned when it enters. While all of them run inline it is
//! through when [`Chain::pass`] returns; where one has threads of its own the rest is a future.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use super::{Called, Facts, Fault, FaultKind, Output, Pin, Plugin, Rejection, Resolution, Served, Stepped, Target};
use crate::config::{Direction, OnError};
use crate::event::{Event, EventId};

/// Events that one event may become in a whole chain.
pub const MAX_OUTPUTS: usize = 64;

/// What stands between a route's two ends; replaced as a whole when plugins come and go.
#[derive(Default)]
pub struct Chain {
    /// Asked at connect, and about each upstream event.
    pub resolvers: Vec<Arc<Plugin>>,
    /// Passed by each event, in this order.
    pub steps: Vec<Step>,
}

/// One plugin in a chain.
pub struct Step {
    /// Which.
    pub plugin: Arc<Plugin>,
    /// What becomes of an event that it fails.
    pub on_error: OnError,
}

/// What became of an event in the chain.
#[derive(Debug)]
pub struct Passed {
    /// What comes of it, or why nothing does.
    pub result: Result<Outcome, Failure>,
    /// The generation that each plugin served it with.
    pub generations: Generations,
}

/// (plugin, generation), in the order of the chain.
pub type Generations = SmallVec<[(Arc<str>, u32); 2]>;

/// What comes of an event; no events: it is dropped.
#[derive(Debug)]
pub struct Outcome {
    /// In order.
    pub events: SmallVec<[Routed; 1]>,
    /// What a resolver chose; None: the session's target.
    pub targets: Option<Vec<Target>>,
}

/// An event and where a mapper wants it.
#[derive(Debug, Clone)]
pub struct Routed {
    /// It.
    pub event: Arc<Event>,
    /// Upstream: instead of the target's own address.
    pub address: Option<Arc<str>>,
}

/// An event that did not pass.
#[derive(Debug, Clone)]
pub struct Failure {
    /// At which plugin.
    pub plugin: Arc<str>,
    /// What it said, or did.
    pub why: Why,
    /// What is to become of the event.
    pub then: Then,
}

/// Why an event did not pass.
#[derive(Debug, Clone)]
pub enum Why {
    /// The plugin's fault.
    Fault(Fault),
    /// It refused it.
    Rejection(Rejection),
}

/// What is to become of an event that did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It is tried again.
    Again,
    /// It goes to the dead letters; without such it is tried again.
    DeadLetter,
    /// It goes to the dead letters; without such it is gone.
    Refuse,
}

impl Failure {
    /// As a metric label and as `mediation.reason`.
    #[must_use]
    pub fn reason(&self) -> String {
        match &self.why {
            Why::Fault(fault) => format!("plugin_{}", fault.kind),
            Why::Rejection(rejection) => format!("rejected:{}", rejection.code),
        }
    }

    /// The plugin was not asked at all: it is not there, or left alone for a while. That says nothing of the event.
    #[must_use]
    pub fn unasked(&self) -> bool {
        matches!(&self.why, Why::Fault(Fault { kind: FaultKind::Breaker | FaultKind::NotLoaded, .. }))
    }

    /// As a label with few values.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match &self.why {
            Why::Fault(_) => "plugin_fault",
            Why::Rejection(_) => "rejected",
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.why {
            Why::Fault(fault) => write!(f, "{fault}"),
            Why::Rejection(Rejection { code, message, .. }) => {
                write!(f, "plugin {:?} refuses it: {code}: {message}", self.plugin)
            }
        }
    }
}

/// An event on its way through a chain.
pub enum Passing {
    /// It is through.
    Ready(Passed),
    /// A plugin on threads of its own has it.
    Later(futures_util::future::BoxFuture<'static, Passed>),
}

impl Chain {
    /// Events pass as they are.
    #[must_use]
    pub fn is_empty(&self, direction: Direction) -> bool {
        self.steps.is_empty() && (direction == Direction::Downstream || self.resolvers.is_empty())
    }

    /// Sends one event through.
    #[must_use]
    pub fn pass(self: &Arc<Self>, event: &Arc<Event>, facts: &Arc<Facts>, seed: u64) -> Passing {
        let resolvers = if facts.direction == Direction::Upstream { &*self.resolvers } else { &[] };
        let plugins = resolvers.iter().chain(self.steps.iter().map(|step| &step.plugin));
        let mut run = Run {
            chain: self.clone(),
            pins: plugins.map(|plugin| plugin.pin(seed)).collect(),
            resolvers: resolvers.len(),
            facts: facts.clone(),
            event: event.clone(),
            targets: None,
            current: smallvec![Routed { event: event.clone(), address: None }],
            next: SmallVec::new(),
            generations: SmallVec::new(),
            at: 0,
        };
        match run.advance() {
            Ok(passed) => Passing::Ready(passed),
            Err(mut waiting) => Passing::Later(Box::pin(async move {
                loop {
                    let ended = match waiting {
                        Waiting::Resolve(called) => run.resolved(called.await),
                        Waiting::Step(called) => run.stepped(called.await),
                    };
                    match ended.map_or_else(|| run.advance(), Ok) {
                        Ok(passed) => return passed,
                        Err(next) => waiting = next,
                    }
                }
            })),
        }
    }
}

type Soon<T> = futures_util::future::BoxFuture<'static, Result<Served<T>, Fault>>;

enum Waiting {
    Resolve(Soon<Resolution>),
    Step(Soon<Stepped>),
}

struct Run {
    chain: Arc<Chain>,
    pins: SmallVec<[Pin; 4]>,
    resolvers: usize,
    facts: Arc<Facts>,
    event: Arc<Event>,
    targets: Option<Vec<Target>>,
    /// What the plugin that has its turn still has to see, last first.
    current: SmallVec<[Routed; 1]>,
    /// What it made of the others.
    next: SmallVec<[Routed; 1]>,
    generations: Generations,
    at: usize,
}

impl Run {
    /// Goes on until the event is through, or has to wait.
    fn advance(&mut self) -> Result<Passed, Waiting> {
        loop {
            let Some(pin) = self.pins.get(self.at) else { return Ok(self.through()) };
            if self.at < self.resolvers {
                match pin.resolve(&self.event, &self.facts) {
                    Called::Later(soon) => return Err(Waiting::Resolve(soon)),
                    Called::Ready(done) => {
                        if let Some(ended) = self.resolved(done) {
                            return Ok(ended);
                        }
                    }
                }
                continue;
            }
            let Some(input) = self.current.last() else {
                // All outputs are through this plugin: the next sees them in order.
                std::mem::swap(&mut self.current, &mut self.next);
                self.current.reverse();
                self.at += 1;
                if self.current.is_empty() {
                    return Ok(self.through());
                }
                continue;
            };
            match pin.step(&input.event, &self.facts) {
                Called::Later(soon) => return Err(Waiting::Step(soon)),
                Called::Ready(done) => {
                    if let Some(ended) = self.stepped(done) {
                        return Ok(ended);
                    }
                }
            }
        }
    }

    fn resolved(&mut self, done: Result<Served<Resolution>, Fault>) -> Option<Passed> {
        let served = match done {
            Ok(served) => served,
            // A resolver decides who may: there is no going on without it.
            Err(fault) => return Some(self.failed(Why::Fault(fault), Then::Again)),
        };
        self.served(served.generation);
        match served.value {
            Resolution::Pass => {}
            Resolution::Targets(targets) if targets.is_empty() => {
                self.current.clear();
                return Some(self.through());
            }
            Resolution::Targets(targets) => self.targets = Some(targets),
            Resolution::Reject(rejection) => return Some(self.rejected(rejection)),
        }
        self.at += 1;
        None
    }

    fn stepped(&mut self, done: Result<Served<Stepped>, Fault>) -> Option<Passed> {
        let on_error = self.chain.steps.get(self.at - self.resolvers).map_or(OnError::Closed, |step| step.on_error);
        let served = match (done, on_error) {
            (Ok(served), _) => served,
            (Err(_), OnError::Open) => {
                self.next.extend(self.current.pop());
                return None;
            }
            (Err(fault), OnError::Closed) => return Some(self.failed(Why::Fault(fault), Then::Again)),
            (Err(fault), OnError::DeadLetter) => return Some(self.failed(Why::Fault(fault), Then::DeadLetter)),
        };
        self.served(served.generation);
        let input = self.current.pop()?;
        match served.value {
            Stepped::Pass => self.next.push(input),
            Stepped::Out(outputs) => {
                if self.next.len() + self.current.len() + outputs.len() > MAX_OUTPUTS {
                    let plugin = self.name();
                    let message = format!("its chain makes more than {MAX_OUTPUTS} events of one");
                    let fault = Fault { plugin, kind: FaultKind::Output, message };
                    return Some(self.failed(Why::Fault(fault), Then::Refuse));
                }
                let routed = |Output { event, address }| Routed {
                    event: Arc::new(event),
                    address: address.or_else(|| input.address.clone()),
                };
                self.next.extend(outputs.into_iter().map(routed));
            }
            Stepped::Reject(rejection) => return Some(self.rejected(rejection)),
        }
        None
    }

    fn name(&self) -> Arc<str> {
        let steps = self.chain.steps.iter().map(|step| &step.plugin);
        let mut plugins = self.chain.resolvers.iter().take(self.resolvers).chain(steps);
        plugins.nth(self.at).map_or_else(|| "".into(), |plugin| plugin.name().clone())
    }

    fn served(&mut self, generation: u32) {
        // Once a plugin, though it may have seen several outputs.
        let name = self.name();
        if self.generations.last().is_none_or(|(last, _)| !Arc::ptr_eq(last, &name)) {
            self.generations.push((name, generation));
        }
    }

    fn rejected(&mut self, rejection: Rejection) -> Passed {
        let then = if rejection.retry { Then::Again } else { Then::Refuse };
        self.failed(Why::Rejection(rejection), then)
    }

    fn failed(&mut self, why: Why, then: Then) -> Passed {
        let failure = Failure { plugin: self.name(), why, then };
        Passed { result: Err(failure), generations: std::mem::take(&mut self.generations) }
    }

    fn through(&mut self) -> Passed {
        let mut events = std::mem::take(&mut self.current);
        // Last first.
        events.reverse();
        if events.len() > 1 {
            let of = Arc::new(self.event.id.clone());
            for (part, routed) in (1_u16..).zip(&mut events) {
                let id = EventId::Part { of: of.clone(), part };
                let event = Arc::make_mut(&mut routed.event);
                rename(event, id);
            }
        }
        let targets = self.targets.take();
        let outcome = Outcome { events, targets };
        Passed { result: Ok(outcome), generations: std::mem::take(&mut self.generations) }
    }
}

/// Gives an event its own id, in the header too that carries it to a broker.
fn rename(event: &mut Event, id: EventId) {
    if let Some(header) = event.headers.iter_mut().find(|header| &*header.name == crate::event::ID_HEADER) {
        header.value = Some(Bytes::from(id.to_string()));
    }
    event.id = id;
}
