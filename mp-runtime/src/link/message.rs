//! What the bytes mean that go to and fro.
//!
//! **Down**, in frames: a call, with a head, where the arguments of each of its items end (if there
//! are several), and the arguments; or word that a call comes over the connection, ahead of whose
//! first frame this is; or that the worker is to stop.
//!
//! **Up**, one record for each item, in order: a head of four bytes and its payload. The head has the
//! status, whether the call is at its end with this, and how long the payload is. A payload that is
//! too large for the ring, or has handles, comes over the connection, and a record without one
//! stands for it.

use std::ops::Range;
use std::sync::Arc;

use super::parent::Reply;
use crate::wire::{DecodeError, Decoder};

/// A frame: a call.
pub(super) const CALL: u32 = 1;
/// A frame: a call comes over the connection.
pub(super) const CALL_APART: u32 = 2;
/// A frame: finish and exit.
pub(super) const STOP: u32 = 3;

/// Over the connection, down: a call.
pub(super) const LARGE_CALL: u8 = 1;
/// Over the connection, up: what a record stands for; the first byte is the status.
pub(super) const LARGE_RECORD: u8 = 2;
/// Over the connection, up, from the parent itself: the worker has ended, and nothing comes after
/// this.
pub(super) const FAREWELL: u8 = 3;

/// A flag of a call: somebody asks for how long its items run.
const IS_TIMED: u32 = 1;
/// A flag of a call: it is that of an initializer.
const IS_INITIALIZER: u32 = 2;

/// What a call is about, besides its arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallHead {
    /// The function's number.
    pub(crate) function: u32,
    /// Its own, among the calls of its link.
    pub(crate) number: u32,
    /// Somebody asks for how long its items run.
    pub(crate) is_timed: bool,
    /// An `Err` that the function returns is a failure.
    pub(crate) is_initializer: bool,
}

const HEAD_BYTES: usize = 16;

/// A call as it is sent. Its arguments lie one behind the other wherever they were encoded.
pub(crate) struct Call {
    pub(super) head: CallHead,
    /// Where the arguments of each item end, counted from the start of `range`.
    ends: Ends,
    args: Arc<Args>,
    range: Range<usize>,
}

/// Whatever has encoded arguments.
type Args = dyn AsRef<[u8]> + Send + Sync;

#[derive(Debug)]
enum Ends {
    /// There is one item, and all arguments are its.
    One,
    /// Little-endian, four bytes each.
    Many(Vec<u8>),
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

impl Call {
    /// A call of several items, or of one. `ends` are where the arguments of each end in `args`, of
    /// which `range` has those of all.
    ///
    /// Arguments of several items have less than 4 GiB.
    pub(crate) fn new(
        head: CallHead,
        ends: &[usize],
        args: Arc<Args>,
        range: Range<usize>,
    ) -> Call {
        debug_assert!(ends.len() == 1 || u32::try_from(range.len()).is_ok());
        let ends = match ends {
            [_] => Ends::One,
            _ => {
                let relative = |end: &usize| ((end - range.start) as u32).to_le_bytes();
                Ends::Many(ends.iter().flat_map(relative).collect())
            }
        };
        Call {
            head,
            ends,
            args,
            range,
        }
    }

    /// Its only item: the arguments in `args`.
    pub(crate) fn of_one(head: CallHead, args: Arc<Vec<u8>>) -> Call {
        let range = 0..args.len();
        Call::new(head, &[range.end], args, range)
    }

    pub(super) fn args(&self) -> &[u8] {
        &(*self.args).as_ref()[self.range.clone()]
    }

    fn ends(&self) -> &[u8] {
        match &self.ends {
            Ends::One => &[],
            Ends::Many(ends) => ends,
        }
    }

    fn count(&self) -> usize {
        match &self.ends {
            Ends::One => 1,
            Ends::Many(ends) => ends.len() / 4,
        }
    }

    /// What stands before its arguments: the head, and where they end.
    pub(super) fn table(&self) -> ([u8; HEAD_BYTES], &[u8]) {
        let CallHead {
            function,
            number,
            is_timed,
            is_initializer,
        } = self.head;
        let timed = if is_timed { IS_TIMED } else { 0 };
        let initializer = if is_initializer { IS_INITIALIZER } else { 0 };
        let words = [function, number, timed | initializer, self.count() as u32];
        let mut head = [0; HEAD_BYTES];
        for (place, word) in head.as_chunks_mut().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        (head, self.ends())
    }

    /// How many bytes it has.
    pub(super) fn byte_count(&self) -> usize {
        HEAD_BYTES + self.ends().len() + self.range.len()
    }

    /// Its parts, as those of one that came.
    pub(super) fn parts(&self) -> Parts<'_> {
        Parts {
            ends: self.ends(),
            args: self.args(),
        }
    }
}

/// The arguments of a call that came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parts<'m> {
    ends: &'m [u8],
    args: &'m [u8],
}

impl<'m> Parts<'m> {
    /// Those of each item. A table that makes no sense gives empty ones.
    pub(super) fn items(self) -> impl Iterator<Item = &'m [u8]> {
        let Parts { ends, args } = self;
        let one = ends.is_empty().then_some(args);
        let mut start = 0;
        let many = ends.as_chunks().0.iter().map(move |end| {
            let end = u32::from_le_bytes(*end) as usize;
            args.get(std::mem::replace(&mut start, end)..end)
                .unwrap_or_default()
        });
        one.into_iter().chain(many)
    }
}

