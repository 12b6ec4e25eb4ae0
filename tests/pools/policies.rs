//! Policies of pools: initializers, recycling, limits, sizes, numbers, and which option counts.
#![expect(
    unsafe_code,
    reason = "handlers of exits and forks are made as a program would"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::parent_id;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use mp::sync::Event;
use mp::{Array, ArrayChunk, Error, ErrorKind, Pool, PoolBuilder, PoolStats, TaskOptions};
use mp::{Queue, Sender, Shared, Task};
use nix::libc;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use serde::{Deserialize, Deserializer, Serialize};

use crate::programs::{self, Directory};
use crate::watchdog::{until, within};

const LIMIT: Duration = Duration::from_secs(120);

/// How often something was done, by anybody.
type Count = Shared<AtomicU32>;

fn count() -> Count {
    Shared::new(AtomicU32::new(0)).expect("there is memory")
}

fn gate() -> Shared<Event> {
    Shared::new(Event::new()).expect("there is memory")
}

fn read(count: &Count) -> u32 {
    count.load(Ordering::SeqCst)
}

fn add(count: &Count) -> u32 {
    count.fetch_add(1, Ordering::SeqCst) + 1
}

fn builder(workers: usize) -> PoolBuilder {
    Pool::builder().workers(workers)
}

fn signal(id: u32, signal: Signal) {
    // It may have ended since it was listed; ids are not reused that soon.
    let _ = kill(Pid::from_raw(id.cast_signed()), signal);
}

#[mp::process_fn]
fn echo(number: u64) -> u64 {
    number
}

#[mp::process_fn]
fn process_id() -> u32 {
    std::process::id()
}

#[mp::process_fn]
fn die() {
    die_here();
}

fn die_here() {
    raise(Signal::SIGKILL).expect("a process can signal itself");
}

/// Says that it has begun, and waits.
#[mp::process_fn]
fn hold(begun: Count, go: Shared<Event>) -> u32 {
    add(&begun);
    go.wait();
    std::process::id()
}

/// Says that it has begun, and waits, but dies in its first tries.
#[mp::process_fn]
fn hold_and_die(begun: Count, go: Shared<Event>, deaths: u32) -> u32 {
    let tries = add(&begun);
    go.wait();
    if tries <= deaths {
        die_here();
    }
    tries
}

#[track_caller]
fn check_works(pool: &Pool) {
    let results = pool.map(echo, 0..100).expect("the pool works");
    assert!(results.into_iter().eq(0..100));
}

// Initializers.

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum How {
    Return,
    Panic,
    Exit,
    Abort,
    Kill,
}

fn meet(how: How) {
    match how {
        How::Return => {}
        How::Panic => panic!("no model for {}", "today"),
        How::Exit => std::process::exit(3),
        How::Abort => std::process::abort(),
        How::Kill => die_here(),
    }
}

#[mp::process_fn]
fn begin(how: How, runs: Count) {
    add(&runs);
    meet(how);
}

#[mp::process_fn]
fn begin_with_text(runs: Count) -> Result<(), String> {
    add(&runs);
    Err("weights.bin is empty".into())
}

#[derive(Debug, Serialize, Deserialize)]
struct OnlyDebug(u32);

#[mp::process_fn]
fn begin_with_debug(runs: Count) -> Result<(), OnlyDebug> {
    add(&runs);
    Err(OnlyDebug(17))
}

#[derive(Serialize, Deserialize)]
struct Silent;

#[mp::process_fn]
fn begin_silently(runs: Count) -> Result<u32, Silent> {
    add(&runs);
    Err(Silent)
}

#[mp::process_fn(timeout = "150ms")]
fn begin_for_ever(runs: Count) {
    add(&runs);
    loop {
        thread::park();
    }
}

/// Cannot be decoded.
#[derive(Serialize)]
struct OneWay;

impl<'de> Deserialize<'de> for OneWay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OneWay, D::Error> {
        <()>::deserialize(deserializer)?;
        Err(serde::de::Error::custom("it goes one way"))
    }
}

#[mp::process_fn]
fn begin_with_what_does_not_come(runs: Count, _what: OneWay) {
    add(&runs);
}

/// Checks that no pool can be built, at once, and that nobody is left; tells the error.
#[track_caller]
fn check_refused(builder: &PoolBuilder, runs: &Count, at_most: u32, parts: &[&str]) -> Error {
    runs.store(0, Ordering::SeqCst);
    let error = builder.clone().build().expect_err("its workers cannot");
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Initializer, "{text}");
    for part in parts {
        assert!(text.contains(part), "`{part}`: {text}");
    }
    // Whoever could run it again is gone.
    assert!(read(runs) <= at_most, "it ran {} times", read(runs));
    let id = error.process_id().expect("a worker ran it");
    assert!(!programs::is_alive(id), "{text}");
    error
}

#[mp::test]
fn promise_07_an_initializer_that_fails_fails_the_pool_at_once_with_its_own_error() {
    within(LIMIT, || {
        let runs = count();
        for workers in [1, 3] {
            let most = u32::try_from(workers).expect("it is small");
            let with = |how| builder(workers).initializer(begin, (how, runs.clone()));

            let error = check_refused(&with(How::Panic), &runs, most, &["no model for today"]);
            let panic = error.panic().expect("it panicked");
            assert_eq!(panic.message(), "no model for today");
            assert!(
                panic
                    .location()
                    .is_some_and(|place| place.contains("policies.rs"))
            );
            assert_eq!(error.function(), Some("pools::policies::begin"), "{error}");

            let error = check_refused(&with(How::Exit), &runs, most, &["exited with code 3"]);
            assert!(error.panic().is_none());
            let code = error.exit_status().and_then(|status| status.code());
            assert_eq!(code, Some(3), "{error}");

            let error = check_refused(&with(How::Abort), &runs, most, &["SIGABRT"]);
            assert_eq!(error.signal(), Some(Signal::SIGABRT as i32), "{error}");
            let error = check_refused(&with(How::Kill), &runs, most, &["SIGKILL"]);
            assert_eq!(error.signal(), Some(Signal::SIGKILL as i32), "{error}");

            let own = || (runs.clone(),);
            let with = builder(workers).initializer(begin_with_text, own());
            let parts = ["`pools::policies::begin_with_text`", "weights.bin is empty"];
            let error = check_refused(&with, &runs, most, &parts);
            assert!(error.panic().is_none());
            let with = builder(workers).initializer(begin_with_debug, own());
            check_refused(&with, &runs, most, &["OnlyDebug(17)"]);
            let with = builder(workers).initializer(begin_silently, own());
            check_refused(&with, &runs, most, &["`pools::policies::begin_silently`"]);
            let with = builder(workers).initializer(begin_for_ever, own());
            check_refused(&with, &runs, most, &["150ms"]);
            let args = (runs.clone(), OneWay);
            let with = builder(workers).initializer(begin_with_what_does_not_come, args);
            check_refused(&with, &runs, 0, &["it goes one way"]);
        }
        let with = builder(3).initializer(begin, (How::Return, runs.clone()));
        runs.store(0, Ordering::SeqCst);
        let pool = with.build().expect("this one returns");
        check_works(&pool);
        pool.join().expect("all is done");
        assert_eq!(read(&runs), 3, "once in each worker");
    });
}

