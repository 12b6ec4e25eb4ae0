//! Options of single calls.

use std::sync::Arc;
use std::time::Duration;

use super::Task;
use super::core::Core;
use super::imap::{AsTheyCome, InOrder, Window};
use super::job::{Chunking, Job};
use super::map;
#[cfg(feature = "indicatif")]
use super::progress::Step;
use super::progress::{Meter, Progress};
use super::task;
use crate::error::Error;
use crate::registry::ProcessFn;

/// Options for calls of a [`Pool`](super::Pool); see [`Pool::with`](super::Pool::with). They go
/// before those of the function's attribute, and those before the pool's.
///
/// ```
/// # #[mp::process_fn]
/// # fn square(x: i64) -> i64 { x * x }
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// # let pool = mp::Pool::new(2)?;
/// let options = mp::TaskOptions::new().chunk_size(10).timeout(std::time::Duration::from_secs(5));
/// assert_eq!(pool.with(options).map(square, 0..3)?, [0, 1, 4]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "options do nothing before `Pool::with`"]
pub struct TaskOptions {
    pub(super) chunk_size: Option<usize>,
    pub(super) timeout: Option<Duration>,
    pub(super) retries: Option<u32>,
    pub(super) progress: Option<Progress>,
}

impl TaskOptions {
    /// No options.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let options = mp::TaskOptions::new();
    /// assert_eq!(pool.with(options).map(square, 0..3)?, pool.map(square, 0..3)?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new() -> TaskOptions {
        TaskOptions::default()
    }

    /// How many items a worker gets at a time; 0 counts as 1. Default: for `imap` and
    /// `imap_unordered` 1, or as many as take 10 µs together, 64 at most, once items are known to be
    /// so short; for `map`, `starmap` and `submit_map` it follows the duration of the items. Results
    /// of a chunk may come together, when an item that takes long has ended behind them.
    ///
    /// Chunks of a size that is given here, of more than one item, stay with the worker that has begun
    /// with them. Of others, what stands behind an item that takes long may go to a worker that has
    /// nothing to do.
    ///
    /// ```
    /// #[mp::process_fn]
    /// fn worker_of(_item: u32) -> u32 {
    ///     std::process::id()
    /// }
    ///
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let options = mp::TaskOptions::new().chunk_size(5);
    /// let workers = pool.with(options).map(worker_of, 0..10)?;
    /// assert!(workers[..5].iter().all(|id| *id == workers[0]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn chunk_size(mut self, items: usize) -> TaskOptions {
        self.chunk_size = Some(items.max(1));
        self
    }

    /// How long one call may run, from the moment it begins; then its worker is killed and
    /// replaced, and the call is [`TimedOut`](crate::error::ErrorKind::TimedOut). Default: no
    /// limit.
    ///
    /// A worker that does not even begin, since it was stopped, say, is killed after five seconds
    /// more, and what it was sent goes to another one. Those count from when the last part of a large
    /// call was sent, and are a second more for each 200 MB of it. An item that ends just when its worker is
    /// being killed for it has its result; if the next one of its chunk had begun by then it begins
    /// again.
    ///
    /// ```
    /// #[mp::process_fn]
    /// fn spin() {
    ///     loop { std::hint::spin_loop() }
    /// }
    ///
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let options = mp::TaskOptions::new().timeout(std::time::Duration::from_millis(100));
    /// let error = pool.with(options).apply(spin, ()).unwrap_err();
    /// assert_eq!(error.kind(), mp::ErrorKind::TimedOut);
    /// # Ok(())
    /// # }
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> TaskOptions {
        self.timeout = Some(timeout);
        self
    }

    /// How often a call is tried again after its worker died or it took too long; never after a
    /// panic. Default: 0.
    ///
    /// ```
    /// # use mp::Shared;
    /// # use std::sync::atomic::{AtomicU32, Ordering};
    /// #[mp::process_fn]
    /// fn fail(tries: Shared<AtomicU32>) {
    ///     tries.fetch_add(1, Ordering::SeqCst);
    ///     std::process::abort();
    /// }
    ///
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let tries = Shared::new(AtomicU32::new(0))?;
    /// let options = mp::TaskOptions::new().retries(2);
    /// pool.with(options).apply(fail, (tries.clone(),)).unwrap_err();
    /// assert_eq!(tries.load(Ordering::SeqCst), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn retries(mut self, retries: u32) -> TaskOptions {
        self.retries = Some(retries);
        self
    }

    /// Moves `bar` by one for each item that is finished, whatever came of it; an item that was
    /// tried again counts once. Default: none. With the feature `indicatif`.
    ///
    /// A bar without a length gets one when it is known how many items there are. It is moved by
    /// the thread that waits for the results (so that it has moved as far when they are there), or,
    /// while nobody waits for those of a [`Task`], by the one that its
    /// [callbacks](Task::on_done) are called on. It has come to a stop when `map`, or a task's
    /// `join`, has returned an error or an iterator was dropped, even if something still runs. It
    /// is not finished at the end: other calls may move it further, and which of its `finish`
    /// methods you want is for you to call. A panic in it is contained.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let bar = indicatif::ProgressBar::no_length();
    /// let options = mp::TaskOptions::new().progress(bar.clone());
    /// let squares = pool.with(options).map(square, 0..100)?;
    /// assert_eq!((bar.position(), bar.length()), (100, Some(100)));
    /// bar.finish();
    /// # assert_eq!(squares.len(), 100);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "indicatif")]
    #[doc(alias = "tqdm")]
    pub fn progress(mut self, bar: indicatif::ProgressBar) -> TaskOptions {
        let show = move |step| match step {
            Step::Length(items) => {
                if bar.length().is_none() {
                    bar.set_length(items as u64);
                }
            }
            Step::Finished(items) => bar.inc(items as u64),
        };
        self.progress = Some(Progress::new(show));
        self
    }
}

