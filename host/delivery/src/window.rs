//! The window: a session's bounded channel, holding what was delivered and is not answered yet.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Instant;

use crate::answer::{Answer, Answered, Token};
use crate::backoff::Backoff;
use crate::lane::Lane;

/// A window takes nothing more once it is this many times its size past its oldest unsettled event: acks that come out
/// of order must not let it grow.
const AHEAD: u64 = 16;

/// Above this many slots the memory of an emptied window is given back.
const KEEP: usize = 32;

/// What a window may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Events: permits.
    pub size: usize,
    /// Bytes; one larger event passes alone.
    pub bytes: usize,
    /// When a permit comes back.
    pub hold: Hold,
    /// How long a nacked event waits.
    pub backoff: Backoff,
}

/// When an event is settled and its permit comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// `at_least_once`: the answer settles the event and returns the permit.
    UntilAnswered,
    /// Every other guarantee: entering the window settles the event; the answer (written to the client, in whatever way
    /// that ended) only returns the permit.
    UntilWritten,
}

/// An event that is to be given again.
#[derive(Debug)]
pub struct Due {
    /// The token of its first output; [`Window::output`] makes the others.
    pub token: Token,
    /// How many outputs it has.
    pub outputs: u16,
}

/// See the crate's documentation.
#[derive(Debug)]
pub struct Window<T> {
    limits: Limits,
    epoch: u32,
    /// In the order of delivery; the front is never done.
    slots: VecDeque<Slot<T>>,
    /// Sequence of the front slot.
    base: u64,
    lanes: Vec<Lane>,
    any_moved: bool,
    held: usize,
    held_bytes: usize,
    waiting: BinaryHeap<Reverse<(Instant, u64)>>,
}

#[derive(Debug)]
struct Slot<T> {
    /// None once settled.
    item: Option<T>,
    /// As the window says; until answered for one that is owed.
    hold: Hold,
    lane: u32,
    attempt: u16,
    outputs: u16,
    bytes: usize,
    state: SlotState,
}

#[derive(Debug)]
enum SlotState {
    Out,
    /// More than one output: which are answered, and the worst answer so far.
    OutPartly(Box<[bool]>, Answer),
    Waiting,
    Done,
}

impl<T> Window<T> {
    /// An empty window. `epoch` tells its tokens from those of other windows.
    #[must_use]
    pub fn new(limits: Limits, epoch: u32) -> Self {
        Self {
            limits,
            epoch,
            slots: VecDeque::new(),
            base: 0,
            lanes: Vec::new(),
            any_moved: false,
            held: 0,
            held_bytes: 0,
            waiting: BinaryHeap::new(),
        }
    }

    /// How many events may enter now.
    #[must_use]
    pub fn permits(&self) -> usize {
        if self.held > 0 && self.held_bytes >= self.limits.bytes {
            return 0;
        }
        let ahead = (self.limits.size as u64).saturating_mul(AHEAD).saturating_sub(self.slots.len() as u64);
        self.limits.size.saturating_sub(self.held).min(usize::try_from(ahead).unwrap_or(usize::MAX))
    }

    /// How many bytes may enter now; the event that passes it still may.
    #[must_use]
    pub fn byte_room(&self) -> usize {
        self.limits.bytes.saturating_sub(self.held_bytes)
    }

    /// The oldest event that is not settled (or, held until written, not written).
    #[must_use]
    pub fn oldest(&self) -> Option<&T> {
        self.slots.front()?.item.as_ref()
    }

    /// Events that hold a permit.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes a permit for a broker event that became `outputs` (at least 1) events; `position` is the first one after it
    /// in its lane. The token is the first output's. The caller has asked [`permits`](Self::permits).
    pub fn enter(&mut self, lane: usize, position: i64, bytes: usize, outputs: u16, item: T) -> Token {
        self.take(lane, position, bytes, outputs, item, self.limits.hold)
    }

    /// As [`enter`](Self::enter), for an event that cannot be given as it is (a plugin failed on it): whatever the hold of
    /// the window, it is not settled before its answer, and a nack brings it again. [`deliver`](Self::deliver) makes it an
    /// event like the others.
    pub fn enter_owed(&mut self, lane: usize, position: i64, bytes: usize, item: T) -> Token {
        self.take(lane, position, bytes, 1, item, Hold::UntilAnswered)
    }

