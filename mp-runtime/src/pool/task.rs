//! The handle of what was submitted.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::core::Core;
use super::job::{Job, Outcome};
use super::map::{Feed, Gathered};
use crate::error::{Error, ErrorKind};
use crate::os::event_fd::EventFd;
use crate::registry::ProcessFn;
use crate::wire::{DecodeError, Decoder};

/// A call, or a map, that was submitted to a pool (`AsyncResult`).
///
/// It is also a `Future` of its result, for any executor. Dropping it lets the work run on.
///
/// ```
/// # #[mp::process_fn]
/// # fn square(x: i64) -> i64 { x * x }
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// # let pool = mp::Pool::new(2)?;
/// let task = pool.submit(square, (12,))?;
/// assert_eq!(task.join()?, 144);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "AsyncResult")]
pub struct Task<R> {
    core: Arc<Core>,
    job: Arc<Job>,
    gather: Box<dyn Gather<R>>,
}

/// Makes a result of what arrives.
trait Gather<R>: Send {
    fn add(&mut self, arrived: VecDeque<(usize, Outcome)>);
    /// The result, once what has arrived decides it.
    fn take(&mut self, is_complete: bool) -> Option<Result<R, Error>>;
}

/// Of a single call.
struct One<R> {
    result: Option<Result<R, Error>>,
    decode: fn(&mut Decoder<'_>) -> Result<R, DecodeError>,
}

impl<R: Send> Gather<R> for One<R> {
    fn add(&mut self, arrived: VecDeque<(usize, Outcome)>) {
        for (_, outcome) in arrived {
            self.result = Some(outcome.and_then(|answer| answer.decode(self.decode)));
        }
    }

    fn take(&mut self, _is_complete: bool) -> Option<Result<R, Error>> {
        self.result.take()
    }
}

/// Of a map.
struct Many<R> {
    gathered: Option<Gathered<R>>,
}

impl<R: Send> Gather<Vec<R>> for Many<R> {
    fn add(&mut self, arrived: VecDeque<(usize, Outcome)>) {
        if let Some(gathered) = &mut self.gathered {
            gathered.add(arrived);
        }
    }

    fn take(&mut self, is_complete: bool) -> Option<Result<Vec<R>, Error>> {
        if let Some(error) = self.gathered.as_mut()?.error() {
            self.gathered = None;
            return Some(Err(error));
        }
        if !is_complete {
            return None;
        }
        self.gathered
            .take()
            .map(|gathered| Ok(gathered.into_results()))
    }
}

impl<R> Task<R> {
    pub(super) fn of_one<F: ProcessFn<Output = R>>(
        core: &Arc<Core>,
        job: Arc<Job>,
        args: F::Args,
    ) -> Result<Task<R>, Error>
    where
        R: Send + 'static,
    {
        let mut feed = Feed::open(core, Arc::clone(&job), false)?;
        feed.push::<F>(args);
        feed.finish();
        // What could not be encoded is known by now, and is the caller's to know at once.
        let mut gather = One {
            result: None,
            decode: F::__decode,
        };
        gather.add(job.take().outcomes);
        if let Some(Err(error)) = gather.result.take_if(|result| is_encode_error(result)) {
            return Err(error);
        }
        Ok(Task {
            core: Arc::clone(core),
            job,
            gather: Box::new(gather),
        })
    }

    /// Whether its result is there, so that [`join`](Task::join) does not wait.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let task = pool.submit(square, (12,))?;
    /// task.wait();
    /// assert!(task.is_finished());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "ready")]
    pub fn is_finished(&self) -> bool {
        self.job.is_finished()
    }

    /// Waits until its result is there. The result stays where it is.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let task = pool.submit(square, (12,))?;
    /// task.wait();
    /// assert_eq!(task.join()?, 144);
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait(&self) {
        self.job.wait_finished(None);
    }

    /// Waits until its result is there, at most so long; tells whether it is.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let task = pool.submit(square, (12,))?;
    /// while !task.wait_timeout(std::time::Duration::from_millis(10)) {
    ///     println!("still at it");
    /// }
    /// assert_eq!(task.join()?, 144);
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.job.wait_finished(Instant::now().checked_add(timeout))
    }

    /// Waits for the result and returns it. What wakes it is the result, the death of the worker,
    /// and the end of the pool.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let task = pool.submit(square, (12,))?;
    /// assert_eq!(task.join()?, 144);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Whatever kept the call from returning; for a map, the first error in the order of the items.
    #[doc(alias = "get")]
    pub fn join(mut self) -> Result<R, Error> {
        let mut arrivals = self.job.take();
        loop {
            self.gather.add(arrivals.outcomes);
            if let Some(result) = self.gather.take(arrivals.are_last) {
                return result;
            }
            if arrivals.are_last {
                return Err(taken());
            }
            arrivals = self.job.wait_take();
        }
    }

    /// Rings `bell` when its result is there; now if it is.
    pub(crate) fn ring_when_finished(&self, bell: &Arc<EventFd>) {
        self.job.ring_when_finished(bell);
    }

    /// Does not ring `bell` any more.
    pub(crate) fn forget(&self, bell: &Arc<EventFd>) {
        self.job.forget(bell);
    }

    /// Cancels it; tells whether there was anything left to cancel. What is queued never runs. What
    /// is running is stopped: its worker is killed and replaced. The result is then
    /// [`Cancelled`](ErrorKind::Cancelled).
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn spin() { loop { std::hint::spin_loop() } }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let task = pool.submit(spin, ())?;
    /// assert!(task.cancel());
    /// assert_eq!(task.join().unwrap_err().kind(), mp::ErrorKind::Cancelled);
    /// # Ok(())
    /// # }
    /// ```
    pub fn cancel(&self) -> bool {
        self.core.cancel(&self.job)
    }
}

impl<R: Send + 'static> Task<Vec<R>> {
    pub(super) fn of_many<F: ProcessFn<Output = R>>(
        core: &Arc<Core>,
        job: Arc<Job>,
        items: impl Iterator<Item = F::Args>,
    ) -> Result<Task<Vec<R>>, Error> {
        let mut feed = Feed::open(core, Arc::clone(&job), false)?;
        for args in items {
            feed.push::<F>(args);
        }
        feed.finish();
        let gather = Many {
            gathered: Some(Gathered::new(F::__decode)),
        };
        Ok(Task {
            core: Arc::clone(core),
            job,
            gather: Box::new(gather),
        })
    }
}

fn is_encode_error<R>(result: &Result<R, Error>) -> bool {
    result
        .as_ref()
        .is_err_and(|error| error.kind() == ErrorKind::Encode && error.process_id().is_none())
}

fn taken() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the result of this task was taken already",
    )
}

impl<R> Future for Task<R> {
    type Output = Result<R, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<R, Error>> {
        let arrivals = self.job.poll_take(context.waker());
        self.gather.add(arrivals.outcomes);
        match self.gather.take(arrivals.are_last) {
            Some(result) => Poll::Ready(result),
            None if arrivals.are_last => Poll::Ready(Err(taken())),
            None => Poll::Pending,
        }
    }
}

impl<R> fmt::Debug for Task<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("function", &self.job.function.name)
            .field("is_finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}
