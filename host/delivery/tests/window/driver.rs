//! A session and its broker, played: it keeps to the rules that the window sets its caller, and to no others.

use std::time::{Duration, Instant};

use mediation_delivery::{Answer, Answered, Due, Hold, Limits, Token, Window};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::Arrival;
use crate::ledger::Ledger;
use crate::model::Model;

pub(crate) const LANES: usize = 3;

/// Spent tokens that are kept for trying again.
const SPENT: usize = 64;

type Outcome = Result<(), TestCaseError>;

/// An event in the broker's log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Logged {
    pub(crate) position: i64,
    pub(crate) bytes: usize,
    /// While it is owed one, for its answer.
    pub(crate) outputs: u16,
    pub(crate) owed: bool,
    /// Some window settled it: where permits are held until written, by its entering.
    pub(crate) settled: bool,
}

/// An event in a window: the number of its entering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item(pub(crate) usize);

/// A token, and what the test knows of it.
#[derive(Debug)]
struct Held {
    token: Token,
    epoch: u32,
    number: usize,
    attempt: u16,
    part: u16,
}

pub(crate) struct Driver {
    limits: Limits,
    window: Window<Item>,
    epoch: u32,
    now: Instant,
    logs: [Vec<Logged>; LANES],
    /// Which of a log's events the session reads next.
    cursors: [usize; LANES],
    hand: Vec<Held>,
    spent: Vec<Held>,
    ledger: Ledger,
    /// Compared with where it is wanted.
    model: Option<Model>,
    with_model: bool,
}

impl Driver {
    pub(crate) fn new(limits: Limits, with_model: bool) -> Self {
        Self {
            limits,
            window: Window::new(limits, 0),
            epoch: 0,
            now: Instant::now(),
            logs: Default::default(),
            cursors: [0; LANES],
            hand: Vec::new(),
            spent: Vec::new(),
            ledger: Ledger::new(limits),
            model: with_model.then(|| Model::new(limits)),
            with_model,
        }
    }

    pub(crate) fn publish(&mut self, Arrival { lane, gap, bytes, outputs, owed }: Arrival) {
        let last = self.logs[lane].last().map_or(0, |logged| logged.position);
        let outputs = if owed { 1 } else { outputs };
        self.logs[lane].push(Logged { position: last + gap, bytes, outputs, owed, settled: false });
    }

    /// As an endpoint does it: up to the permits, and no further once the bytes are passed. Lanes take turns.
    pub(crate) fn pull(&mut self) -> Outcome {
        let (mut events, bytes) = (self.window.permits(), self.window.byte_room());
        let mut taken = 0;
        let mut lane = 0;
        while events > 0 && self.logs.iter().zip(self.cursors).any(|(log, cursor)| cursor < log.len()) {
            if let Some(&logged) = self.logs[lane].get(self.cursors[lane]) {
                self.enter(lane, logged)?;
                events -= 1;
                taken += logged.bytes;
                if taken >= bytes {
                    break;
                }
            }
            lane = (lane + 1) % LANES;
        }
        Ok(())
    }

    fn enter(&mut self, lane: usize, logged: Logged) -> Outcome {
        let number = self.ledger.enter(lane, self.cursors[lane], logged);
        if let Some(model) = &mut self.model {
            model.enter(lane, logged);
        }
        if self.limits.hold == Hold::UntilWritten && !logged.owed {
            self.logs[lane][self.cursors[lane]].settled = true;
        }
        self.cursors[lane] += 1;
        let Logged { position, bytes, outputs, owed, .. } = logged;
        let token = if owed {
            self.window.enter_owed(lane, position, bytes, Item(number))
        } else {
            self.window.enter(lane, position, bytes, outputs, Item(number))
        };
        prop_assert_eq!(token.redeliveries(), 0);
        self.ledger.check_order(number, token.sequence())?;
        self.take(token, number, 0, outputs)
    }