#[mp::process_fn]
fn begin_while(fails: Shared<AtomicBool>, runs: Count) -> Result<(), String> {
    add(&runs);
    match fails.load(Ordering::SeqCst) {
        true => Err("the licence has expired".into()),
        false => Ok(()),
    }
}

#[track_caller]
fn check_expired<R>(result: Result<R, Error>) {
    let error = result.err().expect("the pool has failed");
    assert_eq!(error.kind(), ErrorKind::Initializer, "{error}");
    assert!(
        error.to_string().contains("the licence has expired"),
        "{error}"
    );
    assert!(error.process_id().is_some(), "{error}");
}

#[mp::test]
fn promise_07_an_initializer_that_fails_in_a_replacement_fails_the_pool() {
    within(LIMIT, || {
        for workers in [1, 2] {
            let (begun, go, runs) = (count(), gate(), count());
            let fails = Shared::new(AtomicBool::new(false)).expect("there is memory");
            let pool = builder(workers)
                .initializer(begin_while, (fails.clone(), runs.clone()))
                .build()
                .expect("a pool can be started");
            let held: Vec<_> = (1..workers)
                .map(|_| pool.submit(hold, (begun.clone(), go.clone())))
                .map(|task| task.expect("it is open"))
                .collect();
            until(|| read(&begun) as usize == held.len());
            fails.store(true, Ordering::SeqCst);
            let dead = pool.submit(die, ()).expect("it is open");
            let waiting: Vec<_> = (0..5).map(|number| pool.submit(echo, (number,))).collect();
            let mut lazy = pool.imap(echo, 0..);
            let error = dead.join().expect_err("it dies");
            assert_eq!(error.kind(), ErrorKind::Died, "{error}");
            for task in waiting {
                // It may have been submitted after the failure.
                check_expired(task.and_then(Task::join));
            }
            check_expired(lazy.next().expect("it says so"));
            check_expired(pool.map(echo, 0..10));
            check_expired(pool.submit(echo, (1,)));
            check_expired(pool.submit_map(echo, 0..3).and_then(Task::join));
            check_expired(
                pool.imap_unordered(echo, 0..3)
                    .next()
                    .expect("it says so")
                    .1,
            );
            check_expired(pool.resize(4));
            check_expired(pool.resize(1));
            // What had begun comes to its end.
            go.set();
            for task in held {
                task.join().expect("its worker lives");
            }
            check_expired(pool.join());
            assert_eq!(read(&runs) as usize, workers + 1, "no respawn loop");
        }
    });
}

#[mp::test]
fn promise_07_a_pool_whose_initializer_has_failed_ends_as_any_other() {
    within(LIMIT, || {
        for end in 0..3 {
            let fails = Shared::new(AtomicBool::new(false)).expect("there is memory");
            let pool = builder(2)
                .initializer(begin_while, (fails.clone(), count()))
                .build()
                .expect("a pool can be started");
            fails.store(true, Ordering::SeqCst);
            pool.apply(die, ()).expect_err("it dies");
            until(|| pool.submit(echo, (1,)).is_err());
            match end {
                0 => pool.terminate(),
                1 => {
                    pool.close();
                    check_expired(pool.join());
                }
                _ => drop(pool),
            }
        }
    });
}

/// Dies in the runs from `first` on, so many times.
#[mp::process_fn]
fn begin_and_die(runs: Count, first: u32, deaths: Count) {
    let run = add(&runs);
    if run >= first && run - first < read(&deaths) {
        die_here();
    }
}

#[mp::test]
fn promise_07_a_worker_that_is_killed_in_its_initializer_is_tried_again() {
    within(LIMIT, || {
        let (runs, deaths) = (count(), count());
        deaths.store(3, Ordering::SeqCst);
        let pool = builder(1)
            .initializer(begin_and_die, (runs.clone(), 2, deaths))
            .build()
            .expect("the first one lives");
        pool.apply(die, ()).expect_err("it dies");
        assert_eq!(pool.apply(echo, (5,)).expect("the fifth one lives"), 5);
        assert_eq!(read(&runs), 5);
        check_works(&pool);
        pool.join().expect("nothing has failed");
    });
}

#[mp::test]
fn promise_07_workers_that_are_killed_in_their_initializers_trip_the_fuse() {
    within(LIMIT, || {
        let (runs, deaths) = (count(), count());
        deaths.store(u32::MAX, Ordering::SeqCst);
        let pool = builder(1)
            .initializer(begin_and_die, (runs.clone(), 2, deaths.clone()))
            .build()
            .expect("the first one lives");
        pool.apply(die, ()).expect_err("it dies");
        for _ in 0..2 {
            let before = read(&runs);
            let error = pool.apply(echo, (1,)).expect_err("no worker lives");
            assert_eq!(error.kind(), ErrorKind::Initializer, "{error}");
            assert_eq!(error.signal(), Some(Signal::SIGKILL as i32), "{error}");
            assert!(
                error
                    .to_string()
                    .contains("`pools::policies::begin_and_die`"),
                "{error}"
            );
            assert!(read(&runs) <= before + 4, "it tries a few times");
        }
        let tried = read(&runs);
        deaths.store(0, Ordering::SeqCst);
        assert_eq!(pool.apply(echo, (5,)).expect("it tries again"), 5);
        assert_eq!(read(&runs), tried + 1);
        check_works(&pool);
        pool.join().expect("all is done");
    });
}

static GIVEN: OnceLock<(u64, u32)> = OnceLock::new();

#[mp::process_fn]
fn begin_with(number: u64, runs: Count) -> Result<(), String> {
    add(&runs);
    let given = GIVEN.set((number, std::process::id()));
    given.map_err(|_| "it was called twice".into())
}

#[mp::process_fn]
fn tell_given(number: u64) -> (u64, Option<(u64, u32)>, u32) {
    (number, GIVEN.get().copied(), std::process::id())
}

#[mp::test]
fn promise_07_an_initializer_runs_once_and_first_in_every_worker() {
    within(LIMIT, || {
        let runs = count();
        let pool = builder(2)
            .initializer(begin_with, (42, runs.clone()))
            .max_tasks_per_worker(3)
            .retries(100)
            .build()
            .expect("a pool can be started");
        assert_eq!(read(&runs), 2, "they are ready");
        let seen = std::sync::Mutex::new(BTreeSet::new());
        let round = |items: u64| {
            let results = pool.map(tell_given, 0..items).expect("it works");
            for (number, (result, given, id)) in (0..).zip(results) {
                assert_eq!((number, given), (result, Some((42, id))));
                seen.lock().expect("nobody panics with it").insert(id);
            }
        };
        round(20);
        pool.resize(4).expect("there is room");
        round(20);
        for _ in 0..4 {
            for worker in pool.workers() {
                signal(worker.id, Signal::SIGKILL);
            }
            round(8);
        }
        pool.resize(1).expect("fewer can be had");
        round(10);
        let stats = pool.stats();
        pool.join().expect("all is done");
        let seen = seen.into_inner().expect("nobody panics with it");
        assert!(read(&runs) as usize >= seen.len(), "{stats:?}");
    });
}

