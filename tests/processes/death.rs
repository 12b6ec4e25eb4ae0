//! What becomes of the items of a worker that dies, and what the error says.
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mp::{Error, ErrorKind, Pool, TaskOptions};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::Pid;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::programs::{self, Directory};
use crate::watchdog::{until, within};

const LIMIT: Duration = Duration::from_secs(120);

/// How a call can end other than by returning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum End {
    Abort,
    Kill,
    Segfault,
    Terminate,
    Exit(i32),
    ExitInThread(i32),
    Str,
    Text,
    Number,
    NestedPanic,
    DropOfPayload,
    StackOverflow,
    Allocation,
}

fn is_worker() -> bool {
    mp::current().name != "MainProcess"
}

fn die_of(signal: Signal) -> ! {
    for _ in 0..2 {
        // The handler of the standard library returns once, so that the fault would come again.
        raise(signal).expect("a process can signal itself");
    }
    panic!("{signal} is blocked or ignored here");
}

fn overflow(depth: u64) -> u64 {
    let room = [depth; 64];
    if std::hint::black_box(depth) == u64::MAX {
        return 0;
    }
    overflow(depth + 1) + std::hint::black_box(room)[7]
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("in drop");
    }
}

fn meet(end: End) {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).expect("a limit can be lowered");
    match end {
        End::Abort => std::process::abort(),
        End::Kill => die_of(Signal::SIGKILL),
        End::Segfault => die_of(Signal::SIGSEGV),
        End::Terminate => die_of(Signal::SIGTERM),
        End::Exit(code) => std::process::exit(code),
        End::ExitInThread(code) => {
            thread::spawn(move || std::process::exit(code));
            thread::park();
        }
        End::Str => panic!("a plain sentence"),
        End::Text => panic!("a sentence with {end:?}"),
        End::Number => std::panic::panic_any(17_u64),
        End::NestedPanic => {
            let _one = PanicsInDrop;
            panic!("and while it unwinds another");
        }
        End::DropOfPayload => std::panic::panic_any(PanicsInDrop),
        End::StackOverflow => {
            overflow(0);
        }
        End::Allocation => {
            let layout = std::alloc::Layout::new::<u64>();
            std::alloc::handle_alloc_error(layout);
        }
    }
}

#[mp::process_fn]
fn suffer(end: End) -> u32 {
    meet(end);
    1
}

#[mp::process_fn]
fn step((number, end): (u32, Option<End>)) -> u32 {
    if let Some(end) = end {
        meet(end);
    }
    number
}

#[mp::process_fn]
fn noted_step((number, path, end): (u32, String, Option<End>)) -> u32 {
    let mut file = File::options()
        .append(true)
        .open(path)
        .expect("the test made it");
    file.write_all(format!("{number}\n").as_bytes())
        .expect("a line can be written");
    if let Some(end) = end {
        meet(end);
    }
    number
}

#[mp::process_fn]
fn echo(number: u64) -> u64 {
    number
}