    /// An owed event can be given now, as `outputs` events of `bytes` in all; None when the token is stale.
    pub fn deliver(&mut self, token: &Token, bytes: usize, outputs: u16) -> Option<Token> {
        let index = self.index(token)?;
        let slot = self.slots.get_mut(index)?;
        if matches!(slot.state, SlotState::Waiting | SlotState::Done) {
            return None;
        }
        self.held_bytes = self.held_bytes - slot.bytes + bytes;
        (slot.bytes, slot.outputs, slot.hold) = (bytes, outputs.max(1), self.limits.hold);
        slot.state = SlotState::out(slot.outputs);
        if slot.hold == Hold::UntilWritten
            && let Some(lane) = self.lanes.get_mut(slot.lane as usize)
        {
            lane.settle(token.sequence);
            self.any_moved |= lane.moved;
        }
        Some(Token { epoch: self.epoch, attempt: token.attempt, part: 0, sequence: token.sequence })
    }

    fn take(&mut self, lane: usize, position: i64, bytes: usize, outputs: u16, item: T, hold: Hold) -> Token {
        let sequence = self.base + self.slots.len() as u64;
        if self.lanes.len() <= lane {
            self.lanes.resize_with(lane + 1, Lane::default);
        }
        if let Some(entry) = self.lanes.get_mut(lane) {
            match hold {
                Hold::UntilAnswered => entry.enter(sequence, position),
                Hold::UntilWritten => {
                    // Behind an owed one the watermark waits.
                    entry.enter_settled(sequence, position);
                    self.any_moved |= entry.moved;
                }
            }
        }
        self.held += 1;
        self.held_bytes += bytes;
        let outputs = outputs.max(1);
        self.slots.push_back(Slot {
            item: Some(item),
            hold,
            lane: u32::try_from(lane).unwrap_or(u32::MAX),
            attempt: 0,
            outputs,
            bytes,
            state: SlotState::out(outputs),
        });
        Token { epoch: self.epoch, attempt: 0, part: 0, sequence }
    }

    /// The token of another output of the same event.
    pub fn output(&self, first: &Token, part: u16) -> Token {
        Token { epoch: first.epoch, attempt: first.attempt, part, sequence: first.sequence }
    }

    /// Outputs of the event that are not answered; 0 when the token is stale.
    #[must_use]
    pub fn left(&self, token: &Token) -> usize {
        match self.index(token).and_then(|index| self.slots.get(index)).map(|slot| &slot.state) {
            Some(SlotState::Out) => 1,
            Some(SlotState::OutPartly(answered, _)) => answered.iter().filter(|done| !**done).count(),
            _ => 0,
        }
    }

    /// The event that a token stands for; None when the token is stale.
    #[must_use]
    pub fn item(&self, token: &Token) -> Option<&T> {
        self.slots.get(self.index(token)?)?.item.as_ref()
    }

    /// The same, to be changed.
    #[must_use]
    pub fn item_mut(&mut self, token: &Token) -> Option<&mut T> {
        let index = self.index(token)?;
        self.slots.get_mut(index)?.item.as_mut()
    }

    /// The nacked events that wait to be given again, oldest first.
    pub fn waiting_items(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter(|slot| matches!(slot.state, SlotState::Waiting)).filter_map(|slot| slot.item.as_ref())
    }

    /// The events that are not settled, oldest first.
    pub fn unsettled_items(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter(|slot| !matches!(slot.state, SlotState::Done)).filter_map(|slot| slot.item.as_ref())
    }

