//! Where a generation runs: on the plugin's own threads until a thousand calls showed that it is quick, then on the I/O
//! threads that ask, until it is slow twice in a hundred calls or faults once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::latency::Latency;

const CALLS: u64 = 1_000;
const QUICK: Duration = Duration::from_micros(200);
const SLOW_WITHIN: u64 = 100;

/// See the module's documentation.
pub(super) struct Pace {
    inline: AtomicBool,
    never: bool,
    window: Latency,
    seen: AtomicU64,
    slow_at: AtomicU64,
}

impl Pace {
    /// `never`: its deadline is too long for I/O threads.
    pub(super) fn new(never: bool) -> Self {
        Self { inline: AtomicBool::new(false), never, window: Latency::default(), seen: 0.into(), slow_at: 0.into() }
    }

    pub(super) fn is_inline(&self) -> bool {
        self.inline.load(Relaxed)
    }

    /// A call on the plugin's own threads. True when it goes inline by this.
    pub(super) fn own(&self, took: Duration) -> bool {
        if self.never {
            return false;
        }
        self.window.add(took);
        if self.seen.fetch_add(1, Relaxed) + 1 < CALLS {
            return false;
        }
        let quick = self.window.quantile(0.99) < QUICK;
        self.seen.store(0, Relaxed);
        self.window.clear();
        quick && !self.inline.swap(true, Relaxed)
    }

    /// Its call number `call` passed the soft deadline on an I/O thread. True when it leaves them by this.
    pub(super) fn slow(&self, call: u64) -> bool {
        let last = self.slow_at.swap(call, Relaxed);
        last > 0 && call.saturating_sub(last) <= SLOW_WITHIN && self.leave()
    }

    /// It faulted. True when it leaves the I/O threads by this.
    pub(super) fn leave(&self) -> bool {
        self.slow_at.store(0, Relaxed);
        self.inline.swap(false, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quick() -> Pace {
        let pace = Pace::new(false);
        let went: Vec<bool> = (0..CALLS).map(|_| pace.own(Duration::from_micros(5))).collect();
        assert!(went.last() == Some(&true) && went.iter().filter(|went| **went).count() == 1);
        pace
    }

    #[test]
    fn quick_plugins_go_inline_and_slow_ones_stay() {
        assert!(quick().is_inline());
        let slow = Pace::new(false);
        assert!((0..CALLS).all(|n| !slow.own(Duration::from_micros(if n % 50 == 0 { 900 } else { 5 }))));
        let never = Pace::new(true);
        assert!((0..CALLS).all(|_| !never.own(Duration::ZERO)) && !never.is_inline());
    }

    #[test]
    fn twice_slow_in_a_hundred_or_a_fault_sends_it_back() {
        let pace = quick();
        assert!(!pace.slow(1_100) && !pace.slow(1_300) && pace.is_inline());
        assert!(pace.slow(1_390) && !pace.is_inline());
        let pace = quick();
        assert!(pace.leave() && !pace.is_inline() && !pace.leave());
    }
}