/// Checks that the error tells what `end` was.
#[track_caller]
fn check_evidence(error: &Error, end: End) {
    let text = error.to_string();
    let killed_by = |signal: Signal| {
        assert_eq!(error.kind(), ErrorKind::Died, "{text}");
        assert_eq!(error.signal(), Some(signal as i32), "{text}");
        assert!(text.contains(signal.as_str()), "{text}");
        assert!(error.panic().is_none(), "{text}");
        let status = error.exit_status().expect("the kernel told");
        assert_eq!(status.code(), None, "{text}");
    };
    let panicked_with = |message: &str| {
        assert_eq!(error.kind(), ErrorKind::Panicked, "{text}");
        let panic = error.panic().expect("it panicked");
        assert!(panic.message().contains(message), "{text}");
        assert!(text.contains(message), "{text}");
        let location = panic.location().expect("a panic has a place");
        assert!(location.contains("death.rs:"), "{location}");
        assert_eq!(location.split(':').count(), 3, "{location}");
        assert_eq!(error.exit_status(), None, "{text}");
    };
    match end {
        End::Abort | End::NestedPanic | End::StackOverflow | End::Allocation => {
            killed_by(Signal::SIGABRT);
        }
        End::Kill => killed_by(Signal::SIGKILL),
        End::Segfault => killed_by(Signal::SIGSEGV),
        End::Terminate => killed_by(Signal::SIGTERM),
        End::Exit(code) | End::ExitInThread(code) => {
            assert_eq!(error.kind(), ErrorKind::Exited, "{text}");
            let status = error.exit_status().expect("it exited");
            assert_eq!(status.code(), Some(code), "{text}");
            assert_eq!(error.signal(), None, "{text}");
            assert!(text.contains(&format!("exited with code {code}")), "{text}");
        }
        End::Str => panicked_with("a plain sentence"),
        End::Text => panicked_with("a sentence with Text"),
        End::Number | End::DropOfPayload => {
            panicked_with("");
            let panic = error.panic().expect("it panicked");
            assert!(!panic.message().is_empty(), "{text}");
        }
    }
}

const ENDS: [End; 15] = [
    End::Abort,
    End::Kill,
    End::Segfault,
    End::Terminate,
    End::Exit(0),
    End::Exit(3),
    End::ExitInThread(0),
    End::ExitInThread(4),
    End::Str,
    End::Text,
    End::Number,
    End::NestedPanic,
    End::DropOfPayload,
    End::StackOverflow,
    End::Allocation,
];

#[mp::test]
fn promise_06_join_says_how_the_process_ended() {
    within(LIMIT, || {
        for end in ENDS {
            let process = mp::Builder::new()
                .name("sufferer")
                .stderr(mp::Stdio::null())
                .spawn(suffer, (end,))
                .expect("a process can be started");
            let id = process.id();
            let error = process.join().expect_err("the call does not return");
            check_evidence(&error, end);
            assert_eq!(error.process_id(), Some(id), "{error}");
            assert_eq!(
                error.function(),
                Some("processes::death::suffer"),
                "{error}"
            );
            assert_eq!(error.item(), None, "{error}");
            let text = error.to_string();
            assert!(text.contains("sufferer"), "{text}");
            assert!(text.contains(&format!("pid {id}")), "{text}");
            assert!(text.contains("`processes::death::suffer`"), "{text}");
        }
    });
}

#[mp::test]
fn promise_06_the_error_of_a_map_says_which_item_ended_its_worker_and_how() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        for end in ENDS {
            let items = (0..20).map(|number| (number, (number == 13).then_some(end)));
            let error = pool.map(step, items).expect_err("item 13 does not return");
            check_evidence(&error, end);
            assert_eq!(error.item(), Some(13), "{error}");
            assert_eq!(error.function(), Some("processes::death::step"), "{error}");
            let text = error.to_string();
            assert!(
                text.contains("`processes::death::step` (item 13)"),
                "{text}"
            );
            let id = error.process_id().expect("a worker ran it");
            assert!(text.contains(&format!("pid {id}")), "{text}");
        }
        pool.join().expect("the pool is as good as new");
    });
}

#[mp::test]
fn promise_06_apply_and_submit_name_no_item() {
    within(LIMIT, || {
        let pool = Pool::new(1).expect("a pool can be started");
        let error = pool.apply(suffer, (End::Kill,)).expect_err("it dies");
        check_evidence(&error, End::Kill);
        assert_eq!(error.item(), None, "{error}");
        let task = pool.submit(suffer, (End::Text,)).expect("the pool is open");
        let error = task.join().expect_err("it panics");
        check_evidence(&error, End::Text);
        assert_eq!(error.item(), None, "{error}");
    });
}

