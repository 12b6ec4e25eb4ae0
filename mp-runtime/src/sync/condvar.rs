//! Waiting for a condition of what a `Mutex` guards.
//!
//! # Layout
//!
//! ```text
//! sequence  bits 31..1: goes up at every notification; bit 0, CROWD: somebody slept on it once
//! cursor    the slot at which the next notification begins to look
//! waiters   a table of threads; the mark of a slot is WAITING or NOTIFIED
//! ```
//!
//! # Rules
//!
//! 1. Who waits takes a slot, `WAITING`, before it gives the mutex back, and sleeps on the slot.
//!    A notification therefore finds everybody who waited when the mutex was last given back.
//! 2. A notification turns one `WAITING` into `NOTIFIED`, by compare-and-swap, and then wakes who
//!    sleeps there. It takes the slots in turn, so nobody is passed by more than once a round.
//! 3. A waiter that is `NOTIFIED` frees its slot once it has the mutex again, and not before.
//! 4. A waiter whose time is over frees its slot from `WAITING`, by compare-and-swap. If that
//!    fails it was notified, and returns as such: it takes no notification with it.
//! 5. A waiter that sleeps through a slice of at most 50 ms looks for slots of dead threads that
//!    are `NOTIFIED`. It notifies another, then frees the slot. In this order: a death between
//!    the two makes one notification too many, never one too few.
//! 6. Who finds no slot is of the crowd: it sleeps on `sequence`, until that changes. A
//!    notification that finds no slot that is `WAITING` wakes from the crowd.
//!
//! Hence a notification reaches one waiter, a living one, and wakes no other, for as long as there
//! are slots. It may wake one too many: at rule 5, and in the crowd, where everybody wakes
//! after a slice in which anybody was notified. Callers look at their condition again, as with
//! every condition variable.
//!
//! # Ordering
//!
//! The mutex orders a waiter's slot before what a notifier does if that holds the mutex after the
//! waiter gave it back. To who notifies without ever having held it, nothing is promised.
//!
//! # Death
//!
//! | it dies | the others |
//! | --- | --- |
//! | while it waits, not notified | a notification that it gets is passed on by rule 5; its slot is freed then, or when somebody needs it |
//! | notified, before it has the mutex | as above |
//! | with the mutex | know from the mutex |
//! | as a notifier, after it changed `sequence` | are not notified: the notification did not happen, or, in the crowd, did |
//! | as a notifier, before it woke who is `NOTIFIED` | that one looks at its slot after a slice |
//!
//! Any bits at all in the words may lead to a wait or to its end, never to a panic.

use std::fmt;
use std::time::Duration;

use super::atomic::{AtomicU32, Ordering};
use super::bounds::SLOT_COUNT;
use super::mutex::MutexGuard;
use super::patience::{Patience, Slices};
use super::poison::Poisoned;
use super::slots::{MARK, Slots};
use crate::os::futex;
use crate::os::identity::ThreadName;
use crate::shm::{Content, Shareable};

const WAITING: u64 = 1;
const NOTIFIED: u64 = 2;

const CROWD: u32 = 1;
const ONE_NOTIFICATION: u32 = 2;

/// Waiting for a condition of what a [`Mutex`](super::Mutex) guards, between threads and processes
/// alike. 520 bytes.
///
/// As with std's, wake-ups for no reason are possible, though rare: look at the condition in a
/// loop, or use [`wait_while`](Condvar::wait_while). Those who wait and are killed hold nothing, and a notification
/// that reached one of them goes to another. It may be used with several mutexes.
///
/// ```
/// use mp::sync::{Condvar, Mutex};
///
/// # fn main() -> Result<(), mp::Error> {
/// let (jobs, has_jobs) = (Mutex::new(0), Condvar::new());
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         jobs.update(|jobs| *jobs += 1).unwrap();
///         has_jobs.notify_one();
///     });
///     let mut jobs = has_jobs.wait_while(jobs.lock()?, |jobs| *jobs == 0)?;
///     *jobs -= 1;
///     Ok::<(), mp::Error>(())
/// })?;
/// # Ok(())
/// # }
/// ```
#[doc(alias = "Condition")]
#[repr(C)]
pub struct Condvar {
    sequence: AtomicU32,
    cursor: AtomicU32,
    waiters: Slots,
}

