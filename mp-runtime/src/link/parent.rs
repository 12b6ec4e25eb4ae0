//! The parent's side.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use nix::libc::SIGKILL;

use super::bell::Sleeper;
use super::handshake::Connection;
use super::lanes::{Arrival, Lanes, Pace, Running};
use super::mailbox::{self, Caller};
use super::message::{self, Bundle, Call, CallHead, Record, Report, StandIn, Status, Table};
use super::ring::{DownWriter, UpReader};
use super::worker::FLUSH_INTERVAL;
use crate::os::crowd;
use crate::os::identity::process_id;
use crate::os::{self, packet, pidfd::PidFd};
use crate::shm::bulk::{self, Bulk};
use crate::wire::{self, Apart, Bytes, DecodeError, Decoder, Handles, Outbox, Silence};

/// A call is light up to so many bytes, if it has no handles: it can be sent under a lock, and to a
/// worker that has others.
pub(crate) const LIGHT_BYTES: usize = 16 << 10;
/// No light call is sent to a worker that has so many bytes of them in its ring.
const MOST_LIGHT_BYTES: usize = 48 << 10;

/// A keeper looks again after so long, until the bell was not rung for as long.
pub(super) const LOOK_INTERVAL: Duration = FLUSH_INTERVAL.saturating_mul(2);

/// Sends calls to a worker. When it is dropped the worker is told to stop.
#[derive(Debug)]
pub(crate) struct Link(Way);

#[derive(Debug)]
enum Way {
    Process(Arc<Duct>),
    Thread(Caller),
}

/// Receives from a worker; one thread has it, the keeper.
#[derive(Debug)]
pub(crate) struct Events(Source);

#[derive(Debug)]
enum Source {
    Process(Arc<Duct>),
    Thread(mailbox::Receiver),
}

/// What the two share, if the worker is a process.
#[derive(Debug)]
pub(super) struct Duct {
    lanes: Lanes,
    writer: Mutex<DownWriter>,
    /// The number of the last item.
    last_item: AtomicU32,
    receiver: Mutex<Receiver>,
    connection: Connection,
    pidfd: Arc<PidFd>,
    /// The parent.
    owner_id: u32,
    /// The worker has ended: what is in the ring now is all there will be.
    has_ended: AtomicBool,
    /// Why it was killed, though it had done nothing wrong: this process could not send to it.
    given_up: OnceLock<String>,
    /// How many frames of calls have gone over the connection.
    sent: AtomicU64,
}

/// What is needed to take what a worker has put into the ring.
#[derive(Debug)]
struct Receiver {
    reader: UpReader,
    /// What was taken of the ring behind a record that stands for another.
    rest: Vec<u8>,
    /// Memory for what is taken next.
    buffer: Vec<u8>,
    /// What stands for the next record, which comes over the connection.
    is_apart: Option<StandIn>,
    /// Why nothing more is taken: what came made no sense. Whoever finds that may not be the keeper,
    /// who is to hear of it all the same.
    nonsense: Option<String>,
    /// The ring was looked at after the worker had ended. What others, who have the memory from it,
    /// put in later is not taken.
    is_final: bool,
}

/// The right to say what comes next from a worker. Records are in order as long as whoever takes
/// some has it until they count.
#[derive(Debug)]
pub(crate) struct Turn<'l> {
    _receiver: Option<MutexGuard<'l, Receiver>>,
}

impl Turn<'_> {
    pub(super) fn free() -> Turn<'static> {
        Turn { _receiver: None }
    }
}

/// What came from a worker.
pub(crate) enum Event<'l> {
    /// Records.
    Records(Report, Turn<'l>),
    /// It has ended, and all it had left has come. Nothing comes after this.
    Ended,
    /// It sent nonsense, or what could not be taken in. It should be killed, and nothing more be
    /// received.
    Broken(String),
}

/// A message with results, shared by those who have to decode a part of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    body: Bytes,
    handles: Option<Arc<Handles>>,
}

impl Reply {
    /// One with what is in `body`, which is empty afterwards.
    pub(crate) fn new(body: &mut Vec<u8>, handles: Option<Handles>) -> Reply {
        Reply {
            body: Bytes::take(body),
            handles: handles.map(Arc::new),
        }
    }

