//! A few threads of our own for librdkafka's blocking calls: opening and closing have one each, so that neither can
//! starve the other, and tokio's blocking pool is left alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// Threads that take jobs in order; they end when the pool is dropped and the last job is done.
pub(super) struct Pool {
    jobs: mpsc::Sender<Job>,
}

impl Pool {
    /// `name` is what the threads are called, at most 15 bytes of it are seen.
    pub(super) fn new(name: &str, threads: usize) -> Result<Self, String> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || work(&queue))
                .map_err(|error| format!("no thread for {name}: {error}"))?;
        }
        Ok(Self { jobs })
    }

    /// Runs it some time; nobody waits for it.
    pub(super) fn submit(&self, job: impl FnOnce() + Send + 'static) {
        // The threads live as long as this sender: a send cannot fail. If it did, the job is dropped here and now.
        if self.jobs.send(Box::new(job)).is_err() {
            tracing::error!(target: "kafka", "a pool without threads dropped a job");
        }
    }

    /// Runs it and gives its result; a job whose caller went away before it began is skipped.
    pub(super) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
        let (answer, result) = oneshot::channel();
        self.submit(move || {
            if !answer.is_closed() {
                // The caller may have gone meanwhile: the result is dropped then, as it would have been there.
                drop(answer.send(job()));
            }
        });
        result
    }
}

fn work(queue: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!(target: "kafka", "a blocking call panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_come_back_and_a_panic_costs_no_thread() {
        let pool = Pool::new("test", 1).unwrap();
        assert!(pool.run(|| panic!("on purpose")).await.is_err() as u8 == 1, "the answer is dropped");
        assert_eq!(pool.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn abandoned_jobs_are_skipped() {
        let pool = Pool::new("test", 1).unwrap();
        let (go, wait) = mpsc::channel::<()>();
        let busy = pool.run(move || wait.recv());
        let (ran, seen) = mpsc::channel();
        drop(pool.run(move || ran.send(())));
        go.send(()).unwrap();
        busy.await.unwrap().unwrap();
        pool.run(|| ()).await.unwrap();
        assert!(seen.recv().is_err(), "it never ran");
    }
}
