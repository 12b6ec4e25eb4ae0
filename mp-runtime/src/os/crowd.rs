//! Too many descriptors on their way.
//!
//! Without privileges, as many of a user may be on their way as one process may have
//! (`ETOOMANYREFS`, unix(7)). Others take theirs out, so it is tried again for a while.

use std::io;
use std::time::Duration;

use nix::libc;

const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(2);

/// Whether that is why nothing was sent.
pub(crate) fn is_crowded(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ETOOMANYREFS)
}

/// Calls `send` again and again while that is why it fails, for a second.
pub(crate) fn insist(mut send: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    for _ in 0..TRIES {
        match send() {
            Err(error) if is_crowded(&error) => std::thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
    send()
}
