//! Chaos: pools under random work, deaths and changes of size, against an oracle that knows what
//! may become of each call.
//!
//! A round is a fresh pool of random policies, which several threads use in every way that there
//! is, while its functions panic, exit, die and take too long, and somebody kills its workers from
//! outside. What each call may come to is known when it is made:
//!
//! | an item that | comes to |
//! | --- | --- |
//! | returns | exactly its value; `Died` if somebody kills workers, and its tries are used up |
//! | panics | `Panicked`, and is run once for each try that a kill ended, and once more |
//! | exits | `Exited`, when it has been run as often as it may |
//! | kills itself | `Died` by that signal, when it has been run as often as it may |
//! | takes too long | `TimedOut`, when it has been run as often as it may |
//! | is cancelled | `Cancelled` if `cancel` said so, else as above |
//!
//! A map comes to all its values, or to the first error that its items may come to. At the end of a
//! round the pool's numbers add up, `join` succeeds, and no process is left.
//!
//! The pseudo-random numbers begin with a seed, which every failure tells. `MP_CHAOS_SEED=N` begins
//! with that round again, though threads and kills fall as they do; `MP_CHAOS_ROUNDS=N` runs so
//! many.

mod programs;
mod watchdog;

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use mp::{Error, ErrorKind, Pool, Shared, TaskOptions};
use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use watchdog::{until, within};

/// For one round.
const LIMIT: Duration = Duration::from_secs(120);
const SEED: &str = "MP_CHAOS_SEED";
const ROUNDS: &str = "MP_CHAOS_ROUNDS";
const DEFAULT_ROUNDS: u64 = 12;
/// Workers that die at their start trip a fuse at the fourth time; this is less.
const KILLS_OF_A_PLACE: usize = 3;

// What workers do.

/// What an item does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Act {
    Return,
    Work,
    Panic,
    Exit(i32),
    Abort,
    Kill,
    TakeTooLong,
    SpinTooLong,
}

/// What a deadly function is given: a number, what it does, and where it counts how often.
#[derive(Clone, Serialize, Deserialize)]
struct Item {
    number: u64,
    act: Act,
    runs: Shared<AtomicU32>,
}

fn value_of(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17)
}

/// What a function returns that was not begun by the initializer, where there is one.
const NOT_BEGUN: u64 = u64::MAX - 1;

static BEGUN: AtomicBool = AtomicBool::new(false);

#[mp::process_fn]
fn begin(begun: Shared<AtomicU32>) -> Result<(), String> {
    begun.fetch_add(1, Ordering::SeqCst);
    match BEGUN.swap(true, Ordering::SeqCst) {
        true => Err("it was called twice".into()),
        false => Ok(()),
    }
}

fn act(act: Act) {
    match act {
        Act::Return => {}
        Act::Work => thread::sleep(Duration::from_millis(2)),
        Act::Panic => panic!("as it was told"),
        Act::Exit(code) => std::process::exit(code),
        Act::Abort => std::process::abort(),
        Act::Kill => raise(Signal::SIGKILL).expect("a process can signal itself"),
        Act::TakeTooLong => loop {
            thread::park();
        },
        Act::SpinTooLong => loop {
            std::hint::spin_loop();
        },
    }
}

#[mp::process_fn]
fn run(item: Item) -> u64 {
    item.runs.fetch_add(1, Ordering::SeqCst);
    act(item.act);
    value_of(item.number)
}

#[mp::process_fn]
fn run_begun(item: Item) -> u64 {
    match BEGUN.load(Ordering::SeqCst) {
        true => run(item),
        false => NOT_BEGUN,
    }
}

#[mp::process_fn]
fn plain(number: u64) -> u64 {
    value_of(number)
}

#[mp::process_fn]
fn add(a: u64, b: u64) -> u64 {
    a.wrapping_add(b)
}

/// Takes much and returns much.
#[mp::process_fn]
fn large(bytes: Vec<u8>, count: usize) -> Vec<u8> {
    let sum = bytes
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
    vec![sum; count]
}

