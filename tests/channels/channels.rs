//! Channels: what is sent is received, whole, once, in order, and ends when it should.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::HashMap;
use std::fmt::Debug;
use std::fs;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ipc_channel::ipc::{self, IpcSender};
use mp::Portable;
use mp::prelude::*;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::watchdog::{until, within};

const LIMIT: Duration = Duration::from_secs(120);
/// How long somebody waits for what must not be waited for: long enough for any machine.
const GENEROUS: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

/// A channel for so many messages; 0: for as many as come.
fn channel_of<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    match capacity {
        0 => mp::unbounded_channel().unwrap(),
        _ => mp::channel(capacity).unwrap(),
    }
}

type Flag = Shared<AtomicU64>;

fn flag() -> Flag {
    Shared::new(AtomicU64::new(0)).unwrap()
}

/// Goes on for ever, and is killed some time.
fn linger() -> ! {
    loop {
        thread::park();
    }
}

#[track_caller]
fn check_closed<T: Portable>(rx: &Receiver<T>) {
    let error = rx.recv_timeout(GENEROUS).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
}

// Order, loss and duplicates.

/// Which producer, and which of its messages.
type Ticket = (u32, u64);

#[mp::process_fn]
fn produce(tx: Sender<Ticket>, producer: u32, count: u64) {
    for number in 0..count {
        tx.send((producer, number)).unwrap();
    }
}

#[mp::process_fn]
fn consume(rx: Receiver<Ticket>) -> Vec<Ticket> {
    rx.iter().collect()
}

/// The tickets of each producer came in order to each consumer, and each came once.
#[track_caller]
fn check_tickets(received: &[Vec<Ticket>], producers: u32, count: u64) {
    let mut all: Vec<Ticket> = Vec::new();
    for tickets in received {
        let mut last = HashMap::new();
        for &(producer, number) in tickets {
            let before = last.insert(producer, number);
            assert!(
                before.is_none_or(|before| before < number),
                "{before:?} {number}"
            );
        }
        all.extend(tickets);
    }
    all.sort_unstable();
    let sent = (0..producers).flat_map(|producer| (0..count).map(move |n| (producer, n)));
    assert!(all.into_iter().eq(sent), "something was lost or came twice");
}

#[track_caller]
fn check_crowd(capacity: usize, producers: u32, consumers: u32, count: u64) {
    within(LIMIT, || {
        let (tx, rx) = channel_of(capacity);
        let consumers: Vec<_> = (0..consumers)
            .map(|_| mp::spawn!(consume(rx.clone())).unwrap())
            .collect();
        let senders: Vec<_> = (0..producers)
            .map(|own| mp::spawn!(produce(tx.clone(), own, count)).unwrap())
            .collect();
        drop(tx);
        for process in senders {
            process.join().unwrap();
        }
        let received: Vec<_> = consumers.into_iter().map(|p| p.join().unwrap()).collect();
        check_tickets(&received, producers, count);
        assert!(rx.is_empty());
        check_closed(&rx);
    });
}

#[mp::test]
fn three_producers_and_three_consumers_lose_nothing_and_get_nothing_twice() {
    check_crowd(64, 3, 3, 5000);
}

#[mp::test]
fn three_and_three_over_a_channel_for_one_message() {
    check_crowd(1, 3, 3, 500);
}

#[mp::test]
fn three_and_three_over_an_unbounded_channel() {
    check_crowd(0, 3, 3, 5000);
}

#[mp::test]
fn one_producer_and_one_consumer_keep_the_order() {
    check_crowd(16, 1, 1, 20_000);
}

#[mp::test]
fn one_producer_and_one_consumer_take_turns_over_a_channel_for_one_message() {
    check_crowd(1, 1, 1, 3000);
}

#[mp::test]
fn many_processes_on_either_side() {
    check_crowd(3, 6, 1, 300);
    check_crowd(3, 1, 6, 1000);
}

#[mp::test]
fn a_thread_sends_and_another_thread_of_another_process_receives() {
    within(LIMIT, || {
        let (tx, rx) = mp::channel::<Ticket>(4).unwrap();
        let process = mp::spawn!(consume_in_threads(rx)).unwrap();
        thread::scope(|scope| {
            for own in 0..3 {
                let tx = tx.clone();
                scope.spawn(move || produce_plainly(&tx, own));
            }
        });
        drop(tx);
        check_tickets(&process.join().unwrap(), 3, 500);
    });
}

fn produce_plainly(tx: &Sender<Ticket>, own: u32) {
    (0..500).for_each(|number| tx.send((own, number)).unwrap());
}

#[mp::process_fn]
fn consume_in_threads(rx: Receiver<Ticket>) -> Vec<Vec<Ticket>> {
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let rx = rx.clone();
            thread::spawn(move || rx.into_iter().collect())
        })
        .collect();
    threads.into_iter().map(|one| one.join().unwrap()).collect()
}

