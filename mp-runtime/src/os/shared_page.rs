//! A stretch of memory that two processes share: words to synchronise with, bytes to copy.
//!
//! It is a sealed memfd: nobody can shrink it, so that touching it never raises SIGBUS, and the
//! kernel frees it with its last holder. Bytes go in and out by copying through raw pointers; no
//! reference to them is ever made, since the other process may write at any time.

use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd as _, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// How many words stand before the bytes.
const WORD_COUNT: usize = 16;
const WORDS_BYTES: usize = WORD_COUNT * size_of::<AtomicU64>();

/// The shared stretch, mapped in this process until it is dropped.
#[derive(Debug)]
pub(crate) struct SharedPage {
    base: NonNull<c_void>,
    capacity_bytes: usize,
}

// SAFETY: the words are atomics, and the bytes are copied by methods whose contract says who may
// call them when; the mapping belongs to no thread.
unsafe impl Send for SharedPage {}
// SAFETY: as for `Send`.
unsafe impl Sync for SharedPage {}

impl SharedPage {
    /// Makes one, all zeroes, with room for `capacity_bytes` bytes behind its words, and the
    /// descriptor that another process attaches to.
    pub(crate) fn create(capacity_bytes: usize) -> io::Result<(SharedPage, OwnedFd)> {
        let fd = memfd_create(c"mp", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        super::uninterrupted(|| {
            let bytes = nix::libc::off_t::try_from(WORDS_BYTES + capacity_bytes)
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
            Ok(nix::unistd::ftruncate(&fd, bytes)?)
        })?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))?;
        Ok((SharedPage::map(&fd, capacity_bytes)?, fd))
    }

    /// Maps the one behind `fd`, which must be as large as it was made.
    pub(crate) fn attach(fd: &OwnedFd, capacity_bytes: usize) -> io::Result<SharedPage> {
        let size = nix::sys::stat::fstat(fd.as_fd())?.st_size;
        if usize::try_from(size).ok() != Some(WORDS_BYTES + capacity_bytes) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        SharedPage::map(fd, capacity_bytes)
    }

    fn map(fd: &OwnedFd, capacity_bytes: usize) -> io::Result<SharedPage> {
        let bytes = NonZeroUsize::MIN.saturating_add(WORDS_BYTES + capacity_bytes - 1);
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe { mmap(None, bytes, access, MapFlags::MAP_SHARED, fd, 0) }?;
        Ok(SharedPage {
            base,
            capacity_bytes,
        })
    }

    /// Word number `index`.
    pub(crate) fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < WORD_COUNT, "there are {WORD_COUNT} words");
        // SAFETY: in bounds by the assertion; the mapping starts with the words.
        let word = unsafe { self.base.cast::<AtomicU64>().add(index) };
        // SAFETY: aligned, since a mapping starts at a page; valid for the life of `self`; every
        // bit pattern is an AtomicU64, and both processes use atomics only.
        unsafe { word.as_ref() }
    }

    /// How many bytes there are behind the words.
    pub(crate) fn capacity_bytes(&self) -> usize {
        self.capacity_bytes
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
            end.is_some_and(|end| end <= self.capacity_bytes),
            "write past the shared page"
        );
        // SAFETY: in bounds by the assertion.
        let target = unsafe { self.base.cast::<u8>().add(WORDS_BYTES + offset) };
        // SAFETY: `bytes` is private memory, so the two cannot overlap; the target is mapped and
        // writable for `bytes.len()` bytes.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target.as_ptr(), bytes.len()) };
    }

    /// Copies the first `count` bytes out, or as many as there are.
    pub(crate) fn read(&self, count: usize) -> Vec<u8> {
        let count = count.min(self.capacity_bytes);
        let mut bytes = vec![0_u8; count];
        // SAFETY: in bounds, the words come first.
        let source = unsafe { self.base.cast::<u8>().add(WORDS_BYTES) };
        // SAFETY: `bytes` is private memory of `count` bytes, the source is mapped for as many; no
        // reference to the source is made, and whatever bytes it holds are valid bytes.
        unsafe { ptr::copy_nonoverlapping(source.as_ptr(), bytes.as_mut_ptr(), count) };
        bytes
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: this is the mapping `map` made, and no reference into it outlives `self`.
        let unmapped = unsafe { munmap(self.base, WORDS_BYTES + self.capacity_bytes) };
        debug_assert!(
            unmapped.is_ok(),
            "munmap of a mapping of our own: {unmapped:?}"
        );
    }
}
