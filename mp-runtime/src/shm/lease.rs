//! Who has which part of an array that was split.
//!
//! # Layout
//!
//! ```text
//! table   entries: 255 words        the epoch of the last split
//! lock    the word of the array's lock comes right behind the table
//!
//! entry   63            32 31            10   9    8            0
//!        ┌────────────────┬────────────────┬──────┬──────────────┐
//!        │ moment         │ process id     │ SENT │ parts        │      0: nobody's
//!        └────────────────┴────────────────┴──────┴──────────────┘
//! ```
//!
//! # Rules
//!
//! 1. The lock is *lent* from a split until somebody takes it; its word then holds the epoch of the
//!    split. A part counts in an entry of the process that holds it, or, with `SENT`, of the one
//!    that has put it into a message, for as long as the message exists.
//! 2. Who receives a part counts it as its own first, and then looks whether the lock is still lent
//!    in that epoch; if not, it takes the count back, and the part is refused.
//! 3. Who takes the lock claims its word first, so that no part can come in, and looks at the
//!    entries then. A living process in one of them: the claim is given up.
//! 4. Entries of dead processes are removed by the owner of the lock, at the latest before the next
//!    split, and those of the living by
//!    themselves, or, for a message, by who has it.
//!
//! # Ordering
//!
//! SYNC b: counting (rule 2) and claiming (rule 3) are sequentially consistent, each before its
//! look at the other's word, so at least one of the two sees the other and steps back.
//!
//! # Death
//!
//! With parts held: the array is poisoned, they may be half written. With parts sent: the message
//! may still arrive; if nobody has taken the lock until then its receiver has them, otherwise their
//! arrival is an error. Between the two words of rule 2: an entry of a dead process, as if it had
//! held the part. With the word claimed: it is still lent, and claimed again by the next.
//!
//! Any bits in the table lead to an early or a late end of the loan, to an error, or to poison.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::region::Region;
use crate::os::futex;
use crate::os::identity::ProcessName;

const ENTRY_COUNT: usize = 255;
const SENT: u64 = 1 << 9;
const PARTS: u64 = SENT - 1;

/// The most parts that can be out at a time.
pub(crate) const PART_LIMIT: usize = ENTRY_COUNT * PARTS as usize;

/// How far before its lock the table of an array stands.
pub(crate) const TABLE_BYTES: usize = size_of::<Table>();

/// The state of what was lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lease {
    /// Somebody alive has a part of it.
    Running,
    /// Everything came back.
    Over,
    /// Everything came back or was lost; this process died with a part.
    Lost(u32),
}

/// What a process does with a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Custody {
    Held,
    Sent,
}

#[derive(Debug)]
#[repr(C)]
struct Table {
    entries: [AtomicU64; ENTRY_COUNT],
    epoch: AtomicU64,
}

/// The leases of one array.
#[derive(Clone, Debug)]
pub(crate) struct Leases {
    region: Arc<Region>,
    table: NonNull<Table>,
    lock_word: NonNull<AtomicU64>,
}

// SAFETY: it points to atomics, in a region that it holds.
unsafe impl Send for Leases {}
// SAFETY: as for `Send`.
unsafe impl Sync for Leases {}

impl Leases {
    /// Those at `offset` of `region`.
    pub(crate) fn at(region: &Arc<Region>, offset: usize) -> Option<Leases> {
        let table = region.at(offset, TABLE_BYTES, align_of::<Table>())?.cast();
        let behind = offset.checked_add(TABLE_BYTES)?;
        let lock_word = region.at(behind, size_of::<AtomicU64>(), align_of::<AtomicU64>())?;
        Some(Leases {
            region: Arc::clone(region),
            table,
            lock_word: lock_word.cast(),
        })
    }

    /// Those of the lock at this address of this process.
    pub(crate) fn before(lock_address: usize) -> Option<Leases> {
        let address = lock_address.checked_sub(TABLE_BYTES)?;
        let (region, offset) = Region::holding(address, TABLE_BYTES)?;
        Leases::at(&region, offset)
    }

    fn table(&self) -> &Table {
        // SAFETY: in bounds and aligned, as `at` saw; the region is held; every bit pattern is a
        // table, and all processes use atomics only.
        unsafe { self.table.as_ref() }
    }

    fn lock_word(&self) -> &AtomicU64 {
        // SAFETY: as for the table.
        unsafe { self.lock_word.as_ref() }
    }