/// Counts `sent` up after each message.
#[mp::process_fn]
fn produce_and_count(tx: Sender<u64>, sent: Flag, capacity: usize) {
    for number in 0..2000 {
        tx.send(number).unwrap();
        sent.fetch_add(1, Ordering::SeqCst);
        assert!(tx.len() <= capacity);
    }
}

#[mp::test]
fn a_sender_waits_for_room_and_no_more_than_the_capacity_is_ever_there() {
    within(LIMIT, || {
        for capacity in [1, 2, 7] {
            let (tx, rx) = mp::channel(capacity).unwrap();
            let sent = flag();
            let process = mp::spawn!(produce_and_count(tx, sent.clone(), capacity)).unwrap();
            until(|| rx.len() == capacity);
            for number in 0..2000 {
                assert!(rx.len() <= capacity);
                // The last one may have been received before it was counted.
                let ahead = sent.load(Ordering::SeqCst).saturating_sub(number);
                assert!(
                    ahead <= capacity as u64,
                    "{ahead} were sent and not received"
                );
                assert_eq!(rx.recv().unwrap(), number);
            }
            check_closed(&rx);
            process.join().unwrap();
        }
    });
}

// The end: no sender is left.

#[mp::process_fn]
fn send_and_return(tx: Sender<u64>, count: u64) {
    (0..count).for_each(|number| tx.send(number).unwrap());
}

#[mp::process_fn]
fn send_and_linger(tx: Sender<u64>, count: u64) {
    (0..count).for_each(|number| tx.send(number).unwrap());
    linger();
}

#[mp::process_fn]
fn send_large_for_ever(tx: Sender<Vec<u64>>) {
    for number in 0.. {
        tx.send(vec![number; 1 << 18]).unwrap();
    }
}

#[mp::process_fn]
fn drop_and_linger(tx: Sender<u64>, also: Vec<Sender<u64>>, dropped: Flag) {
    tx.send(1).unwrap();
    drop((tx, also));
    dropped.store(1, Ordering::SeqCst);
    linger();
}

#[mp::test]
fn promise_13_recv_ends_when_all_senders_here_are_dropped() {
    within(LIMIT, || {
        for capacity in [0, 3] {
            let (tx, rx) = channel_of(capacity);
            let clones = [tx.clone(), tx.clone()];
            tx.send(1).unwrap();
            drop(tx);
            clones[1].send(2).unwrap();
            drop(clones);
            assert_eq!(rx.recv().unwrap(), 1);
            assert_eq!(rx.try_recv().unwrap(), 2);
            check_closed(&rx);
            assert_eq!(rx.try_recv().unwrap_err().kind(), ErrorKind::Closed);
            assert_eq!(rx.recv().unwrap_err().kind(), ErrorKind::Closed);
        }
    });
}

#[mp::test]
fn promise_13_recv_that_waits_ends_when_a_thread_drops_the_last_sender() {
    within(LIMIT, || {
        let (tx, rx) = mp::channel::<u64>(1).unwrap();
        thread::scope(|scope| {
            let waiters = [(); 3].map(|()| scope.spawn(|| rx.recv().unwrap_err().kind()));
            drop(tx);
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), ErrorKind::Closed);
            }
        });
    });
}

#[mp::test]
fn promise_13_recv_ends_when_the_processes_with_senders_have_ended() {
    within(LIMIT, || {
        let (tx, rx) = mp::channel(3).unwrap();
        let senders = [(); 2].map(|()| mp::spawn!(send_and_return(tx.clone(), 100)).unwrap());
        drop(tx);
        let sum: u64 = rx.iter().sum();
        assert_eq!(sum, 2 * 4950);
        check_closed(&rx);
        for process in senders {
            process.join().unwrap();
        }
    });
}

#[mp::test]
fn promise_13_recv_ends_when_the_last_sender_is_killed_while_idle() {
    within(LIMIT, || {
        for capacity in [0, 5] {
            let (tx, rx) = channel_of(capacity);
            let process = mp::spawn!(send_and_linger(tx, 3)).unwrap();
            assert_eq!(rx.recv().unwrap(), 0);
            until(|| rx.len() == 2);
            process.kill().unwrap();
            let left: Vec<u64> = rx.iter().collect();
            assert_eq!(left, [1, 2]);
            check_closed(&rx);
        }
    });
}

