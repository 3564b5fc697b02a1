//! From a request to the admin listener to its answer: pure, without a socket.
//!
//! `http` calls [`answer`]; `engine` implements [`View`]. `/healthz`, `/readyz`, `/metrics` and `/` are open; what names
//! clients or changes something is for the machine itself or for who holds `admin.token`.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::metrics::{self, Metrics};
use super::page;
use super::view::View;
use crate::config::Secret;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, without the query.
    pub path: &'a str,
    /// Whether the peer is this machine.
    pub peer_is_loopback: bool,
    /// The header `Authorization`.
    pub authorization: Option<&'a str>,
}

/// What to send back; with `Cache-Control: no-store`, as every answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// `Content-Type`
    pub content_type: &'static str,
    /// `Allow`, where the method was wrong.
    pub allow: Option<&'static str>,
    /// The body; not sent for HEAD.
    pub body: String,
}

const PATHS: [&str; 7] = ["/", "/healthz", "/readyz", "/metrics", "/sessions", "/routes", "/plugins"];
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// What a request asks the engine to do, which takes its time.
#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    /// `POST /plugins/NAME/reload`: a new generation of it.
    Reload(String),
    /// `POST /plugins/NAME/rollback`: the generation before.
    Rollback(String),
}

/// The order that a request gives, if it may; None: it gives none, [`answer`] has its answer.
#[must_use]
pub fn order(request: Request<'_>, token: Option<&Secret>) -> Option<Result<Order, Answer>> {
    let (name, what) = request.path.strip_prefix("/plugins/")?.rsplit_once('/')?;
    let order = match what {
        "reload" => Order::Reload,
        "rollback" => Order::Rollback,
        _ => return None,
    };
    if !may(request, token) {
        return Some(Err(forbidden(token.is_some())));
    }
    if *request.method != Method::POST {
        let message = format!("{} is not for {}: use POST", request.path, request.method);
        let wrong = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message);
        return Some(Err(Answer { allow: Some("POST"), ..wrong }));
    }
    let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
    Some(Ok(order(name.into_owned())))
}

/// The answer to an order: the generation that serves now, or why none; the flag says whether the plugin is known.
#[must_use]
pub fn carried_out(result: Result<u32, (bool, String)>) -> Answer {
    match result {
        Ok(generation) => json_of(StatusCode::OK, &json!({ "generation": generation })),
        Err((false, message)) => error(StatusCode::NOT_FOUND, "not_found", &message),
        Err((true, message)) => error(StatusCode::CONFLICT, "not_served", &message),
    }
}

/// Whether who asks may see what names clients, and change things.
fn may(request: Request<'_>, token: Option<&Secret>) -> bool {
    request.peer_is_loopback || token.is_some_and(|token| bears(request.authorization, token))
}

/// The answer to a request that gives no [`order`].
#[must_use]
pub fn answer(request: Request<'_>, token: Option<&Secret>, view: &dyn View, metrics: &Metrics) -> Answer {
    let may = may(request, token);
    let reads = matches!(*request.method, Method::GET | Method::HEAD);
    let guarded = !reads || matches!(request.path, "/sessions" | "/routes" | "/plugins");
    if guarded && !may {
        return forbidden(token.is_some());
    }
    if !PATHS.contains(&request.path) {
        let message = format!("there is no {}; there are {}", request.path, PATHS.join(", "));
        return error(StatusCode::NOT_FOUND, "not_found", &message);
    }
    if !reads {
        let message = format!("{} is not for {}: use GET", request.path, request.method);
        let allow = Some("GET, HEAD");
        return Answer { allow, ..error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message) };
    }
    match request.path {
        "/healthz" => json_of(StatusCode::OK, &view.healthz()),
        "/readyz" => {
            let (ready, body) = view.readyz();
            json_of(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
        }
        "/sessions" => json_of(StatusCode::OK, &view.sessions()),
        "/routes" => json_of(StatusCode::OK, &view.routes()),
        "/plugins" => json_of(StatusCode::OK, &view.plugins()),
        "/metrics" => of(StatusCode::OK, metrics::CONTENT_TYPE, metrics.render()),
        _ => of(StatusCode::OK, HTML, page::render(view, may)),
    }
}

