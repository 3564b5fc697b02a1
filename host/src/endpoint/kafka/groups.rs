//! The positions of consumer groups, through one admin client that is replaced when its requests hang.
//!
//! `open` reads, `committer` writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::admin::{Admin, Answer, GroupOffset};
use super::context::Context;
use super::pool::Pool;
use super::settings::{Settings, refused};
use crate::endpoint::State;
use crate::endpoint::supervisor::Status;

/// A client with a request older than this is given up: far below the limit of the requests (see `admin`), far above
/// what a broker that is there takes.
const HANGS: Duration = Duration::from_secs(5);
/// The same while the broker is away, and every request hangs.
const HANGS_AWAY: Duration = Duration::from_secs(60);
/// librdkafka keeps where it believes a coordinator to be, and asks no one else when that one says that it is not: after
/// so many such answers in a row its client is replaced, which forgets.
const ASTRAY: u32 = 3;
/// How soon a coordinator that is not there yet is asked again.
const AGAIN: Duration = Duration::from_millis(200);
/// Reads that are out at once; more wait for their turn, or their deadline.
const MOST_READS: usize = 256;

/// See the module.
pub(super) struct Groups {
    settings: Arc<Settings>,
    status: Arc<Status>,
    closing: Arc<Pool>,
    admin: ArcSwap<Admin>,
    reads: Arc<Semaphore>,
    astray: AtomicU32,
}

impl Groups {
    pub(super) fn new(settings: Arc<Settings>, status: Arc<Status>, closing: Arc<Pool>) -> Result<Self, String> {
        let admin = create(&settings, &status, &closing)?;
        let reads = Arc::new(Semaphore::new(MOST_READS));
        Ok(Self { settings, status, closing, admin: ArcSwap::from_pointee(admin), reads, astray: AtomicU32::new(0) })
    }

    /// Writes positions of a group. No answer (the receiver fails) when the client was given up.
    pub(super) fn write(&self, group: &str, offsets: &[GroupOffset]) -> oneshot::Receiver<Answer> {
        self.admin().write(group, offsets)
    }

    /// Reads all positions of a group. A coordinator that moves, or loads on a Kafka that has just started, is asked
    /// again until the deadline.
    pub(super) async fn read(&self, group: &str, deadline: Instant) -> Answer {
        loop {
            let answer = self.read_once(group, deadline).await;
            match answer {
                Err(Code::CoordinatorLoadInProgress | Code::CoordinatorNotAvailable | Code::NotCoordinator)
                    if Instant::now() + AGAIN < deadline =>
                {
                    tokio::time::sleep(AGAIN).await;
                }
                answer => return answer,
            }
        }
    }

    async fn read_once(&self, group: &str, deadline: Instant) -> Answer {
        let late = Err(Code::OperationTimedOut);
        let Ok(Ok(permit)) = timeout_at(deadline, Arc::clone(&self.reads).acquire_owned()).await else { return late };
        let answer = self.admin().read(group);
        let (give, mut take) = oneshot::channel();
        // The place is held until librdkafka has answered, whether or not anybody still waits.
        tokio::spawn(async move {
            let answer = answer.await;
            drop(permit);
            give.send(answer).ok();
        });
        match timeout_at(deadline, &mut take).await {
            Ok(Ok(Ok(answer))) => {
                self.judge(answer.as_ref().err());
                answer
            }
            _ => late,
        }
    }

    /// Looks at what became of a request: see `ASTRAY`.
    pub(super) fn judge(&self, error: Option<&Code>) {
        if error != Some(&Code::NotCoordinator) {
            self.astray.store(0, Ordering::Relaxed);
        } else if self.astray.fetch_add(1, Ordering::Relaxed) + 1 >= ASTRAY {
            self.astray.store(0, Ordering::Relaxed);
            self.replace(&self.admin.load_full(), "a coordinator moved");
        }
    }

    /// Replaces the client when its requests hang; called now and then.
    pub(super) fn look_after(&self) {
        let old = self.admin.load_full();
        let patience = if self.status.state() == State::Up { HANGS } else { HANGS_AWAY };
        if old.oldest().is_none_or(|oldest| oldest < patience) {
            return;
        }
        self.replace(&old, "admin requests hang");
    }

    fn replace(&self, old: &Arc<Admin>, why: &str) {
        tracing::info!(target: "kafka", endpoint = %self.status.name(), why, "the client for group positions is replaced");
        match create(&self.settings, &self.status, &self.closing) {
            Ok(new) => {
                self.admin.compare_and_swap(old, Arc::new(new));
            }
            Err(error) => tracing::warn!(target: "kafka", "{error}"),
        }
    }

    fn admin(&self) -> Arc<Admin> {
        self.look_after();
        self.admin.load_full()
    }
}

fn create(settings: &Settings, status: &Arc<Status>, closing: &Arc<Pool>) -> Result<Admin, String> {
    let client = BaseConsumer::from_config_and_context(&settings.shared, Context::new(status, true))
        .map_err(|error| refused(status.name(), &error))?;
    Admin::new(client, Arc::clone(closing))
}
