//! A number to a process that sleeps, and back: over two channels, against one futex on which both
//! sleep. Wherever the kernel puts them, each on a processor of its own, and both on one.

mod measure;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use measure::ping::Ping;
use measure::{Contest, Failure, place, size};
use mp::{Receiver, Sender};
use nix::unistd::{Pid, gettid};

/// What this binary is told when it shall measure what all on one processor take.
const ALONE: &str = "--alone";

/// Tells which thread of it answers, and does so.
#[mp::process_fn]
fn answer(from: Receiver<u64>, to: Sender<u64>) -> Result<(), String> {
    let reply = |x| to.send(x).map_err(|error| error.to_string());
    reply(u64::from(gettid().as_raw().unsigned_abs()))?;
    from.iter().try_for_each(reply)
}

#[mp::process_fn]
fn answer_ping(ping: Ping, to: Sender<u64>) -> Result<(), String> {
    to.send(u64::from(gettid().as_raw().unsigned_abs()))
        .map_err(|error| error.to_string())?;
    ping.answer();
    Ok(())
}

/// The thread of another process that answers.
struct Sleeper {
    thread: Pid,
    stat: String,
}

impl Sleeper {
    fn new(process: u32, thread: u64) -> Sleeper {
        let stat = format!("/proc/{process}/task/{thread}/stat");
        let thread = Pid::from_raw(thread as i32);
        Sleeper { thread, stat }
    }

    /// Waits until it sleeps.
    fn wait(&self) -> Result<(), Failure> {
        loop {
            let stat = fs::read_to_string(&self.stat)?;
            let (_, rest) = stat
                .rsplit_once(')')
                .ok_or("this is no state of a thread")?;
            if rest.trim_start().starts_with('S') {
                return Ok(());
            }
        }
    }
}

/// How long it takes, so often, without the wait for the other side to be asleep.
fn asleep(
    times: usize,
    sleeper: &Sleeper,
    mut round_trip: impl FnMut() -> Result<(), Failure>,
) -> Result<Duration, Failure> {
    let mut sum = Duration::ZERO;
    for _ in 0..times {
        sleeper.wait()?;
        let start = Instant::now();
        round_trip()?;
        sum += start.elapsed();
    }
    Ok(sum)
}

/// Both ways to hand a number over, each with a process that answers.
struct Pair {
    to: Sender<u64>,
    from: Receiver<u64>,
    ping: Ping,
    sleepers: [Sleeper; 2],
}

impl Pair {
    fn round_trip(&self) -> Result<(), Failure> {
        self.to.send(7)?;
        self.from.recv()?;
        Ok(())
    }

    fn measure(&self, title: &str, python: &str) -> Result<(), Failure> {
        let times = size(2_000, 200);
        let mut quick = Contest::new(format!("a u64 there and back, {title}"), times);
        quick.enter("tx.send(x)?, rx.recv()?", || {
            (0..times).try_for_each(|_| self.round_trip())
        });
        quick.enter("raw: a futex, both sleep", || {
            (0..times).for_each(|_| self.ping.call());
            Ok(())
        });
        if !python.is_empty() {
            quick.note(
                "wherever the kernel puts each pair; for the ratio, see the placed ones below",
            );
        }
        quick.run(15, python, &[times])?;

        let times = times / 4;
        let title = format!("the same to one surely asleep, {title}");
        let mut slow = Contest::new(title, times);
        let [ours, raw] = &self.sleepers;
        slow.enter_timed("tx.send(x)?, rx.recv()?", times, || {
            asleep(times, ours, || self.round_trip())
        });
        slow.enter_timed("raw: a futex, both sleep", times, || {
            asleep(times, raw, || {
                self.ping.call();
                Ok(())
            })
        });
        slow.run(15, "", &[])
    }

    fn stay_apart(&self) -> Result<bool, Failure> {
        let [here, there, ..] = place::processors()?[..] else {
            return Ok(false);
        };
        place::stay_on(Pid::from_raw(0), here)?;
        for sleeper in &self.sleepers {
            place::stay_on(sleeper.thread, there)?;
        }
        Ok(true)
    }
}

fn measure_all(is_alone: bool) -> Result<(), Failure> {
    let ((to, theirs), (back, from)) = (mp::channel(1)?, mp::channel(1)?);
    let answerer = mp::spawn!(answer(theirs, back.clone()))?;
    let sleeper = Sleeper::new(answerer.id(), from.recv()?);
    let ping = Ping::new()?;
    let ping_answerer = mp::spawn!(answer_ping(ping.clone(), back))?;
    let sleepers = [sleeper, Sleeper::new(ping_answerer.id(), from.recv()?)];
    let pair = Pair {
        to,
        from,
        ping,
        sleepers,
    };
    if is_alone {
        pair.measure("on one core", "")?;
    } else {
        pair.measure("anywhere", "hand_over.py")?;
        if pair.stay_apart()? {
            pair.measure("each on its core", "")?;
        }
    }
    pair.ping.end();
    drop(pair);
    answerer.join()??;
    Ok(ping_answerer.join()??)
}

fn main() -> Result<(), Failure> {
    measure::be_raw_if_told()?;
    mp::init();
    if std::env::args().any(|argument| argument == ALONE) {
        return measure_all(true);
    }
    let processors = place::processors()?;
    measure_all(false)?;
    // A process of its own, since this one has seen already that there are more.
    let first = *processors.first().ok_or("there is no processor")?;
    place::stay_on(Pid::from_raw(0), first)?;
    let mut command = Command::new("/proc/self/exe");
    if measure::is_quick() {
        command.arg("--quick");
    }
    match command.arg(ALONE).status()? {
        status if status.success() => Ok(()),
        status => Err(status.to_string().into()),
    }
}
