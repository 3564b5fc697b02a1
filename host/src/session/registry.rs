//! Who is there.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Leave, Phase, Session, signal};
use crate::config::OnBrokerLoss;
use crate::endpoint::supervisor::Status;
use crate::endpoint::{Address, State};

/// Closed session ids that are remembered, so that their clients read 410 and not 404.
const CLOSED: usize = 4096;

/// How long a newer durable session waits for the older one to let go.
const TAKEOVER: Duration = Duration::from_secs(5);

/// All sessions of the engine.
#[derive(Default)]
pub struct Sessions {
    inner: Mutex<Inner>,
}

/// Whose durable position: endpoint, address there (None: the endpoint's own) and client id.
type Position = (Arc<str>, Option<Address>, Arc<str>);

#[derive(Default)]
struct Inner {
    by_id: HashMap<Arc<str>, Arc<Session>>,
    /// `http_get` and `sse`: a poll or an ack may name the client instead of the session.
    by_client: HashMap<Arc<str>, Vec<Arc<Session>>>,
    durable: HashMap<Position, Arc<Session>>,
    closed: VecDeque<Arc<str>>,
    closed_ids: HashSet<Arc<str>>,
    draining: bool,
}

/// What a name stands for.
pub enum Found {
    /// That session.
    One(Arc<Session>),
    /// More than one session has that client id.
    Several,
    /// It was there.
    Closed,
    /// It never was.
    Unknown,
}

impl Sessions {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a session known; false while the engine drains.
    pub fn enter(&self, session: &Arc<Session>) -> bool {
        let mut inner = self.inner();
        if inner.draining {
            return false;
        }
        inner.by_id.insert(session.id.clone(), session.clone());
        inner.by_client.entry(session.client_id.clone()).or_default().push(session.clone());
        true
    }

    /// Forgets a session that ended.
    pub fn exit(&self, session: &Arc<Session>) {
        let mut inner = self.inner();
        if inner.by_id.remove(&session.id).is_none() {
            return;
        }
        if let Some(same) = inner.by_client.get_mut(&session.client_id) {
            same.retain(|other| !Arc::ptr_eq(other, session));
            if same.is_empty() {
                inner.by_client.remove(&session.client_id);
            }
        }
        if let Some(route) = &session.downstream {
            let key = (route.endpoint.name.clone(), session.reads_at.clone(), session.client_id.clone());
            if inner.durable.get(&key).is_some_and(|holder| Arc::ptr_eq(holder, session)) {
                inner.durable.remove(&key);
            }
        }
        if inner.closed.len() >= CLOSED
            && let Some(oldest) = inner.closed.pop_front()
        {
            inner.closed_ids.remove(&oldest);
        }
        inner.closed.push_back(session.id.clone());
        inner.closed_ids.insert(session.id.clone());
    }

    /// The session of that id.
    #[must_use]
    pub fn by_id(&self, id: &str) -> Found {
        let inner = self.inner();
        match inner.by_id.get(id) {
            Some(session) => Found::One(session.clone()),
            None if inner.closed_ids.contains(id) => Found::Closed,
            None => Found::Unknown,
        }
    }

    /// The session of an entrypoint's client.
    #[must_use]
    pub fn by_client(&self, entrypoint: &str, client_id: &str) -> Found {
        let inner = self.inner();
        let mut same = inner.by_client.get(client_id).into_iter().flatten().filter(|s| &*s.entrypoint == entrypoint);
        match (same.next(), same.next()) {
            (None, _) => Found::Unknown,
            (Some(one), None) => Found::One(one.clone()),
            _ => Found::Several,
        }
    }

    /// Makes `session` the holder of its durable position: an older holder is told, and its last commit awaited.
    pub async fn take_over(&self, session: &Arc<Session>) {
        let Some(route) = &session.downstream else { return };
        let key = (route.endpoint.name.clone(), session.reads_at.clone(), session.client_id.clone());
        let older = self.inner().durable.insert(key, session.clone());
        // A held session asks again for what it holds already.
        let Some(older) = older.filter(|older| !Arc::ptr_eq(older, session)) else { return };
        older.leave(Leave::Replaced);
        session.replace(&older);
        let all = async {
            // One that was itself still waiting for its predecessor does not stand for it.
            let mut next = Some(older);
            while let Some(older) = next {
                older.released().await;
                next = older.replaced();
            }
        };
        if tokio::time::timeout(TAKEOVER, all).await.is_err() {
            tracing::warn!(client_id = %session.client_id, "a replaced session did not let go in {TAKEOVER:?}");
        }
        session.replaced();
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.inner().by_id.len()
    }

    /// Tells the sessions of one endpoint that its state changed, and asks those to leave that are not to be held. By its
    /// status: after a reload, two may have one name.
    pub fn broker_changed(&self, endpoint: &Arc<Status>, state: State) {
        for session in self.all() {
            let mut on_it = session.routes().filter(|route| Arc::ptr_eq(&route.endpoint.status, endpoint)).peekable();
            if on_it.peek().is_none() {
                continue;
            }
            if state == State::Down && on_it.any(|route| route.config.on_broker_loss == OnBrokerLoss::Close) {
                session.leave(Leave::BrokerLost);
            } else {
                session.notify(signal::BROKER);
            }
        }
    }

    /// From now on nobody enters; returns who is there.
    pub fn drain(&self) -> Vec<Arc<Session>> {
        self.inner().draining = true;
        self.all()
    }

    /// Whether the engine drains.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.inner().draining
    }

    /// A snapshot.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.inner().by_id.values().cloned().collect()
    }

    /// For the admin page.
    #[must_use]
    pub fn view(&self) -> Value {
        let list: Vec<Value> = self.all().iter().map(|session| view(session)).collect();
        json!({ "sessions": list })
    }
}

fn view(session: &Session) -> Value {
    let name = |route: &Option<Arc<crate::routing::Route>>| route.as_ref().map(|r| r.name.to_string());
    let stats = &session.stats;
    let size = session.downstream.as_ref().map(|route| route.config.channel_size);
    let held = stats.held.load(Ordering::Relaxed);
    let places: Vec<Value> = stats
        .places
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .map(|p| json!({ "topic": p.topic, "partition": p.partition, "given": p.given, "settled": p.settled }))
        .collect();
    json!({
        "session_id": &*session.id,
        "client_id": &*session.client_id,
        "entrypoint": &*session.entrypoint,
        "downstream": name(&session.downstream),
        "upstream": name(&session.upstream),
        "endpoint": session.downstream.as_ref().or(session.upstream.as_ref()).map(|r| r.endpoint.name.to_string()),
        "address": session.reads_at.as_deref().or(session.writes_to.as_deref()),
        "peer": &*session.facts.connect.peer_address,
        "expires_at_ms": (session.expires_at_ms != 0).then_some(session.expires_at_ms),
        // Their values may be secrets.
        "attributes": session.facts.attributes.iter().map(|(key, _)| &**key).collect::<Vec<&str>>(),
        "since_ms": session.since.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64),
        "state": match session.phase() {
            Phase::Opening => "opening",
            Phase::Live => "live",
            Phase::Held => "held",
            Phase::Ending => "ending",
        },
        "leaving": session.leaving().map(Leave::as_str),
        "channel_size": size,
        "permits_free": size.map(|size| size.saturating_sub(held as usize)),
        "unsettled": held,
        "delivered": stats.delivered.load(Ordering::Relaxed),
        "settled": stats.settled.load(Ordering::Relaxed),
        "publishing": stats.publishing.load(Ordering::Relaxed),
        "parked": stats.parked.load(Ordering::Relaxed),
        "positions": places,
    })
}
