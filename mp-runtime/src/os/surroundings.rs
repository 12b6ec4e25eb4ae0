//! What a process that is executed here and now would have from this one, without being told.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;

use nix::libc;
use nix::unistd::{getpgrp, getsid};

/// Lines of `/proc/<id>/status` (proc(5)) about what is inherited: the mask of files' modes, who it
/// is and what it may do, ignored signals, filters of system calls, processors, nodes of memory.
const INHERITED_LINES: [&str; 11] = [
    "Umask:",
    "Uid:",
    "Gid:",
    "Groups:",
    "THP_enabled:",
    "SigIgn:",
    "Cap",
    "NoNewPrivs:",
    "Seccomp",
    "Cpus_allowed:",
    "Mems_allowed:",
];

/// More than `/proc/<id>/status` mostly is.
const STATUS_BYTES: usize = 4 << 10;
/// The same of `/proc/<id>/cgroup`.
pub(super) const CGROUP_BYTES: usize = 1 << 10;

/// A description of all of it; two that are equal tell of the same.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Surroundings(Vec<u8>);

impl Surroundings {
    /// Those of a process that thread `thread_id` of this process would start.
    ///
    /// # Errors
    ///
    /// If they cannot be found out.
    pub(crate) fn of(thread_id: u32) -> io::Result<Surroundings> {
        let mut all = Vec::with_capacity(STATUS_BYTES);
        for (name, value) in std::env::vars_os() {
            all.extend_from_slice(name.as_bytes());
            all.push(b'=');
            all.extend_from_slice(value.as_bytes());
            all.push(0);
        }
        for place in [".", "/"] {
            let place = fs::metadata(place)?;
            add(&mut all, place.dev());
            add(&mut all, place.ino());
        }
        // Its name may have changed, or it may have been removed: then it is no place to look at.
        let name = std::env::current_dir().unwrap_or_default();
        all.extend_from_slice(name.as_os_str().as_bytes());
        let status = read(&format!("/proc/self/task/{thread_id}/status"), STATUS_BYTES)?;
        for line in status.split_inclusive(|&byte| byte == b'\n') {
            if INHERITED_LINES
                .iter()
                .any(|name| line.starts_with(name.as_bytes()))
            {
                all.extend_from_slice(line);
            }
        }
        all.extend(read("/proc/self/cgroup", CGROUP_BYTES)?);
        all.extend(read("/proc/self/oom_score_adj", 16)?);
        for resource in 0..16 {
            let mut limits = libc::rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            // SAFETY: the kernel writes the two numbers, or nothing and fails.
            unsafe { libc::getrlimit(resource, &raw mut limits) };
            add(&mut all, limits.rlim_cur);
            add(&mut all, limits.rlim_max);
        }
        add(&mut all, u64::from(getsid(None)?.as_raw().cast_unsigned()));
        add(&mut all, u64::from(getpgrp().as_raw().cast_unsigned()));
        // SAFETY: it takes two numbers, and fails at worst.
        let niceness = unsafe { libc::getpriority(libc::PRIO_PROCESS, thread_id) };
        add(&mut all, i64::from(niceness).cast_unsigned());
        // SAFETY: it takes a number, and fails at worst.
        let policy = unsafe { libc::sched_getscheduler(thread_id.cast_signed()) };
        add(&mut all, i64::from(policy).cast_unsigned());
        Ok(Surroundings(all))
    }
}

fn add(all: &mut Vec<u8>, number: u64) {
    all.extend_from_slice(&number.to_le_bytes());
}

/// All of a file of the kernel's, which gives as much at once as there is room for.
pub(super) fn read(path: &str, expected_bytes: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let (mut bytes, mut length) = (vec![0; expected_bytes], 0);
    loop {
        match super::uninterrupted(|| file.read(&mut bytes[length..]))? {
            // The end, which needs no look of its own if there was room left.
            count if length + count < bytes.len() => {
                bytes.truncate(length + count);
                return Ok(bytes);
            }
            count => length += count,
        }
        bytes.resize(2 * length, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_whole_however_long_they_are() {
        let whole = fs::read("/proc/self/limits").expect("there is /proc");
        for expected_bytes in [1, 100, whole.len(), 1 << 16] {
            let read = read("/proc/self/limits", expected_bytes).expect("there is /proc");
            assert_eq!(read, whole);
        }
    }

    #[test]
    fn surroundings_are_the_same_until_something_changes() {
        let own_id = super::super::thread::own_id();
        let before = Surroundings::of(own_id).expect("there is /proc");
        assert!(before == Surroundings::of(own_id).expect("there is /proc"));
    }
}
