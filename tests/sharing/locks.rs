//! Locks in memory that processes share, and owners that do not come to their end.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::hint::black_box;
use std::num::NonZero;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mp::prelude::*;
use mp::sync::{Mutex, PoisonCause, TryLockError};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, raise};
use serde::{Deserialize, Serialize};

use crate::interruption::be_interrupted;
use crate::watchdog::{until, within};

const LIMIT: Duration = Duration::from_secs(120);
/// How long somebody waits for what must not be waited for: long enough for any machine.
const GENEROUS: Duration = Duration::from_secs(60);

type Flag = Shared<AtomicU32>;

fn flag() -> Flag {
    Shared::new(AtomicU32::new(0)).unwrap()
}

fn raised(flag: &Flag) -> bool {
    flag.load(Ordering::SeqCst) != 0
}

/// Goes on for ever, and is killed some time.
fn linger() -> ! {
    loop {
        thread::park();
    }
}

/// How a holder of a lock can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum End {
    Killed,
    Abort,
    StackOverflow,
    Exit,
    ExitInThread,
    Segfault,
}

const ENDS: [End; 6] = [
    End::Killed,
    End::Abort,
    End::StackOverflow,
    End::Exit,
    End::ExitInThread,
    End::Segfault,
];

fn overflow(depth: u64) -> u64 {
    let room = [depth; 64];
    if black_box(depth) == u64::MAX {
        return 0;
    }
    overflow(depth + 1) + black_box(room)[7]
}

fn meet(end: End) {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).expect("a limit can be lowered");
    match end {
        End::Killed => raise(Signal::SIGKILL).expect("a process can signal itself"),
        End::Abort => std::process::abort(),
        End::StackOverflow => drop(black_box(overflow(0))),
        End::Exit => std::process::exit(0),
        End::ExitInThread => {
            thread::spawn(|| std::process::exit(0));
            linger();
        }
        End::Segfault => loop {
            raise(Signal::SIGSEGV).expect("a process can signal itself");
        },
    }
}

#[mp::process_fn]
fn die_with(lock: Value<u64>, end: End) {
    let mut guard = lock.lock().unwrap();
    *guard = 7;
    meet(end);
}

#[mp::test]
fn promise_11_the_next_owner_is_told_however_the_one_before_ended() {
    within(LIMIT, || {
        for end in ENDS {
            let lock = mp::shared!(0_u64).unwrap();
            let process = mp::spawn!(die_with(lock.clone(), end)).unwrap();
            let pid = process.id();
            process.join().unwrap_err();
            let poisoned = lock.lock().unwrap_err();
            assert_eq!(poisoned.cause(), PoisonCause::OwnerDied { pid }, "{end:?}");
            assert_eq!(poisoned.kind(), ErrorKind::Poisoned);
            assert_eq!(*poisoned.into_inner(), 7, "{end:?}");
        }
    });
}

#[mp::test]
fn promise_11_a_dead_holder_is_as_good_as_none_for_those_who_do_not_wait() {
    within(LIMIT, || {
        for end in ENDS {
            let lock = mp::shared!(0_u64).unwrap();
            let process = mp::spawn!(die_with(lock.clone(), end)).unwrap();
            let cause = PoisonCause::OwnerDied { pid: process.id() };
            process.join().unwrap_err();
            let Err(TryLockError::Poisoned(poisoned)) = lock.try_lock() else {
                panic!("{end:?}: a dead process has it");
            };
            assert_eq!(poisoned.cause(), cause);
            drop(poisoned);
            // Until somebody says that it is in order it stays poisoned, for whoever asks.
            let Err(TryLockError::Poisoned(poisoned)) = lock.lock_timeout(Duration::ZERO) else {
                panic!("{end:?}: it was given back");
            };
            assert_eq!(poisoned.cause(), cause);
        }
    });
}

#[mp::process_fn]
fn hold(lock: Value<u64>, has_it: Flag) {
    let mut guard = lock.lock().unwrap();
    *guard = 7;
    has_it.store(1, Ordering::SeqCst);
    linger();
}

/// Takes the lock once, and tells who had died with it.
#[mp::process_fn]
fn take(lock: Value<u64>, comes: Flag) -> Option<u32> {
    comes.fetch_add(1, Ordering::SeqCst);
    match lock.lock() {
        Ok(mut guard) => {
            *guard += 1;
            None
        }
        Err(poisoned) => match poisoned.cause() {
            PoisonCause::OwnerDied { pid } => {
                let mut guard = poisoned.into_inner();
                assert_eq!(*guard, 7, "nobody was there in between");
                *guard = 1;
                lock.clear_poison();
                Some(pid)
            }
            other => panic!("{other:?}"),
        },
    }
}

