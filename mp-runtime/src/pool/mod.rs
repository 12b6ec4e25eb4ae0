//! Pools: who gets what, and what becomes of it.
//!
//! # Shape
//!
//! A *job* is one call of `map`, `submit` and so on; its *items* are encoded into *segments* by the
//! thread that asks; a *piece* is a range of a segment that waits in the queue; a *chunk* is a
//! piece on its way to a worker. Each worker has a *slot*, with a thread that starts the worker,
//! receives from it, buries it and starts the next one. Results are decoded by the thread that
//! asks.
//!
//! What becomes of an item is in [`life`]; what becomes of a slot, here and in [`crew`]:
//!
//! | stage | means | next |
//! | --- | --- | --- |
//! | `Starting` | a worker is being started, or will be after a pause | `Ready`; after several failures `Broken`; `Stopped` |
//! | `Ready` | it has a chunk, or waits for one | `Starting` if it died or was recycled |
//! | `Broken` | no worker can be started; new work makes it try again | `Starting`, `Stopped` |
//! | `Stopped` | the slot's thread has ended | `Starting`, if the pool grows |
//!
//! Whoever gives a worker a chunk, under the pool's lock, sends the call, after the lock; nobody
//! else sends to that worker until the end of the chunk was received. Light chunks are the
//! exception: they are put into the worker's ring under the lock, several of them if they are
//! quick. No lock is held while anything is encoded, decoded or waited for, or while code of the
//! program runs. Who receives is told in [`attendance`].

mod as_completed;
mod attendance;
mod builder;
mod callbacks;
mod core;
mod crew;
mod dispatch;
mod global;
mod imap;
mod initializer;
mod inline;
mod job;
mod life;
mod map;
mod options;
mod progress;
mod promise;
mod queue;
mod segment;
mod slot;
mod stats;
mod task;
mod timing;

pub use as_completed::{AsCompleted, as_completed};
pub use builder::{Backend, PoolBuilder};
pub use global::{apply, imap, imap_unordered, map, starmap, submit, submit_map, with};
pub use options::{TaskOptions, WithOptions};
pub use stats::PoolStats;
pub use task::Task;

use std::fmt;
use std::sync::Arc;

use self::core::Core;
use crate::error::Error;
use crate::process::{ProcessInfo, cpu_count};
use crate::registry::ProcessFn;

/// A pool of processes that run functions (`multiprocessing.Pool`).
///
/// Its workers are started with it and replaced when they die. A worker that dies fails the item it
/// was running and nothing else. A pool can be used by many threads at once.
///
/// Dropping it is [`terminate`](Pool::terminate): what was not finished is cancelled.
/// [`join`](Pool::join) finishes first.
///
/// ```
/// #[mp::process_fn]
/// fn square(x: i64) -> i64 {
///     x * x
/// }
///
/// # #[mp::main]
/// fn main() -> Result<(), mp::Error> {
///     let pool = mp::Pool::new(2)?;
///     assert_eq!(pool.map(square, 0..5)?, [0, 1, 4, 9, 16]);
///     pool.join()
/// }
/// ```
///
/// # Nothing is borrowed
///
/// Threads of one process can lend each other what is on their stacks: `rayon::scope` and
/// `par_iter` do. Another process has other memory, and a reference means nothing there, so a
/// pool has no scopes, and its functions take owned values or handles. In place of
///
/// - `slice.par_iter()`, for data that all read: put it into shared memory once, a
///   [`Shared<[T]>`](crate::shm::Shared), and send each worker the handle and a range;
/// - `slice.par_chunks_mut(n)`, for data that each writes a part of: [`Array::split`], whose chunks
///   belong to one process at a time, and are written without a lock;
/// - a closure that borrows: a function with parameters. What is small is sent with each item, and
///   what is a vector in pieces: an item for each `chunk.to_vec()`.
///
/// ```
/// use mp::{Array, ArrayChunk, Shared};
///
/// #[mp::process_fn]
/// fn sum(samples: Shared<[f64]>, from: usize, to: usize) -> f64 {
///     samples[from..to].iter().sum()
/// }
///
/// #[mp::process_fn]
/// fn halve(mut part: ArrayChunk<f64>) {
///     part.iter_mut().for_each(|x| *x /= 2.0);
/// }
///
/// #[mp::process_fn]
/// fn longest(words: Vec<String>) -> usize {
///     words.iter().map(String::len).max().unwrap_or(0)
/// }
///
/// # #[mp::main]
/// fn main() -> Result<(), mp::Error> {
///     let pool = mp::Pool::new(2)?;
///
///     let samples = Shared::from_slice(&[1.0; 1000])?;
///     let ranges = (0..4).map(|part| (samples.clone(), part * 250, (part + 1) * 250));
///     assert_eq!(pool.starmap(sum, ranges)?, [250.0; 4]);
///
///     let array = Array::from_slice(&[3.0; 1000])?;
///     pool.map(halve, array.split(4))?;
///     assert_eq!(array.lock()?[999], 1.5);
///
///     let words = ["a", "process", "borrows", "nothing"].map(String::from);
///     let lengths = pool.map(longest, words.chunks(2).map(<[String]>::to_vec))?;
///     assert_eq!(lengths, [7, 7]);
///     Ok(())
/// }
/// ```
///
/// [`Array::split`]: crate::sync::Array::split
#[doc(alias = "scope")]
#[doc(alias = "ThreadPool")]
#[doc(alias = "ProcessPoolExecutor")]
pub struct Pool {
    core: Arc<Core>,
}

