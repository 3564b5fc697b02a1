//! What is said of an event: by its client, by time, by the dead letters.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, Stream as _};
use mediation_delivery::{Answer, Answered, Token};

use super::Downstream;
use crate::pipeline::dead_letter;

/// Events on their way to the dead letters; true: they got there.
pub(super) type Letters = FuturesUnordered<Pin<Box<dyn Future<Output = (Token, bool)> + Send>>>;

impl Downstream {
    /// The receipt of one event.
    pub fn acknowledge(&mut self, token: Token) {
        self.settle(token, Answer::Ack);
    }

    /// Receipts of many, told to the broker once.
    pub fn acknowledge_all(&mut self, tokens: impl Iterator<Item = Token>) {
        let now = Instant::now();
        let mut settled = 0_u64;
        for token in tokens {
            settled += u64::from(matches!(self.window.answer(token, Answer::Ack, now), Answered::Settled(..)));
        }
        self.count_settled(settled);
        self.told();
    }

    /// It did not get there: it comes again.
    pub fn give_back(&mut self, token: Token) {
        self.settle(token, Answer::Nack);
    }

    /// A client's answer by event id. False: no such event is out.
    pub fn answer_id(&mut self, id: &str, answer: Answer) -> bool {
        // What is on its way to the dead letters is theirs to settle, whatever else its client says.
        let named = self.window.claim(|kept, _| {
            let at = kept.outputs().iter().position(|event| event.id.matches(id)).filter(|_| !kept.letter)?;
            u16::try_from(at).ok()
        });
        let Some(token) = named else { return false };
        if !self.at_least_once() {
            self.settle(token, answer);
            return true;
        }
        let more = self.window.left(&token) > 1;
        let Some(kept) = self.window.item_mut(&token) else { return false };
        kept.worst = kept.worst.max(answer);
        if more {
            // Once for the event, when the last of its outputs is answered: the worst counts.
            self.settle(token, Answer::Ack);
            return true;
        }
        let worst = kept.worst;
        kept.strikes = kept.strikes.saturating_add(u32::from(worst == Answer::Nack));
        let spent = self.leg.route.config.max_redeliveries.is_some_and(|max| kept.strikes > max);
        let letters = dead_letter::takes(&self.leg, &kept.event);
        match worst {
            Answer::Nack if letters && spent => self.letter(token, "max_redeliveries".to_owned()),
            Answer::Reject if letters => self.letter(token, "rejected".to_owned()),
            _ => self.settle(token, worst),
        }
        true
    }

    /// Gives back what the client has not answered for `timeout`.
    pub fn expire(&mut self, timeout: Duration) {
        if !self.at_least_once() {
            return;
        }
        let late = |kept: &super::Kept| !kept.letter && !kept.outputs().is_empty() && kept.given.elapsed() >= timeout;
        // Whichever of its outputs is still out.
        for part in 0..u16::MAX {
            let mut more = false;
            while let Some(token) = self.window.claim(|kept, outputs| {
                more |= outputs > part + 1;
                (late(kept) && part < outputs).then_some(part)
            }) {
                self.give_back(token);
            }
            if !more {
                return;
            }
        }
    }

    /// Answers the window, and tells whom it concerns.
    pub(super) fn settle(&mut self, token: Token, answer: Answer) {
        match self.window.answer(token, answer, Instant::now()) {
            Answered::Settled(kept, worst) => {
                if worst == Answer::Reject {
                    tracing::warn!(event_id = %kept.event.id, route = %self.leg.route.name, client_id = %self.session.client_id,
                        "rejected by its client; the route has no dead letters, so it is acknowledged and gone");
                    self.leg.route.metrics.events_lost("rejected").inc();
                }
                self.count_settled(1);
                self.told();
            }
            Answered::Again => {
                self.leg.route.metrics.nacked.inc();
                self.told();
            }
            Answered::Partly | Answered::Stale => {}
        }
    }

    /// Puts the event to the dead letters; it is answered for when it is there.
    pub(super) fn letter(&mut self, token: Token, reason: String) {
        let Some(kept) = self.window.item_mut(&token) else { return };
        kept.letter = true;
        let why = dead_letter::Why { reason, attempts: kept.strikes.max(1) };
        // A task of its own: nobody polls an http_get session between its polls.
        let publishing = tokio::spawn(dead_letter::publish(self.leg.clone(), kept.event.clone(), why));
        let done = Box::pin(async move { (token, matches!(publishing.await, Ok(Ok(())))) });
        self.letters.get_or_insert_default().push(done);
        self.session.notify(0);
    }

    /// What became of those.
    pub(super) fn poll_letters(&mut self, cx: &mut Context<'_>) {
        while let Some(letters) = &mut self.letters {
            match Pin::new(letters).poll_next(cx) {
                Poll::Ready(Some((token, there))) => {
                    if let Some(kept) = self.window.item_mut(&token) {
                        kept.letter = false;
                    }
                    self.settle(token, if there { Answer::Ack } else { Answer::Nack });
                }
                Poll::Ready(None) => self.letters = None,
                Poll::Pending => return,
            }
        }
    }

    fn count_settled(&self, count: u64) {
        self.leg.route.metrics.acked.inc_by(count);
        self.session.stats.settled.fetch_add(count, Ordering::Relaxed);
    }
}
