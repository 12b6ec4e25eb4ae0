//! One message of a pipe, and the packets it travels in.
//!
//! ```text
//! packet   header │ bytes of the message, in its last packet, if they are few
//!          + descriptors: as many as go into a packet in each but the last one, the rest in that
//!
//! header   kind  form  0 0 │ regions │ files │ channels │ plain regions │ before │ bytes
//!          1     1     2     4         4       4          4               4        8
//! ```
//!
//! The descriptors of all packets of a message stand in one order: regions of shared memory, open
//! files, ends of channels and regions of `ipc-channel`, and last, if the bytes of the message are
//! many, sealed memory that holds them. `before` says how many went in the packets before; all else
//! is the same in every packet of a message. So who receives a packet knows whether it continues
//! what came before it, and what it should hold: a message whose sender gave up half-way ends where
//! another begins. Whatever comes, one packet or another makes one error, and the next message is
//! read as if nothing had happened.

use std::io;
use std::os::fd::OwnedFd;

use nix::libc;

use crate::error::{Error, ErrorKind};
use crate::os::packet::{PACKET_FDS, Packet};
use crate::os::sealed::SealedBytes;
use crate::os::shared_fd::SharedFd;
use crate::shm::Region;
use crate::shm::transit::Cargo;
use crate::wire::{Handles, LooseEnds};

/// How long a header is.
pub(super) const HEADER_BYTES: usize = 32;
/// A message has no more descriptors than this; somewhat more than can be encoded.
const FD_LIMIT: usize = 1 << 15;

/// A packet with others behind it.
pub(super) const LOAD: u8 = 1;
/// The last packet of a message.
const END: u8 = 2;
/// The bytes are in the packet, or in sealed memory.
const INLINE: u8 = 0;
const SEALED: u8 = 1;

/// What stands before the bytes of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) is_sealed: bool,
    pub(super) regions: usize,
    pub(super) files: usize,
    pub(super) channels: usize,
    pub(super) plain_regions: usize,
    pub(super) bytes: u64,
}

impl Header {
    /// Writes that of the packet before which so many descriptors went.
    pub(super) fn write(&self, is_last: bool, before: usize) -> [u8; HEADER_BYTES] {
        let mut to = [0; HEADER_BYTES];
        to[0] = if is_last { END } else { LOAD };
        to[1] = if self.is_sealed { SEALED } else { INLINE };
        let Header {
            regions,
            files,
            channels,
            plain_regions,
            ..
        } = *self;
        let counts = [regions, files, channels, plain_regions, before];
        for (place, count) in to[4..24].as_chunks_mut::<4>().0.iter_mut().zip(counts) {
            *place = (count as u32).to_le_bytes();
        }
        to[24..].copy_from_slice(&self.bytes.to_le_bytes());
        to
    }

    /// Reads one: whether it is of the last packet, and how many descriptors went before.
    fn read(from: &[u8; HEADER_BYTES]) -> Option<(Header, bool, usize)> {
        let (kind, form) = (from[0], from[1]);
        let (counts, _) = from[4..24].as_chunks();
        let count = |place: usize| u32::from_le_bytes(counts[place]) as usize;
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&from[24..]);
        let header = Header {
            is_sealed: form == SEALED,
            regions: count(0),
            files: count(1),
            channels: count(2),
            plain_regions: count(3),
            bytes: u64::from_le_bytes(bytes),
        };
        let is_one = matches!(kind, LOAD | END) && matches!(form, INLINE | SEALED);
        (is_one && header.fd_count() <= FD_LIMIT).then_some((header, kind == END, count(4)))
    }

    pub(super) fn fd_count(&self) -> usize {
        let sealed = usize::from(self.is_sealed);
        self.regions + self.files + self.channels + self.plain_regions + sealed
    }
}

/// A message that was received.
#[derive(Debug)]
pub(super) struct Letter {
    body: Body,
    cargo: Cargo,
    ends: LooseEnds,
}

#[derive(Debug)]
enum Body {
    Inline(Vec<u8>),
    Sealed(SealedBytes),
}

