//! The handle of what was submitted.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::core::Core;
use super::job::{Arrived, Job, Until, Watcher};
use super::map::{Feed, Gathered};
use super::promise::{Gather, Gathering, Promise};
use super::segment::{Segment, SegmentBuilder};
use crate::error::Error;
use crate::few::Few;
use crate::os::event_fd::EventFd;
use crate::os::thread::contained;
use crate::process::not_encoded;
use crate::registry::ProcessFn;

/// A call, or a map, that was submitted to a pool (`AsyncResult`).
///
/// Dropping it lets the work run on.
///
/// It is also a `Future` of its result, for any executor: it wakes the waker of the last poll, also
/// when the task is cancelled and when the pool ends. The waker is called by threads that serve
/// others, so it should do no more than wakers do. Once the result was taken, polling again gives
/// an error, [`Closed`](crate::error::ErrorKind::Closed), and nothing panics. Dropping the future lets the work
/// run on, as ever.
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
    promise: Arc<Promise<R>>,
}

/// Of a map.
struct Many<F: ProcessFn> {
    gathered: Option<Gathered<F>>,
}

impl<F: ProcessFn> Gather<Vec<F::Output>> for Many<F> {
    fn add(&mut self, arrived: Few<Arrived>) {
        if let Some(gathered) = &mut self.gathered {
            gathered.add(arrived);
        }
    }

    fn take(&mut self, is_complete: bool) -> Option<Result<Vec<F::Output>, Error>> {
        if let Some(error) = self.gathered.as_mut()?.error() {
            // What others have returned is dropped, and may panic.
            contained(|| self.gathered = None);
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
        core.submit_alone(&job, encode::<F>(core, &job, args)?)?;
        Ok(Task {
            core: Arc::clone(core),
            job,
            promise: Promise::new(Gathering::One(Job::read_only::<F>), core.callbacks()),
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
        if self.job.require_owner().is_ok() {
            self.core.wait_until(&self.job, Until::Finished, None);
        }
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
        match self.job.require_owner() {
            Ok(()) => {
                let deadline = Instant::now().checked_add(timeout);
                self.core.wait_until(&self.job, Until::Finished, deadline);
                self.is_finished()
            }
            Err(_) => self.is_finished(),
        }
    }

    /// Waits for the result and returns it, after the callbacks of [`on_done`](Task::on_done). What
    /// wakes it is the result, the death of the worker, and the end of the pool.
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
    /// [`WouldDeadlock`](crate::error::ErrorKind::WouldDeadlock) in a callback of this very task.
    #[doc(alias = "get")]
    pub fn join(self) -> Result<R, Error> {
        self.job.attend();
        self.promise.join(&self.core, &self.job)
    }

    /// Rings `bell` when its result is there; now if it is.
    pub(crate) fn ring_when_finished(&self, bell: &Arc<EventFd>) {
        self.tell_when_finished(Watcher::Bell(Arc::clone(bell)));
    }

    /// Whether its end can be waited for: in a fork of the program it does not come.
    pub(crate) fn require_waitable(&self) -> Result<(), Error> {
        match self.is_finished() {
            true => Ok(()),
            false => self.job.require_owner(),
        }
    }

    pub(super) fn tell_when_finished(&self, watcher: Watcher) {
        self.job.tell_when_finished(watcher);
    }

    /// Does not ring `bell` any more.
    pub(crate) fn forget(&self, bell: &Arc<EventFd>) {
        self.job.forget(bell);
    }

    /// Cancels it; tells whether there was anything left to cancel. What is queued never runs. What
    /// is running is stopped: its worker is killed and replaced. The result is then
    /// [`Cancelled`](crate::error::ErrorKind::Cancelled).
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

impl<R: Send + 'static> Task<R> {
    /// Has `callback` called once with the result, when it is there; soon if it is already. This
    /// also happens when the task has been dropped, and also when the result is an error: of a
    /// worker's death, of a cancelled task, of a pool that was terminated. For a map it is the
    /// whole vector, or the first error in the order of the items, as soon as it is known to be the
    /// first.
    ///
    /// There may be any number of callbacks, called in the order in which they were added. They are
    /// called on a thread of the pool that has nothing else to do, one at a time, so that one that
    /// takes long delays those of other tasks; or, if none of the task's was called by then, on the
    /// thread that [joins](Task::join) the task or polls it to its end. `join` and the future
    /// return when they are through; [`wait`](Task::wait) and [`is_finished`](Task::is_finished)
    /// know nothing of them. A callback may submit more, wait for other tasks, and drop, close or
    /// terminate the pool; one that panics harms nobody, and the result is still there.
    ///
    /// [`Pool::join`](super::Pool::join) returns when all callbacks of its tasks have; terminating
    /// or dropping a pool waits for none, and those of the cancelled tasks are called then. The end
    /// of the program waits for none either. Who adds one after the future has given the result
    /// away finds an error in its place, [`Closed`](crate::error::ErrorKind::Closed).
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let (results, received) = std::sync::mpsc::channel();
    /// for x in 0..3 {
    ///     let results = results.clone();
    ///     pool.submit(square, (x,))?.on_done(move |result| match result {
    ///         Ok(number) => results.send(*number).expect("the receiver is there"),
    ///         Err(error) => eprintln!("{error}"),
    ///     });
    /// }
    /// pool.join()?; // and all callbacks have returned
    /// assert_eq!(received.try_iter().sum::<i64>(), 5);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "callback")]
    #[doc(alias = "error_callback")]
    #[doc(alias = "add_done_callback")]
    pub fn on_done(&self, callback: impl FnOnce(&Result<R, Error>) + Send + 'static) {
        self.promise.on_done(&self.job, callback);
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
        let gather = Many::<F> {
            gathered: Some(Gathered::new(job.reader())),
        };
        Ok(Task {
            core: Arc::clone(core),
            job,
            promise: Promise::new(Gathering::Many(Box::new(gather)), core.callbacks()),
        })
    }
}

/// Calls once, waits and returns the result. This thread attends from before the call is given to a
/// worker.
pub(super) fn apply<F: ProcessFn>(
    core: &Arc<Core>,
    job: &Arc<Job>,
    args: F::Args,
) -> Result<F::Output, Error> {
    let segment = encode::<F>(core, job, args)?;
    job.attend();
    let mut attendance = core.has_rings().then(|| core.attend());
    core.submit_alone(job, segment)?;
    let mut result = None;
    loop {
        job.require_owner()?;
        let arrivals = match attendance.take() {
            Some(attendance) => core.wait_take_on(job, attendance),
            None => core.wait_take(job),
        };
        for arrived in arrivals.outcomes {
            result = job.read_only::<F>(arrived);
        }
        if let Some(result) = result {
            return result;
        }
    }
}

/// The arguments of a single call.
fn encode<F: ProcessFn>(core: &Core, job: &Job, args: F::Args) -> Result<Arc<Segment>, Error> {
    thread_local! {
        /// Memory that few arguments need for a moment.
        static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    let mut builder = SegmentBuilder::reusing(buffer, core.bulk_place());
    builder
        .push::<F>(0, args)
        .map_err(|error| not_encoded(job.function, job.place(0), &error))?;
    let segment = builder.take();
    // A thread that ends has no place for it any more.
    let _ = BUFFER.try_with(|place| place.set(builder.into_buffer()));
    Ok(segment)
}

impl<R> Future for Task<R> {
    type Output = Result<R, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<R, Error>> {
        self.promise.poll(&self.job, context)
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
