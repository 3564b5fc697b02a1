//! What `mediation-engine check FILE` prints: each route with its effective settings and chain, warnings, and `ok`.

use std::fmt::Write;

use super::Loaded;
use super::types::{Config, EndpointKind, Entrypoint, Match, Route, Use};
use super::units::{show_duration, show_size};
use super::words::{Direction, EntrypointKind, Guarantee, OnBrokerLoss, OnError, Receipt};

/// The text; it ends with `ok`.
#[must_use]
pub fn report(loaded: &Loaded) -> String {
    let mut out = String::new();
    let config = &loaded.config;
    for entrypoint in &config.entrypoints {
        line(&mut out, format_args!("entrypoint {}: {}", entrypoint.name, listener(entrypoint)));
    }
    for endpoint in &config.endpoints {
        let required = if endpoint.required { ", required for /readyz" } else { "" };
        line(&mut out, format_args!("endpoint {}: {}{required}", endpoint.name, broker(&endpoint.kind)));
    }
    for route in &config.routes {
        out.push('\n');
        describe(&mut out, config, route);
    }
    if !loaded.warnings.is_empty() {
        out.push('\n');
    }
    for warning in &loaded.warnings {
        line(&mut out, format_args!("warning: {warning}"));
    }
    out.push_str("\nok\n");
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    if writeln!(out, "{text}").is_err() {
        out.push('\n');
    }
}

fn listener(one: &Entrypoint) -> String {
    let address = match (&one.socket, one.port) {
        (Some(socket), _) => socket.display().to_string(),
        (None, Some(0)) => format!("{}, any free port", one.bind.as_deref().unwrap_or("all addresses")),
        (None, port) => {
            format!("{}, port {}", one.bind.as_deref().unwrap_or("all addresses"), port.unwrap_or_default())
        }
    };
    format!("{} on {address}", one.kind.name())
}

fn broker(kind: &EndpointKind) -> String {
    let topics = |reads: &[String], writes: &Option<String>| {
        let reads = if reads.is_empty() { "nothing".to_owned() } else { reads.join(", ") };
        format!("reads {reads}, publishes to {}", writes.as_deref().unwrap_or("nothing"))
    };
    match kind {
        EndpointKind::Kafka(kafka) => {
            let tls = if kafka.tls.is_some() { " over TLS" } else { "" };
            format!("kafka at {}{tls}, {}", kafka.brokers, topics(&kafka.topic_in, &kafka.topic_out))
        }
        EndpointKind::Memory(memory) => format!("memory, {}", topics(&memory.topic_in, &memory.topic_out)),
        EndpointKind::NotBuiltIn { kind, .. } => format!("{kind}, not built in"),
    }
}

fn describe(out: &mut String, config: &Config, route: &Route) {
    let of = |name: &str| config.entrypoints.iter().find(|one| one.name == name);
    let entrypoint = of(&route.source).or_else(|| of(&route.target));
    let down = route.direction == Direction::Downstream;
    let bridge = if route.bridge { ", a bridge" } else { "" };
    line(
        out,
        format_args!(
            "route {}: {} from {} to {}{bridge}",
            route.name,
            route.direction.name(),
            route.source,
            route.target
        ),
    );
    line(out, format_args!("  match: {}", matches(&route.matches)));
    line(out, format_args!("  delivery_guarantee: {}{}", route.delivery_guarantee.name(), receipt(route, entrypoint)));
    line(out, format_args!("  channel_size: {}, {}", route.channel_size, meaning(route.channel_size)));
    let loss = if route.on_broker_loss == OnBrokerLoss::Hold { "hold" } else { "close" };
    let mut rest = vec![
        format!("channel_bytes: {}", show_size(route.channel_bytes)),
        format!("on_broker_loss: {loss}"),
        format!("redelivery_backoff: {}", show_duration(Some(route.redelivery_backoff))),
    ];
    if down {
        rest.push(format!("durable: {}", route.durable));
        rest.push(format!("subscription: {}", route.subscription.as_deref().unwrap_or("the broker's own")));
        rest.push(format!("slow_client_timeout: {}", show_duration(route.slow_client_timeout)));
    } else {
        rest.push(format!("publish_timeout: {}", show_duration(Some(route.publish_timeout))));
    }
    if entrypoint.is_some_and(|one| one.kind == EntrypointKind::HttpPost) {
        rest.push(format!("max_in_flight: {}", route.max_in_flight));
        rest.push(format!("accept_timeout: {}", show_duration(Some(route.accept_timeout))));
    }
    line(out, format_args!("  {}", rest.join(", ")));
    line(out, format_args!("  chain: {}", chain(config, entrypoint, route)));
}

fn matches(one: &Match) -> String {
    let mut parts: Vec<String> = one.path.iter().map(|path| format!("path {path}")).collect();
    parts.extend(one.header.iter().map(|(name, value)| format!("header {name}: {value}")));
    parts.extend(one.query.iter().map(|(name, value)| format!("query {name}={value}")));
    if parts.is_empty() { "whatever no other route takes".to_owned() } else { parts.join(", ") }
}

fn receipt(route: &Route, entrypoint: Option<&Entrypoint>) -> String {
    if route.delivery_guarantee != Guarantee::AtLeastOnce || route.direction != Direction::Downstream || route.bridge {
        return String::new();
    }
    let plain = match entrypoint.map(|one| one.kind) {
        Some(EntrypointKind::Websocket) => Receipt::Received,
        _ => Receipt::Written,
    };
    match route.receipt {
        Some(least) => format!(", receipt {} at least", least.name()),
        None => format!(", receipt {} (processed from clients that acknowledge)", plain.name()),
    }
}

/// What a size means: events that may be out in one round trip.
fn meaning(size: usize) -> String {
    let out = if size == 1 { "one event out at a time".to_owned() } else { format!("up to {size} events out at once") };
    format!("{out}: at most {} a second at a round trip of 1 ms, {} at 50 ms", size * 1000, size * 20)
}

/// As the configuration says; what sidecars attach comes behind it.
fn chain(config: &Config, entrypoint: Option<&Entrypoint>, route: &Route) -> String {
    let default = |name: &str| config.plugins.iter().find(|one| one.name == name).map(|one| one.on_error);
    let name = |one: &Use| {
        let on_error = one.on_error.or_else(|| default(&one.name)).unwrap_or(OnError::Closed);
        format!("{} (on_error: {})", one.name, on_error.name())
    };
    let resolvers = entrypoint.and_then(|one| one.resolver.as_ref()).into_iter().chain(&route.resolver);
    let plugins = entrypoint.into_iter().flat_map(|one| &one.plugins).chain(&route.plugins);
    let parts: Vec<String> = resolvers.map(|one| format!("resolver {one}")).chain(plugins.map(name)).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(" -> ") }
}