/// Whether a wait ended because its time was over.
///
/// ```
/// # use mp::sync::{Condvar, Mutex};
/// # use std::time::Duration;
/// # fn main() -> Result<(), mp::Error> {
/// let (lock, condvar) = (Mutex::new(()), Condvar::new());
/// let (_guard, result) = condvar
///     .wait_timeout_while(lock.lock()?, Duration::from_millis(5), |()| true)
///     .map_err(mp::Error::from)?;
/// assert!(result.timed_out());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the time was over.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// use mp::sync::{Condvar, Mutex};
    /// use std::time::Duration;
    ///
    /// let (is_ready, changed) = (Mutex::new(false), Condvar::new());
    /// let (_guard, result) = changed.wait_timeout(is_ready.lock()?, Duration::from_millis(1))?;
    /// assert!(result.timed_out());
    /// # Ok(())
    /// # }
    /// ```
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

/// Where somebody waits.
enum Place {
    /// In this slot, which holds this while it is not notified.
    Slot(usize, u64),
    /// In the crowd, while the sequence is this.
    Crowd(u32),
}

/// A guard and what else `wait_timeout` tells, or the same after a death or a panic.
type TimedWait<'a, T> = Result<
    (MutexGuard<'a, T>, WaitTimeoutResult),
    Poisoned<(MutexGuard<'a, T>, WaitTimeoutResult)>,
>;

impl Condvar {
    /// A condition that nobody waits for.
    ///
    /// ```
    /// # use mp::sync::Condvar;
    /// static IS_READY: Condvar = Condvar::new();
    /// IS_READY.notify_all();
    /// ```
    pub const fn new() -> Condvar {
        Condvar {
            sequence: AtomicU32::new(0),
            cursor: AtomicU32::new(0),
            waiters: Slots::new(),
        }
    }

    /// Gives the lock back, waits to be notified, and takes the lock again.
    ///
    /// `notify_one`, `notify_n` and `notify_all` wake it; once in a while nothing does.
    ///
    /// ```
    /// # use mp::sync::{Condvar, Mutex};
    /// # fn main() -> Result<(), mp::Error> {
    /// let (is_ready, changed) = (Mutex::new(false), Condvar::new());
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| {
    ///         is_ready.set(true).unwrap();
    ///         changed.notify_one();
    ///     });
    ///     let mut guard = is_ready.lock()?;
    ///     while !*guard {
    ///         guard = changed.wait(guard)?;
    ///     }
    ///     Ok::<(), mp::Error>(())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If an owner of the lock died or panicked with it; the error has the guard.
    pub fn wait<'a, T: Content + ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
    ) -> Result<MutexGuard<'a, T>, Poisoned<MutexGuard<'a, T>>> {
        match self.wait_for(guard, Patience::Forever) {
            Ok((guard, _)) => Ok(guard),
            Err(poisoned) => Err(poisoned.map(|(guard, _)| guard)),
        }
    }

    /// Waits for as long as `condition` says so. It is called with the lock held.
    ///
    /// What wakes it is as for [`wait`](Condvar::wait).
    ///
    /// ```
    /// # use mp::sync::{Condvar, Mutex};
    /// # fn main() -> Result<(), mp::Error> {
    /// let (count, changed) = (Mutex::new(3), Condvar::new());
    /// let guard = changed.wait_while(count.lock()?, |count| *count < 3)?;
    /// assert_eq!(*guard, 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`wait`](Condvar::wait).
    #[doc(alias = "wait_for")]
    pub fn wait_while<'a, T: Content + ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<MutexGuard<'a, T>, Poisoned<MutexGuard<'a, T>>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`wait`](Condvar::wait), at most for `timeout` on the monotonic clock, and as long again
    /// as it takes to get the lock back.
    ///
    /// ```
    /// # use mp::sync::{Condvar, Mutex};
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), mp::Error> {
    /// let (lock, condvar) = (Mutex::new(0), Condvar::new());
    /// let waited = condvar.wait_timeout(lock.lock()?, Duration::from_millis(5));
    /// let (guard, result) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
    /// assert_eq!((*guard, result.timed_out()), (0, true));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`wait`](Condvar::wait).
    pub fn wait_timeout<'a, T: Content + ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> TimedWait<'a, T> {
        self.wait_for(guard, Patience::lasting(timeout))
    }

    /// As [`wait_while`](Condvar::wait_while), at most for `timeout` on the monotonic clock. It has
    /// timed out if `condition` still says so in the end.
    ///
    /// ```
    /// # use mp::sync::{Condvar, Mutex};
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), mp::Error> {
    /// let (lock, condvar) = (Mutex::new(0), Condvar::new());
    /// let waited = condvar
    ///     .wait_timeout_while(lock.lock()?, Duration::MAX, |value| *value != 0);
    /// assert!(!waited.map_err(mp::Error::from)?.1.timed_out());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`wait`](Condvar::wait).
    pub fn wait_timeout_while<'a, T: Content + ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> TimedWait<'a, T> {
        let patience = Patience::lasting(timeout);
        loop {
            if !condition(&mut guard) {
                return Ok((guard, WaitTimeoutResult(false)));
            }
            if patience.allows(Duration::MAX).is_none() {
                return Ok((guard, WaitTimeoutResult(true)));
            }
            (guard, _) = self.wait_for(guard, patience)?;
        }
    }

    /// Wakes one of those who wait.
    ///
    /// ```
    /// mp::sync::Condvar::new().notify_one();
    /// ```
    #[doc(alias = "notify")]
    pub fn notify_one(&self) {
        self.notify(1);
    }

    /// Wakes up to this many of those who wait.
    ///
    /// ```
    /// mp::sync::Condvar::new().notify_n(3);
    /// ```
    pub fn notify_n(&self, count: usize) {
        self.notify(count);
    }

    /// Wakes everybody who waits.
    ///
    /// ```
    /// mp::sync::Condvar::new().notify_all();
    /// ```
    pub fn notify_all(&self) {
        self.notify(usize::MAX);
    }

    fn wait_for<'a, T: Content + ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        patience: Patience,
    ) -> TimedWait<'a, T> {
        let mutex = guard.mutex();
        let place = self.enlist();
        drop(guard);
        let result = WaitTimeoutResult(!self.sleep(&place, patience));
        let locked = mutex.lock();
        self.leave(&place);
        match locked {
            Ok(guard) => Ok((guard, result)),
            Err(poisoned) => Err(poisoned.map(|guard| (guard, result))),
        }
    }

    /// Rules 1 and 6. This thread has the mutex.
    fn enlist(&self) -> Place {
        let word = ThreadName::current().word() | WAITING;
        let slot = self.waiters.occupy(word).or_else(|| {
            self.evict_dead();
            self.waiters.occupy(word)
        });
        match slot {
            Some(index) => Place::Slot(index, word),
            None => Place::Crowd(self.sequence.fetch_or(CROWD, Ordering::Relaxed) | CROWD),
        }
    }

    /// Whether this place was notified before patience ended.
    fn sleep(&self, place: &Place, patience: Patience) -> bool {
        let mut slices = Slices::new();
        loop {
            let is_notified = match place {
                Place::Slot(index, word) => {
                    self.waiters.at(*index).load(Ordering::Acquire) != *word
                }
                Place::Crowd(seen) => self.sequence.load(Ordering::Acquire) != *seen,
            };
            if is_notified {
                return true;
            }
            let Some(limit) = patience.allows(slices.next()) else {
                return self.give_up(place);
            };
            let is_overdue = match place {
                Place::Slot(index, word) => futex::wait_low(self.waiters.at(*index), *word, limit),
                Place::Crowd(seen) => futex::wait(&self.sequence, *seen, limit),
            };
            if is_overdue {
                self.pass_on();
            }
        }
    }

    /// Rule 4: whether it was notified after all.
    fn give_up(&self, place: &Place) -> bool {
        match place {
            Place::Slot(index, word) => !self.waiters.exchange(*index, *word, 0),
            Place::Crowd(_) => false,
        }
    }

    /// Rule 3.
    fn leave(&self, place: &Place) {
        if let Place::Slot(index, word) = place {
            self.waiters.exchange(*index, notified(*word), 0);
        }
    }

    /// Rule 2, for this many.
    fn notify(&self, count: usize) {
        let before = self.sequence.fetch_add(ONE_NOTIFICATION, Ordering::AcqRel);
        let mut left = count;
        let first = self.cursor.load(Ordering::Relaxed) as usize;
        for step in 0..SLOT_COUNT {
            if left == 0 {
                return;
            }
            let index = (first % SLOT_COUNT + step) % SLOT_COUNT;
            if self.notify_slot(index) {
                left -= 1;
                self.cursor.store(index as u32 + 1, Ordering::Relaxed);
            }
        }
        if left > 0 && before & CROWD != 0 {
            futex::wake(&self.sequence, u32::try_from(left).unwrap_or(u32::MAX));
        }
    }

    /// Whether somebody waited there and was notified.
    fn notify_slot(&self, index: usize) -> bool {
        let slot = self.waiters.at(index);
        let word = slot.load(Ordering::Acquire);
        let is_notified =
            word & MARK == WAITING && self.waiters.exchange(index, word, notified(word));
        if is_notified {
            futex::wake_low(slot, 1);
        }
        is_notified
    }

    /// Rule 5.
    fn pass_on(&self) {
        for (index, word) in self.waiters.taken() {
            if word & MARK == NOTIFIED && !ThreadName::of_word(word).is_alive() {
                self.notify(1);
                self.waiters.exchange(index, word, 0);
            }
        }
    }

    /// Makes room for who waits.
    fn evict_dead(&self) {
        self.pass_on();
        self.waiters
            .evict(|word| word & MARK != NOTIFIED && !ThreadName::of_word(word).is_alive());
    }
}

