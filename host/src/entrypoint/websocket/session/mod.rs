//! A WebSocket session: one task that owns the socket and both halves, as one state machine that is polled.
//!
//! Each poll goes round: hand the out-buffer to the kernel, look at the publishes that are out, read the client, pull
//! the broker; until nothing moves. A half that cannot move stops nobody else: a full out-buffer stops the pulling, a
//! full upstream channel stops the reading.
//!
//! Here: the round, signals, and how a session ends. The four steps of a round are `writing`, `publishing`, `reading` and
//! `giving`.

mod giving;
mod publishing;
mod reading;
mod writing;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::close::{self, Close};
use super::lifecycle::Lifecycle;
use super::liveness::Liveness;
use super::wire::Wire;
use crate::endpoint::State;
use crate::entrypoint::{Context, Entered};
use crate::event::Header;
use crate::pipeline::Leg;
use crate::pipeline::downstream::Downstream;
use crate::pipeline::receipts::Receipts;
use crate::pipeline::upstream::Upstream;
use crate::session::socket::Socket;
use crate::session::{FLUSH, Leave, Phase, Session, signal};

/// How long a client may take to answer our close.
const LINGER: Duration = Duration::from_secs(2);

/// Rounds before other tasks of the worker get their turn.
const ROUNDS: usize = 32;

/// Runs a session to its end.
pub(super) async fn run(
    context: Arc<Context>,
    socket: Arc<Socket>,
    read: Vec<u8>,
    entered: Entered,
    (down, writes): (Option<Downstream>, Option<Leg>),
    v1: bool,
    forwarded: Vec<Header>,
) {
    let limit = context.config.max_frame;
    // JSON escapes make text up to six times longer; decoded payloads are held to the limit below.
    let limit = if v1 { limit.saturating_mul(6).saturating_add(64 * 1024) } else { limit };
    let config = WebSocketConfig::default()
        .read_buffer_size(1024)
        .write_buffer_size(0)
        // A few control frames: above it tungstenite keeps only its newest pong, else a client that pings and never
        // reads would grow the buffer for ever.
        .max_write_buffer_size(512)
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit));
    let wire = Wire::new(socket.clone());
    let ws = WebSocketStream::from_partially_read(wire, read, Role::Server, Some(config)).await;
    let session = entered.session.clone();
    let lifecycle = Lifecycle::begin(&context.tasks, &session, writes.as_ref()).await;
    let mut this = WsSession {
        receipts: Receipts::default(),
        up: None,
        liveness: Liveness::new(Instant::now()),
        broker_lost: false,
        ending: None,
        patience: Duration::ZERO,
        closed: false,
        read_done: false,
        write_dead: false,
        released: false,
        unreported: false,
        flushing: None,
        down,
        writes,
        ws,
        v1,
        forwarded,
        session,
        context,
        entered,
    };
    if v1 {
        this.say_session();
    }
    poll_fn(|cx| this.poll(cx)).await;
    drop(this);
    if let Some(lifecycle) = lifecycle {
        lifecycle.end();
    }
    if let Err(error) = socket.shutdown() {
        tracing::trace!(%error, "the client was gone already");
    }
}

struct WsSession {
    /// First: dropped before `entered` says that it is released.
    down: Option<Downstream>,
    /// Being flushed before a takeover, until then.
    flushing: Option<(Downstream, Instant)>,
    up: Option<Upstream>,
    /// What the upstream half is made of with the first message.
    writes: Option<Leg>,
    context: Arc<Context>,
    session: Arc<Session>,
    ws: WebSocketStream<Wire>,
    v1: bool,
    forwarded: Vec<Header>,
    /// At least once, plain: wait for a pong. Other guarantees: wait for the kernel.
    receipts: Receipts,
    liveness: Liveness,
    broker_lost: bool,
    /// Since when it ends: the client left, or was told to.
    ending: Option<Instant>,
    /// How long the client is still read once it ends.
    patience: Duration,
    /// A close went out, or came.
    closed: bool,
    read_done: bool,
    write_dead: bool,
    released: bool,
    /// Events were put into the wire since the kernel last had everything.
    unreported: bool,
    entered: Entered,
}

