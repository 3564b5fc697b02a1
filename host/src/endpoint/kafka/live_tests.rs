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
use tokio::time::{Instant, timeout};

use super::testing::{config, sample};
use super::*;
use crate::config::Kafka as Config;
use crate::endpoint::position::{Position, ResumeToken};
use crate::endpoint::{Budget, Delivery, Lost, Pulled};
use crate::event::{Header, ID_HEADER};

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
    Subscribe { resume: None, durable: None, window: 64 }
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
        .map(|d| String::from_utf8_lossy(d.event.payload.as_ref().expect("a payload")).into_owned())
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

macro_rules! live {
    () => {
        match Live::new().await {
            Some(live) => live,
            None => return,
        }
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_comes_back_as_it_went() {
    let live = live!();
    let topic = live.topic(1, &[]).await;
    let kafka = live.open(&[&topic], |_| ());
    kafka.check().await.expect("it is there");
    let mut subscription = subscribe(&kafka, request()).await;

    let mut event = sample(&[0xff, 0, 7]);
    event.key = Some(Bytes::from_static(b"k"));
    for (name, value) in [("a", Some(&b"1"[..])), ("a", Some(&[0xfe][..])), ("n", None), ("e", Some(&b""[..]))] {
        event.headers.push(Header { name: name.into(), value: value.map(Bytes::copy_from_slice) });
    }
    let mut tombstone = sample(b"");
    tombstone.payload = None;
    publish(&kafka, event.clone()).await.unwrap();
    publish(&kafka, tombstone).await.unwrap();
    publish(&kafka, sample(b"")).await.unwrap();

    let got = pull(&mut subscription, 3).await;
    let first = &got[0].event;
    assert_eq!(first.payload.as_deref(), Some(&[0xff, 0, 7][..]));
    assert_eq!(first.key, event.key);
    assert_eq!(first.timestamp_ms, event.timestamp_ms);
    assert_eq!(first.headers[..4], event.headers[..]);
    assert_eq!(first.headers[4].value.as_deref(), Some(event.id.to_string().as_bytes()));
    assert_eq!(&*first.headers[4].name, ID_HEADER);
    assert_eq!(first.id.to_string(), format!("{topic}-0-0"));
    assert_eq!(&*first.source, "main");
    assert_eq!((got[0].lane, got[0].next), (0, 1));
    assert_eq!(got[1].event.payload, None);
    assert_eq!(got[1].event.key, None);
    assert_eq!(got[2].event.payload.as_deref(), Some(&b""[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latest_misses_nothing_that_is_published_after_it() {
    let live = live!();
    let topics = [live.topic(3, &[]).await, live.topic(1, &[]).await];
    let kafka = live.open(&[&topics[0], &topics[1]], |_| ());
    publish_all(&kafka, &["before"; 5]).await;
    let mut subscription = subscribe(&kafka, request()).await;
    assert_eq!(subscription.lanes().len(), 4);
    publish(&kafka, sample(b"after")).await.unwrap();
    kafka.publish(Some(topics[1].as_str().into()), Arc::new(sample(b"other")), PUBLISH).await.unwrap().await.unwrap();
    let mut got = texts(&pull(&mut subscription, 2).await);
    got.sort();
    assert_eq!(got, ["after", "other"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_token_goes_on_where_it_says() {
    let live = live!();
    let topic = live.topic(1, &[]).await;
    let kafka = live.open(&[&topic], |_| ());
    publish_all(&kafka, &["0", "1", "2", "3"]).await;
    let scope = Scope::new("main", [topic.as_str()], 0);
    let token = ResumeToken { scope, positions: vec![Position { topic: 0, partition: 0, offset: 2 }] };
    let mut subscription = subscribe(&kafka, Subscribe { resume: Some(token.clone()), ..request() }).await;
    assert_eq!(subscription.scope(), Some(scope));
    assert_eq!(subscription.lanes()[0].start, 2);
    assert_eq!(texts(&pull(&mut subscription, 2).await), ["2", "3"]);

    let foreign = ResumeToken { scope: Scope { hash: 1, epoch: 0 }, ..token };
    let error = refused(&kafka, Subscribe { resume: Some(foreign), ..request() }).await;
    assert!(matches!(error, SubscribeError::BadToken(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_session_goes_on_where_it_settled() {
    let live = live!();
    let topic = live.topic(1, &[]).await;
    let kafka = live.open(&[&topic], |_| ());
    publish_all(&kafka, &["0", "1"]).await;
    let id = format!("c-{}", uuid::Uuid::now_v7().simple());

    // The start is committed at connect: a client that leaves before any event loses nothing.
    drop(subscribe(&kafka, durable(&id)).await);
    publish_all(&kafka, &["2", "3", "4"]).await;
    let mut subscription = subscribe(&kafka, durable(&id)).await;
    assert_eq!(texts(&pull(&mut subscription, 3).await), ["2", "3", "4"]);
    subscription.settle(0, 3);
    flush(&mut subscription).await;
    assert_eq!(committed(&live, &id, &topic), Some(3));

    // Settled, dropped without a flush: taken over at once.
    subscription.settle(0, 4);
    drop(subscription);
    let mut subscription = subscribe(&kafka, durable(&id)).await;
    assert_eq!(texts(&pull(&mut subscription, 1).await), ["4"]);

    // Another engine; and the earlier of token and commit counts, yet the commit never goes back.
    drop(subscription);
    kafka.close(LONG).await;
    let other = live.open(&[&topic], |_| ());
    let token = ResumeToken {
        scope: Scope::new("main", [topic.as_str()], 0),
        positions: vec![Position { topic: 0, partition: 0, offset: 1 }],
    };
    let subscription = subscribe(&other, Subscribe { resume: Some(token), ..durable(&id) }).await;
    assert_eq!(subscription.lanes()[0].start, 1);
    assert_eq!(committed(&live, &id, &topic), Some(4));
}

/// As any Kafka client sees it.
fn committed(live: &Live, id: &str, topic: &str) -> Option<i64> {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &live.brokers)
        .set("group.id", format!("mediation.main.{id}"))
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    let found = consumer.committed_offsets(list, LONG).expect("an answer");
    match found.find_partition(topic, 0).expect("the partition").offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_took_is_a_gap_and_the_session_goes_on() {
    let live = live!();
    let topic = live.topic(1, &[]).await;
    let kafka = live.open(&[&topic], |_| ());
    publish_all(&kafka, &["0", "1", "2", "3"]).await;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Offset(3)).unwrap();
    live.admin.delete_records(&list, &AdminOptions::new()).await.expect("records are deleted");

    for offset in [1, 99] {
        let token = ResumeToken {
            scope: Scope::new("main", [topic.as_str()], 0),
            positions: vec![Position { topic: 0, partition: 0, offset }],
        };
        let mut subscription = subscribe(&kafka, Subscribe { resume: Some(token), ..request() }).await;
        let mut out = Vec::new();
        assert_eq!(pull_once(&mut subscription, &mut out).await, Ok(Pulled::Gap));
        assert!(out.is_empty());
        assert_eq!(texts(&pull(&mut subscription, 1).await), ["3"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_partitions_are_read_from_their_start() {
    let live = live!();
    let topic = live.topic(1, &[]).await;
    let kafka = live.open(&[&topic], |_| ());
    let id = format!("c-{}", uuid::Uuid::now_v7().simple());
    let mut subscription = subscribe(&kafka, durable(&id)).await;
    let grown = live.admin.create_partitions([&NewPartitions::new(&topic, 3)], &AdminOptions::new()).await;
    grown.unwrap().into_iter().for_each(|result| drop(result.unwrap()));
    let writer = live.open(&[&topic], |_| ());
    for n in 0..200 {
        let mut event = sample(n.to_string().as_bytes());
        event.key = Some(Bytes::from(n.to_string()));
        publish(&writer, event).await.unwrap();
        if n % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let got = pull(&mut subscription, 200).await;
    assert_eq!(got.len(), 200);
    assert_eq!(subscription.lanes().len(), 3);
    assert!(subscription.lanes()[1..].iter().all(|lane| lane.start == 0));
    flush(&mut subscription).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absent_topic_is_named_in_both_directions() {
    let live = live!();
    let kafka = live.open(&["no-such-topic"], |_| ());
    let error = refused(&kafka, request()).await;
    assert!(
        matches!(&error, SubscribeError::AddressNotFound(text) if text.contains("no-such-topic") && text.contains("main")),
        "{error}"
    );
    let error = publish(&kafka, sample(b"x")).await.unwrap_err();
    assert!(matches!(&error, PublishError::AddressNotFound(text) if text.contains("no-such-topic")), "{error}");

    let nowhere = live.open(&[], |_| ());
    assert!(matches!(refused(&nowhere, request()).await, SubscribeError::NoSource(_)));
    let error = publish(&nowhere, sample(b"x")).await.unwrap_err();
    assert!(matches!(&error, PublishError::AddressNotFound(text) if text.contains("topic_out")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_deleted_ends_its_sessions() {
    let live = live!();
    let topic = live.topic(1, &[]).await;
    let kafka = live.open(&[&topic], |_| ());
    let mut subscription = subscribe(&kafka, request()).await;
    publish_all(&kafka, &["0"]).await;
    pull(&mut subscription, 1).await;
    live.admin.delete_topics(&[&topic], &AdminOptions::new()).await.unwrap();
    let lost = pull_once(&mut subscription, &mut Vec::new()).await.unwrap_err();
    assert!(lost.0.contains(&topic), "{lost}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_made_anew_is_read_from_its_start() {
    let live = live!();
    let topic = live.topic(1, &[]).await;
    let kafka = live.open(&[&topic], |_| ());
    publish_all(&kafka, &["0", "1", "2"]).await;
    let mut subscription = subscribe(&kafka, request()).await;
    live.admin.delete_topics(&[&topic], &AdminOptions::new()).await.unwrap();
    live.make(&topic, 1, &[]).await;
    let writer = live.open(&[&topic], |_| ());
    publish_all(&writer, &["a"]).await;
    assert_eq!(pull_once(&mut subscription, &mut Vec::new()).await, Ok(Pulled::Gap));
    assert_eq!(texts(&pull(&mut subscription, 1).await), ["a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_says_whose_limit_it_is() {
    let live = live!();
    let topic = live.topic(1, &[]).await;
    let kafka = live.open(&[&topic], |_| ());
    for size in [2 << 20, 17 << 20] {
        let error = publish(&kafka, sample(&vec![b'x'; size])).await.unwrap_err();
        assert!(matches!(&error, PublishError::TooLarge(text) if text.contains("message.max.bytes")), "{error}");
    }
    let large = live.topic(1, &[("max.message.bytes", "4194304")]).await;
    let kafka = live.open(&[&large], |_| ());
    let mut subscription = subscribe(&kafka, request()).await;
    publish(&kafka, sample(&vec![b'x'; 3 << 20])).await.unwrap();
    assert_eq!(pull(&mut subscription, 1).await[0].event.size(), (3 << 20) + ID_HEADER.len() + 36);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_holds_and_budgets_are_kept() {
    let live = live!();
    let topic = live.topic(1, &[]).await;
    let kafka = live.open(&[&topic], |c| c.start = Start::Earliest);
    let mut confirms = Vec::new();
    for n in 0..10_000_u32 {
        let event = Arc::new(sample(n.to_string().as_bytes()));
        confirms.push(kafka.publish(None, event, PUBLISH).await.unwrap());
    }
    for confirm in confirms {
        confirm.await.unwrap();
    }
    let mut subscription = subscribe(&kafka, request()).await;
    let mut out = Vec::new();
    while out.len() < 10_000 {
        let before = out.len();
        let budget = Budget { events: 7, bytes: 1000 };
        let pulled = timeout(LONG, poll_fn(|cx| subscription.poll_pull(cx, budget, &mut out))).await;
        assert_eq!(pulled.expect("in time"), Ok(Pulled::Events));
        assert!(out.len() - before <= 7);
    }
    assert!(texts(&out).iter().enumerate().all(|(n, text)| *text == n.to_string()));
    let none = poll_fn(|cx| Poll::Ready(subscription.poll_pull(cx, Budget { events: 1, bytes: 1 }, &mut out))).await;
    assert!(none.is_pending());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cap_counts_and_a_dropped_session_gives_everything_back() {
    let Some(live) = Live::alone() else { return };
    let _alone = broker().write().await;
    let topic = live.topic(1, &[]).await;
    let kafka = live.open(&[&topic], |c| c.max_dedicated_consumers = Some(5));
    drop(subscribe(&kafka, request()).await);
    eventually(|| kafka.places.available_permits() == 5).await;
    let before = threads();
    for _ in 0..3 {
        let mut open = Vec::new();
        for _ in 0..5 {
            open.push(subscribe(&kafka, request()).await);
        }
        let error = refused(&kafka, request()).await;
        assert!(matches!(&error, SubscribeError::Full(text) if text.contains("max_dedicated_consumers")), "{error}");
        assert!(threads() >= before + 5);
        drop(open);
        eventually(|| kafka.places.available_permits() == 5).await;
    }
    eventually(|| threads() <= before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_holds_nobody() {
    let Some(live) = Live::alone() else { return };
    let Ok(pid) = std::env::var("MEDIATION_TEST_KAFKA_PID") else {
        eprintln!("SKIPPED: MEDIATION_TEST_KAFKA_PID names no process");
        return;
    };
    let pid = Pid::from_raw(pid.parse().expect("a process id"));
    let _alone = broker().write().await;
    let topic = live.topic(1, &[]).await;
    let kafka = live.open(&[&topic], |c| c.max_dedicated_consumers = Some(50));
    let mut open = Vec::new();
    for n in 0..40 {
        let request = if n % 2 == 0 { request() } else { durable(&format!("frozen-{n}")) };
        open.push(subscribe(&kafka, request).await);
    }
    publish_all(&kafka, &["0"]).await;

    kill(pid, Signal::SIGSTOP).unwrap();
    let thaw = Thaw(pid);
    let begun = Instant::now();
    drop(open);
    assert!(begun.elapsed() < Duration::from_secs(1), "dropping blocks: {:?}", begun.elapsed());
    let begun = Instant::now();
    let (checked, opened) = tokio::join!(kafka.check(), kafka.subscribe(request()));
    assert!(checked.is_err());
    assert!(matches!(opened.err(), Some(SubscribeError::Unavailable(_))));
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    let begun = Instant::now();
    eventually(|| kafka.places.available_permits() == 50).await;
    eprintln!("40 consumers of a frozen broker closed in {:?}", begun.elapsed());
    drop(thaw);

    let mut subscription = eventually_opens(&kafka).await;
    publish_all(&kafka, &["1"]).await;
    assert_eq!(texts(&pull(&mut subscription, 1).await), ["1"]);
}

struct Thaw(Pid);

impl Drop for Thaw {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).unwrap();
    }
}

async fn eventually_opens(kafka: &Kafka) -> Box<dyn Subscription> {
    let deadline = Instant::now() + LONG;
    loop {
        match kafka.subscribe(request()).await {
            Ok(subscription) => return subscription,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

async fn eventually(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "not in {LONG:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn threads() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|l| l.strip_prefix("Threads:")).expect("a count");
    line.trim().parse().expect("a number")
}
