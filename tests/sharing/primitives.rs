//! The primitives beside the mutex, between processes: what they keep under load, and when processes
//! are killed in them.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::cell::Cell;
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mp::prelude::*;
use mp::sync::{
    Barrier, Condvar, Event, Mutex, Once, OnceLock, PoisonCause, ReentrantMutex, RwLock, Semaphore,
    TryLockError,
};
use serde::{Deserialize, Serialize};

use crate::interruption;
use crate::watchdog::{until, within};

const LIMIT: Duration = Duration::from_secs(120);
const GENEROUS: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

type Flag = Shared<AtomicU32>;

fn flag() -> Flag {
    Shared::new(AtomicU32::new(0)).unwrap()
}

fn raised(flag: &Flag) -> bool {
    flag.load(Ordering::SeqCst) != 0
}

fn linger() -> ! {
    loop {
        thread::park();
    }
}

fn end_all<R: for<'de> Deserialize<'de> + Send + 'static>(
    processes: impl IntoIterator<Item = Process<R>>,
) {
    for process in processes {
        end(process);
    }
}

/// Kills a process, and waits until it is gone.
fn end<R: for<'de> Deserialize<'de> + Send + 'static>(process: Process<R>) -> u32 {
    process.kill().unwrap();
    process.wait();
    process.id()
}

// Many readers or one writer.

#[derive(Clone, Serialize, Deserialize)]
struct Library {
    pair: Shared<RwLock<(u64, u64)>>,
    readers: Flag,
    writers: Flag,
    rounds: Shared<AtomicU64>,
    faults: Flag,
}

fn library() -> Library {
    Library {
        pair: Shared::new(RwLock::new((0, 0))).unwrap(),
        readers: flag(),
        writers: flag(),
        rounds: Shared::new(AtomicU64::new(0)).unwrap(),
        faults: flag(),
    }
}

impl Library {
    fn demand(&self, holds: bool) {
        self.faults.fetch_add(u32::from(!holds), Ordering::SeqCst);
    }

    fn write(&self) {
        let mut pair = self.pair.write().unwrap();
        self.demand(self.writers.fetch_add(1, Ordering::SeqCst) == 0);
        self.demand(self.readers.load(Ordering::SeqCst) == 0);
        pair.0 += 1;
        black_box(&mut pair);
        pair.1 += 1;
        self.writers.fetch_sub(1, Ordering::SeqCst);
    }

    fn read(&self) {
        let pair = self.pair.read().unwrap();
        self.readers.fetch_add(1, Ordering::SeqCst);
        self.demand(self.writers.load(Ordering::SeqCst) == 0);
        self.demand(pair.0 == pair.1);
        self.readers.fetch_sub(1, Ordering::SeqCst);
    }
}

#[mp::process_fn]
fn read_and_write(library: Library, count: u32) {
    for round in 0..count {
        match round % 4 {
            0 => library.write(),
            1 => {
                let outer = library.pair.read().unwrap();
                library.read();
                drop(outer);
            }
            _ => library.read(),
        }
    }
}

#[mp::test]
fn readers_are_together_and_writers_are_alone() {
    within(LIMIT, || {
        let library = library();
        let others = [(); 3].map(|()| mp::spawn!(read_and_write(library.clone(), 4000)).unwrap());
        read_and_write(library.clone(), 4000);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(library.faults.load(Ordering::SeqCst), 0);
        assert_eq!(library.pair.get().unwrap(), (4000, 4000));
    });
}

#[mp::process_fn]
fn hold_reading(lock: Shared<RwLock<(u64, u64)>>, comes: Flag) {
    let _one = lock.read().unwrap();
    let _two = lock.read().unwrap();
    comes.fetch_add(1, Ordering::SeqCst);
    linger();
}

#[mp::process_fn]
fn hold_writing(lock: Shared<RwLock<(u64, u64)>>, comes: Flag) {
    let mut guard = lock.write().unwrap();
    guard.0 = 7;
    comes.fetch_add(1, Ordering::SeqCst);
    linger();
}

