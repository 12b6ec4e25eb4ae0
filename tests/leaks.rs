//! After a thousand of anything: no descriptor, thread, mapping, process or file more than before.
//!
//! Each count is of a program of its own, since other tests of the same process would be counted
//! as well.

mod programs;
mod watchdog;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use ipc_channel::ipc::{self, IpcSender};
use mp::{Pool, Queue, Receiver, Sender, TaskOptions};

use programs::Directory;
use watchdog::within;

const LIMIT: Duration = Duration::from_secs(300);
/// How long what is on its way out may take to be gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// Mappings come and go with the allocator's arenas; a leak would make a thousand.
const MAPPING_SLACK: usize = 60;
/// What goes over the connections of two workers may have made them meanwhile; a leak would make
/// hundreds.
const CONNECTION_SLACK: usize = 8;

#[mp::process_fn]
fn echo(number: u64) -> u64 {
    number
}

#[mp::process_fn]
fn large_echo(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

#[mp::process_fn]
fn die() {
    std::process::exit(1);
}

#[mp::process_fn]
fn fail() {
    panic!("as always");
}

#[mp::process_fn]
fn pass(from: Receiver<u64>, to: Sender<u64>, queue: Queue<u64>) -> Queue<u64> {
    for number in from {
        to.send(number).expect("the parent receives");
        queue.put(number).expect("it is open");
    }
    queue
}

#[mp::process_fn]
fn answer(number: u64, to: IpcSender<u64>) -> IpcSender<u64> {
    to.send(number).expect("the parent receives");
    to
}

#[mp::process_fn]
fn keep(number: u64, to: IpcSender<u64>) -> (u64, IpcSender<u64>) {
    (number, to)
}

#[derive(Clone, Debug, PartialEq)]
struct Holdings {
    descriptors: usize,
    threads: usize,
    children: usize,
    files: Vec<String>,
    shared: usize,
    mappings: usize,
}

impl Holdings {
    fn now() -> Holdings {
        let count = |path: &str| fs::read_dir(path).map_or(0, Iterator::count);
        let temporary = fs::read_dir(std::env::temp_dir()).expect("the test made it");
        let maps = fs::read_to_string("/proc/self/maps").expect("there is /proc");
        Holdings {
            descriptors: programs::open_descriptors(),
            threads: count("/proc/self/task"),
            children: programs::children_of(std::process::id()).len(),
            files: temporary
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .collect(),
            shared: maps.lines().filter(|line| line.contains("memfd:")).count(),
            mappings: maps.lines().count(),
        }
    }

    /// What is held once that does not change any more: what a round has made last may still be on
    /// its way out when the round returns.
    fn settled() -> Holdings {
        let mut before = Holdings::now();
        loop {
            thread::sleep(Duration::from_millis(500));
            let now = Holdings::now();
            if now == before {
                return now;
            }
            before = now;
        }
    }

    /// Whether nothing has grown. What was on its way out before may be gone now.
    fn are_within(&self, before: &Holdings) -> bool {
        self.descriptors <= before.descriptors + CONNECTION_SLACK
            && self.threads <= before.threads
            && self.children <= before.children
            && self.files == before.files
            && self.shared <= before.shared
            && self.mappings <= before.mappings + MAPPING_SLACK
    }
}

/// Runs `round` with `warm` and then `count`, and compares what the program holds after each.
#[track_caller]
fn check_round(warm: usize, count: usize, round: impl Fn(usize)) {
    round(warm);
    let before = Holdings::settled();
    round(count);
    let done = Instant::now();
    let mut after = Holdings::now();
    while !after.are_within(&before) && done.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(20));
        after = Holdings::now();
    }
    assert!(after.are_within(&before), "{before:?} became {after:?}");
}

fn program(name: &str, body: impl FnOnce()) {
    programs::program(name, LIMIT, body);
}

