//! One clock a listener: each second it ticks the sessions that want it, looks at what the kernel knows of their
//! peers, and watches the sockets that nobody reads.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::registry::Sessions;
use super::{Leave, Session};

/// How long a client may take to read why it is asked to leave.
const LINGER: Duration = Duration::from_secs(2);

/// Sweeps the sessions of one entrypoint until the engine stops.
pub async fn sweep(
    sessions: Arc<Sessions>,
    entrypoint: Arc<str>,
    ping_timeout: Duration,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut clock = tokio::time::interval(Duration::from_secs(1));
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Since when the kernel has been repeating itself to a peer.
    let mut suspects: HashMap<Arc<str>, Instant> = HashMap::new();
    let mut slow: HashMap<Arc<str>, Progress> = HashMap::new();
    let every = (ping_timeout.as_secs() / 8).max(1);
    let mut second = 0_u64;
    loop {
        tokio::select! {
            _ = clock.tick() => {}
            _ = shutdown.wait_for(|stop| *stop) => return,
        }
        second += 1;
        let here: Vec<_> = sessions.all().into_iter().filter(|s| s.entrypoint == entrypoint).collect();
        let known = std::mem::take(&mut slow);
        for session in &here {
            session.tick();
            if session.has_expired() {
                session.leave(Leave::Expired);
            }
            drop_if_stuck(session);
            // hyper does not see the end of a client behind bytes that it does not want yet.
            let unread = session.stats.parked.load(Ordering::Relaxed) || session.upstream.is_none();
            if unread && session.socket.as_ref().is_some_and(|socket| socket.peer_has_left()) {
                session.leave(Leave::Gone);
            }
            if let Some(progress) = Progress::look(session, known.get(&session.id)) {
                slow.insert(session.id.clone(), progress);
            }
        }
        if second.is_multiple_of(every) {
            let known: HashMap<_, _> = std::mem::take(&mut suspects);
            for session in &here {
                if let Some(since) = repeating_since(session, known.get(&session.id)) {
                    if since.elapsed() >= ping_timeout {
                        tracing::info!(session_id = %session.id, "the client's host does not answer any more");
                        session.leave(Leave::Gone);
                    }
                    suspects.insert(session.id.clone(), since);
                }
            }
        }
    }
}

/// How long a session has held events without one of them being settled; kept only where a route bounds it.
#[derive(Clone, Copy)]
struct Progress {
    settled: u64,
    since: Instant,
}

impl Progress {
    /// Asks a client to leave that has held up what others could have for `slow_client_timeout`. Done here, since a
    /// stream whose client does not read is not polled.
    fn look(session: &Session, known: Option<&Self>) -> Option<Self> {
        let limit = session.downstream.as_ref()?.config.slow_client_timeout?;
        let stats = &session.stats;
        // What waits to be given again is not the client's to take.
        if stats.held.load(Ordering::Relaxed) <= stats.waiting.load(Ordering::Relaxed) {
            return None;
        }
        let settled = stats.settled.load(Ordering::Relaxed);
        match known {
            Some(known) if known.settled == settled => {
                if known.since.elapsed() >= limit {
                    session.leave(Leave::TooSlow);
                }
                Some(*known)
            }
            _ => Some(Self { settled, since: Instant::now() }),
        }
    }
}

/// A client that does not read what it is told on leaving would keep its connection, and a durable position, for ever.
fn drop_if_stuck(session: &Session) {
    let patience = match session.leaving() {
        None => return,
        Some(Leave::Gone) => Duration::ZERO,
        Some(_) => LINGER,
    };
    if session.leaving_for().is_some_and(|since| since >= patience)
        && let Some(socket) = &session.socket
    {
        socket.kill();
    }
}

fn repeating_since(session: &Session, known: Option<&Instant>) -> Option<Instant> {
    session.socket.as_ref().filter(|socket| socket.peer_is_silent())?;
    Some(known.copied().unwrap_or_else(Instant::now))
}
