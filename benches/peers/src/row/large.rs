//! Large values. What the caller sends is made before the clock starts.

use std::hint::black_box;
use std::time::{Duration, Instant};

use mp::Pool;

use super::tasks::WORKERS;
use crate::Failure;
use crate::contest::{Contest, Contestant, Kind, Operations};
use crate::settings::Settings;

const MB: usize = 1_000_000;
const ONCE: Operations = Operations::Exactly(1);

#[mp::process_fn]
fn same_bytes(block: Vec<u8>) -> Vec<u8> {
    block
}

#[mp::process_fn]
fn same_samples(samples: Vec<f64>) -> Vec<f64> {
    samples
}

#[mp::process_fn]
fn count(block: &[u8]) -> usize {
    block.len()
}

/// The time of a call whose argument is a copy that was made before.
fn with_a_copy<T: Clone, R>(
    value: &T,
    call: impl FnOnce(T) -> Result<R, Failure>,
) -> Result<Duration, Failure> {
    let copy = black_box(value.clone());
    let start = Instant::now();
    let result = call(copy)?;
    let took = start.elapsed();
    drop(black_box(result));
    Ok(took)
}

/// So many copies between blocks that are there already.
fn enter_copies(contest: &mut Contest, copies: usize, length: usize) {
    let mut blocks = [vec![7u8; length], vec![1u8; length]];
    let name = match copies {
        1 => "raw: one copy".to_owned(),
        _ => format!("raw: {copies} copies"),
    };
    contest.enter(Contestant::calls(Kind::Raw, name, ONCE, move || {
        for copy in 0..copies {
            let [one, two] = &mut blocks;
            let (from, to) = if copy % 2 == 0 {
                (one, two)
            } else {
                (two, one)
            };
            to.copy_from_slice(black_box(from));
        }
        Ok(())
    }));
}

fn bytes(contest: &mut Contest, length: usize) -> Result<(), Failure> {
    let block = vec![7u8; length];
    let pool = Pool::new(WORKERS)?;
    let copied = block.clone();
    contest.enter(Contestant::timed(Kind::Mp, "mp", ONCE, move |_| {
        with_a_copy(&copied, |copy| Ok(pool.apply(same_bytes, (copy,))?))
    }));
    contest.enter_python("bytes", length, ONCE);
    let pool = procspawn::Pool::new(WORKERS)?;
    contest.enter(Contestant::timed(
        Kind::Procspawn,
        "procspawn",
        ONCE,
        move |_| {
            with_a_copy(&block, |copy| {
                Ok(pool.spawn(copy, |x: Vec<u8>| x).join()?)
            })
        },
    ));
    enter_copies(contest, 4, length);
    Ok(())
}

pub(super) fn bytes_16(contest: &mut Contest, settings: &Settings) -> Result<(), Failure> {
    bytes(contest, settings.size(16 * MB, MB))
}

pub(super) fn bytes_40(contest: &mut Contest, settings: &Settings) -> Result<(), Failure> {
    bytes(contest, settings.size(40 * MB, MB))
}

pub(super) fn vector(contest: &mut Contest, settings: &Settings) -> Result<(), Failure> {
    let samples = vec![0.5f64; settings.size(5 * MB, MB / 8)];
    let (length, bytes) = (samples.len(), size_of_val(&samples[..]));
    let pool = Pool::new(WORKERS)?;
    let copied = samples.clone();
    contest.enter(Contestant::timed(Kind::Mp, "mp", ONCE, move |_| {
        with_a_copy(&copied, |copy| Ok(pool.apply(same_samples, (copy,))?))
    }));
    contest.enter_python("vector", length, ONCE);
    let pool = procspawn::Pool::new(WORKERS)?;
    contest.enter(Contestant::timed(
        Kind::Procspawn,
        "procspawn",
        ONCE,
        move |_| {
            with_a_copy(&samples, |copy| {
                Ok(pool.spawn(copy, |x: Vec<f64>| x).join()?)
            })
        },
    ));
    enter_copies(contest, 4, bytes);
    Ok(())
}

pub(super) fn bytes_in(contest: &mut Contest, settings: &Settings) -> Result<(), Failure> {
    let block = vec![7u8; settings.size(40 * MB, MB)];
    let bytes = block.len();
    let pool = Pool::new(WORKERS)?;
    let copied = block.clone();
    contest.enter(Contestant::timed(Kind::Mp, "mp", ONCE, move |_| {
        with_a_copy(&copied, |copy| Ok(pool.apply(count, (copy,))?))
    }));
    contest.enter_python("bytes_in", bytes, ONCE);
    let pool = procspawn::Pool::new(WORKERS)?;
    contest.enter(Contestant::timed(
        Kind::Procspawn,
        "procspawn",
        ONCE,
        move |_| {
            with_a_copy(&block, |copy| {
                Ok(pool.spawn(copy, |x: Vec<u8>| x.len()).join()?)
            })
        },
    ));
    enter_copies(contest, 1, bytes);
    Ok(())
}
