//! WebAssembly components: what a plugin is to the rest of the engine.
//!
//! - [`Plugins`] all of them: the watched folder, settings, swaps
//! - [`Plugin`] one name that chains hold; which [`Generation`] serves it changes while events pass
//! - [`Pin`] the generation that one event sees
//! - [`chain`] the chain of a route: the order of plugins, what a failure means, ids of outputs
//!
//! Called by `pipeline` (events) and `entrypoint` (connects); built by `engine`. Knows no client protocol and no broker.

//!
//! Inside, from the file to the call:
//! - [`manager`] the thread that looks at the [`folder`], has files loaded ([`load`], [`check`], [`compile`], [`stub`]) and
//!   keeps the [`registry`] and [`settings`]
//! - [`named`] one plugin: swaps, youth, rollback, [`canary`]; [`generation`] its instances, [`pace`], [`breaker`],
//!   [`latency`]; [`workers`] its own threads; [`pin`] one event's way through
//! - [`guest`] one instance; [`lend`] what it may ask, [`answer`] and [`outcome`] what it says, [`clock`] how long it may
//!   take, [`voice`] its log and counters; [`sandbox`] the engine under all
//! - [`view`] how they do

mod answer;
mod breaker;
mod canary;
pub mod chain;
mod check;
mod clock;
mod compile;
mod folder;
mod generation;
mod guest;
mod host;
mod latency;
mod lend;
mod load;
mod manager;
mod named;
mod outcome;
mod pace;
mod pin;
mod registry;
#[cfg(test)]
mod samples;
mod sandbox;
mod settings;
mod stub;
#[cfg(test)]
mod tests;
mod view;
mod voice;
mod workers;

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::config::Direction;
use crate::event::Event;

pub use generation::Generation;
pub use host::{Attached, Options, Plugins};
pub use named::Plugin;
pub use pin::Pin;

/// What a plugin may know beside the event: one a session and direction.
#[derive(Debug)]
pub struct Facts {
    /// The route's name.
    pub route: Arc<str>,
    /// Which way events go.
    pub direction: Direction,
    /// The client.
    pub client_id: Arc<str>,
    /// What resolvers and enrichers set at connect: `session.KEY`, without the prefix.
    pub attributes: Vec<(Box<str>, Box<str>)>,
    /// What the client asked for when it came.
    pub connect: Connect,
}

/// The part of the connect data that every event of the session may be asked about.
#[derive(Debug, Clone, Default)]
pub struct Connect {
    /// Metadata `method`.
    pub method: Box<str>,
    /// Metadata `path`.
    pub path: Box<str>,
    /// Raw; its keys are metadata `query.NAME`.
    pub query: Box<str>,
    /// Metadata `peer_address`.
    pub peer_address: Box<str>,
    /// Metadata `subprotocol`; empty for none.
    pub subprotocol: Box<str>,
}

/// Why a plugin refuses an event or a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Machine-readable, lower-case with dashes.
    pub code: String,
    /// In words.
    pub message: String,
    /// The same may succeed later.
    pub retry: bool,
}

/// Why a call brought no result: the plugin's fault, or it is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("plugin {plugin:?}: {message}")]
pub struct Fault {
    /// The plugin's name.
    pub plugin: Arc<str>,
    /// What kind.
    pub kind: FaultKind,
    /// In words.
    pub message: String,
}

/// Kinds of faults, as metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// No generation of it is loaded.
    NotLoaded,
    /// It trapped, memory exhausted among the reasons.
    Trap,
    /// It passed its hard deadline.
    Deadline,
    /// What it returned is refused: too many outputs, ranges outside the payload, too many bytes.
    Output,
    /// Five faults in ten seconds: it is not asked for a while.
    Breaker,
}

impl FaultKind {
    /// As a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotLoaded => "not_loaded",
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Output => "output",
            Self::Breaker => "breaker",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A call's result: at once where the plugin runs inline, else from threads of its own.
pub enum Called<T> {
    /// There.
    Ready(Result<Served<T>, Fault>),
    /// To be awaited. Dropping it abandons the result, not the call.
    Later(BoxFuture<'static, Result<Served<T>, Fault>>),
}

/// A result and who made it.
#[derive(Debug)]
pub struct Served<T> {
    /// The result.
    pub value: T,
    /// The generation: the pinned one, or while that is young the one before, when only that did not fail.
    pub generation: u32,
}

/// What became of an event in one plugin: enriched, then mapped, as far as the plugin exports these.
#[derive(Debug)]
pub enum Stepped {
    /// Unchanged.
    Pass,
    /// These instead, in order; none: the event is dropped.
    Out(Vec<Output>),
    /// Refused.
    Reject(Rejection),
}

/// One event that a plugin made. Its id is still the input's.
#[derive(Debug)]
pub struct Output {
    /// It.
    pub event: Event,
    /// Upstream: instead of the target's own address.
    pub address: Option<Arc<str>>,
}

/// Where an event or a session goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Name of an endpoint.
    pub endpoint: String,
    /// Topic or queue there; None: the endpoint's own.
    pub address: Option<Arc<str>>,
    /// Ordering key; None: the event's own.
    pub key: Option<bytes::Bytes>,
}

/// What a resolver says at connect.
#[derive(Debug)]
pub enum Decision {
    /// As the routes say.
    Pass,
    /// So.
    Accept(Admission),
    /// Not at all.
    Reject(Rejection),
}

/// What a session is given at connect.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    /// None: the route's own.
    pub target: Option<Target>,
    /// Replaces the client id.
    pub client_id: Option<String>,
    /// `session.KEY`, without the prefix.
    pub attributes: Vec<(Box<str>, Box<str>)>,
    /// Milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
}

/// What a resolver says of an upstream event.
#[derive(Debug)]
pub enum Resolution {
    /// The session's target.
    Pass,
    /// These, all of them; none: the event is dropped.
    Targets(Vec<Target>),
    /// Refused.
    Reject(Rejection),
}

/// What an enricher says at connect.
#[derive(Debug)]
pub enum SessionEnriched {
    /// Nothing to add.
    Pass,
    /// `session.KEY` without the prefix; None removes.
    Patch(Vec<(Box<str>, Option<Box<str>>)>),
    /// Not at all.
    Reject(Rejection),
}
