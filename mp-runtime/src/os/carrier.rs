//! A socket that carries descriptors beside another connection.
//!
//! A *load* is the descriptors of one message, in as many packets as it takes. It is sent before the
//! message that announces it, so its receiver never waits: what is not there when the message is
//! there never comes. So a load must fit into the socket's buffer; whoever makes messages sees to
//! that. Loads have numbers, and what is left of one that was given up half-way is passed over.
//!
//! Ahead of all loads a few descriptors may be sent that their receiver waits for. And an empty packet,
//! a *knock*, is passed over as well: it makes the socket readable, which is all it is for.
//!
//! One thread at a time sends, and one receives.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc;

use super::packet::{self, PACKET_FDS, Patience};

/// In place of a number: what is sent ahead.
const AHEAD: u64 = u64::MAX;

/// One end.
#[derive(Debug)]
pub(crate) struct Carrier {
    socket: OwnedFd,
    sent: AtomicU64,
}

/// Makes the two ends.
pub(crate) fn pair() -> io::Result<(Carrier, OwnedFd)> {
    let (here, there) = packet::pair()?;
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
            let bytes = number.to_le_bytes();
            packet::send(
                &self.socket,
                &[IoSlice::new(&bytes)],
                packet,
                Patience::Wait,
            )?;
        }
        Ok(number)
    }

    /// Sends these ahead of all loads.
    ///
    /// # Errors
    ///
    /// As those of [`send`](Carrier::send).
    pub(crate) fn send_ahead(&self, fds: &[OwnedFd]) -> io::Result<()> {
        let fds: Vec<_> = fds.iter().map(OwnedFd::as_fd).collect();
        let bytes = AHEAD.to_le_bytes();
        packet::send(&self.socket, &[IoSlice::new(&bytes)], &fds, Patience::Wait)
    }

    /// Waits for what is sent ahead of all loads.
    ///
    /// # Errors
    ///
    /// If the other side is gone, or there are not enough free descriptors.
    pub(crate) fn receive_ahead<const COUNT: usize>(&self) -> io::Result<[OwnedFd; COUNT]> {
        packet::wait_for_packet(&self.socket)?;
        let mut header = [const { MaybeUninit::uninit() }; size_of::<u64>()];
        let packet = packet::receive_into(&self.socket, &mut header)?;
        if packet.bytes != AHEAD.to_le_bytes() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let fds = packet.fds.try_into();
        fds.map_err(|_| io::Error::from_raw_os_error(libc::EMFILE))
    }

    /// Makes the other socket readable.
    ///
    /// # Errors
    ///
    /// If the other side is gone.
    pub(crate) fn knock(&self) -> io::Result<()> {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let bytes = number.to_le_bytes();
        packet::send(&self.socket, &[IoSlice::new(&bytes)], &[], Patience::Wait)
    }

    /// What is readable after a knock.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
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
            let mut header = [const { MaybeUninit::uninit() }; size_of::<u64>()];
            let packet = packet::receive_into(&self.socket, &mut header)?;
            let Ok(header) = packet.bytes.try_into() else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
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

#[cfg(test)]
mod tests {
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
    fn what_is_sent_ahead_comes_first_and_a_knock_is_no_load() {
        let (here, there) = pair().expect("there are descriptors");
        let there = Carrier::of(there);
        let (pipe, other) = descriptor::pipe().expect("there are descriptors");
        here.send_ahead(&[pipe, other]).expect("it is there");
        here.knock().expect("it is there");
        let (pipe, _) = descriptor::pipe().expect("there are descriptors");
        let number = here.send(&[pipe.as_fd()]).expect("it is there");
        let _: [OwnedFd; 2] = there.receive_ahead().expect("it was sent");
        let mut count = 0;
        let received = there.receive(number, 1, |_| count += 1);
        assert!(received.is_ok() && count == 1);
        drop(here);
        assert!(there.receive_ahead::<2>().is_err());
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
