//! 400 MB of `f64` that lie in shared memory, handed to a warm worker, which reads one of them and
//! gives it back. Against sending a copy, and eight bytes there and back.

mod measure;

use measure::{Contest, Echo, Failure, size};
use mp::{Pool, Shared};

#[mp::process_fn]
fn read(samples: Shared<[f64]>, index: usize) -> f64 {
    samples[index]
}

#[mp::process_fn]
fn read_copy(samples: Vec<f64>, index: usize) -> f64 {
    samples[index]
}

fn main() -> Result<(), Failure> {
    measure::be_raw_if_told()?;
    mp::init();
    let samples = vec![0.5; size(50_000_000, 500_000)];
    let (megabytes, middle) = (size_of_val(&samples[..]) / 1_000_000, samples.len() / 2);
    let shared = Shared::from_slice(&samples)?;
    let pool = Pool::new(1)?;
    let mut echo = Echo::start(8)?;
    let calls = size(100, 10);
    let title = format!("{megabytes} MB of f64 to a worker, one of them back");
    let mut contest = Contest::new(title, 1);
    contest.enter_many("pool.apply(read, (shared, index))?", calls, || {
        for _ in 0..calls {
            let sample = pool.apply(read, (shared.clone(), middle))?;
            assert_eq!(sample, 0.5);
        }
        Ok(())
    });
    contest.enter_many("raw: 8 bytes over a socket pair", calls, || {
        (0..calls).try_for_each(|_| echo.round_trip())
    });
    contest.enter("pool.apply(read_copy, (samples, index))?", || {
        let sample = pool.apply(read_copy, (samples.clone(), middle))?;
        assert_eq!(sample, 0.5);
        // A worker answers before it frees what it was sent; this waits for the end of that.
        pool.apply(read_copy, (vec![sample], 0))?;
        Ok(())
    });
    contest.run(11, "shared_slice.py", &[samples.len()])
}
