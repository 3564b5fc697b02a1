//! Apache Kafka as a child process, and as a [`Broker`] for the conformance suite.
//!
//! One broker serves all tests ([`Kafka::shared`]). Tests that freeze or kill one own another, one after another
//! ([`Kafka::victim`]).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use nix::sys::signal::Signal;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, StreamConsumer};
use rdkafka::message::{Header, Headers as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientConfig, Message as _};
use serde_json::{Value, json};

use crate::broker::{Broker, Record, World};
use crate::engine::Engine;
use crate::process::{Child, cache, spawn};
use crate::run::{failing, unique, within};
use crate::spec::Spec;

/// A Kafka that this process started.
pub struct Kafka {
    port: u16,
    dir: PathBuf,
    child: Mutex<Option<Child>>,
    producer: FutureProducer,
    admin: AdminClient<DefaultClientContext>,
    groups: Mutex<HashMap<String, Arc<BaseConsumer>>>,
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("brokers").join(name)
}

/// A file of the test's own certificate authority (`brokers/certs.sh`).
///
/// # Panics
/// When there is none: the Kafka that is started first makes it.
#[must_use]
pub fn certificate(name: &str) -> String {
    let path = cache().join("tls").join(name);
    assert!(path.exists(), "{} is not there: run scripts/setup.sh test", path.display());
    path.to_str().expect("a plain path").to_owned()
}

/// Four ports in a row that nobody has. Below the ephemeral range: a broker that is killed must get its port back.
fn free_ports() -> u16 {
    let start = u16::try_from(std::process::id() % 1000).expect("small") * 10;
    let free = |port: &u16| (0..4).all(|n| std::net::TcpListener::bind(("127.0.0.1", port + n)).is_ok());
    (0..1000).map(|n| 20_000 + (start + n * 10) % 10_000).find(free).expect("four free ports in a row")
}

