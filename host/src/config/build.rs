//! The typed file to the engine's types, defaults that depend on another key filled in. Nothing fails here: `check` has
//! refused what could.

use std::time::Duration;

use serde_json::Value;

use super::draft::{Draft, Settings, route_name};
use super::file;
use super::file_endpoint;
use super::file_parts;
use super::file_plugin;
use super::file_route;
use super::types::{
    Admin, Attach, Canary, Config, DeadLetter, Endpoint, EndpointKind, Entrypoint, Kafka, KeyFrom, Match, Memory,
    Opaque, PacketLog, Plugin, Route, Sasl, Secret, Tls, Use,
};
use super::units::{Size, Time};
use super::words::{Direction, EndpointType, EntrypointKind, Frames, OnBrokerLoss, OnError, Sharing};

const DEFAULT_CHANNEL: u32 = 64;
const DEFAULT_IN_FLIGHT: u32 = 1024;

/// The configuration of a draft without faults.
pub(super) fn build(draft: &Draft) -> Config {
    let file = &draft.file;
    let token = file.admin.token.as_ref().filter(|token| !token.0.is_empty());
    Config {
        admin: Admin {
            port: file.admin.port,
            bind: bind(file.admin.bind.as_deref()),
            token: token.map(|token| Secret(token.0.clone())),
        },
        log_level: file.log_level.clone(),
        packet_log: packet_log(&file.packet_log),
        drain_timeout: time(file.drain_timeout),
        reload_spread: time(file.reload_spread),
        plugins_dir: file.plugins_dir.as_deref().unwrap_or("plugins").into(),
        plugins: file.plugins.iter().filter_map(plugin).collect(),
        entrypoints: file.entrypoints.iter().filter_map(entrypoint).collect(),
        endpoints: draft.endpoints().filter_map(|(one, settings)| endpoint(one, settings)).collect(),
        routes: file.routes.iter().filter_map(|one| route(draft, one)).collect(),
    }
}

fn time(value: Time) -> Duration {
    value.0.unwrap_or_default()
}

fn or(value: Option<Time>, seconds: u64) -> Duration {
    value.map_or(Duration::from_secs(seconds), time)
}

fn many(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// The address as a socket address takes it: IPv6 in brackets.
fn bind(text: Option<&str>) -> Option<String> {
    super::address(text?).map(|ip| if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() })
}

fn packet_log(one: &file_parts::PacketLog) -> PacketLog {
    PacketLog { enabled: one.enabled, sample: one.sample }
}

fn entrypoint(one: &file::Entrypoint) -> Option<Entrypoint> {
    let kind = one.kind?;
    let size = |value: Option<Size>| value.map_or(1 << 20, |size| size.0);
    let ack_timeout = match (one.ack_timeout, kind) {
        (Some(time), _) => time.0,
        (None, EntrypointKind::HttpGet) => Some(Duration::from_secs(60)),
        (None, _) => None,
    };
    Some(Entrypoint {
        name: one.name.clone()?,
        kind,
        port: one.port,
        socket: one.socket.clone(),
        bind: bind(one.bind.as_deref()),
        max_connections: many(one.max_connections),
        allowed_origins: one.allowed_origins.clone(),
        cors: one.cors,
        trusted_proxies: one.trusted_proxies.clone(),
        trust_client_id: one.trust_client_id,
        forward_headers: one.forward_headers.clone(),
        header_timeout: time(one.header_timeout),
        body_timeout: time(one.body_timeout),
        send_buffer: one.send_buffer.0,
        ping_timeout: time(one.ping_timeout),
        max_handshakes_per_second: one.max_handshakes_per_second,
        ping_interval: or(one.ping_interval, 20),
        max_frame: size(one.max_frame),
        frames: one.frames.unwrap_or(Frames::Auto),
        heartbeat: or(one.heartbeat, 15),
        max_body: size(one.max_body),
        idle_timeout: or(one.idle_timeout, 60),
        ack_timeout,
        resolver: one.resolver.clone(),
        plugins: uses(&one.plugins),
    })
}

fn uses(list: &[file_parts::Use]) -> Vec<Use> {
    list.iter().filter_map(|one| Some(Use { name: one.name()?.to_owned(), on_error: one.on_error() })).collect()
}

/// Settings of a plugin; None where it has no name.
pub(super) fn plugin(one: &file_plugin::Plugin) -> Option<Plugin> {
    Some(Plugin {
        name: one.name.clone()?,
        file: one.file.clone(),
        config: Opaque(one.config.clone()),
        max_memory: one.max_memory.0,
        deadline: time(one.deadline),
        on_error: one.on_error.unwrap_or(OnError::Closed),
        wasi_stub: one.wasi == Some(file_plugin::Wasi::Stub),
        canary: one.canary.as_ref().map(|one| Canary { percent: one.percent, duration: time(one.duration) }),
        attach: one
            .attach
            .iter()
            .filter_map(|one| Some(Attach { route: one.route.clone()?, order: one.order }))
            .collect(),
    })
}

