//! A number to a process that sleeps, and back: over two channels, against one futex on which both
//! sleep. On all processors, and then with all on one.

mod measure;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use measure::ping::Ping;
use measure::{Contest, Failure, place, size};
use mp::{Receiver, Sender};
use nix::unistd::gettid;

/// What this binary is told when it shall measure where it was put, and nothing else.
const HERE: &str = "--here";

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
    stat: String,
}

impl Sleeper {
    fn new(process: u32, thread: u64) -> Sleeper {
        let stat = format!("/proc/{process}/task/{thread}/stat");
        Sleeper { stat }
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

fn measure_here(title: &str) -> Result<(), Failure> {
    let times = size(20_000, 500);
    let ((to, theirs), (back, from)) = (mp::channel(1)?, mp::channel(1)?);
    let answerer = mp::spawn!(answer(theirs, back.clone()))?;
    let sleeper = Sleeper::new(answerer.id(), from.recv()?);
    let ping = Ping::new()?;
    let ping_answerer = mp::spawn!(answer_ping(ping.clone(), back))?;
    let ping_sleeper = Sleeper::new(ping_answerer.id(), from.recv()?);
    let round_trip = || {
        to.send(7)?;
        from.recv()?;
        Ok(())
    };

    let mut quick = Contest::new(format!("a u64 there and back{title}"), times);
    quick.enter("tx.send(x)?, rx.recv()?", || {
        (0..times).try_for_each(|_| round_trip())
    });
    quick.enter("raw: a futex, both sleep", || {
        (0..times).for_each(|_| ping.call());
        Ok(())
    });
    quick.run(31, "hand_over.py", &[times / 10])?;

    let times = times / 10;
    let title = format!("the same, the other side asleep each time{title}");
    let mut slow = Contest::new(title, times);
    slow.enter_timed("tx.send(x)?, rx.recv()?", times, || {
        asleep(times, &sleeper, round_trip)
    });
    slow.enter_timed("raw: a futex, both sleep", times, || {
        asleep(times, &ping_sleeper, || {
            ping.call();
            Ok(())
        })
    });
    slow.run(31, "", &[])?;

    ping.end();
    drop(to);
    answerer.join()??;
    Ok(ping_answerer.join()??)
}

fn main() -> Result<(), Failure> {
    measure::be_raw_if_told()?;
    mp::init();
    if std::env::args().any(|argument| argument == HERE) {
        return measure_here(", on one core");
    }
    measure_here("")?;
    // A process of its own, since this one has seen already that there are more.
    let processors = place::processors()?;
    place::stay_on(*processors.first().ok_or("there is no processor")?)?;
    let mut command = Command::new("/proc/self/exe");
    if measure::is_quick() {
        command.arg("--quick");
    }
    match command.arg(HERE).status()? {
        status if status.success() => Ok(()),
        status => Err(status.to_string().into()),
    }
}
