//! The memory that a parent shares with one worker: a ring for calls, a ring for records, and words
//! in which each tells the other how things stand.
//!
//! | word | written by | holds |
//! | --- | --- | --- |
//! | `UP_TAIL`, `UP_HEAD` | worker, parent | the [ring](super::ring) of records |
//! | `UP_BELL` | both | the [bell](super::bell) of who takes records |
//! | `ROOM_BELL` | both | the bell of a worker that waits for room in it |
//! | `DOWN_TAIL`, `DOWN_HEAD` | parent, worker | the ring of calls |
//! | `DOWN_BELL` | both | the bell of a worker that waits for a call |
//! | `CLAIM` | both | which items have been begun, and which are void; see [`Claim`] |
//! | `RUNNING` | worker | the call and the place in it of the item that it began last |
//! | `STARTED` | worker | when it began, nanoseconds of the monotonic clock; 0 where nobody asks, or none is running |
//! | `CANCELLED` | parent | the call, not a divisible one, whose further items shall not run |
//! | `ARRIVED` | worker | 1 when it is ready to work |
//! | `OUT_OF_MEMORY` | worker | 1 if it aborts because an allocation failed |
//! | `RUN_NANOS`, `RUN_ITEMS` | worker | for how long it has run some of its calls, and how many items they had |
//!
//! The parent makes it, and its worker inherits the descriptor. It goes with both.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::bell::Bell;
use super::ring::{self, DownReader, DownWriter, Ring, UpReader, UpWriter};
use crate::os::{clock, shared_page::SharedPage};
use crate::sync::atomic::{AtomicU64, Ordering};

const UP_TAIL: usize = 0;
const UP_HEAD: usize = 1;
const UP_BELL: usize = 2;
const ROOM_BELL: usize = 3;
const DOWN_TAIL: usize = 4;
const DOWN_HEAD: usize = 5;
const DOWN_BELL: usize = 6;
const CLAIM: usize = 7;
const RUNNING: usize = 8;
const STARTED: usize = 9;
const CANCELLED: usize = 10;
const OUT_OF_MEMORY: usize = 11;
const ARRIVED: usize = 12;
const RUN_NANOS: usize = 13;
const RUN_ITEMS: usize = 14;

/// The ring of records.
const UP_BYTES: usize = 64 << 10;
/// The largest record that goes through it.
pub(super) const MOST_UP_BYTES: usize = UP_BYTES / 4;
/// The ring of calls. Since a frame is in one piece, an empty ring has room for one of a quarter,
/// whatever is at its end, and for half of it behind as many void ones.
const DOWN_BYTES: usize = 256 << 10;
/// The largest call that goes through it.
pub(super) const MOST_DOWN_BYTES: usize = DOWN_BYTES / 4 - 256;

/// A worker begins no more items than this while the parent takes back what it has.
const MOST_TRIES: u32 = 1 << 20;

/// One side's view.
#[derive(Clone, Debug)]
pub(crate) struct Lanes(Arc<SharedPage>);

/// Tells whether a worker has come, and keeps nothing of what its parent has of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrival(Weak<SharedPage>);

impl Arrival {
    /// Whether it has, or nobody waits for it any more.
    pub(crate) fn is_over(&self) -> bool {
        let page = self.0.upgrade();
        page.is_none_or(|page| Lanes(page).has_arrived())
    }
}

/// What the worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    /// The number of the call.
    pub(crate) call: u32,
    /// The place of the item in it.
    pub(crate) place: usize,
    /// For how long it has been running, if that was asked for.
    pub(crate) elapsed: Option<Duration>,
}

impl Running {
    /// The number of the item.
    pub(crate) fn item(&self) -> u32 {
        self.call.wrapping_add(self.place as u32)
    }
}

/// How long items took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) nanos: u64,
    pub(crate) items: u64,
}

