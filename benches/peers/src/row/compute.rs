//! Work that needs nothing but processors: what a pool takes from it.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use mp::Pool;
use rayon::prelude::*;

use super::tasks::WORKERS;
use crate::Failure;
use crate::contest::{Contest, Contestant, Kind, Operations};
use crate::settings::Settings;

pub(super) const TWO_THREADS: &str = "two threads";

const ONCE: Operations = Operations::Exactly(1);

/// Some milliseconds: xorshift, each step of which needs the one before. Not inlined, so that all
/// contestants run the very same instructions.
#[inline(never)]
fn xorshift(seed: u64) -> u64 {
    (0..2_000_000).fold(seed | 1, |x, _| {
        let x = x ^ (x << 13);
        let x = x ^ (x >> 7);
        x ^ (x << 17)
    })
}

#[mp::process_fn]
fn burn(seed: u64) -> u64 {
    xorshift(seed)
}

/// Each takes the next seed when it is through with one.
fn by_threads(items: u64) {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    match next.fetch_add(1, Ordering::Relaxed) {
                        seed if seed < items => black_box(xorshift(seed)),
                        _ => break,
                    };
                }
            });
        }
    });
}

pub(super) fn compute(contest: &mut Contest, settings: &Settings) -> Result<(), Failure> {
    let items = settings.size(200, 4) as u64;
    let pool = Pool::new(WORKERS)?;
    contest.enter(Contestant::calls(Kind::Mp, "mp", ONCE, move || {
        Ok(pool.map(burn, 0..items)?)
    }));
    let pool = procspawn::Pool::new(WORKERS)?;
    contest.enter(Contestant::calls(
        Kind::Procspawn,
        "procspawn",
        ONCE,
        move || {
            let tasks = (0..items).map(|seed| pool.spawn(seed, xorshift));
            for task in Vec::from_iter(tasks) {
                black_box(task.join()?);
            }
            Ok(())
        },
    ));
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(WORKERS)
        .build()?;
    contest.enter(Contestant::calls(
        Kind::Threads,
        "rayon, threads",
        ONCE,
        move || {
            // One at a time: half of what rayon cuts by itself may be more than the other half.
            let seeds = (0..items as usize).into_par_iter().with_max_len(1);
            let all = || seeds.map(|seed| xorshift(seed as u64));
            Ok(threads.install(|| all().collect::<Vec<_>>()))
        },
    ));
    contest.enter(Contestant::calls(
        Kind::Threads,
        TWO_THREADS,
        ONCE,
        move || {
            by_threads(items);
            Ok(())
        },
    ));
    contest.note("not in Python, whose interpreter would be measured, and not its pools");
    Ok(())
}