#[mp::test]
fn promise_06_a_panic_in_the_drop_of_an_argument_is_the_panic_of_the_call() {
    within(LIMIT, || {
        let pool = Pool::new(1).expect("a pool can be started");
        let taken = pool.apply(take_bomb, (Bomb,)).expect_err("its drop panics");
        let lent = pool
            .apply(borrow_bomb, (Bomb,))
            .expect_err("its drop panics");
        let process = mp::spawn!(take_bomb(Bomb)).expect("a process can be started");
        let spawned = process.join().expect_err("its drop panics");
        for error in [taken, lent, spawned] {
            assert_eq!(error.kind(), ErrorKind::Panicked, "{error}");
            let panic = error.panic().expect("it panicked");
            assert_eq!(panic.message(), "the bomb went off");
        }
        assert_eq!(pool.apply(echo, (1,)).expect("the worker lives"), 1);
    });
}

/// Panics when it is dropped in a worker.
#[derive(Serialize, Deserialize)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!is_worker() || thread::panicking(), "the bomb went off");
    }
}

#[mp::process_fn]
fn take_bomb(bomb: Bomb) {
    drop(bomb);
}

#[mp::process_fn]
fn borrow_bomb(_bomb: &Bomb) {}

#[mp::process_fn]
fn panic_at_length(bytes: usize) {
    panic!("{}", "long ".repeat(bytes / 5));
}

#[mp::test]
fn promise_06_a_panic_message_may_be_long() {
    within(LIMIT, || {
        let pool = Pool::new(1).expect("a pool can be started");
        let error = pool
            .apply(panic_at_length, (5 << 20,))
            .expect_err("it panics");
        assert_eq!(error.kind(), ErrorKind::Panicked);
        let panic = error.panic().expect("it panicked");
        assert_eq!(panic.message().len(), 5 << 20);
    });
}

#[mp::test]
fn promise_06_a_panic_prints_nothing_and_carries_its_backtrace_if_asked_for() {
    within(LIMIT, || {
        let (read, write) = std::io::pipe().expect("a pipe can be made");
        let process = mp::Builder::new()
            .env("RUST_BACKTRACE", "1")
            .stderr(std::os::fd::OwnedFd::from(write).into())
            .spawn(suffer, (End::Str,))
            .expect("a process can be started");
        let printed = std::io::read_to_string(read).expect("errors are text");
        let error = process.join().expect_err("it panics");
        assert_eq!(printed, "", "the error says it all");
        let panic = error.panic().expect("it panicked");
        let backtrace = panic.backtrace().expect("it was asked for");
        assert!(backtrace.contains("meet"), "{backtrace}");
    });
}

#[mp::test]
fn promise_28_a_panic_leaves_the_worker_alive() {
    within(LIMIT, || {
        let pool = Pool::new(1).expect("a pool can be started");
        let before = pool.workers();
        for end in [End::Str, End::Text, End::Number, End::DropOfPayload] {
            let error = pool.apply(suffer, (end,)).expect_err("it panics");
            assert_eq!(error.process_id(), Some(before[0].id), "{error}");
        }
        assert_eq!(pool.workers(), before);
        assert_eq!(pool.apply(echo, (5,)).expect("the worker lives"), 5);
    });
}

/// Checks that a map over `items`, in chunks of `chunk_size`, runs each of them once and fails
/// those alone that do not return.
#[track_caller]
fn check_map_with_deaths(items: &[Option<End>], chunk_size: usize) {
    let directory = Directory::new();
    let path = directory.join("ran");
    File::create(&path).expect("a file can be made");
    let pool = Pool::new(2).expect("a pool can be started");
    let options = TaskOptions::new().chunk_size(chunk_size);
    let args = (0..)
        .zip(items)
        .map(|(number, end)| (number, path.clone(), *end));
    let args: Vec<_> = args.collect();
    let mut results = BTreeMap::new();
    for (item, result) in pool.with(options).imap_unordered(noted_step, args) {
        let before = results.insert(item, result);
        assert!(before.is_none(), "item {item} came twice");
    }
    assert_eq!(results.len(), items.len());
    for ((item, result), end) in results.into_iter().zip(items) {
        match (result, end) {
            (Ok(number), None) => assert_eq!(number as usize, item),
            (Err(error), Some(end)) => {
                assert_eq!(error.item(), Some(item), "{error}");
                check_evidence(&error, *end);
            }
            (result, end) => panic!("item {item}, which had {end:?}, came to {result:?}"),
        }
    }
    let mut ran: Vec<usize> = fs::read_to_string(&path)
        .expect("the file is there")
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect();
    ran.sort_unstable();
    let all: Vec<usize> = (0..items.len()).collect();
    assert_eq!(ran, all, "each item runs once");
    pool.join().expect("the pool is as good as new");
}

