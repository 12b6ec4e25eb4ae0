//! The barrier.

use std::sync::Arc;

use loom::thread;

use super::{FOREVER, check, check_deaths, models};
use crate::os::futex::Sleep;
use crate::os::identity::live;
use crate::sync::Barrier;

models! {
    a_barrier_has_one_leader
    a_barrier_hangs_nobody_when_a_party_dies_at_every_step
}

fn a_barrier_has_one_leader() {
    for sleep in [Sleep::Slice, Sleep::Wake] {
        check(sleep, 3, || {
            let shared = Arc::new(Barrier::new(2));
            let others = Arc::clone(&shared);
            let wait = |barrier: &Barrier| {
                let result = barrier.wait().expect("nobody dies");
                u32::from(result.is_leader())
            };
            let other = thread::spawn(move || live(2, FOREVER, || wait(&others)));
            let own = live(1, FOREVER, || wait(&shared));
            let leaders = own.into_iter().chain(other.join().expect("it ends"));
            assert_eq!(leaders.sum::<u32>(), 1);
        });
    }
}

fn a_barrier_hangs_nobody_when_a_party_dies_at_every_step() {
    check_deaths(1, |steps| {
        let shared = Arc::new(Barrier::new(2));
        let victims = Arc::clone(&shared);
        let victim = thread::spawn(move || {
            let first = live(2, FOREVER, || victims.wait());
            assert!(first.is_some_and(|first| first.is_ok()));
            live(2, steps, || victims.wait()).is_none()
        });
        let both = live(1, FOREVER, || shared.wait().and_then(|_| shared.wait()));
        let has_died = victim.join().expect("it ends");
        assert!(both.expect("it lives").is_ok() || has_died);
        has_died
    });
}
