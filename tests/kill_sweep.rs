//! Processes killed at every step of what they do with shared memory, and what others find then.
//!
//! The sweeps kill at some dozen steps of each operation, at others in each run. To kill at every
//! single one (an hour, and many hours without `--release`):
//!
//! ```text
//! MP_SWEEP=all cargo test --release --test kill_sweep
//! ```
//!
//! A failure prints the `MP_SWEEP` that repeats it.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
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
use mp::sync::{
    Barrier, Condvar, Event, Mutex, Once, OnceLock, PoisonCause, ReentrantMutex, RwLock, Semaphore,
    TryLockError,
};

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

/// Takes the lock, which can be had, and mends it. Tells the value as it was found, and the process
/// that poisoned it.
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
    assert!(
        poisoned_by.is_none_or(|pid| pid == kill.pid),
        "{poisoned_by:?} {kill:?}"
    );
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
    within(LIMIT, || {
        sweep.run(|kill| count += usize::from(check(kill)));
    });
    count
}

/// Sweeps from other starts until a kill was where `check` says so: where one falls is chance.
fn sweep_until_inside<'s>(make: impl Fn() -> Sweep<'s>, check: impl Fn(&Kill) -> bool) {
    let is_inside = (0..100).any(|_| sweep(make(), &check) > 0);
    assert!(is_inside, "no kill was inside");
}

#[mp::test]
fn promise_11_a_mutex_outlives_whoever_is_killed_with_it() {
    let _alone = sweep::alone();
    let bench = Bench::new();
    let of_write = || {
        Sweep::of(|| bench.write())
            .begin(|| bench.begin())
            .warm(|| bench.warm())
    };
    sweep_until_inside(of_write, |kill| bench.check(kill));
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
    let [rounds, told_of, tears, lies] = [(); 4].map(|()| Shared::new(AtomicU64::new(0)).unwrap());
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
        assert_eq!(
            tears.load(Ordering::SeqCst),
            0,
            "half a value was found without a word"
        );
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
    let (one, two) = (
        mp::shared!((1_u64, 1_u64)).unwrap(),
        mp::shared!((1_u64, 1_u64)).unwrap(),
    );
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
    let of_section = || {
        Sweep::of(write)
            .begin(|| progress.is(BEFORE))
            .warm(|| other.set(1).unwrap())
    };
    sweep_until_inside(of_section, |kill| {
        let (first, by) = inherit(&one, (1, 1));
        check_pair(kill, progress.get(), first, by);
        let (second, also_by) = inherit(&two, (1, 1));
        check_pair(kill, progress.get(), second, also_by);
        by.is_some() && also_by.is_some()
    });
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
        let mut chunks = array.split(1);
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
    sweep(of_split, |kill| {
        let (found, cause) = inherit_array(&array);
        assert!(
            cause.is_none_or(|pid| pid == kill.pid),
            "{cause:?} {kill:?}"
        );
        match progress.get() {
            BEFORE => assert_eq!(found, [0; 4]),
            INSIDE => assert!(cause.is_some(), "it held chunks, and nobody is told"),
            LEAVING => assert_eq!(found, [2; 4]),
            _ => assert_eq!((&found[..], cause), (&[2; 4][..], None)),
        }
        check_array_is_as_new(&array);
        cause.is_some()
    });
}

