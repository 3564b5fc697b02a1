//! Components for the engine's tests: each file beside this one is one, README.md says what each does.
//!
//! What they share: [`Trigger`], when a guest misbehaves.

use mediation_plugin::Event;
use std::cell::Cell;

/// When a guest misbehaves: part of its configuration.
#[derive(Default, serde::Deserialize)]
pub struct Trigger {
    /// On every event.
    #[serde(default)]
    always: bool,
    /// On every event of an instance after this many.
    after: Option<u64>,
    #[serde(skip)]
    calls: Cell<u64>,
}

impl Trigger {
    /// Whether to misbehave on this one: the payload contains `marker` (`TRAP`), or there is a metadata key
    /// `x-marker` or `header.x-marker` (`header.x-trap`), or the configuration says so.
    pub fn pulled(&self, event: &Event, marker: &str) -> bool {
        self.calls.set(self.calls.get().saturating_add(1));
        let key = format!("x-{}", marker.to_lowercase());
        self.always
            || self.after.is_some_and(|calls| self.calls.get() > calls)
            || event.get(&key).is_some()
            || event.get(&format!("header.{key}")).is_some()
            || contains(event, marker)
    }
}

/// Whether the payload's first 64 KiB have the text.
pub fn contains(event: &Event, text: &str) -> bool {
    event.payload_range(0, 64 << 10).windows(text.len()).any(|part| part == text.as_bytes())
}

/// A configuration of a mapper that is nothing but its [`Trigger`], with the plugin's boilerplate.
#[macro_export]
macro_rules! configured {
    ($type:ident) => {
        impl mediation_plugin::Plugin for $type {
            type Config = Self;
            fn new(config: Self) -> Result<Self, String> {
                Ok(config)
            }
        }
    };
}

/// A mapper that passes, with this description.
#[macro_export]
macro_rules! described {
    ($name:expr, $version:expr, $counters:expr) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use mediation_plugin::bindings::{base::exports::mediation::plugin::lifecycle, mapper};
            struct Component;

            impl lifecycle::Guest for Component {
                fn describe() -> lifecycle::Description {
                    let (name, version): (&str, &str) = ($name, $version);
                    lifecycle::Description { name: name.into(), version: version.into(), counters: $counters }
                }
                fn init(_config: String) -> Result<(), String> {
                    Ok(())
                }
            }

            impl mapper::exports::mediation::plugin::event_mapper::Guest for Component {
                fn transform(_event: &mediation_plugin::glue::Lent) -> mediation_plugin::Mapping {
                    mediation_plugin::Mapping::Pass
                }
            }

    mediation_plugin::bindings::base::export!(Component with_types_in mediation_plugin::bindings::base);
    mapper::export!(Component with_types_in mediation_plugin::bindings::mapper);
        };
    };
}

/// A mapper that passes, of bindings of its own.
#[macro_export]
macro_rules! passing {
    ($bindings:ident) => {
        #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "only a component exports it"))]
        struct Component;

        impl $bindings::exports::mediation::plugin::lifecycle::Guest for Component {
            fn describe() -> $bindings::exports::mediation::plugin::lifecycle::Description {
                $bindings::exports::mediation::plugin::lifecycle::Description {
                    name: env!("CARGO_CRATE_NAME").replace('_', "-"),
                    version: "0.1.0".into(),
                    counters: Vec::new(),
                }
            }
            fn init(_config: String) -> Result<(), String> {
                $bindings::mediation::plugin::host::log($bindings::mediation::plugin::host::Level::Debug, "made");
                Ok(())
            }
        }

        impl $bindings::exports::mediation::plugin::event_mapper::Guest for Component {
            fn transform(
                event: &$bindings::mediation::plugin::types::Event,
            ) -> $bindings::exports::mediation::plugin::event_mapper::Mapping {
                std::hint::black_box(event.payload_size());
                $bindings::exports::mediation::plugin::event_mapper::Mapping::Pass
            }
        }

        #[cfg(target_arch = "wasm32")]
        $bindings::export!(Component with_types_in $bindings);
    };
}
