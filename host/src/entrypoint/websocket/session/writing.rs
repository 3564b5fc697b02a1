//! What goes out: handing the wire to the kernel, pings, and the frames that are not events.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Instant;

use futures_util::Sink as _;

use super::{LINGER, WsSession};
use crate::entrypoint::v1::{self, Out};
use crate::pipeline::downstream::Downstream;

impl WsSession {
    pub(super) fn poll_out(&mut self, cx: &mut TaskContext<'_>) -> bool {
        if self.write_dead {
            return false;
        }
        if self.ws.get_ref().is_empty() {
            // tungstenite's own flush may have been the one that emptied it.
            if std::mem::take(&mut self.unreported) {
                self.written();
                return true;
            }
            return false;
        }
        match self.wire().poll_out(cx) {
            Poll::Pending => false,
            Poll::Ready(Err(error)) => {
                tracing::debug!(session_id = %self.session.id, %error, "a write failed");
                self.gone(LINGER);
                true
            }
            Poll::Ready(Ok(())) => {
                self.unreported = false;
                self.written();
                // Pongs that had to wait for room.
                if !self.closed && matches!(Pin::new(&mut self.ws).poll_flush(cx), Poll::Ready(Err(_))) {
                    self.gone(LINGER);
                }
                true
            }
        }
    }

    /// The kernel has everything.
    pub(super) fn written(&mut self) {
        if self.pongs() {
            if !self.receipts.is_empty() && self.liveness.may_ping() && self.ending.is_none() {
                self.send_ping(Instant::now());
            }
        } else if let Some(down) = &mut self.down {
            if !self.receipts.is_empty() {
                down.acknowledge_all(self.receipts.take(usize::MAX));
            }
            self.receipts.shrink();
        }
    }

    pub(super) fn send_ping(&mut self, now: Instant) {
        let covers = if self.pongs() { self.receipts.len() } else { 0 };
        let payload = self.liveness.ping(covers, now);
        self.wire().ping(&payload);
    }

    pub(super) fn say(&mut self, frame: &Out<'_>) {
        if self.v1 && !self.closed && !self.write_dead {
            let text = v1::encode(frame);
            self.wire().data(true, &[text]);
        }
    }

    pub(super) fn notice(&mut self, code: &str) {
        self.say(&Out::Notice { code });
    }

    pub(super) fn say_session(&mut self) {
        let session = self.session.clone();
        let resume = self.down.as_ref().and_then(Downstream::resume_token);
        self.say(&Out::Session { session_id: &session.id, client_id: &session.client_id, resume });
    }
}
