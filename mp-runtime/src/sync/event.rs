//! A flag to wait for.
//!
//! # Layout
//!
//! ```text
//! word    31                                       2 1         0
//!        ┌──────────────────────────────────────────┬─────────┬─────┐
//!        │ generation                               │ WAITERS │ SET │
//!        └──────────────────────────────────────────┴─────────┴─────┘
//! ```
//!
//! # Rules
//!
//! 1. `set` sets `SET`, clears `WAITERS` and, if `SET` was not set, begins the next generation, all in
//!    one store. If `WAITERS` was set it then wakes everybody.
//! 2. Who waits is done when it sees `SET` or another generation than at its begin. So it is not
//!    missed that the event was set and cleared at once.
//! 3. `WAITERS` is set by who goes to sleep.
//!
//! # Ordering
//!
//! SYNC f: `set` stores with `Release`, also if the event was set; who sees `SET`, or another
//! generation, sees it with `Acquire`. All stores are read-modify-writes, so what any `set`
//! published stays visible through whatever comes after it.
//!
//! # Death
//!
//! Every change is one store. Who dies in `set` before it has not set; after it, before the
//! wake-up, it has: sleepers look again after a slice of at most 50 ms. Who dies while it waits
//! leaves `WAITERS`, which costs one needless wake-up. Any bits at all are a state of an event.

use std::fmt;
use std::time::Duration;

use super::atomic::{AtomicU32, Ordering};
use super::patience::{Patience, Slices};
use crate::os::futex;
use crate::shm::Shareable;

const SET: u32 = 1;
const WAITERS: u32 = 1 << 1;
const GENERATION_SHIFT: u32 = 2;

/// A flag that threads and processes wait for. 4 bytes.
///
/// It is nobody's, so no death leaves it in a state of its own.
///
/// ```
/// use mp::sync::Event;
///
/// let is_ready = Event::new();
/// std::thread::scope(|scope| {
///     scope.spawn(|| is_ready.wait());
///     is_ready.set();
/// });
/// assert!(is_ready.is_set());
/// ```
#[repr(transparent)]
pub struct Event {
    word: AtomicU32,
}

impl Event {
    /// An event that is not set.
    ///
    /// ```
    /// # use mp::sync::Event;
    /// static STOP: Event = Event::new();
    /// assert!(!STOP.is_set());
    /// ```
    pub const fn new() -> Event {
        Event {
            word: AtomicU32::new(0),
        }
    }

    /// Sets it, and wakes everybody who waits. If it is set, it stays so.
    ///
    /// ```
    /// # use mp::sync::Event;
    /// let event = Event::new();
    /// event.set();
    /// assert!(event.is_set());
    /// ```
    pub fn set(&self) {
        // SYNC f: with `is_over` and `is_set`.
        if self.change(Ordering::AcqRel, set) & WAITERS != 0 {
            futex::wake(&self.word, u32::MAX);
        }
    }

    /// Clears it: who comes from now on waits until it is set again.
    ///
    /// ```
    /// # use mp::sync::Event;
    /// let event = Event::new();
    /// event.set();
    /// event.clear();
    /// assert!(!event.is_set());
    /// ```
    pub fn clear(&self) {
        self.change(Ordering::AcqRel, |word| word & !SET);
    }

    /// Whether it is set.
    ///
    /// ```
    /// assert!(!mp::sync::Event::new().is_set());
    /// ```
    #[inline]
    pub fn is_set(&self) -> bool {
        // SYNC f: with `set`.
        self.word.load(Ordering::Acquire) & SET != 0
    }

    /// Waits until it is set, or was since this call began. `set` wakes it.
    ///
    /// ```
    /// # use mp::sync::Event;
    /// let event = Event::new();
    /// event.set();
    /// event.wait();
    /// ```
    pub fn wait(&self) {
        self.wait_for(Patience::Forever);
    }

    /// As [`wait`](Event::wait), at most for `timeout` on the monotonic clock. Tells whether it
    /// was set.
    ///
    /// ```
    /// # use mp::sync::Event;
    /// # use std::time::Duration;
    /// let event = Event::new();
    /// assert!(!event.wait_timeout(Duration::from_millis(5)));
    /// event.set();
    /// assert!(event.wait_timeout(Duration::MAX));
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_for(Patience::lasting(timeout))
    }

    fn wait_for(&self, patience: Patience) -> bool {
        let begin = self.word.load(Ordering::Acquire);
        let mut slices = Slices::new();
        loop {
            // SYNC f: with `set`.
            let word = self.word.load(Ordering::Acquire);
            if is_over(begin, word) {
                return true;
            }
            let Some(limit) = patience.allows(slices.next()) else {
                return false;
            };
            let marked = self.change(Ordering::AcqRel, |word| match is_over(begin, word) {
                true => word,
                false => word | WAITERS,
            }) | WAITERS;
            if !is_over(begin, marked) {
                futex::wait(&self.word, marked, limit);
            }
        }
    }

    /// Changes the word, and tells what it was.
    fn change(&self, ordering: Ordering, next: impl Fn(u32) -> u32) -> u32 {
        let changed = self
            .word
            .fetch_update(ordering, Ordering::Relaxed, |word| Some(next(word)));
        changed.unwrap_or_else(|word| word)
    }
}

/// What the word becomes when the event is set.
fn set(word: u32) -> u32 {
    let next_generation = match word & SET {
        0 => word.wrapping_add(1 << GENERATION_SHIFT),
        _ => word,
    };
    (next_generation | SET) & !WAITERS
}

/// Whether a wait that began at one word is over at another.
fn is_over(begin: u32, word: u32) -> bool {
    word & SET != 0 || word >> GENERATION_SHIFT != begin >> GENERATION_SHIFT
}

impl Default for Event {
    fn default() -> Event {
        Event::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("is_set", &self.is_set())
            .finish_non_exhaustive()
    }
}

// SAFETY: it is an atomic, of which every bit pattern is valid.
unsafe impl Shareable for Event {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_over_once_the_event_was_set_even_if_it_is_not_any_more() {
        for begin in [0, WAITERS, !SET] {
            let after = set(begin);
            assert!(is_over(begin, after));
            assert!(is_over(begin, after & !SET));
            assert_eq!(after & WAITERS, 0);
            assert_eq!(set(after), after);
        }
        assert!(!is_over(0, WAITERS));
    }
}
