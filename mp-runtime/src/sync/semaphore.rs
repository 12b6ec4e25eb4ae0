//! A number of permits.
//!
//! # Layout
//!
//! ```text
//! turnstile  a `RawMutex`: its owner is the one that waits for a permit; the others wait for it
//! ledger     a `RawMutex`: its owner takes a permit. It is held for some hundred instructions
//! value      how many permits there are, those of living `Permit`s included
//! limit      how many there may be
//! bell       goes up when a permit came back while the turnstile has an owner, who sleeps on it
//! last_look  when somebody last looked for the dead: milliseconds of the monotonic clock; 0: never
//! permits    a table of processes; the mark of a slot is how many `Permit`s it counts
//! ```
//!
//! # Rules
//!
//! 1. What can be had is `value` less the marks of all slots.
//! 2. Only the owner of the ledger makes that less, by one, by one store: it takes one from `value`
//!    (`acquire`), or adds one to a mark (`permit`).
//! 3. Anybody may make it more, by one store each time: `release` adds to `value`, a `Permit` that
//!    is dropped takes one from its mark, and the slot of a dead process is freed.
//! 4. Who made it more rings, if the turnstile has an owner: it adds to `bell`, and wakes it.
//! 5. Who finds nothing waits as the owner of the turnstile. Who comes while it has an owner queues
//!    for it, so nobody passes by those who wait, and it is a lock that starves nobody. `try_…`
//!    does not queue, and who has queued in vain does what `try_…` does before it gives up: time is
//!    over only for who finds nothing.
//! 6. Who waits and finds nothing looks for the dead if it slept through a slice, or if nobody has
//!    looked for 50 ms. The living ring, so where many take and give back no sleep lasts as long as
//!    its slice, and each who waits may be served by them before it is overdue: that is why the time
//!    of the last look is everybody's. It is a hint: a wrong one leads to a look too many, or to one
//!    that comes with the next slice.
//! 7. Neither lock guards data that could be half written: they are claimed, not entered, and are
//!    never poisoned.
//!
//! # Ordering
//!
//! SYNC d: who waits takes the turnstile and then looks what there is; who gives back makes it
//! more and then looks at the turnstile. These are `SeqCst`, with a fence between the waiter's
//! two, so at least one of them sees the other.
//!
//! SYNC e: what is made more is stored with `Release` and looked at with `Acquire`: what was done with
//! a permit happens before what is done with it next.
//!
//! # Death
//!
//! | it dies | the others |
//! | --- | --- |
//! | between `acquire` and `release` | have one permit less: neither is tied to a process |
//! | with a `Permit` | have it back: who does not wait at once, who waits after two slices of 50 ms at the latest |
//! | with the ledger, before or after its one store | take the ledger over: there is no third state |
//! | with the turnstile | take it over |
//! | between its store of rule 3 and the bell | look again after a slice |
//!
//! Any bits at all in the words may lead to an error or a wait, never to a panic.

use std::fmt;
use std::time::Duration;

use super::atomic::{AtomicU32, Ordering, fence};
use super::patience::{Patience, Slices};
use super::raw_mutex::{RawMutex, Refusal};
use super::slots::{MARK, Slots};
use crate::error::{Error, ErrorKind};
use crate::os::clock;
use crate::os::futex;
use crate::os::identity::ProcessName;
use crate::shm::Shareable;

/// How long a call waits for the ledger, even one that has no time to wait for a permit: longer
/// than the kernel lets an owner wait for a processor.
const LEDGER_PATIENCE: Duration = Duration::from_millis(100);

/// After how many milliseconds without a look for the dead it is time for one: the longest slice.
const LOOK_INTERVAL: u32 = 50;

/// The mark of a slot with one permit.
const ONE: u64 = 1;