    /// For reading several values.
    #[inline]
    pub(crate) fn open(&self) -> OpenReply<'_> {
        let handles = self.handles.as_deref();
        OpenReply {
            bytes: self.body.get(),
            handles,
            bulks: handles.map_or(&[], |handles| handles.bulks()),
        }
    }

    /// Reads the value of which `payload` are the bytes.
    pub(crate) fn decode<T>(
        &self,
        payload: &Range<usize>,
        read: impl FnOnce(&mut Decoder<'_>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let bytes = self.body.get().get(payload.clone()).unwrap_or_default();
        self.open().decode(bytes, read)
    }

    /// Reads the reason for which something failed.
    pub(crate) fn text(&self, payload: &Range<usize>) -> String {
        let bytes = self.body.get().get(payload.clone()).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }
}

/// A message whose values are being read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenReply<'r> {
    pub(crate) bytes: &'r [u8],
    handles: Option<&'r Handles>,
    bulks: &'r [Bulk],
}

impl OpenReply<'_> {
    /// Reads the value of which these are the bytes.
    #[inline]
    pub(crate) fn decode<T>(
        &self,
        payload: &[u8],
        read: impl FnOnce(&mut Decoder<'_>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let apart = Apart::Foreign(self.bulks);
        match wire::copied(payload, self.bulks) {
            None => wire::decode(payload, apart, self.handles, read),
            Some(item) => wire::decode(&item?, apart, self.handles, read),
        }
    }
}

/// What tells the link that its worker has ended.
pub(crate) struct Ending(Arc<Duct>);

/// Puts the two halves together, and what tells them of the worker's end.
pub(crate) fn open(
    lanes: Lanes,
    connection: Connection,
    pidfd: Arc<PidFd>,
) -> (Link, Events, Ending) {
    let receiver = Receiver {
        reader: lanes.up_reader(),
        rest: Vec::new(),
        buffer: Vec::new(),
        is_apart: None,
        nonsense: None,
        is_final: false,
    };
    let duct = Arc::new(Duct {
        writer: Mutex::new(lanes.down_writer()),
        last_item: AtomicU32::new(0),
        receiver: Mutex::new(receiver),
        connection,
        pidfd,
        owner_id: process_id(),
        has_ended: AtomicBool::new(false),
        given_up: OnceLock::new(),
        sent: AtomicU64::new(0),
        lanes,
    });
    (
        Link(Way::Process(Arc::clone(&duct))),
        Events(Source::Process(Arc::clone(&duct))),
        Ending(duct),
    )
}

impl Ending {
    /// Tells whoever waits for the worker that it has ended. A keeper that waits for a message has
    /// the [farewell](say_farewell) in its place.
    pub(crate) fn tell(self) {
        self.0.has_ended.store(true, Ordering::SeqCst);
        self.0.connection.say_farewell();
        self.0.lanes.up_bell().wake_all();
    }
}

/// Puts the farewell at the end of what a worker has sent over the connection: it has ended.
pub(super) fn say_farewell(workers_outbox: &Outbox) -> io::Result<()> {
    workers_outbox.send(message::FAREWELL, &[], &[], None)
}

impl From<Caller> for Link {
    fn from(caller: Caller) -> Link {
        Link(Way::Thread(caller))
    }
}

impl From<mailbox::Receiver> for Events {
    fn from(receiver: mailbox::Receiver) -> Events {
        Events(Source::Thread(receiver))
    }
}

impl Link {
    /// What tells of its worker's arrival; a thread is there already.
    pub(crate) fn arrival(&self) -> Arrival {
        match &self.0 {
            Way::Process(duct) => duct.lanes.arrival(),
            Way::Thread(_) => Arrival::default(),
        }
    }

