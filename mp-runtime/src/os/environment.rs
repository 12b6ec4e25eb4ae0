//! The environment variable that tells a worker what it is.

use std::os::fd::{BorrowedFd, OwnedFd};

use super::descriptor;

/// Names the descriptors that a worker inherits, `-` for one that is not there:
///
/// 1. the lifeline, which closes when the parent ends, and through which the boot message comes;
/// 2. the lanes, memory with the rings of calls and records;
/// 3. the carrier, which brings descriptors: of its ends of the connection, of shared memory;
/// 4. the memory of the program's shared statics, if it has any;
/// 5. what becomes standard output, in a test.
///
/// A fork server has the socket of its requests in place of the first, the memory of the statics,
/// and nothing else.
///
/// It holds no secret, and is removed before anything else runs.
pub(crate) const WORKER_VARIABLE: &str = "MP_WORKER_DESCRIPTORS";

/// How many there are.
pub(crate) const INHERITED_COUNT: usize = 5;

/// The place of the statics among them, from 0.
pub(crate) const STATICS: usize = 3;

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

/// A copy of the memory of the statics, for who needs it before [`take_inherited`] is called;
/// `None` if this process inherits none.
///
/// # Errors
///
/// If it cannot be copied.
pub(crate) fn copy_inherited_statics() -> std::io::Result<Option<OwnedFd>> {
    let value = std::env::var(WORKER_VARIABLE).unwrap_or_default();
    let number = value.split(',').nth(STATICS);
    let Some(number) = number
        .and_then(|number| number.parse().ok())
        .filter(|&n| n > 2)
    else {
        return Ok(None);
    };
    // SAFETY: it is not -1, and is borrowed for this call only, which fails if it is closed.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    descriptor::duplicate(fd).map(Some)
}
