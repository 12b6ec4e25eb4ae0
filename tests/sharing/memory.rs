//! Memory that processes share: how much there can be, what becomes of it in flight, and that nothing
//! of it is left.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mp::prelude::*;
use mp::sync::{PoisonCause, TryLockError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize, Serializer, ser};

use crate::programs::{self, say, take_descriptors_but};
use crate::watchdog::{until, within};

const LIMIT: Duration = Duration::from_secs(200);
const GENEROUS: Duration = Duration::from_secs(60);
/// How long what is on its way out may take to be gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than what shares a region with others.
const LARGE: usize = 40_000;

fn program(name: &str, body: impl FnOnce()) {
    programs::program(name, LIMIT, body);
}

/// Runs the program called `name`, which must succeed.
#[track_caller]
fn check(name: &str) {
    within(LIMIT, || drop(programs::run(name)));
}

fn limit(resource: Resource, soft: u64) {
    let (_, hard) = getrlimit(resource).expect("there is such a limit");
    setrlimit(resource, soft, hard).expect("a limit can be lowered");
}

/// What this process holds.
#[derive(Debug)]
struct Holdings {
    descriptors: usize,
    shared: usize,
    mappings: usize,
    resident_kilobytes: usize,
}

impl Holdings {
    fn now() -> Holdings {
        let maps = fs::read_to_string("/proc/self/maps").expect("there is /proc");
        let status = fs::read_to_string("/proc/self/status").expect("there is /proc");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|text| text.split_whitespace().next()?.parse().ok());
        Holdings {
            descriptors: programs::open_descriptors(),
            shared: maps
                .lines()
                .filter(|line| line.contains("memfd:mp"))
                .count(),
            mappings: maps.lines().count(),
            resident_kilobytes: resident.expect("the kernel knows"),
        }
    }

    /// Whether no more is held than `before`, but for what an allocator keeps.
    fn are_within(&self, before: &Holdings) -> bool {
        self.descriptors <= before.descriptors
            && self.shared <= before.shared
            && self.mappings <= before.mappings + 60
            && self.resident_kilobytes <= before.resident_kilobytes + 24_000
    }
}

/// Runs `round` with `warm` and then `count`, and compares what is held after each.
#[track_caller]
fn check_round(warm: usize, count: usize, round: impl Fn(usize)) {
    round(warm);
    let before = Holdings::now();
    round(count);
    let done = Instant::now();
    let mut after = Holdings::now();
    while !after.are_within(&before) && done.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(20));
        after = Holdings::now();
    }
    assert!(after.are_within(&before), "{before:?} became {after:?}");
}

// How much there can be.