    /// What is readable when a worker has something to send that does not go through the ring.
    pub(crate) fn knocker(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            Way::Process(duct) => Some(duct.connection.as_fd()),
            Way::Thread(_) => None,
        }
    }

    /// The number of the call of so many items that is sent next. Who asks sends it, and before
    /// anybody asks again.
    pub(crate) fn next_number(&self, count: usize) -> u32 {
        match &self.0 {
            Way::Process(duct) => {
                let number = next_number(&duct.last_item, count);
                duct.lanes.forget_cancelled(number);
                number
            }
            Way::Thread(thread) => next_number(&thread.last_item, count),
        }
    }

    /// Sends a call, without waiting for the worker to take it; before the next one it has to have
    /// ended. If it cannot be sent the worker is killed [for that reason](Link::given_up), and its
    /// end tells what became of the call.
    pub(crate) fn call(&self, call: Call, handles: Option<Arc<Handles>>) {
        match &self.0 {
            Way::Process(duct) => duct.call(call, handles),
            Way::Thread(thread) => thread.call(call, handles),
        }
    }

    /// Whether the worker takes light calls while it has others, and has room for one.
    pub(crate) fn takes_more(&self) -> bool {
        match &self.0 {
            Way::Process(duct) => duct.writer().has_less_than(MOST_LIGHT_BYTES),
            Way::Thread(_) => false,
        }
    }

    /// Puts in a light call for a worker that [takes more](Link::takes_more): what it is about, where
    /// the arguments of its items end, and those. The worker may sleep until it is
    /// [woken](Link::wake), and may have other light calls.
    pub(crate) fn call_lightly(&self, head: CallHead, table: Table<'_>, args: &[u8]) {
        if let Way::Process(duct) = &self.0 {
            let (head, ends) = message::table(head, table);
            duct.put(message::CALL, &[&head, ends, args]);
        }
    }

    /// Wakes the worker if it sleeps: it has something to do.
    pub(crate) fn wake(&self) {
        match &self.0 {
            Way::Process(duct) => duct.lanes.down_bell().ring(),
            Way::Thread(_) => {}
        }
    }

    /// Takes back all items that the worker has not begun, but for those of calls that are not
    /// divisible, which go as the first of them does; gives the number of the last one that it has. `None`
    /// if what it says makes no sense.
    pub(crate) fn take_back(&self) -> Option<u32> {
        match &self.0 {
            Way::Process(duct) => {
                let last = duct.last_item.load(Ordering::Relaxed);
                duct.lanes.claim().take_back(last)
            }
            Way::Thread(_) => None,
        }
    }

    /// The number of the last item that the worker has begun, if that is known: the first one, of a call
    /// that is not divisible.
    pub(crate) fn begun(&self) -> Option<u32> {
        match &self.0 {
            Way::Process(duct) => Some(duct.lanes.claim().begun()),
            Way::Thread(_) => None,
        }
    }

    /// Asks an idle worker to exit.
    pub(crate) fn stop(&self) {
        match &self.0 {
            Way::Process(duct) => duct.stop(),
            Way::Thread(thread) => thread.stop(),
        }
    }

    /// Keeps the items of a call that have not begun from running.
    pub(crate) fn cancel(&self, call: u32) {
        match &self.0 {
            Way::Process(duct) => duct.lanes.cancel(call),
            Way::Thread(thread) => thread.cancel(call),
        }
    }

    /// Whether the worker aborted because an allocation failed.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        match &self.0 {
            Way::Process(duct) => duct.lanes.is_out_of_memory(),
            // It would have taken this process along.
            Way::Thread(_) => false,
        }
    }

    /// How much of calls that are not in the ring has gone to the worker: it changes while something
    /// goes.
    pub(crate) fn sent(&self) -> u64 {
        match &self.0 {
            Way::Process(duct) => duct.sent.load(Ordering::Relaxed),
            Way::Thread(_) => 0,
        }
    }

    /// Why the worker was killed, if that is because a call could not be sent to it.
    pub(crate) fn given_up(&self) -> Option<&str> {
        match &self.0 {
            Way::Process(duct) => duct.given_up.get().map(String::as_str),
            Way::Thread(_) => None,
        }
    }

    /// The item that the worker began last, if its records do not tell its end.
    pub(crate) fn running(&self) -> Option<Running> {
        match &self.0 {
            Way::Process(duct) => duct.lanes.running(),
            Way::Thread(thread) => thread.running(),
        }
    }

    /// For how long the worker has run calls, as far as it took the time.
    pub(crate) fn pace(&self) -> Pace {
        match &self.0 {
            Way::Process(duct) => duct.lanes.pace(),
            Way::Thread(_) => Pace::default(),
        }
    }

    /// Takes what is there, if nobody else is about to; what only the keeper can take is left to it,
    /// and it is woken.
    pub(crate) fn poll(&self) -> Option<(Report, Turn<'_>)> {
        let Way::Process(duct) = &self.0 else {
            return None;
        };
        let mut receiver = match duct.receiver.try_lock() {
            Ok(receiver) => receiver,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        // When the worker has ended the keeper alone takes what is left: who looks only now may take
        // it for what the next worker of the same place has done.
        if !receiver.has_records() || duct.has_ended.load(Ordering::SeqCst) {
            return None;
        }
        match receiver.take(&duct.lanes, false) {
            Ok(Some(report)) => {
                if receiver.is_apart.is_some() {
                    self.wake_keeper();
                }
                let _receiver = Some(receiver);
                Some((report, Turn { _receiver }))
            }
            Ok(None) | Err(_) => {
                drop(receiver);
                self.wake_keeper();
                None
            }
        }
    }

    /// Whether there is something to take for others than the keeper.
    pub(crate) fn has_records(&self) -> bool {
        match &self.0 {
            Way::Process(duct) => duct.has_records(),
            Way::Thread(_) => false,
        }
    }

    /// From now on the worker wakes the keeper when there is something to take, as well as now if
    /// there is.
    pub(crate) fn leave_to_keeper(&self) {
        if let Way::Process(duct) = &self.0 {
            let bell = duct.lanes.up_bell();
            if !bell.is_surely_wanted_by(Sleeper::Keeper) {
                bell.want(Sleeper::Keeper);
                if duct.has_news() {
                    bell.wake(Sleeper::Keeper);
                }
            }
        }
    }

    /// The worker need not wake the keeper: somebody else takes what comes.
    pub(crate) fn spare_keeper(&self) {
        if let Way::Process(duct) = &self.0 {
            duct.lanes.up_bell().do_not_want(Sleeper::Keeper);
        }
    }

    pub(crate) fn wake_keeper(&self) {
        if let Way::Process(duct) = &self.0 {
            duct.lanes.up_bell().wake(Sleeper::Keeper);
        }
    }

    /// Sleeps until something comes, `limit` at most, unless `is_ready`; tells whether it could. Not
    /// for the keeper.
    pub(crate) fn sleep(&self, limit: Option<Duration>, is_ready: impl Fn() -> bool) -> bool {
        let Way::Process(duct) = &self.0 else {
            return false;
        };
        if duct.has_ended.load(Ordering::SeqCst) {
            return false;
        }
        let bell = duct.lanes.up_bell();
        bell.sleep(Sleeper::Waiter, limit, || {
            duct.has_records() || duct.has_ended.load(Ordering::SeqCst) || is_ready()
        });
        true
    }

    /// Wakes those who [sleep](Link::sleep).
    pub(crate) fn wake_waiters(&self) {
        if let Way::Process(duct) = &self.0 {
            duct.lanes.up_bell().wake(Sleeper::Waiter);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Way::Process(duct) = &self.0 {
            duct.stop();
        }
    }
}

/// Counts so many items, of a call; gives the number of the first.
fn next_number(last_item: &AtomicU32, count: usize) -> u32 {
    let count = u32::try_from(count).unwrap_or(u32::MAX >> 1).max(1);
    let last = last_item.load(Ordering::Relaxed);
    // 0 is none.
    let end = last.checked_add(count).unwrap_or(count);
    last_item.store(end, Ordering::Relaxed);
    end - count + 1
}

impl Duct {
    fn writer(&self) -> MutexGuard<'_, DownWriter> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receiver(&self) -> MutexGuard<'_, Receiver> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in a frame; one that finds no room finds a worker that lies.
    fn put(&self, kind: u32, parts: &[&[u8]]) {
        let put = self.writer().put(kind, parts);
        match put {
            Ok(true) => {}
            Ok(false) => self.kill(),
            Err(error) => self.give_up(&error),
        }
    }

    /// Kills a worker to which something could not be sent.
    fn give_up(&self, error: &io::Error) {
        // One that is gone was not killed for that, nor one that has closed its end.
        if !packet::is_gone(error) && !self.is_over() {
            let reason = format!("it could not be sent a call: {error}");
            let _ = self.given_up.set(reason);
        }
        self.kill();
    }

    fn kill(&self) {
        // A worker that is gone needs no signal and takes none.
        let _ = self.pidfd.send_signal(SIGKILL);
    }

    fn put_call(&self, call: &Call) {
        let (head, ends) = call.table();
        self.put(message::CALL, &[&head, ends, call.args()]);
    }

    fn call(self: &Arc<Self>, call: Call, handles: Option<Arc<Handles>>) {
        // Beside void calls, which the worker has not passed, there may be no room for a large one.
        let has_room = || {
            self.writer()
                .has_less_than(MOST_LIGHT_BYTES + 2 * LIGHT_BYTES)
        };
        if handles.is_none() && !call.is_large() && has_room() {
            self.put_call(&call);
            self.lanes.down_bell().ring();
            return;
        }
        let number = call.head.number.to_le_bytes();
        self.put(message::CALL_APART, &[&number]);
        self.lanes.down_bell().ring();
        let letter = Letter {
            duct: Arc::clone(self),
            call,
            handles,
        };
        if !Outbox::may_block(letter.call.byte_count()) {
            match letter.send() {
                Err(error) if crowd::is_short(&error) => {}
                outcome => return letter.conclude(outcome),
            }
        }
        // Without a thread the call cannot be sent safely; whoever reads the worker's end finds
        // that nothing was running and sends the call again, or fails it.
        let feeder = os::thread::spawn("mp-feeder", move || letter.conclude(letter.insist()));
        if let Err(error) = feeder {
            self.give_up(&error);
        }
    }

    fn stop(&self) {
        // A fork of the program has the same memory, and no say in it.
        if process_id() != self.owner_id {
            return;
        }
        if !self.has_ended.load(Ordering::Relaxed) {
            self.put(message::STOP, &[]);
            self.lanes.down_bell().ring();
        }
    }

    /// Whether there is something for the keeper, or somebody else is about to take it.
    fn has_news(&self) -> bool {
        let has_some = match self.receiver.try_lock() {
            Ok(receiver) => receiver.has_some(),
            Err(TryLockError::Poisoned(_) | TryLockError::WouldBlock) => true,
        };
        has_some || self.has_ended.load(Ordering::SeqCst)
    }

    /// Whether there is something for others than the keeper.
    fn has_records(&self) -> bool {
        match self.receiver.try_lock() {
            Ok(receiver) => receiver.has_records() && !self.has_ended.load(Ordering::SeqCst),
            Err(TryLockError::Poisoned(_) | TryLockError::WouldBlock) => false,
        }
    }

    /// Whether the worker has surely ended: it could say its farewell itself.
    fn is_over(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst) || self.pidfd.has_ended()
    }

    /// The connection, which may be made now: then its end may have to be told once more.
    fn connection(&self) -> &Connection {
        let connection = &self.connection;
        if !connection.is_open() {
            // If it cannot be made, who uses it finds out.
            let _ = connection.outbox();
            if self.has_ended.load(Ordering::SeqCst) {
                connection.say_farewell();
            }
        }
        connection
    }

    /// Waits for what comes over the connection.
    fn receive(
        self: &Arc<Self>,
        receiver: &mut Receiver,
        is_last: bool,
    ) -> Result<Apartment, String> {
        if self.has_ended.load(Ordering::SeqCst) && !self.connection.is_open() {
            return Ok(Apartment::Farewell);
        }
        if !self.connection.is_open() {
            // Nothing but this worker waits for the keeper. If it fails, that is found out again.
            let has_ended = || self.has_ended.load(Ordering::SeqCst);
            let _ = crowd::insist_while(crowd::is_short, || match has_ended() {
                true => Ok(()),
                false => self.connection().outbox().map(drop),
            });
            if has_ended() && !self.connection.is_open() {
                return Ok(Apartment::Farewell);
            }
        }
        let message = match self.connection().receive() {
            Ok(message) => message,
            Err(Silence::Closed) => return Err("its connection is closed".into()),
            Err(Silence::Broken(reason)) => return Err(reason),
        };
        match message.kind {
            message::FAREWELL if self.is_over() => Ok(Apartment::Farewell),
            message::LARGE_RECORD => {
                receiver.is_apart = None;
                take_in(message.body, message.handles, is_last)
                    .map(Apartment::Report)
                    .map_err(|error| error.to_string())
            }
            kind => Err(format!("it sent a message of the unknown kind {kind}")),
        }
    }
}