#[mp::test]
fn promise_13_recv_ends_when_the_last_sender_is_killed_while_it_waits_for_room() {
    within(LIMIT, || {
        let (tx, rx) = mp::channel(1).unwrap();
        let process = mp::spawn!(send_and_linger(tx, 1000)).unwrap();
        assert_eq!(rx.recv().unwrap(), 0);
        until(|| rx.len() == 1);
        process.kill().unwrap();
        process.wait();
        assert_eq!(rx.recv_timeout(GENEROUS).unwrap(), 1);
        check_closed(&rx);
    });
}

#[mp::test]
fn promise_13_a_sender_that_is_killed_while_it_sends_has_sent_whole_messages() {
    within(LIMIT, || {
        for round in 0..5 {
            let (tx, rx) = channel_of(round % 2 * 4);
            let process = mp::spawn!(send_large_for_ever(tx)).unwrap();
            let check = |expected, message: Vec<u64>| {
                assert_eq!(message.len(), 1 << 18);
                assert!(message.iter().all(|&number| number == expected));
            };
            (0..round as u64 + 1).for_each(|expected| check(expected, rx.recv().unwrap()));
            process.kill().unwrap();
            let mut rest = rx.iter();
            (round as u64 + 1..)
                .zip(rest.by_ref())
                .for_each(|(expected, message)| check(expected, message));
            assert_eq!(rest.error().unwrap().kind(), ErrorKind::Closed);
        }
    });
}

#[mp::test]
fn promise_13_recv_ends_though_the_process_that_has_dropped_its_sender_runs_on() {
    within(LIMIT, || {
        let (tx, rx) = mp::channel(4).unwrap();
        let (dropped, also) = (flag(), vec![tx.clone(); 3]);
        let process = mp::spawn!(drop_and_linger(tx, also, dropped.clone())).unwrap();
        assert_eq!(rx.recv().unwrap(), 1);
        check_closed(&rx);
        until(|| dropped.load(Ordering::SeqCst) == 1);
        assert!(!process.is_finished());
        process.kill().unwrap();
    });
}

#[mp::process_fn]
fn send_one(tx: Sender<u64>, number: u64) {
    tx.send(number).unwrap();
}

#[mp::process_fn]
fn panic_with(tx: Sender<u64>) {
    tx.send(1).unwrap();
    panic!("as it should");
}

#[mp::test]
fn promise_13_recv_ends_once_the_tasks_of_a_pool_are_done() {
    within(LIMIT, || {
        let pool = Pool::new(2).unwrap();
        let (tx, rx) = mp::channel(4).unwrap();
        let task = pool.submit(send_one, (tx, 7)).unwrap();
        assert_eq!(rx.iter().collect::<Vec<_>>(), [7]);
        task.join().unwrap();
        // Of many items, in chunks.
        let (tx, rx) = mp::unbounded_channel().unwrap();
        let items = (0..200).map(|number| (tx.clone(), number));
        pool.starmap(send_one, items).unwrap();
        drop(tx);
        let mut received: Vec<u64> = rx.iter().collect();
        received.sort_unstable();
        assert!(received.into_iter().eq(0..200));
        check_closed(&rx);
        // And of one that fails.
        let (tx, rx) = mp::channel(4).unwrap();
        let task = pool.submit(panic_with, (tx,)).unwrap();
        assert_eq!(rx.iter().count(), 1);
        assert_eq!(task.join().unwrap_err().kind(), ErrorKind::Panicked);
        assert_eq!(pool.workers().len(), 2);
    });
}

#[mp::process_fn]
fn give_back(tx: Sender<u64>) -> Sender<u64> {
    tx.send(1).unwrap();
    tx
}

#[mp::process_fn]
fn make_filled(count: u64) -> Receiver<u64> {
    let (tx, rx) = mp::unbounded_channel().unwrap();
    (0..count).for_each(|number| tx.send(number).unwrap());
    rx
}

#[mp::process_fn]
fn make_both() -> (Sender<u64>, Receiver<u64>) {
    mp::channel(2).unwrap()
}

#[mp::test]
fn ends_are_results_of_process_functions_too() {
    within(LIMIT, || {
        let (tx, rx) = mp::channel(4).unwrap();
        let process = mp::spawn!(give_back(tx)).unwrap();
        assert_eq!(rx.recv().unwrap(), 1);
        let back = process.join().unwrap();
        back.send(2).unwrap();
        assert_eq!(rx.recv().unwrap(), 2);
        drop(back);
        check_closed(&rx);
        // What the maker has put is there although it has ended.
        let rx = mp::spawn!(make_filled(1000)).unwrap().join().unwrap();
        assert_eq!(rx.len(), 1000);
        assert!(rx.into_iter().eq(0..1000));
        let (tx, rx) = mp::spawn!(make_both()).unwrap().join().unwrap();
        tx.send(5).unwrap();
        assert_eq!(rx.recv().unwrap(), 5);
        drop(tx);
        check_closed(&rx);
    });
}

