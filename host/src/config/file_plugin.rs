//! Settings of plugins as the file, or a sidecar, writes them; the rules of `file` hold here too.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::file_parts::secs;
use super::units::{Size, Time, sizes, times};
use super::words::OnError;

/// Settings of a plugin.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = json!(["name"])))]
pub(super) struct Plugin {
    /// What chains name; the component's file is `NAME.wasm` unless `file` says otherwise.
    #[schemars(length(min = 1, max = 128))]
    pub(super) name: Option<String>,
    /// The component's file in `plugins_dir`.
    #[schemars(length(min = 1, max = 255))]
    pub(super) file: Option<String>,
    /// Handed to the plugin as JSON.
    pub(super) config: Value,
    /// Memory of one instance; a size in bytes.
    #[schemars(extend("x-size" = sizes("1MiB", "4GiB")))]
    pub(super) max_memory: Size,
    /// Soft deadline of a call: passing it is counted and moves the plugin to threads of its own; a duration.
    #[schemars(extend("x-duration" = times("1ms", "100ms")))]
    pub(super) deadline: Time,
    /// What becomes of an event that it fails, where a use does not say. Default closed.
    pub(super) on_error: Option<OnError>,
    /// WASI imports: refused, or answered by stubs that reach nothing.
    pub(super) wasi: Option<Wasi>,
    /// A new generation gets a share of the sessions first.
    pub(super) canary: Option<Canary>,
    /// Only in a sidecar: the routes whose chains it joins by itself.
    pub(super) attach: Vec<Attach>,
}

impl Default for Plugin {
    fn default() -> Self {
        Self {
            name: None,
            file: None,
            config: Value::Null,
            max_memory: Size(16 << 20),
            deadline: Time(Some(Duration::from_millis(2))),
            on_error: None,
            wasi: None,
            canary: None,
            attach: Vec::new(),
        }
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Plugin").field(&self.name).finish()
    }
}

/// What WASI imports get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Wasi {
    /// Answers that reach nothing: no file, socket or variable.
    Stub,
}

/// Where a sidecar puts its plugin.
#[derive(Debug, Deserialize, Serialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = json!(["route"])))]
pub(super) struct Attach {
    /// A route's name; `*` matches any run of characters.
    #[schemars(length(min = 1, max = 128))]
    pub(super) route: Option<String>,
    /// Smaller comes first.
    #[schemars(range(min = -1_000_000, max = 1_000_000))]
    pub(super) order: i32,
}

/// How a new generation begins.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Canary {
    /// Share of the sessions that get the new generation first.
    #[schemars(range(min = 1, max = 99))]
    pub(super) percent: u8,
    /// For how long it is watched before all get it; a duration.
    #[serde(rename = "for")]
    #[schemars(extend("x-duration" = times("1s", "7d")))]
    pub(super) duration: Time,
}

impl Default for Canary {
    fn default() -> Self {
        Self { percent: 5, duration: secs(600) }
    }
}
