//! The lock around a value that many may read at once. `raw_rwlock.rs` has the protocol: layout,
//! rules, ordering, and what happens when somebody dies at each of its steps.

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
use super::raw_mutex::Refusal;
use super::raw_rwlock::{RawRwLock, Seat};
use crate::error::Error;
use crate::os::identity;
use crate::shm::{Content, Mend, Shareable};

/// A lock around a value that many may read at once and one may write, between threads and
/// processes alike. 792 bytes and the value.
///
/// Nobody waits for a reader or a writer that is dead. A writer that dies or panics poisons the
/// lock: who comes next, to read or to write, gets the guard and the truth about it (see
/// [`Poisoned`]). A reader's death leaves nothing behind. A guard that was leaked lasts as long as
/// its process.
///
/// Neither readers nor writers starve: who comes while a writer waits queues behind it. A thread
/// that reads already may read again at any time. 64 threads can read at once; more wait for one
/// of these to end.
///
/// ```
/// use mp::sync::RwLock;
///
/// # fn main() -> Result<(), mp::Error> {
/// let limits = RwLock::new((0, 10));
/// std::thread::scope(|scope| {
///     scope.spawn(|| println!("{:?}", limits.get()));
///     scope.spawn(|| println!("{:?}", limits.get()));
/// });
/// limits.write()?.1 = 20;
/// assert_eq!(limits.get()?, (0, 20));
/// # Ok(())
/// # }
/// ```
#[repr(C)]
pub struct RwLock<T: ?Sized> {
    raw: RawRwLock,
    data: UnsafeCell<T>,
}

// SAFETY: a reference to it gives the data away as the lock says; the lock itself may move.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: readers have `&T` at once, hence `T: Sync`; a writer has `&mut T`, hence `T: Send`.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}
// A panic with it held is told to the next owner, by poison.
impl<T: ?Sized> UnwindSafe for RwLock<T> {}
impl<T: ?Sized> RefUnwindSafe for RwLock<T> {}

/// Leave to read, for as long as this lives. It stays on the thread that took it.
///
/// ```
/// # use mp::sync::{RwLock, RwLockReadGuard};
/// fn sum(numbers: &RwLockReadGuard<'_, [u64; 3]>) -> u64 {
///     numbers.iter().sum()
/// }
///
/// # fn main() -> Result<(), mp::Error> {
/// let numbers = RwLock::new([1, 2, 3]);
/// assert_eq!(sum(&numbers.read()?), 6);
/// # Ok(())
/// # }
/// ```
#[must_use = "the lock is given back at once if its guard is dropped"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    seat: Seat,
    of_this_thread: PhantomData<*const ()>,
}

// SAFETY: a reference to the guard gives a reference to the data and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}

/// Leave to write, for as long as this lives. Dropping it gives the lock back; if a panic began
/// meanwhile, the lock is poisoned. It stays on the thread that took it.
///
/// ```
/// # use mp::sync::{RwLock, RwLockWriteGuard};
/// fn double(mut number: RwLockWriteGuard<'_, u64>) {
///     *number *= 2;
/// }
///
/// # fn main() -> Result<(), mp::Error> {
/// let number = RwLock::new(4);
/// double(number.write()?);
/// assert_eq!(number.get()?, 8);
/// # Ok(())
/// # }
/// ```
#[must_use = "the lock is given back at once if its guard is dropped"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    was_panicking: bool,
    of_this_thread: PhantomData<*const ()>,
}

// SAFETY: a reference to the guard gives a reference to the data and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<T: Shareable> RwLock<T> {
    /// A lock that nobody holds.
    ///
    /// ```
    /// # use mp::sync::RwLock;
    /// static LIMIT: RwLock<u32> = RwLock::new(10);
    /// assert_eq!(LIMIT.get().unwrap(), 10);
    /// ```
    pub const fn new(value: T) -> RwLock<T> {
        RwLock {
            raw: RawRwLock::new(),
            data: UnsafeCell::new(value),
        }
    }

    /// A copy of the value.
    ///
    /// ```
    /// # use mp::sync::RwLock;
    /// # fn main() -> Result<(), mp::Error> {
    /// assert_eq!(RwLock::new(3).get()?, 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`read`](RwLock::read).
    pub fn get(&self) -> Result<T, Error>
    where
        T: Copy,
    {
        Ok(*self.read()?)
    }

    /// Stores a value.
    ///
    /// ```
    /// # use mp::sync::RwLock;
    /// # fn main() -> Result<(), mp::Error> {
    /// let lock = RwLock::new(3);
    /// lock.set(4)?;
    /// assert_eq!(lock.get()?, 4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`write`](RwLock::write); nothing is stored then.
    pub fn set(&self, value: T) -> Result<(), Error> {
        *self.write()? = value;
        Ok(())
    }

    /// Stores a value, and gives the one before.
    ///
    /// ```
    /// # use mp::sync::RwLock;
    /// # fn main() -> Result<(), mp::Error> {
    /// assert_eq!(RwLock::new(3).replace(4)?, 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`write`](RwLock::write); nothing is stored then.
    pub fn replace(&self, value: T) -> Result<T, Error> {
        Ok(std::mem::replace(&mut *self.write()?, value))
    }
}

