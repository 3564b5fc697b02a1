//! From what the plugins made of a client's event to publishes: which event goes to which endpoint and address.

use std::sync::Arc;

use super::Refusal;
use crate::endpoint::Address;
use crate::event::Event;
use crate::pipeline::Leg;
use crate::plugin::chain::{Outcome, Routed};
use crate::routing::EndpointHandle;

/// One publish.
pub(super) struct Part {
    pub(super) event: Arc<Event>,
    pub(super) endpoint: Arc<EndpointHandle>,
    /// None: the endpoint's own.
    pub(super) address: Option<Address>,
}

/// All publishes of one event: each output to each target, in order; none when it was dropped.
pub(super) fn of(leg: &Leg, outcome: Outcome) -> Result<Vec<Part>, Refusal> {
    let Outcome { events, targets } = outcome;
    let mut parts = Vec::with_capacity(events.len());
    let Some(targets) = targets else {
        for Routed { event, address } in events {
            let named = address.is_some();
            let address = address.or_else(|| leg.address.clone());
            // What was granted at connect has been looked at then.
            let checked = if named { literal(&leg.route.endpoint, address)? } else { address };
            parts.push(part(event, &leg.route.endpoint, checked, leg.key.as_ref())?);
        }
        return Ok(parts);
    };
    let table = leg.table.load();
    for Routed { event, address } in events {
        for target in &targets {
            let endpoint = table.endpoint(&target.endpoint).ok_or_else(|| Refusal::NoTarget {
                endpoint: target.endpoint.clone(),
                route: leg.route.name.clone(),
            })?;
            let address = literal(endpoint, address.clone().or_else(|| target.address.clone()))?;
            parts.push(part(event.clone(), endpoint, address, target.key.as_ref())?);
        }
    }
    Ok(parts)
}

fn literal(endpoint: &EndpointHandle, address: Option<Address>) -> Result<Option<Address>, Refusal> {
    address.map(|address| endpoint.literal(&address).map(|()| address)).transpose().map_err(Refusal::BadAddress)
}

fn part(
    event: Arc<Event>,
    endpoint: &Arc<EndpointHandle>,
    address: Option<Address>,
    key: Option<&bytes::Bytes>,
) -> Result<Part, Refusal> {
    if !endpoint.publishes && address.is_none() {
        let words = format!("endpoint {:?} has no topic_out: it can only be read from", endpoint.name);
        return Err(Refusal::Publish {
            error: crate::endpoint::PublishError::AddressNotFound(words),
            endpoint: endpoint.name.clone(),
            confirmed: Vec::new(),
        });
    }
    let event = match key {
        Some(key) if event.key.as_ref() != Some(key) => {
            let mut keyed = Event::clone(&event);
            keyed.key = Some(key.clone());
            Arc::new(keyed)
        }
        _ => event,
    };
    Ok(Part { event, endpoint: endpoint.clone(), address })
}