struct Kept {
    hits: Count,
    to: Sender<u32>,
    queue: Queue<u32>,
}

static KEPT: OnceLock<Kept> = OnceLock::new();

#[mp::process_fn]
fn begin_with_handles(hits: Count, to: Sender<u32>, queue: Queue<u32>) {
    assert!(KEPT.set(Kept { hits, to, queue }).is_ok(), "called twice");
}

#[mp::process_fn]
fn use_handles(number: u32) {
    let kept = KEPT.get().expect("the initializer ran");
    add(&kept.hits);
    kept.to.send(number).expect("there is a receiver");
    kept.queue.put(number).expect("it is open");
}

#[mp::test]
fn an_initializer_may_be_given_handles() {
    within(LIMIT, || {
        let hits = count();
        let (to, from) = mp::unbounded_channel().expect("a channel can be made");
        let queue = Queue::unbounded().expect("a queue can be made");
        let pool = builder(2)
            .initializer(begin_with_handles, (hits.clone(), to, queue.clone()))
            .max_tasks_per_worker(2)
            .build()
            .expect("a pool can be started");
        pool.map(use_handles, 0..20).expect("they return");
        pool.resize(3).expect("there is room");
        pool.map(use_handles, 20..40).expect("they return");
        assert_eq!(read(&hits), 40);
        pool.join().expect("all is done");
        // The pool is gone, and its sender with it.
        let sent: BTreeSet<u32> = from.iter().collect();
        assert_eq!(sent, (0..40).collect());
        let put = (0..40).map(|_| queue.get().expect("it was put"));
        assert_eq!(put.collect::<BTreeSet<_>>(), sent);
    });
}

#[mp::process_fn]
fn begin_with_a_chunk(_chunk: ArrayChunk<u32>) {}

#[mp::test]
fn an_initializer_is_given_no_chunk_of_an_array() {
    within(LIMIT, || {
        let array: Array<u32> = Array::zeroed(8).expect("there is memory");
        let chunk = array.split(1).pop().expect("one");
        let refused = builder(2).initializer(begin_with_a_chunk, (chunk,)).build();
        let error = refused.expect_err("each worker would have it");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("begin_with_a_chunk"), "{error}");
        let whole = array.lock().expect("the chunk has come back");
        assert_eq!(whole.len(), 8);
    });
}

// Recycling.

/// Which call of its worker it is.
#[mp::process_fn]
fn turn(number: u64) -> (u64, usize) {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    (number, CALLS.fetch_add(1, Ordering::Relaxed) + 1)
}

#[track_caller]
fn check_turns(results: impl IntoIterator<Item = (u64, usize)>, items: u64, most: usize) {
    let results: Vec<_> = results.into_iter().collect();
    assert_eq!(results.len() as u64, items);
    for (number, (result, call)) in (0..).zip(results) {
        assert_eq!(number, result);
        assert!(call <= most, "a worker ran {call} items and not {most}");
    }
}

/// Uses a pool whose workers run `most` items each in every way, from several threads.
fn use_recycled(pool: &Pool, most: usize) {
    thread::scope(|scope| {
        scope.spawn(|| check_turns(pool.map(turn, 0..40).expect("it works"), 40, most));
        scope.spawn(|| {
            let pool = pool.with(TaskOptions::new().chunk_size(10));
            check_turns(pool.map(turn, 0..40).expect("it works"), 40, most);
            let lazy = pool.imap(turn, 0..20);
            check_turns(lazy.map(|result| result.expect("it works")), 20, most);
        });
        scope.spawn(|| {
            let tasks: Vec<_> = (0..20)
                .map(|number| pool.submit(turn, (number,)).expect("it is open"))
                .collect();
            let results = tasks.into_iter().map(|task| task.join().expect("it works"));
            check_turns(results, 20, most);
        });
        scope.spawn(|| {
            let mut results: Vec<_> = pool
                .imap_unordered(turn, 0..20)
                .map(|(_, result)| result.expect("it works"))
                .collect();
            results.sort_unstable();
            check_turns(results, 20, most);
        });
    });
}

#[mp::test]
fn promise_09_recycling_is_invisible() {
    within(LIMIT, || {
        for most in 1..=7 {
            let pool = builder(2)
                .max_tasks_per_worker(most)
                .build()
                .expect("a pool can be started");
            use_recycled(&pool, most);
            let stats = pool.stats();
            assert!(stats.restarts >= 140 / most - 2, "{most}: {stats:?}");
            assert_eq!(stats.failed, 0);
            pool.join().expect("all is done");
        }
    });
}

#[mp::test]
fn promise_09_recycling_is_invisible_while_workers_are_killed() {
    within(LIMIT, || {
        let pool = builder(3)
            .max_tasks_per_worker(4)
            .retries(1000)
            .build()
            .expect("a pool can be started");
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0.. {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    let workers = pool.workers();
                    // One of the three is spared: workers that are killed at their start again and
                    // again would trip the fuse.
                    if let Some(worker) = workers.get(number % 2) {
                        signal(worker.id, Signal::SIGKILL);
                    }
                    thread::sleep(Duration::from_millis(20));
                }
            });
            for _ in 0..3 {
                use_recycled(&pool, 4);
            }
            done.store(true, Ordering::Relaxed);
        });
        pool.join().expect("all is done");
    });
}

static EXITS: OnceLock<(Count, Exit)> = OnceLock::new();

/// What a worker does at its exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Exit {
    Slow,
    Killed,
    Never,
}

extern "C" fn at_exit() {
    let Some((exits, how)) = EXITS.get() else {
        return;
    };
    add(exits);
    match how {
        Exit::Slow => thread::sleep(Duration::from_millis(50)),
        Exit::Killed => die_here(),
        Exit::Never => loop {
            thread::park();
        },
    }
}

#[mp::process_fn]
fn begin_with_exit(exits: Count, how: Exit) {
    assert!(EXITS.set((exits, how)).is_ok(), "called twice");
    // SAFETY: the handler is a function of the program, which is there until its end.
    let registered = unsafe { libc::atexit(at_exit) };
    assert_eq!(registered, 0, "there is room for a handler");
}

#[mp::test]
fn promise_09_recycling_is_invisible_however_workers_exit() {
    within(LIMIT, || {
        for how in [Exit::Slow, Exit::Killed] {
            let exits = count();
            let pool = builder(2)
                .max_tasks_per_worker(5)
                .initializer(begin_with_exit, (exits.clone(), how))
                .build()
                .expect("a pool can be started");
            use_recycled(&pool, 5);
            let restarts = pool.stats().restarts;
            assert!(restarts >= 26);
            pool.join().expect("all is done");
            assert!(
                read(&exits) as usize >= restarts,
                "{how:?}: they exit in order"
            );
        }
    });
}

// Limits of memory, processors.

#[mp::process_fn]
fn allocate(bytes: usize) -> u32 {
    let memory = vec![1_u8; bytes];
    std::hint::black_box(&memory);
    std::process::id()
}

