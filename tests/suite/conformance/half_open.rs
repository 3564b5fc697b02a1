//! Clients whose host vanishes without a FIN or a reset are found gone; clients that merely do not read are not.
//!
//! The client's host is a network namespace behind a veth pair (`mediation_tests::netns`): nothing leaves the machine.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mediation_tests::raw_ws::{PING, PONG, RawWs, TEXT, V1};
use mediation_tests::run::within;
use mediation_tests::{Broker, FarHost, Spec, Sse, World, Ws, eventually, http};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

on_every_broker!(
    a_websocket_whose_host_vanishes_with_data_in_flight_is_gone,
    a_websocket_whose_host_vanishes_while_idle_is_gone,
    a_stream_whose_host_vanishes_with_data_in_flight_is_gone,
    a_stream_whose_host_vanishes_while_idle_is_gone,
    far_clients_that_do_not_read_keep_their_sessions,
);

const DURABLE: &str = "durable";

/// Listeners on the cable to that host.
fn spec(host: &FarHost) -> Spec {
    let bind = host.near().to_string();
    let listeners = json!({
        "ws": { "bind": bind, "ping_interval": "1s", "ping_timeout": "3s" },
        "sse": { "bind": bind, "heartbeat": "1s", "ping_timeout": "3s" },
    });
    Spec { down: json!({ "durable": true }), listeners, channel_size: 16, ..Spec::default() }
}

async fn a_websocket_whose_host_vanishes_with_data_in_flight_is_gone<B: Broker>() {
    vanishes::<B>(websocket, true).await;
}

async fn a_websocket_whose_host_vanishes_while_idle_is_gone<B: Broker>() {
    vanishes::<B>(websocket, false).await;
}

async fn a_stream_whose_host_vanishes_with_data_in_flight_is_gone<B: Broker>() {
    vanishes::<B>(stream, true).await;
}

async fn a_stream_whose_host_vanishes_while_idle_is_gone<B: Broker>() {
    vanishes::<B>(stream, false).await;
}

/// Ids of the events that a client on the far host has read so far.
type Seen = Arc<Mutex<Vec<String>>>;

/// Opens a client that reads for ever and acknowledges by id, later.
type Open = fn(TcpStream, Seen) -> tokio::task::JoinHandle<()>;

fn websocket(socket: TcpStream, seen: Seen) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut ws = RawWs::over(socket, DURABLE, V1).await;
        loop {
            match ws.frame().await {
                (PING, payload) => ws.send(PONG, &payload).await,
                (TEXT, payload) => {
                    let frame: Value = serde_json::from_slice(&payload).expect("JSON");
                    if frame["type"] == "event" {
                        let first = seen.lock().expect("never poisoned").is_empty();
                        seen.lock().expect("never poisoned").push(frame["id"].as_str().expect("an id").to_owned());
                        if first {
                            let ack = json!({ "type": "ack", "ids": [frame["id"]] });
                            ws.send(TEXT, ack.to_string().as_bytes()).await;
                        }
                    }
                }
                other => panic!("an event or a ping, not {other:?}"),
            }
        }
    })
}

fn stream(mut socket: TcpStream, seen: Seen) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        ask_for_stream(&mut socket, "/?ack=client", DURABLE).await;
        let (mut text, mut bytes) = (String::new(), [0; 4096]);
        loop {
            let n = within("a heartbeat", socket.read(&mut bytes)).await.expect("it lives");
            text.push_str(std::str::from_utf8(&bytes[..n]).expect("text"));
            let ids = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            let ids = ids.filter_map(|line| line.strip_prefix("id:")?.trim().split('~').next());
            *seen.lock().expect("never poisoned") = ids.filter(|id| !id.is_empty()).map(str::to_owned).collect();
        }
    })
}

async fn ask_for_stream(socket: &mut TcpStream, target: &str, client_id: &str) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: far\r\nX-Client-ID: {client_id}\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("sent");
}

