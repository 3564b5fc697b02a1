//! The stop: not ready, nobody enters, clients are told, listeners close, publishes settle, brokers close.

use std::time::{Duration, Instant};

use super::Engine;
use crate::session::Leave;

/// Clients are told so many a second at least, and faster when half of the time would not do.
const TELLING: f64 = 1000.0;

impl Engine {
    /// Ends the engine within `drain_timeout`; false when the time ran out.
    pub async fn drain(self) -> bool {
        let deadline = Instant::now() + self.config.drain_timeout;
        let sessions = self.sessions.drain();
        tracing::info!(sessions = sessions.len(), "stopping");
        let spread = (self.config.drain_timeout / 2).min(Duration::from_secs_f64(sessions.len() as f64 / TELLING));
        let each = spread / u32::try_from(sessions.len().max(1)).unwrap_or(u32::MAX);
        let begun = Instant::now();
        for (told, session) in (0_u32..).zip(&sessions) {
            session.leave(Leave::Drain);
            // In steps that a timer can keep.
            let due = each * told;
            if due > begun.elapsed() + Duration::from_millis(5) {
                tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
            }
        }
        drop(sessions);
        self.stop.send_replace(true);
        self.tasks.close();
        let settled = tokio::time::timeout_at(deadline.into(), self.tasks.wait()).await.is_ok();
        if !settled {
            let left = self.sessions.count();
            tracing::warn!(sessions = left, "drain_timeout ran out: what is left is given back to the brokers");
        }
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
        let closing = self.endpoints.iter().map(|one| one.endpoint.close(left));
        let closed = tokio::time::timeout(left, futures_util::future::join_all(closing)).await.is_ok();
        self.finish.send_replace(true);
        self.background.close();
        if tokio::time::timeout(Duration::from_millis(200), self.background.wait()).await.is_err() {
            tracing::debug!("a connection to the admin listener was cut");
        }
        if !self.packets.flush(Duration::from_millis(500)) {
            tracing::warn!("the packet log was not written to its end: stdout stalls");
        }
        tracing::info!(clean = settled && closed, "stopped");
        settled && closed
    }
}