#[mp::test]
fn promise_11_whoever_waits_for_chunks_is_killed_and_another_gets_the_array() {
    let _alone = sweep::alone();
    let array: Array<u64> = Array::zeroed(4).unwrap();
    let other = Array::zeroed(4).unwrap();
    let progress = Progress::new();
    let chunks = RefCell::new(Vec::new());
    const FREED_AT: usize = 4_000;
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
        assert!(
            cause.is_none_or(|pid| pid == kill.pid),
            "{cause:?} {kill:?}"
        );
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
        let large = Shared::<[u8]>::zeroed(40_000).unwrap();
        assert_eq!(large[39_999], 0);
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

/// After so many steps of a victim that waits, what it waits for comes.
const WAITED_STEPS: usize = 4_000;

/// The same as a `Bench`, with a lock for readers and a writer.
struct Library {
    lock: Shared<RwLock<Pair>>,
    progress: Progress,
    other: Shared<RwLock<u64>>,
}

impl Library {
    fn new() -> Library {
        Library {
            lock: Shared::new(RwLock::new((1, 1))).unwrap(),
            progress: Progress::new(),
            other: Shared::new(RwLock::new(0)).unwrap(),
        }
    }

    fn warm(&self) {
        self.other.set(1).unwrap();
        self.other.get().unwrap();
    }

    fn write(&self) {
        let mut guard = self.lock.write().unwrap();
        self.progress.is(INSIDE);
        guard.0 = 2;
        guard.1 = 2;
        self.progress.is(LEAVING);
        drop(guard);
        self.progress.is(AFTER);
    }

    fn read(&self) {
        let guard = self.lock.read().unwrap();
        self.progress.is(INSIDE);
        assert_eq!(*guard, (1, 1));
        drop(guard);
        self.progress.is(AFTER);
    }

    /// Reads, then writes, as somebody who comes after the victim.
    #[track_caller]
    fn check(&self, kill: &Kill) -> bool {
        let read = match self.lock.read_timeout(GENEROUS) {
            Ok(guard) => (*guard, None),
            Err(TryLockError::Poisoned(poisoned)) => match poisoned.cause() {
                PoisonCause::OwnerDied { pid } => (*poisoned.into_inner(), Some(pid)),
                other => panic!("{other:?}"),
            },
            Err(other) => panic!("{other:?}"),
        };
        let (mut guard, is_poisoned) = match self.lock.write_timeout(GENEROUS) {
            Ok(guard) => (guard, false),
            Err(TryLockError::Poisoned(poisoned)) => (poisoned.into_inner(), true),
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(
            is_poisoned,
            read.1.is_some(),
            "a writer is told what a reader is"
        );
        assert_eq!(*guard, read.0);
        *guard = (1, 1);
        self.lock.clear_poison();
        drop(guard);
        assert!(self.lock.try_write().is_ok());
        check_pair(kill, self.progress.get(), read.0, read.1);
        is_poisoned
    }

    #[track_caller]
    fn check_after_reader(&self) -> bool {
        let guard = self.lock.write_timeout(GENEROUS).unwrap();
        assert_eq!(*guard, (1, 1));
        drop(guard);
        drop(self.lock.read_timeout(GENEROUS).unwrap());
        false
    }
}

#[mp::test]
fn promise_12_a_rwlock_outlives_whoever_is_killed_while_it_writes() {
    let _alone = sweep::alone();
    let library = Library::new();
    let of_write = Sweep::of(|| library.write())
        .begin(|| library.progress.is(BEFORE))
        .warm(|| library.warm());
    sweep(of_write, |kill| library.check(kill));
}

#[mp::test]
fn promise_12_a_rwlock_outlives_whoever_is_killed_while_it_reads() {
    let _alone = sweep::alone();
    let library = Library::new();
    let of_read = Sweep::of(|| library.read())
        .begin(|| library.progress.is(BEFORE))
        .warm(|| library.warm());
    sweep(of_read, |_| library.check_after_reader());
}

#[mp::test]
fn promise_12_a_rwlock_outlives_writers_that_are_killed_while_they_wait_for_readers() {
    let _alone = sweep::alone();
    let library = Library::new();
    let reader = Cell::new(None);
    let of_wait = Sweep::of(|| library.write())
        .begin(|| {
            library.progress.is(BEFORE);
            reader.set(Some(library.lock.read().unwrap()));
        })
        .warm(|| library.warm())
        .before_step(|step| {
            if step == WAITED_STEPS {
                reader.take();
            }
        });
    sweep(of_wait, |kill| {
        reader.take();
        library.check(kill)
    });
}

#[mp::test]
fn promise_12_a_rwlock_outlives_readers_that_are_killed_while_they_wait_for_a_writer() {
    let _alone = sweep::alone();
    let library = Library::new();
    let writer = Cell::new(None);
    let of_wait = Sweep::of(|| library.read())
        .begin(|| {
            library.progress.is(BEFORE);
            writer.set(Some(library.lock.write().unwrap()));
        })
        .warm(|| library.warm())
        .before_step(|step| {
            if step == WAITED_STEPS {
                writer.take();
            }
        });
    sweep(of_wait, |_| {
        writer.take();
        library.check_after_reader()
    });
}

#[mp::test]
fn promise_12_a_semaphore_counts_right_whoever_is_killed_in_it() {
    let _alone = sweep::alone();
    let semaphore = Shared::new(Semaphore::bounded(2)).unwrap();
    let progress = Progress::new();
    let other = Shared::new(Semaphore::new(1)).unwrap();
    let of_acquisition = Sweep::of(|| {
        semaphore.acquire().unwrap();
        progress.is(INSIDE);
        semaphore.release().unwrap();
        progress.is(AFTER);
    })
    .begin(|| progress.is(BEFORE))
    .warm(|| {
        other.acquire().unwrap();
        other.release().unwrap();
    });
    sweep(of_acquisition, |_| {
        let value = semaphore.value().unwrap();
        match progress.get() {
            AFTER => assert_eq!(value, 2),
            _ => assert!(value == 1 || value == 2, "{value}"),
        }
        for _ in 0..value {
            semaphore.acquire_timeout(GENEROUS).unwrap();
        }
        assert!(semaphore.try_acquire().is_err());
        semaphore.release().unwrap();
        semaphore.release().unwrap();
        assert!(semaphore.release().is_err());
        value == 1
    });
}

#[mp::test]
fn promise_12_a_permit_comes_back_whenever_its_process_is_killed() {
    let _alone = sweep::alone();
    let semaphore = Shared::new(Semaphore::bounded(2)).unwrap();
    let progress = Progress::new();
    let other = Shared::new(Semaphore::new(1)).unwrap();
    let held = Cell::new(None);
    for waits in [false, true] {
        let of_permit = Sweep::of(|| {
            let permit = semaphore.permit().unwrap();
            // Most of the way it has one at least.
            let another = semaphore.permit().unwrap();
            progress.is(INSIDE);
            drop(permit);
            drop(another);
            progress.is(AFTER);
        })
        .begin(|| {
            progress.is(BEFORE);
            held.set(waits.then(|| [semaphore.permit().unwrap(), semaphore.permit().unwrap()]));
        })
        .warm(|| drop(other.permit()))
        .before_step(|step| {
            if step == WAITED_STEPS {
                held.take();
            }
        });
        sweep(of_permit, |_| {
            held.take();
            let both = [(); 2].map(|()| semaphore.permit_timeout(GENEROUS).unwrap());
            assert!(semaphore.try_permit().is_err());
            assert_eq!(semaphore.value().unwrap(), 0);
            drop(both);
            assert_eq!(semaphore.value().unwrap(), 2);
            true
        });
    }
}

#[mp::test]
fn promise_12_a_notification_to_a_waiter_that_is_killed_reaches_another() {
    let _alone = sweep::alone();
    // Who may go: the victim, and the other one.
    let may_go = mp::shared!((0_u64, 0_u64)).unwrap();
    let condvar = Shared::new(Condvar::new()).unwrap();
    let gone = Shared::new(AtomicU64::new(0)).unwrap();
    let enter = || match may_go.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    };
    let _companion = Companion::start(|| {
        let mut guard = enter();
        while guard.1 == 0 {
            guard = match condvar.wait(guard) {
                Ok(guard) => guard,
                Err(poisoned) => poisoned.into_inner(),
            };
        }
        guard.1 = 0;
        drop(guard);
        gone.fetch_add(1, Ordering::SeqCst);
    });
    let of_wait = Sweep::of(|| {
        let guard = may_go.lock().unwrap();
        drop(condvar.wait_while(guard, |may_go| may_go.0 == 0).unwrap());
    })
    .begin(|| {
        let mut guard = enter();
        guard.0 = 0;
        may_go.clear_poison();
    })
    .warm(|| drop(may_go.lock()))
    .before_step(|step| {
        if step == WAITED_STEPS {
            enter().0 = 1;
            condvar.notify_all();
        }
    });
    sweep(of_wait, |_| {
        let before = gone.load(Ordering::SeqCst);
        enter().1 = 1;
        condvar.notify_one();
        until(|| gone.load(Ordering::SeqCst) > before);
        true
    });
}

#[mp::test]
fn promise_12_notifiers_that_are_killed_leave_the_condition_usable() {
    let _alone = sweep::alone();
    let count = mp::shared!(0_u64).unwrap();
    let condvar = Shared::new(Condvar::new()).unwrap();
    let gone = Shared::new(AtomicU64::new(0)).unwrap();
    let enter = || match count.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    };
    let _companion = Companion::start(|| {
        let mut guard = enter();
        while *guard == 0 {
            guard = match condvar.wait(guard) {
                Ok(guard) => guard,
                Err(poisoned) => poisoned.into_inner(),
            };
        }
        *guard = 0;
        drop(guard);
        gone.fetch_add(1, Ordering::SeqCst);
    });
    let of_notification = Sweep::of(|| {
        condvar.notify_one();
        condvar.notify_n(2);
        condvar.notify_all();
    })
    .warm(|| drop(count.lock()));
    sweep(of_notification, |_| {
        let before = gone.load(Ordering::SeqCst);
        *enter() = 1;
        condvar.notify_one();
        until(|| gone.load(Ordering::SeqCst) > before);
        true
    });
}

