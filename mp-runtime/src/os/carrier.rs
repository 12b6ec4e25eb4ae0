//! A socket that carries descriptors beside another connection.
//!
//! A *load* is the descriptors of one message, in as many packets as it takes. It is sent before the
//! message that announces it, so its receiver never waits: what is not there when the message is
//! there never comes. So a load must fit into the socket's buffer; whoever makes messages sees to
//! that. Loads have numbers, and what is left of one that was given up half-way is passed over.
//!
//! One thread at a time sends, and one receives.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

/// The most descriptors of one packet (`SCM_MAX_FD`, unix(7)).
const PACKET_FDS: usize = 253;
/// Room for the control message of a full packet, aligned.
const CONTROL_WORDS: usize = 136;

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

impl Carrier {
    pub(crate) fn of(socket: OwnedFd) -> Carrier {
        Carrier {
            socket,
            sent: AtomicU64::new(0),
        }
    }

    /// Sends a load, and gives its number. It waits while earlier ones fill the socket's buffer: they
    /// were announced, so the other side is about to take them out.
    ///
    /// # Errors
    ///
    /// If the other side is gone, or too many descriptors are on their way: without privileges, as many of a user as one process may have
    /// (`ETOOMANYREFS`, unix(7)).
    pub(crate) fn send(&self, fds: &[BorrowedFd<'_>]) -> io::Result<u64> {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        for packet in fds.chunks(PACKET_FDS) {
            super::uninterrupted(|| send_packet(&self.socket, &number.to_le_bytes(), packet))?;
        }
        Ok(number)
    }

    /// Receives the load with this number, of so many descriptors. `take` has each as soon as it is
    /// there: one that it closes leaves room for others. What it has had by the time of an error is
    /// of no use.
    ///
    /// # Errors
    ///
    /// If it is not there, is another than was announced, or there were not enough free
    /// descriptors for it.
    pub(crate) fn receive(
        &self,
        number: u64,
        count: usize,
        mut take: impl FnMut(OwnedFd),
    ) -> io::Result<()> {
        let mut taken = 0;
        let mut left = count.div_ceil(PACKET_FDS);
        let mut is_short = false;
        while left > 0 {
            let mut header = [0; size_of::<u64>()];
            let packet = super::uninterrupted(|| receive_packet(&self.socket, &mut header))?;
            if packet.byte_count != header.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match u64::from_le_bytes(header).cmp(&number) {
                std::cmp::Ordering::Less => continue,
                std::cmp::Ordering::Equal => left -= 1,
                std::cmp::Ordering::Greater => return Err(io::ErrorKind::InvalidData.into()),
            }
            is_short |= packet.is_short;
            taken += packet.fds.len();
            packet.fds.into_iter().for_each(&mut take);
        }
        if is_short {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        if taken != count {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
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
        let number = here
            .send(&vec![pipe.as_fd(); 600])
            .expect("the other side is there");
        let mut fds = Vec::new();
        let received = there.receive(number, 600, |fd| fds.push(fd));
        assert!(received.is_ok() && fds.len() == 600);
    }

    #[test]
    fn what_was_given_up_is_passed_over_and_what_was_not_sent_is_an_error() {
        let (here, there) = pair().expect("there are descriptors");
        let there = Carrier::of(there);
        let (pipe, _) = descriptor::pipe().expect("there are descriptors");
        here.send(&[pipe.as_fd()]).expect("it is there");
        let number = here.send(&[pipe.as_fd(); 2]).expect("it is there");
        assert!(there.receive(number, 2, drop).is_ok());
        assert!(there.receive(number + 1, 1, drop).is_err());
        here.send(&[pipe.as_fd()]).expect("it is there");
        assert!(there.receive(number + 1, 2, drop).is_err());
        drop(here);
        assert!(there.receive(number + 2, 1, drop).is_err());
    }
}
