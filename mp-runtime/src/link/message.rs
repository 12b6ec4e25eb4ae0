//! What the bytes mean that go to and fro.
//!
//! **Down**, in frames: a call, with a head, where the arguments of each of its items end (if they are
//! several, and not of one size), and the arguments; or word that a call comes over the connection,
//! ahead of whose first frame this is; or that the worker is to stop.
//!
//! **Up**, one record for each item that was not taken back, in order: a head of four bytes and its
//! payload. The head has the status, whether the call is at its end with this, and how long the
//! payload is. A payload that is too large for the ring, or has handles, comes over the connection,
//! and a record without one stands for it.

use std::ops::Range;
use std::sync::Arc;

use super::lanes::MOST_DOWN_BYTES;
use super::parent::{OpenReply, Reply};
use crate::few::Few;
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
/// A flag of a call: each of its items can be taken back.
const IS_DIVISIBLE: u32 = 8;
/// A flag of a call: the arguments of its items have so many bytes each as the last word of the head
/// says, and no table tells where they end.
const IS_EVEN: u32 = 4;

/// What a call is about, besides its arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallHead {
    /// The function's number.
    pub(crate) function: u32,
    /// That of its first item, among the items of its link; the others follow.
    pub(crate) number: u32,
    /// How many items it has.
    pub(crate) count: u32,
    /// Somebody asks for how long its items run.
    pub(crate) is_timed: bool,
    /// An `Err` that the function returns is a failure.
    pub(crate) is_initializer: bool,
    /// Each of its items is begun for itself, and can be taken back before.
    pub(crate) is_divisible: bool,
}

const HEAD_BYTES: usize = 20;

/// A call as it is sent. Its arguments lie one behind the other wherever they were encoded.
pub(crate) struct Call {
    pub(super) head: CallHead,
    args: Arc<dyn Args>,
    /// Which of the items there are these.
    items: Range<usize>,
}

/// Encoded arguments of several items.
pub(crate) trait Args: Send + Sync {
    /// Those of the items in this range, one behind the other.
    fn bytes(&self, items: Range<usize>) -> &[u8];

    /// Where each of the items in this range ends.
    fn table(&self, items: Range<usize>) -> Table<'_>;
}

/// Where the arguments of each item end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Table<'t> {
    /// All have so many bytes. (No matter, if there is one item.)
    Even(u32),
    /// Four bytes for each, little-endian, and where the first one begins, counted from the same
    /// place.
    Ends(&'t [u8], u32),
}

impl Args for Vec<u8> {
    fn bytes(&self, _: Range<usize>) -> &[u8] {
        self
    }

    fn table(&self, _: Range<usize>) -> Table<'_> {
        Table::Even(0)
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

impl Call {
    /// A call of these items. The arguments of several have less than 4 GiB.
    pub(crate) fn new(head: CallHead, args: Arc<dyn Args>, items: Range<usize>) -> Call {
        let count = items.len() as u32;
        let head = CallHead { count, ..head };
        Call { head, args, items }
    }

    /// Its only item: the arguments in `args`.
    pub(crate) fn of_one(head: CallHead, args: Arc<Vec<u8>>) -> Call {
        Call::new(head, args, 0..1)
    }

    pub(super) fn args(&self) -> &[u8] {
        self.args.bytes(self.items.clone())
    }

    /// What stands before its arguments: the head, and where they end.
    pub(super) fn table(&self) -> ([u8; HEAD_BYTES], &[u8]) {
        table(self.head, self.args.table(self.items.clone()))
    }

    /// How many bytes it has.
    pub(super) fn byte_count(&self) -> usize {
        let ends = match self.args.table(self.items.clone()) {
            Table::Even(_) => 0,
            Table::Ends(ends, _) => ends.len(),
        };
        HEAD_BYTES + ends + self.args().len()
    }

    /// Whether it is too large for the ring.
    pub(crate) fn is_large(&self) -> bool {
        self.byte_count() > MOST_DOWN_BYTES
    }

    /// Its parts, as those of one that came.
    pub(super) fn parts(&self) -> Parts<'_> {
        let table = self.args.table(self.items.clone());
        Parts::new(self.head.count, table, self.args())
    }
}

/// What stands before the arguments of a call: its head, and where they end.
pub(super) fn table(head: CallHead, table: Table<'_>) -> ([u8; HEAD_BYTES], &[u8]) {
    let CallHead {
        function,
        number,
        count,
        is_timed,
        is_initializer,
        is_divisible,
    } = head;
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    let flags = flag(is_timed, IS_TIMED)
        | flag(is_initializer, IS_INITIALIZER)
        | flag(is_divisible, IS_DIVISIBLE);
    let (even, ends, word) = match table {
        Table::Even(bytes) => (IS_EVEN, &[][..], bytes),
        Table::Ends(ends, start) => (0, ends, start),
    };
    let mut bytes = [0; HEAD_BYTES];
    let words = [function, number, flags | even, count, word];
    for (place, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *place = word.to_le_bytes();
    }
    (bytes, ends)
}

