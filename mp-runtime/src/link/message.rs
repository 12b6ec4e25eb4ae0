//! The bodies of the messages.

use std::ops::Range;

use crate::wire::{DecodeError, Decoder, Encoder};

/// Down: a chunk to run.
pub(super) const CALL: u8 = 1;
/// Down: finish and exit.
pub(super) const STOP: u8 = 2;
/// Up: records.
pub(super) const RECORDS: u8 = 3;
/// Up, from the parent itself: the worker has ended, and nothing comes after this.
pub(super) const FAREWELL: u8 = 4;

/// Writes a call.
pub(crate) struct CallBuilder {
    body: Encoder,
}

impl CallBuilder {
    /// A call of function number `function`; `items` will follow.
    pub(crate) fn new(function: u32, chunk: u64, items: usize) -> CallBuilder {
        let mut body = Encoder::default();
        body.u32(function);
        body.u64(chunk);
        body.u64(items as u64);
        CallBuilder { body }
    }

    /// Adds an item: its number, and its arguments as they were encoded.
    pub(crate) fn item(&mut self, number: u64, args: &[u8]) {
        self.body.u64(number);
        self.body.plain(args);
    }

    pub(crate) fn into_body(self) -> Vec<u8> {
        self.body.into_plain_bytes()
    }
}

/// What a call says, its items still to be read with [`read_item`].
pub(super) fn read_call(from: &mut Decoder<'_>) -> Result<(u32, u64, u64), DecodeError> {
    Ok((from.u32()?, from.u64()?, from.u64()?))
}

/// The next item of a call: its number and its arguments.
pub(super) fn read_item<'b>(from: &mut Decoder<'b>) -> Result<(u64, &'b [u8]), DecodeError> {
    Ok((from.u64()?, from.bytes()?))
}

/// What became of an item, or of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// The function returned; the payload is its result.
    Returned,
    /// It panicked; the payload is the panic.
    Panicked,
    /// Its arguments could not be decoded; the payload is the reason.
    NotDecoded,
    /// Its result could not be encoded; the payload is the reason.
    NotEncoded,
    /// Not an item: the chunk is at its end.
    ChunkEnd,
}

impl Status {
    const ALL: [Status; 5] = [
        Status::Returned,
        Status::Panicked,
        Status::NotDecoded,
        Status::NotEncoded,
        Status::ChunkEnd,
    ];

    fn from_byte(byte: u8) -> Option<Status> {
        Status::ALL.into_iter().find(|status| *status as u8 == byte)
    }
}

/// One result; its payload lies in the message it came with.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) chunk: u64,
    pub(crate) item: u64,
    pub(crate) status: Status,
    pub(crate) payload: Range<usize>,
}

/// What a record takes besides its payload, in bytes.
const RECORD_HEADER_BYTES: usize = 8 + 8 + 1 + 8;

/// Appends a record to `to`.
pub(super) fn write_record(
    to: &mut Vec<u8>,
    chunk: u64,
    item: u64,
    status: Status,
    payload: &[u8],
) {
    to.reserve(RECORD_HEADER_BYTES + payload.len());
    to.extend_from_slice(&chunk.to_le_bytes());
    to.extend_from_slice(&item.to_le_bytes());
    to.push(status as u8);
    to.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    to.extend_from_slice(payload);
}

/// Finds the records in `body`, which a hostile process may have written.
pub(super) fn read_records(body: &[u8]) -> Result<Vec<Record>, DecodeError> {
    let mut records = Vec::new();
    let mut from = Decoder::new(body);
    while !from.is_empty() {
        let (chunk, item) = (from.u64()?, from.u64()?);
        let byte = from.raw(1)?[0];
        let status = Status::from_byte(byte)
            .ok_or_else(|| DecodeError::new(format!("a record has the status {byte}")))?;
        let payload = from.bytes()?;
        let end = body.len() - from.left();
        records.push(Record {
            chunk,
            item,
            status,
            payload: end - payload.len()..end,
        });
    }
    Ok(records)
}
