//! Large vectors, which lie apart from the message they belong to.

mod watchdog;

use std::fs;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use mp::{ErrorKind, Pool, StartMethod};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use watchdog::{until, within};

const LIMIT: Duration = Duration::from_secs(120);
const LARGE: usize = 3 << 20;

/// Whoever measures what this process has shared is alone.
static MEMORY: RwLock<()> = RwLock::new(());

#[mp::process_fn]
fn reverse(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.reverse();
    bytes
}

#[mp::process_fn]
fn halve(numbers: Vec<f64>) -> Vec<f64> {
    numbers.into_iter().map(|x| x / 2.0).collect()
}

/// Reads the bytes where they are, and changes none.
#[mp::process_fn]
fn add_up(bytes: &[u8], words: &[u64], name: &str) -> (u64, u64, usize) {
    let bytes = bytes.iter().map(|&byte| u64::from(byte)).sum();
    (bytes, words.iter().sum(), name.len())
}

#[mp::process_fn]
fn make(byte: u8, count: usize) -> Vec<u8> {
    vec![byte; count]
}

#[mp::process_fn]
fn die_at_first(bytes: Vec<u8>, path: String) -> u64 {
    if fs::create_dir(&path).is_ok() {
        std::process::abort();
    }
    bytes.iter().map(|&byte| u64::from(byte)).sum()
}

fn pattern(count: usize, seed: usize) -> Vec<u8> {
    (0..count).map(|n| (n * 31 + seed) as u8).collect()
}

#[mp::test]
fn large_vectors_go_there_and_come_back() {
    let _shared = MEMORY.read().unwrap_or_else(PoisonError::into_inner);
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        // About the size from which on they lie apart, and well beyond.
        for count in [0, 1, (128 << 10) - 1, 128 << 10, (128 << 10) + 1, LARGE] {
            let bytes = pattern(count, count);
            let mut back = pool.apply(reverse, (bytes.clone(),)).expect("it works");
            back.reverse();
            assert!(back == bytes, "{count}");
        }
        let numbers: Vec<f64> = (0..LARGE / 8).map(|n| n as f64).collect();
        let halves = pool.apply(halve, (numbers.clone(),)).expect("it works");
        assert!(
            halves
                .iter()
                .zip(&numbers)
                .all(|(half, x)| half * 2.0 == *x)
        );
        pool.join().expect("nothing is wrong");
    });
}

#[mp::test]
fn several_vectors_of_one_call_are_lent() {
    let _shared = MEMORY.read().unwrap_or_else(PoisonError::into_inner);
    within(LIMIT, || {
        let pool = Pool::new(1).expect("a pool can be started");
        let (bytes, words) = (vec![2; LARGE], vec![3; LARGE]);
        for name in [String::new(), "x".repeat(LARGE)] {
            let args = (bytes.clone(), words.clone(), name.clone());
            let expected = (2 * LARGE as u64, 3 * LARGE as u64, name.len());
            assert_eq!(
                pool.apply(add_up, args.clone()).expect("it works"),
                expected
            );
            let process = mp::Builder::new().spawn(add_up, args);
            let process = process.expect("a process can be started");
            assert_eq!(process.join().expect("it works"), expected);
        }
        pool.join().expect("nothing is wrong");
    });
}

#[mp::test]
fn results_that_nobody_has_taken_yet_stay_as_they_are() {
    let _shared = MEMORY.read().unwrap_or_else(PoisonError::into_inner);
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let submit = |byte| pool.submit(make, (byte, 300 << 10)).expect("it is open");
        let tasks: Vec<_> = (0..60).map(submit).collect();
        tasks.iter().for_each(mp::Task::wait);
        for (byte, task) in (0..).zip(tasks) {
            let bytes = task.join().expect("it works");
            assert!(bytes.len() == 300 << 10 && bytes.iter().all(|&one| one == byte));
        }
        let results = pool.map(reverse, (0..30).map(|seed| pattern(200 << 10, seed)));
        for (seed, mut bytes) in results.expect("it works").into_iter().enumerate() {
            bytes.reverse();
            assert!(bytes == pattern(200 << 10, seed));
        }
        pool.join().expect("nothing is wrong");
    });
}