impl Pace {
    /// How long each took since then, in nanoseconds, if any did.
    pub(crate) fn since(self, before: Pace) -> Option<u64> {
        let items = self.items.wrapping_sub(before.items);
        let nanos = self.nanos.wrapping_sub(before.nanos);
        nanos.checked_div(items)
    }
}

/// Which items have been begun, and which are void.
///
/// Items of a link are numbered, from 1 on, in the order in which they are sent, and begun in that
/// order; the number of a call is that of its first item. The word has two numbers, `begun` and
/// `void`, each for itself and all before it. A worker begins an item by raising `begun` to its
/// number, unless that is void; the parent takes back all that were not begun by raising `void` to
/// the last number it has sent. Each is one compare-and-swap of the same word, so an item is begun or
/// taken back, and never both. Of a call that is not *divisible* the first item stands for all.
///
/// The worker raises `void` along, so that the two are never far apart when numbers begin again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim<'w>(pub(super) &'w AtomicU64);

impl Claim<'_> {
    /// Begins an item, unless it was taken back.
    #[inline]
    pub(super) fn begin(self, item: u32) -> bool {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let void = word as u32;
            if item.wrapping_sub(void).cast_signed() <= 0 {
                return false;
            }
            let begun = u64::from(item) << 32 | u64::from(item.wrapping_sub(1));
            match self
                .0
                .compare_exchange_weak(word, begun, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
    }

    /// The number of the last item that was begun.
    pub(super) fn begun(self) -> u32 {
        (self.0.load(Ordering::Relaxed) >> 32) as u32
    }

    /// Takes back what was not begun up to the item `last`; gives the number of the last that was.
    /// `None` if what the worker writes makes no sense: an item that it was never sent, or one after
    /// the other without an end.
    pub(super) fn take_back(self, last: u32) -> Option<u32> {
        let mut word = self.0.load(Ordering::Acquire);
        for _ in 0..MOST_TRIES {
            let begun = word >> 32;
            if last.wrapping_sub(begun as u32).cast_signed() < 0 {
                return None;
            }
            let void = begun << 32 | u64::from(last);
            match self
                .0
                .compare_exchange_weak(word, void, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Some(begun as u32),
                Err(now) => word = now,
            }
        }
        None
    }
}

impl Lanes {
    /// Makes them, and the descriptor that the worker attaches to.
    pub(crate) fn create() -> io::Result<(Lanes, OwnedFd)> {
        // The ring up begins behind the words.
        let (page, fd) = SharedPage::create(UP_BYTES + DOWN_BYTES, ring::FIRST_BYTES)?;
        let lanes = Lanes(page.into());
        lanes.down().get_ready()?;
        Ok((lanes, fd))
    }

    /// The worker's view.
    pub(crate) fn attach(fd: &OwnedFd) -> io::Result<Lanes> {
        Ok(Lanes(SharedPage::attach(fd, UP_BYTES + DOWN_BYTES)?.into()))
    }

    fn up(&self) -> Ring {
        Ring {
            page: Arc::clone(&self.0),
            tail_word: UP_TAIL,
            head_word: UP_HEAD,
            bytes: 0..UP_BYTES,
        }
    }

    fn down(&self) -> Ring {
        Ring {
            page: Arc::clone(&self.0),
            tail_word: DOWN_TAIL,
            head_word: DOWN_HEAD,
            bytes: UP_BYTES..UP_BYTES + DOWN_BYTES,
        }
    }

    pub(super) fn up_writer(&self) -> UpWriter {
        UpWriter::new(self.up())
    }

    pub(super) fn up_reader(&self) -> UpReader {
        UpReader::new(self.up())
    }

    pub(super) fn down_writer(&self) -> DownWriter {
        DownWriter::new(self.down())
    }

    pub(super) fn down_reader(&self) -> DownReader {
        DownReader::new(self.down())
    }

