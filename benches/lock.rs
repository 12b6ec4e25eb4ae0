//! Lock a number that processes share, add one, unlock: by one process alone, and by two that
//! contend. Against a robust process-shared mutex of POSIX threads, in memory of the same kind.

mod measure;

use measure::place::Place;
use measure::robust::RobustValue;
use measure::{Contest, Failure, size};
use mp::{Pool, ProcessFn, Value};

fn add_to(value: &Value<u64>, times: usize) -> Result<(), mp::Error> {
    for _ in 0..times {
        *value.lock()? += 1;
    }
    Ok(())
}

fn add_to_robust(value: &RobustValue, times: usize) -> Result<(), Failure> {
    (0..times).try_for_each(|_| value.add_one())
}

#[mp::process_fn]
fn contend(value: Value<u64>, place: Place, times: usize) -> Result<(), String> {
    place.meet().map_err(|error| error.to_string())?;
    add_to(&value, times).map_err(|error| error.to_string())
}

#[mp::process_fn]
fn contend_robust(value: RobustValue, place: Place, times: usize) -> Result<(), String> {
    place.meet().map_err(|error| error.to_string())?;
    add_to_robust(&value, times).map_err(|error| error.to_string())
}

/// Has both workers of the pool add to `value` at once.
fn by_two<F, V>(pool: &Pool, add: F, value: &V, times: usize) -> Result<(), Failure>
where
    F: ProcessFn<Args = (V, Place, usize), Output = Result<(), String>>,
    V: Clone,
{
    let places = Place::two()?;
    let tasks = places.map(|place| pool.submit(add, (value.clone(), place, times)));
    for task in tasks {
        task?.join()??;
    }
    Ok(())
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
