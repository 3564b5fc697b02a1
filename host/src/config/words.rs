//! The words that config keys take: one enum a key, shared by the file's types and the engine's. The doc comment of a
//! variant is its description in config/schema.json.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntrypointKind {
    /// WebSocket, both ways.
    Websocket,
    /// Server-Sent Events, downstream.
    Sse,
    /// One event a POST, upstream.
    HttpPost,
    /// Subscribe, poll and ack, downstream.
    HttpGet,
}

impl EntrypointKind {
    /// The config key's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Websocket => "websocket",
            Self::Sse => "sse",
            Self::HttpPost => "http_post",
            Self::HttpGet => "http_get",
        }
    }
}

/// What a broker connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum EndpointType {
    /// Apache Kafka.
    Kafka,
    /// RabbitMQ (a later version).
    Rabbitmq,
    /// MQTT 5 (a later version).
    Mqtt5,
    /// Solace PubSub+ (a later version).
    Solace,
    /// JMS brokers, over AMQP 1.0 (a later version).
    Jms,
    /// The embedded broker: a bounded log in this process.
    Memory,
}

impl EndpointType {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Rabbitmq => "rabbitmq",
            Self::Mqtt5 => "mqtt5",
            Self::Solace => "solace",
            Self::Jms => "jms",
            Self::Memory => "memory",
        }
    }

    /// Whether this engine speaks it.
    pub(super) fn built_in(self) -> bool {
        matches!(self, Self::Kafka | Self::Memory)
    }

    /// Whether it keeps positions: resume and durable sessions.
    pub(super) fn has_log(self) -> bool {
        matches!(self, Self::Kafka | Self::Memory)
    }

    /// The largest channel that the broker's own flow control can express.
    pub(super) fn max_channel(self) -> u64 {
        if self == Self::Solace { 255 } else { 65535 }
    }
}

/// WebSocket frame types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Frames {
    /// By content type, else text where the payload is valid UTF-8.
    Auto,
    /// Always text.
    Text,
    /// Always binary.
    Binary,
}

/// Where a session without a position begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With what is published from now on.
    Latest,
    /// With the oldest event that is kept.
    Earliest,
}

/// Which way a route goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Towards the target broker.
    Upstream,
    /// Towards clients.
    Downstream,
}

impl Direction {
    /// The config key's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Downstream => "downstream",
        }
    }
}

/// When an event counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Guarantee {
    /// On receive; publishes are not confirmed.
    None,
    /// When it enters the session's channel.
    Auto,
    /// Before the write to the client; one publish, never repeated.
    AtMostOnce,
    /// After the receipt or the broker's confirm; repeated until then.
    AtLeastOnce,
}

impl Guarantee {
    /// The config key's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Auto => "auto",
            Self::AtMostOnce => "at_most_once",
            Self::AtLeastOnce => "at_least_once",
        }
    }
}

/// How far an event provably got, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Receipt {
    /// The kernel took its last byte.
    Written,
    /// The client's WebSocket library answered a ping behind it.
    Received,
    /// The client acknowledged it by id.
    Processed,
}

impl Receipt {
    /// The config key's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Received => "received",
            Self::Processed => "processed",
        }
    }
}

/// What becomes of sessions when their broker goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBrokerLoss {
    /// They are closed, and told why.
    Close,
    /// They wait for it.
    Hold,
}

/// Who sees an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Sharing {
    /// Each session.
    Broadcast,
    /// One session of the group (a later version).
    Shared,
}

/// What becomes of an event that a plugin fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Nack.
    Closed,
    /// It goes on without the plugin.
    Open,
    /// It goes to the dead letters.
    DeadLetter,
}

impl OnError {
    /// The config key's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::DeadLetter => "dead_letter",
        }
    }
}
