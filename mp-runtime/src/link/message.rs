//! The bodies of the messages.

use std::ops::Range;
use std::sync::Arc;

use crate::wire::{DecodeError, Decoder, Encoder};

/// Down: a chunk to run.
pub(super) const CALL: u8 = 1;
/// Down: finish and exit.
pub(super) const STOP: u8 = 2;
/// Up: records.
pub(super) const RECORDS: u8 = 3;
/// Up, from the parent itself: the worker has ended, and nothing comes after this.
pub(super) const FAREWELL: u8 = 4;

/// The chunk that is the call of an initializer; chunks of items are numbered from 1, and 0 is
/// none.
pub(crate) const INITIALIZER_CHUNK: u64 = u64::MAX;

/// A call as it is sent: a table of its items, and the bytes of their arguments, which lie one
/// behind the other wherever they were encoded.
#[derive(Debug)]
pub(crate) struct Call {
    pub(super) table: Vec<u8>,
    pub(super) args: Arc<Vec<u8>>,
    pub(super) range: Range<usize>,
}

impl Call {
    /// A call of function number `function`. `items` are the number of each item, and where its
    /// arguments end, counted from the start of `range` in `args`.
    pub(crate) fn new(
        function: u32,
        chunk: u64,
        items: impl ExactSizeIterator<Item = (usize, usize)>,
        args: Arc<Vec<u8>>,
        range: Range<usize>,
    ) -> Call {
        let mut table = Encoder::default();
        table.u32(function);
        table.u64(chunk);
        table.u64(items.len() as u64);
        for (number, end) in items {
            table.u64(number as u64);
            table.u64(end as u64);
        }
        Call {
            table: table.into_plain_bytes(),
            args,
            range,
        }
    }

    pub(super) fn args(&self) -> &[u8] {
        &self.args[self.range.clone()]
    }
}

/// The table of a call that was received.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) function: u32,
    pub(super) chunk: u64,
    /// Number and end of each item.
    pub(super) items: Vec<(u64, usize)>,
    /// Where the arguments begin in the body.
    pub(super) args_at: usize,
}

impl Table {
    pub(super) fn read(body: &[u8]) -> Result<Table, DecodeError> {
        let mut from = Decoder::new(body);
        let (function, chunk, count) = (from.u32()?, from.u64()?, from.u64()?);
        let items = (0..count)
            .map(|_| Ok((from.u64()?, from.u64()? as usize)))
            .collect::<Result<_, DecodeError>>()?;
        Ok(Table {
            function,
            chunk,
            items,
            args_at: body.len() - from.left(),
        })
    }
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
    /// It was the initializer and returned an `Err`; the payload is what it says.
    Refused,
}

impl Status {
    const ALL: [Status; 6] = [
        Status::Returned,
        Status::Panicked,
        Status::NotDecoded,
        Status::NotEncoded,
        Status::ChunkEnd,
        Status::Refused,
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
pub(super) const RECORD_HEADER_BYTES: usize = 8 + 8 + 1 + 8;

/// Appends what stands before the payload of a record to `to`.
pub(super) fn write_record_header(
    to: &mut Vec<u8>,
    chunk: u64,
    item: u64,
    status: Status,
    payload_bytes: usize,
) {
    to.reserve(RECORD_HEADER_BYTES);
    to.extend_from_slice(&chunk.to_le_bytes());
    to.extend_from_slice(&item.to_le_bytes());
    to.push(status as u8);
    to.extend_from_slice(&(payload_bytes as u64).to_le_bytes());
}

/// Appends a record to `to`.
pub(super) fn write_record(
    to: &mut Vec<u8>,
    chunk: u64,
    item: u64,
    status: Status,
    payload: &[u8],
) {
    write_record_header(to, chunk, item, status, payload.len());
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
