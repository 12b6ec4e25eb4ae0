//! Queues: both ends in one handle, an end that somebody declares, and work that is counted.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mp::prelude::*;
use serde::{Deserialize, Serialize};

use crate::watchdog::{until, within};

const LIMIT: Duration = Duration::from_secs(120);
/// How long somebody waits for what must not be waited for: long enough for any machine.
const GENEROUS: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

fn queue_of<T>(capacity: usize) -> Queue<T> {
    match capacity {
        0 => Queue::unbounded().unwrap(),
        _ => Queue::bounded(capacity).unwrap(),
    }
}

fn counter() -> Shared<AtomicU64> {
    Shared::new(AtomicU64::new(0)).unwrap()
}

#[mp::process_fn]
fn put_range(queue: Queue<u64>, from: u64, to: u64) {
    (from..to).for_each(|number| queue.put(number).unwrap());
}

#[mp::process_fn]
fn get_until_closed(queue: Queue<u64>) -> Vec<u64> {
    let mut got = Vec::new();
    loop {
        match queue.get() {
            Ok(number) => got.push(number),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Closed);
                return got;
            }
        }
    }
}

#[track_caller]
fn check_crowd(capacity: usize, count: u64) {
    within(LIMIT, || {
        let queue = queue_of(capacity);
        let getters = [(); 3].map(|()| mp::spawn!(get_until_closed(queue.clone())).unwrap());
        let putters = [0, 1, 2].map(|own| {
            let from = own * count;
            mp::spawn!(put_range(queue.clone(), from, from + count)).unwrap()
        });
        for process in putters {
            process.join().unwrap();
        }
        queue.close();
        let mut all = Vec::new();
        for process in getters {
            let got = process.join().unwrap();
            for own in 0..3 {
                let of_one = got.iter().filter(|&number| number / count == own);
                assert!(of_one.is_sorted());
            }
            all.extend(got);
        }
        all.sort_unstable();
        assert!(
            all.into_iter().eq(0..3 * count),
            "something was lost or came twice"
        );
        assert!(queue.is_empty());
    });
}

#[mp::test]
fn three_putters_and_three_getters_lose_nothing_and_get_nothing_twice() {
    check_crowd(64, 5000);
}

#[mp::test]
fn three_and_three_over_a_queue_for_one_value() {
    check_crowd(1, 500);
}

#[mp::test]
fn three_and_three_over_an_unbounded_queue() {
    check_crowd(0, 5000);
}

#[mp::test]
fn a_full_queue_gives_the_value_back_and_an_empty_one_an_error() {
    within(LIMIT, || {
        let queue = Queue::bounded(2).unwrap();
        assert_eq!(queue.try_get().unwrap_err().kind(), ErrorKind::TimedOut);
        let start = Instant::now();
        let error = queue.get_timeout(SHORT).unwrap_err();
        assert!(start.elapsed() >= SHORT);
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        queue.put("one".to_owned()).unwrap();
        queue.put("two".to_owned()).unwrap();
        let error = queue.try_put("three".to_owned()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let start = Instant::now();
        let error = queue.put_timeout(error.into_inner(), SHORT).unwrap_err();
        assert!(start.elapsed() >= SHORT);
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(error.into_inner(), "three");
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.get().unwrap(), "one");
        queue.put_timeout("four".to_owned(), Duration::MAX).unwrap();
        assert_eq!(queue.get_timeout(Duration::MAX).unwrap(), "two");
        assert_eq!(queue.try_get().unwrap(), "four");
    });
}

