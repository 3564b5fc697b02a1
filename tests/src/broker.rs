//! What the conformance suite needs from a broker; a later endpoint joins by implementing it. `memory` is here.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::engine::Engine;
use crate::run::{eventually, unique, within};
use crate::spec::{Spec, entrypoint, route};
use crate::ws::Ws;

/// An event as a broker has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The ordering key.
    pub key: Option<Vec<u8>>,
    /// None: a tombstone.
    pub payload: Option<Vec<u8>>,
    /// They may repeat, be binary or null.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Where it goes, or came from.
    pub partition: Option<i32>,
    /// When it was made, in milliseconds; None: now, or nobody says.
    pub timestamp: Option<i64>,
}

impl Record {
    /// With a payload only.
    pub fn new(payload: impl Into<Vec<u8>>) -> Self {
        Self { payload: Some(payload.into()), ..Self::default() }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), Some(value.into())));
        self
    }

    /// The value of the first header of that name, as text.
    #[must_use]
    pub fn text_header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        String::from_utf8(value.clone()?).ok()
    }

    /// The payload as text.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8(self.payload.clone().expect("a payload")).expect("text")
    }
}

/// Reaching a broker past the engine.
pub trait Reachable: Send + Sync {
    /// The engine's configuration, with this broker as endpoint `broker`.
    fn config(&self, spec: &Spec) -> Value;
    /// Publishes to what clients read, confirmed and in order.
    fn publish(&self, engine: &Engine, records: &[Record]) -> impl Future<Output = ()>;
    /// The first n events that came out upstream (needs `Spec::tap`).
    fn published(&self, engine: &Engine, n: usize) -> impl Future<Output = Vec<Record>>;
    /// The first position that a client has not acknowledged, as the broker sees it.
    fn acknowledged(&self, engine: &Engine, client_id: &str, partition: i32) -> impl Future<Output = Option<i64>>;
    /// Loses everything before that position of partition 0.
    fn forget(&self, before: i64) -> impl Future<Output = ()>;
    /// What it knows, when a test fails.
    fn dump(&self);
}

/// A kind of broker that the conformance suite runs against.
pub trait Broker: Reachable + Sized + 'static {
    /// The endpoint's `type`.
    const KIND: &'static str;
    /// A place of its own on a running broker.
    fn prepare(spec: &Spec) -> impl Future<Output = Self>;
}

/// A broker and an engine on it.
#[derive(Debug)]
pub struct World<B: Reachable> {
    /// The engine.
    pub engine: Engine,
    /// The broker.
    pub broker: B,
    /// What was asked for.
    pub spec: Spec,
}

impl<B: Broker> World<B> {
    /// Starts an engine on a place of its own.
    pub async fn start(spec: Spec) -> Self {
        let broker = B::prepare(&spec).await;
        Self::with(broker, spec).await
    }
}

impl<B: Reachable> World<B> {
    /// Starts an engine on that broker.
    pub async fn with(broker: B, spec: Spec) -> Self {
        let engine = Engine::start(&broker.config(&spec)).await;
        let world = Self { engine, broker, spec };
        eventually("the endpoint is up", async || {
            let ready = world.engine.admin("/readyz").await;
            if ready["endpoints"]["broker"] == "up" { Ok(()) } else { Err(ready.to_string()) }
        })
        .await;
        if world.spec.tap {
            world.published(0).await; // opens the tap before anything is published
        }
        world
    }

    /// A second engine on the same broker.
    pub async fn second_engine(&self) -> Engine {
        Engine::start(&self.broker.config(&self.spec)).await
    }

    /// Publishes texts to what clients read.
    pub async fn publish(&self, payloads: impl IntoIterator<Item = impl Into<Vec<u8>>>) {
        let records: Vec<Record> = payloads.into_iter().map(Record::new).collect();
        self.publish_records(&records).await;
    }

    /// Publishes to what clients read.
    pub async fn publish_records(&self, records: &[Record]) {
        self.broker.publish(&self.engine, records).await;
    }

    /// The first n events that came out upstream.
    pub async fn published(&self, n: usize) -> Vec<Record> {
        self.broker.published(&self.engine, n).await
    }

    /// The first position of partition 0 that the client has not acknowledged.
    pub async fn acknowledged(&self, client_id: &str) -> Option<i64> {
        self.broker.acknowledged(&self.engine, client_id, 0).await
    }