/// Reads a call that came.
///
/// # Errors
///
/// If it is none.
pub(super) fn read_call(bytes: &[u8]) -> Result<(CallHead, Parts<'_>), DecodeError> {
    let mut from = Decoder::new(bytes);
    let (function, number, flags, count) = (from.u32()?, from.u32()?, from.u32()?, from.u32()?);
    let ends = match count {
        1 => &[],
        count => from.raw((count as usize).saturating_mul(4))?,
    };
    let args = from.raw(from.left())?;
    let head = CallHead {
        function,
        number,
        is_timed: flags & IS_TIMED != 0,
        is_initializer: flags & IS_INITIALIZER != 0,
    };
    Ok((head, Parts { ends, args }))
}

/// What became of an item, or of a call.
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
    /// It was the initializer and returned an `Err`; the payload is what it says.
    Refused,
    /// Not an item: the call is at its end, and items of it were left out.
    CutShort,
}

impl Status {
    const ALL: [Status; 6] = [
        Status::Returned,
        Status::Panicked,
        Status::NotDecoded,
        Status::NotEncoded,
        Status::Refused,
        Status::CutShort,
    ];

    #[inline]
    pub(super) fn from_number(number: u32) -> Option<Status> {
        Status::ALL.get(number as usize).copied()
    }
}

/// In the place of a status: what this is comes over the connection.
const APART: u32 = 7;
const STATUS_BITS: u32 = 7;
/// With this item the call is at its end.
const IS_LAST: u32 = 8;
const LENGTH_SHIFT: u32 = 4;

pub(super) const RECORD_HEAD_BYTES: usize = 4;

/// The head of a record. `status` is `None` for one that stands for what comes over the connection.
#[inline]
pub(crate) fn record_head(
    status: Option<Status>,
    is_last: bool,
    payload_bytes: usize,
) -> [u8; RECORD_HEAD_BYTES] {
    let status = status.map_or(APART, |status| status as u32);
    let last = if is_last { IS_LAST } else { 0 };
    (status | last | (payload_bytes as u32) << LENGTH_SHIFT).to_le_bytes()
}

/// One result; its payload lies in the message it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) status: Status,
    /// Whether the call is at its end with it.
    pub(crate) is_last: bool,
    pub(crate) payload: Range<usize>,
}

/// What a record is that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    Record(Record),
    /// It comes over the connection; whether the call is at its end with it.
    Apart { is_last: bool },
}

/// Reads the record at `at`, and tells where the next one is. A hostile process may have written it.
#[inline]
pub(super) fn read_record(body: &[u8], at: usize) -> Option<(Read, usize)> {
    let head = body.get(at..)?.first_chunk::<RECORD_HEAD_BYTES>()?;
    let head = u32::from_le_bytes(*head);
    let start = at + RECORD_HEAD_BYTES;
    let end = start + (head >> LENGTH_SHIFT) as usize;
    if end > body.len() {
        return None;
    }
    let is_last = head & IS_LAST != 0;
    let read = match head & STATUS_BITS {
        APART => Read::Apart { is_last },
        status => Read::Record(Record {
            status: Status::from_number(status)?,
            is_last,
            payload: start..end,
        }),
    };
    Some((read, end))
}

/// Some records of a worker, in order.
#[derive(Clone, Debug)]
pub(crate) struct Bundle {
    pub(crate) reply: Reply,
    lone: Option<Record>,
}

impl Bundle {
    /// Of records that lie in `reply`, one behind the other; they have been looked at.
    pub(crate) fn of_many(reply: Reply) -> Bundle {
        Bundle { reply, lone: None }
    }

    /// Of one record.
    pub(crate) fn of_one(record: Record, reply: Reply) -> Bundle {
        let lone = Some(record);
        Bundle { reply, lone }
    }

    /// None at all.
    pub(crate) fn empty() -> Bundle {
        Bundle::of_many(Reply::default())
    }

    /// Whether it came alone, over the connection.
    pub(crate) fn is_of_one(&self) -> bool {
        self.lone.is_some()
    }

    /// The records.
    pub(crate) fn records(&self) -> Records<'_> {
        self.records_from(0)
    }

    /// The records from the one on that begins at `at`.
    #[inline]
    pub(crate) fn records_from(&self, at: usize) -> Records<'_> {
        Records {
            body: match self.lone {
                Some(_) => &[],
                None => self.reply.bytes(),
            },
            at,
            lone: self.lone.as_ref(),
        }
    }

    /// Where a record of it begins.
    pub(crate) fn start_of(&self, record: &Record) -> usize {
        record.payload.start.saturating_sub(RECORD_HEAD_BYTES)
    }
}

/// An iterator over records.
#[derive(Clone, Debug)]
pub(crate) struct Records<'b> {
    body: &'b [u8],
    at: usize,
    lone: Option<&'b Record>,
}

impl Iterator for Records<'_> {
    type Item = Record;

    #[inline]
    fn next(&mut self) -> Option<Record> {
        if let Some((Read::Record(record), next)) = read_record(self.body, self.at) {
            self.at = next;
            return Some(record);
        }
        self.lone.take().cloned()
    }
}
