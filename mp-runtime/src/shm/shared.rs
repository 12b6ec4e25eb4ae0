//! The handle to a value in shared memory.

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::heap::{Block, Place};
use super::lease::Loan;
use super::shareable::{Content, Shareable};
use super::transit;
use crate::error::{Error, ErrorKind};

/// A value in memory that processes share: `Arc`, across processes.
///
/// Its clones, here and wherever it was sent, are the same value. It is sent as an argument or a
/// result of a process function, alone or within any serializable type; its memory stays as long
/// as any process has it, or it is on its way. A process that is killed lets go of all it had.
///
/// Everybody has `&T`: what is to be changed is an atomic, or in a lock of [`mp::sync`](crate::sync).
/// `T` is never dropped (a [`Shareable`] type has nothing to drop); dropping the last handle frees
/// the memory.
///
/// Small values lie together in regions of up to 1 MiB, which go back to the kernel when no value
/// in them is left; a value of more than 32 KiB has a region, and a descriptor, of its own.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use mp::Shared;
///
/// #[mp::process_fn]
/// fn hit(hits: Shared<AtomicU64>, data: Shared<[f64]>) -> f64 {
///     hits.fetch_add(1, Ordering::Relaxed);
///     data.iter().sum()
/// }
///
/// #[mp::main]
/// fn main() -> Result<(), mp::Error> {
///     let hits = Shared::new(AtomicU64::new(0))?;
///     let data = Shared::from_slice(&[0.5, 1.5])?; // zero copies in the worker
///     let sum = mp::spawn!(hit(hits.clone(), data))?.join()?;
///     assert_eq!((sum, hits.load(Ordering::Relaxed)), (2.0, 1));
///     Ok(())
/// }
/// ```
#[doc(alias = "RawValue")]
#[doc(alias = "RawArray")]
#[doc(alias = "SharedMemory")]
pub struct Shared<T: ?Sized> {
    block: Arc<Block>,
    content: NonNull<T>,
}

// SAFETY: a handle gives `&T`, to any thread of any process, and nothing is dropped.
unsafe impl<T: ?Sized + Sync> Send for Shared<T> {}
// SAFETY: as for `Send`.
unsafe impl<T: ?Sized + Sync> Sync for Shared<T> {}

impl<T: Shareable + Sync> Shared<T> {
    /// Puts `value` into shared memory.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// use std::sync::atomic::{AtomicBool, Ordering};
    ///
    /// let stop = mp::Shared::new(AtomicBool::new(false))?;
    /// stop.store(true, Ordering::Relaxed);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if there is not enough memory, [`ErrorKind::Io`] if there is no
    /// descriptor left for it, [`ErrorKind::Unsupported`] if it is aligned to more than a page.
    pub fn new(value: T) -> Result<Shared<T>, Error> {
        Shared::build(1, |block| {
            // SAFETY: the place is new, and has the size and alignment of a `T`.
            unsafe { block.start().cast::<T>().write(value) };
        })
    }
}

impl<T: Shareable + Sync> Shared<[T]> {
    /// Copies `items` into shared memory.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let samples = vec![0.5, 1.5, 2.5];
    /// let shared = mp::Shared::from_slice(&samples)?;
    /// assert_eq!(*shared, samples[..]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`Shared::new`].
    pub fn from_slice(items: &[T]) -> Result<Shared<[T]>, Error>
    where
        T: Copy,
    {
        Shared::build(items.len(), |block| {
            let (from, to) = (NonNull::from(items).cast::<T>(), block.start().cast::<T>());
            // SAFETY: the place is new, so the two do not overlap; it has room for as many items.
            unsafe { to.copy_from_nonoverlapping(from, items.len()) };
        })
    }

