//! Which processes have values of a queue that they got and did not work off, so that nobody waits for
//! one that is dead to do so.
//!
//! # Layout
//!
//! ```text
//! names   64 slots: names of processes (`sync/slots.rs`)
//! counts  as many words: how many values the process of that name has got and not worked off
//! ```
//!
//! # Rules
//!
//! 1. A process enters its name before it gets a value for the first time, and finds its place again by
//!    what it remembers.
//! 2. It counts a value before it has taken it, and discounts it after it has said that it is worked
//!    off. Who says so of a value that another process has got, discounts that one.
//! 3. The slot of a dead process is used again if its count is 0.
//!
//! # Death
//!
//! Who dies with values in hand leaves its count. Who dies between counting a value and taking it, or
//! between saying that it is worked off and discounting it, leaves one too many: then somebody may be
//! told that a value was lost which somebody else has. Processes that found no slot are not counted.
//! Any bits are a count.

use crate::os::identity::ProcessName;
use crate::shm::Expanse;
use crate::sync::Slots;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Where this process is among the names: not entered yet, or there was no room.
const UNKNOWN: u32 = u32::MAX;
const NOWHERE: u32 = u32::MAX - 1;

/// The place of this process in the table.
#[derive(Debug)]
pub(super) struct OwnPlace(AtomicU32);

impl OwnPlace {
    pub(super) fn new() -> OwnPlace {
        OwnPlace(AtomicU32::new(UNKNOWN))
    }
}

/// The table at an offset of the memory of a ring.
pub(super) struct Takers<'r> {
    pub(super) memory: &'r Expanse,
    pub(super) offset: usize,
    pub(super) own: &'r OwnPlace,
}

impl Takers<'_> {
    fn names(&self) -> &Slots {
        self.memory.at(self.offset)
    }

    fn count(&self, place: usize) -> &AtomicU64 {
        let counts = self.offset + size_of::<Slots>();
        self.memory.word(counts + place * size_of::<AtomicU64>())
    }

    /// The count of this process, if it has one.
    fn own_count(&self) -> Option<&AtomicU64> {
        let mut place = self.own.0.load(Ordering::Relaxed);
        if place == UNKNOWN {
            place = self.enter().unwrap_or(NOWHERE);
            self.own.0.store(place, Ordering::Relaxed);
        }
        (place != NOWHERE).then(|| self.count(place as usize))
    }

    #[cold]
    fn enter(&self) -> Option<u32> {
        let own = ProcessName::current().word();
        let names = self.names();
        let known = || names.taken().find(|&(_, word)| word == own);
        let place = known().map(|(place, _)| place).or_else(|| {
            names.occupy(own).or_else(|| {
                let mut taken = names.taken();
                let replaced = taken.find(|&(place, word)| {
                    self.count(place).load(Ordering::Relaxed) == 0
                        && !ProcessName::of_word(word).is_alive()
                        && names.exchange(place, word, own)
                });
                replaced.map(|(place, _)| place)
            })
        });
        place.and_then(|place| u32::try_from(place).ok())
    }

    /// This process is about to take a value.
    pub(super) fn note_taken(&self) {
        if let Some(count) = self.own_count() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// This process has said that a value is worked off.
    pub(super) fn note_done(&self) {
        if !self.own_count().is_some_and(discount) {
            self.discount_another();
        }
    }

    /// It was got by another process; mostly one that has ended, if there are several.
    #[cold]
    fn discount_another(&self) {
        let mut holders = self.holders();
        let first = holders.next();
        let dead = holders.next().and_then(|second| {
            let mut all = first.into_iter().chain([second]).chain(holders);
            all.find(|(_, name, _)| !name.is_alive())
        });
        if let Some((place, ..)) = dead.or(first) {
            discount(self.count(place));
        }
    }

    /// The processes that have values in hand: place, name, and how many.
    fn holders(&self) -> impl Iterator<Item = (usize, ProcessName, u64)> {
        self.names().taken().filter_map(|(place, word)| {
            let count = self.count(place).load(Ordering::Relaxed);
            (count > 0).then(|| (place, ProcessName::of_word(word), count))
        })
    }

    /// How many values dead processes have got and not worked off, and the id of one of them.
    pub(super) fn lost(&self) -> (u64, Option<u32>) {
        let own = ProcessName::current();
        let dead = self
            .holders()
            .filter(|(_, name, _)| *name != own && !name.is_alive());
        dead.fold((0, None), |(sum, _), (_, name, count)| {
            (u64::saturating_add(sum, count), Some(name.id()))
        })
    }
}

/// Counts one down, if there is one.
fn discount(count: &AtomicU64) -> bool {
    let counted = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
        count.checked_sub(1)
    });
    counted.is_ok()
}
