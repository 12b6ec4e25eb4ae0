//! Calls with a handle to shared memory.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use mp::{Pool, Shared};

use super::tasks::WORKERS;
use crate::Failure;
use crate::contest::{Contest, Contestant, Kind, Operations};
use crate::descriptor::Mapper;
use crate::settings::Settings;

pub(super) const WITHOUT: &str = "mp, the number itself";

#[mp::process_fn]
fn read(number: Shared<AtomicU64>) -> u64 {
    number.load(Ordering::Relaxed)
}

#[mp::process_fn]
fn copied(number: u64) -> u64 {
    number
}

pub(super) fn with_a_handle(contest: &mut Contest, _: &Settings) -> Result<(), Failure> {
    let operations = Operations::UpTo(20_000);
    let pool = Rc::new(Pool::new(WORKERS)?);
    let (same_pool, number) = (Rc::clone(&pool), Shared::new(AtomicU64::new(7))?);
    contest.enter(Contestant::calls(Kind::Mp, "mp", operations, move || {
        Ok(pool.apply(read, (number.clone(),))?)
    }));
    contest.enter(Contestant::calls(
        Kind::Mp,
        WITHOUT,
        operations,
        move || Ok(same_pool.apply(copied, (7,))?),
    ));
    contest.enter_python("handle", 0, operations);
    let mut mapper = Mapper::start()?;
    contest.enter(Contestant::calls(
        Kind::Raw,
        "raw: a descriptor, mapped",
        operations,
        move || mapper.call(),
    ));
    Ok(())
}
