//! Counters and gauges, and their text form for `/metrics`.
//!
//! Handles are resolved once for a route, endpoint or listener and then are plain atomics: nothing is looked up while
//! events pass. Nothing is labelled by client or session, so the number of series is the configuration's.
//! docs/metrics.md lists every metric; a test compares it with what is rendered.

mod handles;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

use crate::config::Direction;
use handles::{
    EndpointLabels, ListenerLabels, ListenerReason, ListenerStatus, PluginCounter, PluginLabels, PluginReason,
    RouteLabels, RouteReason,
};

pub use handles::{EndpointMetrics, ListenerMetrics, PluginMetrics, RouteMetrics};

/// The content type of [`Metrics::render`].
pub use prometheus_text::CONTENT_TYPE;

/// A gauge of seconds.
pub type Seconds = Gauge<f64, AtomicU64>;

type Callback = Box<dyn Fn() + Send + Sync>;

/// All metrics of the process.
pub struct Metrics {
    registry: Mutex<Registry>,
    before: Mutex<Vec<Callback>>,
    route: Route,
    endpoint: Endpoint,
    listener: Listener,
    reloads: Family<ReloadResult, Counter>,
    plugin: Plugin,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadResult {
    result: &'static str,
}

/// Declares a struct of families that registers itself, so that a metric's name, help and handle stand in one place.
macro_rules! families {
    ($owner:ident { $($field:ident: $labels:ty => $metric:ty, $name:literal, $help:literal;)* }) => {
        #[derive(Default, Clone)]
        struct $owner { $($field: Family<$labels, $metric>,)* }
        impl $owner {
            fn register(&self, registry: &mut Registry) {
                $(registry.register($name, $help, self.$field.clone());)*
            }
        }
    };
}

families! { Route {
    events: RouteLabels => Counter, "events", "Events that went through the route";
    bytes: RouteLabels => Counter, "bytes", "Payload bytes that went through the route";
    acked: RouteLabels => Counter, "acked", "Events that the broker was told are done";
    nacked: RouteLabels => Counter, "nacked", "Events that were given back";
    redelivered: RouteLabels => Counter, "redelivered", "Events that were given to a client again";
    publish_failed: RouteReason => Counter, "publish_failed", "Publishes that were not confirmed";
    events_lost: RouteReason => Counter, "events_lost", "Events that failed after their acknowledgement";
    dead_lettered: RouteLabels => Counter, "dead_lettered", "Events that went to the dead letters";
    plugin_failed: RouteReason => Counter, "plugin_failed", "Events that did not pass the plugins, retries included";
    plugin_dropped: RouteLabels => Counter, "plugin_dropped", "Events that a plugin dropped";
    gaps: RouteLabels => Counter, "gaps", "Times that the position of a session was not in the log any more";
    sessions: RouteLabels => Gauge, "sessions", "Sessions that live";
    sessions_opened: RouteLabels => Counter, "sessions_opened", "Sessions that were opened";
    sessions_closed: RouteReason => Counter, "sessions_closed", "Sessions that ended";
    blocked_by_nack: RouteLabels => Gauge, "blocked_by_nack", "Sessions that wait for a nacked event to be given again";
    sessions_without_permits: RouteLabels => Gauge, "sessions_without_permits", "Sessions whose channel is full";
    unsettled_events: RouteLabels => Gauge, "unsettled_events", "Events that are out and not answered";
    oldest_unsettled: RouteLabels => Seconds, "oldest_unsettled_seconds", "Age of the oldest event that is not answered";
    parked_sessions: RouteLabels => Gauge, "parked_sessions", "Sessions whose socket is not read";
} }

families! { Endpoint {
    up: EndpointLabels => Gauge, "endpoint_up", "1 while the broker answers";
    connects: EndpointLabels => Counter, "endpoint_connects", "Times that the broker came up";
    losses: EndpointLabels => Counter, "endpoint_losses", "Times that the broker was lost";
    dedicated_consumers: EndpointLabels => Gauge, "endpoint_dedicated_consumers", "Consumers that belong to one session";
} }

families! { Listener {
    connections: ListenerLabels => Gauge, "listener_connections", "Connections that are open";
    accepted: ListenerLabels => Counter, "listener_accepted", "Connections that were accepted";
    refused: ListenerReason => Counter, "listener_refused", "Connections and requests that were refused";
    requests: ListenerStatus => Counter, "listener_requests", "Requests that were answered";
} }

families! { Plugin {
    calls: PluginLabels => Counter, "plugin_calls", "Calls of the plugin, all its generations together";
    faults: PluginReason => Counter, "plugin_faults", "Calls that brought no result by the plugin's fault";
    load_failures: PluginLabels => Counter, "plugin_load_failures", "Files of the plugin that could not serve";
    rollbacks: PluginLabels => Counter, "plugin_rollbacks", "Times that an older generation took over again";
    log_dropped: PluginLabels => Counter, "plugin_log_dropped", "Lines of the plugin that were over its limit";
    counter: PluginCounter => Counter, "plugin_counter", "What the plugin itself counts";
    generation: PluginLabels => Gauge, "plugin_generation", "The generation that serves; 0 for none";
    inline: PluginLabels => Gauge, "plugin_inline", "1 while the plugin runs on I/O threads";
    broken: PluginLabels => Gauge, "plugin_broken", "1 while the plugin's file cannot serve";
    memory: PluginLabels => Gauge, "plugin_memory_bytes", "Memory of all instances of the serving generation";
    p99: PluginLabels => Seconds, "plugin_p99_seconds", "99 of 100 calls of the serving generation took at most this";
} }

impl Metrics {
    /// The metrics of a process that starts now.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let (route, endpoint, listener) = (Route::default(), Endpoint::default(), Listener::default());
        let plugin = Plugin::default();
        let mut registry = Registry::with_prefix("mediation");
        route.register(&mut registry);
        endpoint.register(&mut registry);
        listener.register(&mut registry);
        plugin.register(&mut registry);
        let build = Family::<Build, Gauge>::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "The engine's version, as a label", build);
        let start = Seconds::default();
        start.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        registry.register("process_start_time_seconds", "When the engine started, in seconds since 1970", start);
        let reloads = Family::<ReloadResult, Counter>::default();
        registry.register("config_reloads", "Changed configuration files that were taken or refused", reloads.clone());
        let (registry, before) = (Mutex::new(registry), Mutex::default());
        Arc::new(Self { registry, before, route, endpoint, listener, plugin, reloads })
    }

    /// Shows what the packet log drops ([`super::packet::PacketLog::dropped`]). Once.
    pub fn show_packet_log(&self, dropped: Counter) {
        self.show("packet_log_dropped", "Lines of the packet log that were not written", dropped);
    }

    /// Shows what the engine's log drops ([`super::log::EngineLog::dropped`]). Once.
    pub fn show_engine_log(&self, dropped: Counter) {
        self.show("engine_log_dropped", "Lines of the engine's log that were not written", dropped);
    }

    /// Counts a changed configuration file: taken, or refused.
    pub fn config_reloaded(&self, taken: bool) {
        let result = if taken { "taken" } else { "refused" };
        self.reloads.get_or_create_owned(&ReloadResult { result }).inc();
    }

    fn show(&self, name: &str, help: &str, metric: impl Metric) {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).register(name, help, metric);
    }

    /// Called before each rendering: where gauges are set that nobody keeps while events pass (ages, counts of
    /// sessions in a state). It must not block.
    pub fn before_scrape(&self, callback: impl Fn() + Send + Sync + 'static) {
        self.before.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(callback));
    }

    /// The handles of a route: `entrypoint` is the client's side, `endpoint` the broker's.
    #[must_use]
    pub fn route(&self, name: &str, entrypoint: &str, endpoint: &str, direction: Direction) -> Arc<RouteMetrics> {
        let direction = match direction {
            Direction::Upstream => "upstream",
            Direction::Downstream => "downstream",
        };
        let of = &self.route;
        let labels =
            &RouteLabels { route: name.into(), entrypoint: entrypoint.into(), endpoint: endpoint.into(), direction };
        of.handles(labels)
    }
}

