//! What is done when this process exits in order: when `main` returns, or `exit` is called. A process
//! that is killed, aborts or calls `_exit` does nothing any more.

use std::sync::{Mutex, PoisonError};

use nix::libc;

/// What is to be called, each once.
static CALLS: Mutex<Vec<fn()>> = Mutex::new(Vec::new());

/// Has `call` called when this process exits in order, on the thread that exits, while others may
/// still run. To say so twice is the same as once. A forked child inherits it.
pub(crate) fn at_exit(call: fn()) {
    let mut calls = CALLS.lock().unwrap_or_else(PoisonError::into_inner);
    if calls.is_empty() {
        // SAFETY: the handler does not unwind, as far as what it calls does not. That it cannot be
        // registered is only for want of memory; then the process exits as if it were killed.
        unsafe { libc::atexit(call_all) };
    }
    if !calls.iter().any(|&known| std::ptr::fn_addr_eq(known, call)) {
        calls.push(call);
    }
}

extern "C" fn call_all() {
    // A signal handler that exits may have interrupted the owner of this lock.
    let calls = match CALLS.try_lock() {
        Ok(mut calls) => std::mem::take(&mut *calls),
        Err(_) => return,
    };
    for call in calls {
        call();
    }
}

/// Ends this process, and runs nothing of it any more.
pub(crate) fn now(code: i32) -> ! {
    // SAFETY: it takes a number and does not return.
    unsafe { libc::_exit(code) }
}