#[mp::test]
fn promise_12_killed_readers_are_in_no_writers_way_and_killed_writers_are_told_of() {
    within(LIMIT, || {
        let lock = library().pair;
        let comes = flag();
        for round in 1..4 {
            let readers =
                [(); 3].map(|()| mp::spawn!(hold_reading(lock.clone(), comes.clone())).unwrap());
            until(|| comes.load(Ordering::SeqCst) == 3);
            assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
            assert!(matches!(
                lock.write_timeout(SHORT),
                Err(TryLockError::TimedOut)
            ));
            // Readers are no obstacle to readers.
            drop(lock.read().unwrap());
            end_all(readers);
            assert!(lock.try_write().is_ok(), "{round}");
            comes.store(0, Ordering::SeqCst);

            let writer = mp::spawn!(hold_writing(lock.clone(), comes.clone())).unwrap();
            until(|| comes.load(Ordering::SeqCst) == 1);
            assert!(matches!(lock.try_read(), Err(TryLockError::WouldBlock)));
            assert!(matches!(
                lock.read_timeout(SHORT),
                Err(TryLockError::TimedOut)
            ));
            let waiter = mp::spawn!(hold_reading(lock.clone(), comes.clone())).unwrap();
            let pid = end(writer);
            // The waiter panics with what it is told, and so ends.
            let error = waiter.join().unwrap_err().to_string();
            assert!(error.contains(&pid.to_string()), "{error}");
            let poisoned = lock.read().unwrap_err();
            assert_eq!(poisoned.cause(), PoisonCause::OwnerDied { pid });
            assert_eq!(poisoned.into_inner().0, 7);
            let mut guard = lock.write().unwrap_err().into_inner();
            *guard = (0, 0);
            lock.clear_poison();
            drop(guard);
            assert_eq!(lock.get().unwrap(), (0, 0));
            comes.store(0, Ordering::SeqCst);
        }
    });
}

