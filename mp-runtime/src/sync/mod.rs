//! Locks and their kin.

mod atomic;
mod patience;
mod poison;
mod raw_mutex;
mod mutex;

pub use mutex::{Mutex, MutexGuard};
pub use poison::{PoisonCause, Poisoned, TryLockError};
