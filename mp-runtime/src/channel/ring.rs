//! A queue of messages of bytes in shared memory, for any number of processes on both sides.
//!
//! # Layout
//!
//! ```text
//! capacity    how many messages there may be; 0: as many as there is memory for
//! put_lock    the lock of the producers
//! bounds      two words: what a producer has to know beside head and tail (`room.rs`)
//! seen_head   what a producer last saw of the head
//! tail        where the next message goes
//! get_lock    the lock of the consumers
//! seen_tail   what a consumer last saw of the tail
//! head        where the next message is
//! arrived     rung when there is a message
//! freed       rung when there is room
//! committed   how many units have memory behind them
//! closed      nothing may be put any more
//! left        counts the processes that have let go of their end
//! done        how many messages were worked off, and a bell for when all are
//! takers      who has messages in hand that are not worked off (`takers.rs`)
//! ring        units of 16 bytes: messages and jumps
//!
//! head, tail  63            32 31             0
//!            ┌────────────────┬────────────────┐
//!            │ unit           │ count          │  of messages up to here, modulo 2³²
//!            └────────────────┴────────────────┘
//! first word of a message or a jump
//!             63            48 47             0
//!            ┌────────────────┬────────────────┐
//!            │ MESSAGE, JUMP  │ bytes, unit    │  the bytes of a message follow
//!            └────────────────┴────────────────┘
//! ```
//!
//! # Rules
//!
//! 1. `tail`, `bounds`, `seen_head`, `committed` and all of the ring that is not live belong to the
//!    owner of `put_lock`; `head`, `seen_tail` and the message at the head to the owner of `get_lock`.
//!    With both locks and no message, everything does.
//! 2. A message is *put* by the store to `tail`: before it, it is written where nobody reads. It is
//!    *taken* by the store to `head`: before it, it is copied out.
//! 3. `bounds` has two words, and the lowest bit of `tail`'s count says which of them holds: the other
//!    one is written before the store to `tail`, and comes to hold with it.
//! 4. Memory is committed before it is written, and `committed` lowered before it is given back.
//!    What is above `keep` goes back when the ring is empty, or in use at its beginning only.
//! 5. An empty ring is *rewound* to its beginning, by who has both locks: the producers' side is
//!    told that the head is at 0 (which is true of less than is free), a jump to the tail is written
//!    there, the head put there, and then the tail.
//! 6. What was begun to be put before the ring was closed may still be put. So who takes knows that
//!    nothing more comes once it has had `put_lock` in a closed ring, and has found it empty after
//!    that.
//! 7. Who waits for `put_lock` has not got `get_lock`, and the other way round: a second lock is
//!    tried, never waited for.
//! 8. Who put or took rings the bell of the other side afterwards. Who waits sleeps on a bell, without
//!    a lock.
//!
//! # Ordering
//!
//! SYNC q: the store to `tail` comes after the message, the load of it before the message is read.
//! SYNC r: the store to `head` comes after the message was read, the load of it before its place is
//! written again. Both are `SeqCst` besides, as the loads of who is about to sleep are: see `bell.rs`.
//!
//! # Death
//!
//! | it dies | then |
//! | --- | --- |
//! | with `put_lock`, before the store to `tail` | the message was never there; memory that was committed stays so |
//! | with `put_lock`, after it | the message is there |
//! | with `get_lock`, before the store to `head` | the next consumer takes the same message |
//! | with `get_lock`, after it | the message is gone with it |
//! | in a rewind, before the head | nothing has changed that anybody looks at |
//! | in a rewind, between head and tail | the head is at a jump to the tail, the producers take all before the tail for live |
//! | before it gives memory back | the memory goes back with the next rewind that finds some, or with the ring |
//! | before it rings | sleepers look after a slice of at most 50 ms |
//!
//! The locks are had by the next who wants them (`sync/raw_mutex.rs`), and no critical section is
//! begun: what a dead owner leaves is not poisoned, since it is whole.
//!
//! Any bits at all in the memory lead to an error, to messages that are lost or were never put, or
//! to a wait, and never out of its bounds.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::bounds::{
    FIRST_UNITS, KEPT_UNITS, LONGEST_GROWTH, LOOK_UNITS, MOST_KEPT_UNITS, PAGE_UNITS, UNIT_BYTES,
    WARM_UNITS,
};
use super::room::{Bounds, Cursor, Room, find_room};
use super::takers::{OwnPlace, Takers};
use super::wait::{Eagerness, Look, SLICE, Wait};
use crate::os::shared_fd::SharedFd;
use crate::shm::Expanse;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::{Bell, Patience, RawMutex, Refusal};