/// A number of permits, which threads and processes take and give back. 560 bytes.
///
/// [`acquire`](Semaphore::acquire) and [`release`](Semaphore::release) count, as in Python: who
/// releases need not have acquired, and a process that dies in between takes its permit with it.
/// [`permit`](Semaphore::permit) gives a guard whose permit comes back when it is dropped, and when
/// its process dies. Those who wait get permits in the order they came, more or less; nobody
/// starves.
///
/// 64 processes can have `Permit`s of one semaphore at once; the next one waits.
///
/// ```
/// use mp::sync::Semaphore;
///
/// # fn main() -> Result<(), mp::Error> {
/// let connections = Semaphore::new(2);
/// let one = connections.permit()?;
/// let another = connections.permit()?;
/// assert!(connections.try_permit().is_err());
/// drop(one);
/// assert_eq!(connections.value()?, 1);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "BoundedSemaphore")]
#[repr(C)]
pub struct Semaphore {
    turnstile: RawMutex,
    ledger: RawMutex,
    value: AtomicU32,
    limit: AtomicU32,
    bell: AtomicU32,
    last_look: AtomicU32,
    permits: Slots,
}

/// A permit of a [`Semaphore`], for as long as this lives and its process does.
///
/// ```
/// # use mp::sync::{Permit, Semaphore};
/// fn fetch(_permit: &Permit<'_>) {}
///
/// # fn main() -> Result<(), mp::Error> {
/// let connections = Semaphore::new(1);
/// fetch(&connections.permit()?);
/// assert_eq!(connections.value()?, 1);
/// # Ok(())
/// # }
/// ```
#[must_use = "the permit is given back at once if this is dropped"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    index: usize,
}

/// What is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One of the value.
    Plain,
    /// One of a mark.
    Permit,
}

impl Semaphore {
    /// A semaphore with this many permits. There may come to be more by
    /// [`release`](Semaphore::release), up to `u32::MAX`.
    ///
    /// ```
    /// # use mp::sync::Semaphore;
    /// static SLOTS: Semaphore = Semaphore::new(4);
    /// assert_eq!(SLOTS.value().unwrap(), 4);
    /// ```
    pub const fn new(permits: u32) -> Semaphore {
        Semaphore::with_limit(permits, u32::MAX)
    }

    /// A semaphore with this many permits, and never more.
    ///
    /// ```
    /// # use mp::sync::Semaphore;
    /// let slots = Semaphore::bounded(1);
    /// assert!(slots.release().is_err());
    /// ```
    #[doc(alias = "BoundedSemaphore")]
    pub const fn bounded(permits: u32) -> Semaphore {
        Semaphore::with_limit(permits, permits)
    }

    const fn with_limit(value: u32, limit: u32) -> Semaphore {
        Semaphore {
            turnstile: RawMutex::new(),
            ledger: RawMutex::new(),
            value: AtomicU32::new(value),
            limit: AtomicU32::new(limit),
            bell: AtomicU32::new(0),
            last_look: AtomicU32::new(0),
            permits: Slots::new(),
        }
    }

    /// Waits for a permit and takes it.
    ///
    /// Who waits is woken when a permit is given back, and when a process with a [`Permit`] dies.
    ///
    /// ```
    /// # use mp::sync::Semaphore;
    /// # fn main() -> Result<(), mp::Error> {
    /// let slots = Semaphore::new(1);
    /// slots.acquire()?;
    /// slots.release()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldDeadlock`] in the handler of a signal that interrupted a call of this
    /// thread on this semaphore.
    pub fn acquire(&self) -> Result<(), Error> {
        self.take(Form::Plain, Patience::Forever).map(drop)
    }

