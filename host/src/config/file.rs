//! The configuration file as it is written: the types that config/schema.json is generated from and that serde fills.
//! `build` turns them into the engine's types; routes are in `file_route`, what a
//! broker's `config` holds is in `file_endpoint`, what several of these use in `file_parts`.
//!
//! Every field has a default, so that an element with a fault still types and its other faults are found too; what is
//! required, the schema requires (`required` below). Doc comments are the schema's descriptions: they name the unit.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::file_parts::{Hidden, PacketLog, Use, secs};
use super::file_plugin::Plugin;
use super::file_route::Route;
use super::units::{Size, Time, sizes, times, times_or_off};
use super::words::{EndpointType, EntrypointKind, Frames};

/// Configuration of the Mediation Engine.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    /// The admin listener: health, metrics, sessions, routes.
    pub(super) admin: Admin,
    /// Level of the engine's log on stderr: error, warn, info, debug, trace, or a filter in tracing's syntax.
    pub(super) log_level: String,
    /// One JSON line an event and direction on stdout.
    pub(super) packet_log: PacketLog,
    /// How long the engine may take to end after SIGTERM; a duration.
    #[schemars(extend("x-duration" = times("0s", "1h")))]
    pub(super) drain_timeout: Time,
    /// Over how long sessions are asked to leave when a reload changed their route; a duration.
    #[schemars(extend("x-duration" = times("0s", "1h")))]
    pub(super) reload_spread: Time,
    /// The watched folder of components; default `plugins`.
    #[schemars(length(min = 1))]
    pub(super) plugins_dir: Option<String>,
    /// Plugin settings by name.
    pub(super) plugins: Vec<Plugin>,
    /// Client-facing listeners.
    pub(super) entrypoints: Vec<Entrypoint>,
    /// Broker connections.
    pub(super) endpoints: Vec<Endpoint>,
    /// What joins them.
    pub(super) routes: Vec<Route>,
}

impl Default for File {
    fn default() -> Self {
        Self {
            admin: Admin::default(),
            log_level: "info".to_owned(),
            packet_log: PacketLog::default(),
            drain_timeout: secs(30),
            reload_spread: secs(10),
            plugins_dir: None,
            plugins: Vec::new(),
            entrypoints: Vec::new(),
            endpoints: Vec::new(),
            routes: Vec::new(),
        }
    }
}

/// The admin listener.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Admin {
    /// TCP port; 0 takes a free one.
    pub(super) port: u16,
    /// IP address to listen on; default all.
    pub(super) bind: Option<String>,
    /// What callers who are not on loopback must send as a bearer token; empty: none, they are refused.
    pub(super) token: Option<Hidden>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { port: 9091, bind: None, token: None }
    }
}

