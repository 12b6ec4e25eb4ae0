//! Who has which part of what was lent.

use super::raw_mutex::RawMutex;

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

/// The state of what this lock lent.
pub(crate) fn of(_lock: &RawMutex) -> Lease {
    Lease::Over
}
