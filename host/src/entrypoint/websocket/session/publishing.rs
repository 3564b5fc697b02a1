//! Upstream: the client's events, and what became of them.

use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Poll};

use super::WsSession;
use crate::config::Guarantee;
use crate::entrypoint::refusal::refused;
use crate::entrypoint::v1::Out;
use crate::entrypoint::websocket::close;
use crate::event::Event;
use crate::pipeline::upstream::{Happened, Refusal, Upstream, confirms};
use crate::plugin::chain::{Failure, Why};

impl WsSession {
    pub(super) fn poll_up(&mut self, cx: &mut TaskContext<'_>) -> bool {
        let mut moved = false;
        let may_read = loop {
            let Some(up) = &mut self.up else { return false };
            match up.poll(cx) {
                Poll::Ready(happened) => self.happened(happened),
                Poll::Pending => break up.may_read(),
            }
            moved = true;
        };
        self.session.stats.parked.store(!may_read, Ordering::Relaxed);
        moved
    }

    fn happened(&mut self, happened: Happened) {
        let guarantee = self.session.upstream.as_ref().map(|route| route.config.delivery_guarantee);
        match happened {
            Happened::Entered { reference, id } if guarantee == Some(Guarantee::Auto) => {
                self.say(&Out::Accepted { reference, id: id.to_string() });
            }
            Happened::Entered { .. } | Happened::Done { answered: true, .. } => {}
            Happened::Done { reference, id, result: Ok(()), .. } => {
                if guarantee.is_some_and(confirms) {
                    self.say(&Out::Published { reference, id: id.to_string() });
                }
            }
            Happened::Done { reference, id, result: Err(refusal), .. } => {
                tracing::warn!(event_id = %id, session_id = %self.session.id, error = %refusal, "a publish failed");
                if self.v1 {
                    let error = refused(refusal);
                    self.say(&Out::Error { reference, code: &error.code, message: error.message });
                } else {
                    let rejected = matches!(&refusal, Refusal::Plugin(Failure { why: Why::Rejection(_), .. }));
                    self.close(if rejected { close::REJECTED } else { close::NOT_PUBLISHED });
                    self.down = None;
                }
            }
        }
    }

    pub(super) fn publish(&mut self, reference: Option<String>, event: Event) {
        let Some(leg) = &self.writes else {
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
        let at_once = leg.route.config.delivery_guarantee == Guarantee::None;
        let accepted = at_once.then(|| event.id.to_string());
        let (session, v1) = (&self.session, self.v1);
        let up = self.up.get_or_insert_with(|| Upstream::new(session.clone(), leg.clone(), v1));
        let told = reference.clone();
        up.push(reference, event);
        if let Some(id) = accepted {
            self.say(&Out::Accepted { reference: told, id });
        }
    }
}
