//! A socket whose other end a parent has, and that ends this process when the parent is gone.
//!
//! The kernel does it by itself: a socket that is set to `O_ASYNC` signals its owner when something
//! happens to it, by a signal of the owner's choice (`F_SETSIG`, fcntl(2)), and that is SIGKILL
//! here. Nothing is ever sent to this end, so what can happen is that nobody has the other one any
//! more. That takes no thread, reaches a process whatever its threads are doing, stopped ones
//! included, and lasts until it is closed at an exec.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::unistd::Pid;

use super::{descriptor, signal};

/// Chooses the signal (asm-generic/fcntl.h; the `libc` crate has it not everywhere).
const F_SETSIG: libc::c_int = 10;

/// Has this process killed when nobody has the other end of `socket` any more; now, if that is so.
/// What was sent to it must have been received.
///
/// # Errors
///
/// If the kernel refuses.
pub(crate) fn end_with(socket: &OwnedFd) -> io::Result<()> {
    control(socket, libc::F_SETOWN, Pid::this().as_raw())?;
    control(socket, F_SETSIG, libc::SIGKILL)?;
    fcntl(socket, FcntlArg::F_SETFL(OFlag::O_ASYNC))?;
    // Of what happened before, the kernel tells nobody.
    if descriptor::is_hung_up(socket.as_fd())? {
        signal::end_now();
    }
    Ok(())
}

/// What `nix` has no name for.
fn control(socket: &OwnedFd, command: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: a plain system call on an open descriptor and two integers.
    match unsafe { libc::fcntl(socket.as_raw_fd(), command, value) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
