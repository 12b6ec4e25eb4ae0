//! Producers and consumers of one channel that are killed at random and replaced, again and again.
//!
//! Each message has the number of its producer and its own; each consumer writes down what it has
//! received. In the end, of each producer that there ever was:
//!
//! - every message is whole, comes at most once, and in order to each consumer;
//! - every message whose send had returned is received; a consumer that was killed may have taken
//!   one with it that it had not written down yet;
//! - of those whose send had not returned there is one at most.
//!
//! For hours: `MP_SOAK_KILLS=1000000 cargo test --release --test channel_soak`.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod programs;
mod watchdog;

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mp::prelude::*;

use programs::Directory;
use watchdog::within;

const PRODUCERS: usize = 3;
const CONSUMERS: usize = 3;
/// So many kills there are if the environment does not say.
const KILLS: u64 = 300;
/// An unbounded channel has about so many messages at most.
const MOST_BEHIND: usize = 300;

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn new() -> Random {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Random(now.map_or(1, |now| u64::from(now.subsec_nanos())) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = scrambled(self.0);
        self.0 % limit
    }
}

/// As splitmix64 has it.
fn scrambled(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The producer in the high half, and which of its messages it is.
fn ticket(producer: u32, number: u64) -> u64 {
    u64::from(producer) << 32 | number
}

/// The message of a ticket: 8 bytes to 200 KB, most of them short.
fn message(ticket: u64) -> Vec<u64> {
    let random = scrambled(ticket);
    let most = match random % 10 {
        0..7 => 20,
        7 | 8 => 1_000,
        _ => 25_000,
    };
    vec![ticket; 1 + (random >> 8) as usize % most]
}

#[mp::process_fn]
fn produce(
    tx: Sender<Vec<u64>>,
    producer: u32,
    sent: Shared<AtomicU64>,
    is_over: Shared<AtomicU64>,
) {
    for number in 0.. {
        while tx.len() > MOST_BEHIND {
            thread::sleep(Duration::from_millis(1));
        }
        if is_over.load(Ordering::SeqCst) != 0 {
            return;
        }
        tx.send(message(ticket(producer, number))).unwrap();
        sent.store(number + 1, Ordering::SeqCst);
    }
}

#[mp::process_fn]
fn consume(rx: Receiver<Vec<u64>>, log: String) {
    let mut log = OpenOptions::new()
        .append(true)
        .create(true)
        .open(log)
        .unwrap();
    let mut messages = rx.iter();
    for received in messages.by_ref() {
        let ticket = received[0];
        assert!(
            received == message(ticket),
            "a message is not whole: {ticket:x}"
        );
        log.write_all(&ticket.to_le_bytes()).unwrap();
    }
    assert_eq!(messages.error().unwrap().kind(), ErrorKind::Closed);
}

/// What is known of a producer.
struct Account {
    sent: Shared<AtomicU64>,
    is_received: Vec<bool>,
}

struct Soak {
    tx: Sender<Vec<u64>>,
    rx: Receiver<Vec<u64>>,
    is_over: Shared<AtomicU64>,
    directory: Directory,
    accounts: Vec<Account>,
    logs: u32,
    killed_consumers: usize,
}

impl Soak {
    fn new((tx, rx): (Sender<Vec<u64>>, Receiver<Vec<u64>>)) -> Soak {
        Soak {
            tx,
            rx,
            is_over: Shared::new(AtomicU64::new(0)).unwrap(),
            directory: Directory::new(),
            accounts: Vec::new(),
            logs: 0,
            killed_consumers: 0,
        }
    }

    fn start_producer(&mut self) -> Process<()> {
        let number = u32::try_from(self.accounts.len()).unwrap();
        let sent = Shared::new(AtomicU64::new(0)).unwrap();
        self.accounts.push(Account {
            sent: sent.clone(),
            is_received: Vec::new(),
        });
        let (tx, is_over) = (self.tx.clone(), self.is_over.clone());
        mp::spawn!(produce(tx, number, sent, is_over)).unwrap()
    }

    /// A consumer, and what it writes to.
    fn start_consumer(&mut self) -> (Process<()>, String) {
        let log = self.directory.join(&self.logs.to_string());
        self.logs += 1;
        let process = mp::spawn!(consume(self.rx.clone(), log.clone())).unwrap();
        (process, log)
    }

    /// Enters what a consumer has received, which has ended.
    fn settle(&mut self, log: &str) {
        // It may have been killed before it made it.
        let bytes = fs::read(log).unwrap_or_default();
        let (tickets, rest) = bytes.as_chunks::<8>();
        assert!(rest.is_empty(), "a ticket was not written whole");
        let mut last: HashMap<u64, u64> = HashMap::new();
        for &bytes in tickets {
            let ticket = u64::from_le_bytes(bytes);
            let (producer, number) = (ticket >> 32, ticket & 0xffff_ffff);
            let before = last.insert(producer, number);
            assert!(
                before.is_none_or(|before| before < number),
                "not in order: {ticket:x}"
            );
            let account = &mut self.accounts[producer as usize];
            let number = number as usize;
            if account.is_received.len() <= number {
                account.is_received.resize(number + 1, false);
            }
            let was_received = std::mem::replace(&mut account.is_received[number], true);
            assert!(!was_received, "it came twice: {ticket:x}");
        }
        if !bytes.is_empty() {
            fs::remove_file(log).unwrap();
        }
    }

    fn run(mut self, kills: u64) {
        let mut random = Random::new();
        let mut producers: Vec<_> = (0..PRODUCERS).map(|_| self.start_producer()).collect();
        let mut consumers: Vec<_> = (0..CONSUMERS).map(|_| self.start_consumer()).collect();
        for _ in 0..kills {
            thread::sleep(Duration::from_micros(random.below(12_000)));
            let slot = random.below((PRODUCERS + CONSUMERS) as u64) as usize;
            match slot.checked_sub(PRODUCERS) {
                None => {
                    check_killed(&producers[slot]);
                    producers[slot] = self.start_producer();
                }
                Some(slot) => {
                    check_killed(&consumers[slot].0);
                    let next = self.start_consumer();
                    let (_, log) = std::mem::replace(&mut consumers[slot], next);
                    self.settle(&log);
                    self.killed_consumers += 1;
                }
            }
        }
        self.is_over.store(1, Ordering::SeqCst);
        for process in producers {
            process.join().unwrap();
        }
        let (unused, _) = mp::channel(1).unwrap();
        drop(std::mem::replace(&mut self.tx, unused));
        for (process, log) in consumers {
            process.join().unwrap();
            self.settle(&log);
        }
        assert!(self.rx.is_empty());
        self.check();
    }

    fn check(&self) {
        let (mut received, mut lost) = (0, 0);
        for account in &self.accounts {
            let sent = account.sent.load(Ordering::SeqCst) as usize;
            let arrived = &account.is_received;
            assert!(
                arrived.len() <= sent + 1,
                "more was received than ever sent"
            );
            let count = arrived[..sent.min(arrived.len())]
                .iter()
                .filter(|&&is| is)
                .count();
            received += count;
            lost += sent - count;
        }
        println!(
            "{} producers, {} consumers killed, {received} received, {lost} went with them",
            self.accounts.len(),
            self.killed_consumers
        );
        assert!(lost <= self.killed_consumers, "{lost} messages were lost");
        assert!(received > 0);
    }
}

/// Kills a process that must have been at work.
#[track_caller]
fn check_killed(process: &Process<()>) {
    assert!(!process.is_finished(), "it has failed: {process:?}");
    process.kill().unwrap();
    process.wait();
}

fn soak<T>(open: impl FnOnce() -> Result<(Sender<Vec<u64>>, Receiver<Vec<u64>>), T>)
where
    T: std::fmt::Debug,
{
    let kills = std::env::var("MP_SOAK_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    within(Duration::from_secs(300 + kills), || {
        Soak::new(open().unwrap()).run(kills);
    });
}

#[mp::test]
fn promise_12_a_bounded_channel_outlives_all_who_are_killed_in_it() {
    soak(|| mp::channel(16));
}

#[mp::test]
fn promise_12_an_unbounded_channel_outlives_all_who_are_killed_in_it() {
    soak(mp::unbounded_channel);
}
