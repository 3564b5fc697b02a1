//! A session's downstream half: pulls from its subscription up to its permits, keeps what is unanswered in its window,
//! and answers the broker at the moment that the guarantee says.
//!
//! It is polled by whoever owns the client's socket. Dropping it is the one way that it ends: what is unanswered has
//! moved no watermark, and the subscription releases what it holds at the broker.

mod places;

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use mediation_delivery::{Answer, Answered, Backoff, Hold, Limits, Token, Window};
use tokio::time::Sleep;

use crate::config::{Direction, Guarantee};
use crate::endpoint::{Budget, Delivery, Lost, Pulled, Subscription};
use crate::event::{Event, now_ms};
use crate::observe::packet::Record;
use crate::routing::Route;
use crate::session::Session;
use places::LaneState;

pub use places::Resume;

/// Events that are taken and written in one go.
pub const BATCH: usize = 128;

/// Longest wait between two tries of one event.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

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
    lane: usize,
    next: i64,
}

/// What a poll brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Events were appended.
    Batch,
    /// Events were lost to retention: tell the client.
    Gap,
}

struct Kept {
    event: Arc<Event>,
    lane: usize,
    next: i64,
    given: Instant,
    given_ms: u64,
    /// With which batch it was given last.
    batch: u64,
}

/// See the module's documentation.
pub struct Downstream {
    session: Arc<Session>,
    route: Arc<Route>,
    source: Box<dyn Subscription>,
    window: Window<Kept>,
    lanes: Vec<LaneState>,
    resume: Resume,
    /// `at_most_once`: entered, and waiting for the broker to know it.
    committing: Vec<Given>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Events were marked given since others were told.
    marked: bool,
    /// Counts what polls brought.
    batch: u64,
}

