//! How to make a pool.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::core::{Config, Core};
use super::{Pool, TaskOptions};
use crate::error::{Error, ErrorKind};
use crate::process::{check_name, cpu_count};

/// The most workers of a pool. Each is a process, and a thread and seven descriptors here.
const MAX_WORKERS: usize = 4096;

/// How many bytes of a worker's standard error are kept.
const STDERR_TAIL: usize = 4096;
/// And how many at most.
const MAX_STDERR_TAIL: usize = 1 << 20;

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
    tasks: TaskOptions,
    start_timeout: Option<Duration>,
    stderr_tail: usize,
}

impl PoolBuilder {
    pub(super) fn new() -> PoolBuilder {
        PoolBuilder {
            workers: None,
            name: None,
            tasks: TaskOptions::new(),
            start_timeout: None,
            stderr_tail: STDERR_TAIL,
        }
    }

    /// How many workers. Default: [`cpu_count`].
    pub fn workers(mut self, workers: usize) -> PoolBuilder {
        self.workers = Some(workers);
        self
    }

    /// Its name, in errors and in the names of its workers. Default: `Pool-1` and so on.
    pub fn name(mut self, name: impl Into<String>) -> PoolBuilder {
        self.name = Some(name.into());
        self
    }

    /// How long one call may run; see [`TaskOptions::timeout`]. Default: no limit.
    pub fn task_timeout(mut self, timeout: Duration) -> PoolBuilder {
        self.tasks = self.tasks.timeout(timeout);
        self
    }

    /// How often a call is tried again; see [`TaskOptions::retries`]. Default: 0.
    pub fn retries(mut self, retries: u32) -> PoolBuilder {
        self.tasks = self.tasks.retries(retries);
        self
    }

    /// How long a worker may take until it has come to [`init`](crate::process::init). Default: 30
    /// seconds.
    pub fn start_timeout(mut self, timeout: Duration) -> PoolBuilder {
        self.start_timeout = Some(timeout);
        self
    }

    /// How many bytes of the end of what a worker writes to standard error are kept for its error,
    /// [`Error::stderr`]; at most 1 MiB. Default: 4096.
    ///
    /// For that the standard error of a worker is a pipe, and no terminal: a program that asks
    /// (`std::io::IsTerminal`) will not colour it. A thread of this process writes what comes out to
    /// its own standard error: at once, in whole lines, and all of it before the error of a worker
    /// that dies is there. It takes a moment, so that what this process writes after a call has
    /// returned may stand before what the worker wrote in it. What a worker has started and left
    /// behind has nobody to write to when this process has ended.
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
    /// # Errors
    ///
    /// As for [`Pool::new`].
    pub fn build(self) -> Result<Pool, Error> {
        static POOLS: AtomicUsize = AtomicUsize::new(0);
        check_name(self.name.as_deref())?;
        let worker_count = self.workers.unwrap_or_else(cpu_count);
        if worker_count == 0 {
            let message = "a pool of 0 workers cannot run anything: ask for at least one";
            return Err(Error::new(ErrorKind::Spawn, message));
        }
        if worker_count > MAX_WORKERS {
            let message = format!(
                "a pool of {worker_count} workers is too large: {MAX_WORKERS} are the most"
            );
            return Err(Error::new(ErrorKind::Spawn, message));
        }
        let (name, has_own_name) = match self.name {
            Some(name) => (name, true),
            None => (
                format!("Pool-{}", POOLS.fetch_add(1, Ordering::Relaxed) + 1),
                false,
            ),
        };
        let core = Core::start(Config {
            name,
            has_own_name,
            worker_count,
            tasks: self.tasks,
            start_timeout: self.start_timeout,
            stderr_tail: (self.stderr_tail > 0).then_some(self.stderr_tail),
        })?;
        Ok(Pool { core })
    }
}
