//! The environment variable that tells a worker what it is.

use std::os::fd::{BorrowedFd, OwnedFd};

use super::descriptor;

/// Names the descriptors that a worker inherits, in the order of [`Inherited`], `-` for one that is
/// not there. It holds no secret, and is removed before anything else runs.
pub(crate) const WORKER_VARIABLE: &str = "MP_WORKER_DESCRIPTORS";

/// What a worker inherits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Inherited {
    /// Closes when the parent ends; the boot message comes through it.
    Lifeline,
    /// The page that survives the worker.
    Recorder,
    /// What to connect to.
    Anchor,
    /// Brings the descriptors of shared memory.
    Carrier,
    /// The memory of the program's shared statics, if it has any.
    Statics,
    /// What becomes standard output, in a test.
    Stdout,
}

/// How many there are.
pub(crate) const INHERITED_COUNT: usize = 6;

/// Takes over what this process inherits, in order; `None` if it is no worker.
///
/// # Errors
///
/// If the variable is there and does not name that.
pub(crate) fn take_inherited() -> Option<std::io::Result<[Option<OwnedFd>; INHERITED_COUNT]>> {
    let value = std::env::var(WORKER_VARIABLE).ok()?;
    // SAFETY: only a process that was started as a worker has the variable, and it calls this from
    // the first line of its `main`, before it has started a thread.
    unsafe { std::env::remove_var(WORKER_VARIABLE) };
    let adopt = |number: &str| match number {
        "-" => Ok(None),
        number => descriptor::adopt(number.parse().map_err(std::io::Error::other)?).map(Some),
    };
    let adopted: std::io::Result<Vec<_>> = value.split(',').map(adopt).collect();
    Some(adopted.and_then(|fds| {
        fds.try_into()
            .map_err(|_| std::io::ErrorKind::InvalidInput.into())
    }))
}

/// A copy of one of them, for who needs it before [`take_inherited`] is called.
pub(crate) fn copy_inherited(which: Inherited) -> Option<OwnedFd> {
    let value = std::env::var(WORKER_VARIABLE).ok()?;
    let number = value.split(',').nth(which as usize)?.parse().ok()?;
    if number < 3 {
        return None;
    }
    // SAFETY: it is not -1, and is borrowed for this call only, which fails if it is closed.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    descriptor::duplicate(fd).ok()
}