#[mp::test]
fn promise_03_the_item_that_was_running_fails_and_the_rest_runs_elsewhere() {
    within(LIMIT, || {
        for end in [End::Kill, End::Exit(0), End::Exit(3), End::Segfault] {
            let mut items = vec![None; 300];
            items[50] = Some(end);
            check_map_with_deaths(&items, 100);
        }
    });
}

#[mp::test]
fn promise_03_the_first_and_the_last_item_of_a_chunk_may_die() {
    within(LIMIT, || {
        let mut items = vec![None; 40];
        for number in [0, 9, 10, 19, 20, 39] {
            items[number] = Some(End::Kill);
        }
        check_map_with_deaths(&items, 10);
    });
}

#[mp::test]
fn promise_03_every_item_may_die() {
    within(LIMIT, || {
        check_map_with_deaths(&[Some(End::Kill); 24], 6);
    });
}

#[mp::test]
fn promise_08_results_of_a_chunk_are_delivered_when_a_later_item_ends_the_worker() {
    within(LIMIT, || {
        // One worker, one chunk: nothing can have been sent when it dies.
        let pool = Pool::new(1).expect("a pool can be started");
        for end in [End::Exit(0), End::ExitInThread(0), End::Kill, End::Abort] {
            let options = TaskOptions::new().chunk_size(100);
            let items = (0..100).map(|number| (number, (number == 99).then_some(end)));
            let results: Vec<_> = pool.with(options).imap(step, items).collect();
            assert_eq!(results.len(), 100);
            for (number, result) in (0..99).zip(&results) {
                assert!(
                    result.as_ref().is_ok_and(|result| *result == number),
                    "item {number} had returned: {result:?}"
                );
            }
            let error = results[99].as_ref().expect_err("it does not return");
            check_evidence(error, end);
        }
    });
}

#[mp::process_fn]
fn large_then(number: u32, bytes: usize, end: Option<End>) -> Vec<u8> {
    if let Some(end) = end {
        meet(end);
    }
    vec![number.to_le_bytes()[0]; bytes]
}

#[mp::test]
fn promise_08_large_results_of_a_chunk_are_delivered_when_a_later_item_ends_the_worker() {
    within(LIMIT, || {
        let pool = Pool::new(1).expect("a pool can be started");
        let bytes = 3 << 20;
        let args = (0..5).map(|number| (number, bytes, (number == 4).then_some(End::Exit(0))));
        let tasks: Vec<_> = args
            .map(|args| pool.submit(large_then, args).expect("the pool is open"))
            .collect();
        for (number, task) in (0..).zip(tasks) {
            match task.join() {
                Ok(result) => assert!(result == vec![number; bytes]),
                Err(error) => {
                    assert_eq!(number, 4, "{error}");
                    check_evidence(&error, End::Exit(0));
                }
            }
        }
    });
}

#[mp::process_fn]
fn return_and_exit_soon(number: u64, after: Duration) -> u64 {
    thread::spawn(move || {
        thread::sleep(after);
        std::process::exit(0);
    });
    number
}

#[mp::test]
fn promise_08_a_process_that_exits_after_its_function_returned_is_no_loss() {
    within(LIMIT, || {
        for number in 0..50 {
            let after = Duration::from_micros(number * 20);
            let process =
                mp::spawn!(return_and_exit_soon(number, after)).expect("a process can be started");
            match process.join() {
                Ok(result) => assert_eq!(result, number),
                Err(error) => check_evidence(&error, End::Exit(0)),
            }
        }
    });
}

