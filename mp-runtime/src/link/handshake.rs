//! How a parent and a process it has just started find each other, and how they get a connection.
//!
//! # Arrival
//!
//! What both need is the [lanes](super::lanes), which the worker is given like any descriptor. When it
//! is ready to work it says so by a word in them, and rings the bell of who takes records. Whether it
//! has the parent's functions it has compared before: what the parent has is in the boot message. So
//! nobody has to answer, and the first call may be there before its worker.
//!
//! A worker that cannot work says why in its last words, and ends. Who waits for a worker waits for the
//! word, or for its end.
//!
//! # Connection
//!
//! Most workers never need one (see the [module](super) for what goes over it), so it is made when
//! something is to go over it for the first time:
//!
//! | step | who | if its process dies |
//! | --- | --- | --- |
//! | puts what stands for a call, or a record, into the ring | either | nobody sees it, or as below |
//! | makes both channels and sends the worker's ends over the carrier, ahead of all else | parent, to send the call, or when it finds the record | the worker's ends are closed; the worker ends with it |
//! | takes them, and puts them in its [`Seat`] | worker, when it finds the call, or to send the record | the farewell takes the place of the record |
//!
//! The parent makes all of it, and there is nothing to connect to, no name, and nobody else can come by
//! an end. It keeps an end of the channel from the worker for itself: with the *farewell* it puts a
//! message at the end of what the worker has sent when that has ended, since others may have that end
//! for longer, as what the worker has started.
//!
//! A worker that has something for its parent *knocks* as well, by an empty packet over the carrier:
//! for a parent that sleeps at no bell.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::parent;
use super::{Lanes, WorkerEnd};
use crate::os;
use crate::wire::{self, Freight, Inbox, Message, Outbox, Seat, Silence};

/// The parent's part of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    freight: Freight,
    ends: OnceLock<Ends>,
    /// Held by who makes it.
    making: Mutex<()>,
}

#[derive(Debug)]
struct Ends {
    outbox: Outbox,
    /// One thread alone receives.
    inbox: Mutex<Inbox>,
    farewell: Farewell,
}

/// An end of the channel from the worker that the parent has, to put a message at the end of what
/// the worker has sent.
#[derive(Clone, Debug)]
struct Farewell(Outbox);

impl Farewell {
    /// Says it, without waiting. It fails if nobody receives any more, and then nobody misses it.
    fn say(&self) {
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

impl Connection {
    /// One that is not made yet, to the worker at the other end of the carrier.
    pub(crate) fn over(freight: Freight) -> Connection {
        Connection {
            freight,
            ends: OnceLock::new(),
            making: Mutex::default(),
        }
    }

    /// One that is made: what leads to the worker, what comes from it, and its end of that.
    #[cfg(test)]
    pub(super) fn of(outbox: Outbox, inbox: Inbox, workers: Outbox, freight: Freight) -> Self {
        let ends = Ends {
            outbox,
            inbox: Mutex::new(inbox),
            farewell: Farewell(workers),
        };
        Connection {
            freight,
            ends: OnceLock::from(ends),
            making: Mutex::default(),
        }
    }

    /// Whether it was made.
    pub(super) fn is_open(&self) -> bool {
        self.ends.get().is_some()
    }

    /// Sends over it.
    pub(super) fn outbox(&self) -> io::Result<&Outbox> {
        Ok(&self.open()?.outbox)
    }

    /// Waits for a message.
    pub(super) fn receive(&self) -> Result<Message, Silence> {
        let ends = self.open().map_err(|error| {
            Silence::Broken(format!("the connection could not be made: {error}"))
        })?;
        let inbox = ends.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.next()
    }

    /// The worker has ended. Who makes the connection after this has to say so, too.
    pub(super) fn say_farewell(&self) {
        let making = self.making();
        let ends = self.ends.get();
        drop(making);
        if let Some(ends) = ends {
            ends.farewell.say();
        }
    }

    /// What is readable when the worker knocks.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.freight.as_fd()
    }

    fn making(&self) -> MutexGuard<'_, ()> {
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> io::Result<&Ends> {
        if let Some(ends) = self.ends.get() {
            return Ok(ends);
        }
        let _making = self.making();
        if let Some(ends) = self.ends.get() {
            return Ok(ends);
        }
        // Nothing of it shall be taken for standard error.
        os::stderr::fill_gap()?;
        wire::prepare()?;
        let (outbox, workers_inbox) = wire::connect()?;
        let (workers_outbox, inbox) = wire::connect()?;
        let fds = wire::loosen(workers_inbox, &workers_outbox)?;
        self.freight.send_ahead(&fds)?;
        let ends = Ends {
            outbox: outbox.with_freight(self.freight.clone()),
            inbox: Mutex::new(inbox.with_freight(self.freight.clone())),
            farewell: Farewell(workers_outbox),
        };
        Ok(self.ends.get_or_init(|| ends))
    }
}

/// The worker's part of a connection.
#[derive(Debug)]
pub(super) struct Door {
    freight: Freight,
    seat: RefCell<Option<Seat>>,
    ends: OnceCell<(Inbox, Outbox)>,
    has_knocked: Cell<bool>,
}

impl Door {
    /// Has ready what the worker itself has to make for it.
    ///
    /// # Errors
    ///
    /// If there are too few descriptors.
    pub(super) fn get_ready(&self) -> io::Result<()> {
        if self.ends.get().is_none() && self.seat.borrow().is_none() {
            self.seat.replace(Some(Seat::make()?));
        }
        Ok(())
    }

    /// Where messages come from, which the parent has announced.
    pub(super) fn inbox(&self) -> io::Result<&Inbox> {
        Ok(&self.open()?.0)
    }

    /// Where messages go to. The parent has to be told in the ring that there is one.
    pub(super) fn outbox(&self) -> io::Result<&Outbox> {
        if !self.has_knocked.replace(true) {
            self.freight.knock()?;
        }
        Ok(&self.open()?.1)
    }

    fn open(&self) -> io::Result<&(Inbox, Outbox)> {
        if self.ends.get().is_none() {
            self.get_ready()?;
            let ends = self.freight.receive_ahead()?;
            let seat = self.seat.take().ok_or(io::ErrorKind::NotFound)?;
            let (inbox, outbox) = seat.fill(ends)?;
            let inbox = inbox.with_freight(self.freight.clone());
            let outbox = outbox.with_freight(self.freight.clone());
            let _ = self.ends.set((inbox, outbox));
        }
        self.ends
            .get()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl WorkerEnd {
    /// The worker's part: says that it has come. The connection is for later; its seat may have been
    /// made before.
    pub(crate) fn arrive(seat: Option<Seat>, lanes: Lanes, freight: Freight) -> WorkerEnd {
        lanes.set_arrived();
        lanes.up_bell().ring();
        let door = Door {
            freight,
            seat: RefCell::new(seat),
            ends: OnceCell::new(),
            has_knocked: Cell::new(false),
        };
        WorkerEnd::new(door, lanes)
    }
}
