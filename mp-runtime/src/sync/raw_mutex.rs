//! A lock that survives its owner: the means; `mutex.rs` has the type.
//!
//! # Layout
//!
//! ```text
//! word    63            32 31            10 9       4   3       2        1         0
//!        ┌────────────────┬────────────────┬─────────┬───────┬──────────┬─────────┬─────────┐
//!        │ moment         │ thread id      │  zero   │ LENT  │ RESERVED │ HUNGRY  │ WAITERS │
//!        └────────────────┴────────────────┴─────────┴───────┴──────────┴─────────┴─────────┘
//! holder  the process id of the owner, while its critical section runs
//! poison  why the data may be inconsistent: kind in the high bits, process id below; 0: it is not
//! ```
//!
//! The name in `word` ([`ThreadName`]) is the owner; none and no `LENT`: it is free.
//!
//! # Rules
//!
//! 1. `word` goes from free to an owner, and from an owner to free, by compare-and-swap alone. Only
//!    the owner frees it; only who has seen that the owner is dead replaces it.
//! 2. `holder`, `poison` and the data belong to the owner (`poison` may be cleared by anybody).
//! 3. The owner stores `holder` after it got the word and clears it before it gives the word back.
//!    What is built on this lock may do something of its own in between: `claim`, then `enter`.
//! 4. `WAITERS` is set by who goes to sleep, and kept by who got the word after a sleep, since
//!    others may sleep too. Who frees a word with `WAITERS` wakes one.
//! 5. `HUNGRY` is set by a waiter that has waited for a millisecond and got nothing. Who frees a `HUNGRY`
//!    word leaves it `RESERVED`: free for those who have slept, so that nobody who just comes by
//!    takes it again and again before a sleeper is awake.
//! 6. `LENT`: parts of the data are in the hands of several processes, see `shm/lease.rs`. Such a
//!    word has no owner. Who wants it puts its name beside `LENT` first, sees to the end of all
//!    leases, and then takes `LENT` away. A claim of somebody alive is not touched.
//!
//! # Ordering
//!
//! SYNC a: the acquiring compare-and-swap reads what the releasing one wrote, so what one owner did
//! happens before what the next does. With a dead owner there is no release. What it stored before it
//! died is visible to who learns of its death from the kernel, which stopped it at one place in
//! its program: everything before that place was done, nothing after it. Only the compiler could
//! reorder `holder` and the data, hence the compiler fences.
//!
//! # Death
//!
//! | it dies | the next owner finds | and gets |
//! | --- | --- | --- |
//! | before it got the word | another owner, or free | an ordinary lock; a sleeper looks again after its slice, if a wake-up was lost with it |
//! | between the word and `holder` (`claim` and `enter`) | a dead owner, `holder` 0 | an ordinary lock: no code of the user has run |
//! | in the critical section | a dead owner, `holder` its process | the guard, poisoned; torn values mended |
//! | between `holder` and the word | a dead owner, `holder` 0 | an ordinary lock: the section was complete |
//! | between the word and the wake-up | free | an ordinary lock, at the latest after its slice |
//! | as a next owner, before it has poisoned | a dead owner, `holder` the first one's process | the same as that next owner would |
//!
//! A sleeper looks whether the owner is alive after each slice of at most 50 ms. An owner in its
//! critical section is dead when its process is: its thread alone may have ended and left a
//! reference to the data to another thread, with a guard that was leaked. As with std's, such a
//! lock stays locked.
//!
//! Any bits at all in the three words may lead to an error or a wait, never to a panic.

use std::hint;
use std::time::Duration;

use super::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence};
use super::bounds::SPIN_ROUNDS;
use super::patience::{Patience, Slices};
use super::poison::PoisonCause;
use crate::os::identity::{self, ThreadName};
use crate::os::{clock, futex};
use crate::shm::Shareable;
use crate::shm::lease::{self, Lease};

const WAITERS: u64 = 1;
const HUNGRY: u64 = 1 << 1;
const RESERVED: u64 = 1 << 2;
const LENT: u64 = 1 << 3;
/// The flags that may stand beside anything.
const MARKS: u64 = WAITERS | HUNGRY | RESERVED;

