//! Events and sessions for tests of this folder.

use std::sync::Arc;

use bytes::Bytes;

use super::{Connect, Facts};
use crate::config::Direction;
use crate::event::{Event, EventId, Origin, Payload};

pub(super) fn event(payload: &'static [u8]) -> Event {
    Event {
        id: EventId::Log { topic: "t".into(), partition: 0, offset: 7 },
        source: "memory-main".into(),
        client_id: None,
        payload: Some(Payload::from(Bytes::from_static(payload))),
        key: Some(Bytes::from_static(b"k")),
        headers: Vec::new(),
        properties: None,
        attributes: None,
        origin: Origin::Log { protocol: "memory", topic: "t".into(), partition: 0, offset: 7 },
        timestamp_ms: 1_700_000_000_000,
    }
}

pub(super) fn facts() -> Arc<Facts> {
    let connect = Connect {
        method: "GET".into(),
        path: "/orders/1".into(),
        query: "a=1+2".into(),
        peer_address: "127.0.0.1:9".into(),
        subprotocol: Box::default(),
    };
    let attributes = vec![("tenant".into(), "acme".into())];
    Arc::new(Facts {
        route: "prices".into(),
        direction: Direction::Upstream,
        client_id: "c1".into(),
        attributes,
        connect,
    })
}
