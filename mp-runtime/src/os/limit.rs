//! What a process may use: memory, processors.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Pid, SysconfVar, sysconf};

use super::surroundings::{self, CGROUP_BYTES};

/// Processors are numbered below this (`CPU_SETSIZE` of glibc).
pub(crate) const CPU_LIMIT: usize = 1024;

/// A limit above this is none: nobody needs such a stack.
const MAX_STACK: u64 = 1 << 30;

/// Limits the private memory this process may have writable at a time, in bytes (`RLIMIT_DATA`:
/// heap, private anonymous mappings and stacks of threads; not shared memory, not code).
pub(crate) fn limit_memory(bytes: u64) -> io::Result<()> {
    Ok(setrlimit(Resource::RLIMIT_DATA, bytes, bytes)?)
}

/// Binds this thread, and those it starts from now on, to the processors given by number.
pub(crate) fn pin(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// How many processors this process may use: affinity and the quota of its cgroups.
pub(crate) fn usable_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// How large the stack of a main thread may grow, in bytes (`RLIMIT_STACK`; 8 MiB, what Linux
/// gives, where there is no limit).
pub(crate) fn main_stack() -> usize {
    const USUAL: u64 = 8 << 20;
    let limit = getrlimit(Resource::RLIMIT_STACK).map_or(USUAL, |(soft, _)| soft);
    let bytes = if limit > MAX_STACK { USUAL } else { limit };
    usize::try_from(bytes).unwrap_or(USUAL as usize)
}

/// The processors that this thread may run on, by number.
pub(crate) fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    let is_allowed = |cpu: &usize| set.is_set(*cpu).unwrap_or(false);
    Ok((0..CPU_LIMIT).filter(is_allowed).collect())
}

/// How many processors this machine has at work.
pub(crate) fn online_cpus() -> usize {
    let count = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    count
        .and_then(|count| usize::try_from(count).ok())
        .unwrap_or(1)
}

/// How often the kernel killed a process of this process's cgroup for lack of memory.
pub(crate) fn out_of_memory_kills() -> Option<u64> {
    let events = cgroup_file("memory.events")?;
    events
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?
        .trim()
        .parse()
        .ok()
}

/// Whether the kernel has killed a process of this process's cgroup for lack of memory since it had
/// killed `before`. Each of these is the cause of one death: a second one does not find it.
pub(crate) fn claim_kill(before: u64) -> bool {
    static CLAIMED: AtomicU64 = AtomicU64::new(0);
    let Some(kills) = out_of_memory_kills() else {
        return false;
    };
    let claim = |claimed: u64| {
        let base = claimed.max(before);
        (kills > base).then_some(base + 1)
    };
    CLAIMED
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim)
        .is_ok()
}

/// How many bytes this process's cgroup may use beyond what it uses and the kernel could not take
/// back, which is the cache of files; `None` if it has no limit.
pub(crate) fn left_of_memory() -> Option<u64> {
    let number = |name| cgroup_file(name)?.trim().parse::<u64>().ok();
    let (most, used) = (number("memory.max")?, number("memory.current")?);
    let stat = cgroup_file("memory.stat")?;
    let cached = ["inactive_file ", "active_file "].map(|name| {
        let line = stat.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|number| number.trim().parse().ok())
            .unwrap_or(0_u64)
    });
    Some((most + cached.iter().sum::<u64>()).saturating_sub(used))
}

/// What a file of this process's cgroup holds (cgroup v2).
fn cgroup_file(name: &str) -> Option<String> {
    let groups = surroundings::read("/proc/self/cgroup", CGROUP_BYTES).ok()?;
    let groups = String::from_utf8(groups).ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    std::fs::read_to_string(format!("/sys/fs/cgroup{group}/{name}")).ok()
}
