//! The round trip of one small call over a warm pool, against eight bytes there and back.

mod measure;

use measure::{Contest, Echo, Failure, size};
use mp::Pool;

#[mp::process_fn]
fn square(x: i64) -> i64 {
    x * x
}

fn main() -> Result<(), Failure> {
    measure::be_raw_if_told()?;
    mp::init();
    let calls = size(2000, 100);
    let pool = Pool::new(1)?;
    let mut echo = Echo::start(8)?;
    let mut contest = Contest::new("one call at a time, there and back", calls);
    contest.enter("pool.apply(square, (12,))?", || {
        for _ in 0..calls {
            pool.apply(square, (12,))?;
        }
        Ok(())
    });
    contest.enter("raw: 8 bytes over a socket pair", || {
        (0..calls).try_for_each(|_| echo.round_trip())
    });
    contest.run(15, "round_trip.py", &[calls])
}
