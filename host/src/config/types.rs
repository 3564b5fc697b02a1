//! The configuration as the rest of the engine sees it: plain types, defaults filled in, cross-checked.
//!
//! `build` makes them; they know neither YAML nor defaults. What may hold a secret does not print it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::words::{Direction, EntrypointKind, Frames, Guarantee, OnBrokerLoss, OnError, Receipt, Start};

/// A whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The admin listener.
    pub admin: Admin,
    /// `error` .. `trace`, or a filter in tracing's syntax.
    pub log_level: String,
    /// The packet log of every route that does not say otherwise.
    pub packet_log: PacketLog,
    /// How long a SIGTERM may take.
    pub drain_timeout: Duration,
    /// Over how long sessions are asked to leave after a reload.
    pub reload_spread: Duration,
    /// The watched folder of components.
    pub plugins_dir: PathBuf,
    /// Plugin settings, by `name`.
    pub plugins: Vec<Plugin>,
    /// Client-facing listeners.
    pub entrypoints: Vec<Entrypoint>,
    /// Broker connections.
    pub endpoints: Vec<Endpoint>,
    /// Routes, bridges among them.
    pub routes: Vec<Route>,
}

/// The admin listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// 0 takes a free one.
    pub port: u16,
    /// An IP address (IPv6 in brackets); None: the listener decides.
    pub bind: Option<String>,
    /// What a caller who is not on loopback must show.
    pub token: Option<Secret>,
}

/// Whether packets are logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketLog {
    /// Off: no line at all.
    pub enabled: bool,
    /// One event in this many.
    pub sample: u32,
}

/// Text that never prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Settings that the engine hands on, which may hold secrets: they never print.
#[derive(Clone, PartialEq)]
pub struct Opaque(pub Value);

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A client-facing listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Entrypoint {
    /// Unique among entrypoints and endpoints.
    pub name: String,
    /// Key `type`.
    pub kind: EntrypointKind,
    /// 0 takes a free one; None where `socket` is set.
    pub port: Option<u16>,
    /// A Unix socket's path.
    pub socket: Option<PathBuf>,
    /// An IP address (IPv6 in brackets); None: the listener decides between `[::]` and `0.0.0.0`.
    pub bind: Option<String>,
    /// Connections at once.
    pub max_connections: usize,
    /// Origins besides the own one; `*` is every one.
    pub allowed_origins: Vec<String>,
    /// Whether CORS headers are sent.
    pub cors: bool,
    /// Addresses, networks in CIDR notation, or `unix`.
    pub trusted_proxies: Vec<String>,
    /// Whether `X-Client-ID` counts.
    pub trust_client_id: bool,
    /// Request headers that become the event's, in the file's case.
    pub forward_headers: Vec<String>,
    /// For a request's head.
    pub header_timeout: Duration,
    /// For a request's body.
    pub body_timeout: Duration,
    /// `SO_SNDBUF` of accepted sockets, bytes.
    pub send_buffer: usize,
    /// How long until a silent peer is gone.
    pub ping_timeout: Duration,
    /// New sessions a second.
    pub max_handshakes_per_second: u32,
    /// websocket.
    pub ping_interval: Duration,
    /// websocket: largest message, bytes.
    pub max_frame: usize,
    /// websocket.
    pub frames: Frames,
    /// sse: between comments.
    pub heartbeat: Duration,
    /// http_post, and `POST /ack` elsewhere: bytes.
    pub max_body: usize,
    /// http_get: without a poll for so long, the session is closed.
    pub idle_timeout: Duration,
    /// What is not acknowledged for so long is given again; None is off.
    pub ack_timeout: Option<Duration>,
    /// Comes before each route's own.
    pub resolver: Option<String>,
    /// Come before each route's own.
    pub plugins: Vec<Use>,
}

/// Settings of one plugin: an entry of `plugins:`, or a sidecar beside the component.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// What chains name.
    pub name: String,
    /// The component's file in `plugins_dir`; None: `NAME.wasm`.
    pub file: Option<String>,
    /// Handed to the plugin's `init` as JSON text.
    pub config: Opaque,
    /// Bytes that one instance may have.
    pub max_memory: usize,
    /// The soft deadline of a call.
    pub deadline: Duration,
    /// What uses do that do not say.
    pub on_error: OnError,
    /// Whether WASI imports are answered by stubs.
    pub wasi_stub: bool,
    /// None: a new generation serves all at once.
    pub canary: Option<Canary>,
    /// Sidecars only: the routes that it joins by itself.
    pub attach: Vec<Attach>,
}

/// How a new generation begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// Share of the sessions that get it first.
    pub percent: u8,
    /// For how long.
    pub duration: Duration,
}

/// Where a sidecar puts its plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// A route's name; `*` matches any run of characters.
    pub route: String,
    /// Smaller comes first.
    pub order: i32,
}

/// A plugin in a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Which.
    pub name: String,
    /// None: what the plugin's settings say.
    pub on_error: Option<OnError>,
}

/// Where events go that nobody could take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// An endpoint's name.
    pub endpoint: String,
    /// Topic or queue there.
    pub address: String,
}

/// A broker connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// `[A-Za-z0-9_-]{1,64}`.
    pub name: String,
    /// Whether `/readyz` waits for it.
    pub required: bool,
    /// Whether addresses that plugins name may be patterns.
    pub allow_patterns: bool,
    /// Key `type`, with `config`.
    pub kind: EndpointKind,
}

