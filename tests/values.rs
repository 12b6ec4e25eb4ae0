//! Arguments and results: what travels, and what becomes of what does not.

mod watchdog;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ipc_channel::ipc::{self, IpcReceiver, IpcSender, IpcSharedMemory};
use mp::{ErrorKind, Pool, Shared, TaskOptions};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use watchdog::{until, within};

const LIMIT: Duration = Duration::from_secs(120);

/// Fails, or panics, where it is told to.
#[derive(Clone, Debug, PartialEq)]
struct Fragile {
    fails: Fails,
    /// The process in which it was made.
    home: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Fails {
    Never,
    EncodedAtHome,
    PanicsEncodedAtHome,
    DecodedAbroad,
    PanicsDecodedAbroad,
    EncodedAbroad,
    PanicsEncodedAbroad,
    DecodedAtHome,
    PanicsDecodedAtHome,
}

fn fragile(fails: Fails) -> Fragile {
    Fragile {
        fails,
        home: std::process::id(),
    }
}

impl Serialize for Fragile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_home = self.home == std::process::id();
        match (self.fails, is_home) {
            (Fails::EncodedAtHome, true) | (Fails::EncodedAbroad, false) => {
                Err(serde::ser::Error::custom("it will not be written"))
            }
            (Fails::PanicsEncodedAtHome, true) | (Fails::PanicsEncodedAbroad, false) => {
                panic!("it panics when it is written")
            }
            _ => (self.fails, self.home).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Fragile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fragile, D::Error> {
        let (fails, home) = <(Fails, u32)>::deserialize(deserializer)?;
        let is_home = home == std::process::id();
        match (fails, is_home) {
            (Fails::DecodedAbroad, false) | (Fails::DecodedAtHome, true) => {
                Err(serde::de::Error::custom("it will not be read"))
            }
            (Fails::PanicsDecodedAbroad, false) | (Fails::PanicsDecodedAtHome, true) => {
                panic!("it panics when it is read")
            }
            _ => Ok(Fragile { fails, home }),
        }
    }
}

#[mp::process_fn]
fn there_and_back(value: Fragile) -> Fragile {
    value
}

#[mp::process_fn]
fn with_handles(
    sender: IpcSender<u32>,
    region: IpcSharedMemory,
    value: Fragile,
) -> (IpcSender<u32>, IpcSharedMemory, Fragile) {
    (sender, region, value)
}

#[mp::process_fn]
fn echo(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

#[mp::process_fn]
fn many_bytes(count: usize) -> Vec<u8> {
    vec![7; count]
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .expect("there is /proc")
        .count()
}

const ERRORS: [(Fails, ErrorKind, &str); 6] = [
    (
        Fails::EncodedAtHome,
        ErrorKind::Encode,
        "it will not be written",
    ),
    (
        Fails::DecodedAbroad,
        ErrorKind::Decode,
        "it will not be read",
    ),
    (
        Fails::PanicsDecodedAbroad,
        ErrorKind::Panicked,
        "it panics when it is read",
    ),
    (
        Fails::EncodedAbroad,
        ErrorKind::Encode,
        "it will not be written",
    ),
    (
        Fails::PanicsEncodedAbroad,
        ErrorKind::Panicked,
        "it panics when it is written",
    ),
    (
        Fails::DecodedAtHome,
        ErrorKind::Decode,
        "it will not be read",
    ),
];

/// Written by `serde`, as any type of a program is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Page {
    title: String,
    lines: Vec<String>,
    pixels: Vec<u8>,
}

#[mp::process_fn]
fn turn(page: Page, numbers: Vec<u64>) -> Result<(Page, Vec<u64>), String> {
    let Page {
        title,
        mut lines,
        mut pixels,
    } = page;
    lines.reverse();
    pixels.reverse();
    Ok((
        Page {
            title,
            lines,
            pixels,
        },
        numbers,
    ))
}

/// Reads the text where it is.
#[mp::process_fn]
fn count_words(text: &str, hits: Shared<AtomicU64>) -> usize {
    let count = text.split(' ').count();
    hits.fetch_add(count as u64, Ordering::Relaxed);
    count
}

#[mp::process_fn]
fn shout(text: &str) -> String {
    text.to_uppercase()
}

fn pattern(count: usize, seed: usize) -> Vec<u8> {
    (0..count).map(|n| (n * 31 + seed) as u8).collect()
}

#[mp::test]
fn large_values_that_serde_writes_go_there_and_come_back() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let hits = Shared::new(AtomicU64::new(0)).expect("there is memory");
        let mut words = 0;
        for count in [1, 1 << 10, 12 << 10, 13 << 10, 14 << 10, 200 << 10] {
            let text = "ten bytes ".repeat(count);
            let page = Page {
                title: text.clone(),
                lines: vec!["one".into(), text.clone(), "three".into()],
                pixels: pattern(count, 3),
            };
            let numbers = vec![7; count];
            let back = pool.apply(turn, (page.clone(), numbers.clone()));
            let (mut back, same) = back.expect("it works").expect("it turns");
            back.lines.reverse();
            back.pixels.reverse();
            assert!(back == page && same == numbers, "{count}");

            assert_eq!(
                pool.apply(shout, (text.clone(),)).expect("it works"),
                text.to_uppercase()
            );
            let process = mp::spawn!(shout(text.clone())).expect("it starts");
            assert_eq!(process.join().expect("it works"), text.to_uppercase());

            // With a handle beside it.
            let counted = pool
                .apply(count_words, (text, hits.clone()))
                .expect("it works");
            assert_eq!(counted, 2 * count + 1);
            words += counted as u64;
        }
        assert_eq!(hits.load(Ordering::Relaxed), words);
        // Several of them in one call, small ones between.
        let texts = (0..20).map(|n| "word ".repeat(if n % 3 == 0 { 1 << 16 } else { n }));
        let options = TaskOptions::new().chunk_size(8);
        let shouted = pool
            .with(options)
            .map(shout, texts.clone())
            .expect("it works");
        assert!(shouted.iter().map(|text| text.to_lowercase()).eq(texts));
        pool.join().expect("nothing is wrong");
    });
}

