//! Rings of bytes in memory that a parent and one worker share: one process puts in, the other one
//! takes out.
//!
//! # Layout
//!
//! Two words and a stretch of bytes. `tail` counts the bytes that were put in since the beginning,
//! `head` those that were taken out; the byte at count `n` lies at `n % size`. Both only grow.
//!
//! # Rules
//!
//! 1. Who puts in alone writes `tail`, and the bytes from `tail` to `head + size`. Who takes out
//!    alone writes `head`.
//! 2. Bytes are there when `tail` has passed them (SYNC tail: release and acquire); their place is
//!    free when `head` has (SYNC head).
//! 3. What is put in at once is there at once: a reader sees all of it or nothing.
//!
//! # Death
//!
//! A process that is killed before it stores `tail` has put in nothing, and one that is killed before
//! it stores `head` has taken nothing. Nobody takes the place of a dead one: the ring goes with it.
//!
//! # Two kinds
//!
//! What goes **up** to the parent comes from a stranger: it is [copied out](UpReader::take) before
//! anybody looks at it, with all that is there in one step, and the counts are checked against each
//! other. What goes **down** is put in by the parent, whom its workers trust: a worker reads
//! [*frames*](DownReader::next) where they lie. A frame is in one piece; what is left at the end of
//! the ring before a larger one is passed over.

use std::alloc::{Layout, handle_alloc_error};
use std::cell::Cell;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::os::shared_page::SharedPage;
use crate::sync::atomic::{AtomicU64, Ordering};

/// There is memory from the beginning on behind so many bytes, ...
pub(super) const FIRST_BYTES: usize = 2 << 10;
/// ... and then behind so many more at once.
const STEP_BYTES: usize = 16 << 10;

/// One direction: where its words and its bytes lie.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    pub(super) page: Arc<SharedPage>,
    pub(super) tail_word: usize,
    pub(super) head_word: usize,
    pub(super) bytes: Range<usize>,
}

impl Ring {
    fn tail(&self) -> &AtomicU64 {
        self.page.word(self.tail_word)
    }

    fn head(&self) -> &AtomicU64 {
        self.page.word(self.head_word)
    }

    /// A power of two.
    #[inline]
    fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Where the byte at this count lies, and how many lie behind it in one piece.
    #[inline]
    fn place(&self, count: u64) -> (usize, usize) {
        // The size is a power of two.
        let inside = count as usize & (self.size() - 1);
        (self.bytes.start + inside, self.size() - inside)
    }

    /// Sees to it that there is memory behind its first bytes, so many and one more at least, if there
    /// was behind `ready` of them; tells behind how many there is.
    #[cold]
    fn set_aside(&self, ready: usize, wanted: usize) -> io::Result<usize> {
        let wanted = (wanted + 1).next_multiple_of(STEP_BYTES).min(self.size());
        let start = self.bytes.start;
        self.page.set_aside(start + ready..start + wanted)?;
        Ok(wanted)
    }

    /// The same for what is put in first, where that is not so yet.
    pub(super) fn get_ready(&self) -> io::Result<()> {
        let first = FIRST_BYTES.min(self.size());
        self.page
            .set_aside(self.bytes.start..self.bytes.start + first)
    }

    /// Has the byte at this count come into the cache along with the word that is looked at next:
    /// what lies there is read first when the word has changed, and the two come at once.
    #[inline]
    fn touch(&self, count: u64) {
        self.page.touch(self.place(count).0);
    }

    /// How many bytes lie between two counts; none if there cannot be so many.
    #[inline]
    fn between(&self, head: u64, tail: u64) -> Option<usize> {
        let count = usize::try_from(tail.wrapping_sub(head)).ok()?;
        (count <= self.size()).then_some(count)
    }
}

/// What the other side wrote makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nonsense {
    /// There is more than there can be.
    TooMuch,
    /// There is something where there is no memory, nor can be.
    Nowhere,
}

impl fmt::Display for Nonsense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Nonsense::TooMuch => "its ring has more in it than it can have",
            Nonsense::Nowhere => "there is no memory where its ring has something",
        })
    }
}

/// The worker's end of the ring up.
#[derive(Debug)]
pub(super) struct UpWriter {
    ring: Ring,
    tail: u64,
    /// Behind so many of its bytes there is memory.
    ready: usize,
    /// `head`, as it was last seen.
    head: Cell<u64>,
}

impl UpWriter {
    pub(super) fn new(ring: Ring) -> UpWriter {
        UpWriter {
            ready: FIRST_BYTES.min(ring.size()),
            ring,
            tail: 0,
            head: Cell::new(0),
        }
    }