#[mp::test]
fn promise_08_workers_that_exit_at_any_moment_lose_nothing_else() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let tasks: Vec<_> = (0..100)
            .map(|number| {
                let after = Duration::from_micros(number * 7 % 500);
                pool.submit(return_and_exit_soon, (number, after))
                    .expect("the pool is open")
            })
            .collect();
        for (number, task) in (0..).zip(tasks) {
            match task.join() {
                Ok(result) => assert_eq!(result, number),
                Err(error) => check_evidence(&error, End::Exit(0)),
            }
        }
        pool.join().expect("the pool is as good as new");
    });
}

fn kill_worker(id: u32) {
    // It may have ended since it was listed; ids are not reused that soon.
    let _ = kill(Pid::from_raw(id.cast_signed()), Signal::SIGKILL);
}

#[mp::process_fn]
fn spin(number: u64) -> u64 {
    (0..2_000).fold(number, |sum, _| std::hint::black_box(sum));
    number
}

#[mp::test]
fn promise_02_every_item_ends_once_while_workers_are_killed_at_any_moment() {
    const ITEMS: usize = 20_000;
    within(LIMIT, || {
        let pool = Pool::new(3).expect("a pool can be started");
        let done = AtomicBool::new(false);
        let (results, kills) = thread::scope(|scope| {
            let killer = scope.spawn(|| {
                let mut kills = 0;
                while !done.load(Ordering::Relaxed) && kills < 60 {
                    let workers = pool.workers();
                    if let Some(worker) = workers.get(kills % 3) {
                        kill_worker(worker.id);
                        kills += 1;
                    }
                    thread::sleep(Duration::from_millis(3));
                }
                kills
            });
            let mut results = BTreeMap::new();
            let options = TaskOptions::new().chunk_size(64);
            let items = 0..ITEMS as u64;
            for (item, result) in pool.with(options).imap_unordered(spin, items) {
                let before = results.insert(item, result);
                assert!(before.is_none(), "item {item} came twice");
            }
            done.store(true, Ordering::Relaxed);
            (results, killer.join().expect("the killer does not panic"))
        });
        assert_eq!(results.len(), ITEMS);
        let mut failed = 0;
        for (item, result) in results {
            match result {
                Ok(number) => assert_eq!(number as usize, item),
                Err(error) => {
                    failed += 1;
                    assert_eq!(error.item(), Some(item), "{error}");
                    check_evidence(&error, End::Kill);
                }
            }
        }
        assert!(failed <= kills, "{kills} kills failed {failed} items");
        assert_eq!(pool.map(echo, 0..10).expect("it is usable").len(), 10);
        pool.join().expect("the pool is as good as new");
    });
}

#[mp::test]
fn promise_02_map_with_retries_returns_everything_while_workers_are_killed() {
    within(LIMIT, || {
        let pool = Pool::builder()
            .workers(2)
            .retries(1000)
            .build()
            .expect("a pool can be started");
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for kills in 0..40 {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    if let Some(worker) = pool.workers().get(kills % 2) {
                        kill_worker(worker.id);
                    }
                    thread::sleep(Duration::from_millis(2));
                }
            });
            let results = pool.map(spin, 0..50_000);
            done.store(true, Ordering::Relaxed);
            assert!(
                results
                    .expect("all is tried again")
                    .into_iter()
                    .eq(0..50_000)
            );
        });
    });
}

#[mp::test]
fn promise_02_workers_killed_while_idle_cost_no_item() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        for _ in 0..10 {
            pool.workers()
                .iter()
                .for_each(|worker| kill_worker(worker.id));
            let results = pool.map(echo, 0..50).expect("nothing was running");
            assert!(results.into_iter().eq(0..50));
        }
        pool.join().expect("the pool is as good as new");
    });
}

#[mp::process_fn]
fn wait_for_file(path: &str) -> u32 {
    until(|| fs::exists(path).expect("a path can be looked at"));
    std::process::id()
}

