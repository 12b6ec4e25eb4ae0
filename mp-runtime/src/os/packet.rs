//! Packets with descriptors over pairs of sockets (`SOCK_SEQPACKET`, unix(7)): each is received
//! whole or not at all, and the end of it all is known when nobody has the other socket any more.

use std::fs;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;
use std::time::Instant;

use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::sockopt::{SndBuf, SockType as TypeOption};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, getsockopt, recv, setsockopt, socketpair,
};

use super::clock;

/// The most descriptors of one packet (`SCM_MAX_FD`, unix(7)).
pub(crate) const PACKET_FDS: usize = 253;
/// Room for the control message of a full packet, aligned.
const CONTROL_WORDS: usize = 136;

/// The most bytes of a packet that [`receive`] takes.
pub(crate) const PACKET_BYTES: usize = 33 << 10;

/// So few bytes are put together before they are sent, which is less work for the kernel.
const SHORT_BYTES: usize = 256;

/// How much a socket of [`wide_pair`] shall hold on its way, if the machine allows so much.
const WIDE_BYTES: usize = 208 << 10;

/// Makes two connected sockets.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?)
}

/// Makes two connected sockets that hold more on its way than others do (the kernel doubles what
/// it is asked for, socket(7)).
pub(crate) fn wide_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (here, there) = pair()?;
    for socket in [&here, &there] {
        setsockopt(socket, SndBuf, &WIDE_BYTES)?;
    }
    Ok((here, there))
}

/// How many bytes, with what the kernel adds for itself, `socket` may have on their way.
pub(crate) fn buffer_bytes(socket: impl AsFd) -> io::Result<usize> {
    Ok(getsockopt(&socket.as_fd(), SndBuf)?)
}

/// What was received.
pub(crate) struct Packet<B = Vec<u8>> {
    pub(crate) bytes: B,
    pub(crate) fds: Vec<OwnedFd>,
    /// Some descriptors found no room.
    pub(crate) is_short: bool,
    /// Some bytes found no room.
    pub(crate) is_cut: bool,
}

/// Whether a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Until there is room.
    Wait,
    /// If it had to, it fails with `WouldBlock`.
    No,
}

/// Sends one packet, made of `parts`.
pub(crate) fn send(
    socket: impl AsFd,
    parts: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
    patience: Patience,
) -> io::Result<()> {
    let flags = match patience {
        Patience::Wait => MsgFlags::MSG_NOSIGNAL,
        Patience::No => MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT,
    };
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    if fds.is_empty() && bytes <= SHORT_BYTES {
        let mut joined = [0; SHORT_BYTES];
        let mut rest = &mut joined[..];
        for part in parts {
            let (place, behind) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = behind;
        }
        let fd = socket.as_fd().as_raw_fd();
        super::uninterrupted(|| Ok(nix::sys::socket::send(fd, &joined[..bytes], flags)?))?;
        return Ok(());
    }
    let mut control = [const { MaybeUninit::<u64>::uninit() }; CONTROL_WORDS];
    // SAFETY: all zeroes is a valid msghdr.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = parts.as_ptr().cast_mut().cast();
    message.msg_iovlen = parts.len();
    if !fds.is_empty() {
        let fds_bytes = size_of_val(fds) as u32;
        // SAFETY: it computes a size.
        let space = unsafe { libc::CMSG_SPACE(fds_bytes) } as usize;
        assert!(space <= size_of_val(&control), "a packet has {PACKET_FDS}");
        // The padding behind the descriptors is the kernel's to see.
        control[..space.div_ceil(size_of::<u64>())].fill(MaybeUninit::new(0));
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = space;
        // SAFETY: the control buffer is large enough for a header, and aligned.
        let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        // SAFETY: it computes a size.
        let length = unsafe { libc::CMSG_LEN(fds_bytes) } as usize;
        let head = libc::cmsghdr {
            cmsg_len: length,
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_RIGHTS,
        };
        // SAFETY: it points to the start of the control buffer.
        unsafe { header.write(head) };
        // SAFETY: the header was just written.
        let data = unsafe { libc::CMSG_DATA(header) };
        // SAFETY: a borrowed descriptor has the layout of its number (documented by std), and
        // there is room for `space` bytes, header included.
        unsafe { ptr::copy_nonoverlapping(fds.as_ptr().cast::<u8>(), data, size_of_val(fds)) };
    }
    super::uninterrupted(|| {
        // SAFETY: the message points to buffers that live until the call returns; an `IoSlice` has
        // the layout of an iovec (documented by std).
        match unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, flags.bits()) }
        {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    })
}