#[mp::test]
fn an_end_in_a_result_that_nobody_takes_is_dropped() {
    within(LIMIT, || {
        let (tx, rx) = mp::channel(4).unwrap();
        drop(mp::spawn!(give_back(tx.clone())).unwrap());
        let process = mp::spawn!(give_back(tx)).unwrap();
        process.wait();
        drop(process);
        assert!(rx.iter().count() >= 1);
        check_closed(&rx);
    });
}

// Handles within values.

#[derive(Clone, Serialize, Deserialize)]
struct Desk {
    name: String,
    inbox: Receiver<u64>,
    outboxes: Vec<Sender<u64>>,
    spare: Option<Sender<String>>,
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[mp::process_fn]
fn sit_at(desk: Desk) -> usize {
    for number in desk.inbox.iter() {
        for outbox in &desk.outboxes {
            outbox.send(number).unwrap();
        }
    }
    if let Some(spare) = desk.spare {
        spare.send(desk.name).unwrap();
    }
    open_descriptors()
}

#[mp::test]
fn promise_24_a_hundred_handles_in_one_message_take_no_more_descriptors_than_one() {
    within(LIMIT, || {
        let descriptors = [1, 100].map(|count| {
            let (to, inbox) = mp::channel(1).unwrap();
            let (outbox, from) = mp::unbounded_channel().unwrap();
            let (spare, named) = mp::channel(1).unwrap();
            let desk = Desk {
                name: "front".to_owned(),
                inbox,
                outboxes: vec![outbox; count],
                spare: Some(spare),
            };
            let process = mp::spawn!(sit_at(desk.clone())).unwrap();
            drop(desk);
            to.send(3).unwrap();
            drop(to);
            assert_eq!(named.recv().unwrap(), "front");
            assert_eq!(from.iter().collect::<Vec<_>>(), vec![3; count]);
            process.join().unwrap()
        });
        assert_eq!(descriptors[0], descriptors[1]);
    });
}

static KEPT: Mutex<Vec<(Sender<u64>, Receiver<u64>)>> = Mutex::new(Vec::new());

#[mp::process_fn]
fn keep(tx: Sender<u64>, rx: Receiver<u64>) -> usize {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.push((tx, rx));
    open_descriptors()
}

#[mp::process_fn]
fn use_kept() {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    for (number, (tx, _)) in (0..).zip(kept.iter()) {
        tx.send(number).unwrap();
    }
    for (number, (_, rx)) in (0..).zip(kept.iter().rev()) {
        assert_eq!(rx.recv().unwrap(), number);
    }
}

#[mp::test]
fn promise_24_an_end_that_comes_again_and_again_takes_no_more_descriptors() {
    within(LIMIT, || {
        let pool = Pool::new(1).unwrap();
        let (tx, rx) = mp::unbounded_channel().unwrap();
        let first = pool.apply(keep, (tx.clone(), rx.clone())).unwrap();
        for _ in 0..100 {
            let now = pool.apply(keep, (tx.clone(), rx.clone())).unwrap();
            assert!(now <= first, "{first} became {now}");
        }
        pool.apply(use_kept, ()).unwrap();
        drop(tx);
        assert_eq!(rx.try_recv().unwrap_err().kind(), ErrorKind::TimedOut);
        // They end with the worker that has kept them.
        pool.terminate();
        check_closed(&rx);
    });
}

// The end: no receiver is left.

#[mp::process_fn]
fn receive_and_linger(rx: Receiver<u64>, count: u64) {
    (0..count).for_each(|number| assert_eq!(rx.recv().unwrap(), number));
    linger();
}

/// Sends on until it fails; at the latest when many more were sent than it may take to notice.
#[track_caller]
fn send_until_closed(tx: &Sender<u64>) {
    let failed = (1000..20_000).find_map(|number| Some((number, tx.send(number).err()?)));
    let (number, error) = failed.expect("nobody listens, and it is not told");
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(error.into_inner(), number);
}

#[mp::test]
fn a_send_is_closed_when_the_last_receiver_is_dropped_and_gives_the_value_back() {
    within(LIMIT, || {
        for capacity in [0, 1] {
            let (tx, rx) = channel_of(capacity);
            let clone = rx.clone();
            tx.send(vec!["taken".to_owned()]).unwrap();
            drop(rx);
            assert_eq!(clone.recv().unwrap(), ["taken"]);
            drop(clone);
            let values = [(); 3].map(|()| vec!["kept".to_owned(), String::new()]);
            let [one, two, three] = values.clone();
            let errors = [
                tx.send(one).unwrap_err(),
                tx.try_send(two).unwrap_err(),
                tx.send_timeout(three, GENEROUS).unwrap_err(),
            ];
            for (error, value) in errors.into_iter().zip(values) {
                assert_eq!(error.kind(), ErrorKind::Closed);
                assert_eq!(error.error().kind(), ErrorKind::Closed);
                assert_eq!(error.into_inner(), value);
            }
        }
    });
}

#[mp::test]
fn a_send_is_closed_when_the_last_receiver_is_killed() {
    within(LIMIT, || {
        for capacity in [0, 2] {
            let (tx, rx) = channel_of(capacity);
            let process = mp::spawn!(receive_and_linger(rx, 3)).unwrap();
            (0..3).for_each(|number| tx.send(number).unwrap());
            until(|| tx.is_empty());
            process.kill().unwrap();
            process.wait();
            send_until_closed(&tx);
        }
    });
}

#[mp::test]
fn whoever_waits_for_room_is_told_that_the_last_receiver_was_dropped() {
    within(LIMIT, || {
        let (tx, rx) = mp::channel(1).unwrap();
        tx.send(0).unwrap();
        thread::scope(|scope| {
            let waiters = [1, 2, 3].map(|own| {
                let tx = &tx;
                scope.spawn(move || tx.send(own).unwrap_err())
            });
            drop(rx);
            for (own, waiter) in (1..).zip(waiters) {
                let error = waiter.join().unwrap();
                assert_eq!((error.kind(), error.into_inner()), (ErrorKind::Closed, own));
            }
        });
    });
}

#[mp::process_fn]
fn send_until_refused(tx: Sender<u64>) -> (u64, bool) {
    let error = (0..).find_map(|number| Some((number, tx.send(number).err()?)));
    let (number, error) = error.unwrap();
    let is_closed = error.kind() == ErrorKind::Closed;
    (number, is_closed && error.into_inner() == number)
}

#[mp::test]
fn whoever_waits_for_room_is_told_that_the_last_receiver_was_killed() {
    within(LIMIT, || {
        let (tx, rx) = mp::channel(2).unwrap();
        let receiver = mp::spawn!(receive_and_linger(rx, 3)).unwrap();
        (0..3).for_each(|number| tx.send(number).unwrap());
        until(|| tx.is_empty());
        let sender = mp::spawn!(send_until_refused(tx.clone())).unwrap();
        until(|| tx.len() == 2);
        receiver.kill().unwrap();
        assert_eq!(sender.join().unwrap(), (2, true));
    });
}

#[mp::test]
fn a_receiver_in_a_process_that_ends_is_dropped() {
    within(LIMIT, || {
        let (tx, rx) = mp::channel(2).unwrap();
        let sender = mp::spawn!(send_until_refused(tx)).unwrap();
        let receiver = mp::spawn!(receive_some(rx, 10)).unwrap();
        receiver.join().unwrap();
        let (number, is_closed) = sender.join().unwrap();
        assert!(is_closed && number >= 10);
    });
}

#[mp::process_fn]
fn receive_some(rx: Receiver<u64>, count: usize) -> Vec<u64> {
    rx.iter().take(count).collect()
}

// Sends that fail give the value back.

#[mp::test]
fn a_full_channel_gives_the_value_back_at_once_or_after_its_time() {
    within(LIMIT, || {
        let (tx, rx) = mp::channel(1).unwrap();
        tx.send("there".to_owned()).unwrap();
        let error = tx.try_send("at once".to_owned()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(error.into_inner(), "at once");
        let start = Instant::now();
        let error = tx.send_timeout("late".to_owned(), SHORT).unwrap_err();
        assert!(start.elapsed() >= SHORT);
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(error.into_inner(), "late");
        assert_eq!(rx.recv().unwrap(), "there");
        tx.send_timeout("now".to_owned(), Duration::MAX).unwrap();
        tx.send_timeout("not".to_owned(), Duration::ZERO)
            .unwrap_err();
        assert_eq!(rx.recv_timeout(Duration::MAX).unwrap(), "now");
        assert!(rx.is_empty());
        tx.send_timeout("yes".to_owned(), Duration::ZERO).unwrap();
        assert_eq!(rx.recv_timeout(Duration::ZERO).unwrap(), "yes");
    });
}

#[mp::test]
fn a_receive_without_a_message_ends_at_once_or_after_its_time() {
    within(LIMIT, || {
        let (tx, rx) = mp::channel::<u64>(1).unwrap();
        assert_eq!(rx.try_recv().unwrap_err().kind(), ErrorKind::TimedOut);
        let start = Instant::now();
        let error = rx.recv_timeout(SHORT).unwrap_err();
        assert!(start.elapsed() >= SHORT);
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let process = mp::spawn!(send_one(tx, 4)).unwrap();
        assert_eq!(rx.recv_timeout(GENEROUS).unwrap(), 4);
        process.join().unwrap();
    });
}

/// Half of it can be encoded.
#[derive(Debug, PartialEq, Deserialize)]
struct Unspeakable(String, u32);

impl Serialize for Unspeakable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.1 {
            13 => Err(S::Error::custom("thirteen is not said")),
            _ => (&self.0, self.1).serialize(serializer),
        }
    }
}

