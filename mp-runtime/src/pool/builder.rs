//! How to make a pool.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::core::{Config, Core};
use super::initializer::Initializer;
use super::{Pool, TaskOptions};
use crate::error::{Error, ErrorKind};
use crate::os::limit;
use crate::process::{StartMethod, check_name, cpu_count};
use crate::registry::{Catalogue, ProcessFn};

/// The most workers of a pool. Each is a process, and a thread and four descriptors here.
const MAX_WORKERS: usize = 4096;

/// How many bytes of a worker's standard error are kept.
const STDERR_TAIL: usize = 4096;
/// And how many at most.
const MAX_STDERR_TAIL: usize = 1 << 20;

/// What runs the functions of a pool. Arguments and results are turned into bytes and back whatever
/// it is, so that what works with one works with the others.
///
/// ```
/// # #[mp::process_fn]
/// # fn square(x: i64) -> i64 { x * x }
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// for backend in [mp::Backend::Processes, mp::Backend::Threads, mp::Backend::Inline] {
///     let pool = mp::Pool::builder().workers(2).backend(backend).build()?;
///     assert_eq!(pool.map(square, 0..5)?, [0, 1, 4, 9, 16]);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// Processes: what a function does there stays there.
    #[default]
    Processes,
    /// Threads of this process, for functions that need no fence around them: they start at once
    /// and see the globals of the program. What would end a worker's process ends the program. A
    /// thread cannot be killed: a call that is cancelled or takes too long is let go of and goes
    /// on, unseen, until it returns, while another thread takes its place. A function must not wait
    /// for the pool it runs in, which may wait for the function.
    Threads,
    /// The thread that asks, at the moment it asks, one item after the other: for debugging. A call
    /// that takes too long is an error all the same, once it has returned.
    Inline,
}

/// Makes a [`Pool`] with options.
///
/// ```
/// # #[mp::process_fn]
/// # fn square(x: i64) -> i64 { x * x }
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// let pool = mp::Pool::builder().workers(2).name("render").build()?;
/// assert_eq!(pool.workers()[0].name, "render-worker-0");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "there is no pool before `build`"]
pub struct PoolBuilder {
    workers: Option<usize>,
    name: Option<String>,
    backend: Backend,
    tasks: TaskOptions,
    initializer: Option<Result<Initializer, Error>>,
    max_tasks: Option<usize>,
    memory_limit: Option<u64>,
    is_pinned: bool,
    start_timeout: Option<Duration>,
    start_method: Option<StartMethod>,
    stderr_tail: usize,
}

impl PoolBuilder {
    pub(super) fn new() -> PoolBuilder {
        PoolBuilder {
            workers: None,
            name: None,
            backend: Backend::default(),
            tasks: TaskOptions::new(),
            initializer: None,
            max_tasks: None,
            memory_limit: None,
            is_pinned: false,
            start_timeout: None,
            start_method: None,
            stderr_tail: STDERR_TAIL,
        }
    }

