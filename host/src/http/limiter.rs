//! A token bucket: how many connections a listener accepts a second.

use std::time::{Duration, Instant};

/// One second's worth may come at once.
pub struct Limiter {
    rate: f64,
    tokens: f64,
    at: Instant,
}

impl Limiter {
    /// So many a second.
    #[must_use]
    pub fn new(per_second: u32, now: Instant) -> Self {
        let rate = f64::from(per_second.max(1));
        Self { rate, tokens: rate, at: now }
    }

    /// Takes one, and says how long to wait before going on.
    pub fn take(&mut self, now: Instant) -> Duration {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + gained).min(self.rate) - 1.0;
        self.at = now;
        Duration::from_secs_f64((-self.tokens).max(0.0) / self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut limiter = Limiter::new(10, start);
        assert!((0..10).all(|_| limiter.take(start).is_zero()));
        assert_eq!(limiter.take(start), Duration::from_millis(100));
        assert!(limiter.take(start + Duration::from_secs(1)).is_zero());
    }
}