#[mp::process_fn]
fn sum_of_values(values: Vec<Value<u32>>) -> u64 {
    values
        .iter()
        .map(|value| u64::from(value.get().unwrap()))
        .sum()
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_a_hundred_thousand_values() {
    program("program_of_a_hundred_thousand_values", || {
        limit(Resource::RLIMIT_NOFILE, 1024);
        let values: Vec<Value<u32>> = (0..100_000).map(|n| mp::shared!(n).unwrap()).collect();
        assert!(
            values
                .iter()
                .zip(0..)
                .all(|(value, n)| value.get().unwrap() == n)
        );
        let step = values.len() / 1000;
        let sent: Vec<_> = values.iter().step_by(step).cloned().collect();
        let sum = mp::spawn!(sum_of_values(sent.clone()))
            .unwrap()
            .join()
            .unwrap();
        assert_eq!(sum, (0..1000).map(|n| n * step as u64).sum::<u64>());
        let pool = Pool::new(2).unwrap();
        let sums = pool
            .map(sum_of_values, sent.chunks(100).map(<[_]>::to_vec))
            .unwrap();
        assert_eq!(sums.iter().sum::<u64>(), sum);
        // And all at once.
        let all = pool.apply(sum_of_values, (values,)).unwrap();
        assert_eq!(all, (0..100_000).sum::<u64>());
    });
}

#[mp::process_fn]
fn give_back_summed(regions: Vec<Shared<[u32]>>) -> (u64, Vec<Shared<[u32]>>) {
    let sum = regions.iter().map(|region| u64::from(region[0])).sum();
    (sum, regions)
}

fn regions(count: u32) -> Vec<Shared<[u32]>> {
    let of = |n: u32| Shared::from_slice(&vec![n; LARGE / 4]).unwrap();
    (0..count).map(of).collect()
}

#[track_caller]
fn check_regions(back: (u64, Vec<Shared<[u32]>>), sent: &[Shared<[u32]>]) {
    assert_eq!(back.0, (0..sent.len() as u64).sum::<u64>());
    assert_eq!(back.1.len(), sent.len());
    assert!(
        sent.iter()
            .zip(&back.1)
            .all(|(one, other)| Shared::ptr_eq(one, other))
    );
    assert!(
        back.1
            .iter()
            .zip(0..)
            .all(|(region, n)| region.iter().all(|&item| item == n))
    );
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_seven_hundred_regions() {
    program("program_of_seven_hundred_regions", || {
        limit(Resource::RLIMIT_NOFILE, 1024);
        let sent = regions(700);
        let pool = Pool::new(1).unwrap();
        let there_and_back = || {
            let back = pool.apply(give_back_summed, (sent.clone(),)).unwrap();
            check_regions(back, &sent);
        };
        // What such calls go over is made with the first.
        there_and_back();
        let own = programs::open_descriptors();
        (0..2).for_each(|_| there_and_back());
        assert!(programs::open_descriptors() <= own);
        let back = mp::spawn!(give_back_summed(sent.clone()))
            .unwrap()
            .join()
            .unwrap();
        check_regions(back, &sent);
    });
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_three_thousand_regions() {
    program("program_of_three_thousand_regions", || {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        if hard < 8192 {
            return; // this machine does not have so many
        }
        limit(Resource::RLIMIT_NOFILE, 8192);
        let sent = regions(3000);
        let pool = Pool::new(1).unwrap();
        for _ in 0..2 {
            check_regions(
                pool.apply(give_back_summed, (sent.clone(),)).unwrap(),
                &sent,
            );
        }
    });
}

#[test]
fn promise_24_a_hundred_thousand_values_take_few_descriptors() {
    check("program_of_a_hundred_thousand_values");
}

#[test]
fn promise_24_seven_hundred_regions_travel_in_one_message_and_back() {
    check("program_of_seven_hundred_regions");
}

#[test]
fn promise_24_three_thousand_regions_travel_in_one_message_and_back() {
    check("program_of_three_thousand_regions");
}

// What there is not enough of.

#[mp::process_fn]
fn give_regions(count: u32) -> Vec<Shared<[u32]>> {
    regions(count)
}

#[mp::process_fn]
fn limit_descriptors(to: u64) {
    limit(Resource::RLIMIT_NOFILE, to);
}

#[mp::process_fn]
fn square(x: u64) -> u64 {
    x * x
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_without_descriptors() {
    program("program_without_descriptors", || {
        limit(Resource::RLIMIT_NOFILE, 256);
        let pool = Pool::new(1).unwrap();
        let sent = regions(20);
        check_regions(
            pool.apply(give_back_summed, (sent.clone(),)).unwrap(),
            &sent,
        );
        let own = programs::open_descriptors();
        for left in [0, 1, 2, 3, 5, 8, 12] {
            let taken = take_descriptors_but(left);
            let mut made = Vec::new();
            // Small ones share a region that there is already; some time it is full.
            let error = loop {
                match Shared::from_slice(&[0_u8; LARGE]) {
                    Ok(region) => made.push(region),
                    Err(error) => break error,
                }
            };
            assert!(made.len() <= left);
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            drop(made);
            // Results that find no room are an error of their call, and no other's.
            let back = pool.apply(give_regions, (left as u32 + 20,));
            let text = back.map(|_| ()).unwrap_err().to_string();
            assert!(
                text.contains("descriptor") || text.contains("open files"),
                "{text}"
            );
            assert_eq!(pool.apply(square, (7,)).unwrap(), 49);
            drop(taken);
            let back = pool.apply(give_regions, (3,)).unwrap();
            assert_eq!(back[2][0], 2);
            check_regions(
                pool.apply(give_back_summed, (sent.clone(),)).unwrap(),
                &sent,
            );
        }
        until(|| programs::open_descriptors() <= own);
        // The worker has no room for what it is sent.
        pool.apply(limit_descriptors, (30,)).unwrap();
        let error = pool.apply(give_back_summed, (regions(40),)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
        assert!(error.to_string().contains("descriptor"), "{error}");
        let few = regions(3);
        check_regions(pool.apply(give_back_summed, (few.clone(),)).unwrap(), &few);
        // Nor to make any.
        let error = pool.apply(give_regions, (60,)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panicked, "{error}");
        assert_eq!(pool.apply(give_regions, (3,)).unwrap().len(), 3);
        pool.apply(limit_descriptors, (256,)).unwrap();
        check_regions(
            pool.apply(give_back_summed, (sent.clone(),)).unwrap(),
            &sent,
        );
        pool.join().unwrap();
    });
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_that_cannot_send_for_want_of_descriptors() {
    program("program_that_cannot_send_for_want_of_descriptors", || {
        limit(Resource::RLIMIT_NOFILE, 256);
        let sent = regions(3);
        // Nothing of it says that it was the worker.
        let check_reason = |error: &Error| {
            let text = error.to_string();
            assert!(text.contains("open files"), "{text}");
            assert!(!text.contains("SIGKILL"), "{text}");
        };
        let check_names_call = |error: &Error| {
            let text = error.to_string();
            let before = text.split(": Too many open files").next().unwrap();
            let call = before.rsplit(": ").next().unwrap();
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            assert!(
                call.starts_with("open of ") || call.chars().all(is_name),
                "{text}"
            );
            // The number is there, too.
            let source = std::error::Error::source(error);
            let source = source.and_then(|source| source.downcast_ref::<std::io::Error>());
            let number = source.and_then(std::io::Error::raw_os_error);
            assert_eq!(number, Some(nix::libc::EMFILE), "{text}");
        };
        // There may be a server.
        mp::spawn!(square(7)).unwrap().join().unwrap();
        for left in 0..16 {
            let taken = take_descriptors_but(left);
            match mp::spawn!(give_back_summed(sent.clone())) {
                Err(error) => {
                    check_reason(&error);
                    check_names_call(&error);
                }
                Ok(process) => match process.join() {
                    Err(error) => check_reason(&error),
                    Ok(back) => check_regions(back, &sent),
                },
            }
            drop(taken);
        }
        let pool = Pool::new(1).unwrap();
        let worker = |pool: &Pool| pool.workers()[0].id;
        let before = worker(&pool);
        let taken = take_descriptors_but(1);
        let task = pool.submit(give_back_summed, (sent.clone(),)).unwrap();
        drop(taken);
        check_regions(task.join().unwrap(), &sent);
        assert_eq!(worker(&pool), before, "there were descriptors again soon");
        pool.join().unwrap();
    });
}

#[test]
fn promise_23_a_call_that_cannot_be_sent_for_want_of_descriptors_says_so() {
    check("program_that_cannot_send_for_want_of_descriptors");
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_that_has_no_room_for_a_chunk() {
    program("program_that_has_no_room_for_a_chunk", || {
        limit(Resource::RLIMIT_NOFILE, 256);
        let pool = Pool::new(1).unwrap();
        let array: Array<u32> = Array::zeroed(10).unwrap();
        assert_eq!(pool.apply(square, (7,)).unwrap(), 49);
        let taken = take_descriptors_but(0);
        let back = pool.apply(fill_and_return, (array.split(1).remove(0),));
        // Its worker is stopped, so that nobody has the chunk, and may be started again or not.
        assert!(back.is_err());
        drop(taken);
        assert!(array.lock_timeout(GENEROUS).is_ok());
        drop(
            pool.apply(fill_and_return, (array.split(1).remove(0),))
                .unwrap(),
        );
        assert!(array.lock().unwrap().iter().copied().eq(0..10));
    });
}

#[test]
fn promise_23_a_chunk_that_finds_no_room_comes_back() {
    check("program_that_has_no_room_for_a_chunk");
}

#[test]
fn promise_23_without_descriptors_there_are_errors_and_nothing_is_lost() {
    check("program_without_descriptors");
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_with_small_files() {
    program("program_with_small_files", || {
        let pool = Pool::new(1).unwrap();
        let before = mp::shared!(1_u64).unwrap();
        limit(Resource::RLIMIT_FSIZE, 4 << 20);
        let error = Shared::<[u8]>::zeroed(8 << 20).unwrap_err();
        assert!(error.to_string().contains("RLIMIT_FSIZE"), "{error}");
        let fits = Shared::<[u8]>::zeroed(1 << 20).unwrap();
        limit(Resource::RLIMIT_FSIZE, 0);
        let error = Shared::<[u8]>::zeroed(LARGE).unwrap_err();
        assert!(error.to_string().contains("RLIMIT_FSIZE"), "{error}");
        before.set(2).unwrap();
        assert_eq!(fits.len(), 1 << 20);
        assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
    });
}

#[test]
fn promise_23_a_limit_on_files_is_an_error_and_no_signal() {
    check("program_with_small_files");
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_with_little_address_space() {
    program("program_with_little_address_space", || {
        let error = Shared::<[u8]>::zeroed(1 << 46).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
        let error = Array::<u64>::zeroed(1 << 40).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
        let text = error.to_string();
        let is_count = |word: &&str| word.parse::<u64>().is_ok();
        assert_eq!(text.split(' ').filter(is_count).count(), 1, "{text}");
        let error = Shared::<[u64]>::zeroed(usize::MAX / 4).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
        let error = Array::<u64>::zeroed(usize::MAX / 8).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
        let pages = fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
        limit(Resource::RLIMIT_AS, pages * 4096 + (200 << 20));
        let own = programs::open_descriptors();
        for _ in 0..5 {
            let error = Shared::<[u8]>::zeroed(256 << 20).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
        }
        assert_eq!(programs::open_descriptors(), own);
        assert!(Shared::<[u8]>::zeroed(1 << 20).is_ok());
    });
}

#[test]
fn promise_23_more_memory_than_there_is_is_an_error() {
    check("program_with_little_address_space");
}

mp::shared! {
    static SEEN: u64 = 0;
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_whose_statics_have_no_memory() {
    if programs::is_asked("program_whose_statics_have_no_memory") {
        // There was none when they were first used.
        within(LIMIT, || {
            limit(Resource::RLIMIT_FSIZE, 0);
            SEEN.update(|seen| *seen += 1).unwrap();
            let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
            limit(Resource::RLIMIT_FSIZE, hard);
            let errors = [
                mp::spawn!(square(2)).map(|_| ()).unwrap_err(),
                Pool::new(2).map(|_| ()).unwrap_err(),
            ];
            for error in errors {
                assert_eq!(error.kind(), ErrorKind::Spawn, "{error}");
                assert!(error.to_string().contains("static"), "{error}");
            }
            assert_eq!(SEEN.get().unwrap(), 1, "it is this process's own");
        });
    }
}

#[test]
fn promise_23_statics_that_cannot_be_shared_fail_the_start() {
    check("program_whose_statics_have_no_memory");
}

/// A worker that uses a static before it comes to `init`.
#[mp::process_fn]
fn see() -> u64 {
    SEEN.update(|seen| {
        *seen += 1;
        *seen
    })
    .unwrap()
}

#[test]
#[ignore = "a program that another test runs"]
fn program_that_uses_a_static_before_init() {
    if programs::is_asked("program_that_uses_a_static_before_init") {
        // In the program and in each worker, which come through here as well.
        SEEN.update(|seen| *seen += 100).unwrap();
        mp::init();
        within(LIMIT, || {
            assert_eq!(SEEN.get().unwrap(), 100);
            // Some processes come through here, others are forked behind it.
            for n in 1..4 {
                let seen = mp::spawn!(see()).unwrap().join().unwrap();
                assert_eq!(SEEN.get().unwrap(), seen);
                assert!(seen % 100 == n && seen > 200, "{seen}");
            }
        });
    }
}

#[test]
fn a_static_is_the_same_before_init() {
    check("program_that_uses_a_static_before_init");
}

// What is left.

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_a_million_values() {
    program("program_of_a_million_values", || {
        check_round(100_000, 1_000_000, |count| {
            let mut kept = Vec::new();
            for n in 0..count {
                let value = mp::shared!(n as u64).unwrap();
                match n % 1000 {
                    0 => kept.push(value),
                    1 => kept.clear(),
                    _ => drop(value),
                }
            }
            for n in 0..count / 1000 {
                let large = Shared::from_slice(&[n as u8; LARGE]).unwrap();
                assert_eq!(large[LARGE - 1], n as u8);
            }
        });
        // All at once.
        check_round(50_000, 100_000, |count| {
            let all: Vec<_> = (0..count).map(|n| mp::shared!(n as u64).unwrap()).collect();
            assert_eq!(all[count - 1].get().unwrap(), count as u64 - 1);
        });
    });
}

#[mp::process_fn]
fn touch(value: Value<u64>, region: Shared<[u8]>) -> (Value<u64>, Shared<[u8]>, Shared<AtomicU64>) {
    value.update(|value| *value += 1).unwrap();
    let new = Shared::new(AtomicU64::new(region.len() as u64)).unwrap();
    (value, region, new)
}

#[mp::process_fn]
fn shared_mappings() -> (usize, usize) {
    let own = Holdings::now();
    (own.shared, own.descriptors)
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_values_that_travel() {
    program("program_of_values_that_travel", || {
        let pool = Pool::new(2).unwrap();
        let sizes = std::cell::RefCell::new(Vec::new());
        check_round(300, 6000, |count| {
            for _ in 0..count / 20 {
                let calls = (0..20).map(|n| {
                    let region = Shared::from_slice(&[0_u8; LARGE]).unwrap();
                    (mp::shared!(n).unwrap(), region)
                });
                let back = pool.starmap(touch, calls).unwrap();
                assert!(
                    back.iter()
                        .zip(1..)
                        .all(|(back, n)| back.0.get().unwrap() == n)
                );
                assert!(
                    back.iter()
                        .all(|back| back.2.load(Ordering::SeqCst) == LARGE as u64)
                );
            }
            sizes
                .borrow_mut()
                .push(pool.apply(shared_mappings, ()).unwrap());
        });
        let sizes = sizes.into_inner();
        // A worker keeps what it fills next, and nothing of what went through it.
        assert!(sizes[1].0 <= sizes[0].0 + 3, "{sizes:?}");
        assert!(sizes[1].1 <= sizes[0].1 + 3, "{sizes:?}");
    });
}

#[test]
fn promise_21_a_million_values_leave_nothing() {
    check("program_of_a_million_values");
}

#[test]
fn promise_21_values_that_were_sent_and_returned_leave_nothing() {
    check("program_of_values_that_travel");
}

#[mp::process_fn]
fn hold_for_ever(
    value: Value<u64>,
    region: Shared<[u8]>,
    array: Array<u8>,
    comes: Shared<AtomicU32>,
) {
    let own = Shared::from_slice(&[1_u8; LARGE]).unwrap();
    let chunks = array.split(3);
    comes.fetch_add(1, Ordering::SeqCst);
    loop {
        thread::park();
        assert!(value.get().is_ok() && region.len() + own.len() + chunks.len() > 0);
    }
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_to_be_killed_with_memory() {
    program("program_to_be_killed_with_memory", || {
        let comes = Shared::new(AtomicU32::new(0)).unwrap();
        let pool = Pool::new(2).unwrap();
        let tasks: Vec<_> = (0..2)
            .map(|n| {
                let region = Shared::from_slice(&[0_u8; LARGE]).unwrap();
                let call = (
                    mp::shared!(n).unwrap(),
                    region,
                    Array::zeroed(99).unwrap(),
                    comes.clone(),
                );
                pool.submit(hold_for_ever, call).unwrap()
            })
            .collect();
        until(|| comes.load(Ordering::SeqCst) == 2);
        say("ready");
        tasks[0].wait();
    });
}

/// How many names there are in a directory.
fn names_in(path: &str) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

#[test]
fn promise_21_nothing_is_left_when_everybody_is_killed() {
    within(LIMIT, || {
        let shm = names_in("/dev/shm");
        let directory = programs::Directory::new();
        for everybody in [true, false] {
            let mut command = programs::command("program_to_be_killed_with_memory");
            command.env("TMPDIR", directory.path());
            let mut program = programs::Program::start(command);
            program.expect("ready");
            let family = program.living();
            assert!(family.iter().any(|&id| !memory_of(id).is_empty()));
            let inodes: Vec<String> = family.iter().flat_map(|&id| memory_of(id)).collect();
            match everybody {
                true => program.signal_group(Signal::SIGKILL),
                false => program.signal(Signal::SIGKILL),
            }
            program.wait();
            program.check_gone_but(&[]);
            // Nobody has any of it. (Who is on its way out has no environment any more, by which it
            // would be known, but has its files for a moment.)
            let is_held = || {
                let mut held = programs::processes().flat_map(memory_of);
                held.any(|one| inodes.contains(&one))
            };
            until(|| !is_held());
        }
        assert_eq!(directory.entries(), Vec::<String>::new());
        let left: Vec<_> = names_in("/dev/shm")
            .into_iter()
            .filter(|name| !shm.contains(name))
            .collect();
        assert!(left.iter().all(|name| !name.contains("mp")), "{left:?}");
    });
}

/// The memory files of ours that a process has open, by their inodes.
fn memory_of(id: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten();
    let of_ours = |path: &std::path::PathBuf| {
        let target = fs::read_link(path).unwrap_or_default();
        target.to_string_lossy().starts_with("/memfd:mp")
    };
    let paths = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(of_ours);
    paths
        .filter_map(|path| {
            use std::os::unix::fs::MetadataExt as _;
            Some(fs::metadata(path).ok()?.ino().to_string())
        })
        .collect()
}

// What becomes of it in flight.

#[mp::process_fn]
fn read_late(values: Vec<Shared<AtomicU64>>) -> u64 {
    values
        .iter()
        .map(|value| value.load(Ordering::SeqCst))
        .sum()
}

#[mp::process_fn]
fn fresh(n: u64) -> (Shared<AtomicU64>, Shared<[u64]>, Array<u64>) {
    let array = Array::from_fn(10, |index| index as u64 * n).unwrap();
    (
        Shared::new(AtomicU64::new(n)).unwrap(),
        Shared::from_slice(&vec![n; LARGE]).unwrap(),
        array,
    )
}

#[mp::test]
fn what_is_sent_lives_though_nobody_holds_it() {
    within(LIMIT, || {
        let pool = Pool::new(1).unwrap();
        // All wait in the queue behind the first, and their handles are gone here.
        let tasks: Vec<_> = (0..200)
            .map(|n| {
                let values = (0..5)
                    .map(|_| Shared::new(AtomicU64::new(n)).unwrap())
                    .collect();
                pool.submit(read_late, (values,)).unwrap()
            })
            .collect();
        let sums = tasks.into_iter().map(|task| task.join().unwrap());
        assert!(sums.eq((0..200).map(|n| n * 5)));
    });
}

#[mp::test]
fn what_is_returned_lives_though_its_maker_has_ended() {
    within(LIMIT, || {
        for n in 1..30 {
            let process = mp::spawn!(fresh(n)).unwrap();
            process.wait();
            until(|| !programs::is_alive(process.id()));
            let (one, many, array) = process.join().unwrap();
            assert_eq!(one.load(Ordering::SeqCst), n);
            assert!(many.iter().all(|&item| item == n));
            assert!(
                array
                    .lock()
                    .unwrap()
                    .iter()
                    .copied()
                    .eq((0..10).map(|index| index * n))
            );
        }
        let pool = Pool::new(2).unwrap();
        let back = pool.map(fresh, 1..30).unwrap();
        drop(pool);
        assert!(back.iter().zip(1..).all(|(back, n)| back.1[LARGE - 1] == n));
    });
}

/// Writes nothing anywhere, as a format that knows no handles.
struct Elsewhere;

#[derive(Debug)]
struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl ser::Error for Refused {
    fn custom<T: std::fmt::Display>(message: T) -> Refused {
        Refused(message.to_string())
    }
}

impl Serializer for Elsewhere {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = ser::Impossible<(), Refused>;
    type SerializeTuple = Elsewhere;
    type SerializeTupleStruct = ser::Impossible<(), Refused>;
    type SerializeTupleVariant = ser::Impossible<(), Refused>;
    type SerializeMap = ser::Impossible<(), Refused>;
    type SerializeStruct = Elsewhere;
    type SerializeStructVariant = ser::Impossible<(), Refused>;

    fn serialize_bool(self, _: bool) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_i8(self, _: i8) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_i16(self, _: i16) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_i32(self, _: i32) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_i64(self, _: i64) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_u8(self, _: u8) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_u16(self, _: u16) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_u32(self, _: u32) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_u64(self, _: u64) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_u128(self, _: u128) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_f32(self, _: f32) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_f64(self, _: f64) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_char(self, _: char) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_str(self, _: &str) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_bytes(self, _: &[u8]) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_none(self) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refused> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
    ) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        value.serialize(self)
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Refused> {
        Err(Refused("a sequence".into()))
    }
    fn serialize_tuple(self, _: usize) -> Result<Elsewhere, Refused> {
        Ok(self)
    }
    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Refused> {
        Err(Refused("a tuple struct".into()))
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Refused> {
        Err(Refused("a variant".into()))
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Refused> {
        Err(Refused("a map".into()))
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Elsewhere, Refused> {
        Ok(self)
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Refused> {
        Err(Refused("a variant".into()))
    }
}

impl ser::SerializeTuple for Elsewhere {
    type Ok = ();
    type Error = Refused;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        value.serialize(Elsewhere)
    }
    fn end(self) -> Result<(), Refused> {
        Ok(())
    }
}

impl ser::SerializeStruct for Elsewhere {
    type Ok = ();
    type Error = Refused;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        value.serialize(Elsewhere)
    }
    fn end(self) -> Result<(), Refused> {
        Ok(())
    }
}

#[track_caller]
fn check_says_why(result: Result<(), impl std::fmt::Display>) {
    let text = result.map_err(|error| error.to_string()).unwrap_err();
    assert!(
        text.contains("argument") && text.contains("result"),
        "{text}"
    );
}

#[mp::test]
fn a_handle_that_is_serialized_elsewhere_is_an_error_that_says_so() {
    within(LIMIT, || {
        let value = mp::shared!(1_u64).unwrap();
        let slice = Shared::from_slice(&[1_u8; 3]).unwrap();
        let array: Array<u8> = Array::zeroed(4).unwrap();
        check_says_why(value.serialize(Elsewhere));
        check_says_why(slice.serialize(Elsewhere));
        check_says_why(array.serialize(Elsewhere));
        for chunk in array.split(2) {
            check_says_why(chunk.serialize(Elsewhere));
        }
        // The chunks are not lost with it.
        assert!(array.lock_timeout(GENEROUS).is_ok());
        let (sender, _receiver) = ipc_channel::ipc::channel::<Value<u64>>().unwrap();
        assert!(sender.send(value.clone()).is_err());
        assert_eq!(value.get().unwrap(), 1);
    });
}

#[mp::process_fn]
fn die_the_first_time((value, tries): (Value<u64>, Shared<AtomicU32>)) -> Value<u64> {
    if tries.fetch_add(1, Ordering::SeqCst) == 0 {
        raise(Signal::SIGKILL).unwrap();
    }
    value.update(|value| *value += 1).unwrap();
    value
}

#[mp::test]
fn a_handle_is_there_again_when_its_item_runs_again() {
    within(LIMIT, || {
        let pool = Pool::builder().workers(2).retries(1).build().unwrap();
        let values: Vec<Value<u64>> = (0..20).map(|n| mp::shared!(n).unwrap()).collect();
        let items = values
            .iter()
            .map(|value| (value.clone(), Shared::new(AtomicU32::new(0)).unwrap()));
        let back = pool.map(die_the_first_time, items).unwrap();
        for ((value, back), n) in values.iter().zip(&back).zip(1..) {
            assert!(Shared::ptr_eq(value, back));
            assert_eq!(value.get().unwrap(), n);
        }
    });
}

#[mp::process_fn]
fn increment(value: Value<u64>) -> Value<u64> {
    value.update(|value| *value += 1).unwrap();
    value
}

#[mp::process_fn]
fn panic_with(value: Value<u64>) -> Value<u64> {
    value.update(|value| *value += 1).unwrap();
    panic!("as always");
}

#[mp::process_fn]
fn die_with(value: Value<u64>) -> Value<u64> {
    value.update(|value| *value += 1).unwrap();
    std::process::abort();
}

#[mp::process_fn]
fn pass_down(value: Value<u64>, depth: u32) -> Value<u64> {
    if depth == 0 {
        return increment(value);
    }
    match depth % 2 {
        0 => mp::spawn!(pass_down(value, depth - 1))
            .unwrap()
            .join()
            .unwrap(),
        _ => Pool::new(1)
            .unwrap()
            .apply(pass_down, (value, depth - 1))
            .unwrap(),
    }
}

#[mp::test]
fn handles_go_wherever_values_go() {
    within(LIMIT, || {
        let value = mp::shared!(0_u64).unwrap();
        let pool = Pool::new(2).unwrap();
        let mut count = 0;
        for back in pool.imap(increment, std::iter::repeat_n(value.clone(), 50)) {
            assert!(Shared::ptr_eq(&value, &back.unwrap()));
            count += 1;
        }
        for (_, back) in pool.imap_unordered(increment, std::iter::repeat_n(value.clone(), 50)) {
            assert!(Shared::ptr_eq(&value, &back.unwrap()));
            count += 1;
        }
        let task = pool.submit(increment, (value.clone(),)).unwrap();
        assert!(Shared::ptr_eq(&value, &task.join().unwrap()));
        let task = pool.submit_map(increment, vec![value.clone(); 3]).unwrap();
        assert_eq!(task.join().unwrap().len(), 3);
        assert_eq!(value.get().unwrap(), count + 4);

        value.set(0).unwrap();
        let error = pool.apply(panic_with, (value.clone(),)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panicked);
        let error = pool.apply(die_with, (value.clone(),)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Died);
        assert_eq!(value.get().unwrap(), 2);

        value.set(0).unwrap();
        let back = pass_down(value.clone(), 3);
        assert!(Shared::ptr_eq(&value, &back));
        assert_eq!(value.get().unwrap(), 1);
    });
}

// Chunks.

#[mp::process_fn]
fn fill(mut chunk: ArrayChunk<u32>, with: u32) {
    chunk.fill(with);
}

#[mp::process_fn]
fn fill_and_return(mut chunk: ArrayChunk<u32>) -> ArrayChunk<u32> {
    let start = chunk.start() as u32;
    chunk
        .iter_mut()
        .zip(start..)
        .for_each(|(item, n)| *item = n);
    chunk
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum End {
    Killed,
    Panic,
    Exit,
}

#[mp::process_fn]
fn fill_and_end(mut chunk: ArrayChunk<u32>, end: End) {
    chunk[0] = 7;
    match end {
        End::Killed => raise(Signal::SIGKILL).unwrap(),
        End::Panic => panic!("with a chunk"),
        End::Exit => std::process::exit(0),
    }
}

#[mp::test]
fn promise_11_a_chunk_whose_holder_does_not_come_to_its_end_poisons_the_array() {
    within(LIMIT, || {
        for end in [End::Killed, End::Panic, End::Exit] {
            let array: Array<u32> = Array::zeroed(10).unwrap();
            let mut chunks = array.split(2);
            let process = mp::spawn!(fill_and_end(chunks.remove(0), end)).unwrap();
            let pid = process.id();
            process.join().unwrap_err();
            // The other one is still out.
            assert!(
                matches!(array.try_lock(), Err(TryLockError::WouldBlock)),
                "{end:?}"
            );
            chunks[0].fill(1);
            drop(chunks);
            let poisoned = array.lock().unwrap_err();
            let cause = match end {
                End::Panic => PoisonCause::Panicked { pid },
                _ => PoisonCause::OwnerDied { pid },
            };
            assert_eq!(poisoned.cause(), cause, "{end:?}");
            assert_eq!(*poisoned.into_inner(), [7, 0, 0, 0, 0, 1, 1, 1, 1, 1]);
            array.clear_poison();
            drop(array.split(3));
            assert!(array.lock().is_ok(), "{end:?}");
        }
    });
}

#[mp::process_fn]
fn kill_own_worker() {
    raise(Signal::SIGKILL).unwrap();
}

#[mp::process_fn]
fn wait_for_ever() {
    loop {
        thread::park();
    }
}

#[mp::test]
fn chunks_that_nobody_took_are_free_again() {
    within(LIMIT, || {
        let array: Array<u32> = Array::zeroed(10).unwrap();
        let is_free = || assert!(array.lock_timeout(GENEROUS).is_ok());
        // Queued behind one who dies, or kills all, or is killed.
        let pool = Pool::new(1).unwrap();
        let blocker = pool.submit(wait_for_ever, ()).unwrap();
        let tasks: Vec<_> = array
            .split(4)
            .into_iter()
            .map(|chunk| pool.submit(fill, (chunk, 1)).unwrap())
            .collect();
        assert!(matches!(array.try_lock(), Err(TryLockError::WouldBlock)));
        for task in &tasks {
            assert!(task.cancel());
        }
        is_free();
        drop(tasks);
        drop(pool.submit_map(fill_and_return, array.split(3)).unwrap());
        assert!(matches!(array.try_lock(), Err(TryLockError::WouldBlock)));
        drop(blocker);
        pool.terminate();
        is_free();

        let pool = Pool::new(1).unwrap();
        let dead = pool.submit(kill_own_worker, ()).unwrap();
        let back = pool.map(fill_and_return, array.split(3)).unwrap();
        assert_eq!(dead.join().unwrap_err().kind(), ErrorKind::Died);
        assert_eq!(back.len(), 3);
        assert!(matches!(array.try_lock(), Err(TryLockError::WouldBlock)));
        drop(back);
        is_free();

        // An iterator that is dropped before its end, results that nobody takes.
        let mut results = pool.imap(fill_and_return, array.split(9));
        let first = results.next().unwrap().unwrap();
        assert_eq!(first.start(), 0);
        drop(results);
        assert!(matches!(array.try_lock(), Err(TryLockError::WouldBlock)));
        drop(first);
        is_free();
        drop(pool.submit_map(fill_and_return, array.split(3)).unwrap());
        is_free();
        drop(mp::spawn!(fill_and_return(array.split(1).remove(0))).unwrap());
        is_free();
        assert!(array.lock().unwrap().iter().copied().eq(0..10));
        drop(pool.imap(fill_and_return, array.split(9)));
        is_free();
    });
}

#[mp::test]
fn a_chunk_that_was_returned_outlives_its_process() {
    within(LIMIT, || {
        let array: Array<u32> = Array::zeroed(10).unwrap();
        let mut chunks = array.split(2);
        let process = mp::spawn!(fill_and_return(chunks.remove(1))).unwrap();
        process.wait();
        until(|| !programs::is_alive(process.id()));
        let back = process.join().unwrap();
        assert_eq!(&back[..], [5, 6, 7, 8, 9]);
        chunks.push(back);
        for _ in 0..10 {
            let pool = Pool::new(2).unwrap();
            chunks = pool.map(fill_and_return, chunks).unwrap();
        }
        drop(chunks);
        assert!(array.lock().unwrap().iter().copied().eq(0..10));
    });
}

#[mp::process_fn]
fn split_and_return(array: Array<u32>) -> Vec<ArrayChunk<u32>> {
    let mut chunks = array.split(4);
    chunks.iter_mut().for_each(|chunk| chunk.fill(9));
    chunks
}

#[mp::test]
fn workers_split_arrays_as_well() {
    within(LIMIT, || {
        let array: Array<u32> = Array::zeroed(10).unwrap();
        for _ in 0..20 {
            let chunks = mp::spawn!(split_and_return(array.clone()))
                .unwrap()
                .join()
                .unwrap();
            assert_eq!(chunks.len(), 4);
            assert!(matches!(array.try_lock(), Err(TryLockError::WouldBlock)));
            drop(chunks);
            assert!(array.lock().unwrap().iter().all(|&item| item == 9));
        }
    });
}

#[mp::process_fn]
fn split_again_and_again(array: Array<u32>, rounds: u32) {
    for _ in 0..rounds {
        for mut chunk in array.split(3) {
            chunk.iter_mut().for_each(|item| *item += 1);
        }
    }
}

#[mp::test]
fn splits_of_two_processes_wait_for_each_other() {
    within(LIMIT, || {
        let array: Array<u32> = Array::zeroed(10).unwrap();
        let others =
            [(); 2].map(|()| mp::spawn!(split_again_and_again(array.clone(), 300)).unwrap());
        for _ in 0..300 {
            let mut items = array.lock().unwrap();
            items.iter_mut().for_each(|item| *item += 1);
        }
        for other in others {
            other.join().unwrap();
        }
        assert!(array.lock().unwrap().iter().all(|&item| item == 900));
    });
}

#[mp::test]
fn an_array_splits_into_any_number_of_chunks() {
    within(LIMIT, || {
        let array: Array<u32> = Array::zeroed(10).unwrap();
        assert!(array.split(0).is_empty());
        assert!(array.try_lock().is_ok());
        let mut chunks = array.split(25);
        assert_eq!(chunks.len(), 25);
        assert!(chunks.iter().all(|chunk| chunk.len() <= 1));
        assert_eq!(chunks.iter().map(|chunk| chunk.len()).sum::<usize>(), 10);
        let pool = Pool::new(2).unwrap();
        chunks.truncate(20);
        pool.starmap(fill, chunks.into_iter().zip(1..)).unwrap();
        assert!(array.lock().unwrap().iter().copied().eq(1..11));
        let empty: Array<u32> = Array::zeroed(0).unwrap();
        assert!(empty.split(3).iter().all(|chunk| chunk.is_empty()));
        assert!(empty.lock().is_ok());
        let large: Array<u8> = Array::zeroed(5000).unwrap();
        let message = catch_unwind(AssertUnwindSafe(|| large.split(4097).len())).unwrap_err();
        let message = message.downcast_ref::<String>().unwrap();
        assert!(message.contains("4097"), "{message}");
        assert!(large.try_lock().is_ok(), "it is as before");
    });
}

#[mp::test]
fn thousands_of_chunks_go_out_and_come_back() {
    within(LIMIT, || {
        let array: Array<u32> = Array::zeroed(100_000).unwrap();
        let chunks = array.split(4096);
        assert!(chunks.iter().all(|chunk| (24..=25).contains(&chunk.len())));
        let pool = Pool::new(2).unwrap();
        let (some, rest) = (2000, chunks);
        let mut rest = rest;
        let sent: Vec<_> = rest.drain(..some).collect();
        let back = pool.map(fill_and_return, sent).unwrap();
        assert_eq!(back.len(), some);
        drop(rest);
        assert!(matches!(array.try_lock(), Err(TryLockError::WouldBlock)));
        drop(back);
        let items = array.lock().unwrap();
        let written = items.iter().filter(|&&item| item != 0).count();
        assert!(written > some * 20 && items[60_000..].iter().all(|&item| item == 0));
    });
}

#[mp::test]
fn an_array_that_was_locked_meanwhile_refuses_a_chunk_and_nothing_else_happens() {
    within(LIMIT, || {
        // Only a chunk that nobody has any more can be passed by: its sender has ended, and nobody
        // has taken its message yet.
        let array: Array<u32> = Array::zeroed(10).unwrap();
        for _ in 0..20 {
            let process = mp::spawn!(split_and_return(array.clone())).unwrap();
            // If the chunks are back already somebody has them: the result.
            let some_time = Duration::from_millis(100);
            let locked = array.lock_timeout(some_time).map(|mut guard| guard.fill(1));
            assert!(!matches!(locked, Err(TryLockError::WouldBlock)));
            drop(locked);
            match process.join() {
                Ok(chunks) => assert!(
                    chunks
                        .iter()
                        .all(|chunk| chunk.iter().all(|&item| item == 9))
                ),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Decode, "{error}"),
            }
            array.clear_poison();
            assert!(array.lock_timeout(GENEROUS).is_ok());
        }
    });
}

#[mp::test]
fn promise_21_what_a_worker_had_is_gone_when_it_is_killed() {
    within(LIMIT, || {
        let comes = Shared::new(AtomicU32::new(0)).unwrap();
        let array: Array<u8> = Array::zeroed(99).unwrap();
        let region = Shared::from_slice(&[0_u8; LARGE]).unwrap();
        let call = (
            mp::shared!(0).unwrap(),
            region.clone(),
            array.clone(),
            comes.clone(),
        );
        let process = mp::Builder::new().spawn(hold_for_ever, call).unwrap();
        until(|| comes.load(Ordering::SeqCst) == 1);
        kill(Pid::from_raw(process.id().cast_signed()), Signal::SIGKILL).unwrap();
        let pid = process.id();
        process.join().unwrap_err();
        assert_eq!(memory_of(pid), Vec::<String>::new());
        assert_eq!(
            array.lock().unwrap_err().cause(),
            PoisonCause::OwnerDied { pid }
        );
        assert_eq!(region.len(), LARGE);
    });
}