/// What came over the connection.
enum Apartment {
    Report(Report),
    Farewell,
}

impl Receiver {
    /// Whether there is something for the keeper.
    fn has_some(&self) -> bool {
        self.is_apart.is_some() || self.nonsense.is_some() || self.has_bytes()
    }

    /// Whether there is something for others as well.
    fn has_records(&self) -> bool {
        self.is_apart.is_none() && self.nonsense.is_none() && self.has_bytes()
    }

    fn has_bytes(&self) -> bool {
        !self.rest.is_empty() || !self.reader.is_empty()
    }

    /// Takes what is in the ring, up to a record that stands for another. `None` if the next one is
    /// such, or there is nothing.
    fn take(&mut self, lanes: &Lanes, has_ended: bool) -> Result<Option<Report>, String> {
        if let Some(reason) = &self.nonsense {
            return Err(reason.clone());
        }
        let taken = self.take_some(lanes, has_ended);
        if let Err(reason) = &taken {
            self.nonsense = Some(reason.clone());
        }
        taken
    }

    fn take_some(&mut self, lanes: &Lanes, has_ended: bool) -> Result<Option<Report>, String> {
        if self.is_apart.is_some() {
            return Ok(None);
        }
        let body = &mut self.buffer;
        std::mem::swap(body, &mut self.rest);
        if body.is_empty() {
            if std::mem::replace(&mut self.is_final, has_ended) {
                return Ok(None);
            }
            let taken = self.reader.take(body);
            lanes.room_bell().ring();
            if taken.map_err(|nonsense| nonsense.to_string())? == 0 {
                return Ok(None);
            }
        }
        let (runs, apart) = Report::read(body).ok_or("a record of it makes no sense")?;
        if let Some(stand_in) = apart {
            self.rest = body.split_off(stand_in.place.end);
            body.truncate(stand_in.place.start);
            self.is_apart = Some(stand_in);
        }
        if runs.is_empty() {
            body.clear();
            return Ok(None);
        }
        let bundle = Bundle::of_many(Reply::new(body, None));
        Ok(Some(Report { bundle, runs }))
    }
}