/// The kind and its own settings.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a handful an engine, read once; a box would only be in the way")]
pub enum EndpointKind {
    /// Apache Kafka.
    Kafka(Kafka),
    /// The embedded broker.
    Memory(Memory),
    /// Known to the configuration, not built into this engine: rabbitmq, mqtt5, solace, jms.
    NotBuiltIn {
        /// Key `type`.
        kind: String,
        /// Key `config`, as it stands.
        config: Opaque,
    },
}

impl EndpointKind {
    /// The config key's word for it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Kafka(_) => "kafka",
            Self::Memory(_) => "memory",
            Self::NotBuiltIn { kind, .. } => kind,
        }
    }
}

/// Settings of a Kafka endpoint.
#[derive(Clone, PartialEq)]
pub struct Kafka {
    /// `host:port`, comma-separated.
    pub brokers: String,
    /// Topics to read; empty: the endpoint can only be published to.
    pub topic_in: Vec<String>,
    /// Topic to publish to.
    pub topic_out: Option<String>,
    /// Where a session without a position begins.
    pub start: Start,
    /// Where an outgoing record's key comes from; None: an event's own key, else none.
    pub key: Option<KeyFrom>,
    /// None: plaintext.
    pub tls: Option<Tls>,
    /// None: no authentication.
    pub sasl: Option<Sasl>,
    /// Passed through to librdkafka; may hold secrets.
    pub properties: BTreeMap<String, String>,
    /// None: from the thread and descriptor limits.
    pub max_dedicated_consumers: Option<usize>,
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka")
            .field("brokers", &self.brokers)
            .field("topic_in", &self.topic_in)
            .field("topic_out", &self.topic_out)
            .field("start", &self.start)
            .field("key", &self.key)
            .field("tls", &self.tls)
            .field("sasl", &self.sasl)
            // Values may be passwords (`sasl.password`, `ssl.key.password`).
            .field("properties", &self.properties.keys())
            .field("max_dedicated_consumers", &self.max_dedicated_consumers)
            .finish()
    }
}

/// Where a key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyFrom {
    /// The event's id.
    EventId,
    /// The client's id.
    ClientId,
    /// A header's value.
    Header(String),
}

/// TLS towards a broker.
#[derive(Debug, Clone, PartialEq)]
pub struct Tls {
    /// PEM file of trusted authorities; None: the system's.
    pub ca: Option<PathBuf>,
    /// PEM file of the client's certificate.
    pub cert: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
    /// Of the key file.
    pub key_password: Option<Secret>,
    /// Off: any name is taken.
    pub verify_hostname: bool,
}

/// SASL towards a broker.
#[derive(Debug, Clone, PartialEq)]
pub struct Sasl {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: String,
    /// User name.
    pub username: String,
    /// Password.
    pub password: Secret,
}

/// Settings of the embedded broker.
#[derive(Debug, Clone, PartialEq)]
pub struct Memory {
    /// Topics to read.
    pub topic_in: Vec<String>,
    /// Topic to publish to.
    pub topic_out: Option<String>,
    /// Where a session without a position begins.
    pub start: Start,
    /// Events kept a topic.
    pub retain: usize,
    /// Bytes kept a topic.
    pub retain_bytes: usize,
    /// Topics at most.
    pub topics: usize,
}

/// Which sessions a route is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Match {
    /// Begins with `/`; a `*` at the end matches any rest.
    pub path: Option<String>,
    /// Header values, names in lower case.
    pub header: BTreeMap<String, String>,
    /// Query values.
    pub query: BTreeMap<String, String>,
}

/// One route.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Default `source->target`.
    pub name: String,
    /// An entrypoint's or endpoint's name.
    pub source: String,
    /// An entrypoint's or endpoint's name.
    pub target: String,
    /// Towards the target broker, or towards clients.
    pub direction: Direction,
    /// Whether source and target are both endpoints: a session without a client.
    pub bridge: bool,
    /// Key `match`.
    pub matches: Match,
    /// Section "delivery" of the documents.
    pub delivery_guarantee: Guarantee,
    /// Events out at once, each way.
    pub channel_size: usize,
    /// Whether the file says so: http_post's max_in_flight default depends on it.
    pub channel_size_set: bool,
    /// Bytes out at once; one larger event passes alone.
    pub channel_bytes: usize,
    /// Whether positions outlive the connection.
    pub durable: bool,
    /// The least that is taken from a client; None: what a plain client gives.
    pub receipt: Option<Receipt>,
    /// Default by entrypoint kind.
    pub on_broker_loss: OnBrokerLoss,
    /// `broadcast` or `shared`; None: what the broker does by nature.
    pub subscription: Option<String>,
    /// Of shared subscriptions.
    pub group: Option<String>,
    /// None is off.
    pub slow_client_timeout: Option<Duration>,
    /// The first; it doubles up to 30 s.
    pub redelivery_backoff: Duration,
    /// None: no limit.
    pub max_redeliveries: Option<u32>,
    /// Where events go that nobody could take.
    pub dead_letter: Option<DeadLetter>,
    /// For one publish, repeats included.
    pub publish_timeout: Duration,
    /// http_post: requests at once.
    pub max_in_flight: usize,
    /// http_post: how long a request waits for a place.
    pub accept_timeout: Duration,
    /// Whether connects and disconnects are published.
    pub lifecycle_events: bool,
    /// Decides at connect.
    pub resolver: Option<String>,
    /// The route's own part of the chain.
    pub plugins: Vec<Use>,
    /// None: the engine's.
    pub packet_log: Option<PacketLog>,
}
