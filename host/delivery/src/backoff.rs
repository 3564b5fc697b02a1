//! How long a nacked event waits before it is given again.

use std::time::Duration;

/// Exponential back-off with jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first nack.
    pub first: Duration,
    /// Never longer.
    pub max: Duration,
}

impl Backoff {
    /// The wait after so many earlier redeliveries: doubling from `first` to `max`, of which 75 to 100 % are taken.
    /// `seed` makes the jitter repeatable: this crate has no source of randomness.
    #[must_use]
    pub fn wait(&self, redeliveries: u16, seed: u64) -> Duration {
        let doubled = self.first.saturating_mul(1_u32 << redeliveries.min(16)).min(self.max.max(self.first));
        // splitmix64: one multiply-xor round spreads neighbouring seeds.
        let mixed = (seed ^ u64::from(redeliveries)).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let quarter = doubled / 4;
        doubled - quarter + quarter.mul_f64(f64::from((mixed >> 48) as u16) / 65536.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_the_maximum_and_jitters_below() {
        let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(30) };
        for (redeliveries, full) in [(0, 1), (1, 2), (4, 16), (5, 30), (60, 30)] {
            for seed in 0..100 {
                let wait = backoff.wait(redeliveries, seed);
                assert!(wait <= Duration::from_secs(full) && wait >= Duration::from_secs(full) * 3 / 4, "{wait:?}");
            }
        }
        assert_ne!(backoff.wait(0, 1), backoff.wait(0, 2));
    }
}
