//! A process by descriptor: its id cannot come to mean another process while this is open.
//!
//! Where a filter of system calls refuses to send a signal to a descriptor, it is sent to the id: that
//! is the process's for as long as it is a child that nobody has collected, and who collects it here
//! is kept from it meanwhile.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;

use super::{descriptor, signal};

/// A descriptor that is readable once its process has ended.
#[derive(Debug)]
pub(crate) struct PidFd {
    fd: OwnedFd,
    process_id: u32,
    /// Held by who collects the process, and by who needs its id to be its.
    collecting: Mutex<()>,
}

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
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        Ok(PidFd::of(process_id, fd))
    }

    /// That of a child, which the kernel made with it.
    pub(crate) fn of(process_id: u32, fd: OwnedFd) -> PidFd {
        PidFd {
            fd,
            process_id,
            collecting: Mutex::new(()),
        }
    }

    /// Whether the process has ended.
    pub(crate) fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
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
            libc::c_long::from(self.fd.as_raw_fd()),
            libc::c_long::from(signal),
        );
        // SAFETY: `info` is null or points to a siginfo_t that lives until the call returns.
        let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, 0) };
        match outcome(sent) {
            Err(error) => match error.raw_os_error() {
                Some(libc::ESRCH) => Ok(()),
                // The process has another user now, or a filter does not let this one send it so.
                Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => self.send_by_id(signal, info),
                _ => Err(error),
            },
            sent => sent,
        }
    }

    /// As [`send`](PidFd::send), to the id of a child.
    fn send_by_id(&self, signal: libc::c_long, info: *const libc::siginfo_t) -> io::Result<()> {
        let _collecting = self.collecting();
        if let Err(error) = self.look(libc::WNOWAIT) {
            // It is no child, or not any more.
            return if self.has_ended() { Ok(()) } else { Err(error) };
        }
        let id = libc::c_long::from(self.process_id);
        // SAFETY: two numbers.
        let by_kill = || unsafe { libc::syscall(libc::SYS_kill, id, signal) };
        // SAFETY: as in `send`.
        let by_queue = || unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, id, signal, info) };
        outcome(if info.is_null() {
            by_kill()
        } else {
            by_queue()
        })
    }

    /// Kills and collects a new child that nobody else knows of.
    pub(crate) fn end(&self) {
        // It has the user of this process, or has ended.
        let _ = self.send_signal(libc::SIGKILL);
        let _ = descriptor::wait_readable(&[self.as_fd()]);
        let _ = self.try_wait();
    }

    /// Collects the process if it has ended. `Some(None)`: it has, but how is not known, since
    /// somebody else waited for it or the program ignores SIGCHLD.
    pub(crate) fn try_wait(&self) -> io::Result<Option<Option<ExitStatus>>> {
        let collecting = self.collecting();
        let info = match self.look(0) {
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(Some(None)),
            outcome => outcome?,
        };
        drop(collecting);
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

    /// How the child has ended, all zeroes if it has not; without `WNOWAIT` it is collected.
    fn look(&self, flags: i32) -> io::Result<libc::siginfo_t> {
        // SAFETY: all zeroes is a valid siginfo_t.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let (id, options) = (
            self.fd.as_raw_fd() as libc::id_t,
            libc::WEXITED | libc::WNOHANG | flags,
        );
        super::uninterrupted(|| {
            // SAFETY: `info` is valid for writing during the call.
            let waited = unsafe { libc::waitid(libc::P_PIDFD, id, &mut info, options) };
            outcome(waited.into())
        })?;
        Ok(info)
    }

    fn collecting(&self) -> std::sync::MutexGuard<'_, ()> {
        self.collecting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// As [`PidFd::end`], of one for which there was no descriptor left.
pub(crate) fn end_by_id(process_id: u32) {
    let id = Pid::from_raw(process_id.cast_signed());
    // If it is a child it was not collected, and the id is its.
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    if super::uninterrupted(|| Ok(waitid(Id::Pid(id), look)?)).is_ok() {
        let _ = kill(id, Signal::SIGKILL);
        let _ = super::uninterrupted(|| Ok(waitpid(id, None)?));
    }
}

/// What a system call says that gives nothing but 0.
fn outcome(returned: libc::c_long) -> io::Result<()> {
    match returned {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
