//! A value that is made once.
//!
//! `once.rs` has the protocol. The value is written by the thread that does it, before `COMPLETE`
//! is stored, and never after. So a process that is killed while it makes or writes the value
//! leaves an empty cell: the next one writes all of it again.

use std::cell::UnsafeCell;
use std::fmt;
use std::mem::MaybeUninit;

use super::once::{AfterPanic, Once};
use crate::shm::{Mend, Shareable};

/// A value that is made once, by whichever thread or process comes first, and never changes then.
/// 8 bytes and the value.
///
/// If a process dies while it makes the value, the next one makes it again. If a `OnceLock` stands
/// in a [`Mutex`](super::Mutex) whose owner dies, it is empty again, since that owner may have been
/// replacing it.
///
/// ```
/// use mp::sync::OnceLock;
///
/// static SEED: OnceLock<u64> = OnceLock::new();
///
/// assert_eq!(SEED.get(), None);
/// assert_eq!(*SEED.get_or_init(|| 42), 42);
/// assert_eq!(SEED.set(7), Err(7));
/// ```
#[repr(C)]
pub struct OnceLock<T> {
    once: Once,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: it gives the value away with itself.
unsafe impl<T: Send> Send for OnceLock<T> {}
// SAFETY: everybody has `&T`, hence `T: Sync`, to a value that another thread made, hence
// `T: Send`; it is written before anybody has.
unsafe impl<T: Send + Sync> Sync for OnceLock<T> {}

impl<T: Shareable> OnceLock<T> {
    /// An empty cell.
    ///
    /// ```
    /// # use mp::sync::OnceLock;
    /// assert_eq!(OnceLock::<u32>::new().get(), None);
    /// ```
    pub const fn new() -> OnceLock<T> {
        OnceLock {
            once: Once::new(),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// The value, if it is there.
    ///
    /// ```
    /// # use mp::sync::OnceLock;
    /// let cell = OnceLock::new();
    /// cell.set(3).unwrap();
    /// assert_eq!(cell.get(), Some(&3));
    /// ```
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if !self.once.is_completed() {
            return None;
        }
        // SAFETY: nobody writes to the value any more.
        let value = unsafe { &*self.value.get() };
        // SAFETY: it was written before the end was stored.
        Some(unsafe { value.assume_init_ref() })
    }

    /// The value, if it is there, for who has the cell to itself.
    ///
    /// ```
    /// # use mp::sync::OnceLock;
    /// let mut cell = OnceLock::new();
    /// cell.set(3).unwrap();
    /// *cell.get_mut().unwrap() += 1;
    /// assert_eq!(cell.into_inner(), Some(4));
    /// ```
    pub fn get_mut(&mut self) -> Option<&mut T> {
        if !self.once.is_completed() {
            return None;
        }
        // SAFETY: it was written before the end was stored, and nobody else looks.
        Some(unsafe { self.value.get_mut().assume_init_mut() })
    }

    /// The value, if it is there; the cell is empty then.
    ///
    /// ```
    /// # use mp::sync::OnceLock;
    /// let mut cell = OnceLock::new();
    /// cell.set(3).unwrap();
    /// assert_eq!((cell.take(), cell.take()), (Some(3), None));
    /// ```
    pub fn take(&mut self) -> Option<T> {
        std::mem::take(self).into_inner()
    }

    /// The value, if it is there.
    ///
    /// ```
    /// # use mp::sync::OnceLock;
    /// assert_eq!(OnceLock::<u32>::new().into_inner(), None);
    /// ```
    pub fn into_inner(self) -> Option<T> {
        let value = self.once.is_completed().then(|| self.value.into_inner());
        // SAFETY: it was written before the end was stored, and the cell has no `Drop`.
        value.map(|value| unsafe { value.assume_init() })
    }

    /// Stores the value, if there is none.
    ///
    /// If another thread makes one now, this waits; it is woken when that is done, panics or dies.
    ///
    /// ```
    /// # use mp::sync::OnceLock;
    /// let cell = OnceLock::new();
    /// assert_eq!(cell.set(3), Ok(()));
    /// assert_eq!(cell.set(4), Err(4));
    /// ```
    ///
    /// # Errors
    ///
    /// If there is a value; the error has the one that was not stored.
    ///
    /// # Panics
    ///
    /// In what this cell's `get_or_init` calls, which would wait for itself.
    #[track_caller]
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.fill(|| value.take().expect("this is called at most once"));
        value.map_or(Ok(()), Err)
    }

    /// The value; if there is none, what `make` returns.
    ///
    /// If another thread makes one now, this waits; it is woken when that is done, panics or dies.
    ///
    /// ```
    /// # use mp::sync::OnceLock;
    /// let cell = OnceLock::new();
    /// assert_eq!(*cell.get_or_init(|| 3), 3);
    /// assert_eq!(*cell.get_or_init(|| 4), 3);
    /// ```
    ///
    /// # Panics
    ///
    /// If `make` panics; the cell stays empty then. If `make` calls this on the same cell, which
    /// would wait for itself.
    #[track_caller]
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        self.fill(make);
        self.get().expect("the cell was full, or is now")
    }

    /// Stores what `make` gives, if there is no value.
    #[inline]
    #[track_caller]
    fn fill(&self, make: impl FnOnce() -> T) {
        if self.once.is_completed() {
            return;
        }
        self.once.run(AfterPanic::Again, |_| {
            let value = make();
            // SAFETY: this thread is the one that does it, so nobody else looks.
            let place = unsafe { &mut *self.value.get() };
            place.write(value);
        });
    }
}

impl<T: Shareable> Default for OnceLock<T> {
    fn default() -> OnceLock<T> {
        OnceLock::new()
    }
}

impl<T: Shareable + fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnceLock").field(&self.get()).finish()
    }
}

// SAFETY: bits that a killed writer left, some of a full cell and some of an empty one, would claim
// a value where there is none; so mending empties it, after which every bit pattern is valid.
unsafe impl<T: Shareable> Shareable for OnceLock<T> {
    const __MEND: Mend = Mend::Leaf(|place| {
        // SAFETY: `place` holds a cell, which begins with its `Once`; nobody else looks.
        unsafe { place.cast::<Once>().write(Once::new()) };
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::Content;

    #[test]
    fn a_mended_cell_is_empty() {
        let mut cell = OnceLock::new();
        assert_eq!(cell.set('a'), Ok(()));
        // SAFETY: it is this test's alone.
        unsafe { OnceLock::mend(&raw mut cell) };
        assert_eq!(cell.get(), None);
        assert_eq!(cell.set('b'), Ok(()));
    }
}