#[mp::test]
fn an_item_that_needs_too_much_memory_fails_alone() {
    const MOST: usize = 256 << 20;
    within(LIMIT, || {
        let pool = builder(2)
            .memory_limit(MOST as u64)
            .build()
            .expect("a pool can be started");
        let sizes = |number: usize| if number == 7 { 2 * MOST } else { 1 << 20 };
        let results: Vec<_> = pool.imap(allocate, (0..20).map(sizes)).collect();
        for (number, result) in results.into_iter().enumerate() {
            match result {
                Ok(_) => assert_ne!(number, 7),
                Err(error) => {
                    assert_eq!(number, 7, "{error}");
                    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
                    assert_eq!(error.item(), Some(7), "{error}");
                    let id = error.process_id().expect("a worker ran it");
                    until(|| pool.workers().len() == 2);
                    assert!(pool.workers().iter().all(|worker| worker.id != id));
                }
            }
        }
        until(|| pool.stats().restarts == 1);
        // A worker that somebody kills has died, whatever it may have.
        let error = pool.apply(die, ()).expect_err("it dies");
        assert_eq!(error.kind(), ErrorKind::Died, "{error}");
        // Those that come later have the limit as well.
        pool.resize(3).expect("there is room");
        for _ in 0..4 {
            let error = pool.apply(allocate, (2 * MOST,)).expect_err("too much");
            assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
        }
        check_works(&pool);
        pool.join().expect("all is done");
    });
}

fn own_cpus() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).expect("it is this process");
    let is_set = |cpu: &usize| set.is_set(*cpu).unwrap_or(false);
    (0..CpuSet::count()).filter(is_set).collect()
}

#[mp::process_fn]
fn worker_and_cpus(_number: u64) -> (Option<usize>, Vec<usize>) {
    thread::sleep(Duration::from_millis(5));
    (mp::current().worker_index, own_cpus())
}

#[track_caller]
fn check_pinned(pool: &Pool, workers: usize) {
    let allowed = own_cpus();
    let mut seen = BTreeSet::new();
    while seen.len() < workers {
        for result in pool.imap(worker_and_cpus, 0..10) {
            let (index, cpus) = result.expect("it works");
            let index = index.expect("it is a worker");
            assert_eq!(cpus, [allowed[index % allowed.len()]], "worker {index}");
            seen.insert(index);
        }
    }
}

#[mp::process_fn]
fn pin_in_a_pool_of_its_own() -> Vec<usize> {
    let pool = builder(2).pin_cpus(true).build().expect("a pool");
    check_pinned(&pool, 2);
    own_cpus()
}

#[mp::test]
fn workers_are_pinned_to_one_processor_each_in_turns() {
    within(LIMIT, || {
        let pool = builder(2)
            .pin_cpus(true)
            .max_tasks_per_worker(8)
            .build()
            .expect("a pool can be started");
        check_pinned(&pool, 2);
        pool.resize(5).expect("there is room");
        check_pinned(&pool, 5);
        pool.join().expect("all is done");
        // Of the processors that this process may use.
        for cpu in own_cpus() {
            let process = mp::Builder::new()
                .cpus([cpu])
                .spawn(pin_in_a_pool_of_its_own, ());
            let process = process.expect("a process can be started");
            assert_eq!(process.join().expect("it works"), [cpu]);
        }
        let pool = builder(2)
            .pin_cpus(false)
            .build()
            .expect("a pool can be started");
        let (_, cpus) = pool.apply(worker_and_cpus, (0,)).expect("it works");
        assert_eq!(cpus, own_cpus());
    });
}

// Sizes.

/// What the names of all workers of a pool begin with.
fn family(pool: &Pool) -> String {
    let name = pool.workers().pop().expect("it has workers").name;
    let (family, _) = name.rsplit_once('-').expect("its number comes last");
    format!("{family}-")
}

/// Waits until so many workers of a pool are alive, those that it wants no more included.
fn until_alive(family: &str, workers: usize) {
    until(|| {
        let children = mp::active_children().into_iter();
        children
            .filter(|child| child.name.starts_with(family))
            .count()
            == workers
    });
}

/// Submits as many as hold all of `workers` up, and waits until they have begun.
fn hold_all(pool: &Pool, workers: u32, go: &Shared<Event>) -> Vec<Task<u32>> {
    let begun = count();
    let tasks = (0..workers).map(|_| pool.submit(hold, (begun.clone(), go.clone())));
    let tasks: Vec<_> = tasks.map(|task| task.expect("it is open")).collect();
    until(|| read(&begun) == workers);
    tasks
}

#[mp::test]
fn a_pool_grows_and_shrinks_while_it_is_busy() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let own = family(&pool);
        let go = gate();
        let held = hold_all(&pool, 2, &go);
        pool.resize(4).expect("there is room");
        let workers = pool.workers();
        let indices = workers.iter().map(|worker| worker.worker_index);
        assert!(indices.eq((0..4).map(Some)), "{workers:?}");
        check_works(&pool);
        pool.resize(1).expect("fewer can be had");
        assert_eq!(pool.workers(), workers[..1]);
        assert_eq!(pool.stats().busy.len(), 1);
        // What worker 1 has begun is not lost; what is new waits for worker 0.
        let waiting = pool.submit(process_id, ()).expect("it is open");
        assert!(held.iter().all(|task| !task.is_finished()));
        go.set();
        let ran: BTreeSet<u32> = held
            .into_iter()
            .map(|task| task.join().expect("its worker lives"))
            .collect();
        assert_eq!(ran, workers[..2].iter().map(|worker| worker.id).collect());
        assert_eq!(waiting.join().expect("it works"), workers[0].id);
        until_alive(&own, 1);
        for (size, alive) in [(3, 3), (2, 2), (2, 2), (5, 5), (1, 1)] {
            pool.resize(size).expect("there is room");
            assert_eq!(pool.workers().len(), size);
            check_works(&pool);
            until_alive(&own, alive);
        }
        assert_eq!(pool.stats().restarts, 0, "nobody took another's place");
        pool.join().expect("all is done");
        until_alive(&own, 0);
    });
}

#[mp::process_fn]
fn begin_slowly() {
    thread::sleep(Duration::from_millis(50));
}

#[mp::test]
fn a_pool_that_grows_while_a_worker_is_let_go_that_has_not_come_blames_nobody() {
    within(LIMIT, || {
        let pool = builder(2)
            .initializer(begin_slowly, ())
            .max_tasks_per_worker(1)
            .build()
            .expect("a pool can be started");
        for _ in 0..10 {
            // Each makes its worker go, so that another one is in its initializer.
            pool.map(echo, 0..2).expect("nothing fails");
            pool.resize(1).expect("it is open");
            pool.resize(2).expect("its workers come");
            // The first one may be making room for another just now.
            until(|| pool.workers().len() == 2);
        }
        pool.join().expect("all is done");
    });
}

#[mp::test]
fn a_pool_that_grows_again_at_once_has_its_workers() {
    within(LIMIT, || {
        let pool = Pool::new(3).expect("a pool can be started");
        for _ in 0..30 {
            pool.resize(1).expect("fewer can be had");
            pool.resize(3).expect("there is room");
            let workers = pool.workers();
            let held = hold_all(&pool, 3, &gate_that_is_open());
            held.into_iter()
                .for_each(|task| assert!(task.join().is_ok()));
            assert_eq!(workers.len(), 3);
        }
        pool.join().expect("all is done");
    });
}

