//! A stretch of memory that two processes share: words to synchronise with, bytes to copy.
//!
//! Bytes go in and out by copying through raw pointers; no reference to them is ever made, since
//! the other process may write at any time.

use std::io;
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::atomic::AtomicU64;

use super::memory::{self, Mapping};

/// How many words stand before the bytes.
const WORD_COUNT: usize = 16;
const WORDS_BYTES: usize = WORD_COUNT * size_of::<AtomicU64>();

/// The shared stretch, mapped in this process until it is dropped. The words are atomics, and the
/// bytes are copied by methods whose contract says who may call them when.
#[derive(Debug)]
pub(crate) struct SharedPage(Mapping);

impl SharedPage {
    /// Makes one, all zeroes, with room for `capacity_bytes` bytes behind its words, and the
    /// descriptor that another process attaches to.
    pub(crate) fn create(capacity_bytes: usize) -> io::Result<(SharedPage, OwnedFd)> {
        let fd = memory::create(WORDS_BYTES + capacity_bytes)?;
        let mapping = Mapping::of(&fd, WORDS_BYTES + capacity_bytes)?;
        Ok((SharedPage(mapping), fd))
    }

    /// Maps the one behind `fd`, which must be as large as it was made.
    pub(crate) fn attach(fd: &OwnedFd, capacity_bytes: usize) -> io::Result<SharedPage> {
        let (_, bytes) = memory::inspect(fd)?;
        if bytes != WORDS_BYTES + capacity_bytes {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(SharedPage(Mapping::of(fd, bytes)?))
    }

    /// Word number `index`.
    pub(crate) fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < WORD_COUNT, "there are {WORD_COUNT} words");
        // SAFETY: in bounds by the assertion; the mapping starts with the words.
        let word = unsafe { self.0.base().cast::<AtomicU64>().add(index) };
        // SAFETY: aligned, since a mapping starts at a page; valid for the life of `self`; every
        // bit pattern is an AtomicU64, and both processes use atomics only.
        unsafe { word.as_ref() }
    }

    /// How many bytes there are behind the words.
    pub(crate) fn capacity_bytes(&self) -> usize {
        self.0.bytes() - WORDS_BYTES
    }

    /// Copies `bytes` to `offset`. One process writes; the other reads what a word told it is
    /// there.
    ///
    /// # Panics
    ///
    /// If they do not fit.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        let end = offset.checked_add(bytes.len());
        assert!(
            end.is_some_and(|end| end <= self.capacity_bytes()),
            "write past the shared page"
        );
        // SAFETY: in bounds by the assertion.
        let target = unsafe { self.0.base().add(WORDS_BYTES + offset) };
        // SAFETY: `bytes` is private memory, so the two cannot overlap; the target is mapped and
        // writable for `bytes.len()` bytes.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target.as_ptr(), bytes.len()) };
    }

    /// Copies the first `count` bytes out, or as many as there are.
    pub(crate) fn read(&self, count: usize) -> Vec<u8> {
        let count = count.min(self.capacity_bytes());
        let mut bytes = vec![0_u8; count];
        // SAFETY: in bounds, the words come first.
        let source = unsafe { self.0.base().add(WORDS_BYTES) };
        // SAFETY: `bytes` is private memory of `count` bytes, the source is mapped for as many; no
        // reference to the source is made, and whatever bytes it holds are valid bytes.
        unsafe { ptr::copy_nonoverlapping(source.as_ptr(), bytes.as_mut_ptr(), count) };
        bytes
    }
}