#[mp::test]
fn promise_12_an_event_is_set_or_not_whoever_is_killed() {
    let _alone = sweep::alone();
    let event = Shared::new(Event::new()).unwrap();
    let progress = Progress::new();
    let has_passed = Progress::new();
    // Somebody who waits at the same time.
    let _companion = Companion::start(|| {
        event.wait();
        has_passed.is(AFTER);
        until(|| !event.is_set());
        has_passed.is(BEFORE);
    });
    for waits in [false, true] {
        let of_event = Sweep::of(|| {
            match waits {
                true => event.wait(),
                false => event.set(),
            }
            progress.is(AFTER);
        })
        .begin(|| {
            event.clear();
            progress.is(BEFORE);
        })
        .before_step(|step| {
            if waits && step == WAITED_STEPS {
                event.set();
            }
        });
        sweep(of_event, |kill| {
            if progress.get() == AFTER {
                assert!(event.is_set());
            }
            if waits && kill.steps < WAITED_STEPS {
                assert!(!event.is_set());
            }
            // The other one wakes, also if the victim set it and was killed before it woke anybody.
            event.set();
            assert!(event.wait_timeout(GENEROUS));
            until(|| has_passed.get() == AFTER);
            event.clear();
            until(|| has_passed.get() == BEFORE);
            event.set();
            until(|| has_passed.get() == AFTER);
            true
        });
    }
}

