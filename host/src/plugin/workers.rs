//! A plugin's own threads: two at most, made when there is work, gone after ten idle seconds.
//!
//! The queue needs no bound of its own: each session and request that lives has one call out, and the job of one that does
//! not is empty.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

const THREADS: usize = 2;
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// See the module's documentation. Clones share the threads.
#[derive(Clone)]
pub(super) struct Workers(Arc<Inner>);

struct Inner {
    name: String,
    queue: Mutex<Queue>,
    came: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl Workers {
    pub(super) fn new(plugin: &str) -> Self {
        // The kernel keeps fifteen bytes of a thread's name.
        Self(Arc::new(Inner { name: format!("wasm-{plugin}"), queue: Mutex::default(), came: Condvar::new() }))
    }

    /// Runs it there. A job that no thread can be made for is dropped: who waits for its answer sees that.
    pub(super) fn submit(&self, job: impl FnOnce() + Send + 'static) {
        let mut queue = self.0.queue();
        queue.jobs.push_back(Box::new(job));
        if queue.jobs.len() <= queue.idle || queue.threads >= THREADS {
            drop(queue);
            self.0.came.notify_one();
            return;
        }
        queue.threads += 1;
        drop(queue);
        let inner = self.0.clone();
        if let Err(error) = thread::Builder::new().name(self.0.name.clone()).spawn(move || inner.work()) {
            tracing::error!(plugin = self.0.name, %error, "no thread for a plugin");
            let mut queue = self.0.queue();
            queue.threads -= 1;
            if queue.threads == 0 {
                queue.jobs.clear();
            }
        }
    }

    /// How many there are now.
    pub(super) fn threads(&self) -> usize {
        self.0.queue().threads
    }
}

/// Counts the thread off, whatever ended it.
struct Working<'a>(&'a Inner);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.queue().threads -= 1;
    }
}

impl Inner {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let working = Working(self);
        loop {
            let mut queue = self.queue();
            queue.idle += 1;
            let none = |queue: &mut Queue| queue.jobs.is_empty();
            let (mut queue, _) =
                self.came.wait_timeout_while(queue, IDLE, none).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
            let Some(job) = queue.jobs.pop_front() else {
                // Counted off under the same lock, so that no job comes in between.
                queue.threads -= 1;
                drop(queue);
                std::mem::forget(working);
                return;
            };
            drop(queue);
            // A bug costs its own call: the thread goes on for those that wait. Who asked sees that no answer came.
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!(plugin = self.name, "a call of a plugin panicked in the engine: please report it");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn two_threads_do_all_jobs_and_a_panic_takes_none_with_it() {
        let workers = Workers::new("p");
        let (done, all) = mpsc::channel();
        for n in 0..50 {
            let done = done.clone();
            workers.submit(move || {
                assert!(n != 7, "a bug");
                done.send(n).unwrap();
            });
        }
        drop(done);
        let mut seen: Vec<i32> = all.iter().collect();
        seen.sort_unstable();
        assert_eq!(seen.len(), 49);
        assert!(workers.threads() <= THREADS);
    }
}
