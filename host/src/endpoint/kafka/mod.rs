//! Kafka: publishes through one idempotent producer, reads through a consumer a session, keeps durable positions through
//! one admin client.
//!
//! - `settings` configuration to librdkafka's properties · `context` what librdkafka tells by itself
//! - `producer`, `record` publishing, and the shape of an event as a record
//! - `open` where a session starts · `consumer`, `subscription`, `lanes`, `chores`, `partitions` reading
//! - `ledger`, `committer`, `groups`, `admin` durable positions
//! - `lookup` the shared client · `pool` threads for what blocks · `limits` the default cap
//!
//! `engine` makes one [`Kafka`] an endpoint. Nothing here waits for a broker but the calls that ask it something.
//!
//! # Known limits
//! - A session costs a librdkafka client: 4 to 6 threads and 7 descriptors, so `max_dedicated_consumers` caps them.
//! - One client id on topics of which some, but not all, are the same (the endpoint's own and an address among them)
//!   keeps one position for both, and the last commit counts.
//! - Nobody fences two engines that read one durable client id at once: a router sends a client to one engine.
//! - A header whose name is not UTF-8 is left out (rdkafka cannot give it).
//! - librdkafka does not split a batch that the broker finds too large: where a topic takes less than 1 MB at once, set
//!   `batch.size` below its `max.message.bytes`.
//! - Publishing to an absent topic fails after 5 s: until then it may be a topic that is just being made.

mod admin;
mod chores;
mod committer;
mod consumer;
mod context;
mod groups;
mod lanes;
mod ledger;
mod limits;
#[cfg(test)]
mod live_tests;
mod lookup;
mod open;
mod partitions;
mod pool;
mod producer;
mod record;
mod settings;
mod subscription;
#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::committer::Committer;
use self::groups::Groups;
use self::lookup::Lookup;
use self::partitions::{Followed, Topics};
use self::pool::Pool;
use self::producer::Producer;
use self::settings::Settings;
use super::supervisor::Status;
use super::{Address, Confirm, Endpoint, PublishError, Subscribe, SubscribeError, Subscription};
use crate::config::Start;
use crate::event::Event;

/// How often topics are looked at for new partitions, while there are subscriptions.
const METADATA_REFRESH: Duration = Duration::from_secs(60);
const CHECK: Duration = Duration::from_secs(3);
const REFRESH: Duration = Duration::from_secs(5);
const OPENING_THREADS: usize = 4;
const CLOSING_THREADS: usize = 4;
const CONTROL_THREADS: usize = 3;
/// What a check asks about where no topic is configured; it is in every cluster, and need not be.
const ANY_TOPIC: &str = "__consumer_offsets";

/// One Kafka endpoint.
pub struct Kafka {
    status: Arc<Status>,
    /// Read by sessions without an address of their own.
    topics: Topics,
    /// What a check asks about.
    probe: Arc<str>,
    start: Start,
    settings: Arc<Settings>,
    lookup: Arc<Lookup>,
    groups: Arc<Groups>,
    committer: Committer,
    producer: Arc<Producer>,
    warmed: AtomicBool,
    consumers: usize,
    /// One a consumer, those included that are still closing.
    places: Arc<Semaphore>,
    followed: Followed,
    opening: Arc<Pool>,
    closing: Arc<Pool>,
    control: Arc<Pool>,
}

impl Kafka {
    /// Creates the endpoint's clients; no broker is waited for. `publish_timeout`: the largest of the routes that
    /// publish here. Needs a tokio runtime.
    ///
    /// # Errors
    /// Names the endpoint and the property that librdkafka refuses.
    pub fn new(
        name: &str,
        config: &crate::config::Kafka,
        status: Arc<Status>,
        publish_timeout: Duration,
    ) -> Result<Arc<Self>, String> {
        Self::with_refresh(name, config, status, publish_timeout, METADATA_REFRESH)
    }

    /// What librdkafka would refuse of a configuration; opens nothing.
    ///
    /// # Errors
    /// As [`Kafka::new`].
    pub fn verify(name: &str, config: &crate::config::Kafka) -> Result<(), String> {
        Settings::new(name, config, Duration::from_secs(30)).map(drop)
    }

    /// Consumers that sessions have, those included that are still closing.
    #[must_use]
    pub fn dedicated_consumers(&self) -> usize {
        self.consumers.saturating_sub(self.places.available_permits())
    }

    fn with_refresh(
        name: &str,
        config: &crate::config::Kafka,
        status: Arc<Status>,
        publish_timeout: Duration,
        refresh: Duration,
    ) -> Result<Arc<Self>, String> {
        let settings = Arc::new(Settings::new(name, config, publish_timeout)?);
        let closing = Arc::new(Pool::new("kafka-close", CLOSING_THREADS)?);
        let lookup = Arc::new(Lookup::new(&settings, &status, &config.brokers)?);
        let groups = Arc::new(Groups::new(Arc::clone(&settings), Arc::clone(&status), Arc::clone(&closing))?);
        let topic_out: Option<Arc<str>> = config.topic_out.as_deref().map(Into::into);
        let producer = Producer::new(&settings, &status, config.key.clone(), topic_out.clone(), Arc::clone(&closing))?;
        let topics: Topics = config.topic_in.iter().map(|topic| topic.as_str().into()).collect();
        let consumers = config.max_dedicated_consumers.unwrap_or_else(limits::default_consumers);
        let kafka = Arc::new(Self {
            probe: topics.first().cloned().or(topic_out).unwrap_or_else(|| ANY_TOPIC.into()),
            topics,
            start: config.start,
            settings,
            lookup,
            committer: Committer::start(Arc::clone(&groups), Arc::clone(&status)),
            groups,
            producer: Arc::new(producer),
            warmed: AtomicBool::new(false),
            consumers,
            places: Arc::new(Semaphore::new(consumers)),
            followed: Followed::default(),
            opening: Arc::new(Pool::new("kafka-open", OPENING_THREADS)?),
            closing,
            control: Arc::new(Pool::new("kafka-control", CONTROL_THREADS)?),
            status,
        });
        tokio::spawn(partitions::watch(Arc::downgrade(&kafka), refresh, REFRESH));
        Ok(kafka)
    }
}

impl Endpoint for Kafka {
    fn publish(
        &self,
        address: Option<Address>,
        event: Arc<Event>,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Confirm, PublishError>> {
        Box::pin(self.producer.publish(address, event, timeout))
    }

    fn subscribe(&self, request: Subscribe) -> BoxFuture<'_, Result<Box<dyn Subscription>, SubscribeError>> {
        Box::pin(open::open(self, request))
    }

    fn check(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            let (lookup, probe) = (Arc::clone(&self.lookup), Arc::clone(&self.probe));
            let answer = self.control.run(move || lookup.check(&probe, CHECK));
            match timeout(CHECK + CHECK / 3, answer).await {
                Ok(Ok(answer)) => answer?,
                Ok(Err(_)) => return Err("the endpoint is being closed".to_owned()),
                Err(_) => return Err("no answer to this nor to what was asked before".to_owned()),
            }
            if !self.warmed.swap(true, Ordering::Relaxed) {
                let producer = Arc::clone(&self.producer);
                self.opening.submit(move || producer.warm(REFRESH));
            }
            Ok(())
        })
    }

    fn close(&self, within: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let producer = Arc::clone(&self.producer);
            let flushed = self.control.run(move || producer.close(within));
            let (flushed, ()) = tokio::join!(flushed, self.committer.drain(within));
            if flushed.is_err() {
                tracing::error!(target: "kafka", endpoint = %self.status.name(), "the producer was not flushed");
            }
        })
    }
}