#[mp::test]
fn promise_02_all_workers_killed_at_once_fail_what_they_ran_and_nothing_else() {
    within(LIMIT, || {
        let directory = Directory::new();
        let path = directory.join("go");
        let pool = Pool::new(2).expect("a pool can be started");
        let tasks: Vec<_> = (0..6)
            .map(|_| {
                pool.submit(wait_for_file, (path.clone(),))
                    .expect("the pool is open")
            })
            .collect();
        let workers = pool.workers();
        // Both have begun when they sleep between two looks at the file.
        for worker in &workers {
            let stack = format!("/proc/{}/stat", worker.id);
            until(|| fs::read_to_string(&stack).is_ok_and(|stat| stat.contains(" S ")));
        }
        workers.iter().for_each(|worker| kill_worker(worker.id));
        until(|| tasks.iter().filter(|task| task.is_finished()).count() <= 2);
        File::create(&path).expect("a file can be made");
        let results: Vec<_> = tasks.into_iter().map(mp::Task::join).collect();
        let failed = results.iter().filter(|result| result.is_err()).count();
        assert!(failed <= 2, "{results:?}");
        for error in results.into_iter().filter_map(Result::err) {
            check_evidence(&error, End::Kill);
        }
    });
}

/// Kills the worker that decodes or encodes it.
#[derive(Debug, Default)]
struct Poison {
    on_decode: bool,
    on_encode: bool,
}

impl Serialize for Poison {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.on_encode && is_worker() {
            die_of(Signal::SIGKILL);
        }
        (self.on_decode, self.on_encode).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Poison {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Poison, D::Error> {
        let (on_decode, on_encode) = Deserialize::deserialize(deserializer)?;
        if on_decode && is_worker() {
            die_of(Signal::SIGKILL);
        }
        Ok(Poison {
            on_decode,
            on_encode,
        })
    }
}

#[mp::process_fn]
fn pass_poison(poison: Poison) -> Poison {
    poison
}

#[mp::test]
fn promise_02_a_worker_killed_while_it_decodes_or_encodes_fails_that_item_alone() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let items = (0..60).map(|number| Poison {
            on_decode: number == 20,
            on_encode: number == 40,
        });
        let options = TaskOptions::new().chunk_size(15);
        for (item, result) in pool.with(options).imap_unordered(pass_poison, items) {
            match result {
                Ok(_) => assert!(item != 20 && item != 40),
                Err(error) => {
                    assert!(item == 20 || item == 40, "{error}");
                    assert_eq!(error.item(), Some(item));
                    check_evidence(&error, End::Kill);
                }
            }
        }
        for poison in [true, false].map(|on_decode| Poison {
            on_decode,
            on_encode: !on_decode,
        }) {
            let process = mp::spawn!(pass_poison(poison)).expect("a process can be started");
            check_evidence(&process.join().expect_err("it dies"), End::Kill);
        }
    });
}

#[mp::process_fn]
fn large_result_in_peril(bytes: usize, after: Duration) -> Vec<u8> {
    let result = vec![7; bytes];
    thread::spawn(move || {
        thread::sleep(after);
        die_of(Signal::SIGKILL);
    });
    result
}

#[mp::test]
fn promise_02_a_worker_killed_while_it_sends_a_large_result_fails_that_item_alone() {
    const BYTES: usize = 50 << 20;
    within(LIMIT, || {
        let pool = Pool::new(1).expect("a pool can be started");
        for millis in [0, 1, 3, 7, 15, 30, 60] {
            let after = Duration::from_millis(millis);
            let task = pool
                .submit(large_result_in_peril, (BYTES, after))
                .expect("the pool is open");
            let next = pool.submit(echo, (millis,)).expect("the pool is open");
            match task.join() {
                Ok(result) => {
                    assert!(result.len() == BYTES && result.iter().all(|&byte| byte == 7));
                }
                Err(error) => check_evidence(&error, End::Kill),
            }
            // The worker may die of the first call while it runs the second.
            match next.join() {
                Ok(number) => assert_eq!(number, millis),
                Err(error) => check_evidence(&error, End::Kill),
            }
        }
        pool.join().expect("the pool is as good as new");
    });
}