#[mp::process_fn]
fn read_or_write_for_ever(library: Library, writes: bool) {
    loop {
        let poisoned = match writes {
            true => match library.pair.write() {
                Ok(mut pair) => {
                    library.demand(pair.0 == pair.1);
                    pair.0 += 1;
                    black_box(&mut pair);
                    pair.1 += 1;
                    false
                }
                Err(poisoned) => {
                    let mut pair = poisoned.into_inner();
                    pair.1 = pair.0;
                    library.pair.clear_poison();
                    false
                }
            },
            false => match library.pair.read() {
                Ok(pair) => {
                    library.demand(pair.0 == pair.1);
                    false
                }
                Err(_) => true,
            },
        };
        if !poisoned {
            library.rounds.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[mp::test]
fn promise_12_a_rwlock_survives_any_number_of_kills() {
    within(LIMIT, || {
        let library = library();
        let start = |n: usize| {
            mp::spawn!(read_or_write_for_ever(library.clone(), n.is_multiple_of(2))).unwrap()
        };
        let mut processes: Vec<_> = (0..4).map(start).collect();
        for n in 0..40 {
            let before = library.rounds.load(Ordering::SeqCst);
            until(|| library.rounds.load(Ordering::SeqCst) > before + 5);
            end(processes.remove(0));
            processes.push(start(n));
        }
        let before = library.rounds.load(Ordering::SeqCst);
        until(|| library.rounds.load(Ordering::SeqCst) > before + 5);
        end_all(processes);
        assert_eq!(library.faults.load(Ordering::SeqCst), 0);
        let mut guard = match library.pair.write() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        };
        guard.0 = 0;
    });
}

// Permits.

#[mp::process_fn]
fn use_permits(semaphore: Shared<Semaphore>, inside: Flag, most: u32, count: u32) -> u32 {
    let mut faults = 0;
    for round in 0..count {
        let enter = || inside.fetch_add(1, Ordering::SeqCst) < most;
        if round % 2 == 0 {
            let permit = semaphore.permit().unwrap();
            faults += u32::from(!enter());
            inside.fetch_sub(1, Ordering::SeqCst);
            drop(permit);
        } else {
            semaphore.acquire().unwrap();
            faults += u32::from(!enter());
            inside.fetch_sub(1, Ordering::SeqCst);
            semaphore.release().unwrap();
        }
    }
    faults
}

#[mp::test]
fn no_more_are_inside_than_there_are_permits() {
    within(LIMIT, || {
        for most in [1, 2] {
            let semaphore = Shared::new(Semaphore::bounded(most)).unwrap();
            let inside = flag();
            let others = [(); 3].map(|()| {
                mp::spawn!(use_permits(semaphore.clone(), inside.clone(), most, 2000)).unwrap()
            });
            let faults = use_permits(semaphore.clone(), inside.clone(), most, 2000);
            let faults = others
                .map(|other| other.join().unwrap())
                .iter()
                .sum::<u32>()
                + faults;
            assert_eq!(faults, 0);
            assert_eq!(semaphore.value().unwrap(), most);
        }
    });
}

#[mp::process_fn]
fn hold_permits(semaphore: Shared<Semaphore>, comes: Flag) {
    let _one = semaphore.permit().unwrap();
    let _two = semaphore.permit().unwrap();
    comes.fetch_add(1, Ordering::SeqCst);
    linger();
}

#[mp::process_fn]
fn wait_for_a_permit(semaphore: Shared<Semaphore>, comes: Flag) {
    comes.fetch_add(1, Ordering::SeqCst);
    drop(semaphore.permit().unwrap());
}

#[mp::test]
fn promise_12_permits_of_the_dead_come_back_to_those_who_wait() {
    within(LIMIT, || {
        let semaphore = Shared::new(Semaphore::bounded(4)).unwrap();
        for _ in 0..5 {
            let (holds, waits) = (flag(), flag());
            let holders = [(); 2]
                .map(|()| mp::spawn!(hold_permits(semaphore.clone(), holds.clone())).unwrap());
            until(|| holds.load(Ordering::SeqCst) == 2);
            assert_eq!(semaphore.value().unwrap(), 0);
            assert!(semaphore.try_permit().is_err());
            let late = semaphore.permit_timeout(SHORT).map(drop).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::TimedOut);
            let mut waiters = [(); 4]
                .map(|()| mp::spawn!(wait_for_a_permit(semaphore.clone(), waits.clone())).unwrap())
                .into_iter();
            until(|| waits.load(Ordering::SeqCst) == 4);
            // Waiters that are killed are in nobody's way either.
            end(waiters.next().unwrap());
            end_all(holders);
            waiters.for_each(|waiter| waiter.join().unwrap());
            assert_eq!(semaphore.value().unwrap(), 4);
        }
        assert!(semaphore.release().is_err(), "it is bounded");
    });
}

// Conditions.

#[derive(Clone, Serialize, Deserialize)]
struct Jobs {
    waiting: Value<u32>,
    has_jobs: Shared<Condvar>,
    done: Shared<AtomicU64>,
}

fn jobs() -> Jobs {
    Jobs {
        waiting: mp::shared!(0).unwrap(),
        has_jobs: Shared::new(Condvar::new()).unwrap(),
        done: Shared::new(AtomicU64::new(0)).unwrap(),
    }
}

#[mp::process_fn]
fn take_jobs(jobs: Jobs) {
    loop {
        let guard = match jobs.waiting.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        };
        let waited = jobs.has_jobs.wait_while(guard, |waiting| *waiting == 0);
        let mut guard = match waited {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        };
        if *guard > 0 {
            *guard -= 1;
            drop(guard);
            jobs.done.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[mp::test]
fn every_job_that_is_notified_is_done() {
    within(LIMIT, || {
        let jobs = jobs();
        let takers = [(); 3].map(|()| mp::spawn!(take_jobs(jobs.clone())).unwrap());
        for round in 0..2000 {
            jobs.waiting.update(|waiting| *waiting += 1).unwrap();
            match round % 3 {
                0 => jobs.has_jobs.notify_one(),
                1 => jobs.has_jobs.notify_n(2),
                _ => jobs.has_jobs.notify_all(),
            }
        }
        until(|| jobs.done.load(Ordering::SeqCst) == 2000);
        // One at a time, so that each notification counts.
        for round in 2001..2300 {
            jobs.waiting.update(|waiting| *waiting += 1).unwrap();
            jobs.has_jobs.notify_one();
            until(|| jobs.done.load(Ordering::SeqCst) == round);
        }
        end_all(takers);
    });
}

#[mp::test]
fn promise_12_a_notification_is_never_lost_to_the_dead() {
    within(LIMIT, || {
        let jobs = jobs();
        let start = || mp::spawn!(take_jobs(jobs.clone())).unwrap();
        let survivor = start();
        let mut others = vec![start(), start()];
        for _ in 0..40 {
            let victim = others.remove(0);
            let add = || match jobs.waiting.lock() {
                Ok(mut guard) => *guard = 1,
                Err(poisoned) => *poisoned.into_inner() = 1,
            };
            add();
            jobs.has_jobs.notify_one();
            // Whether it is notified, or dies first, somebody takes the job.
            end(victim);
            until(|| match jobs.waiting.lock() {
                Ok(guard) => *guard == 0,
                Err(poisoned) => *poisoned.into_inner() == 0,
            });
            jobs.waiting.clear_poison();
            others.push(start());
        }
        end_all(others);
        end(survivor);
    });
}

#[mp::test]
fn a_wait_for_a_condition_ends_in_time_and_not_before() {
    within(LIMIT, || {
        let jobs = jobs();
        let start = Instant::now();
        let guard = jobs.waiting.lock().unwrap();
        let waited = jobs
            .has_jobs
            .wait_timeout_while(guard, SHORT, |waiting| *waiting == 0);
        let (guard, result) = waited.unwrap();
        assert!(result.timed_out());
        assert!(start.elapsed() >= SHORT);
        assert_eq!(*guard, 0);
    });
}

// Events.

#[mp::process_fn]
fn wait_for_events(go: Shared<Event>, done: Shared<Event>, count: u32) -> u32 {
    let mut seen = 0;
    for _ in 0..count {
        go.wait();
        go.clear();
        seen += 1;
        done.set();
    }
    seen
}

#[mp::test]
fn events_wake_whoever_waits() {
    within(LIMIT, || {
        let [go, done] = [(); 2].map(|()| Shared::new(Event::new()).unwrap());
        let other = mp::spawn!(wait_for_events(go.clone(), done.clone(), 2000)).unwrap();
        for _ in 0..2000 {
            go.set();
            done.wait();
            done.clear();
        }
        assert_eq!(other.join().unwrap(), 2000);
        assert!(!go.wait_timeout(SHORT));
    });
}

#[mp::process_fn]
fn wait_for_an_event(event: Shared<Event>, comes: Flag) {
    comes.fetch_add(1, Ordering::SeqCst);
    event.wait();
}

#[mp::process_fn]
fn flicker(event: Shared<Event>) {
    loop {
        event.set();
        event.clear();
    }
}

#[mp::test]
fn promise_12_an_event_survives_killed_waiters_and_setters() {
    within(LIMIT, || {
        let event = Shared::new(Event::new()).unwrap();
        for _ in 0..10 {
            event.clear();
            let comes = flag();
            let waiters = [(); 3]
                .map(|()| mp::spawn!(wait_for_an_event(event.clone(), comes.clone())).unwrap());
            until(|| comes.load(Ordering::SeqCst) == 3);
            let [first, second, third] = waiters;
            end(first);
            let setter = mp::spawn!(flicker(event.clone())).unwrap();
            // Set and cleared at once is seen as well.
            second.join().unwrap();
            end(setter);
            event.set();
            third.join().unwrap();
        }
    });
}

// Barriers.

#[mp::process_fn]
fn step_together(barrier: Shared<Barrier>, steps: Shared<[AtomicU32]>, index: usize) -> u32 {
    let mut led = 0;
    for round in 1..=500 {
        steps[index].store(round, Ordering::SeqCst);
        led += u32::from(barrier.wait().unwrap().is_leader());
        assert!(
            steps
                .iter()
                .all(|step| step.load(Ordering::SeqCst) >= round)
        );
        led += 1000 * u32::from(barrier.wait().unwrap().is_leader());
    }
    led
}

#[mp::test]
fn nobody_passes_a_barrier_before_the_others_have_come() {
    within(LIMIT, || {
        let barrier = Shared::new(Barrier::new(3)).unwrap();
        let steps = Shared::from_fn(3, |_| AtomicU32::new(0)).unwrap();
        let others = [1, 2]
            .map(|index| mp::spawn!(step_together(barrier.clone(), steps.clone(), index)).unwrap());
        let led = step_together(barrier.clone(), steps.clone(), 0);
        let led = led
            + others
                .map(|other| other.join().unwrap())
                .iter()
                .sum::<u32>();
        // Each generation had one leader.
        assert_eq!(led, 500 + 500_000);
    });
}

#[mp::process_fn]
fn come(barrier: Shared<Barrier>) -> Option<(String, Option<u32>)> {
    let error = barrier.wait().err()?;
    Some((format!("{:?}", error.kind()), error.process_id()))
}

#[mp::test]
fn promise_12_a_party_that_dies_breaks_the_barrier_for_all() {
    within(LIMIT, || {
        let barrier = Shared::new(Barrier::new(4)).unwrap();
        for round in 0..5 {
            let count_waiting = || {
                let text = format!("{barrier:?}");
                (0..4)
                    .find(|n| text.contains(&format!("waiting: {n}")))
                    .unwrap()
            };
            let victim = mp::spawn!(come(barrier.clone())).unwrap();
            until(|| count_waiting() == 1);
            let others = [(); 2].map(|()| mp::spawn!(come(barrier.clone())).unwrap());
            if round % 2 == 0 {
                until(|| count_waiting() == 3);
            }
            let pid = end(victim);
            for other in others {
                let told = other.join().unwrap();
                assert_eq!(told, Some(("Poisoned".into(), Some(pid))));
            }
            let error = barrier.wait().unwrap_err();
            assert_eq!(
                (error.kind(), error.process_id()),
                (ErrorKind::Poisoned, Some(pid))
            );
            assert!(barrier.is_broken());
            barrier.reset().unwrap();
            let others = [(); 3].map(|()| mp::spawn!(come(barrier.clone())).unwrap());
            barrier.wait().unwrap();
            assert!(
                others
                    .into_iter()
                    .all(|other| other.join().unwrap().is_none())
            );
            barrier.reset().unwrap();
        }
        let error = barrier.wait_timeout(SHORT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(barrier.is_broken());
    });
}

#[mp::test]
fn an_aborted_barrier_lets_everybody_go() {
    within(LIMIT, || {
        let barrier = Shared::new(Barrier::new(4)).unwrap();
        let others = [(); 3].map(|()| mp::spawn!(come(barrier.clone())).unwrap());
        until(|| format!("{barrier:?}").contains("waiting: 3"));
        barrier.abort();
        assert!(
            others
                .into_iter()
                .all(|other| other.join().unwrap().is_some())
        );
    });
}

#[mp::process_fn]
fn come_late(barrier: Shared<Barrier>) -> bool {
    thread::sleep(3 * SHORT);
    barrier.wait().is_ok()
}

#[mp::test]
fn a_party_that_exits_in_order_may_be_replaced_at_a_barrier() {
    within(LIMIT, || {
        let barrier = Shared::new(Barrier::new(2)).unwrap();
        for _ in 0..5 {
            let other = mp::spawn!(come_late(barrier.clone())).unwrap();
            barrier.wait().unwrap();
            assert!(other.join().unwrap());
        }
    });
}

#[mp::process_fn]
fn come_and_linger(barrier: Shared<Barrier>) {
    barrier.wait().unwrap();
    linger();
}

#[mp::process_fn]
fn come_and_exit(barrier: Shared<Barrier>) {
    barrier.wait().unwrap();
    // What it has is not dropped.
    std::process::exit(0);
}

#[mp::test]
fn a_party_that_is_killed_between_two_waits_breaks_the_barrier() {
    within(LIMIT, || {
        // With another party that exits in order and is replaced, it is missed all the same.
        let barrier = Shared::new(Barrier::new(3)).unwrap();
        let victim = mp::spawn!(come_and_linger(barrier.clone())).unwrap();
        let leaver = mp::spawn!(come_and_exit(barrier.clone())).unwrap();
        barrier.wait().unwrap();
        leaver.wait();
        let waiter = barrier.wait_timeout(4 * SHORT);
        // Nobody has died yet but the one that may: its time alone is over.
        assert_eq!(waiter.unwrap_err().kind(), ErrorKind::TimedOut);
        barrier.reset().unwrap();
        end(victim);

        let victim = mp::spawn!(come_and_linger(barrier.clone())).unwrap();
        let leaver = mp::spawn!(come_and_exit(barrier.clone())).unwrap();
        barrier.wait().unwrap();
        leaver.wait();
        let other = mp::spawn!(come(barrier.clone())).unwrap();
        let pid = end(victim);
        let error = barrier.wait().unwrap_err();
        assert_eq!(
            (error.kind(), error.process_id()),
            (ErrorKind::Poisoned, Some(pid))
        );
        assert!(other.join().unwrap().is_some());
    });
}

// What is done once.

#[mp::process_fn]
fn do_once(
    once: Shared<Once>,
    count: Flag,
    value: Shared<OnceLock<(u64, u64)>>,
    own: u64,
) -> (u64, u64) {
    once.call_once(|| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    assert_eq!(
        count.load(Ordering::SeqCst),
        1,
        "it has returned, so it is done"
    );
    *value.get_or_init(|| (own, own))
}

#[mp::test]
fn of_many_one_does_it_and_all_see_it() {
    within(LIMIT, || {
        let pool = Pool::new(3).unwrap();
        for round in 0..100 {
            let once = Shared::new(Once::new()).unwrap();
            let (count, value) = (flag(), Shared::new(OnceLock::new()).unwrap());
            let calls = (1..7).map(|own| (once.clone(), count.clone(), value.clone(), own));
            let seen = pool.starmap(do_once, calls).unwrap();
            let first = seen[0];
            assert!(first.0 > 0 && first.0 == first.1, "{round}");
            assert!(seen.iter().all(|&one| one == first));
            assert_eq!(value.get(), Some(&first));
            assert!(value.set((0, 0)).is_err());
        }
    });
}

#[mp::process_fn]
fn begin_and_linger(value: Shared<OnceLock<(u64, u64)>>, once: Shared<Once>, comes: Flag) {
    value.get_or_init(|| {
        once.call_once(|| {
            comes.store(1, Ordering::SeqCst);
            linger();
        });
        (1, 1)
    });
}

#[mp::process_fn]
fn make(value: Shared<OnceLock<(u64, u64)>>) -> (u64, u64) {
    *value.get_or_init(|| (2, 2))
}

#[mp::test]
fn promise_12_what_a_killed_process_began_is_done_by_those_who_wait() {
    within(LIMIT, || {
        for _ in 0..5 {
            let value = Shared::new(OnceLock::new()).unwrap();
            let (once, comes) = (Shared::new(Once::new()).unwrap(), flag());
            let call = begin_and_linger_call(&value, &once, &comes);
            until(|| raised(&comes));
            assert_eq!(value.get(), None);
            let waiters = [(); 3].map(|()| mp::spawn!(make(value.clone())).unwrap());
            end(call);
            assert!(
                waiters
                    .into_iter()
                    .all(|waiter| waiter.join().unwrap() == (2, 2))
            );
            let mut count = 0;
            once.call_once(|| count += 1);
            assert_eq!(count, 1);
        }
    });
}

fn begin_and_linger_call(
    value: &Shared<OnceLock<(u64, u64)>>,
    once: &Shared<Once>,
    comes: &Flag,
) -> Process<()> {
    mp::spawn!(begin_and_linger(value.clone(), once.clone(), comes.clone())).unwrap()
}

// The lock that one thread takes many times.

#[mp::process_fn]
fn nest(lock: Shared<ReentrantMutex<Cell<u64>>>, count: u32) {
    for _ in 0..count {
        let outer = lock.lock().unwrap();
        let before = outer.get();
        let inner = lock.lock().unwrap();
        inner.set(before + 1);
        drop(outer);
        let again = lock.try_lock().unwrap();
        assert_eq!(again.get(), before + 1);
        drop(inner);
        again.set(before + 2);
    }
}

#[mp::test]
fn a_reentrant_mutex_is_one_threads_at_any_depth() {
    within(LIMIT, || {
        let lock = Shared::new(ReentrantMutex::new(Cell::new(0))).unwrap();
        let others = [(); 2].map(|()| mp::spawn!(nest(lock.clone(), 3000)).unwrap());
        nest(lock.clone(), 3000);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(lock.lock().unwrap().get(), 18_000);
    });
}

#[mp::process_fn]
fn hold_nested(lock: Shared<ReentrantMutex<Cell<u64>>>, comes: Flag) {
    let outer = lock.lock().unwrap();
    let _inner = lock.lock().unwrap();
    outer.set(7);
    comes.store(1, Ordering::SeqCst);
    linger();
}

#[mp::test]
fn promise_12_a_reentrant_mutex_outlives_its_owner() {
    within(LIMIT, || {
        let lock = Shared::new(ReentrantMutex::new(Cell::new(0))).unwrap();
        let comes = flag();
        let holder = mp::spawn!(hold_nested(lock.clone(), comes.clone())).unwrap();
        until(|| raised(&comes));
        assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
        assert!(matches!(
            lock.lock_timeout(SHORT),
            Err(TryLockError::TimedOut)
        ));
        let pid = end(holder);
        let poisoned = lock.lock().unwrap_err();
        assert_eq!(poisoned.cause(), PoisonCause::OwnerDied { pid });
        assert_eq!(poisoned.into_inner().get(), 7);
        lock.clear_poison();
        nest(lock.clone(), 3);
        assert_eq!(lock.lock().unwrap().get(), 13);
    });
}

// All of them, in one value and interrupted.

#[derive(Shareable)]
struct Everything {
    mutex: Mutex<u64>,
    rwlock: RwLock<u64>,
    reentrant: ReentrantMutex<u64>,
    semaphore: Semaphore,
    event: Event,
    condvar: Condvar,
    barrier: Barrier,
    once: Once,
    cell: OnceLock<u64>,
}

#[mp::process_fn]
fn use_everything(all: Shared<Everything>, is_first: bool) {
    for round in 0..200 {
        all.mutex.update(|n| *n += 1).unwrap();
        all.rwlock.update(|n| *n += 1).unwrap();
        all.reentrant.update(|n| *n += 1).unwrap();
        drop(all.semaphore.permit().unwrap());
        all.once.call_once(|| {});
        assert_eq!(*all.cell.get_or_init(|| 5), 5);
        all.barrier.wait().unwrap();
        match is_first {
            true => {
                let guard = all.mutex.lock().unwrap();
                drop(
                    all.condvar
                        .wait_while(guard, |n| *n < 3 * (round + 1))
                        .unwrap(),
                );
                all.event.set();
            }
            false => {
                all.mutex.update(|n| *n += 1).unwrap();
                all.condvar.notify_all();
                all.event.wait();
            }
        }
        all.barrier.wait().unwrap();
        if is_first {
            all.event.clear();
        }
        all.barrier.wait().unwrap();
    }
}

#[mp::process_fn]
fn use_everything_interrupted(all: Shared<Everything>, is_first: bool) {
    interruption::be_interrupted();
    use_everything(all, is_first);
}

fn everything() -> Shared<Everything> {
    let all = Everything {
        mutex: Mutex::new(0),
        rwlock: RwLock::new(0),
        reentrant: ReentrantMutex::new(0),
        semaphore: Semaphore::new(1),
        event: Event::new(),
        condvar: Condvar::new(),
        barrier: Barrier::new(2),
        once: Once::new(),
        cell: OnceLock::new(),
    };
    Shared::new(all).unwrap()
}

#[mp::test]
fn all_of_them_live_in_one_value() {
    within(LIMIT, || {
        let all = everything();
        let other = mp::spawn!(use_everything(all.clone(), true)).unwrap();
        use_everything(all.clone(), false);
        other.join().unwrap();
        assert_eq!(all.mutex.get().unwrap(), 600);
        assert_eq!(all.rwlock.get().unwrap(), 400);
        assert_eq!(all.reentrant.get().unwrap(), 400);
        assert_eq!(all.semaphore.value().unwrap(), 1);
        assert!(all.semaphore.acquire_timeout(GENEROUS).is_ok());
    });
}

#[mp::process_fn]
fn time_out_everywhere(all: Shared<Everything>) {
    interruption::be_interrupted();
    let check = |wait: &dyn Fn() -> bool| {
        let start = Instant::now();
        assert!(!wait(), "nothing came");
        assert!(start.elapsed() >= SHORT, "a signal ended the wait");
    };
    check(&|| all.event.wait_timeout(SHORT));
    check(&|| all.semaphore.permit_timeout(SHORT).is_ok());
    check(&|| all.semaphore.acquire_timeout(SHORT).is_ok());
    check(&|| all.rwlock.write_timeout(SHORT).is_ok());
    check(&|| all.reentrant.lock_timeout(SHORT).is_ok());
    check(&|| {
        let guard = all.mutex.lock().unwrap();
        let waited = all.condvar.wait_timeout_while(guard, SHORT, |_| true);
        !waited.unwrap().1.timed_out()
    });
    check(&|| all.barrier.wait_timeout(SHORT).is_ok());
}

#[mp::test]
fn promise_25_no_signal_ends_a_wait_for_a_primitive() {
    within(LIMIT, || {
        let all = everything();
        let one = mp::spawn!(use_everything_interrupted(all.clone(), true)).unwrap();
        let other = mp::spawn!(use_everything_interrupted(all.clone(), false)).unwrap();
        one.join().unwrap();
        other.join().unwrap();
        assert_eq!(all.mutex.get().unwrap(), 600);

        let _permit = all.semaphore.permit().unwrap();
        let _reader = all.rwlock.read().unwrap();
        let _guard = all.reentrant.lock().unwrap();
        mp::spawn!(time_out_everywhere(all.clone()))
            .unwrap()
            .join()
            .unwrap();
    });
}
