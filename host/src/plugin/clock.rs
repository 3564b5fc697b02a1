//! How long one call of a guest may take. Epochs are wall clock and a busy machine must not fail an innocent guest: from
//! the first look on, the thread's own CPU time counts, and the wall clock only ten times over.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use wasmtime::{Error, Result, UpdateDeadline};

/// The hard limit on I/O threads.
pub(super) const INLINE: Duration = Duration::from_millis(20);
/// The hard limit on the plugin's own threads.
pub(super) const OWN: Duration = Duration::from_millis(100);
/// The hard limit at connect.
pub(super) const CONNECT: Duration = Duration::from_millis(50);
/// The hard limit of `describe` and `init`.
pub(super) const INIT: Duration = Duration::from_secs(1);

/// The error of a guest that passed its hard limit.
#[derive(Debug, thiserror::Error)]
#[error("took more than {} ms", .0.as_millis())]
pub(super) struct Late(pub(super) Duration);

/// Of the call that runs now.
pub(super) struct Clock {
    soft: Duration,
    hard: Duration,
    /// Thread time and wall clock at the first look: when the soft deadline had passed.
    since: Option<(Duration, Instant)>,
}

impl Clock {
    /// A call that begins now. Answers after how many ticks to look first.
    pub(super) fn begin(&mut self, soft: Duration, hard: Duration) -> u64 {
        (self.soft, self.hard, self.since) = (soft.min(hard), hard, None);
        // The tick that is under way does not count.
        u64::try_from(self.soft.as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Whether the call passed its soft deadline.
    pub(super) fn passed_soft(&self) -> bool {
        self.since.is_some()
    }

    /// The guest is looked at.
    pub(super) fn look(&mut self) -> Result<UpdateDeadline> {
        let (cpu, wall) = *self.since.get_or_insert_with(|| (thread_time(), Instant::now()));
        let used = thread_time().saturating_sub(cpu);
        if used + self.soft >= self.hard || wall.elapsed() >= self.hard * 10 {
            return Err(Error::new(Late(self.hard)));
        }
        Ok(UpdateDeadline::Continue(1))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self { soft: INIT, hard: INIT, since: None }
    }
}

fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