#[mp::process_fn]
fn length(bytes: &[u8]) -> usize {
    bytes.len()
}

#[mp::test]
fn promise_02_a_worker_killed_while_large_arguments_travel_fails_that_item_alone() {
    within(LIMIT, || {
        let pool = Pool::new(1).expect("a pool can be started");
        for millis in [0, 1, 2, 5, 10, 20] {
            let worker = pool.workers().first().map(|worker| worker.id);
            let task = pool
                .submit(length, (vec![1; 40 << 20],))
                .expect("the pool is open");
            thread::sleep(Duration::from_millis(millis));
            worker.into_iter().for_each(kill_worker);
            match task.join() {
                Ok(count) => assert_eq!(count, 40 << 20),
                Err(error) => check_evidence(&error, End::Kill),
            }
        }
        assert_eq!(pool.apply(echo, (5,)).expect("it is usable"), 5);
    });
}

#[mp::process_fn]
fn bytes_and_worker(bytes: Vec<u8>) -> (Vec<u8>, u32) {
    (bytes, std::process::id())
}

#[mp::test]
fn promise_01_a_worker_that_is_stopped_at_any_moment_holds_nothing_that_others_need() {
    const ROUNDS: usize = 24;
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        // Some fit into a message and some do not.
        let items = (0..).map(|number: usize| vec![7; [10, 160 << 10, 3000][number % 3]]);
        let mut results = pool.imap_unordered(bytes_and_worker, items);
        let mut errors = Vec::new();
        let mut next = || match results.next().expect("it is endless").1 {
            Ok((bytes, worker)) => {
                assert_eq!(bytes, vec![7; bytes.len()]);
                Some(worker)
            }
            Err(error) => {
                errors.push(error);
                None
            }
        };
        let mut killed = None;
        for round in 0..ROUNDS {
            let mut workers = Vec::new();
            until(|| {
                workers = pool.workers();
                workers.len() == 2 && workers.iter().all(|worker| Some(worker.id) != killed)
            });
            let worker = workers[round % 2].id;
            // Wherever it is when it has done something and gone on for a while.
            until(|| next() == Some(worker));
            for _ in 0..round % 7 {
                next();
            }
            thread::sleep(Duration::from_micros(37) * u32::try_from(round).expect("it is small"));
            kill(Pid::from_raw(worker.cast_signed()), Signal::SIGSTOP).expect("it is there");
            until(|| programs::state(worker) == Some('T'));
            // What it had sent before may come, and then all is the work of the other one.
            let mut of_the_other = 0;
            until(|| {
                of_the_other += usize::from(next().is_some_and(|by| by != worker));
                of_the_other == 30
            });
            kill_worker(worker);
            killed = Some(worker);
        }
        assert!(
            errors.len() <= ROUNDS,
            "{} kills failed {}",
            ROUNDS,
            errors.len()
        );
        errors
            .iter()
            .for_each(|error| check_evidence(error, End::Kill));
        drop(results);
        pool.join().expect("the pool is as good as new");
    });
}

#[mp::test]
fn promise_04_a_stopped_worker_blocks_neither_submitters_nor_other_workers() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let stopped = pool.workers()[0].id;
        kill(Pid::from_raw(stopped.cast_signed()), Signal::SIGSTOP).expect("it is there");
        until(|| programs::state(stopped) == Some('T'));
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                pool.submit(length, (vec![1; 8 << 20],))
                    .expect("the pool is open")
            })
            .collect();
        // One of them at most is with the worker that is stopped.
        until(|| tasks.iter().filter(|task| task.is_finished()).count() >= 7);
        kill(Pid::from_raw(stopped.cast_signed()), Signal::SIGCONT).expect("it is there");
        for task in tasks {
            assert_eq!(task.join().expect("nobody died"), 8 << 20);
        }
    });
}