#[mp::test]
fn promise_10_a_value_that_cannot_travel_fails_its_call_alone() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        for (fails, kind, reason) in ERRORS {
            let error = pool
                .apply(there_and_back, (fragile(fails),))
                .expect_err("it fails");
            assert_eq!(error.kind(), kind, "{fails:?}: {error}");
            assert!(error.to_string().contains(reason), "{fails:?}: {error}");
            assert!(
                error
                    .function()
                    .is_some_and(|name| name.ends_with("there_and_back"))
            );

            let process = mp::spawn!(there_and_back(fragile(fails)));
            let error = process.and_then(mp::Process::join).expect_err("it fails");
            assert_eq!(error.kind(), kind, "{fails:?}: {error}");

            // In the middle of others: that item alone.
            let items = (0..20).map(|place| fragile(if place == 7 { fails } else { Fails::Never }));
            let results: Vec<_> = pool.imap(there_and_back, items.clone()).collect();
            for (place, result) in results.into_iter().enumerate() {
                match result {
                    Ok(value) => assert_eq!(value.fails, Fails::Never),
                    Err(error) => assert_eq!((place, error.kind()), (7, kind)),
                }
            }
            let error = pool
                .map(there_and_back, items)
                .expect_err("one of them fails");
            assert_eq!((error.kind(), error.item()), (kind, Some(7)));
        }
        // A panic where the result is read is that of the one who reads it.
        let error = pool
            .apply(there_and_back, (fragile(Fails::PanicsDecodedAtHome),))
            .expect_err("it panics");
        assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
        // A panic where the arguments are written is the caller's own.
        let caught = std::panic::catch_unwind(|| {
            drop(pool.apply(there_and_back, (fragile(Fails::PanicsEncodedAtHome),)));
        });
        assert!(caught.is_err());
        let fine = pool.apply(there_and_back, (fragile(Fails::Never),));
        assert_eq!(
            fine.expect("nothing is left of all that").fails,
            Fails::Never
        );
    });
}

#[mp::test]
fn promise_10_handles_that_fail_with_their_value_are_closed() {
    within(LIMIT, || {
        let pool = Pool::new(1).expect("a pool can be started");
        let region = IpcSharedMemory::from_bytes(b"shared");
        let round = || {
            for (fails, kind, _) in ERRORS {
                let (sender, receiver) = ipc::channel::<u32>().expect("a channel can be made");
                let args = (sender, region.clone(), fragile(fails));
                let error = pool
                    .apply(with_handles, args)
                    .map(drop)
                    .expect_err("it fails");
                assert_eq!(error.kind(), kind, "{fails:?}: {error}");
                // Every copy of the sender is gone, here and in the worker.
                assert!(receiver.recv().is_err(), "{fails:?}");
            }
        };
        round();
        let before = open_descriptors();
        for _ in 0..10 {
            round();
        }
        until(|| open_descriptors() <= before);
    });
}

