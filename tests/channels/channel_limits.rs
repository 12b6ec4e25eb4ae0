//! Channels and queues where something is scarce, in the way, or wrong: memory, descriptors, signals,
//! and peers that write nonsense.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mp::prelude::*;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::interruption::be_interrupted;
use crate::programs::{self, say, take_descriptors_but};
use crate::watchdog::{until, within};

const LIMIT: Duration = Duration::from_secs(200);
/// How long somebody waits for what must not be waited for: long enough for any machine.
const GENEROUS: Duration = Duration::from_secs(60);

fn program(name: &str, body: impl FnOnce()) {
    programs::program(name, LIMIT, body);
}

/// Runs the program called `name`, which must succeed.
#[track_caller]
fn check(name: &str) {
    within(LIMIT, || {
        let end = programs::start(name).finish();
        let last = end.said.last();
        assert!(
            end.status.success(),
            "`{name}` ended with {}, at {last:?}",
            end.status
        );
    });
}

fn limit(resource: Resource, soft: u64) {
    let (_, hard) = getrlimit(resource).unwrap();
    setrlimit(resource, soft.min(hard), hard).unwrap();
}

/// The addresses that this process has, in bytes.
fn address_space() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
    pages * 4096
}

/// The files of memory that this process has open, each once: how much there could be of each, how
/// much there is, and its path.
fn memory_files() -> Vec<(u64, u64, PathBuf)> {
    let mut files = HashMap::new();
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        let path = entry.unwrap().path();
        let name = fs::read_link(&path).unwrap_or_default();
        if name.to_string_lossy().contains("memfd:mp")
            && let Ok(status) = fs::metadata(&path)
        {
            files.insert(status.ino(), (status.size(), status.blocks() * 512, path));
        }
    }
    files.into_values().collect()
}

fn memory_bytes() -> u64 {
    memory_files().iter().map(|(_, bytes, _)| bytes).sum()
}

fn available_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap() * 1024
}

// Memory comes and goes.

const KEPT: u64 = 20 << 20;

