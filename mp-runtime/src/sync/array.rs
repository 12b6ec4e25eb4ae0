//! Arrays that are locked as a whole, or split into parts that processes have to themselves.
//!
//! In memory an array is a table of leases (`shm/lease.rs` has the protocol, and what happens when
//! who has a part dies), its lock, and its elements.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::mutex::Mutex;
use super::patience::Patience;
use super::poison::{PoisonCause, WOULD_DEADLOCK};
use super::raw_mutex::RawMutex;
use crate::error::Error;
use crate::os::identity;
use crate::shm::lease::{self, Bond, Leases, Loan, PART_LIMIT, Part};
use crate::shm::transit::{self, Chunk};
use crate::shm::{self, Block, Content, Place, Shareable};

/// An array in memory that processes share, with a lock around it: a handle like
/// [`Shared`](crate::shm::Shared), which dereferences to `Mutex<[T]>`.
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
/// A table stands before the elements: 2 KiB, and 8 bytes for each element, for 4,096 of them at
/// most.
pub struct Array<T: Shareable> {
    block: Arc<Block>,
    lock: NonNull<Mutex<[T]>>,
}

// SAFETY: a handle gives the lock, to any thread of any process, and nothing is dropped.
unsafe impl<T: Shareable> Send for Array<T> {}
// SAFETY: as for `Send`.
unsafe impl<T: Shareable> Sync for Array<T> {}

/// Where the lock of an array of `len` elements is, how many bytes it takes with its elements, and
/// how the array is aligned. `None` if there cannot be so many.
fn layout<T>(len: usize) -> Option<(usize, usize, usize)> {
    let align = align_of::<T>().max(align_of::<RawMutex>());
    let lock = lease::table_bytes(len).next_multiple_of(align);
    let before = size_of::<RawMutex>().next_multiple_of(align_of::<T>());
    let bytes = size_of::<T>().checked_mul(len)?.checked_add(before)?;
    let bytes = bytes.checked_next_multiple_of(align)?;
    let end = lock.checked_add(bytes)?;
    (end <= isize::MAX as usize).then_some((lock, bytes, align))
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
    /// As those of [`Shared::new`](crate::shm::Shared::new).
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
    /// As those of [`Shared::new`](crate::shm::Shared::new); `make` is not called then.
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
    /// As those of [`Shared::new`](crate::shm::Shared::new).
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
        let (lock, bytes, align) = layout::<T>(len).ok_or_else(|| shm::too_many(len))?;
        let block = shm::allocate(lock + bytes, align)?;
        let is_blank = block.is_blank();
        if !is_blank {
            let head = lock + size_of::<RawMutex>();
            // SAFETY: the block has room for table and lock, of which zeroes are an empty one and
            // a free one.
            unsafe { block.start().write_bytes(0, head) };
        }
        let array = Array::of(block, lock, len);
        Leases::write_capacity(array.block.region(), array.lock_offset(), len);
        if let Some(first) = NonNull::new(array.lock_of().data().cast::<T>()) {
            fill(first, is_blank);
        }
        Ok(array)
    }

    /// The handle to what is there: the lock at `lock` of the block, around `len` elements.
    fn of(block: Arc<Block>, lock: usize, len: usize) -> Array<T> {
        // SAFETY: in bounds of the block, by the layout it was made or checked with.
        let address = unsafe { block.start().add(lock) };
        let elements = NonNull::slice_from_raw_parts(address.cast::<T>(), len);
        // `Mutex` is `repr(C)`, so it has the layout that was counted; the cast keeps the length.
        let lock = elements.as_ptr() as *mut Mutex<[T]>;
        // SAFETY: it points to where `address` does.
        let lock = unsafe { NonNull::new_unchecked(lock) };
        Array { block, lock }
    }

    /// Where the lock is in its region.
    fn lock_offset(&self) -> usize {
        let within = self.lock.cast::<u8>().as_ptr().addr() - self.block.start().as_ptr().addr();
        self.block.offset() + within
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
    /// That the array is poisoned is not told here, but by the next `lock`. A thread that locks or
    /// splits the array while it has a chunk of it waits for itself: use
    /// [`lock_timeout`](Mutex::lock_timeout) where that may be.
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
    /// If this thread has the array locked, and above 4,096 chunks that are not empty.
    #[track_caller]
    pub fn split(&self, count: usize) -> Vec<ArrayChunk<T>> {
        let raw = self.raw();
        // One that is killed in here has changed no element: nothing is poisoned.
        let acquired = raw.claim(Patience::Forever, || self.lock_of().mend());
        assert!(acquired.is_ok(), "{WOULD_DEADLOCK}");
        let leases = self.leases();
        // An empty chunk is nobody's.
        let parts = count.min(self.len());
        let parts = leases.as_ref().and_then(|leases| leases.split_off(parts));
        let (Some(leases), Some(parts)) = (leases, parts) else {
            raw.release();
            panic!("an array can be split into {PART_LIMIT} chunks at most, not {count}");
        };
        match parts.is_empty() {
            true => raw.release(),
            false => raw.lend(),
        }
        let (size, larger) = match count {
            0 => (0, 0),
            _ => (self.len() / count, self.len() % count),
        };
        let mut start = 0;
        let chunks = (0..count).map(|index| {
            let len = size + usize::from(index < larger);
            let part = parts.get(index).copied();
            let chunk = ArrayChunk::new(self.clone(), leases.clone(), part, start, len);
            start += len;
            chunk
        });
        chunks.collect()
    }

    fn lock_of(&self) -> &Mutex<[T]> {
        // SAFETY: whoever made this handle saw to it that the lock is there; the block is held;
        // what changes behind the reference is atomic or locked.
        unsafe { self.lock.as_ref() }
    }

    fn raw(&self) -> &RawMutex {
        self.lock_of().raw()
    }

    fn leases(&self) -> Option<Leases> {
        Leases::at(self.block.region(), self.lock_offset())
    }

    /// Where it is, the same in every process.
    pub(crate) fn place(&self) -> Place {
        self.block.place()
    }
}