    /// The epoch of the last split.
    pub(crate) fn epoch(&self) -> u64 {
        self.table().epoch.load(Ordering::Relaxed)
    }

    /// Begins another epoch. For the owner of the lock.
    pub(crate) fn next_epoch(&self) -> u64 {
        // What an owner before left of a split it did not complete is nobody's.
        let epoch = self.epoch().wrapping_add(1);
        self.table().epoch.store(epoch, Ordering::Relaxed);
        epoch
    }

    /// Counts `parts` more of this process. Tells whether there was room.
    #[must_use]
    pub(crate) fn add(&self, custody: Custody, parts: usize) -> bool {
        let own = tag(ProcessName::current(), custody);
        let mut left = parts as u64;
        while left > 0 {
            let Some((entry, word)) = self.find_room(own) else {
                self.subtract_many(own, parts as u64 - left);
                return false;
            };
            let count = left.min(PARTS - (word & PARTS));
            let counted = own | ((word & PARTS) + count);
            // SYNC b: with the claim in `RawMutex::take_over`.
            let added = entry.compare_exchange(word, counted, Ordering::SeqCst, Ordering::Relaxed);
            if added.is_ok() {
                left -= count;
            }
        }
        true
    }

    /// An entry that can count one more for `own`, and what it holds.
    fn find_room(&self, own: u64) -> Option<(&AtomicU64, u64)> {
        let entries = || {
            let entries = self.table().entries.iter();
            entries.map(|entry| (entry, entry.load(Ordering::Relaxed)))
        };
        let is_room = |word: u64| word & !PARTS == own && word & PARTS < PARTS && word & PARTS > 0;
        let of_own = entries().find(|&(_, word)| is_room(word));
        of_own.or_else(|| entries().find(|&(_, word)| word & PARTS == 0))
    }

    /// Takes back one part of this process.
    pub(crate) fn subtract(&self, custody: Custody) {
        self.end_one(tag(ProcessName::current(), custody));
    }

    fn subtract_many(&self, tag: u64, parts: u64) {
        for _ in 0..parts {
            self.end_one(tag);
        }
    }

    /// Takes back one part of an entry; if it was the last of all, those are woken who wait for
    /// that.
    fn end_one(&self, tag: u64) {
        for entry in &self.table().entries {
            let mut word = entry.load(Ordering::Relaxed);
            while word & !PARTS == tag && word & PARTS > 0 {
                let next = if word & PARTS == 1 { 0 } else { word - 1 };
                // SYNC c: what was written to the part happens before the look in `state`.
                match entry.compare_exchange(word, next, Ordering::Release, Ordering::Relaxed) {
                    Ok(_) => return self.wake_if_over(),
                    Err(now) => word = now,
                }
            }
        }
    }

    fn wake_if_over(&self) {
        let mut entries = self.table().entries.iter();
        if entries.all(|entry| entry.load(Ordering::Relaxed) & PARTS == 0) {
            // A sleeper that is not woken looks again after its slice.
            futex::wake_low(self.lock_word(), 1);
        }
    }

    /// Whether the loan is over.
    pub(crate) fn state(&self) -> Lease {
        let mut state = Lease::Over;
        for entry in &self.table().entries {
            // SYNC b: with `add`. SYNC c: with `end_one`.
            let word = entry.load(Ordering::SeqCst);
            if word & PARTS == 0 {
                continue;
            }
            let process = ProcessName::of_word(word);
            if process.is_alive() {
                return Lease::Running;
            }
            if word & SENT == 0 {
                state = Lease::Lost(process.id());
            }
        }
        state
    }

