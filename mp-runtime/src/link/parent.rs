//! The parent's side.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use nix::libc::SIGKILL;

use super::mailbox::{Caller, Receiver};
use super::message::{self, Call, Record, Status, read_records};
use super::{Recorder, Running};
use crate::os::crowd::{self, is_crowded};
use crate::os::{self, pidfd::PidFd};
use crate::wire::{self, DecodeError, Decoder, Handles, Inbox, Outbox, Silence};

/// Sends calls to a worker.
#[derive(Debug)]
pub(crate) struct Link(Way);

#[derive(Debug)]
enum Way {
    Process(ToProcess),
    Thread(Caller),
}

#[derive(Debug)]
struct ToProcess {
    outbox: Outbox,
    recorder: Arc<Recorder>,
    pidfd: Arc<PidFd>,
}

/// Receives from a worker; one thread has it.
#[derive(Debug)]
pub(crate) struct Events(Source);

#[derive(Debug)]
enum Source {
    Process(FromProcess),
    Thread(Receiver),
}

#[derive(Debug)]
struct FromProcess {
    inbox: Inbox,
    recorder: Arc<Recorder>,
}

/// What came from a worker.
pub(crate) enum Event {
    /// Records, and the message they lie in.
    Records(Vec<Record>, Reply),
    /// It has ended; these are the records it had not sent. Nothing comes after this.
    Ended(Vec<Record>, Reply),
    /// It sent nonsense, or what could not be taken in. It should be killed; [`Event::Ended`]
    /// still comes, from [`Events::abandon`].
    Broken(String),
}

/// A message with results, shared by those who have to decode a part of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    body: Arc<Vec<u8>>,
    handles: Option<Arc<Handles>>,
}

impl Reply {
    pub(crate) fn new(body: Vec<u8>, handles: Option<Handles>) -> Reply {
        Reply {
            body: Arc::new(body),
            handles: handles.map(Arc::new),
        }
    }

    /// Reads the value of which `payload` are the bytes.
    pub(crate) fn decode<T>(
        &self,
        payload: &Range<usize>,
        read: impl FnOnce(&mut Decoder<'_>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let bytes = self.body.get(payload.clone()).unwrap_or_default();
        wire::decode(bytes, self.handles.as_deref(), read)
    }

    /// Reads the reason for which something failed.
    pub(crate) fn text(&self, payload: &Range<usize>) -> String {
        let bytes = self.body.get(payload.clone()).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }
}

/// Puts the two halves together.
pub(crate) fn open(
    outbox: Outbox,
    inbox: Inbox,
    recorder: Recorder,
    pidfd: Arc<PidFd>,
) -> (Link, Events) {
    let recorder = Arc::new(recorder);
    let link = ToProcess {
        outbox,
        recorder: Arc::clone(&recorder),
        pidfd,
    };
    let events = FromProcess { inbox, recorder };
    (Link(Way::Process(link)), Events(Source::Process(events)))
}

impl From<Caller> for Link {
    fn from(caller: Caller) -> Link {
        Link(Way::Thread(caller))
    }
}

impl From<Receiver> for Events {
    fn from(receiver: Receiver) -> Events {
        Events(Source::Thread(receiver))
    }
}

impl Link {
    /// Sends a call, without waiting for the worker to take it. If it cannot be sent the worker is
    /// killed, and its end tells what became of the call.
    pub(crate) fn call(&self, call: Call, handles: Option<Arc<Handles>>) {
        match &self.0 {
            Way::Process(process) => process.call(call, handles),
            Way::Thread(thread) => thread.call(call, handles),
        }
    }

    /// Asks an idle worker to exit.
    pub(crate) fn stop(&self) {
        match &self.0 {
            Way::Process(process) => process.stop(),
            Way::Thread(thread) => thread.stop(),
        }
    }

    /// Keeps the items of `chunk` that have not begun from running.
    pub(crate) fn cancel(&self, chunk: u64) {
        match &self.0 {
            Way::Process(process) => process.recorder.cancel(chunk),
            Way::Thread(thread) => thread.cancel(chunk),
        }
    }

