//! A session's place in the logs of one memory endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use super::log::{Read, Topic};
use super::{Durable, Reader};
use crate::endpoint::position::Scope;
use crate::endpoint::{Budget, Delivery, Lane, Lost, Pulled, Subscription};
use crate::event::{Event, EventId, Origin};

static NEXT_READER: AtomicU64 = AtomicU64::new(0);

pub(super) struct MemorySubscription {
    endpoint: Arc<str>,
    scope: Scope,
    reader: u64,
    topics: Vec<Arc<Topic>>,
    next: Vec<i64>,
    lanes: Vec<Lane>,
    durable: Option<(Arc<Durable>, Reader)>,
    /// Where the next pull starts, so that no topic starves another.
    turn: usize,
    gap: bool,
}

impl MemorySubscription {
    pub(super) fn new(
        endpoint: Arc<str>,
        scope: Scope,
        readers: Vec<(Arc<Topic>, i64)>,
        durable: Option<(Arc<Durable>, Reader)>,
        gap: bool,
    ) -> Self {
        let (topics, next): (Vec<_>, Vec<_>) = readers.into_iter().unzip();
        let lanes = (0_u16..).zip(&next).map(|(topic, start)| Lane { topic, partition: 0, start: *start }).collect();
        let reader = NEXT_READER.fetch_add(1, Ordering::Relaxed);
        Self { endpoint, scope, reader, topics, next, lanes, durable, turn: 0, gap }
    }
}

impl Subscription for MemorySubscription {
    fn poll_pull(
        &mut self,
        cx: &mut Context<'_>,
        budget: Budget,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<Pulled, Lost>> {
        if std::mem::take(&mut self.gap) {
            return Poll::Ready(Ok(Pulled::Gap));
        }
        let (mut events, mut bytes) = (0, 0);
        let count = self.topics.len();
        for step in 0..count {
            let lane = (self.turn + step) % count;
            let (Some(topic), Some(next)) = (self.topics.get(lane), self.next.get_mut(lane)) else { continue };
            if events > 0 && (events >= budget.events || bytes >= budget.bytes) {
                break;
            }
            let read = topic.read(self.reader, *next, cx.waker(), |offset, event| {
                events += 1;
                bytes += event.size();
                out.push(Delivery { event: delivered(&self.endpoint, topic, offset, event), lane, next: offset + 1 });
                *next = offset + 1;
                events < budget.events && bytes < budget.bytes
            });
            if let Read::FellOff(first) = read {
                if events > 0 {
                    break;
                }
                *next = first;
                return Poll::Ready(Ok(Pulled::Gap));
            }
        }
        self.turn = self.turn.wrapping_add(1);
        if events > 0 { Poll::Ready(Ok(Pulled::Events)) } else { Poll::Pending }
    }

    fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    fn settle(&mut self, lane: usize, position: i64) {
        if let Some((durable, reader)) = &self.durable {
            durable.settle(reader, lane, position);
        }
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        Poll::Ready(Ok(()))
    }

    fn scope(&self) -> Option<Scope> {
        Some(self.scope)
    }
}

impl Drop for MemorySubscription {
    fn drop(&mut self) {
        for topic in &self.topics {
            topic.leave(self.reader);
        }
    }
}

/// As a broker gives an event: its own identity, not the publisher's.
fn delivered(endpoint: &Arc<str>, topic: &Topic, offset: i64, event: &Event) -> Event {
    Event {
        id: EventId::Log { topic: topic.name.clone(), partition: 0, offset },
        source: endpoint.clone(),
        client_id: None,
        payload: event.payload.clone(),
        key: event.key.clone(),
        headers: event.headers.clone(),
        properties: event.properties.clone(),
        attributes: None,
        origin: Origin::Log { protocol: "memory", topic: topic.name.clone(), partition: 0, offset },
        timestamp_ms: event.timestamp_ms,
    }
}
