//! `GET .../poll`: waits for events and gives them, each answered for when the kernel took the response's last byte.
//! What a stream would get as a notice (`gap`) is header `X-Notice` of the next answer.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;

use crate::endpoint::State;
use crate::entrypoint::halves::Poller;
use crate::entrypoint::v1::{self, EventFrame};
use crate::entrypoint::{Context, acks};
use crate::event::{Payload, printable};
use crate::http::{Body, Chunk, Error, Response, Written, request};
use crate::pipeline::downstream::{Given, Step};
use crate::pipeline::receipts::Receipts;
use crate::pipeline::shared::SharedHalf;
use crate::session::{Leave, Session};

/// How long a poll waits for its first event.
const WAIT: Duration = Duration::from_secs(30);

/// The longest that a client may ask for.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// Events in one JSON answer, when the client does not say.
const LIMIT: usize = 100;

/// Answers for the events of one response.
struct Settle {
    half: Arc<SharedHalf>,
    session: Arc<Session>,
    tokens: Mutex<Receipts>,
    by_client: bool,
}

impl Settle {
    fn each(&self, events: usize, written: bool) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        // Closed: its end has given everything back.
        self.half.with(|half| {
            if !written {
                tokens.take(events).for_each(|token| half.give_back(token));
            } else if self.by_client && half.at_least_once() {
                tokens.take(events).for_each(drop);
            } else {
                half.acknowledge_all(tokens.take(events));
            }
        });
        drop(tokens);
        self.session.notify(0);
    }
}

impl Written for Settle {
    fn written(&self, events: usize) {
        self.each(events, true);
    }

    fn lost(&self, events: usize) {
        self.each(events, false);
    }
}

pub(super) async fn answer(context: &Context, request: &Request<Incoming>) -> Result<Response, Error> {
    let (headers, uri) = (request.headers(), request.uri());
    let session = acks::named(context, headers, uri)?;
    let poller = context.halves.poller(&session.id).ok_or_else(|| ended(&session))?;
    let polling = poller.begin().ok_or_else(|| Error::conflict("another poll of this session is waiting"))?;
    let json = headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"application/json"));
    let limit = match request::query(uri, "limit").map(|text| text.parse::<usize>()) {
        _ if !json => 1,
        None => LIMIT,
        Some(Ok(limit)) if limit > 0 => limit,
        Some(_) => return Err(Error::bad_request("limit must be a number above 0")),
    };
    let wait = match request::query(uri, "wait").map(|text| seconds(&text)) {
        None => WAIT,
        Some(Some(wait)) => wait.min(MAX_WAIT),
        Some(None) => return Err(Error::bad_request("wait must be seconds, as in 20 or 0.5 or 20s")),
    };
    let mut batch = Vec::new();
    let took = std::future::poll_fn(|cx| {
        polling.0.waker.register(cx.waker());
        let Some(polled) = poller.half.with(|half| half.poll_batch(cx, limit, &mut batch)) else {
            return Poll::Ready(Err(ended(&session)));
        };
        match polled {
            Poll::Ready(Ok(Step::Batch)) => return Poll::Ready(Ok(())),
            Poll::Ready(Ok(Step::Gap)) => {
                poller.gap.store(true, Ordering::Release);
                cx.waker().wake_by_ref();
            }
            Poll::Ready(Err(lost)) => return Poll::Ready(Err(Error::broker_refused(lost.to_string()))),
            Poll::Pending => {}
        }
        let down = session.downstream.as_ref().is_some_and(|r| r.endpoint.status.state() == State::Down);
        if down {
            return Poll::Ready(Err(Error::broker_unavailable("the broker is away")));
        }
        if session.leaving().is_some() { Poll::Ready(Err(ended(&session))) } else { Poll::Pending }
    });
    match tokio::time::timeout(wait, took).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(error),
        Err(_) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            return Ok(response);
        }
    }
    drop(polling);
    let mut response = if json { items(&poller, &session, batch) } else { raw(&poller, &session, batch) };
    *response.status_mut() = StatusCode::OK;
    if poller.gap.swap(false, Ordering::AcqRel) {
        response.headers_mut().insert("x-notice", HeaderValue::from_static("gap"));
    }
    Ok(response)
}

fn ended(session: &Session) -> Error {
    Error::session_closed(match session.leaving() {
        Some(Leave::Expired) => "the session has expired: subscribe again with new credentials",
        _ => "the session has ended: subscribe again",
    })
}

fn seconds(text: &str) -> Option<Duration> {
    let number: f64 = text.trim_end_matches('s').parse().ok()?;
    Duration::try_from_secs_f64(number).ok()
}

fn raw(poller: &Arc<Poller>, session: &Arc<Session>, batch: Vec<Given>) -> Response {
    let mut response = Response::new(Body::empty());
    let Some(given) = batch.into_iter().next() else { return response };
    let event = given.event.clone();
    let token = poller.half.with(|half| {
        half.mark_given(&given);
        half.resume_token()
    });
    let headers = response.headers_mut();
    let mut put = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&printable(value)))
        {
            headers.append(name, value);
        }
    };
    for (key, value) in event.metadata() {
        put(&format!("x-meta-{key}"), &value);
    }
    if given.redelivered {
        put("x-meta-mediation.redelivered", "true");
    }
    if let Some(Some(token)) = token {
        put("x-resume-token", &token);
    }
    if let Ok(id) = HeaderValue::from_str(&event.id.to_string()) {
        headers.insert("x-event-id", id);
    }
    let content_type = event.content_type().and_then(|t| HeaderValue::from_str(t).ok());
    headers.insert(header::CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    let payload = event.payload.as_ref().map(Payload::to_bytes).unwrap_or_default();
    *response.body_mut() = body(poller, session, payload, vec![given]);
    response
}

fn items(poller: &Arc<Poller>, session: &Arc<Session>, batch: Vec<Given>) -> Response {
    let mut out = b"{\"items\":[".to_vec();
    for (at, given) in batch.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let token = poller.half.with(|half| {
            half.mark_given(given);
            half.resume_token()
        });
        let frame = EventFrame::new(&given.event, given.redelivered, token.flatten());
        out.extend(v1::encode(&v1::Out::Event(frame)));
    }
    out.extend_from_slice(b"]}");
    let mut response = Response::new(body(poller, session, out.into(), batch));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn body(poller: &Arc<Poller>, session: &Arc<Session>, bytes: Bytes, batch: Vec<Given>) -> Body {
    let count = batch.len();
    let mut tokens = Receipts::default();
    batch.into_iter().for_each(|given| tokens.push(given.token));
    let settle = Settle {
        half: poller.half.clone(),
        session: session.clone(),
        tokens: Mutex::new(tokens),
        by_client: poller.by_client,
    };
    if bytes.is_empty() {
        settle.written(count);
        return Body::empty();
    }
    // All end with the response's last byte.
    let mut lengths = VecDeque::from(vec![0; count]);
    if let Some(first) = lengths.front_mut() {
        *first = bytes.len();
    }
    Body::Whole(Some(Chunk::marked(bytes, lengths, Arc::new(settle))))
}
