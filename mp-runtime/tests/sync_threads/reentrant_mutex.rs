use std::cell::Cell;
use std::thread;
use std::time::Duration;

use mp::ErrorKind;
use mp::sync::{PoisonCause, ReentrantMutex, TryLockError};

use super::watchdog::within;
use super::{LIMIT, SHORT};

#[test]
fn one_thread_takes_it_many_times_and_the_last_guard_gives_it_back() {
    within(LIMIT, || {
        let lock = ReentrantMutex::new(Cell::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let outer = lock.lock().expect("nobody dies");
                        let inner = lock.lock().expect("nobody dies");
                        let before = inner.get();
                        drop(outer);
                        let third = lock.try_lock().expect("it is this thread's");
                        inner.set(before + 1);
                        drop(inner);
                        assert_eq!(third.get(), before + 1);
                    }
                });
            }
        });
        assert!(!lock.is_locked());
        assert_eq!(lock.lock().expect("nobody dies").get(), 8_000);
    });
}

#[test]
fn others_wait_until_the_last_guard_is_gone() {
    within(LIMIT, || {
        let lock = ReentrantMutex::new(1);
        let outer = lock.lock().expect("nobody dies");
        let inner = lock
            .lock_timeout(Duration::MAX)
            .expect("it is this thread's");
        drop(outer);
        thread::scope(|scope| {
            scope.spawn(|| {
                assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
                assert!(matches!(
                    lock.lock_timeout(SHORT),
                    Err(TryLockError::TimedOut)
                ));
            });
        });
        drop(inner);
        thread::scope(|scope| {
            scope.spawn(|| assert_eq!(lock.get().ok(), Some(1)));
        });
    });
}

#[test]
fn a_value_that_is_shared_is_not_changed() {
    within(LIMIT, || {
        let lock = ReentrantMutex::new(1);
        let guard = lock.lock().expect("nobody dies");
        assert_eq!(
            lock.set(2).expect_err("it is refused").kind(),
            ErrorKind::WouldDeadlock
        );
        assert_eq!(
            lock.replace(2).expect_err("it is refused").kind(),
            ErrorKind::WouldDeadlock
        );
        assert_eq!(
            lock.update(|_| ()).expect_err("it is refused").kind(),
            ErrorKind::WouldDeadlock
        );
        assert_eq!(lock.get().ok(), Some(1));
        assert_eq!(*guard, 1);
        drop(guard);
        let nested = lock.update(|value| {
            *value = 2;
            assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
            let deadlock = ErrorKind::WouldDeadlock;
            assert!(matches!(
                lock.lock_timeout(SHORT),
                Err(TryLockError::Poisoned(poisoned)) if poisoned.kind() == deadlock
            ));
            assert_eq!(lock.lock().expect_err("it is refused").kind(), deadlock);
            lock.get().expect_err("it is refused").kind()
        });
        assert_eq!(nested.ok(), Some(ErrorKind::WouldDeadlock));
        assert_eq!(lock.replace(3).ok(), Some(2));
        assert!(!lock.is_locked());
    });
}

#[test]
fn a_panic_poisons_it() {
    within(LIMIT, || {
        let lock = ReentrantMutex::new(1);
        let panicked = thread::scope(|scope| {
            let body = || {
                let _outer = lock.lock();
                let _inner = lock.lock();
                panic!("with two guards");
            };
            scope.spawn(body).join()
        });
        assert!(panicked.is_err());
        assert!(lock.is_poisoned());
        let pid = std::process::id();
        let poisoned = lock.lock().expect_err("it is refused");
        assert_eq!(poisoned.cause(), PoisonCause::Panicked { pid });
        drop(poisoned);
        assert_eq!(
            lock.set(2).expect_err("it is refused").kind(),
            ErrorKind::Poisoned
        );
        assert!(!lock.is_locked());
        lock.clear_poison();
        assert_eq!(lock.set(2).ok(), Some(()));
        let panicked = thread::scope(|scope| {
            let body = || lock.update(|_| panic!("while it changes")).ok();
            scope.spawn(body).join()
        });
        assert!(panicked.is_err());
        assert!(lock.is_poisoned() && !lock.is_locked());
    });
}
