//! Processes killed at every step of what they do with shared memory, and what others find then.
//!
//! The sweeps kill at some dozen steps of each operation, at others in each run. To kill at every
//! single one (a quarter of an hour):
//!
//! ```text
//! MP_SWEEP=all cargo test --release --test kill_sweep
//! ```
//!
//! A failure prints the `MP_SWEEP` that repeats it.
#![expect(
    unsafe_code,
    reason = "victims are forked, and values torn, as no safe code can"
)]

mod sweep;
mod watchdog;

use std::cell::{Cell, RefCell};
use std::num::NonZero;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use mp::prelude::*;
use mp::sync::{Mutex, PoisonCause, TryLockError};

use sweep::{Companion, Kill, Sweep};
use watchdog::{until, within};

const LIMIT: Duration = Duration::from_secs(3000);
/// How long somebody waits for what must not be waited for: long enough for any machine.
const GENEROUS: Duration = Duration::from_secs(60);

/// How far the victim says it has come.
struct Progress(Shared<AtomicU32>);

const BEFORE: u32 = 0;
/// It has the lock, and has begun to write.
const INSIDE: u32 = 1;
/// It has written everything.
const LEAVING: u32 = 2;
/// It has given the lock back.
const AFTER: u32 = 3;

impl Progress {
    fn new() -> Progress {
        Progress(Shared::new(AtomicU32::new(BEFORE)).unwrap())
    }

    fn is(&self, step: u32) {
        self.0.store(step, Ordering::SeqCst);
    }

    fn get(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Takes the lock, which can be had, and mends it. Tells the value as it was found, and the process that
/// poisoned it.
#[track_caller]
fn inherit<T: Shareable + Copy>(lock: &Mutex<T>, whole: T) -> (T, Option<u32>) {
    let (mut guard, cause) = match lock.lock_timeout(GENEROUS) {
        Ok(guard) => (guard, None),
        Err(TryLockError::Poisoned(poisoned)) => match poisoned.cause() {
            PoisonCause::OwnerDied { pid } => (poisoned.into_inner(), Some(pid)),
            other => panic!("{other:?}"),
        },
        Err(other) => panic!("{other:?}"),
    };
    let found = std::mem::replace(&mut *guard, whole);
    lock.clear_poison();
    drop(guard);
    assert!(lock.lock_timeout(GENEROUS).is_ok(), "it was mended");
    (found, cause)
}

type Pair = (u64, u64);

/// What must be true of a lock whose victim went from (1, 1) to (2, 2).
#[track_caller]
fn check_pair(kill: &Kill, progress: u32, found: Pair, poisoned_by: Option<u32>) {
    assert!(poisoned_by.is_none_or(|pid| pid == kill.pid), "{poisoned_by:?} {kill:?}");
    match progress {
        BEFORE => assert_eq!(found, (1, 1)),
        INSIDE => assert!(poisoned_by.is_some(), "it was inside, and nobody is told"),
        LEAVING => assert_eq!(found, (2, 2)),
        _ => assert_eq!((found, poisoned_by), ((2, 2), None)),
    }
    if kill.is_complete {
        assert_eq!(progress, AFTER);
    }
}

/// A lock around (1, 1), and a victim that makes it (2, 2).
struct Bench {
    lock: Value<Pair>,
    progress: Progress,
    /// What the victim warms up with.
    other: Value<u64>,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            lock: mp::shared!((1, 1)).unwrap(),
            progress: Progress::new(),
            other: mp::shared!(0).unwrap(),
        }
    }

    fn begin(&self) {
        self.progress.is(BEFORE);
    }

    /// Whatever a process does once.
    fn warm(&self) {
        self.other.set(1).unwrap();
    }

    fn write(&self) {
        let mut guard = self.lock.lock().unwrap();
        self.progress.is(INSIDE);
        guard.0 = 2;
        guard.1 = 2;
        self.progress.is(LEAVING);
        drop(guard);
        self.progress.is(AFTER);
    }

