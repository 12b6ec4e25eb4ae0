//! Idle: how much time on processors a pool takes that has nothing to do, its workers included, in
//! a second. Against none: a process that sleeps. All threads are counted
//! (`/proc/*/task/*/schedstat`).

mod measure;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use measure::{Contest, Failure, size};
use mp::{Backend, Pool};

/// What the threads of a process have run so far.
fn busy(id: u32) -> Result<Duration, Failure> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{id}/task"))? {
        let stat = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanos += stat.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// What these processes run in a time in which nobody wants anything of them.
fn busy_in(time: Duration, ids: &[u32]) -> Result<Duration, Failure> {
    let sum = || {
        ids.iter()
            .map(|&id| busy(id))
            .sum::<Result<Duration, Failure>>()
    };
    let before = sum()?;
    std::thread::sleep(time);
    Ok(sum()? - before)
}

fn main() -> Result<(), Failure> {
    measure::be_raw_if_told()?;
    mp::init();
    let time = Duration::from_millis(size(1000, 50) as u64);
    let mut contest = Contest::new("time on processors, in a second of nothing to do", 1);
    // What this process takes to look and to sleep.
    let own = std::process::id();
    for backend in [Backend::Processes, Backend::Threads] {
        contest.enter_timed(
            format!("a pool of two, {backend:?}, and the program"),
            1,
            move || {
                let pool = Pool::builder().workers(2).backend(backend).build()?;
                std::thread::sleep(Duration::from_millis(50));
                let mut ids: Vec<u32> = pool.workers().iter().map(|worker| worker.id).collect();
                ids.push(own);
                ids.sort_unstable();
                ids.dedup();
                busy_in(time, &ids)
            },
        );
    }
    contest.enter_timed("raw: the same with two processes that read", 1, move || {
        let mut cat = Command::new("cat");
        cat.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut processes = [cat.spawn()?, cat.spawn()?];
        std::thread::sleep(Duration::from_millis(50));
        let took = busy_in(time, &[processes[0].id(), processes[1].id(), own]);
        for process in &mut processes {
            process.kill()?;
            process.wait()?;
        }
        took
    });
    contest.run(5, "idle.py", &[])
}
