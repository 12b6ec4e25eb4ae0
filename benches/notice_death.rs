//! A dead worker: from `kill -9` to the error in the hands of who waits for the task. Against
//! killing a process and waiting for its end.

mod measure;

use std::process::{Command, Stdio};
use std::time::Instant;

use measure::{Contest, Failure, size};
use mp::{ErrorKind, Pool};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[mp::process_fn]
fn wait_for_ever() {
    loop {
        std::thread::park();
    }
}

#[mp::process_fn]
fn nothing() {}

fn main() -> Result<(), Failure> {
    measure::be_raw_if_told()?;
    mp::init();
    let pool = Pool::new(1)?;
    let mut contest = Contest::new("kill -9 a worker, until somebody knows", 1);
    contest.enter_timed("task.join(), the task it was running", 1, || {
        let task = pool.submit(wait_for_ever, ())?;
        let worker = loop {
            let worker = pool.workers().into_iter().next();
            if let Some(worker) = worker.filter(|_| pool.stats().running == 1) {
                break Pid::from_raw(worker.id.cast_signed());
            }
            std::thread::yield_now();
        };
        // It has come to the function, and the machine to rest.
        std::thread::sleep(std::time::Duration::from_millis(20));
        let start = Instant::now();
        kill(worker, Signal::SIGKILL)?;
        let error = task.join().err().ok_or("it runs for ever")?;
        let took = start.elapsed();
        assert_eq!(error.kind(), ErrorKind::Died);
        // With the next worker.
        pool.apply(nothing, ())?;
        Ok(took)
    });
    contest.enter_timed("raw: wait for a process", 1, || {
        let mut process = Command::new("cat").stdin(Stdio::piped()).spawn()?;
        std::thread::sleep(std::time::Duration::from_millis(20));
        let start = Instant::now();
        process.kill()?;
        process.wait()?;
        Ok(start.elapsed())
    });
    contest.run(size(51, 3), "notice_death.py", &[])
}