#[mp::process_fn]
fn exchange(
    numbers: IpcReceiver<u32>,
    squares: IpcSender<u32>,
    region: IpcSharedMemory,
) -> (usize, IpcReceiver<String>) {
    let (sender, receiver) = ipc::channel().expect("a channel can be made");
    while let Ok(number) = numbers.recv() {
        squares.send(number * number).expect("somebody receives");
    }
    sender
        .send("from the worker".to_owned())
        .expect("a small message fits");
    (region.len(), receiver)
}

#[mp::test]
fn ends_of_channels_and_regions_travel_both_ways() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        for round in 0..3 {
            let (to_worker, numbers) = ipc::channel().expect("a channel can be made");
            let (squares, from_worker) = ipc::channel().expect("a channel can be made");
            let region = IpcSharedMemory::from_byte(1, 5000);
            let task = pool
                .submit(exchange, (numbers, squares, region))
                .expect("the pool is open");
            for number in 0..5 {
                to_worker.send(number + round).expect("the worker receives");
            }
            drop(to_worker);
            let squares: Vec<u32> = std::iter::from_fn(|| from_worker.recv().ok()).collect();
            assert!(
                squares
                    .into_iter()
                    .eq((0..5).map(|number| (number + round).pow(2)))
            );
            let (len, receiver) = task.join().expect("it returned");
            assert_eq!(len, 5000);
            assert_eq!(receiver.recv().expect("it was sent"), "from the worker");
        }
        // As many as one value may carry, and more.
        let (sender, receiver) = ipc::channel::<u32>().expect("a channel can be made");
        let senders = pool
            .apply(clone_all, (vec![sender.clone(); 40],))
            .expect("they fit");
        assert_eq!(senders.len(), 40);
        let error = pool
            .apply(clone_all, (vec![sender; 200],))
            .map(drop)
            .expect_err("too many");
        assert_eq!(error.kind(), ErrorKind::Encode);
        drop(senders);
        assert!(receiver.recv().is_err());
    });
}

#[mp::process_fn]
fn clone_all(senders: Vec<IpcSender<u32>>) -> Vec<IpcSender<u32>> {
    senders
}

#[mp::process_fn]
fn borrows(text: &str, bytes: &[u8], numbers: &[f64], map: &BTreeMap<String, u8>) -> String {
    format!("{text} {bytes:?} {numbers:?} {map:?}")
}

#[mp::test]
fn borrowed_parameters_are_sent_as_owned_values() {
    within(LIMIT, || {
        let map = BTreeMap::from([("a".to_owned(), 1)]);
        let expected = borrows("häß", &[1, 2], &[0.5], &map);
        let args = ("häß".to_owned(), vec![1, 2], vec![0.5], map);
        let pool = Pool::new(1).expect("a pool can be started");
        assert_eq!(
            pool.apply(borrows, args.clone()).expect("it returned"),
            expected
        );
        let process = mp::Builder::new()
            .spawn(borrows, args)
            .expect("a process can be started");
        assert_eq!(process.join().expect("it returned"), expected);
    });
}

#[mp::test]
fn promise_14_a_process_ends_whatever_it_has_sent() {
    within(LIMIT, || {
        let process = mp::spawn!(many_bytes(50_000_000)).expect("a process can be started");
        // Nobody asks for the result.
        process.wait();
        assert!(process.exit_status().is_some_and(|status| status.success()));
        let bytes = process.join().expect("it is kept");
        assert!(bytes.len() == 50_000_000 && bytes.iter().all(|&byte| byte == 7));
        drop(mp::spawn!(many_bytes(50_000_000)).expect("a process can be started"));
        until(|| mp::active_children().is_empty());
    });
}

#[mp::test]
fn promise_14_two_sides_that_both_send_much_do_not_wait_for_each_other() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let items: Vec<Vec<u8>> = (0..12).map(|place| vec![place; 5_000_000]).collect();
        let back = pool.map(echo, items.clone()).expect("they come back");
        assert!(back == items);
        let tasks: Vec<_> = items
            .iter()
            .map(|item| {
                pool.submit(echo, (item.clone(),))
                    .expect("the pool is open")
            })
            .collect();
        for (task, item) in tasks.into_iter().zip(&items) {
            assert!(task.join().expect("it comes back") == *item);
        }
    });
}

#[mp::test]
#[ignore = "five gibibytes there and back take a while and twenty of memory"]
fn promise_15_five_gibibytes_travel() {
    let size = 5 << 30;
    let bytes = mp::spawn!(many_bytes(size)).and_then(mp::Process::join);
    assert_eq!(bytes.expect("they come back").len(), size);
}