#[mp::test]
fn a_value_that_cannot_be_encoded_comes_back_and_the_next_one_is_sent() {
    within(LIMIT, || {
        let (tx, rx) = mp::channel(4).unwrap();
        tx.send(Unspeakable("before".to_owned(), 12)).unwrap();
        let error = tx.send(Unspeakable("never".to_owned(), 13)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Encode);
        assert!(
            error.to_string().contains("thirteen is not said"),
            "{error}"
        );
        assert_eq!(error.into_inner(), Unspeakable("never".to_owned(), 13));
        tx.send(Unspeakable("after".to_owned(), 14)).unwrap();
        assert_eq!(tx.len(), 2);
        assert_eq!(rx.recv().unwrap().1, 12);
        assert_eq!(rx.recv().unwrap(), Unspeakable("after".to_owned(), 14));
    });
}

/// Sends a value that has a handle in it, and gives it back.
#[track_caller]
fn refused<T: Portable>(value: T) -> T {
    let (tx, rx) = mp::channel::<T>(1).unwrap();
    let mut value = value;
    for send in [Sender::send, Sender::try_send] {
        let error = send(&tx, value).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("over a pipe"), "{error}");
        value = error.into_inner();
    }
    let queue = Queue::<T>::unbounded().unwrap();
    let error = queue.put(value).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(rx.is_empty() && queue.is_empty());
    drop(tx);
    check_closed(&rx);
    error.into_inner()
}