fn gate_that_is_open() -> Shared<Event> {
    let go = gate();
    go.set();
    go
}

#[mp::test]
fn a_pool_grows_and_shrinks_while_many_threads_use_it() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let users = AtomicUsize::new(4);
        thread::scope(|scope| {
            for number in 0..4 {
                let (pool, users) = (&pool, &users);
                scope.spawn(move || {
                    for _ in 0..15 {
                        match number % 2 {
                            0 => check_works(pool),
                            _ => assert!(pool.imap(echo, 0..100).map(Result::unwrap).eq(0..100)),
                        }
                    }
                    users.fetch_sub(1, Ordering::Relaxed);
                });
            }
            // Several threads change it at the same time.
            for own in 0..3 {
                let (pool, users) = (&pool, &users);
                scope.spawn(move || {
                    for number in 0.. {
                        if users.load(Ordering::Relaxed) == 0 {
                            return;
                        }
                        pool.resize((number * 7 + own) % 5 + 1)
                            .expect("there is room");
                    }
                });
            }
        });
        pool.resize(2).expect("fewer can be had");
        assert_eq!(pool.workers().len(), 2);
        check_works(&pool);
        let stats = pool.stats();
        assert_eq!((stats.done, stats.failed), (4 * 15 * 100 + 100, 0));
        pool.join().expect("all is done");
    });
}

#[mp::test]
fn a_size_that_cannot_be_is_an_error() {
    within(LIMIT, || {
        let pool = Pool::new(1).expect("a pool can be started");
        for size in [0, 4097, usize::MAX] {
            let error = pool.resize(size).expect_err("it cannot be");
            assert_eq!(error.kind(), ErrorKind::Spawn, "{error}");
            assert!(error.to_string().contains(&size.to_string()), "{error}");
            assert_eq!(pool.workers().len(), 1);
        }
        check_works(&pool);
        pool.close();
        for size in [1, 2] {
            let error = pool.resize(size).expect_err("it is closed");
            assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        }
        pool.terminate();
        let error = pool.resize(2).expect_err("it is over");
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        let pool = Pool::new(2).expect("a pool can be started");
        pool.terminate();
        let error = pool.resize(1).expect_err("it is over");
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    });
}

#[mp::test]
fn the_item_of_a_worker_that_dies_when_it_is_too_many_has_its_end() {
    within(LIMIT, || {
        for retries in [0, 1] {
            let pool = Pool::new(2).expect("a pool can be started");
            let own = family(&pool);
            let (begun, go) = (count(), gate());
            let with = || pool.with(TaskOptions::new().retries(retries));
            let held: Vec<_> = (0..2)
                .map(|_| with().submit(hold, (begun.clone(), go.clone())))
                .map(|task| task.expect("it is open"))
                .collect();
            until(|| read(&begun) == 2);
            let retired = pool.workers()[1].id;
            pool.resize(1).expect("fewer can be had");
            signal(retired, Signal::SIGKILL);
            until_alive(&own, 1);
            go.set();
            let results: Vec<_> = held.into_iter().map(Task::join).collect();
            let failed: Vec<_> = results.into_iter().filter_map(Result::err).collect();
            match retries {
                0 => {
                    assert_eq!(failed.len(), 1);
                    assert_eq!(failed[0].kind(), ErrorKind::Died, "{}", failed[0]);
                    assert_eq!(failed[0].process_id(), Some(retired), "{}", failed[0]);
                }
                _ => assert!(failed.is_empty(), "{failed:?}"),
            }
            check_works(&pool);
            until_alive(&own, 1);
            pool.join().expect("all is done");
        }
    });
}

/// How many threads of pools this program has.
fn pool_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("there is /proc");
    let names = tasks.map(|task| {
        let path = task.expect("it can be read").path().join("comm");
        fs::read_to_string(path).unwrap_or_default()
    });
    names.filter(|name| name.trim_end() == "mp-pool").count()
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_a_worker_that_is_too_many() {
    programs::program("program_of_a_worker_that_is_too_many", LIMIT, || {
        let pool = builder(2)
            .retries(1)
            .build()
            .expect("a pool can be started");
        let (begun, go) = (count(), gate());
        let first = hold_all(&pool, 1, &go);
        let by = pool.workers();
        let task = pool.submit(hold_and_die, (begun.clone(), gate(), 0));
        let task = task.expect("it is open");
        until(|| read(&begun) == 1);
        pool.resize(1).expect("fewer can be had");
        pool.close();
        // The one that stays has nothing to do any more, and goes; then the other one is lost.
        go.set();
        for task in first {
            assert_eq!(task.join().expect("it works"), by[0].id);
        }
        signal(by[0].id, Signal::SIGKILL);
        until(|| !programs::is_alive(by[0].id));
        until(|| pool_threads() == 1);
        signal(by[1].id, Signal::SIGKILL);
        // It waits at the gate once more.
        until(|| read(&begun) == 2);
        assert!(!task.is_finished());
        assert!(task.cancel());
        pool.join().expect("all is done");
    });
}

#[test]
fn what_a_worker_that_is_too_many_leaves_runs_though_the_pool_is_closed() {
    within(LIMIT, || {
        programs::run("program_of_a_worker_that_is_too_many")
    });
}

/// A file: while it is there, workers of the program do not come.
const NO_WORKERS_WHILE: &str = "NO_WORKERS_WHILE";
/// The process that a program is the child of; a worker is not.
const TEST_ID: &str = "TEST_ID";

#[test]
#[ignore = "a program that another test runs"]
fn program_that_gets_no_more_workers() {
    if !programs::is_asked("program_that_gets_no_more_workers") {
        return;
    }
    let switch = std::env::var(NO_WORKERS_WHILE).expect("the test sets it");
    let is_program = std::env::var(TEST_ID).is_ok_and(|id| id == parent_id().to_string());
    if !is_program && fs::exists(&switch).unwrap_or(false) {
        std::process::exit(5);
    }
    mp::init();
    within(LIMIT, || {
        let pool = Pool::new(2).expect("workers come");
        let go = gate();
        let held = hold_all(&pool, 2, &go);
        let (before, stats) = (pool.workers(), pool.stats());
        fs::write(&switch, "").expect("a file can be made");
        for size in [3, 5] {
            let error = pool.resize(size).expect_err("no worker comes");
            assert_eq!(error.kind(), ErrorKind::Spawn, "{error}");
            assert!(error.to_string().contains("exited with code 5"), "{error}");
            assert_eq!(pool.workers(), before);
            let now = pool.stats();
            assert_eq!((now.running, now.restarts), (2, 0), "{now:?}, {stats:?}");
            assert_eq!(now.busy.len(), 2);
        }
        go.set();
        for task in held {
            task.join().expect("its worker lives");
        }
        check_works(&pool);
        // What the failed growth has begun is over.
        until(|| pool_threads() == 2);
        fs::remove_file(&switch).expect("it is there");
        pool.resize(4).expect("workers come");
        assert_eq!(pool.workers().len(), 4);
        assert_eq!(pool.workers()[..2], before);
        check_works(&pool);

        let taken = programs::take_descriptors_but(3);
        let error = pool.resize(12).expect_err("there are no descriptors");
        assert_eq!(error.kind(), ErrorKind::Spawn, "{error}");
        assert_eq!(pool.workers().len(), 4);
        check_works(&pool);
        drop(taken);
        pool.resize(6).expect("workers come");
        assert_eq!(pool.workers().len(), 6);
        pool.join().expect("all is done");
    });
}

