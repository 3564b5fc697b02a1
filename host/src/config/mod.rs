//! The configuration, as the rest of the engine sees it: plain types, defaults filled in, cross-checked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    pub admin: Admin,
    /// `error` .. `trace`, or a filter in tracing's syntax.
    pub log_level: String,
    pub packet_log: PacketLog,
    pub drain_timeout: Duration,
    pub reload_spread: Duration,
    pub plugins_dir: PathBuf,
    pub plugins: Vec<serde_json::Value>,
    pub entrypoints: Vec<Entrypoint>,
    pub endpoints: Vec<Endpoint>,
    pub routes: Vec<Route>,
}

#[derive(Debug, Clone)]
pub struct Admin { pub port: u16, pub bind: Option<String>, pub token: Option<Secret> }

#[derive(Debug, Clone)]
pub struct PacketLog { pub enabled: bool, pub sample: u32 }

/// Text that never prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntrypointKind { Websocket, Sse, HttpPost, HttpGet }

#[derive(Debug, Clone)]
pub struct Entrypoint {
    pub name: String,
    pub kind: EntrypointKind,
    pub port: Option<u16>,
    pub socket: Option<PathBuf>,
    pub bind: Option<String>,
    pub max_connections: usize,
    pub allowed_origins: Vec<String>,
    pub cors: bool,
    pub trusted_proxies: Vec<String>,   // addresses or CIDR networks, or "unix"
    pub trust_client_id: bool,
    pub forward_headers: Vec<String>,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub send_buffer: usize,
    pub ping_timeout: Duration,
    pub max_handshakes_per_second: u32,
    pub ping_interval: Duration,        // websocket
    pub max_frame: usize,               // websocket
    pub frames: Frames,                 // websocket
    pub heartbeat: Duration,            // sse
    pub max_body: usize,                // http_post (and POST /ack)
    pub idle_timeout: Duration,         // http_get
    pub ack_timeout: Option<Duration>,  // http_get default 60s; websocket, sse: None is off
    pub resolver: Option<String>,
    pub plugins: Vec<serde_json::Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames { Auto, Text, Binary }

#[derive(Debug, Clone)]
pub struct Endpoint { pub name: String, pub required: bool, pub kind: EndpointKind }

/// The kind and its own settings.
#[derive(Debug, Clone)]
pub enum EndpointKind {
    Kafka(Kafka),
    Memory(Memory),
    /// Known to the configuration, not built into this engine: rabbitmq, mqtt5, solace, jms.
    NotBuiltIn { kind: String, config: serde_json::Value },
}

#[derive(Debug, Clone)]
pub struct Kafka {
    pub brokers: String,
    pub topic_in: Vec<String>,          // a topic or a list
    pub topic_out: Option<String>,
    pub start: Start,
    pub key: Option<KeyFrom>,
    pub tls: Option<Tls>,
    pub sasl: Option<Sasl>,
    pub properties: BTreeMap<String, String>,
    pub max_dedicated_consumers: Option<usize>,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start { Latest, Earliest }
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyFrom { EventId, ClientId, Header(String) }
#[derive(Debug, Clone)]
pub struct Tls { pub ca: Option<PathBuf>, pub cert: Option<PathBuf>, pub key: Option<PathBuf>, pub key_password: Option<Secret>, pub verify_hostname: bool }
#[derive(Debug, Clone)]
pub struct Sasl { pub mechanism: String, pub username: String, pub password: Secret }

#[derive(Debug, Clone)]
pub struct Memory {
    pub topic_in: Vec<String>,
    pub topic_out: Option<String>,
    pub start: Start,
    pub retain: usize,
    pub retain_bytes: usize,
    pub topics: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction { Upstream, Downstream }
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee { None, Auto, AtMostOnce, AtLeastOnce }
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Receipt { Written, Received, Processed }
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBrokerLoss { Close, Hold }

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    pub path: Option<String>,
    pub header: BTreeMap<String, String>,   // names lower-cased
    pub query: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
pub struct Route {
    pub name: String,                   // default source->target
    pub source: String,
    pub target: String,
    pub direction: Direction,
    pub matches: Match,                 // key `match`
    pub delivery_guarantee: Guarantee,
    pub channel_size: usize,
    pub channel_size_set: bool,         // whether the file says so: http_post's max_in_flight default depends on it
    pub channel_bytes: usize,
    pub durable: bool,
    pub receipt: Option<Receipt>,
    pub on_broker_loss: OnBrokerLoss,   // default by entrypoint kind
    pub subscription: Option<String>,
    pub group: Option<String>,
    pub slow_client_timeout: Option<Duration>,
    pub redelivery_backoff: Duration,
    pub max_redeliveries: Option<u32>,
    pub dead_letter: Option<serde_json::Value>,
    pub publish_timeout: Duration,
    pub max_in_flight: usize,           // http_post
    pub accept_timeout: Duration,       // http_post
    pub lifecycle_events: bool,
    pub resolver: Option<String>,
    pub plugins: Vec<serde_json::Value>,
}