const WORD_BYTES: usize = size_of::<u64>();

// What different sides write is 128 bytes apart: processors fetch lines in pairs.
const CAPACITY: usize = 0;
const PUT_LOCK: usize = 128;
const BOUNDS: [usize; 2] = [144, 152];
const SEEN_HEAD: usize = 160;
const TAIL: usize = 256;
const GET_LOCK: usize = 384;
const SEEN_TAIL: usize = 400;
const HEAD: usize = 512;
const ARRIVED: usize = 640;
const FREED: usize = 768;
const COMMITTED: usize = 896;
const CLOSED: usize = 904;
const LEFT: usize = 908;
const DONE: usize = 1024;
const FINISHED: usize = 1028;
const TAKERS: usize = 1152;
const RING: usize = 4096;

const FIRST_BYTES: usize = FIRST_UNITS as usize * UNIT_BYTES;

const KIND_SHIFT: u32 = 48;
const MESSAGE: u64 = 0x4d67;
const JUMP: u64 = 0x4a70;
const VALUE_MASK: u64 = (1 << KIND_SHIFT) - 1;
/// So many jumps in a row there are at most: of a rewind, and of the message behind it.
const JUMP_LIMIT: usize = 2;

/// How long somebody waits for a lock who does not want to wait for a message: its owner is at work,
/// or dead, and not asleep.
const LOCK_PATIENCE: Duration = Duration::from_millis(20);

/// A ring, and what of it does not change.
#[derive(Debug)]
pub(crate) struct Ring {
    memory: Arc<Expanse>,
    /// How many units there could be.
    size: u32,
    capacity: u32,
    /// Of those who wait for room.
    put_eagerness: Eagerness,
    /// Of those who wait for messages.
    take_eagerness: Eagerness,
    own_taker: OwnPlace,
}

/// Why a message was not put or taken.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There was no room in time.
    Full,
    /// There was no message in time.
    Empty,
    /// Nothing more can be put, or comes.
    Closed,
    /// There is not enough memory.
    NoMemory(io::Error),
    /// It is more than there is room for at all.
    TooLarge,
    /// This thread was interrupted in a call on this side of the same ring.
    WouldDeadlock,
    /// Somebody wrote to the memory by other means. So many messages are lost, if they could be
    /// passed over.
    Damaged(Option<u32>),
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        match refusal {
            Refusal::TimedOut => Refused::Full,
            Refusal::WouldDeadlock => Refused::WouldDeadlock,
        }
    }
}

/// Why not all messages were worked off.
#[derive(Debug)]
pub(crate) enum Unfinished {
    TimedOut,
    /// So many never will be; one of those who had them.
    Lost {
        count: u64,
        process_id: u32,
    },
}

/// Why a message was not put or taken at the first try; with what was seen of the other side where
/// it is worth waiting for that to change.
enum Missed {
    Waiting(u64),
    For(Refused),
}

impl From<Refused> for Missed {
    fn from(refused: Refused) -> Missed {
        Missed::For(refused)
    }
}

/// A message, in the ring.
pub(crate) struct Message<'r> {
    memory: &'r Expanse,
    offset: usize,
    bytes: usize,
}

impl Message<'_> {
    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    /// Copies the elements that it consists of to the end of `to`; bytes that are left over, not.
    /// Tells whether they are there.
    ///
    /// # Errors
    ///
    /// If this process has no memory for them.
    #[inline]
    pub(crate) fn read<T: bytemuck::AnyBitPattern>(&self, to: &mut Vec<T>) -> io::Result<bool> {
        let count = self.bytes / size_of::<T>().max(1);
        self.memory.read(self.offset, count, to)
    }

    /// The number that it consists of.
    #[inline]
    pub(crate) fn number<T: bytemuck::AnyBitPattern>(&self) -> Option<T> {
        (self.bytes == size_of::<T>()).then(|| self.memory.value(self.offset))?
    }
}

