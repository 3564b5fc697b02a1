//! Write a plugin of the Mediation Engine in about fifteen lines.
//!
//! ```
//! use mediation_plugin::{Event, Mapper, Mapping, Output, Plugin};
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Greet {
//!     greeting: String,
//! }
//!
//! impl Plugin for Greet {
//!     type Config = Self;
//!     fn new(config: Self) -> Result<Self, String> {
//!         Ok(config)
//!     }
//! }
//!
//! impl Mapper for Greet {
//!     fn transform(&self, event: &Event) -> Mapping {
//!         Output::wrap(format!("{} ", self.greeting), event.payload_size(), "").set("greeted", "yes").into()
//!     }
//! }
//!
//! mediation_plugin::export!(mapper: Greet);
//! ```
//!
//! Compiled as a `cdylib` for `wasm32-unknown-unknown` with `wasm-component-ld`, the output is the component. The same
//! code compiles natively, where [`testing::Event`] stands in for the engine's: a plugin's tests need no Wasm.
//!
//! - [`event`][]: what a plugin is lent
//! - [`answer`][]: what it answers with
//! - [`host`][]: logging, counters, the clock
//! - [`config`][]: from the engine's JSON to a plugin's own type
//! - [`matching`][]: conditions on events and texts with their values, for rules in a configuration
//! - [`glue`][]: what [`export!`] expands to
//! - [`testing`][]: the engine's side, natively
//! - [`bindings`][]: generated

pub mod answer;
#[doc(hidden)]
pub mod bindings;
pub mod config;
pub mod event;
#[doc(hidden)]
pub mod glue;
pub mod host;
pub mod matching;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use answer::{Admission, Body, Decision, Enrichment, Mapping, Output, Patch, Piece, Rejection, Resolution, Target};
pub use bindings::base::mediation::plugin::types::Direction;
pub use event::Event;
pub use host::{Level, count, now_ms};

/// What every plugin is: made once per instance from its configuration, then asked about events.
///
/// The engine makes and drops instances as it likes, several at a time: keep no state that matters.
pub trait Plugin: Sized + 'static {
    /// The `config` of the engine's entry for this plugin. Derive `Deserialize`, with `deny_unknown_fields`.
    type Config: serde::de::DeserializeOwned;

    /// Names of the counters that [`count`] may add to.
    const COUNTERS: &'static [&'static str] = &[];

    /// Called before any event. The error is shown to whoever deployed the plugin: name the key and the remedy.
    fn new(config: Self::Config) -> Result<Self, String>;
}

/// Decides whether a client may have a session, where it leads, and which targets an upstream event has.
pub trait Resolver: Plugin {
    /// Before the client is answered; once for each direction of the session.
    fn connect(&self, _event: &Event) -> Decision {
        Decision::Pass
    }

    /// For each upstream event.
    fn resolve(&self, _event: &Event) -> Resolution {
        Resolution::Pass
    }
}

/// Turns one event into none, one or several.
pub trait Mapper: Plugin {
    /// For each event.
    fn transform(&self, event: &Event) -> Mapping;
}

/// Adds to or removes from an event's metadata.
pub trait Enricher: Plugin {
    /// At connect: what is set here is on every event of the session, as `session.KEY`.
    fn enrich_session(&self, _event: &Event) -> Enrichment {
        Enrichment::Pass
    }

    /// For each event.
    fn enrich(&self, _event: &Event) -> Enrichment {
        Enrichment::Pass
    }
}
