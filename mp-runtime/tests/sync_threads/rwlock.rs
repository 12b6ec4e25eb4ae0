use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mp::ErrorKind;
use mp::sync::{PoisonCause, RwLock, TryLockError};

use super::watchdog::{until, within};
use super::{LIMIT, SHORT};

#[test]
fn many_read_at_once_and_one_writes() {
    within(LIMIT, || {
        let lock = RwLock::new((0_u64, 0_u64));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let mut pair = lock.write().expect("nobody dies");
                        pair.0 += 1;
                        pair.1 += 1;
                    }
                });
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let pair = lock.read().expect("nobody dies");
                        assert_eq!(pair.0, pair.1);
                    }
                });
            }
        });
        assert_eq!(lock.get().ok(), Some((10_000, 10_000)));
        let all_in = Barrier::new(3);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let _guard = lock.read().expect("nobody dies");
                    all_in.wait();
                });
            }
        });
    });
}

#[test]
fn a_writer_does_not_starve_among_readers() {
    within(LIMIT, || {
        let lock = RwLock::new(false);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| while !*lock.read().expect("nobody dies") {});
            }
            lock.set(true).expect("nobody dies");
        });
    });
}

#[test]
fn a_reader_does_not_starve_among_writers() {
    within(LIMIT, || {
        let lock = RwLock::new(0_u32);
        let is_over = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while is_over.load(Ordering::Relaxed) == 0 {
                        lock.update(|n| *n = n.wrapping_add(1))
                            .expect("nobody dies");
                    }
                });
            }
            for _ in 0..50 {
                drop(lock.read().expect("nobody dies"));
            }
            is_over.store(1, Ordering::Relaxed);
        });
    });
}

#[test]
fn more_threads_than_slots_read() {
    within(LIMIT, || {
        let lock = RwLock::new(7);
        let in_count = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    let guard = lock.read().expect("nobody dies");
                    in_count.fetch_add(1, Ordering::Relaxed);
                    until(|| in_count.load(Ordering::Relaxed) >= 64);
                    assert_eq!(*guard, 7);
                });
            }
            until(|| in_count.load(Ordering::Relaxed) == 100);
            lock.set(8).expect("nobody dies");
        });
    });
}

#[test]
fn a_thread_reads_again_while_a_writer_waits() {
    within(LIMIT, || {
        let lock = RwLock::new(1);
        thread::scope(|scope| {
            let outer = lock.read().expect("nobody dies");
            scope.spawn(|| lock.set(2).expect("nobody dies"));
            until(|| {
                let others =
                    scope.spawn(|| matches!(lock.try_read(), Err(TryLockError::WouldBlock)));
                others.join().expect("it ends")
            });
            let inner = lock.read().expect("it is in already");
            assert_eq!((*outer, *inner), (1, 1));
            assert!(lock.try_read().is_ok());
            drop(outer);
            assert_eq!(*inner, 1);
        });
        assert_eq!(lock.get().ok(), Some(2));
    });
}

#[test]
fn to_wait_for_oneself_is_an_error() {
    within(LIMIT, || {
        let lock = RwLock::new(1);
        let reading = lock.read().expect("nobody dies");
        assert_eq!(
            lock.write().expect_err("it is refused").kind(),
            ErrorKind::WouldDeadlock
        );
        assert_eq!(
            lock.set(2).expect_err("it is refused").kind(),
            ErrorKind::WouldDeadlock
        );
        assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
        assert!(matches!(
            lock.write_timeout(SHORT),
            Err(TryLockError::Poisoned(poisoned)) if poisoned.kind() == ErrorKind::WouldDeadlock
        ));
        drop(reading);
        let _writing = lock.write().expect("nobody dies");
        assert_eq!(
            lock.write().expect_err("it is refused").kind(),
            ErrorKind::WouldDeadlock
        );
        assert_eq!(
            lock.read().expect_err("it is refused").kind(),
            ErrorKind::WouldDeadlock
        );
        assert_eq!(
            lock.get().expect_err("it is refused").kind(),
            ErrorKind::WouldDeadlock
        );
        assert!(matches!(lock.try_read(), Err(TryLockError::WouldBlock)));
    });
}

#[test]
fn a_panic_poisons_what_was_written_and_not_what_was_read() {
    within(LIMIT, || {
        let lock = RwLock::new(1);
        let reader = thread::scope(|scope| {
            let body = || {
                let _guard = lock.read();
                panic!("while it reads");
            };
            scope.spawn(body).join()
        });
        assert!(reader.is_err());
        assert!(!lock.is_poisoned());
        let writer = thread::scope(|scope| {
            let body = || {
                let _guard = lock.write();
                panic!("while it writes");
            };
            scope.spawn(body).join()
        });
        assert!(writer.is_err());
        let pid = std::process::id();
        let poisoned = lock.read().expect_err("it is refused");
        assert_eq!(poisoned.cause(), PoisonCause::Panicked { pid });
        assert_eq!(*poisoned.into_inner(), 1);
        assert!(matches!(lock.try_write(), Err(TryLockError::Poisoned(_))));
        assert_eq!(
            lock.set(2).expect_err("it is refused").kind(),
            ErrorKind::Poisoned
        );
        lock.clear_poison();
        assert_eq!(lock.replace(3).ok(), Some(1));
    });
}

#[test]
fn a_timeout_is_kept_and_the_longest_is_no_overflow() {
    within(LIMIT, || {
        let lock = RwLock::new(1);
        assert!(lock.read_timeout(Duration::MAX).is_ok());
        assert!(lock.write_timeout(Duration::MAX).is_ok());
        let guard = lock.write().expect("nobody dies");
        thread::scope(|scope| {
            scope.spawn(|| {
                let begin = Instant::now();
                assert!(matches!(
                    lock.read_timeout(SHORT),
                    Err(TryLockError::TimedOut)
                ));
                assert!(matches!(
                    lock.write_timeout(SHORT),
                    Err(TryLockError::TimedOut)
                ));
                assert!(begin.elapsed() >= 2 * SHORT);
                assert!(lock.read_timeout(Duration::ZERO).is_err());
            });
        });
        drop(guard);
        let guard = lock.read().expect("nobody dies");
        thread::scope(|scope| {
            scope.spawn(|| {
                assert!(matches!(
                    lock.write_timeout(SHORT),
                    Err(TryLockError::TimedOut)
                ));
                assert!(lock.try_read().is_ok());
            });
        });
        drop(guard);
        assert!(lock.try_write().is_ok());
    });
}

#[test]
fn a_slice_can_be_behind_it() {
    let lock = RwLock::new([1, 2, 3]);
    let slice: &RwLock<[i32; 3]> = &lock;
    assert_eq!(slice.read().expect("nobody dies").iter().sum::<i32>(), 6);
    assert!(format!("{lock:?}").starts_with("RwLock"));
}

#[test]
fn a_reference_that_outlives_its_reader_keeps_writers_out() {
    within(LIMIT, || {
        let lock = RwLock::new(7);
        let number: &u64 = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let guard = lock.read().expect("nobody dies");
                &**Box::leak(Box::new(guard))
            });
            reader.join().expect("it does not panic")
        });
        for _ in 0..3 {
            assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
        }
        assert!(matches!(
            lock.write_timeout(SHORT * 5),
            Err(TryLockError::TimedOut)
        ));
        assert_eq!(*number, 7);
        assert_eq!(lock.get().ok(), Some(7));
    });
}
