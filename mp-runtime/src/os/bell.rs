//! A descriptor that is readable once it was rung.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// One that was not rung yet, when it is made.
#[derive(Debug)]
pub(crate) struct Bell(EventFd);

impl Bell {
    pub(crate) fn new() -> io::Result<Bell> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Bell(EventFd::from_flags(flags)?))
    }

    /// Makes it readable.
    pub(crate) fn ring(&self) {
        // It fails where it was rung 2⁶⁴ - 2 times, and is readable then.
        let _ = self.0.write(1);
    }

    /// Makes it what it was before it was rung.
    pub(crate) fn silence(&self) {
        // It fails where it was not rung.
        let _ = self.0.read();
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
