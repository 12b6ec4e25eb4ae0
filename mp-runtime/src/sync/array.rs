//! Arrays that are locked as a whole, or split into parts that processes have to themselves.
//!
//! In memory an array is a table of leases (`shm/lease.rs` has the protocol, and what happens when
//! who has a part dies), its lock, and its elements.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde::de::Error as _;
use serde::ser::{Error as _, SerializeTuple as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::mutex::Mutex;
use super::patience::Patience;
use super::poison::PoisonCause;
use super::raw_mutex::RawMutex;
use crate::error::Error;
use crate::os::identity;
use crate::shm::lease::{Custody, Leases, Loan, PART_LIMIT, TABLE_BYTES};
use crate::shm::{Content, Place, Shareable, Shared};

/// An array in memory that processes share, with a lock around it: a handle like
/// [`Shared`], which dereferences to `Mutex<[T]>`.
///
/// [`split`](Array::split) cuts it into chunks that workers write without a lock.
///
/// ```
/// use mp::{Array, ArrayChunk};
///
/// #[mp::process_fn]
/// fn fill(mut chunk: ArrayChunk<f64>, with: f64) {
///     chunk.fill(with);
/// }
///
/// #[mp::main]
/// fn main() -> Result<(), mp::Error> {
///     let array: Array<f64> = Array::zeroed(1000)?;
///     let pool = mp::Pool::new(2)?;
///     pool.starmap(fill, array.split(2).into_iter().zip([1.0, 2.0]))?;
///     let items = array.lock()?; // waits until no chunk is out
///     assert_eq!((items[0], items[999]), (1.0, 2.0));
///     Ok(())
/// }
/// ```
///
/// A table of 2 KiB stands before the elements.
pub struct Array<T: Shareable>(Shared<Body<T>>);

/// Table, lock, elements.
#[repr(C)]
struct Body<T: ?Sized + Elements> {
    table: [u64; TABLE_BYTES / size_of::<u64>()],
    lock: Mutex<T::Slice>,
}
