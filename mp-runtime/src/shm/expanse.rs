//! Memory that grows and shrinks in place: an expanse of addresses, of which as much is there as
//! somebody has asked for.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytemuck::AnyBitPattern;

use super::shareable::Shareable;
use crate::os::memory::{self, Mapping};
use crate::os::shared_fd::{FileId, SharedFd};

/// The most that one is large, and what is tried at least before there is an error. It costs
/// addresses, of which a process has 128 TiB, and no memory.
const MOST_BYTES: usize = 64 << 30;
const LEAST_BYTES: usize = 64 << 20;

const PAGE_BYTES: usize = 4096;

/// So many bytes are not believed to be there: reading what is not would take as much memory.
const MANY_BYTES: usize = 1 << 20;

/// An expanse takes no more than one part in so many of the addresses that are left.
const SHARE: usize = 16;

/// An expanse, mapped once in a process however often it comes in, until its last `Arc` is dropped.
#[derive(Debug)]
pub(crate) struct Expanse {
    file: Arc<SharedFd>,
    mapping: Mapping,
}

/// Those of this process.
static TABLE: Mutex<Option<HashMap<FileId, Weak<Expanse>>>> = Mutex::new(None);

fn table() -> MutexGuard<'static, Option<HashMap<FileId, Weak<Expanse>>>> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Expanse {
    /// Makes one with room for all the memory of this machine, of which the first `bytes` are there.
    ///
    /// # Errors
    ///
    /// If there are no descriptors, addresses or memory left for it.
    pub(crate) fn create(bytes: usize) -> io::Result<Arc<Expanse>> {
        let total = usize::try_from(memory::total_bytes()).unwrap_or(usize::MAX);
        let mut size = total.clamp(LEAST_BYTES, MOST_BYTES).next_power_of_two();
        let addresses = memory::free_addresses() / SHARE;
        size = size.min(addresses.max(LEAST_BYTES));
        if let Some(limit) = memory::file_limit()? {
            size = size.min(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        size = size / PAGE_BYTES * PAGE_BYTES;
        loop {
            let fd = memory::reserve(size.max(bytes))?;
            memory::commit(&fd, 0..bytes)?;
            match Expanse::adopt(SharedFd::adopt(fd)?) {
                // There are fewer addresses left.
                Err(_) if size / 2 >= LEAST_BYTES => size = size / 2 / PAGE_BYTES * PAGE_BYTES,
                outcome => return outcome,
            }
        }
    }

    /// Takes over one that came from another process, or finds it among those that are here.
    ///
    /// # Errors
    ///
    /// If it is no memory of this kind, or cannot be mapped.
    pub(crate) fn adopt(file: Arc<SharedFd>) -> io::Result<Arc<Expanse>> {
        let mut table = table();
        let known = table.get_or_insert_default();
        if let Some(expanse) = known.get(&file.id()).and_then(Weak::upgrade) {
            return Ok(expanse);
        }
        let mapping = Mapping::of(&file, memory::sealed_bytes(&file)?)?;
        mapping.keep_from_dumps();
        let expanse = Arc::new(Expanse { file, mapping });
        known.insert(expanse.file.id(), Arc::downgrade(&expanse));
        Ok(expanse)
    }

    /// What it is to the kernel, for another process.
    pub(crate) fn file(&self) -> &Arc<SharedFd> {
        &self.file
    }

    /// How much there could be.
    pub(crate) fn bytes(&self) -> usize {
        self.mapping.bytes()
    }

    /// Has the memory at `range` be there, or none of it.
    ///
    /// # Errors
    ///
    /// If there is not enough.
    pub(crate) fn commit(&self, range: Range<usize>) -> io::Result<()> {
        memory::commit(&self.file, range.clone()).inspect_err(|_| self.give_back(range))
    }

    /// Gives the memory at `range` back to the kernel.
    pub(crate) fn give_back(&self, range: Range<usize>) {
        // What is not given back is used again, or goes with the rest.
        let _ = memory::give_back(&self.file, range);
    }

    /// The value at `offset`. What is not aligned or not within is at 0.
    #[inline]
    pub(crate) fn at<T: Shareable>(&self, offset: usize) -> &T {
        let is_there = offset.is_multiple_of(align_of::<T>())
            && offset
                .checked_add(size_of::<T>())
                .is_some_and(|end| end <= self.bytes());
        let offset = if is_there { offset } else { 0 };
        // SAFETY: within the mapping, which has room for a `T` at 0.
        let place = unsafe { self.mapping.base().add(offset) }.cast::<T>();
        // SAFETY: aligned, since a mapping starts at a page; any bytes are a value, and those that
        // change behind `&T` do so by its own means; the mapping outlives the reference.
        unsafe { place.as_ref() }
    }

    /// The word at `offset`.
    #[inline]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        self.at(offset)
    }

    /// Writes `bytes` at `offset`, where nobody else reads or writes meanwhile. Tells whether they
    /// are within.
    #[inline]
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) -> bool {
        let Some(place) = self.place(offset, bytes.len()) else {
            return false;
        };
        // SAFETY: so many bytes are within the mapping, and `bytes` is no part of it: nobody has a
        // reference to what is written here.
        unsafe { place.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        true
    }

    /// Reads `count` elements at `offset`, where nobody writes meanwhile, to the end of `to`.
    /// Whoever writes all the same, against the rules, puts other numbers there. Tells whether they
    /// are within; if they are many, whether so much memory is there at all.
    ///
    /// # Errors
    ///
    /// If this process has no memory for them.
    #[inline]
    pub(crate) fn read<T: AnyBitPattern>(
        &self,
        offset: usize,
        count: usize,
        to: &mut Vec<T>,
    ) -> io::Result<bool> {
        let bytes = count.checked_mul(size_of::<T>());
        let Some(place) = bytes.and_then(|bytes| self.place(offset, bytes)) else {
            return Ok(false);
        };
        if count * size_of::<T>() > MANY_BYTES {
            let end = (offset + count * size_of::<T>()) as u64;
            if memory::present_bytes(&self.file)? < end {
                return Ok(false);
            }
            memory::check_copy(count * size_of::<T>())?;
        }
        to.try_reserve_exact(count)
            .map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))?;
        let free = to.spare_capacity_mut().as_mut_ptr().cast::<u8>();
        // SAFETY: as many bytes are within the mapping, and free at the end of the vector.
        unsafe { free.copy_from_nonoverlapping(place.as_ptr(), count * size_of::<T>()) };
        // SAFETY: the elements up to there were just written, and any bytes are one.
        unsafe { to.set_len(to.len() + count) };
        Ok(true)
    }

    /// The element at `offset`, where nobody writes meanwhile; `None` if it is not within.
    #[inline]
    pub(crate) fn value<T: AnyBitPattern>(&self, offset: usize) -> Option<T> {
        let place = self.place(offset, size_of::<T>())?.cast::<T>();
        // SAFETY: within the mapping; any bytes are a value.
        Some(unsafe { place.read_unaligned() })
    }

    #[inline]
    fn place(&self, offset: usize, bytes: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(bytes)?;
        // SAFETY: within the mapping.
        (end <= self.bytes()).then(|| unsafe { self.mapping.base().add(offset) })
    }
}

