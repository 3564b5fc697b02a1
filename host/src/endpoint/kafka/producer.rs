//! The endpoint's one idempotent producer: submits in order, confirms when the brokers have it.
//!
//! librdkafka alone repeats; its timeout is final. A producer that it declares dead is replaced.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use super::context::Context;
use super::pool::Pool;
use super::record;
use super::settings::{Settings, refused};
use crate::config::KeyFrom;
use crate::endpoint::supervisor::Status;
use crate::endpoint::{Address, Confirm, PublishError};
use crate::event::{Event, Payload};

/// How long a publish waits before it looks for room in librdkafka's queue again.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(5);

type Client = ThreadedProducer<Context>;

/// See the module.
pub(super) struct Producer {
    endpoint: Arc<str>,
    client: ArcSwapOption<Client>,
    renewing: Mutex<()>,
    settings: Settings,
    status: Arc<Status>,
    key: Option<KeyFrom>,
    topic: Option<Arc<str>>,
    max_bytes: Arc<str>,
    closing: Arc<Pool>,
}

impl Producer {
    pub(super) fn new(
        settings: &Settings,
        status: &Arc<Status>,
        key: Option<KeyFrom>,
        topic: Option<Arc<str>>,
        closing: Arc<Pool>,
    ) -> Result<Self, String> {
        let client = create(settings, status)?;
        Ok(Self {
            endpoint: Arc::clone(status.name()),
            client: ArcSwapOption::from_pointee(client),
            renewing: Mutex::new(()),
            max_bytes: settings.message_max_bytes.as_str().into(),
            settings: settings.clone(),
            status: Arc::clone(status),
            key,
            topic,
            closing,
        })
    }

    /// Resolves when librdkafka's queue has taken it; the inner future when the brokers have.
    pub(super) async fn publish(
        &self,
        address: Option<Address>,
        event: Arc<Event>,
        timeout: Duration,
    ) -> Result<Confirm, PublishError> {
        let deadline = Instant::now() + timeout;
        let topic = address.or_else(|| self.topic.clone()).ok_or_else(|| {
            PublishError::AddressNotFound(format!(
                "endpoint {:?} has no topic to publish to: set config.topic_out",
                self.endpoint
            ))
        })?;
        let key = record::key(&event, self.key.as_ref());
        let (confirm, report) = oneshot::channel();
        let failure = Failure {
            endpoint: Arc::clone(&self.endpoint),
            topic: Arc::clone(&topic),
            size: event.size(),
            max_bytes: Arc::clone(&self.max_bytes),
            timeout,
        };
        let mut confirm = Box::new(confirm);
        let mut headers = record::headers(&event);
        let payload = event.payload.as_ref().map(Payload::contiguous);
        loop {
            let error = {
                let client = self.client.load();
                let Some(client) = client.as_ref().filter(|c| !c.client().context().is_fatal()) else {
                    self.renew()?;
                    continue;
                };
                let record = BaseRecord::<[u8], [u8], _> {
                    topic: &topic,
                    partition: None,
                    payload: payload.as_deref(),
                    key: key.as_deref(),
                    timestamp: Some(event.timestamp_ms),
                    headers: Some(headers),
                    delivery_opaque: confirm,
                };
                match client.send(record) {
                    Ok(()) => break,
                    Err((error, back)) => {
                        confirm = back.delivery_opaque;
                        headers = back.headers.unwrap_or_default();
                        error
                    }
                }
            };
            let code = match error {
                KafkaError::MessageProduction(code) => code,
                // The topic has a NUL in it.
                _ => RDKafkaErrorCode::InvalidTopic,
            };
            match code {
                RDKafkaErrorCode::QueueFull if Instant::now() < deadline => sleep(QUEUE_FULL_PAUSE).await,
                RDKafkaErrorCode::Fatal => self.renew()?,
                _ => return Err(failure.at_submit(code)),
            }
        }
        Ok(Box::pin(async move {
            match timeout_at(deadline, report).await {
                Ok(Ok(Ok(()))) => Ok(()),
                Ok(Ok(Err(code))) => Err(failure.at_confirm(code)),
                Ok(Err(_)) | Err(_) => Err(failure.timed_out()),
            }
        }))
    }

    /// Asks for the topic's metadata, which the first publish would else wait for. Blocks.
    pub(super) fn warm(&self, timeout: Duration) {
        let client = self.client.load_full();
        if let (Some(client), Some(topic)) = (client, self.topic.as_deref())
            && let Err(error) = client.client().fetch_metadata(Some(topic), timeout)
        {
            tracing::debug!(target: "kafka", endpoint = %self.endpoint, %error, "the producer is not warm");
        }
    }

    /// Takes the client away, so that later publishes fail, and waits for what is out. Blocks.
    pub(super) fn close(&self, within: Duration) {
        if let Some(client) = self.client.swap(None)
            && let Err(error) = client.flush(within)
        {
            tracing::warn!(target: "kafka", endpoint = %self.endpoint, %error, out = client.in_flight_count(),
                "closed with publishes that nobody confirmed");
        }
    }