#[mp::process_fn]
fn receive_all(rx: Receiver<Vec<u64>>) -> u64 {
    rx.iter()
        .zip(0..)
        .map(|(message, number)| u64::from(message[0] == number))
        .sum()
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_that_piles_messages_up() {
    program("program_that_piles_messages_up", || {
        // Half as much if there is little.
        let count = if available_bytes() > 3 << 30 {
            1024
        } else {
            256
        };
        let queue = Queue::unbounded().unwrap();
        for round in 0..2 {
            for number in 0..count {
                queue.put(vec![number; 1 << 17]).unwrap();
            }
            assert!(memory_bytes() >= count << 20);
            assert_eq!(queue.len() as u64, count);
            for number in 0..count {
                let message: Vec<u64> = queue.get().unwrap();
                assert!(message.len() == 1 << 17 && message[(1 << 17) - 1] == number);
            }
            let left = memory_bytes();
            assert!(left <= KEPT, "{left} bytes are left after round {round}");
        }
        drop(queue);
        // The same, taken by another process.
        let (tx, rx) = mp::unbounded_channel().unwrap();
        for number in 0..count {
            tx.send(vec![number; 1 << 17]).unwrap();
        }
        let receiver = mp::spawn!(receive_all(rx.clone())).unwrap();
        drop(tx);
        assert_eq!(receiver.join().unwrap(), count);
        let left = memory_bytes();
        assert!(left <= KEPT, "{left} bytes are left");
    });
}

#[test]
fn an_unbounded_queue_grows_to_a_gibibyte_and_shrinks_again() {
    check("program_that_piles_messages_up");
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_that_never_empties_a_queue() {
    program("program_that_never_empties_a_queue", || {
        let queue = Queue::unbounded().unwrap();
        let message = |number: u64| vec![number; (number * 7919 % 1500) as usize + 1];
        for number in 0..100_000 {
            queue.put(message(number)).unwrap();
            if number >= 10 {
                assert!(queue.get().unwrap() == message(number - 10));
            }
        }
        let left = memory_bytes();
        assert!(
            left <= 2 << 20,
            "for ten messages of 12 KB there are {left} bytes"
        );
    });
}

#[test]
fn a_queue_that_is_never_empty_takes_what_it_needs_and_no_more() {
    check("program_that_never_empties_a_queue");
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_with_a_backlog_that_goes() {
    program("program_with_a_backlog_that_goes", || {
        let queue = Queue::unbounded().unwrap();
        (0..200).for_each(|_| queue.put(vec![1_u64; 1 << 17]).unwrap());
        assert!(memory_bytes() >= 200 << 20);
        for number in 0..20_000 {
            queue
                .put(vec![number; (number * 7919 % 1500) as usize + 1])
                .unwrap();
            queue.get().unwrap();
            while queue.len() > 5 {
                queue.get().unwrap();
            }
        }
        let left = memory_bytes();
        assert!(left <= KEPT, "{left} bytes are left");
    });
}

#[test]

fn what_has_piled_up_in_a_queue_goes_though_it_is_never_empty() {
    check("program_with_a_backlog_that_goes");
}

// There is not enough memory.

#[track_caller]
fn check_usable(queue: &Queue<Vec<u8>>) {
    for bytes in [10, 100_000, 0, 1_000_000] {
        queue.put(vec![5; bytes]).unwrap();
        assert!(queue.get().unwrap() == vec![5; bytes]);
    }
}

/// Fills the queue until there is no room; that is how much there is of it.
#[track_caller]
fn fill_up(queue: &Queue<Vec<u8>>, bytes: usize) -> usize {
    let error = (0..100_000).find_map(|number| Some((number, queue.put(vec![7; bytes]).err()?)));
    let (count, error) = error.expect("there is an end");
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
    assert!(error.into_inner() == vec![7; bytes]);
    assert_eq!(queue.len(), count);
    count
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_with_small_files() {
    program("program_with_small_files", || {
        let before = Queue::unbounded().unwrap();
        limit(Resource::RLIMIT_FSIZE, 4 << 20);
        let queue = Queue::unbounded().unwrap();
        let (tx, rx) = mp::channel(2).unwrap();
        let error = queue.put(vec![1_u8; 8 << 20]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
        assert!(error.into_inner() == vec![1; 8 << 20]);
        let error = tx.send("x".repeat(5 << 20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
        assert_eq!(error.into_inner().len(), 5 << 20);
        tx.send("fits".to_owned()).unwrap();
        assert_eq!(rx.recv().unwrap(), "fits");
        check_usable(&queue);
        for bytes in [1 << 20, 60_000, 1000] {
            let count = fill_up(&queue, bytes);
            assert!(
                count * (bytes + 24) > 2 << 20,
                "only {count} of {bytes} bytes fit"
            );
            for _ in 0..count {
                assert!(queue.get().unwrap() == vec![7; bytes]);
            }
            check_usable(&queue);
        }
        // What was made before has its size.
        limit(Resource::RLIMIT_FSIZE, 100_000);
        before.put(vec![1; 8 << 20]).unwrap();
        assert_eq!(before.get().unwrap(), vec![1; 8 << 20]);
        check_usable(&queue);
    });
}

#[test]
fn promise_23_a_message_without_room_comes_back_and_the_next_one_is_sent() {
    check("program_with_small_files");
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_without_files() {
    program("program_without_files", || {
        let queue = Queue::unbounded().unwrap();
        for most in [20_000, 4096, 4095, 1, 0] {
            limit(Resource::RLIMIT_FSIZE, most);
            let error = Queue::<u8>::unbounded().unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::OutOfMemory | ErrorKind::Io),
                "{error}"
            );
            assert!(mp::channel::<u8>(1).is_err());
        }
        check_usable(&queue);
        // No number is too large.
        for most in [u64::MAX - 1, u64::MAX - 5000, 1 << 63] {
            limit(Resource::RLIMIT_FSIZE, most);
            check_usable(&Queue::unbounded().unwrap());
        }
    });
}

#[test]
fn promise_23_any_limit_on_files_is_an_error_and_no_panic() {
    check("program_without_files");
}

#[mp::process_fn]
fn receive_with_little_memory(rx: Receiver<Vec<u8>>) -> (bool, usize, usize) {
    // It is mapped by now.
    limit(Resource::RLIMIT_AS, address_space() + (30 << 20));
    let refused = [rx.recv(), rx.try_recv(), rx.recv_timeout(GENEROUS)];
    let is_told = |outcome: &Result<Vec<u8>, Error>| matches!(outcome, Err(error) if error.kind() == ErrorKind::OutOfMemory);
    let are_told = refused.iter().all(is_told);
    let left = rx.len();
    limit(Resource::RLIMIT_AS, u64::MAX);
    (are_told, left, rx.recv().map_or(0, |message| message.len()))
}

#[mp::test]
fn promise_23_a_receiver_without_memory_is_told_and_the_message_stays() {
    within(LIMIT, || {
        let (tx, rx) = mp::unbounded_channel().unwrap();
        tx.send(vec![1; 100 << 20]).unwrap();
        let process = mp::spawn!(receive_with_little_memory(rx)).unwrap();
        assert_eq!(process.join().unwrap(), (true, 1, 100 << 20));
    });
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_with_little_address_space() {
    program("program_with_little_address_space", || {
        let large = vec![1_u8; 100 << 20];
        let same = large.clone();
        limit(Resource::RLIMIT_AS, address_space() + (100 << 20));
        let own = programs::open_descriptors();
        let queue = Queue::unbounded().unwrap();
        let outcome = queue.put(large);
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
            assert!(error.into_inner() == same);
        }
        check_usable(&queue);
        drop(queue);
        let mut made = Vec::new();
        let error = loop {
            match mp::channel::<u64>(4) {
                Ok(ends) => made.push(ends),
                Err(error) => break error,
            }
        };
        assert!(
            matches!(error.kind(), ErrorKind::OutOfMemory | ErrorKind::Io),
            "{error}"
        );
        for (tx, rx) in &made {
            tx.send(1).unwrap();
            assert_eq!(rx.recv().unwrap(), 1);
        }
        made.clear();
        assert_eq!(programs::open_descriptors(), own);
        let queue = Queue::unbounded().unwrap();
        check_usable(&queue);
    });
}

#[test]
fn promise_23_channels_without_addresses_are_errors() {
    check("program_with_little_address_space");
}

// There are not enough descriptors.

#[mp::process_fn]
fn limit_descriptors(to: u64) {
    limit(Resource::RLIMIT_NOFILE, to);
}

#[mp::process_fn]
fn send_through(ends: Vec<(Sender<u64>, Receiver<u64>)>) -> u64 {
    let passed = ends.iter().map(|(tx, rx)| {
        tx.send(1).unwrap();
        rx.recv().unwrap()
    });
    passed.sum()
}

#[mp::process_fn]
fn make_channels(count: usize) -> Vec<(Sender<u64>, Receiver<u64>)> {
    (0..count).map(|_| mp::channel(1).unwrap()).collect()
}

fn channels(count: usize) -> Vec<(Sender<u64>, Receiver<u64>)> {
    (0..count).map(|_| mp::channel(1).unwrap()).collect()
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_without_descriptors() {
    program("program_without_descriptors", || {
        limit(Resource::RLIMIT_NOFILE, 256);
        let pool = Pool::new(1).unwrap();
        assert_eq!(pool.apply(send_through, (channels(3),)).unwrap(), 3);
        let own = programs::open_descriptors();
        for left in 0..9 {
            let taken = take_descriptors_but(left);
            let mut made = Vec::new();
            let error = loop {
                match mp::channel::<u64>(1) {
                    Ok(ends) => made.push(ends),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            assert_eq!(made.len(), left / 3, "a channel takes three");
            made.clear();
            let queues: Vec<_> = std::iter::from_fn(|| Queue::<u64>::bounded(1).ok()).collect();
            assert_eq!(queues.len(), left, "a queue takes one");
            drop(queues);
            // Those of a result that find no room are an error of its call alone.
            let back = pool.apply(make_channels, (4,));
            let text = back.map(|_| ()).unwrap_err().to_string();
            assert!(
                text.contains("descriptor") || text.contains("open files"),
                "{text}"
            );
            drop(taken);
            assert_eq!(pool.apply(make_channels, (4,)).unwrap().len(), 4);
            until(|| programs::open_descriptors() <= own);
        }
        // The worker has no room for what it is sent.
        pool.apply(limit_descriptors, (30,)).unwrap();
        let error = pool.apply(send_through, (channels(20),)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
        assert!(error.to_string().contains("descriptor"), "{error}");
        assert_eq!(pool.apply(send_through, (channels(2),)).unwrap(), 2);
        // Nor to make any.
        let error = pool.apply(make_channels, (20,)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panicked, "{error}");
        assert_eq!(pool.apply(make_channels, (2,)).unwrap().len(), 2);
        // What went to the worker and was lost there is held by nobody.
        let (tx, rx) = mp::channel(1).unwrap();
        let mut sent = channels(20);
        sent.push((tx, rx.clone()));
        assert!(pool.apply(send_through, (sent,)).is_err());
        assert_eq!(
            rx.recv_timeout(GENEROUS).unwrap_err().kind(),
            ErrorKind::Closed
        );
    });
}

#[test]
fn promise_23_without_descriptors_there_are_errors_and_nothing_is_lost() {
    check("program_without_descriptors");
}

// Signals.

#[mp::process_fn]
fn send_interrupted(numbers: Sender<u64>, blocks: Sender<Vec<u64>>) {
    be_interrupted();
    let end = Instant::now() + Duration::from_millis(300);
    let mut number = 0;
    while Instant::now() < end || number < 5000 {
        numbers.send(number).unwrap();
        number += 1;
    }
    numbers.send(u64::MAX).unwrap();
    for number in 0..4 {
        blocks.send(vec![number; 5 << 20]).unwrap();
    }
    for number in 4..200 {
        blocks.send(vec![number; 10_000]).unwrap();
    }
}

#[mp::process_fn]
fn receive_interrupted(numbers: Receiver<u64>, blocks: Receiver<Vec<u64>>) -> usize {
    be_interrupted();
    let mut count = 0;
    // With a pause now and then, so that who sends has to wait for room.
    while let Some(number) = Some(numbers.recv().unwrap()).filter(|&number| number != u64::MAX) {
        assert_eq!(number, count);
        count += 1;
        if count % 1000 == 0 {
            let error = blocks.recv_timeout(Duration::from_millis(5)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        }
    }
    for (block, expected) in blocks.iter().zip(0..) {
        let len = if expected < 4 { 5 << 20 } else { 10_000 };
        assert!(block.len() == len && block.iter().all(|&number| number == expected));
    }
    assert_eq!(numbers.recv().unwrap_err().kind(), ErrorKind::Closed);
    count as usize
}

#[mp::process_fn]
fn work_interrupted(queue: Queue<Vec<u8>>) {
    be_interrupted();
    while let Ok(bytes) = queue.get() {
        assert!(bytes.iter().all(|&byte| byte == 3));
        queue.task_done().unwrap();
    }
}

#[mp::process_fn]
fn put_interrupted(queue: Queue<Vec<u8>>) {
    be_interrupted();
    for number in 0..500 {
        queue.put(vec![3; number * number]).unwrap();
    }
    queue.join().unwrap();
    queue.close();
}

#[mp::test]
fn promise_25_signals_change_nothing() {
    within(LIMIT, || {
        for capacity in [2, 64] {
            let (numbers, from) = mp::channel(capacity).unwrap();
            let (blocks, of) = mp::unbounded_channel().unwrap();
            let receiver = mp::spawn!(receive_interrupted(from, of)).unwrap();
            let sender = mp::spawn!(send_interrupted(numbers, blocks)).unwrap();
            sender.join().unwrap();
            assert!(receiver.join().unwrap() >= 5000);
        }
        let queue = Queue::bounded(3).unwrap();
        let workers = [(); 2].map(|()| mp::spawn!(work_interrupted(queue.clone())).unwrap());
        mp::spawn!(put_interrupted(queue.clone()))
            .unwrap()
            .join()
            .unwrap();
        for worker in workers {
            worker.join().unwrap();
        }
    });
}

// Peers that write nonsense.

/// Numbers that look random, as splitmix64 makes them.
struct Random(u64);

impl Random {
    fn new() -> Random {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Random(now.map_or(1, |now| u64::from(now.subsec_nanos())))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Where the words of a ring are that the source gives a place.
fn words_of_a_ring() -> Vec<(&'static str, u64)> {
    const SOURCE: &str = include_str!("../../mp-runtime/src/channel/ring.rs");
    let places = SOURCE.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("const ")?.split_once(": usize = ")?;
        let offset = rest.split(';').next()?.parse().ok()?;
        (offset < 4096).then_some((name, offset))
    });
    let bounds = [("BOUNDS 0", 144), ("BOUNDS 1", 152)];
    places
        .filter(|(name, _)| !name.ends_with("BYTES"))
        .chain(bounds)
        .collect()
}

/// Writes to the memory of the only ring that this process has.
fn vandalize(offset: u64, bytes: &[u8]) {
    let rings: Vec<_> = memory_files()
        .into_iter()
        .filter(|&(size, _, _)| size > RING_LIMIT / 2)
        .collect();
    let [(_, _, path)] = &rings[..] else {
        panic!("there are {} rings", rings.len());
    };
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

#[mp::process_fn]
fn write_nonsense(queue: Queue<Vec<u8>>, offset: u64, bytes: Vec<u8>) {
    vandalize(offset, &bytes);
    drop(queue);
}

#[mp::process_fn]
fn write_nonsense_for_ever(
    queue: Queue<Vec<u8>>,
    words: Vec<u64>,
    seed: u64,
    is_at_it: Shared<AtomicU32>,
) {
    // It is mapped as long as there is a handle.
    let _queue = queue;
    let mut random = Random(seed);
    is_at_it.store(1, Ordering::SeqCst);
    loop {
        let offset = words[random.below(words.len() as u64) as usize];
        vandalize(offset, &nonsense(&mut random).to_le_bytes());
    }
}

/// A word that may mean something.
fn nonsense(random: &mut Random) -> u64 {
    let word = random.next();
    let small = word % 5000;
    match random.below(8) {
        0 => 0,
        1 => u64::MAX,
        2 => small,
        3 => small << 32 | random.below(8),
        4 => 1 << (word % 64),
        5 => word & 0x3fff_ffff,
        6 => word & 0x3f_ffff_ffff,
        _ => word,
    }
}

/// How large rings are in these tests, so that nonsense takes no more memory than that.
const RING_LIMIT: u64 = 32 << 20;

/// Whether nonsense in the memory of a queue may come to this.
fn is_documented(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::TimedOut
            | ErrorKind::Closed
            | ErrorKind::Decode
            | ErrorKind::OutOfMemory
            | ErrorKind::WouldDeadlock
    )
}

/// Whatever a call comes to, it comes to an end, and it is an outcome that is documented.
fn call_everything(queue: &Queue<Vec<u8>>) {
    let moment = Duration::from_millis(2);
    for bytes in [10, 100_000, 0] {
        let puts = [
            queue.try_put(vec![1; bytes]),
            queue.put_timeout(vec![2; bytes], moment),
        ];
        for error in puts.into_iter().filter_map(Result::err) {
            assert!(is_documented(error.kind()), "{error}");
            assert_eq!(error.into_inner().len(), bytes);
        }
    }
    for _ in 0..4 {
        let gets = [queue.try_get(), queue.get_timeout(moment)];
        for error in gets.into_iter().filter_map(Result::err) {
            assert!(is_documented(error.kind()), "{error}");
        }
    }
    let _ = (
        queue.len(),
        queue.is_empty(),
        queue.task_done(),
        queue.join_timeout(moment),
    );
    assert!(format!("{queue:?}").starts_with("Queue"));
}

/// A queue with something in it.
fn filled(number: u64) -> Queue<Vec<u8>> {
    let queue = match number % 2 {
        0 => Queue::unbounded().unwrap(),
        _ => Queue::bounded(8).unwrap(),
    };
    for number in 0..5 {
        queue.put(vec![number; 20_000]).unwrap();
    }
    for _ in 0..number % 6 {
        queue.get().unwrap();
    }
    queue
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_whose_peer_writes_nonsense() {
    program("program_whose_peer_writes_nonsense", || {
        let pool = Pool::new(1).unwrap();
        pool.apply(limit_descriptors, (64,)).unwrap();
        limit(Resource::RLIMIT_FSIZE, RING_LIMIT);
        let mut random = Random::new();
        let mut number = 0;
        let mut check = |name: &str, offset: u64, bytes: Vec<u8>| {
            number += 1;
            say(format!(
                "{name} at {offset}, {number}: {:x?}",
                &bytes[..bytes.len().min(16)]
            ));
            let queue = filled(number);
            pool.apply(write_nonsense, (queue.clone(), offset, bytes))
                .unwrap();
            call_everything(&queue);
            // Which waits as long as a lock is held, by whomever the nonsense names.
            if !name.contains("LOCK") && name != "the header" {
                queue.close();
                call_everything(&queue);
            }
        };
        let words = words_of_a_ring();
        assert!(words.len() > 14, "there are fewer words: {words:?}");
        for &(name, offset) in &words {
            for word in [0, u64::MAX, 3, 1 << 32, 70 << 32 | 2, 1 << 63] {
                check(name, offset, word.to_le_bytes().to_vec());
            }
            for _ in 0..3 {
                check(name, offset, nonsense(&mut random).to_le_bytes().to_vec());
            }
        }
        for _ in 0..30 {
            let bytes = (0..512).flat_map(|_| nonsense(&mut random).to_le_bytes());
            check("the header", 0, bytes.collect());
        }
        // The first words of messages: kinds, with all kinds of lengths.
        for kind in [0x4d67_u64, 0x4a70, 0] {
            for value in [
                0,
                1,
                7,
                20_000,
                1251,
                2502,
                5004,
                1 << 20,
                1 << 24,
                1 << 25,
                1 << 30,
                1 << 47,
                (1 << 48) - 1,
            ] {
                let word = kind << 48 | value;
                check("first words", 4096, word.to_le_bytes().repeat(13_000));
            }
        }
        for _ in 0..20 {
            let bytes = (0..20_000).flat_map(|_| nonsense(&mut random).to_le_bytes());
            check("the ring", 4096, bytes.collect());
        }
        // And others have nothing of it.
        say("the end");
        let queue = Queue::unbounded().unwrap();
        check_usable(&queue);
        assert_eq!(pool.apply(send_through, (channels(2),)).unwrap(), 2);
    });
}

#[test]
fn promise_26_nonsense_in_a_ring_is_an_error_or_a_wait_and_no_crash() {
    check("program_whose_peer_writes_nonsense");
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_whose_peer_writes_nonsense_all_the_time() {
    program("program_whose_peer_writes_nonsense_all_the_time", || {
        limit(Resource::RLIMIT_FSIZE, RING_LIMIT);
        let words: Vec<u64> = words_of_a_ring()
            .iter()
            .map(|&(_, offset)| offset)
            .collect();
        // And the first words of what is at the beginning of the ring.
        let words = words
            .into_iter()
            .chain((0..64).map(|unit| 4096 + 16 * unit))
            .collect::<Vec<_>>();
        let mut random = Random::new();
        for round in 0..8 {
            say(format!("round {round}"));
            let queue = Queue::bounded(8).unwrap();
            let seed = random.next();
            let (all, is_at_it) = (words.clone(), Shared::new(AtomicU32::new(0)).unwrap());
            let vandal = mp::spawn!(write_nonsense_for_ever(
                queue.clone(),
                all,
                seed,
                is_at_it.clone()
            ))
            .unwrap();
            until(|| is_at_it.load(Ordering::SeqCst) == 1);
            for _ in 0..30 {
                call_everything(&queue);
            }
            vandal.kill().unwrap();
            vandal.wait();
        }
    });
}

#[test]
fn promise_26_nonsense_at_every_moment_is_an_error_or_a_wait_and_no_crash() {
    check("program_whose_peer_writes_nonsense_all_the_time");
}