#[mp::process_fn]
fn raise_flag(flag: Shared<AtomicU32>) {
    flag.store(1, Ordering::SeqCst);
}

#[mp::process_fn]
fn fill(chunk: ArrayChunk<u32>) {
    let mut chunk = chunk;
    chunk.fill(7);
}

#[mp::process_fn]
fn put_one(queue: Queue<u64>) {
    queue.put(1).unwrap();
}

#[mp::process_fn]
fn answer(to: IpcSender<u64>) {
    to.send(3).unwrap();
}

#[mp::test]
fn values_with_handles_in_them_come_back_and_can_be_arguments_then() {
    within(LIMIT, || {
        let raised = Shared::new(AtomicU32::new(0)).unwrap();
        let value = refused(raised.clone());
        mp::spawn!(raise_flag(value)).unwrap().join().unwrap();
        assert_eq!(raised.load(Ordering::SeqCst), 1);

        let (tx, rx) = mp::channel(1).unwrap();
        let tx = refused((1_u8, Some(tx))).1.unwrap();
        mp::spawn!(send_one(tx, 5)).unwrap().join().unwrap();
        assert_eq!(rx.iter().collect::<Vec<_>>(), [5]);

        let queue = refused(Queue::unbounded().unwrap());
        mp::spawn!(put_one(queue.clone())).unwrap().join().unwrap();
        assert_eq!(queue.get().unwrap(), 1);

        let (to, from) = ipc::channel().unwrap();
        let to = refused(vec![to]).remove(0);
        mp::spawn!(answer(to)).unwrap().join().unwrap();
        assert_eq!(from.recv().unwrap(), 3);
    });
}

#[mp::test]
fn chunks_come_back_and_can_be_arguments_then() {
    within(LIMIT, || {
        let array: Array<u32> = Array::zeroed(6).unwrap();
        for chunk in refused(array.split(3)) {
            mp::spawn!(fill(chunk)).unwrap().join().unwrap();
        }
        assert_eq!(array.lock_timeout(GENEROUS).unwrap()[..], [7; 6]);
    });
}

#[mp::test]
fn a_chunk_that_was_refused_is_written_and_given_back() {
    within(LIMIT, || {
        let array: Array<u32> = Array::zeroed(6).unwrap();
        let (tx, rx) = mp::channel(1).unwrap();
        for chunk in array.split(2) {
            let error = tx.send(chunk).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            error.into_inner().fill(7);
        }
        assert!(rx.is_empty());
        assert_eq!(array.lock_timeout(GENEROUS).unwrap()[..], [7; 6]);
    });
}

#[mp::test]
fn a_place_for_a_handle_that_is_empty_is_no_handle() {
    within(LIMIT, || {
        let (tx, rx) = mp::channel::<(Option<Sender<u8>>, Vec<Queue<u8>>)>(2).unwrap();
        tx.send((None, Vec::new())).unwrap();
        let (none, empty) = rx.recv().unwrap();
        assert!(none.is_none() && empty.is_empty());
        let full = (Some(mp::channel(1).unwrap().0), Vec::new());
        assert_eq!(tx.send(full).unwrap_err().kind(), ErrorKind::Unsupported);
    });
}