impl Letter {
    fn plain(packet: Vec<u8>) -> Letter {
        Letter {
            body: Body::Inline(packet),
            cargo: Cargo::default(),
            ends: LooseEnds::default(),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match &self.body {
            Body::Inline(bytes) => bytes.get(HEADER_BYTES..).unwrap_or_default(),
            Body::Sealed(bytes) => bytes,
        }
    }

    /// Takes the handles that came with it.
    pub(super) fn take_handles(&mut self) -> Result<Option<Handles>, Error> {
        let cargo = std::mem::take(&mut self.cargo);
        let ends = std::mem::take(&mut self.ends);
        ends.into_handles(cargo).map_err(lost)
    }
}

/// The packets that came of a message which is not whole.
#[derive(Debug)]
pub(super) struct Partial {
    header: Header,
    /// How many descriptors its packets have had.
    count: usize,
    cargo: Cargo,
    ends: Vec<OwnedFd>,
    sealed: Option<OwnedFd>,
    /// Why something is missing.
    loss: Option<io::Error>,
}

/// Adds a packet. When a message ends with it, or it makes no sense, that is the answer.
pub(super) fn add(partial: &mut Option<Partial>, packet: Packet) -> Option<Result<Letter, Error>> {
    let head = packet.bytes.first_chunk().and_then(Header::read);
    let Some((header, is_last, before)) = head.filter(|_| !packet.is_cut) else {
        *partial = None;
        return Some(Err(nonsense("no such packet is sent")));
    };
    let inline_bytes = (packet.bytes.len() - HEADER_BYTES) as u64;
    if before == 0 {
        *partial = None;
        // Most messages are one packet of bytes.
        let is_plain = is_last && header.fd_count() == 0 && packet.fds.is_empty();
        if is_plain && inline_bytes == header.bytes && !packet.is_short {
            return Some(Ok(Letter::plain(packet.bytes)));
        }
        *partial = Some(Partial::begin(header));
    }
    let mut whole = match partial.take() {
        Some(begun) if begun.header == header && begun.count == before => begun,
        _ => return Some(Err(nonsense("its packets do not fit together"))),
    };
    let expected_bytes = match is_last && !header.is_sealed {
        true => header.bytes,
        false => 0,
    };
    let left = header.fd_count().saturating_sub(before);
    let expected_fds = match is_last {
        true => left,
        false => PACKET_FDS,
    };
    // There is something left for the last packet.
    let is_even = is_last || left > PACKET_FDS;
    let are_all_there = packet.fds.len() == expected_fds || packet.is_short;
    if inline_bytes != expected_bytes || !is_even || !are_all_there {
        return Some(Err(nonsense("a packet holds other things than it says")));
    }
    match packet.is_short {
        true => whole.loss = Some(io::Error::from_raw_os_error(libc::EMFILE)),
        false => packet.fds.into_iter().for_each(|fd| whole.take(fd)),
    }
    whole.count = before + expected_fds;
    if is_last {
        return Some(whole.end(packet.bytes));
    }
    *partial = Some(whole);
    None
}

impl Partial {
    fn begin(header: Header) -> Partial {
        Partial {
            header,
            count: 0,
            cargo: Cargo::default(),
            ends: Vec::new(),
            sealed: None,
            loss: None,
        }
    }

    /// Takes in the next descriptor. One of what is here already is let go at once, and takes no
    /// room meanwhile.
    fn take(&mut self, fd: OwnedFd) {
        let Header {
            regions,
            files,
            channels,
            plain_regions,
            ..
        } = self.header;
        let adopted = if self.loss.is_some() {
            return;
        } else if self.cargo.regions.len() < regions {
            Region::adopt(fd).map(|region| self.cargo.regions.push(region))
        } else if self.cargo.files.len() < files {
            SharedFd::adopt(fd).map(|file| self.cargo.files.push(file))
        } else if self.ends.len() < channels + plain_regions {
            self.ends.push(fd);
            Ok(())
        } else {
            self.sealed = Some(fd);
            Ok(())
        };
        self.loss = adopted.err();
    }

