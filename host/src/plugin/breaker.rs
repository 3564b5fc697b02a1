//! Spares everybody a generation that fails again and again: five faults in ten seconds and it is not asked for a second,
//! then one call is its trial; each failed trial doubles the pause, up to a minute.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const FAULTS: usize = 5;
const WITHIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Breaker {
    open: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    faults: VecDeque<Instant>,
    pause: Duration,
    until: Option<Instant>,
    trial: bool,
}

impl Breaker {
    /// Whether a call may be made; who may, says afterwards how it went.
    ///
    /// # Errors
    /// For how long not.
    pub(super) fn allow(&self) -> Result<(), Duration> {
        if !self.is_open() {
            return Ok(());
        }
        let mut inner = self.inner();
        let left = inner.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        if left > Duration::ZERO || inner.trial {
            return Err(left);
        }
        inner.trial = true;
        Ok(())
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub(super) fn passed(&self) {
        if self.is_open() {
            let mut inner = self.inner();
            // Calls that began before it opened say nothing new.
            if inner.trial {
                *inner = Inner::default();
                self.open.store(false, Ordering::Release);
            }
        }
    }

    /// True when it opens by this fault.
    pub(super) fn failed(&self) -> bool {
        self.failed_at(Instant::now())
    }

    fn failed_at(&self, now: Instant) -> bool {
        let mut inner = self.inner();
        if self.is_open() {
            // Calls that began before it opened say nothing new.
            if inner.trial {
                inner.pause = (inner.pause * 2).min(PAUSE_MAX);
                inner.until = Some(now + inner.pause);
                inner.trial = false;
            }
            return false;
        }
        inner.faults.push_back(now);
        if inner.faults.len() > FAULTS {
            inner.faults.pop_front();
        }
        let full = inner.faults.len() == FAULTS;
        if !full || inner.faults.front().is_none_or(|first| now.duration_since(*first) > WITHIN) {
            return false;
        }
        (inner.pause, inner.until) = (PAUSE, Some(now + PAUSE));
        self.open.store(true, Ordering::Release);
        true
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_faults_in_ten_seconds_open_it_and_one_trial_closes_it() {
        let breaker = Breaker::default();
        let past = Instant::now() - Duration::from_secs(5);
        let slow: Vec<bool> = (0..8).map(|n| breaker.failed_at(past + Duration::from_secs(3 * n))).collect();
        assert!(!slow.contains(&true), "three seconds apart");
        let breaker = Breaker::default();
        assert!((0..4).all(|_| !breaker.failed_at(past)) && breaker.allow().is_ok());
        assert!(breaker.failed_at(past), "the fifth");
        assert!(breaker.allow().is_ok(), "its second is over: the trial");
        assert!(breaker.allow().is_err(), "one trial at a time");
        breaker.failed();
        assert!(breaker.allow().is_err_and(|left| left > Duration::from_secs(1)), "two seconds now");
        breaker.inner().until = None;
        assert!(breaker.allow().is_ok());
        breaker.passed();
        assert!(breaker.allow().is_ok() && !breaker.is_open());
    }
}