    /// How many workers. Default: [`cpu_count`].
    ///
    /// ```
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let pool = mp::Pool::builder().workers(3).build()?;
    /// assert_eq!(pool.workers().len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn workers(mut self, workers: usize) -> PoolBuilder {
        self.workers = Some(workers);
        self
    }

    /// Its name, in errors and in the names of its workers. Default: `Pool-1` and so on.
    ///
    /// ```
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let pool = mp::Pool::builder().workers(2).name("render").build()?;
    /// assert_eq!(pool.workers()[1].name, "render-worker-1");
    /// # Ok(())
    /// # }
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> PoolBuilder {
        self.name = Some(name.into());
        self
    }

    /// What runs its functions. Default: [`Backend::Processes`].
    ///
    /// ```
    /// #[mp::process_fn]
    /// fn worker_id() -> u32 {
    ///     std::process::id()
    /// }
    ///
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let pool = mp::Pool::builder().workers(2).backend(mp::Backend::Threads).build()?;
    /// assert_eq!(pool.apply(worker_id, ())?, std::process::id());
    /// # Ok(())
    /// # }
    /// ```
    pub fn backend(mut self, backend: Backend) -> PoolBuilder {
        self.backend = backend;
        self
    }

    /// Calls `function` with `args` in each worker, once and before anything else, in those as well
    /// that take the place of others. What it makes it may keep in a `static`, for the calls that
    /// follow.
    ///
    /// If it panics, exits or returns an `Err`, the pool fails with that as an error of the kind
    /// [`Initializer`](ErrorKind::Initializer): in [`build`](PoolBuilder::build), or, if it is a
    /// worker in another's place, in everything that waits and all that comes. A worker that is
    /// killed in it is replaced, a few times. It may take as long as it takes, unless the function
    /// has a `timeout` of its own. The pool keeps the arguments as long as it is there, with what
    /// handles in them stand for.
    ///
    /// ```
    /// use std::sync::OnceLock;
    ///
    /// static WORDS: OnceLock<Vec<String>> = OnceLock::new();
    ///
    /// #[mp::process_fn]
    /// fn load(text: &str) -> Result<(), String> {
    ///     let words = text.split(' ').map(str::to_owned).collect();
    ///     WORDS.set(words).map_err(|_| "loaded twice".to_owned())
    /// }
    ///
    /// #[mp::process_fn]
    /// fn word(n: usize) -> Option<String> {
    ///     WORDS.get()?.get(n).cloned()
    /// }
    ///
    /// # #[mp::main]
    /// fn main() -> Result<(), mp::Error> {
    ///     let pool = mp::Pool::builder().workers(2).initializer(load, ("to be".into(),)).build()?;
    ///     assert_eq!(pool.map(word, 1..3)?, [Some("be".to_owned()), None]);
    ///     Ok(())
    /// }
    /// ```
    pub fn initializer<F: ProcessFn>(mut self, _function: F, args: F::Args) -> PoolBuilder {
        self.initializer = Some(Initializer::new::<F>(&args));
        self
    }

    /// After so many items, at least 1, a worker makes room for a fresh one, and what its functions
    /// have leaked goes with it. No call notices. A worker that has not exited ten seconds after it
    /// was told to is killed. Default: workers stay.
    ///
    /// Of [`Backend::Threads`] the threads change; [`Backend::Inline`] has nobody to replace.
    ///
    /// ```
    /// #[mp::process_fn]
    /// fn worker_id() -> u32 {
    ///     std::process::id()
    /// }
    ///
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let pool = mp::Pool::builder().workers(1).max_tasks_per_worker(1).build()?;
    /// assert_ne!(pool.apply(worker_id, ())?, pool.apply(worker_id, ())?);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "maxtasksperchild")]
    #[doc(alias = "max_tasks_per_child")]
    pub fn max_tasks_per_worker(mut self, tasks: usize) -> PoolBuilder {
        self.max_tasks = Some(tasks.max(1));
        self
    }

    /// The most private memory each worker may have, in bytes; see
    /// [`Builder::memory_limit`](crate::process::Builder::memory_limit). An item that needs more
    /// fails with [`OutOfMemory`](ErrorKind::OutOfMemory), and its worker is replaced. Default:
    /// that of this process. For processes only.
    ///
    /// ```
    /// #[mp::process_fn]
    /// fn allocate(bytes: usize) -> usize {
    ///     vec![1_u8; bytes].len()
    /// }
    ///
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let pool = mp::Pool::builder().workers(1).memory_limit(256 << 20).build()?;
    /// let error = pool.apply(allocate, (1 << 30,)).unwrap_err();
    /// assert_eq!(error.kind(), mp::ErrorKind::OutOfMemory);
    /// assert_eq!(pool.apply(allocate, (1 << 20,))?, 1 << 20);
    /// # Ok(())
    /// # }
    /// ```
    pub fn memory_limit(mut self, bytes: u64) -> PoolBuilder {
        self.memory_limit = Some(bytes);
        self
    }

    /// Whether each worker runs on one processor alone, of those that this process may use, in
    /// turns (`sched_setaffinity`). Default: no. [`Backend::Inline`] stays where it is called.
    ///
    /// ```
    /// #[mp::process_fn]
    /// fn processors() -> usize {
    ///     std::thread::available_parallelism().map_or(0, |count| count.get())
    /// }
    ///
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let pool = mp::Pool::builder().workers(2).pin_cpus(true).build()?;
    /// assert_eq!(pool.apply(processors, ())?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn pin_cpus(mut self, pin: bool) -> PoolBuilder {
        self.is_pinned = pin;
        self
    }

    /// How long one call may run; see [`TaskOptions::timeout`]. Default: no limit.
    ///
    /// ```
    /// #[mp::process_fn]
    /// fn spin() {
    ///     loop { std::hint::spin_loop() }
    /// }
    ///
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let timeout = std::time::Duration::from_millis(100);
    /// let pool = mp::Pool::builder().workers(1).task_timeout(timeout).build()?;
    /// let error = pool.apply(spin, ()).unwrap_err();
    /// assert_eq!(error.kind(), mp::ErrorKind::TimedOut);
    /// # Ok(())
    /// # }
    /// ```
    pub fn task_timeout(mut self, timeout: Duration) -> PoolBuilder {
        self.tasks = self.tasks.timeout(timeout);
        self
    }

    /// How often a call is tried again; see [`TaskOptions::retries`]. Default: 0.
    ///
    /// ```
    /// # use mp::Shared;
    /// # use std::sync::atomic::{AtomicU32, Ordering};
    /// #[mp::process_fn]
    /// fn fail_once(tries: Shared<AtomicU32>) -> String {
    ///     if tries.fetch_add(1, Ordering::SeqCst) == 0 {
    ///         std::process::abort();
    ///     }
    ///     "done".into()
    /// }
    ///
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let pool = mp::Pool::builder().workers(1).retries(1).build()?;
    /// assert_eq!(pool.apply(fail_once, (Shared::new(AtomicU32::new(0))?,))?, "done");
    /// # Ok(())
    /// # }
    /// ```
    pub fn retries(mut self, retries: u32) -> PoolBuilder {
        self.tasks = self.tasks.retries(retries);
        self
    }

    /// How long a worker may take until it has come to [`init`](crate::process::init). Default: 30
    /// seconds.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// // On a machine that is so busy that even a start takes its time.
    /// let timeout = std::time::Duration::from_secs(120);
    /// let pool = mp::Pool::builder().workers(2).start_timeout(timeout).build()?;
    /// assert_eq!(pool.apply(square, (12,))?, 144);
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_timeout(mut self, timeout: Duration) -> PoolBuilder {
        self.start_timeout = Some(timeout);
        self
    }

    /// How workers are started. Default: [`StartMethod::ForkServer`], or what the environment
    /// variable `MP_START_METHOD` says.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let method = mp::StartMethod::Exec;
    /// let pool = mp::Pool::builder().workers(2).start_method(method).build()?;
    /// assert_eq!(pool.apply(square, (12,))?, 144);
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_method(mut self, method: StartMethod) -> PoolBuilder {
        self.start_method = Some(method);
        self
    }

    /// How many bytes of the end of what a worker writes to standard error are kept for its error,
    /// [`Error::stderr`]; at most 1 MiB. Default: 4096.
    ///
    /// For that the standard error of a worker is a pipe, and no terminal: a program that asks
    /// (`std::io::IsTerminal`) will not colour it. A thread of this process writes what comes out
    /// to its own standard error: at once, in whole lines, and all of it before the error of a
    /// worker that dies is there. It takes a moment, so that what this process writes after a call
    /// has returned may stand before what the worker wrote in it. What a worker has started and
    /// left behind has nobody to write to when this process has ended.
    ///
    /// With 0 workers write to the standard error of this process themselves, and nothing is kept.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn fail() {
    /// #     eprintln!("the disk is on fire");
    /// #     std::process::abort();
    /// # }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let pool = mp::Pool::builder().workers(1).stderr_tail(0).build()?;
    /// assert_eq!(pool.apply(fail, ()).unwrap_err().stderr(), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stderr_tail(mut self, bytes: usize) -> PoolBuilder {
        self.stderr_tail = bytes.min(MAX_STDERR_TAIL);
        self
    }

    /// Starts the workers, and returns when all of them are there.
    ///
    /// ```
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let pool = mp::Pool::builder().workers(2).build()?;
    /// assert_eq!(pool.workers().len(), 2);
    ///
    /// let error = mp::Pool::builder().workers(0).build().unwrap_err();
    /// assert_eq!(error.kind(), mp::ErrorKind::Spawn);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Pool::new`]; [`Initializer`](ErrorKind::Initializer) if that failed,
    /// [`Encode`](ErrorKind::Encode) if its arguments could not be encoded,
    /// [`Unsupported`](ErrorKind::Unsupported) if the backend cannot do what was asked for.
    pub fn build(self) -> Result<Pool, Error> {
        static POOLS: AtomicUsize = AtomicUsize::new(0);
        check_name(self.name.as_deref())?;
        let worker_count = self.workers.unwrap_or_else(cpu_count);
        check_count(worker_count)?;
        Catalogue::get()?;
        if self.memory_limit.is_some() && self.backend != Backend::Processes {
            let message = "the memory of a process can be limited, that of a thread cannot: leave \
                           out `memory_limit`, or use `Backend::Processes`";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let (name, has_own_name) = match self.name {
            Some(name) => (name, true),
            None => (
                format!("Pool-{}", POOLS.fetch_add(1, Ordering::Relaxed) + 1),
                false,
            ),
        };
        let cpus = self.is_pinned.then(limit::allowed_cpus).transpose();
        let cpus = cpus.map_err(|error| {
            let message = format!("the workers cannot be bound to processors: {error}");
            Error::new(ErrorKind::Spawn, message).with_source(error)
        })?;
        let config = Config {
            name,
            has_own_name,
            backend: self.backend,
            tasks: self.tasks,
            initializer: self.initializer.transpose()?,
            max_tasks: self.max_tasks,
            memory_limit: self.memory_limit,
            cpus,
            start_timeout: self.start_timeout,
            start_method: self.start_method,
            stderr_tail: (self.stderr_tail > 0).then_some(self.stderr_tail),
        };
        let core = Core::start(config, worker_count)?;
        Ok(Pool { core })
    }
}

/// Whether a pool can have so many workers.
pub(super) fn check_count(worker_count: usize) -> Result<(), Error> {
    let message = match worker_count {
        0 => "a pool of 0 workers cannot run anything: ask for at least one".to_owned(),
        1..=MAX_WORKERS => return Ok(()),
        _ => format!("a pool of {worker_count} workers is too large: {MAX_WORKERS} are the most"),
    };
    Err(Error::new(ErrorKind::Spawn, message))
}