/// The arguments of the items of a call that came, one after the other. Where a table makes no sense
/// they are empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'m> {
    /// How many items are left.
    left: usize,
    table: Table<'m>,
    /// Those of them.
    args: &'m [u8],
}

impl Default for Parts<'_> {
    fn default() -> Self {
        Parts {
            left: 0,
            table: Table::Even(0),
            args: &[],
        }
    }
}

impl<'m> Parts<'m> {
    fn new(count: u32, table: Table<'m>, args: &'m [u8]) -> Parts<'m> {
        let table = match count {
            1 => Table::Even(u32::try_from(args.len()).unwrap_or(u32::MAX)),
            _ => table,
        };
        let left = count as usize;
        Parts { left, table, args }
    }
}

impl<'m> Iterator for Parts<'m> {
    type Item = &'m [u8];

    #[inline]
    fn next(&mut self) -> Option<&'m [u8]> {
        self.left = self.left.checked_sub(1)?;
        let bytes = match &mut self.table {
            // The only one, or the last one.
            _ if self.left == 0 => self.args.len(),
            Table::Even(bytes) => *bytes as usize,
            Table::Ends(ends, start) => {
                let (end, rest) = ends.split_first_chunk().unwrap_or((&[0; 4], &[]));
                let (end, begin) = (u32::from_le_bytes(*end), *start);
                (*ends, *start) = (rest, end);
                end.wrapping_sub(begin) as usize
            }
        };
        let (item, rest) = self.args.split_at_checked(bytes).unwrap_or_default();
        self.args = rest;
        Some(item)
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
    let word = from.u32()?;
    let table = match flags & IS_EVEN {
        0 => Table::Ends(from.raw((count as usize).saturating_mul(4))?, word),
        _ => Table::Even(word),
    };
    let args = from.raw(from.left())?;
    if let (Table::Even(bytes), 2..) = (table, count)
        && u64::from(bytes) * u64::from(count) != args.len() as u64
    {
        return Err(DecodeError::new("its arguments have another length"));
    }
    let head = CallHead {
        function,
        number,
        count,
        is_timed: flags & IS_TIMED != 0,
        is_initializer: flags & IS_INITIALIZER != 0,
        is_divisible: flags & IS_DIVISIBLE != 0,
    };
    Ok((head, Parts::new(count, table, args)))
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
    Apart {
        is_last: bool,
    },
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

/// Records in a row that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) status: Status,
    /// How many there are: one, but for items that returned.
    pub(crate) count: usize,
    /// Whether the call is at its end with the last of them.
    pub(crate) is_last: bool,
    /// Where the first of them begins, ...
    pub(crate) at: usize,
    /// ... and its payload is.
    pub(crate) payload: Range<usize>,
}

impl Run {
    fn of(record: Record) -> Run {
        Run {
            status: record.status,
            count: 1,
            is_last: record.is_last,
            at: record.payload.start.saturating_sub(RECORD_HEAD_BYTES),
            payload: record.payload,
        }
    }

    /// Takes the first of several records off, as many as that, if there are more.
    pub(crate) fn split_front(&mut self, count: usize, bundle: &Bundle) -> Option<Run> {
        self.count = self.count.checked_sub(count).filter(|left| *left > 0)?;
        let front = Run {
            count,
            is_last: false,
            ..self.clone()
        };
        let open = bundle.open();
        let mut at = self.at;
        for _ in 0..count {
            at = open.payload_at(at).1;
        }
        let (payload, next) = open.payload_at(at);
        (self.at, self.payload) = (at, next - payload.len()..next);
        Some(front)
    }
}

/// Some records of a worker, in order.
#[derive(Clone, Debug)]
pub(crate) struct Bundle {
    pub(crate) reply: Reply,
    /// They are as they came over the connection: there is one, without a head.
    is_alone: bool,
}

impl Bundle {
    /// Of records that lie in `reply`, one behind the other.
    pub(crate) fn of_many(reply: Reply) -> Bundle {
        let is_alone = false;
        Bundle { reply, is_alone }
    }

    /// Of one record, whose payload `reply` has.
    pub(crate) fn of_one(reply: Reply) -> Bundle {
        let is_alone = true;
        Bundle { reply, is_alone }
    }

    /// For reading several of them.
    #[inline]
    pub(crate) fn open(&self) -> OpenBundle<'_> {
        OpenBundle {
            reply: self.reply.open(),
            is_alone: self.is_alone,
        }
    }
}