#[mp::process_fn]
fn nest(count: u64) -> Result<u64, String> {
    let pool = Pool::new(1).map_err(|error| error.to_string())?;
    let values = pool
        .map(plain, 0..count)
        .map_err(|error| error.to_string())?;
    if count.is_multiple_of(2) {
        pool.join().map_err(|error| error.to_string())?;
    }
    Ok(values.into_iter().fold(0, u64::wrapping_add))
}

// Chance.

/// Xorshift (Marsaglia, 2003), in the variant `xorshift64*`.
struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Chance {
        Chance(value_of(seed.wrapping_add(1)) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }

    fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).expect("it is below a usize")
    }

    /// One time in `times`.
    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn millis(&mut self, end: u64) -> Duration {
        Duration::from_millis(self.below(end))
    }
}

// A round.

/// Who kills workers from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killer {
    Nobody,
    /// No place so often that it could trip the fuse.
    Moderate,
    Merciless,
}

/// What a pool is like, and what has happened to it.
struct Round {
    seed: u64,
    number: u64,
    killer: Killer,
    workers: usize,
    retries: u32,
    max_tasks: Option<usize>,
    /// There is a limit for every item.
    timeout: Option<Duration>,
    has_initializer: bool,
    begun: Shared<AtomicU32>,
    kills: AtomicUsize,
    /// Items that were surely submitted, ...
    submitted: AtomicUsize,
    /// ... and those that may have been.
    in_doubt: AtomicUsize,
    ended: AtomicBool,
}

impl Round {
    fn new(seed: u64, number: u64, chance: &mut Chance) -> Round {
        Round {
            seed,
            number,
            killer: match chance.below(3) {
                0 => Killer::Nobody,
                1 => Killer::Moderate,
                _ => Killer::Merciless,
            },
            workers: 1 + chance.index(4),
            retries: u32::try_from(chance.below(4)).expect("it is small"),
            max_tasks: chance.one_in(3).then(|| 1 + chance.index(12)),
            timeout: chance.one_in(2).then(|| Duration::from_millis(150)),
            has_initializer: chance.one_in(3),
            begun: Shared::new(AtomicU32::new(0)).expect("there is memory"),
            kills: AtomicUsize::new(0),
            submitted: AtomicUsize::new(0),
            in_doubt: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        }
    }

    fn name(&self) -> String {
        format!("seed {}, round {}", self.seed, self.number)
    }

    #[track_caller]
    fn fail(&self, what: impl Debug) -> ! {
        panic!(
            "{}: {what:?}; {self:?}; run again with {SEED}={}",
            self.name(),
            self.seed
        );
    }