#[mp::test]
fn a_queue_for_no_values_is_refused() {
    let error = Queue::<u8>::bounded(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

// The end.

#[mp::process_fn]
fn wait_for_value(queue: Queue<u64>, waiting: Shared<AtomicU64>) -> (bool, bool) {
    waiting.fetch_add(1, Ordering::SeqCst);
    let first = queue.get().unwrap_err().kind();
    let second = queue.get_timeout(GENEROUS).unwrap_err().kind();
    (first == ErrorKind::Closed, second == ErrorKind::Closed)
}

#[mp::process_fn]
fn wait_for_room(queue: Queue<u64>, waiting: Shared<AtomicU64>) -> (bool, u64) {
    waiting.fetch_add(1, Ordering::SeqCst);
    let error = queue.put(77).unwrap_err();
    (error.kind() == ErrorKind::Closed, error.into_inner())
}

#[mp::test]
fn close_wakes_whoever_waits_for_a_value_in_other_processes() {
    within(LIMIT, || {
        let (queue, waiting) = (Queue::bounded(1).unwrap(), counter());
        let waiters =
            [(); 2].map(|()| mp::spawn!(wait_for_value(queue.clone(), waiting.clone())).unwrap());
        until(|| waiting.load(Ordering::SeqCst) == 2);
        queue.close();
        for process in waiters {
            assert_eq!(process.join().unwrap(), (true, true));
        }
    });
}

#[mp::test]
fn close_wakes_whoever_waits_for_room_in_other_processes_and_their_values_are_not_put() {
    within(LIMIT, || {
        let (queue, waiting) = (Queue::bounded(1).unwrap(), counter());
        queue.put(1).unwrap();
        let waiters =
            [(); 2].map(|()| mp::spawn!(wait_for_room(queue.clone(), waiting.clone())).unwrap());
        until(|| waiting.load(Ordering::SeqCst) == 2);
        queue.close();
        for process in waiters {
            assert_eq!(process.join().unwrap(), (true, 77));
        }
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.get().unwrap(), 1);
        assert_eq!(queue.get().unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[mp::process_fn]
fn close_it(queue: Queue<u64>) {
    queue.close();
}

#[mp::test]
fn what_was_put_before_the_close_is_got_after_it() {
    within(LIMIT, || {
        for capacity in [0, 100] {
            let queue = queue_of(capacity);
            mp::spawn!(put_range(queue.clone(), 0, 100))
                .unwrap()
                .join()
                .unwrap();
            mp::spawn!(close_it(queue.clone())).unwrap().join().unwrap();
            let error = queue.put(5).unwrap_err();
            assert_eq!((error.kind(), error.into_inner()), (ErrorKind::Closed, 5));
            let error = queue.try_put(6).unwrap_err();
            assert_eq!((error.kind(), error.into_inner()), (ErrorKind::Closed, 6));
            let error = queue.put_timeout(7, GENEROUS).unwrap_err();
            assert_eq!((error.kind(), error.into_inner()), (ErrorKind::Closed, 7));
            assert_eq!(queue.len(), 100);
            for number in 0..50 {
                assert_eq!(queue.get().unwrap(), number);
            }
            let rest = mp::spawn!(get_until_closed(queue.clone()))
                .unwrap()
                .join()
                .unwrap();
            assert!(rest.into_iter().eq(50..100));
            assert_eq!(queue.try_get().unwrap_err().kind(), ErrorKind::Closed);
            // A second time changes nothing.
            queue.close();
            assert_eq!(queue.get().unwrap_err().kind(), ErrorKind::Closed);
        }
    });
}

#[mp::process_fn]
fn put_until_closed(queue: Queue<u64>, own: u64) -> u64 {
    let put = (0..).take_while(|number| queue.put(own << 32 | number).is_ok());
    put.count() as u64
}

#[mp::test]
fn of_puts_at_the_moment_of_the_close_each_is_got_or_refused() {
    within(LIMIT, || {
        for capacity in [0, 3] {
            let queue = queue_of(capacity);
            let putters =
                [0, 1].map(|own| mp::spawn!(put_until_closed(queue.clone(), own)).unwrap());
            let mut got = [0; 2];
            let mut get = |value: u64| {
                let own = (value >> 32) as usize;
                assert_eq!(value & 0xffff_ffff, got[own]);
                got[own] += 1;
                got[own]
            };
            // In the thick of it.
            while get(queue.get().unwrap()) < 500 {}
            queue.close();
            let put = putters.map(|process| process.join().unwrap());
            while let Ok(value) = queue.get() {
                get(value);
            }
            assert_eq!(got, put);
        }
    });
}

#[mp::process_fn]
fn put_and_linger(queue: Queue<u64>) {
    (0..10).for_each(|number| queue.put(number).unwrap());
    loop {
        thread::park();
    }
}

#[mp::test]
fn promise_12_a_queue_outlives_whoever_is_killed_with_it() {
    within(LIMIT, || {
        // One has put all, one waits for room.
        for (capacity, there) in [(0, 10), (4, 4)] {
            let queue = queue_of(capacity);
            let process = mp::spawn!(put_and_linger(queue.clone())).unwrap();
            until(|| queue.len() == there);
            process.kill().unwrap();
            process.wait();
            for number in 0..there as u64 {
                assert_eq!(queue.get_timeout(GENEROUS).unwrap(), number);
            }
            assert_eq!(queue.try_get().unwrap_err().kind(), ErrorKind::TimedOut);
            queue.put(1).unwrap();
            assert_eq!(queue.get().unwrap(), 1);
        }
    });
}

// Work that is counted.

#[mp::process_fn]
fn work(queue: Queue<u64>, sum: Shared<AtomicU64>) -> u64 {
    let mut count = 0;
    while let Ok(number) = queue.get() {
        sum.fetch_add(number, Ordering::SeqCst);
        queue.task_done().unwrap();
        count += 1;
    }
    count
}

#[mp::test]
fn join_waits_until_all_work_is_done() {
    within(LIMIT, || {
        for capacity in [0, 2] {
            let (queue, sum) = (queue_of(capacity), counter());
            queue.join().unwrap();
            let workers = [(); 3].map(|()| mp::spawn!(work(queue.clone(), sum.clone())).unwrap());
            for round in 1..=5 {
                (0..200).for_each(|number| queue.put(number).unwrap());
                queue.join().unwrap();
                assert_eq!(sum.load(Ordering::SeqCst), round * 19_900);
                assert!(queue.is_empty());
            }
            queue.close();
            let counts = workers.map(|process| process.join().unwrap());
            assert_eq!(counts.iter().sum::<u64>(), 1000);
            queue.join().unwrap();
        }
    });
}

#[mp::process_fn]
fn join_it(queue: Queue<u64>) -> bool {
    queue.join().is_ok()
}

#[mp::test]
fn all_who_join_in_any_process_are_woken() {
    within(LIMIT, || {
        let queue = Queue::unbounded().unwrap();
        queue.put(1).unwrap();
        let joiners = [(); 2].map(|()| mp::spawn!(join_it(queue.clone())).unwrap());
        thread::scope(|scope| {
            let joiner = scope.spawn(|| queue.join());
            queue.get().unwrap();
            assert_eq!(
                queue.join_timeout(SHORT).unwrap_err().kind(),
                ErrorKind::TimedOut
            );
            assert!(joiners.iter().all(|process| !process.is_finished()));
            queue.task_done().unwrap();
            joiner.join().unwrap().unwrap();
        });
        for process in joiners {
            assert!(process.join().unwrap());
        }
    });
}

#[mp::test]
fn join_timeout_tells_how_much_is_left() {
    within(LIMIT, || {
        let queue = Queue::unbounded().unwrap();
        (0..3).for_each(|number| queue.put(number).unwrap());
        let start = Instant::now();
        let error = queue.join_timeout(SHORT).unwrap_err();
        assert!(start.elapsed() >= SHORT);
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains('3'), "{error}");
        // What is got and not done counts still.
        assert!((0..3).all(|number| queue.get().unwrap() == number));
        assert!(queue.join_timeout(Duration::ZERO).is_err());
        (0..3).for_each(|_| queue.task_done().unwrap());
        queue.join_timeout(Duration::MAX).unwrap();
        queue.join_timeout(Duration::ZERO).unwrap();
    });
}

#[mp::test]
fn what_is_done_more_often_than_it_was_put_is_an_error() {
    within(LIMIT, || {
        let queue = Queue::bounded(2).unwrap();
        assert!(queue.task_done().is_err());
        queue.put(1).unwrap();
        queue.get().unwrap();
        queue.task_done().unwrap();
        let error = queue.task_done().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        queue.join().unwrap();
        queue.put(2).unwrap();
        assert!(queue.join_timeout(SHORT).is_err());
        queue.task_done().unwrap();
        queue.join().unwrap();
    });
}

#[mp::process_fn]
fn get_and_linger(queue: Queue<u64>, got: Shared<AtomicU64>) {
    queue.get().unwrap();
    got.store(1, Ordering::SeqCst);
    loop {
        thread::park();
    }
}

#[mp::test]
fn work_of_whoever_is_killed_stays_undone_and_join_timeout_says_so() {
    within(LIMIT, || {
        let (queue, got) = (Queue::unbounded().unwrap(), counter());
        (0..2).for_each(|number| queue.put(number).unwrap());
        let process = mp::spawn!(get_and_linger(queue.clone(), got.clone())).unwrap();
        until(|| got.load(Ordering::SeqCst) == 1);
        process.kill().unwrap();
        process.wait();
        assert_eq!(queue.get().unwrap(), 1);
        queue.task_done().unwrap();
        let error = queue.join_timeout(SHORT).unwrap_err();
        assert!(error.to_string().contains('1'), "{error}");
        // Whoever knows of the loss can say it.
        queue.task_done().unwrap();
        queue.join().unwrap();
    });
}

#[mp::test]
fn join_ends_when_those_who_had_all_that_is_left_were_killed() {
    within(LIMIT, || {
        let (queue, got) = (Queue::unbounded().unwrap(), counter());
        queue.put(1).unwrap();
        let process = mp::spawn!(get_and_linger(queue.clone(), got.clone())).unwrap();
        until(|| got.load(Ordering::SeqCst) == 1);
        let id = process.id();
        process.kill().unwrap();
        process.wait();
        let error = queue.join().unwrap_err();
        assert_eq!(
            (error.kind(), error.process_id()),
            (ErrorKind::Died, Some(id))
        );
        queue.task_done().unwrap();
        queue.join().unwrap();
    });
}

#[mp::process_fn]
fn get_some(queue: Queue<u64>, count: u64) -> Vec<u64> {
    (0..count).map(|_| queue.get().unwrap()).collect()
}

#[mp::process_fn]
fn get_and_do_when(queue: Queue<u64>, count: u64, may_do: Shared<AtomicU64>) {
    (0..count).for_each(|_| drop(queue.get().map(|_| may_do.fetch_add(1, Ordering::SeqCst))));
    until(|| may_do.load(Ordering::SeqCst) > count);
    (0..count).for_each(|_| queue.task_done().unwrap());
}

#[mp::test]

fn work_that_others_than_those_who_got_it_say_is_done_is_not_lost() {
    within(LIMIT, || {
        let queue = Queue::unbounded().unwrap();
        (0..5).for_each(|number| queue.put(number).unwrap());
        let got = mp::spawn!(get_some(queue.clone(), 5))
            .unwrap()
            .join()
            .unwrap();
        got.iter().for_each(|_| queue.task_done().unwrap());
        queue.join().unwrap();
        // Somebody who lives has these.
        (0..3).for_each(|number| queue.put(number).unwrap());
        let may_do = counter();
        let process = mp::spawn!(get_and_do_when(queue.clone(), 3, may_do.clone())).unwrap();
        until(|| may_do.load(Ordering::SeqCst) == 3);
        let error = queue.join_timeout(SHORT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        may_do.store(4, Ordering::SeqCst);
        queue.join().unwrap();
        process.join().unwrap();
    });
}

// Handles.

#[derive(Serialize, Deserialize)]
struct Office {
    name: String,
    trays: Vec<Queue<u64>>,
    spare: Option<Queue<String>>,
}

#[mp::process_fn]
fn file_away(office: Office) -> Office {
    for (tray, number) in office.trays.iter().zip(0..) {
        tray.put(number).unwrap();
    }
    if let Some(spare) = &office.spare {
        spare.put(office.name.clone()).unwrap();
    }
    office
}

#[mp::process_fn]
fn make_filled(count: u64) -> Queue<u64> {
    let queue = Queue::unbounded().unwrap();
    (0..count).for_each(|number| queue.put(number).unwrap());
    queue
}

#[mp::test]
fn queues_travel_within_values_and_back() {
    within(LIMIT, || {
        let tray = Queue::unbounded().unwrap();
        let spare = Queue::bounded(1).unwrap();
        let office = Office {
            name: "back".to_owned(),
            trays: vec![tray.clone(); 100],
            spare: Some(spare.clone()),
        };
        let back = mp::spawn!(file_away(office)).unwrap().join().unwrap();
        assert_eq!(back.trays.len(), 100);
        assert_eq!(spare.get().unwrap(), "back");
        for (other, number) in back.trays.iter().zip(0..) {
            assert_eq!(other.get().unwrap(), number);
        }
        assert!(tray.is_empty());
        // What its maker has put is there although it has ended.
        let queue = mp::spawn!(make_filled(1000)).unwrap().join().unwrap();
        assert_eq!(queue.len(), 1000);
        assert!((0..1000).all(|number| queue.get().unwrap() == number));
    });
}

#[mp::process_fn]
fn square(queue: Queue<(u64, u64)>, number: u64) {
    queue.put((number, number * number)).unwrap();
}

#[mp::test]
fn the_tasks_of_a_pool_put_their_results_into_a_queue() {
    within(LIMIT, || {
        let pool = Pool::new(2).unwrap();
        let queue = Queue::unbounded().unwrap();
        pool.starmap(square, (0..300).map(|number| (queue.clone(), number)))
            .unwrap();
        assert_eq!(queue.len(), 300);
        let mut results: Vec<(u64, u64)> = (0..300).map(|_| queue.get().unwrap()).collect();
        results.sort_unstable();
        assert!(results.into_iter().eq((0..300).map(|n| (n, n * n))));
    });
}
