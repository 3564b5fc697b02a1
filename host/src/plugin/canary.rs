//! A new generation that a share of the sessions gets first: who is in it, and what it is judged by.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::generation::Generation;
use crate::config;

/// See the module's documentation.
pub(super) struct Canary {
    pub(super) percent: u8,
    pub(super) until: Instant,
    begun: Instant,
}

/// How it stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its time is not over.
    Wait,
    /// It serves all.
    On,
    /// The old one serves all, and why.
    Back(String),
}

impl Canary {
    pub(super) fn begin(settings: &config::Canary) -> Self {
        let begun = Instant::now();
        Self { percent: settings.percent, until: begun + settings.duration, begun }
    }

    /// Whether a session is in its share.
    pub(super) fn has(&self, session: u64) -> bool {
        // Mixed, so that sessions with near numbers are not all in or all out.
        let mixed = (session ^ (session >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 31)) % 100 < u64::from(self.percent)
    }

    /// Faults are judged at once, times when the canary's time is over.
    pub(super) fn verdict(&self, new: &Generation, old: &Generation, now: Instant) -> Verdict {
        let of = |one: &Generation| Figures {
            calls: one.latency.count(),
            faults: one.faults.load(Relaxed),
            p99: one.latency.quantile(0.99),
        };
        let over = now.saturating_duration_since(self.begun) >= self.until.duration_since(self.begun);
        judge(of(new), of(old), over)
    }
}

#[derive(Clone, Copy)]
struct Figures {
    calls: u64,
    faults: u64,
    p99: Duration,
}

fn judge(new: Figures, old: Figures, over: bool) -> Verdict {
    let rate = |of: Figures| of.faults as f64 / of.calls.max(1) as f64;
    if new.faults >= 3 && rate(new) > rate(old) * 2.0 {
        return Verdict::Back(format!("canary: faults {:.4} a call, {:.4} before", rate(new), rate(old)));
    }
    if !over {
        return Verdict::Wait;
    }
    // A millisecond more is nothing that a session feels; less tells nothing on a busy machine.
    if new.p99 > old.p99 * 2 + Duration::from_millis(1) && old.calls > 0 {
        return Verdict::Back(format!("canary: p99 {:?}, {:?} before", new.p99, old.p99));
    }
    Verdict::On
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_is_judged_by_faults_at_once_and_by_time_at_its_end() {
        let figures = |calls, faults, micros| Figures { calls, faults, p99: Duration::from_micros(micros) };
        let good = figures(10_000, 1, 5);
        assert_eq!(judge(figures(100, 0, 9_000), good, false), Verdict::Wait);
        assert_eq!(judge(figures(100, 2, 5), good, false), Verdict::Wait);
        assert!(matches!(judge(figures(100, 3, 5), good, false), Verdict::Back(_)));
        assert!(matches!(judge(figures(100, 0, 9_000), good, true), Verdict::Back(_)));
        assert_eq!(judge(figures(100, 0, 900), good, true), Verdict::On);
        assert_eq!(judge(figures(0, 0, 0), good, true), Verdict::On);
    }

    #[test]
    fn the_share_is_about_what_was_asked_for() {
        let canary = Canary::begin(&config::Canary { percent: 5, duration: Duration::from_secs(1) });
        let share = (0..10_000).filter(|session| canary.has(*session)).count();
        assert!((350..650).contains(&share), "{share}");
    }
}
