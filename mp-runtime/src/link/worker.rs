//! The worker's side.

use std::io;
use std::time::{Duration, Instant};

use super::bell::Sleeper;
use super::handshake::Door;
use super::lanes::{Lanes, MOST_UP_BYTES};
use super::mailbox::Taker;
use super::message::{
    self, Call, CallHead, Parts, RECORD_HEAD_BYTES, Status, read_call, record_head,
};
use super::ring::{DownReader, Frame, UpWriter};
use super::spin::Spinner;
use crate::os::{clock, crowd, packet};
use crate::shm::bulk::{self, Bulk};
use crate::sync::atomic::{Ordering, fence};
use crate::wire::{BulkPlace, Encoder, Handles, Outbox, Payload};
use std::sync::Arc;

/// The keeper is not woken by an item that ends sooner than this after the last time, unless the
/// worker has nothing more to do. So short items do not wake it one by one. If a long one follows them,
/// the keeper looks by itself ([`LOOK_INTERVAL`](super::parent::LOOK_INTERVAL)).
pub(super) const FLUSH_INTERVAL: Duration = Duration::from_millis(1);

/// Of calls of more items than this, ...
pub(crate) const MANY_ITEMS: u32 = 64;
/// ... every so many-eth looks at the clock.
const LOOK_EACH: u32 = 16;

/// Of calls of one item, every so many-eth is timed: two looks at the clock are a good part of a short
/// one.
const TIMED_EACH: u32 = 8;

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
    lanes: Lanes,
    reader: DownReader,
    writer: UpWriter,
    door: Box<Door>,
    spinner: Spinner,
    /// Those of the call that is being run, until its last item has them.
    handles: Option<Arc<Handles>>,
    woken: Instant,
    no_bulks: Arc<Vec<Bulk>>,
    /// How many items have ended since anybody looked how late it is.
    unwatched: u32,
    /// The keeper may want to know of the end of a call, and was not told: perhaps there is another
    /// call.
    is_untold: bool,
    /// When the call that it has was begun, in nanoseconds of the monotonic clock, if its time is
    /// taken.
    begun: Option<u64>,
    /// How many calls of one item were begun since the last whose time was taken.
    untimed: u32,
}

/// A call that came.
pub(crate) struct Chunk {
    head: CallHead,
    body: Body,
    /// What of the arguments lies apart.
    bulks: Arc<Vec<Bulk>>,
}

/// Where the arguments lie.
enum Body {
    /// In the ring.
    Framed(Frame),
    /// In the message that came over the connection.
    Received(Vec<u8>),
    /// Where the caller encoded them.
    Lent(Call),
}

impl Chunk {
    pub(crate) fn head(&self) -> CallHead {
        self.head
    }

    /// What of the arguments lies apart.
    pub(crate) fn bulks(&self) -> &[Bulk] {
        &self.bulks
    }

    /// The arguments of each item.
    pub(crate) fn items(&self) -> Parts<'_> {
        let read = |bytes| read_call(bytes).map_or(Parts::default(), |(_, parts)| parts);
        match &self.body {
            Body::Framed(frame) => read(frame.content()),
            Body::Received(bytes) => read(bytes),
            Body::Lent(call) => call.parts(),
        }
    }
}

impl From<Taker> for WorkerEnd {
    fn from(taker: Taker) -> WorkerEnd {
        WorkerEnd(Side::Thread(taker))
    }
}

impl WorkerEnd {
    /// That of a process.
    pub(super) fn new(door: Door, lanes: Lanes) -> WorkerEnd {
        WorkerEnd(Side::Process(OfProcess {
            reader: lanes.down_reader(),
            writer: lanes.up_writer(),
            lanes,
            door: Box::new(door),
            spinner: Spinner::default(),
            handles: None,
            woken: Instant::now(),
            no_bulks: Arc::default(),
            unwatched: 0,
            is_untold: false,
            begun: None,
            untimed: TIMED_EACH,
        }))
    }

    /// Waits for a call; `None` when there is nothing more to do.
    pub(crate) fn next(&mut self) -> Option<Chunk> {
        match &mut self.0 {
            Side::Process(process) => process.next(),
            Side::Thread(thread) => {
                let call = thread.next()?;
                let head = call.head;
                let (body, bulks) = (Body::Lent(call), Arc::default());
                Some(Chunk { head, body, bulks })
            }
        }
    }

    /// Nothing more is asked of it.
    pub(crate) fn finish(&mut self) {
        if let Side::Process(process) = &mut self.0 {
            process.tell();
        }
    }

    /// What results are written with.
    pub(crate) fn encoder(&self) -> Encoder {
        Encoder::with_bulk(match &self.0 {
            Side::Process(_) => BulkPlace::Given,
            Side::Thread(_) => BulkPlace::Within,
        })
    }

    /// Begins the item at `place`, unless the call was cancelled or the item taken back meanwhile.
    #[inline]
    pub(crate) fn begin(&self, call: CallHead, place: u32) -> bool {
        match &self.0 {
            Side::Process(process) => process.begin(call, place),
            Side::Thread(thread) => thread.begin(call.number, place as usize),
        }
    }

