//! One endpoint that a session's events go to: its queue, in the client's order, whatever other endpoints do.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, Stream as _};

use super::parts::Part;
use super::submit;
use crate::endpoint::{Confirm, PublishError};
use crate::routing::EndpointHandle;

/// A publish that ended: of which of the client's events, and how.
pub(super) type Ended = (u64, Result<(), PublishError>);

pub(super) struct Target {
    pub(super) endpoint: Arc<EndpointHandle>,
    /// Not submitted yet.
    waiting: VecDeque<(u64, Part, Instant)>,
    /// At most one is waiting for room, so that the order holds.
    submitting: Option<(u64, BoxFuture<'static, Result<Confirm, PublishError>>)>,
    confirming: FuturesOrdered<Confirm>,
    out: VecDeque<u64>,
    /// They failed behind so many that are still out: their turn comes after these.
    failed: VecDeque<(usize, u64, PublishError)>,
}

impl Target {
    pub(super) fn new(endpoint: Arc<EndpointHandle>) -> Self {
        Self {
            endpoint,
            waiting: VecDeque::new(),
            submitting: None,
            confirming: FuturesOrdered::new(),
            out: VecDeque::new(),
            failed: VecDeque::new(),
        }
    }

    pub(super) fn push(&mut self, event: u64, part: Part, deadline: Instant) {
        self.waiting.push_back((event, part, deadline));
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.submitting.is_none() && self.out.is_empty() && self.failed.is_empty()
    }

    /// Drives what is out; gives the ends in order. Pending also when nothing is out.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            if self.submitting.is_none()
                && let Some((event, part, deadline)) = self.waiting.pop_front()
            {
                self.submitting = Some((event, Box::pin(submit(part, deadline))));
            }
            let Some((event, submitting)) = &mut self.submitting else { break };
            let Poll::Ready(done) = submitting.as_mut().poll(cx) else { break };
            match done {
                Ok(confirm) => {
                    self.confirming.push_back(confirm);
                    self.out.push_back(*event);
                }
                Err(error) => self.failed.push_back((self.out.len(), *event, error)),
            }
            self.submitting = None;
        }
        if self.failed.front().is_some_and(|(behind, ..)| *behind == 0)
            && let Some((_, event, error)) = self.failed.pop_front()
        {
            return Poll::Ready((event, Err(error)));
        }
        if self.out.is_empty() {
            return Poll::Pending;
        }
        match Pin::new(&mut self.confirming).poll_next(cx) {
            Poll::Ready(Some(result)) => match self.out.pop_front() {
                Some(event) => {
                    for (behind, ..) in &mut self.failed {
                        *behind = behind.saturating_sub(1);
                    }
                    Poll::Ready((event, result))
                }
                None => Poll::Pending,
            },
            _ => Poll::Pending,
        }
    }
}