/// Is decoded unless it is 13.
#[derive(Debug, PartialEq, Serialize)]
struct Picky(u64);

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Picky, D::Error> {
        match u64::deserialize(deserializer)? {
            13 => Err(D::Error::custom("thirteen is not heard")),
            number => Ok(Picky(number)),
        }
    }
}

#[mp::process_fn]
fn send_picky(tx: Sender<Picky>) {
    (11..16).for_each(|number| tx.send(Picky(number)).unwrap());
}

#[mp::test]
fn a_message_that_cannot_be_decoded_fails_alone() {
    within(LIMIT, || {
        let (tx, rx) = mp::channel(8).unwrap();
        mp::spawn!(send_picky(tx)).unwrap().join().unwrap();
        let mut iter = rx.iter();
        assert_eq!(iter.by_ref().collect::<Vec<_>>(), [Picky(11), Picky(12)]);
        let error = iter.error().unwrap();
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert!(
            error.to_string().contains("thirteen is not heard"),
            "{error}"
        );
        assert!(iter.next().is_none());
        // The others are there.
        let mut rest = rx.into_iter();
        assert_eq!(rest.by_ref().collect::<Vec<_>>(), [Picky(14), Picky(15)]);
        assert_eq!(rest.error().unwrap().kind(), ErrorKind::Closed);
        assert!(rest.next().is_none());
    });
}

// Types and sizes.

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Nothing {}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Zeroes {
    one: u64,
    two: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle(f64),
    Box {
        sides: [i16; 2],
        name: Option<String>,
    },
}

/// What comes back from a process that sends on what it receives.
#[track_caller]
fn check_echo<T: Portable + Clone + PartialEq + Debug>(
    values: &[T],
    start: impl FnOnce(Receiver<T>, Sender<T>) -> Process<()>,
) {
    let (to, there) = mp::channel(2).unwrap();
    let (back, from) = mp::channel(2).unwrap();
    let process = start(there, back);
    for value in values {
        to.send(value.clone()).unwrap();
        assert_eq!(&from.recv().unwrap(), value);
    }
    drop(to);
    assert_eq!(from.iter().count(), 0);
    process.join().unwrap();
}

macro_rules! echoes {
    ($($name:ident: $type:ty = $values:expr;)*) => {
        $(#[mp::process_fn]
        fn $name(from: Receiver<$type>, to: Sender<$type>) {
            from.iter().for_each(|value| to.send(value).unwrap());
        })*

        #[mp::test]
        fn values_of_every_kind_arrive_as_they_were_sent() {
            within(LIMIT, || {
                $(check_echo::<$type>(&$values, |from, to| mp::spawn!($name(from, to)).unwrap());)*
            });
        }
    };
}

echoes! {
    echo_unit: () = [(), ()];
    echo_number: u64 = [0, 1, u64::MAX];
    echo_wide: i128 = [i128::MIN, -1, 0, i128::MAX];
    echo_float: f64 = [0.0, -0.0, f64::INFINITY, 1e-300];
    echo_flag: bool = [true, false];
    echo_letter: char = ['a', '\u{10ffff}'];
    echo_text: String = [String::new(), "ä".repeat(10_000)];
    echo_floats: Vec<f64> = [vec![], vec![0.5], vec![-1.5; 30_000]];
    echo_bytes: Vec<u8> = [vec![], vec![1], vec![2; 15], vec![3; 16], vec![4; 17]];
    echo_texts: Vec<String> = [vec![], vec![String::new(); 3], vec!["x".repeat(100); 500]];
    echo_nothing: Nothing = [Nothing {}, Nothing {}];
    echo_zeroes: Zeroes = [Zeroes::default(), Zeroes { one: 0, two: 1 }];
    echo_maybe: Option<Vec<u32>> = [None, Some(vec![]), Some(vec![1, 2])];
    echo_shape: Shape = [
        Shape::Point,
        Shape::Circle(0.0),
        Shape::Box { sides: [-1, 1], name: Some(String::new()) },
    ];
    echo_map: HashMap<String, Vec<u8>> = [
        HashMap::new(),
        (0..100_u8).map(|n| (n.to_string(), vec![n; n.into()])).collect(),
    ];
    echo_tuple: (u8, (), [u16; 3], Box<str>) = [(0, (), [0; 3], "".into()), (1, (), [1, 2, 3], "b".into())];
    echo_result: Result<u8, String> = [Ok(1), Err("no".to_owned())];
    echo_empties: Vec<()> = [vec![], vec![(); 1000]];
}