impl Kafka {
    /// The one for all tests.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// The one that a test may freeze or kill; one test has it at a time, and gets it running.
    pub async fn victim() -> tokio::sync::MutexGuard<'static, Self> {
        static VICTIM: OnceLock<tokio::sync::Mutex<Kafka>> = OnceLock::new();
        let victim = VICTIM.get_or_init(|| tokio::sync::Mutex::new(Self::start())).lock().await;
        victim.thaw(); // the test before may have failed halfway
        victim.restart();
        victim
    }

    /// One of the caller's own; dropping it kills it and removes its data.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start() -> Self {
        sweep();
        let port = free_ports();
        let dir = std::env::temp_dir().join(unique("mediation-kafka"));
        let config = |pairs: &[(&str, &str)]| {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", format!("127.0.0.1:{port}")).set("reconnect.backoff.max.ms", "500");
            for (key, value) in pairs {
                config.set(*key, *value);
            }
            config
        };
        let producer =
            config(&[("acks", "all"), ("message.max.bytes", "4194304"), ("queue.buffering.max.messages", "1000000")]);
        let kafka = Self {
            port,
            dir,
            child: Mutex::new(None),
            producer: producer.create().expect("a producer"),
            admin: config(&[]).create().expect("an admin client"),
            groups: Mutex::default(),
        };
        kafka.restart();
        kafka.await_coordinators();
        kafka
    }

    /// A new broker loads its group coordinators for a second or two after it answers; clients of ours ask until they
    /// are there. A dozen groups fall on every partition of the offsets topic.
    fn await_coordinators(&self) {
        for n in 0..12 {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", self.bootstrap()).set("group.id", format!("await-{n}"));
            let consumer: BaseConsumer = config.create().expect("a consumer");
            let mut list = TopicPartitionList::new();
            list.add_partition("__consumer_offsets", 0);
            let end = Instant::now() + Duration::from_secs(60);
            while let Err(error) = consumer.committed_offsets(list.clone(), Duration::from_secs(10)) {
                assert!(Instant::now() < end, "the group coordinator does not answer: {error}");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// Starts it again on the same data, if it does not run, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn restart(&self) {
        let mut child = self.child.lock().expect("never poisoned");
        if child.as_ref().is_none_or(|c| c.ended().is_some()) {
            let (port, dir) = (self.port.to_string(), self.dir.to_str().expect("a plain path"));
            *child = Some(spawn(&script("kafka.sh"), &["start", &port, dir], &[]));
        }
        let child = child.as_ref().expect("started above");
        let pid = child.pid().to_string();
        let ready = Command::new(script("ready.sh")).args([&self.port.to_string(), "90", &pid]).status();
        assert!(ready.expect("bash is here").success(), "Kafka does not answer: {}", child.stderr.tail(20));
    }

    /// `bootstrap.servers`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its listener with TLS and SASL: user `app`, password `app-secret`.
    #[must_use]
    pub fn sasl_ssl(&self) -> String {
        format!("127.0.0.1:{}", self.port + 2)
    }

    /// Its listener with TLS that wants a client's certificate.
    #[must_use]
    pub fn ssl(&self) -> String {
        format!("127.0.0.1:{}", self.port + 3)
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&self) {
        drop(self.child.lock().expect("never poisoned").take().expect("it runs"));
    }

    /// SIGSTOP: connections stay open, nothing is answered.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = self.child.lock().expect("never poisoned").as_ref().filter(|c| c.ended().is_none()) {
            child.signal(signal);
        }
    }

    /// Makes a topic.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn create_topic(&self, topic: &str, partitions: i32) {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
        let made = within("a topic is made", self.admin.create_topics([&new], &options)).await.expect("an answer");
        made.into_iter().for_each(|topic| drop(topic.expect("the topic is made")));
    }

    /// Deletes a topic; one of that name may be made right away.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn delete_topic(&self, topic: &str) {
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
        let deleted = within("a topic is deleted", self.admin.delete_topics(&[topic], &options)).await;
        deleted.expect("an answer").into_iter().for_each(|topic| drop(topic.expect("the topic is deleted")));
    }

    /// Forgets everything before an offset, as retention does.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn forget(&self, topic: &str, partition: i32, before: i64) {
        self.delete_before(topic, partition, Offset::Offset(before)).await;
    }

    /// Forgets everything in partition 0.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn forget_all(&self, topic: &str) {
        self.delete_before(topic, 0, Offset::End).await;
    }

    async fn delete_before(&self, topic: &str, partition: i32, before: Offset) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, before).expect("an offset");
        let done = self.admin.delete_records(&list, &AdminOptions::new());
        within("records are deleted", done).await.expect("the broker deletes records");
    }

    /// Publishes in order, confirmed; returns partition and offset of each.
    ///
    /// # Panics
    /// When one is not confirmed.
    pub async fn produce(&self, topic: &str, records: &[Record]) -> Vec<(i32, i64)> {
        let sends = records.iter().map(|record| {
            let mut headers = OwnedHeaders::new();
            for (key, value) in &record.headers {
                headers = headers.insert(Header { key, value: value.as_ref() });
            }
            let mut out = FutureRecord::<[u8], [u8]>::to(topic).headers(headers);
            out.key = record.key.as_deref();
            out.payload = record.payload.as_deref();
            (out.partition, out.timestamp) = (record.partition, record.timestamp);
            let sent = self.producer.send_result(out).unwrap_or_else(|(error, _)| panic!("produce: {error}"));
            async move { sent.await.expect("the producer lives").map_err(|(error, _)| error) }
        });
        let sends: Vec<_> = sends.collect();
        let done = within("records are confirmed", try_join_all(sends)).await.expect("confirmed");
        done.into_iter().map(|d| (d.partition, d.offset)).collect()
    }

    /// A group's committed offset.
    ///
    /// # Panics
    /// When the broker does not tell.
    pub async fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let consumer =
            Arc::clone(self.groups.lock().expect("never poisoned").entry(group.to_owned()).or_insert_with(|| {
                let mut config = ClientConfig::new();
                config.set("bootstrap.servers", self.bootstrap()).set("group.id", group);
                Arc::new(config.create().expect("a consumer"))
            }));
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let asked = tokio::task::spawn_blocking(move || consumer.committed_offsets(list, Duration::from_secs(20)));
        let list = asked.await.expect("no panic").expect("the group coordinator answers");
        match list.elements().first().expect("asked for one").offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    /// The first n records of partition 0 of a topic.
    ///
    /// # Panics
    /// When they do not come.
    pub async fn read(&self, topic: &str, n: usize) -> Vec<Record> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap()).set("group.id", "reader").set("enable.auto.commit", "false");
        let consumer: StreamConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Beginning).expect("an offset");
        consumer.assign(&list).expect("assigned");
        let mut out = Vec::with_capacity(n);
        while out.len() < n {
            let message = within("one more record", consumer.recv()).await.expect("a record");
            let headers = message.headers().into_iter().flat_map(|h| h.iter());
            out.push(Record {
                key: message.key().map(<[u8]>::to_vec),
                payload: message.payload().map(<[u8]>::to_vec),
                headers: headers.map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect(),
                partition: Some(message.partition()),
                timestamp: message.timestamp().to_millis(),
            });
        }
        drop(tokio::task::spawn_blocking(move || drop(consumer)));
        out
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        drop(self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("{}: {error}", self.dir.display());
        }
    }
}