/// How long a waiter lets others pass it by.
const HUNGER_NANOS: u64 = 1_000_000;

#[derive(Debug)]
#[repr(C)]
pub(crate) struct RawMutex {
    word: AtomicU64,
    holder: AtomicU32,
    poison: AtomicU32,
}

/// Why the lock was not had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Somebody else has it, and patience is at its end.
    TimedOut,
    /// This thread has it already.
    WouldDeadlock,
}

impl RawMutex {
    pub(crate) const fn new() -> RawMutex {
        RawMutex {
            word: AtomicU64::new(0),
            holder: AtomicU32::new(0),
            poison: AtomicU32::new(0),
        }
    }

    /// Makes this thread the owner. If it comes after a dead one that was in its critical section,
    /// `mend` makes valid values of what that left half written.
    ///
    /// # Errors
    ///
    /// If patience ends first, or this thread is the owner.
    #[inline]
    pub(crate) fn acquire(&self, patience: Patience, mend: impl Fn()) -> Result<(), Refusal> {
        self.claim(patience, mend)?;
        self.enter();
        Ok(())
    }

    /// As [`acquire`](RawMutex::acquire), but the critical section has not begun: until
    /// [`enter`](RawMutex::enter), an owner that dies leaves nothing behind.
    ///
    /// # Errors
    ///
    /// As those of `acquire`.
    #[inline]
    pub(crate) fn claim(&self, patience: Patience, mend: impl Fn()) -> Result<(), Refusal> {
        let me = ThreadName::current();
        // SYNC a: with `release`.
        let taken = self
            .word
            .compare_exchange(0, me.word(), Ordering::Acquire, Ordering::Relaxed);
        match taken {
            Ok(_) => Ok(()),
            Err(_) => self.acquire_contended(me, patience, &mend),
        }
    }

    /// Begins the critical section. Only the owner may call this.
    #[inline]
    pub(crate) fn enter(&self) {
        self.holder.store(identity::process_id(), Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
    }

    /// As [`enter`](RawMutex::enter), in a process that is dead: no id is the limit itself.
    #[cfg(test)]
    pub(crate) fn enter_as_dead(&self) {
        self.holder.store(1 << 22, Ordering::Relaxed);
    }

    /// Ends the critical section.
    #[inline]
    fn leave(&self) {
        compiler_fence(Ordering::SeqCst);
        self.holder.store(0, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
    }

    /// Gives the lock back. Only its owner may call this.
    #[inline]
    pub(crate) fn release(&self) {
        self.leave();
        let me = ThreadName::current().word();
        // SYNC a: with `acquire`.
        let freed = self
            .word
            .compare_exchange(me, 0, Ordering::Release, Ordering::Relaxed);
        if freed.is_err() {
            self.release_contended();
        }
    }

    /// Turns ownership into leases: the lock is free once all of them are over. Only its owner may
    /// call this.
    pub(crate) fn lend(&self) {
        self.leave();
        self.replace(|word| LENT | (word & WAITERS));
    }

    /// Whether somebody, dead or alive, has the lock.
    pub(crate) fn is_locked(&self) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        match word & LENT {
            0 => !is_free(word),
            _ => lease::is_running(self.address()),
        }
    }

    /// As [`is_locked`](RawMutex::is_locked), in the one order of all that is `SeqCst`; what the
    /// last owner did happened before.
    #[inline]
    pub(crate) fn is_claimed(&self) -> bool {
        // SYNC a: with `release`.
        !is_free(self.word.load(Ordering::SeqCst))
    }

    /// Whether this thread has the lock.
    pub(crate) fn is_mine(&self) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        word & LENT == 0 && ThreadName::of_word(word) == ThreadName::current()
    }

    /// Why the data may be inconsistent.
    #[inline]
    pub(crate) fn poison(&self) -> Option<PoisonCause> {
        PoisonCause::of_word(self.poison.load(Ordering::Relaxed))
    }

