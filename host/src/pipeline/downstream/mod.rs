//! A session's downstream half: pulls from its subscription up to its permits, sends events through the plugins, keeps
//! what is unanswered in its window, and answers the broker at the moment that the guarantee says.
//!
//! It is polled by whoever owns the client's socket. Dropping it is the one way that it ends: what is unanswered has
//! moved no watermark, and the subscription releases what it holds at the broker.
//!
//! - `passing` events in the plugins, and what becomes of those that do not pass
//! - `answers` what clients and dead letters say of an event
//! - `places` positions and resume tokens

mod answers;
mod passing;
mod places;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use mediation_delivery::{Answer, Backoff, Hold, Limits, Token, Window};
use tokio::time::Sleep;

use super::Leg;
use crate::config::{Direction, Guarantee};
use crate::endpoint::{Budget, Delivery, Lost, Pulled, Subscription};
use crate::event::{Event, Payload, now_ms};
use crate::observe::packet::Record;
use crate::session::Session;
use answers::Letters;
use passing::Passage;
use places::LaneState;

pub use places::Resume;

/// Events that are taken and written in one go.
pub const BATCH: usize = 128;

/// Longest wait between two tries of one event.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// Pulls in one poll that plugins made nothing of, before other tasks of the worker get their turn.
const FRUITLESS: usize = 8;

static NEXT_EPOCH: AtomicU32 = AtomicU32::new(1);

thread_local! {
    /// What a pull appends to: kept by the worker, not by ten thousand sessions.
    static PULLED: RefCell<Vec<Delivery>> = const { RefCell::new(Vec::new()) };
}

/// An event that the client is to be given now.
#[derive(Debug)]
pub struct Given {
    /// Answers for it.
    pub token: Token,
    /// What it is.
    pub event: Arc<Event>,
    /// The client may have had it before.
    pub redelivered: bool,
    lane: usize,
    next: i64,
    /// It is all, or the last, that the broker's event became.
    last: bool,
}

/// What a poll brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Events were appended.
    Batch,
    /// Events were lost to retention: tell the client.
    Gap,
}

/// An event in the window.
struct Kept {
    /// As the broker gave it.
    event: Arc<Event>,
    form: Form,
    lane: usize,
    next: i64,
    given: Instant,
    given_ms: u64,
    /// With which batch it was given last.
    batch: u64,
    /// It has been given.
    was_given: bool,
    /// It is on its way to the dead letters.
    letter: bool,
    /// Explicit nacks, and times that it did not pass the plugins.
    strikes: u32,
    /// Of those outputs that the client has answered, since it was given last.
    worst: Answer,
}

/// What the client is given for an event.
enum Form {
    /// Nothing yet: it has not passed the plugins.
    Owed,
    /// The event itself.
    Same,
    /// What plugins made of it.
    Mapped(Box<[Arc<Event>]>),
}

impl Kept {
    fn outputs(&self) -> &[Arc<Event>] {
        match &self.form {
            Form::Owed => &[],
            Form::Same => std::slice::from_ref(&self.event),
            Form::Mapped(events) => events,
        }
    }
}

/// See the module's documentation.
pub struct Downstream {
    session: Arc<Session>,
    leg: Leg,
    source: Box<dyn Subscription>,
    window: Window<Kept>,
    lanes: Vec<LaneState>,
    resume: Resume,
    /// To be given, and more than the last poll wanted.
    ready: VecDeque<Given>,
    /// `at_most_once`: entered, and waiting for the broker to know it.
    committing: Vec<Given>,
    /// Events in the plugins; none until the route has such.
    passage: Option<Box<Passage>>,
    letters: Option<Letters>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Events were marked given since others were told.
    marked: bool,
    /// Counts what polls brought.
    batch: u64,
}

impl Downstream {
    /// Of a subscription that is live.
    #[must_use]
    pub fn new(session: Arc<Session>, leg: Leg, source: Box<dyn Subscription>, resume: Resume) -> Self {
        let config = &leg.route.config;
        let hold = match config.delivery_guarantee {
            Guarantee::AtLeastOnce => Hold::UntilAnswered,
            _ => Hold::UntilWritten,
        };
        // The other guarantees settle before an event is given: their watermark names what was taken, not what was given.
        let resume = if hold == Hold::UntilAnswered { resume } else { Resume::Given };
        let limits = Limits {
            size: config.channel_size,
            bytes: config.channel_bytes,
            hold,
            backoff: Backoff { first: config.redelivery_backoff, max: MAX_BACKOFF },
        };
        let window = Window::new(limits, NEXT_EPOCH.fetch_add(1, Ordering::Relaxed));
        let mut this = Self {
            session,
            leg,
            source,
            window,
            lanes: Vec::new(),
            resume,
            ready: VecDeque::new(),
            committing: Vec::new(),
            passage: None,
            letters: None,
            timer: None,
            marked: false,
            batch: 0,
        };
        this.meet_lanes();
        this.told();
        this
    }