/// What the slot of a waiter holds once it is notified.
fn notified(waiting: u64) -> u64 {
    waiting & !MARK | NOTIFIED
}

impl Default for Condvar {
    fn default() -> Condvar {
        Condvar::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar")
            .field("waiter_count", &self.waiters.taken().count())
            .finish_non_exhaustive()
    }
}

// SAFETY: it is made of atomics, of which every bit pattern is valid.
unsafe impl Shareable for Condvar {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Mutex;

    /// The highest id there can be, which no machine reaches, at some moment.
    const DEAD: u64 = (1 << 32) | (0x3f_ffff << 10);

    #[test]
    fn a_notification_that_reached_a_dead_waiter_goes_to_a_living_one() {
        let (mutex, condvar) = (Mutex::new(()), Condvar::new());
        let guard = mutex.lock().expect("it is free");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                drop(mutex.lock());
                condvar
                    .waiters
                    .occupy(DEAD | NOTIFIED)
                    .expect("there is room");
            });
            drop(condvar.wait(guard).expect("nobody died with the mutex"));
        });
        assert_eq!(condvar.waiters.taken().count(), 0);
    }

    #[test]
    fn waiters_without_a_slot_are_notified_too() {
        let (mutex, condvar) = (Mutex::new(false), Condvar::new());
        let own = ThreadName::current().word();
        while condvar.waiters.occupy(own | NOTIFIED).is_some() {}
        std::thread::scope(|scope| {
            let guard = mutex.lock().expect("it is free");
            scope.spawn(|| {
                mutex.set(true).expect("it is free in time");
                condvar.notify_one();
            });
            drop(condvar.wait_while(guard, |is_ready| !*is_ready));
        });
        assert_eq!(
            condvar.sequence.load(Ordering::Relaxed),
            ONE_NOTIFICATION | CROWD
        );
    }

    #[test]
    fn a_waiter_whose_time_is_over_leaves_nothing() {
        let (mutex, condvar) = (Mutex::new(()), Condvar::new());
        let guard = mutex.lock().expect("it is free");
        let waited = condvar.wait_timeout(guard, Duration::from_millis(3));
        assert!(waited.expect("nobody died").1.timed_out());
        assert_eq!(condvar.waiters.taken().count(), 0);
    }
}
