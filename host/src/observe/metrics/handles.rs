//! What sessions, endpoints and listeners hold to count with: resolved once, plain atomics afterwards.
//!
//! Made by [`Metrics`](super::Metrics) only. What is counted by reason or status is resolved when it happens: these are
//! no events that pass, but ends and failures.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::Seconds;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RouteLabels {
    pub(super) route: Arc<str>,
    pub(super) entrypoint: Arc<str>,
    pub(super) endpoint: Arc<str>,
    pub(super) direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RouteReason {
    pub(super) route: Arc<str>,
    pub(super) entrypoint: Arc<str>,
    pub(super) endpoint: Arc<str>,
    pub(super) direction: &'static str,
    pub(super) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct EndpointLabels {
    pub(super) endpoint: Arc<str>,
    pub(super) kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ListenerLabels {
    pub(super) listener: Arc<str>,
    pub(super) kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ListenerReason {
    pub(super) listener: Arc<str>,
    pub(super) kind: &'static str,
    pub(super) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ListenerStatus {
    pub(super) listener: Arc<str>,
    pub(super) kind: &'static str,
    pub(super) status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PluginLabels {
    pub(super) plugin: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PluginReason {
    pub(super) plugin: Arc<str>,
    pub(super) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PluginCounter {
    pub(super) plugin: Arc<str>,
    pub(super) counter: Arc<str>,
}

/// The handles of one plugin, whatever its generation.
pub struct PluginMetrics {
    /// Files that could not serve.
    pub load_failures: Counter,
    /// Older generations that took over again.
    pub rollbacks: Counter,
    /// Lines over the limit.
    pub log_dropped: Counter,
    /// The generation that serves.
    pub generation: Gauge,
    /// 1 while it runs on I/O threads.
    pub inline: Gauge,
    /// 1 while its file cannot serve.
    pub broken: Gauge,
    /// Bytes of its instances.
    pub memory: Gauge,
    /// Of its calls.
    pub p99: Seconds,
    pub(super) calls: Counter,
    pub(super) faults: Family<PluginReason, Counter>,
    pub(super) counter: Family<PluginCounter, Counter>,
    pub(super) labels: PluginLabels,
}

impl PluginMetrics {
    /// Faults of a kind.
    #[must_use]
    pub fn faults(&self, reason: &'static str) -> Counter {
        let plugin = self.labels.plugin.clone();
        self.faults.get_or_create_owned(&PluginReason { plugin, reason })
    }

    /// One that the plugin declared.
    #[must_use]
    pub fn counter(&self, counter: &str) -> Counter {
        let plugin = self.labels.plugin.clone();
        self.counter.get_or_create_owned(&PluginCounter { plugin, counter: counter.into() })
    }

    /// Calls are counted elsewhere; this brings the total up to date, which only grows.
    pub fn set_calls(&self, total: u64) {
        self.calls.inner().fetch_max(total, std::sync::atomic::Ordering::Relaxed);
    }
}

/// The handles of one route in one direction. Clones and repeated resolving count the same.
pub struct RouteMetrics {
    /// Events that went through.
    pub events: Counter,
    /// Payload bytes of these.
    pub bytes: Counter,
    /// Events acked at the broker.
    pub acked: Counter,
    /// Events nacked or rejected.
    pub nacked: Counter,
    /// Events given to a client again.
    pub redelivered: Counter,
    /// Events put to the dead letters.
    pub dead_lettered: Counter,
    /// Events that a plugin dropped.
    pub plugin_dropped: Counter,
    /// Times that the position of a session was not in the log any more.
    pub gaps: Counter,
    /// Live sessions.
    pub sessions: Gauge,
    /// Sessions opened.
    pub sessions_opened: Counter,
    /// Sessions that wait for a nacked event.
    pub blocked_by_nack: Gauge,
    /// Sessions whose channel is full.
    pub sessions_without_permits: Gauge,
    /// Events out and not answered.
    pub unsettled_events: Gauge,
    /// Age of the oldest of these; set before each scrape ([`Metrics::before_scrape`]).
    pub oldest_unsettled: Seconds,
    /// Sessions whose socket is not read.
    pub parked_sessions: Gauge,
    pub(super) labels: RouteLabels,
    pub(super) publish_failed: Family<RouteReason, Counter>,
    pub(super) events_lost: Family<RouteReason, Counter>,
    pub(super) plugin_failed: Family<RouteReason, Counter>,
    pub(super) sessions_closed: Family<RouteReason, Counter>,
    pub(super) families: super::Route,
}

impl RouteMetrics {
    /// The same route on another endpoint.
    #[must_use]
    pub fn on(&self, endpoint: &str) -> Arc<Self> {
        self.families.handles(&RouteLabels { endpoint: endpoint.into(), ..self.labels.clone() })
    }

    /// Publishes that failed: `timed_out`, `refused`, `too_large`, `unavailable`, `address_not_found`.
    #[must_use]
    pub fn publish_failed(&self, reason: &'static str) -> Counter {
        self.publish_failed.get_or_create_owned(&self.reason(reason))
    }

    /// Events that did not pass the plugins: `plugin_fault`, `rejected`.
    #[must_use]
    pub fn plugin_failed(&self, reason: &'static str) -> Counter {
        self.plugin_failed.get_or_create_owned(&self.reason(reason))
    }

    /// Events lost after their acknowledgement: `publish_failed`, `rejected`, ...
    #[must_use]
    pub fn events_lost(&self, reason: &'static str) -> Counter {
        self.events_lost.get_or_create_owned(&self.reason(reason))
    }

    /// Sessions ended: `client_closed`, `gone`, `too_slow`, `drain`, `replaced`, `broker_lost`, ...
    #[must_use]
    pub fn sessions_closed(&self, reason: &'static str) -> Counter {
        self.sessions_closed.get_or_create_owned(&self.reason(reason))
    }

    fn reason(&self, reason: &'static str) -> RouteReason {
        let RouteLabels { route, entrypoint, endpoint, direction } = self.labels.clone();
        RouteReason { route, entrypoint, endpoint, direction, reason }
    }
}

/// The handles of one endpoint.
pub struct EndpointMetrics {
    /// 1 while the broker answers, else 0.
    pub up: Gauge,
    /// Times that it came up.
    pub connects: Counter,
    /// Times that it was lost.
    pub losses: Counter,
    /// Consumers that belong to one session.
    pub dedicated_consumers: Gauge,
}

/// The handles of one listener.
pub struct ListenerMetrics {
    /// Open connections.
    pub connections: Gauge,
    /// Connections accepted.
    pub accepted: Counter,
    pub(super) labels: ListenerLabels,
    pub(super) refused: Family<ListenerReason, Counter>,
    pub(super) requests: Family<ListenerStatus, Counter>,
}

impl ListenerMetrics {
    /// Connections and requests refused: the code of the error table, or `connection_limit`, `handshake_rate`, ...
    #[must_use]
    pub fn refused(&self, reason: &'static str) -> Counter {
        let ListenerLabels { listener, kind } = self.labels.clone();
        self.refused.get_or_create_owned(&ListenerReason { listener, kind, reason })
    }

    /// Requests answered with `status`. Keep the handle where requests are frequent.
    #[must_use]
    pub fn requests(&self, status: http::StatusCode) -> Counter {
        let ListenerLabels { listener, kind } = self.labels.clone();
        self.requests.get_or_create_owned(&ListenerStatus { listener, kind, status: status.as_u16() })
    }
}
