//! Descriptors: all of them owned and close-on-exec.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::path::Path;
use std::time::Instant;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::sys::stat::{Mode, SFlag, fstat};

use super::clock;

/// A connected pair of stream sockets.
pub(crate) fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::Stream,
        None,
        flags,
    )?)
}

/// A pipe: the end to read from and the end to write to.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(OFlag::O_CLOEXEC)?)
}

/// A copy of `fd` with a number above the standard streams.
pub(crate) fn duplicate(fd: impl AsFd) -> io::Result<OwnedFd> {
    duplicate_from(3, fd)
}

/// A copy of `fd` with the lowest number from `least` on.
pub(crate) fn duplicate_from(least: RawFd, fd: impl AsFd) -> io::Result<OwnedFd> {
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(least))?;
    // SAFETY: fcntl just made this descriptor, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// The same descriptor, or a copy of it if its number is one of a standard stream.
pub(crate) fn above_standard(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() < 3 {
        duplicate(&fd)
    } else {
        Ok(fd)
    }
}

/// Makes standard output of this process be `fd`.
pub(crate) fn become_stdout(fd: OwnedFd) -> io::Result<()> {
    become_standard(libc::STDOUT_FILENO, &fd)
}

/// Makes standard stream `number` of this process be `fd`.
pub(crate) fn become_standard(number: RawFd, fd: &OwnedFd) -> io::Result<()> {
    match number {
        libc::STDIN_FILENO => nix::unistd::dup2_stdin(fd)?,
        libc::STDOUT_FILENO => nix::unistd::dup2_stdout(fd)?,
        libc::STDERR_FILENO => nix::unistd::dup2_stderr(fd)?,
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    }
    Ok(())
}

/// Standard stream `number` of this process, if it is open.
pub(crate) fn standard(number: RawFd) -> Option<BorrowedFd<'static>> {
    assert!((0..3).contains(&number), "there are three standard streams");
    // SAFETY: it is not -1; whoever closes a standard stream gets errors from what uses it, or
    // another file, as with the streams of `std`, which lend it in the same way.
    let stream = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(stream, FcntlArg::F_GETFD).is_ok().then_some(stream)
}

/// The directory at `path`, to go to by [`enter`].
pub(crate) fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
}

/// Makes `directory` the working directory of this process.
pub(crate) fn enter(directory: &OwnedFd) -> io::Result<()> {
    Ok(nix::unistd::fchdir(directory)?)
}

/// The other number under which this process has what `copy` refers to.
pub(crate) fn other_number(copy: &OwnedFd) -> io::Result<RawFd> {
    let identity = |fd: BorrowedFd<'_>| fstat(fd).map(|found| (found.st_dev, found.st_ino));
    let wanted = identity(copy.as_fd())?;
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.parse::<RawFd>().ok());
        let Some(number) = number.filter(|&number| number != copy.as_raw_fd()) else {
            continue;
        };
        // SAFETY: it is not -1, and is borrowed for this call only, which fails if it is closed.
        let found = identity(unsafe { BorrowedFd::borrow_raw(number) });
        if found == Ok(wanted) {
            return Ok(number);
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Puts `fd` in the place of descriptor `number`, which its owner has from then on.
pub(crate) fn replace(number: RawFd, fd: OwnedFd) -> io::Result<()> {
    super::uninterrupted(|| {
        // SAFETY: a plain system call on two numbers. Whoever owns the descriptor goes on owning
        // it, and what it referred to was nobody else's.
        match unsafe { libc::dup3(fd.as_raw_fd(), number, libc::O_CLOEXEC) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    })
}

/// Takes over a descriptor that this process inherited at exec, close-on-exec from now on.
///
/// # Errors
///
/// `InvalidInput` for a standard stream and what is not an open descriptor.
pub(crate) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: `number` is not -1, and is borrowed for this call only, which fails if it is closed.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: the caller is the first code of the process, started with this descriptor for it
    // alone, and it is open as fcntl saw.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Writes all of `bytes` to a socket, without SIGPIPE if nobody reads.
pub(crate) fn send_all(socket: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let flags = MsgFlags::MSG_NOSIGNAL;
        let sent = super::uninterrupted(|| Ok(send(socket.as_raw_fd(), bytes, flags)?))?;
        bytes = &bytes[sent..];
    }
    Ok(())
}

/// Fills `bytes` from a socket.
pub(crate) fn receive_all(socket: &OwnedFd, mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let flags = MsgFlags::MSG_WAITALL;
        match super::uninterrupted(|| Ok(recv(socket.as_raw_fd(), bytes, flags)?))? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes = &mut bytes[count..],
        }
    }
    Ok(())
}

/// What can be read from a socket without waiting, up to a kilobyte.
pub(crate) fn read_available(socket: &OwnedFd) -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    let count = recv(socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT).unwrap_or(0);
    bytes.truncate(count);
    bytes
}

/// Waits until one of `fds` can be read or was hung up.
pub(crate) fn wait_readable(fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    wait_readable_until(fds, None).map(drop)
}

/// Waits until one of `fds` can be read or was hung up, or until `deadline`. Tells which ones.
pub(crate) fn wait_readable_until(
    fds: &[BorrowedFd<'_>],
    deadline: Option<Instant>,
) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> = fds
        .iter()
        .map(|fd| PollFd::new(*fd, PollFlags::POLLIN))
        .collect();
    super::uninterrupted(|| Ok(poll(&mut polled, clock::time_left(deadline))?))?;
    let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
    Ok(polled.iter().map(is_ready).collect())
}

/// Whether `fd` is a socket.
pub(crate) fn is_socket(fd: &OwnedFd) -> io::Result<bool> {
    let kind = SFlag::from_bits_truncate(fstat(fd.as_fd())?.st_mode) & SFlag::S_IFMT;
    Ok(kind == SFlag::S_IFSOCK)
}

/// Whether `fd` is memory, of any length but 0.
pub(crate) fn is_memory(fd: &OwnedFd) -> io::Result<bool> {
    // Only memory files tell of seals.
    Ok(fcntl(fd, FcntlArg::F_GET_SEALS).is_ok() && fstat(fd.as_fd())?.st_size > 0)
}

/// Whether nobody has the other end of a pipe any more.
pub(crate) fn is_hung_up(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut polled = [PollFd::new(fd, PollFlags::empty())];
    super::uninterrupted(|| Ok(poll(&mut polled, PollTimeout::ZERO)?))?;
    Ok(polled[0].any() == Some(true))
}

/// Checks that `count` descriptors more can be opened. `ipc-channel` panics where the descriptors
/// of a message find no room, so it is asked before one is received.
pub(crate) fn require_room(count: usize) -> io::Result<()> {
    let first = pipe()?;
    let mut copies = Vec::with_capacity(count);
    for _ in 2..count {
        copies.push(duplicate(&first.0)?);
    }
    Ok(())
}