#[mp::test]
fn a_call_that_is_tried_again_has_the_same_bytes() {
    let _shared = MEMORY.read().unwrap_or_else(PoisonError::into_inner);
    within(LIMIT, || {
        let pool = Pool::builder().workers(2).retries(1).build();
        let pool = pool.expect("a pool can be started");
        let mark = std::env::temp_dir().join(format!("mp-bulk-{}", std::process::id()));
        let path = mark.to_str().expect("it is UTF-8").to_owned();
        let tried = pool.submit(die_at_first, (vec![5; LARGE], path));
        let tried = tried.expect("it is open");
        // Others take what memory is free meanwhile.
        for seed in 0..10 {
            pool.apply(reverse, (pattern(LARGE, seed),))
                .expect("it works");
        }
        let result = tried.join();
        fs::remove_dir(&mark).expect("it was made");
        assert_eq!(result.expect("it works"), 5 * LARGE as u64);
        pool.join().expect("nothing is wrong");
    });
}

#[mp::test]
fn promise_23_without_memory_for_a_result_that_item_fails_alone() {
    let _shared = MEMORY.read().unwrap_or_else(PoisonError::into_inner);
    within(LIMIT, || {
        let pool = Pool::builder().workers(1).memory_limit(256 << 20).build();
        let pool = pool.expect("a pool can be started");
        let error = pool
            .apply(make, (1, 1 << 30))
            .expect_err("it may not have so much");
        assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
        let bytes = pool.apply(make, (1, LARGE)).expect("it may have that");
        assert_eq!(bytes.len(), LARGE);
        pool.join().expect("nothing is wrong");
    });
}

/// Leaves this process room for so many descriptors, and not for a connection.
#[mp::process_fn]
fn leave_descriptors(count: usize) {
    let entries = fs::read_dir("/proc/self/fd").expect("there is /proc");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let taken: Vec<u64> = names.filter_map(|name| name.parse().ok()).collect();
    let mut free = (0..).filter(|number| !taken.contains(number));
    let limit = free.nth(count).expect("there is another number");
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is such a limit");
    setrlimit(Resource::RLIMIT_NOFILE, limit, hard).expect("it can be lowered");
}

#[mp::process_fn]
fn kilobytes_of_worker() -> u64 {
    shared_kilobytes()
}

#[mp::test]
fn memory_of_a_result_that_cannot_be_sent_is_used_again() {
    let _shared = MEMORY.read().unwrap_or_else(PoisonError::into_inner);
    within(LIMIT, || {
        let pool = Pool::builder().workers(1).start_method(StartMethod::Exec);
        let pool = pool.build().expect("a pool can be started");
        pool.apply(leave_descriptors, (5,)).expect("it works");
        let fail = || {
            let error = pool.apply(make, (1, LARGE)).map(drop);
            let error = error.expect_err("there are too few descriptors");
            assert_eq!(error.kind(), ErrorKind::Encode, "{error}");
            pool.apply(kilobytes_of_worker, ()).expect("it works")
        };
        let first = fail();
        for _ in 0..3 {
            assert!(fail() <= first, "another one was made");
        }
        pool.join().expect("nothing is wrong");
    });
}

/// How much of the memory files that the library has made is mapped here, in kilobytes.
fn shared_kilobytes() -> u64 {
    let maps = fs::read_to_string("/proc/self/smaps").expect("there is /proc");
    let mut is_ours = false;
    let mut sum = 0;
    for line in maps.lines() {
        if line.contains("/memfd:mp") {
            is_ours = true;
        } else if line.contains('-') && line.contains(" /") {
            is_ours = false;
        } else if is_ours && let Some(size) = line.strip_prefix("Size:") {
            let size = size.trim_end_matches("kB").trim();
            sum += size.parse::<u64>().expect("it is a number");
            is_ours = false;
        }
    }
    sum
}

#[mp::test]
fn promise_21_memory_of_large_vectors_is_given_back_when_nobody_needs_it() {
    let _alone = MEMORY.write().unwrap_or_else(PoisonError::into_inner);
    within(LIMIT, || {
        let pool = Pool::new(1).expect("a pool can be started");
        // What others have left is given back first.
        pool.apply(reverse, (pattern(LARGE, 1),)).expect("it works");
        until(|| shared_kilobytes() < 2 << 10);
        let before = shared_kilobytes();
        for seed in 0..20 {
            pool.apply(reverse, (pattern(8 << 20, seed),))
                .expect("it works");
        }
        assert!(shared_kilobytes() >= before + (8 << 10));
        until(|| shared_kilobytes() <= before);
        pool.join().expect("nothing is wrong");
    });
}
