//! Threads of the library's own.

use std::io;
use std::thread::{Builder, JoinHandle};

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

/// Enough for the library's own code, which decodes no user's value on these threads.
const STACK_BYTES: usize = 256 << 10;

/// Starts a thread that no signal of the program is ever delivered to.
pub(crate) fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    // The new thread inherits the mask, so there is no moment at which it could be picked.
    let mut before = SigSet::empty();
    pthread_sigmask(
        SigmaskHow::SIG_SETMASK,
        Some(&SigSet::all()),
        Some(&mut before),
    )?;
    let thread = Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_BYTES)
        .spawn(body);
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    thread
}

/// Runs code of the program, such as a waker, whose panic must not end the thread it is called on.
/// The panic was reported by the program's hook.
pub(crate) fn contained(call: impl FnOnce()) {
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
}