impl Ring {
    /// Makes one for `capacity` messages, or for as many as there is memory for if it is 0.
    ///
    /// # Errors
    ///
    /// If there are no descriptors, addresses or memory left for it.
    pub(crate) fn create(capacity: u32) -> io::Result<Ring> {
        let ring = Ring::over(Expanse::create(RING + FIRST_BYTES)?)?;
        ring.word(COMMITTED)
            .store(u64::from(FIRST_UNITS), Ordering::Relaxed);
        let shape = u64::from(capacity);
        ring.word(CAPACITY).store(shape, Ordering::Relaxed);
        Ok(Ring { capacity, ..ring })
    }

    /// Takes in one that came from another process.
    ///
    /// # Errors
    ///
    /// If it is none, or cannot be mapped.
    pub(crate) fn adopt(file: Arc<SharedFd>) -> io::Result<Ring> {
        Ring::over(Expanse::adopt(file)?)
    }

    fn over(memory: Arc<Expanse>) -> io::Result<Ring> {
        let bytes = memory.bytes().checked_sub(RING + FIRST_BYTES);
        let bytes = bytes.ok_or(io::ErrorKind::InvalidData)? + FIRST_BYTES;
        let size = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX);
        let capacity = memory.word(CAPACITY).load(Ordering::Relaxed) as u32;
        Ok(Ring {
            memory,
            size,
            capacity,
            put_eagerness: Eagerness::default(),
            take_eagerness: Eagerness::default(),
            own_taker: OwnPlace::new(),
        })
    }

    /// What it is to the kernel, for another process.
    pub(crate) fn file(&self) -> &Arc<SharedFd> {
        self.memory.file()
    }

    /// Puts a message of `bytes`. While there is no room it waits; `is_deserted` tells whether nobody
    /// will make any, or, if it is not asked to look closely, whether it is time to.
    ///
    /// # Errors
    ///
    /// If it was not put.
    #[inline]
    pub(crate) fn put(
        &self,
        bytes: &[u8],
        patience: Patience,
        is_deserted: impl Fn(Look) -> bool,
    ) -> Result<(), Refused> {
        let mut wait = Wait::new();
        loop {
            let seen = match self.try_put(bytes, patience) {
                Ok(()) => return Ok(()),
                Err(Missed::For(refused)) => return Err(refused),
                Err(Missed::Waiting(seen)) => seen,
            };
            let freed = || match self.is_closed() {
                false => change(self.head(), seen),
                true => 1,
            };
            if patience.is_any() && wait.spin(&self.put_eagerness, freed) {
                continue;
            }
            let limit = patience.allows(SLICE);
            let leavings = self.leavings();
            if is_deserted(wait.look(limit)) {
                return Err(Refused::Closed);
            }
            let limit = limit.ok_or(Refused::Full)?;
            let is_ready = || freed() > 0 || self.leavings() != leavings;
            wait.is_overdue = self.bell(FREED).sleep(limit, is_ready);
        }
    }

    /// Takes a message, of which `read` makes something. While there is none it waits; `is_deserted`
    /// is as that of [`put`](Ring::put).
    ///
    /// # Errors
    ///
    /// If none was taken. If `read` fails, the message stays where it is.
    #[inline]
    pub(crate) fn take<R>(
        &self,
        patience: Patience,
        is_deserted: impl Fn(Look) -> bool,
        mut read: impl FnMut(&Message<'_>) -> io::Result<R>,
    ) -> Result<R, Refused> {
        let mut wait = Wait::new();
        let mut was_deserted = false;
        loop {
            let seen = match self.try_take(patience, &mut read) {
                Ok(taken) => return Ok(taken),
                Err(Missed::For(refused)) => return Err(refused),
                Err(Missed::Waiting(seen)) => seen,
            };
            if was_deserted {
                return Err(Refused::Closed);
            }
            let arrived = || change(self.tail(), seen);
            if patience.is_any() && wait.spin(&self.take_eagerness, arrived) {
                continue;
            }
            let limit = patience.allows(SLICE);
            let (was_closed, leavings) = (self.is_closed(), self.leavings());
            // What was put before it was deserted is taken first.
            was_deserted = self.is_over() || is_deserted(wait.look(limit));
            if was_deserted {
                continue;
            }
            let limit = limit.ok_or(Refused::Empty)?;
            let is_ready =
                || arrived() > 0 || self.is_closed() != was_closed || self.leavings() != leavings;
            wait.is_overdue = self.bell(ARRIVED).sleep(limit, is_ready);
        }
    }

    #[inline]
    fn try_put(&self, bytes: &[u8], patience: Patience) -> Result<(), Missed> {
        let lock = self.put_lock();
        loop {
            claim(lock, patience)?;
            let outcome = self.push(bytes);
            lock.release();
            if outcome? {
                self.bell(ARRIVED).ring();
                return Ok(());
            }
            claim(self.get_lock(), patience)?;
            self.get_lock().release();
        }
    }

    #[inline]
    fn try_take<R>(
        &self,
        patience: Patience,
        read: impl FnMut(&Message<'_>) -> io::Result<R>,
    ) -> Result<R, Missed> {
        let lock = self.get_lock();
        claim(lock, patience).map_err(|refused| match refused {
            Refused::Full => Refused::Empty,
            other => other,
        })?;
        let outcome = self.pop(read);
        lock.release();
        if !matches!(outcome, Err(Missed::Waiting(_))) {
            self.bell(FREED).ring();
        }
        outcome
    }

    /// Puts a message, for the owner of `put_lock`. Tells whether it did: if not, a consumer who has
    /// just emptied the ring is not done with it.
    #[inline]
    fn push(&self, bytes: &[u8]) -> Result<bool, Missed> {
        if self.is_closed() {
            return Err(Refused::Closed.into());
        }
        let need = need_of(bytes.len()).filter(|&need| need < self.size - 1);
        let need = need.ok_or(Refused::TooLarge)?;
        let tail = Cursor::of_word(self.tail().load(Ordering::Relaxed));
        let bounds = self.bounds(tail.count).load(Ordering::Relaxed);
        let bounds = Bounds::of_word(bounds);
        let head = Cursor::of_word(self.word(SEEN_HEAD).load(Ordering::Relaxed));
        let room = match self.room(head, tail, bounds, need) {
            Some(room) if is_plain(room, tail, need) && self.is_committed(room, need) => room,
            _ => match self.make_room(tail, bounds, need)? {
                Some(room) => room,
                None => return Ok(false),
            },
        };
        // A rewind may have moved it.
        let tail = Cursor::of_word(self.tail().load(Ordering::Relaxed));
        if room.is_jump {
            let jump = (JUMP << KIND_SHIFT) | u64::from(room.unit);
            self.unit(tail.unit).store(jump, Ordering::Relaxed);
        }
        let first = (MESSAGE << KIND_SHIFT) | bytes.len() as u64;
        self.unit(room.unit).store(first, Ordering::Relaxed);
        if !self.memory.write(offset_of(room.unit) + WORD_BYTES, bytes) {
            return Err(Refused::Damaged(None).into());
        }
        let next = Cursor {
            unit: room.unit.saturating_add(need),
            count: tail.count.wrapping_add(1),
        };
        self.bounds(next.count)
            .store(room.bounds.word(), Ordering::Relaxed);
        // SYNC q: with `pop`.
        self.tail().swap(next.word(), Ordering::SeqCst);
        Ok(true)
    }

    /// Where a message goes, with what is known of the head; `None` if nowhere.
    #[inline]
    fn room(&self, head: Cursor, tail: Cursor, bounds: Bounds, need: u32) -> Option<Room> {
        let is_full = self.capacity != 0 && tail.since(head) >= self.capacity;
        let is_sound = tail.unit < self.size && tail.since(head) <= self.size;
        (!is_full && is_sound)
            .then(|| find_room(head, tail, bounds, need, self.size, WARM_UNITS))?
    }

    #[inline]
    fn is_committed(&self, room: Room, need: u32) -> bool {
        let committed = self.word(COMMITTED).load(Ordering::Relaxed);
        u64::from(room.unit) + u64::from(need) < committed
    }

    /// Finds room with what the head is now, and has memory be there. `None` if it is to be tried
    /// again once a consumer is done, who has just emptied the ring.
    #[cold]
    fn make_room(&self, tail: Cursor, bounds: Bounds, need: u32) -> Result<Option<Room>, Missed> {
        let head_of = |word| {
            self.word(SEEN_HEAD).store(word, Ordering::Relaxed);
            Cursor::of_word(word)
        };
        // SYNC r: with `pop`.
        let mut seen = self.head().load(Ordering::SeqCst);
        let mut head = head_of(seen);
        if tail.unit >= self.size || head.unit >= self.size || tail.since(head) > self.size {
            return Err(Refused::Damaged(None).into());
        }
        let mut room = self.room(head, tail, bounds, need);
        let is_empty = tail.count == head.count;
        if room.is_none() && is_empty {
            match self.get_lock().claim(Patience::Never, || ()) {
                Err(Refusal::TimedOut) => return Ok(None),
                outcome => outcome.map_err(Refused::from)?,
            }
            self.rewind();
            self.get_lock().release();
            seen = self.head().load(Ordering::SeqCst);
            head = head_of(seen);
            let tail = Cursor::of_word(self.tail().load(Ordering::Relaxed));
            room = self.room(head, tail, Bounds::default(), need);
        }
        let Some(room) = room else {
            return Err(match self.capacity {
                0 => Refused::TooLarge.into(),
                _ => Missed::Waiting(seen),
            });
        };
        if !self.is_committed(room, need) {
            self.grow(room.unit.saturating_add(need + 1))
                .map_err(Refused::NoMemory)?;
        } else if room.is_jump && room.unit == 0 && tail.unit < kept_for(need) {
            // What is live ends before the tail.
            self.shrink(kept_for(need));
        }
        Ok(Some(room))
    }

    /// Has memory be there up to the unit `end`.
    fn grow(&self, end: u32) -> io::Result<()> {
        let committed = self.committed();
        let ample = committed.saturating_add((committed / 2).min(LONGEST_GROWTH));
        // Whole pages, as far as there are any.
        let wanted = end.max(ample).checked_next_multiple_of(PAGE_UNITS);
        let wanted = wanted.unwrap_or(self.size).min(self.size).max(end);
        self.memory
            .commit(offset_of(committed)..offset_of(wanted))?;
        self.word(COMMITTED)
            .store(u64::from(wanted), Ordering::Relaxed);
        Ok(())
    }

    /// Gives the memory from the unit `kept` on back, for the owner of `put_lock`, if nothing there
    /// is live.
    fn shrink(&self, kept: u32) {
        let committed = self.committed();
        if committed > kept {
            self.word(COMMITTED)
                .store(u64::from(kept), Ordering::Relaxed);
            self.memory.give_back(offset_of(kept)..offset_of(committed));
        }
    }

    /// Takes a message, for the owner of `get_lock`.
    #[inline]
    fn pop<R>(&self, mut read: impl FnMut(&Message<'_>) -> io::Result<R>) -> Result<R, Missed> {
        let head = Cursor::of_word(self.head().load(Ordering::Relaxed));
        let mut tail = self.word(SEEN_TAIL).load(Ordering::Relaxed);
        if Cursor::of_word(tail).count == head.count {
            // SYNC q: with `push`.
            tail = self.tail().load(Ordering::SeqCst);
            self.word(SEEN_TAIL).store(tail, Ordering::Relaxed);
            if Cursor::of_word(tail).count == head.count {
                return Err(Missed::Waiting(tail));
            }
        }
        let tail = Cursor::of_word(tail);
        let Some((unit, bytes)) = self.find_message(head.unit, tail.since(head)) else {
            return Err(self.pass_over(head).into());
        };
        let message = Message {
            memory: &self.memory,
            offset: offset_of(unit) + WORD_BYTES,
            bytes,
        };
        let taken = read(&message).map_err(Refused::NoMemory)?;
        let need = need_of(bytes).unwrap_or(1);
        let next = Cursor {
            unit: unit + need,
            count: head.count.wrapping_add(1),
        };
        // SYNC r: with `make_room`.
        self.head().swap(next.word(), Ordering::SeqCst);
        let kept = kept_for(need);
        if tail.count == next.count && self.committed() > kept {
            self.shrink_if_empty(next, kept);
        }
        Ok(taken)
    }

    /// The place and the length of the first message from `unit` on, of `count` that there are.
    #[inline]
    fn find_message(&self, mut unit: u32, count: u32) -> Option<(u32, usize)> {
        if count > self.size {
            return None;
        }
        for _ in 0..=JUMP_LIMIT {
            if unit >= self.size {
                return None;
            }
            let first = self.unit(unit).load(Ordering::Relaxed);
            let value = first & VALUE_MASK;
            match first >> KIND_SHIFT {
                MESSAGE => {
                    let need = need_of(usize::try_from(value).ok()?)?;
                    let is_within = u64::from(unit) + u64::from(need) < u64::from(self.size);
                    return is_within.then_some((unit, value as usize));
                }
                JUMP => unit = u32::try_from(value).ok()?,
                _ => return None,
            }
        }
        None
    }

    /// There is no message where one should be: goes on behind all that were put by now.
    #[cold]
    fn pass_over(&self, head: Cursor) -> Refused {
        let word = self.tail().load(Ordering::SeqCst);
        let tail = Cursor::of_word(word);
        if tail.unit >= self.size || tail.since(head) > self.size {
            return Refused::Damaged(None);
        }
        let lost = tail.since(head);
        self.word(SEEN_TAIL).store(word, Ordering::Relaxed);
        self.head().swap(word, Ordering::SeqCst);
        self.flag(DONE).fetch_add(lost, Ordering::SeqCst);
        Refused::Damaged(Some(lost))
    }

    /// Gives memory back, for the owner of `get_lock`, if there is no message and nobody puts one.
    #[cold]
    fn shrink_if_empty(&self, head: Cursor, kept: u32) {
        let is_empty = || Cursor::of_word(self.tail().load(Ordering::SeqCst)).count == head.count;
        if is_empty() && self.put_lock().claim(Patience::Never, || ()).is_ok() {
            if is_empty() {
                self.rewind();
                self.shrink(kept);
            }
            self.put_lock().release();
        }
    }

    /// Goes back to the beginning of an empty ring, for who has both locks.
    fn rewind(&self) {
        let tail = Cursor::of_word(self.tail().load(Ordering::Relaxed));
        let start = Cursor { unit: 0, ..tail }.word();
        self.bounds(tail.count)
            .store(Bounds::default().word(), Ordering::Relaxed);
        if tail.unit != 0 {
            self.word(SEEN_HEAD).store(start, Ordering::Relaxed);
            let jump = (JUMP << KIND_SHIFT) | u64::from(tail.unit);
            self.unit(0).store(jump, Ordering::Relaxed);
            self.head().swap(start, Ordering::SeqCst);
            self.word(SEEN_TAIL).store(start, Ordering::Relaxed);
            self.tail().swap(start, Ordering::SeqCst);
        }
    }

    /// Nothing may be put from now on; what is there can be taken.
    pub(crate) fn close(&self) {
        self.flag(CLOSED).store(1, Ordering::SeqCst);
        self.wake_all();
    }

    /// Whether nothing more comes since it was closed: nobody is putting what he began before.
    fn is_over(&self) -> bool {
        self.is_closed() && {
            // Who is dead is no obstacle, and who is alive is done soon.
            let is_over = self.put_lock().claim(Patience::Never, || ()).is_ok();
            if is_over {
                self.put_lock().release();
            }
            is_over
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.flag(CLOSED).load(Ordering::SeqCst) != 0
    }

    /// Has all who wait look again: this process has let go of its end.
    pub(crate) fn leave(&self) {
        self.flag(LEFT).fetch_add(1, Ordering::SeqCst);
        self.wake_all();
    }

    /// How often a process has let go of its end.
    #[inline]
    pub(crate) fn leavings(&self) -> u32 {
        self.flag(LEFT).load(Ordering::SeqCst)
    }

    fn wake_all(&self) {
        for bell in [ARRIVED, FREED, FINISHED] {
            self.bell(bell).ring_for_all();
        }
    }

    /// How many messages there are.
    pub(crate) fn len(&self) -> usize {
        let head = Cursor::of_word(self.head().load(Ordering::SeqCst));
        let tail = Cursor::of_word(self.tail().load(Ordering::SeqCst));
        let most = match self.capacity {
            0 => self.size,
            capacity => capacity,
        };
        // Between the two loads some may have come and gone.
        tail.since(head).min(most) as usize
    }

    /// How many messages there have ever been, modulo 2³².
    #[inline]
    pub(crate) fn put_count(&self) -> u32 {
        Cursor::of_word(self.tail().load(Ordering::SeqCst)).count
    }

    /// A message is about to be taken that has to be worked off.
    pub(crate) fn note_taken(&self) {
        self.takers().note_taken();
    }

    /// A message was worked off. Tells whether there was one that was not.
    pub(crate) fn note_done(&self) -> bool {
        let done = self.flag(DONE);
        let counted = done.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
            (self.put_count() != count).then(|| count.wrapping_add(1))
        });
        if self.unfinished() == 0 {
            self.bell(FINISHED).ring_for_all();
        }
        self.takers().note_done();
        counted.is_ok()
    }

    fn takers(&self) -> Takers<'_> {
        Takers {
            memory: &self.memory,
            offset: TAKERS,
            own: &self.own_taker,
        }
    }

    /// How many messages were put and not worked off.
    pub(crate) fn unfinished(&self) -> u32 {
        let done = self.flag(DONE).load(Ordering::SeqCst);
        self.put_count().wrapping_sub(done)
    }

    /// Waits until all messages were worked off.
    ///
    /// # Errors
    ///
    /// If they were not in time, or those that were not are in the hands of the dead.
    pub(crate) fn wait_finished(&self, patience: Patience) -> Result<(), Unfinished> {
        let is_finished = || self.unfinished() == 0;
        let mut wait = Wait::new();
        while !is_finished() {
            let limit = patience.allows(SLICE);
            if wait.look(limit) == Look::Close {
                let (lost, dead) = self.takers().lost();
                let unfinished = u64::from(self.unfinished());
                if let Some(process_id) = dead
                    && (1..=lost).contains(&unfinished)
                {
                    return Err(Unfinished::Lost {
                        count: unfinished,
                        process_id,
                    });
                }
            }
            let limit = limit.ok_or(Unfinished::TimedOut)?;
            wait.is_overdue = self.bell(FINISHED).sleep(limit, is_finished);
        }
        Ok(())
    }

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU64 {
        self.memory.at(offset)
    }

    #[inline]
    fn flag(&self, offset: usize) -> &AtomicU32 {
        self.memory.at(offset)
    }

    #[inline]
    fn bell(&self, offset: usize) -> &Bell {
        self.memory.at(offset)
    }

    #[inline]
    fn head(&self) -> &AtomicU64 {
        self.word(HEAD)
    }

    #[inline]
    fn tail(&self) -> &AtomicU64 {
        self.word(TAIL)
    }

    /// The bounds that hold when so many messages were put.
    #[inline]
    fn bounds(&self, count: u32) -> &AtomicU64 {
        self.word(BOUNDS[(count & 1) as usize])
    }

    #[inline]
    fn put_lock(&self) -> &RawMutex {
        self.memory.at(PUT_LOCK)
    }

    #[inline]
    fn get_lock(&self) -> &RawMutex {
        self.memory.at(GET_LOCK)
    }

    /// The first word of a unit.
    #[inline]
    fn unit(&self, unit: u32) -> &AtomicU64 {
        self.word(offset_of(unit))
    }

    #[inline]
    fn committed(&self) -> u32 {
        let committed = self.word(COMMITTED).load(Ordering::Relaxed);
        u32::try_from(committed).map_or(self.size, |units| units.min(self.size))
    }
}

