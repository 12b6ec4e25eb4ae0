//! Sleeping until somebody rings.
//!
//! # Layout
//!
//! ```text
//! word    31                                              1          0
//!        ┌─────────────────────────────────────────────────┬──────────┐
//!        │ how often it was rung                           │ SLEEPERS │
//!        └─────────────────────────────────────────────────┴──────────┘
//! ```
//!
//! # Rules
//!
//! 1. Who wants to sleep sets `SLEEPERS`, then looks once more whether there is something to do, and
//!    sleeps if the word is still what it left.
//! 2. Who has made something to do looks at `SLEEPERS` afterwards. If it is set, it counts the word up
//!    and wakes one. If nobody slept it clears `SLEEPERS`, unless the word has changed since, and then
//!    wakes all: who went to sleep before it was cleared, on the word as it was, would not be rung for.
//!
//! So ringing costs one load while nobody sleeps, and nobody sleeps through what was there before:
//! each side writes first and looks then, in the one order of all that is `SeqCst`.
//!
//! # Death
//!
//! Who dies before it rang leaves sleepers to the end of their slice. A sleeper that dies leaves
//! `SLEEPERS`, which the next ringer clears; one that was woken and dies leaves the others to the
//! end of theirs.

use std::time::Duration;

use super::atomic::{AtomicU32, Ordering};
use crate::os::futex;
use crate::shm::Shareable;

const SLEEPERS: u32 = 1;
const ONCE: u32 = 2;

#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Bell(AtomicU32);

impl Bell {
    /// Wakes one sleeper, if there are any. What there is to do was stored with `SeqCst` before.
    #[inline]
    pub(crate) fn ring(&self) {
        if self.0.load(Ordering::SeqCst) & SLEEPERS != 0 {
            self.ring_for(1);
        }
    }

    /// Wakes all sleepers.
    pub(crate) fn ring_for_all(&self) {
        if self.0.load(Ordering::SeqCst) & SLEEPERS != 0 {
            self.ring_for(u32::MAX);
        }
    }

    #[cold]
    fn ring_for(&self, count: u32) {
        let rung = self.0.fetch_add(ONCE, Ordering::SeqCst).wrapping_add(ONCE);
        if futex::wake(&self.0, count) == 0 {
            let quiet = rung & !SLEEPERS;
            let cleared = self
                .0
                .compare_exchange(rung, quiet, Ordering::SeqCst, Ordering::Relaxed);
            if cleared.is_ok() {
                futex::wake(&self.0, u32::MAX);
            }
        }
    }

    /// Sleeps for `limit` at most, unless there is something to do; `is_ready` looks with `SeqCst`.
    /// Tells whether nobody ended the sleep.
    pub(crate) fn sleep(&self, limit: Duration, is_ready: impl Fn() -> bool) -> bool {
        let word = self.0.fetch_or(SLEEPERS, Ordering::SeqCst) | SLEEPERS;
        !is_ready() && futex::wait(&self.0, word, limit)
    }
}

// SAFETY: it is an atomic, of which every bit pattern is valid.
unsafe impl Shareable for Bell {}
