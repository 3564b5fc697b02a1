//! What a guest says to the world outside: log lines and counters, both capped.
//!
//! A plugin has one [`Voice`] for all its generations; which counters it may use comes with each generation.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use tracing::Level;

use crate::observe::metrics::PluginMetrics;

/// Bytes of a log line; the rest is cut.
pub(super) const LINE: usize = 4096;
/// Lines a second, and at once.
const LINES: f64 = 100.0;
/// Counters of one plugin.
const COUNTERS: usize = 32;

/// See the module's documentation.
pub(super) struct Voice {
    pub(super) plugin: Arc<str>,
    pub(super) metrics: Arc<PluginMetrics>,
    pub(super) dropped: AtomicU64,
    bucket: Mutex<(f64, Instant)>,
}

impl Voice {
    pub(super) fn new(plugin: Arc<str>, metrics: Arc<PluginMetrics>) -> Self {
        Self { plugin, metrics, dropped: AtomicU64::new(0), bucket: Mutex::new((LINES, Instant::now())) }
    }

    /// Whether one more line may be written now; counts it as dropped if not.
    pub(super) fn may_speak(&self) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, at) = *bucket;
        let now = Instant::now();
        let left = (left + now.duration_since(at).as_secs_f64() * LINES).min(LINES);
        let may = left >= 1.0;
        *bucket = (if may { left - 1.0 } else { left }, now);
        drop(bucket);
        if !may {
            self.dropped.fetch_add(1, Relaxed);
            self.metrics.log_dropped.inc();
        }
        may
    }

    /// Writes a line that [`may_speak`](Self::may_speak) allowed.
    pub(super) fn say(&self, level: Level, text: &str) {
        let text = cut(text, LINE);
        let plugin = &*self.plugin;
        match level {
            Level::ERROR => tracing::error!(target: "plugin", plugin, "{text}"),
            Level::WARN => tracing::warn!(target: "plugin", plugin, "{text}"),
            Level::INFO => tracing::info!(target: "plugin", plugin, "{text}"),
            Level::DEBUG => tracing::debug!(target: "plugin", plugin, "{text}"),
            Level::TRACE => tracing::trace!(target: "plugin", plugin, "{text}"),
        }
    }

    /// Whether lines of that level are kept.
    pub(super) fn hears(level: Level) -> bool {
        match level {
            Level::ERROR => tracing::enabled!(target: "plugin", Level::ERROR),
            Level::WARN => tracing::enabled!(target: "plugin", Level::WARN),
            Level::INFO => tracing::enabled!(target: "plugin", Level::INFO),
            Level::DEBUG => tracing::enabled!(target: "plugin", Level::DEBUG),
            Level::TRACE => tracing::enabled!(target: "plugin", Level::TRACE),
        }
    }

    /// The engine's own word about what the guest did, within the same limits.
    pub(super) fn warn(&self, text: &str) {
        if self.may_speak() {
            self.say(Level::WARN, text);
        }
    }
}

/// The counters that `describe` declared, ready to add to; what has no place is said once.
pub(super) fn counters(voice: &Voice, names: &[String]) -> Vec<(Box<str>, Counter)> {
    let fits = |name: &String| {
        let mut chars = name.chars();
        name.len() <= 64
            && chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && chars.all(|char| char.is_ascii_alphanumeric() || char == '_')
    };
    let mut good: Vec<(Box<str>, Counter)> = Vec::new();
    let mut bad = 0;
    for name in names {
        if good.iter().any(|(known, _)| **known == **name) {
            continue;
        }
        if good.len() < COUNTERS && fits(name) {
            good.push((name.as_str().into(), voice.metrics.counter(name)));
        } else {
            bad += 1;
        }
    }
    if bad > 0 {
        voice.warn(&format!(
            "{bad} of its counters are not kept: {COUNTERS} at most, named [A-Za-z_][A-Za-z0-9_]* in up to 64 characters"
        ));
    }
    good
}

/// At most `bytes` of a text, whole characters.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::Metrics;

    fn voice() -> Voice {
        Voice::new("p".into(), Metrics::new().plugin("p"))
    }

    #[test]
    fn a_flood_is_dropped_and_counted() {
        let voice = voice();
        let said = (0..5_000).filter(|_| voice.may_speak()).count();
        assert!((100..1_000).contains(&said), "{said}");
        assert_eq!(voice.dropped.load(Relaxed), 5_000 - said as u64);
        assert_eq!(cut("aé", 2), "a");
    }

    #[test]
    fn counters_have_names_that_metrics_can_have() {
        let names: Vec<String> = ["a", "a", "b_1", "9", "x y", "", "é"].map(str::to_owned).into();
        let kept = counters(&voice(), &names);
        assert_eq!(kept.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["a", "b_1"]);
        let many: Vec<String> = (0..99).map(|n| format!("c{n}")).collect();
        assert_eq!(counters(&voice(), &many).len(), COUNTERS);
    }
}
