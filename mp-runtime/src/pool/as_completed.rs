//! The results of several tasks in the order in which they come.
//!
//! Each task tells one list its place when it is finished, once, and whoever iterates takes the
//! places from there. So each costs the same, however many there are. Nothing is told to forget: a
//! list that nobody reads any more goes with the last task that knows it.

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Task;
use super::job::Watcher;
use crate::error::Error;
use crate::os::identity::process_id;

/// The places of tasks that are finished.
#[derive(Default)]
pub(super) struct Finished {
    state: Mutex<State>,
    /// Notified when one comes and somebody waits for it.
    came: Condvar,
}

#[derive(Default)]
struct State {
    places: VecDeque<usize>,
    is_waiting: bool,
}

impl Finished {
    /// One is finished. It is quick, since its caller serves others.
    pub(super) fn add(&self, place: usize) {
        let mut state = self.state();
        state.places.push_back(place);
        let is_waiting = std::mem::take(&mut state.is_waiting);
        drop(state);
        if is_waiting {
            self.came.notify_one();
        }
    }

    /// The next one that is finished, if there is one.
    fn try_next(&self) -> Option<usize> {
        self.state().places.pop_front()
    }

    /// The next one that is finished; waits until there is one.
    fn next(&self) -> usize {
        let mut state = self.state();
        loop {
            if let Some(place) = state.places.pop_front() {
                return place;
            }
            state.is_waiting = true;
            state = self
                .came
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The results of `tasks` in the order in which they finish; those that are finished already come
/// first (`concurrent.futures.as_completed`).
///
/// The tasks may be of several pools. To know which one a result is of, let the function return
/// what tells, or wait with [`wait_any`](crate::wait::wait_any).
///
/// ```
/// # #[mp::process_fn]
/// # fn square(x: i64) -> i64 { x * x }
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// # let pool = mp::Pool::new(2)?;
/// let tasks = (0..4).map(|x| pool.submit(square, (x,))).collect::<Result<Vec<_>, _>>()?;
/// let mut sum = 0;
/// for result in mp::as_completed(tasks) {
///     sum += result?;
/// }
/// assert_eq!(sum, 14);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "FuturesUnordered")]
pub fn as_completed<R>(tasks: impl IntoIterator<Item = Task<R>>) -> AsCompleted<R> {
    AsCompleted::new(tasks.into_iter().map(Some).collect())
}

/// What [`as_completed`] returns. `next` blocks until another task is finished, and
/// then as [`Task::join`] does. Dropping this lets the rest run on.
///
/// ```
/// # #[mp::process_fn]
/// # fn square(x: i64) -> i64 { x * x }
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// # let pool = mp::Pool::new(2)?;
/// let tasks = [pool.submit(square, (3,))?, pool.submit(square, (4,))?];
/// let mut results = mp::as_completed(tasks);
/// assert_eq!(results.len(), 2);
/// let first = results.next().transpose()?;
/// assert!(first == Some(9) || first == Some(16));
/// # Ok(())
/// # }
/// ```
#[must_use = "iterators do nothing before they are asked"]
pub struct AsCompleted<R> {
    /// Each until it is finished.
    tasks: Vec<Option<Task<R>>>,
    finished: Arc<Finished>,
    left: usize,
    /// The process that waits.
    process_id: u32,
}

impl<R> AsCompleted<R> {
    fn new(tasks: Vec<Option<Task<R>>>) -> AsCompleted<R> {
        let finished = Arc::new(Finished::default());
        for (place, task) in tasks.iter().enumerate() {
            match task {
                Some(task) if task.require_waitable().is_ok() => {
                    task.tell_when_finished(Watcher::Finished(Arc::clone(&finished), place));
                }
                _ => finished.add(place),
            }
        }
        AsCompleted {
            left: tasks.len(),
            tasks,
            finished,
            process_id: process_id(),
        }
    }
}

impl<R> Iterator for AsCompleted<R> {
    type Item = Result<R, Error>;

    fn next(&mut self) -> Option<Result<R, Error>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let place = match self.finished.try_next() {
            Some(place) => place,
            // In a fork of the program no more come: their `join` says so.
            None if process_id() != self.process_id => {
                self.tasks.iter().position(Option::is_some)?
            }
            None => self.finished.next(),
        };
        self.tasks.get_mut(place)?.take().map(Task::join)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<R> ExactSizeIterator for AsCompleted<R> {}

impl<R> FusedIterator for AsCompleted<R> {}

impl<R> fmt::Debug for AsCompleted<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
