//! Small calls, one at a time.

use std::thread;
use std::time::{Duration, Instant};

use mp::Pool;

use super::tasks::{WORKERS, square};
use crate::Failure;
use crate::contest::{Contest, Contestant, Kind, Operations};
use crate::ping::Ping;
use crate::raw::{Answerer, Spin};
use crate::settings::Settings;

pub(crate) const FUTEX: &str = "raw: a futex, both sleep";

/// After which everybody sleeps who ever does. `contestant.py` has the same.
const NAP: Duration = Duration::from_millis(3);

#[mp::process_fn]
fn answer_ping(ping: Ping) {
    ping.answer();
}

/// A process that answers on a futex until this is dropped.
struct PingAnswerer {
    ping: Ping,
    process: Option<mp::Process<()>>,
}

impl PingAnswerer {
    fn start() -> Result<PingAnswerer, Failure> {
        let ping = Ping::new()?;
        let process = Some(mp::spawn!(answer_ping(ping.clone()))?);
        Ok(PingAnswerer { ping, process })
    }
}

impl Drop for PingAnswerer {
    fn drop(&mut self) {
        self.ping.end();
        let _ = self.process.take().map(mp::Process::join);
    }
}

pub(super) fn round_trip(contest: &mut Contest, _: &Settings) -> Result<(), Failure> {
    let operations = Operations::UpTo(50_000);
    let pool = Pool::new(WORKERS)?;
    contest.enter(Contestant::calls(Kind::Mp, "mp", operations, move || {
        Ok(pool.apply(square, (12,))?)
    }));
    contest.enter_python("round_trip", 0, operations);
    let pool = procspawn::Pool::new(WORKERS)?;
    let call = move || Ok(pool.spawn(12, |x: i64| x * x).join()?);
    contest.enter(Contestant::calls(
        Kind::Procspawn,
        "procspawn",
        operations,
        call,
    ));
    let answerer = PingAnswerer::start()?;
    contest.enter(Contestant::calls(Kind::Raw, FUTEX, operations, move || {
        answerer.ping.call();
        Ok(())
    }));
    // Its process looks all the time, so there is one for each turn.
    let spinning = move |count| {
        let spin = Spin::new()?;
        let answerer = Answerer::start(&spin)?;
        let start = Instant::now();
        (0..count).for_each(|_| spin.call());
        let took = start.elapsed();
        answerer.end()?;
        Ok(took)
    };
    contest.enter(Contestant::timed(
        Kind::Raw,
        "raw: both look all the time",
        operations,
        spinning,
    ));
    Ok(())
}

/// The time of calls that come one by one, long after each other.
fn after_naps<T>(
    count: usize,
    mut call: impl FnMut() -> Result<T, Failure>,
) -> Result<Duration, Failure> {
    let mut took = Duration::ZERO;
    for _ in 0..count {
        thread::sleep(NAP);
        let start = Instant::now();
        call()?;
        took += start.elapsed();
    }
    Ok(took)
}

pub(super) fn asleep(contest: &mut Contest, settings: &Settings) -> Result<(), Failure> {
    let operations = Operations::Exactly(settings.size(20, 3));
    let pool = Pool::new(WORKERS)?;
    contest.enter(Contestant::timed(
        Kind::Mp,
        "mp",
        operations,
        move |count| after_naps(count, || Ok(pool.apply(square, (12,))?)),
    ));
    contest.enter_python("asleep", 0, operations);
    let pool = procspawn::Pool::new(WORKERS)?;
    contest.enter(Contestant::timed(
        Kind::Procspawn,
        "procspawn",
        operations,
        move |count| after_naps(count, || Ok(pool.spawn(12, |x: i64| x * x).join()?)),
    ));
    let answerer = PingAnswerer::start()?;
    contest.enter(Contestant::timed(
        Kind::Raw,
        FUTEX,
        operations,
        move |count| {
            after_naps(count, || {
                answerer.ping.call();
                Ok(())
            })
        },
    ));
    Ok(())
}
