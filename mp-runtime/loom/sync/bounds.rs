//! Small limits, so that there are few orders to go through.

pub(crate) const SLOT_COUNT: usize = 2;
pub(crate) const SPIN_ROUNDS: u32 = 0;
