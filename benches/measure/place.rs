//! A processor for each of two that work at once: on one they would take turns.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use mp::Shared;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::Failure;

/// Where one of two begins, together with the other.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Place {
    arrived: Shared<AtomicU32>,
    processor: usize,
}

impl Place {
    /// Two places; on the same processor if this process may run on one only.
    pub(crate) fn two() -> Result<[Place; 2], Failure> {
        let arrived = Shared::new(AtomicU32::new(0))?;
        let processors = processors()?;
        let first = *processors.first().ok_or("there is no processor")?;
        let second = *processors.get(1).unwrap_or(&first);
        let place = |processor| Place {
            arrived: arrived.clone(),
            processor,
        };
        Ok([place(first), place(second)])
    }

    /// Comes back when both are here, this thread on its processor.
    pub(crate) fn meet(&self) -> Result<(), nix::Error> {
        stay_on(Pid::from_raw(0), self.processor)?;
        self.arrived.fetch_add(1, Ordering::AcqRel);
        while self.arrived.load(Ordering::Acquire) < 2 {
            thread::yield_now();
        }
        Ok(())
    }
}

/// Has a thread (0: this one), and what it starts, run on one processor only.
pub(crate) fn stay_on(thread: Pid, processor: usize) -> Result<(), nix::Error> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    sched_setaffinity(thread, &set)
}

/// Those that this thread may run on.
pub(crate) fn processors() -> Result<Vec<usize>, nix::Error> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    let is_set = |&processor: &usize| set.is_set(processor) == Ok(true);
    Ok((0..CpuSet::count()).filter(is_set).collect())
}