/// Folders of runs that were killed.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mine = name.strip_prefix("mediation-kafka-").or_else(|| name.strip_prefix("mediation-tests-"));
        let Some(pid) = mine.and_then(|rest| rest.split('-').next()) else { continue };
        if !Path::new("/proc").join(pid).exists() && std::fs::remove_dir_all(entry.path()).is_err() {
            continue; // somebody else swept it
        }
    }
}

/// Kafka, as the conformance suite sees it: two topics of its own on a broker.
pub struct OnKafka<'a> {
    kafka: &'a Kafka,
    /// The topic that clients read.
    pub topic_in: String,
    /// The topic that clients publish to.
    pub topic_out: String,
}

impl<'a> OnKafka<'a> {
    /// With topics made on that Kafka.
    pub async fn on(kafka: &'a Kafka, spec: &Spec) -> Self {
        let (topic_in, topic_out) = (unique("in"), unique("out"));
        kafka.create_topic(&topic_in, spec.partitions).await;
        kafka.create_topic(&topic_out, 1).await;
        Self { kafka, topic_in, topic_out }
    }

    /// An engine on that Kafka.
    pub async fn world(kafka: &'a Kafka, spec: Spec) -> World<Self> {
        let broker = Self::on(kafka, &spec).await;
        World::with(broker, spec).await
    }

    /// The Kafka.
    #[must_use]
    pub fn kafka(&self) -> &'a Kafka {
        self.kafka
    }
}

impl Broker for OnKafka<'static> {
    const KIND: &'static str = "kafka";

    async fn prepare(spec: &Spec) -> Self {
        Self::on(Kafka::shared(), spec).await
    }
}

impl crate::broker::Reachable for OnKafka<'_> {
    fn config(&self, spec: &Spec) -> Value {
        let endpoint = json!({
            "name": "broker", "type": "kafka",
            "config": { "brokers": self.kafka.bootstrap(), "topic_in": self.topic_in, "topic_out": self.topic_out },
        });
        spec.config(&endpoint, Vec::new(), Vec::new())
    }

    async fn publish(&self, _: &Engine, records: &[Record]) {
        self.kafka.produce(&self.topic_in, records).await;
    }

    async fn published(&self, _: &Engine, n: usize) -> Vec<Record> {
        self.kafka.read(&self.topic_out, n).await
    }

    async fn acknowledged(&self, _: &Engine, client_id: &str, partition: i32) -> Option<i64> {
        self.kafka.committed(&format!("mediation.broker.{client_id}"), &self.topic_in, partition).await
    }

    async fn forget(&self, before: i64) {
        self.kafka.forget(&self.topic_in, 0, before).await;
    }

    fn dump(&self) {
        if failing() {
            let child = self.kafka.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let log = child.as_ref().map_or_else(|| "it does not run".to_owned(), |c| c.stdout.tail(20));
            eprintln!("--- Kafka's log, last lines\n{log}");
        }
    }
}

impl std::fmt::Debug for OnKafka<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kafka {} {} {}", self.kafka.port, self.topic_in, self.topic_out)
    }
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kafka on {}", self.port)
    }
}
