//! From the endpoint's configuration to librdkafka's properties: one set for each kind of client.
//!
//! `Kafka::new` calls it. It opens nothing; a wrong property is found here, before any client exists.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use crate::config::{Kafka, Sasl, Tls};

/// librdkafka's own limit for one event, above the engine's default `max_body` with headers; the broker has another.
const MESSAGE_MAX_BYTES: &str = "16777216";

/// Properties that carry the engine's guarantees, each with what to do instead.
const OURS: &[(&str, &str)] = &[
    ("bootstrap.servers", "use the endpoint's `brokers`"),
    ("metadata.broker.list", "use the endpoint's `brokers`"),
    ("enable.idempotence", "it is always on: order and retries depend on it"),
    ("acks", "it is always `all`: a confirm means that the event is kept"),
    ("request.required.acks", "it is always `all`: a confirm means that the event is kept"),
    ("message.timeout.ms", "use the routes' `publish_timeout`"),
    ("delivery.timeout.ms", "use the routes' `publish_timeout`"),
    ("transactional.id", "the engine does not use transactions"),
    ("enable.auto.commit", "positions are committed by the engine, after the client's receipt"),
    ("auto.commit.enable", "positions are committed by the engine, after the client's receipt"),
    ("enable.auto.offset.store", "positions are committed by the engine, after the client's receipt"),
    ("group.id", "durable sessions have groups of their own, named by endpoint and client id"),
    ("group.instance.id", "sessions do not join groups"),
    ("group.protocol", "sessions do not join groups"),
    ("auto.offset.reset", "use the endpoint's `start`; what retention took is told to clients as `gap`"),
    ("allow.auto.create.topics", "an absent topic is an error that clients see"),
    ("enable.partition.eof", "the engine does not use it"),
    ("log.queue", "the engine reads the log itself"),
];

/// What each kind of client is created from.
#[derive(Clone)]
pub(super) struct Settings {
    /// The one producer.
    pub(super) producer: ClientConfig,
    /// A session's own consumer.
    pub(super) consumer: ClientConfig,
    /// The shared client for metadata, positions and group offsets.
    pub(super) shared: ClientConfig,
    /// librdkafka's `message.max.bytes` as the producer has it, for errors.
    pub(super) message_max_bytes: String,
}

impl Settings {
    /// Errors name the endpoint and the key, never a value that may be secret.
    pub(super) fn new(name: &str, config: &Kafka, publish_timeout: Duration) -> Result<Self, String> {
        for key in config.properties.keys() {
            if let Some((_, instead)) = OURS.iter().find(|(ours, _)| ours == key) {
                return Err(format!("endpoint {name:?}: config.properties.{key} cannot be set: {instead}"));
            }
        }
        let common = common(name, config)?;

        let mut producer = common.clone();
        producer
            .set("linger.ms", "1")
            .set("partitioner", "murmur2_random")
            .set("message.max.bytes", MESSAGE_MAX_BYTES)
            .set("queue.buffering.max.kbytes", "262144")
            .set("topic.metadata.propagation.max.ms", "5000");

        let mut consumer = common.clone();
        consumer
            .set("fetch.message.max.bytes", "1048576")
            .set("queued.max.messages.kbytes", "4096")
            // One answer for many partitions must not pass the queue's bound many times over.
            .set("fetch.max.bytes", "4194304")
            // Bytes are the bound; this many small events keep librdkafka's own memory for each within the same order.
            .set("queued.min.messages", "10000")
            // With the queue full librdkafka looks for room no sooner: queue / back-off caps the rate, and stalled
            // sessions pay for looking.
            .set("fetch.queue.backoff.ms", "10")
            // It never joins a group; librdkafka waits up to this long when it closes while brokers are away.
            .set("session.timeout.ms", "3000")
            .set("heartbeat.interval.ms", "1000")
            .set("socket.timeout.ms", "10000")
            .set("topic.metadata.propagation.max.ms", "5000");

        let mut shared = common;
        // A broker that hangs is left for another one before a check ends.
        shared.set("socket.timeout.ms", "2500").set("session.timeout.ms", "3000").set("heartbeat.interval.ms", "1000");

        for (key, value) in &config.properties {
            producer.set(key, value);
            // Read by consumers too, as the least that one answer may hold.
            if key != "message.max.bytes" {
                consumer.set(key, value);
                shared.set(key, value);
            }
        }
        let millis = publish_timeout.as_millis().clamp(1000, 2_147_483_647);
        producer.set("enable.idempotence", "true").set("acks", "all").set("message.timeout.ms", millis.to_string());
        consumer
            .set("group.id", format!("mediation.{name}"))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("allow.auto.create.topics", "false");
        // It joins no group. But without one librdkafka has no state for coordinators, and its answer to NOT_COORDINATOR
        // (a new Kafka, a coordinator that moved) is a null pointer: the process would end (librdkafka 2.12,
        // rd_kafka_handle_OffsetFetch -> rd_kafka_cgrp_op).
        shared.set("group.id", format!("mediation.{name}")).set("allow.auto.create.topics", "false");

        let message_max_bytes = producer.get("message.max.bytes").unwrap_or(MESSAGE_MAX_BYTES).to_owned();
        let settings = Self { producer, consumer, shared, message_max_bytes };
        for client in [&settings.producer, &settings.consumer, &settings.shared] {
            client.create_native_config().map_err(|error| refused(name, &error))?;
        }
        Ok(settings)
    }
}