    fn take(&mut self, token: Token, number: usize, attempt: u16, outputs: u16) -> Outcome {
        for part in (1..outputs).rev() {
            let token = self.window.output(&token, part);
            prop_assert_eq!(token.part(), part);
            self.hand.push(Held { token, epoch: self.epoch, number, attempt, part });
        }
        prop_assert_eq!(self.window.item(&token), Some(&Item(number)), "a fresh token names another event");
        self.hand.push(Held { token, epoch: self.epoch, number, attempt, part: 0 });
        Ok(())
    }

    pub(crate) fn answer(&mut self, at: Index, answer: Answer) -> Outcome {
        if self.hand.is_empty() {
            return Ok(());
        }
        let held = self.hand.swap_remove(at.index(self.hand.len()));
        self.give(held, answer)
    }

    pub(crate) fn answer_newest(&mut self, answer: Answer) -> Outcome {
        self.hand.pop().map_or(Ok(()), |held| self.give(held, answer))
    }

    pub(crate) fn answer_spent(&mut self, at: Index, answer: Answer) -> Outcome {
        if self.spent.is_empty() {
            return Ok(());
        }
        let held = self.spent.swap_remove(at.index(self.spent.len()));
        self.give(held, answer)
    }

    pub(crate) fn answer_by_id(&mut self, name: usize, part: u16, answer: Answer) -> Outcome {
        let claimed = self.window.claim(|item, outputs| (item.0 % 3 == name && part < outputs).then_some(part));
        if let Some(model) = &self.model {
            let expected = model.claim(|number, outputs| number % 3 == name && part < outputs, part);
            let found = claimed.as_ref().and_then(|token| self.window.item(token)).map(|item| item.0);
            prop_assert_eq!(found, expected, "an answer by id found another event");
        }
        let Some(token) = claimed else { return Ok(()) };
        let number = self.window.item(&token).map(|item| item.0);
        prop_assert!(number.is_some(), "an answer by id found nothing: {:?}", token);
        let (number, attempt) = (number.unwrap_or_default(), token.redeliveries());
        self.give(Held { token, epoch: self.epoch, number, attempt, part }, answer)
    }

    /// Answers with a token, keeps a copy of it, and judges what came of it.
    fn give(&mut self, held: Held, answer: Answer) -> Outcome {
        let Held { token, epoch, number, attempt, part } = held;
        if self.spent.len() < SPENT {
            let token = self.window.output(&token, part);
            self.spent.push(Held { token, epoch, number, attempt, part });
        }
        let answered = self.window.answer(token, answer, self.now);
        if epoch != self.epoch {
            prop_assert_eq!(&answered, &Answered::Stale, "a token of another window was taken");
        } else if let Some(model) = &mut self.model {
            let expected = model.answer(number, attempt, part, answer, self.now);
            prop_assert_eq!(&answered, &expected, "event {} attempt {} part {}", number, attempt, part);
        }
        if let Some((lane, at)) = self.ledger.answered(number, (attempt, part), answer, &answered)? {
            self.logs[lane][at].settled = true;
        }
        Ok(())
    }

    /// Of the owed events in hand one.
    pub(crate) fn deliver(&mut self, at: Index, bytes: usize, outputs: u16) -> Outcome {
        let owed: Vec<usize> = (0..self.hand.len()).filter(|at| self.ledger.is_owed(self.hand[*at].number)).collect();
        if owed.is_empty() {
            return Ok(());
        }
        let held = self.hand.swap_remove(owed[at.index(owed.len())]);
        self.make_event(held, bytes, outputs)
    }

    /// With a token that is old: it may be stale, or name an event that is owed still.
    pub(crate) fn deliver_spent(&mut self, at: Index, bytes: usize, outputs: u16) -> Outcome {
        if self.spent.is_empty() {
            return Ok(());
        }
        let held = self.spent.swap_remove(at.index(self.spent.len()));
        // What is not owed is never delivered, unless it is gone.
        if held.epoch == self.epoch && !self.ledger.is_owed(held.number) && !self.ledger.is_settled(held.number) {
            return Ok(());
        }
        self.make_event(held, bytes, outputs)
    }

