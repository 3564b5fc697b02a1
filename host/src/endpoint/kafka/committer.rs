//! Commits what durable sessions settle: one task an endpoint for all of them, so that a session costs no thread and no
//! client. Progress is coalesced, failures are repeated with the newest positions, an idle group is renewed daily.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval, sleep_until, timeout};

use super::admin::GroupOffset;
use super::context::is_connection;
use super::groups::Groups;
use super::ledger::{Ledger, Next};
use crate::endpoint::supervisor::{Status, jittered};

/// How long progress is gathered before it is committed.
const COALESCE: Duration = Duration::from_millis(500);
/// Brokers forget the offsets of a group after a week (`offsets.retention.minutes`).
const RENEW: Duration = Duration::from_secs(24 * 3600);
const RENEW_LOOK: Duration = Duration::from_secs(600);
/// How often hanging requests are looked for.
const LOOK_AFTER: Duration = Duration::from_secs(10);
/// Requests that are out at once.
const MOST_OUT: usize = 512;
/// How long the last commit of a session that left is tried; what it settled is then given again.
const GIVE_UP: Duration = Duration::from_secs(600);

/// The side that subscriptions hold.
#[derive(Clone)]
pub(super) struct Committer {
    commands: mpsc::UnboundedSender<Command>,
    open: Arc<Open>,
}

/// Sessions by group, those included that left and have a commit to come.
type Open = Mutex<HashMap<Arc<str>, Vec<Arc<Ledger>>>>;

/// A ledger asks at most twice before it is served, so the channel is bounded by the sessions.
enum Command {
    /// Look at it then.
    Look(Arc<Ledger>, Instant),
    /// Tell when nothing is to be committed any more.
    Drain(oneshot::Sender<()>),
}

impl Committer {
    /// Starts the task, which ends with the last of these. Needs a tokio runtime.
    pub(super) fn start(groups: Arc<Groups>, status: Arc<Status>) -> Self {
        let (commands, received) = mpsc::unbounded_channel();
        let open = Arc::new(Open::default());
        let task = Task {
            groups,
            status,
            open: Arc::clone(&open),
            due: BTreeMap::new(),
            sequence: 0,
            out: FuturesUnordered::new(),
            draining: Vec::new(),
        };
        tokio::spawn(task.run(received));
        Self { commands, open }
    }

    /// Takes a session on; its start positions are committed at once.
    pub(super) fn open(&self, ledger: &Arc<Ledger>) {
        let mut open = lock(&self.open);
        let all = open.entry(Arc::clone(&ledger.group)).or_default();
        // What a session that left has still to commit is in the new one's start: later, it would set it back.
        all.retain(|old| old.topics != ledger.topics || !old.supersede());
        all.push(Arc::clone(ledger));
        drop(open);
        self.look(ledger, Instant::now());
    }

    /// What sessions of that group settled and the broker may not know yet.
    pub(super) fn pending(&self, group: &str) -> Vec<GroupOffset> {
        lock(&self.open).get(group).map_or_else(Vec::new, |all| all.iter().flat_map(|l| l.offsets()).collect())
    }

    /// The session has new partitions, whose starts are to be committed.
    pub(super) fn look_soon(&self, ledger: &Arc<Ledger>) {
        self.look(ledger, Instant::now() + COALESCE);
    }

    /// See `Subscription::settle`.
    pub(super) fn settle(&self, ledger: &Arc<Ledger>, lane: usize, position: i64) {
        if ledger.settle(lane, position) {
            self.look(ledger, Instant::now() + COALESCE);
        }
    }

    /// See `Subscription::poll_flush`.
    pub(super) fn poll_flush(&self, ledger: &Arc<Ledger>, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        ledger.poll_committed(cx, || self.look(ledger, Instant::now()))
    }

    /// The session is gone; what it settled is committed some time.
    pub(super) fn leave(&self, ledger: &Arc<Ledger>) {
        ledger.leave();
        self.look(ledger, Instant::now());
    }

    /// Waits for the last commits of sessions that have left.
    pub(super) async fn drain(&self, within: Duration) {
        let (done, wait) = oneshot::channel();
        if self.commands.send(Command::Drain(done)).is_ok() && timeout(within, wait).await.is_err() {
            tracing::warn!(target: "kafka", "closed before every position was committed: some events will be given again");
        }
    }

    fn look(&self, ledger: &Arc<Ledger>, at: Instant) {
        if self.commands.send(Command::Look(Arc::clone(ledger), at)).is_err() {
            tracing::error!(target: "kafka", group = %ledger.group, "the committing task is gone");
        }
    }
}

type Out = BoxFuture<'static, (Arc<Ledger>, u64, Result<(), Code>)>;

