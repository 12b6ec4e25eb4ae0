//! Many small tasks.

use std::hint::black_box;
use std::time::Instant;

use mp::{Pool, TaskOptions};
use rayon::prelude::*;

use crate::Failure;
use crate::contest::{Contest, Contestant, Kind, Operations};
use crate::raw::{Answerer, RingPair};
use crate::settings::Settings;

pub(super) const WORKERS: usize = 2;

#[mp::process_fn]
pub(super) fn square(x: i64) -> i64 {
    x * x
}

/// Two processes, each with a ring there and one back, that are filled and drained in turns.
fn over_rings(count: usize) -> Result<std::time::Duration, Failure> {
    let pairs = [RingPair::new()?, RingPair::new()?];
    let answerers = [Answerer::start(&pairs[0])?, Answerer::start(&pairs[1])?];
    let start = Instant::now();
    RingPair::exchange(&pairs, count);
    let took = start.elapsed();
    for answerer in answerers {
        answerer.end()?;
    }
    Ok(took)
}

fn enter_rings(contest: &mut Contest, operations: Operations) {
    let name = "raw: rings of memory, in bursts";
    contest.enter(Contestant::timed(Kind::Raw, name, operations, over_rings));
}

/// Has procspawn do each in a task of its own.
fn spawn_each(pool: &procspawn::Pool, count: usize) -> Result<(), Failure> {
    let tasks = (0..count as i64).map(|x| pool.spawn(x, |x: i64| x * x));
    for task in Vec::from_iter(tasks) {
        black_box(task.join()?);
    }
    Ok(())
}

fn enter_procspawn(contest: &mut Contest, operations: Operations) -> Result<(), Failure> {
    let pool = procspawn::Pool::new(WORKERS)?;
    contest.enter(Contestant::new(
        Kind::Procspawn,
        "procspawn",
        operations,
        move |count| spawn_each(&pool, count),
    ));
    Ok(())
}

pub(super) fn map(contest: &mut Contest, settings: &Settings) -> Result<(), Failure> {
    let operations = Operations::Exactly(settings.size(100_000, 2_000));
    let pool = Pool::new(WORKERS)?;
    contest.enter(Contestant::new(Kind::Mp, "mp", operations, move |count| {
        let squares = pool.map(square, 0..count as i64)?;
        assert_eq!(black_box(squares).len(), count);
        Ok(())
    }));
    contest.enter_python("map", 0, operations);
    let pool = procspawn::Pool::new(WORKERS)?;
    contest.enter(Contestant::new(
        Kind::Procspawn,
        "procspawn, two vectors",
        operations,
        move |count| {
            let middle = count as i64 / 2;
            let halves = [0..middle, middle..count as i64];
            let squares = |xs: Vec<i64>| xs.into_iter().map(|x| x * x).collect::<Vec<i64>>();
            for task in halves.map(|half| pool.spawn(half.collect(), squares)) {
                black_box(task.join()?);
            }
            Ok(())
        },
    ));
    contest.note("procspawn has no map: its items are two vectors made by hand");
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(WORKERS)
        .build()?;
    contest.enter(Contestant::new(
        Kind::Threads,
        "rayon, threads",
        operations,
        move |count| {
            let all = || {
                (0..count as i64)
                    .into_par_iter()
                    .map(|x| square(black_box(x)))
            };
            black_box(threads.install(|| all().collect::<Vec<_>>()));
            Ok(())
        },
    ));
    enter_rings(contest, operations);
    Ok(())
}

pub(super) fn one_by_one(contest: &mut Contest, _: &Settings) -> Result<(), Failure> {
    let operations = Operations::UpTo(100_000);
    let pool = Pool::new(WORKERS)?;
    let options = TaskOptions::new().chunk_size(1);
    contest.enter(Contestant::new(Kind::Mp, "mp", operations, move |count| {
        let calls = pool.with(options.clone());
        for (_, result) in calls.imap_unordered(square, 0..count as i64) {
            black_box(result?);
        }
        Ok(())
    }));
    contest.enter_python("one_by_one", 0, operations);
    enter_procspawn(contest, operations)?;
    enter_rings(contest, operations);
    Ok(())
}

pub(super) fn submit(contest: &mut Contest, _: &Settings) -> Result<(), Failure> {
    let operations = Operations::UpTo(20_000);
    let pool = Pool::new(WORKERS)?;
    contest.enter(Contestant::new(Kind::Mp, "mp", operations, move |count| {
        let submitted = (0..count as i64).map(|x| pool.submit(square, (x,)));
        for task in submitted.collect::<Result<Vec<_>, _>>()? {
            black_box(task.join()?);
        }
        Ok(())
    }));
    contest.enter_python("submit", 0, operations);
    enter_procspawn(contest, operations)?;
    enter_rings(contest, operations);
    Ok(())
}