/// Whether nothing could be sent since nobody has the other socket.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected)
}

/// Receives one packet, without waiting. At the end it has no bytes.
pub(crate) fn receive(socket: impl AsFd) -> io::Result<Packet> {
    let mut buffer = [const { MaybeUninit::uninit() }; PACKET_BYTES];
    let packet = receive_into(socket, &mut buffer)?;
    Ok(Packet {
        bytes: packet.bytes.to_vec(),
        fds: packet.fds,
        is_short: packet.is_short,
        is_cut: packet.is_cut,
    })
}

/// Receives one packet into `buffer`, without waiting. At the end it has no bytes.
pub(crate) fn receive_into(
    socket: impl AsFd,
    buffer: &mut [MaybeUninit<u8>],
) -> io::Result<Packet<&[u8]>> {
    let mut control = [const { MaybeUninit::<u64>::uninit() }; CONTROL_WORDS];
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: all zeroes is a valid msghdr.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    let count = super::uninterrupted(|| {
        // SAFETY: the message points to buffers that live until the call returns.
        let count = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, flags) };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    })?;
    let fds = take_fds(&message);
    let filled: *const u8 = buffer.as_ptr().cast();
    // SAFETY: the kernel wrote so many bytes there, and the borrow of the buffer goes on.
    let bytes = unsafe { std::slice::from_raw_parts(filled, count) };
    Ok(Packet {
        bytes,
        fds,
        is_short: message.msg_flags & libc::MSG_CTRUNC != 0,
        is_cut: message.msg_flags & libc::MSG_TRUNC != 0,
    })
}

