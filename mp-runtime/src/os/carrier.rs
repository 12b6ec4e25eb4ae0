//! A socket that carries descriptors beside another connection.
//!
//! A *load* is the descriptors of one message, with a few bytes about them, in as many packets as
//! it takes. It is sent before the message that announces it, so its receiver never waits: what is
//! not there when the message is there never comes. Loads have numbers, and what is left of one
//! that was given up half-way is passed over.
//!
//! One thread at a time sends, and one receives.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

/// The most descriptors of one packet (`SCM_MAX_FD`, unix(7)).
const PACKET_FDS: usize = 253;
/// The most bytes about them in one packet.
const PACKET_BYTES: usize = 16 << 10;
/// The number of its load stands first in every packet.
const HEADER_BYTES: usize = size_of::<u64>();
/// Room for the control message of a full packet, aligned.
const CONTROL_WORDS: usize = 136;

/// How often, and how long apart, it is tried to send while too many descriptors are on their way.
const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(2);

/// One end.
#[derive(Debug)]
pub(crate) struct Carrier {
    socket: OwnedFd,
    sent: AtomicU64,
}

/// Makes the two ends.
pub(crate) fn pair() -> io::Result<(Carrier, OwnedFd)> {
    let (here, there) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    Ok((Carrier::of(here), there))
}

/// How many packets it takes.
pub(crate) fn packet_count(fds: usize, bytes: usize) -> usize {
    fds.div_ceil(PACKET_FDS)
        .max(bytes.div_ceil(PACKET_BYTES))
        .max(1)
}

impl Carrier {
    pub(crate) fn of(socket: OwnedFd) -> Carrier {
        Carrier {
            socket,
            sent: AtomicU64::new(0),
        }
    }

    /// Sends a load, and gives its number. It may wait for the other side to receive if it takes
    /// more than a few packets.
    ///
    /// # Errors
    ///
    /// If the other side is gone, or too many descriptors are on their way.
    pub(crate) fn send(&self, fds: &[BorrowedFd<'_>], bytes: &[u8]) -> io::Result<u64> {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let (mut fds, mut bytes) = (fds, bytes);
        for _ in 0..packet_count(fds.len(), bytes.len()) {
            let (now, later) = fds.split_at(fds.len().min(PACKET_FDS));
            let (said, unsaid) = bytes.split_at(bytes.len().min(PACKET_BYTES));
            let packet = [&number.to_le_bytes()[..], said].concat();
            send_patiently(&self.socket, &packet, now)?;
            (fds, bytes) = (later, unsaid);
        }
        Ok(number)
    }

    /// Receives the load with this number, of so many descriptors and bytes; gives the bytes.
    ///
    /// `take` has each descriptor as soon as it is there: one that it closes leaves room for
    /// others. What it has had by the time of an error is of no use.
    ///
    /// # Errors
    ///
    /// If it is not there, is another than was announced, or there were not enough free
    /// descriptors for it.
    pub(crate) fn receive(
        &self,
        number: u64,
        fd_count: usize,
        byte_count: usize,
        mut take: impl FnMut(OwnedFd),
    ) -> io::Result<Vec<u8>> {
        let mut all_said = Vec::new();
        let mut taken_count = 0;
        let mut buffer = [0_u8; HEADER_BYTES + PACKET_BYTES];
        let mut left = packet_count(fd_count, byte_count);
        let mut is_short = false;
        while left > 0 {
            let packet = super::uninterrupted(|| receive_packet(&self.socket, &mut buffer))?;
            let bytes = &buffer[..packet.byte_count];
            let Some((header, said)) = bytes.split_first_chunk() else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            match u64::from_le_bytes(*header).cmp(&number) {
                std::cmp::Ordering::Less => continue,
                std::cmp::Ordering::Equal => left -= 1,
                std::cmp::Ordering::Greater => return Err(io::ErrorKind::InvalidData.into()),
            }
            is_short |= packet.is_short;
            taken_count += packet.fds.len();
            packet.fds.into_iter().for_each(&mut take);
            all_said.extend_from_slice(said);
        }
        if is_short {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        if taken_count != fd_count || all_said.len() != byte_count {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(all_said)
    }
}

/// Without privileges, as many descriptors of a user may be on their way as one process may have
/// (unix(7), `ETOOMANYREFS`). Others take theirs out, so it is tried for a while.
fn send_patiently(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match super::uninterrupted(|| send_packet(socket, bytes, fds)) {
            Err(error) if error.raw_os_error() == Some(libc::ETOOMANYREFS) && tries < TRIES => {
                tries += 1;
                std::thread::sleep(PAUSE);
            }
            other => return other,
        }
    }
}

fn send_packet(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut control = [0_u64; CONTROL_WORDS];
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all zeroes is a valid msghdr.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !fds.is_empty() {
        let fds_bytes = size_of_val(fds) as u32;
        // SAFETY: it computes a size.
        let space = unsafe { libc::CMSG_SPACE(fds_bytes) } as usize;
        assert!(space <= size_of_val(&control), "a packet has {PACKET_FDS}");
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
    // SAFETY: the message points to buffers that live until the call returns.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

struct Packet {
    byte_count: usize,
    fds: Vec<OwnedFd>,
    /// Some descriptors found no room.
    is_short: bool,
}

fn receive_packet(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Packet> {
    let mut control = [0_u64; CONTROL_WORDS];
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
    // SAFETY: the message points to buffers that live until the call returns.
    let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let byte_count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    Ok(Packet {
        byte_count,
        fds: take_fds(&message),
        is_short: message.msg_flags & libc::MSG_CTRUNC != 0,
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

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::os::descriptor;

    #[test]
    fn a_load_of_many_descriptors_arrives_whole() {
        let (here, there) = pair().expect("there are descriptors");
        let there = Carrier::of(there);
        let (pipe, _) = descriptor::pipe().expect("there are descriptors");
        let fds = vec![pipe.as_fd(); 600];
        let bytes = vec![7_u8; PACKET_BYTES * 4 + 1];
        let number = here.send(&fds, &bytes).expect("the other side is there");
        let mut received = Vec::new();
        let said = there.receive(number, 600, bytes.len(), |fd| received.push(fd));
        assert_eq!(said.expect("it was sent"), bytes);
        assert_eq!(received.len(), 600);
    }

    #[test]
    fn what_was_given_up_is_passed_over_and_what_was_not_sent_is_an_error() {
        let (here, there) = pair().expect("there are descriptors");
        let there = Carrier::of(there);
        let (pipe, _) = descriptor::pipe().expect("there are descriptors");
        here.send(&[pipe.as_fd()], b"given up")
            .expect("it is there");
        let number = here.send(&[], b"this").expect("it is there");
        let said = there.receive(number, 0, 4, drop).expect("it was sent");
        assert_eq!(said, b"this");
        assert!(there.receive(number + 1, 1, 0, drop).is_err());
        here.send(&[pipe.as_fd()], b"").expect("it is there");
        assert!(there.receive(number + 1, 2, 0, drop).is_err());
        drop(here);
        assert!(there.receive(number + 2, 1, 0, drop).is_err());
    }
}