    #[track_caller]
    fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(what());
        }
    }

    fn build(&self) -> Pool {
        let mut builder = Pool::builder().workers(self.workers).retries(self.retries);
        if let Some(tasks) = self.max_tasks {
            builder = builder.max_tasks_per_worker(tasks);
        }
        if let Some(timeout) = self.timeout {
            builder = builder.task_timeout(timeout);
        }
        if self.has_initializer {
            builder = builder.initializer(begin, (self.begun.clone(),));
        }
        builder.build().unwrap_or_else(|error| self.fail(error))
    }

    /// Whether an item that did nothing wrong may come to this.
    fn is_by_killer(&self, error: &Error) -> bool {
        match self.killer {
            Killer::Nobody => false,
            Killer::Moderate => is_killed(error),
            // And its fuse, which says how the workers end that were killed at their start.
            Killer::Merciless => {
                let is_fuse = matches!(error.kind(), ErrorKind::Spawn | ErrorKind::Initializer);
                is_killed(error) || is_fuse && error.to_string().contains("SIGKILL")
            }
        }
    }

    /// Whether an item may take so long, without doing anything wrong, that it is stopped: its
    /// worker may have been stopped, and the machine may be slow.
    fn is_late(&self, error: &Error) -> bool {
        self.timeout.is_some() && error.kind() == ErrorKind::TimedOut
    }

    fn may_befall_any(&self, error: &Error) -> bool {
        self.is_by_killer(error) || self.is_late(error)
    }

    /// Checks what became of an item.
    #[track_caller]
    fn check_item(&self, item: &Item, retries: u32, result: &Result<u64, Error>) {
        let runs = item.runs.load(Ordering::SeqCst);
        let what = || {
            format!(
                "{:?} ({runs} runs, {retries} retries) came to {result:?}",
                item.act
            )
        };
        let error = match result {
            Ok(value) => {
                let returns = matches!(item.act, Act::Return | Act::Work);
                self.check(returns && *value == value_of(item.number), what);
                self.check((1..=retries + 1).contains(&runs), what);
                return;
            }
            Err(error) => error,
        };
        // A run may end before it is counted, never the reverse.
        self.check(runs <= retries + 1, what);
        if self.may_befall_any(error) {
            return;
        }
        let is_own = match item.act {
            Act::Return | Act::Work => false,
            Act::Panic => error.kind() == ErrorKind::Panicked,
            Act::Exit(code) => {
                let status = error.exit_status().and_then(|status| status.code());
                error.kind() == ErrorKind::Exited && status == Some(code)
            }
            Act::Abort => is_died(error, Signal::SIGABRT),
            Act::Kill => is_killed(error),
            Act::TakeTooLong | Act::SpinTooLong => error.kind() == ErrorKind::TimedOut,
        };
        self.check(is_own, what);
        let must_use_all = self.killer == Killer::Nobody && self.timeout.is_none();
        if must_use_all {
            let expected = if item.act == Act::Panic {
                1
            } else {
                retries + 1
            };
            self.check(runs == expected, what);
        }
    }

    /// Checks what became of something that does no wrong.
    #[track_caller]
    fn check_harmless<T: PartialEq + Debug>(&self, expected: &T, result: &Result<T, Error>) {
        let holds = match result {
            Ok(value) => value == expected,
            Err(error) => self.may_befall_any(error),
        };
        self.check(holds, || match result {
            Ok(_) => "a wrong value".into(),
            Err(error) => format!("an innocent item came to {error:?}"),
        });
    }

    fn item(&self, chance: &mut Chance, is_deadly: bool) -> Item {
        let act = match chance.below(if is_deadly { 14 } else { 8 }) {
            0..6 => Act::Return,
            6..8 => Act::Work,
            8 | 9 => Act::Panic,
            10 => Act::Exit(i32::try_from(chance.below(4)).expect("it is small")),
            11 => Act::Abort,
            12 => Act::Kill,
            _ if self.timeout.is_none() => Act::Panic,
            _ if chance.one_in(2) => Act::SpinTooLong,
            _ => Act::TakeTooLong,
        };
        Item {
            number: chance.next(),
            act,
            runs: Shared::new(AtomicU32::new(0)).unwrap_or_else(|error| self.fail(error)),
        }
    }

    fn items(&self, chance: &mut Chance, is_deadly: bool) -> Vec<Item> {
        let count = chance.index(30);
        (0..count)
            .map(|_| {
                let is_deadly = is_deadly && chance.one_in(3);
                self.item(chance, is_deadly)
            })
            .collect()
    }

    /// The results of a map: all of them, or the first error.
    #[track_caller]
    fn check_map(&self, items: &[Item], retries: u32, result: &Result<Vec<u64>, Error>) {
        match result {
            Ok(values) => {
                self.check(values.len() == items.len(), || {
                    format!("{} values", values.len())
                });
                for (item, value) in items.iter().zip(values) {
                    self.check_item(item, retries, &Ok(*value));
                }
            }
            Err(error) => {
                let Some(place) = error.item() else {
                    // The fuse tells of a worker, and of no item.
                    return self.check(self.is_by_killer(error), || format!("{error:?}"));
                };
                self.check(place < items.len(), || format!("{error:?}"));
                self.check_item(&items[place], retries, &Err(error.clone()));
                for item in &items[..place] {
                    let is_fine = matches!(item.act, Act::Return | Act::Work);
                    self.check(is_fine, || format!("{:?} is before {error:?}", item.act));
                }
            }
        }
    }

    fn count(&self, items: usize) {
        self.submitted.fetch_add(items, Ordering::SeqCst);
    }

    fn count_in_doubt(&self, items: usize) {
        self.in_doubt.fetch_add(items, Ordering::SeqCst);
    }
}

