//! A lock for many readers or one writer, which survives them: the means; `rwlock.rs` has the
//! type.
//!
//! # Layout
//!
//! ```text
//! queue       a `RawMutex`: its owner writes, or waits until it may write or read
//! departures  goes up when a reader leaves while the queue has an owner, who sleeps on it
//! readers     a table of threads; the mark of a slot is how many read guards it counts
//! processes   of each slot, the process id of its thread while that is in; otherwise 0
//! ```
//!
//! # Rules
//!
//! 1. A reader is in once its slot is in the table and it has then seen that the queue has no
//!    owner. If it sees one, it frees its slot and has not been in.
//! 2. A writer is in once it owns the queue and has then seen every slot free. It says so in the
//!    queue's `holder`, by `enter`, and not before.
//! 3. Who cannot get in at once queues: it takes the queue like a writer. A reader that owns the
//!    queue is in once it has a slot, whatever else: no writer is. Then it lets the queue go.
//! 4. A thread that has a slot and finds an owner of the queue counts its slot up instead of
//!    queueing, since that owner may be waiting for it. It is in, so no writer is.
//! 5. The mark of a slot is changed by its thread alone. That stores its process beside the slot
//!    once it is in, before anybody has a guard, and clears it before it frees the slot.
//! 6. Who leaves frees its slot, and then, if the queue has an owner, adds to `departures` and
//!    wakes it.
//! 7. A slot whose thread is dead is freed by an owner of the queue if its process is 0, which is
//!    to say that the thread was not in, or dead too. Who frees it clears the process before.
//!
//! Writers do not starve, since who comes while one waits queues behind it; readers do not, since
//! the queue is a lock that starves nobody. If all slots are taken, the next reader waits for one
//! as the owner of the queue.
//!
//! # Ordering
//!
//! SYNC b: a reader stores its slot and then looks at the queue; a writer takes the queue and then
//! looks at the slots. These are `SeqCst`, with a fence between the writer's two, so at least one of
//! them sees the other. The same holds between a reader that frees its slot and then looks at the queue,
//! and an owner of the queue that takes it, then looks at the slots, then sleeps.
//!
//! SYNC c: a slot is freed with `Release` and seen free with `Acquire`, so what a reader read, it
//! read before the writer writes. What a writer wrote, readers see by SYNC a of `raw_mutex.rs`.
//! As there, compiler fences keep the process and the data in the order of the program.
//!
//! # Death
//!
//! | it dies | the next one finds | and does |
//! | --- | --- | --- |
//! | with a slot, not in | a slot with a dead name, process 0 | frees it, at the latest after a slice of 50 ms |
//! | with a slot, in | a slot with a dead name and a dead process | the same; a reader's death poisons nothing |
//! | after it freed its slot, before it woke the owner of the queue | a free slot | goes on after its slice |
//! | as the owner of the queue, not in | a dead owner, `holder` 0 | takes the queue over as if it had been free |
//! | as a writer that is in | a dead owner, `holder` its process | takes the queue over, mends, poisons; no reader was in, and none gets in meanwhile |
//! | as a reader, after its slot, before it let the queue go | a dead owner and a dead slot | both of the above |
//!
//! A reader that is in is dead when its process is: its thread alone may have ended and left a
//! reference to the data to another thread, with a guard that was leaked. As with std's, no writer
//! gets in then.
//!
//! Any bits at all in the words may lead to an error or a wait, never to a panic.

use std::hint;

use super::atomic::{AtomicU32, Ordering, compiler_fence, fence};
use super::bounds::{SLOT_COUNT, SPIN_ROUNDS};
use super::patience::{Patience, Slices};
use super::poison::PoisonCause;
use super::raw_mutex::{RawMutex, Refusal};
use super::slots::{MARK, Slots};
use crate::os::futex;
use crate::os::identity::{self, ThreadName};

/// The mark of a slot with one guard.
const ONE: u64 = 1;

#[derive(Debug)]
#[repr(C)]
pub(crate) struct RawRwLock {
    queue: RawMutex,
    departures: AtomicU32,
    readers: Slots,
    processes: [AtomicU32; SLOT_COUNT],
}

/// The slot of a reader that is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat(usize);

impl RawRwLock {
    pub(crate) const fn new() -> RawRwLock {
        RawRwLock {
            queue: RawMutex::new(),
            departures: AtomicU32::new(0),
            readers: Slots::new(),
            processes: [const { AtomicU32::new(0) }; SLOT_COUNT],
        }
    }

    /// Lets this thread read. If it comes after a dead writer, `mend` makes valid values of what
    /// that left half written.
    ///
    /// # Errors
    ///
    /// If patience ends first, or this thread writes.
    #[inline]
    pub(crate) fn read(&self, patience: Patience, mend: impl Fn()) -> Result<Seat, Refusal> {
        let me = ThreadName::current();
        if !self.queue.is_claimed()
            && let Some(index) = self.readers.occupy(me.word() | ONE)
        {
            // SYNC b: with `write`.
            if !self.queue.is_claimed() {
                return Ok(self.enter(index));
            }
            self.end_read(Seat(index));
        }
        self.read_in_turn(me, patience, &mend)
    }