    fn make_event(&mut self, held: Held, bytes: usize, outputs: u16) -> Outcome {
        let Held { number, attempt, epoch, .. } = held;
        let given = self.window.deliver(&held.token, bytes, outputs);
        let outputs = outputs.max(1);
        let expected = epoch == self.epoch && self.ledger.may_deliver(number, attempt);
        prop_assert_eq!(given.is_some(), expected, "event {} attempt {}", number, attempt);
        let Some(token) = given else { return Ok(()) };
        prop_assert_eq!((token.redeliveries(), token.part()), (attempt, 0));
        let (lane, at) = self.ledger.delivered(number, token.sequence(), bytes, outputs)?;
        if self.limits.hold == Hold::UntilWritten {
            self.logs[lane][at].settled = true;
        }
        if let Some(model) = &mut self.model {
            model.deliver(number, bytes, outputs);
        }
        // The token that it had names its first output now.
        self.spent.push(held);
        self.take(token, number, attempt, outputs)
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    pub(crate) fn redeliver(&mut self, at_most: usize) -> Outcome {
        for _ in 0..at_most {
            let before = self.window.next_due();
            let Some(Due { token, outputs }) = self.window.due(self.now) else {
                prop_assert!(before.is_none_or(|due| due > self.now), "due, and not given");
                if let Some(model) = &self.model {
                    model.nothing_due(self.now)?;
                }
                break;
            };
            let item = self.window.item(&token).copied();
            prop_assert!(item.is_some(), "given again without its event");
            let Item(number) = item.unwrap_or(Item(0));
            self.ledger.given_again(number, &token, outputs)?;
            if let Some(model) = &mut self.model {
                model.given_again(number, token.redeliveries(), self.now)?;
            }
            let attempt = token.redeliveries();
            self.take(token, number, attempt, outputs)?;
        }
        Ok(())
    }

    /// A new window, and the broker gives from the watermarks on. All tokens are of a window long gone now.
    pub(crate) fn restart(&mut self) {
        for lane in 0..LANES {
            if let Some(watermark) = self.window.watermark(lane) {
                self.cursors[lane] = self.logs[lane].partition_point(|logged| logged.position <= watermark);
            } else {
                // Nothing settled in this window: where it had begun.
                self.cursors[lane] = self.ledger.begun(lane).unwrap_or(self.cursors[lane]);
            }
        }
        self.epoch += 1;
        self.window = Window::new(self.limits, self.epoch);
        self.ledger = Ledger::new(self.limits);
        self.model = self.with_model.then(|| Model::new(self.limits));
        let room = SPENT.saturating_sub(self.spent.len());
        self.spent.extend(self.hand.drain(..).take(room));
    }

    pub(crate) fn check(&mut self) -> Outcome {
        self.ledger.check(&mut self.window)?;
        self.model.as_ref().map_or(Ok(()), |model| model.check(&self.window, self.now))
    }

    /// Acks until nothing is left to read or to answer.
    pub(crate) fn finish(mut self) -> Outcome {
        loop {
            self.pull()?;
            self.wait(Duration::from_secs(60));
            self.redeliver(usize::MAX)?;
            self.check()?;
            if self.hand.is_empty() {
                break;
            }
            while !self.hand.is_empty() {
                self.answer_newest(Answer::Ack)?;
            }
            self.check()?;
        }
        self.ledger.check_end(&self.window)?;
        for (lane, log) in self.logs.iter().enumerate() {
            prop_assert_eq!(self.cursors[lane], log.len(), "lane {} was not read to its end", lane);
            prop_assert!(log.iter().all(|logged| logged.settled), "an event in lane {} was lost: {:?}", lane, log);
        }
        Ok(())
    }
}