impl Debug for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Round")
            .field("killer", &self.killer)
            .field("workers", &self.workers)
            .field("retries", &self.retries)
            .field("max_tasks", &self.max_tasks)
            .field("timeout", &self.timeout)
            .field("has_initializer", &self.has_initializer)
            .field("kills", &self.kills)
            .finish_non_exhaustive()
    }
}

fn is_died(error: &Error, by: Signal) -> bool {
    error.kind() == ErrorKind::Died && error.signal() == Some(by as i32)
}

fn is_killed(error: &Error) -> bool {
    is_died(error, Signal::SIGKILL)
}

// What threads do with a pool.

/// One thing that is done with a pool.
fn operate(round: &Round, pool: &Pool, chance: &mut Chance) {
    let retries = match chance.below(3) {
        0 => u32::try_from(chance.below(3)).expect("it is small"),
        _ => round.retries,
    };
    let mut options = TaskOptions::new().retries(retries);
    if chance.one_in(2) {
        options = options.chunk_size(1 + chance.index(12));
    }
    let with = || pool.with(options.clone());
    match chance.below(12) {
        0 => {
            let end = chance.below(500);
            let expected: Vec<u64> = (0..end).map(value_of).collect();
            let result = with().map(plain, 0..end);
            match &result {
                Ok(_) => round.count(expected.len()),
                Err(_) => round.count_in_doubt(expected.len()),
            }
            round.check_harmless(&expected, &result);
        }
        1 => {
            let items = round.items(chance, true);
            let result = match round.has_initializer {
                true => with().map(run_begun, items.clone()),
                false => with().map(run, items.clone()),
            };
            match &result {
                Ok(_) => round.count(items.len()),
                Err(_) => round.count_in_doubt(items.len()),
            }
            round.check_map(&items, retries, &result);
        }
        2 => {
            let pairs: Vec<_> = (0..chance.below(60)).map(|a| (a, chance.next())).collect();
            let expected: Vec<u64> = pairs.iter().map(|(a, b)| a.wrapping_add(*b)).collect();
            let result = with().starmap(add, pairs);
            match &result {
                Ok(_) => round.count(expected.len()),
                Err(_) => round.count_in_doubt(expected.len()),
            }
            round.check_harmless(&expected, &result);
        }
        3 => {
            // In order, to the end or not.
            let items = round.items(chance, true);
            let most = match chance.one_in(2) {
                true => chance.index(items.len() + 1),
                false => usize::MAX,
            };
            let mut taken = 0;
            let results = with().imap(run, items.clone());
            for (item, result) in items.iter().zip(results).take(most) {
                round.check_item(item, retries, &result);
                taken += 1;
            }
            round.check(taken == items.len().min(most), || {
                format!("{taken} results")
            });
            match taken == items.len() {
                true => round.count(items.len()),
                false => round.count_in_doubt(items.len()),
            }
        }
        4 => {
            let items = round.items(chance, true);
            let most = match chance.one_in(2) {
                true => chance.index(items.len() + 1),
                false => usize::MAX,
            };
            let mut seen = vec![false; items.len()];
            for (place, result) in with().imap_unordered(run, items.clone()).take(most) {
                round.check(!seen[place], || format!("item {place} came twice"));
                seen[place] = true;
                round.check_item(&items[place], retries, &result);
            }
            let taken = seen.iter().filter(|seen| **seen).count();
            round.check(taken == items.len().min(most), || {
                format!("{taken} results")
            });
            match taken == items.len() {
                true => round.count(items.len()),
                false => round.count_in_doubt(items.len()),
            }
        }
        5 | 6 => {
            let items = round.items(chance, true);
            let tasks: Vec<_> = items
                .iter()
                .map(|item| with().submit(run, (item.clone(),)))
                .collect();
            round.count(items.len());
            for (item, task) in items.iter().zip(tasks) {
                let task = task.unwrap_or_else(|error| round.fail(error));
                if chance.one_in(4) {
                    // Nobody waits for it.
                    continue;
                }
                round.check_item(item, retries, &task.join());
            }
        }
        7 => {
            let item = round.item(chance, true);
            let task = with().submit(run, (item.clone(),));
            let task = task.unwrap_or_else(|error| round.fail(error));
            round.count(1);
            thread::sleep(chance.millis(4));
            let was_cancelled = task.cancel();
            match task.join() {
                result if !was_cancelled => round.check_item(&item, retries, &result),
                Ok(_) => round.fail("it was cancelled, and returned"),
                Err(error) => {
                    let is_cancelled = error.kind() == ErrorKind::Cancelled;
                    round.check(is_cancelled, || format!("cancelled, it came to {error:?}"));
                }
            }
        }
        8 => {
            let items = round.items(chance, true);
            let task = with().submit_map(run, items.clone());
            let task = task.unwrap_or_else(|error| round.fail(error));
            round.count(items.len());
            if chance.one_in(3) {
                thread::sleep(chance.millis(10));
                task.cancel();
                let result = task.join();
                let is_cancelled = |error: &Error| error.kind() == ErrorKind::Cancelled;
                if !result.as_ref().is_err_and(is_cancelled) {
                    round.check_map(&items, retries, &result);
                }
            } else {
                round.check_map(&items, retries, &task.join());
            }
        }
        9 => {
            let bytes =
                vec![u8::try_from(chance.below(256)).expect("it is a byte"); chance.index(1 << 20)];
            let count = chance.index(1 << 20);
            let sum = bytes
                .iter()
                .fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
            let result = with().apply(large, (bytes, count));
            round.count(1);
            round.check_harmless(&vec![sum; count], &result);
        }
        10 => {
            let count = chance.below(30);
            let result = with().apply(nest, (count,));
            round.count(1);
            let expected = (0..count).map(value_of).fold(0, u64::wrapping_add);
            round.check_harmless(&Ok(expected), &result);
        }
        _ => {
            let size = 1 + chance.index(4);
            if let Err(error) = pool.resize(size) {
                round.check(round.killer != Killer::Nobody, || format!("{error:?}"));
                round.check(error.to_string().contains("SIGKILL"), || {
                    format!("{error:?}")
                });
            }
        }
    }
    check_numbers(round, pool);
}

