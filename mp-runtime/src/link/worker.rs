//! The worker's side.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Recorder;
use super::message::{self, Status, write_record};
use crate::wire::{Decoder, Handles, Inbox, Message, Outbox, Payload};

/// Results wait no longer than this for others to be sent with them, and never past the end of
/// their chunk.
const FLUSH_INTERVAL: Duration = Duration::from_millis(1);

/// Receives calls and sends results.
#[derive(Debug)]
pub(crate) struct WorkerEnd {
    inbox: Inbox,
    outbox: Outbox,
    recorder: Arc<Recorder>,
    /// The records that were not sent; the recorder has the same bytes.
    pending: Vec<u8>,
    flushed: Instant,
}

/// A call that came.
pub(crate) struct Chunk {
    pub(crate) function: u32,
    pub(crate) number: u64,
    item_count: u64,
    message: Message,
    items_at: usize,
}

impl Chunk {
    pub(crate) fn handles(&self) -> Option<&Handles> {
        self.message.handles.as_ref()
    }

    /// The items: number and arguments.
    pub(crate) fn items(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut from = Decoder::new(&self.message.body[self.items_at..]);
        (0..self.item_count).map_while(move |_| message::read_item(&mut from).ok())
    }
}

impl WorkerEnd {
    pub(crate) fn new(inbox: Inbox, outbox: Outbox, recorder: Arc<Recorder>) -> WorkerEnd {
        WorkerEnd {
            inbox,
            outbox,
            recorder,
            pending: Vec::new(),
            flushed: Instant::now(),
        }
    }

    /// Waits for a call; `None` when there is nothing more to do.
    pub(crate) fn next(&self) -> Option<Chunk> {
        let message = self
            .inbox
            .next()
            .ok()
            .filter(|message| message.kind == message::CALL)?;
        let mut from = Decoder::new(&message.body);
        let (function, number, item_count) = message::read_call(&mut from).ok()?;
        let items_at = message.body.len() - from.left();
        Some(Chunk {
            function,
            number,
            item_count,
            message,
            items_at,
        })
    }

    /// Begins an item, unless the chunk was cancelled meanwhile.
    pub(crate) fn begin(&self, chunk: u64, item: u64) -> bool {
        let go = !self.recorder.is_cancelled(chunk);
        if go {
            self.recorder.begin(chunk, item);
        }
        go
    }

    /// Ends an item with what became of it.
    ///
    /// # Errors
    ///
    /// If the parent is gone.
    pub(crate) fn end(
        &mut self,
        chunk: u64,
        item: u64,
        status: Status,
        payload: &Payload,
    ) -> io::Result<()> {
        let before = self.pending.len();
        write_record(&mut self.pending, chunk, item, status, &payload.bytes);
        let record_bytes = self.pending.len() - before;
        if payload.handles.is_some() || !self.recorder.has_room(0, record_bytes) {
            let record = self.pending.split_off(before);
            self.flush()?;
            self.outbox
                .send(message::RECORDS, &record, payload.handles.as_ref())?;
        } else {
            if !self.recorder.has_room(before, record_bytes) {
                let record = self.pending.split_off(before);
                self.flush()?;
                self.pending = record;
            }
            let committed = self.pending.len() - record_bytes;
            self.recorder.commit(committed, &self.pending[committed..]);
        }
        self.recorder.end();
        if !self.pending.is_empty() && self.flushed.elapsed() > FLUSH_INTERVAL {
            self.flush()?;
        }
        Ok(())
    }

    /// Ends a chunk: everything that is left goes out.
    ///
    /// # Errors
    ///
    /// If the parent is gone.
    pub(crate) fn end_chunk(&mut self, chunk: u64) -> io::Result<()> {
        write_record(&mut self.pending, chunk, 0, Status::ChunkEnd, &[]);
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flushed = Instant::now();
        if self.pending.is_empty() {
            return Ok(());
        }
        self.outbox.send(message::RECORDS, &self.pending, None)?;
        self.recorder.clear();
        self.pending.clear();
        Ok(())
    }
}
