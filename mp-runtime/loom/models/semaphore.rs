//! The semaphore.

use std::sync::Arc;

use loom::thread;

use super::{FOREVER, Guarded, check, check_deaths, guarded, models};
use crate::os::futex::Sleep;
use crate::os::identity::{self, live};
use crate::sync::Semaphore;

models! {
    a_semaphore_counts
    a_semaphore_wakes_its_waiters
    a_semaphore_hands_over_what_was_done_before
    a_semaphore_gets_its_permits_back_at_every_step
    a_semaphore_loses_at_most_one_plain_permit
}

fn two_acquire() {
    let shared = guarded(Semaphore::new(1));
    let other = Arc::clone(&shared);
    let add = |shared: &Guarded<Semaphore>| {
        shared.lock.acquire().expect("it waits");
        shared.pair.add();
        shared.lock.release().expect("there is room");
    };
    let thread = thread::spawn(move || live(2, FOREVER, || add(&other)));
    live(1, FOREVER, || {
        let permit = shared.lock.permit();
        shared.pair.add();
        drop(permit);
    });
    thread.join().expect("it ends");
    live(1, FOREVER, || {
        assert_eq!(shared.lock.value().ok(), Some(1));
        assert_eq!(shared.pair.halves(), (2, 2));
    });
}

fn a_semaphore_counts() {
    check(Sleep::Slice, 4, two_acquire);
}

fn a_semaphore_wakes_its_waiters() {
    check(Sleep::Wake, 4, two_acquire);
}

fn a_semaphore_hands_over_what_was_done_before() {
    for sleep in [Sleep::Slice, Sleep::Wake] {
        check(sleep, 4, || {
            let shared = guarded(Semaphore::new(0));
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || {
                live(2, FOREVER, || {
                    other.pair.add();
                    other.lock.release().expect("there is room");
                })
            });
            live(1, FOREVER, || {
                shared.lock.acquire().expect("it waits");
                assert_eq!(shared.pair.halves(), (1, 1));
            });
            thread.join().expect("it ends");
        });
    }
}

fn a_semaphore_gets_its_permits_back_at_every_step() {
    check_deaths(2, |steps| {
        let shared = guarded(Semaphore::new(1));
        let victims = Arc::clone(&shared);
        let victim = thread::spawn(move || {
            let end = live(2, steps, || {
                let permit = victims.lock.permit();
                victims.pair.halves();
                identity::step();
                drop(permit);
            });
            end.is_none()
        });
        live(1, FOREVER, || {
            let permit = shared.lock.permit().expect("it waits");
            shared.pair.add();
            drop(permit);
        });
        let has_died = victim.join().expect("it ends");
        live(1, FOREVER, || {
            assert_eq!(shared.lock.value().ok(), Some(1));
        });
        has_died
    });
}

fn a_semaphore_loses_at_most_one_plain_permit() {
    check_deaths(2, |steps| {
        let shared = guarded(Semaphore::new(2));
        let victims = Arc::clone(&shared);
        let victim = thread::spawn(move || {
            let end = live(2, steps, || {
                victims.lock.acquire().expect("it waits");
                victims.lock.release().expect("there is room");
            });
            end.is_none()
        });
        live(1, FOREVER, || {
            shared.lock.acquire().expect("it waits");
            shared.lock.release().expect("there is room");
        });
        let has_died = victim.join().expect("it ends");
        live(1, FOREVER, || {
            let value = shared.lock.value().expect("it can be told");
            assert!(value == 2 || (has_died && value == 1));
        });
        has_died
    });
}
