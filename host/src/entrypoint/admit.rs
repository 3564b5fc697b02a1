//! Admission: who a client is, where each direction of its session leads, until when; decided by the plugins of its
//! routes before the client is answered.
//!
//! Every entrypoint calls [`Context::admit`]. A route without plugins costs nothing but the facts that later plugins may
//! ask for. Nothing is opened here.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use http::{HeaderMap, Method, Uri};

use super::Context;
use crate::config::OnError;
use crate::endpoint::Address;
use crate::event::{Event, EventId, Header, Origin, now_ms};
use crate::http::{Error, request};
use crate::pipeline::Leg;
use crate::plugin::chain::Chain;
use crate::plugin::{Admission, Called, Connect, Decision, Facts, Fault, Served, SessionEnriched, Target};
use crate::routing::Route;

/// What a client asks for.
pub(super) struct Asking<'a> {
    /// `websocket`, ..
    pub(super) protocol: &'static str,
    /// Of its request.
    pub(super) method: &'a Method,
    /// As routes match it.
    pub(super) path: &'a str,
    /// For the query.
    pub(super) uri: &'a Uri,
    /// All of them; they go no further.
    pub(super) headers: &'a HeaderMap,
    /// The client's address.
    pub(super) peer: String,
    /// Empty for none.
    pub(super) subprotocol: &'a str,
    /// The id that it gave itself, while that is trusted.
    pub(super) named: Option<Arc<str>>,
}

/// What it was granted.
pub(super) struct Admitted {
    /// What it reads.
    pub(super) down: Option<Leg>,
    /// What it writes.
    pub(super) up: Option<Leg>,
    /// Its id is its own, not made up: a durable position belongs to it.
    pub(super) named: bool,
    /// Milliseconds since the Unix epoch; 0: never.
    pub(super) expires_at_ms: u64,
}

impl Admitted {
    /// What plugins know of it, in either direction.
    pub(super) fn facts(&self) -> Option<&Arc<Facts>> {
        self.down.as_ref().or(self.up.as_ref()).map(|leg| &leg.facts)
    }
}

/// What is decided so far, for both directions of the session.
struct Granted {
    client_id: Arc<str>,
    named: bool,
    attributes: Vec<(Box<str>, Box<str>)>,
    expires_at_ms: Option<u64>,
}

