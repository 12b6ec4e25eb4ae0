//! Both ways to start a process, against a raw fork and a raw exec; how soon a new pool has its first
//! result, and how much memory its workers take.

mod measure;

use std::fs;
use std::time::{Duration, Instant};

use mp::{Builder, Pool, StartMethod};

use measure::{Contest, Failure, size};

/// What a process of this bench does when it is started for one figure: a cold start.
const COLD: &str = "--cold-pool";

#[mp::process_fn]
fn nothing() {}

#[mp::process_fn]
fn square(x: i64) -> i64 {
    x * x
}

/// The proportional set size of a process, in KiB (`smaps_rollup`, proc(5)).
fn proportional_size(id: u32) -> Result<u64, Failure> {
    let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("there is no line of it")?.parse()?)
}

fn main() -> Result<(), Failure> {
    measure::be_raw_if_told()?;
    mp::init();
    if std::env::args().nth(1).as_deref() == Some(COLD) {
        return be_cold();
    }
    start_and_join()?;
    first_results()?;
    memory()
}

fn start_and_join() -> Result<(), Failure> {
    let processes = size(20, 3);
    let mut contest = Contest::new("start a process, run nothing, join", processes);
    for (name, method) in [
        ("fork server", StartMethod::ForkServer),
        ("exec", StartMethod::Exec),
    ] {
        contest.enter(name, move || {
            for _ in 0..processes {
                let builder = Builder::new().start_method(method);
                builder.spawn(nothing, ())?.join()?;
            }
            Ok(())
        });
    }
    contest.enter("raw: fork and wait", || {
        (0..processes).try_for_each(|_| measure::fork::fork_nothing())
    });
    contest.enter("raw: exec of the same binary and wait", || {
        (0..processes).try_for_each(|_| measure::start_nothing())
    });
    contest.run(15, "", &[])
}

/// From `Pool::new` to the first result.
fn first_result(workers: usize, method: StartMethod) -> Result<Duration, Failure> {
    let start = Instant::now();
    let pool = Pool::builder()
        .workers(workers)
        .start_method(method)
        .build()?;
    pool.apply(square, (7,))?;
    let took = start.elapsed();
    pool.join()?;
    Ok(took)
}

fn first_results() -> Result<(), Failure> {
    let mut contest = Contest::new("a new pool of 2 has its first result", 1);
    contest.enter_timed("fork server, warm", 1, || {
        first_result(2, StartMethod::ForkServer)
    });
    contest.enter_timed("fork server, cold: in a program just started", 1, cold);
    contest.enter_timed("exec", 1, || first_result(2, StartMethod::Exec));
    contest.run(25, "", &[])?;
    let many = size(256, 16);
    let mut contest = Contest::new(format!("a new pool of {many}, all there, one result"), 1);
    for (name, method) in [
        ("fork server, warm", StartMethod::ForkServer),
        ("exec", StartMethod::Exec),
    ] {
        contest.enter_timed(name, 1, move || first_result(many, method));
    }
    contest.run(5, "", &[])
}

/// In a program of its own, which prints how many nanoseconds it took.
fn cold() -> Result<Duration, Failure> {
    let output = std::process::Command::new("/proc/self/exe")
        .arg(COLD)
        .output()?;
    let nanos = String::from_utf8(output.stdout)?;
    Ok(Duration::from_nanos(nanos.trim().parse()?))
}

fn be_cold() -> Result<(), Failure> {
    let took = first_result(2, StartMethod::ForkServer)?;
    println!("{}", took.as_nanos());
    Ok(())
}

fn memory() -> Result<(), Failure> {
    for (name, method) in [
        ("fork server", StartMethod::ForkServer),
        ("exec", StartMethod::Exec),
    ] {
        let pool = Pool::builder().workers(16).start_method(method).build()?;
        pool.map(square, 0..64)?;
        let workers = pool.workers().into_iter();
        let sizes: Result<Vec<u64>, Failure> =
            workers.map(|worker| proportional_size(worker.id)).collect();
        let mut sizes = sizes?;
        sizes.sort_unstable();
        println!(
            "PSS of a worker in a pool of 16, {name}: median {} KiB",
            sizes[sizes.len() / 2]
        );
        pool.join()?;
    }
    Ok(())
}