    /// Puts the parts in, one behind the other, if there is room for all of them.
    #[inline]
    pub(super) fn put(&mut self, parts: [&[u8]; 2]) -> bool {
        let wanted = parts[0].len() + parts[1].len();
        if !self.has_room(wanted) {
            return false;
        }
        let mut at = self.tail;
        let (_, in_a_piece) = self.ring.place(at);
        let end = self.ring.size() - in_a_piece + wanted;
        if end >= self.ready && self.ready < self.ring.size() {
            // As any allocation of this process that fails.
            self.ready = (self.ring.set_aside(self.ready, end))
                .unwrap_or_else(|_| handle_alloc_error(Layout::for_value(parts[1])));
        }
        for part in parts {
            let (offset, in_a_piece) = self.ring.place(at);
            let (first, rest) = part.split_at(part.len().min(in_a_piece));
            self.ring.page.write(offset, first);
            if !rest.is_empty() {
                self.ring.page.write(self.ring.bytes.start, rest);
            }
            at += part.len() as u64;
        }
        self.tail = at;
        // SYNC tail: pairs with the loads in `UpReader::take` and `is_empty`.
        self.ring.tail().store(at, Ordering::Release);
        true
    }

    /// Whether there is room for so many bytes.
    pub(super) fn has_room(&self, wanted: usize) -> bool {
        let fits = |head: u64, tail: u64| {
            let used = self.ring.between(head, tail).unwrap_or(self.ring.size());
            self.ring.size() - used >= wanted
        };
        if fits(self.head.get(), self.tail) {
            return true;
        }
        // SYNC head: pairs with the store in `UpReader::take`. In the one order of all that is
        // `SeqCst`, for who looks before it sleeps.
        self.head.set(self.ring.head().load(Ordering::SeqCst));
        fits(self.head.get(), self.tail)
    }
}

/// The parent's end of the ring up.
#[derive(Debug)]
pub(super) struct UpReader {
    ring: Ring,
    head: u64,
    /// Behind so many of its bytes there is memory, if the worker is honest or not.
    ready: usize,
}

impl UpReader {
    pub(super) fn new(ring: Ring) -> UpReader {
        UpReader {
            ready: FIRST_BYTES.min(ring.size()),
            ring,
            head: 0,
        }
    }

    /// Whether there is nothing to take.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.ring.touch(self.head);
        // SYNC tail.
        self.ring.tail().load(Ordering::SeqCst) == self.head
    }

    /// Copies all that is there to the end of `to`, and makes room for more.
    ///
    /// # Errors
    ///
    /// If there cannot be as much as the words say, or there is no memory behind it: to touch it then
    /// would be a SIGBUS.
    pub(super) fn take(&mut self, to: &mut Vec<u8>) -> Result<usize, Nonsense> {
        // SYNC tail: pairs with the store in `UpWriter::put`.
        let tail = self.ring.tail().load(Ordering::Acquire);
        let count = self.ring.between(self.head, tail);
        let count = count.ok_or(Nonsense::TooMuch)?;
        let (offset, in_a_piece) = self.ring.place(self.head);
        let end = self.ring.size() - in_a_piece + count;
        if end >= self.ready && self.ready < self.ring.size() {
            // An honest worker has done so before it put something there.
            let ready = self.ring.set_aside(self.ready, end);
            self.ready = ready.map_err(|_| Nonsense::Nowhere)?;
        }
        let first = count.min(in_a_piece);
        self.ring.page.read(offset, first, to);
        self.ring
            .page
            .read(self.ring.bytes.start, count - first, to);
        self.head = tail;
        // SYNC head: pairs with the load in `UpWriter::has_room`. `SeqCst`, since who waits for room
        // is looked for afterwards.
        self.ring.head().store(tail, Ordering::SeqCst);
        Ok(count)
    }
}

/// What stands before a frame: how many bytes it takes with this and what fills it up, its kind, and
/// how many bytes its content has.
#[derive(Clone, Copy, Debug)]
struct Header {
    bytes: u32,
    kind: u32,
    content: u32,
}

const HEADER_BYTES: usize = 12;
/// Frames begin at multiples of this: a small one is in one line of the cache, and there is always
/// room for a header.
const ALIGNMENT: usize = 64;
/// The kind of what is passed over.
const SKIPPED: u32 = 0;

impl Header {
    fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.kind.to_le_bytes());
        bytes[8..].copy_from_slice(&self.content.to_le_bytes());
        bytes
    }

    fn of(bytes: &[u8]) -> Header {
        let word = |at: usize| {
            let bytes = bytes.get(at..at + 4).and_then(<[u8]>::first_chunk);
            bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
        };
        Header {
            bytes: word(0),
            kind: word(4),
            content: word(8),
        }
    }
}

/// The parent's end of the ring down.
#[derive(Debug)]
pub(super) struct DownWriter {
    ring: Ring,
    tail: u64,
    /// Behind so many of its bytes there is memory.
    ready: usize,
    /// `head`, as it was last seen: looking takes the line of the cache from the worker.
    head: u64,
}

impl DownWriter {
    pub(super) fn new(ring: Ring) -> DownWriter {
        DownWriter {
            ready: FIRST_BYTES.min(ring.size()),
            ring,
            tail: 0,
            head: 0,
        }
    }

    /// Whether fewer bytes than this were not passed.
    pub(super) fn has_less_than(&mut self, bytes: usize) -> bool {
        self.used() < bytes || {
            self.look();
            self.used() < bytes
        }
    }