#[test]
fn promise_23_a_pool_that_cannot_grow_stays_as_it_is() {
    within(LIMIT, || {
        let directory = Directory::new();
        let mut command = programs::command("program_that_gets_no_more_workers");
        command
            .env(TEST_ID, std::process::id().to_string())
            // What stands before `init` runs in each worker that is executed.
            .env("MP_START_METHOD", "exec")
            .env(NO_WORKERS_WHILE, directory.join("switch"));
        let end = programs::Program::start(command).finish();
        assert!(end.status.success(), "it ended with {}", end.status);
    });
}

// Numbers.

/// Queued, running, done, failed.
fn numbers(stats: &PoolStats) -> [usize; 4] {
    [stats.queued, stats.running, stats.done, stats.failed]
}

#[mp::test]
fn stats_say_where_every_item_is() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        assert_eq!(numbers(&pool.stats()), [0, 0, 0, 0]);
        let (begun, go) = (count(), gate());
        let submit = || pool.submit(hold, (begun.clone(), go.clone()));
        let tasks: Vec<_> = (0..5).map(|_| submit().expect("it is open")).collect();
        until(|| read(&begun) == 2);
        let stats = pool.stats();
        assert_eq!(numbers(&stats), [3, 2, 0, 0]);
        assert_eq!((stats.restarts, stats.busy.len()), (0, 2));
        until(|| pool.stats().busy.iter().all(|busy| !busy.is_zero()));

        // One that waits, and one that runs.
        assert!(tasks[4].cancel());
        assert_eq!(numbers(&pool.stats()), [2, 2, 0, 1]);
        assert!(tasks[0].cancel());
        until(|| read(&begun) == 3);
        assert_eq!(numbers(&pool.stats()), [1, 2, 0, 2]);
        assert!(!tasks[0].cancel(), "it has ended");
        // One that dies.
        signal(pool.workers()[1].id, Signal::SIGKILL);
        until(|| read(&begun) == 4);
        let stats = pool.stats();
        assert_eq!((numbers(&stats), stats.restarts), ([0, 2, 0, 3], 2));
        go.set();
        let results: Vec<_> = tasks.into_iter().map(Task::join).collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 2);
        assert_eq!(numbers(&pool.stats()), [0, 0, 2, 3]);
        pool.join().expect("all is done");
    });
}

#[mp::test]
fn stats_count_an_item_once_however_often_it_was_tried() {
    within(LIMIT, || {
        let pool = Pool::new(1).expect("a pool can be started");
        let with = |retries| pool.with(TaskOptions::new().retries(retries));
        let tries = |deaths| (count(), gate_that_is_open(), deaths);
        let result = with(3).apply(hold_and_die, tries(3));
        assert_eq!(result.expect("the fourth try returns"), 4);
        assert_eq!(numbers(&pool.stats()), [0, 0, 1, 0]);
        with(2)
            .apply(hold_and_die, tries(3))
            .expect_err("it dies thrice");
        let stats = pool.stats();
        assert_eq!(numbers(&stats), [0, 0, 1, 1]);
        // In a chunk, with others.
        let options = TaskOptions::new().retries(1).chunk_size(10);
        let own = (count(), gate_that_is_open(), 1);
        let items = (0..10).map(|number| match number {
            4 => own.clone(),
            _ => (count(), own.1.clone(), 0),
        });
        let results = pool.with(options).starmap(hold_and_die, items);
        let expected = (0..10).map(|number| if number == 4 { 2 } else { 1 });
        assert!(results.expect("they return").into_iter().eq(expected));
        until(|| pool.stats().restarts == 7);
        assert_eq!(numbers(&pool.stats()), [0, 0, 11, 1]);
        pool.join().expect("all is done");
    });
}

#[mp::test]
fn stats_of_what_nobody_wants_any_more_add_up() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let (begun, go) = (count(), gate());
        let pulled = AtomicUsize::new(0);
        let items = std::iter::repeat_with(|| {
            pulled.fetch_add(1, Ordering::Relaxed);
            (begun.clone(), go.clone())
        });
        let mut lazy = pool.imap_unordered(hold_pair, items);
        let open = gate_that_is_open();
        thread::scope(|scope| {
            let first = scope.spawn(|| lazy.next().expect("it is endless").1.map(drop));
            until(|| read(&begun) == 2);
            go.set();
            first
                .join()
                .expect("it does not panic")
                .expect("it returns");
        });
        go.clear();
        drop(lazy);
        drop(open);
        go.set();
        until(|| numbers(&pool.stats())[..2] == [0, 0]);
        let stats = pool.stats();
        assert_eq!(
            stats.done + stats.failed,
            pulled.load(Ordering::Relaxed),
            "{stats:?}"
        );
        let task = pool.submit_map(echo, 0..1000).expect("it is open");
        task.cancel();
        task.wait();
        let now = pool.stats();
        assert_eq!(
            now.done + now.failed,
            stats.done + stats.failed + 1000,
            "{now:?}"
        );
        pool.join().expect("all is done");
    });
}

#[mp::process_fn]
fn hold_pair((begun, go): (Count, Shared<Event>)) {
    add(&begun);
    go.wait();
}

#[mp::test]
fn stats_add_up_at_every_moment() {
    const ITEMS: usize = 20_000;
    within(LIMIT, || {
        for kills in [false, true] {
            let pool = builder(3)
                .retries(3)
                .build()
                .expect("a pool can be started");
            let tasks: Vec<_> = (0..100)
                .map(|_| pool.submit_map(echo, 0..(ITEMS / 100) as u64))
                .map(|task| task.expect("it is open"))
                .collect();
            let mut before = 0;
            let mut rounds: usize = 0;
            loop {
                let stats = pool.stats();
                let all: usize = numbers(&stats).iter().sum();
                assert_eq!(all, ITEMS, "{stats:?}");
                assert!(stats.running <= 3, "{stats:?}");
                let ended = stats.done + stats.failed;
                assert!(ended >= before, "{stats:?}");
                before = ended;
                rounds += 1;
                if kills && rounds.is_multiple_of(1000) {
                    let first = pool.workers().into_iter().next();
                    first
                        .into_iter()
                        .for_each(|worker| signal(worker.id, Signal::SIGKILL));
                }
                if rounds.is_multiple_of(50) {
                    // Some of it is cancelled meanwhile.
                    tasks.get(rounds / 50).filter(|_| kills).map(Task::cancel);
                }
                if ended == ITEMS {
                    break;
                }
            }
            assert!(tasks.iter().all(Task::is_finished) || kills);
            pool.join().expect("all is done");
        }
    });
}