#[mp::test]
fn promise_11_of_many_waiters_one_is_told_and_all_get_the_lock() {
    within(LIMIT, || {
        for _ in 0..5 {
            let (lock, has_it, comes) = (mp::shared!(0_u64).unwrap(), flag(), flag());
            let holder = mp::spawn!(hold(lock.clone(), has_it.clone())).unwrap();
            let pid = holder.id();
            until(|| raised(&has_it));
            let waiters = [(); 4].map(|()| mp::spawn!(take(lock.clone(), comes.clone())).unwrap());
            until(|| comes.load(Ordering::SeqCst) == 4);
            holder.kill().unwrap();
            let told: Vec<u32> = waiters
                .into_iter()
                .filter_map(|w| w.join().unwrap())
                .collect();
            assert_eq!(told, [pid]);
            assert_eq!(lock.get().unwrap(), 4);
        }
    });
}

#[mp::process_fn]
fn hold_in_a_pool(lock: Value<u64>, pids: Shared<AtomicU32>) {
    let guard = match lock.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    };
    pids.store(std::process::id(), Ordering::SeqCst);
    drop(guard_for_ever(guard));
}

fn guard_for_ever<G>(guard: G) -> G {
    if black_box(true) {
        linger();
    }
    guard
}

#[mp::test]
fn promise_11_killed_workers_of_a_pool_hand_their_locks_on() {
    within(LIMIT, || {
        let pool = Pool::new(3).unwrap();
        let (lock, pid) = (mp::shared!(0_u64).unwrap(), flag());
        let tasks: Vec<_> = (0..6)
            .map(|_| {
                pool.submit(hold_in_a_pool, (lock.clone(), pid.clone()))
                    .unwrap()
            })
            .collect();
        for _ in 0..6 {
            until(|| raised(&pid));
            let holder = pid.swap(0, Ordering::SeqCst);
            let holder = nix::unistd::Pid::from_raw(holder.cast_signed());
            nix::sys::signal::kill(holder, Signal::SIGKILL).unwrap();
        }
        for task in tasks {
            assert_eq!(task.join().unwrap_err().kind(), ErrorKind::Died);
        }
        assert!(lock.lock().is_err());
        lock.clear_poison();
        assert_eq!(lock.get().unwrap(), 0);
    });
}

/// Takes the lock once, whoever had it.
#[mp::process_fn]
fn pass(lock: Value<u64>, comes: Flag) {
    comes.fetch_add(1, Ordering::SeqCst);
    drop(lock.lock());
}

#[mp::test]
fn promise_11_killed_waiters_are_in_nobodys_way() {
    within(LIMIT, || {
        let (lock, comes) = (mp::shared!(0_u64).unwrap(), flag());
        for round in 0..5 {
            comes.store(0, Ordering::SeqCst);
            let guard = lock.lock().unwrap();
            let mut waiters: Vec<_> = (0..5)
                .map(|_| mp::spawn!(pass(lock.clone(), comes.clone())).unwrap())
                .collect();
            until(|| comes.load(Ordering::SeqCst) == 5);
            // Sleeping or hungry by now, or not: they are killed in whatever they do.
            thread::sleep(Duration::from_millis(round));
            let spared = waiters.pop().unwrap();
            for waiter in &waiters {
                waiter.kill().unwrap();
            }
            drop(guard);
            spared.join().unwrap();
            // The killed ones may have had it for a moment, without a trace or with one.
            for waiter in waiters {
                let _ = waiter.join();
            }
            drop(lock.lock_timeout(GENEROUS).or_else(|error| match error {
                TryLockError::Poisoned(poisoned) => Ok(poisoned.into_inner()),
                other => Err(other),
            }));
            lock.clear_poison();
            assert!(lock.try_lock().is_ok(), "nobody is there any more");
        }
    });
}

#[mp::process_fn]
fn forget_in_a_thread(lock: Value<u64>) -> u32 {
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut guard = lock.lock().unwrap();
            *guard = 7;
            std::mem::forget(guard);
        });
    });
    std::process::id()
}

