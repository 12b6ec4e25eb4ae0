//! What pools take from the processors while nobody wants anything of them.

use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use mp::Pool;

use super::tasks::{WORKERS, square};
use crate::Failure;
use crate::contest::{Contest, Contestant, Kind, Operations};
use crate::process_tree;
use crate::settings::Settings;

const ONCE: Operations = Operations::Exactly(1);

/// After which a pool has come to rest.
const REST: Duration = Duration::from_millis(200);

/// What a program and its workers run in such a time.
fn busy_in(time: Duration, processes: &[u32]) -> Result<Duration, Failure> {
    if processes.len() <= WORKERS {
        // Who is not looked at seems to be idle.
        return Err("there are fewer processes than workers".into());
    }
    thread::sleep(REST);
    let before = process_tree::time_on_processors(processes)?;
    thread::sleep(time);
    Ok(process_tree::time_on_processors(processes)?.saturating_sub(before))
}

/// This process, with the processes that `start` adds to those below it.
fn busy_with<T>(
    time: Duration,
    start: impl FnOnce() -> Result<T, Failure>,
) -> Result<Duration, Failure> {
    let own = process::id();
    // The programs of other contestants are below this process as well.
    let others = process_tree::descendants(own, &[])?;
    let started = start()?;
    let mut processes = process_tree::descendants(own, &others)?;
    processes.push(own);
    let took = busy_in(time, &processes);
    drop(started);
    took
}

/// Processes that do nothing but sleep.
struct Sleepers(Vec<Child>);

impl Sleepers {
    fn start() -> Result<Sleepers, Failure> {
        let sleeper = |_| {
            Command::new("cat")
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
        };
        Ok(Sleepers(
            (0..WORKERS).map(sleeper).collect::<Result<_, _>>()?,
        ))
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for process in &mut self.0 {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

pub(super) fn idle(contest: &mut Contest, settings: &Settings) -> Result<(), Failure> {
    let time = Duration::from_millis(settings.size(10_000, 100) as u64);
    let turns = settings.size(3, 1);
    contest.limit_rounds(turns);
    contest.note(format!("turns: {turns}, of {time:?} each"));
    let mp_pool = || {
        let pool = Pool::new(WORKERS)?;
        pool.map(square, 0..1000)?;
        Ok(pool)
    };
    contest.enter(Contestant::timed(Kind::Mp, "mp", ONCE, move |_| {
        busy_with(time, mp_pool)
    }));
    contest.enter_idle_python(move |program| {
        let mut processes = process_tree::descendants(program, &[])?;
        processes.push(program);
        busy_in(time, &processes)
    });
    let procspawn_pool = || {
        let pool = procspawn::Pool::new(WORKERS)?;
        pool.spawn(7, |x: i64| x * x).join()?;
        Ok(pool)
    };
    contest.enter(Contestant::timed(
        Kind::Procspawn,
        "procspawn",
        ONCE,
        move |_| busy_with(time, procspawn_pool),
    ));
    contest.enter(Contestant::timed(
        Kind::Raw,
        "raw: two that sleep",
        ONCE,
        move |_| busy_with(time, Sleepers::start),
    ));
    contest.note("the target is less than one tick (10 ms) of the program and its workers");
    Ok(())
}