#[mp::test]
fn promise_04_a_worker_that_does_not_begin_is_given_up_where_there_is_a_time_limit() {
    within(LIMIT, || {
        let pool = builder(1)
            .task_timeout(Duration::from_millis(100))
            .build()
            .expect("a pool can be started");
        let worker = pool.workers()[0].id;
        signal(worker, Signal::SIGSTOP);
        until(|| programs::state(worker) == Some('T'));
        // It is not the fault of the item.
        assert_eq!(pool.apply(echo, (3,)).expect("another worker runs it"), 3);
        assert_eq!(pool.stats().restarts, 1);
        pool.join().expect("all is done");
    });
}

#[mp::process_fn]
fn length(bytes: &[u8]) -> usize {
    bytes.len()
}

#[mp::test]
fn promise_04_a_worker_that_does_not_begin_with_a_large_call_is_given_up_as_well() {
    within(LIMIT, || {
        // In a message of its own, in shared memory, and in many messages.
        let cases = [(100_000, 1), (1 << 20, 1), (100_000, 30)];
        let pools = cases.map(|(bytes, count)| {
            let pool = builder(1).task_timeout(Duration::from_millis(500)).build();
            let pool = pool.expect("a pool can be started");
            let worker = pool.workers()[0].id;
            signal(worker, Signal::SIGSTOP);
            until(|| programs::state(worker) == Some('T'));
            let items = vec![vec![7_u8; bytes]; count];
            let options = TaskOptions::new().chunk_size(count);
            let task = pool.with(options).submit_map(length, items);
            (pool, task.expect("it is open"))
        });
        for ((pool, task), (bytes, count)) in pools.into_iter().zip(cases) {
            assert_eq!(
                task.join().expect("another worker runs it"),
                vec![bytes; count]
            );
            assert_eq!(pool.stats().restarts, 1);
            pool.join().expect("all is done");
        }
    });
}

// Ends.

/// Waits in all runs but the first ones.
#[mp::process_fn]
fn begin_at_the_gate(runs: Count, first: u32, go: Shared<Event>) {
    if add(&runs) > first {
        go.wait();
    }
}

/// A pool whose worker is in its initializer, with something that waits.
fn beginning_pool() -> (Pool, String, Shared<Event>, Vec<Task<u64>>) {
    let (runs, go) = (count(), gate());
    let pool = builder(1)
        .initializer(begin_at_the_gate, (runs.clone(), 1, go.clone()))
        .build()
        .expect("a pool can be started");
    let own = family(&pool);
    pool.apply(die, ()).expect_err("it dies");
    let tasks = (0..5).map(|number| pool.submit(echo, (number,)).expect("it is open"));
    let tasks = tasks.collect();
    until(|| read(&runs) == 2);
    (pool, own, go, tasks)
}