    fn guarantee(&self) -> Guarantee {
        self.leg.route.config.delivery_guarantee
    }

    /// Whether an answer of the client settles the event; else it only returns the permit.
    #[must_use]
    pub fn at_least_once(&self) -> bool {
        self.guarantee() == Guarantee::AtLeastOnce
    }

    /// Appends what is to be given now, `max` events at most.
    pub fn poll_batch(&mut self, cx: &mut Context<'_>, max: usize, out: &mut Vec<Given>) -> Poll<Result<Step, Lost>> {
        if std::mem::take(&mut self.marked) {
            self.show_places();
        }
        if !self.ready.is_empty() {
            let count = max.min(self.ready.len());
            out.extend(self.ready.drain(..count));
            return Poll::Ready(Ok(Step::Batch));
        }
        if !self.committing.is_empty() {
            return self.poll_committed(cx, max, out);
        }
        self.poll_letters(cx);
        self.take_due(cx, out);
        if !out.is_empty() {
            return self.give(cx, max, out);
        }
        for _ in 0..FRUITLESS {
            let free = self.poll_passing(cx, out);
            if !out.is_empty() {
                return self.give(cx, max, out);
            }
            let permits = self.window.permits().min(max).min(BATCH);
            if permits == 0 || !free {
                return Poll::Pending;
            }
            match ready!(self.poll_pull(cx, permits, out))? {
                Pulled::Gap => {
                    self.leg.route.metrics.gaps.inc();
                    self.meet_lanes();
                    return Poll::Ready(Ok(Step::Gap));
                }
                Pulled::Events if !out.is_empty() => return self.give(cx, max, out),
                Pulled::Events => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes from the broker: into the window, or, where there are plugins, to these.
    fn poll_pull(&mut self, cx: &mut Context<'_>, permits: usize, out: &mut Vec<Given>) -> Poll<Result<Pulled, Lost>> {
        let budget = Budget { events: permits, bytes: self.window.byte_room() };
        let mut pulled = PULLED.take();
        let polled = self.source.poll_pull(cx, budget, &mut pulled);
        if matches!(polled, Poll::Ready(Ok(Pulled::Events))) {
            if pulled.iter().any(|d| d.lane >= self.lanes.len()) {
                self.meet_lanes();
            }
            if self.leg.route.chain.load().is_empty(Direction::Downstream) {
                self.enter(&mut pulled, out);
            } else {
                self.passage.get_or_insert_default().pulled.extend(pulled.drain(..));
            }
        }
        pulled.clear();
        PULLED.set(pulled);
        polled
    }

    /// What is in `out` may go, or has to wait for its commit; what is more than `max` waits for the next poll.
    fn give(&mut self, cx: &mut Context<'_>, max: usize, out: &mut Vec<Given>) -> Poll<Result<Step, Lost>> {
        if self.guarantee() == Guarantee::AtMostOnce {
            self.committing.append(out);
            return self.poll_committed(cx, max, out);
        }
        if out.len() > max {
            self.ready.extend(out.drain(max..));
        }
        Poll::Ready(Ok(Step::Batch))
    }

    /// `at_most_once`: given only once the broker knows it as settled.
    fn poll_committed(&mut self, cx: &mut Context<'_>, max: usize, out: &mut Vec<Given>) -> Poll<Result<Step, Lost>> {
        ready!(self.source.poll_flush(cx))?;
        let count = max.min(self.committing.len());
        out.extend(self.committing.drain(..count));
        Poll::Ready(Ok(Step::Batch))
    }

    /// Events without plugins: the fast path.
    fn enter(&mut self, pulled: &mut Vec<Delivery>, out: &mut Vec<Given>) {
        self.batch += 1;
        let mut bytes = 0;
        let count = pulled.len();
        let mut packets = self.leg.route.packets.batch();
        let fresh = Fresh::now(self.batch);
        for Delivery { event, lane, next } in pulled.drain(..) {
            let size = event.size();
            bytes += size;
            packets.push_with(|| record(&self.session, &event, None));
            let event = Arc::new(event);
            let kept = fresh.kept(event.clone(), Form::Same, lane, next);
            let token = self.window.enter(lane, next, size, 1, kept);
            out.push(Given { token, event, redelivered: false, lane, next, last: true });
        }
        packets.send();
        self.leg.route.metrics.events.inc_by(count as u64);
        self.leg.route.metrics.bytes.inc_by(bytes as u64);
        self.session.stats.delivered.fetch_add(count as u64, Ordering::Relaxed);
        self.told();
    }

    /// Appends what is due to be given again; what has not passed the plugins goes to these again.
    fn take_due(&mut self, cx: &mut Context<'_>, out: &mut Vec<Given>) {
        if self.window.waiting() == 0 {
            self.timer = None;
            return;
        }
        self.batch += 1;
        loop {
            let fresh = Fresh::now(self.batch);
            let mut again = false;
            while out.len() < BATCH
                && let Some(due) = self.window.due(fresh.now)
            {
                if self.window.item(&due.token).is_some_and(|kept| matches!(kept.form, Form::Owed)) {
                    self.passage.get_or_insert_default().again.push_back(due.token);
                    again = true;
                } else {
                    self.leg.route.metrics.redelivered.inc();
                    self.give_outputs(due.token, &fresh, out);
                }
            }
            if !out.is_empty() {
                self.session.stats.delivered.fetch_add(out.len() as u64, Ordering::Relaxed);
                self.told();
            }
            let Some(next) = self.window.next_due().filter(|_| out.is_empty() && !again) else { return };
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next.into())));
            timer.as_mut().reset(next.into());
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
        }
    }

