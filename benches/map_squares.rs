//! `map` over 100,000 squares, chunked as the pool sees fit: what the machinery costs when the work
//! is nothing. Against a loop, threads, and moving as many bytes there and back.

mod measure;

use std::hint::black_box;
use std::thread;

use measure::{Contest, Echo, Failure, size};
use mp::Pool;

#[mp::process_fn]
fn square(x: i64) -> i64 {
    x * x
}

fn squares(items: std::ops::Range<i64>) -> Vec<i64> {
    items.map(|x| square(black_box(x))).collect()
}

fn main() -> Result<(), Failure> {
    measure::be_raw_if_told()?;
    mp::init();
    let items = size(100_000, 2000) as i64;
    let pool = Pool::new(2)?;
    let mut echo = Echo::start(size_of::<i64>() * items as usize)?;
    let mut contest = Contest::new(format!("the squares of 0..{items}, all of them"), 1);
    contest.enter("pool.map(square, 0..n)?, two workers", || {
        let results = pool.map(square, 0..items)?;
        assert_eq!(results.len(), items as usize);
        Ok(())
    });
    contest.enter("raw: a loop", || {
        black_box(squares(0..items));
        Ok(())
    });
    contest.enter("raw: two threads, started for it", || {
        let halves = [0..items / 2, items / 2..items];
        let threads = halves.map(|half| thread::spawn(|| squares(half)));
        let _ = black_box(threads.map(thread::JoinHandle::join));
        Ok(())
    });
    contest.enter("raw: the bytes over a socket pair, in one block", || {
        echo.round_trip()
    });
    contest.run(31, "map_squares.py", &[items as usize])
}
