//! What the kernel has not taken: written is when it has the last byte, and not before.
//!
//! The event is larger than the kernel's buffers on both sides, and its client does not read.

use mediation_tests::{Broker, RawWs, World, Ws, run::within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::acknowledging::{durable, sentinel};

on_every_broker!(
    an_sse_event_is_not_acknowledged_before_the_kernel_has_it,
    a_polled_event_is_not_acknowledged_before_the_kernel_has_it,
    under_none_an_event_that_cannot_be_written_is_acknowledged,
    under_auto_an_event_that_cannot_be_written_is_acknowledged,
);

const SIZE: usize = 1 << 20;

pub(super) fn large() -> Vec<u8> {
    vec![b'x'; SIZE]
}

/// Sends a client's request, and reads nothing.
pub(super) async fn ask<B: Broker>(world: &World<B>, listener: &str, path: &str, client_id: &str) -> TcpStream {
    let addr = world.engine.addr(listener);
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(8192).expect("a buffer size");
    let mut socket = socket.connect(addr).await.expect("the listener accepts");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nX-Client-ID: {client_id}\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("sent");
    socket
}

/// Another client acknowledges; the held one does only when it has read everything.
async fn only_once_it_is_read<B: Broker>(world: &World<B>, other: Ws, mut held: TcpStream) {
    sentinel(world, other, 1).await;
    assert_eq!(world.acknowledged("held").await, Some(0), "acknowledged before the kernel had it");
    let mut buffer = vec![0; 64 * 1024];
    let mut read = 0;
    while read < SIZE {
        read += within("more of the event", held.read(&mut buffer)).await.expect("it is open");
    }
    world.acknowledged_is("held", 1).await;
}

async fn an_sse_event_is_not_acknowledged_before_the_kernel_has_it<B: Broker>() {
    let world = World::<B>::start(durable("at_least_once")).await;
    let held = ask(&world, "sse", "/", "held").await;
    world.acknowledged_is("held", 0).await;
    let other = Ws::open(world.engine.addr("ws"), "sentinel").await;
    world.publish([large()]).await;
    world.engine.session_when("held", "the event is its", |s| s["delivered"] == 1).await;
    only_once_it_is_read(&world, other, held).await;
}

async fn a_polled_event_is_not_acknowledged_before_the_kernel_has_it<B: Broker>() {
    let world = World::<B>::start(durable("at_least_once")).await;
    let subscribe = mediation_tests::http().post(world.engine.url("poll", "/subscribe"));
    assert_eq!(subscribe.header("x-client-id", "held").send().await.expect("an answer").status(), 201);
    let other = Ws::open(world.engine.addr("ws"), "sentinel").await;
    world.publish([large()]).await;
    let held = ask(&world, "poll", "/poll", "held").await;
    world.engine.session_when("held", "the event is its", |s| s["delivered"] == 1).await;
    only_once_it_is_read(&world, other, held).await;
}

async fn under_none_an_event_that_cannot_be_written_is_acknowledged<B: Broker>() {
    acknowledged_unwritten::<B>("none").await;
}

async fn under_auto_an_event_that_cannot_be_written_is_acknowledged<B: Broker>() {
    acknowledged_unwritten::<B>("auto").await;
}

async fn acknowledged_unwritten<B: Broker>(guarantee: &'static str) {
    let world = World::<B>::start(durable(guarantee)).await;
    let held = RawWs::open(world.engine.addr("ws"), "held", Some(8192)).await;
    world.acknowledged_is("held", 0).await;
    world.publish([large()]).await;
    world.acknowledged_is("held", 1).await;
    drop(held); // it has read nothing
}
