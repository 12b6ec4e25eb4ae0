//! The programs of a Python `multiprocessing` tutorial: `cargo run --release --example tour`. It
//! takes half a minute, most of which is spent asleep on purpose.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
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

const ALIVE: &str = "nobody dies with a lock here";

/// What the parent made is what is changed here: no copy, and no result.
#[mp::process_fn]
fn change(number: Value<f64>, array: Array<i32>) {
    number.set(2.5).expect(ALIVE);
    for item in array.lock().expect(ALIVE).iter_mut() {
        *item = -*item;
    }
}

/// Adds five times, slowly: what is added between the look and the store is lost.
#[mp::process_fn]
fn add(total: Shared<[AtomicU32; 2]>, step: u32, lock: Option<Lock>) {
    let [total, arrived] = &*total;
    arrived.fetch_add(1, SeqCst);
    while arrived.load(SeqCst) < 2 {
        thread::yield_now(); // until the other is here too
    }
    let _guard = lock.as_ref().map(|lock| lock.lock().expect(ALIVE));
    for _ in 0..5 {
        let after = total.load(SeqCst) + step;
        sleep(Duration::from_millis(100));
        total.store(after, SeqCst);
        println!("+ {step} = {after}");
    }
}

/// Has two processes add 20 in all, and tells how much of it was lost.
fn race(lock: Option<Lock>) -> Result<u32, Error> {
    let total = Shared::new([AtomicU32::new(0), AtomicU32::new(0)])?;
    let one = mp::spawn!(add(total.clone(), 1, lock.clone()))?;
    let three = mp::spawn!(add(total.clone(), 3, lock))?;
    one.join()?;
    three.join()?;
    Ok(20 - total[0].load(SeqCst))
}

/// What it finds out is not returned, but put into a queue, by however many. (Without the black box
/// the compiler would find the formula, and nothing would be left to compute.)
#[mp::process_fn]
fn sum_into(results: Queue<u128>, n: u32) {
    let terms = (0..n)
        .map(|i| u128::from(black_box(i)))
        .map(|i| i + i * i + i * i * i);
    results.put(terms.sum()).expect("the queue is open");
}

/// The sum of what two processes put into one queue. They may be gone before anybody gets it.
fn queue_of_two_processes(n: u32) -> Result<u128, Error> {
    let results = Queue::unbounded()?;
    let one = mp::spawn!(sum_into(results.clone(), n))?;
    let two = mp::spawn!(sum_into(results.clone(), n))?;
    one.join()?;
    two.join()?;
    Ok(results.get()? + results.get()?)
}

fn queue_of_two_threads(n: u32) -> Result<u128, Error> {
    let results = Queue::unbounded()?;
    thread::scope(|scope| {
        scope.spawn(|| sum_into(results.clone(), n));
        scope.spawn(|| sum_into(results.clone(), n));
    });
    Ok(results.get()? + results.get()?)
}

fn queue_of_one(n: u32) -> Result<u128, Error> {
    let results = Queue::unbounded()?;
    sum_into(results.clone(), n);
    sum_into(results.clone(), n);
    Ok(results.get()? + results.get()?)
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
    let (number, array) = (mp::shared!(0.0)?, Array::from_slice(&[0, 1, 2, 3])?);
    mp::spawn!(change(number.clone(), array.clone()))?.join()?;
    println!("shared: {}, {:?}", number.get()?, array.lock()?);
    println!("lost without a lock: {}", race(None)?);
    println!("lost with a lock: {}", race(Some(mp::shared!(())?))?);
    println!("through a queue: {}", queue_of_two_processes(1000)?);
    timed("a queue, one does it all", || queue_of_one(10 * TERMS))?;
    timed("a queue, two threads", || queue_of_two_threads(10 * TERMS))?;
    timed("a queue, two processes", || {
        queue_of_two_processes(10 * TERMS)
    })?;
    Ok(())
}