impl Pool {
    /// A pool of so many workers.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let pool = mp::Pool::new(2)?;
    /// assert_eq!(pool.apply(square, (3,))?, 9);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotInitialized`](crate::error::ErrorKind::NotInitialized);
    /// [`Spawn`](crate::error::ErrorKind::Spawn) for 0 workers, and if a worker could not be
    /// started; then none is left behind.
    pub fn new(workers: usize) -> Result<Pool, Error> {
        Pool::builder().workers(workers).build()
    }

    /// A pool of [`cpu_count`] workers.
    ///
    /// ```
    ///
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let pool = mp::Pool::with_default_workers()?;
    /// assert_eq!(pool.workers().len(), mp::cpu_count());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Pool::new`].
    pub fn with_default_workers() -> Result<Pool, Error> {
        Pool::new(cpu_count())
    }

    /// A pool with options.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let pool = mp::Pool::builder().workers(2).retries(1).name("render").build()?;
    /// assert_eq!(pool.map(square, 0..4)?, [0, 1, 4, 9]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> PoolBuilder {
        PoolBuilder::new()
    }

    /// The same pool, with options for the calls made through it.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let options = mp::TaskOptions::new().chunk_size(64);
    /// let squares = pool.with(options).map(square, 0..1000)?;
    /// # assert_eq!(squares.len(), 1000);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with(&self, options: TaskOptions) -> WithOptions<'_> {
        WithOptions::new(&self.core, options)
    }

    /// Calls `function` with each item and returns the results in order. Items are pulled from the
    /// iterator as the workers get on, and sent in chunks whose size follows their duration.
    ///
    /// Blocks until it is done; what wakes it is results, deaths and the end of the pool.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// assert_eq!(pool.map(square, 0..5)?, [0, 1, 4, 9, 16]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The first error in the order of the items, as soon as it is known to be the first; items
    /// that have not begun by then do not run. [`Closed`](crate::error::ErrorKind::Closed) after
    /// [`close`](Pool::close).
    pub fn map<F, A, I>(&self, function: F, items: I) -> Result<Vec<F::Output>, Error>
    where
        F: ProcessFn<Args = (A,)>,
        I: IntoIterator<Item = A>,
    {
        self.with(TaskOptions::new()).map(function, items)
    }

    /// [`map`](Pool::map) for functions of several parameters, or of none: each item is the tuple
    /// of its arguments.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn add(a: i64, b: i64) -> i64 { a + b }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// assert_eq!(pool.starmap(add, [(1, 2), (3, 4)])?, [3, 7]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`map`](Pool::map).
    pub fn starmap<F, I>(&self, function: F, items: I) -> Result<Vec<F::Output>, Error>
    where
        F: ProcessFn,
        I: IntoIterator<Item = F::Args>,
    {
        self.with(TaskOptions::new()).starmap(function, items)
    }

    /// Calls `function` once, in a worker, and returns its result.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn add(a: i64, b: i64) -> i64 { a + b }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// assert_eq!(pool.apply(add, (1, 2))?, 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Whatever kept the call from returning; [`Closed`](crate::error::ErrorKind::Closed) after
    /// [`close`](Pool::close).
    pub fn apply<F: ProcessFn>(&self, function: F, args: F::Args) -> Result<F::Output, Error> {
        self.with(TaskOptions::new()).apply(function, args)
    }

    /// Queues one call and returns at once (`apply_async`).
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let task = pool.submit(square, (12,))?;
    /// // ... something else meanwhile ...
    /// assert_eq!(task.join()?, 144);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::error::ErrorKind::Closed) after [`close`](Pool::close), and
    /// [`Encode`](crate::error::ErrorKind::Encode) for arguments that cannot be encoded.
    #[doc(alias = "apply_async")]
    pub fn submit<F: ProcessFn>(
        &self,
        function: F,
        args: F::Args,
    ) -> Result<Task<F::Output>, Error> {
        self.with(TaskOptions::new()).submit(function, args)
    }

    /// Queues a call for each item and returns at once (`map_async`). All items are encoded here
    /// and now.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let task = pool.submit_map(square, 0..3)?;
    /// assert_eq!(task.join()?, [0, 1, 4]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::error::ErrorKind::Closed) after [`close`](Pool::close). An item that
    /// cannot be encoded is an error of the task.
    #[doc(alias = "map_async")]
    pub fn submit_map<F, A, I>(&self, function: F, items: I) -> Result<Task<Vec<F::Output>>, Error>
    where
        F: ProcessFn<Args = (A,)>,
        I: IntoIterator<Item = A>,
    {
        self.with(TaskOptions::new()).submit_map(function, items)
    }

    /// Calls `function` with each item, lazily, and yields the results in order. Nothing is pulled
    /// before the first result is asked for, and never more than a few items for each worker beyond
    /// what was consumed, so that the iterator may be infinite. (Of items that take less than 20 µs
    /// it pulls as many ahead as have been consumed, 512 for each worker at most.) An error takes the
    /// place of its result; the others go on.
    ///
    /// It pulls on the thread that asks for a result: an iterator that blocks until a result of
    /// its own map was consumed waits for ever.
    ///
    /// Dropping the iterator cancels what it has not delivered; a call that is running runs to its
    /// end.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let large = pool.imap(square, 0..).find(|result| result.as_ref().is_ok_and(|n| *n > 1000));
    /// assert_eq!(large.transpose()?, Some(1024));
    /// # Ok(())
    /// # }
    /// ```
    pub fn imap<F, A, I>(
        &self,
        function: F,
        items: I,
    ) -> impl Iterator<Item = Result<F::Output, Error>> + use<F, A, I>
    where
        F: ProcessFn<Args = (A,)>,
        I: IntoIterator<Item = A>,
    {
        self.with(TaskOptions::new()).imap(function, items)
    }

    /// [`imap`](Pool::imap) in the order in which results come, each with the place of its item.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let mut sum = 0;
    /// for (item, result) in pool.imap_unordered(square, 0..10) {
    ///     assert_eq!(result?, (item * item) as i64);
    ///     sum += item;
    /// }
    /// assert_eq!(sum, 45);
    /// # Ok(())
    /// # }
    /// ```
    pub fn imap_unordered<F, A, I>(
        &self,
        function: F,
        items: I,
    ) -> impl Iterator<Item = (usize, Result<F::Output, Error>)> + use<F, A, I>
    where
        F: ProcessFn<Args = (A,)>,
        I: IntoIterator<Item = A>,
    {
        self.with(TaskOptions::new())
            .imap_unordered(function, items)
    }

    /// Takes no more work; what was submitted is finished, and then the workers exit.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// pool.close();
    /// let error = pool.apply(square, (1,)).unwrap_err();
    /// assert_eq!(error.kind(), mp::ErrorKind::Closed);
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self) {
        self.core.close();
    }

    /// Closes the pool, finishes everything and waits until every worker has exited and every
    /// [callback](Task::on_done) has returned; what wakes it is just that. An [`imap`](Pool::imap)
    /// that is not at its end by then gets no further: its next item is
    /// [`Closed`](crate::error::ErrorKind::Closed).
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let task = pool.submit(square, (5,))?;
    /// pool.join()?;
    /// assert_eq!(task.join()?, 25);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Cancelled`](crate::error::ErrorKind::Cancelled) if it was terminated meanwhile;
    /// [`WouldDeadlock`](crate::error::ErrorKind::WouldDeadlock) in a waker that a thread of this
    /// very pool calls, and in a callback of one of its tasks: then it is dropped.
    pub fn join(self) -> Result<(), Error> {
        self.core.join()
    }

    /// Ends the pool now: what was not finished is
    /// [`Cancelled`](crate::error::ErrorKind::Cancelled), the workers are killed. Returns when they
    /// are gone, after five seconds at the latest; from any thread.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn spin() { loop { std::hint::spin_loop() } }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let task = pool.submit(spin, ())?;
    /// pool.terminate();
    /// assert_eq!(task.join().unwrap_err().kind(), mp::ErrorKind::Cancelled);
    /// # Ok(())
    /// # }
    /// ```
    pub fn terminate(&self) {
        self.core.terminate();
    }

    /// The workers that are running.
    ///
    /// ```
    ///
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// assert_eq!(pool.workers().len(), 2);
    /// assert_eq!(pool.workers()[1].worker_index, Some(1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn workers(&self) -> Vec<ProcessInfo> {
        self.core.workers()
    }

    /// What it has done, and what it has to do.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// pool.map(square, 0..10)?;
    /// assert_eq!(pool.stats().done, 10);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> PoolStats {
        self.core.stats()
    }

    /// Changes the number of workers. New ones are there when this returns. Those that are too many
    /// finish what they have and stop; this does not wait for them.
    ///
    /// ```
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let pool = mp::Pool::new(1)?;
    /// pool.resize(3)?;
    /// assert_eq!(pool.workers().len(), 3);
    /// pool.resize(2)?;
    /// assert_eq!(pool.workers().len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A pool of [`Backend::Inline`] stays as it is.
    ///
    /// # Errors
    ///
    /// As for [`Pool::new`] and [`PoolBuilder::build`]; the pool then is as it was.
    /// [`Closed`](crate::error::ErrorKind::Closed) after [`close`](Pool::close).
    pub fn resize(&self, workers: usize) -> Result<(), Error> {
        builder::check_count(workers)?;
        self.core.resize(workers)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.core.terminate();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.core.name())
            .field("workers", &self.core.worker_count())
            .finish_non_exhaustive()
    }
}
