use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mp::ErrorKind;
use mp::sync::Semaphore;

use super::watchdog::{until, within};
use super::{LIMIT, SHORT};

#[test]
fn no_more_are_in_than_there_are_permits() {
    within(LIMIT, || {
        let semaphore = Semaphore::new(2);
        let in_count = AtomicU32::new(0);
        let enter_and_leave = || {
            assert!(in_count.fetch_add(1, Ordering::SeqCst) < 2);
            thread::yield_now();
            in_count.fetch_sub(1, Ordering::SeqCst);
        };
        thread::scope(|scope| {
            for index in 0..6 {
                let semaphore = &semaphore;
                let enter_and_leave = &enter_and_leave;
                scope.spawn(move || {
                    for _ in 0..2_000 {
                        if index % 2 == 0 {
                            let _permit = semaphore.permit().expect("it waits");
                            enter_and_leave();
                        } else {
                            semaphore.acquire().expect("it waits");
                            enter_and_leave();
                            semaphore.release().expect("there is room");
                        }
                    }
                });
            }
        });
        assert_eq!(semaphore.value().ok(), Some(2));
    });
}

#[test]
fn a_try_never_fails_while_there_is_a_permit() {
    within(LIMIT, || {
        let semaphore = Semaphore::new(4);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        drop(semaphore.try_permit().expect("there is one for each"));
                        semaphore.try_acquire().expect("there is one for each");
                        semaphore.release().expect("there is room");
                    }
                });
            }
        });
    });
}

#[test]
fn no_time_is_enough_while_there_is_a_permit() {
    within(LIMIT, || {
        let semaphore = Semaphore::new(1_000);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25_000 {
                        semaphore
                            .acquire_timeout(Duration::ZERO)
                            .expect("there is one for each");
                        semaphore.release().expect("there is room");
                    }
                });
            }
        });
        assert_eq!(semaphore.value().ok(), Some(1_000));
    });
}

#[test]
fn who_waits_is_not_passed_by_for_ever() {
    within(LIMIT, || {
        let semaphore = Semaphore::new(1);
        let is_over = AtomicU32::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                while is_over.load(Ordering::Relaxed) == 0 {
                    drop(semaphore.permit());
                }
            });
            for _ in 0..50 {
                drop(semaphore.permit().expect("it waits"));
            }
            is_over.store(1, Ordering::Relaxed);
        });
    });
}

#[test]
fn a_release_wakes_one_for_each_permit() {
    within(LIMIT, || {
        let semaphore = Semaphore::new(0);
        let woken = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| {
                    semaphore.acquire().expect("it waits");
                    woken.fetch_add(1, Ordering::Relaxed);
                });
            }
            for count in 1..=5 {
                semaphore.release().expect("there is room");
                until(|| woken.load(Ordering::Relaxed) == count);
            }
        });
        assert_eq!(semaphore.value().ok(), Some(0));
    });
}

#[test]
fn a_bounded_one_takes_no_more_than_it_had() {
    let semaphore = Semaphore::bounded(1);
    assert_eq!(
        semaphore.release().expect_err("it is refused").kind(),
        ErrorKind::Unsupported
    );
    let permit = semaphore.permit().expect("there is one");
    assert!(
        semaphore.release().is_err(),
        "the permit comes back by itself"
    );
    drop(permit);
    semaphore.acquire().expect("there is one");
    semaphore.release().expect("there is room");
    assert!(Semaphore::new(u32::MAX).release().is_err());
    assert!(Semaphore::bounded(0).try_acquire().is_err());
}

#[test]
fn a_timeout_is_kept_and_the_longest_is_no_overflow() {
    within(LIMIT, || {
        let semaphore = Semaphore::new(1);
        semaphore
            .acquire_timeout(Duration::MAX)
            .expect("there is one");
        let begin = Instant::now();
        let late = semaphore.acquire_timeout(SHORT);
        assert_eq!(late.expect_err("it is refused").kind(), ErrorKind::TimedOut);
        assert_eq!(
            semaphore
                .permit_timeout(SHORT)
                .expect_err("it is refused")
                .kind(),
            ErrorKind::TimedOut
        );
        assert!(begin.elapsed() >= 2 * SHORT);
        assert!(semaphore.acquire_timeout(Duration::ZERO).is_err());
        semaphore.release().expect("there is room");
        assert!(semaphore.permit_timeout(Duration::ZERO).is_ok());
    });
}

#[test]
fn a_permit_can_move_to_another_thread() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.permit().expect("there is one");
    thread::scope(|scope| {
        scope.spawn(move || drop(permit));
    });
    assert_eq!(semaphore.value().ok(), Some(1));
    assert!(format!("{semaphore:?}").contains("available: 1"));
}
