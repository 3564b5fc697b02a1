//! What `config` holds by endpoint type, as it is written. Types that are not built in are checked loosely: the keys that
//! are known must be text, any other passes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::file_parts::Hidden;
use super::units::{Size, Time, sizes, times_or_off};
use super::words::{EndpointType, Start};

/// A topic, or a list of topics.
#[derive(Debug, Clone, Deserialize, Serialize, PartialEq, Eq)]
#[serde(untagged)]
pub(super) enum Topics {
    One(String),
    Many(Vec<String>),
}

impl Topics {
    pub(super) fn list(&self) -> Vec<String> {
        match self {
            Self::One(topic) => vec![topic.clone()],
            Self::Many(topics) => topics.clone(),
        }
    }
}

impl JsonSchema for Topics {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Topics".into()
    }

    // One schema with two types, not `anyOf`: its errors name the key at fault.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "array"],
            "minLength": 1,
            "minItems": 1,
            "items": { "type": "string", "minLength": 1 },
        })
    }
}

/// Settings of a Kafka endpoint.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = json!(["brokers"])))]
pub(super) struct Kafka {
    /// `host:port`, comma-separated.
    #[schemars(length(min = 1))]
    pub(super) brokers: Option<String>,
    /// The topic, or list of topics, that clients are sent; absent: the endpoint can only be published to.
    pub(super) topic_in: Option<Topics>,
    /// The topic that clients publish to; absent: the endpoint can only be read.
    #[schemars(length(min = 1))]
    pub(super) topic_out: Option<String>,
    /// Where a session without a position begins.
    pub(super) start: Start,
    /// Where a published record's key comes from: event_id, client_id or header.NAME.
    pub(super) key: Option<String>,
    /// TLS; an empty map `{}` is TLS with the system's authorities.
    pub(super) tls: Option<Tls>,
    /// Authentication.
    pub(super) sasl: Option<Sasl>,
    /// Passed through to librdkafka, such as `message.max.bytes: 4194304`.
    pub(super) properties: Properties,
    /// Consumers of their own for sessions, at once; default from the thread and descriptor limits.
    #[schemars(range(min = 1, max = 100_000))]
    pub(super) max_dedicated_consumers: Option<u32>,
    /// Shared ring a topic (a later version); a size in bytes. Default 16MiB.
    #[schemars(extend("x-size" = sizes("64KiB", "16GiB")))]
    pub(super) fetch_buffer: Option<Size>,
    /// Shared rings of all topics (a later version); a size in bytes. Default 256MiB.
    #[schemars(extend("x-size" = sizes("64KiB", "256GiB")))]
    pub(super) fetch_buffer_total: Option<Size>,
    /// Waits for more events to send them together (a later version); a duration, or off. Default off.
    #[schemars(extend("x-duration" = times_or_off("1ms", "10s")))]
    pub(super) max_latency: Option<Time>,
    /// Kafka's group protocol of shared subscriptions (a later version): classic or consumer.
    #[schemars(extend("enum" = json!(["classic", "consumer"])))]
    pub(super) group_protocol: Option<String>,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            brokers: None,
            topic_in: None,
            topic_out: None,
            start: Start::Latest,
            key: None,
            tls: None,
            sasl: None,
            properties: Properties::default(),
            max_dedicated_consumers: None,
            fetch_buffer: None,
            fetch_buffer_total: None,
            max_latency: None,
            group_protocol: None,
        }
    }
}

/// TLS towards a broker.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Tls {
    /// PEM file of trusted authorities; default the system's.
    #[schemars(length(min = 1))]
    pub(super) ca: Option<PathBuf>,
    /// PEM file of the client's certificate; with `key`.
    #[schemars(length(min = 1))]
    pub(super) cert: Option<PathBuf>,
    /// PEM file of its key; with `cert`.
    #[schemars(length(min = 1))]
    pub(super) key: Option<PathBuf>,
    /// Of the key file.
    pub(super) key_password: Option<Hidden>,
    /// Whether the certificate must be for the broker's name.
    pub(super) verify_hostname: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self { ca: None, cert: None, key: None, key_password: None, verify_hostname: true }
    }
}

/// SASL towards a broker.
#[derive(Debug, Deserialize, Serialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = json!(["mechanism", "username", "password"])))]
pub(super) struct Sasl {
    /// How to authenticate.
    #[schemars(extend("enum" = json!(["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])))]
    pub(super) mechanism: Option<String>,
    /// User name.
    pub(super) username: Option<String>,
    /// Password; best as `${NAME}`.
    pub(super) password: Option<Hidden>,
}

/// Properties that are passed through; they may hold secrets.
#[derive(Deserialize, Serialize, Default)]
#[serde(transparent)]
pub(super) struct Properties(pub(super) BTreeMap<String, Value>);

impl std::fmt::Debug for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl JsonSchema for Properties {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Properties".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } })
    }
}

/// Settings of the embedded broker.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Memory {
    /// The topic, or list of topics, that clients are sent.
    pub(super) topic_in: Topics,
    /// The topic that clients publish to.
    #[schemars(length(min = 1))]
    pub(super) topic_out: String,
    /// Where a session without a position begins.
    pub(super) start: Start,
    /// Events kept a topic.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub(super) retain: u32,
    /// Bytes kept a topic; a size in bytes.
    #[schemars(extend("x-size" = sizes("1KiB", "1024GiB")))]
    pub(super) retain_bytes: Size,
    /// Topics at most.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) topics: u32,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            // One topic both ways: what the demo's clients send, all of them see.
            topic_in: Topics::One("events".to_owned()),
            topic_out: "events".to_owned(),
            start: Start::Latest,
            retain: 65536,
            retain_bytes: Size(64 << 20),
            topics: 1024,
        }
    }
}

/// The schema of `config` for a type that is not built in.
pub(super) fn loose(kind: EndpointType) -> Value {
    let keys: &[&str] = match kind {
        EndpointType::Rabbitmq | EndpointType::Jms => &["url", "queue_in", "queue_out"],
        EndpointType::Mqtt5 => &["broker", "topic_in", "topic_out"],
        EndpointType::Solace => &["host", "vpn", "username", "password", "topic_in", "topic_out"],
        EndpointType::Kafka | EndpointType::Memory => &[],
    };
    let properties: serde_json::Map<String, Value> =
        keys.iter().map(|key| ((*key).to_owned(), json!({ "type": "string" }))).collect();
    json!({ "type": "object", "properties": properties })
}
