//! A worker that writes whatever it likes, wherever it can: its parent neither panics nor hangs, and
//! what it is told is an end, nonsense, or records that lie in what came.
//!
//! `MP_FUZZ_CASES` says how many cases there are, `MP_FUZZ_SEED` with which one they begin.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::Duration;

use super::within;
use crate::link::message::{self, record_head};
use crate::link::parent::{Ending, open};
use crate::link::{CallHead, Connection, Event, Events, Lanes, Link, Report, Status, Table};
use crate::os::carrier;
use crate::os::futex;
use crate::os::memory;
use crate::os::pidfd::PidFd;
use crate::os::shared_page::SharedPage;
use crate::sync::atomic::Ordering;
use crate::wire::{self, Freight, Outbox};

// As in `lanes.rs` and `shared_page.rs`.
const UP_TAIL: usize = 0;
const UP_HEAD: usize = 1;
const UP_BELL: usize = 2;
const ROOM_BELL: usize = 3;
const DOWN_HEAD: usize = 5;
const CLAIM: usize = 7;
const RUNNING: usize = 8;
const STARTED: usize = 9;
const WORD_COUNT: usize = 13;
const WORDS_BYTES: usize = 16 * 64;
const UP_BYTES: usize = 64 << 10;

/// How many cases there are if nobody says.
const CASES: u64 = 150;
/// How much each of them does.
const STEPS: u32 = 400;

/// xorshift64* (Vigna, 2016).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A number as a mistake, or a liar, would have it.
    fn number(&mut self) -> u64 {
        match self.below(6) {
            0 => self.below(16),
            1 => u64::MAX - self.below(16),
            2 => UP_BYTES as u64 + self.below(16) - 8,
            3 => u64::from(u32::MAX) + self.below(16) - 8,
            4 => self.below(2 * UP_BYTES as u64),
            _ => self.next() << 32 | self.next(),
        }
    }
}

/// A process that can be killed, and does nothing.
struct Body(Child);

impl Body {
    fn start() -> Body {
        let mut command = Command::new("sleep");
        command.arg("infinity").stdin(Stdio::null());
        Body(command.spawn().expect("there is such a program"))
    }

