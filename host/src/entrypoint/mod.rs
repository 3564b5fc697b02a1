//! Client-facing protocols, one folder each: `websocket`, `sse`, `http_post`, `http_get`.
//!
//! Here is what they share: from a request to its routes, its session and its subscription. They know no brokers.

pub mod acks;
mod admit;
mod given;
pub mod halves;
pub mod http_get;
pub mod http_post;
mod refusal;
pub mod sse;
pub mod v1;
pub mod websocket;

use std::sync::Arc;

use admit::Admitted;
use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use http::{HeaderMap, Method, Request, Uri};
use hyper::body::Incoming;
use tokio_util::task::TaskTracker;

use crate::config::{self, Direction, EntrypointKind, Guarantee, Receipt};
use crate::endpoint::position::ResumeToken;
use crate::endpoint::{State, Subscribe, SubscribeError, Subscription};
use crate::http::listener::{Connection, Handler};
use crate::http::{Error, Response, request};
use crate::observe::metrics::ListenerMetrics;
use crate::pipeline::Leg;
use crate::routing::{Asked, Route, Table};
use crate::session::registry::Sessions;
use crate::session::socket::Socket;
use crate::session::{Phase, Session, Start};

/// What the sessions of one entrypoint share.
pub struct Context {
    /// The entrypoint's name.
    pub name: Arc<str>,
    /// Its settings.
    pub config: config::Entrypoint,
    /// The routes of the engine.
    pub table: Arc<ArcSwap<Table>>,
    /// The sessions of the engine.
    pub sessions: Arc<Sessions>,
    /// Who may answer deliveries from other connections.
    pub halves: Arc<halves::Halves>,
    /// Of the listener.
    pub metrics: Arc<ListenerMetrics>,
    /// Everything that runs beside a request.
    pub tasks: TaskTracker,
}

impl Context {
    /// Answers the entrypoint's requests.
    #[must_use]
    pub fn handler(self: Arc<Self>) -> Handler {
        Arc::new(move |connection, request| self.clone().answer(connection, request).boxed())
    }

    async fn answer(self: Arc<Self>, connection: Connection, request: Request<Incoming>) -> Response {
        let origin = request.headers().get(http::header::ORIGIN).cloned();
        let mut response = match request::preflight(&self.config, request.method(), request.headers()) {
            Some(response) if request::check_origin(&self.config, request.headers()).is_ok() => response,
            _ => self.clone().dispatch(connection, request).await,
        };
        self.metrics.requests(response.status()).inc();
        request::finish(&self.config, origin, &mut response);
        response
    }

    async fn dispatch(self: Arc<Self>, connection: Connection, request: Request<Incoming>) -> Response {
        let refused = request::check_origin(&self.config, request.headers()).err();
        let refused = refused.or_else(|| {
            connection
                .over_limit
                .then(|| Error::client_limit(format!("max_connections of entrypoint {:?} is reached", self.name)))
        });
        let kind = self.config.kind;
        if let Some(error) = refused {
            return if kind == EntrypointKind::Sse { sse::refusal(&error) } else { error.response() };
        }
        let socket = connection.socket;
        let answered = match kind {
            EntrypointKind::Websocket => websocket::handle(self, socket, request).await,
            EntrypointKind::Sse => sse::handle(self, socket, request).await,
            EntrypointKind::HttpPost => http_post::handle(self, &socket, request).await,
            EntrypointKind::HttpGet => http_get::handle(self, &socket, request).await,
        };
        answered.unwrap_or_else(|error| error.response())
    }

    /// The route of a request in one direction.
    fn route(&self, direction: Direction, path: &str, headers: &HeaderMap, uri: &Uri) -> Option<Arc<Route>> {
        let header = |name: &str| request::header(headers, name);
        let query = |name: &str| request::query(uri, name);
        self.table.load().find(&self.name, direction, &Asked { path, header: &header, query: &query })
    }

    /// Why a request has no route.
    fn no_route(&self, path: &str) -> Error {
        if self.table.load().serves(&self.name) {
            Error::no_route(format!("no route of entrypoint {:?} matches {path:?}", self.name))
        } else {
            Error::no_routes(format!("entrypoint {:?} has no routes: add one to the configuration", self.name))
        }
    }

