//! Against a real Kafka: `MEDIATION_TEST_KAFKA` is its bootstrap address, `MEDIATION_TEST_KAFKA_PID` its process, which
//! one test freezes. Without the first every test here says that it skipped.

use std::future::poll_fn;
use std::sync::OnceLock;
use std::task::Poll;

use bytes::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::{RwLock, RwLockReadGuard};
use tokio::time::{Instant, sleep, timeout};

use super::testing::{config, sample};
use super::*;
use crate::config::Kafka as Config;
use crate::endpoint::position::{Position, ResumeToken, Scope};
use crate::endpoint::{Budget, Delivery, Lost, Pulled};
use crate::event::Header;

macro_rules! live {
    () => {
        match Live::new().await {
            Some(live) => live,
            None => return,
        }
    };
}

mod addresses;
mod faults;
mod reading;

const LONG: Duration = Duration::from_secs(60);
const PUBLISH: Duration = Duration::from_secs(20);

/// The test that freezes the broker has it for itself.
fn broker() -> &'static RwLock<()> {
    static BROKER: OnceLock<RwLock<()>> = OnceLock::new();
    BROKER.get_or_init(RwLock::default)
}

struct Live {
    brokers: String,
    admin: AdminClient<DefaultClientContext>,
    _shared: Option<RwLockReadGuard<'static, ()>>,
}

impl Live {
    async fn new() -> Option<Self> {
        let shared = broker().read().await;
        let mut live = Self::alone()?;
        live._shared = Some(shared);
        Some(live)
    }

    fn alone() -> Option<Self> {
        let Ok(brokers) = std::env::var("MEDIATION_TEST_KAFKA") else {
            eprintln!("SKIPPED: MEDIATION_TEST_KAFKA names no broker");
            return None;
        };
        let admin = ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("an admin client");
        Some(Self { brokers, admin, _shared: None })
    }

    async fn topic(&self, partitions: i32, settings: &[(&str, &str)]) -> String {
        let name = format!("t-{}", uuid::Uuid::now_v7().simple());
        self.make(&name, partitions, settings).await;
        name
    }

    async fn make(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let made = self.admin.create_topics([&topic], &AdminOptions::new()).await.expect("an answer");
        made.into_iter().for_each(|result| drop(result.expect("the topic is made")));
        // Made is not yet known to all: a broker that was frozen a moment ago takes its time.
        let deadline = Instant::now() + LONG;
        while let Err(error) = self.known(name) {
            assert!(Instant::now() < deadline, "topic {name}: {error}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn known(&self, name: &str) -> Result<(), String> {
        let metadata = self.admin.inner().fetch_metadata(Some(name), LONG).map_err(|error| error.to_string())?;
        let topic = metadata.topics().iter().find(|t| t.name() == name).ok_or("not listed")?;
        match topic.error() {
            Some(error) => Err(format!("{error:?}")),
            None if topic.partitions().iter().all(|p| p.leader() >= 0) => Ok(()),
            None => Err("no leader".to_owned()),
        }
    }

    fn open(&self, topics: &[&str], change: impl FnOnce(&mut Config)) -> Arc<Kafka> {
        let mut config = config(&self.brokers, topics, topics.first().copied());
        change(&mut config);
        Kafka::with_refresh("main", &config, Status::new("main"), PUBLISH, Duration::from_millis(300))
            .expect("it opens")
    }
}

async fn publish(kafka: &Kafka, event: Event) -> Result<(), PublishError> {
    kafka.publish(None, Arc::new(event), PUBLISH).await?.await
}

async fn publish_all(kafka: &Kafka, texts: &[&str]) {
    for text in texts {
        publish(kafka, sample(text.as_bytes())).await.expect("published");
    }
}

fn request() -> Subscribe {
    Subscribe { address: None, resume: None, durable: None, window: 64 }
}

fn durable(id: &str) -> Subscribe {
    Subscribe { durable: Some(id.into()), ..request() }
}

/// As a session does: it polls when woken and once a second.
async fn pull_once(subscription: &mut Box<dyn Subscription>, out: &mut Vec<Delivery>) -> Result<Pulled, Lost> {
    let deadline = Instant::now() + LONG;
    let budget = Budget { events: 128, bytes: 4 << 20 };
    loop {
        let pull = poll_fn(|cx| subscription.poll_pull(cx, budget, out));
        match timeout(Duration::from_secs(1), pull).await {
            Ok(pulled) => return pulled,
            Err(_) => assert!(Instant::now() < deadline, "nothing came in {LONG:?}"),
        }
    }
}

async fn pull(subscription: &mut Box<dyn Subscription>, count: usize) -> Vec<Delivery> {
    let mut out = Vec::new();
    while out.len() < count {
        assert_eq!(pull_once(subscription, &mut out).await, Ok(Pulled::Events));
    }
    out
}

fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries
        .iter()
        .map(|d| String::from_utf8_lossy(&d.event.payload.as_ref().expect("a payload").contiguous()).into_owned())
        .collect()
}

async fn flush(subscription: &mut Box<dyn Subscription>) {
    timeout(LONG, poll_fn(|cx| subscription.poll_flush(cx))).await.expect("in time").expect("committed");
}

async fn subscribe(kafka: &Kafka, request: Subscribe) -> Box<dyn Subscription> {
    match kafka.subscribe(request).await {
        Ok(subscription) => subscription,
        Err(error) => panic!("not opened: {error}"),
    }
}

async fn refused(kafka: &Kafka, request: Subscribe) -> SubscribeError {
    kafka.subscribe(request).await.err().expect("it is not opened")
}
