//! A descriptor that is readable once it was rung.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::eventfd::{self, EfdFlags};

/// One that was not rung yet, when it is made.
#[derive(Debug)]
pub(crate) struct EventFd(eventfd::EventFd);

impl EventFd {
    pub(crate) fn new() -> io::Result<EventFd> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(EventFd(eventfd::EventFd::from_flags(flags)?))
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

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
