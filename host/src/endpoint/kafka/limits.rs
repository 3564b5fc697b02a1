//! How many consumers of their own sessions may have by default: from what the process may have of threads and
//! descriptors.

use std::fs;

use nix::sys::resource::{Resource, getrlimit};

/// One librdkafka consumer: descriptors, and threads on a cluster of three brokers.
const DESCRIPTORS: u64 = 10;
const THREADS: u64 = 6;
const MOST: u64 = 1000;

/// Half of the smallest limit, in consumers.
pub(super) fn default_consumers() -> usize {
    let soft = |resource| getrlimit(resource).ok().map(|(soft, _)| soft);
    from_limits(soft(Resource::RLIMIT_NOFILE), soft(Resource::RLIMIT_NPROC), pids_max())
}

fn from_limits(descriptors: Option<u64>, processes: Option<u64>, pids: Option<u64>) -> usize {
    let half = |limit: Option<u64>, cost: u64| limit.map_or(MOST, |limit| limit / 2 / cost);
    let least = half(descriptors, DESCRIPTORS).min(half(processes, THREADS)).min(half(pids, THREADS));
    usize::try_from(least.clamp(1, MOST)).unwrap_or(1)
}

/// The container's limit, where there is one that can be read.
fn pids_max() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let paths = [format!("/sys/fs/cgroup{own}/pids.max"), "/sys/fs/cgroup/pids.max".to_owned()];
    paths.iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_counts_and_half_is_left() {
        assert_eq!(from_limits(Some(1024), None, None), 51);
        assert_eq!(from_limits(Some(1 << 20), Some(1200), None), 100);
        assert_eq!(from_limits(None, Some(1200), Some(120)), 10);
        assert_eq!(from_limits(None, None, None), 1000);
        assert_eq!(from_limits(Some(3), None, None), 1);
    }
}
