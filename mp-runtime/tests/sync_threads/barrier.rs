use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mp::ErrorKind;
use mp::sync::Barrier;

use super::watchdog::{until, within};
use super::{LIMIT, SHORT};

#[test]
fn all_come_before_any_goes_on_again_and_again() {
    within(LIMIT, || {
        let barrier = Barrier::new(4);
        let (come_count, leader_count) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 1..=300 {
                        come_count.fetch_add(1, Ordering::SeqCst);
                        let result = barrier.wait().expect("nobody dies");
                        leader_count.fetch_add(u32::from(result.is_leader()), Ordering::SeqCst);
                        assert!(come_count.load(Ordering::SeqCst) >= 4 * round);
                    }
                });
            }
        });
        assert_eq!(leader_count.load(Ordering::SeqCst), 300);
        assert!(!barrier.is_broken());
    });
}

#[test]
fn more_threads_than_parties_go_on_in_groups() {
    within(LIMIT, || {
        let barrier = Barrier::new(3);
        let come_count = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..9 {
                scope.spawn(|| {
                    while come_count.fetch_add(1, Ordering::SeqCst) < 900 {
                        barrier.wait().expect("nobody dies");
                    }
                });
            }
        });
    });
}

#[test]
fn a_timeout_breaks_it_for_everybody_until_the_reset() {
    within(LIMIT, || {
        let barrier = Barrier::new(3);
        thread::scope(|scope| {
            let other = scope.spawn(|| barrier.wait().expect_err("it is refused").kind());
            let begin = Instant::now();
            let late = barrier.wait_timeout(SHORT).expect_err("it is refused");
            // The other may break it first only by coming last, which it cannot.
            assert_eq!(late.kind(), ErrorKind::TimedOut);
            assert!(begin.elapsed() >= SHORT);
            assert_eq!(other.join().ok(), Some(ErrorKind::Poisoned));
        });
        assert!(barrier.is_broken());
        assert_eq!(
            barrier.wait().expect_err("it is refused").kind(),
            ErrorKind::Poisoned
        );
        barrier.reset().expect("nobody is in there");
        assert!(!barrier.is_broken());
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| assert!(barrier.wait_timeout(Duration::MAX).is_ok()));
            }
        });
    });
}

#[test]
fn an_abort_wakes_those_who_wait() {
    within(LIMIT, || {
        let barrier = Barrier::new(2);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| barrier.wait().expect_err("it is refused").to_string());
            until(|| format!("{barrier:?}").contains("waiting: 1"));
            barrier.abort();
            barrier.abort();
            let message = waiter.join().expect("it ends");
            assert!(message.contains("aborted"), "{message}");
        });
        assert!(barrier.is_broken());
    });
}

#[test]
fn a_reset_sends_away_those_who_wait() {
    within(LIMIT, || {
        let barrier = Barrier::new(2);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| barrier.wait().expect_err("it is refused").to_string());
            until(|| format!("{barrier:?}").contains("waiting: 1"));
            barrier.reset().expect("nobody is in there");
            let message = waiter.join().expect("it ends");
            assert!(message.contains("reset"), "{message}");
        });
        assert!(!barrier.is_broken());
        thread::scope(|scope| {
            scope.spawn(|| assert!(barrier.wait().is_ok()));
            assert!(barrier.wait().is_ok());
        });
    });
}

#[test]
fn a_barrier_for_nobody_or_for_too_many_is_an_error() {
    for parties in [0, 65, usize::MAX] {
        let error = Barrier::new(parties).wait().expect_err("it is refused");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
    within(LIMIT, || {
        let barrier = Barrier::new(64);
        thread::scope(|scope| {
            for _ in 0..64 {
                scope.spawn(|| assert!(barrier.wait().is_ok()));
            }
        });
    });
}
