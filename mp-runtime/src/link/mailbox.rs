//! The connection to a worker that is a thread of this process: calls and records change hands in
//! one place, under one lock, and nothing is copied or sent but small results.
//!
//! Bytes of calls are read where the caller encoded them. What handles in them stand for is read
//! from the caller's own [`Handles`], and of results from those of the worker: in one process a
//! region or a file that comes in is the one that is here, so that nothing has to travel, and a
//! part of an array that was put down is *sent* by this process, which is who picks it up.
//!
//! # Letting go
//!
//! Nothing can stop a thread. So a worker that is to end at once is *let go of*: the mailbox is
//! closed, and what is in it stays as it was.
//!
//! | step of the worker | before | after it was let go of |
//! | --- | --- | --- |
//! | waits for a call | gets it | gets none, and ends |
//! | begins an item | it is running | begins none, and ends |
//! | ends an item | its result counts, nothing is running | the result is dropped; the item stays running |
//! | asks for the handles of its call | gets them | gets none: they were dropped when it was let go of |
//!
//! So each item has a result that counts, or was running, or had not begun, as with a process that
//! is killed. A function that never returns keeps its thread, its own arguments and the bytes
//! of its call.
//!
//! # Who ends whom
//!
//! The worker ends when it was told to stop, when nobody can call it any more ([`Caller`] is gone),
//! or when nobody receives what it does ([`Receiver`] is gone). The events end when it has ended or
//! was let go of.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::lanes::Running;
use super::message::{Bundle, Call, Record, Report, Status, record_head};
use super::parent::{Event, Reply, Turn};
use super::worker::FLUSH_INTERVAL;
use super::{Events, Link, WorkerEnd};
use crate::wire::{Handles, Payload};

/// Results up to this size lie together; a larger one is handed over as it is.
const COPIED_BYTES: usize = 4 << 10;

/// Makes the ends of a connection within this process.
pub(crate) fn open() -> (Link, Events, WorkerEnd, Hold) {
    let mailbox = Arc::new(Mailbox::default());
    let taker = Taker {
        mailbox: Arc::clone(&mailbox),
        has_handles: false,
        flushed: Instant::now(),
    };
    let caller = Caller {
        mailbox: Arc::clone(&mailbox),
        last_item: AtomicU32::new(0),
    };
    (
        Link::from(caller),
        Events::from(Receiver(Arc::clone(&mailbox))),
        WorkerEnd::from(taker),
        Hold(mailbox),
    )
}

#[derive(Debug, Default)]
struct Mailbox {
    state: Mutex<State>,
    /// The worker has something to do.
    called: Condvar,
    /// The caller has something to receive, or the worker has ended.
    reported: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The call that the worker has not taken.
    call: Option<(Call, Option<Arc<Handles>>)>,
    /// Those of the call that it has taken, until its last item has them.
    handles: Option<Arc<Handles>>,
    is_stopped: bool,
    cancelled: Option<u32>,
    running: Option<Begun>,
    /// Results that wait for others, each behind its head.
    open: Vec<u8>,
    ready: VecDeque<Report>,
    end: Option<ThreadEnd>,
}

/// How a worker ended that is a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ThreadEnd {
    /// It was let go of.
    LetGo,
    /// It came to its end.
    Returned,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    call: u32,
    place: usize,
    since: Instant,
}

impl Mailbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes it, unless it was closed before.
    fn close(&self, end: ThreadEnd) {
        let mut state = self.state();
        if state.end.is_none() {
            state.end = Some(end);
            state.flush();
        }
        // Dropping them may close descriptors and unmap memory.
        let unused = (state.call.take(), state.handles.take());
        drop(state);
        self.called.notify_all();
        self.reported.notify_all();
        drop(unused);
    }
}

impl State {
    /// Makes what waits ready to be received.
    fn flush(&mut self) {
        if !self.open.is_empty() {
            // They were written here.
            let read = Report::read(&self.open);
            let bundle = Bundle::of_many(Reply::new(&mut self.open, None));
            if let Some((runs, _)) = read {
                self.ready.push_back(Report { bundle, runs });
            }
        }
    }

    /// Adds a result. Tells whether it can be received now.
    fn put(&mut self, is_last: bool, status: Status, mut payload: Payload) -> bool {
        let is_alone = payload.handles.is_some() || payload.bytes.len() > COPIED_BYTES;
        if is_alone {
            self.flush();
            let record = Record {
                status,
                is_last,
                payload: 0..payload.bytes.len(),
            };
            let reply = Reply::new(&mut payload.bytes, payload.handles);
            self.ready.push_back(Report::of_one(record, reply));
        } else {
            let head = record_head(Some(status), is_last, payload.bytes.len());
            self.open.extend_from_slice(&head);
            self.open.extend_from_slice(&payload.bytes);
        }
        is_alone
    }
}

/// Calls the worker; when it is dropped the worker is told to stop.
#[derive(Debug)]
pub(super) struct Caller {
    mailbox: Arc<Mailbox>,
    /// The number of the last item.
    pub(super) last_item: AtomicU32,
}

