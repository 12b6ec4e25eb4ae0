//! Looking for a moment whether something comes, before sleeping.
//!
//! Who sleeps is woken by a system call of the other side, and is awake some 5 to 50 µs later; who
//! looks has it within a tenth of one. What is best depends on where the other side is, which nobody
//! knows:
//!
//! | the other side | is best served by | what is done |
//! | --- | --- | --- |
//! | runs on another processor, and is quick | looking without a pause | so it begins, for about as long as a sleep costs |
//! | runs on another processor, and goes on meanwhile | looking rarely | where much was found, the next looks are further apart |
//! | is being woken on another processor | looking until it is awake | looking goes on for as long as that may take, with yields |
//! | wants this processor | giving it away | what comes right after a yield has the next looks begin with one |
//! | has nothing to do yet | sleep | what was in vain is not tried for a while, longer each time |
//! | others want this processor | sleep: who is woken goes before them | a yield that took long is the last |
//!
//! So a wait costs about a tenth of a millisecond of looking at most, and one in 64 where that never helps.

use std::hint;
use std::sync::LazyLock;
use std::thread;

use crate::os::{clock, limit};
use crate::sync::atomic::{AtomicU32, Ordering};

/// How many pauses there are, with a look after each or after several, before the first yield: about
/// 3 µs, ...
const PAUSES: u32 = 100;
/// ... and between two yields.
const PAUSES_BETWEEN: u32 = 10;
/// The most pauses before a look. Each look takes a line of the cache away from the other side; where
/// that one goes on meanwhile, it is better to look late and find much.
const MOST_PAUSES: u32 = 256;
/// So much found at once is worth a longer pause.
const MUCH: usize = 8;
/// A glance doubles no more often than this: it takes 50 µs then.
const MOST_GLANCES: u32 = 4;
/// How long to look before a sleep: as long as it takes until a sleeper on another processor is
/// awake, at its worst.
const SPIN_NANOS: u64 = 60_000;
/// Who had to wait so long for its processor is better off asleep.
const CROWDED_NANOS: u64 = 25_000;
/// So often at most it is not tried again to look, after it was in vain.
const MOST_SKIPPED: u32 = 63;
/// After so many waits that a yield ended, looks begin with one; ...
const YIELDS_ENOUGH: u32 = 2;
/// ... for so many waits.
const YIELDS_LAST: u32 = 64;

/// Whether the other side can run meanwhile. (That this thread may run on one processor only says nothing
/// of the other side.)
static IS_SENSIBLE: LazyLock<bool> = LazyLock::new(|| limit::online_cpus() > 1);

/// Whether looking is worth it, and how: what one side of a ring knows of the other.
#[derive(Debug, Default)]
pub(crate) struct Spinner {
    /// How often not to look from now on.
    skips: AtomicU32,
    /// How often not to look after the next time that is in vain.
    penalty: AtomicU32,
    /// How many waits in a row a yield has ended, and then how many still begin with one.
    yields: AtomicU32,
    /// How many pauses to make before a look, less one.
    pauses: AtomicU32,
    /// How often a glance doubles, since those before found something.
    glances: AtomicU32,
}

impl Spinner {
    /// Finds out what is the same for all, here or in the process that this one is forked from.
    pub(crate) fn get_ready() {
        LazyLock::force(&IS_SENSIBLE);
    }

    /// Looks for a moment whether something `is_there`, if that is worth it.
    #[inline]
    pub(crate) fn spin(&self, is_there: impl Fn() -> bool) -> bool {
        if is_there() {
            return true;
        }
        let skips = self.skips.load(Ordering::Relaxed);
        if skips > 0 {
            // Threads that count at once count as one.
            self.skips.store(skips - 1, Ordering::Relaxed);
            return false;
        }
        let yields = self.yields.load(Ordering::Relaxed);
        if yields <= YIELDS_ENOUGH && self.look(PAUSES, &is_there) {
            self.note_found(0);
            return true;
        }
        self.spin_on(yields, &is_there)
    }

    /// Looks for 3 µs whether something `is_there`, if that is worth it: what one does before a
    /// system call that is needed only if nothing comes. It looks longer after it has found something,
    /// and again for 3 µs when it has not.
    #[inline]
    pub(super) fn glance(&self, is_there: impl Fn() -> bool) -> bool {
        let is_worth_it = self.skips.load(Ordering::Relaxed) == 0
            && self.yields.load(Ordering::Relaxed) <= YIELDS_ENOUGH;
        let found = self.glances.load(Ordering::Relaxed);
        let has_found = is_worth_it && self.look(PAUSES << found, is_there);
        let now = if has_found {
            (found + 1).min(MOST_GLANCES)
        } else {
            0
        };
        if now != found {
            self.glances.store(now, Ordering::Relaxed);
        }
        if has_found {
            self.note_found(0);
        }
        has_found
    }

    /// So much was found at once by a look.
    pub(crate) fn note_count(&self, count: usize) {
        let pauses = self.pauses.load(Ordering::Relaxed);
        let better = match count >= MUCH {
            true => (pauses * 2 + 1).min(MOST_PAUSES),
            false => pauses / 2,
        };
        if better != pauses {
            self.pauses.store(better, Ordering::Relaxed);
        }
    }

    /// Looks after some pauses, again and again until there were so many.
    #[inline]
    fn look(&self, pauses: u32, is_there: impl Fn() -> bool) -> bool {
        let before = self.pauses.load(Ordering::Relaxed) + 1;
        for _ in 0..pauses.div_ceil(before) {
            (0..before).for_each(|_| hint::spin_loop());
            if is_there() {
                return true;
            }
        }
        false
    }

    #[cold]
    fn spin_on(&self, yields: u32, is_there: &dyn Fn() -> bool) -> bool {
        let begin = clock::monotonic_nanos();
        let mut last = begin;
        let mut is_first = true;
        loop {
            if !*IS_SENSIBLE {
                break;
            }
            thread::yield_now();
            if is_there() {
                self.note_found(if is_first { yields + 1 } else { 0 });
                return true;
            }
            is_first = false;
            let now = clock::monotonic_nanos();
            if now - begin > SPIN_NANOS || now - last > CROWDED_NANOS {
                break;
            }
            last = now;
            if self.look(PAUSES_BETWEEN, is_there) {
                self.note_found(0);
                return true;
            }
        }
        let penalty = self.penalty.load(Ordering::Relaxed);
        let penalty = (penalty * 2 + 1).min(MOST_SKIPPED);
        self.penalty.store(penalty, Ordering::Relaxed);
        self.skips.store(penalty, Ordering::Relaxed);
        false
    }

    #[inline]
    fn note_found(&self, yields: u32) {
        if self.penalty.load(Ordering::Relaxed) != 0 {
            self.penalty.store(0, Ordering::Relaxed);
        }
        let yields = if yields > YIELDS_LAST { 0 } else { yields };
        if self.yields.load(Ordering::Relaxed) != yields {
            self.yields.store(yields, Ordering::Relaxed);
        }
    }
}
