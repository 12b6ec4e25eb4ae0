//! Encoded items.

use std::ops::Range;
use std::sync::Arc;

use crate::link::{Args, Call, CallHead, Table};
use crate::registry::ProcessFn;
use crate::wire::{self, BulkPlace, Bytes, EncodeError, Encoder, Handles};

/// Memory for an item of a few numbers is asked for at once.
const ITEM_BYTES: usize = 48;

/// A segment is closed when it has so many bytes.
const SEGMENT_BYTES: usize = 256 << 10;

/// A call of several items has arguments of so many bytes at most, with which it goes through a ring
/// together with the ends of as many items as a chunk has.
pub(super) const CHUNK_BYTES: usize = 32 << 10;

/// Nor has it more items, which are numbered.
const CHUNK_ITEMS: usize = 1 << 24;

/// A segment is closed when it refers to so many regions of shared memory.
const SEGMENT_REGIONS: usize = 16;

/// Some items in a row, encoded one behind the other.
#[derive(Debug)]
pub(super) struct Segment {
    /// The place of the first one in what was mapped over; the others follow.
    first: usize,
    count: usize,
    ends: Ends,
    bytes: Bytes,
    /// With those that lie apart.
    byte_count: usize,
    pub(super) handles: Option<Arc<Handles>>,
}

/// Where the bytes of each item end.
#[derive(Debug)]
enum Ends {
    /// All have so many.
    Even(usize),
    /// Four bytes each, little-endian; the last one, if it ends beyond 4 GiB, with what is lower of
    /// its end: it is alone in its chunk then, and nobody asks.
    Many(Vec<[u8; 4]>),
}

impl Args for Segment {
    fn bytes(&self, items: Range<usize>) -> &[u8] {
        &self.bytes.get()[self.start(items.start)..self.start(items.end)]
    }

    fn table(&self, items: Range<usize>) -> Table<'_> {
        match &self.ends {
            // One that has more is alone, and nobody asks.
            Ends::Even(bytes) => Table::Even(*bytes as u32),
            // Nor for where a single one ends.
            Ends::Many(_) if items.len() == 1 => Table::Even(0),
            Ends::Many(ends) => Table::Ends(
                ends[items.clone()].as_flattened(),
                self.start(items.start) as u32,
            ),
        }
    }
}

impl Segment {
    /// The place of the item at `position` in what was mapped over.
    pub(super) fn number(&self, position: usize) -> usize {
        self.first + position
    }

    /// Where the arguments of the item at `position` begin, or those of all end.
    fn start(&self, position: usize) -> usize {
        match &self.ends {
            _ if position == 0 => 0,
            _ if position == self.count => self.bytes.get().len(),
            Ends::Even(bytes) => bytes * position,
            Ends::Many(ends) => u32::from_le_bytes(ends[position - 1]) as usize,
        }
    }

    /// The encoded arguments of the item at `position`.
    pub(super) fn args(&self, position: usize) -> &[u8] {
        self.bytes(position..position + 1)
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Every item has its result: parts of arrays, which only the last one can have, come back.
    pub(super) fn end_loans(&self) {
        if let Some(handles) = &self.handles {
            handles.end_loans();
        }
    }

    pub(super) fn byte_count(&self) -> usize {
        self.byte_count
    }
}

/// Encodes items into a segment.
#[derive(Default)]
pub(super) struct SegmentBuilder {
    first: usize,
    /// How many bytes the first one has, and all others as long as `positions` is empty.
    item_bytes: usize,
    /// Where the bytes of each end, but for the last one, if they are not even.
    positions: Vec<[u8; 4]>,
    count: usize,
    encoder: Encoder,
    ends: Option<wire::Ends>,
}

impl SegmentBuilder {
    /// One that puts large runs of numbers there.
    pub(super) fn new(bulk: BulkPlace) -> SegmentBuilder {
        SegmentBuilder::reusing(Vec::new(), bulk)
    }

    /// The same with the memory of `buffer`, which is empty.
    pub(super) fn reusing(buffer: Vec<u8>, bulk: BulkPlace) -> SegmentBuilder {
        SegmentBuilder {
            encoder: Encoder::reusing(buffer, bulk),
            ..SegmentBuilder::default()
        }
    }

    /// Adds an item, whose place follows that of the one before; if it cannot be encoded, or panics,
    /// the segment is as before, and has to be taken before another is added.
    #[inline]
    pub(super) fn push<F: ProcessFn>(
        &mut self,
        number: usize,
        args: F::Args,
    ) -> Result<(), EncodeError> {
        struct Rewind<'e> {
            encoder: &'e mut Encoder,
            bytes: usize,
            loans: usize,
        }
        impl Drop for Rewind<'_> {
            fn drop(&mut self) {
                self.encoder.rewind(self.bytes, self.loans);
            }
        }

