//! Arrays that are locked as a whole, or split into parts that processes have to themselves.
//!
//! In memory an array is a table of leases (`shm/lease.rs` has the protocol, and what happens when
//! who has a part dies), its lock, and its elements.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde::de::Error as _;
use serde::ser::{Error as _, SerializeTuple as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::mutex::Mutex;
use super::patience::Patience;
use super::poison::{PoisonCause, WOULD_DEADLOCK};
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
struct Body<T> {
    table: [u64; TABLE_BYTES / size_of::<u64>()],
    lock: Mutex<[T]>,
}

/// The most an element may be aligned to, so that the lock follows its table directly.
const ALIGN_LIMIT: usize = 2048;

// SAFETY: `repr(C)`: table, lock, elements, as `layout` counts them. Any bits are a table, and what
// the lock guards is mended by its own takeover.
unsafe impl<T: Shareable> Content for Body<T> {
    fn layout(len: usize) -> Option<(usize, usize)> {
        let align = align_of::<T>().max(align_of::<RawMutex>());
        let before = (TABLE_BYTES + size_of::<RawMutex>()).next_multiple_of(align_of::<T>());
        let bytes = size_of::<T>().checked_mul(len)?.checked_add(before)?;
        let bytes = bytes.checked_next_multiple_of(align)?;
        (bytes <= isize::MAX as usize && align <= ALIGN_LIMIT).then_some((bytes, align))
    }

    fn from_parts(address: *mut u8, len: usize) -> *mut Body<T> {
        ptr::slice_from_raw_parts_mut(address.cast::<T>(), len) as *mut Body<T>
    }

    unsafe fn mend(_content: *mut Body<T>) {}
}

impl<T: Shareable> Array<T> {
    /// Copies `items` into shared memory.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let array = mp::Array::from_slice(&[1, 2, 3])?;
    /// array.lock()?.reverse();
    /// assert_eq!(*array.lock()?, [3, 2, 1]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`Shared::new`].
    pub fn from_slice(items: &[T]) -> Result<Array<T>, Error>
    where
        T: Copy,
    {
        Array::build(items.len(), |first, _| {
            let from = NonNull::from(items).cast::<T>();
            // SAFETY: the elements are new, so the two do not overlap, and as many.
            unsafe { first.copy_from_nonoverlapping(from, items.len()) };
        })
    }

    /// Makes `len` elements by calling `make` with the place of each, from 0.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let squares = mp::Array::from_fn(4, |n| n * n)?;
    /// assert_eq!(*squares.lock()?, [0, 1, 4, 9]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`Shared::new`]; `make` is not called then.
    pub fn from_fn(len: usize, mut make: impl FnMut(usize) -> T) -> Result<Array<T>, Error> {
        Array::build(len, |first, _| {
            for index in 0..len {
                // SAFETY: there are `len` elements.
                let element = unsafe { first.add(index) };
                // SAFETY: as above; it is new.
                unsafe { element.write(make(index)) };
            }
        })
    }

    /// Makes `len` elements whose bytes are all zero. (A type for which that is no value does not
    /// compile.)
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let array: mp::Array<f64> = mp::Array::zeroed(1000)?;
    /// assert_eq!(array.len(), 1000);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`Shared::new`].
    pub fn zeroed(len: usize) -> Result<Array<T>, Error> {
        const { T::__ASSERT_ZERO_IS_VALID };
        Array::build(len, |first, is_blank| {
            if !is_blank {
                // SAFETY: there are `len` elements, of which zeroes are values.
                unsafe { first.write_bytes(0, len) };
            }
        })
    }

    /// Makes one whose elements `fill` writes, from the first on; it is told whether they are all
    /// zero.
    fn build(len: usize, fill: impl FnOnce(NonNull<T>, bool)) -> Result<Array<T>, Error> {
        let shared = Shared::<Body<T>>::build(len, |block| {
            let start = block.start();
            // SAFETY: the block has room for table and lock, of which zeroes are an empty one and
            // a free one.
            unsafe { start.write_bytes(0, TABLE_BYTES + size_of::<RawMutex>()) };
            let body = Body::<T>::from_parts(start.as_ptr(), len);
            // SAFETY: `body` points to the block, whose lock was written.
            let lock = unsafe { &raw const (*body).lock };
            // SAFETY: as above. No reference to the elements is made of it.
            let first = unsafe { &*lock }.data().cast::<T>();
            if let Some(first) = NonNull::new(first) {
                fill(first, block.is_blank());
            }
        })?;
        Ok(Array(shared))
    }

    /// How many elements there are.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// assert_eq!(mp::Array::from_slice(&[1, 2, 3])?.len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn len(&self) -> usize {
        self.lock_of().data().len()
    }

    /// Whether there is none.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// assert!(mp::Array::<u8>::zeroed(0)?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for the lock, and cuts the array into `count` chunks, as equal as can be: the first
    /// ones have one element more. The lock comes back when no living process holds a chunk, and
    /// none is in a message.
    ///
    /// That the array is poisoned is not told here, but by the next `lock`.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let array: mp::Array<u32> = mp::Array::zeroed(10)?;
    /// let mut chunks = array.split(3);
    /// assert_eq!(chunks.iter().map(|chunk| chunk.len()).collect::<Vec<_>>(), [4, 3, 3]);
    /// chunks[1].fill(7);
    /// assert!(array.try_lock().is_err());
    /// drop(chunks);
    /// assert_eq!(array.lock()?[4..7], [7, 7, 7]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If this thread has the array locked, and above 130,305 chunks.
    #[track_caller]
    pub fn split(&self, count: usize) -> Vec<ArrayChunk<T>> {
        let raw = self.raw();
        let acquired = raw.acquire(Patience::Forever, || self.lock_of().mend());
        assert!(acquired.is_ok(), "{WOULD_DEADLOCK}");
        let leases = self.leases().filter(|_| count > 0);
        let Some(leases) = leases else {
            raw.release();
            return Vec::new();
        };
        // One that was killed in here left a count of chunks that never were.
        leases.bury();
        if !leases.add(Custody::Held, count) {
            raw.release();
            panic!("an array can be split into {PART_LIMIT} chunks at most, not {count}");
        }
        let epoch = leases.next_epoch();
        raw.lend(epoch);
        let (size, larger) = (self.len() / count, self.len() % count);
        let mut start = 0;
        let chunks = (0..count).map(|index| {
            let len = size + usize::from(index < larger);
            let chunk = ArrayChunk::new(self.clone(), leases.clone(), epoch, start, len);
            start += len;
            chunk
        });
        chunks.collect()
    }

    fn lock_of(&self) -> &Mutex<[T]> {
        &self.0.lock
    }

    fn raw(&self) -> &RawMutex {
        self.lock_of().raw()
    }

    fn leases(&self) -> Option<Leases> {
        let block = self.0.block();
        Leases::at(block.region(), block.offset())
    }

    /// Where it is, the same in every process.
    pub(crate) fn place(&self) -> Place {
        self.0.place()
    }
}