    /// Answers one output.
    pub fn answer(&mut self, token: Token, answer: Answer, now: Instant) -> Answered<T> {
        let Some(index) = self.index(&token) else { return Answered::Stale };
        let Some(slot) = self.slots.get_mut(index) else { return Answered::Stale };
        let worst = match &mut slot.state {
            SlotState::Out => answer,
            SlotState::OutPartly(answered, worst) => {
                match answered.get_mut(usize::from(token.part)) {
                    Some(done) if !*done => *done = true,
                    _ => return Answered::Stale,
                }
                *worst = (*worst).max(answer);
                if answered.iter().any(|done| !done) {
                    return Answered::Partly;
                }
                *worst
            }
            SlotState::Waiting | SlotState::Done => return Answered::Stale,
        };
        if worst == Answer::Nack && slot.hold == Hold::UntilAnswered {
            let due = now + self.limits.backoff.wait(slot.attempt, token.sequence ^ u64::from(self.epoch) << 32);
            slot.state = SlotState::Waiting;
            self.waiting.push(Reverse((due, token.sequence)));
            return Answered::Again;
        }
        slot.state = SlotState::Done;
        let item = slot.item.take();
        self.held -= 1;
        self.held_bytes -= slot.bytes;
        if slot.hold == Hold::UntilAnswered
            && let Some(lane) = self.lanes.get_mut(slot.lane as usize)
        {
            lane.settle(token.sequence);
            self.any_moved |= lane.moved;
        }
        while let Some(Slot { state: SlotState::Done, .. }) = self.slots.front() {
            self.slots.pop_front();
            self.base += 1;
        }
        if self.slots.is_empty() && self.slots.capacity() > KEEP {
            self.slots = VecDeque::new();
        }
        item.map_or(Answered::Stale, |item| Answered::Settled(item, worst))
    }

    /// The token of the oldest event that is out and of which `which` names an output: for clients that answer by id.
    pub fn claim(&self, mut which: impl FnMut(&T, u16) -> Option<u16>) -> Option<Token> {
        self.slots.iter().enumerate().find_map(|(at, slot)| {
            let part = match &slot.state {
                SlotState::Out => which(slot.item.as_ref()?, 1)?,
                SlotState::OutPartly(answered, _) => which(slot.item.as_ref()?, slot.outputs)
                    .filter(|part| answered.get(usize::from(*part)) == Some(&false))?,
                _ => return None,
            };
            Some(Token { epoch: self.epoch, attempt: slot.attempt, part, sequence: self.base + at as u64 })
        })
    }

    /// The next event whose back-off is over; call until None. It keeps the permit it has.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        while let Some(&Reverse((due, sequence))) = self.waiting.peek() {
            if due > now {
                return None;
            }
            self.waiting.pop();
            let Some(slot) = self.slots.get_mut(usize::try_from(sequence.wrapping_sub(self.base)).ok()?) else {
                continue;
            };
            if matches!(slot.state, SlotState::Waiting) {
                slot.attempt = slot.attempt.saturating_add(1);
                slot.state = SlotState::out(slot.outputs);
                let token = Token { epoch: self.epoch, attempt: slot.attempt, part: 0, sequence };
                return Some(Due { token, outputs: slot.outputs });
            }
        }
        None
    }

    /// When the next nacked event is to be given again.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse((due, _))| *due)
    }

    /// Nacked events that wait, each holding a permit.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The first position of a lane that is not settled; None before the first one is.
    #[must_use]
    pub fn watermark(&self, lane: usize) -> Option<i64> {
        self.lanes.get(lane).and_then(Lane::watermark)
    }

    /// The lanes whose watermark moved since the last call.
    pub fn moved(&mut self, mut tell: impl FnMut(usize, i64)) {
        if !std::mem::take(&mut self.any_moved) {
            return;
        }
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            if std::mem::take(&mut lane.moved)
                && let Some(position) = lane.watermark()
            {
                tell(at, position);
            }
        }
    }

    fn index(&self, token: &Token) -> Option<usize> {
        if token.epoch != self.epoch {
            return None;
        }
        let index = usize::try_from(token.sequence.checked_sub(self.base)?).ok()?;
        (self.slots.get(index)?.attempt == token.attempt).then_some(index)
    }
}

impl SlotState {
    fn out(outputs: u16) -> Self {
        if outputs == 1 { Self::Out } else { Self::OutPartly(vec![false; usize::from(outputs)].into(), Answer::Ack) }
    }
}

#[cfg(test)]
mod tests;
