//! As fast as it goes, nothing is lost and order holds, under every guarantee but none.

use mediation_tests::raw_ws::{self, CLOSE, RawWs, TEXT};
use mediation_tests::run::soak;
use mediation_tests::{Broker, Record, Spec, World, Ws};
use serde_json::json;

on_every_broker!(
    many_events_to_one_client_under_auto,
    many_events_to_one_client_under_at_most_once,
    many_events_to_one_client_under_at_least_once,
    many_frames_from_one_client_under_auto,
    many_frames_from_one_client_under_at_most_once,
    many_frames_from_one_client_under_at_least_once,
    many_clients_send_ten_frames_and_close_under_auto,
    many_clients_send_ten_frames_and_close_under_at_most_once,
    many_clients_send_ten_frames_and_close_under_at_least_once,
);

fn spec<B: Broker>(guarantee: &'static str) -> Spec {
    // What memory's log lets go of is lost to whoever has not read it: it must hold everything here.
    let endpoint = if B::KIND == "memory" { json!({ "retain": 2_000_000, "retain_bytes": "1GiB" }) } else { json!({}) };
    Spec { channel_size: 256, endpoint, tap: true, ..Spec::with(guarantee) }
}

async fn many_events_to_one_client_under_auto<B: Broker>() {
    events_to_one_client::<B>("auto").await;
}

async fn many_events_to_one_client_under_at_most_once<B: Broker>() {
    events_to_one_client::<B>("at_most_once").await;
}

async fn many_events_to_one_client_under_at_least_once<B: Broker>() {
    events_to_one_client::<B>("at_least_once").await;
}

async fn events_to_one_client<B: Broker>(guarantee: &'static str) {
    let n = if soak() { 500_000 } else { 100_000 };
    let world = World::<B>::start(Spec { tap: false, ..spec::<B>(guarantee) }).await;
    let mut ws = Ws::open(world.engine.addr("ws"), "flat-out").await;
    let read = async {
        for i in 0..n {
            let got = String::from_utf8(ws.event().await).expect("text");
            assert_eq!(got.trim_end_matches('.'), i.to_string(), "in order, none missing");
        }
    };
    tokio::join!(world.publish((0..n).map(|i| format!("{i:.<100}"))), read);
}

async fn many_frames_from_one_client_under_auto<B: Broker>() {
    frames_from_one_client::<B>("auto").await;
}

async fn many_frames_from_one_client_under_at_most_once<B: Broker>() {
    frames_from_one_client::<B>("at_most_once").await;
}

async fn many_frames_from_one_client_under_at_least_once<B: Broker>() {
    frames_from_one_client::<B>("at_least_once").await;
}

async fn frames_from_one_client<B: Broker>(guarantee: &'static str) {
    let n = 10_000;
    let world = World::<B>::start(spec::<B>(guarantee)).await;
    let mut ws = RawWs::open(world.engine.addr("up"), "flat-out", None).await;
    let all: Vec<u8> = (0..n).flat_map(|i| raw_ws::frame(TEXT, i.to_string().as_bytes())).collect();
    ws.send_bytes(&all).await;
    let texts: Vec<String> = world.published(n).await.iter().map(Record::text).collect();
    let expected: Vec<String> = (0..n).map(|i| i.to_string()).collect();
    assert!(texts == expected, "in order, none missing");
}

async fn many_clients_send_ten_frames_and_close_under_auto<B: Broker>() {
    ten_frames_and_close::<B>("auto").await;
}

async fn many_clients_send_ten_frames_and_close_under_at_most_once<B: Broker>() {
    ten_frames_and_close::<B>("at_most_once").await;
}

async fn many_clients_send_ten_frames_and_close_under_at_least_once<B: Broker>() {
    ten_frames_and_close::<B>("at_least_once").await;
}

async fn ten_frames_and_close<B: Broker>(guarantee: &'static str) {
    let world = World::<B>::start(spec::<B>(guarantee)).await;
    let clients = (0..50).map(|client| {
        let addr = world.engine.addr("up");
        async move {
            let mut ws = RawWs::open(addr, &format!("client-{client}"), None).await;
            let mut all: Vec<u8> =
                (0..10).flat_map(|i| raw_ws::frame(TEXT, format!("{client} {i}").as_bytes())).collect();
            all.extend(raw_ws::frame(CLOSE, &1000_u16.to_be_bytes()));
            ws.send_bytes(&all).await;
        }
    });
    futures_util::future::join_all(clients).await;
    let texts: Vec<String> = world.published(500).await.iter().map(Record::text).collect();
    for client in 0..50 {
        let mine: Vec<&str> = texts.iter().filter_map(|t| t.strip_prefix(&format!("{client} "))).collect();
        assert_eq!(mine, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"], "client {client}");
    }
}
