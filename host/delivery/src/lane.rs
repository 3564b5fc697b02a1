//! One ordered part of a window (a partition) and its watermark.

use std::collections::VecDeque;

/// Everything before `watermark` is settled; it follows the order of delivery, not `offset + 1`: logs have gaps.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// Slots that are not settled, or settled behind one that is not, with the position after each.
    open: VecDeque<(u64, i64, bool)>,
    watermark: Option<i64>,
    /// The watermark moved and nobody has been told yet.
    pub(crate) moved: bool,
}

impl Lane {
    pub(crate) fn enter(&mut self, sequence: u64, position: i64) {
        self.open.push_back((sequence, position, false));
    }

    /// Settled at once: the watermark follows the delivery, unless an earlier one is open.
    pub(crate) fn enter_settled(&mut self, sequence: u64, position: i64) {
        if self.open.is_empty() {
            self.pass(position);
        } else {
            self.open.push_back((sequence, position, true));
        }
    }

    fn pass(&mut self, position: i64) {
        self.watermark = Some(position);
        self.moved = true;
    }

    pub(crate) fn settle(&mut self, sequence: u64) {
        // Nearly always the front; else sequences are sorted.
        if let Ok(at) = self.open.binary_search_by_key(&sequence, |entry| entry.0)
            && let Some(entry) = self.open.get_mut(at)
        {
            entry.2 = true;
        }
        while let Some(&(_, position, true)) = self.open.front() {
            self.open.pop_front();
            self.pass(position);
        }
        if self.open.is_empty() && self.open.capacity() > 32 {
            self.open = VecDeque::new();
        }
    }

    pub(crate) fn watermark(&self) -> Option<i64> {
        self.watermark
    }
}
