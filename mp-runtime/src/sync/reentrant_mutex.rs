//! The lock that one thread may take many times. `raw_mutex.rs` has the protocol of the lock.
//!
//! # Layout
//!
//! ```text
//! raw    a `RawMutex`
//! count  how many guards its owner has, or CHANGING while it has `&mut`
//! ```
//!
//! # Rules
//!
//! 1. `count` belongs to the owner of `raw`. Who becomes the owner stores 1, or `CHANGING`, so it
//!    does not matter what a dead one left there.
//! 2. Guards give `&T`. `set`, `replace` and `update` have `&mut T`; they are refused if the
//!    thread is the owner already, and while they run every guard is refused.
//!
//! # Death
//!
//! As that of a `RawMutex`. Any count at all leads to an error, or to an early release by the thread
//! whose count it is, never to a panic.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::thread;
use std::time::Duration;

use super::atomic::{AtomicU32, Ordering};
use super::patience::Patience;
use super::poison::{PoisonCause, Poisoned, TryLockError};
use super::raw_mutex::{RawMutex, Refusal};
use crate::error::Error;
use crate::os::identity;
use crate::shm::{Content, Mend, Shareable};

/// The count of an owner that has `&mut` to the data.
const CHANGING: u32 = u32::MAX;

/// A lock around a value that one thread may take many times, between threads and processes alike.
/// 24 bytes and the value.
///
/// Its guards give `&T` only, since there can be several; to change what is in it, put a
/// [`Cell`](std::cell::Cell) there, or use [`set`](ReentrantMutex::set),
/// [`replace`](ReentrantMutex::replace) and [`update`](ReentrantMutex::update), which need the
/// thread not to have the lock. Nobody waits for an owner that is dead, as with [`Mutex`](super::Mutex).
///
/// ```
/// use mp::sync::ReentrantMutex;
/// use std::cell::Cell;
///
/// # fn main() -> Result<(), mp::Error> {
/// let depth = ReentrantMutex::new(Cell::new(0));
/// let outer = depth.lock()?;
/// outer.set(outer.get() + 1);
/// let inner = depth.lock()?;
/// inner.set(inner.get() + 1);
/// assert_eq!(outer.get(), 2);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "RLock")]
#[doc(alias = "ReentrantLock")]
#[repr(C)]
pub struct ReentrantMutex<T: ?Sized> {
    raw: RawMutex,
    count: AtomicU32,
    data: UnsafeCell<T>,
}

// SAFETY: the lock gives the data to one thread at a time, of whatever process.
unsafe impl<T: ?Sized + Send> Send for ReentrantMutex<T> {}
// SAFETY: as for `Send`; `T: Send` is enough since no two threads have it at once.
unsafe impl<T: ?Sized + Send> Sync for ReentrantMutex<T> {}
// A panic with it held is told to the next owner, by poison.
impl<T: ?Sized> UnwindSafe for ReentrantMutex<T> {}
impl<T: ?Sized> RefUnwindSafe for ReentrantMutex<T> {}

/// The lock, for as long as this lives. The last of a thread's guards gives the lock back when it
/// is dropped; if a panic began meanwhile, the lock is poisoned. It stays on the thread that took
/// it.
///
/// ```
/// # use mp::sync::{ReentrantMutex, ReentrantMutexGuard};
/// fn read(guard: &ReentrantMutexGuard<'_, u32>) -> u32 {
///     **guard
/// }
///
/// # fn main() -> Result<(), mp::Error> {
/// assert_eq!(read(&ReentrantMutex::new(3).lock()?), 3);
/// # Ok(())
/// # }
/// ```
#[must_use = "the lock is given back at once if its guard is dropped"]
pub struct ReentrantMutexGuard<'a, T: ?Sized> {
    lock: &'a ReentrantMutex<T>,
    was_panicking: bool,
    of_this_thread: PhantomData<*const ()>,
}

// SAFETY: a reference to the guard gives a reference to the data and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for ReentrantMutexGuard<'_, T> {}

impl<T: Shareable> ReentrantMutex<T> {
    /// A lock that nobody holds.
    ///
    /// ```
    /// # use mp::sync::ReentrantMutex;
    /// static NAME: ReentrantMutex<u32> = ReentrantMutex::new(7);
    /// assert_eq!(NAME.get().unwrap(), 7);
    /// ```
    pub const fn new(value: T) -> ReentrantMutex<T> {
        ReentrantMutex {
            raw: RawMutex::new(),
            count: AtomicU32::new(0),
            data: UnsafeCell::new(value),
        }
    }

