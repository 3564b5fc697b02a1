//! The route table: which endpoint a client's path leads to, in each direction.
//!
//! Built from the configuration as a whole, immutable, replaced by one atomic pointer. Does not open anything.

mod elsewhere;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::{Value, json};

use crate::config::{self, Direction, Match};
use crate::endpoint::supervisor::Status;
use crate::endpoint::{Endpoint, address};
use crate::observe::metrics::RouteMetrics;
use crate::observe::packet::PacketLog;
use crate::plugin::chain::Chain;

pub use elsewhere::Elsewhere;

/// A configured broker connection with what is known of it.
pub struct EndpointHandle {
    /// Its name.
    pub name: Arc<str>,
    /// `kafka`, `memory`, ..
    pub kind: &'static str,
    /// `/readyz` waits for it.
    pub required: bool,
    /// Its sessions are to be polled once a second, whatever happens: its client library is known to lose wake-ups.
    pub nudge: bool,
    /// Known to the configuration only.
    pub built_in: bool,
    /// Whether its configuration names something to publish to.
    pub publishes: bool,
    /// Whether addresses that plugins name may be patterns.
    pub allow_patterns: bool,
    /// The connection.
    pub endpoint: Arc<dyn Endpoint>,
    /// Whether the broker is there.
    pub status: Arc<Status>,
}

impl EndpointHandle {
    /// Whether an address that a plugin names may be used here.
    ///
    /// # Errors
    /// What is wrong with it, and the remedy.
    pub fn literal(&self, address: &str) -> Result<(), String> {
        let checked = if self.allow_patterns { address::sound(address) } else { address::literal(address) };
        checked.map_err(|words| {
            let remedy = if self.allow_patterns { "" } else { "; allow_patterns: true on the endpoint takes patterns" };
            format!("endpoint {:?}: {words}{remedy}", self.name)
        })
    }
}

/// One route, as sessions hold it.
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    /// Its settings.
    pub config: config::Route,
    /// The entrypoint's side.
    pub entrypoint: Arc<str>,
    /// The broker's side.
    pub endpoint: Arc<EndpointHandle>,
    /// Resolved once.
    pub metrics: Arc<RouteMetrics>,
    /// The packet log, as this route wants it.
    pub packets: PacketLog,
    /// `http_post`: the slots of the route's channel.
    pub in_flight: Arc<tokio::sync::Semaphore>,
    /// The plugins between its ends; changes in place.
    pub chain: Arc<ArcSwap<Chain>>,
    /// Its likes on other endpoints.
    pub elsewhere: Elsewhere,
}

/// What a client's request offers to `match`.
pub struct Asked<'a> {
    /// The path, without the query.
    pub path: &'a str,
    /// One header's value by lower-case name.
    pub header: &'a dyn Fn(&str) -> Option<&'a str>,
    /// One query value by name.
    pub query: &'a dyn Fn(&str) -> Option<String>,
}

/// See the module's documentation.
#[derive(Default)]
pub struct Table {
    /// Of each (entrypoint, direction): the more specific first.
    routes: HashMap<(Arc<str>, Direction), Vec<Arc<Route>>>,
    endpoints: HashMap<Arc<str>, Arc<EndpointHandle>>,
}

impl Table {
    /// Orders the routes.
    #[must_use]
    pub fn new(routes: impl IntoIterator<Item = Arc<Route>>, endpoints: &[Arc<EndpointHandle>]) -> Self {
        let endpoints = endpoints.iter().map(|one| (one.name.clone(), one.clone())).collect();
        let mut table = Self { endpoints, ..Self::default() };
        for route in routes {
            table.routes.entry((route.entrypoint.clone(), route.config.direction)).or_default().push(route);
        }
        for list in table.routes.values_mut() {
            list.sort_by_key(|route| std::cmp::Reverse(rank(&route.config.matches)));
        }
        table
    }

    /// The route of a request.
    #[must_use]
    pub fn find(&self, entrypoint: &Arc<str>, direction: Direction, asked: &Asked<'_>) -> Option<Arc<Route>> {
        let list = self.routes.get(&(entrypoint.clone(), direction))?;
        list.iter().find(|route| matches(&route.config.matches, asked)).cloned()
    }

    /// An endpoint by name.
    #[must_use]
    pub fn endpoint(&self, name: &str) -> Option<&Arc<EndpointHandle>> {
        self.endpoints.get(name)
    }

    /// All endpoints, those without a route among them.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<EndpointHandle>> {
        self.endpoints.values()
    }

    /// Whether an entrypoint has any route at all.
    #[must_use]
    pub fn serves(&self, entrypoint: &Arc<str>) -> bool {
        [Direction::Upstream, Direction::Downstream].iter().any(|d| self.routes.contains_key(&(entrypoint.clone(), *d)))
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.values().flatten()
    }

    /// For the admin page.
    #[must_use]
    pub fn view(&self) -> Value {
        let mut list: Vec<&Arc<Route>> = self.all().collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        let list: Vec<Value> = list
            .into_iter()
            .map(|route| {
                json!({
                    "name": &*route.name,
                    "entrypoint": &*route.entrypoint,
                    "endpoint": &*route.endpoint.name,
                    "endpoint_state": route.endpoint.status.state().to_string(),
                    "direction": route.config.direction.name(),
                    "path": route.config.matches.path,
                    "delivery_guarantee": route.config.delivery_guarantee.name(),
                    "channel_size": route.config.channel_size,
                    "durable": route.config.durable,
                })
            })
            .collect();
        json!({ "routes": list })
    }
}

/// The longest prefix wins, then the one with more conditions.
fn rank(matches: &Match) -> (usize, usize) {
    (matches.path.as_ref().map_or(0, String::len), matches.header.len() + matches.query.len())
}

fn matches(matches: &Match, asked: &Asked<'_>) -> bool {
    let path = match matches.path.as_deref() {
        None => true,
        Some(pattern) => match pattern.strip_suffix('*') {
            Some(prefix) => {
                asked.path.starts_with(prefix)
                    || asked.path.strip_suffix('/').unwrap_or(asked.path) == prefix.trim_end_matches('/')
            }
            None => asked.path == pattern,
        },
    };
    path && matches.header.iter().all(|(name, value)| (asked.header)(name) == Some(value))
        && matches.query.iter().all(|(name, value)| (asked.query)(name).as_deref() == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(pattern: &Match, path: &str) -> bool {
        let header = |name: &str| (name == "x-channel").then_some("prices");
        matches(pattern, &Asked { path, header: &header, query: &|_| None })
    }

    #[test]
    fn prefixes_match_what_stands_below_them() {
        let orders = Match { path: Some("/orders/*".into()), ..Match::default() };
        assert!(asks(&orders, "/orders/7") && asks(&orders, "/orders/") && asks(&orders, "/orders"));
        assert!(!asks(&orders, "/order") && !asks(&orders, "/ordersx"));
        let exact = Match { path: Some("/a".into()), ..Match::default() };
        assert!(asks(&exact, "/a") && !asks(&exact, "/a/b"));
    }

    #[test]
    fn conditions_must_all_hold() {
        let with =
            |value: &str| Match { header: [("x-channel".to_owned(), value.to_owned())].into(), ..Match::default() };
        assert!(asks(&with("prices"), "/") && !asks(&with("news"), "/"));
    }

    #[test]
    fn the_longer_prefix_ranks_first() {
        let longer = Match { path: Some("/a/b/*".into()), ..Match::default() };
        let shorter =
            Match { path: Some("/a/*".into()), header: [("h".into(), "v".into())].into(), ..Match::default() };
        assert!(rank(&longer) > rank(&shorter));
    }
}
