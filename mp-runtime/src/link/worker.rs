//! The worker's side.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Recorder;
use super::mailbox::Taker;
use super::message::{
    self, Call, RECORD_HEADER_BYTES, Status, Table, write_record, write_record_header,
};
use crate::os::{crowd, packet};
use crate::wire::{Handles, Inbox, Outbox, Payload};

/// Results that wait for others go out with the first item that ends later than this after the last
/// ones went, and at the end of their chunk. So they wait for an item that takes long.
pub(super) const FLUSH_INTERVAL: Duration = Duration::from_millis(1);

/// Receives calls and sends results.
#[derive(Debug)]
pub(crate) struct WorkerEnd(Side);

#[derive(Debug)]
enum Side {
    Process(OfProcess),
    Thread(Taker),
}

#[derive(Debug)]
struct OfProcess {
    inbox: Inbox,
    outbox: Outbox,
    recorder: Arc<Recorder>,
    /// Those of the call that is being run, until its last item has them.
    handles: Option<Arc<Handles>>,
    /// The records that were not sent; the recorder has the same bytes.
    pending: Vec<u8>,
    flushed: Instant,
}

/// A call that came.
pub(crate) struct Chunk {
    table: Table,
    body: Body,
}

/// Where the arguments lie.
enum Body {
    /// Behind the table, in the message.
    Received(Vec<u8>),
    /// Where the caller encoded them.
    Lent(Call),
}

impl Chunk {
    pub(crate) fn function(&self) -> u32 {
        self.table.function
    }

    pub(crate) fn number(&self) -> u64 {
        self.table.chunk
    }

    /// The items: number and arguments.
    pub(crate) fn items(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let args = match &self.body {
            Body::Received(body) => &body[self.table.args_at..],
            Body::Lent(call) => call.args(),
        };
        let mut start = 0;
        self.table.items.iter().map(move |&(number, end)| {
            let item = args.get(start..end).unwrap_or_default();
            start = end;
            (number, item)
        })
    }
}

impl From<Taker> for WorkerEnd {
    fn from(taker: Taker) -> WorkerEnd {
        WorkerEnd(Side::Thread(taker))
    }
}

impl WorkerEnd {
    /// That of a process.
    pub(super) fn new(inbox: Inbox, outbox: Outbox, recorder: Arc<Recorder>) -> WorkerEnd {
        WorkerEnd(Side::Process(OfProcess {
            inbox,
            outbox,
            recorder,
            handles: None,
            pending: Vec::new(),
            flushed: Instant::now(),
        }))
    }

    /// Waits for a call; `None` when there is nothing more to do.
    pub(crate) fn next(&mut self) -> Option<Chunk> {
        match &mut self.0 {
            Side::Process(process) => process.next(),
            Side::Thread(thread) => {
                let call = thread.next()?;
                let table = Table::read(&call.table).ok()?;
                let body = Body::Lent(call);
                Some(Chunk { table, body })
            }
        }
    }

    /// Begins an item, unless the chunk was cancelled meanwhile.
    pub(crate) fn begin(&self, chunk: u64, item: u64) -> bool {
        match &self.0 {
            Side::Process(process) => process.begin(chunk, item),
            Side::Thread(thread) => thread.begin(chunk, item),
        }
    }

    /// The handles of the call for an item of it; the last one takes them.
    pub(crate) fn handles(&mut self, is_last: bool) -> Option<Arc<Handles>> {
        match &mut self.0 {
            Side::Process(process) if is_last => process.handles.take(),
            Side::Process(process) => process.handles.clone(),
            Side::Thread(thread) => thread.handles(is_last),
        }
    }

    /// Ends an item with what became of it.
    ///
    /// # Errors
    ///
    /// If the parent is gone, or wants nothing more from this worker.
    pub(crate) fn end(
        &mut self,
        chunk: u64,
        item: u64,
        status: Status,
        payload: Payload,
    ) -> io::Result<()> {
        match &mut self.0 {
            Side::Process(process) => process.end(chunk, item, status, &payload),
            Side::Thread(thread) => thread.end(chunk, item, status, payload),
        }
    }

    /// Ends a chunk: everything that is left goes out.
    ///
    /// # Errors
    ///
    /// As those of [`WorkerEnd::end`].
    pub(crate) fn end_chunk(&mut self, chunk: u64) -> io::Result<()> {
        match &mut self.0 {
            Side::Process(process) => process.end_chunk(chunk),
            Side::Thread(thread) => thread.end_chunk(chunk),
        }
    }
}

impl OfProcess {
    fn next(&mut self) -> Option<Chunk> {
        let message = self
            .inbox
            .next()
            .ok()
            .filter(|message| message.kind == message::CALL)?;
        let table = Table::read(&message.body).ok()?;
        self.handles = message.handles.map(Arc::new);
        let body = Body::Received(message.body);
        Some(Chunk { table, body })
    }

    fn begin(&self, chunk: u64, item: u64) -> bool {
        let go = !self.recorder.is_cancelled(chunk);
        if go {
            self.recorder.begin(chunk, item);
        }
        go
    }

    fn end(&mut self, chunk: u64, item: u64, status: Status, payload: &Payload) -> io::Result<()> {
        let before = self.pending.len();
        let bytes = RECORD_HEADER_BYTES + payload.bytes.len();
        if payload.handles.is_some() || !self.recorder.has_room(0, bytes) {
            self.flush()?;
            let mut header = Vec::new();
            write_record_header(&mut header, chunk, item, status, payload.bytes.len());
            self.send_alone(&header, payload, chunk, item)?;
        } else {
            if !self.recorder.has_room(before, bytes) {
                self.flush()?;
            }
            let committed = self.pending.len();
            write_record(&mut self.pending, chunk, item, status, &payload.bytes);
            self.recorder.commit(committed, &self.pending[committed..]);
        }
        self.recorder.end();
        if !self.pending.is_empty() && self.flushed.elapsed() > FLUSH_INTERVAL {
            self.flush()?;
        }
        Ok(())
    }

    /// Sends one record by itself. If what it refers to cannot be sent, that is its result.
    fn send_alone(
        &self,
        header: &[u8],
        payload: &Payload,
        chunk: u64,
        item: u64,
    ) -> io::Result<()> {
        let handles = payload.handles.as_ref();
        let send = || {
            self.outbox
                .send(message::RECORDS, header, &payload.bytes, handles)
        };
        let Err(error) = crowd::insist(send) else {
            handles.iter().for_each(|handles| handles.hand_over_loans());
            return Ok(());
        };
        let is_whole = !Outbox::may_block(header.len() + payload.bytes.len());
        if packet::is_gone(&error) || handles.is_none() || !is_whole {
            return Err(error);
        }
        let reason = format!("what it refers to could not be sent: {error}");
        let mut record = Vec::new();
        let status = Status::NotEncoded;
        write_record(&mut record, chunk, item, status, reason.as_bytes());
        self.outbox.send(message::RECORDS, &record, &[], None)
    }

    fn end_chunk(&mut self, chunk: u64) -> io::Result<()> {
        self.handles = None;
        write_record(&mut self.pending, chunk, 0, Status::ChunkEnd, &[]);
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flushed = Instant::now();
        if self.pending.is_empty() {
            return Ok(());
        }
        self.outbox
            .send(message::RECORDS, &self.pending, &[], None)?;
        self.recorder.clear();
        self.pending.clear();
        Ok(())
    }
}
