//! One end of a pipe, whatever goes over it.
//!
//! # Layout
//!
//! A pipe is one pair of sockets that keep packets apart and in order, and nothing else: no thread,
//! no name, no memory that both sides write to. Each end is one descriptor. A message is a packet
//! (`letter.rs`); what is longer than fits into one well lies in sealed memory that goes with it as
//! a descriptor, so a message of any length leaves at once and needs its sender no more.
//!
//! # Who may do what
//!
//! 1. `sending` is held by the thread that sends, from the first packet of a message to the last, so
//!    that packets of two messages never mix. It may be held for as long as the socket is full.
//! 2. `incoming` is held by the thread that takes packets out of the socket: never while it waits
//!    for any, and never by one that then waits for `sending`. So whoever sends can always get it.
//! 3. What is in the queue of `incoming` came before what is in the socket. Who receives looks there
//!    first.
//! 4. Only a sender puts messages into the queue, and it leaves the last packet in the socket. So
//!    while there is something in the queue, the descriptor is readable, and whoever waits for it is
//!    awake.
//! 5. Values are encoded and decoded with neither held.
//!
//! # Nobody waits for one who waits for him
//!
//! If both sides send and none receives, both sockets fill. Who finds no room takes what has come in
//! to the queue (rule 4) while it waits, so the other side finds room again, and one packet that is
//! left in the socket is less than the quarter of its buffer that counts as room. So of two senders
//! one always gets on; what they send to each other meanwhile is in their memory, as it would be if
//! they had received it.
//!
//! A thread that receives and one that sends do not wait for each other (rule 2).
//!
//! # Death
//!
//! The kernel counts who has an end. When the last one is gone, which is when a process was killed
//! with it at the latest, the other side receives what was sent, then the end; what it sends fails.
//! A packet is sent as a whole or not at all. A sender that is killed between two packets of a
//! message leaves a beginning, which the receiver drops at the end or where another message begins.
//! A receiver that is killed takes what it had received along, and the rest is dropped by the kernel.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::letter::{self, HEADER_BYTES, Header, LOAD, Letter, Partial};
use super::wait::{Eagerness, Wait};
use crate::error::{Error, ErrorKind};
use crate::os::crowd;
use crate::os::packet::{self, News, PACKET_BYTES, PACKET_FDS, Patience};
use crate::os::sealed;
use crate::os::shared_fd::SharedFd;
use crate::wire::{Handles, LooseEnds};

/// The most bytes of a message that go into its packet.
const INLINE_BYTES: usize = PACKET_BYTES - HEADER_BYTES;
/// What a message of no bytes still may take of a small buffer.
const LEAST_BYTES: usize = 512;

/// One end.
#[derive(Debug)]
pub(super) struct Line {
    socket: Arc<SharedFd>,
    /// So many bytes of a message go into its packet.
    inline_bytes: usize,
    sending: Mutex<()>,
    incoming: Mutex<Incoming>,
    eagerness: Eagerness,
}

#[derive(Debug, Default)]
struct Incoming {
    /// What a sender took out of the socket to make way.
    queue: VecDeque<Result<Letter, Error>>,
    partial: Option<Partial>,
}

/// How long to wait for a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    Ever,
    Now,
    Then(Instant),
}

impl Until {
    /// After so long; so long may be for ever.
    pub(super) fn after(timeout: Duration) -> Until {
        match Instant::now().checked_add(timeout) {
            _ if timeout.is_zero() => Until::Now,
            Some(deadline) => Until::Then(deadline),
            None => Until::Ever,
        }
    }

    fn may_wait(self) -> bool {
        !matches!(self, Until::Now)
    }

    fn is_over(self) -> bool {
        match self {
            Until::Ever => false,
            Until::Now => true,
            Until::Then(deadline) => deadline <= Instant::now(),
        }
    }

    fn deadline(self) -> Option<Instant> {
        match self {
            Until::Then(deadline) => Some(deadline),
            Until::Ever | Until::Now => None,
        }
    }
}

