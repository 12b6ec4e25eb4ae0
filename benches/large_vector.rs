//! 40 MB of `f64` to a worker and back, against the same bytes over a socket pair, and a copy in memory.

mod measure;

use std::hint::black_box;

use measure::{Contest, Echo, Failure, size};
use mp::Pool;

#[mp::process_fn]
fn same(samples: Vec<f64>) -> Vec<f64> {
    samples
}

fn main() -> Result<(), Failure> {
    measure::be_raw_if_told()?;
    mp::init();
    let samples = vec![0.5; size(5_000_000, 200_000)];
    let megabytes = size_of_val(&samples[..]) / 1_000_000;
    let pool = Pool::new(1)?;
    let mut echo = Echo::start(size_of_val(&samples[..]))?;
    let mut contest = Contest::new(format!("{megabytes} MB of f64 there and back"), 1);
    contest.enter("pool.apply(same, (samples,))?", || {
        let back = pool.apply(same, (samples.clone(),))?;
        assert_eq!(back.len(), samples.len());
        Ok(())
    });
    contest.enter("raw: written and read whole over a socket pair", || {
        echo.round_trip()
    });
    contest.enter("raw: two copies in memory", || {
        black_box(black_box(samples.clone()).clone());
        Ok(())
    });
    contest.run(11, "large_vector.py", &[samples.len()])
}
