//! What one durable session has settled and how much of it is committed: shared by its subscription, which settles, and
//! the endpoint's `committer`, which commits. No I/O.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

use super::admin::GroupOffset;
use super::partitions::Topics;

/// See the module.
pub(super) struct Ledger {
    /// The session's consumer group.
    pub(super) group: Arc<str>,
    /// What it reads: a client's positions elsewhere are not its business.
    pub(super) topics: Topics,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    marks: Vec<Mark>,
    /// Counts settlements; `committed` is the count that the last commit covered.
    settled: u64,
    committed: u64,
    in_flight: bool,
    urgent: bool,
    gone: bool,
    /// A newer session has the group: its positions count.
    superseded: bool,
    failures: u32,
    /// Commits of this group will not work: what the broker says.
    refused: Option<String>,
    last_commit: Option<Instant>,
    waiting: Option<Waker>,
}

struct Mark {
    topic: Arc<str>,
    partition: i32,
    /// The first position not yet settled.
    settled: i64,
    /// What was committed before this session began: never gone below.
    floor: i64,
    /// Its partition's log was made anew: a later mark stands for it.
    over: bool,
}

/// A commit to be sent.
pub(super) struct Commit {
    /// The count of settlements that it covers.
    pub(super) covers: u64,
    /// The positions.
    pub(super) offsets: Vec<GroupOffset>,
}

/// When the committer should look again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Everything is committed.
    Idle,
    /// Everything is committed and the session is gone.
    Done,
    /// Something was settled meanwhile.
    Soon,
    /// Somebody waits.
    Now,
    /// After that many failures in a row.
    BackOff(u32),
}

impl Ledger {
    pub(super) fn new(group: Arc<str>, topics: Topics) -> Arc<Self> {
        Arc::new(Self { group, topics, state: Mutex::default() })
    }

    /// Adds the next lane: where it starts, and what is committed already. Its start is to be committed too.
    pub(super) fn add(&self, topic: &Arc<str>, partition: i32, start: i64, floor: Option<i64>) {
        let mut state = self.state();
        for older in state.marks.iter_mut().filter(|mark| mark.partition == partition && mark.topic == *topic) {
            older.over = true;
        }
        let floor = floor.unwrap_or(start);
        state.marks.push(Mark { topic: Arc::clone(topic), partition, settled: start, floor, over: false });
        state.settled += 1;
    }

    /// Whether the committer has to be told: it is not, while it knows already.
    pub(super) fn settle(&self, lane: usize, position: i64) -> bool {
        let mut state = self.state();
        if state.superseded {
            return false;
        }
        match state.marks.get_mut(lane) {
            Some(mark) if position > mark.settled => mark.settled = position,
            _ => return false,
        }
        let idle = state.settled == state.committed && !state.in_flight;
        state.settled += 1;
        idle
    }

    /// Ready when all that was settled is committed; `hurry` has the committer do it now.
    pub(super) fn poll_committed(&self, cx: &mut Context<'_>, hurry: impl FnOnce()) -> Poll<Result<(), String>> {
        let mut state = self.state();
        if state.settled == state.committed {
            return Poll::Ready(Ok(()));
        }
        if let Some(reason) = &state.refused {
            return Poll::Ready(Err(reason.clone()));
        }
        state.waiting = Some(cx.waker().clone());
        if !state.urgent {
            state.urgent = true;
            hurry();
        }
        Poll::Pending
    }

    /// The session is gone: what it settled is committed at once, and then this ends.
    pub(super) fn leave(&self) {
        self.state().gone = true;
    }

    /// A newer session has the group: this one commits nothing any more, whatever it still settles. Whether it has left.
    pub(super) fn supersede(&self) -> bool {
        let mut state = self.state();
        state.superseded = true;
        state.committed = state.settled;
        state.gone
    }

    /// For the daily commit, which keeps the broker from forgetting an idle group.
    pub(super) fn committed_before(&self, moment: Instant) -> bool {
        let state = self.state();
        state.settled == state.committed && state.last_commit.is_some_and(|at| at < moment)
    }

    /// Makes the next commit due although nothing was settled.
    pub(super) fn touch(&self) {
        let mut state = self.state();
        state.settled += u64::from(!state.superseded);
    }

    /// What to commit now; None when there is nothing or a commit is out.
    pub(super) fn begin(&self) -> Option<Commit> {
        let mut state = self.state();
        if state.in_flight || state.settled == state.committed {
            return None;
        }
        state.in_flight = true;
        Some(Commit { covers: state.settled, offsets: state.offsets() })
    }

