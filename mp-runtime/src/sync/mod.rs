//! Locks and their kin.

mod atomic;
mod patience;
mod poison;
mod raw_mutex;
mod mutex;
mod array;
pub(crate) mod statics;
mod section;

pub use array::{Array, ArrayChunk};
pub use mutex::{Mutex, MutexGuard};
pub use poison::{PoisonCause, Poisoned, TryLockError};
pub use section::{Guarded, lock_order};
pub use statics::{RegisteredStatic, SharedStatic};
