//! Downstream: pulling, and putting events into the wire.

use std::cell::RefCell;
use std::task::{Context as TaskContext, Poll};
use std::time::Instant;

use super::WsSession;
use crate::entrypoint::v1::{self, EventFrame, Out};
use crate::entrypoint::websocket::close;
use crate::entrypoint::websocket::frames::is_text;
use crate::event::Payload;
use crate::pipeline::downstream::{Given, Step};

thread_local! {
    /// The worker's: a session has a batch only while it is polled.
    static BATCH: RefCell<Vec<Given>> = const { RefCell::new(Vec::new()) };
}

impl WsSession {
    pub(super) fn poll_down(&mut self, cx: &mut TaskContext<'_>) -> bool {
        if self.ending.is_some() || !self.ws.get_ref().is_empty() {
            return false;
        }
        let Some(down) = &mut self.down else { return false };
        let mut batch = BATCH.take();
        let polled = down.poll_batch(cx, usize::MAX, &mut batch);
        let moved = match polled {
            Poll::Pending => false,
            Poll::Ready(Ok(Step::Batch)) => {
                self.give(&mut batch);
                true
            }
            Poll::Ready(Ok(Step::Gap)) => {
                self.notice("gap");
                true
            }
            Poll::Ready(Err(lost)) => {
                tracing::warn!(session_id = %self.session.id, %lost, "a subscription was lost");
                self.close(close::LOST);
                self.down = None;
                true
            }
        };
        batch.clear();
        BATCH.set(batch);
        moved
    }

    pub(super) fn give(&mut self, batch: &mut Vec<Given>) {
        let Some(down) = &mut self.down else { return };
        let wire = self.ws.get_mut();
        let by_id = self.v1 && down.at_least_once();
        for given in batch.drain(..) {
            down.mark_given(&given);
            if self.v1 {
                let resume = down.resume_token();
                let frame = EventFrame::new(&given.event, given.redelivered, resume);
                wire.data(true, &[v1::encode(&Out::Event(frame))]);
            } else {
                let pieces = given.event.payload.as_ref().map_or(&[][..], Payload::pieces);
                wire.data(is_text(self.context.config.frames, &given.event), pieces);
            }
            if !by_id {
                self.receipts.push(given.token);
            }
        }
        self.unreported = true;
        self.liveness.wrote();
        if self.pongs() && self.liveness.may_ping() {
            self.send_ping(Instant::now());
        }
    }
}
