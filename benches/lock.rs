//! Lock a number that processes share, add one, unlock: by one process alone, and by two that
//! contend. Against a robust process-shared mutex of POSIX threads, in memory of the same kind.

mod measure;

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use measure::robust::RobustValue;
use measure::{Contest, Failure, size};
use mp::{Pool, ProcessFn, Shared, Value};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

fn add_to(value: &Value<u64>, times: usize) -> Result<(), mp::Error> {
    for _ in 0..times {
        *value.lock()? += 1;
    }
    Ok(())
}

fn add_to_robust(value: &RobustValue, times: usize) -> Result<(), Failure> {
    (0..times).try_for_each(|_| value.add_one())
}

/// Where two workers meet that are to contend.
#[derive(Clone, Serialize, Deserialize)]
struct Rendezvous {
    arrived: Shared<AtomicU32>,
    processor: usize,
}

/// Comes back when both are here, each on a processor of its own: on one processor they would take
/// turns, and contend when one is preempted with the lock, which is next to never.
fn meet(Rendezvous { arrived, processor }: &Rendezvous) -> Result<(), nix::Error> {
    let mut set = CpuSet::new();
    set.set(*processor)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    arrived.fetch_add(1, Ordering::AcqRel);
    while arrived.load(Ordering::Acquire) < 2 {
        thread::yield_now();
    }
    Ok(())
}

#[mp::process_fn]
fn contend(value: Value<u64>, place: Rendezvous, times: usize) -> Result<(), String> {
    meet(&place).map_err(|error| error.to_string())?;
    add_to(&value, times).map_err(|error| error.to_string())
}

#[mp::process_fn]
fn contend_robust(value: RobustValue, place: Rendezvous, times: usize) -> Result<(), String> {
    meet(&place).map_err(|error| error.to_string())?;
    add_to_robust(&value, times).map_err(|error| error.to_string())
}

/// Has both workers of the pool add to `value` at once.
fn by_two<F, V>(pool: &Pool, add: F, value: &V, times: usize) -> Result<(), Failure>
where
    F: ProcessFn<Args = (V, Rendezvous, usize), Output = Result<(), String>>,
    V: Clone,
{
    let arrived = Shared::new(AtomicU32::new(0))?;
    let tasks = processors()?.map(|processor| {
        let arrived = arrived.clone();
        let place = Rendezvous { arrived, processor };
        pool.submit(add, (value.clone(), place, times))
    });
    for task in tasks {
        task?.join()??;
    }
    Ok(())
}

/// Two that this process may run on; if there is one only, that one twice.
fn processors() -> Result<[usize; 2], Failure> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    let mut all = (0..CpuSet::count()).filter(|&processor| set.is_set(processor) == Ok(true));
    let first = all.next().ok_or("there is no processor")?;
    Ok([first, all.next().unwrap_or(first)])
}

fn main() -> Result<(), Failure> {
    measure::be_raw_if_told()?;
    mp::init();
    let (value, robust) = (mp::shared!(0_u64)?, RobustValue::new()?);

    let times = size(1_000_000, 10_000);
    let mut alone = Contest::new("lock, add one, unlock: one process", times);
    alone.enter("*value.lock()? += 1", || Ok(add_to(&value, times)?));
    alone.enter("raw: a robust mutex of POSIX threads", || {
        add_to_robust(&robust, times)
    });
    alone.run(31, "lock.py", &[times / 10, 1])?;

    let pool = Pool::new(2)?;
    value.set(0)?;
    let mut contended = Contest::new("lock, add one, unlock: two processes", 2 * times);
    contended.enter("*value.lock()? += 1", || {
        by_two(&pool, contend, &value, times)
    });
    contended.enter("raw: a robust mutex of POSIX threads", || {
        by_two(&pool, contend_robust, &robust, times)
    });
    contended.run(15, "lock.py", &[times / 10, 2])?;
    // Nothing was lost: each round, and the one before the first, added as much.
    assert!(value.get()?.is_multiple_of(2 * times as u64));
    assert!(robust.get().is_multiple_of(times as u64));
    Ok(())
}
