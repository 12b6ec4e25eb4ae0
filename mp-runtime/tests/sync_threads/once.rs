use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use mp::sync::{Once, OnceLock};

use super::LIMIT;
use super::watchdog::within;

fn message_of(body: impl FnOnce()) -> String {
    let reason = catch_unwind(AssertUnwindSafe(body)).expect_err("it panics");
    match reason.downcast::<&str>() {
        Ok(message) => (*message).to_owned(),
        Err(reason) => *reason.downcast::<String>().expect("it has a message"),
    }
}

#[test]
fn it_is_done_once_and_everybody_waits_for_it() {
    within(LIMIT, || {
        for _ in 0..50 {
            let (once, count) = (Once::new(), AtomicU32::new(0));
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        once.call_once(|| {
                            thread::yield_now();
                            count.fetch_add(1, Ordering::Relaxed);
                        });
                        assert_eq!(count.load(Ordering::Relaxed), 1);
                    });
                }
            });
            assert!(once.is_completed());
        }
    });
}

#[test]
fn a_panic_poisons_once() {
    within(LIMIT, || {
        let once = Once::new();
        assert_eq!(
            message_of(|| once.call_once(|| panic!("half-way"))),
            "half-way"
        );
        assert!(!once.is_completed());
        assert!(message_of(|| once.call_once(|| ())).contains("poisoned"));
    });
}

#[test]
fn to_wait_for_oneself_is_a_panic() {
    within(LIMIT, || {
        let once = Once::new();
        let message = message_of(|| once.call_once(|| once.call_once(|| ())));
        assert!(message.contains("waits for itself"), "{message}");
        let cell = OnceLock::new();
        let message = message_of(|| {
            cell.get_or_init(|| *cell.get_or_init(|| 1));
        });
        assert!(message.contains("waits for itself"), "{message}");
        assert_eq!(cell.set(2), Ok(()));
    });
}

#[test]
fn a_panic_leaves_a_cell_empty() {
    within(LIMIT, || {
        let cell = OnceLock::new();
        let message = message_of(|| {
            cell.get_or_init(|| panic!("half-way"));
        });
        assert_eq!(message, "half-way");
        assert_eq!(cell.get(), None);
        assert_eq!(*cell.get_or_init(|| 3), 3);
        assert_eq!(format!("{cell:?}"), "OnceLock(Some(3))");
    });
}

#[test]
fn everybody_gets_the_same_value() {
    within(LIMIT, || {
        for _ in 0..50 {
            let cell = OnceLock::new();
            let values: Vec<u32> = thread::scope(|scope| {
                let cell = &cell;
                let threads: Vec<_> = (0..8)
                    .map(|index| scope.spawn(move || *cell.get_or_init(|| index)))
                    .collect();
                let values = threads.into_iter().map(thread::ScopedJoinHandle::join);
                values.map(|value| value.expect("it ends")).collect()
            });
            assert!(values.iter().all(|value| Some(value) == cell.get()));
            assert_eq!(cell.set(100), Err(100));
        }
    });
}
