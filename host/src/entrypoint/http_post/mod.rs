//! `POST` any path: the body becomes an event. Each request is a session of its own, so the channel is the route's.

use std::sync::Arc;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::admit::Asking;
use super::given::event_id;
use super::refusal::refused;
use super::{Context, wants_method};
use crate::config::{Direction, Guarantee};
use crate::event::{Event, EventId, Origin, Properties, now_ms};
use crate::http::{Error, Response, error, request, upload};
use crate::pipeline::upstream::{self, once};
use crate::routing::Route;
use crate::session::socket::Socket;

/// What a client reads whose event was taken.
#[derive(Serialize)]
struct Answer<'a> {
    status: &'static str,
    id: &'a str,
}

/// Answers one request.
pub(super) async fn handle(
    context: Arc<Context>,
    socket: &Socket,
    request: Request<Incoming>,
) -> Result<Response, Error> {
    wants_method(&request, &Method::POST)?;
    if context.sessions.draining() {
        return Err(Error::draining("the engine is stopping: send it again, to another one"));
    }
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let route =
        context.route(Direction::Upstream, path, &head.headers, &head.uri).ok_or_else(|| context.no_route(path))?;
    let asking = Asking {
        protocol: "http_post",
        method: &head.method,
        path,
        uri: &head.uri,
        headers: &head.headers,
        peer: request::peer_address(&context.config, socket.peer(), &head.headers),
        subprotocol: "",
        named: request::client_id(&context.config, &head.headers, &head.uri)?,
    };
    let Some(leg) = context.admit(&asking, None, Some(route)).await?.up else { return Err(context.no_route(path)) };
    context.check_upstream(&leg)?;
    let route = leg.route.clone();
    let id = match request::header(&head.headers, "x-event-id") {
        Some(given) => event_id(given).map_err(Error::bad_request)?,
        None => EventId::new(),
    };
    let payload = upload::read(&context.config, body).await?;
    let text = |name: &str| request::header(&head.headers, name).map(str::to_owned);
    let (content_type, traceparent) = (text("content-type"), text("traceparent"));
    let properties = (content_type.is_some() || traceparent.is_some())
        .then(|| Box::new(Properties { content_type, traceparent, ..Properties::default() }));
    let mut headers = request::forwarded(&context.config, &head.headers);
    let name = id.to_string();
    headers.push(upstream::id_header(name.clone()));
    let event = Event {
        id,
        source: context.name.clone(),
        client_id: Some(leg.facts.client_id.clone()),
        payload: Some(payload.into()),
        key: None,
        headers,
        properties,
        attributes: None,
        origin: Origin::Client { protocol: "http_post" },
        timestamp_ms: now_ms(),
    };
    let slot = slot(&route).await?;
    let event = Arc::new(event);
    let guarantee = route.config.delivery_guarantee;
    if upstream::confirms(guarantee) {
        let published = match once::enter(leg, event).await {
            Ok(entered) => entered.publish().await,
            Err(refusal) => Err(refusal),
        };
        drop(slot);
        published.map_err(refused)?;
        return Ok(error::json(StatusCode::OK, &Answer { status: "published", id: &name }));
    }
    let answered = error::json(StatusCode::ACCEPTED, &Answer { status: "accepted", id: &name });
    // Answered now, published whatever becomes of the client: the task holds the slot, and the engine waits for it.
    if guarantee == Guarantee::None {
        context.tasks.spawn(async move {
            match once::enter(leg.clone(), event.clone()).await {
                Ok(entered) => entered.publish_answered().await,
                Err(refusal) => once::failed_answered(leg, event, &refusal).await,
            }
            drop(slot);
        });
    } else {
        let entered = once::enter(leg, event).await.map_err(refused)?;
        context.tasks.spawn(async move {
            entered.publish_answered().await;
            drop(slot);
        });
    }
    Ok(answered)
}

async fn slot(route: &Route) -> Result<OwnedSemaphorePermit, Error> {
    let free = route.in_flight.clone();
    if let Ok(slot) = free.clone().try_acquire_owned() {
        return Ok(slot);
    }
    match tokio::time::timeout(route.config.accept_timeout, free.acquire_owned()).await {
        Ok(Ok(slot)) => Ok(slot),
        _ => Err(Error::busy(format!(
            "route {:?} has max_in_flight ({}) events out and none was confirmed in {:?}",
            route.name, route.config.max_in_flight, route.config.accept_timeout
        ))),
    }
}
