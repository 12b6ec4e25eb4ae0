//! How long somebody waits.

use std::time::Duration;

use crate::os::clock;

/// How long to wait for what is not there yet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// Not at all.
    Never,
    /// Until this moment of the monotonic clock, in nanoseconds.
    Until(u64),
    /// As long as it takes.
    Forever,
}

impl Patience {
    /// From now on for this long.
    pub(crate) fn lasting(duration: Duration) -> Patience {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        match clock::monotonic_nanos().checked_add(nanos) {
            Some(end) => Patience::Until(end),
            None => Patience::Forever,
        }
    }

    /// Whether there is any at all.
    pub(crate) fn is_any(self) -> bool {
        !matches!(self, Patience::Never)
    }

    /// As long as this, and no shorter than from now on for `duration`.
    pub(crate) fn at_least(self, duration: Duration) -> Patience {
        match (self, Patience::lasting(duration)) {
            (Patience::Until(end), Patience::Until(least)) => Patience::Until(end.max(least)),
            (Patience::Never, least) => least,
            _ => Patience::Forever,
        }
    }

    /// How long a sleep may be that wants to last `slice`; `None` if patience is at its end.
    pub(crate) fn allows(self, slice: Duration) -> Option<Duration> {
        match self {
            Patience::Never => None,
            Patience::Forever => Some(slice),
            Patience::Until(end) => {
                let left = end.checked_sub(clock::monotonic_nanos())?;
                (left > 0).then(|| slice.min(Duration::from_nanos(left)))
            }
        }
    }
}

/// The lengths of the sleeps of one wait. Every sleep is bounded, so that nothing that a killed
/// process left undone, such as a wake-up, is waited for without end.
#[derive(Debug)]
pub(crate) struct Slices {
    next: Duration,
}

impl Slices {
    const FIRST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_millis(50);

    pub(crate) fn new() -> Slices {
        Slices {
            next: Slices::FIRST,
        }
    }

    /// The next one: each is twice as long as the one before, up to 50 ms.
    pub(crate) fn next(&mut self) -> Duration {
        let slice = self.next;
        self.next = (slice * 2).min(Slices::LONGEST);
        slice
    }
}