struct Task {
    groups: Arc<Groups>,
    status: Arc<Status>,
    open: Arc<Open>,
    due: BTreeMap<(Instant, u64), Arc<Ledger>>,
    sequence: u64,
    out: FuturesUnordered<Out>,
    draining: Vec<oneshot::Sender<()>>,
}

impl Task {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut renew = interval(RENEW_LOOK);
        let mut look_after = interval(LOOK_AFTER);
        loop {
            let next = self.due.first_key_value().map(|((at, _), _)| *at).filter(|_| self.out.len() < MOST_OUT);
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Look(ledger, at)) => self.queue(ledger, at),
                    Some(Command::Drain(done)) => self.draining.push(done),
                    None => return,
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
                Some((ledger, covers, result)) = self.out.next() => self.settle(&ledger, covers, result),
                _ = renew.tick() => self.renew(),
                _ = look_after.tick() => self.groups.look_after(),
            }
            self.send_due();
            self.tell_drained();
        }
    }

    fn queue(&mut self, ledger: Arc<Ledger>, at: Instant) {
        self.sequence += 1;
        self.due.insert((at, self.sequence), ledger);
    }

    fn send_due(&mut self) {
        let now = Instant::now();
        while self.out.len() < MOST_OUT
            && let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= now)
        {
            let ledger = entry.remove();
            let Some(commit) = ledger.begin() else {
                if ledger.is_done() {
                    self.forget(&ledger);
                }
                continue;
            };
            let answer = self.groups.write(&ledger.group, &commit.offsets);
            self.out.push(Box::pin(async move {
                // Without an answer where the client was given up.
                let result = answer.await.map_or(Err(Code::OperationTimedOut), |answer| answer.map(drop));
                (ledger, commit.covers, result)
            }));
        }
    }

    fn settle(&mut self, ledger: &Arc<Ledger>, covers: u64, result: Result<(), Code>) {
        self.groups.judge(result.as_ref().err());
        let result = result.map_err(|code| {
            let for_good =
                matches!(code, Code::GroupAuthorizationFailed | Code::TopicAuthorizationFailed | Code::InvalidGroupId);
            let text = format!("the position of group {:?} cannot be committed: {code}", ledger.group);
            tracing::debug!(target: "kafka", endpoint = %self.status.name(), "{text}");
            if for_good || code == Code::UnknownMemberId {
                tracing::warn!(target: "kafka", endpoint = %self.status.name(), "{text}");
            } else if is_connection(code) {
                self.status.suspect();
            }
            (text, for_good)
        });
        let now = Instant::now();
        match ledger.end(covers, result) {
            Next::Idle => {}
            Next::Done => self.forget(ledger),
            Next::Soon => self.queue(Arc::clone(ledger), now + COALESCE),
            Next::Now => self.queue(Arc::clone(ledger), now),
            Next::BackOff(failures) => {
                let wait = Duration::from_millis(200 << failures.min(5)).min(Duration::from_secs(5));
                // Each try lasts at most its request and its wait, so this many are `GIVE_UP` at least.
                let most = u32::try_from(GIVE_UP.as_secs() / 5).unwrap_or(u32::MAX);
                let refused = ledger.is_refused();
                if ledger.is_gone() && (failures > most || refused) {
                    tracing::warn!(target: "kafka", endpoint = %self.status.name(), group = %ledger.group,
                        "gave up the last commit of a session that left: its last events will be given again");
                    self.forget(ledger);
                } else {
                    self.queue(Arc::clone(ledger), now + jittered(wait));
                }
            }
        }
    }

    fn renew(&mut self) {
        let Some(before) = Instant::now().checked_sub(RENEW) else { return };
        let old: Vec<_> =
            lock(&self.open).values().flatten().filter(|ledger| ledger.committed_before(before)).cloned().collect();
        for ledger in old {
            ledger.touch();
            self.queue(ledger, Instant::now());
        }
    }

    fn forget(&self, ledger: &Arc<Ledger>) {
        let mut open = lock(&self.open);
        if let Some(all) = open.get_mut(&ledger.group) {
            all.retain(|other| !Arc::ptr_eq(other, ledger));
            if all.is_empty() {
                open.remove(&ledger.group);
            }
        }
    }

    fn tell_drained(&mut self) {
        if !self.draining.is_empty() && !lock(&self.open).values().flatten().any(|ledger| ledger.is_gone()) {
            for done in self.draining.drain(..) {
                // Whoever waited may have run out of time.
                done.send(()).ok();
            }
        }
    }
}

fn lock(open: &Open) -> MutexGuard<'_, HashMap<Arc<str>, Vec<Arc<Ledger>>>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}
