//! A clock that stands still, or goes on a little each time somebody looks.

use std::cell::Cell;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
    static PACE: Cell<u64> = const { Cell::new(0) };
}

pub(crate) fn monotonic_nanos() -> u64 {
    NOW.set(NOW.get() + PACE.get());
    NOW.get()
}

/// How much later it is each time, from now on. Loom runs all threads of a model on one.
pub(crate) fn set_pace(nanos: u64) {
    NOW.set(0);
    PACE.set(nanos);
}
