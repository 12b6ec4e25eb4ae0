//! How a wait for the other side of a ring goes: looking for a moment, then sleeping.

use std::hint;
use std::sync::LazyLock;
use std::time::Duration;

use crate::os::limit;
use crate::sync::Slices;

/// How often the other side is looked at before its waiter sleeps; each pause is twice as long as the
/// one before. Together they take about as long as two switches to another thread.
const SPIN_ROUNDS: u32 = 7;

pub(super) struct Wait {
    spins: u32,
    slices: Slices,
}

impl Wait {
    #[inline]
    pub(super) fn new() -> Wait {
        Wait {
            spins: 0,
            slices: Slices::new(),
        }
    }

    /// Looks for a moment whether something has changed; once in a wait.
    pub(super) fn spin(&mut self, has_changed: impl Fn() -> bool) -> bool {
        /// Whether the other side can run meanwhile.
        static IS_SENSIBLE: LazyLock<bool> = LazyLock::new(|| limit::usable_cpus() > 1);
        while self.spins < SPIN_ROUNDS && *IS_SENSIBLE {
            for _ in 0..(1 << self.spins) {
                hint::spin_loop();
            }
            self.spins += 1;
            if has_changed() {
                return true;
            }
        }
        false
    }

    /// How long to sleep next.
    pub(super) fn next_slice(&mut self) -> Duration {
        self.slices.next()
    }
}
