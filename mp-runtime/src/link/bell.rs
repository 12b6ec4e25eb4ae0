//! The bell of a ring: who sleeps until something comes, and who wakes whom.
//!
//! # Layout
//!
//! ```text
//! word    31                                   2        1          0
//!        ┌──────────────────────────────────────┬──────────┬──────────┐
//!        │ how often it was rung                │ WAITER   │ KEEPER   │
//!        └──────────────────────────────────────┴──────────┴──────────┘
//! ```
//!
//! A bit is set while a sleeper of that kind wants to be woken. The *keeper* of a ring is the
//! thread that is there for it at all times; a *waiter* is a thread that waits for something
//! certain and takes from the ring itself meanwhile.
//!
//! # Rules
//!
//! 1. Who wants to sleep sets its bit, then looks once more whether there is something to take, and
//!    sleeps if the word is still what it left.
//! 2. Who has put something into the ring looks at the bits afterwards. If any is set it counts the
//!    word up, takes the bits off in the same step, and wakes the kinds they stand for.
//! 3. A keeper may sleep with its bit taken off by somebody else, who takes from the ring in its
//!    place. Who stops doing so sets the bit again, and then looks once more as in rule 1: what
//!    came before is its own to take, or to wake the keeper for.
//!
//! The looks of rules 1 and 2 are `SeqCst`, as are the writes before them. So one of the two sees
//! what the other wrote, and no wake-up is lost. Who is killed after it put something and before it
//! rang leaves that to the parent, which is told of each death and wakes everybody. A hostile worker
//! may write the word as well: then wake-ups come late, or without a reason, as if it had not
//! answered, or had answered in vain.

use std::time::Duration;

use crate::os::futex;
use crate::sync::atomic::{AtomicU32, Ordering};

/// Who sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sleeper {
    Keeper = 1,
    Waiter = 2,
}

const BITS: u32 = Sleeper::Keeper as u32 | Sleeper::Waiter as u32;
const ONCE: u32 = 4;

/// A view of the word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bell<'w>(pub(super) &'w AtomicU32);

impl Bell<'_> {
    /// Who wants to be woken, in the order of all that is `SeqCst`.
    #[inline]
    pub(super) fn is_wanted(self) -> bool {
        self.0.load(Ordering::SeqCst) & BITS != 0
    }

    /// Whether a sleeper of this kind wants to be woken, in the order of all that is `SeqCst`.
    pub(super) fn is_surely_wanted_by(self, sleeper: Sleeper) -> bool {
        self.0.load(Ordering::SeqCst) & sleeper as u32 != 0
    }

    /// Changes whenever it is rung.
    pub(super) fn count(self) -> u32 {
        self.0.load(Ordering::SeqCst) & !BITS
    }

    /// Whether a sleeper of this kind wants to be woken; a look that may be a moment old.
    #[inline]
    pub(super) fn is_wanted_by(self, sleeper: Sleeper) -> bool {
        self.0.load(Ordering::Relaxed) & sleeper as u32 != 0
    }

    /// Wakes those who want it. What there is to take was stored with `SeqCst` before.
    #[inline]
    pub(super) fn ring(self) {
        if self.is_wanted() {
            self.ring_for(0);
        }
    }

    /// The same; tells whether a sleeper of this kind was among them.
    #[inline]
    pub(super) fn has_rung_for(self, sleeper: Sleeper) -> bool {
        self.is_wanted() && self.ring_for(0) & sleeper as u32 != 0
    }

    /// Wakes those who want it, and these in any case; tells who that was.
    #[cold]
    fn ring_for(self, kinds: u32) -> u32 {
        let mut word = self.0.load(Ordering::SeqCst);
        loop {
            let rung = (word & !BITS).wrapping_add(ONCE);
            let swap = self
                .0
                .compare_exchange_weak(word, rung, Ordering::SeqCst, Ordering::SeqCst);
            match swap {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        let wanted = word & BITS | kinds;
        if wanted != 0 {
            futex::wake_kinds(self.0, wanted);
        }
        wanted
    }

    /// Wakes a sleeper of this kind, whether it wants it or not.
    pub(super) fn wake(self, sleeper: Sleeper) {
        self.ring_for(sleeper as u32);
    }

    /// Wakes everybody.
    pub(super) fn wake_all(self) {
        self.ring_for(BITS);
    }

    /// From now on a sleeper of this kind is woken (rule 3).
    pub(super) fn want(self, sleeper: Sleeper) {
        self.0.fetch_or(sleeper as u32, Ordering::SeqCst);
    }

    /// From now on it is not.
    pub(super) fn do_not_want(self, sleeper: Sleeper) {
        if self.is_wanted_by(sleeper) {
            self.0.fetch_and(!(sleeper as u32), Ordering::SeqCst);
        }
    }

    /// Sleeps until it is rung, `limit` at most, unless `is_ready` sees something, looking with
    /// `SeqCst`. It may return for no reason.
    pub(super) fn sleep(
        self,
        sleeper: Sleeper,
        limit: Option<Duration>,
        is_ready: impl Fn() -> bool,
    ) {
        let bit = sleeper as u32;
        let word = self.0.fetch_or(bit, Ordering::SeqCst) | bit;
        if !is_ready() {
            futex::wait_as(self.0, word, limit, bit);
        }
    }

    /// Sleeps until somebody wakes it, `limit` at most, without a wish of its own: somebody else may
    /// express it.
    pub(super) fn doze(
        self,
        sleeper: Sleeper,
        limit: Option<Duration>,
        is_ready: impl Fn() -> bool,
    ) {
        let word = self.0.load(Ordering::SeqCst);
        if !is_ready() {
            futex::wait_as(self.0, word, limit, sleeper as u32);
        }
    }
}