#[mp::test]
fn promise_12_a_barrier_can_be_used_again_whoever_is_killed_at_it() {
    let _alone = sweep::alone();
    let barrier = Shared::new(Barrier::new(2)).unwrap();
    let other = Shared::new(Barrier::new(1)).unwrap();
    let progress = Progress::new();
    let [comings, passes, breaks, may_come] =
        [(); 4].map(|()| Shared::new(AtomicU64::new(0)).unwrap());
    let _companion = Companion::start(|| {
        until(|| may_come.load(Ordering::SeqCst) > comings.load(Ordering::SeqCst));
        comings.fetch_add(1, Ordering::SeqCst);
        match barrier.wait() {
            Ok(_) => passes.fetch_add(1, Ordering::SeqCst),
            Err(_) => breaks.fetch_add(1, Ordering::SeqCst),
        };
    });
    let come = || {
        may_come.fetch_add(1, Ordering::SeqCst);
    };
    let has_gone = || {
        let gone = passes.load(Ordering::SeqCst) + breaks.load(Ordering::SeqCst);
        gone == may_come.load(Ordering::SeqCst)
    };
    // The victim comes first, and the other one when it waits, or the other way round.
    for is_first in [true, false] {
        let passed_before = Cell::new(0);
        let of_wait = Sweep::of(|| {
            barrier.wait().unwrap();
            progress.is(AFTER);
        })
        .begin(|| {
            progress.is(BEFORE);
            passed_before.set(passes.load(Ordering::SeqCst));
            if !is_first {
                come();
                // That somebody waits is told by no method.
                until(|| format!("{barrier:?}").contains("waiting: 1"));
            }
        })
        .warm(|| drop(other.wait()))
        .before_step(|step| {
            if is_first && step == WAITED_STEPS {
                come();
            }
        });
        sweep(of_wait, |kill| {
            if is_first && kill.steps < WAITED_STEPS {
                come();
            }
            if progress.get() == AFTER {
                until(has_gone);
                assert_eq!(passes.load(Ordering::SeqCst), passed_before.get() + 1);
            }
            // One that was killed before it came is missed by nobody.
            barrier.abort();
            until(has_gone);
            assert!(barrier.is_broken());
            barrier.reset().unwrap();
            assert!(!barrier.is_broken());
            let passed = passes.load(Ordering::SeqCst);
            come();
            barrier.wait().unwrap();
            until(has_gone);
            assert_eq!(passes.load(Ordering::SeqCst), passed + 1);
            // So that the companion and this test are not missed as parties of a victim.
            barrier.reset().unwrap();
            true
        });
    }
}

