//! What is done once.

use std::sync::Arc;

use loom::thread;

use super::{FOREVER, Guarded, check, check_deaths, guarded, models};
use crate::os::futex::Sleep;
use crate::os::identity::live;
use crate::sync::Once;

models! {
    once_is_once
    once_is_done_again_after_a_death_at_every_step
}

fn once_is_once() {
    for sleep in [Sleep::Slice, Sleep::Wake] {
        check(sleep, 3, || {
            let shared = guarded(Once::new());
            let look = |shared: &Guarded<Once>| {
                shared.lock.call_once(|| shared.pair.add());
                assert_eq!(shared.pair.halves(), (1, 1));
            };
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || live(2, FOREVER, || look(&other)));
            live(1, FOREVER, || look(&shared));
            thread.join().expect("it ends");
        });
    }
}

fn once_is_done_again_after_a_death_at_every_step() {
    check_deaths(3, |steps| {
        let shared = guarded(Once::new());
        let work = |shared: &Guarded<Once>| shared.lock.call_once(|| shared.pair.mend());
        let other = Arc::clone(&shared);
        let victim = thread::spawn(move || {
            let end = live(2, steps, || {
                other.lock.call_once(|| {
                    other.pair.add();
                    other.pair.mend();
                });
            });
            end.is_none()
        });
        live(1, FOREVER, || {
            work(&shared);
            assert_eq!(shared.pair.halves(), (100, 100));
        });
        victim.join().expect("it ends")
    });
}
