//! Two numbers changed under both their locks: `locked!` against taking one lock after the other,
//! and against two robust mutexes of POSIX threads.

mod measure;

use measure::robust::RobustValue;
use measure::{Contest, Failure, size};
use mp::Value;

fn add_in_section(one: &Value<u64>, two: &Value<u64>) -> Result<(), mp::Error> {
    mp::locked!(one, two => {
        *one += 1;
        *two += 1;
    })
}

fn add_in_a_row(one: &Value<u64>, two: &Value<u64>) -> Result<(), mp::Error> {
    let (mut one, mut two) = (one.lock()?, two.lock()?);
    *one += 1;
    *two += 1;
    Ok(())
}

fn add_to_robust(one: &RobustValue, two: &RobustValue) -> Result<(), Failure> {
    one.lock()?;
    two.add_one()?;
    one.add_one_while_locked();
    one.unlock()
}

fn main() -> Result<(), Failure> {
    measure::be_raw_if_told()?;
    mp::init();
    let (one, two) = (mp::shared!(0)?, mp::shared!(0)?);
    let (robust_one, robust_two) = (RobustValue::new()?, RobustValue::new()?);
    let times = size(1_000_000, 10_000);
    let mut contest = Contest::new("lock two, add one to each, unlock", times);
    contest.enter("locked!(one, two => { *one += 1; *two += 1; })?", || {
        Ok((0..times).try_for_each(|_| add_in_section(&one, &two))?)
    });
    contest.enter("one.lock()?, two.lock()?", || {
        Ok((0..times).try_for_each(|_| add_in_a_row(&one, &two))?)
    });
    contest.enter("raw: two robust mutexes of POSIX threads", || {
        (0..times).try_for_each(|_| add_to_robust(&robust_one, &robust_two))
    });
    contest.run(31, "section.py", &[times / 10])
}
