//! Clients that send much and read little, pipeline, or send more than is taken: the engine stays bounded, sees them
//! leave, and answers what it owes.

use std::time::Duration;

use mediation_tests::raw_ws::{CLOSE, PING, TEXT, frame};
use mediation_tests::run::within;
use mediation_tests::{Memory, RawHttp, RawWs, Spec, World, run};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[test]
fn a_client_that_pings_and_never_reads_does_not_grow_the_engine() {
    run(async {
        let world = World::<Memory>::start(Spec { tap: true, ..Spec::default() }).await;
        let mut ws = RawWs::open(world.engine.addr("up"), "pings", Some(4096)).await;
        let before = world.engine.usage().resident;
        let pings = frame(PING, &[b'x'; 120]).repeat(2000);
        for _ in 0..500 {
            within("pings are read", ws.send_bytes(&pings)).await;
        }
        ws.send(TEXT, b"behind them").await;
        assert_eq!(world.published(1).await[0].text(), "behind them", "a million pings were read");
        let grown = world.engine.usage().resident.saturating_sub(before);
        assert!(grown < 64 * 1024, "resident memory grew by {grown} KiB");
    });
}

#[test]
fn a_publisher_that_does_not_read_its_replies_is_not_gone_and_loses_nothing() {
    run(async {
        const N: usize = 10_000;
        let listeners = json!({ "up": { "ping_interval": "1s", "ping_timeout": "3s" } });
        let world = World::<Memory>::start(Spec { listeners, tap: true, ..Spec::default() }).await;
        let mut ws = RawWs::open_v1(world.engine.addr("up"), "publisher").await;
        ws.ping().await; // a pong is due, and stands behind all that follows
        let publish = |n| frame(TEXT, json!({ "type": "publish", "ref": n, "payload": n }).to_string().as_bytes());
        let all: Vec<u8> = (0..N).flat_map(|n| publish(n.to_string())).collect();
        let (mut reader, mut writer) = ws.socket().split();
        // Until it takes nothing more, or all.
        let mut sent = 0;
        while sent < all.len() {
            match tokio::time::timeout(Duration::from_secs(2), writer.write(&all[sent..])).await {
                Ok(written) => sent += written.expect("sent"),
                Err(_) => break,
            }
        }
        // Time must pass here: it is the ping timeout, twice, that the client has to outlive.
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert!(world.engine.session("publisher").await.is_some(), "it was ended");
        let rest = async { writer.write_all(&all[sent..]).await.expect("sent") };
        let replies = async {
            let (mut text, mut seen) = (Vec::new(), 0);
            let mut buffer = vec![0; 64 * 1024];
            while seen < N {
                let count = within("replies", reader.read(&mut buffer)).await.expect("replies");
                assert!(count > 0, "the engine ended the connection after {seen} replies");
                text.extend_from_slice(&buffer[..count]);
                seen = String::from_utf8_lossy(&text).matches("\"published\"").count();
            }
        };
        tokio::join!(rest, replies);
        let out = world.published(N).await;
        assert!(out.iter().enumerate().all(|(n, record)| record.text() == n.to_string()), "in order, none missing");
    });
}

#[test]
fn a_stream_client_that_pipelined_is_seen_to_leave() {
    run(async {
        // hyper would notice at a second failed write: no heartbeat helps it here.
        let listeners = json!({ "sse": { "heartbeat": "300s" } });
        let world = World::<Memory>::start(Spec { listeners, ..Spec::default() }).await;
        for reset in [false, true] {
            let mut client = RawHttp::connect(world.engine.addr("sse"), None).await;
            client.send("GET / HTTP/1.1\r\nHost: x\r\nX-Client-ID: pipelined\r\n\r\nGET /next HTTP/1.1\r\n").await;
            client.read_until("event: mediation.session").await;
            client.read_until("\n\n").await;
            assert!(world.engine.session("pipelined").await.is_some(), "it lives");
            if reset {
                client.reset();
                world.engine.session_gone("pipelined").await;
            } else {
                client.finish().await;
                world.engine.session_gone("pipelined").await;
            }
        }
    });
}

#[test]
fn the_engine_sends_one_close_frame_whoever_begins() {
    run(async {
        let world = World::<Memory>::start(Spec::default()).await;
        for by_client in [false, true] {
            let mut ws = RawWs::open(world.engine.addr("ws"), "closes", None).await;
            if by_client {
                ws.send(CLOSE, &1000_u16.to_be_bytes()).await;
            } else {
                ws.send(TEXT, b"no route takes it").await;
            }
            let (opcode, payload) = ws.frame().await;
            assert_eq!(opcode, CLOSE);
            if !by_client {
                assert_eq!(payload[..2], 1008_u16.to_be_bytes());
                ws.send(CLOSE, &payload[..2]).await;
            }
            let mut rest = Vec::new();
            within("the end of the connection", ws.socket().read_to_end(&mut rest)).await.expect("a clean end");
            assert_eq!(rest, b"", "begun by the client: {by_client}");
        }
    });
}

/// More than the kernel takes while nobody reads.
const TOO_LARGE: usize = 12_000_000;

#[test]
fn who_still_sends_a_body_that_is_too_large_reads_413() {
    run(async {
        let world = World::<Memory>::start(Spec::default()).await;
        for _ in 0..3 {
            // As Python's http.client does: all of it first, then the answer.
            let mut client = RawHttp::connect(world.engine.addr("post"), None).await;
            client.send(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {TOO_LARGE}\r\n\r\n")).await;
            client.send(vec![b'x'; TOO_LARGE]).await;
            let head = client.read_until("\r\n\r\n").await;
            assert!(head.starts_with("HTTP/1.1 413"), "{head}");
        }
    });
}

#[test]
fn who_asks_before_sending_a_body_that_is_too_large_reads_413() {
    run(async {
        let world = World::<Memory>::start(Spec::default()).await;
        let ask = |length: usize| {
            format!("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n")
        };
        let mut client = RawHttp::connect(world.engine.addr("post"), None).await;
        client.send(ask(100_000_000)).await;
        let head = client.read_until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 413"), "refused before it is sent: {head}");
        let mut client = RawHttp::connect(world.engine.addr("post"), None).await;
        client.send(ask(TOO_LARGE)).await;
        let mut head = client.read_until("\r\n\r\n").await;
        if head.starts_with("HTTP/1.1 100") {
            client.send(vec![b'x'; TOO_LARGE]).await;
            head = client.read_until("\r\n\r\n").await;
        }
        assert!(head.starts_with("HTTP/1.1 413"), "{head}");
    });
}
