//! How a wait for the other side of a ring goes: looking for a moment, then sleeping.
//!
//! What is best depends on where the other side is, which nobody knows:
//!
//! | the other side | is best served by | what is done |
//! | --- | --- | --- |
//! | runs on another processor | looking, and not too often | pauses between looks, longer where more is found after them |
//! | is being woken on another processor | looking until it is awake | looks last as long as that may take |
//! | wants this processor | giving it away | a yield between looks |
//! | has nothing to do yet | sleep | what was in vain is not tried for a while, longer each time |
//! | others want this processor | sleep: who is woken goes before them | a yield that took long is the last |
//!
//! So a wait costs at most a tenth of a millisecond of looking, and one in 64 where that never helps.

use std::sync::LazyLock;
use std::time::Duration;
use std::{hint, thread};

use crate::os::{clock, limit};
use crate::sync::atomic::{AtomicU32, Ordering};

/// How long the other side is looked at before its waiter sleeps: about as long as it takes until a
/// sleeper on another processor is awake, at its worst. With less, two sides that could go on side by
/// side come to take turns to sleep, each because the other one does.
const SPIN_NANOS: u64 = 100_000;
/// The pauses between two looks. Each look takes a cache line away from the other side; where that
/// one goes on meanwhile, it is better to look late and find much.
const LEAST_PAUSES: u32 = 4;
const MOST_PAUSES: u32 = 128;
/// Who had to wait so long for its processor is better off asleep, for who is woken goes before
/// others.
const CROWDED_NANOS: u64 = 25_000;

/// How long a sleep lasts that nobody ends. A timer that would be the next one of its processor is
/// set in its hardware, which under a hypervisor takes longer than all the rest of a sleep; so this
/// is longer than the time from one tick of the scheduler to the next.
pub(super) const SLICE: Duration = Duration::from_millis(50);

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
    /// How long to pause between two looks.
    pauses: AtomicU32,
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

    fn pauses(&self) -> u32 {
        let pauses = self.pauses.load(Ordering::Relaxed);
        pauses.clamp(LEAST_PAUSES, MOST_PAUSES)
    }

    /// So much was found after a pause: another that is twice as long may find more, where one message
    /// comes at a time none does.
    fn note_found(&self, count: u32) {
        let pauses = match count {
            0 | 1 => self.pauses() / 2,
            _ => self.pauses() * 2,
        };
        self.pauses.store(pauses, Ordering::Relaxed);
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

    /// Looks for a moment whether something has changed, and how much; once in a wait, and if it is
    /// worth it.
    pub(super) fn spin(&mut self, eagerness: &Eagerness, change: impl Fn() -> u32) -> bool {
        /// Whether the other side can run meanwhile. (That this thread may run on one processor only
        /// says nothing of the other side.)
        static IS_SENSIBLE: LazyLock<bool> = LazyLock::new(|| limit::online_cpus() > 1);
        if std::mem::replace(&mut self.has_looked, true) || !*IS_SENSIBLE || !eagerness.is_due() {
            return false;
        }
        let begin = clock::monotonic_nanos();
        let mut last = begin;
        let mut is_changed = false;
        while !is_changed {
            (0..eagerness.pauses()).for_each(|_| hint::spin_loop());
            let count = change();
            is_changed = count > 0;
            if is_changed {
                eagerness.note_found(count);
                break;
            }
            // The other side may want this processor.
            thread::yield_now();
            is_changed = change() > 0;
            let now = clock::monotonic_nanos();
            if now - begin > SPIN_NANOS || now - last > CROWDED_NANOS {
                break;
            }
            last = now;
        }
        eagerness.note(!is_changed);
        is_changed
    }

    /// How closely to look before a sleep of at most `limit`: `None` is the end of the wait.
    pub(super) fn look(&self, limit: Option<Duration>) -> Look {
        match limit {
            Some(_) if !self.is_overdue => Look::Glance,
            _ => Look::Close,
        }
    }
}
