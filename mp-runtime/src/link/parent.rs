//! The parent's side.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use nix::libc::SIGKILL;

use super::message::{self, Call, Record, read_records};
use super::{Recorder, Running};
use crate::os::{self, pidfd::PidFd};
use crate::wire::{self, DecodeError, Decoder, Handles, Inbox, Outbox, Silence};

/// Sends calls to a worker.
#[derive(Debug)]
pub(crate) struct Link {
    outbox: Outbox,
    recorder: Arc<Recorder>,
    pidfd: Arc<PidFd>,
}

/// Receives from a worker; one thread has it.
#[derive(Debug)]
pub(crate) struct Events {
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
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    body: Arc<Vec<u8>>,
    handles: Option<Arc<Handles>>,
}

impl Reply {
    fn new(body: Vec<u8>, handles: Option<Handles>) -> Reply {
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
    let link = Link {
        outbox,
        recorder: Arc::clone(&recorder),
        pidfd,
    };
    (link, Events { inbox, recorder })
}

impl Link {
    /// Sends a call, without waiting for the worker to take it. If it cannot be sent the worker is
    /// killed, and its end tells what became of the call.
    pub(crate) fn call(&self, call: Call, handles: Option<Arc<Handles>>) {
        let (outbox, pidfd) = (self.outbox.clone(), Arc::clone(&self.pidfd));
        let may_block = Outbox::may_block(call.table.len() + call.args().len(), handles.as_deref());
        let send = move || {
            let sent = outbox.send(message::CALL, &call.table, call.args(), handles.as_deref());
            if sent.is_err() {
                // A worker that is gone needs no signal and takes none.
                let _ = pidfd.send_signal(SIGKILL);
            }
        };
        if may_block {
            // Without a thread the call cannot be sent safely; whoever reads the worker's end
            // finds that nothing was running and sends the call again, or fails it.
            if os::thread::spawn("mp-feeder", send).is_err() {
                let _ = self.pidfd.send_signal(SIGKILL);
            }
        } else {
            send();
        }
    }

    /// Asks an idle worker to exit.
    pub(crate) fn stop(&self) {
        if self.outbox.send(message::STOP, &[], &[], None).is_err() {
            let _ = self.pidfd.send_signal(SIGKILL);
        }
    }

    /// Keeps the items of `chunk` that have not begun from running.
    pub(crate) fn cancel(&self, chunk: u64) {
        self.recorder.cancel(chunk);
    }

    /// Whether the worker aborted because an allocation failed.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        self.recorder.is_out_of_memory()
    }

    /// What the worker is doing, or was doing when it died.
    pub(crate) fn running(&self) -> Option<Running> {
        self.recorder.running()
    }
}

impl Events {
    /// Waits for the next event.
    pub(crate) fn next(&self) -> Event {
        let message = match self.inbox.next() {
            Ok(message) => message,
            Err(Silence::Closed) => return Event::Broken("its connection is closed".into()),
            Err(Silence::Broken(reason)) => return Event::Broken(reason),
        };
        match message.kind {
            message::FAREWELL => self.abandon(),
            message::RECORDS => match read_records(&message.body) {
                Ok(records) => Event::Records(records, Reply::new(message.body, message.handles)),
                Err(error) => Event::Broken(error.to_string()),
            },
            kind => Event::Broken(format!("it sent a message of the unknown kind {kind}")),
        }
    }

    /// The last event of a worker that has ended, whatever is still on its way from it.
    pub(crate) fn abandon(&self) -> Event {
        let (body, records) = self.recorder.records();
        Event::Ended(records, Reply::new(body, None))
    }
}

/// Puts the farewell at the end of what the worker has sent.
pub(crate) fn say_farewell(worker: &Outbox) -> io::Result<()> {
    worker.send(message::FAREWELL, &[], &[], None)
}
