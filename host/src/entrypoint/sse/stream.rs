//! An SSE session as a response body: hyper's connection task is the session's task, and pulls.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use http_body::Frame;
use mediation_delivery::Backoff;
use serde_json::json;

use super::encode;
use crate::endpoint::State;
use crate::endpoint::position::ResumeToken;
use crate::entrypoint::{Context, Entered};
use crate::http::{Chunk, Error, Written};
use crate::pipeline::Leg;
use crate::pipeline::downstream::{Downstream, Given, Resume, Step};
use crate::pipeline::receipts::Receipts;
use crate::pipeline::shared::SharedHalf;
use crate::session::{FLUSH, Leave, Phase, Session, signal};

/// Between two tries of a session to subscribe while its broker says that it is there.
const RETRY: Backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(30) };

/// What the client chose.
pub(super) struct Options {
    pub(super) json: bool,
    pub(super) by_client: bool,
    pub(super) heartbeat: Duration,
    pub(super) ack_timeout: Option<Duration>,
}

/// A session whose broker was away when it came.
pub(super) struct Waiting {
    pub(super) resume: Option<ResumeToken>,
    pub(super) named: bool,
    pub(super) kind: Resume,
}

type Opening = BoxFuture<'static, Result<Downstream, Error>>;

enum Source {
    Live(Arc<SharedHalf>),
    /// Not there yet: what to open it with, and the attempt that runs.
    Waiting(Waiting, Option<Opening>),
}

/// Counts what the kernel took; wakes the session to answer for it.
struct Progress {
    written: AtomicUsize,
    session: Arc<Session>,
}

impl Written for Progress {
    fn written(&self, events: usize) {
        self.written.fetch_add(events, Ordering::AcqRel);
        self.session.notify(0);
    }

    // What was not written is not answered: the window's end says so.
    fn lost(&self, _events: usize) {}
}

/// See the module's documentation.
pub(super) struct SseStream {
    /// First: dropped before `entered` says that it is released.
    source: Source,
    context: Arc<Context>,
    entered: Entered,
    leg: Leg,
    options: Options,
    progress: Arc<Progress>,
    unwritten: Receipts,
    opened: bool,
    broker_lost: bool,
    /// A subscribe that failed is tried again no sooner than this, and how often it has failed.
    again: Option<Instant>,
    failures: u16,
    ended: bool,
    last_write: Instant,
}

impl SseStream {
    pub(super) fn new(
        context: Arc<Context>,
        entered: Entered,
        leg: Leg,
        options: Options,
        opened: Result<Downstream, Waiting>,
    ) -> Self {
        let session = entered.session.clone();
        let progress = Arc::new(Progress { written: AtomicUsize::new(0), session });
        let mut this = Self {
            context,
            entered,
            leg,
            options,
            source: Source::Waiting(Waiting { resume: None, named: false, kind: Resume::Given }, None),
            progress,
            unwritten: Receipts::default(),
            opened: false,
            broker_lost: false,
            again: None,
            failures: 0,
            ended: false,
            last_write: Instant::now(),
        };
        match opened {
            Ok(downstream) => this.go_live(downstream),
            Err(waiting) => {
                this.broker_lost = true;
                this.source = Source::Waiting(waiting, None);
            }
        }
        this
    }

    fn go_live(&mut self, downstream: Downstream) {
        let half = Arc::new(SharedHalf::new(downstream));
        self.context.halves.insert(&self.entered.session, &half);
        self.entered.session.set_phase(Phase::Live);
        self.source = Source::Live(half);
    }

    /// Answers for what was written since the last look.
    fn settle_written(&mut self) {
        let written = self.progress.written.swap(0, Ordering::AcqRel);
        if written == 0 {
            return;
        }
        if let Source::Live(half) = &self.source {
            let (unwritten, by_client) = (&mut self.unwritten, self.options.by_client);
            half.with(|half| {
                if by_client && half.at_least_once() {
                    // The client answers by id: the tokens here are not needed.
                    unwritten.take(written).for_each(drop);
                } else {
                    half.acknowledge_all(unwritten.take(written));
                }
            });
        }
        self.unwritten.shrink();
    }

