//! A session's subscription: pulls from its own consumer, follows its topics, settles into its ledger.
//!
//! The session's task polls it; what blocks (where a log begins, assigning) runs on the opening pool as `chores`.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rdkafka::Message as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tokio::sync::watch;

use super::chores::{Chores, Found};
use super::committer::Committer;
use super::consumer::Dedicated;
use super::context::is_connection;
use super::lanes::Lanes;
use super::ledger::Ledger;
use super::partitions::Topics;
use super::record;
use crate::endpoint::position::Scope;
use crate::endpoint::supervisor::Status;
use crate::endpoint::{Budget, Delivery, Lane, Lost, Pulled, Subscription};

/// The durable part.
pub(super) struct Durable {
    pub(super) ledger: Arc<Ledger>,
    pub(super) committer: Committer,
}

impl Drop for Durable {
    fn drop(&mut self) {
        self.committer.leave(&self.ledger);
    }
}

/// See the module.
pub(super) struct KafkaSubscription {
    pub(super) status: Arc<Status>,
    pub(super) topics: Topics,
    pub(super) scope: Scope,
    pub(super) lanes: Lanes,
    pub(super) durable: Option<Durable>,
    /// Partitions of each topic, as the endpoint sees them.
    pub(super) partitions: watch::Receiver<Vec<i32>>,
    pub(super) chores: Chores,
    pub(super) consumer: Arc<Dedicated>,
    /// Events were lost, and the session does not know yet.
    pub(super) gap: bool,
}

impl Subscription for KafkaSubscription {
    fn poll_pull(
        &mut self,
        cx: &mut Context<'_>,
        budget: Budget,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<Pulled, Lost>> {
        self.do_chores(cx)?;
        if std::mem::take(&mut self.gap) {
            return Poll::Ready(Ok(Pulled::Gap));
        }
        let before = out.len();
        let mut bytes = 0;
        while out.len() - before < budget.events.max(1) && bytes < budget.bytes.max(1) {
            match self.pull_one(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(delivery)) => {
                    bytes += delivery.event.size();
                    out.push(delivery);
                }
                Poll::Ready(Err(trouble)) => match self.judge(&trouble) {
                    None => {
                        // A chore that it began registers its waker here.
                        self.do_chores(cx)?;
                        if self.gap {
                            break;
                        }
                    }
                    // What was pulled is the session's; it meets this error again at its next pull.
                    Some(_) if out.len() > before => {
                        self.chores.lose(trouble.to_string());
                        break;
                    }
                    Some(lost) => return Poll::Ready(Err(lost)),
                },
            }
        }
        if out.len() > before {
            return Poll::Ready(Ok(Pulled::Events));
        }
        if std::mem::take(&mut self.gap) {
            return Poll::Ready(Ok(Pulled::Gap));
        }
        Poll::Pending
    }

    fn lanes(&self) -> &[Lane] {
        self.lanes.all()
    }

    fn settle(&mut self, lane: usize, position: i64) {
        if let Some(durable) = &self.durable {
            durable.committer.settle(&durable.ledger, lane, position);
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        match &self.durable {
            None => Poll::Ready(Ok(())),
            Some(durable) => Poll::Ready(ready!(durable.committer.poll_flush(&durable.ledger, cx)).map_err(Lost)),
        }
    }

    fn scope(&self) -> Option<Scope> {
        Some(self.scope)
    }
}

impl KafkaSubscription {
    fn pull_one(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery, KafkaError>> {
        loop {
            let message = ready!(self.consumer.poll_next(cx))?;
            let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
            let index = match self.topics.as_ref() {
                [_] => Some(0),
                all => all.iter().position(|t| **t == *topic),
            };
            let found = index.and_then(|index| Some((self.topics.get(index)?, self.lanes.find(index, partition)?)));
            let Some((topic, lane)) = found else {
                tracing::debug!(target: "kafka", topic, partition, "a message of a partition that is not assigned");
                continue;
            };
            if self.lanes.has(lane, offset) {
                continue;
            }
            let event = record::event(&message, topic, self.status.name());
            self.lanes.pulled(lane, offset + 1);
            return Poll::Ready(Ok(Delivery { event, lane, next: offset + 1 }));
        }
    }

    /// What an error from the consumer means; Some ends the subscription.
    fn judge(&mut self, error: &KafkaError) -> Option<Lost> {
        let code = error.rdkafka_error_code();
        if let KafkaError::MessageConsumptionFatal(_) | KafkaError::Canceled = error {
            return Some(Lost(format!("endpoint {:?}: the consumer failed for good: {error}", self.status.name())));
        }
        match code {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::NoOffset | Code::LogTruncation) => {
                self.chores.out_of_range();
            }
            Some(Code::TopicAuthorizationFailed) => {
                return Some(Lost(format!(
                    "endpoint {:?} may not read its topic any more: {error}",
                    self.status.name()
                )));
            }
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
                self.chores.verify();
            }
            Some(code) if is_connection(code) => self.status.suspect(),
            _ => {
                tracing::debug!(target: "kafka", endpoint = %self.status.name(), %error, "the consumer goes on");
            }
        }
        None
    }

    fn do_chores(&mut self, cx: &mut Context<'_>) -> Result<(), Lost> {
        if self.partitions.has_changed().unwrap_or(false) {
            let now = self.partitions.borrow_and_update().clone();
            let new = self.lanes.missing(&now);
            if !new.is_empty() {
                self.chores.grow(new);
            }
        }
        while let Poll::Ready(found) = self.chores.poll(cx, &self.topics, &self.lanes, &self.consumer)? {
            match found {
                Found::New(new) => {
                    let mut places = Vec::with_capacity(new.len());
                    for (topic, partition, start) in new {
                        let Some(name) = self.topics.get(topic) else { continue };
                        if self.lanes.add(topic, partition, start) {
                            places.push((Arc::clone(name), partition, start));
                            if let Some(durable) = &self.durable {
                                durable.ledger.add(name, partition, start, None);
                                durable.committer.look_soon(&durable.ledger);
                            }
                        }
                    }
                    // Only now: a message finds its lane.
                    self.chores.assign(places, false);
                }
                Found::Edges(edges) => {
                    let stopped = self.lanes.stopped(&edges);
                    let mut places = Vec::with_capacity(stopped.len());
                    for (lane, start, outside) in stopped {
                        if let Some((topic, partition)) = self.lanes.place(lane)
                            && let Some(name) = self.topics.get(topic)
                        {
                            places.push((Arc::clone(name), partition, start));
                            if outside {
                                if self.lanes.has(lane, start) {
                                    // Back: not retention, but a topic of that name that was made anew.
                                    self.lanes.renew(lane, start);
                                    if let Some(durable) = &self.durable {
                                        durable.ledger.add(name, partition, start, None);
                                        durable.committer.look_soon(&durable.ledger);
                                    }
                                } else {
                                    self.lanes.pulled(lane, start);
                                }
                                self.gap = true;
                                tracing::warn!(target: "kafka", endpoint = %self.status.name(), topic = &**name,
                                    partition, start, "the position is not in the log any more (retention, or a topic made anew): a session goes on at the log's start");
                            }
                        }
                    }
                    self.chores.assign(places, true);
                }
            }
        }
        Ok(())
    }
}
