//! The lock for many readers or one writer.

use std::sync::Arc;

use loom::thread;

use super::{FOREVER, Guarded, check, check_deaths, guarded, models};
use crate::os::futex::Sleep;
use crate::os::identity::{self, live};
use crate::sync::PoisonCause;
use crate::sync::patience::Patience;
use crate::sync::raw_rwlock::RawRwLock;

models! {
    a_rwlock_excludes
    a_rwlock_wakes_its_waiters
    a_rwlock_lets_a_reader_read_again
    a_rwlock_has_room_for_more_readers_than_slots
    a_rwlock_survives_a_reader_at_every_step
    a_rwlock_survives_a_writer_at_every_step
}

impl Guarded<RawRwLock> {
    fn add(&self) {
        let taken = self.lock.write(Patience::Forever, || self.pair.mend());
        taken.expect("this thread is not in");
        self.pair.add();
        self.lock.end_write();
    }

    fn look(&self) -> (Option<PoisonCause>, (u64, u64)) {
        let taken = self.lock.read(Patience::Forever, || self.pair.mend());
        let seat = taken.expect("this thread does not write");
        let found = (self.lock.poison(), self.pair.halves());
        identity::step();
        self.lock.end_read(seat);
        found
    }
}

fn write_and_read() {
    let shared = guarded(RawRwLock::new());
    let other = Arc::clone(&shared);
    let reader = thread::spawn(move || {
        live(2, FOREVER, || {
            let (_, (first, second)) = other.look();
            assert_eq!(first, second);
        });
    });
    live(1, FOREVER, || shared.add());
    reader.join().expect("it ends");
    let found = live(1, FOREVER, || shared.look());
    assert_eq!(found, Some((None, (1, 1))));
}

fn a_rwlock_excludes() {
    check(Sleep::Slice, 5, write_and_read);
    check(Sleep::Slice, 3, || {
        let shared = guarded(RawRwLock::new());
        let other = Arc::clone(&shared);
        let writer = thread::spawn(move || live(2, FOREVER, || other.add()));
        live(1, FOREVER, || shared.add());
        writer.join().expect("it ends");
    });
}

fn a_rwlock_wakes_its_waiters() {
    check(Sleep::Wake, 5, write_and_read);
    check(Sleep::Wake, 2, || {
        let shared = guarded(RawRwLock::new());
        let threads = [2, 3].map(|id| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || live(id, FOREVER, || shared.look()).map(drop))
        });
        live(1, FOREVER, || shared.add());
        for thread in threads {
            thread.join().expect("it ends");
        }
    });
}

fn a_rwlock_lets_a_reader_read_again() {
    check(Sleep::Wake, 5, || {
        let shared = guarded(RawRwLock::new());
        let other = Arc::clone(&shared);
        let reader = thread::spawn(move || {
            live(2, FOREVER, || {
                let outer = other.lock.read(Patience::Forever, || ());
                let before = other.pair.halves();
                let inner = other.lock.read(Patience::Forever, || ());
                assert_eq!(other.pair.halves(), before);
                other
                    .lock
                    .end_read(inner.expect("this thread does not write"));
                other
                    .lock
                    .end_read(outer.expect("this thread does not write"));
            });
        });
        live(1, FOREVER, || shared.add());
        reader.join().expect("it ends");
    });
}

fn a_rwlock_has_room_for_more_readers_than_slots() {
    check(Sleep::Wake, 2, || {
        let shared = guarded(RawRwLock::new());
        let threads = [2, 3].map(|id| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || live(id, FOREVER, || shared.look()).map(drop))
        });
        live(1, FOREVER, || shared.look());
        for thread in threads {
            thread.join().expect("it ends");
        }
    });
}

fn a_rwlock_survives_a_reader_at_every_step() {
    check_deaths(2, |steps| {
        let shared = guarded(RawRwLock::new());
        let victims = Arc::clone(&shared);
        let victim = thread::spawn(move || live(2, steps, || victims.look()).is_none());
        live(1, FOREVER, || shared.add());
        let has_died = victim.join().expect("it ends");
        let found = live(1, FOREVER, || shared.look());
        assert_eq!(found, Some((None, (1, 1))));
        has_died
    });
}

fn a_rwlock_survives_a_writer_at_every_step() {
    check_deaths(2, |steps| {
        let shared = guarded(RawRwLock::new());
        let victims = Arc::clone(&shared);
        let victim = thread::spawn(move || live(2, steps, || victims.add()).is_none());
        let found = live(1, FOREVER, || shared.look());
        let has_died = victim.join().expect("it ends");
        live(1, FOREVER, || shared.add());
        let last = live(1, FOREVER, || shared.look());
        for (poison, halves) in [found, last].into_iter().flatten() {
            assert_eq!(halves.0, halves.1);
            assert_eq!(poison.is_some(), halves.0 >= 100);
            assert!(has_died || poison.is_none());
        }
        has_died
    });
}