impl Route {
    fn handles(&self, labels: &RouteLabels) -> Arc<RouteMetrics> {
        let of = self;
        Arc::new(RouteMetrics {
            events: of.events.get_or_create_owned(labels),
            bytes: of.bytes.get_or_create_owned(labels),
            acked: of.acked.get_or_create_owned(labels),
            nacked: of.nacked.get_or_create_owned(labels),
            redelivered: of.redelivered.get_or_create_owned(labels),
            dead_lettered: of.dead_lettered.get_or_create_owned(labels),
            plugin_dropped: of.plugin_dropped.get_or_create_owned(labels),
            gaps: of.gaps.get_or_create_owned(labels),
            sessions: of.sessions.get_or_create_owned(labels),
            sessions_opened: of.sessions_opened.get_or_create_owned(labels),
            blocked_by_nack: of.blocked_by_nack.get_or_create_owned(labels),
            sessions_without_permits: of.sessions_without_permits.get_or_create_owned(labels),
            unsettled_events: of.unsettled_events.get_or_create_owned(labels),
            oldest_unsettled: of.oldest_unsettled.get_or_create_owned(labels),
            parked_sessions: of.parked_sessions.get_or_create_owned(labels),
            publish_failed: of.publish_failed.clone(),
            events_lost: of.events_lost.clone(),
            plugin_failed: of.plugin_failed.clone(),
            sessions_closed: of.sessions_closed.clone(),
            labels: labels.clone(),
            families: of.clone(),
        })
    }
}

