//! One session's own librdkafka consumer: polled in the session's task, closed on the closing pool.
//!
//! It reads what it is assigned and never joins its group.

use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::OwnedSemaphorePermit;

use super::context::Context;
use super::pool::Pool;
use super::settings::Settings;
use crate::endpoint::supervisor::Status;

/// Polls that gave an event without a message (log lines) before the task yields.
const SERVED_AT_ONCE: usize = 64;

/// A partition and where to read it from.
pub(super) type Place = (Arc<str>, i32, i64);

/// See the module.
pub(super) struct Dedicated {
    client: Option<BaseConsumer<Context>>,
    /// The place under `max_dedicated_consumers`, held until it is closed.
    permit: Option<OwnedSemaphorePermit>,
    closing: Arc<Pool>,
    waker: Arc<AtomicWaker>,
}

impl Dedicated {
    /// Creates it and starts reading. Blocks for some milliseconds, never for a broker.
    pub(super) fn open(
        settings: &Settings,
        status: &Arc<Status>,
        permit: OwnedSemaphorePermit,
        closing: Arc<Pool>,
        places: &[Place],
    ) -> KafkaResult<Self> {
        let mut client = BaseConsumer::from_config_and_context(&settings.consumer, Context::new(status, true))?;
        let waker = Arc::new(AtomicWaker::new());
        let wake = Arc::clone(&waker);
        client.set_nonempty_callback(move || wake.wake());
        let opened = Self { client: Some(client), permit: Some(permit), closing, waker };
        opened.client()?.assign(&list(places)?)?;
        Ok(opened)
    }

    /// The next message or error; Pending with the waker registered when there is none now.
    pub(super) fn poll_next(&self, cx: &mut task::Context<'_>) -> Poll<KafkaResult<BorrowedMessage<'_>>> {
        let client = self.client()?;
        let mut registered = false;
        for _ in 0..SERVED_AT_ONCE {
            let served = client.context().served();
            if let Some(result) = client.poll(Duration::ZERO) {
                return Poll::Ready(result);
            }
            if client.context().served() != served {
                continue;
            }
            if registered {
                return Poll::Pending;
            }
            // Looked at once more after this: what came in between woke nobody.
            self.waker.register(cx.waker());
            registered = true;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads further partitions too.
    pub(super) fn add(&self, places: &[Place]) -> KafkaResult<()> {
        self.client()?.incremental_assign(&list(places)?)
    }

    /// Goes on elsewhere in partitions that it reads.
    pub(super) fn move_to(&self, places: &[Place]) -> KafkaResult<()> {
        let client = self.client()?;
        client.incremental_unassign(&list(places)?)?;
        client.incremental_assign(&list(places)?)
    }

    fn client(&self) -> KafkaResult<&BaseConsumer<Context>> {
        self.client.as_ref().ok_or(KafkaError::Canceled)
    }
}

impl Drop for Dedicated {
    fn drop(&mut self) {
        let (client, permit) = (self.client.take(), self.permit.take());
        self.closing.submit(move || {
            drop(client);
            drop(permit);
        });
    }
}

fn list(places: &[Place]) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(places.len());
    for (topic, partition, offset) in places {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    Ok(list)
}
