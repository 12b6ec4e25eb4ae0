//! The limits of the primitives, in one place so that models can put smaller ones beneath the
//! same code.

/// How many parties each table has room for.
pub(crate) const SLOT_COUNT: usize = 64;

/// How often what is not there yet is looked at before its waiter sleeps; each pause is twice as
/// long as the one before.
pub(crate) const SPIN_ROUNDS: u32 = 6;