impl<T: Content + ?Sized> RwLock<T> {
    /// Waits until this thread may read.
    ///
    /// Who waits is woken when a writer gives the lock back, and when one dies. If this thread
    /// reads already, it does not wait.
    ///
    /// ```
    /// # use mp::sync::RwLock;
    /// # fn main() -> Result<(), mp::Error> {
    /// let lock = RwLock::new(3);
    /// let (one, another) = (lock.read()?, lock.read()?);
    /// assert_eq!(*one + *another, 6);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If a writer died or panicked; the error has the guard. If this thread writes,
    /// of the kind `WouldDeadlock` and without a guard.
    #[inline]
    pub fn read(&self) -> Result<RwLockReadGuard<'_, T>, Poisoned<RwLockReadGuard<'_, T>>> {
        match self.raw.read(Patience::Forever, || self.mend()) {
            Ok(seat) => self.read_guard(seat),
            Err(_) => Err(Poisoned::would_deadlock()),
        }
    }

    /// Reads if nobody alive writes or waits to write. Right after a writer, while those who
    /// waited for it are let in one by one, it may say that it would block.
    ///
    /// ```
    /// # use mp::sync::{RwLock, TryLockError};
    /// let lock = RwLock::new(3);
    /// let _guard = lock.write();
    /// assert!(matches!(lock.try_read(), Err(TryLockError::WouldBlock)));
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if somebody writes, this thread included;
    /// [`TryLockError::Poisoned`] as in [`read`](RwLock::read), with the guard.
    pub fn try_read(&self) -> Result<RwLockReadGuard<'_, T>, TryLockError<RwLockReadGuard<'_, T>>> {
        match self.raw.read(Patience::Never, || self.mend()) {
            Ok(seat) => Ok(self.read_guard(seat)?),
            Err(_) => Err(TryLockError::WouldBlock),
        }
    }

    /// Waits until this thread may read, at most for `timeout` on the monotonic clock.
    ///
    /// What wakes it is as for [`read`](RwLock::read).
    ///
    /// ```
    /// # use mp::sync::{RwLock, TryLockError};
    /// # use std::time::Duration;
    /// let lock = RwLock::new(3);
    /// let guard = lock.write();
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| {
    ///         let late = lock.read_timeout(Duration::from_millis(5));
    ///         assert!(matches!(late, Err(TryLockError::TimedOut)));
    ///     });
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryLockError::TimedOut`] if it might not all the time; otherwise as
    /// [`read`](RwLock::read).
    pub fn read_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockReadGuard<'_, T>, TryLockError<RwLockReadGuard<'_, T>>> {
        match self.raw.read(Patience::lasting(timeout), || self.mend()) {
            Ok(seat) => Ok(self.read_guard(seat)?),
            Err(Refusal::TimedOut) => Err(TryLockError::TimedOut),
            Err(Refusal::WouldDeadlock) => Err(Poisoned::would_deadlock().into()),
        }
    }

    /// Waits until this thread may write.
    ///
    /// Who waits is woken when the writer before, or the last reader, gives the lock back, and when
    /// one of them dies.
    ///
    /// ```
    /// # use mp::sync::RwLock;
    /// # fn main() -> Result<(), mp::Error> {
    /// let lock = RwLock::new(3);
    /// *lock.write()? += 1;
    /// assert_eq!(lock.get()?, 4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If a writer died or panicked; the error has the guard. If this thread reads or writes
    /// already, of the kind `WouldDeadlock` and without a guard.
    #[inline]
    pub fn write(&self) -> Result<RwLockWriteGuard<'_, T>, Poisoned<RwLockWriteGuard<'_, T>>> {
        match self.raw.write(Patience::Forever, || self.mend()) {
            Ok(()) => self.write_guard(),
            Err(_) => Err(Poisoned::would_deadlock()),
        }
    }

    /// Writes if nobody alive reads or writes.
    ///
    /// ```
    /// # use mp::sync::{RwLock, TryLockError};
    /// let lock = RwLock::new(3);
    /// let _guard = lock.read();
    /// assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if somebody reads or writes, this thread included;
    /// [`TryLockError::Poisoned`] as in [`write`](RwLock::write), with the guard.
    pub fn try_write(
        &self,
    ) -> Result<RwLockWriteGuard<'_, T>, TryLockError<RwLockWriteGuard<'_, T>>> {
        match self.raw.write(Patience::Never, || self.mend()) {
            Ok(()) => Ok(self.write_guard()?),
            Err(_) => Err(TryLockError::WouldBlock),
        }
    }

    /// Waits until this thread may write, at most for `timeout` on the monotonic clock.
    ///
    /// What wakes it is as for [`write`](RwLock::write).
    ///
    /// ```
    /// # use mp::sync::RwLock;
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), mp::Error> {
    /// let lock = RwLock::new(3);
    /// *lock.write_timeout(Duration::MAX)? += 1;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryLockError::TimedOut`] if it might not all the time; otherwise as
    /// [`write`](RwLock::write).
    pub fn write_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockWriteGuard<'_, T>, TryLockError<RwLockWriteGuard<'_, T>>> {
        match self.raw.write(Patience::lasting(timeout), || self.mend()) {
            Ok(()) => Ok(self.write_guard()?),
            Err(Refusal::TimedOut) => Err(TryLockError::TimedOut),
            Err(Refusal::WouldDeadlock) => Err(Poisoned::would_deadlock().into()),
        }
    }

    /// Calls `change` with leave to write.
    ///
    /// ```
    /// # use mp::sync::RwLock;
    /// # fn main() -> Result<(), mp::Error> {
    /// let lock = RwLock::new(3);
    /// let before = lock.update(|value| std::mem::replace(value, 4))?;
    /// assert_eq!(before, 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`write`](RwLock::write); `change` is not called then.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R, Error> {
        let mut guard = self.write()?;
        Ok(change(&mut guard))
    }

