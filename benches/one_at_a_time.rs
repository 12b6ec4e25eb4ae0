//! `map` with one item to a message: how many small tasks a pool of two gets through. Against two
//! threads that send eight bytes to a process each and wait for the answer.

mod measure;

use std::thread;

use measure::{Contest, Echo, Failure, size};
use mp::{Pool, TaskOptions};

#[mp::process_fn]
fn square(x: i64) -> i64 {
    x * x
}

fn main() -> Result<(), Failure> {
    measure::be_raw_if_told()?;
    mp::init();
    let items = size(20_000, 500);
    let pool = Pool::new(2)?;
    let unchunked = TaskOptions::new().chunk_size(1);
    let mut echoes = [Echo::start(8)?, Echo::start(8)?];
    let mut contest = Contest::new(format!("{items} tasks, one to a message: each"), items);
    contest.enter(
        "pool.with(chunk_size(1)).map(square, 0..n)?, two workers",
        || {
            pool.with(unchunked.clone()).map(square, 0..items as i64)?;
            Ok(())
        },
    );
    contest.enter("raw: 8 bytes over a socket pair, two processes", || {
        thread::scope(|scope| {
            let ping = |echo: &mut Echo| {
                (0..items / 2)
                    .try_for_each(|_| echo.round_trip())
                    .map_err(|e| e.to_string())
            };
            let [one, two] = echoes.each_mut();
            let [one, two] = [
                scope.spawn(move || ping(one)),
                scope.spawn(move || ping(two)),
            ];
            for thread in [one, two] {
                thread.join().map_err(|_| "a thread panicked")??;
            }
            Ok(())
        })
    });
    contest.run(11, "one_at_a_time.py", &[items])
}
