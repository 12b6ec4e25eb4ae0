//! Too many descriptors on their way, or too many here.
//!
//! Without privileges, as many of a user may be on their way as one process may have
//! (`ETOOMANYREFS`, unix(7)). Others take theirs out, so it is tried again for a while. So it may be
//! where this process, or the machine, has no descriptor left (`EMFILE`, `ENFILE`): others close
//! theirs.

use std::io;
use std::time::Duration;

use nix::libc;

const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(2);

/// Whether that is why nothing was sent.
pub(crate) fn is_crowded(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ETOOMANYREFS)
}

/// Whether that, or that there is no descriptor left here, is why nothing was sent.
pub(crate) fn is_short(error: &io::Error) -> bool {
    is_crowded(error) || matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Calls `send` again and again while it [is crowded](is_crowded), for a second.
pub(crate) fn insist(send: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    insist_while(is_crowded, send)
}

/// Calls `send` again and again while `may_pass` is true of why it fails, for a second.
pub(crate) fn insist_while(
    may_pass: impl Fn(&io::Error) -> bool,
    mut send: impl FnMut() -> io::Result<()>,
) -> io::Result<()> {
    for _ in 0..TRIES {
        match send() {
            Err(error) if may_pass(&error) => std::thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
    send()
}