    fn pidfd(&self) -> Arc<PidFd> {
        Arc::new(PidFd::open(self.0.id()).expect("it is there"))
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a worker has of a link.
struct Stranger {
    page: SharedPage,
    outbox: Outbox,
    /// Where it put its last record, if it did so in order.
    tail: u64,
}

/// The kernel has told of its end.
struct Farewell(Ending, Outbox);

impl Farewell {
    fn say(self) {
        let Farewell(ending, outbox) = self;
        ending.tell();
        // It waits while the socket is full.
        thread::spawn(move || {
            let _ = outbox.send(message::FAREWELL, &[], &[], None);
        });
    }
}

fn meet(pidfd: Arc<PidFd>) -> (Link, Events, Farewell, Stranger) {
    let (lanes, fd) = Lanes::create().expect("there is memory");
    let bytes = memory::sealed_bytes(&fd).expect("it can be asked");
    let page = SharedPage::attach(&fd, bytes - WORDS_BYTES).expect("there is memory");
    let (down, _inbox) = wire::connect().expect("there are descriptors");
    let (outbox, up) = wire::connect().expect("there are descriptors");
    let (carrier, _there) = carrier::pair().expect("there are descriptors");
    let freight = Freight::over(carrier);
    let connection = Connection::of(down, up, outbox.clone(), freight);
    let (link, events, ending) = open(lanes, connection, pidfd);
    let farewell = Farewell(ending, outbox.clone());
    let stranger = Stranger {
        page,
        outbox,
        tail: 0,
    };
    (link, events, farewell, stranger)
}

impl Stranger {
    /// Puts bytes where the next record is to be, and says so.
    fn put(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let at = self.tail as usize % UP_BYTES;
            self.page.write(at, std::slice::from_ref(byte));
            self.tail = self.tail.wrapping_add(1);
        }
        self.page.word(UP_TAIL).store(self.tail, Ordering::SeqCst);
        self.ring();
    }

    fn ring(&self) {
        futex::wake_kinds(self.page.sleeping_word(UP_BELL), 3);
    }

    /// Does something that it should not do, or should.
    fn act(&mut self, random: &mut Random) {
        match random.below(12) {
            0..4 => {
                let status = Status::from_number(random.below(8) as u32);
                let count = match random.below(8) {
                    0 => random.number() as usize % UP_BYTES,
                    _ => random.below(64) as usize,
                };
                let head = record_head(status, random.below(4) == 0, count);
                let bytes = vec![random.next() as u8; count];
                self.put(&[&head, &bytes[..]].concat());
            }
            4 => {
                let bytes: Vec<u8> = (0..random.below(40)).map(|_| random.next() as u8).collect();
                self.put(&bytes);
            }
            5 => {
                self.tail = match random.below(2) {
                    0 => self.page.word(UP_HEAD).load(Ordering::SeqCst),
                    _ => random.number(),
                };
                self.page.word(UP_TAIL).store(self.tail, Ordering::SeqCst);
            }
            6 => {
                let word = [UP_HEAD, DOWN_HEAD, CLAIM, RUNNING, STARTED][random.below(5) as usize];
                self.page
                    .word(word)
                    .store(random.number(), Ordering::SeqCst);
            }
            7 => {
                let word = self.page.word(random.below(WORD_COUNT as u64) as usize);
                word.fetch_xor(1 << random.below(64), Ordering::SeqCst);
            }
            8 => {
                let word = [UP_BELL, ROOM_BELL][random.below(2) as usize];
                let word = self.page.sleeping_word(word);
                word.store(random.number() as u32, Ordering::SeqCst);
            }
            9 => {
                let offset = random.below(UP_BYTES as u64 - 8) as usize;
                self.page.write(offset, &random.next().to_le_bytes());
            }
            10 => {
                // A few, so that the socket has room for them and nobody waits here.
                if random.below(8) == 0 {
                    let kind = random.below(6) as u8;
                    let bytes = random.next().to_le_bytes();
                    let count = random.below(9) as usize;
                    let _ = self.outbox.send(kind, &bytes[..count], &[], None);
                }
            }
            _ => self.ring(),
        }
    }
}

/// What every parent does with records.
fn look_at(report: &Report) -> usize {
    let records = report.records();
    for record in &records {
        let bytes = report.bundle.reply.open().bytes.get(record.payload.clone());
        assert!(bytes.is_some(), "a record lies outside of its message");
    }
    records.len()
}

/// What a keeper does. Tells how it ended: whether with nonsense.
fn keep(events: &Events) -> bool {
    loop {
        match events.next() {
            Event::Records(report, _turn) => {
                look_at(&report);
            }
            Event::Ended => return false,
            Event::Broken(reason) => {
                assert!(!reason.is_empty());
                return true;
            }
        }
    }
}

/// What others do meanwhile who call, wait and cancel.
fn attend(link: &Link, random: &mut Random) {
    match random.below(12) {
        0..3 => {
            if let Some((report, _turn)) = link.poll() {
                look_at(&report);
            }
        }
        3 => link.leave_to_keeper(),
        4 => link.spare_keeper(),
        5 => {
            link.sleep(Some(Duration::from_micros(100)), || false);
        }
        6 => {
            link.take_back();
        }
        7 => {
            link.running();
            link.is_out_of_memory();
        }
        8 => link.cancel(random.next() as u32),
        9 => link.wake_waiters(),
        10 if link.takes_more() => {
            let args = vec![1; random.below(2000) as usize];
            let head = CallHead {
                number: link.next_number(1),
                count: 1,
                ..CallHead::default()
            };
            link.call_lightly(head, Table::Even(args.len() as u32), &args);
            link.wake();
        }
        _ => {
            link.has_records();
        }
    }
}

fn run(seed: u64, pidfd: Arc<PidFd>) -> bool {
    let (link, events, farewell, mut stranger) = meet(pidfd);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let keeper = scope.spawn(|| {
            let is_broken = keep(&events);
            is_over.store(true, Ordering::SeqCst);
            is_broken
        });
        let waiter = scope.spawn(|| {
            let mut random = Random::new(seed ^ u64::MAX);
            while !is_over.load(Ordering::SeqCst) {
                attend(&link, &mut random);
            }
        });
        let mut random = Random::new(seed);
        // Some end soon.
        let steps = random.below(u64::from(STEPS));
        for _ in 0..steps {
            stranger.act(&mut random);
        }
        farewell.say();
        // What has the memory from it goes on.
        while !is_over.load(Ordering::SeqCst) {
            stranger.act(&mut random);
        }
        waiter.join().expect("who waits does not panic");
        keeper.join().expect("the keeper does not panic")
    })
}

fn from_environment(variable: &str, otherwise: u64) -> u64 {
    let value = std::env::var(variable).ok();
    value.map_or(otherwise, |value| value.parse().expect("it is a number"))
}

#[test]
fn promise_26_whatever_a_worker_writes_its_parent_goes_on() {
    let first = from_environment("MP_FUZZ_SEED", 1);
    let cases = from_environment("MP_FUZZ_CASES", CASES);
    let body = Body::start();
    let broken = AtomicU64::new(0);
    thread::scope(|scope| {
        for seed in first..first + cases {
            let pidfd = body.pidfd();
            // Whatever goes wrong tells the name of its thread.
            let name = format!("MP_FUZZ_SEED={seed}");
            let case = thread::Builder::new().name(name);
            let case = case.spawn_scoped(scope, move || within(|| run(seed, pidfd)));
            let case = case.expect("there are threads");
            let is_broken = case
                .join()
                .unwrap_or_else(|_| panic!("MP_FUZZ_SEED={seed} fails"));
            broken.fetch_add(is_broken.into(), Ordering::Relaxed);
        }
    });
    let broken = broken.into_inner();
    // Both ends are reached, or this does not test what it should.
    assert!(
        cases < CASES || (broken > 0 && broken < cases),
        "{broken} of {cases}"
    );
}

