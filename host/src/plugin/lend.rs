//! The host's side of the interface: the event that is lent for one call, logging, counters, the clock.
//!
//! The event lives in the store's data and guests hold a number that means *the one of this call*: no table is needed, and
//! nothing is copied into a guest that does not ask.
#![allow(unsafe_code, reason = "derived: the component model's layout of two enums")]

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use wasmtime::component::{ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType, WasmStr};
use wasmtime::{Error, ResourceLimiter, Result, StoreContextMut};

use super::clock::Clock;
use super::voice::{LINE, Voice, cut};
use super::{Connect, Facts};
use crate::config;
use crate::event::{self, Event, Payload};

/// What a handle to an event means to wasmtime; there is never a value of it.
pub(super) enum Lent {}

/// The store's data: one an instance.
pub(super) struct State {
    pub(super) event: Option<Arc<Event>>,
    pub(super) facts: Option<Arc<Facts>>,
    pub(super) clock: Clock,
    pub(super) memory: Memory,
    pub(super) voice: Arc<Voice>,
    pub(super) counters: Arc<[(Box<str>, Counter)]>,
}

type Context<'a> = StoreContextMut<'a, State>;
type Borrowed = (Resource<Lent>,);

#[derive(Clone, Copy, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
enum Direction {
    #[component(name = "upstream")]
    Upstream,
    #[component(name = "downstream")]
    Downstream,
}

#[derive(Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "made by lifting only")]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

/// The memory of one instance, all its linear memories and tables together.
pub(super) struct Memory {
    pub(super) cap: usize,
    pub(super) used: usize,
    /// It asked for more than it may have.
    pub(super) refused: bool,
    /// Of all instances of the generation.
    all: Arc<Usage>,
}

/// What all instances of a generation have together.
#[derive(Default)]
pub(super) struct Usage {
    pub(super) bytes: AtomicUsize,
    pub(super) instances: AtomicUsize,
}

impl Memory {
    /// Of a new instance that may have `cap` bytes.
    pub(super) fn new(cap: usize, all: Arc<Usage>) -> Self {
        all.instances.fetch_add(1, Relaxed);
        Self { cap, used: 0, refused: false, all }
    }

    fn grow(&mut self, more: usize) -> bool {
        if self.used.saturating_add(more) > self.cap {
            self.refused = true;
            return false;
        }
        self.used += more;
        self.all.bytes.fetch_add(more, Relaxed);
        true
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.all.bytes.fetch_sub(self.used, Relaxed);
        self.all.instances.fetch_sub(1, Relaxed);
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        Ok(self.grow(desired.saturating_sub(current)))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        Ok(self.grow(desired.saturating_sub(current).saturating_mul(size_of::<usize>())))
    }

    fn instances(&self) -> usize {
        64
    }

    fn tables(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        16
    }
}

impl State {
    fn event(&self) -> Result<&Event> {
        self.event.as_deref().ok_or_else(no_event)
    }

    fn facts(&self) -> Result<&Facts> {
        self.facts.as_deref().ok_or_else(no_event)
    }

    fn payload(&self) -> Result<Option<&Payload>> {
        Ok(self.event()?.payload.as_ref())
    }
}

fn no_event() -> Error {
    Error::msg("an event was asked for when none was lent")
}

/// Offers the interface to guests.
pub(super) fn offer(linker: &mut Linker<State>) -> Result<()> {
    events(&mut linker.instance("mediation:plugin/types@0.1.0")?)?;
    host(&mut linker.instance("mediation:plugin/host@0.1.0")?)
}

fn events(to: &mut LinkerInstance<'_, State>) -> Result<()> {
    to.resource("event", ResourceType::host::<Lent>(), |_, _| Ok(()))?;
    to.func_wrap("[method]event.id", |cx: Context<'_>, _: Borrowed| Ok((cx.data().event()?.id.to_string(),)))?;
    to.func_wrap("[method]event.source-id", |cx: Context<'_>, _: Borrowed| Ok((cx.data().event()?.source.clone(),)))?;
    to.func_wrap("[method]event.route", |cx: Context<'_>, _: Borrowed| Ok((cx.data().facts()?.route.clone(),)))?;
    to.func_wrap("[method]event.direction", |cx: Context<'_>, _: Borrowed| {
        Ok((match cx.data().facts()?.direction {
            config::Direction::Upstream => Direction::Upstream,
            config::Direction::Downstream => Direction::Downstream,
        },))
    })?;
    to.func_wrap("[method]event.client-id", |cx: Context<'_>, _: Borrowed| {
        Ok((cx.data().facts()?.client_id.clone(),))
    })?;
    to.func_wrap("[method]event.timestamp-ms", |cx: Context<'_>, _: Borrowed| {
        Ok((u64::try_from(cx.data().event()?.timestamp_ms).unwrap_or(0),))
    })?;
    to.func_wrap("[method]event.get", |cx: Context<'_>, (_, key): (Resource<Lent>, WasmStr)| {
        let key = key.to_str(&cx)?;
        Ok((get(cx.data().event()?, cx.data().facts()?, &key).map(Cow::into_owned),))
    })?;
    to.func_wrap("[method]event.metadata", |cx: Context<'_>, _: Borrowed| {
        Ok((metadata(cx.data().event()?, cx.data().facts()?),))
    })?;
    to.func_wrap("[method]event.header", |cx: Context<'_>, (_, name): (Resource<Lent>, WasmStr)| {
        let name = name.to_str(&cx)?;
        let all = cx.data().event()?.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(&name));
        Ok((all.filter_map(|header| header.value.clone()).collect::<Vec<Bytes>>(),))
    })?;
    to.func_wrap("[method]event.key", |cx: Context<'_>, _: Borrowed| Ok((cx.data().event()?.key.clone(),)))?;
    to.func_wrap("[method]event.has-payload", |cx: Context<'_>, _: Borrowed| Ok((cx.data().payload()?.is_some(),)))?;
    to.func_wrap("[method]event.payload-size", |cx: Context<'_>, _: Borrowed| {
        Ok((cx.data().payload()?.map_or(0, |payload| payload.len() as u64),))
    })?;
    to.func_wrap("[method]event.payload", |cx: Context<'_>, _: Borrowed| {
        Ok((cx.data().payload()?.map(Payload::to_bytes).unwrap_or_default(),))
    })?;
    to.func_wrap("[method]event.payload-range", |cx: Context<'_>, range: (Resource<Lent>, u64, u32)| {
        let Some(payload) = cx.data().payload()? else { return Ok((Bytes::new(),)) };
        let left = (payload.len() as u64).saturating_sub(range.1);
        let mut pieces = Vec::with_capacity(1);
        payload.share(range.1, left.min(range.2.into()), &mut pieces);
        Ok((Payload::joined(pieces).to_bytes(),))
    })
}

