//! What /proc says about a process, and about this machine. Every figure of the benchmark is read here.

use std::time::{Duration, Instant};

/// A process's use of the CPU over a stretch of time.
pub(crate) struct Meter {
    pid: u32,
    cpu: Duration,
    since: Instant,
}

/// What a stretch of work cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// User and system time of the process, all threads.
    pub(crate) cpu: Duration,
    /// On the wall.
    pub(crate) took: Duration,
}

impl Meter {
    /// From now on.
    pub(crate) fn start(pid: u32) -> Self {
        Self { pid, cpu: cpu(pid), since: Instant::now() }
    }

    /// Until now.
    pub(crate) fn stop(&self) -> Cost {
        Cost { cpu: cpu(self.pid).saturating_sub(self.cpu), took: self.since.elapsed() }
    }
}

/// utime + stime, ended threads included: exact to the tick, which is 10 ms on every Linux that this runs on.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    // The name, in parentheses, may hold spaces.
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|&at| fields[at].parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

/// Resident memory, KiB.
pub(crate) fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    field(&status, "VmRSS:").split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number")
}

/// Cores, CPU and kernel in one line.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = field(&cpu, "model name").trim_start_matches([':', ' ', '\t']).to_owned();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?");
    format!("{cores} cores, {model}, Linux {}, load {load} at the start", kernel.trim())
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim()
}
