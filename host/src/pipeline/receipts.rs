//! Tokens that wait for one receipt after another, in the order of giving: written, or ponged.

use std::collections::VecDeque;

use mediation_delivery::Token;

/// A queue of tokens; gives its memory back when it runs empty.
#[derive(Debug, Default)]
pub struct Receipts(VecDeque<Token>);

impl Receipts {
    /// Waits behind the others.
    pub fn push(&mut self, token: Token) {
        self.0.push_back(token);
    }

    /// The oldest `count`.
    pub fn take(&mut self, count: usize) -> impl Iterator<Item = Token> + '_ {
        let count = count.min(self.0.len());
        self.0.drain(..count)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// None waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Called when a burst is over.
    pub fn shrink(&mut self) {
        if self.0.is_empty() && self.0.capacity() > 32 {
            self.0 = VecDeque::new();
        }
    }
}