/// Makes the two ends.
pub(super) fn pair() -> Result<(Line, Line), Error> {
    let make = || {
        let (here, there) = packet::wide_pair()?;
        Ok((Line::over_new(here)?, Line::over_new(there)?))
    };
    make().map_err(|error: io::Error| {
        let message = format!("a pipe could not be made: {error}");
        Error::new(ErrorKind::Io, message).with_source(error)
    })
}

impl Line {
    fn over_new(socket: OwnedFd) -> io::Result<Line> {
        Line::over(SharedFd::adopt(socket)?)
    }

    /// The end that `socket` is.
    pub(super) fn over(socket: Arc<SharedFd>) -> io::Result<Line> {
        // The kernel may take twice the bytes of a packet and then some, and a quarter of the
        // buffer counts as room.
        let room = packet::buffer_bytes(&socket)? / 8;
        Ok(Line {
            socket,
            inline_bytes: room
                .saturating_sub(2 * LEAST_BYTES)
                .clamp(LEAST_BYTES, INLINE_BYTES),
            sending: Mutex::default(),
            incoming: Mutex::default(),
            eagerness: Eagerness::default(),
        })
    }

    /// The socket, for another process to have. `None` if messages for it are here already.
    pub(super) fn leave(&self) -> Option<&Arc<SharedFd>> {
        let incoming = self.incoming();
        (incoming.queue.is_empty() && incoming.partial.is_none()).then_some(&self.socket)
    }

    /// Sends a message.
    pub(super) fn send(&self, bytes: &[u8], handles: Option<&Handles>) -> Result<(), Error> {
        let carried = |error| not_sent("what it carries could not be put in", error);
        let ends = LooseEnds::of(handles).map_err(carried)?;
        let sealed = match bytes.len() <= self.inline_bytes {
            true => None,
            false => Some(sealed::seal(bytes).map_err(carried)?),
        };
        let mut header = Header {
            is_sealed: sealed.is_some(),
            channels: ends.channels,
            plain_regions: ends.regions,
            bytes: bytes.len() as u64,
            ..Header::default()
        };
        let mut fds: Vec<BorrowedFd<'_>> = Vec::new();
        if let Some(handles) = handles {
            let cargo = handles.cargo();
            (header.regions, header.files) = (cargo.regions.len(), cargo.files.len());
            fds.extend(cargo.regions.iter().map(|region| region.fd().as_fd()));
            fds.extend(cargo.files.iter().map(|file| file.as_fd()));
            fds.extend(ends.fds.iter().map(AsFd::as_fd));
        }
        fds.extend(sealed.iter().map(AsFd::as_fd));
        let inline = if header.is_sealed { &[] } else { bytes };
        self.send_packets(&header, inline, &fds)
            .map_err(|error| match packet::is_gone(&error) {
                true => closed(),
                false => not_sent("the socket does not take it", error),
            })
    }

    fn send_packets(
        &self,
        header: &Header,
        inline: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let _turn = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = 0;
        while fds.len() - before > PACKET_FDS {
            let after = before + PACKET_FDS;
            self.put(&header.write(false, before), &[], &fds[before..after])?;
            before = after;
        }
        self.put(&header.write(true, before), inline, &fds[before..])
    }

