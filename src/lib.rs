//! Process-parallel Rust: what Python's `multiprocessing` is to Python.
//!
//! Write `#[mp::process_fn]` above a function and run it in another process, or over a pool of
//! them. What the function does there stays there: a crash, a leak, a runaway loop or a C library
//! that is not thread-safe takes one worker with it, and the caller gets an error that says what
//! happened.
//!
//! ```
//! use mp::prelude::*;
//!
//! #[mp::process_fn]
//! fn square(x: i64) -> i64 {
//!     x * x
//! }
//!
//! #[mp::main]
//! fn main() -> Result<(), mp::Error> {
//!     let pool = Pool::new(2)?;
//!     println!("{:?}", pool.map(square, 0..10)?);
//!     Ok(())
//! }
//! ```
//!
//! # The guide
//!
//! | to | read |
//! | --- | --- |
//! | decide between threads and processes | [why processes](guide::why) |
//! | write a first program, and know the rules for functions | [a first program](guide::first_program) |
//! | use it | [pools](guide::pools), [shared memory](guide::shared_memory), [channels](guide::channels), [errors](guide::errors) |
//! | get it into use | [testing](guide::testing), [debugging](guide::debugging), [deployment](guide::deployment), [costs and limits](guide::costs) |
//! | come from elsewhere | [Python's names](guide::python), [`std::thread`](guide::from_threads), [`rayon`](guide::from_rayon), [`tokio`](guide::from_tokio), [`procspawn`](guide::from_procspawn) |
//!
//! # Choosing
//!
//! | you want | write |
//! | --- | --- |
//! | one call in a process of its own | [`spawn!`] or [`Builder`] |
//! | many calls over a few processes | [`Pool::map`], [`Pool::starmap`] |
//! | results as they come, of an endless iterator | [`Pool::imap`], [`Pool::imap_unordered`] |
//! | one call now, its result later | [`Pool::submit`] |
//! | workers that load something first, are replaced now and then, have limits | [`Pool::builder`](PoolBuilder) |
//! | the same over threads, or one after the other for a debugger | [`PoolBuilder::backend`] |
//! | something done with a result as soon as it is there | [`Task::on_done`] |
//! | the results of several tasks, in the order in which they come | [`as_completed`] |
//! | a bar that shows how far it is | `TaskOptions::progress`, with the feature `indicatif` |
//! | all of that without making a pool | the functions of [`mp::pool`](pool) |
//! | data that workers read, without a copy for each | [`Shared::from_slice`], a `Shared<[T]>` |
//! | numbers that all count up | atomics in a [`Shared`] |
//! | a value that all change, one at a time | [`shared!(value)`](shared!), a [`Value`] |
//! | the same, without handing it to anybody | [`shared! { static … }`](shared!) |
//! | several such values changed as one | [`locked!`] |
//! | an array that each worker fills a part of | [`Array::split`], an [`ArrayChunk`] each |
//! | an array that all change, one at a time | [`Array`], and its lock |
//! | one at a time for something else, such as a file | [`Lock`] |
//! | a stream of values from some processes to others, which ends by itself | [`channel`](fn@channel), a [`Sender`] and a [`Receiver`] |
//! | the same without a bound; senders never wait | [`unbounded_channel`] |
//! | one place where everybody puts and gets, until it is closed | [`Queue`] |
//! | a talk between two processes, handles included | [`pipe`], a [`Connection`] each |
//! | the first of several processes, tasks and connections | [`wait_any`] |
//! | your own types in shared memory | [`derive(Shareable)`](derive@Shareable) |
//!
//! # In short
//!
//! - A worker is this binary, started again. [`init`] is the first line of `main`, or `#[mp::main]`
//!   stands above it; tests that start processes are `#[mp::test]`.
//! - Functions are handed over by name. Arguments and results are `serde` types; `&str`, `&[T]` and
//!   `&T` are lent to the function, the caller sends the owned value.
//! - A process ends with its parent, however that ends. Ctrl-C is for the parent alone.
//! - Linux with glibc, on x86-64 and aarch64.
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `bytemuck` | `shareable_pod!` and `Pod`: types that are `bytemuck::Pod` in shared memory |
//! | `indicatif` | `TaskOptions::progress`: bars of `indicatif` that show how far a call is |
//! | `ndarray` | the module `ndarray`: shared memory as arrays of `ndarray`, without copying |
#![forbid(unsafe_code)]