    #[track_caller]
    fn check(&self, kill: &Kill) -> bool {
        let (found, cause) = inherit(&self.lock, (1, 1));
        check_pair(kill, self.progress.get(), found, cause);
        cause.is_some()
    }
}

/// Runs a sweep on its own, and tells for how many of its kills `check` was true.
fn sweep(sweep: Sweep<'_>, check: impl Fn(&Kill) -> bool) -> usize {
    let mut count = 0;
    within(LIMIT, || sweep.run(|kill| count += usize::from(check(kill))));
    count
}

#[mp::test]
fn promise_11_a_mutex_outlives_whoever_is_killed_with_it() {
    let _alone = sweep::alone();
    let bench = Bench::new();
    let of_write = Sweep::of(|| bench.write())
        .begin(|| bench.begin())
        .warm(|| bench.warm());
    let poisonings = sweep(of_write, |kill| bench.check(kill));
    assert!(poisonings > 0, "no kill was inside");
}

#[mp::test]
fn promise_11_also_at_the_first_lock_of_a_process() {
    let _alone = sweep::alone();
    let bench = Bench::new();
    let of_write = Sweep::of(|| bench.write()).begin(|| bench.begin());
    sweep(of_write, |kill| bench.check(kill));
}

#[mp::test]
fn promise_11_a_waiter_that_is_killed_takes_no_lock_with_it() {
    let _alone = sweep::alone();
    let bench = Bench::new();
    let guard = Cell::new(None);
    // It spins, sleeps, is hungry, and gets the lock.
    let of_wait = Sweep::of(|| bench.write())
        .begin(|| {
            bench.begin();
            guard.set(Some(bench.lock.lock().unwrap()));
        })
        .warm(|| bench.warm())
        .before_step(|step| {
            if step == 4000 {
                guard.take();
            }
        });
    sweep(of_wait, |kill| {
        if kill.steps < 4000 {
            assert_eq!(bench.progress.get(), BEFORE);
            assert!(bench.lock.is_locked());
        }
        guard.take();
        bench.check(kill)
    });
}

#[mp::test]
fn promise_11_others_that_want_the_lock_as_well_get_it_and_are_told() {
    let _alone = sweep::alone();
    let bench = Bench::new();
    let [rounds, told_of, tears, lies] =
        [(); 4].map(|()| Shared::new(AtomicU64::new(0)).unwrap());
    // The two numbers are equal whenever nobody died with the lock.
    let hammer = || {
        let (mut guard, cause) = match bench.lock.lock() {
            Ok(guard) => (guard, None),
            Err(poisoned) => {
                let cause = poisoned.cause();
                (poisoned.into_inner(), Some(cause))
            }
        };
        match cause {
            Some(PoisonCause::OwnerDied { pid }) => {
                told_of.store(pid.into(), Ordering::SeqCst);
                guard.1 = guard.0;
                bench.lock.clear_poison();
            }
            Some(_) => drop(lies.fetch_add(1, Ordering::SeqCst)),
            None if guard.0 != guard.1 => drop(tears.fetch_add(1, Ordering::SeqCst)),
            None => {}
        }
        guard.0 += 1;
        guard.1 += 1;
        drop(guard);
        rounds.fetch_add(1, Ordering::SeqCst);
    };
    let _companion = Companion::start(hammer);
    let of_write = Sweep::of(|| bench.write())
        .begin(|| {
            bench.begin();
            told_of.store(0, Ordering::SeqCst);
        })
        .warm(|| bench.warm());
    sweep(of_write, |kill| {
        let before = rounds.load(Ordering::SeqCst);
        until(|| rounds.load(Ordering::SeqCst) > before + 2);
        let pid = told_of.load(Ordering::SeqCst);
        assert!(pid == 0 || pid == u64::from(kill.pid), "{pid} {kill:?}");
        match bench.progress.get() {
            INSIDE => assert_ne!(pid, 0, "it was inside, and nobody was told"),
            AFTER => assert_eq!(pid, 0, "it was out, and somebody was told"),
            _ => {}
        }
        assert_eq!(tears.load(Ordering::SeqCst), 0, "half a value was found without a word");
        assert_eq!(lies.load(Ordering::SeqCst), 0, "nobody panicked");
        pid != 0
    });
}

