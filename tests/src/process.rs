//! Children that die with this process, and their output. The engine, Kafka and Python clients are started here.
//!
//! PR_SET_PDEATHSIG fires when the *thread* that forked ends, and every test is a thread: so one thread that lives as
//! long as the process starts them all.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Lines of output that are kept.
const KEEP: usize = 200_000;

/// A started child. Dropping it kills it.
#[derive(Debug)]
pub struct Child {
    inner: Mutex<std::process::Child>,
    pid: Pid,
    /// What it wrote to standard output so far.
    pub stdout: Output,
    /// What it wrote to standard error so far.
    pub stderr: Output,
}

/// Lines that a child wrote.
#[derive(Debug, Clone, Default)]
pub struct Output(Arc<Mutex<VecDeque<String>>>);

type Job = (Command, Sender<std::io::Result<std::process::Child>>);

/// Starts a program that is killed when this process ends, however it ends.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn spawn(program: &Path, args: &[&str], envs: &[(&str, &str)]) -> Child {
    spawn_to(Stdio::piped(), program, args, envs)
}

/// As [`spawn`], with its standard output somewhere else than here: `Child::stdout` stays empty.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn spawn_to(stdout: Stdio, program: &Path, args: &[&str], envs: &[(&str, &str)]) -> Child {
    static NURSERY: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    let nursery = NURSERY.get_or_init(|| {
        let (jobs, queue) = channel::<Job>();
        std::thread::Builder::new()
            .name("nursery".to_owned())
            .spawn(move || {
                for (mut command, reply) in queue {
                    reply.send(command.spawn()).expect("the caller waits");
                }
            })
            .expect("a thread");
        Mutex::new(jobs)
    });
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(args).envs(envs.iter().copied());
    command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
    let (reply, started) = channel();
    nursery.lock().expect("never poisoned").send((command, reply)).expect("the nursery lives");
    let mut inner =
        started.recv().expect("the nursery answers").unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    let pid = Pid::from_raw(i32::try_from(inner.id()).expect("a pid"));
    let (stdout, stderr) = (Output::default(), Output::default());
    if let Some(pipe) = inner.stdout.take() {
        stdout.follow(pipe);
    }
    stderr.follow(inner.stderr.take().expect("piped"));
    Child { inner: Mutex::new(inner), pid, stdout, stderr }
}

/// Where the test set-up installs things: MEDIATION_CACHE, else a folder of the home.
///
/// # Panics
/// When there is no home.
#[must_use]
pub fn cache() -> PathBuf {
    std::env::var_os("MEDIATION_CACHE").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cache/mediation-engine"),
        PathBuf::from,
    )
}

impl Child {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When it is gone already.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal).expect("the child lives");
    }

    /// How it ended; None while it runs.
    ///
    /// # Panics
    /// When the system does not tell.
    #[must_use]
    pub fn ended(&self) -> Option<ExitStatus> {
        self.inner.lock().expect("never poisoned").try_wait().expect("it is our child")
    }

    /// Waits for its end.
    pub async fn wait(&self) -> ExitStatus {
        crate::eventually("the process ends", async || self.ended().ok_or_else(|| "it runs".to_owned())).await
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if inner.kill().is_ok() {
            inner.wait().expect("it is our child");
        }
    }
}

impl Output {
    fn follow(&self, from: impl Read + Send + 'static) {
        let lines = Arc::clone(&self.0);
        std::thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                let mut lines = lines.lock().expect("never poisoned");
                if lines.len() == KEEP {
                    lines.pop_front();
                }
                lines.push_back(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }

    /// All of it.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().expect("never poisoned").iter().cloned().collect()
    }

    /// The last lines, for a dump.
    #[must_use]
    pub fn tail(&self, n: usize) -> String {
        let lines = self.lines();
        lines[lines.len().saturating_sub(n)..].join("\n")
    }
}
