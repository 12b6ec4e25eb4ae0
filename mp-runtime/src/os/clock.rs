//! The monotonic clock, which all processes of a machine share.

use std::time::Instant;

use nix::poll::PollTimeout;
use nix::time::{ClockId, clock_gettime};

/// Nanoseconds since some moment that is the same for every process.
pub(crate) fn monotonic_nanos() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned()
    })
}

/// The time until `deadline`, for poll(2), rounded up; for ever without one.
pub(crate) fn time_left(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else {
        return PollTimeout::NONE;
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let millis = left.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}
