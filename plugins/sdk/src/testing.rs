//! The engine's side, natively: an event that a test fills, what was logged and counted, and a clock that it sets.

use crate::Direction;

/// An event as a test makes it. [`Event::lend`] gives what a plugin is called with.
#[derive(Clone, Debug)]
pub struct Event {
    id: String,
    route: String,
    source_id: String,
    direction: Direction,
    client_id: String,
    timestamp_ms: u64,
    metadata: Vec<(String, String)>,
    headers: Vec<(String, Vec<u8>)>,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
}

impl Default for Event {
    fn default() -> Self {
        Event::upstream()
    }
}

impl Event {
    fn new(direction: Direction) -> Self {
        Event {
            id: "event-1".into(),
            route: "route-1".into(),
            source_id: "source-1".into(),
            direction,
            client_id: "client-1".into(),
            timestamp_ms: 1_700_000_000_000,
            metadata: Vec::new(),
            headers: Vec::new(),
            key: None,
            payload: Some(Vec::new()),
        }
    }

    /// Towards the broker, with an empty payload.
    pub fn upstream() -> Self {
        Event::new(Direction::Upstream)
    }

    /// Towards clients, with an empty payload.
    pub fn downstream() -> Self {
        Event::new(Direction::Downstream)
    }

    /// With this payload.
    pub fn with_payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = Some(payload.into());
        self
    }

    /// Without one: a tombstone.
    pub fn without_payload(mut self) -> Self {
        self.payload = None;
        self
    }

    /// With one metadata pair more.
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.metadata.retain(|(k, _)| k != key);
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// With one header more, raw and as metadata where it is text.
    pub fn with_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        let value = value.into();
        if let Ok(text) = std::str::from_utf8(&value) {
            self = self.with(&format!("header.{name}"), text);
        }
        self.headers.push((name.into(), value));
        self
    }

    /// With this ordering key.
    pub fn with_key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Of this client.
    pub fn with_client_id(mut self, id: &str) -> Self {
        self.client_id = id.into();
        self
    }

    /// What a plugin is called with.
    pub fn lend(&self) -> crate::Event<'_> {
        crate::Event::new(self)
    }
}

/// The interface's methods, as [`crate::Event`] calls them on either side.
impl Event {
    pub(crate) fn id(&self) -> String {
        self.id.clone()
    }
    pub(crate) fn source_id(&self) -> String {
        self.source_id.clone()
    }
    pub(crate) fn route(&self) -> String {
        self.route.clone()
    }
    pub(crate) fn direction(&self) -> Direction {
        self.direction
    }
    pub(crate) fn client_id(&self) -> String {
        self.client_id.clone()
    }
    pub(crate) fn timestamp_ms(&self) -> u64 {
        self.timestamp_ms
    }
    pub(crate) fn get(&self, key: &str) -> Option<String> {
        self.metadata.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone())
    }
    pub(crate) fn metadata(&self) -> Vec<(String, String)> {
        self.metadata.clone()
    }
    pub(crate) fn header(&self, name: &str) -> Vec<Vec<u8>> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.clone()).collect()
    }
    pub(crate) fn key(&self) -> Option<Vec<u8>> {
        self.key.clone()
    }
    pub(crate) fn has_payload(&self) -> bool {
        self.payload.is_some()
    }
    pub(crate) fn payload_size(&self) -> u64 {
        self.payload.as_ref().map_or(0, |p| p.len() as u64)
    }
    pub(crate) fn payload(&self) -> Vec<u8> {
        self.payload.clone().unwrap_or_default()
    }
    pub(crate) fn payload_range(&self, offset: u64, size: u32) -> Vec<u8> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.payload.iter().flatten().skip(offset).take(size as usize).copied().collect()
    }
}

/// The payload that an output has, given the input's: what the engine makes of `same`, ranges and bytes.
pub fn payload_of(output: &crate::Output, input: &[u8]) -> Option<Vec<u8>> {
    match &output.body {
        crate::Body::Same => Some(input.to_vec()),
        crate::Body::Absent => None,
        crate::Body::Pieces(pieces) => {
            let mut payload = Vec::new();
            for piece in pieces {
                match piece {
                    crate::Piece::Bytes(bytes) => payload.extend_from_slice(bytes),
                    crate::Piece::Range((offset, size)) => {
                        let (offset, size) = (*offset as usize, *size as usize);
                        let part = offset.checked_add(size).and_then(|end| input.get(offset..end));
                        payload.extend_from_slice(part?);
                    }
                }
            }
            Some(payload)
        }
    }
}

/// What this thread's plugin logged until now, taken.
pub fn logged() -> Vec<String> {
    host::LOGGED.take()
}

/// What this thread's plugin counted on one counter.
pub fn counted(counter: &str) -> u64 {
    host::COUNTED.with_borrow(|all| all.get(counter).copied().unwrap_or_default())
}

/// The time that this thread's plugin is told.
pub fn set_now_ms(now: u64) {
    host::NOW.set(now);
}

/// The same functions as the engine's.
pub(crate) mod host {
    use crate::Level;
    use std::cell::{Cell, RefCell};
    use std::collections::HashMap;

    thread_local! {
        pub(crate) static LOGGED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
        pub(crate) static COUNTED: RefCell<HashMap<String, u64>> = RefCell::default();
        pub(crate) static NOW: Cell<u64> = const { Cell::new(1_700_000_000_000) };
    }

    pub(crate) fn log_enabled(_: Level) -> bool {
        true
    }
    pub(crate) fn log(_: Level, message: &str) {
        LOGGED.with_borrow_mut(|all| all.push(message.into()));
    }
    pub(crate) fn count(counter: &str, delta: u64) {
        COUNTED.with_borrow_mut(|all| *all.entry(counter.into()).or_default() += delta);
    }
    pub(crate) fn now_ms() -> u64 {
        NOW.get()
    }
}