    fn opening(&self) -> Vec<u8> {
        let session = &self.entered.session;
        let mut out = b":ok\n\n".to_vec();
        encode::retry(&mut out, rand::random_range(1_000..=3_000));
        let token = match &self.source {
            Source::Live(half) => half.with(|half| half.resume_token()).flatten(),
            Source::Waiting(..) => None,
        };
        let data = json!({ "session_id": &*session.id, "client_id": &*session.client_id }).to_string();
        let id = token.map(|token| format!("~{token}"));
        encode::message(&mut out, Some("mediation.session"), id.as_deref(), &data);
        if self.broker_lost {
            notice(&mut out, "broker_lost");
        }
        out
    }

    fn leave(&mut self, why: Leave) -> Vec<u8> {
        let mut out = Vec::new();
        match why {
            Leave::Replaced => {
                // Two tabs would evict each other for ever.
                encode::retry(&mut out, 3_600_000);
                let data = json!({ "code": "replaced", "message": "a newer session has this client id" }).to_string();
                encode::message(&mut out, Some("mediation.error"), None, &data);
            }
            Leave::Expired => {
                let data = json!({ "code": "expired", "message": "connect again with new credentials" }).to_string();
                encode::message(&mut out, Some("mediation.error"), None, &data);
            }
            Leave::Gone | Leave::Idle => {}
            Leave::Drain | Leave::BrokerLost | Leave::TooSlow | Leave::RouteChanged => {
                encode::retry(&mut out, rand::random_range(1_000..=30_000));
                encode::message(&mut out, Some("mediation.goaway"), None, &json!({ "code": why.as_str() }).to_string());
            }
        }
        out
    }

    /// The state of the broker changed: told once each way.
    fn broker(&mut self) -> Option<Vec<u8>> {
        let down = self.leg.route.endpoint.status.state() == State::Down;
        if down == self.broker_lost || matches!(self.source, Source::Waiting(..)) {
            return None;
        }
        self.broker_lost = down;
        self.entered.session.set_phase(if down { Phase::Held } else { Phase::Live });
        let mut out = Vec::new();
        notice(&mut out, if down { "broker_lost" } else { "broker_back" });
        Some(out)
    }

    /// Opens a subscription once the broker is there.
    fn poll_opening(&mut self, cx: &mut TaskContext<'_>) -> Option<Vec<u8>> {
        let Source::Waiting(waiting, opening) = &mut self.source else { return None };
        if opening.is_none() {
            let early = self.again.is_some_and(|at| Instant::now() < at);
            if early || self.leg.route.endpoint.status.state() != State::Up {
                return None;
            }
            let (context, leg) = (self.context.clone(), self.leg.clone());
            let session = self.entered.session.clone();
            let (resume, named, kind) = (waiting.resume.clone(), waiting.named, waiting.kind);
            *opening = Some(Box::pin(async move {
                let source = context.subscribe(&session, &leg, resume, named).await?;
                Ok(Downstream::new(session, leg, source, kind))
            }));
        }
        let Poll::Ready(done) = opening.as_mut()?.as_mut().poll(cx) else { return None };
        *opening = None;
        let mut out = Vec::new();
        match done {
            Ok(downstream) => {
                self.broker_lost = false;
                let token = downstream.resume_token();
                self.go_live(downstream);
                let id = token.map(|token| format!("~{token}"));
                encode::message(
                    &mut out,
                    Some("mediation.notice"),
                    id.as_deref(),
                    &json!({ "code": "live" }).to_string(),
                );
            }
            Err(error) if error.passes() => {
                // The next tick after that tries again.
                self.again = Some(Instant::now() + RETRY.wait(self.failures, rand::random()));
                self.failures = self.failures.saturating_add(1);
                return None;
            }
            Err(error) => {
                // Nothing that passes: said, and tried again when the broker changes or the client comes back.
                let data = json!({ "code": error.code, "message": error.message }).to_string();
                encode::message(&mut out, Some("mediation.error"), None, &data);
                self.ended = true;
            }
        }
        Some(out)
    }

