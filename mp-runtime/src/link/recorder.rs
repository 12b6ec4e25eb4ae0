//! The page in which a worker leaves word of what it is doing; see the module above for the order
//! of its steps.
//!
//! | word | written by | holds |
//! | --- | --- | --- |
//! | `CHUNK` | worker | the chunk of the running item |
//! | `ITEM` | worker | the running item plus one, 0 for none |
//! | `STARTED` | worker | when it began, nanoseconds of the monotonic clock |
//! | `COMMITTED` | worker | how many bytes of records count |
//! | `CANCELLED` | parent | the chunk whose further items shall not run |
//! | `OUT_OF_MEMORY` | worker | 1 if it aborts because an allocation failed |
//!
//! The worker stores `ITEM` last and clears it first, with release order, so that a parent that
//! sees an item (acquire) sees its chunk and start.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::message::{Record, read_records};
use crate::os::{clock, shared_page::SharedPage};

const CHUNK: usize = 0;
const ITEM: usize = 1;
const STARTED: usize = 2;
const COMMITTED: usize = 3;
const CANCELLED: usize = 4;
const OUT_OF_MEMORY: usize = 5;

/// The bytes for records: with the words before them, 64 KiB.
const CAPACITY_BYTES: usize = (64 << 10) - 128;

/// One side's view of the page.
#[derive(Debug)]
pub(crate) struct Recorder(SharedPage);

/// What the worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) chunk: u64,
    pub(crate) item: u64,
    /// For how long it has been running.
    pub(crate) elapsed: Duration,
}

impl Recorder {
    /// Makes one, and the descriptor that the worker attaches to.
    pub(crate) fn create() -> io::Result<(Recorder, OwnedFd)> {
        let (page, fd) = SharedPage::create(CAPACITY_BYTES)?;
        Ok((Recorder(page), fd))
    }

    /// The worker's view.
    pub(crate) fn attach(fd: &OwnedFd) -> io::Result<Recorder> {
        Ok(Recorder(SharedPage::attach(fd, CAPACITY_BYTES)?))
    }

    pub(super) fn begin(&self, chunk: u64, item: u64) {
        self.0.word(CHUNK).store(chunk, Ordering::Relaxed);
        self.0
            .word(STARTED)
            .store(clock::monotonic_nanos(), Ordering::Relaxed);
        // SYNC recorder: pairs with the load in `running`.
        self.0.word(ITEM).store(item + 1, Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.0.word(ITEM).store(0, Ordering::Release);
    }

    /// Whether `bytes` more fit behind those that are committed.
    pub(super) fn has_room(&self, committed: usize, bytes: usize) -> bool {
        committed + bytes <= self.0.capacity_bytes()
    }

    /// Puts `bytes` behind the `committed` ones and commits them.
    pub(super) fn commit(&self, committed: usize, bytes: &[u8]) {
        self.0.write(committed, bytes);
        // SYNC committed: pairs with the load in `records`.
        self.0
            .word(COMMITTED)
            .store((committed + bytes.len()) as u64, Ordering::Release);
    }

    /// Forgets what was committed: it was sent.
    pub(super) fn clear(&self) {
        self.0.word(COMMITTED).store(0, Ordering::Release);
    }

    pub(super) fn is_cancelled(&self, chunk: u64) -> bool {
        self.0.word(CANCELLED).load(Ordering::Relaxed) == chunk
    }

    pub(super) fn cancel(&self, chunk: u64) {
        self.0.word(CANCELLED).store(chunk, Ordering::Relaxed);
    }

    /// Leaves word that this process aborts for lack of memory; async-signal-safe.
    pub(crate) fn set_out_of_memory(&self) {
        self.0.word(OUT_OF_MEMORY).store(1, Ordering::Release);
    }

    pub(super) fn is_out_of_memory(&self) -> bool {
        self.0.word(OUT_OF_MEMORY).load(Ordering::Acquire) == 1
    }

    /// What the worker is doing, or was doing when it died.
    pub(crate) fn running(&self) -> Option<Running> {
        // SYNC recorder: pairs with the store in `begin`.
        let item = self.0.word(ITEM).load(Ordering::Acquire).checked_sub(1)?;
        let chunk = self.0.word(CHUNK).load(Ordering::Relaxed);
        let started = self.0.word(STARTED).load(Ordering::Relaxed);
        let elapsed = Duration::from_nanos(clock::monotonic_nanos().saturating_sub(started));
        Some(Running {
            chunk,
            item,
            elapsed,
        })
    }

    /// The records that a dead worker left, with the bytes they lie in; none if they make no sense.
    pub(super) fn records(&self) -> (Vec<u8>, Vec<Record>) {
        // SYNC committed: pairs with the store in `commit`.
        let committed = self.0.word(COMMITTED).load(Ordering::Acquire);
        let body = self.0.read(usize::try_from(committed).unwrap_or(0));
        match read_records(&body) {
            Ok(records) => (body, records),
            Err(_) => (Vec::new(), Vec::new()),
        }
    }
}
