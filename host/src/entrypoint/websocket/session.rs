//! A WebSocket session: one task that owns the socket and both halves, as one state machine that is polled.
//!
//! Each poll goes round: hand the out-buffer to the kernel, look at the publishes that are out, read the client, pull
//! the broker; until nothing moves. A half that cannot move stops nobody else: a full out-buffer stops the pulling, a
//! full upstream channel stops the reading.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Sink as _, Stream as _};
use mediation_delivery::Answer;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError};
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::close::{self, Close};
use super::frames::is_text;
use super::inbound::{self, Asked};
use super::liveness::Liveness;
use super::wire::Wire;
use crate::config::Guarantee;
use crate::endpoint::State;
use crate::entrypoint::v1::{self, EventFrame, Out};
use crate::entrypoint::{Context, Entered};
use crate::event::{Event, Header};
use crate::http::Error;
use crate::pipeline::downstream::{Downstream, Given, Step};
use crate::pipeline::receipts::Receipts;
use crate::pipeline::upstream::{Outcome, Upstream, confirms};
use crate::session::socket::Socket;
use crate::session::{FLUSH, Leave, Phase, Session, signal};

/// How long a client may take to answer our close.
const LINGER: Duration = Duration::from_secs(2);

/// Rounds before other tasks of the worker get their turn.
const ROUNDS: usize = 32;

/// Messages that are read in one round.
const READS: usize = 64;

thread_local! {
    static BATCH: RefCell<Vec<Given>> = const { RefCell::new(Vec::new()) };
}