    /// Says why the data may be inconsistent. Only the owner may call this.
    pub(crate) fn set_poison(&self, cause: PoisonCause) {
        self.poison.store(cause.word(), Ordering::Relaxed);
    }

    pub(crate) fn clear_poison(&self) {
        self.poison.store(0, Ordering::Relaxed);
    }

    #[cold]
    fn acquire_contended(
        &self,
        me: ThreadName,
        patience: Patience,
        mend: &dyn Fn(),
    ) -> Result<(), Refusal> {
        let mut wait = Wait::new();
        loop {
            let word = self.word.load(Ordering::Relaxed);
            if is_free(word) {
                if word & RESERVED == 0 || wait.has_slept() {
                    if self.take(word, me.word() | wait.waiters(word)) {
                        return Ok(());
                    }
                    // Not to sleep on this word: it may be free again, and then nobody wakes.
                    continue;
                }
            } else if word & LENT == 0 && ThreadName::of_word(word) == me {
                return Err(Refusal::WouldDeadlock);
            } else if (wait.is_overdue || word & LENT != 0) && self.take_over(word, me, mend) {
                return Ok(());
            }
            if wait.spin(word) {
                continue;
            }
            match patience.allows(wait.next_slice()) {
                Some(limit) => self.sleep(word, limit, &mut wait),
                // It may be reserved for a sleeper that was killed, or whose time is over.
                None if is_free(word) && self.take(word, me.word() | WAITERS) => return Ok(()),
                None if self.take_over(word, me, mend) => return Ok(()),
                None => {
                    if wait.has_slept() {
                        self.pass_on();
                    }
                    return Err(Refusal::TimedOut);
                }
            }
        }
    }