    /// Appends all that an event became, with a token each.
    fn give_outputs(&mut self, first: Token, fresh: &Fresh, out: &mut Vec<Given>) {
        let Some(kept) = self.window.item_mut(&first) else { return };
        (kept.given, kept.given_ms, kept.batch) = (fresh.now, fresh.now_ms, fresh.batch);
        kept.worst = Answer::Ack;
        let redelivered = std::mem::replace(&mut kept.was_given, true);
        let (lane, next) = (kept.lane, kept.next);
        let from = out.len();
        let Some(kept) = self.window.item(&first) else { return };
        for (part, event) in (0_u16..).zip(kept.outputs()) {
            let token = self.window.output(&first, part);
            out.push(Given { token, event: event.clone(), redelivered, lane, next, last: false });
        }
        if let Some(last) = out.get_mut(from..).and_then(<[Given]>::last_mut) {
            last.last = true;
        }
    }

    /// Tells the subscription, and whoever looks, what is settled now.
    fn told(&mut self) {
        let source = &mut self.source;
        self.window.moved(|lane, position| source.settle(lane, position));
        let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let stats = &self.session.stats;
        stats.held.store(small(self.window.held()), Ordering::Relaxed);
        stats.free.store(small(self.window.permits()), Ordering::Relaxed);
        stats.waiting.store(small(self.window.waiting()), Ordering::Relaxed);
        stats.oldest_ms.store(self.window.oldest().map_or(0, |kept| kept.given_ms), Ordering::Relaxed);
        self.show_places();
    }

    /// Ready when the broker knows all that was settled: before a takeover.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        self.source.poll_flush(cx)
    }
}

/// What the events of one batch have in common.
struct Fresh {
    now: Instant,
    now_ms: u64,
    batch: u64,
}

impl Fresh {
    fn now(batch: u64) -> Self {
        Self { now: Instant::now(), now_ms: now_ms().max(0).unsigned_abs(), batch }
    }

    fn kept(&self, event: Arc<Event>, form: Form, lane: usize, next: i64) -> Kept {
        Kept {
            event,
            was_given: !matches!(form, Form::Owed),
            form,
            lane,
            next,
            given: self.now,
            given_ms: self.now_ms,
            batch: self.batch,
            letter: false,
            strikes: 0,
            worst: Answer::Ack,
        }
    }
}

/// The packet log's line for an event.
fn record(session: &Session, event: &Event, plugins: Option<Arc<str>>) -> Record {
    Record {
        event_id: event.id.clone(),
        source: event.source.clone(),
        client_id: session.client_id.clone(),
        session_id: session.id.clone(),
        target: session.entrypoint.clone(),
        direction: Direction::Downstream,
        payload_bytes: event.payload.as_ref().map_or(0, |p| u32::try_from(Payload::len(p)).unwrap_or(u32::MAX)),
        timestamp_ms: event.timestamp_ms,
        plugins,
    }
}

impl Drop for Downstream {
    fn drop(&mut self) {
        let uncommitted = u64::try_from(self.committing.len()).unwrap_or(u64::MAX);
        if uncommitted > 0 {
            // Their commit may have reached the broker: nobody gives them again.
            self.leg.route.metrics.events_lost("session_ended").inc_by(uncommitted);
        }
        let unanswered = if self.at_least_once() { self.window.held() } else { 0 };
        self.leg.route.metrics.nacked.inc_by(unanswered as u64);
        self.session.stats.held.store(0, Ordering::Relaxed);
    }
}