/// Checks what can be said of the numbers while others are at it.
fn check_numbers(round: &Round, pool: &Pool) {
    // What is counted here after this has been submitted before.
    let least = round.submitted.load(Ordering::SeqCst);
    let stats = pool.stats();
    let all = stats.queued + stats.running + stats.done + stats.failed;
    round.check(all >= least, || {
        format!("{least} were submitted: {stats:?}")
    });
}

/// Kills workers of a pool until the round has ended.
fn kill_some(round: &Round, pool: &Pool, chance: &mut Chance) {
    let mut killed = [0; 8];
    let mut stopped = Vec::new();
    while !round.ended.load(Ordering::SeqCst) {
        let pause = match round.killer {
            Killer::Merciless => 1 + chance.below(20),
            _ => 1 + chance.below(60),
        };
        thread::sleep(Duration::from_millis(pause));
        let workers = pool.workers();
        if workers.is_empty() {
            continue;
        }
        let worker = &workers[chance.index(workers.len())];
        let place = worker
            .worker_index
            .unwrap_or_else(|| round.fail("no index"));
        if round.killer == Killer::Moderate && killed[place] == KILLS_OF_A_PLACE {
            continue;
        }
        killed[place] += 1;
        if chance.one_in(4) {
            signal(worker.id, Signal::SIGSTOP);
            stopped.push(worker.id);
            thread::sleep(chance.millis(20));
        }
        signal(worker.id, Signal::SIGKILL);
        round.kills.fetch_add(1, Ordering::SeqCst);
    }
}

fn signal(id: u32, signal: Signal) {
    // It may have ended since it was listed; ids are not reused that soon.
    let _ = kill(Pid::from_raw(id.cast_signed()), signal);
}