    /// Gives up a wait. It may have been woken just now, by who took `WAITERS` away: others sleep
    /// on, and must not wait for their slices to end.
    fn pass_on(&self) {
        let word = self.word.load(Ordering::Relaxed);
        let marked = word | WAITERS;
        let is_owned = !is_free(word)
            && self
                .word
                .compare_exchange(word, marked, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if !is_owned {
            futex::wake_low(&self.word, 1);
        }
    }

    /// Sleeps while the word is `word`, with the flags that a sleeper sets.
    fn sleep(&self, word: u64, limit: Duration, wait: &mut Wait) {
        let marked = word | WAITERS | wait.hungry();
        let is_marked = marked == word
            || self
                .word
                .compare_exchange(word, marked, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_marked {
            wait.is_overdue = futex::wait_low(&self.word, marked, limit);
        }
    }

    fn take(&self, from: u64, to: u64) -> bool {
        // SYNC a: with `release`.
        self.word
            .compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Becomes the owner after a dead one, or after the end of all leases, if `word` is still what
    /// the word holds.
    fn take_over(&self, word: u64, me: ThreadName, mend: &dyn Fn()) -> bool {
        let is_taken = if word & LENT != 0 {
            self.claim_loan(word, me)
        } else {
            !is_free(word) && self.is_abandoned(word) && self.take(word, me.word() | WAITERS)
        };
        if !is_taken {
            return false;
        }
        // Until `poison` is stored and the data is whole, `holder` stays what it was, so that the
        // next owner after a death in here does this again.
        let dead = self.holder.load(Ordering::Relaxed);
        if dead != 0 {
            self.set_poison(PoisonCause::OwnerDied { pid: dead });
            mend();
            compiler_fence(Ordering::SeqCst);
            self.holder.store(0, Ordering::Relaxed);
        }
        true
    }

    /// Whether the owner that `word` names will never give it back. A thread that has ended may have
    /// handed a reference to the data on before, if it leaked its guard; so where a critical section
    /// has begun the whole process must be gone.
    fn is_abandoned(&self, word: u64) -> bool {
        let owner = ThreadName::of_word(word);
        !owner.is_alive()
            && match self.holder.load(Ordering::Relaxed) {
                0 => true,
                process_id => !owner.is_process_alive(process_id),
            }
    }

    /// Takes what was lent, if all leases are over.
    fn claim_loan(&self, word: u64, me: ThreadName) -> bool {
        let claimant = ThreadName::of_word(word);
        let is_claimed = claimant != ThreadName::NOBODY && claimant.is_alive();
        let claimed = me.word() | LENT | WAITERS;
        if is_claimed || lease::is_running(self.address()) || !self.take(word, claimed) {
            return false;
        }
        // The loss of a part is noted before the lease ends, so that it outlives this thread.
        let note_loss = |process_id| {
            self.holder.store(process_id, Ordering::Relaxed);
            compiler_fence(Ordering::SeqCst);
        };
        match lease::end(self.address(), &note_loss) {
            Lease::Running => {
                self.replace_claim(me, LENT);
                false
            }
            Lease::Over => self.replace_claim(me, me.word()),
        }
    }

    /// Replaces this thread's claim, and tells whether it was still there.
    fn replace_claim(&self, me: ThreadName, next: u64) -> bool {
        let is_mine = |word: u64| word & !MARKS == me.word() | LENT;
        let before = self.replace(|word| match is_mine(word) {
            true => next | WAITERS,
            false => word,
        });
        is_mine(before)
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    #[cold]
    fn release_contended(&self) {
        let next = |word| match word & HUNGRY {
            0 => 0,
            _ => RESERVED | WAITERS,
        };
        // SYNC a: with `acquire`.
        if self.replace(next) & WAITERS != 0 {
            futex::wake_low(&self.word, 1);
        }
    }

    /// Replaces what the word holds, and tells what that was.
    fn replace(&self, next: impl Fn(u64) -> u64) -> u64 {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let replaced =
                self.word
                    .compare_exchange(word, next(word), Ordering::Release, Ordering::Relaxed);
            match replaced {
                Ok(before) => return before,
                Err(now) => word = now,
            }
        }
    }
}

/// How a wait goes.
struct Wait {
    spins: u32,
    slices: Slices,
    /// When it first went to sleep, in nanoseconds.
    asleep_since: Option<u64>,
    /// The last sleep was not ended by anybody: the owner may be dead.
    is_overdue: bool,
}

impl Wait {
    fn new() -> Wait {
        Wait {
            spins: 0,
            slices: Slices::new(),
            asleep_since: None,
            is_overdue: false,
        }
    }

    /// Pauses for a moment, unless that was done often enough, or somebody sleeps already.
    fn spin(&mut self, word: u64) -> bool {
        let is_sensible = self.spins < SPIN_ROUNDS && word & (LENT | RESERVED | WAITERS) == 0;
        if is_sensible {
            for _ in 0..(1 << self.spins) {
                hint::spin_loop();
            }
            self.spins += 1;
        }
        is_sensible
    }

    fn has_slept(&self) -> bool {
        self.asleep_since.is_some()
    }

    /// How long to sleep next.
    fn next_slice(&mut self) -> Duration {
        self.asleep_since.get_or_insert_with(clock::monotonic_nanos);
        self.slices.next()
    }

    /// The flag of rule 5, after a millisecond of getting nothing.
    fn hungry(&self) -> u64 {
        let is_hungry = self
            .asleep_since
            .is_some_and(|since| clock::monotonic_nanos().saturating_sub(since) > HUNGER_NANOS);
        if is_hungry { HUNGRY } else { 0 }
    }

    /// The flag of rule 4, for the word that this waiter takes.
    fn waiters(&self, word: u64) -> u64 {
        if self.has_slept() {
            WAITERS
        } else {
            word & WAITERS
        }
    }
}

#[inline]
fn is_free(word: u64) -> bool {
    word & !MARKS == 0
}

// SAFETY: it is made of atomics, of which every bit pattern is valid.
unsafe impl Shareable for RawMutex {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_reserved_for_a_sleeper_that_is_gone_is_had_without_waiting() {
        let lock = RawMutex::new();
        lock.word.store(RESERVED | WAITERS, Ordering::Relaxed);
        assert_eq!(lock.acquire(Patience::Never, || ()), Ok(()));
        lock.release();
        assert!(!lock.is_locked());
    }
}