/// Three events are read and the first is acknowledged; then the host vanishes.
async fn vanishes<B: Broker>(open: Open, in_flight: bool) {
    let Some(host) = FarHost::new() else { return };
    let mut spec = spec(&host);
    if B::KIND == "kafka" {
        // The session that comes back is admitted only when the consumer of the one before is gone.
        spec.endpoint = json!({ "max_dedicated_consumers": 1 });
    }
    let world = World::<B>::start(spec).await;
    let engine = &world.engine;
    let by_websocket = std::ptr::fn_addr_eq(open, websocket as Open);
    let listener = if by_websocket { "ws" } else { "sse" };
    let seen = Seen::default();
    let client = open(host.connect(engine.addr(listener), None), Arc::clone(&seen));
    engine.session_when(DURABLE, "it is live", |s| s["state"] == "live").await;
    world.publish(["0", "1", "2"]).await;
    let ids = eventually("the client has read three", async || {
        let seen = seen.lock().expect("never poisoned").clone();
        if seen.len() == 3 { Ok(seen) } else { Err(format!("{seen:?}; {client:?}")) }
    })
    .await;
    if !by_websocket {
        let ack = http().post(engine.url("sse", "/ack")).header("x-client-id", DURABLE);
        let answer = ack.body(json!({ "ids": [ids[0]] }).to_string()).send().await.expect("an answer");
        assert_eq!(answer.status(), 204);
    }
    world.acknowledged_is(DURABLE, 1).await;
    host.vanish();
    if in_flight {
        world.publish(["3"]).await;
    }
    // The kernel itself would give up after a quarter of an hour.
    engine.session_gone(DURABLE).await;
    assert!(!client.is_finished(), "the client was told nothing: {:?}", seen.lock());
    let position = world.acknowledged(DURABLE).await;
    assert!(position.is_none_or(|p| p == 1), "frozen, where somebody keeps it without a session: {position:?}");
    let mut ws = eventually("the consumer is gone: another is admitted", async || {
        let headers = [("x-client-id", DURABLE), ("sec-websocket-protocol", "mediation.v1")];
        Ws::try_open(engine.addr("ws"), "/", &headers).await.map_err(|refusal| format!("{refusal:?}"))
    })
    .await;
    for id in &ids[1..] {
        let event = ws.json_of("event").await;
        assert_eq!(event["id"], *id, "what was not acknowledged, with its id: {event}");
    }
    world.publish(["new"]).await;
    if in_flight {
        assert_eq!(ws.json_of("event").await["payload"], "3");
    }
    assert_eq!(ws.json_of("event").await["payload"], "new", "exactly those come again");
    client.abort();
}

/// Windows are shut and the kernels behind them live: no ping timeout ends such a session.
async fn far_clients_that_do_not_read_keep_their_sessions<B: Broker>() {
    const EVENTS: usize = 600;
    const BATCH: usize = 50;
    let event = |n: usize| format!("{n:<32768}");
    let Some(host) = FarHost::new() else { return };
    let world = World::<B>::start(spec(&host)).await;
    let engine = &world.engine;
    let mut ws = RawWs::over(host.connect(engine.addr("ws"), Some(8192)), "ws", "").await;
    let mut sse = host.connect(engine.addr("sse"), Some(8192));
    // Not ?ack=client: there the missing acks alone would stop it.
    ask_for_stream(&mut sse, "/", "sse").await;
    engine.session_when("sse", "it is live", |s| s["state"] == "live").await;
    let mut other = Ws::open(engine.addr("ws"), "other").await;
    let mut taken = Vec::new();
    for first in (0..EVENTS).step_by(BATCH) {
        world.publish((first..first + BATCH).map(event)).await;
        for n in first..first + BATCH {
            assert_eq!(other.event().await, event(n).as_bytes(), "the client that reads");
        }
        let mut both = Vec::new();
        for client in ["ws", "sse"] {
            let session = engine.session(client).await.expect("it keeps its session");
            both.push(session["delivered"].as_u64().unwrap_or(u64::MAX));
        }
        taken.push(both);
    }
    // Once two readings are the same both windows are shut. The half is plenty of time for that on a busy machine.
    let settled = taken[EVENTS / BATCH / 2..].windows(2).find(|w| w[0] == w[1]).map(|w| w[0].clone());
    let settled = settled.unwrap_or_else(|| panic!("they never ceased to take events: {taken:?}"));
    assert!(
        settled.iter().all(|n| (1..EVENTS as u64 / 2).contains(n)),
        "some, not what buffers cannot hold: {taken:?}"
    );
    let reads_on = tokio::spawn(async move { other.closed().await }); // goes on answering pings
    // Time must pass here: five times the ping timeout, which both have to outlive.
    tokio::time::sleep(Duration::from_secs(15)).await;
    for (client, settled) in ["ws", "sse"].into_iter().zip(settled) {
        let session = engine.session(client).await.expect("it keeps its session");
        assert_eq!(session["delivered"], settled, "its window is shut: {taken:?} then {session}");
    }
    let mut sse = Sse::over(sse).await;
    for n in 0..EVENTS {
        assert_eq!(sse.event().await.data, event(n), "in order, none missing");
    }
    let mut next = 0;
    while next < EVENTS {
        match ws.frame().await {
            (PING, payload) => ws.send(PONG, &payload).await,
            (TEXT, payload) => {
                assert_eq!(payload, event(next).as_bytes(), "in order, none missing");
                next += 1;
            }
            other => panic!("events, not {other:?}"),
        }
    }
    reads_on.abort();
    // A vanished host with its window shut may take minutes: not shown here.
}