    /// Makes `len` elements by calling `make` with the place of each, from 0.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// use std::sync::atomic::AtomicU64;
    ///
    /// let counts = mp::Shared::from_fn(256, |_| AtomicU64::new(0))?;
    /// assert_eq!(counts.len(), 256);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`Shared::new`]; `make` is not called then.
    pub fn from_fn(len: usize, mut make: impl FnMut(usize) -> T) -> Result<Shared<[T]>, Error> {
        Shared::build(len, |block| {
            for index in 0..len {
                // SAFETY: the place has room for `len` elements.
                let element = unsafe { block.start().cast::<T>().add(index) };
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
    /// let zeroes: mp::Shared<[u8]> = mp::Shared::zeroed(1 << 20)?;
    /// assert_eq!(zeroes.len(), 1 << 20);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`Shared::new`].
    pub fn zeroed(len: usize) -> Result<Shared<[T]>, Error> {
        const { T::__ASSERT_ZERO_IS_VALID };
        Shared::build(len, |block| {
            if !block.is_blank() {
                // SAFETY: the place has room for `len` elements, of which zeroes are values.
                unsafe { block.start().cast::<T>().write_bytes(0, len) };
            }
        })
    }
}

impl<T: Content + ?Sized> Shared<T> {
    /// Makes one of `len` elements, which `fill` writes.
    pub(crate) fn build(len: usize, fill: impl FnOnce(&Block)) -> Result<Shared<T>, Error> {
        let (bytes, align) = T::layout(len).ok_or_else(|| {
            let message = format!("{len} elements are more than fit into memory");
            Error::new(ErrorKind::OutOfMemory, message)
        })?;
        let block = Block::allocate(bytes, align).map_err(|error| no_memory(bytes, error))?;
        fill(&block);
        Ok(Shared::of(block, len))
    }

    /// The handle to what is there already.
    fn of(block: Arc<Block>, len: usize) -> Shared<T> {
        let content = T::from_parts(block.start().as_ptr(), len);
        // SAFETY: it points to the start of the block, which is not null.
        let content = unsafe { NonNull::new_unchecked(content) };
        Shared { block, content }
    }

    /// Where it is.
    pub(crate) fn block(&self) -> &Arc<Block> {
        &self.block
    }

    /// Where it is, the same in every process.
    pub(crate) fn place(&self) -> Place {
        self.block.place()
    }

    /// Sends it as something that `K` stands for.
    pub(crate) fn send_as<K: 'static, S: Serializer>(
        &self,
        len: usize,
        loan: Option<Loan>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        transit::send::<K, S>(&self.block, len, loan, serializer)
    }

    /// Receives what was sent as something that `K` stands for.
    pub(crate) fn receive_as<'de, K: 'static, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Shared<T>, D::Error> {
        let (block, len) = transit::receive::<K, D>(deserializer, T::layout)?;
        Ok(Shared::of(block, len))
    }
}

fn no_memory(bytes: usize, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::OutOfMemory | std::io::ErrorKind::StorageFull => ErrorKind::OutOfMemory,
        std::io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Io,
    };
    let message = format!("{bytes} bytes of shared memory could not be had: {error}");
    Error::new(kind, message).with_source(error)
}

impl<T: ?Sized> Shared<T> {
    /// Whether two handles are of the same value.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let one = mp::Shared::new(1)?;
    /// assert!(mp::Shared::ptr_eq(&one, &one.clone()));
    /// assert!(!mp::Shared::ptr_eq(&one, &mp::Shared::new(1)?));
    /// # Ok(())
    /// # }
    /// ```
    pub fn ptr_eq(this: &Shared<T>, other: &Shared<T>) -> bool {
        this.block.place() == other.block.place()
    }
}

impl<T: ?Sized> Clone for Shared<T> {
    /// Another handle to the same value.
    fn clone(&self) -> Shared<T> {
        Shared {
            block: Arc::clone(&self.block),
            content: self.content,
        }
    }
}

impl<T: ?Sized> Deref for Shared<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: whoever made this handle saw to it that a `T` is there; the block is held; there
        // is no `&mut T`, in no process, and what changes behind `&T` is atomic or locked.
        unsafe { self.content.as_ref() }
    }
}

impl<T: ?Sized> AsRef<T> for Shared<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Shareable + Sync> Serialize for Shared<T> {
    /// Sends the handle; works within arguments and results of process functions alone.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.send_as::<T, S>(1, None, serializer)
    }
}

impl<'de, T: Shareable + Sync> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shared<T>, D::Error> {
        Shared::receive_as::<T, D>(deserializer)
    }
}

impl<T: Shareable + Sync> Serialize for Shared<[T]> {
    /// Sends the handle; works within arguments and results of process functions alone.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.send_as::<[T; 0], S>(self.len(), None, serializer)
    }
}

impl<'de, T: Shareable + Sync> Deserialize<'de> for Shared<[T]> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shared<[T]>, D::Error> {
        Shared::receive_as::<[T; 0], D>(deserializer)
    }
}
