//! The one table from what went wrong to what the client reads.

use std::borrow::Cow;
use std::fmt;

use http::{HeaderValue, Method, StatusCode, header};

use super::{Body, Response};
use crate::endpoint::{PublishError, SubscribeError};

/// An answer that is not the one asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The status.
    pub status: StatusCode,
    /// Stable, machine-readable, lower-case with underscores.
    pub code: Cow<'static, str>,
    /// In words: the place and the remedy.
    pub message: String,
    /// What a 405 allows.
    allow: Option<Method>,
}

macro_rules! table {
    ($($(#[$doc:meta])* $name:ident => $status:ident $code:literal,)*) => {
        impl Error {
            $($(#[$doc])* #[must_use] pub fn $name(message: impl Into<String>) -> Self {
                Self { status: StatusCode::$status, code: Cow::Borrowed($code), message: message.into(), allow: None }
            })*
        }
    };
}

table! {
    /// Malformed in a way that the message says.
    bad_request => BAD_REQUEST "bad_request",
    /// The `Origin` is not allowed.
    origin_not_allowed => FORBIDDEN "origin_not_allowed",
    /// No route of this entrypoint matches.
    no_route => NOT_FOUND "no_route",
    /// The session was never there.
    unknown_session => NOT_FOUND "unknown_session",
    /// Another method is wanted.
    method_not_allowed => METHOD_NOT_ALLOWED "method_not_allowed",
    /// The session ended.
    session_closed => GONE "session_closed",
    /// A name that means two sessions, or a second poll beside one that waits.
    conflict => CONFLICT "conflict",
    /// More than `max_body`, or than the broker takes.
    too_large => PAYLOAD_TOO_LARGE "too_large",
    /// The broker refused it for good.
    refused => UNPROCESSABLE_ENTITY "refused_by_broker",
    /// An upgrade to WebSocket is wanted.
    upgrade_required => UPGRADE_REQUIRED "upgrade_required",
    /// The route takes no less than another receipt.
    receipt_required => PRECONDITION_REQUIRED "receipt_required",
    /// The client took too long to send its request.
    request_timeout => REQUEST_TIMEOUT "request_timeout",
    /// The kind of the endpoint is not built in.
    not_built_in => NOT_IMPLEMENTED "not_built_in",
    /// The entrypoint has no routes at all.
    no_routes => BAD_GATEWAY "no_routes",
    /// A plugin failed on the event.
    plugin_failed => INTERNAL_SERVER_ERROR "plugin_failed",
    /// A plugin chose an endpoint that is not configured.
    target_not_found => BAD_GATEWAY "target_not_found",
    /// A resolver chose what cannot keep the route's promises.
    guarantee_unavailable => BAD_GATEWAY "guarantee_unavailable",
    /// A resolver admitted a client in a way that makes no sense.
    bad_admission => BAD_GATEWAY "bad_admission",
    /// The broker has no such address.
    address_not_found => BAD_GATEWAY "address_not_found",
    /// The broker refuses the engine.
    broker_refused => BAD_GATEWAY "broker_refused",
    /// The broker is not there.
    broker_unavailable => SERVICE_UNAVAILABLE "broker_unavailable",
    /// A plugin that decides on clients failed, or is not there.
    plugin_unavailable => SERVICE_UNAVAILABLE "plugin_unavailable",
    /// A limit on clients is reached.
    client_limit => SERVICE_UNAVAILABLE "client_limit",
    /// The route's channel stayed full.
    busy => SERVICE_UNAVAILABLE "busy",
    /// The engine stops.
    draining => SERVICE_UNAVAILABLE "draining",
    /// Not confirmed in time; the event may have been written.
    outcome_unknown => GATEWAY_TIMEOUT "outcome_unknown",
}

/// Longest code and message that a plugin gets through to a client.
const PLUGIN_CODE: usize = 64;
const PLUGIN_WORDS: usize = 512;

impl Error {
    /// A plugin refuses an event of the client: its own code and words, and the status that the code names.
    #[must_use]
    pub fn rejected(code: &str, message: &str) -> Self {
        Self::of_plugin(code, message, StatusCode::UNPROCESSABLE_ENTITY)
    }

    /// A plugin refuses the client: as [`rejected`](Self::rejected), 403 where the code names no status.
    #[must_use]
    pub fn denied(code: &str, message: &str) -> Self {
        Self::of_plugin(code, message, StatusCode::FORBIDDEN)
    }

    fn of_plugin(code: &str, message: &str, other: StatusCode) -> Self {
        let status = match code {
            "bad-request" => StatusCode::BAD_REQUEST,
            "unauthorized" => StatusCode::UNAUTHORIZED,
            "forbidden" => StatusCode::FORBIDDEN,
            "not-found" => StatusCode::NOT_FOUND,
            "rate-limited" => StatusCode::TOO_MANY_REQUESTS,
            "unavailable" => StatusCode::SERVICE_UNAVAILABLE,
            _ => other,
        };
        let fine = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
        let words: String = code.chars().take(PLUGIN_CODE).map(fine).collect();
        let code = if words.is_empty() { Cow::Borrowed("rejected") } else { Cow::Owned(words) };
        Self { status, code, message: message.chars().take(PLUGIN_WORDS).collect(), allow: None }
    }

    /// What an EventSource should come back for: it gives up for ever on any other answer than 200.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }

    /// Names the method that a 405 allows.
    #[must_use]
    pub fn allow(mut self, method: &Method) -> Self {
        self.allow = Some(method.clone());
        self
    }

    /// As JSON, `{"error":{"code","message"}}`.
    #[must_use]
    pub fn response(&self) -> Response {
        let body = serde_json::json!({ "error": { "code": self.code, "message": self.message } });
        let mut response = json(self.status, &body);
        let headers = response.headers_mut();
        if let Some(allow) = self.allow.as_ref().and_then(|method| HeaderValue::from_str(method.as_str()).ok()) {
            headers.insert(header::ALLOW, allow);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::UPGRADE_REQUIRED {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(rand::random_range(1_u16..=30)));
        }
        response
    }
}

/// An answer in JSON.
#[must_use]
pub fn json(status: StatusCode, body: &impl serde::Serialize) -> Response {
    // Text keys and values only: it cannot fail.
    let mut response = Response::new(Body::whole(serde_json::to_vec(body).unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl From<SubscribeError> for Error {
    fn from(error: SubscribeError) -> Self {
        let message = error.to_string();
        match error {
            SubscribeError::NoSource(_) | SubscribeError::AddressNotFound(_) => Self::address_not_found(message),
            SubscribeError::BadToken(_) => Self::bad_request(message),
            SubscribeError::Refused(_) => Self::broker_refused(message),
            SubscribeError::Unavailable(_) => Self::broker_unavailable(message),
            SubscribeError::Full(_) => Self::client_limit(message),
            SubscribeError::NotBuiltIn(_) => Self::not_built_in(message),
        }
    }
}

impl From<PublishError> for Error {
    fn from(error: PublishError) -> Self {
        let message = error.to_string();
        match error {
            PublishError::TooLarge(_) => Self::too_large(message),
            PublishError::Refused(_) => Self::refused(message),
            PublishError::AddressNotFound(_) => Self::address_not_found(message),
            PublishError::TimedOut(_) => Self::outcome_unknown(message),
            PublishError::Unavailable(_) => Self::broker_unavailable(message),
            PublishError::NotBuiltIn(_) => Self::not_built_in(message),
        }
    }
}