    /// Forgets that a writer died or panicked: what it left behind is in order again.
    ///
    /// ```
    /// # use mp::sync::RwLock;
    /// # let lock = RwLock::new(3);
    /// let mut guard = lock.write().unwrap_or_else(|poisoned| poisoned.into_inner());
    /// *guard = 0;
    /// lock.clear_poison();
    /// ```
    pub fn clear_poison(&self) {
        self.raw.clear_poison();
    }

    /// Whether the next one will be told that a writer did not come to its end.
    ///
    /// ```
    /// assert!(!mp::sync::RwLock::new(3).is_poisoned());
    /// ```
    pub fn is_poisoned(&self) -> bool {
        self.raw.poison().is_some()
    }

    /// Called by who comes after a dead writer, before anybody makes a reference to the data.
    fn mend(&self) {
        // SAFETY: this thread owns the queue and the writer before it was in, so nobody reads, and
        // nobody gets in until this returns.
        unsafe { T::mend(self.data.get()) };
    }

    /// The guard of a reader, which this thread is.
    #[inline]
    fn read_guard(
        &self,
        seat: Seat,
    ) -> Result<RwLockReadGuard<'_, T>, Poisoned<RwLockReadGuard<'_, T>>> {
        let guard = RwLockReadGuard {
            lock: self,
            seat,
            of_this_thread: PhantomData,
        };
        match self.raw.poison() {
            None => Ok(guard),
            Some(cause) => Err(Poisoned::new(guard, cause)),
        }
    }

    /// The guard of the writer, which this thread is.
    #[inline]
    fn write_guard(&self) -> Result<RwLockWriteGuard<'_, T>, Poisoned<RwLockWriteGuard<'_, T>>> {
        let guard = RwLockWriteGuard {
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

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this thread reads for as long as the guard lives, so nobody writes.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this thread alone has the data for as long as the guard lives.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.end_read(self.seat);
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if !self.was_panicking && thread::panicking() {
            let pid = identity::process_id();
            self.lock.raw.set_poison(PoisonCause::Panicked { pid });
        }
        self.lock.raw.end_write();
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display + ?Sized> fmt::Display for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display + ?Sized> fmt::Display for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized> fmt::Debug for RwLock<T> {
    /// Says who is in and not what it holds: that would take the lock.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock")
            .field("has_queue", &self.raw.has_queue())
            .field("reader_count", &self.raw.reader_count())
            .field("poison", &self.raw.poison())
            .finish_non_exhaustive()
    }
}

impl<T: Shareable + Default> Default for RwLock<T> {
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}

// SAFETY: it is made of atomics, of which every bit pattern is valid, and of a shareable value.
unsafe impl<T: Shareable> Shareable for RwLock<T> {
    const __MEND: Mend = Mend::Fields(&[(offset_of!(RwLock<T>, data), T::__MEND)]);
}