    /// Takes a permit if there is one now.
    ///
    /// ```
    /// # use mp::{ErrorKind, sync::Semaphore};
    /// let slots = Semaphore::new(1);
    /// assert!(slots.try_acquire().is_ok());
    /// assert_eq!(slots.try_acquire().unwrap_err().kind(), ErrorKind::TimedOut);
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TimedOut`] if there is none; otherwise as [`acquire`](Semaphore::acquire).
    pub fn try_acquire(&self) -> Result<(), Error> {
        self.take(Form::Plain, Patience::Never).map(drop)
    }

    /// Waits for a permit, at most for `timeout` on the monotonic clock, and takes it. One that is
    /// there is taken, however short the time.
    ///
    /// What wakes it is as for [`acquire`](Semaphore::acquire).
    ///
    /// ```
    /// # use mp::sync::Semaphore;
    /// # use std::time::Duration;
    /// let slots = Semaphore::new(0);
    /// assert!(slots.acquire_timeout(Duration::from_millis(5)).is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TimedOut`] if there was none in time; otherwise as
    /// [`acquire`](Semaphore::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<(), Error> {
        self.take(Form::Plain, Patience::lasting(timeout)).map(drop)
    }

    /// Adds a permit, and wakes one who waits.
    ///
    /// ```
    /// # use mp::sync::Semaphore;
    /// # fn main() -> Result<(), mp::Error> {
    /// let ready = Semaphore::new(0);
    /// ready.release()?;
    /// assert_eq!(ready.value()?, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if there are as many permits as there may be; those of living
    /// [`Permit`]s count.
    pub fn release(&self) -> Result<(), Error> {
        let limit = self.limit.load(Ordering::Relaxed);
        // SYNC d, e: with `take_in_turn` and `take_now`.
        let added = self
            .value
            .fetch_update(Ordering::SeqCst, Ordering::Relaxed, |value| {
                (value < limit).then(|| value + 1)
            });
        if added.is_err() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the semaphore has all of its {limit} permits: there is none to release"),
            ));
        }
        self.ring();
        Ok(())
    }

    /// How many permits can be had now. Those of processes that died count again.
    ///
    /// ```
    /// # use mp::sync::Semaphore;
    /// # fn main() -> Result<(), mp::Error> {
    /// let slots = Semaphore::new(3);
    /// slots.acquire()?;
    /// let _permit = slots.permit()?;
    /// assert_eq!(slots.value()?, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// None so far.
    #[doc(alias = "get_value")]
    pub fn value(&self) -> Result<u32, Error> {
        if self.evict_dead() {
            self.ring();
        }
        Ok(self.available())
    }

    /// Waits for a permit that comes back by itself: when the guard is dropped, or its process
    /// dies.
    ///
    /// What wakes it is as for [`acquire`](Semaphore::acquire).
    ///
    /// ```
    /// # use mp::sync::Semaphore;
    /// # fn main() -> Result<(), mp::Error> {
    /// let slots = Semaphore::new(1);
    /// for _ in 0..3 {
    ///     let _permit = slots.permit()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`acquire`](Semaphore::acquire).
    pub fn permit(&self) -> Result<Permit<'_>, Error> {
        self.take_permit(Patience::Forever)
    }

    /// As [`permit`](Semaphore::permit), if there is one now.
    ///
    /// ```
    /// # use mp::sync::Semaphore;
    /// assert!(Semaphore::new(0).try_permit().is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`try_acquire`](Semaphore::try_acquire).
    pub fn try_permit(&self) -> Result<Permit<'_>, Error> {
        self.take_permit(Patience::Never)
    }

    /// As [`permit`](Semaphore::permit), at most for `timeout` on the monotonic clock.
    ///
    /// ```
    /// # use mp::sync::Semaphore;
    /// # use std::time::Duration;
    /// let slots = Semaphore::new(0);
    /// assert!(slots.permit_timeout(Duration::from_millis(5)).is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`acquire_timeout`](Semaphore::acquire_timeout).
    pub fn permit_timeout(&self, timeout: Duration) -> Result<Permit<'_>, Error> {
        self.take_permit(Patience::lasting(timeout))
    }

    fn take_permit(&self, patience: Patience) -> Result<Permit<'_>, Error> {
        let index = self.take(Form::Permit, patience)?;
        Ok(Permit {
            semaphore: self,
            index,
        })
    }

    /// Takes a permit; of a `Permit`, tells the slot.
    fn take(&self, form: Form, patience: Patience) -> Result<usize, Error> {
        let taken = match patience {
            Patience::Never => self.take_without_turn(form),
            _ if self.turnstile.is_locked() => self.take_in_turn(form, patience),
            _ => match self.take_now(form, patience) {
                Ok(None) => self.take_in_turn(form, patience),
                Ok(Some(index)) => Ok(index),
                Err(refusal) => Err(refusal),
            },
        };
        taken.map_err(error_of)
    }

    /// For who does not wait, or no longer.
    fn take_without_turn(&self, form: Form) -> Result<usize, Refusal> {
        loop {
            if let Some(index) = self.take_now(form, Patience::Never)? {
                return Ok(index);
            }
            if !self.evict_dead() {
                return Err(Refusal::TimedOut);
            }
            // More may have come back than this takes: the rest is for those who wait.
            self.ring();
        }
    }

    /// Rule 5.
    fn take_in_turn(&self, form: Form, patience: Patience) -> Result<usize, Refusal> {
        match self.turnstile.claim(patience, || ()) {
            // Who has the turnstile may have had no processor since a permit came back.
            Err(Refusal::TimedOut) => return self.take_without_turn(form),
            claimed => claimed?,
        }
        // SYNC d: with `ring`.
        fence(Ordering::SeqCst);
        let taken = self.wait(form, patience);
        self.turnstile.release();
        taken
    }

    /// Waits as the owner of the turnstile.
    fn wait(&self, form: Form, patience: Patience) -> Result<usize, Refusal> {
        let mut slices = Slices::new();
        let mut is_overdue = false;
        loop {
            let seen = self.bell.load(Ordering::Acquire);
            if let Some(index) = self.take_now(form, patience)? {
                return Ok(index);
            }
            if (is_overdue || self.is_look_due()) && self.evict_dead() {
                is_overdue = false;
                continue;
            }
            match patience.allows(slices.next()) {
                Some(limit) => is_overdue = futex::wait(&self.bell, seen, limit),
                None if self.evict_dead() => {}
                None => return Err(Refusal::TimedOut),
            }
        }
    }

    /// Rule 2: takes a permit if there is one. A `Permit` that finds no slot finds none.
    fn take_now(&self, form: Form, patience: Patience) -> Result<Option<usize>, Refusal> {
        // Somebody else's store is no reason to be out of time while there is a permit.
        let patience = patience.at_least(LEDGER_PATIENCE);
        self.ledger.claim(patience, || ())?;
        let taken = match form {
            _ if self.available() == 0 => None,
            Form::Permit => self.count_up(),
            Form::Plain => {
                // SYNC e: with who gives back. It is not 0, and only the owner of the ledger makes
                // it less.
                self.value.fetch_sub(1, Ordering::AcqRel);
                Some(0)
            }
        };
        self.ledger.release();
        Ok(taken)
    }

    /// Adds one to a mark of this process, and tells whose slot it is. Only the owner of the ledger
    /// calls this; the process's other threads drop permits meanwhile.
    fn count_up(&self) -> Option<usize> {
        let me = ProcessName::current();
        let own = self
            .permits
            .taken()
            .filter(|&(_, word)| ProcessName::of_word(word) == me && word & MARK < MARK)
            .find(|&(index, word)| self.permits.exchange(index, word, word + ONE));
        match own {
            Some((index, _)) => Some(index),
            None => self.permits.occupy(me.word() | ONE),
        }
    }

    /// Takes one from a mark of this process.
    fn count_down(&self, index: usize) {
        let me = ProcessName::current();
        loop {
            // SYNC e: with `available`.
            let word = self.permits.at(index).load(Ordering::Acquire);
            if ProcessName::of_word(word) != me {
                return;
            }
            let rest = if word & MARK > ONE { word - ONE } else { 0 };
            if self.permits.exchange(index, word, rest) {
                return;
            }
        }
    }

    /// Rule 1.
    fn available(&self) -> u32 {
        // SYNC e: with `release` and `count_down`.
        let value = self.value.load(Ordering::Acquire);
        let lent: u64 = self.permits.taken().map(|(_, word)| word & MARK).sum();
        value.saturating_sub(u32::try_from(lent).unwrap_or(u32::MAX))
    }

    /// Whether nobody has looked for the dead for a while.
    fn is_look_due(&self) -> bool {
        let last_look = self.last_look.load(Ordering::Relaxed);
        last_look == 0 || coarse_now().wrapping_sub(last_look) >= LOOK_INTERVAL
    }

    /// Frees the slots of dead processes; tells whether there were any.
    fn evict_dead(&self) -> bool {
        self.last_look.store(coarse_now(), Ordering::Relaxed);
        let me = ProcessName::current();
        self.permits.evict(|word| {
            let name = ProcessName::of_word(word);
            name != me && !name.is_alive()
        })
    }

    /// Rule 4.
    fn ring(&self) {
        // SYNC d: with `take_in_turn`.
        if self.turnstile.is_claimed() {
            self.bell.fetch_add(1, Ordering::Release);
            futex::wake(&self.bell, 1);
        }
    }
}