#[mp::test]
fn promise_11_a_next_owner_that_is_killed_as_well_passes_the_truth_on() {
    let _alone = sweep::alone();
    let bench = Bench::new();
    let first = Cell::new(0);
    let of_inheritance = Sweep::of(|| {
        let mut guard = bench.lock.lock().unwrap_err().into_inner();
        bench.progress.is(INSIDE);
        *guard = (3, 3);
        bench.lock.clear_poison();
        bench.progress.is(LEAVING);
        drop(guard);
        bench.progress.is(AFTER);
    })
    .begin(|| {
        bench.begin();
        first.set(sweep::in_child(|| {
            bench.lock.lock().unwrap().0 = 2;
            std::mem::forget(bench.lock.lock().unwrap());
        }));
    })
    .warm(|| bench.warm());
    sweep(of_inheritance, |kill| {
        let (found, cause) = inherit(&bench.lock, (1, 1));
        match (bench.progress.get(), cause) {
            (BEFORE, Some(pid)) => {
                assert!(pid == first.get() || pid == kill.pid, "{pid} {kill:?}");
                assert_eq!(found, (2, 1));
            }
            (INSIDE, Some(pid)) => assert_eq!(pid, kill.pid),
            (LEAVING, None | Some(_)) | (AFTER, None) => assert_eq!(found, (3, 3)),
            other => panic!("{other:?} {kill:?}"),
        }
        cause.is_some()
    });
}

/// What has bit patterns that are none of its type.
type Fragile = (char, Option<char>, NonZero<u32>);

#[mp::test]
fn promise_11_torn_values_are_mended_however_often_the_mender_is_killed() {
    let _alone = sweep::alone();
    let whole = ('a', Some('b'), NonZero::new(7).unwrap());
    let lock = mp::shared!(whole).unwrap();
    let other = mp::shared!(0).unwrap();
    let tear = || {
        let mut guard = lock.lock().unwrap();
        let start = ptr::from_mut(&mut *guard).cast::<u32>();
        for index in 0..size_of::<Fragile>() / size_of::<u32>() {
            // SAFETY: it is in bounds of the tuple, whose fields are as large as a `u32`.
            let field = unsafe { start.add(index) };
            // SAFETY: as above. Nobody of this process looks at the value any more.
            unsafe { field.write(0) };
            if size_of::<char>() == size_of::<u32>() && index != zero_index() {
                // SAFETY: as above.
                unsafe { field.write(0xd800_0000) };
            }
        }
        sweep::leave(0);
    };
    let of_mending = Sweep::of(|| drop(lock.lock()))
        .begin(|| {
            sweep::in_child(tear);
        })
        .warm(|| other.set(1).unwrap());
    sweep(of_mending, |_| {
        let ((letter, maybe, number), cause) = inherit(&lock, whole);
        assert!(cause.is_some());
        // What they are is part of what is documented.
        assert_eq!(letter, char::REPLACEMENT_CHARACTER);
        assert_eq!((maybe, number.get()), (None, 1));
        true
    });
}

/// Which of the words of a `Fragile` its number is.
fn zero_index() -> usize {
    std::mem::offset_of!(Fragile, 2) / size_of::<u32>()
}