/// How many messages a cursor has gone on since it was seen; at least one if it is another.
#[inline]
fn change(cursor: &AtomicU64, seen: u64) -> u32 {
    match cursor.load(Ordering::SeqCst) {
        now if now == seen => 0,
        now => Cursor::of_word(now).since(Cursor::of_word(seen)).max(1),
    }
}

/// Has a lock of a ring, or gives up after a while if patience does.
#[inline]
fn claim(lock: &RawMutex, patience: Patience) -> Result<(), Refused> {
    if let Patience::Forever = patience {
        return Ok(lock.claim(patience, || ())?);
    }
    match lock.claim(Patience::Never, || ()) {
        Err(Refusal::TimedOut) => Ok(lock.claim(patience.at_least(LOCK_PATIENCE), || ())?),
        outcome => Ok(outcome?),
    }
}

#[inline]
fn offset_of(unit: u32) -> usize {
    RING + unit as usize * UNIT_BYTES
}

/// Whether a message can go there without a closer look at the head. With what was known of it long
/// ago, messages would go on through all the memory there is, where by now there is room at the
/// beginning.
#[inline]
fn is_plain(room: Room, tail: Cursor, need: u32) -> bool {
    let is_warm = room.unit.saturating_add(need) <= WARM_UNITS;
    let is_time = need >= LOOK_UNITS || tail.count.is_multiple_of(LOOK_UNITS);
    !room.is_jump && (is_warm || !is_time)
}

/// How many units a message of so many bytes takes.
#[inline]
fn need_of(bytes: usize) -> Option<u32> {
    let whole = bytes.checked_add(WORD_BYTES)?.div_ceil(UNIT_BYTES);
    u32::try_from(whole).ok()
}

/// How much an empty ring keeps whose last message took so many units.
fn kept_for(need: u32) -> u32 {
    need.saturating_mul(4).clamp(KEPT_UNITS, MOST_KEPT_UNITS)
}
