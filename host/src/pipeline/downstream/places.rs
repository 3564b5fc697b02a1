//! Where a session stands in each partition: what was given, what is settled, and the resume token that says so.

use super::{Downstream, Form, Given, Kept};
use crate::endpoint::position::{Position, ResumeToken};
use crate::event::EventId;
use crate::session::Place;

/// Which position a resume token names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// The first event not yet given.
    Given,
    /// The same, where each batch is an answer of its own: nor does it pass what an earlier answer may not have brought.
    Answered,
    /// The first event not yet acknowledged by the client.
    Acknowledged,
}

pub(super) struct LaneState {
    topic: u16,
    partition: i32,
    start: i64,
    given: i64,
    /// Its log was made anew: a later lane stands for the partition.
    over: bool,
}

impl Kept {
    /// Where a client goes on that is to get it again.
    fn place(&self) -> i64 {
        match self.event.id {
            EventId::Log { offset, .. } => offset,
            _ => self.next.saturating_sub(1),
        }
    }
}

impl Downstream {
    pub(super) fn show_places(&mut self) {
        self.marked = false;
        self.session.set_places(self.lanes.iter().enumerate().filter(|(_, lane)| !lane.over).map(|(at, lane)| Place {
            topic: lane.topic,
            partition: lane.partition,
            given: lane.given,
            settled: self.window.watermark(at).unwrap_or(lane.start),
        }));
    }

    pub(super) fn meet_lanes(&mut self) {
        for lane in self.source.lanes().iter().skip(self.lanes.len()) {
            let &crate::endpoint::Lane { topic, partition, start } = lane;
            for older in self.lanes.iter_mut().filter(|lane| lane.topic == topic && lane.partition == partition) {
                older.over = true;
            }
            self.lanes.push(LaneState { topic, partition, start, given: start, over: false });
        }
    }

    /// Marks an event as given: called for each, in the order of writing.
    pub fn mark_given(&mut self, given: &Given) {
        if let Some(lane) = self.lanes.get_mut(given.lane).filter(|_| given.last) {
            lane.given = lane.given.max(given.next);
            self.marked = true;
        }
    }

    /// Where a client that has all that was marked given (or acknowledged) goes on; None on endpoints without a log.
    #[must_use]
    pub fn resume_token(&self) -> Option<String> {
        let scope = self.source.scope()?;
        let now = self.lanes.iter().enumerate().filter(|(_, lane)| !lane.over);
        let positions = now.map(|(at, lane)| Position {
            topic: lane.topic,
            partition: lane.partition,
            offset: match self.resume {
                Resume::Given => self.first_waiting(at).map_or(lane.given, |waiting| waiting.min(lane.given)),
                Resume::Answered => self.first_elsewhere(at).map_or(lane.given, |other| other.min(lane.given)),
                Resume::Acknowledged => self.window.watermark(at).unwrap_or(lane.start),
            },
        });
        ResumeToken::encode(scope, positions)
    }

    /// The oldest event of a lane that did not get there and waits to be given again: a token must not pass it.
    fn first_waiting(&self, lane: usize) -> Option<i64> {
        let owes = self.letters.is_some() || self.passage.as_ref().is_some_and(|passage| passage.owes());
        if self.window.waiting() == 0 && !owes {
            return None;
        }
        let with_nobody = |kept: &&Kept| kept.lane == lane && (kept.letter || matches!(kept.form, Form::Owed));
        let waiting = self.window.waiting_items().filter(|kept| kept.lane == lane);
        waiting.chain(self.window.unsettled_items().filter(with_nobody)).map(Kept::place).min()
    }

    /// The oldest event of a lane that is not settled and did not come with the last batch.
    fn first_elsewhere(&self, lane: usize) -> Option<i64> {
        let elsewhere = self.window.unsettled_items().filter(|kept| kept.lane == lane && kept.batch != self.batch);
        elsewhere.map(Kept::place).min()
    }
}