    /// The commit came back.
    pub(super) fn end(&self, covers: u64, result: Result<(), (String, bool)>) -> Next {
        let mut state = self.state();
        state.in_flight = false;
        // A failure that may pass is waited out by the committer's back-off, not by the session's polls.
        let waker = if matches!(result, Err((_, false))) { None } else { state.waiting.take() };
        let next = match result {
            Ok(()) => {
                state.urgent = false;
                state.committed = state.committed.max(covers);
                state.failures = 0;
                state.refused = None;
                state.last_commit = Some(Instant::now());
                match (state.settled == state.committed, state.gone) {
                    (true, true) => Next::Done,
                    (true, false) => Next::Idle,
                    (false, true) => Next::Now,
                    (false, false) if waker.is_some() => Next::Now,
                    (false, false) => Next::Soon,
                }
            }
            Err((reason, for_good)) => {
                state.failures = state.failures.saturating_add(1);
                state.refused = for_good.then_some(reason);
                Next::BackOff(state.failures)
            }
        };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        next
    }

    /// Whether the session has left and nothing is to be committed.
    pub(super) fn is_done(&self) -> bool {
        let state = self.state();
        state.gone && state.settled == state.committed
    }

    /// Whether the broker will not take its commits.
    pub(super) fn is_refused(&self) -> bool {
        self.state().refused.is_some()
    }

    pub(super) fn is_gone(&self) -> bool {
        self.state().gone
    }

    /// The positions as they would be committed now.
    pub(super) fn offsets(&self) -> Vec<GroupOffset> {
        self.state().offsets()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn offsets(&self) -> Vec<GroupOffset> {
        let of = |mark: &Mark| GroupOffset {
            topic: Arc::clone(&mark.topic),
            partition: mark.partition,
            offset: mark.settled.max(mark.floor),
        };
        self.marks.iter().filter(|mark| !mark.over).map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn ledger() -> Arc<Ledger> {
        let ledger = Ledger::new("g".into(), Arc::from(["t".into()]));
        ledger.add(&"t".into(), 0, 10, None);
        ledger.add(&"t".into(), 1, 5, Some(8));
        ledger
    }

    fn committed(ledger: &Ledger) -> bool {
        ledger.poll_committed(&mut Context::from_waker(Waker::noop()), || ()).is_ready()
    }

    #[test]
    fn the_start_is_committed_and_never_below_what_was() {
        let ledger = ledger();
        let commit = ledger.begin().expect("the start is due");
        assert_eq!(commit.offsets.iter().map(|o| o.offset).collect::<Vec<_>>(), [10, 8]);
        assert!(ledger.begin().is_none(), "one at a time");
        assert!(!committed(&ledger));
        assert_eq!(ledger.end(commit.covers, Ok(())), Next::Idle);
        assert!(committed(&ledger));
    }

    #[test]
    fn the_committer_is_told_once_until_it_is_done() {
        let ledger = ledger();
        let commit = ledger.begin().unwrap();
        ledger.end(commit.covers, Ok(()));
        assert!(ledger.settle(0, 11));
        assert!(!ledger.settle(0, 12));
        assert!(!ledger.settle(0, 11), "never back");
        let commit = ledger.begin().unwrap();
        assert!(!ledger.settle(0, 13), "the one that is out is followed by another");
        assert_eq!(ledger.end(commit.covers, Ok(())), Next::Soon);
        assert_eq!(ledger.begin().unwrap().offsets[0].offset, 13);
    }

    #[test]
    fn a_failed_commit_is_repeated_with_the_newest_positions() {
        let ledger = ledger();
        let commit = ledger.begin().unwrap();
        ledger.settle(0, 20);
        assert_eq!(ledger.end(commit.covers, Err(("no".into(), false))), Next::BackOff(1));
        assert!(!committed(&ledger));
        assert_eq!(ledger.begin().unwrap().offsets[0].offset, 20);
    }

    #[test]
    fn a_refusal_is_told_to_who_waits() {
        let ledger = ledger();
        let commit = ledger.begin().unwrap();
        ledger.end(commit.covers, Err(("not allowed".into(), true)));
        let told = ledger.poll_committed(&mut Context::from_waker(Waker::noop()), || ());
        assert_eq!(told, Poll::Ready(Err("not allowed".into())));
    }

    #[test]
    fn a_session_that_left_ends_with_its_last_commit() {
        let ledger = ledger();
        let commit = ledger.begin().unwrap();
        ledger.settle(0, 20);
        ledger.leave();
        assert_eq!(ledger.end(commit.covers, Ok(())), Next::Now);
        let commit = ledger.begin().unwrap();
        assert_eq!(ledger.end(commit.covers, Ok(())), Next::Done);
    }
}