    /// The handles of the call for an item of it; the last one takes them.
    #[inline]
    pub(crate) fn handles(&mut self, is_last: bool) -> Option<Arc<Handles>> {
        match &mut self.0 {
            Side::Process(process) if is_last => process.handles.take(),
            Side::Process(process) => process.handles.clone(),
            Side::Thread(thread) => thread.handles(is_last),
        }
    }

    /// Ends an item with its result, which is in `output`.
    ///
    /// # Errors
    ///
    /// If the parent is gone, or wants nothing more from this worker.
    #[inline]
    pub(crate) fn end_returned(
        &mut self,
        call: CallHead,
        is_last: bool,
        output: &mut Encoder,
    ) -> io::Result<()> {
        if let Side::Process(process) = &mut self.0
            && output.is_bare()
            && RECORD_HEAD_BYTES + output.len() <= MOST_UP_BYTES
        {
            process.put(Some(Status::Returned), is_last, output.bytes());
            process.end(call, is_last);
            return Ok(());
        }
        match output.take() {
            Ok(payload) => self.end(call, is_last, Status::Returned, payload),
            Err(error) => {
                let bytes = error.to_string().into_bytes();
                let handles = None;
                let payload = Payload { bytes, handles };
                self.end(call, is_last, Status::NotEncoded, payload)
            }
        }
    }

    /// Ends an item with what became of it.
    ///
    /// # Errors
    ///
    /// As those of [`end_returned`](WorkerEnd::end_returned).
    pub(crate) fn end(
        &mut self,
        call: CallHead,
        is_last: bool,
        status: Status,
        payload: Payload,
    ) -> io::Result<()> {
        match &mut self.0 {
            Side::Process(process) => {
                let bytes = RECORD_HEAD_BYTES + payload.bytes.len();
                if payload.handles.is_some() || bytes > MOST_UP_BYTES {
                    process.put_apart(is_last, status, &payload)?;
                } else {
                    process.put(Some(status), is_last, &payload.bytes);
                }
                process.end(call, is_last);
                Ok(())
            }
            Side::Thread(thread) => thread.end(is_last, status, payload),
        }
    }

    /// Ends a call. If items of it were left out it was `cut_short`.
    ///
    /// # Errors
    ///
    /// As those of [`end_returned`](WorkerEnd::end_returned).
    pub(crate) fn end_call(&mut self, chunk: Chunk, is_cut_short: bool) -> io::Result<()> {
        match &mut self.0 {
            Side::Process(process) => {
                process.end_call(chunk, is_cut_short);
                Ok(())
            }
            Side::Thread(thread) => thread.end_call(is_cut_short),
        }
    }
}

impl OfProcess {
    fn next(&mut self) -> Option<Chunk> {
        loop {
            let Some(frame) = self.reader.next() else {
                self.wait_for_frame();
                continue;
            };
            match frame.kind {
                message::CALL => {
                    let (head, _) = read_call(frame.content()).ok()?;
                    if self.lanes.claim().begin(head.number) {
                        self.begun = self.is_timed(head).then(clock::monotonic_nanos);
                        self.unwatched = LOOK_EACH;
                        let bulks = Arc::clone(&self.no_bulks);
                        let body = Body::Framed(frame);
                        return Some(Chunk { head, body, bulks });
                    }
                    self.reader.pass(frame);
                }
                message::CALL_APART => {
                    let number = frame.content().first_chunk()?;
                    self.lanes.claim().begin(u32::from_le_bytes(*number));
                    self.reader.pass(frame);
                    return self.receive();
                }
                _ => return None,
            }
        }
    }

    /// Waits for a call over the connection.
    fn receive(&mut self) -> Option<Chunk> {
        self.tell();
        let message = self.door.inbox().ok()?.next().ok()?;
        if message.kind != message::LARGE_CALL {
            return None;
        }
        let (head, _) = read_call(&message.body).ok()?;
        let bulks = message.handles.as_ref().map(Handles::bulks);
        let bulks = Arc::clone(bulks.unwrap_or(&self.no_bulks));
        self.handles = message.handles.map(Arc::new);
        let body = Body::Received(message.body);
        Some(Chunk { head, body, bulks })
    }

    /// Whether the time is taken of a call that begins.
    fn is_timed(&mut self, head: CallHead) -> bool {
        self.untimed += 1;
        let is_timed = head.count > 1 || self.untimed > TIMED_EACH;
        if is_timed {
            self.untimed = 0;
        }
        is_timed
    }

    fn wait_for_frame(&mut self) {
        if self.is_untold {
            if self.spinner.glance(|| self.reader.has_some()) {
                return;
            }
            self.wake_now();
        }
        let reader = &self.reader;
        if self.spinner.spin(|| reader.has_some()) {
            return;
        }
        let bell = self.lanes.down_bell();
        while !reader.has_some() {
            let limit = bulk::is_anything_kept().then_some(bulk::KEPT_FOR);
            bell.sleep(Sleeper::Keeper, limit, || reader.has_some());
            if limit.is_some() {
                bulk::give_back_unused();
            }
        }
        bell.do_not_want(Sleeper::Keeper);
    }

