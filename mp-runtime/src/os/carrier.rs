//! A socket that carries descriptors beside another connection.
//!
//! A *load* is the descriptors of one message, in as many packets as it takes. It is sent before the
//! message that announces it, so its receiver never waits: what is not there when the message is
//! there never comes. So a load must fit into the socket's buffer; whoever makes messages sees to
//! that. Loads have numbers, and what is left of one that was given up half-way is passed over.
//!
//! One thread at a time sends, and one receives.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc;

use super::packet::{self, PACKET_FDS, Patience};

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