#[track_caller]
fn check_cancelled<R>(result: Result<R, Error>) {
    let error = result.err().expect("it was cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
}

#[mp::test]
fn promise_16_a_pool_ends_while_its_workers_are_in_their_initializers() {
    within(LIMIT, || {
        let (pool, own, _go, tasks) = beginning_pool();
        pool.terminate();
        until_alive(&own, 0);
        tasks
            .into_iter()
            .for_each(|task| check_cancelled(task.join()));
        check_cancelled(pool.join());

        let (pool, own, _go, tasks) = beginning_pool();
        drop(pool);
        until_alive(&own, 0);
        tasks
            .into_iter()
            .for_each(|task| check_cancelled(task.join()));

        let (pool, own, go, tasks) = beginning_pool();
        pool.close();
        thread::scope(|scope| {
            let joining = scope.spawn(|| pool.join());
            go.set();
            joining
                .join()
                .expect("it does not panic")
                .expect("all is done");
        });
        for (number, task) in (0..).zip(tasks) {
            assert_eq!(task.join().expect("it was submitted before"), number);
        }
        until_alive(&own, 0);

        // A worker that has nothing to do is not waited for, however long it takes to begin.
        let (pool, own, _go, tasks) = beginning_pool();
        assert!(tasks.iter().all(Task::cancel));
        pool.join().expect("all is done");
        until_alive(&own, 0);
    });
}

#[mp::test]
fn promise_16_a_pool_ends_while_it_grows() {
    within(LIMIT, || {
        for end in 0..3 {
            let (runs, go) = (count(), gate());
            let pool = builder(1)
                .initializer(begin_at_the_gate, (runs.clone(), 1, go.clone()))
                .build()
                .expect("a pool can be started");
            let own = family(&pool);
            thread::scope(|scope| {
                let resized = scope.spawn(|| pool.resize(3));
                let shrunk = scope.spawn(|| {
                    until(|| read(&runs) == 3);
                    pool.resize(2)
                });
                until(|| read(&runs) == 3);
                // The old one works on.
                assert_eq!(pool.apply(echo, (1,)).expect("it works"), 1);
                match end {
                    0 => pool.terminate(),
                    1 => pool.close(),
                    _ => {}
                }
                if end > 0 {
                    go.set();
                }
                let result = resized.join().expect("it does not panic");
                match (end, result) {
                    (0, Err(error)) => {
                        let kinds = [ErrorKind::Cancelled, ErrorKind::Closed];
                        assert!(kinds.contains(&error.kind()), "{error}");
                    }
                    (1, Err(error)) => assert_eq!(error.kind(), ErrorKind::Closed, "{error}"),
                    (0, Ok(())) => panic!("its workers did not come"),
                    (_, result) => result.expect("they come"),
                }
                let result = shrunk.join().expect("it does not panic");
                match end {
                    2 => result.expect("fewer can be had"),
                    _ => assert_eq!(
                        result.err().map(|error| error.kind()),
                        Some(ErrorKind::Closed)
                    ),
                }
            });
            match (end, pool.join()) {
                (0, result) => check_cancelled(result),
                (_, result) => result.expect("all is done"),
            }
            until_alive(&own, 0);
        }
    });
}

#[mp::test]
fn promise_16_a_pool_ends_while_it_recycles() {
    within(LIMIT, || {
        for how in [Exit::Slow, Exit::Never] {
            for end in 0..3 {
                let exits = count();
                let pool = builder(2)
                    .max_tasks_per_worker(1)
                    .initializer(begin_with_exit, (exits.clone(), how))
                    .build()
                    .expect("a pool can be started");
                let own = family(&pool);
                let tasks: Vec<_> = (0..20)
                    .map(|number| pool.submit(echo, (number,)).expect("it is open"))
                    .collect();
                until(|| read(&exits) >= 1);
                match end {
                    0 => pool.terminate(),
                    1 => drop(pool),
                    // This takes ten seconds for each that does not exit.
                    _ if how == Exit::Never => continue,
                    _ => pool.join().expect("all is done"),
                }
                until_alive(&own, 0);
                for (number, task) in (0..).zip(tasks) {
                    match task.join() {
                        Ok(result) => assert_eq!(result, number),
                        Err(error) if end < 2 => check_cancelled::<()>(Err(error)),
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }
    });
}

#[mp::test]
fn promise_16_join_ends_though_a_worker_does_not_exit() {
    within(LIMIT, || {
        let exits = count();
        let pool = builder(2)
            .initializer(begin_with_exit, (exits.clone(), Exit::Never))
            .build()
            .expect("a pool can be started");
        let own = family(&pool);
        check_works(&pool);
        pool.join().expect("all is done");
        assert_eq!(read(&exits), 2);
        until_alive(&own, 0);
    });
}

// Which option counts.

fn try_and_die(tries: &Count) {
    add(tries);
    die_here();
}

#[mp::process_fn]
fn die_as_the_pool_says(tries: Count) {
    try_and_die(&tries);
}

#[mp::process_fn(retries = 1)]
fn die_twice(tries: Count) {
    try_and_die(&tries);
}

#[mp::process_fn(retries = 0)]
fn die_once(tries: Count) {
    try_and_die(&tries);
}

#[mp::test]
fn retries_of_the_call_go_before_those_of_the_function_and_those_before_the_pools() {
    within(LIMIT, || {
        let pool = builder(1)
            .retries(3)
            .build()
            .expect("a pool can be started");
        let check = |tries: u32, call: &dyn Fn(Count) -> Result<(), Error>| {
            let tried = count();
            let error = call(tried.clone()).expect_err("it dies");
            assert_eq!(error.kind(), ErrorKind::Died, "{error}");
            assert_eq!(read(&tried), tries);
        };
        let with = |retries| pool.with(TaskOptions::new().retries(retries));
        check(4, &|tried| pool.apply(die_as_the_pool_says, (tried,)));
        check(2, &|tried| pool.apply(die_twice, (tried,)));
        check(1, &|tried| pool.apply(die_once, (tried,)));
        check(3, &|tried| with(2).apply(die_as_the_pool_says, (tried,)));
        check(3, &|tried| with(2).apply(die_twice, (tried,)));
        check(3, &|tried| with(2).apply(die_once, (tried,)));
        check(1, &|tried| with(0).apply(die_as_the_pool_says, (tried,)));
        check(1, &|tried| with(0).apply(die_twice, (tried,)));
        check(2, &|tried| pool.map(die_twice, [tried]).map(drop));
        check(3, &|tried| with(2).map(die_twice, [tried]).map(drop));
        let last = |tried| pool.imap(die_twice, [tried]).next().expect("one item");
        check(2, &last);
        pool.join().expect("all is done");
    });
}

fn wait(time: Duration) -> u32 {
    thread::sleep(time);
    std::process::id()
}

#[mp::process_fn]
fn wait_as_the_pool_says(time: Duration) -> u32 {
    wait(time)
}

#[mp::process_fn(timeout = "130ms")]
fn wait_shortly(time: Duration) -> u32 {
    wait(time)
}

#[mp::process_fn(timeout = "1h")]
fn wait_long(time: Duration) -> u32 {
    wait(time)
}

#[mp::test]
fn the_timeout_of_the_call_goes_before_that_of_the_function_and_that_before_the_pools() {
    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(400);
    within(LIMIT, || {
        let pool = builder(1)
            .task_timeout(Duration::from_millis(110))
            .build()
            .expect("a pool can be started");
        let is_late = |limit: &str, result: Result<u32, Error>| {
            let error = result.expect_err("it takes too long");
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
            assert!(error.to_string().contains(limit), "{error}");
        };
        let with = |timeout| pool.with(TaskOptions::new().timeout(timeout));
        let own = Duration::from_millis(120);
        is_late("110ms", pool.apply(wait_as_the_pool_says, (LONG,)));
        is_late("130ms", pool.apply(wait_shortly, (LONG,)));
        pool.apply(wait_long, (SHORT,)).expect("it has an hour");
        is_late("120ms", with(own).apply(wait_as_the_pool_says, (LONG,)));
        is_late("120ms", with(own).apply(wait_shortly, (LONG,)));
        is_late("120ms", with(own).apply(wait_long, (LONG,)));
        with(LONG)
            .apply(wait_as_the_pool_says, (SHORT,))
            .expect("it has an hour");
        with(LONG)
            .apply(wait_shortly, (SHORT,))
            .expect("it has an hour");
        pool.join().expect("all is done");
    });
}

// A program that forks.

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_that_forks() {
    programs::program("program_that_forks", LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        check_works(&pool);
        let workers = pool.workers();
        let go = gate();
        let mut held = hold_all(&pool, 1, &go);
        let mut lazy = pool.imap(echo, 0..);
        assert_eq!(lazy.next().expect("it is endless").expect("it works"), 0);
        let other = Pool::new(1).expect("a pool can be started");
        mp::pool::apply(echo, (1,)).expect("it can be made");
        // Nothing is under way in the other threads when this one forks.
        until(|| numbers(&pool.stats())[..2] == [0, 1]);
        // SAFETY: the child leaves by `_exit`, and uses nothing that another thread may have
        // locked.
        match unsafe { fork() }.expect("there is room for a process") {
            ForkResult::Parent { child } => {
                let status = waitpid(child, None).expect("it is our child");
                assert_eq!(status, WaitStatus::Exited(child, 0));
            }
            ForkResult::Child => {
                // No watchdog is forked with it: should it hang, this ends it.
                nix::unistd::alarm::set(60);
                let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    use_in_fork(pool, other, lazy, held.pop());
                }));
                // SAFETY: it takes an integer and does not return.
                unsafe { libc::_exit(if checked.is_ok() { 0 } else { 101 }) }
            }
        }
        for number in 1..50 {
            assert_eq!(
                lazy.next().expect("it is endless").expect("it works"),
                number
            );
        }
        check_works(&pool);
        check_works(&other);
        assert_eq!(pool.workers(), workers);
        go.set();
        for task in held {
            task.join().expect("its worker lives");
        }
        drop(lazy);
        pool.join().expect("all is done");
        other.join().expect("all is done");
    });
}

/// What a fork of a program does with the pools of that.
fn use_in_fork(
    pool: Pool,
    other: Pool,
    mut lazy: impl Iterator<Item = Result<u64, Error>>,
    held: Option<Task<u32>>,
) {
    let check = |error: Option<Error>| {
        let error = error.expect("it is a fork");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("fork"), "{error}");
    };
    check(pool.submit(echo, (1,)).err());
    check(pool.submit_map(echo, 0..3).err());
    check(pool.apply(echo, (1,)).err());
    check(pool.map(echo, 0..10).err());
    check(pool.imap(echo, 0..10).next().and_then(Result::err));
    check(
        pool.imap_unordered(echo, 0..10)
            .next()
            .and_then(|(_, result)| result.err()),
    );
    check(pool.resize(3).err());
    check(pool.resize(1).err());
    check(lazy.find_map(Result::err));
    pool.close();
    pool.terminate();
    let held = held.expect("there is one");
    assert!(!held.cancel());
    held.wait();
    assert!(!held.wait_timeout(LIMIT));
    check(mp::wait_any(&[&held], None).err());
    check(mp::as_completed([held]).next().and_then(Result::err));
    drop(lazy);
    // The pool of the process is made anew.
    let number = mp::pool::apply(echo, (2,)).expect("it is its own");
    assert_eq!(number, 2);
    check(other.join().err());
    drop(pool);
}

#[test]
fn a_pool_in_a_fork_of_its_program_refuses_and_harms_nobody() {
    within(LIMIT, || programs::run("program_that_forks"));
}
