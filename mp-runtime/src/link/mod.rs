//! The connection of a parent and one of its workers, and the seam between pools and transport:
//! whoever is above sees calls go down and records come up, and not how. A worker is mostly a
//! process, of which the rest of this page is; one that is a thread of this process has a
//! [`mailbox`] behind the same names.
//!
//! Why it holds, the orderings and a sketch of the proofs, is in `README.md` beside this file.
//!
//! # Two lanes
//!
//! Plain bytes go through two [rings](ring) in memory that the two share ([`lanes`]), without a
//! system call while both are awake. What owns something, handles, goes over `ipc-channel`, by a
//! connection that is [made](handshake) for the first of it, and so does what is too large for a ring.
//! Whatever goes that way is announced in the ring, so that
//! there is one order, and each side sleeps in one place: at the [bell](bell) of its ring.
//!
//! # Parties
//!
//! - **senders**: threads of the parent. Numbers of calls are given out, and light calls put in, under
//!   the lock of whoever is above; a call that is not light is sent by who gave it its number, while
//!   its worker has no other;
//! - **keeper**: a thread of the parent for each worker, which is there for what nobody else takes
//!   ([`Events`]). It alone receives over the connection. A worker that runs one call has none until
//!   it knocks, or has ended;
//! - **waiters**: threads of the parent that take what is in the ring while they wait ([`Link::poll`]);
//! - **worker**: its main thread takes calls, runs them and puts in records ([`WorkerEnd`]);
//! - **watch**: the parent's thread that sees processes end, and says so ([`Ending`](parent::Ending)).
//!
//! # Calls and records
//!
//! A *call* is a function, a number, and items. Calls are begun in the order of their numbers, and
//! their items run in order. For each there is a record, in the same order, so that records need
//! not say whose they are. An item of a *divisible* call that was not begun can be [taken
//! back](lanes::Claim): then there is none for it and those behind it.
//!
//! # Nobody waits for one who waits for him
//!
//! No sender waits for a worker: a light call finds room, any other one finds an empty ring, and one
//! that goes over the connection is sent by a thread made for it if it may block. A worker that
//! finds no room for its records wakes the keeper, who takes them whatever else it does. The keeper
//! waits for a message that was announced, and then for that worker alone; if the worker dies first
//! a farewell takes its place.
//!
//! # Death
//!
//! | step of the worker | if it is killed right after |
//! | --- | --- |
//! | begins a call | it had not begun with any of its items |
//! | begins item `i` | `i` was running: it fails, once |
//! | writes the record of `i` | the same: what `tail` has not passed does not count |
//! | puts it in (`tail`) | `i` has a result, nothing was running |
//! | rings the bell | the same; without that the farewell wakes whoever sleeps |
//! | announces the record of `i` | `i` was running, unless its message is whole; without a connection there is none |
//!
//! What is in the ring when the worker has ended is all there will be, and is taken before the end
//! is told.
//!
//! # A worker is a stranger
//!
//! The parent believes nothing that a worker writes: what comes up is copied out before it is
//! looked at, counts are checked against the size of the ring and lengths against what came, and
//! records against the calls they answer. Nonsense ends that worker. Words that it should not write
//! can make it appear to be idle, busy, running or full, which it could be as well.

mod bell;
mod handshake;
mod lanes;
mod mailbox;
mod message;
mod parent;
mod ring;
mod spin;
#[cfg(test)]
mod tests;
mod worker;

pub(crate) use handshake::Connection;
pub(crate) use lanes::{Lanes, Pace, Running};
pub(crate) use mailbox::{Hold, ThreadEnd, open as open_in_process};
pub(crate) use message::{Args, Bundle, Call, CallHead, Parts, Record, Report, Run, Status, Table};
#[cfg(test)]
pub(crate) use message::{Listed, record_head};
pub(crate) use parent::{Event, Events, LIGHT_BYTES, Link, Reply, Turn, open};
pub(crate) use spin::Spinner;
pub(crate) use worker::{Chunk, MANY_ITEMS, WorkerEnd};