#[mp::test]
fn promise_11_a_guard_that_was_leaked_holds_the_lock_until_its_process_ends() {
    within(LIMIT, || {
        let lock = mp::shared!(0_u64).unwrap();
        let pool = Pool::new(1).unwrap();
        let pid = pool.apply(forget_in_a_thread, (lock.clone(),)).unwrap();
        // Its thread has ended, and may have handed a reference to the value on.
        assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
        let short = Duration::from_millis(150);
        let waited = lock.lock_timeout(short).map(drop);
        assert!(matches!(waited, Err(TryLockError::TimedOut)));
        pool.terminate();
        let poisoned = lock.lock().unwrap_err();
        assert_eq!(poisoned.cause(), PoisonCause::OwnerDied { pid });
        assert_eq!(*poisoned.into_inner(), 7);
    });
}

#[mp::process_fn]
fn hold_in_a_thread_until_told(lock: Value<u64>, has_it: Flag, may_end: Flag) {
    let other = lock.clone();
    let holder = thread::spawn(move || {
        let guard = other.lock().unwrap();
        has_it.store(1, Ordering::SeqCst);
        until(|| raised(&may_end));
        drop(guard);
    });
    holder.join().unwrap();
}

#[mp::test]
fn a_living_thread_keeps_its_lock_whatever_the_others_of_its_process_do() {
    within(LIMIT, || {
        let (lock, has_it, may_end) = (mp::shared!(0_u64).unwrap(), flag(), flag());
        let call = (lock.clone(), has_it.clone(), may_end.clone());
        let holder = mp::Builder::new()
            .spawn(hold_in_a_thread_until_told, call)
            .unwrap();
        until(|| raised(&has_it));
        assert!(lock.is_locked());
        assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
        let start = Instant::now();
        let short = Duration::from_millis(120);
        assert!(matches!(
            lock.lock_timeout(short),
            Err(TryLockError::TimedOut)
        ));
        assert!(start.elapsed() >= short);
        may_end.store(1, Ordering::SeqCst);
        holder.join().unwrap();
        assert_eq!(lock.get().unwrap(), 0);
    });
}

#[mp::process_fn]
fn forget_and_return(lock: Value<u64>) {
    std::mem::forget(lock.lock().unwrap());
}

#[mp::test]
fn promise_11_a_lock_that_was_leaked_comes_back_when_its_process_ends() {
    within(LIMIT, || {
        let lock = mp::shared!(0_u64).unwrap();
        let pool = Pool::new(1).unwrap();
        pool.apply(forget_and_return, (lock.clone(),)).unwrap();
        let pid = pool.workers()[0].id;
        pool.terminate();
        let poisoned = lock.lock().unwrap_err();
        assert_eq!(poisoned.cause(), PoisonCause::OwnerDied { pid });
    });
}

#[mp::process_fn]
fn panic_with(lock: Value<u64>) {
    let mut guard = lock.lock().unwrap();
    *guard = 7;
    panic!("half-way");
}

#[mp::test]
fn a_panic_poisons_until_somebody_says_that_all_is_in_order() {
    within(LIMIT, || {
        let lock = mp::shared!(0_u64).unwrap();
        let pool = Pool::new(1).unwrap();
        pool.apply(panic_with, (lock.clone(),)).unwrap_err();
        let pid = pool.workers()[0].id;
        assert!(lock.is_poisoned());
        assert!(!lock.is_locked());
        let poisoned = lock.lock().unwrap_err();
        assert_eq!(poisoned.cause(), PoisonCause::Panicked { pid });
        let text = poisoned.to_string();
        assert!(
            text.contains(&pid.to_string()) && text.contains("panicked"),
            "{text}"
        );
        drop(poisoned);
        let errors = [
            lock.set(1).unwrap_err(),
            lock.get().unwrap_err(),
            lock.replace(2).unwrap_err(),
            lock.update(|_| unreachable!("it is poisoned")).unwrap_err(),
            mp::locked!(lock => *lock = 3).unwrap_err(),
            pool.apply(panic_with, (lock.clone(),)).unwrap_err(),
        ];
        for error in &errors[..5] {
            assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
            assert_eq!(error.process_id(), Some(pid), "{error}");
        }
        assert!(errors[5].to_string().contains("Poisoned"), "{}", errors[5]);
        assert_eq!(
            *lock.lock().unwrap_err().into_inner(),
            7,
            "nothing was stored"
        );
        lock.clear_poison();
        assert!(!lock.is_poisoned());
        assert_eq!(lock.get().unwrap(), 7);
    });
}

