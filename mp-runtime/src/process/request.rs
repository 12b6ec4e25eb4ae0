//! What goes over the socket between a program and its fork server; each is one packet.
//!
//! | packet | from | bytes | descriptors |
//! | --- | --- | --- | --- |
//! | hello | server | 1; or 0 and a reason why it cannot serve | |
//! | soon | program | 2: a request will be sent, most likely | |
//! | request | program | which of [`Part`] come, a bit each | those, in their order |
//! | reply | server | 0 and the id of the new process; or 1 and the error of the kernel | its pidfd, if there is one |

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::libc;

use crate::os::packet::{self, Patience};

/// What a new process is given. Its boot message comes through the lifeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Lifeline,
    Lanes,
    Carrier,
    /// These three in place of `/dev/null`.
    Stdin,
    Stdout,
    Stderr,
    /// Where it shall be, if not where the server is.
    Directory,
}

/// How many there are.
pub(super) const PART_COUNT: usize = 7;

/// The descriptors of a request.
pub(super) type Parts<F> = [Option<F>; PART_COUNT];

/// What a server is told.
pub(super) enum Order {
    Soon,
    Request(Parts<OwnedFd>),
}

/// What a server answers.
pub(super) enum Reply {
    Born {
        id: u32,
        pidfd: Option<OwnedFd>,
    },
    /// There is no new process.
    Refused(io::Error),
}

const READY: u8 = 1;
const UNFIT: u8 = 0;
const SOON: u8 = 2;
const BORN: u8 = 0;
const REFUSED: u8 = 1;

/// More than any packet has but a hello with a long reason, whose end is not missed.
const PACKET_BYTES: usize = 256;

pub(super) fn send_hello(socket: &OwnedFd, fitness: &Result<(), String>) -> io::Result<()> {
    let (kind, reason) = match fitness {
        Ok(()) => (READY, ""),
        Err(reason) => (UNFIT, reason.as_str()),
    };
    send(socket, &[&[kind], reason.as_bytes()].concat(), &[])
}

/// The hello of a server, if it has come by `deadline`.
pub(super) fn receive_hello(socket: &OwnedFd, deadline: Instant) -> io::Result<Result<(), String>> {
    let (bytes, ..) = receive(socket, Some(deadline))?;
    match bytes.split_first() {
        Some((&READY, [])) => Ok(Ok(())),
        Some((&UNFIT, reason)) => Ok(Err(String::from_utf8_lossy(reason).into_owned())),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Does not wait: it is not needed.
pub(super) fn send_soon(socket: &OwnedFd) -> io::Result<()> {
    packet::send(socket, &[io::IoSlice::new(&[SOON])], &[], Patience::No)
}

/// Does not wait either: where there is no room the server has not taken much for long.
pub(super) fn send_request(socket: &OwnedFd, parts: &Parts<BorrowedFd<'_>>) -> io::Result<()> {
    let bits = (0..).zip(parts).filter(|(_, part)| part.is_some());
    let bits = bits.fold(0_u16, |bits, (bit, _)| bits | 1 << bit);
    let fds: Vec<BorrowedFd<'_>> = parts.iter().flatten().copied().collect();
    let bits = bits.to_le_bytes();
    packet::send(socket, &[io::IoSlice::new(&bits)], &fds, Patience::No)
}

/// The next order; `None` when there will be none.
///
/// # Errors
///
/// If the descriptors of a request found no room.
pub(super) fn receive_order(socket: &OwnedFd) -> Option<io::Result<Order>> {
    let (bytes, fds, is_short) = receive(socket, None).ok()?;
    if is_short {
        return Some(Err(io::Error::from_raw_os_error(libc::EMFILE)));
    }
    if *bytes == [SOON] {
        return Some(Ok(Order::Soon));
    }
    let bits = u16::from_le_bytes(bytes.try_into().ok()?);
    let mut fds = fds.into_iter();
    let parts = std::array::from_fn(|bit| match bits >> bit & 1 {
        1 => fds.next(),
        _ => None,
    });
    Some(Ok(Order::Request(parts)))
}

/// Whether there is one already, or there will be none.
pub(super) fn is_waiting(socket: &OwnedFd) -> bool {
    packet::wait(socket, false, Some(Instant::now()))
        .is_ok_and(|ready| ready.to_receive || ready.is_hung_up)
}

pub(super) fn send_reply(
    socket: &OwnedFd,
    outcome: io::Result<(u32, BorrowedFd<'_>)>,
) -> io::Result<()> {
    let reply = |kind: u8, number: u32| {
        let mut bytes = [kind; 5];
        bytes[1..].copy_from_slice(&number.to_le_bytes());
        bytes
    };
    match outcome {
        Ok((id, pidfd)) => send(socket, &reply(BORN, id), &[pidfd]),
        Err(error) => {
            let code = error.raw_os_error().unwrap_or(libc::EIO);
            send(socket, &reply(REFUSED, code.cast_unsigned()), &[])
        }
    }
}

/// # Errors
///
/// If none has come by `deadline`, or none will.
pub(super) fn receive_reply(socket: &OwnedFd, deadline: Instant) -> io::Result<Reply> {
    let (bytes, mut fds, _) = receive(socket, Some(deadline))?;
    let (kind, number) = match bytes.split_first() {
        Some((&kind, number)) => (kind, number),
        None => return Err(io::ErrorKind::UnexpectedEof.into()),
    };
    let number: [u8; 4] = number.try_into().map_err(io::Error::other)?;
    let number = u32::from_le_bytes(number);
    match kind {
        BORN => Ok(Reply::Born {
            id: number,
            pidfd: fds.pop(),
        }),
        _ => Ok(Reply::Refused(io::Error::from_raw_os_error(
            number.cast_signed(),
        ))),
    }
}

fn send(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    packet::send(socket, &[io::IoSlice::new(bytes)], fds, Patience::Wait)
}

/// A packet: its bytes, its descriptors, and whether some of those found no room.
fn receive(
    socket: &OwnedFd,
    deadline: Option<Instant>,
) -> io::Result<(Vec<u8>, Vec<OwnedFd>, bool)> {
    match deadline {
        None => packet::wait_for_packet(socket)?,
        Some(_) => drop(packet::wait(socket, false, deadline)?),
    }
    let mut buffer = [const { MaybeUninit::uninit() }; PACKET_BYTES];
    let packet = packet::receive_into(socket, &mut buffer)?;
    Ok((packet.bytes.to_vec(), packet.fds, packet.is_short))
}
