//! How values become bytes, and how handles ride along.
//!
//! A value is written by `serde` in the order of its data model: integers and floats at their own
//! width, little-endian; lengths as `u64`; variants as `u32`; no names, no padding, nothing that
//! describes itself. Both ends are the same binary, so both know the types. Vectors of plain
//! numbers bypass `serde` and are copied as they lie in memory ([`Lane`]).
//!
//! The codec is the library's own for three things that no published one gives: it sees handles
//! pass (`ipc-channel` gives no other sign of them, see [`Handles`]), it keeps the sentence of a
//! user's own `custom` error, and it takes sequences of unknown length.

mod bytes;
mod decoder;
mod encoder;
mod frame;
mod freight;
mod handles;
mod lane;
mod loose;
mod seat;
#[cfg(test)]
mod tests;

use std::fmt;

use self::encoder::Stub;
use crate::shm::bulk::Bulk;
use crate::shm::transit;

pub(crate) use bytes::Bytes;
pub(crate) use decoder::Apart;
pub use decoder::Decoder;
pub use encoder::Encoder;
pub(crate) use encoder::{BulkPlace, NotPlain};
pub(crate) use frame::{Inbox, Message, Outbox, Silence, connect, prepare};
pub(crate) use freight::Freight;
pub(crate) use handles::{Ends, Handles};
pub use lane::{BulkLane, Lane, Plain, RefusedLane, SerdeLane, Transfer, can_travel};
pub(crate) use loose::{LooseEnds, has_room, loosen};
pub(crate) use seat::Seat;

/// How deep values may nest. Each level costs stack on both sides, and the other side may be
/// hostile; `serde_json` stops at 128.
const DEPTH_LIMIT: u32 = 512;

/// Why a value could not be turned into bytes.
#[derive(Debug)]
pub struct EncodeError(String);

/// Why bytes could not be turned into a value.
#[derive(Debug)]
pub struct DecodeError(String);

macro_rules! sentence_error {
    ($name:ident, $side:ident) => {
        impl $name {
            pub(crate) fn new(message: impl Into<String>) -> $name {
                $name(message.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::error::Error for $name {}

        impl serde::$side::Error for $name {
            fn custom<T: fmt::Display>(message: T) -> $name {
                $name(message.to_string())
            }
        }
    };
}

sentence_error!(EncodeError, ser);
sentence_error!(DecodeError, de);

/// Bytes, and the handles that belong to them.
#[derive(Debug, Default)]
pub(crate) struct Payload {
    pub(crate) bytes: Vec<u8>,
    pub(crate) handles: Option<Handles>,
}

impl Payload {
    /// Writes one value.
    pub(crate) fn encode(
        write: impl FnOnce(&mut Encoder) -> Result<(), EncodeError>,
    ) -> Result<Payload, EncodeError> {
        Payload::encode_with(Encoder::default(), write)
    }

    /// Writes one value, with an encoder that has written nothing.
    pub(crate) fn encode_with(
        mut encoder: Encoder,
        write: impl FnOnce(&mut Encoder) -> Result<(), EncodeError>,
    ) -> Result<Payload, EncodeError> {
        write(&mut encoder)?;
        encoder.end_item()?;
        encoder.finish()
    }

    /// Checks, when the value was dropped that was written, that no chunk of an array in it is
    /// kept.
    pub(crate) fn check_released(&self) -> Result<(), EncodeError> {
        let handles = self.handles.as_ref();
        handles.map_or(Ok(()), |handles| Handles::check_loans(handles.loans()))
    }
}

/// Reads a value from the bytes of an item, which must hold nothing else, with `handles` at hand, and
/// what lies apart from them.
#[inline]
pub(crate) fn decode<'b, T>(
    item: &'b [u8],
    apart: Apart<'b>,
    handles: Option<&Handles>,
    read: impl FnOnce(&mut Decoder<'b>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let item = match (Stub::of(item), apart) {
        (Some(stub), Apart::Trusted(bulks)) => lent(stub, bulks)?,
        _ => item,
    };
    let (bytes, trailer) =
        transit::split_trailer(item).ok_or_else(|| DecodeError::new("its end is missing"))?;
    let whole = move || {
        let mut decoder = Decoder::new(bytes).with(apart);
        let value = read(&mut decoder)?;
        decoder.finish()?;
        Ok(value)
    };
    match handles {
        None => whole(),
        Some(handles) => handles.lend(trailer, whole)?,
    }
}

/// The item that a stub stands for, where who made it is trusted not to write there.
#[cold]
fn lent(stub: Stub, bulks: &[Bulk]) -> Result<&[u8], DecodeError> {
    decoder::lend(bulks, stub.bulk as usize, decoder::fit(stub.bytes)?)
}

/// A copy of the item that the bytes of one stand for, if they do; who made it may still write there.
#[inline]
pub(crate) fn copied(item: &[u8], bulks: &[Bulk]) -> Option<Result<Vec<u8>, DecodeError>> {
    Stub::of(item).map(|stub| copy(stub, bulks))
}

#[cold]
fn copy(stub: Stub, bulks: &[Bulk]) -> Result<Vec<u8>, DecodeError> {
    decoder::copy(bulks, stub.bulk as usize, decoder::fit(stub.bytes)?)
}
