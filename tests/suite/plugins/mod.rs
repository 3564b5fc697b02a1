//! Wasm plugins as clients and operators see them, with guests that were built from tests/guests.

mod broken;
mod chain;
mod failing;
mod fan_out;
mod reload;
mod sidecars;
mod swap;

use mediation_tests::{Memory, Plugins, Spec, World};
use serde_json::{Value, json};

/// A world on `memory` with a plugins folder; `plugins` are the settings by name.
async fn world(folder: &Plugins, plugins: Value, spec: Spec) -> World<Memory> {
    let mut spec = spec;
    mediation_tests::spec::merge(&mut spec.top, &json!({ "plugins_dir": folder.path(), "plugins": plugins }));
    World::start(spec).await
}
