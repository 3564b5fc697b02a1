//! From configuration to endpoints and the route table: a plain `match` from kind to implementation.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Direction, EndpointKind};
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

/// All endpoints, or all that cannot be made.
pub(super) fn endpoints(config: &Config, metrics: &Metrics) -> Result<Vec<Arc<EndpointHandle>>, Vec<String>> {
    let (mut made, mut failed) = (Vec::new(), Vec::new());
    for one in &config.endpoints {
        let status = Status::new(&one.name);
        let publish_timeout = config
            .routes
            .iter()
            .filter(|route| route.target == one.name)
            .map(|route| route.publish_timeout)
            .max()
            .unwrap_or(Duration::from_secs(30));
        let (kind, built_in, endpoint): (_, _, Result<Arc<dyn Endpoint>, String>) = match &one.kind {
            EndpointKind::Memory(memory) => ("memory", true, Ok(Memory::new(&one.name, memory))),
            EndpointKind::Kafka(kafka) => {
                let made = Kafka::new(&one.name, kafka, status.clone(), publish_timeout);
                if let Ok(made) = &made {
                    let (kafka, gauge) = (made.clone(), metrics.endpoint(&one.name, "kafka"));
                    metrics.before_scrape(move || {
                        gauge.dedicated_consumers.set(i64::try_from(kafka.dedicated_consumers()).unwrap_or(i64::MAX));
                    });
                }
                ("kafka", true, made.map(|made| made as Arc<dyn Endpoint>))
            }
            EndpointKind::NotBuiltIn { kind, .. } => {
                let kind = ["rabbitmq", "mqtt5", "solace", "jms"].into_iter().find(|known| known == kind);
                let kind = kind.unwrap_or("unknown");
                (kind, false, Ok(NotBuiltIn::new(&one.name, kind)))
            }
        };
        match endpoint {
            Ok(endpoint) => made.push(Arc::new(EndpointHandle {
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
            })),
            Err(error) => failed.push(error),
        }
    }
    if failed.is_empty() { Ok(made) } else { Err(failed) }
}

/// The route table. Bridges are for a later version: `check` says so.
pub(super) fn table(config: &Config, endpoints: &[Arc<EndpointHandle>], metrics: &Metrics, log: &PacketLog) -> Table {
    let packets = log.sampled(config.packet_log.enabled, config.packet_log.sample);
    let by_name: HashMap<&str, &Arc<EndpointHandle>> = endpoints.iter().map(|one| (&*one.name, one)).collect();
    let routes = config.routes.iter().filter(|route| !route.bridge).filter_map(|route| {
        let (entrypoint, endpoint) = match route.direction {
            Direction::Upstream => (&route.source, &route.target),
            Direction::Downstream => (&route.target, &route.source),
        };
        let endpoint = (*by_name.get(endpoint.as_str())?).clone();
        Some(Arc::new(Route {
            name: route.name.as_str().into(),
            entrypoint: entrypoint.as_str().into(),
            metrics: metrics.route(&route.name, entrypoint, &endpoint.name, route.direction),
            packets: route
                .packet_log
                .as_ref()
                .map_or_else(|| packets.clone(), |own| log.sampled(own.enabled, own.sample)),
            chain: Arc::default(),
            elsewhere: Elsewhere::default(),
            in_flight: Arc::new(tokio::sync::Semaphore::new(route.max_in_flight)),
            endpoint,
            config: route.clone(),
        }))
    });
    Table::new(routes, endpoints)
}
