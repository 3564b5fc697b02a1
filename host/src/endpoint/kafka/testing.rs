//! Doubles for this module's tests.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::config::{Kafka, Start};
use crate::event::{Event, EventId, Origin};

/// The least that an endpoint's configuration says.
pub(super) fn config(brokers: &str, topic_in: &[&str], topic_out: Option<&str>) -> Kafka {
    Kafka {
        brokers: brokers.to_owned(),
        topic_in: topic_in.iter().map(|&t| t.to_owned()).collect(),
        topic_out: topic_out.map(str::to_owned),
        start: Start::Latest,
        key: None,
        tls: None,
        sasl: None,
        properties: BTreeMap::new(),
        max_dedicated_consumers: None,
    }
}

/// An event as a POST makes it.
pub(super) fn sample(payload: &[u8]) -> Event {
    Event {
        id: EventId::new(),
        source: "post".into(),
        client_id: None,
        payload: Some(Bytes::copy_from_slice(payload).into()),
        key: None,
        headers: Vec::new(),
        properties: None,
        attributes: None,
        origin: Origin::Client { protocol: "http_post" },
        timestamp_ms: 1_700_000_000_123,
    }
}
