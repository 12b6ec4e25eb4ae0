//! Several locks at once: `locked!`.
//!
//! Two sections that take the same locks one after the other deadlock if they do so in different
//! orders. So each takes its locks in the order of their places in memory, which is the same in
//! every process (a place is the memory's identity and the offset there), and whoever waits for a
//! lock waits for somebody who waits for later ones only. Somewhere there is one who waits for
//! nobody.

use std::ops::DerefMut;
use std::ptr;

use super::array::Array;
use super::mutex::{Mutex, MutexGuard};
use super::statics::SharedStatic;
use crate::error::Error;
use crate::shm::{Content, Place, Region, Shareable, Shared};

/// What `locked!` can take.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no lock that `locked!` could take",
    label = "not guarded by a lock",
    note = "`locked!` takes what `mp::shared!` makes, and every `Shared<Mutex<T>>`, `Array<T>` and `Mutex<T>`"
)]
pub trait Guarded {
    /// What gives the value while the lock is held.
    type Guard<'a>: DerefMut
    where
        Self: 'a;

    /// Where the lock is, the same in every process.
    fn __key(&self) -> Place;

    /// Takes the lock.
    ///
    /// # Errors
    ///
    /// If it is poisoned, or this thread has it.
    fn __lock(&self) -> Result<Self::Guard<'_>, Error>;
}

/// The order in which to take locks that are at these places.
#[inline]
pub fn lock_order<const N: usize>(places: [Place; N]) -> [usize; N] {
    let mut order = std::array::from_fn(|index| index);
    // Few, and mostly in order already.
    for end in 1..N {
        let mut at = end;
        while at > 0 && places[order[at]] < places[order[at - 1]] {
            order.swap(at, at - 1);
            at -= 1;
        }
    }
    order
}

impl<T: Content + ?Sized> Guarded for Mutex<T> {
    type Guard<'a> = MutexGuard<'a, T>;

    fn __key(&self) -> Place {
        let address = ptr::from_ref(self).addr();
        match Region::holding(address, size_of_val(self)) {
            Some((region, offset)) => Place::shared(&region, offset),
            None => Place::private(address),
        }
    }

    #[inline]
    fn __lock(&self) -> Result<MutexGuard<'_, T>, Error> {
        Ok(self.lock()?)
    }
}

impl<T: Shareable> Guarded for Shared<Mutex<T>> {
    type Guard<'a> = MutexGuard<'a, T>;

    #[inline]
    fn __key(&self) -> Place {
        self.place()
    }

    #[inline]
    fn __lock(&self) -> Result<MutexGuard<'_, T>, Error> {
        Ok(self.lock()?)
    }
}

impl<T: Shareable> Guarded for Array<T> {
    type Guard<'a> = MutexGuard<'a, [T]>;

    #[inline]
    fn __key(&self) -> Place {
        self.place()
    }

    #[inline]
    fn __lock(&self) -> Result<MutexGuard<'_, [T]>, Error> {
        Ok(self.lock()?)
    }
}

impl<T: Shareable> Guarded for SharedStatic<T> {
    type Guard<'a> = MutexGuard<'a, T>;

    #[inline]
    fn __key(&self) -> Place {
        self.place()
    }

    #[inline]
    fn __lock(&self) -> Result<MutexGuard<'_, T>, Error> {
        Ok(self.lock()?)
    }
}

impl<G: Guarded + ?Sized> Guarded for &G {
    type Guard<'a>
        = G::Guard<'a>
    where
        Self: 'a;

    #[inline]
    fn __key(&self) -> Place {
        (**self).__key()
    }

    #[inline]
    fn __lock(&self) -> Result<G::Guard<'_>, Error> {
        (**self).__lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_taken_in_the_order_of_their_places() {
        let places = [30, 10, 20].map(Place::private);
        assert_eq!(lock_order(places), [1, 2, 0]);
        assert_eq!(lock_order([7, 7].map(Place::private)), [0, 1]);
        assert_eq!(lock_order([]), []);
    }
}
