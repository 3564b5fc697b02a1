//! The clients of the load: one WebSocket that reads flat out, many that sit, and 64 connections that POST.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mediation_tests::raw_ws::{PONG, frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::frames::Frames;
use crate::kafka::payload;

fn upgrade(addr: SocketAddr) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A blocking WebSocket client, upgraded.
pub(crate) fn open(addr: SocketAddr) -> std::net::TcpStream {
    let mut socket = std::net::TcpStream::connect(addr).expect("the listener accepts");
    socket.set_nodelay(true).expect("an option of every TCP socket");
    socket.write_all(upgrade(addr).as_bytes()).expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("an answer");
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "admitted, not {}", String::from_utf8_lossy(&head));
    socket
}

/// Reads until so many events came; answers pings on the way. Blocks.
pub(crate) fn drain(socket: &mut std::net::TcpStream, count: usize) {
    let (mut frames, mut seen) = (Frames::default(), 0);
    let mut buffer = vec![0; 256 * 1024];
    while seen < count {
        let read = socket.read(&mut buffer).expect("the connection holds");
        assert!(read > 0 && !frames.closed, "closed after {seen} of {count} events");
        seen += frames.feed(&buffer[..read]);
        for ping in frames.pings.drain(..) {
            socket.write_all(&frame(PONG, &ping)).expect("sent");
        }
    }
    assert_eq!(seen, count, "no event came twice");
}

/// A WebSocket client on the runtime, upgraded.
pub(crate) async fn open_async(addr: SocketAddr) -> tokio::net::TcpStream {
    let mut socket = tokio::net::TcpStream::connect(addr).await.expect("the listener accepts");
    socket.write_all(upgrade(addr).as_bytes()).await.expect("sent");
    let mut head = Vec::with_capacity(512);
    while !head.ends_with(b"\r\n\r\n") {
        assert!(socket.read_buf(&mut head).await.expect("an answer") > 0, "the connection holds");
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "admitted, not {}", String::from_utf8_lossy(&head));
    socket
}

/// Sits on a WebSocket and counts what comes into `seen`, until `socket` ends.
pub(crate) async fn sit(mut socket: tokio::net::TcpStream, seen: Arc<AtomicUsize>) {
    let mut frames = Frames::default();
    loop {
        socket.readable().await.expect("the connection holds");
        // On the stack: thousands of these wait.
        let mut buffer = [0; 16 * 1024];
        match socket.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => seen.fetch_add(frames.feed(&buffer[..read]), Ordering::Relaxed),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => panic!("a session broke: {error}"),
        };
        assert!(!frames.closed, "the engine closed a session");
        for ping in std::mem::take(&mut frames.pings) {
            socket.write_all(&frame(PONG, &ping)).await.expect("sent");
        }
    }
}

/// Posts `count` bodies of 1 KiB over so many keep-alive connections; every answer must be 200.
pub(crate) async fn post(addr: SocketAddr, connections: usize, count: usize) {
    let left = Arc::new(AtomicUsize::new(count));
    let mut request =
        format!("POST / HTTP/1.1\r\nHost: {addr}\r\nContent-Length: {}\r\n\r\n", crate::PAYLOAD).into_bytes();
    request.extend(payload());
    let request: Arc<[u8]> = request.into();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        tasks.spawn(post_on_one(addr, Arc::clone(&request), Arc::clone(&left)));
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("every answer is 200");
    }
}

async fn post_on_one(addr: SocketAddr, request: Arc<[u8]>, left: Arc<AtomicUsize>) {
    let mut socket = tokio::net::TcpStream::connect(addr).await.expect("the listener accepts");
    socket.set_nodelay(true).expect("an option of every TCP socket");
    let mut answer = Vec::with_capacity(4096);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        socket.write_all(&request).await.expect("sent");
        answer.clear();
        while !is_whole(&answer) {
            assert!(socket.read_buf(&mut answer).await.expect("an answer") > 0, "the connection holds");
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "200, not {}", String::from_utf8_lossy(&answer));
    }
}

/// Whether a whole answer is there.
fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|w| w == b"\r\n\r\n") else { return false };
    let text = std::str::from_utf8(&answer[..head]).expect("a head is text");
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().expect("a number"))
    });
    answer.len() >= head + 4 + length.expect("answers have a length")
}
