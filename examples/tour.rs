//! The programs of a Python `multiprocessing` tutorial, one function each: `cargo run --release
//! --example tour`. It takes half a minute, most of which is spent asleep on purpose.

use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use mp::prelude::*;

#[mp::process_fn]
fn job(a: i32, d: &str) {
    println!("  in the process {}: {a} and {d}", std::process::id());
}

/// The sum is about 1.4e48, which no integer of the language holds; `f64` has 15 digits of it, and
/// the same ones wherever it is computed.
#[mp::process_fn]
fn sum(n: u32) -> f64 {
    let term = |i| f64::powi(i, 5) + f64::powi(i, 6);
    (0..n).map(f64::from).map(term).sum()
}

#[mp::process_fn]
fn slow_square(x: i64) -> i64 {
    sleep(Duration::from_secs(1));
    x * x
}

fn timed<R>(what: &str, run: impl FnOnce() -> Result<R, mp::Error>) -> Result<R, mp::Error> {
    let start = Instant::now();
    let result = run()?;
    println!("  {what}: {:.3} s", start.elapsed().as_secs_f64());
    Ok(result)
}

fn a_process() -> Result<(), mp::Error> {
    println!(
        "Create a process, start it and join it, from {}:",
        std::process::id()
    );
    timed("start to end", || mp::spawn!(job(1, "two".into()))?.join())
}

fn results() -> Result<(), mp::Error> {
    println!("The sum of i**5 + i**6 over ten million, twice:");
    let n = 10_000_000;
    let processes = timed("by two processes", || {
        let (one, two) = (mp::spawn!(sum(n))?, mp::spawn!(sum(n))?);
        Ok(one.join()? + two.join()?)
    })?;
    let threads = timed("by two threads", || {
        let both = [(); 2].map(|()| thread::spawn(move || sum(n)));
        Ok(both
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .sum::<f64>())
    })?;
    let in_turn = timed("one after the other", || Ok(sum(n) + sum(n)))?;
    assert!(processes == threads && threads == in_turn);
    println!("  each time {processes:e}");
    Ok(())
}

fn pools() -> Result<(), mp::Error> {
    println!("The squares of 0..10, a second each:");
    let all = timed(
        &format!("by {} workers, the default", mp::cpu_count()),
        || Pool::with_default_workers()?.map(slow_square, 0..10),
    )?;
    let two = timed("by two workers", || Pool::new(2)?.map(slow_square, 0..10))?;
    let none = timed("without a pool", || {
        Ok((0..10).map(|x| slow_square(x)).collect::<Vec<_>>())
    })?;
    assert!(all == two && two == none);
    println!("  each time {all:?}");
    Ok(())
}

#[mp::main]
fn main() -> Result<(), mp::Error> {
    a_process()?;
    results()?;
    pools()
}