    /// A copy of the value.
    ///
    /// ```
    /// # use mp::sync::ReentrantMutex;
    /// # fn main() -> Result<(), mp::Error> {
    /// let lock = ReentrantMutex::new(3);
    /// let _guard = lock.lock()?;
    /// assert_eq!(lock.get()?, 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`lock`](ReentrantMutex::lock).
    pub fn get(&self) -> Result<T, Error>
    where
        T: Copy,
    {
        Ok(*self.lock()?)
    }

    /// Stores a value.
    ///
    /// ```
    /// # use mp::{ErrorKind, sync::ReentrantMutex};
    /// # fn main() -> Result<(), mp::Error> {
    /// let lock = ReentrantMutex::new(3);
    /// lock.set(4)?;
    /// let _guard = lock.lock()?;
    /// assert_eq!(lock.set(5).unwrap_err().kind(), ErrorKind::WouldDeadlock);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`update`](ReentrantMutex::update); nothing is stored then.
    pub fn set(&self, value: T) -> Result<(), Error> {
        self.update(|place| *place = value)
    }

    /// Stores a value, and gives the one before.
    ///
    /// ```
    /// # use mp::sync::ReentrantMutex;
    /// # fn main() -> Result<(), mp::Error> {
    /// assert_eq!(ReentrantMutex::new(3).replace(4)?, 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`update`](ReentrantMutex::update); nothing is stored then.
    pub fn replace(&self, value: T) -> Result<T, Error> {
        self.update(|place| std::mem::replace(place, value))
    }
}

impl<T: Content + ?Sized> ReentrantMutex<T> {
    /// Waits for the lock, unless this thread has it.
    ///
    /// Who waits is woken when the lock is given back, and when its owner dies.
    ///
    /// ```
    /// # use mp::sync::ReentrantMutex;
    /// # fn main() -> Result<(), mp::Error> {
    /// let lock = ReentrantMutex::new(3);
    /// assert_eq!(*lock.lock()? + *lock.lock()?, 6);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If an owner died or panicked with it; the error has the guard. In what this thread's
    /// [`update`](ReentrantMutex::update) calls, of the kind `WouldDeadlock` and
    /// without a guard.
    pub fn lock(&self) -> Result<ReentrantMutexGuard<'_, T>, Poisoned<ReentrantMutexGuard<'_, T>>> {
        match self.acquire(Patience::Forever) {
            Ok(()) => self.guard(),
            Err(_) => Err(Poisoned::would_deadlock()),
        }
    }