/// Takes the descriptors out of a message that was received.
fn take_fds(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel filled the control buffer up to the length it left in the message.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: the macros give headers within the control buffer, or null.
        let head = unsafe { header.read() };
        if (head.cmsg_level, head.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: the header is in the buffer.
            let data = unsafe { libc::CMSG_DATA(header) };
            // SAFETY: it computes a size.
            let before = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = head.cmsg_len.saturating_sub(before) / size_of::<RawFd>();
            for index in 0..count {
                // SAFETY: the kernel wrote so many numbers here.
                let place = unsafe { data.cast::<RawFd>().add(index) };
                // SAFETY: as above; numbers in a control message may be unaligned.
                let number = unsafe { place.read_unaligned() };
                // SAFETY: the kernel has just made this descriptor for us.
                fds.push(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
        // SAFETY: as for the first one.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    fds
}

/// Looks at the first packet: its length, and as much of it as `buffer` takes.
pub(crate) fn peek(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    // It gives the whole length, also where less was copied.
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT;
    super::uninterrupted(|| Ok(recv(socket.as_fd().as_raw_fd(), buffer, flags)?))
}

/// Whether there is a packet behind the first one.
pub(crate) fn has_second(socket: impl AsFd) -> io::Result<bool> {
    let all = waiting_bytes(&socket)?;
    if all == 0 {
        return Ok(false);
    }
    match peek(&socket, &mut []) {
        Ok(first) => Ok(all > first),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// How many bytes all packets have together.
pub(crate) fn waiting_bytes(socket: impl AsFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: it writes one integer, which is valid for that.
    let asked = unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut bytes) };
    if asked < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// What a socket is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) to_receive: bool,
    pub(crate) to_send: bool,
    /// Nobody has the other socket.
    pub(crate) is_hung_up: bool,
}

const HUNG_UP: PollFlags = PollFlags::POLLHUP
    .union(PollFlags::POLLERR)
    .union(PollFlags::POLLNVAL);

/// Waits until there is something to receive, or also room to send, or `deadline`. There is room
/// when three quarters of the buffer are free.
pub(crate) fn wait(
    socket: impl AsFd,
    also_to_send: bool,
    deadline: Option<Instant>,
) -> io::Result<Ready> {
    let mut wanted = PollFlags::POLLIN;
    wanted.set(PollFlags::POLLOUT, also_to_send);
    let mut polled = [PollFd::new(socket.as_fd(), wanted)];
    super::uninterrupted(|| Ok(poll(&mut polled, clock::time_left(deadline))?))?;
    let found = polled[0].revents().unwrap_or(PollFlags::empty());
    Ok(Ready {
        to_receive: found.contains(PollFlags::POLLIN),
        to_send: found.contains(PollFlags::POLLOUT),
        is_hung_up: found.intersects(HUNG_UP),
    })
}

/// Waits until there is something to receive, or it is over. Less work than [`wait`], so it is sooner
/// awake.
pub(crate) fn wait_for_packet(socket: impl AsFd) -> io::Result<()> {
    let looked = super::uninterrupted(|| {
        Ok(recv(
            socket.as_fd().as_raw_fd(),
            &mut [],
            MsgFlags::MSG_PEEK,
        )?)
    });
    match looked {
        // Somebody has set it never to wait.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            wait(socket, false, None).map(drop)
        }
        // What else is wrong is for who receives.
        _ => Ok(()),
    }
}

/// Whether nothing can come any more but what is there.
pub(crate) fn is_over(socket: impl AsFd) -> io::Result<bool> {
    let mut polled = libc::pollfd {
        fd: socket.as_fd().as_raw_fd(),
        events: libc::POLLRDHUP,
        revents: 0,
    };
    super::uninterrupted(|| {
        // SAFETY: it points to one entry, which is valid for reading and writing.
        match unsafe { libc::poll(&raw mut polled, 1, 0) } {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    })?;
    Ok(polled.revents != 0)
}

/// What is ready now.
pub(crate) fn readiness(socket: impl AsFd) -> io::Result<Ready> {
    wait(socket, true, Some(Instant::now()))
}

/// Tells of every packet that comes in and of all room that there is to send, once: what was there
/// before and was left does not count again.
pub(crate) struct News(Epoll);

impl News {
    /// News of `socket`; the first is how it is now.
    pub(crate) fn of(socket: impl AsFd) -> io::Result<News> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let wanted = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        epoll.add(socket, EpollEvent::new(wanted, 0))?;
        Ok(News(epoll))
    }

    /// Waits for some.
    pub(crate) fn wait(&self) -> io::Result<()> {
        let mut events = [EpollEvent::empty()];
        super::uninterrupted(|| Ok(self.0.wait(&mut events, EpollTimeout::NONE)?))?;
        Ok(())
    }
}

/// Finds the socket of this process of which the first packet to receive has `mark` in it, and
/// gives another descriptor of it.
pub(crate) fn find_marked(mark: &[u8]) -> io::Result<OwnedFd> {
    let mut buffer = [0; 512];
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse::<RawFd>().ok()) else {
            continue;
        };
        // Whose it is nobody knows: it may be closed, or another by now. What is looked at is a copy.
        // SAFETY: it is not -1, and is borrowed for this call only, which fails if it is closed.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        let Ok(copy) = super::descriptor::duplicate(borrowed) else {
            continue;
        };
        let is_of_packets = getsockopt(&copy, TypeOption) == Ok(SockType::SeqPacket);
        // One that listens has none, and says so.
        if !is_of_packets || waiting_bytes(&copy).unwrap_or(0) < mark.len() {
            continue;
        }
        let Ok(count) = peek(&copy, &mut buffer) else {
            continue;
        };
        let seen = &buffer[..count.min(buffer.len())];
        if seen.windows(mark.len()).any(|window| window == mark) {
            return Ok(copy);
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::descriptor;

    fn send_one(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
        send(socket, &[IoSlice::new(bytes)], &[], Patience::No)
    }

    #[test]
    fn a_packet_comes_whole_with_its_descriptors() {
        let (here, there) = wide_pair().expect("there are descriptors");
        let (pipe, _writer) = descriptor::pipe().expect("there are descriptors");
        let parts = [IoSlice::new(b"ab"), IoSlice::new(b"cd")];
        send(&here, &parts, &[pipe.as_fd(); PACKET_FDS], Patience::No).expect("there is room");
        let packet = receive(&there).expect("it is there");
        assert_eq!(packet.bytes, b"abcd");
        assert!(packet.fds.len() == PACKET_FDS && !packet.is_short && !packet.is_cut);
        let error = receive(&there).err().expect("there is no other");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_second_packet_is_told_from_the_first() {
        let (here, there) = wide_pair().expect("there are descriptors");
        assert!(!has_second(&there).expect("it can be asked"));
        send_one(&here, &[1; 3000]).expect("there is room");
        assert!(!has_second(&there).expect("it can be asked"));
        send_one(&here, &[2]).expect("there is room");
        assert!(has_second(&there).expect("it can be asked"));
        let mut first = [0; 2];
        assert_eq!(peek(&there, &mut first).expect("it is there"), 3000);
        assert_eq!(first, [1, 1]);
        drop(receive(&there));
        assert!(!has_second(&there).expect("it can be asked"));
    }

    #[test]
    fn all_the_packets_that_a_buffer_takes_leave_room_when_all_but_one_are_gone() {
        let (here, there) = wide_pair().expect("there are descriptors");
        for bytes in [1, 1000, PACKET_BYTES] {
            while send_one(&here, &vec![0; bytes]).is_ok() {}
            assert!(!readiness(&here).expect("it can be asked").to_send);
            while has_second(&there).expect("it can be asked") {
                drop(receive(&there));
            }
            assert!(
                readiness(&here).expect("it can be asked").to_send,
                "{bytes}"
            );
            drop(receive(&there));
        }
    }

    #[test]
    fn what_was_sent_comes_before_the_end() {
        let (here, there) = wide_pair().expect("there are descriptors");
        send_one(&here, b"last").expect("there is room");
        // What it has not received makes a reset of its end.
        send_one(&there, b"unread").expect("there is room");
        drop(here);
        let first = receive(&there);
        let packet = first.or_else(|_| receive(&there)).expect("it is there");
        assert_eq!(packet.bytes, b"last");
        let end = receive(&there).expect("it is the end");
        assert!(end.bytes.is_empty() && is_over(&there).expect("it can be asked"));
    }

    #[test]
    fn news_is_what_came_since() {
        let (here, there) = wide_pair().expect("there are descriptors");
        let news = News::of(&there).expect("there are descriptors");
        news.wait().expect("there is room to send");
        send_one(&here, b"one").expect("there is room");
        news.wait().expect("one came");
        send_one(&here, b"two").expect("there is room");
        news.wait().expect("another came");
    }

    #[test]
    fn a_socket_is_found_by_what_waits_in_it() {
        let (here, there) = pair().expect("there are descriptors");
        let mark = b"the mark of a_socket_is_found";
        assert!(find_marked(mark).is_err());
        send_one(&here, mark).expect("there is room");
        let found = find_marked(mark).expect("it is open");
        assert_eq!(receive(&there).expect("it is there").bytes, mark);
        assert!(receive(&found).is_err(), "it is the same queue");
    }
}
