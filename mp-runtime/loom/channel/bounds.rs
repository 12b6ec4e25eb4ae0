//! A ring that wraps, grows and shrinks within a few messages.

pub(crate) const UNIT_BYTES: usize = 16;
pub(crate) const PAGE_UNITS: u32 = 1;
pub(crate) const FIRST_UNITS: u32 = 3;
pub(crate) const WARM_UNITS: u32 = 3;
pub(crate) const LOOK_UNITS: u32 = 2;
pub(crate) const LONGEST_GROWTH: u32 = 1;
pub(crate) const KEPT_UNITS: u32 = 3;
pub(crate) const MOST_KEPT_UNITS: u32 = 3;
