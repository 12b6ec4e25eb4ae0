//! A process by descriptor: its id cannot come to mean another process while this is open.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::signal;

/// A descriptor that is readable once its process has ended.
#[derive(Debug)]
pub(crate) struct PidFd(OwnedFd);

impl PidFd {
    /// Opens the process with this id: a child that nobody has waited for, or the parent.
    pub(crate) fn open(process_id: u32) -> io::Result<PidFd> {
        let id = libc::c_long::from(process_id);
        // SAFETY: pidfd_open takes two integers and returns a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, id, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made this descriptor (close-on-exec), so nothing else owns it.
        Ok(PidFd(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Whether the process has ended.
    pub(crate) fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    }

    /// Sends a signal; a process that has ended is fine.
    pub(crate) fn send_signal(&self, signal: i32) -> io::Result<()> {
        self.send(signal, std::ptr::null())
    }

    /// Sends the SIGINT that a worker obeys, unlike the one of the terminal.
    pub(crate) fn interrupt(&self) -> io::Result<()> {
        self.send(libc::SIGINT, &signal::deliberate_interrupt())
    }

    fn send(&self, signal: i32, info: *const libc::siginfo_t) -> io::Result<()> {
        let (fd, signal) = (
            libc::c_long::from(self.0.as_raw_fd()),
            libc::c_long::from(signal),
        );
        // SAFETY: `info` is null or points to a siginfo_t that lives until the call returns.
        match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, 0) } {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
                error => Err(error),
            },
        }
    }

    /// Collects the process if it has ended. `Some(None)`: it has, but how is not known, since
    /// somebody else waited for it or the program ignores SIGCHLD.
    pub(crate) fn try_wait(&self) -> io::Result<Option<Option<ExitStatus>>> {
        // SAFETY: all zeroes is a valid siginfo_t.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let (id, options) = (
            self.0.as_raw_fd() as libc::id_t,
            libc::WEXITED | libc::WNOHANG,
        );
        let waited = super::uninterrupted(|| {
            // SAFETY: `info` is valid for writing during the call.
            match unsafe { libc::waitid(libc::P_PIDFD, id, &mut info, options) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
        match waited {
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(Some(None)),
            outcome => outcome?,
        }
        // SAFETY: waitid filled the fields of SIGCHLD, or left the zeroes.
        let process_id = unsafe { info.si_pid() };
        if process_id == 0 {
            return Ok(None);
        }
        // SAFETY: as above.
        let status = unsafe { info.si_status() };
        let raw = match info.si_code {
            libc::CLD_EXITED => (status & 0xff) << 8,
            libc::CLD_DUMPED => status | 0x80,
            _ => status,
        };
        Ok(Some(Some(ExitStatus::from_raw(raw))))
    }
}

impl From<OwnedFd> for PidFd {
    /// That of a child, which the kernel made with it.
    fn from(fd: OwnedFd) -> PidFd {
        PidFd(fd)
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
