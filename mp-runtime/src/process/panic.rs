//! Panics of process functions: kept for the error instead of printed.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

use crate::error::Panic;

thread_local! {
    static IN_CALL: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

/// From here on a panic in [`catch`] prints nothing, since its error will say it all. Whatever else
/// panics in this process does as it would have: the hook that is there now is called.
///
/// It is done once. A hook that the program sets later, without calling this one, prints such
/// panics as well, and their place is lost; they are contained all the same.
pub(super) fn install_hook() {
    static INSTALLED: Once = Once::new();
    if std::thread::panicking() {
        // The hook cannot be changed now: the next call does it.
        return;
    }
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if IN_CALL.get() {
                let panic = describe(info);
                let _ = LAST.try_with(|last| *last.borrow_mut() = Some(panic));
            } else {
                before(info);
            }
        }));
    });
}

/// Runs `body`; if it panics, says how.
pub(super) fn catch<T>(body: impl FnOnce() -> T) -> Result<T, Panic> {
    let nested = IN_CALL.replace(true);
    let _ = take_last();
    let outcome = catch_unwind(AssertUnwindSafe(body));
    IN_CALL.set(nested);
    outcome.map_err(|payload| {
        let message = message(&*payload);
        // The last panic need not be this one, if one was caught and another resumed.
        let last = take_last().filter(|last| last.message == message);
        let panic = last.unwrap_or(Panic {
            message,
            location: None,
            backtrace: None,
        });
        // Dropping what somebody panicked with may panic again.
        std::mem::forget(payload);
        panic
    })
}

/// A thread that ends has no place for it any more.
fn take_last() -> Option<Panic> {
    LAST.try_with(RefCell::take).ok().flatten()
}

fn describe(info: &PanicHookInfo<'_>) -> Panic {
    let backtrace = std::backtrace::Backtrace::capture();
    let captured = backtrace.status() == std::backtrace::BacktraceStatus::Captured;
    Panic {
        message: message(info.payload()),
        location: info.location().map(ToString::to_string),
        backtrace: captured.then(|| backtrace.to_string()),
    }
}

pub(super) fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(a value that is no text)")
        .to_owned()
}
