//! Server-Sent Events: `GET` any path. An EventSource gives up for ever on any status but 200, so what may pass is a 200
//! with a notice or a goaway.
//!
//! Known limits: with `?ack=client` and without, `written` and acks end at a proxy that ends the connection.

mod encode;
mod stream;

use std::sync::Arc;

use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;

use super::admit::{Admitted, Asking};
use super::{Context, acks, check_receipt, chosen, new_session, resume_of, wants_method};
use crate::config::{Direction, OnBrokerLoss, Receipt};
use crate::http::{Body, Chunk, Error, Response, request};
use crate::pipeline::downstream::{Downstream, Resume};
use crate::session::socket::Socket;
use stream::{Options, SseStream};

/// Answers one request.
pub(super) async fn handle(
    context: Arc<Context>,
    socket: Arc<Socket>,
    request: Request<Incoming>,
) -> Result<Response, Error> {
    if request.method() == Method::POST && request.uri().path().ends_with("/ack") {
        return acks::answer(&context, request).await;
    }
    wants_method(&request, &Method::GET)?;
    let (headers, uri) = (request.headers(), request.uri());
    let path = uri.path();
    let route = context.route(Direction::Downstream, path, headers, uri).ok_or_else(|| context.no_route(path))?;
    let by_client = chosen(uri, "ack", "client")?;
    let json = chosen(uri, "format", "json")?;
    let can = if by_client { Receipt::Processed } else { Receipt::Written };
    check_receipt(&route, can, "connect with ?ack=client and answer by POST /ack")?;
    let named = request::client_id(&context.config, headers, uri)?;
    let resume = resume_of(headers, uri)?;
    let asking = Asking {
        protocol: "sse",
        method: request.method(),
        path,
        uri,
        headers,
        peer: request::peer_address(&context.config, socket.peer(), headers),
        subprotocol: "",
        named,
    };
    let admitted = match context.admit(&asking, Some(route), None).await {
        Ok(admitted) => admitted,
        Err(error) if error.passes() => return Ok(refusal(&error)),
        Err(error) => return Err(error),
    };
    let session = new_session(&context, &admitted, Some(socket))?;
    let Admitted { down: Some(leg), named, .. } = admitted else { return Err(context.no_route(path)) };
    let entered = match context.enter(session.clone()) {
        Ok(entered) => entered,
        Err(error) => return Ok(refusal(&error)),
    };
    let options =
        Options { json, by_client, heartbeat: context.config.heartbeat, ack_timeout: context.config.ack_timeout };
    let kind = if by_client { Resume::Acknowledged } else { Resume::Given };
    let opened = match context.subscribe(&session, &leg, resume.clone(), named).await {
        Ok(source) => Ok(Downstream::new(session.clone(), leg.clone(), source, kind)),
        Err(error)
            if error.passes()
                && error.code != "client_limit"
                && leg.route.config.on_broker_loss == OnBrokerLoss::Hold =>
        {
            Err(stream::Waiting { resume, named, kind })
        }
        Err(error) if error.passes() => return Ok(refusal(&error)),
        Err(error) => return Err(error),
    };
    let stream = SseStream::new(context, entered, leg, options, opened);
    Ok(response(Body::Stream(Box::pin(stream))))
}

/// What an EventSource should come back for, as an answer that it understands.
pub(super) fn refusal(error: &Error) -> Response {
    if !error.passes() {
        return error.response();
    }
    let mut out = Vec::new();
    encode::retry(&mut out, rand::random_range(1_000..=30_000));
    encode::message(
        &mut out,
        Some("mediation.goaway"),
        None,
        &serde_json::json!({ "code": error.code, "message": error.message }).to_string(),
    );
    let mut refused = response(Body::Whole(Some(Chunk::plain(out.into()))));
    refused.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    refused
}

fn response(body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
