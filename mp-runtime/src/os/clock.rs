//! The monotonic clock, which all processes of a machine share.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds since some moment that is the same for every process.
pub(crate) fn monotonic_nanos() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned()
    })
}
