//! Nothing is lent here.

use super::raw_mutex::RawMutex;

pub(crate) enum Lease {
    Running,
    Over,
    Lost(u32),
}

pub(crate) fn of(_lock: &RawMutex) -> Lease {
    Lease::Over
}