    /// Removes the entries of the dead. For the owner of the lock.
    pub(crate) fn bury(&self) {
        for entry in &self.table().entries {
            let word = entry.load(Ordering::Relaxed);
            if word != 0 && (word & PARTS == 0 || !ProcessName::of_word(word).is_alive()) {
                // If it changed it is somebody's who lives.
                let _ = entry.compare_exchange(word, 0, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }
}

fn tag(process: ProcessName, custody: Custody) -> u64 {
    match custody {
        Custody::Held => process.word(),
        Custody::Sent => process.word() | SENT,
    }
}

/// The state of what the lock at this address lent.
pub(crate) fn state_of(lock_address: usize) -> Lease {
    Leases::before(lock_address).map_or(Lease::Over, |leases| leases.state())
}

/// The epoch of its last split.
pub(crate) fn epoch_of(lock_address: usize) -> u64 {
    Leases::before(lock_address).map_or(0, |leases| leases.epoch())
}

/// Removes the entries of the dead. For the owner of the lock.
pub(crate) fn bury_of(lock_address: usize) {
    if let Some(leases) = Leases::before(lock_address) {
        leases.bury();
    }
}

/// A part in a message: counted as sent until this ends, at the latest when it is dropped.
#[derive(Debug)]
pub(crate) struct Loan {
    leases: Leases,
    offset: usize,
    tag: u64,
    /// It has ended, or somebody else keeps count.
    is_settled: AtomicBool,
}

impl Loan {
    /// Of a part that this process has put into a message.
    pub(crate) fn new(region: &Arc<Region>, offset: usize) -> Option<Loan> {
        let leases = Leases::at(region, offset)?;
        leases.add(Custody::Sent, 1).then(|| Loan {
            leases,
            offset,
            tag: tag(ProcessName::current(), Custody::Sent),
            is_settled: AtomicBool::new(false),
        })
    }

    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.leases.region
    }

    /// What the receiver of the message is told: where the table is, and whose count it is.
    pub(crate) fn describe(&self) -> (usize, u64) {
        (self.offset, self.tag)
    }

    /// From now on the receiver of the message keeps count of it.
    pub(crate) fn hand_over(&self) {
        self.is_settled.store(true, Ordering::Relaxed);
    }

    /// Nobody will take the part out of the message any more.
    pub(crate) fn end(&self) {
        if !self.is_settled.swap(true, Ordering::Relaxed) {
            self.leases.end_one(self.tag);
        }
    }

    /// Takes over the count of a message that was received.
    pub(crate) fn take_over(region: &Arc<Region>, offset: usize, tag: u64) -> Option<Loan> {
        let loan = Loan::new(region, offset)?;
        loan.leases.end_one(tag & !PARTS | SENT);
        Some(loan)
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leases() -> Leases {
        let region = Region::create(TABLE_BYTES + 64).expect("there is memory");
        Leases::at(&region, 0).expect("it is in bounds")
    }

    #[test]
    fn a_loan_is_over_when_every_part_came_back() {
        let leases = leases();
        assert_eq!(leases.state(), Lease::Over);
        assert!(leases.add(Custody::Held, 3));
        for _ in 0..3 {
            assert_eq!(leases.state(), Lease::Running);
            leases.subtract(Custody::Held);
        }
        assert_eq!(leases.state(), Lease::Over);
        leases.subtract(Custody::Held);
        assert_eq!(leases.state(), Lease::Over);
    }

    #[test]
    fn there_are_so_many_parts_and_no_more() {
        let leases = leases();
        assert!(leases.add(Custody::Held, PART_LIMIT - 1));
        assert!(!leases.add(Custody::Held, 2));
        assert!(leases.add(Custody::Held, 1));
        assert!(!leases.add(Custody::Sent, 1));
        leases.subtract_many(
            tag(ProcessName::current(), Custody::Held),
            PART_LIMIT as u64,
        );
        assert_eq!(leases.state(), Lease::Over);
    }

    #[test]
    fn a_dead_holder_is_a_loss_and_a_dead_sender_is_none() {
        let leases = leases();
        // No process has the id 2²² - 1, the limit itself.
        let dead = ((1_u64 << 22) - 1) << 10;
        leases.table().entries[7].store(dead | SENT | 1, Ordering::Relaxed);
        assert_eq!(leases.state(), Lease::Over);
        leases.table().entries[9].store(dead | 2, Ordering::Relaxed);
        assert_eq!(leases.state(), Lease::Lost((1 << 22) - 1));
        leases.bury();
        assert_eq!(leases.table().entries[9].load(Ordering::Relaxed), 0);
        assert_eq!(leases.state(), Lease::Over);
    }

    #[test]
    fn a_loan_that_was_handed_over_is_ended_by_its_receiver() {
        let leases = leases();
        let loan = Loan::new(&leases.region, 0).expect("there is room");
        let (offset, tag) = loan.describe();
        loan.hand_over();
        drop(loan);
        assert_eq!(leases.state(), Lease::Running);
        let received = Loan::take_over(&leases.region, offset, tag).expect("there is room");
        assert_eq!(leases.state(), Lease::Running);
        drop(received);
        assert_eq!(leases.state(), Lease::Over);
    }
}
