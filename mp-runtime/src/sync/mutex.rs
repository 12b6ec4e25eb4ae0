//! The lock around a value. `raw_mutex.rs` has the protocol: layout, rules, ordering, and what
//! happens when an owner dies at each of its steps.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::thread;
use std::time::Duration;

use super::patience::Patience;
use super::poison::{PoisonCause, Poisoned, TryLockError};
use super::raw_mutex::{RawMutex, Refusal};
use crate::error::Error;
use crate::os::identity;
use crate::shm::{Content, Mend, Shareable};

/// A lock around a value, between threads and processes alike. 16 bytes and the value.
///
/// It lives in place: in [`Shared`](crate::shm::Shared) memory processes lock it, in ordinary memory
/// threads do. Nobody waits for an owner that is dead: who comes next gets the guard, and the
/// truth about it (see [`Poisoned`]). Values that are invalid when they are half written, a `char`
/// or a `NonZero`, are then replaced by valid ones (U+FFFD, 1, `None`).
///
/// The lock is not fair to the microsecond, but nobody starves: after a millisecond of waiting the
/// lock is kept for those who wait. A waiter spins for less than a microsecond, then sleeps.
///
/// ```
/// # use mp::{Shared, sync::Mutex};
/// # fn main() -> Result<(), mp::Error> {
/// let total = Shared::new(Mutex::new(0.0))?;
/// *total.lock()? += 0.5;
/// total.update(|total| *total += 1.0)?;
/// assert_eq!(total.get()?, 1.5);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "Value")]
#[repr(C)]
pub struct Mutex<T: ?Sized> {
    raw: RawMutex,
    data: UnsafeCell<T>,
}

// SAFETY: the lock gives the data to one thread at a time, of whatever process.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: as for `Send`; `T: Send` is enough since no two threads have it at once.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}
// A panic with it held is told to the next owner, by poison.
impl<T: ?Sized> UnwindSafe for Mutex<T> {}
impl<T: ?Sized> RefUnwindSafe for Mutex<T> {}

/// The lock, for as long as this lives. Dropping it gives the lock back; if a panic began
/// meanwhile, the lock is poisoned. It stays on the thread that took it.
///
/// ```
/// # fn main() -> Result<(), mp::Error> {
/// use mp::sync::MutexGuard;
///
/// fn add(mut sum: MutexGuard<'_, f64>, x: f64) {
///     *sum += x;
/// }
///
/// let sum = mp::shared!(1.0)?;
/// add(sum.lock()?, 0.5);
/// assert_eq!(sum.get()?, 1.5);
/// # Ok(())
/// # }
/// ```
#[must_use = "the lock is given back at once if its guard is dropped"]
pub struct MutexGuard<'a, T: ?Sized> {
    lock: &'a Mutex<T>,
    was_panicking: bool,
    of_this_thread: PhantomData<*const ()>,
}

// SAFETY: a reference to the guard gives a reference to the data and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<T> Mutex<T> {
    /// A lock that nobody holds. (It can be locked if `T` is [`Shareable`].)
    ///
    /// ```
    /// use mp::sync::Mutex;
    ///
    /// static COUNT: Mutex<u32> = Mutex::new(0); // between threads
    /// assert!(!COUNT.is_locked());
    /// ```
    pub const fn new(value: T) -> Mutex<T> {
        Mutex {
            raw: RawMutex::new(),
            data: UnsafeCell::new(value),
        }
    }
}

impl<T: Shareable> Mutex<T> {
    /// A copy of the value.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let lock = mp::sync::Mutex::new(3);
    /// assert_eq!(lock.get()?, 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`lock`](Mutex::lock).
    pub fn get(&self) -> Result<T, Error>
    where
        T: Copy,
    {
        Ok(*self.lock()?)
    }

    /// Stores a value.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let lock = mp::sync::Mutex::new(3);
    /// lock.set(4)?;
    /// assert_eq!(lock.get()?, 4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`lock`](Mutex::lock); nothing is stored then.
    pub fn set(&self, value: T) -> Result<(), Error> {
        *self.lock()? = value;
        Ok(())
    }

    /// Stores a value, and gives the one before.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let lock = mp::sync::Mutex::new(3);
    /// assert_eq!(lock.replace(4)?, 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`lock`](Mutex::lock); nothing is stored then.
    pub fn replace(&self, value: T) -> Result<T, Error> {
        Ok(std::mem::replace(&mut *self.lock()?, value))
    }
}