/// A pool with [`TaskOptions`]; the methods are those of [`Pool`](super::Pool), and as there
/// [nothing is borrowed](super::Pool#nothing-is-borrowed).
///
/// ```
/// # #[mp::process_fn]
/// # fn square(x: i64) -> i64 { x * x }
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// # let pool = mp::Pool::new(2)?;
/// let one_by_one = pool.with(mp::TaskOptions::new().chunk_size(1));
/// assert_eq!(one_by_one.map(square, 0..3)?, [0, 1, 4]);
/// assert_eq!(one_by_one.apply(square, (3,))?, 9);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct WithOptions<'p> {
    core: &'p Arc<Core>,
    options: TaskOptions,
}

impl<'p> WithOptions<'p> {
    pub(super) fn new(core: &'p Arc<Core>, options: TaskOptions) -> WithOptions<'p> {
        WithOptions { core, options }
    }

    /// A job of items, of which there are `count` if that is known.
    fn job<F: ProcessFn>(
        &self,
        default: Chunking,
        is_mapped: bool,
        count: Option<usize>,
    ) -> Result<Arc<Job>, Error> {
        let chunking = self.options.chunk_size.map_or(default, Chunking::Fixed);
        let meter = self.options.progress.clone().map(|progress| {
            let meter = Meter::new(progress, self.core.callbacks());
            if let Some(count) = count {
                meter.expect(count);
            }
            meter
        });
        let job = Job::new::<F>(self.core, &self.options, chunking, is_mapped, meter)?;
        Ok(Arc::new(job))
    }

    fn single_job<F: ProcessFn>(&self) -> Result<Arc<Job>, Error> {
        let job = self.job::<F>(Chunking::Fixed(1), false, Some(1))?;
        job.expect_one();
        Ok(job)
    }

    fn lazy_job<F: ProcessFn>(&self, count: Option<usize>) -> Result<Arc<Job>, Error> {
        let job = self.job::<F>(Chunking::Lazy, true, count)?;
        job.attend();
        Ok(job)
    }

    /// See [`Pool::map`](super::Pool::map).
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let options = mp::TaskOptions::new().chunk_size(10);
    /// assert_eq!(pool.with(options).map(square, 0..5)?, [0, 1, 4, 9, 16]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As there.
    pub fn map<F, A, I>(&self, function: F, items: I) -> Result<Vec<F::Output>, Error>
    where
        F: ProcessFn<Args = (A,)>,
        I: IntoIterator<Item = A>,
    {
        self.starmap(function, items.into_iter().map(|item| (item,)))
    }

    /// See [`Pool::starmap`](super::Pool::starmap).
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn add(a: i64, b: i64) -> i64 { a + b }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let options = mp::TaskOptions::new().chunk_size(10);
    /// assert_eq!(pool.with(options).starmap(add, [(1, 2), (3, 4)])?, [3, 7]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As there.
    pub fn starmap<F, I>(&self, _function: F, items: I) -> Result<Vec<F::Output>, Error>
    where
        F: ProcessFn,
        I: IntoIterator<Item = F::Args>,
    {
        let items = items.into_iter();
        let job = self.job::<F>(Chunking::Automatic, true, exact_len(&items))?;
        job.attend();
        map::run::<F>(self.core, job, items)
    }

    /// See [`Pool::apply`](super::Pool::apply).
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn add(a: i64, b: i64) -> i64 { a + b }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let options = mp::TaskOptions::new().timeout(std::time::Duration::from_secs(60));
    /// assert_eq!(pool.with(options).apply(add, (1, 2))?, 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As there.
    pub fn apply<F: ProcessFn>(&self, function: F, args: F::Args) -> Result<F::Output, Error> {
        let _ = function;
        let job = self.single_job::<F>()?;
        task::apply::<F>(self.core, &job, args)
    }

    /// See [`Pool::submit`](super::Pool::submit).
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let options = mp::TaskOptions::new().retries(2);
    /// let task = pool.with(options).submit(square, (12,))?;
    /// assert_eq!(task.join()?, 144);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As there.
    pub fn submit<F: ProcessFn>(
        &self,
        _function: F,
        args: F::Args,
    ) -> Result<Task<F::Output>, Error> {
        Task::of_one::<F>(self.core, self.single_job::<F>()?, args)
    }

    /// See [`Pool::submit_map`](super::Pool::submit_map).
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let options = mp::TaskOptions::new().retries(2);
    /// let task = pool.with(options).submit_map(square, 0..3)?;
    /// assert_eq!(task.join()?, [0, 1, 4]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As there.
    pub fn submit_map<F, A, I>(&self, _function: F, items: I) -> Result<Task<Vec<F::Output>>, Error>
    where
        F: ProcessFn<Args = (A,)>,
        I: IntoIterator<Item = A>,
    {
        let items = items.into_iter();
        let job = self.job::<F>(Chunking::Automatic, true, exact_len(&items))?;
        Task::of_many::<F>(self.core, job, items.map(|item| (item,)))
    }

    /// See [`Pool::imap`](super::Pool::imap).
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// // Quick calls: 64 for each message to a worker.
    /// let options = mp::TaskOptions::new().chunk_size(64);
    /// let mut squares = pool.with(options).imap(square, 0..);
    /// assert_eq!(squares.nth(1000).transpose()?, Some(1_000_000));
    /// # Ok(())
    /// # }
    /// ```
    pub fn imap<F, A, I>(
        &self,
        _function: F,
        items: I,
    ) -> impl Iterator<Item = Result<F::Output, Error>> + use<F, A, I>
    where
        F: ProcessFn<Args = (A,)>,
        I: IntoIterator<Item = A>,
    {
        let items = items.into_iter();
        let job = self.lazy_job::<F>(exact_len(&items));
        InOrder::new(Window::<F, _>::open(
            self.core,
            job,
            items.map(|item| (item,)),
        ))
    }

    /// See [`Pool::imap_unordered`](super::Pool::imap_unordered).
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let options = mp::TaskOptions::new().chunk_size(64);
    /// for (item, result) in pool.with(options).imap_unordered(square, 0..1000) {
    ///     assert_eq!(result?, (item * item) as i64);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn imap_unordered<F, A, I>(
        &self,
        _function: F,
        items: I,
    ) -> impl Iterator<Item = (usize, Result<F::Output, Error>)> + use<F, A, I>
    where
        F: ProcessFn<Args = (A,)>,
        I: IntoIterator<Item = A>,
    {
        let items = items.into_iter();
        let job = self.lazy_job::<F>(exact_len(&items));
        AsTheyCome::new(Window::<F, _>::open(
            self.core,
            job,
            items.map(|item| (item,)),
        ))
    }
}

/// How many items there are, where the iterator knows.
fn exact_len(items: &impl Iterator) -> Option<usize> {
    let (least, most) = items.size_hint();
    most.filter(|most| *most == least)
}