impl Metrics {
    /// The handles of an endpoint; `kind` is its `type`.
    #[must_use]
    pub fn endpoint(&self, name: &str, kind: &'static str) -> Arc<EndpointMetrics> {
        let labels = &EndpointLabels { endpoint: name.into(), kind };
        Arc::new(EndpointMetrics {
            up: self.endpoint.up.get_or_create_owned(labels),
            connects: self.endpoint.connects.get_or_create_owned(labels),
            losses: self.endpoint.losses.get_or_create_owned(labels),
            dedicated_consumers: self.endpoint.dedicated_consumers.get_or_create_owned(labels),
        })
    }

    /// The handles of a listener; `kind` is the entrypoint's `type`, or `admin`.
    #[must_use]
    pub fn listener(&self, name: &str, kind: &'static str) -> Arc<ListenerMetrics> {
        let labels = ListenerLabels { listener: name.into(), kind };
        Arc::new(ListenerMetrics {
            connections: self.listener.connections.get_or_create_owned(&labels),
            accepted: self.listener.accepted.get_or_create_owned(&labels),
            refused: self.listener.refused.clone(),
            requests: self.listener.requests.clone(),
            labels,
        })
    }

    /// The handles of a plugin.
    #[must_use]
    pub fn plugin(&self, name: &str) -> Arc<PluginMetrics> {
        let labels = PluginLabels { plugin: name.into() };
        let of = &self.plugin;
        Arc::new(PluginMetrics {
            calls: of.calls.get_or_create_owned(&labels),
            load_failures: of.load_failures.get_or_create_owned(&labels),
            rollbacks: of.rollbacks.get_or_create_owned(&labels),
            log_dropped: of.log_dropped.get_or_create_owned(&labels),
            generation: of.generation.get_or_create_owned(&labels),
            inline: of.inline.get_or_create_owned(&labels),
            broken: of.broken.get_or_create_owned(&labels),
            memory: of.memory.get_or_create_owned(&labels),
            p99: of.p99.get_or_create_owned(&labels),
            faults: of.faults.clone(),
            counter: of.counter.clone(),
            labels,
        })
    }

    /// A plugin is gone: what is shown of its present goes too, its counters stay.
    pub fn forget_plugin(&self, name: &str) {
        let labels = PluginLabels { plugin: name.into() };
        let of = &self.plugin;
        for gauge in [&of.generation, &of.inline, &of.broken, &of.memory] {
            gauge.remove(&labels);
        }
        of.p99.remove(&labels);
    }

    /// All of them, in Prometheus' text format ([`CONTENT_TYPE`]).
    #[must_use]
    pub fn render(&self) -> String {
        for callback in self.before.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            callback();
        }
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let encoded = prometheus_text::encode(&mut text, &registry);
        debug_assert!(encoded.is_ok(), "a string takes everything");
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// One of everything.
    fn all() -> Arc<Metrics> {
        let metrics = Metrics::new();
        let route = metrics.route("prices", "ws-inbound", "kafka-main", Direction::Downstream);
        for counter in [
            route.publish_failed("refused"),
            route.events_lost("rejected"),
            route.plugin_failed("rejected"),
            route.sessions_closed("gone"),
        ] {
            counter.inc();
        }
        drop(metrics.endpoint("kafka-main", "kafka"));
        let listener = metrics.listener("ws-inbound", "websocket");
        listener.refused("no_route").inc();
        listener.requests(http::StatusCode::NOT_FOUND).inc();
        metrics.config_reloaded(true);
        let plugin = metrics.plugin("geo");
        plugin.faults("trap").inc();
        plugin.counter("hits").inc();
        metrics.show_packet_log(Counter::default());
        metrics.show_engine_log(Counter::default());
        metrics
    }