impl<T: Content + ?Sized> Mutex<T> {
    /// Waits for the lock.
    ///
    /// Who waits is woken when the lock is given back, and when its owner dies. An owner that
    /// becomes another program by `exec` has the lock until that ends.
    ///
    /// In a function that returns another error than [`mp::Error`](crate::error::Error), write
    /// `lock().map_err(mp::Error::from)?`: this error borrows the lock.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let lock = mp::sync::Mutex::new(3);
    /// {
    ///     let mut value = lock.lock()?;
    ///     *value += 1;
    /// } // given back here
    /// assert_eq!(lock.get()?, 4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If an owner died or panicked with it; the error has the guard. If this thread has the lock
    /// already; then its [kind](Poisoned::kind) is `WouldDeadlock`, and it has none.
    #[inline]
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, Poisoned<MutexGuard<'_, T>>> {
        match self.raw.acquire(Patience::Forever, || self.mend()) {
            Ok(()) => self.guard(),
            Err(_) => Err(Poisoned::would_deadlock()),
        }
    }

    /// Takes the lock if nobody alive has it.
    ///
    /// ```
    /// use mp::sync::{Mutex, TryLockError};
    ///
    /// let lock = Mutex::new(3);
    /// let guard = lock.try_lock().expect("nobody has it");
    /// assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
    /// # drop(guard);
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if somebody has it, this thread included;
    /// [`TryLockError::Poisoned`] as in [`lock`](Mutex::lock), with the guard.
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, TryLockError<MutexGuard<'_, T>>> {
        match self.raw.acquire(Patience::Never, || self.mend()) {
            Ok(()) => Ok(self.guard()?),
            Err(_) => Err(TryLockError::WouldBlock),
        }
    }

    /// Waits for the lock, at most for `timeout` on the monotonic clock.
    ///
    /// ```
    /// use std::time::Duration;
    /// use mp::sync::{Mutex, TryLockError};
    ///
    /// let lock = Mutex::new(3);
    /// std::thread::scope(|scope| {
    ///     let guard = lock.lock();
    ///     let other = scope.spawn(|| lock.lock_timeout(Duration::from_millis(5)).map(drop).is_err());
    ///     assert!(other.join().unwrap());
    ///     drop(guard);
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryLockError::TimedOut`] if somebody had it all the time; otherwise as
    /// [`lock`](Mutex::lock).
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<MutexGuard<'_, T>, TryLockError<MutexGuard<'_, T>>> {
        match self.raw.acquire(Patience::lasting(timeout), || self.mend()) {
            Ok(()) => Ok(self.guard()?),
            Err(Refusal::TimedOut) => Err(TryLockError::TimedOut),
            Err(Refusal::WouldDeadlock) => Err(Poisoned::would_deadlock().into()),
        }
    }

    /// Calls `change` with the lock held.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let lock = mp::sync::Mutex::new([1, 2, 3]);
    /// let sum: i32 = lock.update(|items| {
    ///     items[0] = 10;
    ///     items.iter().sum()
    /// })?;
    /// assert_eq!(sum, 15);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`lock`](Mutex::lock); `change` is not called then.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R, Error> {
        let mut guard = self.lock()?;
        Ok(change(&mut guard))
    }

    /// Called by a new owner, before anybody makes a reference to the data.
    pub(crate) fn mend(&self) {
        // SAFETY: this thread owns the lock, and has given out no reference yet.
        unsafe { T::mend(self.data.get()) };
    }

    /// The guard of the owner, which this thread is.
    #[inline]
    fn guard(&self) -> Result<MutexGuard<'_, T>, Poisoned<MutexGuard<'_, T>>> {
        let guard = MutexGuard {
            lock: self,
            was_panicking: thread::panicking(),
            of_this_thread: PhantomData,
        };
        match self.raw.poison() {
            None => Ok(guard),
            Some(cause) => Err(Poisoned::new(guard, cause)),
        }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Whether somebody has the lock now. A dead owner has it until somebody else takes it.
    ///
    /// ```
    /// let lock = mp::sync::Mutex::new(3);
    /// let guard = lock.lock();
    /// assert!(lock.is_locked());
    /// # drop(guard);
    /// ```
    pub fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }

    /// Forgets that an owner died or panicked: what it left behind is in order again.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// # let lock = mp::sync::Mutex::new(3);
    /// let mut value = lock.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    /// *value = 0; // in order, whatever it was
    /// lock.clear_poison();
    /// # Ok(())
    /// # }
    /// ```
    pub fn clear_poison(&self) {
        self.raw.clear_poison();
    }

    /// Whether the next owner will be told that one before did not come to its end.
    ///
    /// ```
    /// assert!(!mp::sync::Mutex::new(3).is_poisoned());
    /// ```
    pub fn is_poisoned(&self) -> bool {
        self.raw.poison().is_some()
    }

    pub(crate) fn raw(&self) -> &RawMutex {
        &self.raw
    }

    pub(crate) fn data(&self) -> *mut T {
        self.data.get()
    }
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// The lock this is the guard of.
    pub(crate) fn mutex(&self) -> &'a Mutex<T> {
        self.lock
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this thread owns the lock for as long as the guard lives.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if !self.was_panicking && thread::panicking() {
            let pid = identity::process_id();
            self.lock.raw.set_poison(PoisonCause::Panicked { pid });
        }
        self.lock.raw.release();
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display + ?Sized> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized> fmt::Debug for Mutex<T> {
    /// Says who has it and not what it holds: that would take the lock.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex")
            .field("is_locked", &self.raw.is_locked())
            .field("poison", &self.raw.poison())
            .finish_non_exhaustive()
    }
}

impl<T: Shareable + Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

// SAFETY: it is made of atomics, of which every bit pattern is valid, and of a shareable value.
unsafe impl<T: Shareable> Shareable for Mutex<T> {
    const __MEND: Mend = Mend::Fields(&[(offset_of!(Mutex<T>, data), T::__MEND)]);
    const __ZERO_IS_VALID: bool = T::__ZERO_IS_VALID;
}
