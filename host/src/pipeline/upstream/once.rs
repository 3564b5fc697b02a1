//! One event of a request (`http_post`), which is a session of its own.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;

use super::parts::{self, Part};
use super::{Refusal, entered, letter_of, lost, settled, submit};
use crate::endpoint::PublishError;
use crate::event::Event;
use crate::pipeline::generations::Shown;
use crate::pipeline::{Leg, dead_letter};
use crate::plugin::chain::Passing;

/// An event that has passed the plugins and is in the route's channel.
pub struct Entered {
    leg: Leg,
    event: Arc<Event>,
    parts: Vec<Part>,
}

/// Sends an event through the plugins and into the channel; the caller has a slot of it.
///
/// # Errors
/// It did not pass.
pub async fn enter(leg: Leg, event: Arc<Event>) -> Result<Entered, Refusal> {
    let chain = leg.route.chain.load_full();
    let passed = match chain.pass(&event, &leg.facts, leg.seed) {
        Passing::Ready(passed) => passed,
        Passing::Later(running) => running.await,
    };
    let outcome = passed.result.map_err(|failure| {
        leg.route.metrics.plugin_failed(failure.label()).inc();
        Refusal::Plugin(failure)
    })?;
    let parts = parts::of(&leg, outcome)?;
    if parts.is_empty() {
        leg.route.metrics.plugin_dropped.inc();
    }
    entered(&leg, &"".into(), &parts, Shown::default().of(&passed.generations).as_ref());
    Ok(Entered { leg, event, parts })
}

impl Entered {
    /// Publishes it to all its targets and waits for their confirms.
    ///
    /// # Errors
    /// The first that failed; counted here.
    pub async fn publish(self) -> Result<(), Refusal> {
        publish(&self.leg, self.parts).await
    }

    /// The same for an event whose client has had its answer: what fails goes to the dead letters, or is lost and said so.
    pub async fn publish_answered(self) {
        let Self { leg, event, parts } = self;
        if let Err(refusal) = publish(&leg, parts).await {
            failed_answered(leg, event, &refusal).await;
        }
    }
}

/// An event whose client has had its answer did not get there.
pub async fn failed_answered(leg: Leg, event: Arc<Event>, refusal: &Refusal) {
    let route = leg.route.clone();
    let id = event.id.clone();
    let there = dead_letter::takes(&leg, &event) && dead_letter::publish(leg, event, letter_of(refusal)).await.is_ok();
    if !there {
        lost(&route, &id, refusal);
    }
}

async fn publish(leg: &Leg, parts: Vec<Part>) -> Result<(), Refusal> {
    let deadline = Instant::now() + leg.route.config.publish_timeout;
    let mut targets: Vec<(Arc<str>, Vec<Part>)> = Vec::new();
    for part in parts {
        match targets.iter_mut().find(|(name, _)| *name == part.endpoint.name) {
            Some((_, theirs)) => theirs.push(part),
            None => targets.push((part.endpoint.name.clone(), vec![part])),
        }
    }
    // No endpoint waits for another.
    let targets = targets.into_iter().map(|(name, parts)| async move { (name, to_one(leg, parts, deadline).await) });
    let (mut confirmed, mut refused) = (Vec::new(), None);
    for (endpoint, done) in join_all(targets).await {
        match done {
            Ok(()) => confirmed.push(endpoint),
            Err(error) if refused.is_none() => refused = Some((endpoint, error)),
            Err(_) => {}
        }
    }
    match refused {
        None => Ok(()),
        Some((endpoint, error)) => Err(Refusal::Publish { error, endpoint, confirmed }),
    }
}

/// Each submitted in turn, so that the order of outputs holds; the confirms are awaited together.
async fn to_one(leg: &Leg, parts: Vec<Part>, deadline: Instant) -> Result<(), PublishError> {
    let mut confirming = Vec::with_capacity(parts.len());
    for part in parts {
        confirming.push(submit(part, deadline).await);
    }
    let confirms = confirming.into_iter().map(|submitted| async move { submitted?.await });
    let mut first = Ok(());
    for done in join_all(confirms).await {
        settled(&leg.route, &done);
        first = first.and(done);
    }
    first
}
