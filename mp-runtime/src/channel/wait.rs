//! How a wait for the other side of a ring goes: looking for a moment, then sleeping.

use std::hint;
use std::sync::LazyLock;
use std::time::Duration;

use crate::os::limit;
use crate::sync::atomic::{AtomicU32, Ordering};

/// How often the other side is looked at before its waiter sleeps; each pause is twice as long as the
/// one before. Together they take about as long as two switches to another thread.
const SPIN_ROUNDS: u32 = 7;

/// How long a sleep lasts that nobody ends. A timer that would be the next one of its processor is
/// set in its hardware, which under a hypervisor takes longer than all the rest of a sleep; so this
/// is longer than the time from one tick of the scheduler to the next.
const SLICE: Duration = Duration::from_millis(50);

/// So often at most it is not tried again to look, after it was in vain.
const MOST_SKIPPED: u32 = 63;

/// Whether looking is worth it: what this process knows of one side of a ring. Where the other
/// side wants the same processor, looking keeps it from working.
#[derive(Debug, Default)]
pub(super) struct Eagerness {
    /// How often not to look from now on.
    skips: AtomicU32,
    /// How often not to look after the next time that is in vain.
    penalty: AtomicU32,
}

impl Eagerness {
    fn is_due(&self) -> bool {
        let skips = self.skips.load(Ordering::Relaxed);
        if skips > 0 {
            // Threads that count at once count as one.
            self.skips.store(skips - 1, Ordering::Relaxed);
        }
        skips == 0
    }

    fn note(&self, was_in_vain: bool) {
        let penalty = match was_in_vain {
            false => 0,
            true => (self.penalty.load(Ordering::Relaxed) * 2 + 1).min(MOST_SKIPPED),
        };
        self.penalty.store(penalty, Ordering::Relaxed);
        self.skips.store(penalty, Ordering::Relaxed);
    }
}

/// How closely to look whether somebody is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Only if there is a sign that nobody is.
    Glance,
    /// For certain.
    Close,
}

pub(super) struct Wait {
    has_looked: bool,
    /// The last sleep was not ended by anybody: who should have may be dead.
    pub(super) is_overdue: bool,
}

impl Wait {
    #[inline]
    pub(super) fn new() -> Wait {
        Wait {
            has_looked: false,
            is_overdue: false,
        }
    }

    /// Looks for a moment whether something has changed; once in a wait, and if it is worth it.
    pub(super) fn spin(&mut self, eagerness: &Eagerness, has_changed: impl Fn() -> bool) -> bool {
        /// Whether the other side can run meanwhile.
        static IS_SENSIBLE: LazyLock<bool> = LazyLock::new(|| limit::usable_cpus() > 1);
        if std::mem::replace(&mut self.has_looked, true) || !*IS_SENSIBLE || !eagerness.is_due() {
            return false;
        }
        let has_changed = (0..SPIN_ROUNDS).any(|round| {
            for _ in 0..(1 << round) {
                hint::spin_loop();
            }
            has_changed()
        });
        eagerness.note(!has_changed);
        has_changed
    }

    /// How closely to look before a sleep of at most `limit`: `None` is the end of the wait.
    pub(super) fn look(&self, limit: Option<Duration>) -> Look {
        match limit {
            Some(_) if !self.is_overdue => Look::Glance,
            _ => Look::Close,
        }
    }

    /// How long to sleep next.
    pub(super) fn slice(&self) -> Duration {
        SLICE
    }
}
