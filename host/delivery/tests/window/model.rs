//! The window, naively: a list of all events that ever entered, searched from its start each time.

use std::time::{Duration, Instant};

use mediation_delivery::{Answer, Answered, Backoff, Hold, Limits, Window};
use proptest::prelude::*;

use crate::driver::{Item, LANES, Logged};

type Outcome = Result<(), TestCaseError>;

pub(crate) struct Model {
    limits: Limits,
    events: Vec<Event>,
}

struct Event {
    lane: usize,
    logged: Logged,
    attempt: u16,
    /// One for each output.
    answers: Vec<Option<Answer>>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Out,
    WaitingSince(Instant),
    Done,
}

/// The longest that an event waits after so many redeliveries.
pub(crate) fn full_wait(backoff: Backoff, redeliveries: u16) -> Duration {
    let mut wait = backoff.first;
    for _ in 0..redeliveries {
        if wait >= backoff.max {
            break;
        }
        wait *= 2;
    }
    wait.min(backoff.max.max(backoff.first))
}

impl Model {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, events: Vec::new() }
    }

    pub(crate) fn enter(&mut self, lane: usize, logged: Logged) {
        let answers = vec![None; usize::from(logged.outputs)];
        self.events.push(Event { lane, logged, attempt: 0, answers, state: State::Out });
    }

    /// An owed event is one like others from now on.
    pub(crate) fn deliver(&mut self, number: usize, bytes: usize, outputs: u16) {
        let event = &mut self.events[number];
        event.logged = Logged { bytes, outputs, owed: false, ..event.logged };
        event.answers = vec![None; usize::from(outputs)];
    }

    pub(crate) fn answer(
        &mut self,
        number: usize,
        attempt: u16,
        part: u16,
        answer: Answer,
        now: Instant,
    ) -> Answered<Item> {
        let event = &mut self.events[number];
        if event.state != State::Out || event.attempt != attempt || event.answers[usize::from(part)].is_some() {
            return Answered::Stale;
        }
        event.answers[usize::from(part)] = Some(answer);
        if event.answers.contains(&None) {
            return Answered::Partly;
        }
        let has = |wanted| event.answers.contains(&Some(wanted));
        if has(Answer::Nack) && (self.limits.hold == Hold::UntilAnswered || event.logged.owed) {
            event.state = State::WaitingSince(now);
            return Answered::Again;
        }
        let worst = [Answer::Nack, Answer::Reject].into_iter().find(|wanted| has(*wanted)).unwrap_or(Answer::Ack);
        event.state = State::Done;
        Answered::Settled(Item(number), worst)
    }

    /// The oldest event that is out, that `which` names, and whose output `part` is not answered.
    pub(crate) fn claim(&self, which: impl Fn(usize, u16) -> bool, part: u16) -> Option<usize> {
        (0..self.events.len()).find(|number| {
            let event = &self.events[*number];
            event.state == State::Out
                && which(*number, event.logged.outputs)
                && event.answers[usize::from(part)].is_none()
        })
    }

    pub(crate) fn given_again(&mut self, number: usize, redeliveries: u16, now: Instant) -> Outcome {
        let event = &mut self.events[number];
        let State::WaitingSince(since) = event.state else {
            return Err(TestCaseError::fail(format!("event {number} was given again while {:?}", event.state)));
        };
        let least = full_wait(self.limits.backoff, event.attempt) * 3 / 4;
        prop_assert!(now - since >= least, "event {} waited {:?} of {:?}", number, now - since, least);
        event.attempt += 1;
        prop_assert_eq!(event.attempt, redeliveries);
        event.answers.fill(None);
        event.state = State::Out;
        Ok(())
    }

    /// No event has waited longer than it should.
    pub(crate) fn nothing_due(&self, now: Instant) -> Outcome {
        for (number, event) in self.events.iter().enumerate() {
            if let State::WaitingSince(since) = event.state {
                let most = full_wait(self.limits.backoff, event.attempt);
                prop_assert!(now - since < most, "event {} is due for {:?}", number, now - since - most);
            }
        }
        Ok(())
    }

    fn permits(&self) -> usize {
        let Limits { size, bytes, .. } = self.limits;
        let open: Vec<_> = self.events.iter().filter(|event| event.state != State::Done).collect();
        if !open.is_empty() && open.iter().map(|event| event.logged.bytes).sum::<usize>() >= bytes {
            return 0;
        }
        let oldest = self.events.iter().position(|event| event.state != State::Done).unwrap_or(self.events.len());
        let past = self.events.len() - oldest;
        (size - open.len()).min(16 * size - past)
    }

    fn watermark(&self, lane: usize) -> Option<i64> {
        let mine = self.events.iter().filter(|event| event.lane == lane);
        let entering = self.limits.hold == Hold::UntilWritten;
        let settled = |event: &&Event| event.state == State::Done || (entering && !event.logged.owed);
        mine.take_while(settled).last().map(|event| event.logged.position)
    }

    pub(crate) fn check(&self, window: &Window<Item>, now: Instant) -> Outcome {
        prop_assert_eq!(window.permits(), self.permits(), "permits");
        for lane in 0..LANES {
            prop_assert_eq!(window.watermark(lane), self.watermark(lane), "watermark of lane {}", lane);
        }
        let open = self.events.iter().filter(|event| event.state != State::Done);
        let bytes: usize = open.map(|event| event.logged.bytes).sum();
        prop_assert_eq!(window.byte_room(), self.limits.bytes.saturating_sub(bytes), "byte room");
        let waits = self.events.iter().any(|event| matches!(event.state, State::WaitingSince(_)));
        prop_assert_eq!(window.next_due().is_some(), waits, "a next time to look");
        // The next time is never later than the first event's longest wait.
        for event in &self.events {
            if let State::WaitingSince(since) = event.state {
                let latest = since + full_wait(self.limits.backoff, event.attempt);
                prop_assert!(window.next_due() <= Some(latest), "looked at too late, {:?} after now", latest - now);
            }
        }
        Ok(())
    }
}
