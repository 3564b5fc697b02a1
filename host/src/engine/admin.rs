//! The admin listener: what it shows of the engine, and how a request reaches `observe::admin`.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::FutureExt as _;
use http::{HeaderValue, header};
use serde_json::{Map, Value, json};

use super::reload::FileState;
use crate::config::Secret;
use crate::endpoint::State;
use crate::http::listener::{Handler, Observer};
use crate::http::{Body, Response};
use crate::observe::admin::{self, Answer, Order, Request};
use crate::observe::metrics::{ListenerMetrics, Metrics};
use crate::observe::view::View;
use crate::plugin::Plugins;
use crate::routing::Table;
use crate::session::registry::Sessions;

/// What the admin page shows.
pub(super) struct Shown {
    sessions: Arc<Sessions>,
    table: Arc<ArcSwap<Table>>,
    state: Arc<ArcSwap<FileState>>,
    plugins: Arc<Plugins>,
}

impl Shown {
    pub(super) fn new(
        sessions: &Arc<Sessions>,
        table: &Arc<ArcSwap<Table>>,
        state: &Arc<ArcSwap<FileState>>,
        plugins: &Arc<Plugins>,
    ) -> Arc<Self> {
        let (sessions, table, state, plugins) = (sessions.clone(), table.clone(), state.clone(), plugins.clone());
        Arc::new(Self { sessions, table, state, plugins })
    }
}

impl View for Shown {
    fn healthz(&self) -> Value {
        json!({ "status": "ok", "sessions": self.sessions.count() })
    }

    fn readyz(&self) -> (bool, Value) {
        let mut states = Map::new();
        let mut waits = false;
        for one in self.table.load().endpoints() {
            let state = one.status.state();
            waits |= one.required && state != State::Up;
            states.insert(one.name.to_string(), Value::String(state.to_string()));
        }
        let (ready, status) = match (self.sessions.draining(), waits) {
            (true, _) => (false, "draining"),
            (false, true) => (false, "waiting for a required endpoint"),
            (false, false) => (true, "ready"),
        };
        (ready, json!({ "status": status, "endpoints": states }))
    }

    fn sessions(&self) -> Value {
        self.sessions.view()
    }

    fn routes(&self) -> Value {
        let mut view = self.table.load().view();
        if let Some(map) = view.as_object_mut() {
            map.insert("config".to_owned(), self.state.load().view());
        }
        view
    }

    fn plugins(&self) -> Value {
        self.plugins.view()
    }
}

pub(super) fn handler(view: Arc<Shown>, token: Arc<ArcSwapOption<Secret>>, metrics: Arc<Metrics>) -> Handler {
    Arc::new(move |connection, request| {
        let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let asked = Request {
            method: request.method(),
            path: request.uri().path(),
            peer_is_loopback: connection.socket.peer().ip().is_none_or(|ip| ip.is_loopback()),
            authorization,
        };
        let token = token.load();
        match admin::order(asked, token.as_deref()) {
            None => std::future::ready(response(admin::answer(asked, token.as_deref(), &*view, &metrics))).boxed(),
            Some(Err(refused)) => std::future::ready(response(refused)).boxed(),
            Some(Ok(order)) => {
                let plugins = view.plugins.clone();
                let carried_out = async move {
                    response(admin::carried_out(match order {
                        Order::Reload(name) => plugins.reload(&name).await,
                        Order::Rollback(name) => plugins.rollback(&name).await,
                    }))
                };
                carried_out.boxed()
            }
        }
    })
}

fn response(answer: Answer) -> Response {
    let mut response = Response::new(Body::whole(answer.body));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(allow) = answer.allow {
        headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    response
}

impl Observer for ListenerMetrics {
    fn opened(&self) {
        self.accepted.inc();
        self.connections.inc();
    }

    fn closed(&self) {
        self.connections.dec();
    }

    fn refused(&self, why: &'static str) {
        self.refused(why).inc();
    }
}
