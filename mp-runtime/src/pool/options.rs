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
    pub fn new() -> TaskOptions {
        TaskOptions::default()
    }

    /// How many items a worker gets at a time; 0 counts as 1. Default: 1 for `imap` and
    /// `imap_unordered`; for the other methods it follows the duration of the items. Results of a
    /// chunk may come together, when an item that takes long has ended behind them.
    pub fn chunk_size(mut self, items: usize) -> TaskOptions {
        self.chunk_size = Some(items.max(1));
        self
    }

    /// How long one call may run, from the moment it begins; then its worker is killed and replaced,
    /// and the call is [`TimedOut`](crate::error::ErrorKind::TimedOut). Default: no limit.
    ///
    /// A worker that does not even begin, since it was stopped, say, is killed after five seconds
    /// more, and what it was sent goes to another one. An item that ends just when its worker is
    /// being killed for it has its result; if the next one of its chunk had begun by then it begins
    /// again.
    pub fn timeout(mut self, timeout: Duration) -> TaskOptions {
        self.timeout = Some(timeout);
        self
    }

    /// How often a call is tried again after its worker died or it took too long; never after a
    /// panic. Default: 0.
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

    fn lazy_job<F: ProcessFn>(&self, count: Option<usize>) -> Result<Arc<Job>, Error> {
        let job = self.job::<F>(Chunking::Fixed(1), true, count)?;
        job.attend();
        Ok(job)
    }

    /// See [`Pool::map`](super::Pool::map).
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
    /// # Errors
    ///
    /// As there.
    pub fn apply<F: ProcessFn>(&self, function: F, args: F::Args) -> Result<F::Output, Error> {
        self.submit(function, args)?.join()
    }

    /// See [`Pool::submit`](super::Pool::submit).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn submit<F: ProcessFn>(
        &self,
        _function: F,
        args: F::Args,
    ) -> Result<Task<F::Output>, Error> {
        let job = self.job::<F>(Chunking::Fixed(1), false, Some(1))?;
        Task::of_one::<F>(self.core, job, args)
    }

    /// See [`Pool::submit_map`](super::Pool::submit_map).
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
