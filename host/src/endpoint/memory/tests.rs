use std::future::poll_fn;
use std::task::{Context, Waker};

use super::*;
use crate::endpoint::{Budget, Delivery};
use crate::event::{EventId, Origin};

fn memory() -> Arc<Memory> {
    let config = config::Memory {
        topic_in: vec!["own".into()],
        topic_out: Some("own".into()),
        start: Start::Earliest,
        retain: 100,
        retain_bytes: 1 << 20,
        topics: 8,
    };
    Memory::new("m", &config)
}

fn event(payload: Bytes) -> Arc<Event> {
    Arc::new(Event {
        id: EventId::new(),
        source: "test".into(),
        client_id: None,
        payload: Some(payload.into()),
        key: None,
        headers: Vec::new(),
        properties: None,
        attributes: None,
        origin: Origin::Client { protocol: "http_post" },
        timestamp_ms: 0,
    })
}

async fn publish(memory: &Memory, address: Option<&str>, text: &'static str) {
    let event = event(Bytes::from_static(text.as_bytes()));
    memory.publish(address.map(Into::into), event, Duration::from_secs(1)).await.unwrap().await.unwrap();
}

fn asked(address: Option<&str>, durable: Option<&str>) -> Subscribe {
    Subscribe { address: address.map(Into::into), resume: None, durable: durable.map(Into::into), window: 8 }
}

async fn pull(subscription: &mut Box<dyn Subscription>) -> Vec<Delivery> {
    let mut out = Vec::new();
    poll_fn(|cx| subscription.poll_pull(cx, Budget { events: 8, bytes: 1024 }, &mut out)).await.unwrap();
    out
}

fn texts(pulled: &[Delivery]) -> Vec<Vec<u8>> {
    pulled.iter().map(|d| d.event.payload.as_ref().unwrap().to_bytes().to_vec()).collect()
}

#[tokio::test]
async fn an_address_is_read_instead_of_the_endpoints_own_topics() {
    let memory = memory();
    publish(&memory, None, "own").await;
    publish(&memory, Some("other"), "other").await;
    let mut own = memory.subscribe(asked(None, None)).await.unwrap();
    let mut other = memory.subscribe(asked(Some("other"), None)).await.unwrap();
    assert_eq!(texts(&pull(&mut own).await), [b"own"]);
    let pulled = pull(&mut other).await;
    assert_eq!(texts(&pulled), [b"other"]);
    assert_eq!(pulled[0].event.id.to_string(), "other-0-0");
    assert_ne!(own.scope(), other.scope());
    let mut context = Context::from_waker(Waker::noop());
    let more = own.poll_pull(&mut context, Budget { events: 8, bytes: 1024 }, &mut Vec::new());
    assert!(more.is_pending(), "nothing of the other topic");
}

#[tokio::test]
async fn durable_positions_belong_to_client_and_address() {
    let memory = memory();
    for text in ["0", "1", "2"] {
        publish(&memory, None, text).await;
        publish(&memory, Some("other"), text).await;
    }
    memory.subscribe(asked(None, Some("c"))).await.unwrap().settle(0, 1);
    memory.subscribe(asked(Some("other"), Some("c"))).await.unwrap().settle(0, 2);
    for (address, start) in [(None, 1), (Some("other"), 2)] {
        let again = memory.subscribe(asked(address, Some("c"))).await.unwrap();
        assert_eq!(again.lanes()[0].start, start, "{address:?}");
    }
}

#[tokio::test]
async fn the_log_does_not_hold_on_to_what_an_event_was_cut_out_of() {
    let memory = memory();
    let whole = Bytes::from(vec![7_u8; 4096]);
    let part = whole.slice(..4);
    memory.publish(None, event(part.clone()), Duration::from_secs(1)).await.unwrap().await.unwrap();
    let mut subscription = memory.subscribe(asked(None, None)).await.unwrap();
    let kept = pull(&mut subscription).await;
    let payload = kept[0].event.payload.as_ref().unwrap();
    assert_eq!(payload.to_bytes(), part);
    assert_ne!(payload.pieces()[0].as_ptr(), part.as_ptr());
}
