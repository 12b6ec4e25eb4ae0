//! Panics of process functions: kept for the error instead of printed.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

use crate::error::Panic;

thread_local! {
    static IN_CALL: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

/// From here on a panic in [`catch`] prints nothing, since its error will say it all. Other
/// threads of the process panic as they would have.
pub(super) fn install_hook() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if IN_CALL.get() {
            let panic = describe(info);
            LAST.with(|last| *last.borrow_mut() = Some(panic));
        } else {
            before(info);
        }
    }));
}

/// Runs `body`; if it panics, says how.
pub(super) fn catch<T>(body: impl FnOnce() -> T) -> Result<T, Panic> {
    let nested = IN_CALL.replace(true);
    LAST.take();
    let outcome = catch_unwind(AssertUnwindSafe(body));
    IN_CALL.set(nested);
    outcome.map_err(|payload| {
        let message = message(&*payload);
        // The last panic need not be this one, if one was caught and another resumed.
        let last = LAST.take().filter(|last| last.message == message);
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
