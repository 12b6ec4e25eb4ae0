//! Terminate: a pool of two with busy workers and 10,000 tasks in its queue, until its workers are
//! gone and every task has its end. Against killing two processes and waiting for them.

mod measure;

use std::process::{Command, Stdio};
use std::time::Instant;

use measure::{Contest, Failure, size};
use mp::{Backend, ErrorKind, Pool};

#[mp::process_fn]
fn wait_for_ever() {
    loop {
        std::thread::park();
    }
}

fn main() -> Result<(), Failure> {
    measure::be_raw_if_told()?;
    mp::init();
    let tasks = size(10_000, 500);
    let mut contest = Contest::new(format!("end two workers and {tasks} tasks"), 1);
    for backend in [Backend::Processes, Backend::Threads] {
        contest.enter_timed(format!("pool.terminate(), {backend:?}"), 1, move || {
            let pool = Pool::builder().workers(2).backend(backend).build()?;
            let submit = |_| pool.submit(wait_for_ever, ());
            let tasks = (0..tasks).map(submit).collect::<Result<Vec<_>, _>>()?;
            let start = Instant::now();
            pool.terminate();
            let took = start.elapsed();
            for task in tasks {
                assert!(
                    task.is_finished(),
                    "it has its end when `terminate` returns"
                );
                let kind = task.join().map_err(|error| error.kind());
                assert_eq!(kind, Err(ErrorKind::Cancelled));
            }
            Ok(took)
        });
    }
    contest.enter_timed("raw: kill two processes and wait for them", 1, || {
        let mut cat = Command::new("cat");
        cat.stdin(Stdio::piped());
        let mut processes = [cat.spawn()?, cat.spawn()?];
        let start = Instant::now();
        for process in &mut processes {
            process.kill()?;
        }
        for process in &mut processes {
            process.wait()?;
        }
        Ok(start.elapsed())
    });
    contest.run(11, "terminate.py", &[tasks])
}
