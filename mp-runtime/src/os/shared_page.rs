//! A stretch of memory that two processes share: words to synchronise with, bytes to copy.
//!
//! Bytes go in and out by copying through raw pointers; no reference to them is made, since the
//! other process may write at any time, but where somebody [vouches](SharedPage::lend) that it
//! does not.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::call::named;
use super::memory::{self, Mapping};

/// How many words stand before the bytes.
const WORD_COUNT: usize = 16;
/// Each has a line of the cache for itself, so that who writes one takes no other away.
const LINE_BYTES: usize = 64;
const WORDS_BYTES: usize = WORD_COUNT * LINE_BYTES;

/// The shared stretch, mapped in this process until it is dropped. The words are atomics, and the
/// bytes are copied by methods whose contract says who may call them when.
#[derive(Debug)]
pub(crate) struct SharedPage(Mapping);

impl SharedPage {
    /// Makes one, all zeroes, with room for `capacity_bytes` bytes behind its words, and the
    /// descriptor that another process attaches to. There is memory behind its words, and behind the
    /// first `ready_bytes` of its bytes; behind others when they were [set
    /// aside](SharedPage::set_aside).
    pub(crate) fn create(
        capacity_bytes: usize,
        ready_bytes: usize,
    ) -> io::Result<(SharedPage, OwnedFd)> {
        let bytes = WORDS_BYTES + capacity_bytes;
        let fd = memory::reserve(bytes).map_err(named("memfd_create"))?;
        let mapping = Mapping::of(&fd, bytes).map_err(named("mmap"))?;
        let can_wait = mapping.set_aside(0..WORDS_BYTES + ready_bytes);
        if !can_wait.map_err(named("madvise"))? {
            memory::commit(&fd, 0..bytes).map_err(named("fallocate"))?;
        }
        Ok((SharedPage(mapping), fd))
    }

    /// Sees to it that there is memory behind these bytes, which is an error at this call, and not a
    /// SIGBUS of who touches it first, if there is none.
    #[cold]
    pub(crate) fn set_aside(&self, bytes: Range<usize>) -> io::Result<()> {
        let range = WORDS_BYTES + bytes.start..WORDS_BYTES + bytes.end;
        // A kernel that cannot do so has set aside all of it at the beginning.
        self.0.set_aside(range).map(drop)
    }

    /// Maps the one behind `fd`, which must be as large as it was made.
    pub(crate) fn attach(fd: &OwnedFd, capacity_bytes: usize) -> io::Result<SharedPage> {
        let bytes = memory::sealed_bytes(fd)?;
        if bytes != WORDS_BYTES + capacity_bytes {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(SharedPage(Mapping::of(fd, bytes)?))
    }

    /// Word number `index`.
    #[inline]
    pub(crate) fn word(&self, index: usize) -> &AtomicU64 {
        // SAFETY: aligned, since a mapping starts at a page and a line at a multiple of 64; valid
        // for the life of `self`; every bit pattern is an AtomicU64, and both processes use
        // atomics only.
        unsafe { self.line(index).cast::<AtomicU64>().as_ref() }
    }

    /// Word number `index`, as one to sleep on. A word is used as one or the other.
    #[inline]
    pub(crate) fn sleeping_word(&self, index: usize) -> &AtomicU32 {
        // SAFETY: as for `word`.
        unsafe { self.line(index).cast::<AtomicU32>().as_ref() }
    }

    #[inline]
    fn line(&self, index: usize) -> NonNull<u8> {
        assert!(index < WORD_COUNT, "there are {WORD_COUNT} words");
        // SAFETY: in bounds by the assertion; the mapping starts with the words.
        unsafe { self.0.base().add(index * LINE_BYTES) }
    }

    /// Copies `bytes` to `offset`. One process writes; the other reads what a word told it is
    /// there.
    ///
    /// # Panics
    ///
    /// If they do not fit.
    #[inline]
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        let target = self.place(offset, bytes.len());
        // SAFETY: `bytes` is private memory, so the two cannot overlap; the target is mapped and
        // writable for `bytes.len()` bytes.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target.as_ptr(), bytes.len()) };
    }

    /// Copies `count` bytes at `offset` to the end of `to`.
    ///
    /// # Panics
    ///
    /// If they are not within.
    pub(crate) fn read(&self, offset: usize, count: usize, to: &mut Vec<u8>) {
        let source = self.place(offset, count);
        to.reserve(count);
        let free = to.spare_capacity_mut().as_mut_ptr().cast::<u8>();
        // SAFETY: the source is mapped for so many bytes and no reference to it is made; the target
        // is private memory that was just reserved.
        unsafe { ptr::copy_nonoverlapping(source.as_ptr(), free, count) };
        // SAFETY: so many were just written, and whatever they hold are valid bytes.
        unsafe { to.set_len(to.len() + count) };
    }

    /// Has the line of the cache with the byte at `offset` come here while something else is waited
    /// for.
    ///
    /// # Panics
    ///
    /// If it is not within.
    #[inline]
    pub(crate) fn touch(&self, offset: usize) {
        let place = self.place(offset, 1);
        // SAFETY: mapped as long as `self` lives; a byte needs no alignment.
        let byte = unsafe { AtomicU8::from_ptr(place.as_ptr()) };
        std::hint::black_box(byte.load(Ordering::Relaxed));
    }

    /// The `count` bytes at `offset`, where they are.
    ///
    /// # Safety
    ///
    /// Nobody writes there as long as the reference lives.
    ///
    /// # Panics
    ///
    /// If they are not within.
    #[inline]
    pub(crate) unsafe fn lend(&self, offset: usize, count: usize) -> &[u8] {
        let place = self.place(offset, count);
        // SAFETY: mapped for so many bytes as long as `self` lives; that nobody writes is the
        // caller's word.
        unsafe { std::slice::from_raw_parts(place.as_ptr(), count) }
    }

    #[inline]
    fn place(&self, offset: usize, count: usize) -> NonNull<u8> {
        let end = offset.checked_add(count);
        let capacity_bytes = self.0.bytes() - WORDS_BYTES;
        assert!(
            end.is_some_and(|end| end <= capacity_bytes),
            "beyond the shared page"
        );
        // SAFETY: in bounds by the assertion.
        unsafe { self.0.base().add(WORDS_BYTES + offset) }
    }
}