    /// Takes the lock if nobody else alive has it.
    ///
    /// ```
    /// # use mp::sync::ReentrantMutex;
    /// let lock = ReentrantMutex::new(3);
    /// let _outer = lock.try_lock().unwrap();
    /// assert!(lock.try_lock().is_ok());
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| assert!(lock.try_lock().is_err()));
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if somebody else has it, or this thread's
    /// [`update`](ReentrantMutex::update); [`TryLockError::Poisoned`] as in
    /// [`lock`](ReentrantMutex::lock), with the guard.
    pub fn try_lock(
        &self,
    ) -> Result<ReentrantMutexGuard<'_, T>, TryLockError<ReentrantMutexGuard<'_, T>>> {
        match self.acquire(Patience::Never) {
            Ok(()) => Ok(self.guard()?),
            Err(_) => Err(TryLockError::WouldBlock),
        }
    }

    /// As [`lock`](ReentrantMutex::lock), at most for `timeout` on the monotonic clock.
    ///
    /// ```
    /// # use mp::sync::ReentrantMutex;
    /// # use std::time::Duration;
    /// let lock = ReentrantMutex::new(3);
    /// let _guard = lock.lock().unwrap();
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| assert!(lock.lock_timeout(Duration::from_millis(5)).is_err()));
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryLockError::TimedOut`] if somebody else had it all the time; otherwise as
    /// [`lock`](ReentrantMutex::lock).
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<ReentrantMutexGuard<'_, T>, TryLockError<ReentrantMutexGuard<'_, T>>> {
        match self.acquire(Patience::lasting(timeout)) {
            Ok(()) => Ok(self.guard()?),
            Err(Refusal::TimedOut) => Err(TryLockError::TimedOut),
            Err(Refusal::WouldDeadlock) => Err(Poisoned::would_deadlock().into()),
        }
    }

    /// Calls `change` with the lock held, by this one call alone.
    ///
    /// Who waits is woken as in [`lock`](ReentrantMutex::lock).
    ///
    /// ```
    /// # use mp::{ErrorKind, sync::ReentrantMutex};
    /// # fn main() -> Result<(), mp::Error> {
    /// let lock = ReentrantMutex::new(3);
    /// lock.update(|value| {
    ///     *value += 1;
    ///     assert_eq!(lock.lock().unwrap_err().kind(), ErrorKind::WouldDeadlock);
    /// })?;
    /// assert_eq!(lock.get()?, 4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Poisoned`](crate::error::ErrorKind::Poisoned) if an owner died or panicked with
    /// the lock; [`ErrorKind::WouldDeadlock`](crate::error::ErrorKind::WouldDeadlock) if this thread
    /// has it, since `change` gets the value for itself alone. `change` is not called then.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R, Error> {
        if self.raw.acquire(Patience::Forever, || self.mend()).is_err() {
            return Err(Poisoned::<()>::would_deadlock().into());
        }
        self.count.store(1, Ordering::Relaxed);
        let _guard = self.guard()?;
        self.count.store(CHANGING, Ordering::Relaxed);
        // SAFETY: this thread owns the lock, has no other guard, and gets none while the count says
        // `CHANGING`, which it does until the guard is dropped.
        Ok(change(unsafe { &mut *self.data.get() }))
    }

    /// Whether somebody has the lock now. A dead owner has it until somebody else takes it.
    ///
    /// ```
    /// assert!(!mp::sync::ReentrantMutex::new(3).is_locked());
    /// ```
    pub fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }

    /// Forgets that an owner died or panicked: what it left behind is in order again.
    ///
    /// ```
    /// # let lock = mp::sync::ReentrantMutex::new(3);
    /// lock.clear_poison();
    /// assert!(lock.lock().is_ok());
    /// ```
    pub fn clear_poison(&self) {
        self.raw.clear_poison();
    }

    /// Whether the next owner will be told that one before did not come to its end.
    ///
    /// ```
    /// assert!(!mp::sync::ReentrantMutex::new(3).is_poisoned());
    /// ```
    pub fn is_poisoned(&self) -> bool {
        self.raw.poison().is_some()
    }

    /// Adds one guard to those of this thread.
    fn acquire(&self, patience: Patience) -> Result<(), Refusal> {
        if !self.raw.is_mine() {
            self.raw.acquire(patience, || self.mend())?;
            self.count.store(1, Ordering::Relaxed);
            return Ok(());
        }
        let count = self.count.load(Ordering::Relaxed);
        if count >= CHANGING - 1 {
            return Err(Refusal::WouldDeadlock);
        }
        self.count.store(count + 1, Ordering::Relaxed);
        Ok(())
    }

    /// Called by a new owner, before anybody makes a reference to the data.
    fn mend(&self) {
        // SAFETY: this thread owns the lock, and has given out no reference yet.
        unsafe { T::mend(self.data.get()) };
    }

    /// The guard of the owner, which this thread is, and which has counted it.
    fn guard(&self) -> Result<ReentrantMutexGuard<'_, T>, Poisoned<ReentrantMutexGuard<'_, T>>> {
        let guard = ReentrantMutexGuard {
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

impl<T: ?Sized> Deref for ReentrantMutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this thread owns the lock for as long as the guard lives, and has only shared
        // references while it has guards.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for ReentrantMutexGuard<'_, T> {
    fn drop(&mut self) {
        if !self.was_panicking && thread::panicking() {
            let pid = identity::process_id();
            self.lock.raw.set_poison(PoisonCause::Panicked { pid });
        }
        match self.lock.count.load(Ordering::Relaxed) {
            0 | 1 | CHANGING => self.lock.raw.release(),
            count => self.lock.count.store(count - 1, Ordering::Relaxed),
        }
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for ReentrantMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display + ?Sized> fmt::Display for ReentrantMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized> fmt::Debug for ReentrantMutex<T> {
    /// Says who has it and not what it holds: that would take the lock.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReentrantMutex")
            .field("is_locked", &self.raw.is_locked())
            .field("poison", &self.raw.poison())
            .finish_non_exhaustive()
    }
}

impl<T: Shareable + Default> Default for ReentrantMutex<T> {
    fn default() -> ReentrantMutex<T> {
        ReentrantMutex::new(T::default())
    }
}

// SAFETY: it is made of atomics, of which every bit pattern is valid, and of a shareable value.
unsafe impl<T: Shareable> Shareable for ReentrantMutex<T> {
    const __MEND: Mend = Mend::Fields(&[(offset_of!(ReentrantMutex<T>, data), T::__MEND)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_that_cannot_be_counted_are_refused() {
        let lock = ReentrantMutex::new(3);
        let guard = lock.lock().expect("it is free");
        lock.count.store(CHANGING - 1, Ordering::Relaxed);
        assert!(lock.lock().is_err());
        lock.count.store(1, Ordering::Relaxed);
        drop(guard);
        assert!(!lock.is_locked());
    }
}
