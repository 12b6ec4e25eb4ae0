//! A fork with nothing around it.

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::Failure;

/// Forks a process that ends at once, and waits for it.
pub(crate) fn fork_nothing() -> Result<(), Failure> {
    // SAFETY: the child calls nothing but `_exit`.
    match unsafe { fork() }? {
        // SAFETY: it takes a number and does not return.
        ForkResult::Child => unsafe { nix::libc::_exit(0) },
        ForkResult::Parent { child } => match waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            status => Err(format!("{status:?}").into()),
        },
    }
}
