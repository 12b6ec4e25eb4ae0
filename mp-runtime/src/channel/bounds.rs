//! The sizes of a ring, in units, in one place so that models can put smaller ones beneath the same
//! code.

/// How large a unit is. It holds a first word.
pub(crate) const UNIT_BYTES: usize = 16;

/// A ring has memory in whole pages.
pub(crate) const PAGE_UNITS: u32 = 4096 / UNIT_BYTES as u32;
/// What there is at the beginning.
pub(crate) const FIRST_UNITS: u32 = 4 * PAGE_UNITS;
/// So much of a ring is used over and over before it grows: it fits into the caches next to
/// something else.
pub(crate) const WARM_UNITS: u32 = (128 << 10) / UNIT_BYTES as u32;
/// Beyond that, who puts looks where the head is with every message that takes so many units, and with
/// each of so many that are smaller.
pub(crate) const LOOK_UNITS: u32 = 64;
/// A ring grows by half of what it has, up to so much at a time, and by what it needs.
pub(crate) const LONGEST_GROWTH: u32 = (4 << 20) / UNIT_BYTES as u32;
/// An empty ring keeps so much memory, or four times what its last message took, up to the second.
pub(crate) const KEPT_UNITS: u32 = (16 << 20) / UNIT_BYTES as u32;
pub(crate) const MOST_KEPT_UNITS: u32 = (256 << 20) / UNIT_BYTES as u32;