/// What all rounds have done.
#[derive(Debug, Default)]
struct Sum {
    rounds: u64,
    items: usize,
    failed: usize,
    restarts: usize,
    kills: usize,
}

fn play(seed: u64, number: u64, sum: &Mutex<Sum>) {
    let mut chance = Chance::new(seed);
    let round = Arc::new(Round::new(seed, number, &mut chance));
    let pool = round.build();
    let threads = 1 + chance.below(4);
    let operations = 3 + chance.below(8);
    thread::scope(|scope| {
        let named = |who: &str| thread::Builder::new().name(format!("{who} of {}", round.name()));
        let users: Vec<_> = (0..threads)
            .map(|_| {
                let mut chance = Chance::new(chance.next());
                let (round, pool) = (&round, &pool);
                let user = named("a user").spawn_scoped(scope, move || {
                    for _ in 0..operations {
                        operate(round, pool, &mut chance);
                    }
                });
                user.expect("there is a thread")
            })
            .collect();
        if round.killer != Killer::Nobody {
            let mut chance = Chance::new(chance.next());
            let (round, pool) = (&round, &pool);
            named("the killer")
                .spawn_scoped(scope, move || kill_some(round, pool, &mut chance))
                .expect("there is a thread");
        }
        let ends: Vec<_> = users
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        round.ended.store(true, Ordering::SeqCst);
        for end in ends {
            end.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    // What nobody waited for.
    until(|| {
        let stats = pool.stats();
        stats.queued == 0 && stats.running == 0
    });
    let stats = pool.stats();
    let (least, ended) = (
        round.submitted.load(Ordering::SeqCst),
        stats.done + stats.failed,
    );
    let most = least + round.in_doubt.load(Ordering::SeqCst);
    round.check((least..=most).contains(&ended), || {
        format!("of {least} to {most} items {ended} have ended: {stats:?}")
    });
    match chance.below(4) {
        0 => {
            pool.terminate();
            drop(pool);
        }
        _ => pool.join().unwrap_or_else(|error| round.fail(error)),
    }
    until(|| mp::active_children().is_empty());
    until(|| programs::kin().is_empty());
    let mut sum = sum.lock().unwrap_or_else(|_| round.fail("the sum"));
    sum.rounds += 1;
    sum.items += ended;
    sum.failed += stats.failed;
    sum.restarts += stats.restarts;
    sum.kills += round.kills.load(Ordering::SeqCst);
}

fn number_in(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={value} is no number")),
    )
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_chaos() {
    if !programs::is_asked("program_of_chaos") {
        return;
    }
    let chosen = number_in(SEED);
    let first = chosen.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |now| u64::from(now.subsec_nanos()) << 20 ^ now.as_secs()) % 1_000_000_000
    });
    let rounds = number_in(ROUNDS);
    let sum = Mutex::new(Sum::default());
    for number in 0..rounds.unwrap_or(DEFAULT_ROUNDS) {
        let seed = first + number;
        thread::scope(|scope| {
            // A watchdog tells the name of the thread.
            let name = format!("seed {seed}, round {number}; run again with {SEED}={seed}");
            let thread = thread::Builder::new().name(name).spawn_scoped(scope, || {
                within(LIMIT, || play(seed, number, &sum));
            });
            let end = thread.expect("there is a thread").join();
            end.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        if rounds.is_some() && (number + 1).is_multiple_of(100) {
            programs::say(format!("{:?}", sum.lock().expect("nobody panics with it")));
        }
    }
    programs::say(format!(
        "{:?}",
        sum.into_inner().expect("nobody panics with it")
    ));
}

#[test]
fn promise_02_every_call_comes_to_what_it_may_in_chaos() {
    let mut program = programs::start("program_of_chaos");
    while let Some(line) = program.hear() {
        println!("{line}");
    }
    let status = program.wait();
    assert!(
        status.success(),
        "it ended with {status}; its errors say with which seed"
    );
    program.check_gone_but(&[]);
}