/// Runs a session to its end.
pub(super) async fn run(
    context: Arc<Context>,
    socket: Arc<Socket>,
    read: Vec<u8>,
    entered: Entered,
    down: Option<Downstream>,
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
    let mut this = WsSession {
        receipts: Receipts::default(),
        accepting: None,
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
    context: Arc<Context>,
    session: Arc<Session>,
    ws: WebSocketStream<Wire>,
    v1: bool,
    forwarded: Vec<Header>,
    /// At least once, plain: wait for a pong. Other guarantees: wait for the kernel.
    receipts: Receipts,
    /// A `none` or `auto` publish that is parked: answered when it enters the channel.
    accepting: Option<(Option<String>, String)>,
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

    // --- signals -----------------------------------------------------------------------------------------------------

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

    // --- ending ------------------------------------------------------------------------------------------------------

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

    // --- writing -----------------------------------------------------------------------------------------------------

    fn poll_out(&mut self, cx: &mut TaskContext<'_>) -> bool {
        if self.write_dead {
            return false;
        }
        if self.ws.get_ref().is_empty() {
            // tungstenite's own flush may have been the one that emptied it.
            if std::mem::take(&mut self.unreported) {
                self.written();
                return true;
            }
            return false;
        }
        match self.wire().poll_out(cx) {
            Poll::Pending => false,
            Poll::Ready(Err(error)) => {
                tracing::debug!(session_id = %self.session.id, %error, "a write failed");
                self.gone(LINGER);
                true
            }
            Poll::Ready(Ok(())) => {
                self.unreported = false;
                self.written();
                // Pongs that had to wait for room.
                if !self.closed && matches!(Pin::new(&mut self.ws).poll_flush(cx), Poll::Ready(Err(_))) {
                    self.gone(LINGER);
                }
                true
            }
        }
    }

    /// The kernel has everything.
    fn written(&mut self) {
        if self.pongs() {
            if !self.receipts.is_empty() && self.liveness.may_ping() && self.ending.is_none() {
                self.send_ping(Instant::now());
            }
        } else if let Some(down) = &mut self.down {
            if !self.receipts.is_empty() {
                down.acknowledge_all(self.receipts.take(usize::MAX));
            }
            self.receipts.shrink();
        }
    }

    fn send_ping(&mut self, now: Instant) {
        let covers = if self.pongs() { self.receipts.len() } else { 0 };
        let payload = self.liveness.ping(covers, now);
        self.wire().ping(&payload);
    }

    fn say(&mut self, frame: &Out<'_>) {
        if self.v1 && !self.closed && !self.write_dead {
            let text = v1::encode(frame);
            self.wire().data(true, &text);
        }
    }

    fn notice(&mut self, code: &str) {
        self.say(&Out::Notice { code });
    }

    fn say_session(&mut self) {
        let session = self.session.clone();
        let resume = self.down.as_ref().and_then(Downstream::resume_token);
        self.say(&Out::Session { session_id: &session.id, client_id: &session.client_id, resume });
    }

    // --- upstream ----------------------------------------------------------------------------------------------------

    fn poll_up(&mut self, cx: &mut TaskContext<'_>) -> bool {
        let mut moved = false;
        let may_read = loop {
            let Some(up) = &mut self.up else { return false };
            match up.poll(cx) {
                Poll::Ready(outcome) => self.outcome(outcome),
                Poll::Pending => break up.may_read(),
            }
            moved = true;
        };
        if may_read && let Some((reference, id)) = self.accepting.take() {
            self.say(&Out::Accepted { reference, id });
            moved = true;
        }
        self.session.stats.parked.store(!may_read, Ordering::Relaxed);
        moved
    }

    fn outcome(&mut self, outcome: Outcome) {
        let confirmed = self.session.upstream.as_ref().is_some_and(|route| confirms(route.config.delivery_guarantee));
        let Outcome { reference, id, result } = outcome;
        match result {
            Ok(()) if confirmed => self.say(&Out::Published { reference, id: id.to_string() }),
            Ok(()) => {}
            Err(_) if !confirmed => {}
            Err(error) => {
                tracing::warn!(event_id = %id, session_id = %self.session.id, %error, "a publish failed");
                if self.v1 {
                    let error = Error::from(error);
                    self.say(&Out::Error { reference, code: error.code, message: error.message });
                } else {
                    self.close(close::NOT_PUBLISHED);
                    self.down = None;
                }
            }
        }
    }

    fn publish(&mut self, reference: Option<String>, event: Event) {
        let Some(route) = self.session.upstream.clone() else {
            if self.v1 {
                let message = "no route of this entrypoint takes events".to_owned();
                self.say(&Out::Error { reference, code: "no_route", message });
            } else {
                self.close(close::NO_UPSTREAM);
                self.down = None;
            }
            return;
        };
        if event.payload.as_ref().is_some_and(|payload| payload.len() > self.context.config.max_frame) {
            let message = format!("the payload is larger than max_frame, {} bytes", self.context.config.max_frame);
            self.say(&Out::Error { reference, code: "too_large", message });
            return;
        }
        let answered = matches!(route.config.delivery_guarantee, Guarantee::None | Guarantee::Auto);
        let at_once = route.config.delivery_guarantee == Guarantee::None;
        let id = event.id.to_string();
        let session = self.session.clone();
        let up = self.up.get_or_insert_with(|| Upstream::new(session, route));
        up.push(reference.clone(), event);
        let entered = up.may_read();
        if answered && self.v1 {
            if at_once || entered {
                self.say(&Out::Accepted { reference, id });
            } else {
                self.accepting = Some((reference, id));
            }
        }
    }

    // --- reading -----------------------------------------------------------------------------------------------------

    fn poll_in(&mut self, cx: &mut TaskContext<'_>) -> bool {
        let mut moved = false;
        for _ in 0..READS {
            // Unread replies pile up at a client that sends and does not read: it is not read either.
            let parked = self.up.as_ref().is_some_and(|up| !up.may_read());
            if self.read_done || parked || (self.v1 && !self.ws.get_ref().is_empty() && self.ending.is_none()) {
                break;
            }
            match Pin::new(&mut self.ws).poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(message))) => self.message(message),
                Poll::Ready(Some(Err(error))) => self.failed(&error),
                Poll::Ready(None) => self.left(),
            }
            moved = true;
        }
        moved
    }

    fn message(&mut self, message: Message) {
        self.liveness.heard(Instant::now());
        match message {
            Message::Text(text) => self.given(text.into()),
            Message::Binary(bytes) => self.given(bytes),
            Message::Pong(payload) => {
                let covers = self.liveness.pong(&payload);
                if covers > 0
                    && let Some(down) = &mut self.down
                {
                    down.acknowledge_all(self.receipts.take(covers));
                    self.receipts.shrink();
                }
                if self.pongs() && !self.receipts.is_empty() && self.liveness.may_ping() && self.ws.get_ref().is_empty()
                {
                    self.send_ping(Instant::now());
                }
            }
            Message::Close(_) => {
                // The reply, where one is due, is tungstenite's; to a reply there is none.
                if self.closed {
                    self.read_done = true;
                }
                self.closed = true;
                self.down = None;
                self.end(LINGER);
            }
            Message::Ping(_) | Message::Frame(_) => {}
        }
    }

    fn given(&mut self, payload: Bytes) {
        if !self.v1 {
            let event = inbound::plain(&self.session, &self.forwarded, payload);
            self.publish(None, *event);
            return;
        }
        match inbound::v1(&self.session, &self.forwarded, &payload) {
            Asked::Publish(reference, event) => self.publish(reference, *event),
            Asked::Ack(ids) => self.answer(&ids, Answer::Ack),
            Asked::Nack(ids, true) => self.answer(&ids, Answer::Nack),
            Asked::Nack(ids, false) => self.answer(&ids, Answer::Reject),
            Asked::Nonsense(reference, message) => self.say(&Out::Error { reference, code: "bad_request", message }),
        }
    }

    fn answer(&mut self, ids: &[String], answer: Answer) {
        if let Some(down) = &mut self.down {
            for id in ids {
                // Answered before, or never given: an answer that comes twice is no fault.
                down.answer_id(id, answer);
            }
        }
    }

    fn failed(&mut self, error: &WsError) {
        let with = match error {
            WsError::Capacity(CapacityError::MessageTooLong { .. }) => Some(close::TOO_LARGE),
            WsError::Utf8(_) => Some(close::BAD_DATA),
            WsError::Protocol(tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
                None
            }
            WsError::Protocol(_) => Some(close::PROTOCOL),
            _ => None,
        };
        tracing::debug!(session_id = %self.session.id, %error, "a read failed");
        self.down = None;
        if let Some(with) = with {
            self.close(with);
        }
        self.left();
    }

    /// The client's end of stream.
    fn left(&mut self) {
        self.read_done = true;
        self.down = None;
        if !self.closed {
            self.write_dead = true;
            self.wire().die();
        }
        self.end(Duration::ZERO);
    }

    // --- downstream --------------------------------------------------------------------------------------------------

    fn poll_down(&mut self, cx: &mut TaskContext<'_>) -> bool {
        if self.ending.is_some() || !self.ws.get_ref().is_empty() {
            return false;
        }
        let Some(down) = &mut self.down else { return false };
        let mut batch = BATCH.take();
        let polled = down.poll_batch(cx, usize::MAX, &mut batch);
        let moved = match polled {
            Poll::Pending => false,
            Poll::Ready(Ok(Step::Batch)) => {
                self.give(&mut batch);
                true
            }
            Poll::Ready(Ok(Step::Gap)) => {
                self.notice("gap");
                true
            }
            Poll::Ready(Err(lost)) => {
                tracing::warn!(session_id = %self.session.id, %lost, "a subscription was lost");
                self.close(close::LOST);
                self.down = None;
                true
            }
        };
        batch.clear();
        BATCH.set(batch);
        moved
    }

    fn give(&mut self, batch: &mut Vec<Given>) {
        let Some(down) = &mut self.down else { return };
        let wire = self.ws.get_mut();
        let by_id = self.v1 && down.at_least_once();
        for given in batch.drain(..) {
            down.mark_given(&given);
            if self.v1 {
                let resume = down.resume_token();
                let frame = EventFrame::new(&given.event, given.token.redeliveries() > 0, resume);
                wire.data(true, &v1::encode(&Out::Event(frame)));
            } else {
                let payload = given.event.payload.as_deref().unwrap_or_default();
                wire.data(is_text(self.context.config.frames, &given.event), payload);
            }
            if !by_id {
                self.receipts.push(given.token);
            }
        }
        self.unreported = true;
        self.liveness.wrote();
        if self.pongs() && self.liveness.may_ping() {
            self.send_ping(Instant::now());
        }
    }
}
