//! A stretch of shared memory: its words are atomics, and a byte that one thread writes while
//! another one looks is a race, which loom reports.

use std::cell::UnsafeCell;
use std::io;
use std::os::fd::OwnedFd;

use loom::cell;

use crate::os::identity;
use crate::sync::atomic::{AtomicU32, AtomicU64};

const WORD_COUNT: usize = 16;

pub(crate) struct SharedPage {
    words: [AtomicU64; WORD_COUNT],
    sleeping_words: [AtomicU32; WORD_COUNT],
    bytes: Box<[UnsafeCell<u8>]>,
    /// Who has which byte.
    cells: Vec<cell::UnsafeCell<()>>,
}

// SAFETY: loom runs all threads of a model on one.
unsafe impl Send for SharedPage {}
// SAFETY: as above.
unsafe impl Sync for SharedPage {}

impl std::fmt::Debug for SharedPage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedPage").finish_non_exhaustive()
    }
}

impl SharedPage {
    /// One without a descriptor, for a model.
    pub(crate) fn of(capacity_bytes: usize) -> SharedPage {
        SharedPage {
            words: std::array::from_fn(|_| AtomicU64::new(0)),
            sleeping_words: std::array::from_fn(|_| AtomicU32::new(0)),
            bytes: (0..capacity_bytes).map(|_| UnsafeCell::new(0)).collect(),
            cells: (0..capacity_bytes)
                .map(|_| cell::UnsafeCell::new(()))
                .collect(),
        }
    }

    pub(crate) fn create(
        _capacity_bytes: usize,
        _ready_bytes: usize,
    ) -> io::Result<(SharedPage, OwnedFd)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn attach(_fd: &OwnedFd, _capacity_bytes: usize) -> io::Result<SharedPage> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn set_aside(&self, _bytes: std::ops::Range<usize>) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn word(&self, index: usize) -> &AtomicU64 {
        &self.words[index]
    }

    pub(crate) fn sleeping_word(&self, index: usize) -> &AtomicU32 {
        &self.sleeping_words[index]
    }

    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        identity::step();
        for (place, byte) in (offset..).zip(bytes) {
            self.cells[place].with_mut(|_| {
                // SAFETY: loom reports it if somebody else has the byte, and runs all threads on one.
                unsafe { *self.bytes[place].get() = *byte };
            });
        }
    }

    pub(crate) fn read(&self, offset: usize, count: usize, to: &mut Vec<u8>) {
        // SAFETY: nobody writes while this copies, since loom runs all threads on one.
        to.extend_from_slice(unsafe { self.lend(offset, count) });
    }

    /// Nothing that matters is read.
    pub(crate) fn touch(&self, _offset: usize) {}

    /// # Safety
    ///
    /// As in the source; loom reports it if somebody writes there before what happens next.
    pub(crate) unsafe fn lend(&self, offset: usize, count: usize) -> &[u8] {
        identity::step();
        let lent = &self.bytes[offset..offset + count];
        self.cells[offset..offset + count]
            .iter()
            .for_each(|cell| cell.with(|_| ()));
        // SAFETY: a cell of a byte is as the byte; that nobody writes is the caller's word.
        unsafe { std::slice::from_raw_parts(lent.as_ptr().cast::<u8>(), count) }
    }
}
