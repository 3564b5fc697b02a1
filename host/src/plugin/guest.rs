//! One instance of a component: a store, and the functions that the component exports. Used by one thread at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::{ComponentExportIndex, InstancePre, Resource, TypedFunc};
use wasmtime::{Store, Trap};

use super::answer::{self, Description, Mapping};
use super::clock::{INIT, Late};
use super::lend::{Lent, State};
use super::outcome::{self, Mapped};
use super::voice::cut;
use super::{Decision, Facts, FaultKind, Output, Resolution, SessionEnriched, Stepped};
use crate::event::Event;

type Asked<T> = TypedFunc<(Resource<Lent>,), (T,)>;

/// Where a component keeps what the interface names; of one compiled component.
#[derive(Clone, Default)]
pub(super) struct Exports {
    pub(super) describe: Option<ComponentExportIndex>,
    pub(super) init: Option<ComponentExportIndex>,
    pub(super) connect: Option<ComponentExportIndex>,
    pub(super) resolve: Option<ComponentExportIndex>,
    pub(super) transform: Option<ComponentExportIndex>,
    pub(super) enrich: Option<ComponentExportIndex>,
    pub(super) enrich_session: Option<ComponentExportIndex>,
}

/// See the module's documentation.
pub(super) struct Guest {
    store: Store<State>,
    connect: Option<Asked<answer::Decision>>,
    resolve: Option<Asked<answer::Resolution>>,
    transform: Option<Asked<Mapping>>,
    enrich: Option<Asked<answer::Enrichment>>,
    enrich_session: Option<Asked<answer::Enrichment>>,
    pub(super) born: Instant,
    pub(super) calls: u64,
}

/// Why a call brought nothing, before it is known whose call it was.
pub(super) type Failure = (FaultKind, String);

/// Bytes that `describe` and `init` may say.
const WORDS: usize = 4 << 20;

/// How much time a call has.
#[derive(Clone, Copy)]
pub(super) struct Deadlines {
    pub(super) soft: Duration,
    pub(super) hard: Duration,
}

impl Guest {
    /// An instance that `init` took the configuration in.
    ///
    /// # Errors
    /// In words; a trap's or the guest's own.
    pub(super) fn new(pre: &InstancePre<State>, exports: &Exports, state: State, config: &str) -> Result<Self, String> {
        let mut store = Store::new(pre.engine(), state);
        store.limiter(|state| &mut state.memory);
        store.epoch_deadline_callback(|mut cx| cx.data_mut().clock.look());
        store.set_hostcall_fuel(WORDS);
        arm(&mut store, INIT, INIT);
        let told = |store: &Store<State>, error: &wasmtime::Error, what| {
            let (_, why) = failure(store, error);
            format!("{what}: {why}")
        };
        let instance =
            pre.instantiate(&mut store).map_err(|error| told(&store, &error, "it cannot be instantiated"))?;
        let init = exports.init.as_ref().ok_or("it exports no `init`")?;
        let init = instance
            .get_typed_func::<(&str,), (Result<(), String>,)>(&mut store, init)
            .map_err(|error| format!("its `init` has another type: {error:#}"))?;
        arm(&mut store, INIT, INIT);
        match init.call(&mut store, (config,)) {
            Ok((Ok(()),)) => {}
            Ok((Err(text),)) => return Err(format!("its `init` refuses the configuration: {}", cut(&text, 1024))),
            Err(error) => return Err(told(&store, &error, "its `init` failed")),
        }
        macro_rules! typed {
            ($name:ident) => {
                match &exports.$name {
                    None => None,
                    Some(index) => Some(
                        instance
                            .get_typed_func(&mut store, index)
                            .map_err(|error| format!("its `{}` has another type: {error:#}", stringify!($name)))?,
                    ),
                }
            };
        }
        let (connect, resolve, transform) = (typed!(connect), typed!(resolve), typed!(transform));
        let (enrich, enrich_session) = (typed!(enrich), typed!(enrich_session));
        let born = Instant::now();
        Ok(Self { store, connect, resolve, transform, enrich, enrich_session, born, calls: 0 })
    }

    /// What the component says of itself, asked in an instance of its own before there is a configuration.
    ///
    /// # Errors
    /// In words.
    pub(super) fn describe(pre: &InstancePre<State>, exports: &Exports, state: State) -> Result<Description, String> {
        let mut store = Store::new(pre.engine(), state);
        store.limiter(|state| &mut state.memory);
        store.epoch_deadline_callback(|mut cx| cx.data_mut().clock.look());
        store.set_hostcall_fuel(WORDS);
        arm(&mut store, INIT, INIT);
        let asked = pre.instantiate(&mut store).and_then(|instance| {
            let describe = exports.describe.as_ref().ok_or_else(|| wasmtime::Error::msg("it exports no `describe`"))?;
            instance.get_typed_func::<(), (Description,)>(&mut store, describe)?.call(&mut store, ())
        });
        asked.map(|(description,)| description).map_err(|error| {
            let (_, why) = failure(&store, &error);
            format!("its `describe` failed: {why}")
        })
    }