impl Context {
    /// Asks the plugins of the routes whether the client may have a session, and where it leads: resolvers, then
    /// enrichers; downstream first.
    pub(super) async fn admit(
        &self,
        asking: &Asking<'_>,
        down: Option<Arc<Route>>,
        up: Option<Arc<Route>>,
    ) -> Result<Admitted, Error> {
        let client_id = asking.named.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string().into());
        // A client that comes again stays in its share of a canary.
        let mut hasher = DefaultHasher::new();
        client_id.hash(&mut hasher);
        let seed = hasher.finish();
        let mut granted =
            Granted { client_id, named: asking.named.is_some(), attributes: Vec::new(), expires_at_ms: None };
        let (mut reads, mut writes) = (None, None);
        if let Some(route) = &down {
            reads = self.ask(asking, route, seed, &mut granted).await?;
        }
        if let Some(route) = &up {
            writes = self.ask(asking, route, seed, &mut granted).await?;
        }
        if granted.expires_at_ms.is_some_and(|at| at <= now_ms().max(0).unsigned_abs()) {
            return Err(Error::denied("unauthorized", "what the client was admitted with has expired"));
        }
        let leg = |route: Arc<Route>, target: Option<Target>| {
            let (route, address) = self.lead(&route, target.as_ref())?;
            let facts = Arc::new(facts(asking, &route, &granted));
            let key = target.and_then(|target| target.key);
            Ok::<_, Error>(Leg { route, address, key, facts, seed, table: self.table.clone() })
        };
        Ok(Admitted {
            down: down.map(|route| leg(route, reads)).transpose()?,
            up: up.map(|route| leg(route, writes)).transpose()?,
            named: granted.named,
            expires_at_ms: granted.expires_at_ms.unwrap_or(0),
        })
    }

    /// Asks the plugins of one direction.
    async fn ask(
        &self,
        asking: &Asking<'_>,
        route: &Arc<Route>,
        seed: u64,
        granted: &mut Granted,
    ) -> Result<Option<Target>, Error> {
        let chain: Arc<Chain> = route.chain.load_full();
        if chain.resolvers.is_empty() && chain.steps.is_empty() {
            return Ok(None);
        }
        let event = Arc::new(connect_event(&self.name, asking, &granted.client_id));
        let mut target = None;
        for plugin in &chain.resolvers {
            let about = Arc::new(facts(asking, route, granted));
            match answer(plugin.pin(seed).connect(&event, &about)).await {
                Ok(Decision::Pass) => {}
                Ok(Decision::Accept(admission)) => {
                    granted.take(admission, &mut target).map_err(|words| self.bad_admission(plugin.name(), &words))?;
                }
                Ok(Decision::Reject(rejection)) => return Err(Error::denied(&rejection.code, &rejection.message)),
                // Who may come in is never left open.
                Err(fault) => return Err(self.unavailable(&fault)),
            }
        }
        for step in &chain.steps {
            let about = Arc::new(facts(asking, route, granted));
            match answer(step.plugin.pin(seed).enrich_session(&event, &about)).await {
                Ok(SessionEnriched::Pass) => {}
                Ok(SessionEnriched::Patch(patch)) => patch.into_iter().for_each(|(key, value)| granted.set(key, value)),
                Ok(SessionEnriched::Reject(rejection)) => {
                    return Err(Error::denied(&rejection.code, &rejection.message));
                }
                Err(fault) if step.on_error == OnError::Open => {
                    tracing::debug!(entrypoint = %self.name, %fault, "a client is admitted without a plugin");
                }
                Err(fault) => return Err(self.unavailable(&fault)),
            }
        }
        Ok(target)
    }

    /// The route on the endpoint that a resolver named, and the address there.
    fn lead(&self, route: &Arc<Route>, target: Option<&Target>) -> Result<(Arc<Route>, Option<Address>), Error> {
        let Some(target) = target else { return Ok((route.clone(), None)) };
        let table = self.table.load();
        let Some(endpoint) = table.endpoint(&target.endpoint) else {
            tracing::warn!(entrypoint = %self.name, route = %route.name, endpoint = %target.endpoint,
                "a resolver leads clients to an endpoint that is not configured");
            return Err(Error::target_not_found(format!("there is no endpoint {:?}", target.endpoint)));
        };
        if let Some(Err(words)) = target.address.as_deref().map(|address| endpoint.literal(address)) {
            tracing::warn!(entrypoint = %self.name, route = %route.name, "a resolver's address is refused: {words}");
            return Err(Error::bad_request(words));
        }
        let route = route.on(endpoint);
        if !endpoint.built_in {
            return Err(Error::not_built_in(format!(
                "endpoint {:?} is of kind {:?}, which is not built into this engine",
                endpoint.name, endpoint.kind
            )));
        }
        route.can_keep().map_err(|words| {
            tracing::warn!(entrypoint = %self.name, "{words}");
            Error::guarantee_unavailable(words)
        })?;
        Ok((route, target.address.clone()))
    }

    /// What exactly went wrong is for the log, not for clients.
    fn unavailable(&self, fault: &Fault) -> Error {
        tracing::warn!(entrypoint = %self.name, plugin = %fault.plugin, kind = %fault.kind, error = %fault.message,
            "a client was refused: a plugin that is asked about it failed");
        Error::plugin_unavailable(format!("plugin {:?}, which decides here, failed; try again later", fault.plugin))
    }

    fn bad_admission(&self, plugin: &str, words: &str) -> Error {
        tracing::error!(entrypoint = %self.name, plugin, "a client was refused: {words}");
        Error::bad_admission(format!("plugin {plugin:?}: {words}"))
    }
}

