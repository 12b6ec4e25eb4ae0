//! Calls that a worker has before it has come to them.

use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use mp::{Backend, ErrorKind, Pool, Task, TaskOptions};

use crate::watchdog::{until, within};

const LIMIT: Duration = Duration::from_secs(120);

/// What a step does; anything else is the gate at which it waits.
const NOTHING: u32 = 0;
const DIE: u32 = 1;

/// The gates at which steps wait: each test has its own.
const BEHIND: u32 = 10;
const CANCELLED: u32 = 11;
const STOPPED: u32 = 12;
const TOLD: u32 = 13;
const BLOCKED: u32 = 14;
const AMONG: u32 = 15;
const TOGETHER: u32 = 16;

mp::shared! {
    /// How many have come to each gate, and whether they may go on.
    static STEPS: [u64; 17] = [0; 17];
    static IS_OPEN: [bool; 17] = [false; 17];
}

/// A function of plain numbers, so that its calls are light.
#[mp::process_fn]
fn step(number: u32, what: u32) -> (u32, u32) {
    match what {
        NOTHING => {}
        DIE => std::process::abort(),
        gate => {
            let gate = gate as usize;
            let come = STEPS.update(|steps| steps[gate] += 1);
            come.expect("nobody dies with it");
            until(|| IS_OPEN.get().expect("nobody dies with it")[gate]);
        }
    }
    (number, std::process::id())
}

/// Of these one item waits at a gate.
const LONG: u32 = 1503;

#[mp::process_fn]
fn short_but_for_one(number: u32) -> u32 {
    step(number, if number == LONG { AMONG } else { NOTHING }).0
}

/// A pool that knows that a step is short.
fn pool(workers: usize) -> Pool {
    pool_of(Backend::Processes, workers)
}

fn pool_of(backend: Backend, workers: usize) -> Pool {
    let builder = Pool::builder().workers(workers).backend(backend);
    let pool = builder.build().expect("a pool can be started");
    for _ in 0..20 {
        let tasks: Vec<_> = (0..200)
            .map(|number| submit(&pool, number, NOTHING))
            .collect();
        for task in tasks {
            task.join().expect("it works");
        }
    }
    pool
}

fn submit(pool: &Pool, number: u32, what: u32) -> Task<(u32, u32)> {
    pool.submit(step, (number, what)).expect("it is open")
}

fn wait_until_one_waits_at(gate: u32) {
    until(|| STEPS.get().expect("nobody dies with it")[gate as usize] == 1);
}

/// Has a gate as it was before anybody came to it.
fn close(gate: u32) {
    let forgotten = STEPS.update(|steps| steps[gate as usize] = 0);
    forgotten.expect("nobody dies with it");
    set_open(gate, false);
}

fn open(gate: u32) {
    set_open(gate, true);
}

fn set_open(gate: u32, is_open: bool) {
    let set = IS_OPEN.update(|are_open| are_open[gate as usize] = is_open);
    set.expect("nobody dies with it");
}

#[mp::test]
fn what_stands_behind_a_long_call_runs_elsewhere() {
    within(LIMIT, || {
        let pool = pool(2);
        let long = submit(&pool, 0, BEHIND);
        let rest: Vec<_> = (1..500)
            .map(|number| submit(&pool, number, NOTHING))
            .collect();
        for (number, task) in (1..).zip(rest) {
            assert_eq!(task.join().expect("it works").0, number);
        }
        wait_until_one_waits_at(BEHIND);
        assert!(!long.is_finished());
        open(BEHIND);
        assert_eq!(long.join().expect("it works").0, 0);
        pool.join().expect("nothing is wrong");
    });
}

#[mp::test]
fn what_stands_behind_a_long_item_of_its_chunk_runs_elsewhere() {
    within(LIMIT, || {
        let pool = pool(2);
        for options in [TaskOptions::new(), TaskOptions::new().chunk_size(1)] {
            let calls = pool.with(options);
            close(AMONG);
            for _ in 0..20 {
                let short = calls.map(short_but_for_one, 1..400);
                assert_eq!(short.expect("it works").len(), 399);
            }
            let all = calls.imap_unordered(short_but_for_one, 1000..2000);
            let mut results = all.map(|(_, result)| result.expect("it works"));
            let mut others: Vec<u32> = results.by_ref().take(999).collect();
            others.sort_unstable();
            assert!(
                others
                    .into_iter()
                    .eq((1000..2000).filter(|number| *number != LONG))
            );
            wait_until_one_waits_at(AMONG);
            open(AMONG);
            assert_eq!(results.next(), Some(LONG));
            assert_eq!(results.next(), None);
        }
        pool.join().expect("nothing is wrong");
    });
}