/// Runs the program with a temporary directory of its own, which must be empty afterwards.
#[track_caller]
fn check(name: &str) {
    within(LIMIT, || {
        let directory = Directory::new();
        let shared = fs::read_dir("/dev/shm").map_or(0, Iterator::count);
        let mut command = programs::command(name);
        command.env("TMPDIR", directory.path());
        let end = programs::Program::start(command).finish();
        assert!(end.status.success(), "`{name}` ended with {}", end.status);
        assert!(directory.entries().is_empty(), "{:?}", directory.entries());
        assert!(fs::read_dir("/dev/shm").map_or(0, Iterator::count) <= shared);
    });
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_processes() {
    program("program_of_processes", || {
        check_round(20, 1000, |count| {
            for number in 0..count as u64 {
                let process = mp::spawn!(echo(number)).expect("a process can be started");
                match number % 3 {
                    0 => assert_eq!(process.join().expect("it returns"), number),
                    1 => process.wait(),
                    _ => drop(process),
                }
            }
        });
    });
}

#[test]
fn promise_21_a_thousand_processes_leave_nothing() {
    check("program_of_processes");
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_failing_processes() {
    program("program_of_failing_processes", || {
        check_round(10, 200, |count| {
            for number in 0..count {
                let process = match number % 2 {
                    0 => mp::spawn!(die()),
                    _ => mp::spawn!(fail()),
                };
                let process = process.expect("a process can be started");
                if number % 4 == 3 {
                    process.kill().expect("it is ours");
                }
                process.join().expect_err("it does not return");
            }
        });
    });
}

#[test]
fn promise_21_processes_that_fail_leave_nothing() {
    check("program_of_failing_processes");
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_tasks() {
    program("program_of_tasks", || {
        let pool = Pool::new(2).expect("a pool can be started");
        check_round(100, 1000, |count| {
            let tasks =
                (0..count as u64).map(|number| pool.submit(echo, (number,)).expect("it is open"));
            let tasks: Vec<_> = tasks.collect();
            for (number, task) in (0..).zip(tasks) {
                match number % 3 {
                    0 => assert_eq!(task.join().expect("it returns"), number),
                    1 => task.wait(),
                    _ => drop(task),
                }
            }
            pool.map(echo, 0..count as u64).expect("it returns");
            let lazy = pool.imap(echo, 0..).take(count).filter(Result::is_ok);
            assert_eq!(lazy.count(), count);
            let options = TaskOptions::new().timeout(Duration::from_secs(3600));
            pool.with(options).apply(echo, (1,)).expect("it returns");
        });
    });
}

#[test]
fn promise_21_thousands_of_tasks_leave_nothing() {
    check("program_of_tasks");
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_large_tasks() {
    program("program_of_large_tasks", || {
        let pool = Pool::new(2).expect("a pool can be started");
        check_round(5, 100, |count| {
            let items = (0..count).map(|_| vec![1; 1 << 20]);
            let results = pool.map(large_echo, items).expect("they return");
            assert!(results.iter().all(|result| result.len() == 1 << 20));
        });
    });
}

#[test]
fn promise_21_large_arguments_and_results_leave_nothing() {
    check("program_of_large_tasks");
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_handles() {
    program("program_of_handles", || {
        let pool = Pool::new(2).expect("a pool can be started");
        check_round(20, 300, |count| {
            let (sender, receiver) = ipc::channel().expect("a channel can be made");
            // No more at a time than a channel holds that nobody reads.
            for _ in 0..count / 20 {
                let items = (0..20).map(|number| (number, sender.clone()));
                let senders = pool.starmap(answer, items).expect("they return");
                for sender in senders {
                    sender.send(0).expect("it leads here");
                }
                let received = (0..40).map(|_| receiver.recv().expect("it was sent"));
                assert_eq!(received.sum::<u64>(), 190);
            }
        });
        // And those of calls that nobody takes the result of.
        check_round(20, 300, |count| {
            for number in 0..count as u64 {
                let (sender, _receiver) = ipc::channel().expect("a channel can be made");
                let task = pool.submit(keep, (number, sender));
                let task = task.expect("it is open");
                if number % 2 == 0 {
                    task.wait();
                }
            }
            pool.map(echo, 0..10).expect("they return");
        });
    });
}

#[test]
fn promise_21_handles_in_arguments_and_results_leave_nothing() {
    check("program_of_handles");
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_channels() {
    program("program_of_channels", || {
        check_round(20, 1000, |count| {
            for number in 0..count {
                let (tx, rx) = match number % 2 {
                    0 => mp::channel(4),
                    _ => mp::unbounded_channel(),
                }
                .expect("a channel can be made");
                tx.send(vec![number; number % 100 * 100])
                    .expect("there is a receiver");
                // Some are dropped full.
                if number % 3 == 0 {
                    assert_eq!(
                        rx.recv().map(|message| message.len()).ok(),
                        Some(number % 100 * 100)
                    );
                }
            }
            for number in 0..count {
                let queue = match number % 2 {
                    0 => Queue::bounded(4),
                    _ => Queue::unbounded(),
                }
                .expect("a queue can be made");
                queue.put("x".repeat(number)).expect("it is open");
                if number % 3 == 0 {
                    queue.close();
                }
            }
        });
        // The same with other processes in it.
        let pool = Pool::new(2).expect("a pool can be started");
        let worker = || pool.apply(descriptors, ()).expect("it returns").len();
        let round = |count: usize| {
            for number in 0..count as u64 {
                let (to, there) = mp::channel(4).expect("a channel can be made");
                let (back, from) = mp::unbounded_channel().expect("a channel can be made");
                let queue = Queue::unbounded().expect("a queue can be made");
                let task = pool.submit(pass, (there, back, queue));
                let task = task.expect("it is open");
                to.send(number).expect("the worker receives");
                drop(to);
                assert_eq!(from.iter().collect::<Vec<_>>(), [number]);
                let queue = task.join().expect("it returns");
                assert_eq!(queue.get().ok(), Some(number));
            }
        };
        round(50);
        let before = worker().max(worker());
        check_round(50, 300, round);
        let after = worker().max(worker());
        assert!(
            after <= before,
            "a worker had {before} descriptors, and has {after}"
        );
    });
}

#[test]
fn promise_21_a_thousand_channels_and_queues_leave_nothing() {
    check("program_of_channels");
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_pools() {
    program("program_of_pools", || {
        check_round(4, 100, |count| {
            for number in 0..count {
                let pool = Pool::new(2).expect("a pool can be started");
                let sum: u64 = pool.map(echo, 0..10).expect("they return").iter().sum();
                assert_eq!(sum, 45);
                match number % 3 {
                    0 => pool.join().expect("all is done"),
                    1 => pool.terminate(),
                    _ => drop(pool),
                }
            }
        });
    });
}

#[test]
fn promise_21_a_hundred_pools_leave_nothing() {
    check("program_of_pools");
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_callbacks() {
    program("program_of_callbacks", || {
        let pool = Pool::new(2).expect("a pool can be started");
        check_round(20, 1000, |count| {
            let tasks = (0..count as u64).map(|number| {
                let task = pool.submit(echo, (number,)).expect("the pool is open");
                task.on_done(move |result| {
                    assert_eq!(*result.as_ref().expect("it returns"), number);
                });
                task
            });
            let (dropped, taken): (Vec<_>, Vec<_>) =
                tasks.enumerate().partition(|(number, _)| number % 2 == 0);
            drop(dropped);
            let results = mp::as_completed(taken.into_iter().map(|(_, task)| task));
            assert_eq!(results.filter(Result::is_ok).count(), count / 2);
        });
    });
}

#[test]
fn promise_21_a_thousand_callbacks_leave_nothing() {
    check("program_of_callbacks");
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_replaced_workers() {
    program("program_of_replaced_workers", || {
        let pool = Pool::new(2).expect("a pool can be started");
        // The workers themselves are children, and are there before and after.
        let round = |count: usize| {
            for _ in 0..count {
                pool.apply(die, ()).expect_err("it does not return");
            }
        };
        round(10);
        let count = || {
            // Both workers are there again.
            while pool.workers().len() < 2 {
                thread::sleep(Duration::from_millis(2));
            }
            pool.map(echo, 0..20).expect("they return");
            Holdings::now()
        };
        let before = count();
        round(200);
        let start = Instant::now();
        let mut after = count();
        while !after.are_within(&before) && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(20));
            after = count();
        }
        assert!(after.are_within(&before), "{before:?} became {after:?}");
    });
}

#[test]
fn promise_21_replaced_workers_leave_nothing() {
    check("program_of_replaced_workers");
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_recycled_workers() {
    program("program_of_recycled_workers", || {
        let builder = Pool::builder().workers(2).max_tasks_per_worker(1);
        let pool = builder.build().expect("a pool can be started");
        check_round(10, 300, |count| {
            let results = pool.map(echo, 0..count as u64).expect("they return");
            assert!(results.into_iter().eq(0..count as u64));
            while pool.workers().len() < 2 {
                thread::sleep(Duration::from_millis(2));
            }
        });
    });
}

#[test]
fn promise_21_recycled_workers_leave_nothing() {
    check("program_of_recycled_workers");
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_pools_that_grow_and_shrink() {
    program("program_of_pools_that_grow_and_shrink", || {
        let pool = Pool::new(1).expect("a pool can be started");
        check_round(4, 100, |count| {
            for number in 0..count {
                pool.resize(number % 4 + 1).expect("there is room");
                pool.map(echo, 0..10).expect("they return");
            }
            pool.resize(1).expect("fewer can be had");
        });
    });
}

#[test]
fn promise_21_a_pool_that_grows_and_shrinks_leaves_nothing() {
    check("program_of_pools_that_grow_and_shrink");
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_abandoned_iterators() {
    program("program_of_abandoned_iterators", || {
        let pool = Pool::new(2).expect("a pool can be started");
        check_round(20, 500, |count| {
            for number in 0..count {
                let mut results = pool.imap(echo, 0..);
                for expected in 0..number as u64 % 3 {
                    let result = results.next().expect("there is no end");
                    assert_eq!(result.expect("it returns"), expected);
                }
                drop(results);
                let task = pool.submit_map(echo, 0..10).expect("it is open");
                task.cancel();
            }
            pool.map(echo, 0..10).expect("they return");
        });
    });
}

#[test]
fn promise_21_abandoned_iterators_and_cancelled_tasks_leave_nothing() {
    check("program_of_abandoned_iterators");
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_that_counts_its_workers_descriptors() {
    program("program_that_counts_its_workers_descriptors", || {
        let pool = Pool::new(1).expect("a pool can be started");
        let (sender, _receiver) = ipc::channel().expect("a channel can be made");
        let work = |number| {
            let to = sender.clone();
            drop(pool.apply(answer, (number, to)).expect("it returns"));
            let large = pool.apply(large_echo, (vec![1; 1 << 18],));
            large.expect("it returns");
            pool.apply(fail, ()).expect_err("it panics");
        };
        // Whatever is made once in a worker.
        work(0);
        let before = pool.apply(descriptors, ()).expect("it returns");
        (1..200).for_each(work);
        let after = pool.apply(descriptors, ()).expect("it returns");
        assert!(after.len() <= before.len(), "{before:?} became {after:?}");
        assert!(before.len() <= 16, "a worker has {before:?}");
        // However many pools the program has.
        let pools = [(); 5].map(|()| Pool::new(2).expect("a pool can be started"));
        let last = pools[4].apply(descriptors, ()).expect("it returns");
        assert!(
            last.len() <= before.len(),
            "the last worker has {last:?}, not {before:?}"
        );
        // And each of its own costs the program few.
        let own = programs::open_descriptors();
        let more = Pool::new(10).expect("a pool can be started");
        let each = (programs::open_descriptors() - own).div_ceil(10);
        assert!(each <= 4, "a worker takes {each} descriptors");
        drop(more);
    });
}

#[mp::process_fn]
fn descriptors() -> Vec<String> {
    let entries = fs::read_dir("/proc/self/fd").expect("there is /proc");
    entries
        .filter_map(|entry| {
            Some(
                fs::read_link(entry.ok()?.path())
                    .ok()?
                    .display()
                    .to_string(),
            )
        })
        .collect()
}

#[test]
fn promise_24_descriptors_of_a_worker_are_constant_and_few() {
    check("program_that_counts_its_workers_descriptors");
}