impl Downstream {
    /// Of a subscription that is live.
    #[must_use]
    pub fn new(session: Arc<Session>, route: Arc<Route>, source: Box<dyn Subscription>, resume: Resume) -> Self {
        let config = &route.config;
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
            route,
            source,
            window,
            lanes: Vec::new(),
            resume,
            committing: Vec::new(),
            timer: None,
            marked: false,
            batch: 0,
        };
        this.meet_lanes();
        this.told();
        this
    }

    /// Whether an answer of the client settles the event; else it only returns the permit.
    #[must_use]
    pub fn at_least_once(&self) -> bool {
        self.route.config.delivery_guarantee == Guarantee::AtLeastOnce
    }

    /// Appends what is to be given now, `max` events at most.
    pub fn poll_batch(&mut self, cx: &mut Context<'_>, max: usize, out: &mut Vec<Given>) -> Poll<Result<Step, Lost>> {
        if std::mem::take(&mut self.marked) {
            self.show_places();
        }
        if !self.committing.is_empty() {
            return self.poll_committed(cx, max, out);
        }
        if self.take_due(cx, max, out) {
            return Poll::Ready(Ok(Step::Batch));
        }
        let permits = self.window.permits().min(max).min(BATCH);
        if permits == 0 {
            return Poll::Pending;
        }
        let budget = Budget { events: permits, bytes: self.window.byte_room() };
        let mut pulled = PULLED.take();
        let polled = self.source.poll_pull(cx, budget, &mut pulled);
        if matches!(polled, Poll::Ready(Ok(Pulled::Events))) {
            self.enter(&mut pulled, out);
        }
        pulled.clear();
        PULLED.set(pulled);
        match ready!(polled)? {
            Pulled::Gap => {
                self.route.metrics.gaps.inc();
                self.meet_lanes();
                Poll::Ready(Ok(Step::Gap))
            }
            Pulled::Events if self.route.config.delivery_guarantee == Guarantee::AtMostOnce => {
                self.committing.append(out);
                self.poll_committed(cx, max, out)
            }
            Pulled::Events => Poll::Ready(Ok(Step::Batch)),
        }
    }

    /// `at_most_once`: given only once the broker knows it as settled.
    fn poll_committed(&mut self, cx: &mut Context<'_>, max: usize, out: &mut Vec<Given>) -> Poll<Result<Step, Lost>> {
        ready!(self.source.poll_flush(cx))?;
        let count = max.min(self.committing.len());
        out.extend(self.committing.drain(..count));
        Poll::Ready(Ok(Step::Batch))
    }

    fn enter(&mut self, pulled: &mut Vec<Delivery>, out: &mut Vec<Given>) {
        if pulled.iter().any(|d| d.lane >= self.lanes.len()) {
            self.meet_lanes();
        }
        let (now, given_ms) = (Instant::now(), now_ms().max(0).unsigned_abs());
        self.batch += 1;
        let mut bytes = 0;
        let mut packets = self.route.packets.batch();
        let count = pulled.len();
        for Delivery { event, lane, next } in pulled.drain(..) {
            let size = event.size();
            bytes += size;
            packets.push_with(|| Record {
                event_id: event.id.clone(),
                source: event.source.clone(),
                client_id: self.session.client_id.clone(),
                session_id: self.session.id.clone(),
                target: self.session.entrypoint.clone(),
                direction: Direction::Downstream,
                payload_bytes: event.payload.as_ref().map_or(0, |p| u32::try_from(p.len()).unwrap_or(u32::MAX)),
                timestamp_ms: event.timestamp_ms,
            });
            let event = Arc::new(event);
            let kept = Kept { event: event.clone(), lane, next, given: now, given_ms, batch: self.batch };
            let token = self.window.enter(lane, next, size, 1, kept);
            out.push(Given { token, event, lane, next });
        }
        packets.send();
        self.route.metrics.events.inc_by(count as u64);
        self.route.metrics.bytes.inc_by(bytes as u64);
        self.session.stats.delivered.fetch_add(count as u64, Ordering::Relaxed);
        self.told();
    }

    fn take_due(&mut self, cx: &mut Context<'_>, max: usize, out: &mut Vec<Given>) -> bool {
        if self.window.waiting() == 0 {
            self.timer = None;
            return false;
        }
        self.batch += 1;
        loop {
            let now = Instant::now();
            while out.len() < max
                && let Some(due) = self.window.due(now)
            {
                self.route.metrics.redelivered.inc();
                if let Some(kept) = self.window.item_mut(&due.token) {
                    (kept.given, kept.given_ms) = (now, now_ms().max(0).unsigned_abs());
                    kept.batch = self.batch;
                    out.push(Given { token: due.token, event: kept.event.clone(), lane: kept.lane, next: kept.next });
                }
            }
            if !out.is_empty() {
                self.session.stats.delivered.fetch_add(out.len() as u64, Ordering::Relaxed);
                self.told();
                return true;
            }
            let Some(next) = self.window.next_due() else { return false };
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next.into())));
            timer.as_mut().reset(next.into());
            if timer.as_mut().poll(cx).is_pending() {
                return false;
            }
        }
    }

    /// The receipt of one event.
    pub fn acknowledge(&mut self, token: Token) {
        self.answer(token, Answer::Ack);
    }

    /// Receipts of many, told to the broker once.
    pub fn acknowledge_all(&mut self, tokens: impl Iterator<Item = Token>) {
        let now = Instant::now();
        let mut settled = 0_u64;
        for token in tokens {
            settled += u64::from(matches!(self.window.answer(token, Answer::Ack, now), Answered::Settled(..)));
        }
        self.count_settled(settled);
        self.told();
    }

    /// It did not get there: it comes again.
    pub fn give_back(&mut self, token: Token) {
        self.answer(token, Answer::Nack);
    }

    /// A client's answer by event id. False: no such event is out.
    pub fn answer_id(&mut self, id: &str, answer: Answer) -> bool {
        match self.window.claim(|kept, _| kept.event.id.matches(id).then_some(0)) {
            Some(token) => {
                self.answer(token, answer);
                true
            }
            None => false,
        }
    }

    /// Gives back what the client has not answered for `timeout`.
    pub fn expire(&mut self, timeout: Duration) {
        if !self.at_least_once() {
            return;
        }
        while let Some(token) = self.window.claim(|kept, _| (kept.given.elapsed() >= timeout).then_some(0)) {
            self.give_back(token);
        }
    }

    fn answer(&mut self, token: Token, answer: Answer) {
        match self.window.answer(token, answer, Instant::now()) {
            Answered::Settled(kept, worst) => {
                if worst == Answer::Reject {
                    tracing::warn!(event_id = %kept.event.id, route = %self.route.name, client_id = %self.session.client_id,
                        "rejected by its client; the route has no dead letters, so it is acknowledged and gone");
                    self.route.metrics.events_lost("rejected").inc();
                }
                self.count_settled(1);
                self.told();
            }
            Answered::Again => {
                self.route.metrics.nacked.inc();
                self.told();
            }
            Answered::Partly | Answered::Stale => {}
        }
    }

    fn count_settled(&self, count: u64) {
        self.route.metrics.acked.inc_by(count);
        self.session.stats.settled.fetch_add(count, Ordering::Relaxed);
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

impl Drop for Downstream {
    fn drop(&mut self) {
        let uncommitted = u64::try_from(self.committing.len()).unwrap_or(u64::MAX);
        if uncommitted > 0 {
            // Their commit may have reached the broker: nobody gives them again.
            self.route.metrics.events_lost("session_ended").inc_by(uncommitted);
        }
        let unanswered = if self.at_least_once() { self.window.held() } else { 0 };
        self.route.metrics.nacked.inc_by(unanswered as u64);
        self.session.stats.held.store(0, Ordering::Relaxed);
    }
}
