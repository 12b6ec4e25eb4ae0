//! One call of the pool's methods, and the results that have come for it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::options::TaskOptions;
use crate::error::Error;
use crate::os::event_fd::EventFd;
use crate::process::Answer;
use crate::registry::{Catalogue, ProcessFn};

/// A chunk that took less than this could have been larger: sending it cost as much as running it.
const SHORT_CHUNK: Duration = Duration::from_micros(500);
/// A chunk that took longer than this should be smaller, so that workers end together.
const LONG_CHUNK: Duration = Duration::from_millis(4);
/// The largest chunk.
const MAX_CHUNK: usize = 1 << 14;

/// How items are put into chunks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chunking {
    /// So many each.
    Fixed(usize),
    /// As many as are worth a message, found while they run.
    Automatic,
}

/// What happened to an item.
pub(super) type Outcome = Result<Answer, Error>;

/// A job as the pool sees it.
pub(super) struct Job {
    /// A number that no other job of this process has.
    pub(super) key: u64,
    pub(super) function: &'static crate::registry::Function,
    /// Its number on the wire.
    pub(super) function_number: u32,
    pub(super) chunking: Chunking,
    pub(super) timeout: Option<Duration>,
    pub(super) retries: u32,
    /// Whether errors tell the place of the item.
    is_mapped: bool,
    chunk_size: AtomicUsize,
    results: Mutex<Results>,
    arrived: Condvar,
}

#[derive(Default)]
struct Results {
    queue: VecDeque<(usize, Outcome)>,
    /// How many have arrived in all.
    count: usize,
    /// How many will, once that is known.
    expected: Option<usize>,
    waker: Option<Waker>,
    /// Rung when the last one has arrived.
    bells: Vec<Arc<EventFd>>,
}

/// What was taken of a job's results.
pub(super) struct Arrivals {
    pub(super) outcomes: VecDeque<(usize, Outcome)>,
    /// Whether these are the last ones.
    pub(super) are_last: bool,
}

impl Results {
    fn is_complete(&self) -> bool {
        self.expected == Some(self.count)
    }

    fn take(&mut self) -> Arrivals {
        Arrivals {
            outcomes: std::mem::take(&mut self.queue),
            are_last: self.is_complete(),
        }
    }
}

impl Job {
    pub(super) fn new<F: ProcessFn>(
        options: &TaskOptions,
        chunking: Chunking,
        is_mapped: bool,
        pool_defaults: &TaskOptions,
    ) -> Result<Job, Error> {
        static JOBS: AtomicU64 = AtomicU64::new(0);
        let function = F::__function();
        let timeout = options
            .timeout
            .or(function.timeout)
            .or(pool_defaults.timeout);
        let retries = options
            .retries
            .or(function.retries)
            .or(pool_defaults.retries);
        Ok(Job {
            key: JOBS.fetch_add(1, Ordering::Relaxed),
            function,
            function_number: Catalogue::get()?.number(function).unwrap_or(u32::MAX),
            chunking,
            timeout,
            retries: retries.unwrap_or(0),
            is_mapped,
            chunk_size: AtomicUsize::new(1),
            results: Mutex::default(),
            arrived: Condvar::new(),
        })
    }

    /// The place of an item as its errors tell it.
    pub(super) fn place(&self, number: usize) -> Option<usize> {
        self.is_mapped.then_some(number)
    }

    /// How many items the next chunk may have, of the `waiting` ones.
    pub(super) fn chunk_size(&self, waiting: usize, workers: usize) -> usize {
        match self.chunking {
            Chunking::Fixed(size) => size,
            Chunking::Automatic => {
                let fair = waiting / (2 * workers.max(1));
                self.chunk_size.load(Ordering::Relaxed).min(fair).max(1)
            }
        }
    }

    /// Learns from a chunk of `items` that took so long, from its sending to its end.
    pub(super) fn learn(&self, items: usize, took: Duration) {
        let size = self.chunk_size.load(Ordering::Relaxed);
        let better = if took < SHORT_CHUNK && items >= size {
            (size * 4).min(MAX_CHUNK)
        } else if took > LONG_CHUNK {
            (size / 2).max(1)
        } else {
            size
        };
        self.chunk_size.store(better, Ordering::Relaxed);
    }

    /// Says how many results there will be.
    pub(super) fn expect(&self, count: usize) {
        self.results().expected = Some(count);
        self.wake();
    }

    /// Brings results to whoever waits.
    pub(super) fn deliver(&self, outcomes: impl IntoIterator<Item = (usize, Outcome)>) {
        let mut results = self.results();
        let before = results.count;
        for outcome in outcomes {
            results.count += 1;
            results.queue.push_back(outcome);
        }
        let arrived = results.count > before;
        drop(results);
        if arrived {
            self.wake();
        }
    }

    fn wake(&self) {
        let mut results = self.results();
        let waker = results.waker.take();
        let bells = match results.is_complete() {
            true => std::mem::take(&mut results.bells),
            false => Vec::new(),
        };
        drop(results);
        self.arrived.notify_all();
        bells.iter().for_each(|bell| bell.ring());
        if let Some(waker) = waker {
            crate::os::thread::contained(|| waker.wake());
        }
    }

    /// Takes what has arrived.
    pub(super) fn take(&self) -> Arrivals {
        self.results().take()
    }

    /// Waits until something has arrived, or will not any more, and takes it.
    pub(super) fn wait_take(&self) -> Arrivals {
        let mut results = self.results();
        while results.queue.is_empty() && !results.is_complete() {
            results = self
                .arrived
                .wait(results)
                .unwrap_or_else(PoisonError::into_inner);
        }
        results.take()
    }

    /// Takes what has arrived, and has `waker` woken when more does.
    pub(super) fn poll_take(&self, waker: &Waker) -> Arrivals {
        let waker = waker.clone();
        let mut results = self.results();
        let before = results.waker.replace(waker);
        let arrivals = results.take();
        drop(results);
        // Dropping a waker may run code of the program.
        drop(before);
        arrivals
    }

    /// Whether every result has arrived.
    pub(super) fn is_finished(&self) -> bool {
        self.results().is_complete()
    }

    /// Rings `bell` when every result has arrived; now if they have.
    pub(super) fn ring_when_finished(&self, bell: &Arc<EventFd>) {
        let mut results = self.results();
        match results.is_complete() {
            true => bell.ring(),
            false => results.bells.push(Arc::clone(bell)),
        }
    }

    /// Does not ring `bell` any more.
    pub(super) fn forget(&self, bell: &Arc<EventFd>) {
        let mut results = self.results();
        results.bells.retain(|other| !Arc::ptr_eq(other, bell));
    }

    /// Waits until every result has arrived or `deadline` has come; tells whether they have.
    pub(super) fn wait_finished(&self, deadline: Option<Instant>) -> bool {
        let mut results = self.results();
        while !results.is_complete() {
            results = match deadline {
                None => self
                    .arrived
                    .wait(results)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    let woken = self.arrived.wait_timeout(results, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }

    fn results(&self) -> MutexGuard<'_, Results> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
