//! Who asks, from where, and whether its origin may.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode, Uri};

use super::{Body, Error, Response};
use crate::config::Entrypoint;
use crate::session::socket::Peer;

/// What our answers carry that scripts of other origins may read.
const EXPOSED: &str = "X-Event-ID, X-Resume-Token, X-Session-ID, X-Client-ID, X-Notice, Retry-After";

/// One query value, decoded.
#[must_use]
pub fn query(uri: &Uri, name: &str) -> Option<String> {
    form_urlencoded::parse(uri.query()?.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// One header as text.
#[must_use]
pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The id that the client gave itself, while that is trusted.
///
/// # Errors
/// It is not a client id.
pub fn client_id(entrypoint: &Entrypoint, headers: &HeaderMap, uri: &Uri) -> Result<Option<Arc<str>>, Error> {
    if !entrypoint.trust_client_id {
        return Ok(None);
    }
    let Some(given) = header(headers, "x-client-id").map(str::to_owned).or_else(|| query(uri, "client_id")) else {
        return Ok(None);
    };
    if !is_client_id(&given) {
        return Err(Error::bad_request(CLIENT_ID));
    }
    Ok(Some(given.into()))
}

/// What a client id is, in words.
pub const CLIENT_ID: &str = "the client id must be 1 to 128 characters of A-Z a-z 0-9 . _ -";

/// Whether it is one.
#[must_use]
pub fn is_client_id(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=128).contains(&text.len()) && text.bytes().all(fine)
}

/// The client's address: the peer's, or what a trusted proxy says.
#[must_use]
pub fn peer_address(entrypoint: &Entrypoint, peer: Peer, headers: &HeaderMap) -> String {
    if !trusted(entrypoint, peer) {
        return peer.to_string();
    }
    let envoy = header(headers, "x-envoy-external-address");
    let forwarded = || header(headers, "x-forwarded-for").and_then(|list| list.rsplit(',').next());
    envoy.or_else(forwarded).map_or_else(|| peer.to_string(), |said| said.trim().to_owned())
}

fn trusted(entrypoint: &Entrypoint, peer: Peer) -> bool {
    entrypoint.trusted_proxies.iter().any(|network| match peer.ip() {
        None => network == "unix",
        Some(ip) => contains(network, ip),
    })
}

/// Whether `network` (an address, or one with a prefix length) contains an address.
fn contains(network: &str, ip: IpAddr) -> bool {
    let (base, prefix) = network.split_once('/').map_or((network, None), |(b, p)| (b, p.parse::<u32>().ok()));
    match (base.parse::<IpAddr>(), ip) {
        (Ok(IpAddr::V4(base)), IpAddr::V4(ip)) => {
            let shift = 32 - prefix.unwrap_or(32).min(32);
            u32::from(base).checked_shr(shift).unwrap_or(0) == u32::from(ip).checked_shr(shift).unwrap_or(0)
        }
        (Ok(IpAddr::V6(base)), IpAddr::V6(ip)) => {
            let shift = 128 - prefix.unwrap_or(128).min(128);
            u128::from(base).checked_shr(shift).unwrap_or(0) == u128::from(ip).checked_shr(shift).unwrap_or(0)
        }
        _ => false,
    }
}

/// Browsers say where a script came from: by default only the listener's own origin may, or none.
///
/// # Errors
/// 403 with the key to set.
pub fn check_origin(entrypoint: &Entrypoint, headers: &HeaderMap) -> Result<(), Error> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or("");
    let host = header(headers, "host").unwrap_or("");
    let own = origin.split_once("://").is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(host));
    if own || entrypoint.allowed_origins.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin)) {
        return Ok(());
    }
    Err(Error::origin_not_allowed(format!(
        "the origin {origin:?} is not among allowed_origins of entrypoint {:?}",
        entrypoint.name
    )))
}

/// The answer to a preflight; None where it is another request or CORS is off.
#[must_use]
pub fn preflight(entrypoint: &Entrypoint, method: &Method, headers: &HeaderMap) -> Option<Response> {
    if !entrypoint.cors || method != Method::OPTIONS || !headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let out = response.headers_mut();
    out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
    out.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    if let Some(wanted) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    Some(response)
}

/// What every answer carries.
pub fn finish(entrypoint: &Entrypoint, origin: Option<HeaderValue>, response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let (true, Some(origin)) = (entrypoint.cors, origin) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

/// The headers of a request that travel with its events.
#[must_use]
pub fn forwarded(entrypoint: &Entrypoint, headers: &HeaderMap) -> Vec<crate::event::Header> {
    let mut out = Vec::new();
    for name in entrypoint.forward_headers.iter().filter(|name| !crate::event::is_ours(name)) {
        let Ok(wanted) = HeaderName::from_bytes(name.as_bytes()) else { continue };
        for value in headers.get_all(wanted) {
            out.push(crate::event::Header {
                name: name.to_ascii_lowercase().into(),
                value: Some(bytes::Bytes::copy_from_slice(value.as_bytes())),
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_what_they_should() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(contains("10.0.0.0/8", ip("10.200.1.1")) && !contains("10.0.0.0/8", ip("11.0.0.1")));
        assert!(contains("127.0.0.1", ip("127.0.0.1")) && !contains("127.0.0.1", ip("127.0.0.2")));
        assert!(contains("0.0.0.0/0", ip("8.8.8.8")) && contains("fd00::/8", ip("fd12::1")));
        assert!(!contains("nonsense", ip("8.8.8.8")));
    }
}