fn host(to: &mut LinkerInstance<'_, State>) -> Result<()> {
    to.func_wrap("log-enabled", |_: Context<'_>, (level,): (Level,)| Ok((Voice::hears(level.into()),)))?;
    to.func_wrap("log", |cx: Context<'_>, (level, text): (Level, WasmStr)| {
        // A dropped line costs nothing but its count.
        if Voice::hears(level.into()) && cx.data().voice.may_speak() {
            cx.data().voice.say(level.into(), cut(&text.to_str(&cx)?, LINE));
        }
        Ok(())
    })?;
    to.func_wrap("count", |cx: Context<'_>, (name, delta): (WasmStr, u64)| {
        let name = name.to_str(&cx)?;
        if let Some((_, counter)) = cx.data().counters.iter().find(|(known, _)| **known == *name) {
            counter.inc_by(delta);
        }
        Ok(())
    })?;
    to.func_wrap("now-ms", |_: Context<'_>, ()| Ok((u64::try_from(event::now_ms()).unwrap_or(0),)))
}

impl From<Level> for tracing::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::TRACE,
            Level::Debug => Self::DEBUG,
            Level::Info => Self::INFO,
            Level::Warn => Self::WARN,
            Level::Error => Self::ERROR,
        }
    }
}

/// One metadata key: the event's own, the session's attributes, what the client asked for when it came.
fn get<'a>(event: &'a Event, facts: &'a Facts, key: &str) -> Option<Cow<'a, str>> {
    if let Some(found) = event.get(key) {
        return Some(found);
    }
    if let Some(name) = key.strip_prefix("session.") {
        return facts.attributes.iter().find(|(known, _)| **known == *name).map(|(_, value)| Cow::Borrowed(&**value));
    }
    let Connect { method, path, query, peer_address, subprotocol } = &facts.connect;
    let text = match key {
        "method" => method,
        "path" => path,
        "peer_address" => peer_address,
        "subprotocol" => subprotocol,
        _ => {
            let name = key.strip_prefix("query.")?;
            return form_urlencoded::parse(query.as_bytes()).find(|(known, _)| known == name).map(|(_, value)| value);
        }
    };
    (!text.is_empty()).then_some(Cow::Borrowed(&**text))
}

/// All metadata that [`get`] finds.
fn metadata(event: &Event, facts: &Facts) -> Vec<(String, String)> {
    let mut all = event.metadata();
    // A query may have thousands of keys.
    let mut known: HashSet<String> = all.iter().map(|(key, _)| key.clone()).collect();
    let mut add = |key: String, value: &str| {
        // Each key once, the event's own first; a key that a plugin removed may come from the connect data again.
        if !known.contains(&key) {
            known.insert(key.clone());
            all.push((key, value.to_owned()));
        }
    };
    facts.attributes.iter().for_each(|(key, value)| add(format!("session.{key}"), value));
    for key in ["method", "path", "peer_address", "subprotocol"] {
        if let Some(value) = get(event, facts, key) {
            add(key.to_owned(), &value);
        }
    }
    for (key, value) in form_urlencoded::parse(facts.connect.query.as_bytes()) {
        add(format!("query.{key}"), &value);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::samples;

    #[test]
    fn metadata_is_the_events_the_sessions_and_the_connects() {
        let mut event = samples::event(b"x");
        assert!(event.set("path", "mine"));
        let facts = samples::facts();
        let text = |key: &str| get(&event, &facts, key).map(Cow::into_owned);
        for (key, value) in [
            ("protocol", Some("memory")),
            ("path", Some("mine")),
            ("method", Some("GET")),
            ("session.tenant", Some("acme")),
            ("query.a", Some("1 2")),
            ("query.b", None),
            ("subprotocol", None),
            ("tenant", None),
        ] {
            assert_eq!(text(key).as_deref(), value, "{key}");
        }
        for (key, value) in metadata(&event, &facts) {
            assert_eq!(text(&key), Some(value), "{key}");
        }
    }
}
