//! From configuration to one endpoint and to the route table: a plain `match` from kind to implementation. Starts nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, Config, Direction, EndpointKind};
use crate::endpoint::Endpoint;
use crate::endpoint::kafka::Kafka;
use crate::endpoint::memory::Memory;
use crate::endpoint::not_built_in::NotBuiltIn;
use crate::endpoint::supervisor::Status;
use crate::observe::metrics::Metrics;
use crate::observe::packet::PacketLog;
use crate::routing::{Elsewhere, EndpointHandle, Route, Table};

/// What a client library refuses of the endpoints' settings; opens nothing.
pub(super) fn verify(config: &Config) -> Result<(), Vec<String>> {
    let refused: Vec<String> = config
        .endpoints
        .iter()
        .filter_map(|one| match &one.kind {
            EndpointKind::Kafka(kafka) => Kafka::verify(&one.name, kafka).err(),
            EndpointKind::Memory(_) | EndpointKind::NotBuiltIn { .. } => None,
        })
        .collect();
    if refused.is_empty() { Ok(()) } else { Err(refused) }
}

/// One endpoint. `publish_timeout`: the longest of its routes.
pub(super) fn endpoint(
    one: &config::Endpoint,
    publish_timeout: Duration,
    metrics: &Metrics,
) -> Result<EndpointHandle, String> {
    let status = Status::new(&one.name);
    let (kind, built_in, endpoint): (_, _, Arc<dyn Endpoint>) = match &one.kind {
        EndpointKind::Memory(memory) => ("memory", true, Memory::new(&one.name, memory)),
        EndpointKind::Kafka(kafka) => {
            let made = Kafka::new(&one.name, kafka, status.clone(), publish_timeout)?;
            // A reload may let go of it.
            let (kafka, gauge) = (Arc::downgrade(&made), metrics.endpoint(&one.name, "kafka"));
            metrics.before_scrape(move || {
                if let Some(kafka) = kafka.upgrade() {
                    gauge.dedicated_consumers.set(i64::try_from(kafka.dedicated_consumers()).unwrap_or(i64::MAX));
                }
            });
            ("kafka", true, made)
        }
        EndpointKind::NotBuiltIn { kind, .. } => {
            let kind = ["rabbitmq", "mqtt5", "solace", "jms"].into_iter().find(|known| known == kind);
            let kind = kind.unwrap_or("unknown");
            (kind, false, NotBuiltIn::new(&one.name, kind))
        }
    };
    Ok(EndpointHandle {
        name: one.name.as_str().into(),
        kind,
        required: one.required,
        nudge: kind == "kafka",
        built_in,
        publishes: match &one.kind {
            EndpointKind::Memory(memory) => memory.topic_out.is_some(),
            EndpointKind::Kafka(kafka) => kafka.topic_out.is_some(),
            EndpointKind::NotBuiltIn { .. } => false,
        },
        allow_patterns: one.allow_patterns,
        endpoint,
        status,
    })
}

/// The route table. Bridges are for a later version: `check` says so. A route of `old` whose settings, entrypoint and
/// endpoint are the same goes on, with all that its sessions share; `same` says which entrypoints are.
pub(super) fn table(
    config: &Config,
    endpoints: &[Arc<EndpointHandle>],
    metrics: &Metrics,
    log: &PacketLog,
    old: &Table,
    same: &dyn Fn(&str) -> bool,
) -> Table {
    let by_name: HashMap<&str, &Arc<EndpointHandle>> = endpoints.iter().map(|one| (&*one.name, one)).collect();
    let routes = config.routes.iter().filter(|route| !route.bridge).filter_map(|route| {
        let (entrypoint, endpoint) = match route.direction {
            Direction::Upstream => (&route.source, &route.target),
            Direction::Downstream => (&route.target, &route.source),
        };
        let endpoint = (*by_name.get(endpoint.as_str())?).clone();
        let packets = route.packet_log.as_ref().unwrap_or(&config.packet_log);
        let known = old.all().find(|known| {
            *known.name == *route.name
                && Arc::ptr_eq(&known.endpoint, &endpoint)
                && without_chain(&known.config) == without_chain(route)
                && same(entrypoint)
        });
        if let Some(known) = known {
            known.packets.set(packets.enabled, packets.sample);
            return Some(known.clone());
        }
        Some(Arc::new(Route {
            name: route.name.as_str().into(),
            entrypoint: entrypoint.as_str().into(),
            metrics: metrics.route(&route.name, entrypoint, &endpoint.name, route.direction),
            packets: log.sampled(packets.enabled, packets.sample),
            chain: Arc::default(),
            elsewhere: Elsewhere::default(),
            in_flight: Arc::new(tokio::sync::Semaphore::new(route.max_in_flight)),
            endpoint,
            config: route.clone(),
        }))
    });
    Table::new(routes, endpoints)
}

/// What sessions have to leave for: chains and packet logs change in place.
fn without_chain(route: &config::Route) -> config::Route {
    config::Route { resolver: None, plugins: Vec::new(), packet_log: None, ..route.clone() }
}
