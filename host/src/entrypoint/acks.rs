//! `POST /ack`: answers to deliveries that come on another connection than the events went.

use std::sync::Arc;

use http::{HeaderMap, Request, StatusCode, Uri};
use hyper::body::Incoming;
use mediation_delivery::Answer;
use serde::Deserialize;

use super::Context;
use crate::http::{Body, Error, Response, request, upload};
use crate::session::Session;
use crate::session::registry::Found;

/// `{"ids":[]}` and `{"nack":[],"requeue":true}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Acks {
    #[serde(default)]
    ids: Vec<String>,
    #[serde(default)]
    nack: Vec<String>,
    #[serde(default = "yes")]
    requeue: bool,
}

fn yes() -> bool {
    true
}

/// The session that a request names: by `X-Session-ID`, or while ids are trusted by `X-Client-ID`.
pub(super) fn named(context: &Context, headers: &HeaderMap, uri: &Uri) -> Result<Arc<Session>, Error> {
    let given =
        request::header(headers, "x-session-id").map(str::to_owned).or_else(|| request::query(uri, "session_id"));
    let found = match given {
        Some(id) => context.sessions.by_id(&id),
        None => match request::client_id(&context.config, headers, uri)? {
            Some(client) => context.sessions.by_client(&context.name, &client),
            None => {
                return Err(Error::bad_request("name the session: X-Session-ID, or X-Client-ID where ids are trusted"));
            }
        },
    };
    match found {
        Found::One(session) if session.entrypoint == context.name => Ok(session),
        Found::One(_) | Found::Unknown => Err(Error::unknown_session("no such session on this entrypoint")),
        Found::Several => Err(Error::conflict("several sessions have this client id: name the one by X-Session-ID")),
        Found::Closed => Err(Error::session_closed("the session has ended: open another one")),
    }
}

/// Answers `POST /ack`.
pub(super) async fn answer(context: &Context, request: Request<Incoming>) -> Result<Response, Error> {
    let (head, body) = request.into_parts();
    let session = named(context, &head.headers, &head.uri)?;
    let body = upload::read(&context.config, body).await?;
    let acks: Acks = serde_json::from_slice(&body).map_err(|error| {
        Error::bad_request(format!("the body must be {{\"ids\":[]}} or {{\"nack\":[],\"requeue\":true}}: {error}"))
    })?;
    let nack = if acks.requeue { Answer::Nack } else { Answer::Reject };
    // Looked up only now: the body may have taken its time, and the session may have been replaced meanwhile.
    let half = context.halves.of(&session.id);
    let answered = half.and_then(|half| {
        half.with(|half| {
            for id in &acks.ids {
                half.answer_id(event_id(id), Answer::Ack);
            }
            for id in &acks.nack {
                half.answer_id(event_id(id), nack);
            }
        })
    });
    answered.ok_or_else(|| Error::session_closed("the session has ended"))?;
    // Permits came back: the session may take more.
    session.notify(0);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// Event ids, or SSE's whole `id:` values.
fn event_id(given: &str) -> &str {
    given.split_once('~').map_or(given, |(id, _)| id)
}
