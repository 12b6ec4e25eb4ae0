//! What is done once.
//!
//! # Layout
//!
//! ```text
//! word    63                                             10 9   3       2          1         0
//!        ┌─────────────────────────────────────────────────┬─────┬──────────┬──────────┬─────────┐
//!        │ name of the thread that does it now             │  0  │ POISONED │ COMPLETE │ WAITERS │
//!        └─────────────────────────────────────────────────┴─────┴──────────┴──────────┴─────────┘
//! ```
//!
//! # Rules
//!
//! 1. Nothing done, or `POISONED`: any thread may put its name there, by compare-and-swap. It is
//!    then the one that does it.
//! 2. A name: that thread replaces it by `COMPLETE`, by `POISONED` if it panicked, or by nothing if
//!    a panic is not to be kept. Another thread replaces it by its own if it has seen that the one
//!    named is dead.
//! 3. `COMPLETE` stays.
//! 4. `WAITERS` is set beside a name by who goes to sleep. Who replaces the name at its end wakes
//!    everybody if it stands there.
//!
//! # Ordering
//!
//! SYNC g: the end is stored with `Release`, and seen with `Acquire`: what was done happened
//! before. After a death there is no release, and what was done so far is visible as
//! `raw_mutex.rs` says; the next one does all of it again.
//!
//! # Death
//!
//! | it dies | the next one finds | and does |
//! | --- | --- | --- |
//! | before its name is there | what was before | that |
//! | while it does it | a dead name | it, from the beginning |
//! | after the end was stored, before the wake-up | the end | nothing; sleepers look again after a slice of at most 50 ms |
//! | while it waits | `WAITERS` | one needless wake-up |
//!
//! Any bits at all are one of these states: what names nobody is dead.

use std::fmt;

use super::atomic::{AtomicU64, Ordering};
use super::patience::{Patience, Slices};
use crate::os::futex;
use crate::os::identity::ThreadName;
use crate::shm::Shareable;

const WAITERS: u64 = 1;
const COMPLETE: u64 = 1 << 1;
const POISONED: u64 = 1 << 2;

/// What is done once, by whichever thread or process comes first. 8 bytes.
///
/// If its process dies while it does it, the next one does it again, from the beginning.
///
/// ```
/// use mp::sync::Once;
///
/// static START: Once = Once::new();
///
/// for _ in 0..2 {
///     START.call_once(|| println!("this is printed once"));
/// }
/// assert!(START.is_completed());
/// ```
#[repr(transparent)]
pub struct Once {
    word: AtomicU64,
}

/// What becomes of a panic in what is done once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterPanic {
    /// Whoever comes next panics.
    Poisoned,
    /// As `Poisoned`; and this one does it whatever was before.
    Forced,
    /// Whoever comes next does it.
    Again,
}

/// What [`Once::call_once_force`] tells of what was before.
///
/// ```
/// mp::sync::Once::new().call_once_force(|state| assert!(!state.is_poisoned()));
/// ```
#[derive(Debug)]
pub struct OnceState {
    is_poisoned: bool,
}

impl OnceState {
    /// Whether it was begun before, and panicked.
    ///
    /// ```
    /// mp::sync::Once::new().call_once_force(|state| assert!(!state.is_poisoned()));
    /// ```
    pub fn is_poisoned(&self) -> bool {
        self.is_poisoned
    }
}

/// Stores the end of what is done, also if that is a panic.
struct Ending<'a> {
    once: &'a Once,
    word: u64,
}

impl Once {
    /// Not done so far.
    ///
    /// ```
    /// assert!(!mp::sync::Once::new().is_completed());
    /// ```
    pub const fn new() -> Once {
        Once {
            word: AtomicU64::new(0),
        }
    }

    /// Calls `work` if that was not done before. When this returns, it is done.
    ///
    /// If another thread does it now, this waits; it is woken when that is done, panics or dies.
    ///
    /// ```
    /// # use mp::sync::Once;
    /// let once = Once::new();
    /// let mut count = 0;
    /// once.call_once(|| count += 1);
    /// once.call_once(|| count += 1);
    /// assert_eq!(count, 1);
    /// ```
    ///
    /// # Panics
    ///
    /// If `work` panics; all later calls panic too then. If `work` calls this on the same `Once`,
    /// which would wait for itself.
    #[inline]
    #[track_caller]
    pub fn call_once(&self, work: impl FnOnce()) {
        if !self.is_completed() {
            self.run(AfterPanic::Poisoned, |_| work());
        }
    }

