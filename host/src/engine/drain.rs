//! The stop: not ready, nobody enters, clients are told, listeners close, publishes settle, brokers close.

use std::time::{Duration, Instant};

use super::leaving::tell;
use super::{Engine, endpoints, listeners};
use crate::session::Leave;

/// Clients are told so many a second at least, and faster when half of the time would not do.
const TELLING: f64 = 1000.0;

impl Engine {
    /// Ends the engine within `drain_timeout`; false when the time ran out.
    pub async fn drain(self) -> bool {
        let inner = self.0;
        // A reload that is under way holds `running` to its end; none begins after this.
        inner.stop.send_replace(true);
        let config = inner.running().config.clone();
        let deadline = Instant::now() + config.drain_timeout;
        let sessions = inner.sessions.drain();
        tracing::info!(sessions = sessions.len(), "stopping");
        let spread = (config.drain_timeout / 2).min(Duration::from_secs_f64(sessions.len() as f64 / TELLING));
        tell(&sessions, Leave::Drain, spread).await;
        drop(sessions);
        inner.running().listeners.iter().for_each(listeners::Running::stop);
        inner.tasks.close();
        let settled = tokio::time::timeout_at(deadline.into(), inner.tasks.wait()).await.is_ok();
        if !settled {
            let left = inner.sessions.count();
            tracing::warn!(sessions = left, "drain_timeout ran out: what is left is given back to the brokers");
        }
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
        let closed_now = std::mem::take(&mut inner.running().endpoints);
        let closing = closed_now.iter().map(|one| one.handle.endpoint.close(left));
        let closed = tokio::time::timeout(left, futures_util::future::join_all(closing)).await.is_ok();
        closed_now.iter().for_each(endpoints::Running::stop);
        inner.running().listeners.iter().for_each(listeners::Running::end);
        inner.finish.send_replace(true);
        inner.background.close();
        if tokio::time::timeout(Duration::from_millis(200), inner.background.wait()).await.is_err() {
            tracing::debug!("a connection to the admin listener was cut");
        }
        if !inner.packets.flush(Duration::from_millis(500)) {
            tracing::warn!("the packet log was not written to its end: stdout stalls");
        }
        tracing::info!(clean = settled && closed, "stopped");
        settled && closed
    }
}