    /// How many bytes were not passed, as far as is known; all of them if the worker lies.
    fn used(&self) -> usize {
        let used = self.ring.between(self.head, self.tail);
        used.unwrap_or(self.ring.size())
    }

    fn look(&mut self) {
        // SYNC head: pairs with the store in `DownReader::pass`.
        self.head = self.ring.head().load(Ordering::Acquire);
    }

    /// How many bytes are passed over before a frame of so many; `None` if there is no room.
    fn skip_for(&mut self, bytes: usize) -> Option<usize> {
        let size = self.ring.size();
        let (_, in_a_piece) = self.ring.place(self.tail);
        // An empty ring begins anew now and then, so that calls in turn touch little memory.
        let is_far = in_a_piece < size / 4 * 3;
        let fits = bytes <= in_a_piece;
        if is_far || !fits || self.used() + bytes > size {
            self.look();
        }
        let skipped = match !fits || is_far && self.used() == 0 {
            true => in_a_piece,
            false => 0,
        };
        (self.used() + skipped + bytes <= size).then_some(skipped)
    }

    /// Puts in a frame with the parts as its content, one behind the other, if there is room; tells
    /// whether there was. `kind` is not 0.
    ///
    /// # Errors
    ///
    /// If there is no memory for it.
    pub(super) fn put(&mut self, kind: u32, parts: &[&[u8]]) -> io::Result<bool> {
        let content: usize = parts.iter().map(|part| part.len()).sum();
        let bytes = (HEADER_BYTES + content).next_multiple_of(ALIGNMENT);
        let Some(skipped) = self.skip_for(bytes).filter(|_| bytes <= u32::MAX as usize) else {
            return Ok(false);
        };
        let (mut offset, in_a_piece) = self.ring.place(self.tail);
        let end = match skipped {
            0 => self.ring.size() - in_a_piece + bytes,
            _ => bytes,
        };
        if end >= self.ready && self.ready < self.ring.size() {
            self.ready = self.ring.set_aside(self.ready, end)?;
        }
        if skipped > 0 {
            let header = Header {
                bytes: skipped as u32,
                kind: SKIPPED,
                content: 0,
            };
            self.ring.page.write(offset, &header.to_bytes());
            offset = self.ring.bytes.start;
        }
        let header = Header {
            bytes: bytes as u32,
            kind,
            content: content as u32,
        };
        self.ring.page.write(offset, &header.to_bytes());
        offset += HEADER_BYTES;
        for part in parts {
            self.ring.page.write(offset, part);
            offset += part.len();
        }
        self.tail += (skipped + bytes) as u64;
        // SYNC tail: pairs with the load in `DownReader::next`. `SeqCst`, since who sleeps is looked
        // for afterwards.
        self.ring.tail().store(self.tail, Ordering::SeqCst);
        Ok(true)
    }
}

/// The worker's end of the ring down.
#[derive(Debug)]
pub(super) struct DownReader {
    ring: Ring,
    head: u64,
}

/// A frame that was not passed.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u32,
    page: Arc<SharedPage>,
    offset: usize,
    content: usize,
    bytes: usize,
}

impl Frame {
    /// What is in it.
    #[inline]
    pub(super) fn content(&self) -> &[u8] {
        // SAFETY: the parent put it there, and writes there again only when `head` has passed it,
        // which takes the frame.
        unsafe { self.page.lend(self.offset, self.content) }
    }
}

impl DownReader {
    pub(super) fn new(ring: Ring) -> DownReader {
        DownReader { ring, head: 0 }
    }

    /// Whether there is something to read.
    #[inline]
    pub(super) fn has_some(&self) -> bool {
        self.ring.touch(self.head);
        // SYNC tail.
        self.ring.tail().load(Ordering::SeqCst) != self.head
    }

    /// The next frame, if there is one, which has to be [passed](DownReader::pass) before this is
    /// asked again.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Frame> {
        loop {
            // SYNC tail: pairs with the store in `DownWriter::put`.
            if self.ring.tail().load(Ordering::Acquire) == self.head {
                return None;
            }
            let (offset, _) = self.ring.place(self.head);
            // SAFETY: the parent put a header there, and writes there again only when `head` has
            // passed it, which is this reader's to say.
            let header = Header::of(unsafe { self.ring.page.lend(offset, HEADER_BYTES) });
            let frame = Frame {
                kind: header.kind,
                page: Arc::clone(&self.ring.page),
                offset: offset + HEADER_BYTES,
                content: header.content as usize,
                bytes: header.bytes as usize,
            };
            if frame.kind != SKIPPED {
                return Some(frame);
            }
            self.pass(frame);
        }
    }

    /// Makes room where this frame lies. It was the next one.
    #[inline]
    pub(super) fn pass(&mut self, frame: Frame) {
        self.head += frame.bytes as u64;
        // SYNC head: pairs with the load in `DownWriter::put`.
        self.ring.head().store(self.head, Ordering::Release);
    }
}
