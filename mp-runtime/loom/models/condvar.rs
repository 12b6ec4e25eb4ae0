//! The condition variable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use loom::thread;

use super::{FOREVER, check, check_deaths, check_deaths_until, models};
use crate::os::futex::Sleep;
use crate::os::identity::live;
use crate::sync::{Condvar, Mutex, MutexGuard};

models! {
    a_condvar_loses_no_notification
    a_condvar_notifies_all
    a_condvar_waiter_whose_time_is_over_takes_no_notification_with_it
    a_condvar_survives_a_waiter_at_every_step
    a_condvar_survives_a_notifier_at_every_step
}

/// What was put and not taken, and how often somebody began to wait; a condition that there is
/// something to take.
struct Basket {
    state: Mutex<(u64, u64)>,
    is_filled: Condvar,
}

impl Basket {
    fn new() -> Arc<Basket> {
        Arc::new(Basket {
            state: Mutex::new((0, 0)),
            is_filled: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, (u64, u64)> {
        let guard = self.state.lock();
        guard.unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn look(&self) -> (u64, u64) {
        *self.lock()
    }

    fn put(&self, count: u64) {
        self.lock().0 += count;
    }

    fn take(&self) {
        let mut guard = self.lock();
        while guard.0 == 0 {
            guard.1 += 1;
            let waited = self.is_filled.wait(guard);
            guard = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        guard.0 -= 1;
    }
}

fn a_condvar_loses_no_notification() {
    check(Sleep::Wake, 5, || {
        let shared = Basket::new();
        let other = Arc::clone(&shared);
        let taker = thread::spawn(move || live(2, FOREVER, || other.take()));
        live(1, FOREVER, || {
            shared.put(1);
            shared.is_filled.notify_one();
        });
        taker.join().expect("it ends");
    });
}

fn a_condvar_notifies_all() {
    check(Sleep::Wake, 2, || {
        let shared = Basket::new();
        let takers = [2, 3].map(|id| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || live(id, FOREVER, || shared.take()))
        });
        live(1, FOREVER, || {
            shared.put(2);
            shared.is_filled.notify_all();
        });
        for taker in takers {
            taker.join().expect("it ends");
        }
    });
}

/// Of two waiters one has no time. It takes what was put only if it was notified; if it was and says
/// that it was not, the other waits for ever.
fn a_condvar_waiter_whose_time_is_over_takes_no_notification_with_it() {
    check(Sleep::Wake, 2, || {
        let shared = Basket::new();
        let others = Arc::clone(&shared);
        let hasty = thread::spawn(move || {
            live(2, FOREVER, || {
                let guard = others.lock();
                let waited = others.is_filled.wait_timeout(guard, Duration::ZERO);
                let (mut guard, result) = waited.expect("nobody dies");
                if !result.timed_out() && guard.0 > 0 {
                    guard.0 -= 1;
                    return true;
                }
                false
            })
        });
        let others = Arc::clone(&shared);
        let taker = thread::spawn(move || live(3, FOREVER, || others.take()));
        live(1, FOREVER, || {
            shared.put(1);
            shared.is_filled.notify_one();
        });
        if hasty.join().expect("it ends") == Some(true) {
            live(1, FOREVER, || {
                shared.put(1);
                shared.is_filled.notify_one();
            });
        }
        taker.join().expect("it ends");
    });
}

/// By then a waiter that has taken something has come to its end.
const LAST_STEP: u32 = 50;

/// Two wait, and one of them dies. If it did not take what was put, and notified of once, the
/// other does.
fn a_condvar_survives_a_waiter_at_every_step() {
    check_deaths_until(LAST_STEP, 0, |steps| {
        let shared = Basket::new();
        let is_over = Arc::new(AtomicBool::new(false));
        let (victims, flag) = (Arc::clone(&shared), Arc::clone(&is_over));
        let victim = thread::spawn(move || {
            let has_died = live(2, steps, || victims.take()).is_none();
            flag.store(true, Ordering::Relaxed);
            has_died
        });
        let others = Arc::clone(&shared);
        let taker = thread::spawn(move || live(3, FOREVER, || others.take()));
        live(1, FOREVER, || {
            while shared.look().1 < 2 && !is_over.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            shared.put(1);
            shared.is_filled.notify_one();
        });
        let has_died = victim.join().expect("it ends");
        live(1, FOREVER, || {
            if shared.look().0 == 0 {
                shared.put(1);
                shared.is_filled.notify_one();
            }
        });
        taker.join().expect("it ends");
        has_died
    });
}

fn a_condvar_survives_a_notifier_at_every_step() {
    check_deaths(2, |steps| {
        let shared = Basket::new();
        let victims = Arc::clone(&shared);
        let victim = thread::spawn(move || {
            let end = live(2, steps, || {
                victims.put(1);
                victims.is_filled.notify_one();
            });
            end.is_none()
        });
        let others = Arc::clone(&shared);
        let taker = thread::spawn(move || live(3, FOREVER, || others.take()));
        let has_died = victim.join().expect("it ends");
        live(1, FOREVER, || {
            if has_died {
                shared.put(1);
                shared.is_filled.notify_one();
            }
        });
        taker.join().expect("it ends");
        has_died
    });
}