    /// Waits until the client's acknowledged position is that.
    pub async fn acknowledged_is(&self, client_id: &str, position: i64) {
        eventually(&format!("{client_id} acknowledged up to {position}"), async || {
            let now = self.acknowledged(client_id).await;
            if now == Some(position) { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
    }
}

impl<B: Reachable> Drop for World<B> {
    fn drop(&mut self) {
        self.broker.dump();
    }
}

/// The engine's own `memory` broker: published to by POST on `feed` or, many,
/// through a WebSocket on `bulk`; looked at through a WebSocket on `tap`.
#[derive(Debug, Default)]
pub struct Memory {
    topic: String,
    tap: tokio::sync::OnceCell<Arc<Mutex<Vec<Record>>>>,
}

impl Memory {
    async fn tap(&self, engine: &Engine) -> Arc<Mutex<Vec<Record>>> {
        let open = || async {
            let (mut ws, _) = Ws::open_v1(engine.addr("tap"), "tap", "").await;
            let seen = Arc::new(Mutex::new(Vec::new()));
            let out = Arc::clone(&seen);
            tokio::spawn(async move {
                loop {
                    let frame = ws.json_of("event").await;
                    out.lock().expect("never poisoned").push(record(&frame));
                    ws.ack(&[&frame["id"]]).await;
                }
            });
            seen
        };
        Arc::clone(self.tap.get_or_init(open).await)
    }
}

/// Publishes many through one WebSocket, two hundred at a time.
async fn bulk(engine: &Engine, records: &[Record]) {
    let (mut ws, _) = Ws::open_v1(engine.addr("bulk"), &unique("bulk"), "").await;
    for chunk in records.chunks(200) {
        for (n, record) in chunk.iter().enumerate() {
            ws.send_json(json!({ "type": "publish", "ref": n.to_string(), "payload": record.text() })).await;
        }
        for _ in chunk {
            let answer = ws.json().await;
            assert_eq!(answer["type"], "published", "{answer}");
        }
    }
    ws.close().await;
}

/// A `mediation.v1` event frame as a record: metadata `header.NAME` are its headers.
fn record(frame: &Value) -> Record {
    let metadata = frame["metadata"].as_object().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().map(|s| s.as_bytes().to_vec());
    let headers = metadata.iter().filter_map(|(k, v)| Some((k.strip_prefix("header.")?.to_owned(), text(v))));
    Record {
        key: text(&metadata.get("key").cloned().unwrap_or_default()),
        payload: Some(payload(frame)),
        headers: headers.collect(),
        partition: Some(0),
        timestamp: None,
    }
}

/// The decoded payload of a `mediation.v1` frame.
///
/// # Panics
/// When its base64 is damaged.
#[must_use]
pub fn payload(frame: &Value) -> Vec<u8> {
    use base64::Engine as _;
    match frame["payload_base64"].as_str() {
        Some(text) => base64::engine::general_purpose::STANDARD.decode(text).expect("base64"),
        None => frame["payload"].as_str().unwrap_or_default().as_bytes().to_vec(),
    }
}

impl Broker for Memory {
    const KIND: &'static str = "memory";

    async fn prepare(_: &Spec) -> Self {
        Self { topic: unique("topic"), tap: tokio::sync::OnceCell::new() }
    }
}

impl Reachable for Memory {
    fn config(&self, spec: &Spec) -> Value {
        let endpoint = json!({
            "name": "broker", "type": "memory", "config": { "topic_in": self.topic, "topic_out": self.topic },
        });
        let mut feed = entrypoint("feed", "http_post");
        feed["forward_headers"] = json!(["X-One", "X-Two", "X-Bytes"]);
        feed["max_body"] = json!("2MiB");
        let feed_route = route("feed", "broker", "upstream", "at_least_once");
        let mut bulk_route = route("bulk", "broker", "upstream", "at_least_once");
        bulk_route["channel_size"] = json!(256);
        let entrypoints = vec![feed, entrypoint("bulk", "websocket"), entrypoint("tap", "websocket")];
        let mut routes = vec![feed_route, bulk_route];
        let mut tap_route = route("broker", "tap", "downstream", "auto");
        tap_route["channel_size"] = json!(256);
        routes.push(tap_route);
        spec.config(&endpoint, entrypoints, routes)
    }

    async fn publish(&self, engine: &Engine, records: &[Record]) {
        let plain = |r: &Record| r.headers.is_empty() && r.payload.as_ref().is_some_and(|p| p.len() < 65_536);
        if records.len() > 20 && records.iter().all(plain) {
            return bulk(engine, records).await;
        }
        // One connection, one after another: the order is the order of the confirms.
        let client = reqwest::Client::builder().no_proxy().build().expect("a plain HTTP client");
        for record in records {
            let mut request = client.post(engine.url("feed", "/")).body(record.payload.clone().unwrap_or_default());
            for (name, value) in &record.headers {
                request = request.header(name, value.clone().unwrap_or_default());
            }
            let answer = within("a confirm", request.send()).await.expect("an answer");
            assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
        }
    }

    async fn published(&self, engine: &Engine, n: usize) -> Vec<Record> {
        let seen = self.tap(engine).await;
        eventually(&format!("{n} events came out"), async || {
            let seen = seen.lock().expect("never poisoned");
            if seen.len() >= n { Ok(seen[..n].to_vec()) } else { Err(format!("{} events", seen.len())) }
        })
        .await
    }

    async fn acknowledged(&self, engine: &Engine, client_id: &str, partition: i32) -> Option<i64> {
        let session = engine.session(client_id).await?;
        let positions = session["positions"].as_array()?;
        positions.iter().find(|p| p["partition"] == partition)?["settled"].as_i64()
    }

    async fn forget(&self, _: i64) {
        // Its log is bounded by `retain`, which the test sets.
    }

    fn dump(&self) {}
}
