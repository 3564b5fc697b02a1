//! The three answers, and the token that gives one.

/// What a receiver says of an event. The order is from best to worst: of several outputs of one event the worst counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// Done.
    Ack,
    /// Never give it again.
    Reject,
    /// Give it again. The worst, since it is the only one that still owes somebody the event.
    Nack,
}

/// The right to answer one output of one event, once. Consumed by value; what is left of it when the window has moved
/// on (answered by another way, given again, another window) is recognised as stale.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a token that is not answered holds a permit until its window is dropped"]
pub struct Token {
    pub(crate) epoch: u32,
    pub(crate) attempt: u16,
    pub(crate) part: u16,
    pub(crate) sequence: u64,
}

impl Token {
    /// Place in the order of delivery: a token that was given later has a greater sequence, but for a redelivery.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Which output of the event this is, from 0.
    #[must_use]
    pub fn part(&self) -> u16 {
        self.part
    }

    /// How often the event had been given before.
    #[must_use]
    pub fn redeliveries(&self) -> u16 {
        self.attempt
    }
}

/// What an answer did.
#[derive(Debug, PartialEq, Eq)]
pub enum Answered<T> {
    /// The last output was answered: the event is done, and this is the worst answer of all outputs (never a nack).
    Settled(T, Answer),
    /// Other outputs of the event are still out.
    Partly,
    /// The event will be given again when its back-off is over.
    Again,
    /// Nothing: the token was answered before, or belongs to an earlier attempt or another window.
    Stale,
}
