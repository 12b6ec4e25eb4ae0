//! A table of who is in: readers, holders of permits, those who wait.
//!
//! # Layout
//!
//! ```text
//! slot    63                                                  10 9       0
//!        ┌──────────────────────────────────────────────────────┬─────────┐
//!        │ name of a thread or of a process                     │ mark    │     0: free
//!        └──────────────────────────────────────────────────────┴─────────┘
//! ```
//!
//! # Rules
//!
//! 1. A slot goes from free to a name by compare-and-swap.
//! 2. It goes back to free by who has that name, or by who has seen that the one who had it is
//!    dead, by compare-and-swap from what was seen.
//! 3. What the mark means, and who may change it, is said where the table is used.
//!
//! # Death
//!
//! A slot changes by one store, so it is free or names somebody. Somebody dead is evicted by
//! whoever needs the slot, or waits for it to be free. Any bits at all are somebody; what names
//! nobody is dead.

use super::atomic::{AtomicU64, Ordering};
use super::bounds::SLOT_COUNT;
use crate::shm::Shareable;

/// The bits of a slot that are not the name.
pub(crate) const MARK: u64 = (1 << NAME_SHIFT) - 1;

const NAME_SHIFT: u32 = 10;

#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Slots([AtomicU64; SLOT_COUNT]);

impl Slots {
    pub(crate) const fn new() -> Slots {
        Slots([const { AtomicU64::new(0) }; SLOT_COUNT])
    }

    /// Stores `word` in a slot that is free, and tells which.
    #[inline]
    pub(crate) fn occupy(&self, word: u64) -> Option<usize> {
        let first = first_choice(word);
        (0..SLOT_COUNT)
            .map(|step| (first + step) % SLOT_COUNT)
            .find(|&index| self.exchange(index, 0, word))
    }

    /// The slot at an index that [`occupy`](Slots::occupy) or [`find`](Slots::find) gave.
    #[inline]
    pub(crate) fn at(&self, index: usize) -> &AtomicU64 {
        &self.0[index % SLOT_COUNT]
    }

    /// Replaces what a slot holds, if that is `from`.
    #[inline]
    pub(crate) fn exchange(&self, index: usize, from: u64, to: u64) -> bool {
        let slot = self.at(index);
        // A look first: a compare-and-swap that fails takes the line from its owner all the same.
        slot.load(Ordering::Relaxed) == from
            && slot
                .compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
    }

    /// What the slots that are not free hold, and where.
    pub(crate) fn taken(&self) -> impl Iterator<Item = (usize, u64)> {
        self.0
            .iter()
            .map(|slot| slot.load(Ordering::Acquire))
            .enumerate()
            .filter(|&(_, word)| word != 0)
    }

    /// Frees the slots whose owners are gone; tells whether there were any.
    pub(crate) fn evict(&self, is_gone: impl Fn(u64) -> bool) -> bool {
        self.taken()
            .filter(|&(index, word)| is_gone(word) && self.exchange(index, word, 0))
            .count()
            > 0
    }
}

/// Where a name looks first. Neighbours among the ids start eight slots apart, which is a line of
/// the cache.
fn first_choice(word: u64) -> usize {
    let id = (word >> NAME_SHIFT) as usize;
    ((id << 3) | ((id >> 3) & 7)) % SLOT_COUNT
}

// SAFETY: they are atomics, of which every bit pattern is valid.
unsafe impl Shareable for Slots {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_do_not_share_a_line_and_everybody_has_a_place() {
        let slots = Slots::new();
        let mut indices: Vec<usize> = (1..=SLOT_COUNT as u64)
            .map(|id| slots.occupy(id << NAME_SHIFT).expect("there is room"))
            .collect();
        assert!(
            indices[..8]
                .windows(2)
                .all(|pair| pair[0] / 8 != pair[1] / 8)
        );
        indices.sort_unstable();
        assert!(indices.into_iter().eq(0..SLOT_COUNT));
        assert_eq!(slots.occupy(1000 << NAME_SHIFT), None);
    }

    #[test]
    fn only_who_is_gone_is_evicted() {
        let slots = Slots::new();
        let stays = slots.occupy(7 << NAME_SHIFT).expect("there is room");
        slots.occupy(8 << NAME_SHIFT).expect("there is room");
        assert!(slots.evict(|word| word >> NAME_SHIFT == 8));
        assert!(!slots.evict(|word| word >> NAME_SHIFT == 8));
        assert!(slots.taken().eq([(stays, 7 << NAME_SHIFT)]));
    }
}