impl Drop for Expanse {
    fn drop(&mut self) {
        // It may have come in again since the last `Arc` went.
        let mut table = table();
        let id = self.file.id();
        if let Some(known) = &mut *table
            && known.get(&id).is_some_and(|one| one.strong_count() == 0)
        {
            known.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_out_of_bounds_is_not() {
        let expanse = Expanse::create(8192).expect("there is memory");
        assert!(expanse.write(4000, b"across a page"));
        let mut bytes = b"> ".to_vec();
        assert!(expanse.read(4000, 13, &mut bytes).expect("there is memory"));
        assert_eq!(bytes, b"> across a page");
        let end = expanse.bytes();
        assert!(!expanse.write(end, b"x") && !expanse.write(usize::MAX, b"x"));
        for (offset, count) in [(end - 8, 2), (0, usize::MAX), (usize::MAX, 1)] {
            let mut words = Vec::<u64>::new();
            assert!(
                !expanse
                    .read(offset, count, &mut words)
                    .expect("it is not tried")
            );
        }
    }

    #[test]
    fn memory_comes_and_goes_in_place() {
        let expanse = Expanse::create(4096).expect("there is memory");
        let range = 1 << 20..3 << 20;
        expanse.commit(range.clone()).expect("there is memory");
        assert!(expanse.write(range.start, b"here"));
        expanse.give_back(range.clone());
        let mut bytes = Vec::<u8>::new();
        assert!(
            expanse
                .read(range.start, 4, &mut bytes)
                .expect("there is memory")
        );
        assert_eq!(bytes, [0; 4]);
    }

    #[test]
    fn what_comes_in_again_is_mapped_once() {
        let expanse = Expanse::create(4096).expect("there is memory");
        let again = Expanse::adopt(Arc::clone(expanse.file())).expect("it is ours");
        assert!(Arc::ptr_eq(&expanse, &again));
        let (reader, _) = crate::os::descriptor::pipe().expect("there are descriptors");
        let pipe = SharedFd::adopt(reader).expect("it is open");
        assert!(Expanse::adopt(pipe).is_err());
    }
}