#[mp::test]
fn promise_11_sections_of_two_locks_outlive_whoever_is_killed_in_them() {
    let _alone = sweep::alone();
    let (one, two) = (mp::shared!((1_u64, 1_u64)).unwrap(), mp::shared!((1_u64, 1_u64)).unwrap());
    let progress = Progress::new();
    let other = mp::shared!(0).unwrap();
    let write = || {
        mp::locked!(two, one => {
            progress.is(INSIDE);
            one.0 = 2;
            two.0 = 2;
            one.1 = 2;
            two.1 = 2;
            progress.is(LEAVING);
        })
        .unwrap();
        progress.is(AFTER);
    };
    let of_section = Sweep::of(write)
        .begin(|| progress.is(BEFORE))
        .warm(|| other.set(1).unwrap());
    let poisonings = sweep(of_section, |kill| {
        let (first, by) = inherit(&one, (1, 1));
        check_pair(kill, progress.get(), first, by);
        let (second, also_by) = inherit(&two, (1, 1));
        check_pair(kill, progress.get(), second, also_by);
        by.is_some() && also_by.is_some()
    });
    assert!(poisonings > 0, "no kill was inside");
}

#[mp::test]
fn promise_11_set_and_update_change_all_or_nothing_or_tell() {
    let _alone = sweep::alone();
    let bench = Bench::new();
    let of_set = Sweep::of(|| {
        bench.lock.set((2, 2)).unwrap();
        bench.progress.is(LEAVING);
        bench.lock.update(|pair| pair.0 += 1).unwrap();
        bench.lock.replace((4, 4)).unwrap();
        bench.progress.is(AFTER);
    })
    .begin(|| bench.begin())
    .warm(|| bench.warm());
    sweep(of_set, |kill| {
        let (found, cause) = inherit(&bench.lock, (1, 1));
        assert!(cause.is_none_or(|pid| pid == kill.pid));
        if cause.is_none() {
            let possible: &[Pair] = match bench.progress.get() {
                BEFORE => &[(1, 1), (2, 2)],
                LEAVING => &[(2, 2), (3, 2), (4, 4)],
                _ => &[(4, 4)],
            };
            assert!(possible.contains(&found), "{found:?} {kill:?}");
        }
        cause.is_some()
    });
}

mp::shared! {
    static PAIR: (u64, u64) = (1, 1);
}

#[mp::test]
fn promise_11_a_static_outlives_whoever_is_killed_with_it() {
    let _alone = sweep::alone();
    let progress = Progress::new();
    let other = mp::shared!(0).unwrap();
    PAIR.set((1, 1)).unwrap();
    let of_update = Sweep::of(|| {
        let mut guard = PAIR.lock().unwrap();
        progress.is(INSIDE);
        *guard = (2, 2);
        progress.is(LEAVING);
        drop(guard);
        progress.is(AFTER);
    })
    .begin(|| progress.is(BEFORE))
    .warm(|| other.set(1).unwrap());
    sweep(of_update, |kill| {
        let (found, cause) = inherit(&PAIR, (1, 1));
        check_pair(kill, progress.get(), found, cause);
        cause.is_some()
    });
}

/// Takes the lock of an array, which can be had; tells what was in it and who poisoned it.
#[track_caller]
fn inherit_array(array: &Array<u64>) -> (Vec<u64>, Option<u32>) {
    let (mut guard, cause) = match array.lock_timeout(GENEROUS) {
        Ok(guard) => (guard, None),
        Err(TryLockError::Poisoned(poisoned)) => match poisoned.cause() {
            PoisonCause::OwnerDied { pid } => (poisoned.into_inner(), Some(pid)),
            other => panic!("{other:?}"),
        },
        Err(other) => panic!("{other:?}"),
    };
    let found = guard.to_vec();
    guard.fill(0);
    array.clear_poison();
    drop(guard);
    (found, cause)
}

/// Whatever a process does once.
fn warm_up(other: &Array<u64>) {
    drop(other.split(1));
    drop(other.lock());
}

/// Nothing is left of what a dead process had of it.
#[track_caller]
fn check_array_is_as_new(array: &Array<u64>) {
    let mut chunks = array.split(2);
    chunks[0].fill(5);
    assert!(matches!(array.try_lock(), Err(TryLockError::WouldBlock)));
    drop(chunks);
    let (found, cause) = inherit_array(array);
    assert_eq!(cause, None, "nobody died with a chunk of this split");
    assert_eq!(found, [5, 5, 0, 0]);
}