    /// Ends what a `read` of this thread began.
    #[inline]
    pub(crate) fn end_read(&self, seat: Seat) {
        let slot = self.readers.at(seat.0);
        let word = slot.load(Ordering::Relaxed);
        if word & MARK > ONE {
            slot.store(word - ONE, Ordering::Release);
            return;
        }
        compiler_fence(Ordering::SeqCst);
        self.process(seat.0).store(0, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        // SYNC b, c: with `write`.
        slot.store(0, Ordering::SeqCst);
        if self.queue.is_claimed() {
            self.depart();
        }
    }

    /// Lets this thread write, alone. If it comes after a dead writer, `mend` makes valid values
    /// of what that left half written.
    ///
    /// # Errors
    ///
    /// If patience ends first, or this thread reads or writes.
    #[inline]
    pub(crate) fn write(&self, patience: Patience, mend: impl Fn()) -> Result<(), Refusal> {
        if self.is_reading(ThreadName::current()) {
            return Err(Refusal::WouldDeadlock);
        }
        self.queue.claim(patience, mend)?;
        // SYNC b: with `read` and `end_read`.
        fence(Ordering::SeqCst);
        let emptied = self.await_departures(patience, || self.is_empty().then_some(()));
        match emptied {
            Ok(()) => self.queue.enter(),
            Err(_) => self.queue.release(),
        }
        emptied
    }

    /// Ends what `write` of this thread began.
    #[inline]
    pub(crate) fn end_write(&self) {
        self.queue.release();
    }

    /// Whether somebody writes, or waits until it may.
    pub(crate) fn has_queue(&self) -> bool {
        self.queue.is_locked()
    }

    /// How many threads read.
    pub(crate) fn reader_count(&self) -> usize {
        self.readers.taken().count()
    }

    /// Why the data may be inconsistent.
    #[inline]
    pub(crate) fn poison(&self) -> Option<PoisonCause> {
        self.queue.poison()
    }

    /// Says why the data may be inconsistent. Only who writes may call this.
    pub(crate) fn set_poison(&self, cause: PoisonCause) {
        self.queue.set_poison(cause);
    }

    pub(crate) fn clear_poison(&self) {
        self.queue.clear_poison();
    }

    /// Rules 3 and 4.
    #[cold]
    fn read_in_turn(
        &self,
        me: ThreadName,
        patience: Patience,
        mend: &dyn Fn(),
    ) -> Result<Seat, Refusal> {
        if self.is_reading(me) {
            return self.read_again(me);
        }
        self.queue.claim(patience, mend)?;
        // SYNC b: with `end_read`, for who leaves while this thread waits for a slot.
        fence(Ordering::SeqCst);
        let index = self.await_departures(patience, || self.readers.occupy(me.word() | ONE));
        // No writer is in before the queue is let go.
        let seat = index.map(|index| self.enter(index));
        self.queue.release();
        seat
    }

    /// Says that this thread is in, with the slot that it has.
    #[inline]
    fn enter(&self, index: usize) -> Seat {
        self.process(index)
            .store(identity::process_id(), Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        Seat(index)
    }

    /// What stands beside a slot.
    #[inline]
    fn process(&self, index: usize) -> &AtomicU32 {
        &self.processes[index % SLOT_COUNT]
    }

    /// Counts up a slot of this thread, which reads. If all that it has are full, which takes a
    /// thousand guards, it is as good with one more.
    fn read_again(&self, me: ThreadName) -> Result<Seat, Refusal> {
        let own = self
            .readers
            .taken()
            .find(|&(_, word)| ThreadName::of_word(word) == me && word & MARK < MARK);
        if let Some((index, word)) = own {
            self.readers.at(index).store(word + ONE, Ordering::Relaxed);
            return Ok(Seat(index));
        }
        let another = self.readers.occupy(me.word() | ONE);
        another
            .map(|index| self.enter(index))
            .ok_or(Refusal::WouldDeadlock)
    }

    fn is_reading(&self, thread: ThreadName) -> bool {
        self.readers
            .taken()
            .any(|(_, word)| ThreadName::of_word(word) == thread)
    }

    fn is_empty(&self) -> bool {
        self.readers.taken().next().is_none()
    }

    /// Waits as the owner of the queue until `look` finds something. What it finds changes when a
    /// reader leaves.
    fn await_departures<R>(
        &self,
        patience: Patience,
        look: impl Fn() -> Option<R>,
    ) -> Result<R, Refusal> {
        for round in 0..SPIN_ROUNDS {
            if let Some(found) = look() {
                return Ok(found);
            }
            for _ in 0..(1 << round) {
                hint::spin_loop();
            }
        }
        let mut slices = Slices::new();
        let mut is_overdue = false;
        loop {
            let seen = self.departures.load(Ordering::Acquire);
            if let Some(found) = look() {
                return Ok(found);
            }
            if is_overdue && self.evict_dead() {
                is_overdue = false;
                continue;
            }
            match patience.allows(slices.next()) {
                Some(limit) => is_overdue = futex::wait(&self.departures, seen, limit),
                None if self.evict_dead() => {}
                None => return Err(Refusal::TimedOut),
            }
        }
    }

    /// Rule 7; tells whether there was a slot to free.
    fn evict_dead(&self) -> bool {
        self.readers
            .taken()
            .filter(|&(index, word)| self.evict(index, word))
            .count()
            > 0
    }

    fn evict(&self, index: usize, word: u64) -> bool {
        let reader = ThreadName::of_word(word);
        if reader.is_alive() {
            return false;
        }
        let process_id = self.process(index).load(Ordering::Acquire);
        // Somebody else may have freed the slot, and the process be that of who has it now.
        if self.readers.at(index).load(Ordering::Relaxed) != word {
            return false;
        }
        if process_id != 0 {
            if reader.is_process_alive(process_id) {
                return false;
            }
            // If another one frees the slot at the same time, this leaves alone what comes after.
            let _ = self.process(index).compare_exchange(
                process_id,
                0,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
        self.readers.exchange(index, word, 0)
    }

    #[cold]
    fn depart(&self) {
        self.departures.fetch_add(1, Ordering::Release);
        futex::wake(&self.departures, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// The highest id there can be, which no machine reaches, at some moment.
    const DEAD: u64 = (1 << 32) | (0x3f_ffff << 10);

    fn no_mend() {
        panic!("there is nothing to mend");
    }

    #[test]
    fn a_dead_reader_is_no_obstacle() {
        for patience in [Patience::Never, Patience::Forever] {
            let lock = RawRwLock::new();
            lock.readers.occupy(DEAD | 3).expect("there is room");
            assert_eq!(lock.write(patience, no_mend), Ok(()));
            assert_eq!(lock.poison(), None);
            lock.end_write();
            assert_eq!(lock.reader_count(), 0);
        }
    }

    #[test]
    fn a_reader_that_was_in_is_dead_when_its_process_is() {
        // The limit of all ids, which is no process's.
        for (process_id, refusal) in [
            (1 << 22, Ok(())),
            (std::process::id(), Err(Refusal::TimedOut)),
        ] {
            let lock = RawRwLock::new();
            let seat = std::thread::scope(|scope| {
                let reader = scope.spawn(|| lock.read(Patience::Forever, no_mend));
                reader.join().expect("it does not panic")
            })
            .expect("it is free");
            lock.process(seat.0).store(process_id, Ordering::Relaxed);
            assert_eq!(lock.write(Patience::Never, no_mend), refusal);
            assert_eq!(lock.reader_count(), usize::from(refusal.is_err()));
        }
    }

    #[test]
    fn a_table_full_of_the_dead_has_room_for_a_reader() {
        for patience in [Patience::Never, Patience::Forever] {
            let lock = RawRwLock::new();
            while lock.readers.occupy(DEAD | ONE).is_some() {}
            let seat = lock.read(patience, no_mend).expect("there is room");
            assert_eq!(lock.reader_count(), 1);
            lock.end_read(seat);
            assert!(!lock.has_queue());
        }
    }

    #[test]
    fn a_dead_writer_poisons_only_if_it_was_in() {
        for is_in in [false, true] {
            let lock = RawRwLock::new();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    assert_eq!(lock.queue.claim(Patience::Forever, no_mend), Ok(()));
                    if is_in {
                        lock.queue.enter_as_dead();
                    }
                });
            });
            let is_mended = Cell::new(false);
            let seat = lock.read(Patience::Forever, || is_mended.set(true));
            lock.end_read(seat.expect("the dead are passed by"));
            assert_eq!(is_mended.get(), is_in);
            assert_eq!(lock.poison().is_some(), is_in);
            assert!(!lock.has_queue());
        }
    }

    #[test]
    fn a_reader_that_finds_a_writer_waiting_reads_again() {
        let lock = RawRwLock::new();
        let first = lock.read(Patience::Forever, no_mend).expect("it is free");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(lock.write(Patience::Forever, no_mend), Ok(()));
                lock.end_write();
            });
            while !lock.has_queue() {
                std::thread::yield_now();
            }
            let second = lock.read(Patience::Never, no_mend);
            assert_eq!(second, Ok(first));
            lock.end_read(first);
            assert!(lock.has_queue());
            lock.end_read(first);
        });
        assert_eq!(lock.reader_count(), 0);
    }

    #[test]
    fn more_guards_than_a_slot_counts_take_another() {
        let lock = RawRwLock::new();
        let me = ThreadName::current();
        let own = lock
            .readers
            .occupy(me.word() | MARK)
            .expect("there is room");
        let seat = lock.read_again(me).expect("there is room");
        assert_ne!(seat, Seat(own));
        lock.end_read(seat);
        while lock.readers.occupy(me.word() | MARK).is_some() {}
        assert_eq!(lock.read_again(me), Err(Refusal::WouldDeadlock));
    }
}