    /// Bytes of its memories.
    pub(super) fn memory(&self) -> usize {
        self.store.data().memory.used
    }

    /// Whether the last call passed its soft deadline.
    pub(super) fn was_slow(&self) -> bool {
        self.store.data().clock.passed_soft()
    }

    fn lend(&mut self, event: &Arc<Event>, facts: &Arc<Facts>, time: Deadlines) {
        self.calls += 1;
        let state = self.store.data_mut();
        state.event = Some(event.clone());
        state.facts = Some(facts.clone());
        self.store.set_hostcall_fuel(outcome::allowance(event).saturating_add(1 << 20));
        arm(&mut self.store, time.soft, time.hard);
    }

    /// Takes the event back: nothing of a session stays with a guest between calls.
    fn take_back<T>(&mut self, called: wasmtime::Result<(T,)>) -> Result<T, Failure> {
        let result = called.map(|(answer,)| answer).map_err(|error| failure(&self.store, &error));
        let state = self.store.data_mut();
        (state.event, state.facts) = (None, None);
        result
    }

    pub(super) fn step(&mut self, event: &Arc<Event>, facts: &Arc<Facts>, time: Deadlines) -> Result<Stepped, Failure> {
        let mut patched = None;
        if let Some(enrich) = &self.enrich {
            let enrich = *enrich;
            self.lend(event, facts, time);
            let called = enrich.call(&mut self.store, (Resource::new_borrow(0),));
            let answer = self.take_back(called)?;
            match outcome::enriched(answer, event, &self.store.data().voice) {
                Ok(event) => patched = event,
                Err(rejection) => return Ok(Stepped::Reject(rejection)),
            }
        }
        let current = patched.as_ref().unwrap_or(event);
        let mapped = match &self.transform {
            None => Mapped::Pass,
            Some(transform) => {
                let transform = *transform;
                let current = current.clone();
                self.lend(&current, facts, time);
                let called = transform.call(&mut self.store, (Resource::new_borrow(0),));
                let answer = self.take_back(called)?;
                outcome::mapped(answer, &current, &self.store.data().voice).map_err(|text| (FaultKind::Output, text))?
            }
        };
        Ok(match (mapped, patched) {
            (Mapped::Pass, None) => Stepped::Pass,
            (Mapped::Pass, Some(event)) => {
                Stepped::Out(vec![Output { event: Arc::unwrap_or_clone(event), address: None }])
            }
            (Mapped::Out(outputs), _) => Stepped::Out(outputs),
            (Mapped::Reject(rejection), _) => Stepped::Reject(rejection),
        })
    }

    pub(super) fn resolve(
        &mut self,
        event: &Arc<Event>,
        facts: &Arc<Facts>,
        time: Deadlines,
    ) -> Result<Resolution, Failure> {
        let Some(resolve) = self.resolve else { return Ok(Resolution::Pass) };
        self.lend(event, facts, time);
        let called = resolve.call(&mut self.store, (Resource::new_borrow(0),));
        outcome::resolution(self.take_back(called)?).map_err(|text| (FaultKind::Output, text))
    }

    pub(super) fn connect(
        &mut self,
        event: &Arc<Event>,
        facts: &Arc<Facts>,
        time: Deadlines,
    ) -> Result<Decision, Failure> {
        let Some(connect) = self.connect else { return Ok(Decision::Pass) };
        self.lend(event, facts, time);
        let called = connect.call(&mut self.store, (Resource::new_borrow(0),));
        self.take_back(called).map(outcome::decision)
    }

    pub(super) fn enrich_session(
        &mut self,
        event: &Arc<Event>,
        facts: &Arc<Facts>,
        time: Deadlines,
    ) -> Result<SessionEnriched, Failure> {
        let Some(enrich) = self.enrich_session else { return Ok(SessionEnriched::Pass) };
        self.lend(event, facts, time);
        let called = enrich.call(&mut self.store, (Resource::new_borrow(0),));
        self.take_back(called).map(outcome::session)
    }
}

fn arm(store: &mut Store<State>, soft: Duration, hard: Duration) {
    let ticks = store.data_mut().clock.begin(soft, hard);
    store.set_epoch_deadline(ticks);
}

/// What a failed call means.
fn failure(store: &Store<State>, error: &wasmtime::Error) -> Failure {
    if let Some(late) = error.downcast_ref::<Late>() {
        return (FaultKind::Deadline, late.to_string());
    }
    let memory = &store.data().memory;
    let mut text = match error.downcast_ref::<Trap>() {
        Some(trap) => format!("it trapped: {trap}"),
        None => format!("it trapped: {}", cut(&error.root_cause().to_string(), 512)),
    };
    if memory.refused {
        text = format!("out of memory: it may have {} bytes (`max_memory`); {text}", memory.cap);
    }
    if let Some(frame) = error.downcast_ref::<wasmtime::WasmBacktrace>().and_then(|trace| trace.frames().first())
        && let Some(function) = frame.func_name()
    {
        text += &format!(" in {}", cut(function, 200));
    }
    (FaultKind::Trap, text)
}