impl Caller {
    pub(super) fn call(&self, call: Call, handles: Option<Arc<Handles>>) {
        let mut state = self.mailbox.state();
        let unused = match state.end {
            Some(_) => Some((call, handles)),
            None => state.call.replace((call, handles)),
        };
        drop(state);
        self.mailbox.called.notify_one();
        drop(unused);
    }

    pub(super) fn stop(&self) {
        self.mailbox.state().is_stopped = true;
        self.mailbox.called.notify_one();
    }

    pub(super) fn cancel(&self, call: u32) {
        self.mailbox.state().cancelled = Some(call);
    }

    pub(super) fn running(&self) -> Option<Running> {
        let begun = self.mailbox.state().running?;
        Some(Running {
            call: begun.call,
            place: begun.place,
            elapsed: Some(begun.since.elapsed()),
        })
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Receives from the worker; when it is dropped the worker is let go of.
#[derive(Debug)]
pub(super) struct Receiver(Arc<Mailbox>);

impl Receiver {
    /// Waits for the next event. Once the worker has ended, or was let go of, this does not wait:
    /// first comes what it had done.
    pub(super) fn next(&self) -> Event<'static> {
        let mut state = self.0.state();
        loop {
            if let Some(report) = state.ready.pop_front() {
                return Event::Records(report, Turn::free());
            }
            if state.end.is_some() {
                return Event::Ended;
            }
            state = wait(&self.0.reported, state);
        }
    }

    fn discard(&self) {
        self.0.close(ThreadEnd::LetGo);
        let unwanted = std::mem::take(&mut self.0.state().ready);
        drop(unwanted);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.discard();
    }
}

/// Lets the worker go, and tells whether it has ended.
#[derive(Debug)]
pub(crate) struct Hold(Arc<Mailbox>);

impl Hold {
    /// From now on nothing the worker does counts. One that has ended is fine.
    pub(crate) fn let_go(&self) {
        self.0.close(ThreadEnd::LetGo);
    }

    pub(crate) fn end(&self) -> Option<ThreadEnd> {
        self.0.state().end
    }

    /// Waits until it has ended, or was let go of.
    pub(crate) fn wait(&self) -> ThreadEnd {
        let mut state = self.0.state();
        loop {
            if let Some(end) = state.end {
                return end;
            }
            state = wait(&self.0.reported, state);
        }
    }
}

/// The worker's end; when it is dropped the worker has ended.
#[derive(Debug)]
pub(super) struct Taker {
    mailbox: Arc<Mailbox>,
    /// Whether the call it has came with any.
    has_handles: bool,
    flushed: Instant,
}

impl Taker {
    /// Waits for a call; `None` when there is nothing more to do.
    pub(super) fn next(&mut self) -> Option<Call> {
        let mut state = self.mailbox.state();
        loop {
            if state.end.is_some() {
                return None;
            }
            if let Some((call, handles)) = state.call.take() {
                self.has_handles = handles.is_some();
                let before = std::mem::replace(&mut state.handles, handles);
                drop(state);
                drop(before);
                return Some(call);
            }
            if state.is_stopped {
                return None;
            }
            state = wait(&self.mailbox.called, state);
        }
    }

    pub(super) fn begin(&self, call: u32, place: usize) -> bool {
        let since = Instant::now();
        let mut state = self.mailbox.state();
        let go = state.end.is_none() && state.cancelled != Some(call);
        if go {
            state.running = Some(Begun { call, place, since });
        }
        go
    }

    pub(super) fn handles(&self, is_last: bool) -> Option<Arc<Handles>> {
        if !self.has_handles {
            return None;
        }
        let mut state = self.mailbox.state();
        match is_last {
            true => state.handles.take(),
            false => state.handles.clone(),
        }
    }

    pub(super) fn end(
        &mut self,
        is_last: bool,
        status: Status,
        payload: Payload,
    ) -> io::Result<()> {
        let now = Instant::now();
        let mut state = self.mailbox.state();
        if state.end.is_some() {
            drop(state);
            drop(payload);
            return Err(let_go());
        }
        state.running = None;
        let mut is_ready = state.put(is_last, status, payload);
        if now.duration_since(self.flushed) > FLUSH_INTERVAL {
            self.flushed = now;
            state.flush();
            is_ready = true;
        }
        drop(state);
        if is_ready {
            self.mailbox.reported.notify_all();
        }
        Ok(())
    }

    pub(super) fn end_call(&mut self, is_cut_short: bool) -> io::Result<()> {
        self.flushed = Instant::now();
        let mut state = self.mailbox.state();
        if state.end.is_some() {
            return Err(let_go());
        }
        if is_cut_short {
            state.put(true, Status::CutShort, Payload::default());
        }
        state.flush();
        let unused = state.handles.take();
        drop(state);
        self.mailbox.reported.notify_all();
        drop(unused);
        Ok(())
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.mailbox.close(ThreadEnd::Returned);
    }
}

fn wait<'s>(condition: &Condvar, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
    condition
        .wait(state)
        .unwrap_or_else(PoisonError::into_inner)
}

fn let_go() -> io::Error {
    io::Error::other("nobody waits for this worker any more")
}
