//! Values over a ring, and what is said where one was not put or taken: what channels and queues have
//! in common.

use std::io;

use super::codec::{self, Portable};
use super::error::SendError;
use super::ring::{Message, Refused, Ring};
use super::wait::Look;
use crate::error::{Error, ErrorKind};
use crate::sync::Patience;

/// How many messages a ring is for; 0 stands for no bound there.
pub(super) fn bounded_capacity(capacity: usize) -> Result<u32, Error> {
    match capacity {
        0 => Err(Error::new(
            ErrorKind::Unsupported,
            "a channel for 0 messages could never carry one: ask for at least 1, or for an \
             unbounded one",
        )),
        _ => Ok(u32::try_from(capacity).unwrap_or(u32::MAX)),
    }
}

/// A channel or a queue could not be made.
pub(super) fn not_made(error: io::Error) -> Error {
    Error::new(kind_of(&error), format!("it could not be made: {error}")).with_source(error)
}

/// Puts a value; `is_deserted` is as that of [`Ring::put`], and `closed` says it where nobody takes
/// anything any more.
///
/// # Errors
///
/// With the value, if it was not put.
#[inline]
pub(super) fn put<T: Portable>(
    ring: &Ring,
    value: T,
    patience: Patience,
    is_deserted: impl Fn(Look) -> bool,
    closed: fn() -> Error,
) -> Result<(), SendError<T>> {
    match codec::encoded(&value, |bytes| ring.put(bytes, patience, is_deserted)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(refused)) => Err(SendError::new(value, why_not_put(refused, closed))),
        Err(error) => Err(SendError::new(value, error)),
    }
}

/// Takes a value, and calls `note` just before its message is gone from the ring; the rest is as in
/// [`put`].
///
/// # Errors
///
/// If none was taken, or its message is none.
#[inline]
pub(super) fn take<T: Portable>(
    ring: &Ring,
    patience: Patience,
    is_deserted: impl Fn(Look) -> bool,
    note: impl Fn(),
    closed: fn() -> Error,
) -> Result<T, Error> {
    let take_out = |message: &Message<'_>| {
        let taken = codec::take_out::<T>(message)?;
        note();
        Ok(taken)
    };
    ring.take(patience, is_deserted, take_out)
        .map_err(|refused| why_not_taken(refused, closed))?
        .decode()
}

/// Why something was not put; `closed` says it where nobody takes it any more.
#[cold]
fn why_not_put(refused: Refused, closed: fn() -> Error) -> Error {
    match refused {
        Refused::TooLarge => Error::new(
            ErrorKind::OutOfMemory,
            "there is no room: what a channel or a queue has at a time fits into the memory of \
             the machine, and into 64 GiB",
        ),
        Refused::NoMemory(error) => {
            let message = format!("there is no memory for the message: {error}");
            Error::new(kind_of(&error), message).with_source(error)
        }
        other => why(other, closed),
    }
}

/// Why nothing was taken; `closed` says it where nothing comes any more.
#[cold]
fn why_not_taken(refused: Refused, closed: fn() -> Error) -> Error {
    match refused {
        Refused::NoMemory(error) => {
            let message = format!("this process has no memory for the next message: {error}");
            Error::new(ErrorKind::OutOfMemory, message).with_source(error)
        }
        other => why(other, closed),
    }
}

fn why(refused: Refused, closed: fn() -> Error) -> Error {
    match refused {
        Refused::Full => Error::new(ErrorKind::TimedOut, "there was no room in time"),
        Refused::Empty => Error::new(ErrorKind::TimedOut, "there was no message in time"),
        Refused::Closed => closed(),
        Refused::WouldDeadlock => Error::new(
            ErrorKind::WouldDeadlock,
            "this thread was interrupted in a call on the same channel or queue: to wait here \
             would be a deadlock",
        ),
        Refused::Damaged(Some(count)) => Error::new(
            ErrorKind::Decode,
            format!("a process wrote nonsense into the channel: up to {count} messages are lost"),
        ),
        Refused::Damaged(None) | Refused::TooLarge | Refused::NoMemory(_) => Error::new(
            ErrorKind::Decode,
            "a process wrote nonsense into the channel, and it is of no use any more",
        ),
    }
}

/// What kind of failure it is that memory could not be had.
fn kind_of(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::OutOfMemory | io::ErrorKind::StorageFull => ErrorKind::OutOfMemory,
        _ => ErrorKind::Io,
    }
}
