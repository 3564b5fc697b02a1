//! Gauges that nobody keeps while events pass: counted over all sessions when metrics are asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;

use crate::event::now_ms;
use crate::observe::metrics::{Metrics, RouteMetrics};
use crate::routing::{Route, Table};
use crate::session::registry::Sessions;

#[derive(Default)]
struct Sums {
    unsettled: i64,
    without_permits: i64,
    blocked_by_nack: i64,
    parked: i64,
    oldest_ms: u64,
}

/// Sets them before each scrape.
pub(super) fn keep(metrics: &Metrics, sessions: Arc<Sessions>, table: Arc<ArcSwap<Table>>) {
    metrics.before_scrape(move || {
        // By route and endpoint: a resolver may lead sessions of one route to several.
        let mut sums: HashMap<(Arc<str>, Arc<str>), Sums> = HashMap::new();
        let key = |route: &Route| (route.name.clone(), route.endpoint.name.clone());
        for session in sessions.all() {
            let stats = &session.stats;
            if let Some(route) = &session.downstream {
                let sum = sums.entry(key(route)).or_default();
                let stuck = i64::from(stats.free.load(Ordering::Relaxed) == 0);
                sum.unsettled += i64::from(stats.held.load(Ordering::Relaxed));
                sum.without_permits += stuck;
                sum.blocked_by_nack += stuck.min(i64::from(stats.waiting.load(Ordering::Relaxed)));
                let oldest = stats.oldest_ms.load(Ordering::Relaxed);
                if oldest > 0 && (sum.oldest_ms == 0 || oldest < sum.oldest_ms) {
                    sum.oldest_ms = oldest;
                }
            }
            if let Some(route) = &session.upstream {
                let sum = sums.entry(key(route)).or_default();
                sum.unsettled += i64::from(stats.publishing.load(Ordering::Relaxed));
                sum.parked += i64::from(stats.parked.load(Ordering::Relaxed));
            }
        }
        let now = now_ms().max(0).unsigned_abs();
        for route in table.load().all().flat_map(Route::everywhere) {
            set(&route.metrics, sums.get(&key(&route)).unwrap_or(&Sums::default()), now);
        }
    });
}

fn set(metrics: &RouteMetrics, sums: &Sums, now: u64) {
    metrics.unsettled_events.set(sums.unsettled);
    metrics.sessions_without_permits.set(sums.without_permits);
    metrics.blocked_by_nack.set(sums.blocked_by_nack);
    metrics.parked_sessions.set(sums.parked);
    let age = if sums.oldest_ms == 0 { 0 } else { now.saturating_sub(sums.oldest_ms) };
    metrics.oldest_unsettled.set(age as f64 / 1000.0);
}