    /// Whether events can go out on a route now; asked before anything is promised to the client.
    fn check_upstream(&self, leg: &Leg) -> Result<(), Error> {
        let endpoint = &leg.route.endpoint;
        let (name, kind) = (&endpoint.name, endpoint.kind);
        if !endpoint.built_in {
            return Err(Error::not_built_in(format!(
                "endpoint {name:?} is of kind {kind:?}, which is not built into this engine"
            )));
        }
        if !endpoint.publishes && leg.address.is_none() {
            return Err(Error::address_not_found(format!(
                "endpoint {name:?} has no topic_out: it can only be read from"
            )));
        }
        if endpoint.status.state() == State::Down { Err(away(name)) } else { Ok(()) }
    }

    /// Makes a session known, until the guard goes.
    fn enter(self: &Arc<Self>, session: Arc<Session>) -> Result<Entered, Error> {
        if !self.sessions.enter(&session) {
            return Err(Error::draining("the engine is stopping: connect again, to another one"));
        }
        for route in session.routes() {
            route.metrics.sessions.inc();
            route.metrics.sessions_opened.inc();
        }
        Ok(Entered { context: self.clone(), session })
    }

    /// Opens what a session reads. `named`: its id is its own, so a durable position is, too.
    async fn subscribe(
        &self,
        session: &Arc<Session>,
        leg: &Leg,
        resume: Option<ResumeToken>,
        named: bool,
    ) -> Result<Box<dyn Subscription>, Error> {
        let route = &leg.route;
        let endpoint = &route.endpoint;
        if endpoint.status.state() == State::Down {
            return Err(away(&endpoint.name));
        }
        let durable = (route.config.durable && named).then(|| session.client_id.clone());
        if durable.is_some() {
            self.sessions.take_over(session).await;
        }
        let subscribe = Subscribe { address: leg.address.clone(), resume, durable, window: route.config.channel_size };
        let opened = endpoint.endpoint.subscribe(subscribe).await;
        if let Err(SubscribeError::Unavailable(why)) = &opened {
            // Broker addresses are for the log, not for clients.
            tracing::info!(endpoint = %endpoint.name, %why, "a session could not be opened");
            endpoint.status.suspect();
            return Err(away(&endpoint.name));
        }
        let subscription = opened.map_err(Error::from)?;
        session.set_phase(Phase::Live);
        Ok(subscription)
    }
}

/// A session in the registry; leaves it when dropped, whatever ended it.
pub struct Entered {
    context: Arc<Context>,
    /// The session.
    pub session: Arc<Session>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let session = &self.session;
        let why = session.leaving().map_or("client", crate::session::Leave::as_str);
        for route in session.routes() {
            route.metrics.sessions.dec();
            route.metrics.sessions_closed(why).inc();
        }
        session.mark_released();
        self.context.halves.remove(&session.id);
        self.context.sessions.exit(session);
    }
}

/// Why it is away stands in the log and on the admin page.
fn away(endpoint: &str) -> Error {
    Error::broker_unavailable(format!("the broker of endpoint {endpoint:?} is away; try again later"))
}

/// A session of this request.
fn new_session(context: &Context, admitted: &Admitted, socket: Option<Arc<Socket>>) -> Result<Arc<Session>, Error> {
    // A session has a direction at least.
    let facts = admitted.facts().cloned().ok_or_else(|| Error::no_route("no route of this entrypoint matches"))?;
    let route = |leg: &Option<Leg>| leg.as_ref().map(|leg| leg.route.clone());
    let address = |leg: &Option<Leg>| leg.as_ref().and_then(|leg| leg.address.clone());
    Ok(Session::new(Start {
        entrypoint: context.name.clone(),
        downstream: route(&admitted.down),
        upstream: route(&admitted.up),
        reads_at: address(&admitted.down),
        writes_to: address(&admitted.up),
        expires_at_ms: admitted.expires_at_ms,
        socket,
        facts,
    }))
}

/// Where the client asks to go on; the header beats the query, since an EventSource repeats its URL.
fn resume_of(headers: &HeaderMap, uri: &Uri) -> Result<Option<ResumeToken>, Error> {
    let given = request::header(headers, "last-event-id").map(str::to_owned);
    let Some(given) =
        given.filter(|id| !id.is_empty()).or_else(|| request::query(uri, "last_event_id")).filter(|id| !id.is_empty())
    else {
        return Ok(None);
    };
    // `<event id>~<token>` as SSE sends it back, a bare token, or an id without a token, which is ignored.
    match given.rsplit_once('~') {
        Some((_, token)) => ResumeToken::decode(token).map(Some).map_err(Error::bad_request),
        // What an EventSource sends back where events had no token.
        None => match ResumeToken::decode(&given) {
            Ok(token) => Ok(Some(token)),
            Err(_) if is_event_id(&given) => Ok(None),
            Err(words) => Err(Error::bad_request(words)),
        },
    }
}