#[doc(hidden)]
pub use mp_runtime::__private;

pub use mp_macros::{Shareable, locked, main, process_fn, shared, spawn, test};
pub use mp_runtime::ProcessFn;
pub use mp_runtime::channel::{
    Connection, Portable, Queue, Receiver, SendError, Sender, channel, pipe, unbounded_channel,
};
pub use mp_runtime::error::{Error, ErrorKind, Panic};
pub use mp_runtime::process::{
    Builder, Process, ProcessInfo, StartMethod, Stdio, active_children, cpu_count, current, init,
};

pub use mp_runtime::shm::{Shareable, Shared};
pub use mp_runtime::sync::{Array, ArrayChunk, SharedStatic};

/// A value in shared memory with a lock around it; [`shared!`] makes one.
///
/// ```
/// # fn main() -> Result<(), mp::Error> {
/// let total: mp::Value<f64> = mp::shared!(0.0)?;
/// *total.lock()? += 0.5;
/// assert_eq!(total.get()?, 0.5);
/// # Ok(())
/// # }
/// ```
pub type Value<T> = Shared<sync::Mutex<T>>;

/// A lock in shared memory that guards something outside of it, such as a file.
///
/// ```
/// # fn main() -> Result<(), mp::Error> {
/// let lock = mp::Lock::new(mp::sync::Mutex::new(()))?;
/// let guard = lock.lock()?;
/// // ... nobody else is in here
/// drop(guard);
/// # Ok(())
/// # }
/// ```
pub type Lock = Shared<sync::Mutex<()>>;

pub mod channel {
    //! What a [`Receiver`](crate::Receiver) gives that is iterated over.

    pub use mp_runtime::channel::{IntoIter, Iter};
}

pub mod sync {
    //! Locks, conditions and their kin, in place: between the threads of a process, and, inside
    //! [`Shared`](crate::Shared) memory, between processes.

    pub use mp_runtime::sync::{
        Barrier, BarrierWaitResult, Condvar, Event, Mutex, MutexGuard, Once, OnceLock, OnceState,
        Permit, PoisonCause, Poisoned, ReentrantMutex, ReentrantMutexGuard, RwLock,
        RwLockReadGuard, RwLockWriteGuard, Semaphore, TryLockError, WaitTimeoutResult,
    };
}

#[cfg(feature = "bytemuck")]
mod shareable_pod;
#[cfg(feature = "bytemuck")]
pub use mp_runtime::shm::Pod;

#[cfg(feature = "ndarray")]
pub mod ndarray;

pub use mp_runtime::pool::{
    AsCompleted, Backend, Pool, PoolBuilder, PoolStats, Task, TaskOptions, WithOptions,
    as_completed,
};
pub use mp_runtime::wait::{Waitable, wait_any};

pub mod pool {
    //! The process-wide pool: made at first use with [`cpu_count`](crate::cpu_count) workers, and
    //! there until the program ends. Its functions are the methods of [`Pool`](crate::Pool).

    pub use mp_runtime::pool::{
        apply, imap, imap_unordered, map, starmap, submit, submit_map, with,
    };
}

pub mod prelude {
    //! What most programs need.

    pub use crate::{
        Array, ArrayChunk, Backend, Builder, Connection, Error, ErrorKind, Lock, Pool, Process,
        ProcessFn, Queue, Receiver, Sender, Shareable, Shared, Task, TaskOptions, Value, locked,
        process_fn, shared, spawn,
    };
}

pub mod guide;

/// The programs of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
