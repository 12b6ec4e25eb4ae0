//! Locks and their kin.

pub(crate) mod atomic;
mod bounds;
mod patience;
mod bell;
mod poison;
mod raw_mutex;
mod mutex;
mod slots;
mod raw_rwlock;
mod rwlock;
mod semaphore;
mod condvar;
mod event;
mod once;
mod once_lock;
mod barrier;
mod reentrant_mutex;
mod array;
pub(crate) mod statics;
mod section;

pub(crate) use bell::Bell;
pub(crate) use patience::Patience;
pub(crate) use raw_mutex::{RawMutex, Refusal};
pub(crate) use slots::Slots;

pub use array::{Array, ArrayChunk};
pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use event::Event;
pub use mutex::{Mutex, MutexGuard};
pub use once::{Once, OnceState};
pub use once_lock::OnceLock;
pub use poison::{PoisonCause, Poisoned, TryLockError};
pub use reentrant_mutex::{ReentrantMutex, ReentrantMutexGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use section::{Guarded, lock_order};
pub use semaphore::{Permit, Semaphore};
pub use statics::{RegisteredStatic, SharedStatic};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_that_the_docs_name() {
        assert_eq!(size_of::<Mutex<u64>>(), 16 + 8);
        assert_eq!(size_of::<ReentrantMutex<u64>>(), 24 + 8);
        assert_eq!(size_of::<RwLock<u64>>(), 792 + 8);
        assert_eq!(size_of::<Condvar>(), 520);
        assert_eq!(size_of::<Semaphore>(), 560);
        assert_eq!(size_of::<Event>(), 4);
        assert_eq!(size_of::<Barrier>(), 1064);
        assert_eq!(size_of::<Once>(), 8);
        assert_eq!(size_of::<OnceLock<u64>>(), 8 + 8);
    }
}