impl<T: Shareable> Clone for Array<T> {
    /// Another handle to the same array.
    fn clone(&self) -> Array<T> {
        Array {
            block: Arc::clone(&self.block),
            lock: self.lock,
        }
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
        transit::send::<Array<T>, S>(&self.block, self.len(), None, serializer)
    }
}

impl<'de, T: Shareable> Deserialize<'de> for Array<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Array<T>, D::Error> {
        receive::<T, Array<T>, D>(deserializer).map(|(array, _)| array)
    }
}

/// Receives an array that was sent as something that `K` stands for.
fn receive<'de, T: Shareable, K: 'static, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<(Array<T>, Option<Chunk>), D::Error> {
    let whole = |len| layout::<T>(len).map(|(lock, bytes, align)| (lock + bytes, align));
    let received = transit::receive::<K, D>(deserializer, whole)?;
    let (block, len) = (received.block, received.len);
    let (lock, _, _) = layout::<T>(len).ok_or_else(|| D::Error::custom("it has no layout"))?;
    Ok((Array::of(block, lock, len), received.chunk))
}

/// A part of an [`Array`], which no other process and nobody else in this one can touch: a
/// `&mut [T]` that can be sent.
///
/// It is sent as an argument or a result, by moving it in; a message leaves when the chunks in it
/// are dropped here, so one that is also kept, in an `Arc`, is an error. Dropping it gives it back.
/// If its process dies with it, or panics, the array is poisoned.
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
    /// `None`: it is empty.
    part: Option<Part>,
    start: usize,
    len: usize,
    bond: Arc<Bond>,
    is_sent: AtomicBool,
    was_panicking: bool,
    /// It is as `Sync` as what it lends.
    elements: PhantomData<T>,
}