/// A client-facing listener.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = json!(["name", "type"])))]
pub(super) struct Entrypoint {
    /// Its name, unique among entrypoints and endpoints.
    #[schemars(length(min = 1, max = 128))]
    pub(super) name: Option<String>,
    /// What it speaks.
    #[serde(rename = "type")]
    pub(super) kind: Option<EntrypointKind>,
    /// TCP port; 0 takes a free one. Or `socket`.
    pub(super) port: Option<u16>,
    /// Path of a Unix socket, instead of `port`.
    #[schemars(length(min = 1, max = 107))]
    pub(super) socket: Option<PathBuf>,
    /// IP address to listen on; default all (`[::]`, else `0.0.0.0`).
    pub(super) bind: Option<String>,
    /// Connections at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) max_connections: u32,
    /// Origins that may connect besides the listener's own, such as `https://app.example.com`; `*` is every one.
    pub(super) allowed_origins: Vec<String>,
    /// Whether CORS headers are sent.
    pub(super) cors: bool,
    /// Whose `X-Forwarded-For` counts: addresses, networks in CIDR notation, or `unix` (a Unix socket's peer).
    pub(super) trusted_proxies: Vec<String>,
    /// Whether `X-Client-ID` and `?client_id=` name the client.
    pub(super) trust_client_id: bool,
    /// Request headers that become the event's.
    pub(super) forward_headers: Vec<String>,
    /// For a request's head; a duration.
    #[schemars(extend("x-duration" = times("100ms", "10m")))]
    pub(super) header_timeout: Time,
    /// For a request's body; a duration.
    #[schemars(extend("x-duration" = times("100ms", "1h")))]
    pub(super) body_timeout: Time,
    /// Kernel send buffer of a connection (SO_SNDBUF); a size in bytes.
    #[schemars(extend("x-size" = sizes("4KiB", "16MiB")))]
    pub(super) send_buffer: Size,
    /// How long until a silent peer is gone; a duration.
    #[schemars(extend("x-duration" = times("100ms", "1h")))]
    pub(super) ping_timeout: Time,
    /// New sessions a second.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) max_handshakes_per_second: u32,
    /// websocket: between pings; a duration. Default 20s.
    #[schemars(extend("x-duration" = times("100ms", "1h")))]
    pub(super) ping_interval: Option<Time>,
    /// websocket: the largest message; a size in bytes. Default 1MiB.
    #[schemars(extend("x-size" = sizes("1", "256MiB")))]
    pub(super) max_frame: Option<Size>,
    /// websocket: the frames that events go out in. Default auto.
    pub(super) frames: Option<Frames>,
    /// sse: between comments; a duration. Default 15s.
    #[schemars(extend("x-duration" = times("100ms", "1h")))]
    pub(super) heartbeat: Option<Time>,
    /// http_post, and POST /ack of sse and http_get: the largest body; a size in bytes. Default 1MiB.
    #[schemars(extend("x-size" = sizes("1", "256MiB")))]
    pub(super) max_body: Option<Size>,
    /// http_get: a session that is not polled for so long is closed; a duration. Default 60s.
    #[schemars(extend("x-duration" = times("100ms", "1d")))]
    pub(super) idle_timeout: Option<Time>,
    /// What is not acknowledged for so long is given again; a duration, or off. Default 60s for http_get, else off.
    #[schemars(extend("x-duration" = times_or_off("100ms", "1d")))]
    pub(super) ack_timeout: Option<Time>,
    /// Decides at connect and about each upstream event, before each route's own.
    #[schemars(length(min = 1))]
    pub(super) resolver: Option<String>,
    /// Come before each route's own.
    pub(super) plugins: Vec<Use>,
}

impl Default for Entrypoint {
    fn default() -> Self {
        Self {
            name: None,
            kind: None,
            port: None,
            socket: None,
            bind: None,
            max_connections: 65536,
            allowed_origins: Vec::new(),
            cors: false,
            trusted_proxies: Vec::new(),
            trust_client_id: true,
            forward_headers: Vec::new(),
            header_timeout: secs(10),
            body_timeout: secs(30),
            send_buffer: Size(64 << 10),
            ping_timeout: secs(20),
            max_handshakes_per_second: 2000,
            ping_interval: None,
            max_frame: None,
            frames: None,
            heartbeat: None,
            max_body: None,
            idle_timeout: None,
            ack_timeout: None,
            resolver: None,
            plugins: Vec::new(),
        }
    }
}

/// A broker connection.
#[derive(Debug, Deserialize, Serialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = json!(["name", "type"])))]
pub(super) struct Endpoint {
    /// Its name: letters, digits, `_` and `-`, 64 at most.
    pub(super) name: Option<String>,
    /// What it speaks.
    #[serde(rename = "type")]
    pub(super) kind: Option<EndpointType>,
    /// Whether /readyz waits for it.
    pub(super) required: bool,
    /// Whether addresses from plugins may hold wildcards.
    pub(super) allow_patterns: bool,
    /// The broker's own settings.
    pub(super) config: Option<Config>,
}

/// A broker's own settings: which keys there are depends on `type`.
#[derive(Deserialize, Serialize, JsonSchema, Default, Clone)]
#[serde(transparent)]
#[schemars(inline)]
pub(super) struct Config(pub(super) serde_json::Map<String, Value>);

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