    /// Sends one packet, when there is room for it.
    fn put(&self, header: &[u8], bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let parts = [IoSlice::new(header), IoSlice::new(bytes)];
        let mut news = None;
        if !fds.is_empty() {
            // Descriptors on their way are few in a machine: no more than a quarter of the buffer.
            self.make_way(&mut news)?;
        }
        crowd::insist(|| {
            loop {
                match packet::send(&self.socket, &parts, fds, Patience::No) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.make_way(&mut news)?;
                    }
                    Err(error) if crowd::is_crowded(&error) => {
                        // The other side may be at the same.
                        self.take_aside()?;
                        return Err(error);
                    }
                    outcome => return outcome,
                }
            }
        })
    }

    /// Waits until there is room to send, or nobody to send to, and takes in what comes meanwhile.
    fn make_way(&self, news: &mut Option<News>) -> io::Result<()> {
        loop {
            let ready = match news {
                None => packet::wait(&self.socket, true, None)?,
                Some(_) => packet::readiness(&self.socket)?,
            };
            if ready.to_send || ready.is_hung_up {
                return Ok(());
            }
            if self.take_aside()? {
                continue;
            }
            // What is left in the socket is to stay there: from now on, only what is new counts.
            match news {
                None => *news = Some(News::of(&self.socket)?),
                Some(news) => news.wait()?,
            }
        }
    }

    /// Takes in what has come, except for the last packet, and tells whether there was anything.
    fn take_aside(&self) -> io::Result<bool> {
        let mut incoming = self.incoming();
        let mut is_any = false;
        while packet::has_second(&self.socket)? {
            match packet::receive(&self.socket) {
                Ok(packet) => incoming.add(packet),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            is_any = true;
        }
        Ok(is_any)
    }

    /// Receives a message; `None` if there is none in time.
    pub(super) fn receive(&self, until: Until) -> Result<Option<Letter>, Error> {
        // It is looked at the length of what waits, which is the least of the system calls.
        let is_any = || packet::waiting_bytes(&self.socket).map_or(0, |bytes| u32::from(bytes > 0));
        if until.may_wait() && !Wait::new().spin(&self.eagerness, is_any) {
            self.wait(until)?;
        }
        loop {
            if let Some(letter) = self.take()? {
                return Ok(Some(letter));
            }
            if until.is_over() {
                return Ok(None);
            }
            self.wait(until)?;
        }
    }

    /// Takes the first message, if it is there as a whole.
    fn take(&self) -> Result<Option<Letter>, Error> {
        let mut incoming = self.incoming();
        loop {
            if let Some(first) = incoming.queue.pop_front() {
                return first.map(Some);
            }
            match packet::receive(&self.socket) {
                Ok(packet) if packet.bytes.is_empty() && self.is_over()? => {
                    incoming.partial = None;
                    return Err(closed());
                }
                Ok(packet) => {
                    if let Some(letter) = letter::add(&mut incoming.partial, packet) {
                        return letter.map(Some);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // Said once, where the other side had not received everything; what it has sent is
                // there nevertheless.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                Err(error) => return Err(broken(error)),
            }
        }
    }

    /// Whether there is a message, or the end, in time.
    pub(super) fn poll(&self, until: Until) -> Result<bool, Error> {
        loop {
            if self.has_message()? {
                return Ok(true);
            }
            if until.is_over() {
                return Ok(false);
            }
            self.wait(until)?;
        }
    }

    fn has_message(&self) -> Result<bool, Error> {
        let mut incoming = self.incoming();
        loop {
            if !incoming.queue.is_empty() {
                return Ok(true);
            }
            let mut kind = [0];
            match packet::peek(&self.socket, &mut kind) {
                // The rest of its message may be long in coming.
                Ok(1..) if kind[0] == LOAD => match packet::receive(&self.socket) {
                    Ok(packet) => incoming.add(packet),
                    Err(error) => return Err(broken(error)),
                },
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                Err(error) => return Err(broken(error)),
            }
        }
    }

    fn wait(&self, until: Until) -> Result<(), Error> {
        let waited = match until.deadline() {
            None => packet::wait_for_packet(&self.socket),
            deadline => packet::wait(&self.socket, false, deadline).map(drop),
        };
        waited.map_err(broken)
    }

    /// Whether an empty packet was the end, and not one that somebody sent.
    fn is_over(&self) -> Result<bool, Error> {
        packet::is_over(&self.socket).map_err(broken)
    }

    fn incoming(&self) -> MutexGuard<'_, Incoming> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Incoming {
    fn add(&mut self, packet: packet::Packet) {
        self.queue.extend(letter::add(&mut self.partial, packet));
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the other end of the pipe is gone")
}

fn not_sent(what: &str, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::OutOfMemory => ErrorKind::OutOfMemory,
        _ => ErrorKind::Io,
    };
    let message = format!("a message could not be sent over a pipe: {what}: {error}");
    Error::new(kind, message).with_source(error)
}

fn broken(error: io::Error) -> Error {
    let message = format!("a pipe cannot be received from: {error}");
    Error::new(ErrorKind::Io, message).with_source(error)
}