    /// Whether the worker aborted because an allocation failed.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        match &self.0 {
            Way::Process(process) => process.recorder.is_out_of_memory(),
            // It would have taken this process along.
            Way::Thread(_) => false,
        }
    }

    /// What the worker is doing, or was doing when it died.
    pub(crate) fn running(&self) -> Option<Running> {
        match &self.0 {
            Way::Process(process) => process.recorder.running(),
            Way::Thread(thread) => thread.running(),
        }
    }
}

impl ToProcess {
    fn call(&self, call: Call, handles: Option<Arc<Handles>>) {
        let letter = Letter {
            outbox: self.outbox.clone(),
            pidfd: Arc::clone(&self.pidfd),
            call,
            handles,
        };
        if !Outbox::may_block(letter.call.table.len() + letter.call.args().len()) {
            match letter.send() {
                Err(error) if is_crowded(&error) => {}
                outcome => return letter.conclude(outcome),
            }
        }
        // Without a thread the call cannot be sent safely; whoever reads the worker's end finds
        // that nothing was running and sends the call again, or fails it.
        if os::thread::spawn("mp-feeder", move || letter.conclude(letter.insist())).is_err() {
            let _ = self.pidfd.send_signal(SIGKILL);
        }
    }

    fn stop(&self) {
        if self.outbox.send(message::STOP, &[], &[], None).is_err() {
            let _ = self.pidfd.send_signal(SIGKILL);
        }
    }
}

/// A call on its way.
struct Letter {
    outbox: Outbox,
    pidfd: Arc<PidFd>,
    call: Call,
    handles: Option<Arc<Handles>>,
}

impl Letter {
    fn send(&self) -> io::Result<()> {
        let (table, args) = (&self.call.table, self.call.args());
        self.outbox
            .send(message::CALL, table, args, self.handles.as_deref())
    }

    /// Sends it, again and again while too many descriptors are on their way.
    fn insist(&self) -> io::Result<()> {
        crowd::insist(|| self.send())
    }

    fn conclude(&self, outcome: io::Result<()>) {
        if outcome.is_err() {
            // A worker that is gone needs no signal and takes none.
            let _ = self.pidfd.send_signal(SIGKILL);
        }
    }
}

impl Events {
    /// Waits for the next event.
    pub(crate) fn next(&self) -> Event {
        match &self.0 {
            Source::Process(process) => process.next(),
            Source::Thread(thread) => thread.next(),
        }
    }

    /// The last event of a worker that has ended, whatever is still on its way from it.
    pub(crate) fn abandon(&self) -> Event {
        match &self.0 {
            Source::Process(process) => process.abandon(),
            Source::Thread(thread) => thread.abandon(),
        }
    }
}

impl FromProcess {
    fn next(&self) -> Event {
        let message = match self.inbox.next() {
            Ok(message) => message,
            Err(Silence::Closed) => return Event::Broken("its connection is closed".into()),
            Err(Silence::Broken(reason)) => return Event::Broken(reason),
        };
        match message.kind {
            message::FAREWELL => self.abandon(),
            message::RECORDS => match take_in(message.body, message.handles) {
                Ok((records, reply)) => Event::Records(records, reply),
                Err(error) => Event::Broken(error.to_string()),
            },
            kind => Event::Broken(format!("it sent a message of the unknown kind {kind}")),
        }
    }

    fn abandon(&self) -> Event {
        let (body, records) = self.recorder.records();
        Event::Ended(records, Reply::new(body, None))
    }
}

/// Finds the records, and keeps count from now on of the parts of arrays among their results: their
/// sender may end before anybody decodes them.
fn take_in(
    body: Vec<u8>,
    mut handles: Option<Handles>,
) -> Result<(Vec<Record>, Reply), DecodeError> {
    let records = read_records(&body)?;
    if let Some(handles) = &mut handles {
        let results = records
            .iter()
            .filter(|record| record.status == Status::Returned);
        for record in results {
            let item = body.get(record.payload.clone()).unwrap_or_default();
            if !handles.take_over_loans(item) {
                return Err(DecodeError::new("its chunks of arrays were not taken in"));
            }
        }
    }
    Ok((records, Reply::new(body, handles)))
}

/// Puts the farewell at the end of what the worker has sent.
pub(crate) fn say_farewell(worker: &Outbox) -> io::Result<()> {
    worker.send(message::FAREWELL, &[], &[], None)
}