impl WsSession {
    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        let session = self.entered.session.clone();
        session.register(cx.waker());
        self.signals(session.take_signals());
        for _ in 0..ROUNDS {
            let mut moved = self.poll_out(cx);
            moved |= self.poll_up(cx);
            moved |= self.poll_in(cx);
            moved |= self.poll_down(cx);
            self.poll_flushing(cx);
            self.release();
            if !moved {
                return if self.is_finished(Instant::now()) { Poll::Ready(()) } else { Poll::Pending };
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn wire(&mut self) -> &mut Wire {
        self.ws.get_mut()
    }

    fn pongs(&self) -> bool {
        !self.v1 && self.down.as_ref().is_some_and(Downstream::at_least_once)
    }

    fn signals(&mut self, signals: u32) {
        if signals & signal::TICK != 0 {
            self.tick(Instant::now());
        }
        if signals & signal::BROKER != 0 {
            self.broker();
        }
        if signals & signal::LEAVE != 0
            && let Some(why) = self.session.leaving()
        {
            self.leave(why);
        }
    }

    fn tick(&mut self, now: Instant) {
        let config = &self.context.config;
        let (interval, timeout) = (config.ping_interval, config.ping_timeout);
        let expires = self.v1 && self.context.config.ack_timeout.is_some();
        let nudged = self.session.downstream.as_ref().is_some_and(|route| route.endpoint.nudge);
        let busy = nudged || expires || self.ending.is_some() || !self.liveness.may_ping() || self.up.is_some();
        self.session.tick_after(if busy { Duration::ZERO } else { interval / 4 });
        if self.ending.is_some() {
            return;
        }
        if self.up.as_ref().is_some_and(|up| !up.may_read()) || (self.v1 && !self.ws.get_ref().is_empty()) {
            self.liveness.excuse(now);
        } else if self.liveness.is_gone(timeout, now) {
            tracing::info!(session_id = %self.session.id, "no pong came: the client is gone");
            self.session.leave(Leave::Gone);
            self.leave(Leave::Gone);
            return;
        } else if self.liveness.wants_ping(interval, now) && self.wire().is_empty() {
            self.send_ping(now);
        }
        if let (Some(down), Some(timeout)) = (&mut self.down, self.context.config.ack_timeout)
            && self.v1
        {
            down.expire(timeout);
        }
    }

    /// The registry has asked those to leave that are to be closed: this is for those that are held.
    fn broker(&mut self) {
        let routes = [&self.session.downstream, &self.session.upstream];
        let down = routes.into_iter().flatten().any(|route| route.endpoint.status.state() == State::Down);
        if down != self.broker_lost && self.session.leaving().is_none() {
            self.broker_lost = down;
            self.session.set_phase(if down { Phase::Held } else { Phase::Live });
            self.notice(if down { "broker_lost" } else { "broker_back" });
        }
    }

    fn leave(&mut self, why: Leave) {
        match close::of(why) {
            Some(with) => self.close(with),
            None => self.gone(Duration::ZERO),
        }
        if why == Leave::Replaced
            && let Some(down) = self.down.take()
        {
            self.flushing = Some((down, Instant::now() + FLUSH));
        }
        self.down = None;
    }

    /// Tells the client why, once; what it has sent is still read and published.
    fn close(&mut self, (code, reason): Close) {
        if !self.closed && !self.write_dead {
            self.wire().close(code, reason);
        }
        self.closed = true;
        self.end(LINGER);
    }

    /// The client cannot be written to any more; what it had sent may still be read.
    fn gone(&mut self, patience: Duration) {
        self.write_dead = true;
        self.wire().die();
        self.down = None;
        self.end(patience);
    }

    fn end(&mut self, patience: Duration) {
        if self.ending.is_none() {
            self.ending = Some(Instant::now());
            self.patience = patience;
            self.session.set_phase(Phase::Ending);
        }
        self.session.tick_after(Duration::ZERO);
    }

    fn is_finished(&self, now: Instant) -> bool {
        let Some(since) = self.ending else { return false };
        if self.down.is_some() || self.flushing.is_some() {
            return false;
        }
        let publish = self.session.upstream.as_ref().map_or(Duration::ZERO, |route| route.config.publish_timeout);
        let lasted = now.saturating_duration_since(since);
        let publishing = self.up.as_ref().is_some_and(|up| !up.is_idle());
        let reading = !self.read_done && lasted < self.patience;
        let writing = !self.write_dead && !self.ws.get_ref().is_empty() && lasted < LINGER;
        (!publishing || lasted >= publish.max(LINGER)) && !reading && !writing
    }

    fn poll_flushing(&mut self, cx: &mut TaskContext<'_>) {
        let Some((down, until)) = &mut self.flushing else { return };
        let flushed = match down.poll_flush(cx) {
            Poll::Pending => Instant::now() >= *until,
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(error)) => {
                tracing::warn!(session_id = %self.session.id, %error, "the last commit of a replaced session failed");
                true
            }
        };
        if flushed {
            self.flushing = None;
        }
    }

    /// A newer session with the same durable id waits for no more than the downstream half.
    fn release(&mut self) {
        if self.ending.is_some() && self.down.is_none() && self.flushing.is_none() && !self.released {
            self.released = true;
            self.session.mark_released();
        }
    }
}