#[mp::test]
fn promise_12_what_is_done_once_is_done_again_after_a_kill_and_not_otherwise() {
    let _alone = sweep::alone();
    let new = || Shared::new((Once::new(), AtomicU32::new(0))).unwrap();
    let once = RefCell::new(new());
    let progress = Progress::new();
    let of_once = Sweep::of(|| {
        let once = once.borrow();
        once.0.call_once(|| {
            once.1.fetch_add(1, Ordering::SeqCst);
            progress.is(INSIDE);
        });
        progress.is(AFTER);
    })
    .begin(|| {
        once.replace(new());
        progress.is(BEFORE);
    })
    .warm(|| new().0.call_once(|| {}));
    sweep(of_once, |_| {
        let once = once.borrow();
        let was_complete = once.0.is_completed();
        let before = once.1.load(Ordering::SeqCst);
        once.0.call_once(|| {
            once.1.fetch_add(1, Ordering::SeqCst);
        });
        assert!(once.0.is_completed());
        let again = once.1.load(Ordering::SeqCst) - before;
        assert_eq!(again, u32::from(!was_complete));
        assert!(was_complete || progress.get() != AFTER);
        assert!(before <= 1);
        again == 1 && before == 1
    });
}

#[mp::test]
fn promise_12_a_value_is_made_once_and_whole_whoever_is_killed_while_it_makes_it() {
    let _alone = sweep::alone();
    let new = || Shared::new(OnceLock::<(u64, char, u64)>::new()).unwrap();
    let value = RefCell::new(new());
    let progress = Progress::new();
    let of_value = Sweep::of(|| {
        let value = value.borrow();
        value.get_or_init(|| {
            progress.is(INSIDE);
            (2, '2', 2)
        });
        progress.is(AFTER);
    })
    .begin(|| {
        value.replace(new());
        progress.is(BEFORE);
    })
    .warm(|| new().set((1, '1', 1)).unwrap());
    sweep(of_value, |_| {
        let value = value.borrow();
        let seen = value.get().copied();
        assert!(seen.is_none_or(|seen| seen == (2, '2', 2)), "{seen:?}");
        assert!(seen.is_some() || progress.get() != AFTER);
        let made = *value.get_or_init(|| (3, '3', 3));
        assert_eq!(made, seen.unwrap_or((3, '3', 3)));
        assert_eq!(value.get(), Some(&made));
        assert!(value.set((4, '4', 4)).is_err());
        seen.is_none()
    });
}

#[mp::test]
fn promise_12_a_reentrant_mutex_outlives_whoever_is_killed_at_any_depth() {
    let _alone = sweep::alone();
    let lock = Shared::new(ReentrantMutex::new((Cell::new(1_u64), Cell::new(1_u64)))).unwrap();
    let other = Shared::new(ReentrantMutex::new(0_u64)).unwrap();
    let progress = Progress::new();
    let of_nesting = || {
        Sweep::of(|| {
            let outer = lock.lock().unwrap();
            progress.is(INSIDE);
            outer.0.set(2);
            let inner = lock.lock().unwrap();
            inner.1.set(2);
            drop(outer);
            assert_eq!(inner.0.get(), 2);
            progress.is(LEAVING);
            drop(inner);
            progress.is(AFTER);
        })
        .begin(|| progress.is(BEFORE))
        .warm(|| other.set(1).unwrap())
    };
    sweep_until_inside(of_nesting, |kill| {
        let (guard, cause) = match lock.lock_timeout(GENEROUS) {
            Ok(guard) => (guard, None),
            Err(TryLockError::Poisoned(poisoned)) => match poisoned.cause() {
                PoisonCause::OwnerDied { pid } => (poisoned.into_inner(), Some(pid)),
                other => panic!("{other:?}"),
            },
            Err(other) => panic!("{other:?}"),
        };
        let found = (guard.0.replace(1), guard.1.replace(1));
        lock.clear_poison();
        let inner = lock.lock().unwrap();
        drop(guard);
        drop(inner);
        assert!(!lock.is_locked());
        check_pair(kill, progress.get(), found, cause);
        cause.is_some()
    });
}