#[mp::test]
fn promise_11_an_array_outlives_whoever_is_killed_while_it_splits_it_and_writes() {
    let _alone = sweep::alone();
    let array: Array<u64> = Array::zeroed(4).unwrap();
    let other = Array::zeroed(4).unwrap();
    let progress = Progress::new();
    let write = || {
        let mut chunks = array.split(2);
        progress.is(INSIDE);
        for chunk in &mut chunks {
            for item in chunk.iter_mut() {
                *item = 2;
            }
        }
        progress.is(LEAVING);
        drop(chunks);
        progress.is(AFTER);
    };
    let of_split = Sweep::of(write)
        .begin(|| progress.is(BEFORE))
        .warm(|| warm_up(&other));
    let poisonings = sweep(of_split, |kill| {
        let (found, cause) = inherit_array(&array);
        assert!(cause.is_none_or(|pid| pid == kill.pid), "{cause:?} {kill:?}");
        match progress.get() {
            BEFORE => assert_eq!(found, [0; 4]),
            INSIDE => assert!(cause.is_some(), "it held chunks, and nobody is told"),
            LEAVING => assert_eq!(found, [2; 4]),
            _ => assert_eq!((&found[..], cause), (&[2; 4][..], None)),
        }
        check_array_is_as_new(&array);
        cause.is_some()
    });
    assert!(poisonings > 0, "no kill was inside");
}

#[mp::test]
fn promise_11_whoever_waits_for_chunks_is_killed_and_another_gets_the_array() {
    let _alone = sweep::alone();
    let array: Array<u64> = Array::zeroed(4).unwrap();
    let other = Array::zeroed(4).unwrap();
    let progress = Progress::new();
    let chunks = RefCell::new(Vec::new());
    const FREED_AT: usize = 8_000;
    let of_wait = Sweep::of(|| {
        let mut guard = array.lock().unwrap();
        progress.is(INSIDE);
        guard.fill(2);
        progress.is(LEAVING);
        drop(guard);
        progress.is(AFTER);
    })
    .begin(|| {
        progress.is(BEFORE);
        chunks.replace(array.split(3));
    })
    .warm(|| warm_up(&other))
    .before_step(|step| {
        if step == FREED_AT {
            chunks.take();
        }
    });
    sweep(of_wait, |kill| {
        chunks.take();
        let (found, cause) = inherit_array(&array);
        assert!(cause.is_none_or(|pid| pid == kill.pid), "{cause:?} {kill:?}");
        match progress.get() {
            BEFORE => assert_eq!(found, [0; 4]),
            INSIDE => assert!(cause.is_some(), "it was inside, and nobody is told"),
            LEAVING => assert_eq!(found, [2; 4]),
            _ => assert_eq!((&found[..], cause), (&[2; 4][..], None)),
        }
        check_array_is_as_new(&array);
        cause.is_some()
    });
}

#[mp::test]
fn promise_21_values_made_by_whoever_is_killed_leave_nothing() {
    let _alone = sweep::alone();
    let own = mp::shared!((1_u64, 1_u64)).unwrap();
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = Cell::new(count());
    let of_values = Sweep::of(|| {
        let small = mp::shared!(7_u64).unwrap();
        small.set(8).unwrap();
        let large = Shared::from_slice(&[1_u8; 40_000]).unwrap();
        assert_eq!(large[39_999], 1);
        drop((small, large));
    })
    .begin(|| before.set(count()))
    .warm(|| own.set((1, 1)).unwrap());
    sweep(of_values, |_| {
        assert_eq!(count(), before.get());
        assert_eq!(inherit(&own, (1, 1)), ((1, 1), None));
        let large = Shared::from_slice(&[2_u8; 40_000]).unwrap();
        assert!(large.iter().all(|&byte| byte == 2));
        true
    });
}