/// Milliseconds of the monotonic clock, which wrap after 49 days; never 0.
fn coarse_now() -> u32 {
    let millis = clock::monotonic_nanos() / 1_000_000;
    (millis as u32).max(1)
}

fn error_of(refusal: Refusal) -> Error {
    match refusal {
        Refusal::TimedOut => Error::new(ErrorKind::TimedOut, "the semaphore had no permit in time"),
        Refusal::WouldDeadlock => Error::new(
            ErrorKind::WouldDeadlock,
            "this thread was interrupted in a call on this semaphore: to wait here would be a \
             deadlock",
        ),
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.semaphore.count_down(self.index);
        self.semaphore.ring();
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available", &self.available())
            .field("limit", &self.limit.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

// SAFETY: it is made of atomics, of which every bit pattern is valid.
unsafe impl Shareable for Semaphore {}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// The highest id there can be, which no machine reaches, at some moment.
    const DEAD: u64 = (1 << 32) | (0x3f_ffff << 10);

    #[test]
    fn the_permits_of_a_dead_process_come_back() {
        let semaphore = Semaphore::new(2);
        semaphore.permits.occupy(DEAD | 2).expect("there is room");
        assert_eq!(semaphore.available(), 0);
        let permit = semaphore.try_permit().expect("they are back");
        assert_eq!(semaphore.value().ok(), Some(1));
        drop(permit);

        semaphore.permits.occupy(DEAD | 2).expect("there is room");
        semaphore.acquire().expect("it is back after a slice");
        assert_eq!(semaphore.value().ok(), Some(1));
    }

    #[test]
    fn who_waits_looks_for_the_dead_before_a_slice_ends_if_it_is_time_for_a_look() {
        let semaphore = Semaphore::new(1);
        let waits = (0..20).map(|_| {
            semaphore.permits.occupy(DEAD | 1).expect("there is room");
            let long_ago = coarse_now().wrapping_sub(LOOK_INTERVAL);
            semaphore.last_look.store(long_ago, Ordering::Relaxed);
            let begin = Instant::now();
            drop(semaphore.permit().expect("it is back"));
            begin.elapsed()
        });
        // Only who sleeps takes a slice each time; who has no processor for so long is unlucky once.
        assert!(waits.min() < Some(Slices::new().next()));
    }

    #[test]
    fn a_look_is_due_if_there_was_none_for_a_while() {
        let semaphore = Semaphore::new(0);
        assert!(semaphore.is_look_due());
        semaphore.evict_dead();
        assert!(!semaphore.is_look_due());
        // The clock may have wrapped since, or the word be damaged.
        for age in [LOOK_INTERVAL, u32::MAX / 2, u32::MAX - LOOK_INTERVAL] {
            let past = coarse_now().wrapping_sub(age);
            semaphore.last_look.store(past, Ordering::Relaxed);
            assert!(semaphore.is_look_due());
        }
    }

    #[test]
    fn who_finds_permits_of_the_dead_without_waiting_rings_for_the_rest() {
        let semaphore = Semaphore::new(3);
        semaphore.permits.occupy(DEAD | 3).expect("there is room");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let claimed = semaphore.turnstile.claim(Patience::Forever, || ());
                assert_eq!(claimed, Ok(()));
            });
        });
        let permit = semaphore.try_permit().expect("they are back");
        assert_eq!(semaphore.bell.load(Ordering::Relaxed), 1);
        drop(permit);
    }

    #[test]
    fn a_process_that_has_more_permits_than_a_slot_counts_takes_another() {
        let count = MARK as usize + 7;
        let semaphore = Semaphore::new(count as u32);
        let permits: Vec<_> = (0..count).map(|_| semaphore.permit()).collect();
        assert_eq!(semaphore.permits.taken().count(), 2);
        assert!(semaphore.try_permit().is_err());
        drop(permits);
        assert_eq!(semaphore.permits.taken().count(), 0);
        assert_eq!(semaphore.value().ok(), Some(count as u32));
    }

    #[test]
    fn an_owner_that_died_in_a_call_is_no_obstacle() {
        let semaphore = Semaphore::new(1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let patience = Patience::Forever;
                assert_eq!(semaphore.turnstile.claim(patience, || ()), Ok(()));
                assert_eq!(semaphore.ledger.claim(patience, || ()), Ok(()));
            });
        });
        semaphore.acquire().expect("the dead are passed by");
        assert!(semaphore.try_acquire().is_err());
    }
}
