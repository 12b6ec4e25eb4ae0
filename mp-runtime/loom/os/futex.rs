//! Sleeping and waking, in one of two ways.

use std::cell::Cell;
use std::time::Duration;

use loom::sync::{Condvar, Mutex, MutexGuard};

use crate::os::identity;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What ends a sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// Nothing need end it: it is over at once, as if its time had passed.
    Slice,
    /// A wake-up, and nothing else. One that is lost is a deadlock.
    Wake,
}

/// Who sleeps as anything.
const ANY: u32 = u32::MAX;

thread_local! {
    static SLEEP: Cell<Sleep> = const { Cell::new(Sleep::Slice) };
}

/// Who sleeps, in the order they came: each on an address, with a number of its own, and as what.
#[derive(Default)]
struct Sleepers {
    asleep: Vec<(usize, u64, u32)>,
    next_number: u64,
}

loom::lazy_static! {
    static ref SLEEPERS: Mutex<Sleepers> = Mutex::new(Sleepers::default());
    static ref WOKEN: Condvar = Condvar::new();
}

/// From now on. Loom runs all threads of a model on one.
pub(crate) fn set_sleep(sleep: Sleep) {
    SLEEP.set(sleep);
}

pub(crate) fn wait(word: &AtomicU32, expected: u32, _limit: Duration) -> bool {
    sleep(address_of(word), ANY, || {
        word.load(Ordering::SeqCst) == expected
    })
}

pub(crate) fn wake(word: &AtomicU32, count: u32) -> u32 {
    rouse(address_of(word), count)
}

pub(crate) fn wait_low(word: &AtomicU64, expected: u64, _limit: Duration) -> bool {
    sleep(address_of(word), ANY, || {
        word.load(Ordering::SeqCst) as u32 == expected as u32
    })
}

pub(crate) fn wait_as(word: &AtomicU32, expected: u32, _limit: Option<Duration>, kinds: u32) {
    sleep(address_of(word), kinds, || {
        word.load(Ordering::SeqCst) == expected
    });
}

pub(crate) fn wake_kinds(word: &AtomicU32, kinds: u32) {
    rouse_kinds(address_of(word), u32::MAX, kinds);
}

pub(crate) fn wake_low(word: &AtomicU64, count: u32) {
    rouse(address_of(word), count);
}

fn address_of<T>(word: &T) -> usize {
    std::ptr::from_ref(word).addr()
}

/// Whether its time passed.
fn sleep(address: usize, kinds: u32, is_as_expected: impl Fn() -> bool) -> bool {
    if SLEEP.get() == Sleep::Slice {
        if is_as_expected() {
            loom::thread::yield_now();
        }
        return true;
    }
    let mut sleepers = lock();
    if !is_as_expected() {
        return false;
    }
    let number = sleepers.next_number;
    sleepers.next_number += 1;
    sleepers.asleep.push((address, number, kinds));
    while sleepers.asleep.contains(&(address, number, kinds)) {
        sleepers = WOKEN.wait(sleepers).expect("nobody dies asleep");
    }
    false
}

/// How many it woke.
fn rouse(address: usize, count: u32) -> u32 {
    rouse_kinds(address, count, ANY)
}

/// As [`rouse`], of those who sleep as one of these.
fn rouse_kinds(address: usize, count: u32, kinds: u32) -> u32 {
    identity::step();
    if SLEEP.get() == Sleep::Slice || identity::is_dead() {
        return 0;
    }
    let mut sleepers = lock();
    let mut woken = 0;
    while woken < count {
        let mut asleep = sleepers.asleep.iter();
        let first = asleep.position(|&(at, _, own)| at == address && own & kinds != 0);
        match first {
            Some(index) => sleepers.asleep.remove(index),
            None => break,
        };
        woken += 1;
    }
    WOKEN.notify_all();
    woken
}

fn lock() -> MutexGuard<'static, Sleepers> {
    SLEEPERS.lock().expect("nobody dies with it")
}