/// A call on its way over the connection.
struct Letter {
    duct: Arc<Duct>,
    call: Call,
    handles: Option<Arc<Handles>>,
}

impl Letter {
    fn send(&self) -> io::Result<()> {
        let (head, ends) = self.call.table();
        let table = [&head, ends].concat();
        let args = self.call.args();
        let handles = self.handles.as_deref();
        let tell = || {
            self.duct.sent.fetch_add(1, Ordering::Relaxed);
        };
        let outbox = self.duct.connection().outbox()?;
        outbox.send_and_tell(message::LARGE_CALL, &table, args, handles, tell)
    }

    /// Sends it, again and again while there are too many descriptors on their way, or here. Of what
    /// was sent before it failed for that the worker makes nothing.
    fn insist(&self) -> io::Result<()> {
        crowd::insist_while(crowd::is_short, || self.send())
    }

    fn conclude(&self, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            self.duct.give_up(&error);
        }
    }
}

impl Events {
    /// Waits until the worker has come; tells whether it has, or has ended.
    pub(crate) fn wait_for_arrival(&self) -> bool {
        let Source::Process(duct) = &self.0 else {
            return true;
        };
        let has_ended = || duct.has_ended.load(Ordering::SeqCst);
        loop {
            if duct.lanes.has_arrived() {
                return true;
            }
            if has_ended() {
                return duct.lanes.has_arrived();
            }
            let bell = duct.lanes.up_bell();
            bell.sleep(Sleeper::Keeper, None, || {
                duct.lanes.has_arrived() || has_ended()
            });
        }
    }