    /// name -> (type, labels)
    type Table = BTreeMap<String, (String, BTreeSet<String>)>;

    fn rendered(text: &str) -> Table {
        let mut table = Table::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                table.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                let labels = line.split_once('{').map_or("", |(_, rest)| rest.rsplit_once('}').unwrap().0);
                let names =
                    labels.split(',').filter(|l| !l.is_empty()).map(|l| l.split('=').next().unwrap().to_owned());
                table.get_mut(name).unwrap_or_else(|| panic!("{name} has no type")).1.extend(names);
            }
        }
        table
    }

    fn documented() -> Table {
        let rows = include_str!("../../../../docs/metrics.md").lines().filter(|line| line.starts_with("| `mediation_"));
        rows.map(|row| {
            let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
            assert_eq!(cells.len(), 4, "{row}");
            assert!(!cells[3].is_empty(), "no meaning: {row}");
            let labels = cells[2].split(',').map(|l| l.trim().trim_matches('`').to_owned()).filter(|l| !l.is_empty());
            (cells[0].trim_matches('`').to_owned(), (cells[1].to_owned(), labels.collect()))
        })
        .collect()
    }

    #[test]
    fn the_documents_list_exactly_what_is_rendered() {
        let text = all().render();
        let (rendered, documented) = (rendered(&text), documented());
        for (name, row) in &rendered {
            assert_eq!(documented.get(name), Some(row), "{name} in docs/metrics.md (left) and rendered (right)");
        }
        let unknown: Vec<_> = documented.keys().filter(|name| !rendered.contains_key(*name)).collect();
        assert!(unknown.is_empty(), "docs/metrics.md lists what is not rendered: {unknown:?}");
    }

    #[test]
    fn nothing_is_labelled_by_client_or_session() {
        for (name, (_, labels)) in rendered(&all().render()) {
            assert!(!labels.iter().any(|l| l.contains("client") || l.contains("session")), "{name}: {labels:?}");
        }
    }

    #[test]
    fn handles_of_one_route_count_together_and_directions_apart() {
        let metrics = Metrics::new();
        let down = || metrics.route("r", "ws", "k", Direction::Downstream);
        down().events.inc_by(2);
        down().events.inc();
        down().sessions_closed("gone").inc();
        metrics.route("r", "ws", "k", Direction::Upstream).events.inc();
        let text = metrics.render();
        let labels = |direction| format!("{{route=\"r\",entrypoint=\"ws\",endpoint=\"k\",direction=\"{direction}\"");
        for (name, labels, value) in [
            ("events_total", labels("downstream") + "}", 3),
            ("events_total", labels("upstream") + "}", 1),
            ("sessions_closed_total", labels("downstream") + ",reason=\"gone\"}", 1),
        ] {
            let line = format!("mediation_{name}{labels} {value}\n");
            assert!(text.contains(&line), "{line} in {text}");
        }
    }

    #[test]
    fn names_cannot_break_the_format() {
        let metrics = Metrics::new();
        metrics.route("a\"b\\c\nd", "ws", "k", Direction::Upstream).events.inc();
        let text = metrics.render();
        assert!(text.contains(r#"route="a\"b\\c\nd""#), "{text}");
    }

    #[test]
    fn what_is_computed_at_scrape_time_is_fresh_in_each() {
        let metrics = Metrics::new();
        let route = metrics.route("r", "ws", "k", Direction::Downstream);
        metrics.before_scrape(move || {
            route.oldest_unsettled.inc_by(1.5);
        });
        for age in ["1.5", "3.0"] {
            let text = metrics.render();
            let line = text.lines().find(|line| line.starts_with("mediation_oldest_unsettled_seconds{")).unwrap();
            assert!(line.ends_with(&format!(" {age}")), "{line}");
        }
    }
}
