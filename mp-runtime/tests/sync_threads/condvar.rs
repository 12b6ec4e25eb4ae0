use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mp::sync::{Condvar, Mutex, PoisonCause};

use super::watchdog::{until, within};
use super::{LIMIT, SHORT};

#[test]
fn what_is_put_is_taken() {
    within(LIMIT, || {
        let (stock, has_stock) = (Mutex::new(0), Condvar::new());
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let guard = stock.lock().expect("nobody dies");
                        let guard = has_stock.wait_while(guard, |stock| *stock == 0);
                        *guard.expect("nobody dies") -= 1;
                    }
                });
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        stock.update(|stock| *stock += 1).expect("nobody dies");
                        has_stock.notify_one();
                    }
                });
            }
        });
        assert_eq!(stock.get().ok(), Some(0));
    });
}

#[test]
fn as_many_wake_as_are_notified() {
    within(LIMIT, || {
        let (waiting, condvar) = (Mutex::new(0_usize), Condvar::new());
        let woken = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| {
                    let mut guard = waiting.lock().expect("nobody dies");
                    *guard += 1;
                    drop(condvar.wait(guard).expect("nobody dies"));
                    woken.fetch_add(1, Ordering::Relaxed);
                });
            }
            until(|| waiting.get().ok() == Some(10));
            let are_woken = |count| {
                until(|| woken.load(Ordering::Relaxed) >= count);
                // Those who are not notified have slept through some slices by then.
                thread::sleep(Duration::from_millis(120));
                assert_eq!(woken.load(Ordering::Relaxed), count);
            };
            condvar.notify_one();
            are_woken(1);
            condvar.notify_n(3);
            are_woken(4);
            condvar.notify_n(0);
            condvar.notify_all();
            until(|| woken.load(Ordering::Relaxed) == 10);
        });
    });
}

#[test]
fn more_wait_than_there_are_slots() {
    within(LIMIT, || {
        let (state, condvar) = (Mutex::new((0_usize, false)), Condvar::new());
        thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    let mut guard = state.lock().expect("nobody dies");
                    guard.0 += 1;
                    drop(condvar.wait_while(guard, |state| !state.1));
                });
            }
            until(|| state.get().is_ok_and(|state| state.0 == 100));
            state.update(|state| state.1 = true).expect("nobody dies");
            for _ in 0..100 {
                condvar.notify_one();
            }
        });
    });
}

#[test]
fn a_timeout_is_told_and_the_longest_is_no_overflow() {
    within(LIMIT, || {
        let (lock, condvar) = (Mutex::new(0), Condvar::new());
        let begin = Instant::now();
        let guard = lock.lock().expect("nobody dies");
        let waited = condvar.wait_timeout(guard, SHORT);
        let (guard, result) = waited.expect("nobody dies");
        assert!(result.timed_out());
        assert!(begin.elapsed() >= SHORT);
        let waited = condvar.wait_timeout_while(guard, SHORT, |_| true);
        let (guard, result) = waited.expect("nobody dies");
        assert!(result.timed_out());
        thread::scope(|scope| {
            scope.spawn(|| {
                lock.set(1).expect("nobody dies");
                condvar.notify_all();
            });
            let waited = condvar.wait_timeout_while(guard, Duration::MAX, |value| *value == 0);
            assert!(!waited.expect("nobody dies").1.timed_out());
        });
        assert!(lock.try_lock().is_ok());
    });
}

#[test]
fn a_waiter_learns_of_a_panic() {
    within(LIMIT, || {
        let (lock, condvar) = (Mutex::new(false), Condvar::new());
        thread::scope(|scope| {
            let guard = lock.lock().expect("nobody dies");
            let panicking = scope.spawn(|| {
                let mut guard = lock.lock().expect("nobody dies");
                *guard = true;
                condvar.notify_one();
                panic!("with the lock");
            });
            let poisoned = condvar
                .wait_while(guard, |is_done| !*is_done)
                .expect_err("it is refused");
            let pid = std::process::id();
            assert_eq!(poisoned.cause(), PoisonCause::Panicked { pid });
            assert!(*poisoned.into_inner());
            assert!(panicking.join().is_err());
        });
    });
}

#[test]
fn one_condition_serves_two_locks() {
    within(LIMIT, || {
        let (one, another, condvar) = (Mutex::new(false), Mutex::new([false]), Condvar::new());
        thread::scope(|scope| {
            scope.spawn(|| {
                let guard = one.lock().expect("nobody dies");
                drop(condvar.wait_while(guard, |is_set| !*is_set));
            });
            scope.spawn(|| {
                let guard = another.lock().expect("nobody dies");
                drop(condvar.wait_while(guard, |is_set| !is_set[0]));
            });
            one.set(true).expect("nobody dies");
            another.set([true]).expect("nobody dies");
            condvar.notify_all();
        });
    });
}