/// A record without payload.
fn record(is_last: bool) -> [u8; 4] {
    record_head(Some(Status::Returned), is_last, 0)
}

#[test]
fn nonsense_that_somebody_else_finds_is_told_to_the_keeper() {
    within(|| {
        let body = Body::start();
        let (link, events, _farewell, mut stranger) = meet(body.pidfd());
        stranger.put(&[0xff; 4]);
        assert!(link.poll().is_none());
        // Whatever comes behind it counts no more, for nobody knows which items it is of.
        stranger.put(&record(true));
        assert!(link.poll().is_none() && !link.has_records());
        assert!(matches!(events.next(), Event::Broken(_)));

        let (link, events, _farewell, stranger) = meet(body.pidfd());
        let tail = UP_BYTES as u64 + 1;
        stranger.page.word(UP_TAIL).store(tail, Ordering::SeqCst);
        assert!(link.poll().is_none() && !link.has_records());
        // It takes back what it said.
        stranger.page.word(UP_TAIL).store(0, Ordering::SeqCst);
        assert!(matches!(events.next(), Event::Broken(_)));
    });
}

#[test]
fn a_worker_cannot_say_its_own_farewell() {
    within(|| {
        let body = Body::start();
        let (_link, events, farewell, mut stranger) = meet(body.pidfd());
        stranger.put(&record_head(None, true, 0));
        let said = stranger.outbox.send(message::FAREWELL, &[], &[], None);
        said.expect("there is room");
        assert!(matches!(events.next(), Event::Broken(_)));
        farewell.say();

        // The parent can, and what was announced never comes then.
        let (_link, events, farewell, mut stranger) = meet(body.pidfd());
        stranger.put(&record(false));
        stranger.put(&record_head(None, true, 0));
        farewell.say();
        let Some(Event::Records(report, turn)) = events.take() else {
            panic!("one was put")
        };
        assert_eq!(look_at(&report), 1);
        drop(turn);
        assert!(matches!(events.next(), Event::Ended));
    });
}

#[test]
fn a_farewell_is_believed_when_the_kernel_says_so() {
    within(|| {
        let mut body = Body::start();
        let pidfd = body.pidfd();
        let (_link, events, farewell, mut stranger) = meet(Arc::clone(&pidfd));
        assert!(!pidfd.has_ended());
        body.0.kill().expect("it is ours");
        body.0.wait().expect("it is ours");
        assert!(pidfd.has_ended());
        // It may be said before the link is told.
        stranger.put(&record_head(None, true, 0));
        let said = stranger.outbox.send(message::FAREWELL, &[], &[], None);
        said.expect("there is room");
        assert!(matches!(events.next(), Event::Ended));
        farewell.say();
    });
}

#[test]
fn a_farewell_that_finds_no_room_goes_with_its_link() {
    within(|| {
        let body = Body::start();
        let (link, events, farewell, mut stranger) = meet(body.pidfd());
        let outbox = stranger.outbox.clone();
        // Until the socket is full, and further.
        let floods = thread::spawn(move || {
            let bytes = vec![1; 64 << 10];
            while outbox
                .send(message::LARGE_RECORD, &bytes, &[], None)
                .is_ok()
            {}
        });
        stranger.put(&record_head(None, true, 0));
        assert!(matches!(events.next(), Event::Records(..)));
        stranger.put(&record_head(None, true, 0));
        farewell.say();
        // A record, or the end, if the farewell found room after all.
        assert!(!matches!(events.next(), Event::Broken(_)));
        // Nobody receives any more: both senders end.
        drop((link, events));
        floods.join().expect("it does not panic");
    });
}

#[test]
fn what_was_left_when_the_worker_had_ended_is_taken_once_and_by_the_keeper() {
    within(|| {
        let body = Body::start();
        let (link, events, farewell, mut stranger) = meet(body.pidfd());
        stranger.put(&record(false));
        farewell.say();
        // Another process may have its memory.
        assert!(link.poll().is_none() && !link.has_records());
        assert!(!link.sleep(None, || false));
        stranger.put(&record(false));
        let Event::Records(report, turn) = events.next() else {
            panic!("two were put")
        };
        assert_eq!(look_at(&report), 2);
        drop(turn);
        stranger.put(&record(false));
        assert!(matches!(events.next(), Event::Ended));
    });
}