    #[inline]
    pub(super) fn up_bell(&self) -> Bell<'_> {
        Bell(self.0.sleeping_word(UP_BELL))
    }

    #[inline]
    pub(super) fn room_bell(&self) -> Bell<'_> {
        Bell(self.0.sleeping_word(ROOM_BELL))
    }

    #[inline]
    pub(super) fn down_bell(&self) -> Bell<'_> {
        Bell(self.0.sleeping_word(DOWN_BELL))
    }

    #[inline]
    pub(super) fn claim(&self) -> Claim<'_> {
        Claim(self.0.word(CLAIM))
    }

    /// The worker begins an item.
    #[inline]
    pub(super) fn begin(&self, call: u32, place: u32, is_timed: bool) {
        if is_timed {
            let now = clock::monotonic_nanos();
            self.0.word(STARTED).store(now, Ordering::Relaxed);
        }
        // SYNC running: pairs with the load in `running`. Numbers of places are one higher, so that
        // 0 is none.
        let running = u64::from(call) << 32 | u64::from(place + 1);
        self.0.word(RUNNING).store(running, Ordering::Release);
    }

    /// The worker has ended an item.
    #[inline]
    pub(super) fn end(&self, is_timed: bool) {
        if is_timed {
            self.0.word(STARTED).store(0, Ordering::Relaxed);
        }
    }

    /// The worker has run a call of so many items for so long.
    pub(super) fn note_run(&self, nanos: u64, items: u32) {
        for (word, more) in [(RUN_NANOS, nanos), (RUN_ITEMS, items.into())] {
            let word = self.0.word(word);
            let sum = word.load(Ordering::Relaxed).wrapping_add(more);
            word.store(sum, Ordering::Relaxed);
        }
    }

    /// For how long the worker has run calls whose time it took; which are not all.
    pub(super) fn pace(&self) -> Pace {
        let read = |word| self.0.word(word).load(Ordering::Relaxed);
        Pace {
            nanos: read(RUN_NANOS),
            items: read(RUN_ITEMS),
        }
    }

    /// The item that the worker began last. Whether it has ended the records tell.
    pub(super) fn running(&self) -> Option<Running> {
        // SYNC running: pairs with the store in `begin`.
        let running = self.0.word(RUNNING).load(Ordering::Acquire);
        let place = (running as u32).checked_sub(1)?;
        let started = self.0.word(STARTED).load(Ordering::Relaxed);
        let elapsed = clock::monotonic_nanos().saturating_sub(started);
        Some(Running {
            call: (running >> 32) as u32,
            place: place as usize,
            elapsed: (started != 0).then(|| Duration::from_nanos(elapsed)),
        })
    }

    #[inline]
    pub(super) fn is_cancelled(&self, call: u32) -> bool {
        self.0.word(CANCELLED).load(Ordering::Relaxed) == u64::from(call)
    }

    /// A call is about to be sent: one that had the same number is over for long.
    pub(super) fn forget_cancelled(&self, call: u32) {
        if self.is_cancelled(call) {
            self.0.word(CANCELLED).store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn cancel(&self, call: u32) {
        let call = u64::from(call);
        self.0.word(CANCELLED).store(call, Ordering::Relaxed);
    }

    /// The worker is ready to work.
    pub(super) fn set_arrived(&self) {
        // Before the look who is to be woken.
        self.0.word(ARRIVED).store(1, Ordering::SeqCst);
    }

    pub(super) fn arrival(&self) -> Arrival {
        Arrival(Arc::downgrade(&self.0))
    }

    pub(super) fn has_arrived(&self) -> bool {
        self.0.word(ARRIVED).load(Ordering::SeqCst) == 1
    }

    /// Leaves word that this process aborts for lack of memory; async-signal-safe.
    pub(crate) fn set_out_of_memory(&self) {
        self.0.word(OUT_OF_MEMORY).store(1, Ordering::Release);
    }

    pub(super) fn is_out_of_memory(&self) -> bool {
        self.0.word(OUT_OF_MEMORY).load(Ordering::Acquire) == 1
    }
}