/// What librdkafka says about a property or a client that it refuses.
pub(super) fn refused(name: &str, error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, reason, key, _) => {
            let secret =
                ["password", "secret", "pem", "token", "jaas", "oauthbearer.config"].iter().any(|s| key.contains(s));
            let reason = if secret { "its value is refused" } else { reason.as_str() };
            format!("endpoint {name:?}: config.properties.{key}: {reason}")
        }
        KafkaError::ClientCreation(reason) => {
            format!("endpoint {name:?}: the Kafka client refuses its settings: {reason}")
        }
        other => format!("endpoint {name:?}: the Kafka client cannot be created: {other}"),
    }
}

fn common(name: &str, config: &Kafka) -> Result<ClientConfig, String> {
    let mut client = ClientConfig::new();
    client.set_log_level(if config.properties.contains_key("debug") {
        RDKafkaLogLevel::Debug
    } else {
        RDKafkaLogLevel::Info
    });
    client
        .set("bootstrap.servers", &config.brokers)
        .set("client.id", "mediation-engine")
        .set("statistics.interval.ms", "0")
        .set("socket.keepalive.enable", "true")
        .set("log.connection.close", "false")
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "5000");
    let protocol = match (&config.tls, &config.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    client.set("security.protocol", protocol);
    if let Some(tls) = &config.tls {
        set_tls(&mut client, name, tls)?;
    }
    if let Some(Sasl { mechanism, username, password }) = &config.sasl {
        client.set("sasl.mechanism", mechanism).set("sasl.username", username).set("sasl.password", &password.0);
    }
    Ok(client)
}

fn set_tls(client: &mut ClientConfig, name: &str, tls: &Tls) -> Result<(), String> {
    let files = [
        ("ca", "ssl.ca.location", &tls.ca),
        ("cert", "ssl.certificate.location", &tls.cert),
        ("key", "ssl.key.location", &tls.key),
    ];
    for (ours, property, path) in files {
        if let Some(path) = path {
            let text =
                path.to_str().ok_or_else(|| format!("endpoint {name:?}: config.tls.{ours}: the path is not UTF-8"))?;
            // OpenSSL's own words name neither the key nor the file.
            std::fs::File::open(path)
                .map_err(|error| format!("endpoint {name:?}: config.tls.{ours}: cannot read {text}: {error}"))?;
            client.set(property, text);
        }
    }
    if let Some(password) = &tls.key_password {
        client.set("ssl.key.password", &password.0);
    }
    client.set("ssl.endpoint.identification.algorithm", if tls.verify_hostname { "https" } else { "none" });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::config;
    use super::*;
    use crate::config::Secret;

    fn settings(config: &Kafka) -> Result<Settings, String> {
        Settings::new("main", config, Duration::from_secs(30))
    }

    #[test]
    fn tls_and_sasl_choose_the_protocol() {
        let mut c = config("localhost:9092", &["t"], None);
        assert_eq!(settings(&c).unwrap().producer.get("security.protocol"), Some("plaintext"));
        c.sasl = Some(Sasl { mechanism: "PLAIN".into(), username: "u".into(), password: Secret("p".into()) });
        assert_eq!(settings(&c).unwrap().consumer.get("security.protocol"), Some("sasl_plaintext"));
        c.tls = Some(Tls { ca: None, cert: None, key: None, key_password: None, verify_hostname: true });
        let s = settings(&c).unwrap();
        assert_eq!(s.shared.get("security.protocol"), Some("sasl_ssl"));
        assert_eq!(s.shared.get("sasl.password"), Some("p"));
    }

    #[test]
    fn properties_pass_through_to_every_client() {
        let mut c = config("localhost:9092", &["t"], None);
        c.properties.insert("client.rack".into(), "r1".into());
        c.properties.insert("message.max.bytes".into(), "2000000".into());
        let s = settings(&c).unwrap();
        assert_eq!(s.consumer.get("client.rack"), Some("r1"));
        assert_eq!(s.message_max_bytes, "2000000");
    }

    #[test]
    fn what_would_break_a_guarantee_is_refused_with_the_way_out() {
        for (key, _) in OURS {
            let mut c = config("localhost:9092", &["t"], None);
            c.properties.insert((*key).into(), "1".into());
            let error = settings(&c).err().expect(key);
            assert!(error.contains("\"main\"") && error.contains(key), "{error}");
        }
    }

    #[test]
    fn a_wrong_property_is_named_and_secrets_are_not() {
        let mut c = config("localhost:9092", &["t"], None);
        c.properties.insert("no.such".into(), "1".into());
        let error = settings(&c).err().unwrap();
        assert!(error.contains("\"main\"") && error.contains("no.such"), "{error}");

        let secret = KafkaError::ClientConfig(
            rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_INVALID,
            "bad value hunter2".into(),
            "ssl.key.password".into(),
            "hunter2".into(),
        );
        assert!(!refused("main", &secret).contains("hunter2"));
    }
}
