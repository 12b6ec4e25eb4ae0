//! The word of a bell, step by step; that no wake-up is lost is for the models to say.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::within;
use crate::link::bell::{Bell, Sleeper};
use crate::sync::atomic::{AtomicU32, Ordering};

const KEEPER: u32 = 1;
const WAITER: u32 = 2;
const ONCE: u32 = 4;

#[test]
fn a_bell_that_nobody_wants_rung_stays_as_it_is() {
    let word = AtomicU32::new(0);
    Bell(&word).ring();
    assert_eq!(word.load(Ordering::Relaxed), 0);
}

#[test]
fn ringing_counts_and_takes_the_wishes_off() {
    let word = AtomicU32::new(0);
    let bell = Bell(&word);
    bell.want(Sleeper::Keeper);
    bell.want(Sleeper::Waiter);
    assert_eq!(word.load(Ordering::Relaxed), KEEPER | WAITER);
    assert!(bell.is_wanted_by(Sleeper::Keeper) && bell.is_wanted_by(Sleeper::Waiter));
    bell.ring();
    assert_eq!(word.load(Ordering::Relaxed), ONCE);
    assert!(!bell.is_wanted());
    bell.want(Sleeper::Waiter);
    bell.do_not_want(Sleeper::Keeper);
    assert!(bell.is_wanted() && !bell.is_wanted_by(Sleeper::Keeper));
    bell.do_not_want(Sleeper::Waiter);
    assert_eq!(word.load(Ordering::Relaxed), ONCE);
    // Whether it is wanted or not.
    bell.wake(Sleeper::Keeper);
    bell.wake_all();
    assert_eq!(word.load(Ordering::Relaxed), 3 * ONCE);
}

#[test]
fn the_count_of_a_bell_begins_again_and_leaves_the_wishes_alone() {
    let word = AtomicU32::new(!0 << 2);
    let bell = Bell(&word);
    bell.want(Sleeper::Waiter);
    bell.ring();
    assert_eq!(word.load(Ordering::Relaxed), 0);
}

#[test]
fn nobody_sleeps_who_finds_something() {
    within(|| {
        let word = AtomicU32::new(0);
        Bell(&word).sleep(Sleeper::Keeper, None, || true);
        Bell(&word).doze(Sleeper::Keeper, None, || true);
    });
}

#[test]
fn a_sleep_with_a_limit_ends() {
    within(|| {
        let word = AtomicU32::new(0);
        Bell(&word).sleep(Sleeper::Waiter, Some(Duration::from_millis(1)), || false);
        Bell(&word).sleep(Sleeper::Waiter, Some(Duration::ZERO), || false);
        // A wish is not taken back by who leaves.
        assert_eq!(word.load(Ordering::Relaxed), WAITER);
    });
}

#[test]
fn both_kinds_of_sleepers_are_woken() {
    within(|| {
        let shared = Arc::new((AtomicU32::new(0), AtomicBool::new(false)));
        let kinds = [Sleeper::Keeper, Sleeper::Waiter, Sleeper::Waiter];
        let sleepers = kinds.map(|kind| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                let is_there = || shared.1.load(Ordering::SeqCst);
                while !is_there() {
                    Bell(&shared.0).sleep(kind, None, is_there);
                }
            })
        });
        shared.1.store(true, Ordering::SeqCst);
        Bell(&shared.0).ring();
        for sleeper in sleepers {
            sleeper.join().expect("it does not panic");
        }
    });
}

#[test]
fn who_dozes_is_woken_by_who_wants_it() {
    within(|| {
        let shared = Arc::new((AtomicU32::new(0), AtomicBool::new(false)));
        let others = Arc::clone(&shared);
        let dozer = std::thread::spawn(move || {
            let is_there = || others.1.load(Ordering::SeqCst);
            while !is_there() {
                Bell(&others.0).doze(Sleeper::Keeper, None, is_there);
            }
        });
        // As `Link::leave_to_keeper` and the worker do.
        Bell(&shared.0).want(Sleeper::Keeper);
        shared.1.store(true, Ordering::SeqCst);
        Bell(&shared.0).ring();
        dozer.join().expect("it does not panic");
    });
}
