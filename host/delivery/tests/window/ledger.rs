//! The promises of a window, judged by what it said and what its caller did; it knows nothing of how a window works.

use std::collections::HashSet;

use mediation_delivery::{Answer, Answered, Hold, Limits, Token, Window};
use proptest::prelude::*;

use crate::driver::{Item, LANES, Logged};

type Outcome = Result<(), TestCaseError>;

pub(crate) struct Ledger {
    limits: Limits,
    events: Vec<Entered>,
    sequences: Vec<u64>,
    told: [Option<i64>; LANES],
    largest: usize,
}

struct Entered {
    lane: usize,
    /// Its index in the lane's log.
    at: usize,
    /// Bytes, outputs and whether it is owed: as of now.
    logged: Logged,
    /// By how many bytes it grew when it was delivered.
    grown: usize,
    attempt: u16,
    /// A nack brought it back, and it has not been given again yet.
    nacked: bool,
    settled: bool,
    /// Attempt and part of every answer that was taken.
    answers: HashSet<(u16, u16)>,
    /// The answers of the current attempt.
    worst: Answer,
}

impl Entered {
    /// Nobody may take it for done yet: the watermark is not to pass it, and a nack brings it again.
    fn is_due_to_somebody(&self, hold: Hold) -> bool {
        !self.settled && (hold == Hold::UntilAnswered || self.logged.owed)
    }
}

