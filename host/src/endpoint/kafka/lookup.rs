//! The endpoint's shared client: is the broker there, which partitions has a topic, where do they begin and end.
//!
//! Every call blocks, for its limit at most: `pool` threads only.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use super::context::Context;
use super::settings::{Settings, refused};
use crate::endpoint::SubscribeError;
use crate::endpoint::supervisor::Status;

/// A topic that was made a moment ago is not known to every broker at once, nor to librdkafka, which remembers for some
/// moments that it was not there: asked again this often.
const ABSENT_AGAIN: u32 = 5;
const ABSENT_PAUSE: Duration = Duration::from_millis(250);

/// Log lines and errors taken after one check, at most.
const EVENTS_AT_ONCE: usize = 1000;

/// See the module.
pub(super) struct Lookup {
    client: BaseConsumer<Context>,
    endpoint: Arc<str>,
    brokers: String,
}

/// One end of a partition's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    Start,
    End,
}

impl Lookup {
    pub(super) fn new(settings: &Settings, status: &Arc<Status>, brokers: &str) -> Result<Self, String> {
        let client = BaseConsumer::from_config_and_context(&settings.shared, Context::new(status, false))
            .map_err(|error| refused(status.name(), &error))?;
        Ok(Self { client, endpoint: Arc::clone(status.name()), brokers: brokers.to_owned() })
    }

    /// Whether a broker answers; asked about one topic, since without one it would list all.
    pub(super) fn check(&self, topic: &str, limit: Duration) -> Result<(), String> {
        let answer = self.client.fetch_metadata(Some(topic), limit);
        self.take_events();
        let Err(error) = answer else {
            self.client.context().clear_reason();
            return Ok(());
        };
        let code = error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
        Err(match self.client.context().reason() {
            Some(reason) => format!("brokers {}: {code}: {reason}", self.brokers),
            None => format!("brokers {}: {code}", self.brokers),
        })
    }

    /// Takes its log lines and errors, which nobody else takes; it has no messages. A poll that served a log line gives
    /// nothing though the error, which says why the broker cannot be reached, waits behind it.
    fn take_events(&self) {
        let context = self.client.context();
        for _ in 0..EVENTS_AT_ONCE {
            let served = context.served();
            if self.client.poll(Duration::ZERO).is_none() && context.served() == served {
                return;
            }
        }
    }

    /// How many partitions a topic has.
    pub(super) fn partitions(&self, topic: &str, limit: Duration) -> Result<i32, SubscribeError> {
        again_while_absent(limit, |left| self.partitions_once(topic, left))
    }

    fn partitions_once(&self, topic: &str, limit: Duration) -> Result<i32, SubscribeError> {
        let metadata = self.client.fetch_metadata(Some(topic), limit).map_err(|e| self.failed(topic, &e))?;
        let found = metadata.topics().iter().find(|t| t.name() == topic);
        match found.map(|t| (t.error(), t.partitions().len())) {
            None => Err(self.code(topic, Code::UnknownTopicOrPartition)),
            Some((Some(error), _)) if error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {
                Err(self.code(topic, error.into()))
            }
            Some((_, 0)) => Err(self.code(topic, Code::UnknownTopicOrPartition)),
            Some((_, count)) => Ok(i32::try_from(count).unwrap_or(i32::MAX)),
        }
    }

    /// Where partitions begin or end, in one call and in their order.
    pub(super) fn edges(
        &self,
        of: &[(Arc<str>, i32)],
        edge: Edge,
        limit: Duration,
    ) -> Result<Vec<i64>, SubscribeError> {
        if of.is_empty() {
            return Ok(Vec::new());
        }
        again_while_absent(limit, |left| self.edges_once(of, edge, left))
    }

    fn edges_once(&self, of: &[(Arc<str>, i32)], edge: Edge, limit: Duration) -> Result<Vec<i64>, SubscribeError> {
        let first = of.first().map_or("", |(topic, _)| topic);
        let mut wanted = TopicPartitionList::with_capacity(of.len());
        let time = if edge == Edge::End { Offset::End } else { Offset::Beginning };
        for (topic, partition) in of {
            wanted.add_partition_offset(topic, *partition, time).map_err(|e| self.failed(topic, &e))?;
        }
        let found = self.client.offsets_for_times(wanted, limit).map_err(|e| self.failed(first, &e))?;
        of.iter()
            .map(|(topic, partition)| {
                let element = found.find_partition(topic, *partition);
                let element = element.ok_or_else(|| self.code(topic, Code::UnknownPartition))?;
                element.error().map_err(|e| self.failed(topic, &e))?;
                match element.offset() {
                    Offset::Offset(offset) => Ok(offset),
                    other => Err(SubscribeError::Unavailable(format!(
                        "endpoint {:?}: no position for topic {topic:?}, partition {partition}: {other:?}",
                        self.endpoint
                    ))),
                }
            })
            .collect()
    }

    pub(super) fn failed(&self, topic: &str, error: &KafkaError) -> SubscribeError {
        self.code(topic, error.rdkafka_error_code().unwrap_or(Code::Fail))
    }

    pub(super) fn code(&self, topic: &str, code: Code) -> SubscribeError {
        subscribe_error(&self.endpoint, topic, code)
    }
}

/// Whether asking again in a moment may help: a topic that was just made, a leader that moves.
fn passes(error: &SubscribeError) -> bool {
    match error {
        SubscribeError::AddressNotFound(_) => true,
        SubscribeError::Unavailable(text) => {
            [Code::NotLeaderForPartition, Code::LeaderNotAvailable].iter().any(|code| text.ends_with(&code.to_string()))
        }
        _ => false,
    }
}

fn again_while_absent<T>(
    limit: Duration,
    mut ask: impl FnMut(Duration) -> Result<T, SubscribeError>,
) -> Result<T, SubscribeError> {
    let deadline = Instant::now() + limit;
    for _ in 1..ABSENT_AGAIN {
        match ask(deadline.saturating_duration_since(Instant::now())) {
            Err(error) if passes(&error) => thread::sleep(ABSENT_PAUSE),
            other => return other,
        }
    }
    ask(deadline.saturating_duration_since(Instant::now()))
}

/// What a failed request about a topic says to the client.
pub(super) fn subscribe_error(endpoint: &str, topic: &str, code: Code) -> SubscribeError {
    match code {
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition | Code::InvalidTopic => {
            SubscribeError::AddressNotFound(format!("endpoint {endpoint:?} has no topic {topic:?}"))
        }
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            SubscribeError::Refused(format!("endpoint {endpoint:?} may not read topic {topic:?}: {code}"))
        }
        Code::GroupAuthorizationFailed | Code::InvalidGroupId => SubscribeError::Refused(format!(
            "endpoint {endpoint:?} may not keep the position of a durable session (groups \"mediation.{endpoint}.*\"): {code}"
        )),
        _ => SubscribeError::Unavailable(format!("endpoint {endpoint:?}, topic {topic:?}: {code}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_endpoint_and_topic() {
        for (code, absent) in [(Code::UnknownTopicOrPartition, true), (Code::OperationTimedOut, false)] {
            let error = subscribe_error("main", "t", code);
            assert_eq!(matches!(error, SubscribeError::AddressNotFound(_)), absent);
            assert!(error.to_string().contains("\"main\"") && error.to_string().contains("\"t\""));
        }
    }
}