/// Bytes that are elsewhere another byte.
fn pattern(bytes: usize) -> Vec<u8> {
    let block: Vec<u8> = (0..251).collect();
    let mut pattern = block.repeat(bytes / block.len() + 1);
    pattern.truncate(bytes);
    pattern
}

#[mp::test]
fn promise_15_messages_of_any_size_arrive_whole() {
    within(LIMIT, || {
        // Around what a unit, a page, the part that is used over and over, and the part that is
        // kept take; up to 100 MB.
        let around = |bytes: usize| bytes - 9..bytes + 2;
        let small = (0..40).chain(around(4096)).chain(around(128 << 10));
        let large = [
            1 << 20,
            (4 << 20) + 1,
            (16 << 20) - 8,
            17 << 20,
            100_000_000,
            3,
            0,
        ];
        let sizes = small.chain(large);
        let values: Vec<Vec<u8>> = sizes.map(pattern).collect();
        check_echo(&values, |from, to| {
            mp::spawn!(echo_bytes(from, to)).unwrap()
        });
    });
}

#[mp::process_fn]
fn send_patterns(tx: Sender<Vec<u8>>, count: usize, bytes: usize) {
    (0..count).for_each(|number| tx.send(pattern(bytes + number)).unwrap());
}

#[mp::test]
fn promise_14_a_process_ends_whatever_it_has_put() {
    within(LIMIT, || {
        let (tx, rx) = mp::unbounded_channel().unwrap();
        // 100 MB, which nobody receives before it has ended.
        let process = mp::spawn!(send_patterns(tx, 100, 1_000_000)).unwrap();
        process.join().unwrap();
        assert_eq!(rx.len(), 100);
        for (number, message) in (0..).zip(rx.iter()) {
            assert_eq!(message, pattern(1_000_000 + number));
        }
        assert!(rx.is_empty());
        check_closed(&rx);
    });
}

#[mp::process_fn]
fn send_huge(tx: Sender<Vec<u8>>, bytes: usize) {
    let mut huge = vec![0; bytes];
    for at in (0..bytes).step_by(64 << 20) {
        huge[at] = 1 + (at >> 26) as u8;
    }
    huge[bytes - 1] = 255;
    tx.send(huge).unwrap();
}

/// Takes 11 GiB of memory:
/// `cargo test --release --test channels promise_15_five -- --ignored`.
#[mp::test]
#[ignore = "it takes 11 GiB of memory"]
fn promise_15_five_gibibytes_travel_in_one_message() {
    within(LIMIT, || {
        let bytes = 5 << 30;
        let (tx, rx) = mp::unbounded_channel().unwrap();
        mp::spawn!(send_huge(tx, bytes)).unwrap().join().unwrap();
        let huge = rx.recv().unwrap();
        assert_eq!(huge.len(), bytes);
        assert_eq!(huge[bytes - 1], 255);
        for at in (0..bytes).step_by(64 << 20) {
            assert_eq!((huge[at], huge[at + 1]), (1 + (at >> 26) as u8, 0));
        }
        check_closed(&rx);
    });
}

// The rest.

#[mp::test]
fn iterators_end_where_recv_fails_and_tell_why() {
    within(LIMIT, || {
        let (tx, rx) = mp::channel(8).unwrap();
        (0..6).for_each(|number| tx.send(number).unwrap());
        let two: Vec<u32> = rx.iter().take(2).collect();
        assert_eq!(two, [0, 1]);
        assert_eq!((&rx).into_iter().next(), Some(2));
        drop(tx);
        let mut iter = rx.iter();
        assert!(iter.error().is_none());
        assert_eq!(iter.next(), Some(3));
        assert!(iter.error().is_none());
        let mut rest = rx.clone().into_iter();
        assert_eq!(rest.by_ref().sum::<u32>(), 9);
        assert_eq!(rest.error().unwrap().kind(), ErrorKind::Closed);
        assert!(iter.next().is_none() && iter.next().is_none());
        assert_eq!(iter.error().unwrap().kind(), ErrorKind::Closed);
    });
}

#[mp::test]
fn a_channel_for_no_messages_is_refused() {
    let error = mp::channel::<u8>(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let (tx, rx) = mp::channel(usize::MAX).unwrap();
    tx.send(1).unwrap();
    assert_eq!(rx.recv().unwrap(), 1);
}

#[mp::test]
fn a_message_wakes_whoever_waits_in_another_process() {
    within(LIMIT, || {
        let (to, there) = mp::channel(1).unwrap();
        let (back, from) = mp::channel(1).unwrap();
        let process = mp::spawn!(echo_number(there, back)).unwrap();
        for number in 0..2000 {
            to.send(number).unwrap();
            assert_eq!(from.recv_timeout(GENEROUS).unwrap(), number);
        }
        drop(to);
        process.join().unwrap();
    });
}
