//! What librdkafka tells its clients outside of their calls: log lines, errors, delivery reports.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{NoCustomPartitioner, ProducerContext};
use tokio::sync::oneshot;

use crate::endpoint::supervisor::Status;

/// One a client.
pub(super) struct Context {
    status: Arc<Status>,
    /// Sessions' consumers say nothing above debug: the shared clients say the same once.
    quiet: bool,
    /// Log lines and statistics served by a poll: such a poll gives no message though more may be waiting.
    served: AtomicU32,
    /// The client cannot be used any more (idempotent producer).
    fatal: AtomicBool,
    /// The last thing that went wrong, for errors that librdkafka answers with a mere "timed out".
    reason: Mutex<Option<String>>,
}

impl Context {
    pub(super) fn new(status: &Arc<Status>, quiet: bool) -> Self {
        Self {
            status: Arc::clone(status),
            quiet,
            served: AtomicU32::new(0),
            fatal: AtomicBool::new(false),
            reason: Mutex::new(None),
        }
    }

    pub(super) fn served(&self) -> u32 {
        self.served.load(Ordering::Relaxed)
    }

    pub(super) fn is_fatal(&self) -> bool {
        self.fatal.load(Ordering::Relaxed)
    }

    /// What went wrong since it last went well.
    pub(super) fn reason(&self) -> Option<String> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It goes well.
    pub(super) fn clear_reason(&self) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn note(&self, code: Option<RDKafkaErrorCode>) {
        match code {
            Some(RDKafkaErrorCode::Fatal) => self.fatal.store(true, Ordering::Relaxed),
            Some(code) if is_connection(code) => self.status.suspect(),
            _ => {}
        }
    }
}

/// Whether an error is about reaching the broker rather than about what was asked.
pub(super) fn is_connection(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as E;
    matches!(
        code,
        E::BrokerTransportFailure
            | E::AllBrokersDown
            | E::Resolve
            | E::OperationTimedOut
            | E::TimedOutQueue
            | E::RequestTimedOut
            | E::MessageTimedOut
            | E::Authentication
            | E::SaslAuthenticationFailed
            | E::SSL
            | E::NetworkException
            | E::BrokerNotAvailable
            | E::LeaderNotAvailable
    )
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.served.fetch_add(1, Ordering::Relaxed);
        let endpoint = self.status.name();
        match level {
            // Every client has properties that are meant for the other kinds: no news.
            _ if self.quiet || facility == "CONFWARN" => {
                tracing::debug!(target: "kafka", %endpoint, facility, "{text}");
            }
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "kafka", %endpoint, facility, "{text}");
            }
            // A broker that is away is logged once, by the supervisor; these lines come with every attempt.
            RDKafkaLogLevel::Error => tracing::info!(target: "kafka", %endpoint, facility, "{text}"),
            RDKafkaLogLevel::Warning => tracing::warn!(target: "kafka", %endpoint, facility, "{text}"),
            _ => tracing::debug!(target: "kafka", %endpoint, facility, "{text}"),
        }
    }

    fn stats_raw(&self, _: &[u8]) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "kafka", endpoint = %self.status.name(), %error, reason, "client error");
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
        self.note(error.rdkafka_error_code());
    }
}

impl ConsumerContext for Context {}

/// How a publish ended.
pub(super) type Report = Result<(), RDKafkaErrorCode>;

impl ProducerContext<NoCustomPartitioner> for Context {
    type DeliveryOpaque = Box<oneshot::Sender<Report>>;

    fn delivery(&self, result: &DeliveryResult<'_>, confirm: Box<oneshot::Sender<Report>>) {
        let report = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                self.note(Some(code));
                Err(code)
            }
        };
        // Nobody waits under `none` and `auto` once the client has its answer.
        confirm.send(report).ok();
    }
}
