//! Queues and channels against a naive model: whatever is done, in whichever order and size.
//!
//! More cases: `PROPTEST_CASES=10000 cargo test --release --test channels channel_model`.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::VecDeque;
use std::time::Duration;

use mp::prelude::*;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::programs;
use crate::watchdog::within;

const LIMIT: Duration = Duration::from_secs(1000);
/// Longer than anybody here has to wait for a lock.
const MOMENT: Duration = Duration::from_millis(1);

/// What is done; handles are chosen by number, modulo how many there are.
#[derive(Clone, Debug)]
enum Act {
    Put {
        with: usize,
        bytes: usize,
    },
    PutFor {
        with: usize,
        bytes: usize,
    },
    Get {
        with: usize,
    },
    GetFor {
        with: usize,
    },
    Drain {
        with: usize,
    },
    TaskDone {
        with: usize,
    },
    CloneSender {
        of: usize,
    },
    CloneReceiver {
        of: usize,
    },
    DropSender {
        which: usize,
    },
    DropReceiver {
        which: usize,
    },
    Close {
        with: usize,
    },
    /// By another process.
    PutElsewhere {
        with: usize,
        bytes: usize,
    },
    GetElsewhere {
        with: usize,
    },
    /// To another process and back.
    Travel {
        which: usize,
    },
}

/// Mostly small, some that wrap the part of a ring that is used over and over, some that grow it.
fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 0..64_usize, 3 => 0..5_000_usize, 3 => 10_000..60_000_usize, 1 => 60_000..400_000_usize]
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let with = || 0..8_usize;
    let act = prop_oneof![
        40 => (with(), sizes()).prop_map(|(with, bytes)| Act::Put { with, bytes }),
        2 => (with(), sizes()).prop_map(|(with, bytes)| Act::PutFor { with, bytes }),
        34 => with().prop_map(|with| Act::Get { with }),
        2 => with().prop_map(|with| Act::GetFor { with }),
        2 => with().prop_map(|with| Act::Drain { with }),
        4 => with().prop_map(|with| Act::TaskDone { with }),
        2 => with().prop_map(|of| Act::CloneSender { of }),
        2 => with().prop_map(|of| Act::CloneReceiver { of }),
        1 => with().prop_map(|which| Act::DropSender { which }),
        1 => with().prop_map(|which| Act::DropReceiver { which }),
        1 => with().prop_map(|with| Act::Close { with }),
        2 => (with(), sizes()).prop_map(|(with, bytes)| Act::PutElsewhere { with, bytes }),
        2 => with().prop_map(|with| Act::GetElsewhere { with }),
        1 => with().prop_map(|which| Act::Travel { which }),
    ];
    proptest::collection::vec(act, 1..250)
}

/// 0: unbounded.
fn capacities() -> impl Strategy<Value = usize> {
    prop_oneof![2 => Just(0), 1 => 1..4_usize, 1 => 4..100_usize]
}

/// No two are equal.
fn message(number: u64, bytes: usize) -> Vec<u8> {
    let mut message = number.to_le_bytes().repeat(bytes / 8 + 1);
    message.truncate(bytes);
    message
}

#[derive(Default)]
struct Model {
    capacity: usize,
    messages: VecDeque<Vec<u8>>,
    put: u64,
    done: u64,
    is_closed: bool,
}

impl Model {
    fn of(capacity: usize) -> Model {
        Model {
            capacity,
            ..Model::default()
        }
    }

