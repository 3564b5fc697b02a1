//! Endpoints: names, and settings that only make sense together. The log level is checked here too: it has no other home.

use crate::config::draft::{Draft, Settings};
use crate::config::file_endpoint::Kafka;
use crate::config::problem::{Finding, hint};

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

pub(super) fn check(draft: &Draft, out: &mut Vec<Finding>) {
    let level = draft.file.log_level.as_str();
    let word = level.chars().all(|c| c.is_ascii_alphanumeric());
    if word && !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level)) {
        let text =
            format!("{level:?} is no level; {}", hint(level, LEVELS, &format!("use one of {}", LEVELS.join(", "))));
        out.push(Finding::new("log_level", text));
    } else if tracing_subscriber::EnvFilter::try_new(level).is_err() {
        out.push(Finding::new("log_level", "not a filter; write a level, or such as \"info,mediation_engine=debug\""));
    }
    for (index, (endpoint, settings)) in draft.endpoints().enumerate() {
        if let Some(name) = endpoint.name.as_deref() {
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
            if !plain || name.is_empty() || name.len() > 64 {
                let text = format!("{name:?} cannot name an endpoint; use 1 to 64 letters, digits, _ and -");
                out.push(Finding::new(format!("endpoints[{index}].name"), text));
            }
        }
        if let Settings::Kafka(kafka) = settings {
            check_kafka(&format!("endpoints[{index}].config"), kafka, out);
        }
    }
}

fn check_kafka(place: &str, kafka: &Kafka, out: &mut Vec<Finding>) {
    let mut push = |key: &str, text: &str| out.push(Finding::new(format!("{place}.{key}"), text));
    if let Some(key) = kafka.key.as_deref() {
        let header = key.strip_prefix("header.").is_some_and(|name| !name.is_empty());
        if !header && key != "event_id" && key != "client_id" {
            push("key", "not a place to take a key from; use event_id, client_id or header.NAME");
        }
    }
    if let Some(tls) = &kafka.tls {
        match (&tls.cert, &tls.key) {
            (Some(_), None) => push("tls.cert", "without its key; add tls.key"),
            (None, Some(_)) => push("tls.key", "without its certificate; add tls.cert"),
            _ => {}
        }
        if tls.key.is_none() && tls.key_password.is_some() {
            push("tls.key_password", "without a key; add tls.key, or take it out");
        }
    }
    if let Some(sasl) = &kafka.sasl {
        if sasl.username.as_deref() == Some("") {
            push("sasl.username", "empty; give it a value");
        }
        if sasl.password.as_ref().is_some_and(|password| password.0.is_empty()) {
            push("sasl.password", "empty; give it a value");
        }
    }
    for (ours, instead) in OURS {
        if kafka.properties.0.contains_key(ours) {
            push(&format!("properties.{ours}"), &format!("the engine sets this itself; {instead}"));
        }
    }
}

/// librdkafka properties that would break a promise, with what to do instead.
const OURS: [(&str, &str); 10] = [
    ("bootstrap.servers", "use brokers"),
    ("metadata.broker.list", "use brokers"),
    ("security.protocol", "use tls and sasl"),
    ("sasl.mechanism", "use sasl"),
    ("sasl.mechanisms", "use sasl"),
    ("enable.auto.commit", "use delivery_guarantee"),
    ("enable.auto.offset.store", "use delivery_guarantee"),
    ("auto.offset.reset", "use start"),
    ("group.id", "use durable"),
    ("message.timeout.ms", "use the route's publish_timeout"),
];