    #[inline]
    fn begin(&self, call: CallHead, place: u32) -> bool {
        let go = match call.is_divisible {
            // The first was begun with the call.
            true => place == 0 || self.lanes.claim().begin(call.number.wrapping_add(place)),
            false => !self.lanes.is_cancelled(call.number),
        };
        if go {
            self.lanes.begin(call.number, place, call.is_timed);
        }
        go
    }

    /// The record of an item is put.
    #[inline]
    fn end(&mut self, call: CallHead, is_last: bool) {
        self.lanes.end(call.is_timed);
        if !is_last {
            self.wake(call);
        }
    }

    /// Wakes who waits for results, after an item behind which there are others.
    #[inline]
    fn wake(&mut self, call: CallHead) {
        let bell = self.lanes.up_bell();
        let is_due = bell.is_wanted_by(Sleeper::Waiter)
            || bell.is_wanted_by(Sleeper::Keeper) && self.is_late(call);
        if is_due {
            self.wake_now();
        }
    }

    /// Whether the keeper was not woken for a while. In calls of many items, which are short ones,
    /// not each of them looks at the clock.
    fn is_late(&mut self, call: CallHead) -> bool {
        self.unwatched += 1;
        if call.count > MANY_ITEMS && self.unwatched < LOOK_EACH {
            return false;
        }
        let is_late = self.woken.elapsed() > FLUSH_INTERVAL;
        // What is late once may be slow: then each is looked at.
        self.unwatched = if is_late { LOOK_EACH } else { 0 };
        is_late
    }

    /// Before it does something that may take long: tells of what it has done.
    fn tell(&mut self) {
        if self.is_untold {
            self.wake_now();
        }
    }

    fn wake_now(&mut self) {
        self.is_untold = false;
        // Between the store of what there is and the look who wants it.
        fence(Ordering::SeqCst);
        let bell = self.lanes.up_bell();
        if bell.has_rung_for(Sleeper::Keeper) {
            self.woken = Instant::now();
        }
    }

    /// Puts a record into the ring, when there is room.
    #[inline]
    fn put(&mut self, status: Option<Status>, is_last: bool, payload: &[u8]) {
        let head = record_head(status, is_last, payload.len());
        while !self.writer.put([&head, payload]) {
            self.wake_now();
            let bytes = head.len() + payload.len();
            let bell = self.lanes.room_bell();
            bell.sleep(Sleeper::Keeper, None, || self.writer.has_room(bytes));
        }
    }

    /// Sends one record over the connection. If what it refers to cannot be sent, that is its
    /// result.
    #[cold]
    fn put_apart(&mut self, is_last: bool, status: Status, payload: &Payload) -> io::Result<()> {
        if let Err(error) = self.door.get_ready() {
            let reason = format!("it could not be sent: {error}");
            self.put(Some(Status::NotEncoded), is_last, reason.as_bytes());
            return Ok(());
        }
        // First, so that somebody receives it meanwhile.
        self.put(None, is_last, &[]);
        fence(Ordering::SeqCst);
        self.lanes.up_bell().wake(Sleeper::Keeper);
        let handles = payload.handles.as_ref();
        let number = [status as u8];
        let outbox = self.door.outbox()?;
        let send = || outbox.send(message::LARGE_RECORD, &number, &payload.bytes, handles);
        let Err(error) = crowd::insist(send) else {
            handles.iter().for_each(|handles| handles.hand_over_loans());
            return Ok(());
        };
        let is_whole = !Outbox::may_block(1 + payload.bytes.len());
        if packet::is_gone(&error) || handles.is_none() || !is_whole {
            return Err(error);
        }
        let reason = format!("what it refers to could not be sent: {error}");
        let number = [Status::NotEncoded as u8];
        outbox.send(message::LARGE_RECORD, &number, reason.as_bytes(), None)
    }

    fn end_call(&mut self, chunk: Chunk, is_cut_short: bool) {
        let head = chunk.head;
        if let Some(begun) = self.begun.take()
            && !is_cut_short
        {
            let nanos = clock::monotonic_nanos().saturating_sub(begun);
            self.lanes.note_run(nanos, head.count);
        }
        self.handles = None;
        if let Body::Framed(frame) = chunk.body {
            self.reader.pass(frame);
        }
        // What was left out of a divisible one the parent knows, since it has taken it back.
        if is_cut_short && !head.is_divisible {
            self.put(Some(Status::CutShort), true, &[]);
        }
        // The end of one of many short calls is told as that of one of many items is.
        self.is_untold = true;
        // Between the store of what there is and the look who wants it.
        fence(Ordering::SeqCst);
        if self.reader.has_some() {
            self.wake(head);
        } else if self.lanes.up_bell().is_wanted_by(Sleeper::Waiter) {
            self.wake_now();
        }
    }
}