    fn poll_events(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Chunk>> {
        let Source::Live(half) = &self.source else { return Poll::Pending };
        let (json, unwritten, progress) = (self.options.json, &mut self.unwritten, &self.progress);
        let polled = half.with(|half| {
            let mut batch: Vec<Given> = Vec::new();
            match ready!(half.poll_batch(cx, usize::MAX, &mut batch)) {
                Ok(Step::Batch) => Poll::Ready(Ok(batch_chunk(half, batch, json, unwritten, progress))),
                Ok(Step::Gap) => {
                    let mut out = Vec::new();
                    notice(&mut out, "gap");
                    Poll::Ready(Ok(Chunk::plain(out.into())))
                }
                Err(lost) => Poll::Ready(Err(lost)),
            }
        });
        match ready!(polled.unwrap_or(Poll::Pending)) {
            Ok(chunk) => Poll::Ready(Some(chunk)),
            Err(lost) => {
                self.ended = true;
                let mut out = Vec::new();
                let data = json!({ "code": "subscription_lost", "message": lost.to_string() }).to_string();
                encode::message(&mut out, Some("mediation.error"), None, &data);
                Poll::Ready(Some(Chunk::plain(out.into())))
            }
        }
    }

    /// Ready when nothing of the session is left but its stream's end: a newer session waits for the last commit.
    fn poll_end(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        let Source::Live(half) = &self.source else { return Poll::Ready(()) };
        let session = &self.entered.session;
        if session.leaving() == Some(Leave::Replaced) && session.leaving_for().is_some_and(|since| since < FLUSH) {
            match ready!(half.with(|half| half.poll_flush(cx)).unwrap_or(Poll::Ready(Ok(())))) {
                Ok(()) => {}
                Err(error) => tracing::warn!(session_id = %session.id, %error, "the last commit failed"),
            }
        }
        half.close();
        session.mark_released();
        Poll::Ready(())
    }

    fn tick(&mut self) -> Option<Vec<u8>> {
        let session = &self.entered.session;
        session.tick_after(Duration::ZERO);
        if let (Some(timeout), true, Source::Live(half)) =
            (self.options.ack_timeout, self.options.by_client, &self.source)
        {
            half.with(|half| half.expire(timeout));
        }
        (self.unwritten.is_empty() && self.last_write.elapsed() >= self.options.heartbeat).then(|| {
            let mut out = Vec::new();
            encode::comment(&mut out);
            out
        })
    }
}

/// Events as one buffer that reports each one's last byte.
fn batch_chunk(
    half: &mut Downstream,
    batch: Vec<Given>,
    json: bool,
    unwritten: &mut Receipts,
    progress: &Arc<Progress>,
) -> Chunk {
    let mut out = Vec::with_capacity(batch.iter().map(|given| given.event.size() + 128).sum());
    let mut lengths = VecDeque::with_capacity(batch.len());
    for given in batch {
        let from = out.len();
        half.mark_given(&given);
        encode::event(&mut out, &given.event, given.redelivered, half.resume_token(), json);
        lengths.push_back(out.len() - from);
        unwritten.push(given.token);
    }
    Chunk::marked(out.into(), lengths, progress.clone())
}

fn notice(out: &mut Vec<u8>, code: &str) {
    encode::message(out, Some("mediation.notice"), None, &json!({ "code": code }).to_string());
}

impl http_body::Body for SseStream {
    type Data = Chunk;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        let session = this.entered.session.clone();
        session.register(cx.waker());
        this.settle_written();
        if this.ended {
            ready!(this.poll_end(cx));
            return Poll::Ready(None);
        }
        let signals = session.take_signals();
        let mut text = Vec::new();
        if !std::mem::replace(&mut this.opened, true) {
            text = this.opening();
        }
        if signals & signal::BROKER != 0 {
            text.extend(this.broker().unwrap_or_default());
        }
        if let Some(why) = session.leaving() {
            this.ended = true;
            text.extend(this.leave(why));
        } else {
            if signals & signal::TICK != 0 {
                text.extend(this.tick().unwrap_or_default());
            }
            text.extend(this.poll_opening(cx).unwrap_or_default());
        }
        let chunk = if text.is_empty() {
            if this.ended {
                ready!(this.poll_end(cx));
                return Poll::Ready(None);
            }
            ready!(this.poll_events(cx))
        } else {
            Some(Chunk::plain(text.into()))
        };
        this.last_write = Instant::now();
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

impl Drop for SseStream {
    fn drop(&mut self) {
        self.settle_written();
    }
}