#[mp::process_fn(retries = 3)]
fn die_until((path, times): (String, usize)) -> usize {
    let mut file = File::options()
        .append(true)
        .open(&path)
        .expect("the test made it");
    file.write_all(b".").expect("a byte can be written");
    let before = fs::read(&path).expect("the file is there").len();
    if before <= times {
        meet(End::Kill);
    }
    before
}

#[mp::test]
fn promise_02_retries_end_with_a_result_or_with_the_last_death() {
    within(LIMIT, || {
        let directory = Directory::new();
        let pool = Pool::new(1).expect("a pool can be started");
        let path = directory.join("three");
        File::create(&path).expect("a file can be made");
        assert_eq!(pool.apply(die_until, ((path, 3),)).expect("it recovers"), 4);
        let path = directory.join("four");
        File::create(&path).expect("a file can be made");
        let error = pool
            .apply(die_until, ((path.clone(), 4),))
            .expect_err("it dies too often");
        check_evidence(&error, End::Kill);
        assert_eq!(fs::read(&path).expect("the file is there").len(), 4);
        // The options of the call go before those of the attribute.
        let path = directory.join("none");
        File::create(&path).expect("a file can be made");
        let options = TaskOptions::new().retries(0);
        let error = pool
            .with(options)
            .apply(die_until, ((path.clone(), 4),))
            .expect_err("it dies");
        check_evidence(&error, End::Kill);
        assert_eq!(fs::read(&path).expect("the file is there").len(), 1);
    });
}

#[mp::process_fn]
fn panic_and_count(path: String) {
    let mut file = File::options()
        .append(true)
        .open(path)
        .expect("the test made it");
    file.write_all(b".").expect("a byte can be written");
    panic!("as always");
}

#[mp::test]
fn promise_02_a_panic_is_never_tried_again() {
    within(LIMIT, || {
        let directory = Directory::new();
        let path = directory.join("ran");
        File::create(&path).expect("a file can be made");
        let pool = Pool::builder()
            .workers(1)
            .retries(5)
            .build()
            .expect("a pool can be started");
        let error = pool
            .apply(panic_and_count, (path.clone(),))
            .expect_err("it panics");
        assert_eq!(error.kind(), ErrorKind::Panicked);
        assert_eq!(fs::read(path).expect("the file is there").len(), 1);
    });
}

#[mp::process_fn]
fn forever(_number: u64) -> u64 {
    loop {
        std::hint::spin_loop();
    }
}

#[mp::process_fn(timeout = "50ms")]
fn too_long() {
    loop {
        thread::park();
    }
}

#[mp::process_fn]
fn forever_at(number: u64, place: u64) -> u64 {
    if number == place {
        forever(number);
    }
    number
}

#[mp::test]
fn promise_02_a_call_that_takes_too_long_is_stopped_and_said_to() {
    within(LIMIT, || {
        let pool = Pool::builder()
            .workers(1)
            .task_timeout(Duration::from_millis(100))
            .build()
            .expect("a pool can be started");
        let error = pool.apply(forever, (1,)).expect_err("it takes for ever");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains("100ms"), "{error}");
        assert_eq!(error.function(), Some("processes::death::forever"));
        let error = pool.apply(too_long, ()).expect_err("it takes for ever");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains("50ms"), "{error}");
        let options = TaskOptions::new().timeout(Duration::from_millis(70));
        let error = pool
            .with(options)
            .apply(too_long, ())
            .expect_err("it takes for ever");
        assert!(error.to_string().contains("70ms"), "{error}");
        assert_eq!(pool.apply(echo, (5,)).expect("it is usable"), 5);
    });
}

#[mp::test]
fn promise_03_an_item_that_takes_too_long_fails_alone_in_its_chunk() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let options = TaskOptions::new()
            .chunk_size(10)
            .timeout(Duration::from_secs(1));
        let items = (0..40).map(|number| (number, 15));
        let error = pool
            .with(options)
            .starmap(forever_at, items)
            .expect_err("item 15 takes for ever");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert_eq!(error.item(), Some(15), "{error}");
    });
}
