//! A connection that one process makes for another.
//!
//! `ipc-channel` makes both ends of a channel in one process and has them sent to another over a
//! channel that is there. A new worker has none. So who starts it makes the channels, takes the
//! worker's ends [out of the hands](super::loosen) of `ipc-channel`, and passes their descriptors on
//! in the way that any descriptor is passed to a new process. There they are put in the place of
//! the two ends of a channel that the worker made itself, its *seat*, under the same numbers, which
//! is all that `ipc-channel` knows of them. Both are sockets of the same kind.
//!
//! Which numbers they are is found out by a message through the seat that carries its own sender.
//! A process that is forked mostly has its seat from before: filling it takes two system calls.

use std::io;
use std::os::fd::{OwnedFd, RawFd};

use super::frame::{self, Inbox, Outbox};
use super::{Ends, Handles};
use crate::os::{self, descriptor, packet};
use crate::shm::transit::Cargo;

/// The two ends of a channel of this process, which nobody uses.
#[derive(Debug)]
pub(crate) struct Seat {
    inbox: Inbox,
    outbox: Outbox,
    inbox_number: RawFd,
    outbox_number: RawFd,
}

impl Seat {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// If there are too few descriptors.
    pub(crate) fn make() -> io::Result<Seat> {
        frame::prepare()?;
        descriptor::require_room(6)?;
        let (outbox, inbox) = frame::connect()?;
        let mark = format!("{:016x}{:016x}", os::random()?, os::random()?);
        let own = Ends {
            channels: vec![outbox.opaque()],
            ..Ends::default()
        };
        let own = Handles::of(Some(own), Cargo::default());
        outbox.send(0, mark.as_bytes(), &[], own.as_ref())?;
        drop(own);
        let inbox_copy = packet::find_marked(mark.as_bytes())?;
        let mut fds = packet::receive(&inbox_copy)?.fds.into_iter();
        let outbox_copy = fds.next().ok_or(io::ErrorKind::InvalidData)?;
        Ok(Seat {
            inbox_number: descriptor::other_number(&inbox_copy)?,
            outbox_number: descriptor::other_number(&outbox_copy)?,
            inbox,
            outbox,
        })
    }

    /// The connection over the ends that another process made for this one: where it receives, and
    /// where it sends.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub(crate) fn fill(self, [down, up]: [OwnedFd; 2]) -> io::Result<(Inbox, Outbox)> {
        descriptor::replace(self.inbox_number, down)?;
        descriptor::replace(self.outbox_number, up)?;
        Ok((self.inbox, self.outbox))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::loosen;

    #[test]
    fn a_seat_has_the_ends_that_were_taken_out_of_a_channel() {
        let (down, workers_inbox) = frame::connect().expect("there are descriptors");
        let (workers_outbox, up) = frame::connect().expect("there are descriptors");
        let ends = loosen(workers_inbox, &workers_outbox).expect("they are sockets");
        drop(workers_outbox);
        let seat = Seat::make().expect("there are descriptors");
        let (inbox, outbox) = seat.fill(ends).expect("they are open");
        down.send(1, b"down", &[], None).expect("it is there");
        outbox.send(2, b"up", &[], None).expect("it is there");
        assert_eq!(inbox.next().expect("it was sent").body, b"down");
        assert_eq!(up.next().expect("it was sent").body, b"up");
        drop(outbox);
        assert!(up.next().is_err(), "nobody else has that end");
    }
}