    /// The message, with the bytes of its last packet.
    fn end(self, packet: Vec<u8>) -> Result<Letter, Error> {
        if let Some(error) = self.loss {
            return Err(lost(error));
        }
        let body = match self.sealed {
            None => Body::Inline(packet),
            Some(fd) => {
                let opened = SealedBytes::open(&fd, self.header.bytes);
                Body::Sealed(opened.map_err(lost)?)
            }
        };
        Ok(Letter {
            body,
            cargo: self.cargo,
            ends: LooseEnds {
                channels: self.header.channels,
                regions: self.header.plain_regions,
                fds: self.ends,
            },
        })
    }
}

/// The error of a message which this process had no room for.
fn lost(error: io::Error) -> Error {
    let kind = match error.kind() {
        // The latter is the kernel's word for what has no seals.
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            return nonsense("a descriptor is not of what it should be");
        }
        io::ErrorKind::OutOfMemory => ErrorKind::OutOfMemory,
        _ => ErrorKind::Io,
    };
    let message = match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => {
            "a message that came over a pipe is lost: there are not enough free descriptors for \
             what it carries"
                .to_owned()
        }
        _ => format!("a message that came over a pipe is lost: {error}"),
    };
    Error::new(kind, message).with_source(error)
}

pub(super) fn nonsense(reason: &str) -> Error {
    let message = format!("the other end of a pipe sent what is no message: {reason}");
    Error::new(ErrorKind::Decode, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(bytes: &[u8], fds: Vec<OwnedFd>) -> Packet {
        Packet {
            bytes: bytes.to_vec(),
            fds,
            is_short: false,
            is_cut: false,
        }
    }

    fn message(text: &[u8]) -> Packet {
        let header = Header {
            bytes: text.len() as u64,
            ..Header::default()
        };
        packet(&[&header.write(true, 0)[..], text].concat(), Vec::new())
    }

    fn files(count: usize) -> Vec<OwnedFd> {
        let (pipe, _) = crate::os::descriptor::pipe().expect("there are descriptors");
        let copies = (0..count).map(|_| pipe.try_clone().expect("there are descriptors"));
        copies.collect()
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header = Header {
            is_sealed: true,
            regions: 300,
            files: 2,
            channels: 3,
            plain_regions: 4,
            bytes: 1 << 40,
        };
        assert_eq!(
            Header::read(&header.write(false, 253)),
            Some((header, false, 253))
        );
        assert_eq!(
            Header::read(&header.write(true, 253)),
            Some((header, true, 253))
        );
    }

    #[test]
    fn what_was_given_up_half_way_ends_where_another_message_begins() {
        let header = Header {
            files: 300,
            ..Header::default()
        };
        let mut partial = None;
        let load = packet(&header.write(false, 0), files(PACKET_FDS));
        assert!(add(&mut partial, load).is_none() && partial.is_some());
        let letter = add(&mut partial, message(b"hello"));
        let letter = letter.expect("it is whole").expect("it makes sense");
        assert_eq!(letter.bytes(), b"hello");
        assert!(partial.is_none());
    }

    #[test]
    fn nonsense_is_one_error_and_the_next_message_is_read() {
        let load_of_few = Header {
            files: 3,
            ..Header::default()
        };
        let of_many = Header {
            files: 1 << 20,
            ..Header::default()
        };
        let sealed = Header {
            is_sealed: true,
            bytes: 5,
            ..Header::default()
        };
        let lies = [
            packet(&[], Vec::new()),
            packet(&[7; 31], Vec::new()),
            packet(&[7; 100], Vec::new()),
            packet(&Header::default().write(true, 1), Vec::new()),
            packet(&load_of_few.write(false, 0), files(3)),
            packet(&load_of_few.write(true, 0), files(2)),
            packet(&of_many.write(false, 0), Vec::new()),
            packet(&sealed.write(true, 0), files(1)),
            packet(
                &[&Header::default().write(true, 0)[..], b"more"].concat(),
                Vec::new(),
            ),
            Packet {
                is_cut: true,
                ..message(b"cut")
            },
        ];
        let mut partial = None;
        for (number, lie) in lies.into_iter().enumerate() {
            let answer = add(&mut partial, lie);
            let error = answer.expect("it ends there").map(drop);
            assert!(
                error.is_err_and(|error| error.kind() == ErrorKind::Decode),
                "{number}"
            );
            let letter = add(&mut partial, message(b"next")).expect("it is whole");
            assert_eq!(letter.expect("it makes sense").bytes(), b"next");
        }
    }

    #[test]
    fn a_message_without_all_of_its_descriptors_is_lost_and_says_so() {
        let header = Header {
            files: 3,
            ..Header::default()
        };
        let short = Packet {
            is_short: true,
            ..packet(&header.write(true, 0), files(1))
        };
        let error = add(&mut None, short).expect("it is whole").map(drop);
        let error = error.expect_err("it is short");
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("not enough free descriptors"));
    }
}
