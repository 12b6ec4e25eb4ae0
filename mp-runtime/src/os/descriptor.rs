//! Descriptors: all of them owned and close-on-exec.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::path::Path;
use std::time::Instant;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, socket, socketpair,
};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{AccessFlags, access};

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

/// A socket that can later connect to an `ipc-channel` server without needing a new descriptor.
pub(crate) fn packet_socket() -> io::Result<OwnedFd> {
    Ok(socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?)
}

/// Connects `socket` to the server that `path` names.
pub(crate) fn connect_to(socket: &OwnedFd, path: &str) -> io::Result<()> {
    let address = UnixAddr::new(path)?;
    super::uninterrupted(|| Ok(connect(socket.as_raw_fd(), &address)?))
}

/// Holds on to the file at `path` without opening what is behind it; it stays reachable through
/// [`path_of`] when its name is gone.
pub(crate) fn anchor(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// A name for what `fd` refers to, valid in this process while `fd` is open.
pub(crate) fn path_of(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
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
    Ok(nix::unistd::dup2_stdout(&fd)?)
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

/// Checks that files can be made in a directory.
pub(crate) fn check_writable(dir: &Path) -> io::Result<()> {
    if !std::fs::metadata(dir)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(access(dir, AccessFlags::W_OK | AccessFlags::X_OK)?)
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