#[mp::process_fn]
fn length(text: String) -> usize {
    text.len()
}

#[mp::test]
fn a_worker_whose_ring_is_full_of_what_was_taken_back_gets_all_of_the_rest() {
    within(LIMIT, || {
        let pool = Pool::new(1).expect("a pool can be started");
        for _ in 0..20 {
            pool.map(length, vec!["x".repeat(1000); 50])
                .expect("it works");
        }
        let worker = Pid::from_raw(pool.workers()[0].id as i32);
        kill(worker, Signal::SIGSTOP).expect("it is there");
        let texts = [vec!["x".repeat(10_000); 5], vec!["x".into(); 100]].concat();
        let submit = |text| pool.submit(length, (text,)).expect("it is open");
        let mut tasks: Vec<_> = texts.into_iter().map(submit).collect();
        // With that everything is taken back.
        assert!(tasks.swap_remove(1).cancel());
        kill(worker, Signal::SIGCONT).expect("it is there");
        let lengths = tasks.into_iter().map(|task| task.join().expect("it works"));
        assert_eq!(lengths.sum::<usize>(), 4 * 10_000 + 100);
        pool.join().expect("nothing is wrong");
    });
}

#[mp::process_fn]
fn worker_of(number: u32) -> (u32, u32) {
    step(number, if number == 0 { TOGETHER } else { NOTHING })
}

#[mp::test]
fn a_chunk_of_a_size_that_was_asked_for_stays_with_its_worker() {
    within(LIMIT, || {
        let pool = pool(2);
        let calls = pool.with(TaskOptions::new().chunk_size(5));
        for _ in 0..20 {
            calls.map(worker_of, 1..100).expect("it works");
        }
        let all = calls.imap_unordered(worker_of, 0..10);
        let mut results = all.map(|(_, result)| result.expect("it works"));
        let second: Vec<_> = results.by_ref().take(5).collect();
        assert!(
            second
                .iter()
                .all(|(number, worker)| *number >= 5 && *worker == second[0].1)
        );
        wait_until_one_waits_at(TOGETHER);
        // Were they taken back, then by now.
        std::thread::sleep(Duration::from_millis(50));
        open(TOGETHER);
        let first: Vec<_> = results.collect();
        assert_eq!(first.len(), 5);
        assert!(first.iter().all(|(_, worker)| *worker == first[0].1));
        pool.join().expect("nothing is wrong");
    });
}

#[mp::test]
fn what_ended_before_a_long_call_is_told_while_that_runs() {
    within(LIMIT, || {
        let pool = pool(1);
        for _ in 0..30 {
            close(TOLD);
            let (told, results) = mpsc::channel();
            for number in 0..50 {
                let told = told.clone();
                // Nobody waits for it at the ring.
                submit(&pool, number, NOTHING).on_done(move |result| {
                    let _ = told.send(result.as_ref().map(|(number, _)| *number).ok());
                });
            }
            let long = submit(&pool, 50, TOLD);
            let mut told: Vec<_> = results.iter().take(50).collect();
            told.sort_unstable();
            assert!(told.into_iter().eq((0..50).map(Some)));
            wait_until_one_waits_at(TOLD);
            open(TOLD);
            assert_eq!(long.join().expect("it works").0, 50);
        }
        pool.join().expect("nothing is wrong");
    });
}

/// Whoever waits for them, and though as many workers have something as can compute at once.
#[mp::test]
fn short_calls_run_while_those_that_were_short_before_are_not() {
    within(LIMIT, || {
        for backend in [Backend::Processes, Backend::Threads] {
            let blocked = mp::cpu_count() as u32;
            let pool = pool_of(backend, blocked as usize + 2);
            for _ in 0..5 {
                close(BLOCKED);
                // Nothing is done meanwhile that could be noticed.
                let long: Vec<_> = (0..blocked).map(|n| submit(&pool, n, BLOCKED)).collect();
                let (told, results) = mpsc::channel();
                for number in 0..20 {
                    let told = told.clone();
                    submit(&pool, number, NOTHING).on_done(move |_| {
                        let _ = told.send(());
                    });
                }
                assert_eq!(results.iter().take(20).count(), 20);
                // All of them have begun, none behind another one.
                until(|| {
                    STEPS.get().expect("nobody dies with it")[BLOCKED as usize] == blocked.into()
                });
                open(BLOCKED);
                for task in long {
                    task.join().expect("it works");
                }
            }
            pool.join().expect("nothing is wrong");
        }
    });
}