    /// What a put that does not wait comes to.
    fn put(&mut self, message: &[u8], outcome: Result<(), (ErrorKind, Vec<u8>)>, is_tight: bool) {
        let is_full = self.capacity != 0 && self.messages.len() >= self.capacity;
        match outcome {
            Ok(()) => {
                assert!(!self.is_closed && !is_full, "it was put");
                self.messages.push_back(message.to_vec());
                self.put += 1;
            }
            Err((kind, value)) => {
                assert!(value == message, "another value came back");
                match kind {
                    ErrorKind::Closed => assert!(self.is_closed),
                    ErrorKind::TimedOut if is_tight && self.capacity != 0 => {
                        assert!(
                            is_full || !self.messages.is_empty(),
                            "an empty ring has room"
                        );
                    }
                    ErrorKind::TimedOut => assert!(is_full && !self.is_closed),
                    ErrorKind::OutOfMemory => {
                        assert!(
                            is_tight && !self.messages.is_empty(),
                            "an empty ring has room"
                        );
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn get(&mut self, outcome: Result<Vec<u8>, ErrorKind>, ends: bool) {
        let expected = match self.messages.pop_front() {
            Some(message) => Ok(message),
            None if ends => Err(ErrorKind::Closed),
            None => Err(ErrorKind::TimedOut),
        };
        assert!(outcome == expected, "it gave another message, or none");
    }
}

#[mp::process_fn]
fn put_elsewhere(queue: Queue<Vec<u8>>, message: Vec<u8>) -> Result<(), (bool, Vec<u8>)> {
    let outcome = queue.try_put(message);
    outcome.map_err(|error| (error.kind() == ErrorKind::Closed, error.into_inner()))
}

#[mp::process_fn]
fn get_elsewhere(queue: Queue<Vec<u8>>) -> Result<Vec<u8>, bool> {
    queue
        .try_get()
        .map_err(|error| error.kind() == ErrorKind::Closed)
}

#[mp::process_fn]
fn there_and_back(queue: Queue<Vec<u8>>) -> Queue<Vec<u8>> {
    queue
}

fn kind_of(is_closed: bool) -> ErrorKind {
    match is_closed {
        true => ErrorKind::Closed,
        false => ErrorKind::TimedOut,
    }
}

fn returned<T>(outcome: Result<(), mp::SendError<T>>) -> Result<(), (ErrorKind, T)> {
    outcome.map_err(|error| (error.kind(), error.into_inner()))
}

/// `elsewhere` is where other processes are; `is_tight`: a ring has little room.
fn run_queue(capacity: usize, acts: &[Act], elsewhere: &Pool, is_tight: bool) {
    let queue = match capacity {
        0 => Queue::unbounded().unwrap(),
        _ => Queue::bounded(capacity).unwrap(),
    };
    let mut handles = vec![queue];
    let mut model = Model::of(capacity);
    for (number, act) in (0..).zip(acts) {
        let count = handles.len();
        let chosen = |with: usize| &handles[with % count];
        match *act {
            Act::Put { with, bytes } => {
                let message = message(number, bytes);
                let outcome = returned(chosen(with).try_put(message.clone()));
                model.put(&message, outcome, is_tight);
            }
            Act::PutFor { with, bytes } => {
                let message = message(number, bytes);
                let outcome = returned(chosen(with).put_timeout(message.clone(), MOMENT));
                model.put(&message, outcome, is_tight);
            }
            Act::PutElsewhere { with, bytes } => {
                let message = message(number, bytes);
                let arguments = (chosen(with).clone(), message.clone());
                let outcome = elsewhere.apply(put_elsewhere, arguments).unwrap();
                // There is not enough memory, or not enough room.
                let is_full = capacity == 0;
                let outcome = outcome.map_err(|(is_closed, value)| match is_full && !is_closed {
                    true => (ErrorKind::OutOfMemory, value),
                    false => (kind_of(is_closed), value),
                });
                model.put(&message, outcome, is_tight);
            }
            Act::Get { with } => {
                let outcome = chosen(with).try_get().map_err(|error| error.kind());
                model.get(outcome, model.is_closed);
            }
            Act::GetFor { with } => {
                let outcome = chosen(with).get_timeout(MOMENT);
                model.get(outcome.map_err(|error| error.kind()), model.is_closed);
            }
            Act::GetElsewhere { with } => {
                let arguments = (chosen(with).clone(),);
                let outcome = elsewhere.apply(get_elsewhere, arguments).unwrap();
                model.get(outcome.map_err(kind_of), model.is_closed);
            }
            Act::Drain { with } => {
                while !model.messages.is_empty() {
                    model.get(chosen(with).get().map_err(|error| error.kind()), false);
                }
            }
            Act::TaskDone { with } => {
                let outcome = chosen(with).task_done();
                assert_eq!(outcome.is_ok(), model.done < model.put);
                model.done += u64::from(outcome.is_ok());
                let is_finished = chosen(with).join_timeout(Duration::ZERO).is_ok();
                assert_eq!(is_finished, model.done == model.put);
            }
            Act::CloneSender { of } | Act::CloneReceiver { of } => {
                let clone = chosen(of).clone();
                handles.push(clone);
            }
            Act::DropSender { which } | Act::DropReceiver { which } if count > 1 => {
                handles.remove(which % count);
            }
            Act::Close { with } if number % 4 == 0 => {
                chosen(with).close();
                model.is_closed = true;
            }
            Act::Travel { which } => {
                let handle = handles.remove(which % count);
                handles.push(elsewhere.apply(there_and_back, (handle,)).unwrap());
            }
            Act::DropSender { .. } | Act::DropReceiver { .. } | Act::Close { .. } => {}
        }
        assert!(
            handles
                .iter()
                .all(|queue| queue.len() == model.messages.len())
        );
    }
    handles[0].close();
    while let Ok(message) = handles[0].get() {
        model.get(Ok(message), true);
    }
    assert!(model.messages.is_empty());
}

fn run_channel(capacity: usize, acts: &[Act]) {
    let (tx, rx) = match capacity {
        0 => mp::unbounded_channel().unwrap(),
        _ => mp::channel(capacity).unwrap(),
    };
    let (mut senders, mut receivers): (Vec<Sender<Vec<u8>>>, _) = (vec![tx], vec![rx]);
    let mut model = Model::of(capacity);
    for (number, act) in (0..).zip(acts) {
        let sender = |with: usize| senders.get(with % senders.len().max(1));
        let receiver = |with: usize| receivers.get(with % receivers.len().max(1));
        match *act {
            Act::Put { with, bytes } | Act::PutElsewhere { with, bytes } => {
                if let Some(tx) = sender(with) {
                    let message = message(number, bytes);
                    model.put(&message, returned(tx.try_send(message.clone())), false);
                }
            }
            Act::PutFor { with, bytes } => {
                if let Some(tx) = sender(with) {
                    let message = message(number, bytes);
                    let outcome = returned(tx.send_timeout(message.clone(), MOMENT));
                    model.put(&message, outcome, false);
                }
            }
            Act::Get { with } | Act::GetElsewhere { with } => {
                if let Some(rx) = receiver(with) {
                    let outcome = rx.try_recv().map_err(|error| error.kind());
                    model.get(outcome, senders.is_empty());
                }
            }
            Act::GetFor { with } => {
                if let Some(rx) = receiver(with) {
                    let outcome = rx.recv_timeout(MOMENT).map_err(|error| error.kind());
                    model.get(outcome, senders.is_empty());
                }
            }
            Act::Drain { with } => {
                while let (Some(rx), false) = (receiver(with), model.messages.is_empty()) {
                    model.get(rx.recv().map_err(|error| error.kind()), false);
                }
            }
            Act::CloneSender { of } => {
                if let Some(clone) = sender(of).cloned() {
                    senders.push(clone);
                }
            }
            Act::CloneReceiver { of } => {
                if let Some(clone) = receiver(of).cloned() {
                    receivers.push(clone);
                }
            }
            // Now and then the last one.
            Act::DropSender { which } if senders.len() > usize::from(which != 0) => {
                let which = which % senders.len();
                senders.remove(which);
            }
            Act::DropReceiver { which } if receivers.len() > usize::from(which != 0) => {
                let which = which % receivers.len();
                receivers.remove(which);
                model.is_closed = receivers.is_empty();
            }
            _ => {}
        }
        let lens = senders
            .iter()
            .map(Sender::len)
            .chain(receivers.iter().map(Receiver::len));
        assert!(lens.into_iter().all(|len| len == model.messages.len()));
    }
    drop(senders);
    if let Some(rx) = receivers.pop() {
        rx.into_iter()
            .for_each(|message| model.get(Ok(message), true));
        assert!(model.messages.is_empty());
    }
}

/// Runs `body` with as many cases as the environment says, or `cases`.
fn check(cases: u32, body: impl Fn(usize, &[Act])) {
    let mut config = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    config.max_shrink_time = 60_000;
    config.failure_persistence = None;
    let strategy = (capacities(), acts());
    let outcome = TestRunner::new(config).run(&strategy, |(capacity, acts)| {
        body(capacity, &acts);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[mp::test]
fn a_queue_does_what_a_naive_one_does() {
    within(LIMIT, || {
        let pool = Pool::new(1).unwrap();
        check(60, |capacity, acts| run_queue(capacity, acts, &pool, false));
    });
}

#[mp::test]
fn a_channel_does_what_a_naive_one_does() {
    within(LIMIT, || check(120, run_channel));
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_with_small_rings() {
    programs::program("program_with_small_rings", LIMIT, || {
        let pool = Pool::new(1).unwrap();
        let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
        setrlimit(Resource::RLIMIT_FSIZE, 900_000, hard).unwrap();
        check(60, |capacity, acts| run_queue(capacity, acts, &pool, true));
    });
}

#[test]
fn a_queue_with_little_room_does_what_a_naive_one_does_or_says_that_it_is_full() {
    within(LIMIT, || drop(programs::run("program_with_small_rings")));
}
