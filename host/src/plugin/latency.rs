//! How long calls took: 64 buckets, four per doubling, from 256 ns to 12 ms and beyond. Counts calls besides.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// See the module's documentation.
pub(super) struct Latency([AtomicU64; 64]);

impl Latency {
    pub(super) fn add(&self, took: Duration) {
        if let Some(bucket) = self.0.get(index(took)) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    /// Calls.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    /// The upper end of the bucket that holds the quantile; zero without calls.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        let mut left = (self.count() as f64 * share).ceil() as u64;
        for (index, bucket) in self.0.iter().enumerate() {
            let here = bucket.load(Relaxed);
            if here > 0 && here >= left {
                return upper(index);
            }
            left = left.saturating_sub(here);
        }
        Duration::ZERO
    }

    /// Forgets.
    pub(super) fn clear(&self) {
        self.0.iter().for_each(|bucket| bucket.store(0, Relaxed));
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; 64])
    }
}

/// Bucket 0 ends at 256 ns.
fn index(took: Duration) -> usize {
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(256);
    let log = nanos.ilog2();
    let quarter = (nanos >> (log - 2)) & 3;
    (((log - 8) as usize) * 4 + quarter as usize).min(63)
}

fn upper(index: usize) -> Duration {
    let (log, quarter) = (index / 4 + 8, index as u64 % 4);
    Duration::from_nanos((5 + quarter) << (log - 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_a_fifth_off_at_most() {
        let latency = Latency::default();
        assert_eq!(latency.quantile(0.99), Duration::ZERO);
        (0..990).for_each(|_| latency.add(Duration::from_micros(3)));
        (0..10).for_each(|_| latency.add(Duration::from_micros(700)));
        let near = |got: Duration, want: u64| got.as_nanos() as u64 >= want && got.as_nanos() as u64 <= want * 5 / 4;
        assert!(near(latency.quantile(0.5), 3_000), "{:?}", latency.quantile(0.5));
        assert!(near(latency.quantile(0.995), 700_000), "{:?}", latency.quantile(0.995));
        assert_eq!(latency.count(), 1000);
        latency.add(Duration::from_secs(3600));
        assert_eq!(index(Duration::ZERO), 0);
    }
}
