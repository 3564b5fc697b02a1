//! Events in the plugins: one after the other, so that the session's order holds wherever a plugin runs; and what becomes
//! of those that do not pass.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use mediation_delivery::{Answer, Token};

use super::{BATCH, Downstream, Form, Fresh, Given, Kept, record};
use crate::config::Guarantee;
use crate::endpoint::Delivery;
use crate::event::Event;
use crate::pipeline::dead_letter;
use crate::pipeline::generations::Shown;
use crate::plugin::chain::{Chain, Failure, Outcome, Passed, Passing, Then};

/// What is in the plugins, or waits for them.
#[derive(Default)]
pub(super) struct Passage {
    /// From the broker; holds no permit yet, and nothing more is pulled meanwhile.
    pub(super) pulled: VecDeque<Delivery>,
    /// In the window, and due to be tried again.
    pub(super) again: VecDeque<Token>,
    running: Option<(Subject, BoxFuture<'static, Passed>)>,
    shown: Shown,
}

impl Passage {
    /// Holds events of the window that are with nobody.
    pub(super) fn owes(&self) -> bool {
        !self.again.is_empty() || matches!(self.running, Some((Subject::Owed(_), _)))
    }
}

/// Whose turn it is in the plugins.
enum Subject {
    New(New),
    Owed(Token),
}

struct New {
    event: Arc<Event>,
    lane: usize,
    next: i64,
}

impl Downstream {
    /// Sends events through until one has to wait; false while one does.
    pub(super) fn poll_passing(&mut self, cx: &mut Context<'_>, out: &mut Vec<Given>) -> bool {
        let Some(passage) = &mut self.passage else { return true };
        if passage.pulled.is_empty() && passage.again.is_empty() && passage.running.is_none() {
            return true;
        }
        self.batch += 1;
        let chain = self.leg.route.chain.load_full();
        let free = loop {
            let Some(passage) = &mut self.passage else { break true };
            if let Some((subject, mut running)) = passage.running.take() {
                match running.as_mut().poll(cx) {
                    Poll::Ready(passed) => self.passed(subject, passed, out),
                    Poll::Pending => {
                        passage.running = Some((subject, running));
                        break false;
                    }
                }
                continue;
            }
            if out.len() >= BATCH {
                break true;
            }
            match self.next() {
                Some((subject, event)) => self.send(&chain, subject, &event, out),
                None => break true,
            }
        };
        if !out.is_empty() {
            self.session.stats.delivered.fetch_add(out.len() as u64, Ordering::Relaxed);
        }
        self.told();
        free
    }

    fn next(&mut self) -> Option<(Subject, Arc<Event>)> {
        let passage = self.passage.as_mut()?;
        while let Some(token) = passage.again.pop_front() {
            if let Some(kept) = self.window.item(&token) {
                return Some((Subject::Owed(token), kept.event.clone()));
            }
        }
        let Delivery { event, lane, next } = passage.pulled.pop_front()?;
        let event = Arc::new(event);
        Some((Subject::New(New { event: event.clone(), lane, next }), event))
    }

    fn send(&mut self, chain: &Arc<Chain>, subject: Subject, event: &Arc<Event>, out: &mut Vec<Given>) {
        match chain.pass(event, &self.leg.facts, self.leg.seed) {
            Passing::Ready(passed) => self.passed(subject, passed, out),
            Passing::Later(running) => {
                if let Some(passage) = &mut self.passage {
                    passage.running = Some((subject, running));
                }
            }
        }
    }

    fn passed(&mut self, subject: Subject, passed: Passed, out: &mut Vec<Given>) {
        let Passed { result, generations } = passed;
        match result {
            Ok(outcome) => {
                let plugins = self.passage.as_mut().and_then(|passage| passage.shown.of(&generations));
                self.deliver(subject, outcome, plugins, out);
            }
            Err(failure) => self.failed(subject, &failure),
        }
    }

    fn deliver(&mut self, subject: Subject, outcome: Outcome, plugins: Option<Arc<str>>, out: &mut Vec<Given>) {
        let events = outcome.events;
        if events.is_empty() {
            let token = self.owed(subject);
            self.leg.route.metrics.plugin_dropped.inc();
            self.settle(token, Answer::Ack);
            return;
        }
        let fresh = Fresh::now(self.batch);
        let mut packets = self.leg.route.packets.batch();
        let mut bytes = 0;
        for routed in &events {
            bytes += routed.event.size();
            packets.push_with(|| record(&self.session, &routed.event, plugins.clone()));
        }
        packets.send();
        self.leg.route.metrics.events.inc_by(events.len() as u64);
        self.leg.route.metrics.bytes.inc_by(bytes as u64);
        let outputs = u16::try_from(events.len()).unwrap_or(u16::MAX);
        let form = |input: &Arc<Event>| match events.as_slice() {
            [one] if Arc::ptr_eq(&one.event, input) => Form::Same,
            all => Form::Mapped(all.iter().map(|routed| routed.event.clone()).collect()),
        };
        let first = match subject {
            Subject::New(New { event, lane, next }) => {
                let form = form(&event);
                let bytes = bytes.max(event.size());
                let kept = Kept { was_given: false, ..fresh.kept(event, form, lane, next) };
                Some(self.window.enter(lane, next, bytes, outputs, kept))
            }
            Subject::Owed(token) => {
                if let Some(kept) = self.window.item_mut(&token) {
                    kept.form = form(&kept.event);
                }
                self.window.deliver(&token, bytes, outputs)
            }
        };
        if let Some(first) = first {
            self.give_outputs(first, &fresh, out);
        }
    }

    /// Enters the event as one that is owed, unless it is in the window already.
    fn owed(&mut self, subject: Subject) -> Token {
        match subject {
            Subject::Owed(token) => token,
            Subject::New(New { event, lane, next }) => {
                let size = event.size();
                let kept = Fresh::now(self.batch).kept(event, Form::Owed, lane, next);
                self.window.enter_owed(lane, next, size, kept)
            }
        }
    }

    fn failed(&mut self, subject: Subject, failure: &Failure) {
        let token = self.owed(subject);
        let route = self.leg.route.clone();
        route.metrics.plugin_failed(failure.label()).inc();
        let Some(kept) = self.window.item_mut(&token) else { return };
        kept.strikes = kept.strikes.saturating_add(1);
        let (strikes, id) = (kept.strikes, kept.event.id.clone());
        let letters = dead_letter::takes(&self.leg, &kept.event);
        tracing::debug!(event_id = %id, route = %route.name, %failure, strikes, "an event did not pass the plugins");
        // Under none the broker has had its answer on receiving: nobody gives the event again.
        let acked = self.guarantee() == Guarantee::None;
        let spent = route.config.max_redeliveries.is_some_and(|max| strikes > max);
        match failure.then {
            Then::Again if letters && (spent || acked) => self.letter(token, failure.reason()),
            Then::DeadLetter | Then::Refuse if letters => self.letter(token, failure.reason()),
            Then::Again | Then::DeadLetter if !acked => self.settle(token, Answer::Nack),
            Then::Again | Then::DeadLetter | Then::Refuse => {
                route.metrics.events_lost(failure.label()).inc();
                tracing::error!(event_id = %id, route = %route.name, %failure,
                    "an event did not pass the plugins and is gone: the route has no dead_letter");
                self.settle(token, Answer::Ack);
            }
        }
    }
}
