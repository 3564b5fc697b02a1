//! Upstream: the client's events, and what became of them.

use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Poll};

use super::WsSession;
use crate::config::Guarantee;
use crate::entrypoint::v1::Out;
use crate::entrypoint::websocket::close;
use crate::event::Event;
use crate::http::Error;
use crate::pipeline::upstream::{Outcome, Upstream, confirms};

impl WsSession {
    pub(super) fn poll_up(&mut self, cx: &mut TaskContext<'_>) -> bool {
        let mut moved = false;
        let may_read = loop {
            let Some(up) = &mut self.up else { return false };
            match up.poll(cx) {
                Poll::Ready(outcome) => self.outcome(outcome),
                Poll::Pending => break up.may_read(),
            }
            moved = true;
        };
        if may_read && let Some((reference, id)) = self.accepting.take() {
            self.say(&Out::Accepted { reference, id });
            moved = true;
        }
        self.session.stats.parked.store(!may_read, Ordering::Relaxed);
        moved
    }

    pub(super) fn outcome(&mut self, outcome: Outcome) {
        let confirmed = self.session.upstream.as_ref().is_some_and(|route| confirms(route.config.delivery_guarantee));
        let Outcome { reference, id, result } = outcome;
        match result {
            Ok(()) if confirmed => self.say(&Out::Published { reference, id: id.to_string() }),
            Ok(()) => {}
            Err(_) if !confirmed => {}
            Err(error) => {
                tracing::warn!(event_id = %id, session_id = %self.session.id, %error, "a publish failed");
                if self.v1 {
                    let error = Error::from(error);
                    self.say(&Out::Error { reference, code: &error.code, message: error.message });
                } else {
                    self.close(close::NOT_PUBLISHED);
                    self.down = None;
                }
            }
        }
    }

    pub(super) fn publish(&mut self, reference: Option<String>, event: Event) {
        let Some(leg) = self.writes.clone() else {
            if self.v1 {
                let message = "no route of this entrypoint takes events".to_owned();
                self.say(&Out::Error { reference, code: "no_route", message });
            } else {
                self.close(close::NO_UPSTREAM);
                self.down = None;
            }
            return;
        };
        if event.payload.as_ref().is_some_and(|payload| payload.len() > self.context.config.max_frame) {
            let message = format!("the payload is larger than max_frame, {} bytes", self.context.config.max_frame);
            self.say(&Out::Error { reference, code: "too_large", message });
            return;
        }
        let answered = matches!(leg.route.config.delivery_guarantee, Guarantee::None | Guarantee::Auto);
        let at_once = leg.route.config.delivery_guarantee == Guarantee::None;
        let id = event.id.to_string();
        let session = self.session.clone();
        let up = self.up.get_or_insert_with(|| Upstream::new(session, leg.route));
        up.push(reference.clone(), event);
        let entered = up.may_read();
        if answered && self.v1 {
            if at_once || entered {
                self.say(&Out::Accepted { reference, id });
            } else {
                self.accepting = Some((reference, id));
            }
        }
    }
}
