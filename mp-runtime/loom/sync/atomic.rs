//! Atomics of loom under the names that the sources use.
//!
//! Loom's have to be made before there are threads, and cannot be made in a constant. So there is a
//! pool of them, all 0, and each of ours takes one at its first use; what it stores there is what
//! it holds, with the bits of its first value turned round. An access is a step at which its
//! thread may die, and one that is `SeqCst` stands between two fences.

use std::cell::{Cell, OnceCell};

use loom::sync::atomic as looms;

use crate::os::identity;

pub(crate) use loom::sync::atomic::{Ordering, fence};

/// More than any model needs.
const POOL_SIZE: usize = 40;

struct Pool {
    atomics: [looms::AtomicU64; POOL_SIZE],
    used: Cell<usize>,
}

impl Default for Pool {
    fn default() -> Pool {
        Pool {
            atomics: std::array::from_fn(|_| looms::AtomicU64::new(0)),
            used: Cell::new(0),
        }
    }
}

// SAFETY: loom runs all threads of a model on one.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

loom::lazy_static! {
    static ref POOL: Pool = Pool::default();
}

/// Makes the pool: called first in each model.
pub(crate) fn begin() {
    POOL.used.set(0);
}

/// What the compiler may reorder, loom does not.
pub(crate) fn compiler_fence(_ordering: Ordering) {}

/// One access of a living thread; the dead get `otherwise`.
fn access<R>(ordering: Ordering, otherwise: R, access: impl FnOnce() -> R) -> R {
    identity::step();
    if identity::is_dead() {
        return otherwise;
    }
    if ordering != Ordering::SeqCst {
        return access();
    }
    fence(Ordering::SeqCst);
    let result = access();
    fence(Ordering::SeqCst);
    result
}

macro_rules! atomic {
    ($name:ident $number:ty) => {
        #[derive(Debug, Default)]
        pub(crate) struct $name {
            initial: $number,
            place: OnceCell<usize>,
        }

        // SAFETY: loom runs all threads of a model on one.
        unsafe impl Send for $name {}
        // SAFETY: as above.
        unsafe impl Sync for $name {}

        impl $name {
            pub(crate) const fn new(initial: $number) -> $name {
                $name {
                    initial,
                    place: OnceCell::new(),
                }
            }

            fn atomic(&self) -> &looms::AtomicU64 {
                let place = self
                    .place
                    .get_or_init(|| POOL.used.replace(POOL.used.get() + 1));
                &POOL.atomics[*place]
            }

            /// Stores 0, as the kernel does, which is no step of a thread.
            pub(crate) fn clear(&self) {
                self.atomic().store(self.inner(0), Ordering::Relaxed);
            }

            fn inner(&self, value: $number) -> u64 {
                u64::from(value ^ self.initial)
            }

            fn outer(&self, word: u64) -> $number {
                word as $number ^ self.initial
            }

            pub(crate) fn load(&self, ordering: Ordering) -> $number {
                access(ordering, 0, || self.outer(self.atomic().load(ordering)))
            }

            pub(crate) fn store(&self, value: $number, ordering: Ordering) {
                access(ordering, (), || {
                    self.atomic().store(self.inner(value), ordering)
                });
            }

            pub(crate) fn swap(&self, value: $number, ordering: Ordering) -> $number {
                access(ordering, 0, || {
                    self.outer(self.atomic().swap(self.inner(value), ordering))
                })
            }

            pub(crate) fn fetch_add(&self, value: $number, ordering: Ordering) -> $number {
                self.change(ordering, |before| before.wrapping_add(value))
            }

            pub(crate) fn fetch_sub(&self, value: $number, ordering: Ordering) -> $number {
                self.change(ordering, |before| before.wrapping_sub(value))
            }

            pub(crate) fn fetch_or(&self, value: $number, ordering: Ordering) -> $number {
                self.change(ordering, |before| before | value)
            }

            pub(crate) fn fetch_and(&self, value: $number, ordering: Ordering) -> $number {
                self.change(ordering, |before| before & value)
            }

            pub(crate) fn compare_exchange_weak(
                &self,
                from: $number,
                to: $number,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$number, $number> {
                self.compare_exchange(from, to, success, failure)
            }

            pub(crate) fn compare_exchange(
                &self,
                from: $number,
                to: $number,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$number, $number> {
                access(success, Ok(from), || {
                    let (from, to) = (self.inner(from), self.inner(to));
                    let exchanged = self.atomic().compare_exchange(from, to, success, failure);
                    exchanged
                        .map(|word| self.outer(word))
                        .map_err(|word| self.outer(word))
                })
            }

            pub(crate) fn fetch_update(
                &self,
                success: Ordering,
                failure: Ordering,
                mut next: impl FnMut($number) -> Option<$number>,
            ) -> Result<$number, $number> {
                let mut value = self.load(failure);
                loop {
                    let Some(to) = next(value) else {
                        return Err(value);
                    };
                    match self.compare_exchange(value, to, success, failure) {
                        Ok(before) => return Ok(before),
                        Err(now) => value = now,
                    }
                }
            }

            fn change(&self, ordering: Ordering, next: impl Fn($number) -> $number) -> $number {
                let changed =
                    self.fetch_update(ordering, Ordering::Relaxed, |value| Some(next(value)));
                changed.unwrap_or_else(|value| value)
            }
        }
    };
}

atomic!(AtomicU32 u32);
atomic!(AtomicU64 u64);