fn of(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    Answer { status, content_type, allow: None, body }
}

fn json_of(status: StatusCode, body: &Value) -> Answer {
    of(status, JSON, format!("{body}\n"))
}

fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    json_of(status, &json!({ "error": { "code": code, "message": message } }))
}

fn forbidden(has_token: bool) -> Answer {
    let remedy = if has_token {
        "send `Authorization: Bearer <admin.token>`, or ask from the machine itself (127.0.0.1)"
    } else {
        "ask from the machine itself (127.0.0.1), or set `admin.token` and send `Authorization: Bearer <admin.token>`"
    };
    error(StatusCode::FORBIDDEN, "forbidden", remedy)
}

/// Whether the header carries the token. An empty token opens nothing.
fn bears(authorization: Option<&str>, token: &Secret) -> bool {
    let Some((scheme, given)) = authorization.and_then(|header| header.split_once(' ')) else { return false };
    scheme.eq_ignore_ascii_case("bearer") && !token.0.is_empty() && same(given.trim().as_bytes(), token.0.as_bytes())
}

/// Compares in a time that depends on the lengths only.
fn same(given: &[u8], expected: &[u8]) -> bool {
    if given.len() != expected.len() {
        return false;
    }
    let differing = given.iter().zip(expected).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake {
        ready: bool,
    }

    impl View for Fake {
        fn healthz(&self) -> Value {
            json!({ "status": "ok", "sessions": 3 })
        }

        fn readyz(&self) -> (bool, Value) {
            (self.ready, json!({ "status": "ready", "endpoints": { "kafka-main": "up" } }))
        }

        fn sessions(&self) -> Value {
            json!({ "sessions": [{ "session_id": "s" }] })
        }

        fn routes(&self) -> Value {
            json!({ "routes": [{ "name": "<script>alert(1)</script>", "plugins": [] }, { "name": "b", "n": 1 }] })
        }

        fn plugins(&self) -> Value {
            json!({ "plugins": [{ "name": "geo", "state": "serving" }] })
        }
    }

    fn ask(method: Method, path: &str, local: bool, authorization: Option<&str>, token: Option<&str>) -> Answer {
        let request = Request { method: &method, path, peer_is_loopback: local, authorization };
        let token = token.map(|token| Secret(token.to_owned()));
        answer(request, token.as_ref(), &Fake { ready: true }, &Metrics::new())
    }

    fn get(path: &str) -> Answer {
        ask(Method::GET, path, false, None, None)
    }

    fn code(answer: &Answer) -> (u16, String) {
        assert_eq!(answer.content_type, JSON);
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert!(!body["error"]["message"].as_str().unwrap().is_empty());
        (answer.status.as_u16(), body["error"]["code"].as_str().unwrap().to_owned())
    }

    #[test]
    fn health_readiness_and_metrics_are_open() {
        let health = get("/healthz");
        assert_eq!((health.status, health.content_type), (StatusCode::OK, JSON));
        assert_eq!(serde_json::from_str::<Value>(&health.body).unwrap(), json!({ "status": "ok", "sessions": 3 }));
        assert_eq!(get("/readyz").status, StatusCode::OK);
        let metrics = get("/metrics");
        assert_eq!((metrics.status, metrics.content_type), (StatusCode::OK, metrics::CONTENT_TYPE));
        assert!(metrics.body.contains("mediation_build_info"), "{}", metrics.body);
        assert_eq!(ask(Method::HEAD, "/healthz", false, None, None).status, StatusCode::OK);
    }

    #[test]
    fn an_engine_that_is_not_ready_answers_503_and_says_why() {
        let request = Request { method: &Method::GET, path: "/readyz", peer_is_loopback: false, authorization: None };
        let answer = answer(request, None, &Fake { ready: false }, &Metrics::new());
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.body.contains("kafka-main"));
    }

    #[test]
    fn sessions_and_routes_want_loopback_or_the_token() {
        for path in ["/sessions", "/routes", "/plugins"] {
            for (local, header, token, status) in [
                (true, None, None, 200),
                (true, None, Some("t0ken"), 200),
                (true, Some("Bearer wrong"), Some("t0ken"), 200),
                (false, Some("Bearer t0ken"), Some("t0ken"), 200),
                (false, Some("bearer  t0ken "), Some("t0ken"), 200),
                (false, None, None, 403),
                (false, None, Some("t0ken"), 403),
                (false, Some("Bearer t0keN"), Some("t0ken"), 403),
                (false, Some("Bearer t0ke"), Some("t0ken"), 403),
                (false, Some("Bearer t0ken1"), Some("t0ken"), 403),
                (false, Some("Basic t0ken"), Some("t0ken"), 403),
                (false, Some("t0ken"), Some("t0ken"), 403),
                (false, Some("Bearer "), Some(""), 403),
                (false, Some("Bearer t0ken"), None, 403),
            ] {
                let answer = ask(Method::GET, path, local, header, token);
                assert_eq!(answer.status.as_u16(), status, "{path} {local} {header:?} {token:?}");
                if status == 403 {
                    assert_eq!(code(&answer).1, "forbidden");
                    assert!(answer.body.contains("127.0.0.1") && answer.body.contains("admin.token"));
                    assert!(!answer.body.contains("t0ken"), "the token shows: {}", answer.body);
                }
            }
        }
    }

    #[test]
    fn plugins_are_reloaded_and_rolled_back_by_who_may() {
        let asked = |method: &Method, path, peer_is_loopback| {
            order(Request { method, path, peer_is_loopback, authorization: None }, None)
        };
        assert_eq!(asked(&Method::POST, "/plugins/geo/reload", true), Some(Ok(Order::Reload("geo".to_owned()))));
        assert_eq!(asked(&Method::POST, "/plugins/a%20b/rollback", true), Some(Ok(Order::Rollback("a b".to_owned()))));
        assert_eq!(code(&asked(&Method::POST, "/plugins/geo/reload", false).unwrap().unwrap_err()).0, 403);
        assert_eq!(code(&asked(&Method::GET, "/plugins/geo/reload", true).unwrap().unwrap_err()).0, 405);
        assert!(
            asked(&Method::GET, "/plugins", true).is_none() && asked(&Method::POST, "/plugins/geo/x", true).is_none()
        );
        assert_eq!(carried_out(Ok(7)).body, "{\"generation\":7}\n");
        assert_eq!(code(&carried_out(Err((false, "no".to_owned())))), (404, "not_found".to_owned()));
        assert_eq!(code(&carried_out(Err((true, "no".to_owned())))), (409, "not_served".to_owned()));
    }

    #[test]
    fn what_is_not_there_and_wrong_methods_are_told() {
        let missing = get("/nothing");
        assert_eq!(code(&missing), (404, "not_found".to_owned()));
        assert!(PATHS.iter().all(|path| missing.body.contains(path)), "{}", missing.body);
        // Every POST is guarded, also one to nowhere.
        assert_eq!(code(&ask(Method::POST, "/nothing", false, None, None)), (403, "forbidden".to_owned()));
        assert_eq!(code(&ask(Method::POST, "/nothing", true, None, None)), (404, "not_found".to_owned()));
        let wrong = ask(Method::POST, "/healthz", true, None, None);
        assert_eq!(code(&wrong), (405, "method_not_allowed".to_owned()));
        assert_eq!(wrong.allow, Some("GET, HEAD"));
    }

    #[test]
    fn the_page_shows_routes_only_to_whom_it_may_and_escapes_them() {
        let open = get("/");
        assert_eq!((open.status, open.content_type), (StatusCode::OK, HTML));
        assert!(open.body.contains("href=\"/metrics\"") && open.body.contains("kafka-main"), "{}", open.body);
        assert!(!open.body.contains("alert"), "{}", open.body);
        let mine = ask(Method::GET, "/", true, None, None);
        assert!(mine.body.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{}", mine.body);
        assert!(!mine.body.contains("<script"), "{}", mine.body);
    }
}