/// A query key that takes one word, or is left out: another word must not silently mean the default.
fn chosen(uri: &Uri, key: &str, word: &str) -> Result<bool, Error> {
    match request::query(uri, key).as_deref() {
        None => Ok(false),
        Some(given) if given == word => Ok(true),
        Some(given) => {
            Err(Error::bad_request(format!("?{key}={given} is not known: leave it out, or give {key}={word}")))
        }
    }
}

/// `topic-partition-offset`.
fn is_event_id(given: &str) -> bool {
    let mut parts = given.rsplitn(3, '-');
    let number = |part: Option<&str>| part.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    number(parts.next()) && number(parts.next()) && parts.next().is_some()
}

/// Refuses a client that cannot give the receipt that the route wants.
fn check_receipt(route: &Route, can: Receipt, remedy: &str) -> Result<(), Error> {
    match route.config.receipt {
        Some(least) if route.config.delivery_guarantee == Guarantee::AtLeastOnce && can < least => {
            Err(Error::receipt_required(format!(
                "route {:?} takes no receipt below {}: {remedy}",
                route.name,
                least.name()
            )))
        }
        _ => Ok(()),
    }
}

fn wants_method(request: &Request<Incoming>, method: &Method) -> Result<(), Error> {
    if request.method() == method {
        Ok(())
    } else {
        Err(Error::method_not_allowed(format!("{} is wanted here, not {}", method, request.method())).allow(method))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::position::{Position, Scope};

    fn asked(header: Option<&str>, query: &str) -> Result<Option<ResumeToken>, Error> {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert("last-event-id", value.parse().expect("a header value"));
        }
        resume_of(&headers, &format!("/{query}").parse().expect("a path"))
    }

    fn token(offset: i64) -> String {
        let position = Position { topic: 0, partition: 0, offset };
        ResumeToken::encode(Scope { hash: 7, epoch: 0 }, [position].into_iter()).expect("one partition")
    }

    fn offset(asked: Result<Option<ResumeToken>, Error>) -> Option<i64> {
        asked.map_err(|error| error.message).expect("no refusal")?.find(0, 0)
    }

    #[test]
    fn a_token_comes_bare_or_behind_its_event_id_and_the_header_beats_the_query() {
        assert_eq!(offset(asked(None, &format!("?last_event_id={}", token(5)))), Some(5));
        assert_eq!(
            offset(asked(Some(&format!("t-0-4~{}", token(5))), &format!("?last_event_id={}", token(6)))),
            Some(5)
        );
    }

    #[test]
    fn an_empty_token_is_none() {
        assert_eq!(offset(asked(None, "")), None);
        assert_eq!(offset(asked(Some(""), "")), None);
        assert_eq!(offset(asked(None, "?last_event_id=")), None);
        assert_eq!(offset(asked(Some(""), &format!("?last_event_id={}", token(6)))), Some(6));
    }

    #[test]
    fn only_an_event_id_may_stand_without_a_token() {
        assert_eq!(offset(asked(Some("orders-eu-3-42"), "")), None);
        for damaged in ["garbage", "AAAA", "t-0-", "3-42", "x~garbage", "t-0-4~", &token(5)[..8]] {
            let refused = asked(Some(damaged), "").expect_err(damaged);
            assert_eq!((&*refused.code, refused.message.contains("resume token")), ("bad_request", true), "{damaged}");
        }
    }

    #[test]
    fn a_token_that_looks_like_an_event_id_is_a_token() {
        // Any that decodes will do: one in some ten thousand tokens ends like this.
        let whole = token(i64::MAX);
        let ends = (0..1_000_000).map(|n| format!("-{}-{}", n / 1000, n % 1000));
        let alike = ends.map(|end| format!("{}{end}", &whole[..whole.len() - end.len()]));
        let text = alike.into_iter().find(|text| ResumeToken::decode(text).is_ok()).expect("one of a million");
        assert!(is_event_id(&text));
        let given = asked(None, &format!("?last_event_id={text}")).map_err(|error| error.message);
        assert_eq!(given, ResumeToken::decode(&text).map(Some), "{text}");
    }

    #[test]
    fn a_choice_is_its_word_or_left_out() {
        let of = |query: &str| chosen(&format!("/{query}").parse().expect("a path"), "ack", "client");
        assert!(matches!((of(""), of("?ack=client")), (Ok(false), Ok(true))));
        for misspelt in ["?ack=clinet", "?ack=", "?ack=Client"] {
            assert_eq!(of(misspelt).expect_err(misspelt).code, "bad_request");
        }
    }
}
