//! The sources of `sync`, over atomics of loom.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "the models need some of it, and the tests in the sources are not run here"
)]
#![allow(
    clippy::absurd_extreme_comparisons,
    clippy::reversed_empty_ranges,
    reason = "nobody spins here"
)]

pub(crate) mod atomic;
mod bounds;
#[path = "../../src/sync/patience.rs"]
pub(crate) mod patience;
#[path = "../../src/sync/bell.rs"]
mod bell;
#[path = "../../src/sync/poison.rs"]
mod poison;
#[path = "../../src/sync/raw_mutex.rs"]
pub(crate) mod raw_mutex;
#[path = "../../src/sync/mutex.rs"]
mod mutex;
#[path = "../../src/sync/slots.rs"]
mod slots;
#[path = "../../src/sync/raw_rwlock.rs"]
pub(crate) mod raw_rwlock;
#[path = "../../src/sync/semaphore.rs"]
mod semaphore;
#[path = "../../src/sync/condvar.rs"]
mod condvar;
#[path = "../../src/sync/event.rs"]
mod event;
#[path = "../../src/sync/once.rs"]
mod once;
#[path = "../../src/sync/barrier.rs"]
mod barrier;

pub(crate) use barrier::Barrier;
pub(crate) use bell::Bell;
pub(crate) use condvar::Condvar;
pub(crate) use event::Event;
pub(crate) use mutex::{Mutex, MutexGuard};
pub(crate) use once::Once;
pub(crate) use patience::Patience;
pub(crate) use poison::PoisonCause;
pub(crate) use raw_mutex::{RawMutex, Refusal};
pub(crate) use semaphore::Semaphore;
pub(crate) use slots::Slots;
