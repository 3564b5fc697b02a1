//! What several parts of the configuration file are made of. See `file`.

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::units::Time;
use super::words::OnError;

/// So many seconds.
pub(super) fn secs(value: u64) -> Time {
    Time(Some(Duration::from_secs(value)))
}

/// Text that is a secret.
#[derive(Deserialize, Serialize, JsonSchema, Clone, Default)]
#[serde(transparent)]
#[schemars(inline)]
pub(super) struct Hidden(pub(super) String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// The packet log.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PacketLog {
    /// Whether packets are logged.
    pub(super) enabled: bool,
    /// One event in this many.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) sample: u32,
}

impl Default for PacketLog {
    fn default() -> Self {
        Self { enabled: true, sample: 1 }
    }
}

/// A plugin in a chain: its name, or a map with its name.
#[derive(Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub(super) struct Use(pub(super) Value);

impl Use {
    /// Which plugin.
    pub(super) fn name(&self) -> Option<&str> {
        self.0.as_str().or_else(|| self.0.get("name").and_then(Value::as_str))
    }

    /// What it says of failures.
    pub(super) fn on_error(&self) -> Option<OnError> {
        OnError::deserialize(self.0.get("on_error")?).ok()
    }
}

impl JsonSchema for Use {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Use".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "object"],
            "minLength": 1,
            "properties": { "name": { "type": "string", "minLength": 1 }, "on_error": generator.subschema_for::<OnError>() },
            "required": ["name"],
            "additionalProperties": false,
        })
    }
}
