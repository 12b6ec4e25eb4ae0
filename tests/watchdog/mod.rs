//! A bound for tests that could hang, and a way to wait for what will be true some time.

use std::io::Write as _;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{self, Builder};
use std::time::Duration;

/// How often a condition that is waited for is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Runs `body` on this thread. If it takes longer than `limit` the test binary is aborted, with the
/// name of the test, and its processes end with it.
#[allow(
    dead_code,
    reason = "files which bound their tests otherwise share `until` only"
)]
#[track_caller]
pub(crate) fn within<R>(limit: Duration, body: impl FnOnce() -> R) -> R {
    let place = std::panic::Location::caller();
    let current = thread::current();
    let test = current.name().unwrap_or("a test").to_owned();
    let (done, is_done) = channel::<()>();
    let dog = Builder::new()
        .name("watchdog".into())
        .spawn(move || {
            if is_done.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                // The macros would write to where the harness captures the test's output.
                let message =
                    format!("`{test}` ({place}) was not done after {limit:?}: it hangs\n");
                let _ = std::io::stderr().write_all(message.as_bytes());
                std::process::abort();
            }
        })
        .expect("there is a thread for the watchdog");
    // Dropped on an unwind too, which is what the watchdog waits for.
    let end = (done, dog);
    let result = body();
    let (done, dog) = end;
    drop(done);
    dog.join().expect("the watchdog does not panic");
    result
}

/// Waits until `condition` holds; the watchdog is the bound.
#[allow(dead_code, reason = "not every file waits for something")]
pub(crate) fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        thread::sleep(POLL_INTERVAL);
    }
}