        let (bytes, loans) = (self.encoder.len(), self.encoder.loans().len());
        self.encoder.reserve(ITEM_BYTES);
        let item = Rewind {
            encoder: &mut self.encoder,
            bytes,
            loans,
        };
        F::__encode(&args, item.encoder)?;
        drop(args);
        if !item.encoder.is_bare() {
            Handles::check_loans(&item.encoder.loans()[loans..])?;
            self.ends = item.encoder.take_ends()?;
        }
        item.encoder.end_item()?;
        std::mem::forget(item);
        let item_bytes = self.encoder.len() - bytes;
        if self.count == 0 {
            (self.first, self.item_bytes) = (number, item_bytes);
        } else if item_bytes != self.item_bytes || !self.positions.is_empty() {
            self.note_end(bytes);
        }
        debug_assert_eq!(number, self.first + self.count);
        self.count += 1;
        Ok(())
    }

    /// Notes where the item before ends, and those before that one.
    fn note_end(&mut self, end: usize) {
        // A segment with more bytes than four of these can tell gets no more items.
        let number = |end: usize| (end as u32).to_le_bytes();
        let known = self.positions.len() + 1;
        let even = (known..self.count).map(|count| number(count * self.item_bytes));
        self.positions.extend(even);
        self.positions.push(number(end));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether it should be closed: at `count` items, when it is large or refers to much shared
    /// memory (all of it goes with each part of the segment), and after an item with handles of
    /// `ipc-channel`, open files or parts of arrays, which are kept as long as its segment.
    pub(super) fn is_full(&self, count: usize) -> bool {
        self.count >= count
            || self.encoder.len() >= SEGMENT_BYTES
            || self.ends.is_some()
            || self.encoder.has_files()
            || self.encoder.has_bulks()
            || self.encoder.region_count() >= SEGMENT_REGIONS
            || !self.encoder.loans().is_empty()
    }

    /// Takes what there is.
    pub(super) fn take(&mut self) -> Arc<Segment> {
        let (first, count) = (self.first, std::mem::take(&mut self.count));
        let ends = match self.positions.is_empty() {
            true => Ends::Even(self.item_bytes),
            false => {
                let mut positions = std::mem::take(&mut self.positions);
                positions.push((self.encoder.len() as u32).to_le_bytes());
                Ends::Many(positions)
            }
        };
        let byte_count = self.encoder.len() + self.encoder.bulk_bytes();
        let (bytes, cargo) = self.encoder.take_parts();
        let handles = Handles::of(self.ends.take(), cargo).map(Arc::new);
        Arc::new(Segment {
            first,
            count,
            ends,
            bytes,
            byte_count,
            handles,
        })
    }

    /// The memory that is left when all was taken.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.encoder.into_plain_bytes()
    }
}

/// A range of a segment that waits or runs.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) segment: Arc<Segment>,
    /// Positions in the segment.
    pub(super) range: Range<usize>,
    /// How often its one item has failed and was tried again.
    pub(super) retried: u32,
    /// How often a worker died that had it and had not begun with it.
    pub(super) unstarted: u32,
}

impl Piece {
    pub(super) fn whole(segment: Arc<Segment>) -> Piece {
        let range = 0..segment.len();
        Piece {
            segment,
            range,
            retried: 0,
            unstarted: 0,
        }
    }

    /// The part of it at `range`, as new.
    pub(super) fn part(&self, range: Range<usize>) -> Piece {
        Piece {
            segment: Arc::clone(&self.segment),
            range,
            retried: 0,
            unstarted: 0,
        }
    }

    /// What is left of it from `position` on, with what it has been through.
    pub(super) fn rest(&self, position: usize) -> Piece {
        Piece {
            range: position..self.range.end,
            ..self.clone()
        }
    }

    /// Takes the first `count` items off, or fewer, if their arguments have more bytes than this; one
    /// at least.
    pub(super) fn split_front(&mut self, count: usize, most_bytes: usize) -> Piece {
        let middle = self.front_end(count, most_bytes);
        let front = Piece {
            range: self.range.start..middle,
            ..self.clone()
        };
        self.range.start = middle;
        front
    }

    fn front_end(&self, count: usize, most_bytes: usize) -> usize {
        let Range { start, end } = self.range;
        let middle = start + count.min(end - start).min(CHUNK_ITEMS);
        let most = self.segment.start(start) + most_bytes;
        if self.segment.start(middle) <= most {
            return middle;
        }
        // The first position that is too far; the one before it may be the end.
        let (mut low, mut high) = (start + 1, middle);
        while low < high {
            let position = low + (high - low) / 2;
            match self.segment.start(position) <= most {
                true => low = position + 1,
                false => high = position,
            }
        }
        (low - 1).max(start + 1).min(end)
    }

    /// How many bytes the arguments of its first `count` items have, or of as many as go into one
    /// call.
    pub(super) fn front_bytes(&self, count: usize) -> usize {
        let end = self.front_end(count, CHUNK_BYTES);
        self.segment.start(end) - self.segment.start(self.range.start)
    }

    /// Whether it has been to a worker in vain.
    pub(super) fn is_tried(&self) -> bool {
        self.retried > 0 || self.unstarted > 0
    }

    /// The encoded arguments of each of its items.
    pub(super) fn args(&self) -> impl Iterator<Item = &[u8]> {
        self.range
            .clone()
            .map(|position| self.segment.args(position))
    }

    /// Its items as a call.
    pub(super) fn call(&self, head: CallHead) -> Call {
        let segment: Arc<Segment> = Arc::clone(&self.segment);
        Call::new(head, segment, self.range.clone())
    }

    /// The places of its items in what was mapped over.
    pub(super) fn numbers(&self) -> impl Iterator<Item = usize> {
        self.range
            .clone()
            .map(|position| self.segment.number(position))
    }
}
