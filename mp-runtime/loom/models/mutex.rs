//! The mutex.

use std::sync::Arc;

use loom::thread;

use super::{FOREVER, Guarded, check, check_deaths, explore, guarded, models};
use crate::os::clock;
use crate::os::futex::{self, Sleep};
use crate::os::identity::{self, live};
use crate::sync::PoisonCause;
use crate::sync::patience::Patience;
use crate::sync::raw_mutex::RawMutex;

models! {
    a_mutex_excludes
    a_mutex_wakes_its_waiters
    a_hungry_waiter_gets_the_mutex
    a_mutex_survives_its_owner_at_every_step
    a_mutex_survives_two_owners
}

impl Guarded<RawMutex> {
    fn add(&self) {
        let taken = self.lock.acquire(Patience::Forever, || self.pair.mend());
        taken.expect("it is not held by this thread");
        self.pair.add();
        self.lock.release();
    }

    /// What the next owner is told, and what it finds.
    fn look(&self) -> (Option<PoisonCause>, (u64, u64)) {
        let taken = self.lock.acquire(Patience::Forever, || self.pair.mend());
        taken.expect("it is not held by this thread");
        let found = (self.lock.poison(), self.pair.halves());
        self.lock.release();
        found
    }
}

fn two_add(times: u64) {
    let shared = guarded(RawMutex::new());
    let other = Arc::clone(&shared);
    let thread = thread::spawn(move || {
        live(2, FOREVER, || (0..times).for_each(|_| other.add()));
    });
    live(1, FOREVER, || (0..times).for_each(|_| shared.add()));
    thread.join().expect("it ends");
    let found = live(1, FOREVER, || shared.look());
    assert_eq!(found, Some((None, (2 * times, 2 * times))));
}

fn a_mutex_excludes() {
    check(Sleep::Slice, 4, || two_add(2));
}

fn a_mutex_wakes_its_waiters() {
    check(Sleep::Wake, 3, || two_add(2));
    check(Sleep::Wake, 3, || {
        let shared = guarded(RawMutex::new());
        let threads = [2, 3].map(|id| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || live(id, FOREVER, || shared.add()))
        });
        live(1, FOREVER, || shared.add());
        for thread in threads {
            thread.join().expect("it ends");
        }
    });
}

fn a_hungry_waiter_gets_the_mutex() {
    futex::set_sleep(Sleep::Wake);
    clock::set_pace(2_000_000);
    explore(4, || two_add(2));
}

fn a_mutex_survives_its_owner_at_every_step() {
    check_deaths(2, |steps| {
        let shared = guarded(RawMutex::new());
        let victims = Arc::clone(&shared);
        let victim = thread::spawn(move || live(2, steps, || victims.add()).is_none());
        let found = live(1, FOREVER, || shared.look());
        let has_died = victim.join().expect("it ends");
        let last = live(1, FOREVER, || shared.look());
        for (poison, halves) in [found, last].into_iter().flatten() {
            assert_eq!(halves.0, halves.1);
            match poison {
                None => assert!(halves.0 <= 1),
                Some(cause) => {
                    assert_eq!(cause, PoisonCause::OwnerDied { pid: 2 });
                    assert_eq!(halves.0, 100);
                    assert!(has_died);
                }
            }
        }
        has_died
    });
}

/// The first dies half-way; the second dies at each step of taking over and of its own section.
fn a_mutex_survives_two_owners() {
    check_deaths(2, |steps| {
        let shared = guarded(RawMutex::new());
        let firsts = Arc::clone(&shared);
        let first = thread::spawn(move || {
            live(2, FOREVER, || {
                let taken = firsts.lock.acquire(Patience::Forever, || ());
                taken.expect("it is free");
                identity::die();
            })
        });
        first.join().expect("it ends");
        let seconds = Arc::clone(&shared);
        let second = thread::spawn(move || live(3, steps, || seconds.look()).is_none());
        let found = live(1, FOREVER, || shared.look()).expect("it lives");
        assert!(matches!(found.0, Some(PoisonCause::OwnerDied { .. })));
        assert_eq!(found.1, (100, 100));
        second.join().expect("it ends")
    });
}