    /// As [`call_once`](Once::call_once), also after a panic: `work` is told whether there was one.
    ///
    /// ```
    /// # use mp::sync::Once;
    /// let once = Once::new();
    /// let failed = std::panic::catch_unwind(|| once.call_once(|| panic!("half-way")));
    /// assert!(failed.is_err());
    /// once.call_once_force(|state| assert!(state.is_poisoned()));
    /// assert!(once.is_completed());
    /// ```
    ///
    /// # Panics
    ///
    /// If `work` panics; later calls of `call_once` panic too then. If `work` calls this on the
    /// same `Once`, which would wait for itself.
    #[inline]
    #[track_caller]
    pub fn call_once_force(&self, work: impl FnOnce(&OnceState)) {
        if !self.is_completed() {
            self.run(AfterPanic::Forced, |is_poisoned| {
                work(&OnceState { is_poisoned });
            });
        }
    }

    /// Whether it is done.
    ///
    /// ```
    /// # use mp::sync::Once;
    /// let once = Once::new();
    /// once.call_once(|| ());
    /// assert!(once.is_completed());
    /// ```
    #[inline]
    pub fn is_completed(&self) -> bool {
        // SYNC g: with `Ending`.
        self.word.load(Ordering::Acquire) & COMPLETE != 0
    }

    /// Calls `work`, with whether one before panicked, or waits until another thread has done so.
    #[cold]
    #[track_caller]
    pub(crate) fn run(&self, after_panic: AfterPanic, work: impl FnOnce(bool)) {
        let me = ThreadName::current();
        let mut slices = Slices::new();
        let mut is_overdue = false;
        loop {
            // SYNC g: with `Ending`.
            let word = self.word.load(Ordering::Acquire);
            let doer = ThreadName::of_word(word);
            if word & COMPLETE != 0 {
                return;
            } else if word & POISONED != 0 && after_panic == AfterPanic::Poisoned {
                panic!("the `Once` is poisoned: what is done once has panicked before");
            } else if doer == me {
                panic!("a deadlock: what is done once waits for itself");
            }
            let is_free = word & POISONED != 0 || doer == ThreadName::NOBODY;
            if is_free || (is_overdue && !doer.is_alive()) {
                if self.exchange(word, me.word() | (word & WAITERS)) {
                    return self.work(after_panic, || work(word & POISONED != 0));
                }
                continue;
            }
            if let Some(limit) = Patience::Forever.allows(slices.next())
                && (word & WAITERS != 0 || self.exchange(word, word | WAITERS))
            {
                is_overdue = futex::wait_low(&self.word, word | WAITERS, limit);
            }
        }
    }

    /// Calls `work` as the one that does it.
    fn work(&self, after_panic: AfterPanic, work: impl FnOnce()) {
        let mut ending = Ending {
            once: self,
            word: match after_panic {
                AfterPanic::Poisoned | AfterPanic::Forced => POISONED,
                AfterPanic::Again => 0,
            },
        };
        work();
        ending.word = COMPLETE;
    }

    fn exchange(&self, from: u64, to: u64) -> bool {
        self.word
            .compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        // SYNC g: with `is_completed` and `run`.
        let before = self.once.word.swap(self.word, Ordering::Release);
        if before & WAITERS != 0 {
            futex::wake_low(&self.once.word, u32::MAX);
        }
    }
}

impl Default for Once {
    fn default() -> Once {
        Once::new()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once")
            .field("is_completed", &self.is_completed())
            .finish_non_exhaustive()
    }
}

// SAFETY: it is an atomic, of which every bit pattern is valid.
unsafe impl Shareable for Once {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_thread_began_is_done_again() {
        for mark in [0, WAITERS, 1 << 7] {
            // The highest id there can be, which no machine reaches, at some moment.
            let dead = (1 << 32) | (0x3f_ffff << 10);
            let once = Once {
                word: AtomicU64::new(dead | mark),
            };
            let mut count = 0;
            once.call_once(|| count += 1);
            assert_eq!((count, once.is_completed()), (1, true));
        }
    }

    #[test]
    fn bits_that_name_nobody_are_no_obstacle() {
        let once = Once {
            word: AtomicU64::new(0x3f8),
        };
        once.call_once(|| ());
        assert!(once.is_completed());
    }
}
