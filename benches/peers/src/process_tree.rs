//! The threads of a process and the processes below it, as `/proc` shows them.

use std::fs;
use std::io;
use std::time::Duration;

use nix::unistd::{Pid, gettid};

use crate::{Failure, place};

/// The processes below this one, without those that are, or are below, one of `others`.
pub(crate) fn descendants(process: u32, others: &[u32]) -> Result<Vec<u32>, Failure> {
    let pairs = parents()?;
    let mut found = vec![process];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        let children = (pairs.iter()).filter(|(_, of)| *of == parent);
        found.extend(
            children
                .map(|(child, _)| *child)
                .filter(|child| !others.contains(child)),
        );
        next += 1;
    }
    Ok(found.split_off(1))
}

/// Each process that there is, and its parent.
fn parents() -> Result<Vec<(u32, u32)>, Failure> {
    let parent_of = |id: u32| -> Option<(u32, u32)> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // Name, state, parent; the name is in parentheses and may have more of them.
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
        Some((id, parent.parse().ok()?))
    };
    Ok(fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(parent_of)
        .collect())
}

fn threads(process: u32) -> io::Result<Vec<u32>> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"))?;
    Ok(tasks
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect())
}

/// Has all threads of a process, and whatever they start, run on one processor.
pub(crate) fn stay_on(process: u32, processor: usize) -> Result<(), Failure> {
    for thread in threads(process)? {
        // One that has ended meanwhile runs nowhere.
        match place::stay_on(Pid::from_raw(thread.cast_signed()), processor) {
            Ok(()) | Err(nix::Error::ESRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What the threads of these processes have run so far, without the one that asks.
pub(crate) fn time_on_processors(processes: &[u32]) -> Result<Duration, Failure> {
    let mut nanos = 0;
    for &process in processes {
        for thread in threads(process)? {
            if thread == gettid().as_raw().cast_unsigned() {
                continue;
            }
            // "time run, time waited, times run"; a thread that has ended is missing.
            let path = format!("/proc/{process}/task/{thread}/schedstat");
            let stat = fs::read_to_string(path).unwrap_or_default();
            let run = stat.split(' ').next().and_then(|run| run.parse().ok());
            nanos += run.unwrap_or(0);
        }
    }
    Ok(Duration::from_nanos(nanos))
}