    /// Waits for the next event.
    pub(crate) fn next(&self) -> Event<'_> {
        let mut last = None;
        loop {
            if let Some(event) = self.take() {
                return event;
            }
            last = self.sleep(true, last);
        }
    }

    /// The next event, if there is one. What comes over the connection is waited for, when its
    /// record is there.
    pub(crate) fn take(&self) -> Option<Event<'_>> {
        let duct = match &self.0 {
            Source::Process(duct) => duct,
            Source::Thread(thread) => return Some(thread.next()),
        };
        let has_ended = duct.has_ended.load(Ordering::SeqCst);
        let mut receiver = duct.receiver();
        let report = match receiver.take(&duct.lanes, has_ended) {
            Err(reason) => return Some(Event::Broken(reason)),
            Ok(Some(report)) => Some(report),
            Ok(None) => match receiver.is_apart.as_ref().map(|apart| apart.is_last) {
                None => None,
                Some(is_last) => match duct.receive(&mut receiver, is_last) {
                    Ok(Apartment::Report(report)) => Some(report),
                    Ok(Apartment::Farewell) => return Some(Event::Ended),
                    Err(reason) => {
                        receiver.nonsense = Some(reason.clone());
                        return Some(Event::Broken(reason));
                    }
                },
            },
        };
        let _receiver = Some(receiver);
        match report {
            Some(report) => Some(Event::Records(report, Turn { _receiver })),
            None => has_ended.then_some(Event::Ended),
        }
    }

    /// Sleeps until something comes, or somebody wakes the keeper. The worker does so if the keeper
    /// `is_wanted`, or when that is said by [`Link::leave_to_keeper`], but not twice within
    /// [`FLUSH_INTERVAL`]. So this has a limit until the bell was not rung for [`LOOK_INTERVAL`]; how
    /// that was after the last sleep `last` tells.
    pub(crate) fn sleep(&self, is_wanted: bool, last: Option<Unrung>) -> Option<Unrung> {
        let Source::Process(duct) = &self.0 else {
            return None;
        };
        let bell = duct.lanes.up_bell();
        let count = bell.count();
        let unrung = match last {
            Some(unrung) if unrung.count == count => unrung,
            _ => Unrung {
                count,
                since: Instant::now(),
            },
        };
        let is_kept = bulk::is_anything_kept();
        let limit = match unrung.since.elapsed() >= LOOK_INTERVAL {
            true => is_kept.then_some(bulk::KEPT_FOR),
            false => Some(LOOK_INTERVAL),
        };
        let is_ready = || bell.count() != count || duct.has_news();
        match is_wanted {
            true => bell.sleep(Sleeper::Keeper, limit, is_ready),
            false => bell.doze(Sleeper::Keeper, limit, is_ready),
        }
        if is_kept {
            // Who has nothing to do for a while sees to it that memory goes back.
            bulk::give_back_unused();
        }
        Some(unrung)
    }
}

/// Since when a bell was not rung.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unrung {
    count: u32,
    since: Instant,
}

/// Finds a record that came over the connection, and keeps count from now on of the parts of arrays
/// in it: its sender may end before anybody decodes it.
fn take_in(
    mut body: Vec<u8>,
    mut handles: Option<Handles>,
    is_last: bool,
) -> Result<Report, DecodeError> {
    let status = body
        .first()
        .and_then(|&number| Status::from_number(number.into()))
        .filter(|status| *status != Status::CutShort)
        .ok_or_else(|| DecodeError::new("a record has no status"))?;
    let record = Record {
        status,
        is_last,
        payload: 1..body.len(),
    };
    if let Some(handles) = &mut handles
        && status == Status::Returned
        && !handles.take_over_loans(&body[1..])
    {
        return Err(DecodeError::new("a record makes no sense"));
    }
    Ok(Report::of_one(record, Reply::new(&mut body, handles)))
}
