//! `POST /ack`: answers to deliveries that come on another connection than the events went.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use mediation_delivery::Answer;
use serde::Deserialize;

use super::Context;
use super::http_get::Poller;
use crate::http::{Body, Error, Response, request};
use crate::pipeline::downstream::Downstream;
use crate::session::Session;
use crate::session::registry::Found;

/// Bodies up to this size come as they lie in hyper's read buffer (`max_buf_size` of the listener).
const READ_BUFFER: usize = 16 * 1024;

/// The downstream halves of sessions that other connections may answer or poll.
#[derive(Default)]
pub struct Halves(Mutex<HashMap<Arc<str>, Half>>);

enum Half {
    Streaming(Weak<Mutex<Downstream>>),
    Polled(Weak<Poller>),
}

impl Halves {
    fn all(&self) -> MutexGuard<'_, HashMap<Arc<str>, Half>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a stream's half reachable.
    pub fn insert(&self, session: &Session, half: &Arc<Mutex<Downstream>>) {
        self.all().insert(session.id.clone(), Half::Streaming(Arc::downgrade(half)));
    }

    /// Makes a polled session reachable.
    pub fn insert_poller(&self, session: &Session, poller: &Arc<Poller>) {
        self.all().insert(session.id.clone(), Half::Polled(Arc::downgrade(poller)));
    }

    /// Forgets it.
    pub fn remove(&self, session_id: &str) {
        self.all().remove(session_id);
    }

    /// The half of a session, while it lives.
    #[must_use]
    pub fn of(&self, session_id: &str) -> Option<Arc<Mutex<Downstream>>> {
        match self.all().get(session_id)? {
            Half::Streaming(half) => half.upgrade(),
            Half::Polled(poller) => poller.upgrade().map(|poller| poller.half.clone()),
        }
    }

    /// A polled session, while it lives.
    #[must_use]
    pub fn poller(&self, session_id: &str) -> Option<Arc<Poller>> {
        match self.all().get(session_id)? {
            Half::Polled(poller) => poller.upgrade(),
            Half::Streaming(_) => None,
        }
    }
}

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

/// Reads a body of at most `limit` bytes.
pub(super) async fn read_body(context: &Context, body: Incoming, limit: usize) -> Result<bytes::Bytes, Error> {
    let read = Limited::new(body, limit).collect();
    match tokio::time::timeout(context.config.body_timeout, read).await {
        Ok(Ok(collected)) => Ok(own(collected.to_bytes())),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Error::too_large(format!(
            "the body is larger than max_body of entrypoint {:?}, {limit} bytes",
            context.name
        ))),
        Ok(Err(error)) => Err(Error::bad_request(format!("the body could not be read: {error}"))),
        Err(_) => {
            Err(Error::request_timeout(format!("the body did not come within {:?}", context.config.body_timeout)))
        }
    }
}

/// A small body is part of hyper's read buffer, which an event on its way would keep: the next request would need a new
/// one. A large one was put together from pieces.
fn own(body: bytes::Bytes) -> bytes::Bytes {
    if body.len() <= READ_BUFFER { bytes::Bytes::copy_from_slice(&body) } else { body }
}

/// Answers `POST /ack`.
pub(super) async fn answer(context: &Context, request: Request<Incoming>) -> Result<Response, Error> {
    let (head, body) = request.into_parts();
    let session = named(context, &head.headers, &head.uri)?;
    let half = context.halves.of(&session.id).ok_or_else(|| Error::session_closed("the session has ended"))?;
    let body = read_body(context, body, context.config.max_body).await?;
    let acks: Acks = serde_json::from_slice(&body).map_err(|error| {
        Error::bad_request(format!("the body must be {{\"ids\":[]}} or {{\"nack\":[],\"requeue\":true}}: {error}"))
    })?;
    let mut half = half.lock().unwrap_or_else(PoisonError::into_inner);
    for id in &acks.ids {
        half.answer_id(event_id(id), Answer::Ack);
    }
    let nack = if acks.requeue { Answer::Nack } else { Answer::Reject };
    for id in &acks.nack {
        half.answer_id(event_id(id), nack);
    }
    drop(half);
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