#[mp::test]
fn a_death_fails_the_call_that_was_running_and_none_behind_it() {
    within(LIMIT, || {
        let pool = pool(2);
        for round in 0..20 {
            let dying = 10 + round * 7;
            let what = |number| if number == dying { DIE } else { NOTHING };
            let tasks: Vec<_> = (0..300)
                .map(|number| submit(&pool, number, what(number)))
                .collect();
            for (number, task) in (0..).zip(tasks) {
                match task.join() {
                    Ok((own, _)) => assert!(own == number && number != dying),
                    Err(error) => {
                        assert_eq!((number, error.kind()), (dying, ErrorKind::Died), "{error}");
                    }
                }
            }
        }
        let stats = pool.stats();
        assert_eq!((stats.queued, stats.running, stats.failed), (0, 0, 20));
        pool.join().expect("nothing is wrong");
    });
}

#[mp::test]
fn a_call_that_is_cancelled_before_its_worker_comes_to_it_harms_no_other() {
    within(LIMIT, || {
        let pool = pool(1);
        let before = pool.workers()[0].id;
        let long = submit(&pool, 0, CANCELLED);
        let mut rest: Vec<_> = (1..50)
            .map(|number| submit(&pool, number, NOTHING))
            .collect();
        wait_until_one_waits_at(CANCELLED);
        let cancelled = rest.remove(20);
        assert!(cancelled.cancel());
        let error = cancelled.join().expect_err("it never ran");
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        open(CANCELLED);
        for task in [long].into_iter().chain(rest) {
            assert_eq!(task.join().expect("it works").1, before);
        }
        assert_eq!(pool.stats().restarts, 0);
        pool.join().expect("nothing is wrong");
    });
}

#[mp::test]
fn a_running_call_is_cancelled_and_what_stands_behind_it_runs() {
    within(LIMIT, || {
        let pool = pool(1);
        let long = submit(&pool, 0, STOPPED);
        let rest: Vec<_> = (1..50)
            .map(|number| submit(&pool, number, NOTHING))
            .collect();
        wait_until_one_waits_at(STOPPED);
        assert!(long.cancel());
        assert_eq!(
            long.join().expect_err("it was stopped").kind(),
            ErrorKind::Cancelled
        );
        for (number, task) in (1..).zip(rest) {
            assert_eq!(task.join().expect("it works").0, number);
        }
        pool.join().expect("nothing is wrong");
    });
}

#[mp::test]
fn a_worker_that_may_run_few_calls_gets_no_more_ahead() {
    within(LIMIT, || {
        let pool = Pool::builder().workers(2).max_tasks_per_worker(7).build();
        let pool = pool.expect("a pool can be started");
        let tasks: Vec<_> = (0..1000)
            .map(|number| submit(&pool, number, NOTHING))
            .collect();
        let mut calls = std::collections::HashMap::<u32, u32>::new();
        for task in tasks {
            *calls.entry(task.join().expect("it works").1).or_default() += 1;
        }
        assert!(calls.values().all(|&count| count <= 7), "{calls:?}");
        pool.join().expect("nothing is wrong");
    });
}

#[mp::test]
fn many_threads_get_their_own_results() {
    within(LIMIT, || {
        let pool = pool(2);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let pool = &pool;
                scope.spawn(move || {
                    for round in 0..200 {
                        let number = thread * 1000 + round;
                        let called = pool.apply(step, (number, NOTHING)).expect("it works");
                        assert_eq!(called.0, number);
                        let tasks = [0, 1, 2].map(|more| submit(pool, number + more, NOTHING));
                        for (more, task) in (0..).zip(tasks) {
                            assert_eq!(task.join().expect("it works").0, number + more);
                        }
                    }
                });
            }
        });
        pool.join().expect("nothing is wrong");
    });
}
