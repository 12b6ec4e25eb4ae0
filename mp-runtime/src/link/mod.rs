//! The connection of a parent and one of its workers, and the seam between pools and transport:
//! whoever is above sees calls go down and results come up, and not how. A worker is mostly a
//! process, of which the rest of this page is; one that is a thread of this process has a
//! [`mailbox`] behind the same names.
//!
//! # Parties
//!
//! - **parent**: a thread for each worker receives ([`Events`]); any thread that owns the worker's
//!   turn sends ([`Link`]);
//! - **worker**: its main thread receives, runs and sends ([`WorkerEnd`]);
//! - **watch**: the parent's thread that sees processes end. It puts a farewell at the end of what
//!   the worker has sent, through an end of the same channel that the parent keeps.
//!
//! # Messages
//!
//! Down, one call at a time: the next one is sent when the last one's end was received. A call is a
//! *chunk*: a function, a number that no other chunk has, and items. Up: records, each the result
//! of one item or the end of a chunk, several to a message; and last the farewell.
//!
//! # Nobody waits for one who waits for him
//!
//! The parent's receiving thread never sends what may block: a call larger than one frame is sent
//! by a thread made for it. So a worker that sends always finds a receiver, and a worker that does
//! not receive delays that one thread alone, until it dies and the socket closes.
//!
//! # The recorder
//!
//! A system call for each small result would cost more than most results. So the worker collects
//! them, and writes them into the *recorder* as well, a page that it shares with the parent, which
//! reads it when the worker is dead:
//!
//! | step of the worker | the recorder then says | if it is killed right after |
//! | --- | --- | --- |
//! | begins item `i` of chunk `c` | running `c`, `i` | `i` was running: it fails, once |
//! | appends the result's bytes | the same | the same: bytes without a commit do not count |
//! | commits them | running `c`, `i`; bytes of `i` | `i` has a result, which wins |
//! | ends the item | running nothing; bytes of `i` | `i` has a result, nothing was running |
//! | sends the message | the same | every result came twice; the second is dropped |
//! | commits zero bytes | running nothing | nothing is lost, all was sent |
//!
//! A result that does not fit is sent at once instead, while its item still counts as running.
//! Records carry the number of their chunk, so that what is left of an older one means nothing.

mod handshake;
mod mailbox;
mod message;
mod parent;
mod recorder;
#[cfg(test)]
mod tests;
mod worker;

pub(crate) use handshake::{Greeting, Offer};
pub(crate) use mailbox::{Hold, ThreadEnd, open as open_in_process};
pub(crate) use message::{Call, INITIALIZER_CHUNK, Record, Status};
pub(crate) use parent::{Event, Events, Link, Reply};
pub(crate) use recorder::{Recorder, Running};
pub(crate) use worker::{Chunk, WorkerEnd};