/// Some records whose payloads are being read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenBundle<'b> {
    pub(crate) reply: OpenReply<'b>,
    is_alone: bool,
}

impl<'b> OpenBundle<'b> {
    /// The payload of the record that begins at `at`, and where the next one begins. That there is
    /// one was seen when it came.
    #[inline]
    pub(crate) fn payload_at(&self, at: usize) -> (&'b [u8], usize) {
        let bytes = self.reply.bytes;
        if self.is_alone {
            return (bytes.get(at..).unwrap_or_default(), bytes.len());
        }
        let head = bytes
            .get(at..)
            .and_then(<[u8]>::first_chunk::<RECORD_HEAD_BYTES>);
        let Some(head) = head else {
            return (&[], at);
        };
        let start = at + RECORD_HEAD_BYTES;
        let end = start + (u32::from_le_bytes(*head) >> LENGTH_SHIFT) as usize;
        (bytes.get(start..end).unwrap_or_default(), end)
    }
}

/// A record that stands for what comes over the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StandIn {
    pub(super) place: Range<usize>,
    /// Whether the call is at its end with it.
    pub(super) is_last: bool,
}

/// What came of a worker.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) bundle: Bundle,
    pub(crate) runs: Few<Run>,
}

impl Report {
    /// Of one record, whose payload lies in `reply`.
    pub(crate) fn of_one(record: Record, reply: Reply) -> Report {
        let (run, bundle) = Report::only(record, reply);
        let runs = Few::from(run);
        Report { bundle, runs }
    }

    /// The parts of that.
    pub(crate) fn only(record: Record, reply: Reply) -> (Run, Bundle) {
        let run = Run {
            at: record.payload.start,
            ..Run::of(record)
        };
        (run, Bundle::of_one(reply))
    }

    /// Reads the records in `body` up to one that stands for another. `None` if they make no sense.
    pub(super) fn read(body: &[u8]) -> Option<(Few<Run>, Option<StandIn>)> {
        let mut runs: Few<Run> = Few::default();
        let mut at = 0;
        while at < body.len() {
            let (read, next) = read_record(body, at)?;
            match read {
                Read::Apart { is_last } => {
                    let place = at..next;
                    return Some((runs, Some(StandIn { place, is_last })));
                }
                Read::Record(record) => match runs.last_mut() {
                    Some(run)
                        if record.status == Status::Returned
                            && run.status == Status::Returned
                            && !run.is_last =>
                    {
                        run.count += 1;
                        run.is_last = record.is_last;
                    }
                    _ => runs.push(Run::of(record)),
                },
            }
            at = next;
        }
        Some((runs, None))
    }

    /// The first record.
    pub(crate) fn first(&self) -> Option<Record> {
        let run = self.runs.first()?;
        Some(Record {
            status: run.status,
            is_last: run.is_last && run.count == 1,
            payload: run.payload.clone(),
        })
    }
}

/// Some encoded arguments, and where those of each item end.
#[cfg(test)]
pub(crate) struct Listed {
    pub(crate) bytes: Vec<u8>,
    ends: Vec<[u8; 4]>,
    start: usize,
}

#[cfg(test)]
impl Listed {
    /// Those of the first item begin at `start`.
    pub(crate) fn new(bytes: Vec<u8>, start: usize, ends: &[usize]) -> Listed {
        let ends = ends.iter().map(|end| (*end as u32).to_le_bytes());
        let ends = ends.collect();
        Listed { bytes, ends, start }
    }

    fn start(&self, item: usize) -> usize {
        item.checked_sub(1).map_or(self.start, |before| {
            u32::from_le_bytes(self.ends[before]) as usize
        })
    }
}

#[cfg(test)]
impl Args for Listed {
    fn bytes(&self, items: Range<usize>) -> &[u8] {
        &self.bytes[self.start(items.start)..self.start(items.end)]
    }

    fn table(&self, items: Range<usize>) -> Table<'_> {
        let start = self.start(items.start) as u32;
        Table::Ends(self.ends[items].as_flattened(), start)
    }
}

#[cfg(test)]
impl Report {
    /// All records in `body`, up to one that stands for another.
    pub(crate) fn of_body(mut body: Vec<u8>) -> Option<Report> {
        let (runs, _) = Report::read(&body)?;
        let bundle = Bundle::of_many(Reply::new(&mut body, None));
        Some(Report { bundle, runs })
    }

    /// Each of the records.
    pub(crate) fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for run in self.runs.iter() {
            let mut at = run.at;
            for number in 1..=run.count {
                let (payload, next) = self.bundle.open().payload_at(at);
                let payload = next - payload.len()..next;
                at = next;
                records.push(Record {
                    status: run.status,
                    is_last: run.is_last && number == run.count,
                    payload,
                });
            }
        }
        records
    }
}