impl Ledger {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, events: Vec::new(), sequences: Vec::new(), told: [None; LANES], largest: 0 }
    }

    pub(crate) fn enter(&mut self, lane: usize, at: usize, logged: Logged) -> usize {
        self.largest = self.largest.max(logged.bytes);
        let answers = HashSet::new();
        let (nacked, settled, worst) = (false, false, Answer::Ack);
        self.events.push(Entered { lane, at, logged, grown: 0, attempt: 0, nacked, settled, answers, worst });
        self.events.len() - 1
    }

    /// The log index of the first event that a lane gave.
    pub(crate) fn begun(&self, lane: usize) -> Option<usize> {
        self.events.iter().find(|event| event.lane == lane).map(|event| event.at)
    }

    pub(crate) fn is_owed(&self, number: usize) -> bool {
        self.events[number].logged.owed && !self.events[number].settled
    }

    pub(crate) fn is_settled(&self, number: usize) -> bool {
        self.events[number].settled
    }

    pub(crate) fn may_deliver(&self, number: usize, attempt: u16) -> bool {
        let event = &self.events[number];
        self.is_owed(number) && !event.nacked && event.attempt == attempt
    }

    /// An owed event became one like others. Its place in the log.
    pub(crate) fn delivered(
        &mut self,
        number: usize,
        sequence: u64,
        bytes: usize,
        outputs: u16,
    ) -> Result<(usize, usize), TestCaseError> {
        prop_assert_eq!(self.sequences[number], sequence, "it was delivered as another");
        let event = &mut self.events[number];
        event.grown = bytes.saturating_sub(event.logged.bytes);
        event.logged = Logged { bytes, outputs, owed: false, ..event.logged };
        Ok((event.lane, event.at))
    }

    /// Sequences rise in the order of entering.
    pub(crate) fn check_order(&mut self, number: usize, sequence: u64) -> Outcome {
        prop_assert_eq!(number, self.sequences.len());
        prop_assert!(self.sequences.last().is_none_or(|last| *last < sequence), "the order of delivery was broken");
        self.sequences.push(sequence);
        Ok(())
    }

    /// Takes down what an answer did. The place in the log of an event that is settled by it.
    pub(crate) fn answered(
        &mut self,
        number: usize,
        (attempt, part): (u16, u16),
        answer: Answer,
        answered: &Answered<Item>,
    ) -> Result<Option<(usize, usize)>, TestCaseError> {
        if *answered == Answered::Stale {
            return Ok(None);
        }
        let event = &mut self.events[number];
        prop_assert!(!event.settled, "event {} was answered after it was settled", number);
        prop_assert!(!event.nacked, "event {} was answered while it waited to be given again", number);
        prop_assert!(event.answers.insert((attempt, part)), "a token of event {} was taken twice", number);
        event.worst = event.worst.max(answer);
        let parts = event.answers.iter().filter(|(of, _)| *of == attempt).count();
        let all = parts == usize::from(event.logged.outputs);
        match answered {
            Answered::Partly => prop_assert!(!all, "event {} has all its answers and is not settled", number),
            Answered::Again => {
                prop_assert!(all && event.worst == Answer::Nack, "event {} comes again without a nack", number);
                event.nacked = true;
            }
            Answered::Settled(item, worst) => {
                prop_assert_eq!(*item, Item(number), "another event was settled");
                prop_assert!(all, "event {} was settled before all its outputs were answered", number);
                prop_assert_eq!(*worst, event.worst);
                let lost = *worst == Answer::Nack && event.is_due_to_somebody(self.limits.hold);
                prop_assert!(!lost, "event {} was nacked and is not given again", number);
                event.settled = true;
                return Ok(Some((event.lane, event.at)));
            }
            Answered::Stale => {}
        }
        Ok(None)
    }

    pub(crate) fn given_again(&mut self, number: usize, token: &Token, outputs: u16) -> Outcome {
        let event = &mut self.events[number];
        prop_assert!(event.nacked, "event {} was given again without a nack", number);
        prop_assert_eq!(self.sequences[number], token.sequence(), "it came back as another");
        prop_assert_eq!(event.attempt + 1, token.redeliveries(), "the attempts of event {}", number);
        event.attempt += 1;
        prop_assert_eq!(event.logged.outputs, outputs);
        event.nacked = false;
        event.worst = Answer::Ack;
        Ok(())
    }

    /// What must hold at any time.
    pub(crate) fn check(&mut self, window: &mut Window<Item>) -> Outcome {
        let open = || self.events.iter().filter(|event| !event.settled);
        prop_assert!(open().count() <= self.limits.size, "more than channel_size events are out");
        prop_assert_eq!(window.held(), open().count(), "permits in use");
        prop_assert_eq!(window.waiting(), open().filter(|event| event.nacked).count(), "nacked events that wait");
        let bytes: usize = open().map(|event| event.logged.bytes).sum();
        let grown: usize = open().map(|event| event.grown).sum();
        prop_assert!(bytes <= self.limits.bytes + self.largest + grown, "{} bytes are out", bytes);
        for lane in 0..LANES {
            let mine = || self.events.iter().filter(move |event| event.lane == lane);
            let watermark = window.watermark(lane);
            let due = |event: &&Entered| event.is_due_to_somebody(self.limits.hold);
            let passed = mine().filter(due).find(|event| watermark >= Some(event.logged.position));
            prop_assert!(passed.is_none(), "the watermark {:?} of lane {} passed an open event", watermark, lane);
            if mine().all(|event| !due(&event)) {
                let last = mine().next_back().map(|event| event.logged.position);
                prop_assert_eq!(watermark, last, "lane {}: all settled and the watermark is not at the end", lane);
            }
        }
        let mut backwards = None;
        window.moved(|lane, position| {
            if self.told[lane] >= Some(position) {
                backwards = Some((lane, self.told[lane], position));
            }
            self.told[lane] = Some(position);
        });
        prop_assert_eq!(backwards, None, "a watermark was told twice or went back");
        for lane in 0..LANES {
            prop_assert_eq!(self.told[lane], window.watermark(lane), "lane {}: a move was not told", lane);
        }
        Ok(())
    }

    /// What must hold once all is answered.
    pub(crate) fn check_end(&self, window: &Window<Item>) -> Outcome {
        prop_assert!(self.events.iter().all(|event| event.settled), "an event was never settled");
        prop_assert_eq!(window.permits(), self.limits.size, "a permit was not returned");
        prop_assert_eq!(window.byte_room(), self.limits.bytes, "bytes were not returned");
        prop_assert_eq!((window.held(), window.waiting(), window.next_due()), (0, 0, None));
        Ok(())
    }
}
