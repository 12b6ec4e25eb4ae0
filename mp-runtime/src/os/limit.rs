//! What a process may use: memory, processors.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
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
    let (version, group) = Version::of(&own_groups()?)?;
    let events = fs::read_to_string(group_of(Path::new(ROOT), version, &group).join(version.kills));
    let events = events.ok()?;
    number_of(&events, "oom_kill ")
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

/// How many bytes this process's cgroup, and those that it is in, may use beyond what they use and the
/// kernel could not take back, which is the cache of files; `None` if none has a limit.
pub(crate) fn left_of_memory() -> Option<u64> {
    left_below(Path::new(ROOT), &own_groups()?)
}

/// Where cgroups are.
const ROOT: &str = "/sys/fs/cgroup";

/// What the memory of a cgroup is told by (cgroups(7)).
struct Version {
    /// Where its groups are.
    folder: &'static str,
    most: &'static str,
    used: &'static str,
    /// The fields of `memory.stat` that count the cache of files, ...
    cache: [&'static str; 2],
    /// ... and the file that counts kills.
    kills: &'static str,
}

const V1: Version = Version {
    folder: "memory",
    most: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cache: ["total_inactive_file ", "total_active_file "],
    kills: "memory.oom_control",
};
const V2: Version = Version {
    folder: "",
    most: "memory.max",
    used: "memory.current",
    cache: ["inactive_file ", "active_file "],
    kills: "memory.events",
};

/// What version 1 says where there is no limit is a little less than this.
const NO_LIMIT: u64 = i64::MAX as u64 / 2;

impl Version {
    /// The one that counts memory here, by the contents of `/proc/<id>/cgroup`, and the group.
    fn of(groups: &str) -> Option<(&'static Version, String)> {
        let mut lines = groups.lines().filter_map(|line| {
            let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
            let is_of_memory = controllers.split(',').any(|name| name == "memory");
            let version = match controllers {
                "" => &V2,
                _ if is_of_memory => &V1,
                _ => return None,
            };
            Some((version, group.to_owned()))
        });
        let first = lines.next()?;
        // Where both are mounted, the controller is in one of them.
        let of_v1 = |(version, _): &(&Version, String)| !version.folder.is_empty();
        Some(
            lines
                .find(of_v1)
                .filter(|_| !of_v1(&first))
                .unwrap_or(first),
        )
    }
}

/// What `/proc/self/cgroup` says.
fn own_groups() -> Option<String> {
    let groups = surroundings::read("/proc/self/cgroup", CGROUP_BYTES).ok()?;
    String::from_utf8(groups).ok()
}

fn group_of(root: &Path, version: &Version, group: &str) -> PathBuf {
    root.join(version.folder)
        .join(group.trim_start_matches('/'))
}

fn left_below(root: &Path, groups: &str) -> Option<u64> {
    let (version, group) = Version::of(groups)?;
    let top = root.join(version.folder);
    let own = group_of(root, version, &group);
    // Seen from a container its group may be the top, and what it says of it not there.
    let all = own.ancestors().take_while(|group| group.starts_with(&top));
    all.filter_map(|group| left_of(group, version)).min()
}

/// The same of one group.
fn left_of(group: &Path, version: &Version) -> Option<u64> {
    let read = |name| fs::read_to_string(group.join(name)).ok();
    let number = |name| read(name)?.trim().parse::<u64>().ok();
    let most = number(version.most).filter(|&most| most < NO_LIMIT)?;
    let (used, stat) = (number(version.used)?, read("memory.stat")?);
    let cached = version
        .cache
        .map(|name| number_of(&stat, name).unwrap_or(0));
    Some((most + cached.iter().sum::<u64>()).saturating_sub(used))
}

/// The number in the line that begins so.
fn number_of(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    let number = lines.find_map(|line| line.strip_prefix(name))?;
    number.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cgroup without processes.
    fn group(folder: &Path, files: [(&str, &str); 3]) {
        fs::create_dir_all(folder).expect("a folder can be made");
        for (name, content) in files {
            fs::write(folder.join(name), content).expect("a file can be written");
        }
    }

    #[test]
    fn the_tightest_of_all_groups_counts_in_both_versions() {
        let id = std::process::id();
        let root = std::env::temp_dir().join(format!("mp-cgroups-{id}"));
        let of_v1 = |folder: &str, most, used, cached| {
            let stat = ("memory.stat", cached);
            let files = [
                ("memory.limit_in_bytes", most),
                ("memory.usage_in_bytes", used),
                stat,
            ];
            group(&root.join("memory").join(folder), files);
        };
        let of_v2 = |folder: &str, most, used, cached| {
            let files = [
                ("memory.max", most),
                ("memory.current", used),
                ("memory.stat", cached),
            ];
            group(&root.join(folder), files);
        };
        let none = "9223372036854771712\n";
        of_v1("", none, "900\n", "");
        of_v1(
            "one",
            "1000\n",
            "600\n",
            "total_inactive_file 100\ninactive_file 7\n",
        );
        of_v1("one/two", none, "10\n", "");
        of_v1("small", "1000\n", "1200\n", "total_active_file 100\n");
        let v1 = |group: &str| {
            let groups = format!("5:cpu:/x\n4:memory,pids:{group}\n0::/one\n");
            left_below(&root, &groups)
        };
        assert_eq!(v1("/one/two"), Some(500));
        assert_eq!(
            (v1("/small"), v1("/"), v1("/not/seen")),
            (Some(0), None, None)
        );
        of_v2("one", "max\n", "600\n", "");
        of_v2(
            "one/two",
            "1000\n",
            "600\n",
            "inactive_file 30\nactive_file 4\n",
        );
        let v2 = |group: &str| left_below(&root, &format!("0::{group}\n"));
        assert_eq!(
            (v2("/one/two"), v2("/one"), v2("/")),
            (Some(434), None, None)
        );
        fs::remove_dir_all(&root).expect("it is there");
    }
}