impl Granted {
    /// The later word counts; of times the earliest.
    fn take(&mut self, admission: Admission, target: &mut Option<Target>) -> Result<(), String> {
        if let Some(id) = admission.client_id {
            if !request::is_client_id(&id) {
                return Err(format!("it names the client {id:?}: {}", request::CLIENT_ID));
            }
            self.client_id = id.into();
            self.named = true;
        }
        if admission.target.is_some() {
            *target = admission.target;
        }
        for (key, value) in admission.attributes {
            self.set(key, Some(value));
        }
        self.expires_at_ms = match (self.expires_at_ms, admission.expires_at_ms) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Ok(())
    }

    fn set(&mut self, key: Box<str>, value: Option<Box<str>>) {
        self.attributes.retain(|(known, _)| *known != key);
        if let Some(value) = value {
            self.attributes.push((key, value));
        }
    }
}

async fn answer<T>(called: Called<T>) -> Result<T, Fault> {
    match called {
        Called::Ready(done) => done,
        Called::Later(done) => done.await,
    }
    .map(|Served { value, .. }| value)
}

fn facts(asking: &Asking<'_>, route: &Route, granted: &Granted) -> Facts {
    Facts {
        route: route.name.clone(),
        direction: route.config.direction,
        client_id: granted.client_id.clone(),
        attributes: granted.attributes.clone(),
        connect: Connect {
            method: asking.method.as_str().into(),
            path: asking.path.into(),
            query: asking.uri.query().unwrap_or("").into(),
            peer_address: asking.peer.as_str().into(),
            subprotocol: asking.subprotocol.into(),
        },
    }
}

/// What plugins are asked about at connect: all headers, no payload.
fn connect_event(entrypoint: &Arc<str>, asking: &Asking<'_>, client_id: &Arc<str>) -> Event {
    let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| Header {
        name: name.as_str().into(),
        value: Some(bytes::Bytes::copy_from_slice(value.as_bytes())),
    };
    Event {
        id: EventId::new(),
        source: entrypoint.clone(),
        client_id: Some(client_id.clone()),
        payload: None,
        key: None,
        headers: asking.headers.iter().map(header).collect(),
        properties: None,
        attributes: None,
        origin: Origin::Client { protocol: asking.protocol },
        timestamp_ms: now_ms(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted() -> Granted {
        Granted { client_id: "made-up".into(), named: false, attributes: Vec::new(), expires_at_ms: None }
    }

    fn to(endpoint: &str) -> Option<Target> {
        Some(Target { endpoint: endpoint.to_owned(), address: None, key: None })
    }

    #[test]
    fn later_words_win_attributes_merge_and_the_earliest_time_counts() {
        let (mut all, mut target) = (granted(), None);
        let first = Admission {
            target: to("a"),
            client_id: Some("one".into()),
            attributes: vec![("tenant".into(), "x".into()), ("role".into(), "r".into())],
            expires_at_ms: Some(200),
        };
        all.take(first, &mut target).expect("it makes sense");
        let second = Admission {
            target: to("b"),
            attributes: vec![("tenant".into(), "y".into())],
            expires_at_ms: Some(300),
            ..Admission::default()
        };
        all.take(second, &mut target).expect("it makes sense");
        assert_eq!((&*all.client_id, all.named, all.expires_at_ms), ("one", true, Some(200)));
        assert_eq!(target, to("b"));
        all.take(Admission::default(), &mut target).expect("nothing is said");
        assert_eq!(target, to("b"));
        all.set("role".into(), None);
        assert_eq!(all.attributes, [("tenant".into(), "y".into())]);
    }

    #[test]
    fn a_client_id_that_is_none_is_refused() {
        for id in ["", "a b", "\u{e4}", &"x".repeat(129)] {
            let (mut all, admission) = (granted(), Admission { client_id: Some(id.into()), ..Admission::default() });
            let words = all.take(admission, &mut None).expect_err(id);
            assert!(words.contains("1 to 128"), "{words}");
            assert!(!all.named);
        }
    }
}
