//! The event.

use std::sync::Arc;

use loom::thread;

use super::{FOREVER, check, check_deaths, guarded, models};
use crate::os::futex::Sleep;
use crate::os::identity::live;
use crate::sync::Event;

models! {
    an_event_wakes_its_waiters
    an_event_survives_its_setter_at_every_step
}

fn an_event_wakes_its_waiters() {
    check(Sleep::Wake, 2, || {
        let shared = guarded(Event::new());
        let waiters = [2, 3].map(|id| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                live(id, FOREVER, || {
                    shared.lock.wait();
                    assert_eq!(shared.pair.halves(), (1, 1));
                })
            })
        });
        live(1, FOREVER, || {
            shared.pair.add();
            shared.lock.set();
        });
        for waiter in waiters {
            waiter.join().expect("it ends");
        }
    });
    check(Sleep::Wake, 3, || {
        let shared = Arc::new(Event::new());
        let others = Arc::clone(&shared);
        let waiter = thread::spawn(move || live(2, FOREVER, || others.wait()));
        live(1, FOREVER, || {
            shared.set();
            shared.clear();
            shared.set();
        });
        waiter.join().expect("it ends");
    });
}

fn an_event_survives_its_setter_at_every_step() {
    check_deaths(3, |steps| {
        let shared = Arc::new(Event::new());
        let victims = Arc::clone(&shared);
        let victim = thread::spawn(move || live(2, steps, || victims.set()).is_none());
        let others = Arc::clone(&shared);
        let waiter = thread::spawn(move || live(3, FOREVER, || others.wait()));
        let has_died = victim.join().expect("it ends");
        if has_died {
            live(1, FOREVER, || shared.set());
        }
        waiter.join().expect("it ends");
        has_died
    });
}
