//! Long polling. The last part of the path is the operation, what stands before it is the path that routes match.
//!
//! Known limits: an event without bytes (null or empty) counts as written when its response is handed to the connection.

mod poll;

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use super::admit::{Admitted, Asking};
use super::halves::Poller;
use super::{Context, Entered, acks, check_receipt, chosen, new_session, resume_of, wants_method};
use crate::config::{Direction, Receipt};
use crate::endpoint::State;
use crate::http::{Error, Response, error, request};
use crate::pipeline::downstream::{Downstream, Resume};
use crate::routing::Route;
use crate::session::FLUSH;
use crate::session::socket::{Peer, Socket};
use crate::session::{Leave, Phase, Session, signal};

/// Answers one request.
pub(super) async fn handle(
    context: Arc<Context>,
    socket: &Socket,
    request: Request<Incoming>,
) -> Result<Response, Error> {
    let path = request.uri().path();
    let (before, operation) = path.rsplit_once('/').unwrap_or(("", path));
    let before = if before.is_empty() { "/".to_owned() } else { before.to_owned() };
    match operation {
        "subscribe" => {
            wants_method(&request, &Method::POST)?;
            subscribe(context, socket.peer(), &before, request).await
        }
        "poll" => {
            wants_method(&request, &Method::GET)?;
            poll::answer(&context, &request).await
        }
        "ack" => {
            wants_method(&request, &Method::POST)?;
            acks::answer(&context, request).await
        }
        "unsubscribe" => {
            wants_method(&request, &Method::DELETE)?;
            let session = acks::named(&context, request.headers(), request.uri())?;
            session.leave(Leave::Idle);
            session.released().await;
            Ok(error::json(StatusCode::OK, &json!({ "status": "unsubscribed" })))
        }
        _ => Err(Error::no_route(format!(
            "{path:?} is no operation: POST .../subscribe, GET .../poll, POST .../ack, DELETE .../unsubscribe"
        ))),
    }
}

async fn subscribe(
    context: Arc<Context>,
    peer: Peer,
    path: &str,
    request: Request<Incoming>,
) -> Result<Response, Error> {
    let (headers, uri) = (request.headers(), request.uri());
    let route = context.route(Direction::Downstream, path, headers, uri).ok_or_else(|| context.no_route(path))?;
    let by_client = chosen(uri, "ack", "client")?;
    let can = if by_client { Receipt::Processed } else { Receipt::Written };
    check_receipt(&route, can, "subscribe with ?ack=client and answer by POST /ack")?;
    let named = request::client_id(&context.config, headers, uri)?;
    let resume = resume_of(headers, uri)?;
    let asking = Asking {
        protocol: "http_get",
        method: request.method(),
        path,
        uri,
        headers,
        peer: request::peer_address(&context.config, peer, headers),
        subprotocol: "",
        named,
    };
    let admitted = context.admit(&asking, Some(route), None).await?;
    let session = new_session(&context, &admitted, None)?;
    let Admitted { down: Some(leg), named, .. } = admitted else { return Err(context.no_route(path)) };
    let entered = context.enter(session.clone())?;
    let source = context.subscribe(&session, &leg, resume, named).await?;
    let route = leg.route.clone();
    let kind = if by_client { Resume::Acknowledged } else { Resume::Answered };
    let downstream = Downstream::new(session.clone(), leg, source, kind);
    let token = downstream.resume_token();
    let poller = Poller::new(downstream, by_client);
    context.halves.insert_poller(&session, &poller);
    let answer = json!({ "session_id": &*session.id, "client_id": &*session.client_id, "resume": token });
    let (idle, ack) = (context.config.idle_timeout, context.config.ack_timeout);
    context.tasks.spawn(keep(poller, entered, route, idle, ack));
    let mut response = error::json(StatusCode::CREATED, &answer);
    if let Ok(id) = http::HeaderValue::from_str(&session.id) {
        response.headers_mut().insert("x-session-id", id);
    }
    Ok(response)
}

/// Owns the session from its subscribe to its end: time-outs, the broker's loss, the engine's stop.
async fn keep(poller: Arc<Poller>, entered: Entered, route: Arc<Route>, idle: Duration, ack: Option<Duration>) {
    let session: Arc<Session> = entered.session.clone();
    std::future::poll_fn(|cx| {
        session.register(cx.waker());
        let signals = session.take_signals();
        if signals & signal::TICK != 0 {
            session.tick_after(Duration::ZERO);
            if poller.idle_for() >= idle {
                session.leave(Leave::Idle);
            }
            if let (Some(timeout), true) = (ack, poller.by_client) {
                poller.half.with(|half| half.expire(timeout));
            }
        }
        if signals & signal::BROKER != 0 {
            let down = route.endpoint.status.state() == State::Down;
            session.set_phase(if down { Phase::Held } else { Phase::Live });
        }
        // Permits, time and the broker matter to the poll that waits, too.
        poller.waker.wake();
        if session.leaving().is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    if session.leaving() == Some(Leave::Replaced) {
        let flushed =
            std::future::poll_fn(|cx| poller.half.with(|half| half.poll_flush(cx)).unwrap_or(Poll::Ready(Ok(()))));
        if !matches!(tokio::time::timeout(FLUSH, flushed).await, Ok(Ok(()))) {
            tracing::warn!(session_id = %session.id, "the last commit of a replaced session was not confirmed");
        }
    }
    // A poll that waits, and answers that are not written yet, hold the handle: the half is gone all the same.
    poller.half.close();
    poller.waker.wake();
    drop(entered);
}