#[mp::process_fn]
fn lock_twice(lock: Value<u64>) -> Vec<String> {
    let guard = lock.lock().unwrap();
    let start = Instant::now();
    let mut kinds = Vec::new();
    let poisoned = lock.lock().unwrap_err();
    assert_eq!(poisoned.kind(), ErrorKind::WouldDeadlock);
    drop(poisoned);
    kinds.push(lock.set(1).unwrap_err().kind());
    kinds.push(Error::from(lock.lock_timeout(GENEROUS).unwrap_err()).kind());
    kinds.push(mp::locked!(lock => *lock = 1).unwrap_err().kind());
    kinds.push(Error::from(lock.try_lock().unwrap_err()).kind());
    drop(guard);
    kinds.push(
        mp::locked!(one = lock, two = lock => *one += *two)
            .unwrap_err()
            .kind(),
    );
    assert!(start.elapsed() < GENEROUS, "nothing was waited for");
    assert_eq!(lock.get().unwrap(), 0);
    kinds.iter().map(|kind| format!("{kind:?}")).collect()
}

#[mp::test]
fn to_lock_again_what_one_has_is_an_error_and_no_hang() {
    within(LIMIT, || {
        let lock = mp::shared!(0_u64).unwrap();
        let deadlock = "WouldDeadlock";
        let expected = [deadlock, deadlock, deadlock, "TimedOut", deadlock];
        assert_eq!(lock_twice(lock.clone()), expected);
        assert_eq!(
            mp::spawn!(lock_twice(lock.clone()))
                .unwrap()
                .join()
                .unwrap(),
            expected
        );
    });
}

#[mp::process_fn]
fn wait_while_interrupted(lock: Value<u64>, comes: Flag) -> u64 {
    be_interrupted();
    let start = Instant::now();
    let short = Duration::from_millis(100);
    let late = lock.lock_timeout(short);
    assert!(
        matches!(late, Err(TryLockError::TimedOut)),
        "the test has it"
    );
    drop(late);
    assert!(start.elapsed() >= short, "a signal ended the wait");
    comes.fetch_add(1, Ordering::SeqCst);
    lock.update(|count| {
        *count += 1;
        *count
    })
    .unwrap()
}

#[mp::test]
fn promise_25_a_signal_ends_no_wait_for_a_lock() {
    within(LIMIT, || {
        let (lock, comes) = (mp::shared!(0_u64).unwrap(), flag());
        let guard = lock.lock().unwrap();
        let waiters = [(); 3]
            .map(|()| mp::spawn!(wait_while_interrupted(lock.clone(), comes.clone())).unwrap());
        until(|| comes.load(Ordering::SeqCst) == 3);
        thread::sleep(Duration::from_millis(20));
        assert_eq!(*guard, 0, "the lock is ours");
        drop(guard);
        let mut places = waiters.map(|waiter| waiter.join().unwrap());
        places.sort_unstable();
        assert_eq!(places, [1, 2, 3]);
    });
}

#[mp::process_fn]
fn hammer_while_interrupted(lock: Value<u64>, count: u64) {
    be_interrupted();
    for _ in 0..count {
        lock.update(|total| *total += 1).unwrap();
    }
}

#[mp::test]
fn promise_25_no_signal_makes_two_owners() {
    within(LIMIT, || {
        let lock = mp::shared!(0_u64).unwrap();
        let hammers =
            [(); 3].map(|()| mp::spawn!(hammer_while_interrupted(lock.clone(), 20_000)).unwrap());
        for hammer in hammers {
            hammer.join().unwrap();
        }
        assert_eq!(lock.get().unwrap(), 60_000);
    });
}

/// What has bit patterns that are none of its type, with padding in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Shareable)]
struct Fragile {
    letters: [char; 7],
    small: u8,
    maybe: Option<char>,
    number: NonZero<u64>,
    wide: NonZero<u128>,
    absent: Option<NonZero<u16>>,
}

const EVEN: Fragile = Fragile {
    letters: ['a'; 7],
    small: 0,
    maybe: None,
    number: NonZero::new(0xff).unwrap(),
    wide: NonZero::new(0xff).unwrap(),
    absent: None,
};

const ODD: Fragile = Fragile {
    letters: ['\u{10fffe}'; 7],
    small: 255,
    maybe: Some('\u{ffff}'),
    number: NonZero::new(0xff00_0000_0000_0000).unwrap(),
    wide: NonZero::new(0xff << 120).unwrap(),
    absent: NonZero::new(0x100),
};

