//! WebSocket: any path; plain frames, or JSON frames with sub-protocol `mediation.v1`.
//!
//! - [`wire`] the stream under tungstenite: one ordered out-buffer, lent by the worker
//! - [`session`] the session's one task
//! - [`frames`] what goes out for an event
//!
//! Known limits: `frames: text` sends what is not UTF-8 as binary; no compression.

mod close;
mod frames;
mod inbound;
mod lifecycle;
mod liveness;
mod session;
mod wire;

use std::sync::Arc;

use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::admit::{Admitted, Asking};
use super::{Context, check_receipt, new_session, resume_of, v1, wants_method};
use crate::config::{Direction, Receipt};
use crate::http::{Body, Error, Response, request};
use crate::pipeline::downstream::{Downstream, Resume};
use crate::session::Phase;
use crate::session::socket::{Io, Socket};

/// Answers a handshake: everything that can refuse does so before the upgrade.
pub(super) async fn handle(
    context: Arc<Context>,
    socket: Arc<Socket>,
    mut request: Request<Incoming>,
) -> Result<Response, Error> {
    wants_method(&request, &Method::GET)?;
    let accept = accept_key(&request)?;
    let (headers, uri) = (request.headers(), request.uri());
    let path = uri.path();
    let down = context.route(Direction::Downstream, path, headers, uri);
    let up = context.route(Direction::Upstream, path, headers, uri);
    if down.is_none() && up.is_none() {
        return Err(context.no_route(path));
    }
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    let v1 = offered.flat_map(|list| list.split(',')).any(|name| name.trim() == v1::PROTOCOL);
    if let Some(down) = &down {
        let can = if v1 { Receipt::Processed } else { Receipt::Received };
        check_receipt(down, can, "connect with sub-protocol mediation.v1 and answer with ack frames")?;
    }
    let named = request::client_id(&context.config, headers, uri)?;
    let resume = resume_of(headers, uri)?;
    let forwarded = request::forwarded(&context.config, headers);
    let asking = Asking {
        protocol: "websocket",
        method: request.method(),
        path,
        uri,
        headers,
        peer: request::peer_address(&context.config, socket.peer(), headers),
        subprotocol: if v1 { v1::PROTOCOL } else { "" },
        named,
    };
    let admitted = context.admit(&asking, down, up).await?;
    if let Some(leg) = &admitted.up {
        context.check_upstream(leg)?;
    }
    let session = new_session(&context, &admitted, Some(socket))?;
    let entered = context.enter(session.clone())?;
    let Admitted { down, up, named, .. } = admitted;
    let downstream = match down {
        None => None,
        Some(leg) => {
            let source = context.subscribe(&session, &leg, resume, named).await?;
            let kind = if v1 { Resume::Acknowledged } else { Resume::Given };
            Some(Downstream::new(session.clone(), leg, source, kind))
        }
    };
    session.set_phase(Phase::Live);
    let upgrade = hyper::upgrade::on(&mut request);
    let tasks = context.tasks.clone();
    // A task of its own: hyper's connection task, with its buffers, ends here.
    tasks.spawn(async move {
        match upgrade.await.map(hyper::upgrade::Upgraded::downcast::<TokioIo<Io>>) {
            Ok(Ok(parts)) => {
                let socket = parts.io.into_inner().0;
                let read = parts.read_buf.to_vec();
                // It is part of hyper's buffer, which would stay, 8 KiB, for as long as the session.
                drop(parts.read_buf);
                session::run(context, socket, read, entered, (downstream, up), v1, forwarded).await;
            }
            other => {
                let error = other.err().map(|error| error.to_string());
                tracing::debug!(error, "the client left during the handshake");
                // In this order: released means that the subscription is gone.
                drop(downstream);
                drop(entered);
            }
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let out = response.headers_mut();
    out.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    out.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(value) = HeaderValue::from_str(&accept) {
        out.insert(header::SEC_WEBSOCKET_ACCEPT, value);
    }
    if v1 {
        out.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(v1::PROTOCOL));
    }
    Ok(response)
}

/// RFC 6455, section 4.2.1.
fn accept_key(request: &Request<Incoming>) -> Result<String, Error> {
    let has = |name: header::HeaderName, token: &str| {
        request
            .headers()
            .get_all(name)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .any(|list| list.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    if !has(header::CONNECTION, "upgrade") || !has(header::UPGRADE, "websocket") {
        return Err(Error::upgrade_required("this entrypoint speaks WebSocket: send an upgrade request"));
    }
    if !has(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(Error::bad_request("Sec-WebSocket-Version must be 13"));
    }
    match request.headers().get(header::SEC_WEBSOCKET_KEY) {
        Some(key) if key.len() == 24 => Ok(derive_accept_key(key.as_bytes())),
        _ => Err(Error::bad_request("Sec-WebSocket-Key must be 16 bytes in base64")),
    }
}