impl<T: Shareable> Clone for Array<T> {
    /// Another handle to the same array.
    fn clone(&self) -> Array<T> {
        Array(self.0.clone())
    }
}

impl<T: Shareable> Deref for Array<T> {
    type Target = Mutex<[T]>;

    fn deref(&self) -> &Mutex<[T]> {
        self.lock_of()
    }
}

impl<T: Shareable> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Array")
            .field("len", &self.len())
            .field("lock", &self.lock_of())
            .finish()
    }
}

impl<T: Shareable> Serialize for Array<T> {
    /// Sends the handle; works within arguments and results of process functions alone.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.send_as::<Array<T>, S>(self.len(), None, serializer)
    }
}

impl<'de, T: Shareable> Deserialize<'de> for Array<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Array<T>, D::Error> {
        Shared::receive_as::<Array<T>, D>(deserializer).map(Array)
    }
}

/// A part of an [`Array`], which no other process and nobody else in this one can touch: a
/// `&mut [T]` that can be sent.
///
/// Sending it, as an argument or a result, empties it here. Dropping it gives it back. If its
/// process dies with it, or panics, the array is poisoned.
///
/// ```
/// # fn main() -> Result<(), mp::Error> {
/// let array: mp::Array<u32> = mp::Array::zeroed(10)?;
/// for mut chunk in array.split(2) {
///     let start = chunk.start() as u32;
///     chunk.iter_mut().zip(start..).for_each(|(item, n)| *item = n);
/// }
/// assert_eq!(array.lock()?[9], 9);
/// # Ok(())
/// # }
/// ```
///
/// A chunk that was returned by a process that has ended since belongs to nobody until it arrives;
/// if somebody locks the array before that, its arrival is an error.
pub struct ArrayChunk<T: Shareable> {
    array: Array<T>,
    leases: Leases,
    epoch: u64,
    start: usize,
    len: usize,
    is_sent: AtomicBool,
    was_panicking: bool,
    /// It is as `Sync` as what it lends.
    elements: PhantomData<T>,
}

impl<T: Shareable> ArrayChunk<T> {
    /// One that this process has counted as held.
    fn new(array: Array<T>, leases: Leases, epoch: u64, start: usize, len: usize) -> ArrayChunk<T> {
        ArrayChunk {
            array,
            leases,
            epoch,
            start,
            len,
            is_sent: AtomicBool::new(false),
            was_panicking: thread::panicking(),
            elements: PhantomData,
        }
    }

