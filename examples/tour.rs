//! The programs of a Python `multiprocessing` tutorial: `cargo run --release --example tour`. It
//! takes half a minute, most of which is spent asleep on purpose.

use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use mp::prelude::*;

const TERMS: u32 = 10_000_000;

#[mp::process_fn]
fn job(a: i32, d: &str) {
    println!("process {} got {a} and {d}", std::process::id());
}

/// `f64`, since no integer holds 1.4e48; it is the same one wherever it is computed.
#[mp::process_fn]
fn sum(n: u32) -> f64 {
    (0..n).map(f64::from).map(|i| i.powi(5) + i.powi(6)).sum()
}

#[mp::process_fn]
fn slow_square(x: i64) -> i64 {
    sleep(Duration::from_secs(1));
    x * x
}

fn timed<R: std::fmt::Debug>(what: &str, run: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = run();
    println!("{what}: {:.3} s, {result:?}", start.elapsed().as_secs_f64());
    result
}

fn sums_by_processes() -> Result<[f64; 2], Error> {
    let (one, two) = (mp::spawn!(sum(TERMS))?, mp::spawn!(sum(TERMS))?);
    Ok([one.join()?, two.join()?])
}

fn sums_by_threads() -> [Option<f64>; 2] {
    let threads = [(); 2].map(|()| thread::spawn(|| sum(TERMS)));
    threads.map(|thread| thread.join().ok())
}

fn squares_by(workers: usize) -> Result<Vec<i64>, Error> {
    Pool::new(workers)?.map(slow_square, 0..10)
}

#[mp::main]
fn main() -> Result<(), Error> {
    timed("one process", || mp::spawn!(job(1, "two".into()))?.join())?;
    timed("two sums by two processes", sums_by_processes)?;
    timed("by two threads", sums_by_threads);
    timed("one after the other", || [sum(TERMS), sum(TERMS)]);
    timed("squares by all processors", || squares_by(mp::cpu_count()))?;
    timed("by two workers", || squares_by(2))?;
    timed("no pool", || Vec::from_iter((0..10).map(*slow_square)));
    Ok(())
}