impl<T: Shareable> ArrayChunk<T> {
    /// Of a part that this process has.
    fn new(
        array: Array<T>,
        leases: Leases,
        part: Option<Part>,
        start: usize,
        len: usize,
    ) -> ArrayChunk<T> {
        ArrayChunk {
            array,
            leases,
            part,
            start,
            len,
            bond: Arc::default(),
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

    fn elements(&self) -> NonNull<[T]> {
        let all = self.array.lock_of().data().cast::<T>();
        // SAFETY: `start` is at most the length of the array, as `new`'s callers saw to.
        let first = unsafe { all.add(self.start) };
        let first = NonNull::new(first).unwrap_or(NonNull::dangling());
        NonNull::slice_from_raw_parts(first, self.len)
    }
}

impl<T: Shareable> Deref for ArrayChunk<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the part is this process's, and this chunk's alone, as long as the chunk lives:
        // no message that it was put into leaves before that.
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
        let is_sent = *self.is_sent.get_mut() && !self.bond.has_ended();
        let part = self.part.unwrap_or(Part::NONE);
        if self.part.is_some() && !is_sent && !self.was_panicking && thread::panicking() {
            let pid = identity::process_id();
            self.array.raw().set_poison(PoisonCause::Panicked { pid });
        }
        self.leases.put_down(part, is_sent);
        if is_sent && !self.bond.drop_chunk() {
            self.leases.let_go(part);
        }
    }
}

impl<T: Shareable + fmt::Debug> fmt::Debug for ArrayChunk<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Shareable> Serialize for ArrayChunk<T> {
    /// Sends the chunk; works within arguments and results of process functions alone, and once.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A message that did not leave is as none.
        if self.is_sent.swap(true, Ordering::AcqRel) && !self.bond.renew() {
            return Err(S::Error::custom("a chunk of an array is sent once"));
        }
        let part = self.part.unwrap_or(Part::NONE);
        let chunk = Chunk {
            lock_offset: self.leases.lock_offset() as u64,
            part,
            start: self.start as u64,
            count: self.len as u64,
        };
        let loan = Loan::new(&self.leases, part, &self.bond);
        let (block, len) = (&self.array.block, self.array.len());
        transit::send::<ArrayChunk<T>, S>(block, len, Some((chunk, loan)), serializer)
    }
}

impl<'de, T: Shareable> Deserialize<'de> for ArrayChunk<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ArrayChunk<T>, D::Error> {
        let (array, chunk) = receive::<T, ArrayChunk<T>, D>(deserializer)?;
        pick_up(array, chunk).map_err(|reason| {
            D::Error::custom(format!(
                "a chunk of an array could not be taken in: {reason}"
            ))
        })
    }
}

/// Takes a chunk out of the message it came in.
fn pick_up<T: Shareable>(
    array: Array<T>,
    chunk: Option<Chunk>,
) -> Result<ArrayChunk<T>, &'static str> {
    let chunk = chunk.ok_or("it is none")?;
    let (start, len) = (chunk.start as usize, chunk.count as usize);
    if start.checked_add(len).is_none_or(|end| end > array.len()) {
        return Err("it is outside of its array");
    }
    let leases = array.leases().ok_or("its array is damaged")?;
    let (part, dead) = match len {
        0 => (None, None),
        _ => {
            let (part, dead) = leases.pick_up(chunk.part)?;
            (Some(part), dead)
        }
    };
    let chunk = ArrayChunk::new(array, leases, part, start, len);
    if let Some(pid) = dead {
        // Who had it before died with it, and this is the next try.
        let raw = chunk.array.raw();
        raw.set_poison(PoisonCause::OwnerDied { pid });
        // SAFETY: the part is this chunk's, and nobody has looked at it yet.
        unsafe { <[T]>::mend(chunk.elements().as_ptr()) };
    }
    Ok(chunk)
}