fn endpoint(one: &file::Endpoint, settings: &Settings) -> Option<Endpoint> {
    let kind = match settings {
        Settings::Kafka(kafka) => EndpointKind::Kafka(self::kafka(kafka)?),
        Settings::Memory(memory) => EndpointKind::Memory(Memory {
            topic_in: memory.topic_in.list(),
            topic_out: Some(memory.topic_out.clone()),
            start: memory.start,
            retain: many(memory.retain),
            retain_bytes: memory.retain_bytes.0,
            topics: many(memory.topics),
        }),
        Settings::Other(map) => EndpointKind::NotBuiltIn {
            kind: one.kind.map_or("", EndpointType::name).to_owned(),
            config: Opaque(Value::Object(map.clone())),
        },
    };
    Some(Endpoint { name: one.name.clone()?, required: one.required, allow_patterns: one.allow_patterns, kind })
}

fn kafka(one: &file_endpoint::Kafka) -> Option<Kafka> {
    let key = one.key.as_deref().map(|key| match key.strip_prefix("header.") {
        Some(name) => KeyFrom::Header(name.to_owned()),
        None if key == "client_id" => KeyFrom::ClientId,
        None => KeyFrom::EventId,
    });
    let sasl = one.sasl.as_ref().map(|sasl| Sasl {
        mechanism: sasl.mechanism.clone().unwrap_or_default(),
        username: sasl.username.clone().unwrap_or_default(),
        password: Secret(sasl.password.clone().unwrap_or_default().0),
    });
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Some(Kafka {
        brokers: one.brokers.clone()?,
        topic_in: one.topic_in.as_ref().map(|topics| topics.list()).unwrap_or_default(),
        topic_out: one.topic_out.clone(),
        start: one.start,
        key,
        tls: one.tls.as_ref().map(|tls| Tls {
            ca: tls.ca.clone(),
            cert: tls.cert.clone(),
            key: tls.key.clone(),
            key_password: tls.key_password.as_ref().map(|text| Secret(text.0.clone())),
            verify_hostname: tls.verify_hostname,
        }),
        sasl,
        properties: one.properties.0.iter().map(|(key, value)| (key.clone(), text(value))).collect(),
        max_dedicated_consumers: one.max_dedicated_consumers.map(many),
    })
}

/// A match as it is compared: header names have no case.
pub(super) fn matches(one: &file_route::Match) -> Match {
    Match {
        path: one.path.clone(),
        header: one.header.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect(),
        query: one.query.clone(),
    }
}

fn route(draft: &Draft, one: &file_route::Route) -> Option<Route> {
    let bridge = draft.bridge(one);
    let holds = bridge || draft.kind(one) == Some(EntrypointKind::Sse);
    let shared = one.subscription == Some(Sharing::Shared);
    let slow = match one.slow_client_timeout {
        Some(time) => time.0,
        None => shared.then(|| Duration::from_secs(60)),
    };
    let in_flight = one.max_in_flight.or(one.channel_size).unwrap_or(DEFAULT_IN_FLIGHT);
    let sharing = |one| if one == Sharing::Shared { "shared" } else { "broadcast" };
    Some(Route {
        name: route_name(one)?,
        source: one.source.clone()?,
        target: one.target.clone()?,
        direction: one.direction.unwrap_or(Direction::Upstream),
        bridge,
        matches: one.matches.as_ref().map(matches).unwrap_or_default(),
        delivery_guarantee: one.delivery_guarantee,
        channel_size: many(one.channel_size.unwrap_or(DEFAULT_CHANNEL)),
        channel_size_set: one.channel_size.is_some(),
        channel_bytes: one.channel_bytes.0,
        durable: one.durable,
        receipt: one.receipt,
        on_broker_loss: one.on_broker_loss.unwrap_or(if holds { OnBrokerLoss::Hold } else { OnBrokerLoss::Close }),
        subscription: one.subscription.map(|one| sharing(one).to_owned()),
        group: one.group.clone(),
        slow_client_timeout: slow,
        redelivery_backoff: time(one.redelivery_backoff),
        max_redeliveries: one.max_redeliveries,
        dead_letter: one
            .dead_letter
            .as_ref()
            .and_then(|dead| Some(DeadLetter { endpoint: dead.endpoint.clone()?, address: dead.address.clone()? })),
        publish_timeout: time(one.publish_timeout),
        max_in_flight: many(in_flight),
        accept_timeout: time(one.accept_timeout),
        lifecycle_events: one.lifecycle_events,
        resolver: one.resolver.clone(),
        plugins: uses(&one.plugins),
        packet_log: one.packet_log.as_ref().map(packet_log),
    })
}
