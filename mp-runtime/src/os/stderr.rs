//! Standard error: that of this process, and pipes in its place for others.
//!
//! The descriptor itself is written to, not what `std` has around it: somebody may hold the lock of
//! that for as long as he likes.

use std::fs::File;
use std::io::{self, PipeReader};
use std::os::fd::{AsFd as _, AsRawFd as _, IntoRawFd as _, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;

use super::descriptor;

/// How long somebody is left alone who says that he has room, and has none.
const PAUSE: Duration = Duration::from_millis(1);

/// Puts `/dev/null` where standard error is closed, as `std` does when a program starts: what is
/// opened next would have its number, and get what is written to it.
pub(crate) fn fill_gap() -> io::Result<()> {
    if fcntl(io::stderr(), FcntlArg::F_GETFD) != Err(Errno::EBADF) {
        return Ok(());
    }
    let mut nowhere = OwnedFd::from(File::options().write(true).open("/dev/null")?);
    if nowhere.as_raw_fd() < libc::STDERR_FILENO {
        // Not `dup2`, which would close what another thread has opened there in the meantime.
        nowhere = descriptor::duplicate_from(libc::STDERR_FILENO, &nowhere)?;
    }
    if nowhere.as_raw_fd() == libc::STDERR_FILENO {
        // It is nobody's, and stays.
        let _ = nowhere.into_raw_fd();
    }
    Ok(())
}

/// A pipe: the end to read from, which never blocks, and the end to write to, which does. Neither
/// has the number of a standard stream.
pub(crate) fn pipe() -> io::Result<(PipeReader, OwnedFd)> {
    let (reader, writer) = descriptor::pipe()?;
    let reader = descriptor::above_standard(reader)?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((reader.into(), descriptor::above_standard(writer)?))
}

/// Writes all of `bytes` to the standard error of this process, and waits for as long as that
/// takes. What nobody can read any more is dropped.
pub(crate) fn write_all(mut bytes: &[u8]) {
    let stderr = io::stderr();
    while !bytes.is_empty() {
        match write(&stderr, bytes) {
            Ok(count @ 1..) => bytes = &bytes[count..],
            Err(Errno::EINTR) => {}
            // The program, or somebody it shares the descriptor with, has made it non-blocking.
            Err(Errno::EAGAIN) => {
                if has_room(PollTimeout::ZERO) {
                    std::thread::sleep(PAUSE);
                } else {
                    has_room(PollTimeout::NONE);
                }
            }
            // It is closed, its reader or terminal is gone, its disk is full.
            Ok(0) | Err(_) => return,
        }
    }
}

/// Whether the standard error of this process takes bytes at once, be it that it drops them.
pub(crate) fn is_writable() -> bool {
    has_room(PollTimeout::ZERO)
}

fn has_room(timeout: PollTimeout) -> bool {
    let stderr = io::stderr();
    let mut polled = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    // What cannot be polled can be written to, or fails at once.
    poll(&mut polled, timeout).is_err() || polled[0].any() != Some(false)
}
