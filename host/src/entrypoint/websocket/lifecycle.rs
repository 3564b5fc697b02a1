//! Lifecycle events: a session's connect and disconnect, published to its upstream target where the route says
//! `lifecycle_events: true`.
//!
//! Best effort: confirmed, or logged and counted. They do not pass the plugins.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::poll;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::endpoint::{Confirm, PublishError};
use crate::event::{Event, EventId, Header, Origin, Properties, now_ms};
use crate::pipeline::Leg;
use crate::pipeline::upstream::id_header;
use crate::session::{Leave, Session};

/// The header that says which one it is.
const HEADER: &str = "mediation.lifecycle";

/// A session that was announced.
pub(super) struct Lifecycle {
    tasks: TaskTracker,
    session: Arc<Session>,
    leg: Leg,
    connected: JoinHandle<()>,
}

type Submit = BoxFuture<'static, Result<Confirm, PublishError>>;

impl Lifecycle {
    /// Publishes the connect, before anything that the client sends where the broker's client has room for it.
    pub(super) async fn begin(tasks: &TaskTracker, session: &Arc<Session>, leg: Option<&Leg>) -> Option<Self> {
        let leg = leg.filter(|leg| leg.route.config.lifecycle_events)?;
        let mut submit = publish(leg, event(session, "connect", None));
        // Asked once here: the order of submissions is the order at the broker.
        let submitted = poll!(&mut submit);
        let route = leg.route.clone();
        let connected = tasks.spawn(async move {
            let done = match submitted {
                std::task::Poll::Ready(done) => done,
                std::task::Poll::Pending => submit.await,
            };
            settle(&route, "connect", done).await;
        });
        Some(Self { tasks: tasks.clone(), session: session.clone(), leg: leg.clone(), connected })
    }

    /// Publishes the disconnect, behind the connect.
    pub(super) fn end(self) {
        let Self { tasks, session, leg, connected } = self;
        tasks.spawn(async move {
            if let Err(error) = connected.await {
                tracing::error!(session_id = %session.id, %error, "the connect of a session was not published");
            }
            let reason = session.leaving().map_or("client", Leave::as_str);
            let done = publish(&leg, event(&session, "disconnect", Some(reason))).await;
            settle(&leg.route, "disconnect", done).await;
        });
    }
}

fn publish(leg: &Leg, event: Event) -> Submit {
    let (endpoint, address) = (leg.route.endpoint.endpoint.clone(), leg.address.clone());
    let timeout = leg.route.config.publish_timeout;
    Box::pin(async move {
        let submitted = endpoint.publish(address, Arc::new(event), timeout);
        match tokio::time::timeout(timeout, submitted).await {
            Ok(submitted) => submitted,
            Err(_) => Err(PublishError::Unavailable(format!("no room in {timeout:?}"))),
        }
    })
}

async fn settle(route: &crate::routing::Route, which: &str, submitted: Result<Confirm, PublishError>) {
    let done = match submitted {
        Ok(confirm) => confirm.await,
        Err(error) => Err(error),
    };
    if let Err(error) = done {
        route.metrics.events_lost("lifecycle").inc();
        tracing::warn!(route = %route.name, endpoint = %route.endpoint.name, %error, "a {which} event was not published");
    }
}

fn event(session: &Session, which: &'static str, reason: Option<&str>) -> Event {
    let id = EventId::new();
    let now = now_ms();
    let mut body = json!({
        "type": which,
        "session_id": &*session.id,
        "client_id": &*session.client_id,
        "entrypoint": &*session.entrypoint,
        "path": &*session.facts.connect.path,
        "peer": &*session.facts.connect.peer_address,
        "at_ms": now,
    });
    if let (Some(reason), Some(body)) = (reason, body.as_object_mut()) {
        body.insert("reason".to_owned(), reason.into());
    }
    let which = Header { name: HEADER.into(), value: Some(which.into()) };
    Event {
        headers: vec![id_header(id.to_string()), which],
        id,
        source: session.entrypoint.clone(),
        client_id: Some(session.client_id.clone()),
        payload: Some(bytes::Bytes::from(body.to_string()).into()),
        key: None,
        properties: Some(Box::new(Properties {
            content_type: Some("application/json".to_owned()),
            ..Properties::default()
        })),
        attributes: None,
        origin: Origin::Client { protocol: "websocket" },
        timestamp_ms: now,
    }
}
