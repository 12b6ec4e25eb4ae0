//! Carries a borrowed closure through a call that has no parameter for it.
//!
//! `ipc-channel` hands out the descriptors of a message only while it deserializes, to a type it
//! makes itself, so what decodes a message has to be reached from inside that type. The closure is
//! put into a thread-local for as long as [`carry`] is on the stack, and taken out at most once.

use std::cell::Cell;
use std::ptr::NonNull;

thread_local! {
    static CARRIED: Cell<Option<NonNull<dyn FnMut()>>> = const { Cell::new(None) };
}

/// Runs `through`; the first call of [`run_carried`] in it, on this thread, runs `closure`.
pub(crate) fn carry<R>(closure: &mut dyn FnMut(), through: impl FnOnce() -> R) -> R {
    struct Restore(Option<NonNull<dyn FnMut()>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CARRIED.set(self.0);
        }
    }

    let borrowed: NonNull<dyn FnMut() + '_> = NonNull::from(closure);
    // SAFETY: only the lifetime changes. The pointer is used by `run_carried` alone, on this
    // thread, and `Restore` takes it out of the thread-local before the borrow ends, on an unwind
    // as well.
    let erased: NonNull<dyn FnMut() + 'static> = unsafe { std::mem::transmute(borrowed) };
    let _restore = Restore(CARRIED.replace(Some(erased)));
    through()
}

/// Runs the closure that is being carried, and tells whether there was one.
pub(crate) fn run_carried() -> bool {
    let Some(mut closure) = CARRIED.take() else {
        return false;
    };
    // SAFETY: `carry` put it there and has not returned, so the closure is alive and borrowed
    // mutably by `carry` alone; taking it out keeps a nested call from running it again.
    let closure = unsafe { closure.as_mut() };
    closure();
    true
}
