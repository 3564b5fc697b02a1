//! The embedded broker: a bounded log a topic. The demo's broker, the tests' double, and the reference for the trait.
//!
//! Publishers never wait; a reader that falls off the log goes on at its start and is told (`gap`). Nothing is kept
//! over a restart: resume tokens carry the boot time, so that an old one is recognised.
//!
//! Known limits: one partition a topic; durable positions live as long as the process.

mod log;
mod subscription;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::position::Scope;
use super::{Address, Confirm, Endpoint, PublishError, Subscribe, SubscribeError, Subscription};
use crate::config::{self, Start};
use crate::event::{Event, Payload};
use log::Topic;
use subscription::MemorySubscription;

/// Durable positions kept at most; further durable clients are refused.
const MAX_DURABLE: usize = 65_536;

/// See the module's documentation.
pub struct Memory {
    name: Arc<str>,
    config: config::Memory,
    epoch: u64,
    topics: Mutex<HashMap<Arc<str>, Arc<Topic>>>,
    durable: Arc<Durable>,
}

/// Whose positions: a client's, in the topics that it reads.
type Reader = (Arc<str>, Arc<[Arc<str>]>);

/// Positions, one a topic.
#[derive(Default)]
struct Durable(Mutex<HashMap<Reader, Vec<i64>>>);

impl Memory {
    /// An empty broker.
    #[must_use]
    pub fn new(name: &str, config: &config::Memory) -> Arc<Self> {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        Arc::new(Self {
            name: name.into(),
            config: config.clone(),
            epoch,
            topics: Mutex::default(),
            durable: Arc::default(),
        })
    }

    fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.get(name) {
            return Some(topic.clone());
        }
        if topics.len() >= self.config.topics {
            return None;
        }
        let name: Arc<str> = name.into();
        let topic = Arc::new(Topic::new(name.clone(), self.config.retain, self.config.retain_bytes));
        topics.insert(name, topic.clone());
        Some(topic)
    }

    fn too_many(&self, topic: &str) -> String {
        format!(
            "endpoint {:?} has {} topics already and makes no further one for {topic:?}: raise its `topics`",
            self.name, self.config.topics
        )
    }

    fn open(&self, request: &Subscribe) -> Result<MemorySubscription, SubscribeError> {
        let topics: Arc<[Arc<str>]> = match &request.address {
            Some(address) => Arc::from([address.clone()]),
            None => self.config.topic_in.iter().map(|topic| Arc::from(topic.as_str())).collect(),
        };
        if topics.is_empty() {
            return Err(SubscribeError::NoSource(self.name.to_string()));
        }
        let scope = Scope::new(&self.name, topics.iter().map(|topic| &**topic), self.epoch);
        if request.resume.as_ref().is_some_and(|token| token.scope.hash != scope.hash) {
            return Err(SubscribeError::BadToken(format!(
                "the resume token belongs to another endpoint or other topics than those read here on {:?}: leave it out",
                self.name
            )));
        }
        let reader = request.durable.as_ref().map(|client| (client.clone(), topics.clone()));
        let kept = reader.as_ref().and_then(|reader| self.durable.find(reader));
        // A token of an earlier life of the engine names events that are gone: start at what there is, and say so.
        let stale = request.resume.as_ref().is_some_and(|token| token.scope.epoch != self.epoch);
        let mut readers = Vec::with_capacity(topics.len());
        for (at, name) in topics.iter().enumerate() {
            let topic = self.topic(name).ok_or_else(|| SubscribeError::AddressNotFound(self.too_many(name)))?;
            let asked = match &request.resume {
                Some(_) if stale => Some(0),
                Some(token) => token.find(u16::try_from(at).unwrap_or(u16::MAX), 0),
                None => None,
            };
            let kept = kept.as_ref().and_then(|k| k.get(at)).copied();
            let start = match (asked, kept) {
                (Some(a), Some(k)) => Some(a.min(k)),
                (a, k) => a.or(k),
            };
            let start = start.unwrap_or_else(|| match self.config.start {
                Start::Earliest => topic.first(),
                Start::Latest => topic.end(),
            });
            readers.push((topic, start));
        }
        let durable = match reader {
            None => None,
            Some(reader) => {
                self.durable.keep(&reader, readers.iter().map(|(_, start)| *start)).map_err(SubscribeError::Full)?;
                Some((self.durable.clone(), reader))
            }
        };
        Ok(MemorySubscription::new(self.name.clone(), scope, readers, durable, stale))
    }
}

impl Durable {
    fn find(&self, reader: &Reader) -> Option<Vec<i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(reader).cloned()
    }

    fn keep(&self, reader: &Reader, positions: impl Iterator<Item = i64>) -> Result<(), String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_DURABLE && !all.contains_key(reader) {
            return Err(format!("{MAX_DURABLE} durable clients are known already"));
        }
        // Never below the highest seen, also where a resume token goes back.
        let kept = all.entry(reader.clone()).or_default();
        for (at, position) in positions.enumerate() {
            match kept.get_mut(at) {
                Some(known) => *known = position.max(*known),
                None => kept.push(position),
            }
        }
        Ok(())
    }

    fn settle(&self, reader: &Reader, topic: usize, position: i64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = all.get_mut(reader).and_then(|positions| positions.get_mut(topic)) {
            *kept = (*kept).max(position);
        }
    }
}

/// As the log keeps it, with bytes of its own: a small part of a large payload would else hold all of it.
fn kept(event: Arc<Event>) -> Event {
    let mut event = Arc::unwrap_or_clone(event);
    event.payload = event.payload.map(|payload| match payload {
        Payload::Whole(bytes) => Bytes::copy_from_slice(&bytes).into(),
        // Joining copies.
        pieces @ Payload::Pieces(_) => pieces.to_bytes().into(),
    });
    event
}

impl Endpoint for Memory {
    fn publish(
        &self,
        address: Option<Address>,
        event: Arc<Event>,
        _timeout: Duration,
    ) -> BoxFuture<'_, Result<Confirm, PublishError>> {
        let target = address.as_deref().or(self.config.topic_out.as_deref());
        let done = match target {
            None => Err(PublishError::AddressNotFound(format!(
                "endpoint {:?} has no topic_out: it can only be read from",
                self.name
            ))),
            Some(name) => match self.topic(name) {
                None => Err(PublishError::Refused(self.too_many(name))),
                Some(topic) => {
                    topic.append(Arc::new(kept(event)));
                    Ok(std::future::ready(Ok(())).boxed())
                }
            },
        };
        std::future::ready(done).boxed()
    }

    fn subscribe(&self, request: Subscribe) -> BoxFuture<'_, Result<Box<dyn Subscription>, SubscribeError>> {
        let opened = self.open(&request).map(|subscription| Box::new(subscription) as Box<dyn Subscription>);
        std::future::ready(opened).boxed()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), String>> {
        std::future::ready(Ok(())).boxed()
    }

    fn close(&self, _within: Duration) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}