    /// Where its first element is in the array.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let array: mp::Array<u32> = mp::Array::zeroed(10)?;
    /// let starts: Vec<usize> = array.split(3).iter().map(|chunk| chunk.start()).collect();
    /// assert_eq!(starts, [0, 4, 7]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn start(&self) -> usize {
        self.start
    }

    /// Its elements; none if it was sent.
    fn elements(&self) -> NonNull<[T]> {
        let all = self.array.lock_of().data().cast::<T>();
        let (start, len) = match self.is_sent.load(Ordering::Acquire) {
            true => (0, 0),
            false => (self.start, self.len),
        };
        // SAFETY: `start` is at most the length of the array, as `new`'s callers saw to.
        let first = unsafe { all.add(start) };
        let first = NonNull::new(first).unwrap_or(NonNull::dangling());
        NonNull::slice_from_raw_parts(first, len)
    }
}

impl<T: Shareable> Deref for ArrayChunk<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the lease of this part is this process's, and of this chunk alone.
        unsafe { self.elements().as_ref() }
    }
}

impl<T: Shareable> DerefMut for ArrayChunk<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { self.elements().as_mut() }
    }
}

impl<T: Shareable> Drop for ArrayChunk<T> {
    fn drop(&mut self) {
        if *self.is_sent.get_mut() {
            return;
        }
        if !self.was_panicking && thread::panicking() {
            let pid = identity::process_id();
            self.array.raw().set_poison(PoisonCause::Panicked { pid });
        }
        self.leases.subtract(Custody::Held);
    }
}

impl<T: Shareable + fmt::Debug> fmt::Debug for ArrayChunk<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The array of a chunk that is being sent.
struct Departing<'c, T: Shareable>(&'c ArrayChunk<T>);

impl<T: Shareable> Serialize for Departing<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let array = &self.0.array;
        let block = array.0.block();
        let loan = Loan::new(block.region(), block.offset())
            .ok_or_else(|| S::Error::custom("there are too many chunks of one array"))?;
        let len = array.len();
        array
            .0
            .send_as::<ArrayChunk<T>, S>(len, Some(loan), serializer)
    }
}

/// The array of a chunk that has come.
struct Arrived<T: Shareable>(Array<T>);

impl<'de, T: Shareable> Deserialize<'de> for Arrived<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Arrived<T>, D::Error> {
        let shared = Shared::receive_as::<ArrayChunk<T>, D>(deserializer)?;
        Ok(Arrived(Array(shared)))
    }
}

impl<T: Shareable> Serialize for ArrayChunk<T> {
    /// Sends the chunk, which is empty here from then on; works within arguments and results of
    /// process functions alone.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_sent.swap(true, Ordering::AcqRel) {
            return Err(S::Error::custom("a chunk of an array is sent once"));
        }
        // If it fails from here on, the chunk is lost, and the array has it back.
        let give_back = GiveBack(&self.leases);
        // No `u64`s: see `shm/transit.rs`.
        let extent = ((self.start as u128) << 64) | self.len as u128;
        let mut fields = serializer.serialize_tuple(3)?;
        fields.serialize_element(&Departing(self))?;
        fields.serialize_element(&extent)?;
        fields.serialize_element(&u128::from(self.epoch))?;
        drop(give_back);
        fields.end()
    }
}

/// Takes back the count of a held chunk.
struct GiveBack<'l>(&'l Leases);

impl Drop for GiveBack<'_> {
    fn drop(&mut self) {
        self.0.subtract(Custody::Held);
    }
}

impl<'de, T: Shareable> Deserialize<'de> for ArrayChunk<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ArrayChunk<T>, D::Error> {
        let (Arrived(array), extent, epoch) =
            <(Arrived<T>, u128, u128)>::deserialize(deserializer)?;
        let (start, len) = ((extent >> 64) as usize, extent as u64 as usize);
        let refuse = |reason| {
            D::Error::custom(format!(
                "a chunk of an array could not be taken in: {reason}"
            ))
        };
        if start.checked_add(len).is_none_or(|end| end > array.len()) {
            return Err(refuse("it is outside of its array"));
        }
        let leases = array
            .leases()
            .filter(|leases| leases.add(Custody::Held, 1))
            .ok_or_else(|| refuse("there are too many"))?;
        let epoch = epoch as u64;
        if !array.raw().is_lent(epoch) {
            leases.subtract(Custody::Held);
            return Err(refuse("the array was locked while it was on its way"));
        }
        Ok(ArrayChunk::new(array, leases, epoch, start, len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_was_killed_in_a_split_does_not_poison_the_next() {
        let array: Array<u8> = Array::zeroed(4).expect("there is memory");
        // The highest id there can be, which no machine reaches, with a chunk.
        let dead = (1 << 32) | (0x3f_ffff << 10) | 1;
        let entry = ptr::from_ref(&array.0.table[7]).cast_mut();
        // SAFETY: it is in the table, which is shared memory, and nobody else looks at it.
        unsafe { entry.write_volatile(dead) };
        drop(array.split(2));
        assert!(array.lock().is_ok());
    }
}