#[mp::process_fn]
fn write_for_ever(lock: Value<Fragile>, rounds: Flag) {
    // Who was killed before us has poisoned it.
    let mut guard = match lock.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    };
    loop {
        *guard = black_box(EVEN);
        *guard = black_box(ODD);
        rounds.fetch_add(1, Ordering::SeqCst);
    }
}

#[mp::test]
fn promise_11_what_a_killed_writer_leaves_is_a_value() {
    within(LIMIT, || {
        let lock = mp::shared!(EVEN).unwrap();
        let rounds = flag();
        for _ in 0..40 {
            rounds.store(0, Ordering::SeqCst);
            let writer = mp::spawn!(write_for_ever(lock.clone(), rounds.clone())).unwrap();
            until(|| rounds.load(Ordering::SeqCst) > 0);
            let cause = PoisonCause::OwnerDied { pid: writer.id() };
            writer.kill().unwrap();
            writer.join().unwrap_err();
            let poisoned = lock.lock().unwrap_err();
            assert_eq!(poisoned.cause(), cause);
            let found = *black_box(poisoned.into_inner());
            for letter in found.letters.into_iter().chain(found.maybe) {
                assert!(char::from_u32(black_box(u32::from(letter))).is_some());
            }
            assert!(black_box(found.number.get()) != 0 && black_box(found.wide.get()) != 0);
        }
    });
}

#[mp::process_fn]
fn be_a_hammer(lock: Value<u64>, rounds: Shared<AtomicU64>) {
    loop {
        lock.update(|total| *total += 1).unwrap();
        rounds.fetch_add(1, Ordering::SeqCst);
    }
}

#[mp::test]
fn nobody_starves_beside_two_who_hammer() {
    within(LIMIT, || {
        let lock = mp::shared!(0_u64).unwrap();
        let rounds = [(); 2].map(|()| Shared::new(AtomicU64::new(0)).unwrap());
        let hammers = rounds
            .each_ref()
            .map(|rounds| mp::spawn!(be_a_hammer(lock.clone(), rounds.clone())).unwrap());
        for _ in 0..50 {
            let before = rounds
                .each_ref()
                .map(|rounds| rounds.load(Ordering::SeqCst));
            drop(lock.lock().unwrap());
            drop(lock.lock_timeout(GENEROUS).unwrap());
            // Nor do the two.
            until(|| {
                let now = rounds
                    .each_ref()
                    .map(|rounds| rounds.load(Ordering::SeqCst));
                now.iter().zip(&before).all(|(now, before)| now > before)
            });
        }
        for hammer in hammers {
            hammer.kill().unwrap();
        }
    });
}

mp::shared! {
    static TOTAL: u64 = 0;
    static TALLY: [u32; 5] = [0; 5];
}

#[mp::process_fn]
fn count_everywhere(value: Value<u64>, array: Array<u32>, count: u32) {
    for round in 0..count {
        value.update(|value| *value += 1).unwrap();
        *TOTAL.lock().unwrap() += 1;
        TALLY
            .update(|tally| tally[round as usize % 5] += 1)
            .unwrap();
        let mut items = array.lock().unwrap();
        let len = items.len();
        items[round as usize % len] += 1;
        drop(items);
        if round % 16 == 0 {
            mp::locked!(array, value, total = TOTAL => {
                *value += 1;
                *total += 1;
                array[0] += 1;
            })
            .unwrap();
            mp::locked!(total = TOTAL, value, array => {
                *value += 1;
                *total += 1;
                array[1] += 1;
            })
            .unwrap();
        }
    }
}

#[mp::test]
fn sums_are_exact_however_many_processes_and_threads_add() {
    within(LIMIT, || {
        let (value, array) = (mp::shared!(0_u64).unwrap(), Array::zeroed(9).unwrap());
        const COUNT: u32 = 3200;
        let pool = Pool::new(2).unwrap();
        let calls = (0..4).map(|_| (value.clone(), array.clone(), COUNT));
        thread::scope(|scope| {
            scope.spawn(|| count_everywhere(value.clone(), array.clone(), COUNT));
            pool.starmap(count_everywhere, calls).unwrap();
        });
        let expected = u64::from(5 * (COUNT + 2 * COUNT / 16));
        assert_eq!(value.get().unwrap(), expected);
        assert_eq!(TOTAL.get().unwrap(), expected);
        let items = array.lock().unwrap();
        assert_eq!(items.iter().copied().map(u64::from).sum::<u64>(), expected);
        assert_eq!(TALLY.get().unwrap().iter().sum::<u32>(), 5 * COUNT);
    });
}