    /// librdkafka gave the client up (an idempotent producer that lost its place): the next one starts afresh.
    fn renew(&self) -> Result<(), PublishError> {
        let closing = || PublishError::Unavailable(format!("endpoint {:?} is being closed", self.endpoint));
        let _guard = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.client.load_full().ok_or_else(closing)?;
        if !old.client().context().is_fatal() && old.client().fatal_error().is_none() {
            return Ok(());
        }
        tracing::warn!(target: "kafka", endpoint = %self.endpoint, reason = ?old.client().fatal_error(),
            "the producer failed for good and is replaced");
        let new = create(&self.settings, &self.status).map_err(PublishError::Unavailable)?;
        let before = self.client.compare_and_swap(&old, Some(Arc::new(new)));
        if before.is_none() {
            return Err(closing());
        }
        drop(before);
        self.closing.submit(move || drop(old));
        Ok(())
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // Its end joins threads: not here.
        if let Some(client) = self.client.swap(None) {
            self.closing.submit(move || drop(client));
        }
    }
}

fn create(settings: &Settings, status: &Arc<Status>) -> Result<Client, String> {
    Client::from_config_and_context(&settings.producer, Context::new(status, false))
        .map_err(|error| refused(status.name(), &error))
}

/// What an error of one publish says.
struct Failure {
    endpoint: Arc<str>,
    topic: Arc<str>,
    size: usize,
    max_bytes: Arc<str>,
    timeout: Duration,
}

impl Failure {
    fn timed_out(&self) -> PublishError {
        PublishError::TimedOut(format!(
            "{} was not confirmed within {:?}; it may have been written",
            self.what(),
            self.timeout
        ))
    }

    /// Nothing was written.
    fn at_submit(&self, code: RDKafkaErrorCode) -> PublishError {
        use RDKafkaErrorCode as E;
        match code {
            E::QueueFull => PublishError::Unavailable(format!(
                "{} found no room in the producer's queue within {:?}",
                self.what(),
                self.timeout
            )),
            _ => self.permanent(code).unwrap_or_else(|| PublishError::Unavailable(format!("{}: {code}", self.what()))),
        }
    }

    fn at_confirm(&self, code: RDKafkaErrorCode) -> PublishError {
        use RDKafkaErrorCode as E;
        match code {
            E::PurgeQueue => {
                PublishError::Unavailable(format!("{} was given up: the endpoint is closing", self.what()))
            }
            _ => self.permanent(code).unwrap_or_else(|| match code {
                E::MessageTimedOut => self.timed_out(),
                _ => PublishError::TimedOut(format!("{}: {code}; it may have been written", self.what())),
            }),
        }
    }

    fn permanent(&self, code: RDKafkaErrorCode) -> Option<PublishError> {
        use RDKafkaErrorCode as E;
        let what = self.what();
        Some(match code {
            E::MessageSizeTooLarge | E::InvalidMessageSize | E::MessageBatchTooLarge => {
                PublishError::TooLarge(format!(
                    "{what}: {} bytes are too large: the client takes {} bytes (config.properties: message.max.bytes), the \
                 broker as many as the topic's max.message.bytes or its own message.max.bytes",
                    self.size, self.max_bytes
                ))
            }
            E::UnknownTopicOrPartition | E::UnknownTopic | E::UnknownPartition => {
                PublishError::AddressNotFound(format!("endpoint {:?} has no topic {:?}", self.endpoint, self.topic))
            }
            E::TopicAuthorizationFailed
            | E::ClusterAuthorizationFailed
            | E::InvalidTopic
            | E::InvalidRecord
            | E::InvalidTimestamp
            | E::PolicyViolation
            | E::UnsupportedForMessageFormat
            | E::InvalidMessage => PublishError::Refused(format!("{what} is refused by the broker: {code}")),
            _ => return None,
        })
    }

    fn what(&self) -> String {
        format!("endpoint {:?}: the event for topic {:?}", self.endpoint, self.topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_whose_fault_it_is() {
        let failure = Failure {
            endpoint: "main".into(),
            topic: "t".into(),
            size: 9,
            max_bytes: "5".into(),
            timeout: Duration::from_secs(1),
        };
        use RDKafkaErrorCode as E;
        let text = |e: PublishError| e.to_string();
        let large = failure.at_submit(E::MessageSizeTooLarge);
        assert!(matches!(large, PublishError::TooLarge(_)));
        assert!(text(large).contains("message.max.bytes"));
        let absent = failure.at_confirm(E::UnknownTopic);
        assert!(matches!(absent, PublishError::AddressNotFound(_)));
        assert!(text(absent).contains("\"t\""));
        assert!(matches!(failure.at_confirm(E::TopicAuthorizationFailed), PublishError::Refused(_)));
        let late = failure.at_confirm(E::MessageTimedOut);
        assert!(matches!(late, PublishError::TimedOut(_)));
        assert!(text(late).contains("may have been written"));
        assert!(matches!(failure.at_submit(E::QueueFull), PublishError::Unavailable(_)));
        assert!(matches!(failure.at_confirm(E::Fail), PublishError::TimedOut(_)));
    }
}
