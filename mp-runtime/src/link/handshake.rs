//! How a parent and a process it has just started find each other.
//!
//! The parent makes both channels, and an end of the one from the worker for itself, for the
//! [`Farewell`]. The worker's two ends go to it as any descriptor goes to a new process: by exec, or
//! over the socket of the fork server. So there is nothing to connect to, no name, and nobody else
//! can come by an end.
//!
//! | step | who | if its process dies |
//! | --- | --- | --- |
//! | makes the channels, hands the ends over | parent | the worker's ends are closed |
//! | takes its [`Seat`], sends its greeting | worker | the farewell takes the place of the greeting |
//! | waits for either | parent | the worker ends with it |
//!
//! The greeting tells which functions the worker has, and why it cannot work if that is so.
//! Whoever learns that the worker will not come (it died, time is up) [releases](Release) the waiting
//! parent, by the farewell.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::parent::{self, Ending, Events, Link};
use super::{Lanes, WorkerEnd, message};
use crate::os::{self, pidfd::PidFd};
use crate::wire::{self, Apart, Decoder, Freight, Inbox, Outbox, Payload, Seat};

/// The kind of the first message from a worker, beside those of [`message`].
const GREETING: u8 = 16;

/// What a worker says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Greeting {
    pub(crate) fingerprint: u64,
    pub(crate) function_count: u64,
    /// Why it cannot work after all.
    pub(crate) failure: Option<String>,
}

/// The parent's ends before the worker has come.
pub(crate) struct Offer {
    down: Outbox,
    up: Inbox,
    farewell: Farewell,
}

/// An end of the channel from the worker that the parent has, to put a message at the end of what
/// the worker has sent.
#[derive(Clone)]
pub(crate) struct Farewell(Outbox);

/// Lets a parent go that waits in [`Offer::accept`]; once it has returned, nothing.
#[derive(Clone)]
pub(crate) struct Release(Arc<Mutex<Option<Farewell>>>);

impl Release {
    pub(crate) fn release(&self) {
        if let Some(farewell) = self.take() {
            farewell.say();
        }
    }

    /// Whether the parent may still be waiting.
    pub(crate) fn is_pending(&self) -> bool {
        let farewell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        farewell.is_some()
    }

    /// The parent does not wait any more.
    pub(crate) fn cancel(&self) {
        drop(self.take());
    }

    fn take(&self) -> Option<Farewell> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Farewell {
    /// Says it, without waiting. It fails if nobody receives any more, and then nobody misses it.
    pub(crate) fn say(&self) {
        if wire::has_room(&self.0) {
            let _ = parent::say_farewell(&self.0);
            return;
        }
        let own = self.clone();
        let thread = os::thread::spawn("mp-farewell", move || {
            let _ = parent::say_farewell(&own.0);
        });
        if thread.is_err() {
            let _ = parent::say_farewell(&self.0);
        }
    }
}

impl Offer {
    /// Makes the channels; also gives the worker's ends: where it receives, and where it sends.
    pub(crate) fn make() -> io::Result<(Offer, [OwnedFd; 2])> {
        wire::prepare()?;
        let (down, workers_inbox) = wire::connect()?;
        let (workers_outbox, up) = wire::connect()?;
        let ends = wire::loosen(workers_inbox, &workers_outbox)?;
        let farewell = Farewell(workers_outbox);
        let offer = Offer { down, up, farewell };
        Ok((offer, ends))
    }

    /// What has to be said when the process has ended.
    pub(crate) fn farewell(&self) -> Farewell {
        self.farewell.clone()
    }

    pub(crate) fn releaser(&self) -> Release {
        Release(Arc::new(Mutex::new(Some(self.farewell.clone()))))
    }

    /// Waits for the worker's greeting, or to be released.
    pub(crate) fn accept(&self) -> io::Result<Greeting> {
        let message = self.up.next().map_err(|silence| match silence {
            wire::Silence::Closed => io::Error::other("its connection is closed"),
            wire::Silence::Broken(reason) => io::Error::other(reason),
        })?;
        match message.kind {
            GREETING => wire::decode(&message.body, Apart::Nothing, None, Decoder::value)
                .map_err(io::Error::other),
            message::FAREWELL => Err(io::Error::other("it did not come")),
            kind => Err(io::Error::other(format!(
                "its first message was of the kind {kind}"
            ))),
        }
    }

    /// Opens the link.
    pub(crate) fn open(
        self,
        lanes: Lanes,
        pidfd: Arc<PidFd>,
        freight: Freight,
    ) -> (Link, Events, Ending) {
        let down = self.down.with_freight(freight.clone());
        let up = self.up.with_freight(freight);
        parent::open(lanes, down, up, pidfd)
    }
}

impl WorkerEnd {
    /// The worker's part: takes its seat and introduces itself.
    pub(crate) fn introduce(
        seat: Seat,
        ends: [OwnedFd; 2],
        greeting: &Greeting,
        lanes: Lanes,
        freight: Freight,
    ) -> io::Result<WorkerEnd> {
        let (inbox, outbox) = seat.fill(ends)?;
        let greeting = Payload::encode(|to| to.value(greeting)).map_err(io::Error::other)?;
        outbox.send(GREETING, &greeting.bytes, &[], None)?;
        let inbox = inbox.with_freight(freight.clone());
        let outbox = outbox.with_freight(freight);
        Ok(WorkerEnd::new(inbox, outbox, lanes))
    }
}