/// What many processes do, some of which are killed.
#[derive(Serialize, Deserialize, Clone)]
struct Arena {
    /// Both are equal, unless somebody died between them.
    pair: Value<(u64, u64)>,
    /// For each process, whether it is inside, without doubt.
    inside: Shared<[AtomicU32]>,
    /// Who has poisoned the lock, as far as was told.
    told: Shared<[AtomicU32]>,
    told_count: Flag,
    rounds: Shared<AtomicU64>,
    tears: Flag,
}

#[mp::process_fn]
fn fight(arena: Arena, index: usize) {
    loop {
        let mut pair = match arena.pair.lock() {
            Ok(pair) => pair,
            Err(poisoned) => {
                let PoisonCause::OwnerDied { pid } = poisoned.cause() else {
                    panic!("{poisoned}");
                };
                let mut pair = poisoned.into_inner();
                let place = arena.told_count.fetch_add(1, Ordering::SeqCst);
                arena.told[place as usize].store(pid, Ordering::SeqCst);
                pair.1 = pair.0;
                arena.pair.clear_poison();
                pair
            }
        };
        arena.inside[index].store(1, Ordering::SeqCst);
        if pair.0 != pair.1 {
            arena.tears.store(1, Ordering::SeqCst);
        }
        pair.0 += 1;
        black_box(&mut pair);
        pair.1 += 1;
        arena.inside[index].store(2, Ordering::SeqCst);
        drop(pair);
        arena.inside[index].store(0, Ordering::SeqCst);
        arena.rounds.fetch_add(1, Ordering::SeqCst);
    }
}

#[mp::test]
fn promise_11_every_death_inside_is_told_and_nothing_else_is() {
    const KILLS: usize = 60;
    within(LIMIT, || {
        let slots = || Shared::from_fn(KILLS * 2 + 3, |_| AtomicU32::new(0)).unwrap();
        let arena = Arena {
            pair: mp::shared!((0, 0)).unwrap(),
            inside: slots(),
            told: slots(),
            told_count: flag(),
            rounds: Shared::new(AtomicU64::new(0)).unwrap(),
            tears: flag(),
        };
        let start = |index: usize| mp::spawn!(fight(arena.clone(), index)).unwrap();
        let mut fighters: Vec<_> = (0..3).map(start).collect();
        let (mut died, mut inside) = (Vec::new(), Vec::new());
        for kill in 0..KILLS {
            let before = arena.rounds.load(Ordering::SeqCst);
            until(|| arena.rounds.load(Ordering::SeqCst) > before + 3);
            let victim = fighters.remove(0);
            let pid = victim.id();
            victim.kill().unwrap();
            victim.join().unwrap_err();
            died.push(pid);
            if arena.inside[kill].load(Ordering::SeqCst) == 1 {
                inside.push(pid);
            }
            fighters.push(start(kill + 3));
        }
        let before = arena.rounds.load(Ordering::SeqCst);
        until(|| arena.rounds.load(Ordering::SeqCst) > before + 3);
        for fighter in fighters {
            died.push(fighter.id());
            fighter.kill().unwrap();
            fighter.wait();
        }
        let told_count = arena.told_count.load(Ordering::SeqCst) as usize;
        let told = arena.told[..told_count].iter();
        let told: Vec<u32> = told.map(|pid| pid.load(Ordering::SeqCst)).collect();
        assert_eq!(
            arena.tears.load(Ordering::SeqCst),
            0,
            "half a value came without a word"
        );
        for pid in &inside {
            assert!(told.contains(pid), "{pid} died inside, told were {told:?}");
        }
        let mut once = told.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), told.len(), "{told:?}");
        assert!(
            told.iter().all(|pid| died.contains(pid)),
            "{told:?} {died:?}"
        );
    });
}

/// Locks of ordinary memory, for threads.
#[mp::test]
fn threads_have_the_same_lock_without_shared_memory() {
    static COUNT: Mutex<u64> = Mutex::new(0);
    within(LIMIT, || {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| *COUNT.lock().unwrap() += 1));
            }
        });
        assert_eq!(COUNT.get().unwrap(), 40_000);
    });
}
