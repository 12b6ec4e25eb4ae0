//! Start and join: a process of its own for one call, against starting the same binary for nothing.

mod measure;

use measure::{Contest, Failure, size};

#[mp::process_fn]
fn nothing() {}

fn main() -> Result<(), Failure> {
    measure::be_raw_if_told()?;
    mp::init();
    let processes = size(20, 3);
    let mut contest = Contest::new("start a process, call a function, join", processes);
    contest.enter("mp::spawn!(nothing())?.join()?", || {
        for _ in 0..processes {
            mp::spawn!(nothing())?.join()?;
        }
        Ok(())
    });
    contest.enter("raw: fork, exec and wait of the same binary", || {
        (0..processes).try_for_each(|_| measure::start_nothing())
    });
    contest.run(15, "start_and_join.py", &[size(50, 5)])
}
