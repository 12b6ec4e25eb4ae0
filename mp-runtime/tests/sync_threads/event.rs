use std::thread;
use std::time::{Duration, Instant};

use mp::sync::Event;

use super::watchdog::within;
use super::{LIMIT, SHORT};

#[test]
fn everybody_who_waits_is_woken() {
    within(LIMIT, || {
        let event = Event::new();
        thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| event.wait());
            }
            event.set();
        });
        assert!(event.is_set());
        event.wait();
        event.set();
        event.clear();
        event.clear();
        assert!(!event.is_set());
    });
}

#[test]
fn an_event_that_is_set_and_cleared_at_once_is_not_missed() {
    within(LIMIT, || {
        let (event, is_waiting) = (Event::new(), Event::new());
        for _ in 0..200 {
            thread::scope(|scope| {
                let waiter = scope.spawn(|| {
                    is_waiting.set();
                    event.wait();
                });
                is_waiting.wait();
                is_waiting.clear();
                while !waiter.is_finished() {
                    event.set();
                    event.clear();
                    thread::yield_now();
                }
            });
        }
    });
}

#[test]
fn a_timeout_is_kept_and_the_longest_is_no_overflow() {
    within(LIMIT, || {
        let event = Event::new();
        let begin = Instant::now();
        assert!(!event.wait_timeout(SHORT));
        assert!(begin.elapsed() >= SHORT);
        assert!(!event.wait_timeout(Duration::ZERO));
        thread::scope(|scope| {
            scope.spawn(|| event.set());
            assert!(event.wait_timeout(Duration::MAX));
        });
        assert!(event.wait_timeout(Duration::ZERO));
        assert!(format!("{event:?}").contains("is_set: true"));
    });
}
