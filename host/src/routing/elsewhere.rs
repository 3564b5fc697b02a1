//! A route that a resolver leads to another endpoint than the configuration does: made once, shared by all sessions that
//! are led there.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{EndpointHandle, Route};
use crate::config::Direction;

/// What a route knows of its likes on other endpoints.
#[derive(Default)]
pub struct Elsewhere {
    /// The one that the table holds; dangling in that one itself.
    base: Weak<Route>,
    /// One an endpoint, in the base only.
    made: Mutex<Vec<Arc<Route>>>,
}

impl Route {
    /// The same route on another endpoint; itself where that is its own.
    #[must_use]
    pub fn on(self: &Arc<Self>, endpoint: &Arc<EndpointHandle>) -> Arc<Self> {
        let base = self.base();
        if Arc::ptr_eq(&base.endpoint, endpoint) {
            return base;
        }
        let mut made = base.elsewhere.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = made.iter().find(|route| Arc::ptr_eq(&route.endpoint, endpoint)) {
            return there.clone();
        }
        let there = Arc::new(Self {
            name: base.name.clone(),
            config: base.config.clone(),
            entrypoint: base.entrypoint.clone(),
            endpoint: endpoint.clone(),
            metrics: base.metrics.on(&endpoint.name),
            packets: base.packets.clone(),
            in_flight: base.in_flight.clone(),
            chain: base.chain.clone(),
            elsewhere: Elsewhere { base: Arc::downgrade(&base), made: Mutex::default() },
        });
        // An endpoint of that name that a reload replaced is not led to any more.
        made.retain(|route| route.endpoint.name != endpoint.name);
        made.push(there.clone());
        there
    }

    /// The route that the table holds (or held, before it was replaced).
    #[must_use]
    pub fn base(self: &Arc<Self>) -> Arc<Self> {
        self.elsewhere.base.upgrade().unwrap_or_else(|| self.clone())
    }

    /// It and its likes on other endpoints, as far as there are any.
    #[must_use]
    pub fn everywhere(self: &Arc<Self>) -> Vec<Arc<Self>> {
        let made = self.elsewhere.made.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(self).chain(made.iter()).cloned().collect()
    }

    /// Whether it can keep what its configuration promises on its endpoint: checked at start for the configured one, here
    /// for one that a resolver chose.
    ///
    /// # Errors
    /// What it cannot keep, in words.
    pub fn can_keep(&self) -> Result<(), String> {
        let (route, endpoint, kind) = (&self.name, &self.endpoint.name, self.endpoint.kind);
        if self.config.direction == Direction::Downstream && self.config.durable && !has_log(kind) {
            return Err(format!(
                "route {route:?} is durable, and endpoint {endpoint:?} ({kind}) keeps no log to go on from"
            ));
        }
        if self.config.channel_size > max_channel(kind) {
            return Err(format!(
                "channel_size of route {route:?} is more than endpoint {endpoint:?} ({kind}) can express: {} at most",
                max_channel(kind)
            ));
        }
        Ok(())
    }
}

fn has_log(kind: &str) -> bool {
    matches!(kind, "kafka" | "memory")
}

/// As the configuration's check has it.
fn max_channel(kind: &str) -> usize {
    if kind == "solace" { 255 } else { 65535 }
}
