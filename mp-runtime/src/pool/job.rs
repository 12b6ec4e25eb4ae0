//! One call of the pool's methods, and the results that have come for it.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::as_completed::Finished;
use super::core::{Core, of_another_process};
use super::dispatch::{AHEAD_NANOS, LIGHT_ITEMS};
use super::options::TaskOptions;
use super::progress::Meter;
use super::stats::Counters;
use crate::error::Error;
use crate::few::Few;
use crate::link::Link;
use crate::os::event_fd::EventFd;
use crate::os::identity::process_id;
use crate::process::Answers;
use crate::registry::{Catalogue, ProcessFn};
use crate::wire::{DecodeError, Decoder};

/// A chunk that took less than this could have been larger: sending it cost as much as running it.
const SHORT_CHUNK: Duration = Duration::from_micros(500);
/// A chunk that took longer than this should be smaller, so that workers end together.
const LONG_CHUNK: Duration = Duration::from_millis(4);
/// The largest chunk.
const MAX_CHUNK: usize = 1 << 14;

/// An item that takes less is short: passing it on costs about as much.
pub(super) const QUICK_NANOS: u32 = 20_000;

/// A chunk of quick items takes so long: a worker has several of them.
const QUICK_CHUNK_NANOS: u32 = AHEAD_NANOS / 4;

/// How items are put into chunks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chunking {
    /// So many each. If it is one, several chunks may go together.
    Fixed(usize),
    /// As many as are worth a message, found while they run.
    Automatic,
    /// One, or some of those that are known to be short, since who asks waits for the first of them.
    Lazy,
}

/// Short items are put into one call for about so long, ...
const LAZY_NANOS: u32 = 10_000;
/// ... and no more of them.
const MOST_LAZY: usize = 64;

/// What happened to an item, or to some in a row.
pub(super) enum Arrived {
    Failed(usize, Error),
    Done(Answers),
}

impl Arrived {
    /// One item, of which this became.
    pub(super) fn of(number: usize, outcome: Result<Answers, Error>) -> Arrived {
        match outcome {
            Ok(answers) => Arrived::Done(answers),
            Err(error) => Arrived::Failed(number, error),
        }
    }

    /// How many items it is about.
    pub(super) fn len(&self) -> usize {
        match self {
            Arrived::Failed(..) => 1,
            Arrived::Done(answers) => answers.len(),
        }
    }

    /// The number of the first of them.
    pub(super) fn number(&self) -> usize {
        match self {
            Arrived::Failed(number, _) => *number,
            Arrived::Done(answers) => answers.number(),
        }
    }

    /// Reads the first of what is left of them, and takes it off.
    #[inline]
    fn read_first<R>(
        &mut self,
        read: impl Fn(&mut Decoder<'_>) -> Result<R, DecodeError>,
        counters: &Counters,
    ) -> Option<(usize, Result<R, Error>)> {
        match self {
            Arrived::Failed(number, error) => Some((*number, Err(error.clone()))),
            Arrived::Done(answers) => {
                let first = answers.decode_first(read)?;
                if first.1.is_err() {
                    counters.recount();
                }
                Some(first)
            }
        }
    }

    /// Whether there are others, after the first was read.
    pub(super) fn has_more(&self) -> bool {
        matches!(self, Arrived::Done(answers) if answers.len() > 0)
    }
}

/// Who is told when a job is finished. Telling is quick and takes no lock of a job.
pub(super) enum Watcher {
    /// It is rung.
    Bell(Arc<EventFd>),
    /// It gets the place of the job among its tasks.
    Finished(Arc<Finished>, usize),
}

impl Watcher {
    fn tell(&self) {
        match self {
            Watcher::Bell(bell) => bell.ring(),
            Watcher::Finished(finished, place) => finished.add(*place),
        }
    }
}

/// What follows from a job's results, for whoever gets them or not.
pub(super) trait Follower: Send + Sync {
    /// Every result has arrived, or some have after an item failed. Called by the thread that
    /// delivers, which serves others: it has things done elsewhere.
    fn follow(self: Arc<Self>, job: &Arc<Job>);
}

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
    pub(super) is_mapped: bool,
    chunk_size: AtomicUsize,
    /// How many workers can compute at once.
    processors: usize,
    /// How long an item took lately, in nanoseconds; 0 where that is not known.
    pace: AtomicU32,
    results: Mutex<Results>,
    arrived: Condvar,
    /// Where its progress is shown.
    meter: Option<Arc<Meter>>,
    /// Those of its pool.
    counters: Arc<Counters>,
    /// The process that waits for it.
    owner_id: u32,
}

/// Reads results of a function, and sees to it that those which cannot be read count as failed.
pub(super) struct Reader<F> {
    counters: Arc<Counters>,
    function: PhantomData<F>,
}

impl<F: ProcessFn> Reader<F> {
    /// Reads the first of what is left of some items, and takes it off.
    pub(super) fn read_first(
        &self,
        arrived: &mut Arrived,
    ) -> Option<(usize, Result<F::Output, Error>)> {
        arrived.read_first(F::__decode, &self.counters)
    }

    /// Reads each of some items.
    #[inline]
    pub(super) fn read_each(
        &self,
        arrived: Arrived,
        mut take: impl FnMut(usize, Result<F::Output, Error>),
    ) {
        match arrived {
            Arrived::Failed(number, error) => take(number, Err(error)),
            Arrived::Done(answers) => answers.decode(F::__decode, |number, result| {
                if result.is_err() {
                    self.counters.recount();
                }
                take(number, result);
            }),
        }
    }
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// There is something to take, or never will be any more.
    News,
    /// Every result has arrived.
    Finished,
}

#[derive(Default)]
struct Results {
    queue: Few<Arrived>,
    /// How many items have arrived in all.
    count: usize,
    /// How many will, once that is known.
    expected: Option<usize>,
    /// Whether an item has failed, as far as that is known without decoding.
    has_failed: bool,
    waker: Option<Waker>,
    /// How many threads wait for it without a worker to look at.
    waiting: usize,
    /// Where those sleep who wait for it at the ring of a worker, once for each.
    sleep_at: Vec<Arc<Link>>,
    /// Told when the last one has arrived.
    watchers: Vec<Watcher>,
    follower: Option<Arc<dyn Follower>>,
}

/// What was taken of a job's results.
pub(super) struct Arrivals {
    pub(super) outcomes: Few<Arrived>,
    /// Whether these are the last ones.
    pub(super) are_last: bool,
}

impl Results {
    fn is_complete(&self) -> bool {
        self.expected == Some(self.count)
    }

    fn are(&self, until: Until) -> bool {
        self.is_complete() || until == Until::News && !self.queue.is_empty()
    }

    /// Whether there may be something for a follower to do.
    fn may_decide(&self) -> bool {
        self.is_complete() || self.has_failed
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
        core: &Core,
        options: &TaskOptions,
        chunking: Chunking,
        is_mapped: bool,
        meter: Option<Arc<Meter>>,
    ) -> Result<Job, Error> {
        static JOBS: AtomicU64 = AtomicU64::new(0);
        let (function, pool_defaults) = (F::__function(), &core.config.tasks);
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
            processors: core.processors,
            pace: AtomicU32::new(0),
            results: Mutex::default(),
            arrived: Condvar::new(),
            meter,
            counters: Arc::clone(&core.counters),
            owner_id: core.owner_id,
        })
    }

    /// What reads its results, which are those of `F`.
    pub(super) fn reader<F: ProcessFn>(&self) -> Reader<F> {
        Reader {
            counters: Arc::clone(&self.counters),
            function: PhantomData,
        }
    }

    /// Reads the only result, which is one of `F`.
    pub(super) fn read_only<F: ProcessFn>(
        &self,
        mut arrived: Arrived,
    ) -> Option<Result<F::Output, Error>> {
        let (_, result) = arrived.read_first(F::__decode, &self.counters)?;
        Some(result)
    }

    /// Whether anything can come of waiting for it: in a fork of the program nothing does.
    pub(super) fn require_owner(&self) -> Result<(), Error> {
        match process_id() == self.owner_id {
            true => Ok(()),
            false => {
                let call = format!("a call of `{}`", self.function.name);
                Err(of_another_process(&call, self.owner_id))
            }
        }
    }

    /// The place of an item as its errors tell it.
    pub(super) fn place(&self, number: usize) -> Option<usize> {
        self.is_mapped.then_some(number)
    }

    /// Whether its chunks stay as they are: somebody asked for their size.
    pub(super) fn has_own_chunks(&self) -> bool {
        matches!(self.chunking, Chunking::Fixed(2..))
    }

    /// Whether somebody waits for each of its results, and not for all of them.
    pub(super) fn wants_each(&self) -> bool {
        !self.is_mapped || !matches!(self.chunking, Chunking::Automatic)
    }

    /// How many items the next chunk may have, of the `waiting` ones.
    pub(super) fn chunk_size(&self, waiting: usize, workers: usize) -> usize {
        match self.chunking {
            Chunking::Fixed(size) => size,
            Chunking::Automatic if self.is_quick() => {
                let pace = self.pace.load(Ordering::Relaxed).max(1);
                let most = ((QUICK_CHUNK_NANOS / pace) as usize).min(LIGHT_ITEMS);
                // No more workers than can compute at once get something.
                let fair = waiting / (2 * workers.clamp(1, self.processors));
                fair.min(most).max(1)
            }
            Chunking::Automatic => {
                let fair = waiting / (2 * workers.max(1));
                self.chunk_size.load(Ordering::Relaxed).min(fair).max(1)
            }
            Chunking::Lazy => match self.pace.load(Ordering::Relaxed) {
                0 => 1,
                pace => {
                    let fair = (waiting / workers.clamp(1, self.processors)).min(MOST_LAZY);
                    ((LAZY_NANOS / pace) as usize).min(fair).max(1)
                }
            },
        }
    }

    /// Notes that an item takes so long lately.
    pub(super) fn note_pace(&self, nanos: u32) {
        self.pace.store(nanos, Ordering::Relaxed);
    }

    /// How long so many quick items take about, if they are.
    pub(super) fn quick_time(&self, items: usize, workers: usize) -> Option<Duration> {
        let pace = self.is_quick().then(|| self.pace.load(Ordering::Relaxed))?;
        let nanos = u64::from(pace) * items as u64 / workers.clamp(1, self.processors) as u64;
        Some(Duration::from_nanos(nanos))
    }

    /// Whether its items are known to be short.
    pub(super) fn is_quick(&self) -> bool {
        (1..QUICK_NANOS).contains(&self.pace.load(Ordering::Relaxed))
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

    /// Says that there will be one result, before anybody knows of the job.
    pub(super) fn expect_one(&self) {
        self.results().expected = Some(1);
    }

    /// Says how many results there will be.
    pub(super) fn expect(self: &Arc<Self>, count: usize) {
        if let Some(meter) = &self.meter {
            meter.expect(count);
        }
        let mut results = self.results();
        results.expected = Some(count);
        self.wake(results);
    }

    /// Brings results to whoever waits.
    pub(super) fn deliver(self: &Arc<Self>, arrived: impl IntoIterator<Item = Arrived>) {
        let arrived = arrived.into_iter();
        if self.meter.is_none() {
            self.deliver_all(arrived, 0);
            return;
        }
        let arrived: Vec<Arrived> = arrived.collect();
        let count = arrived.iter().map(Arrived::len).sum();
        self.deliver_all(arrived.into_iter(), count);
    }

    fn deliver_all(self: &Arc<Self>, arrived: impl Iterator<Item = Arrived>, count: usize) {
        // Before anybody can take them, who shall find the progress up to date afterwards.
        if let Some(meter) = &self.meter {
            meter.count(count);
        }
        let mut results = self.results();
        let before = results.count;
        for arrived in arrived {
            results.count += arrived.len();
            results.has_failed |= matches!(arrived, Arrived::Failed(..));
            results.queue.push(arrived);
        }
        if results.count == before {
            return;
        }
        self.wake(results);
        if let Some(meter) = &self.meter {
            meter.show_later();
        }
    }

    fn wake(self: &Arc<Self>, mut results: MutexGuard<'_, Results>) {
        let waker = results.waker.take();
        let sleep_at = std::mem::take(&mut results.sleep_at);
        let is_complete = results.is_complete();
        let watchers = match is_complete {
            true => std::mem::take(&mut results.watchers),
            false => Vec::new(),
        };
        let follower = match is_complete {
            true => results.follower.take(),
            false if results.has_failed => results.follower.clone(),
            false => None,
        };
        let has_waiters = results.waiting > 0;
        drop(results);
        // Telling nobody would be a system call all the same.
        if has_waiters {
            self.arrived.notify_all();
        }
        sleep_at.iter().for_each(|link| link.wake_waiters());
        watchers.iter().for_each(Watcher::tell);
        if let Some(follower) = follower {
            // It may be the last that has a value of the program's, which is dropped then.
            crate::os::thread::contained(|| follower.follow(self));
        }
        if let Some(waker) = waker {
            crate::os::thread::contained(|| waker.wake());
        }
    }

    /// Has `follower` follow what comes from now on, unless there is one. Tells whether something
    /// has come before that it should follow.
    pub(super) fn followed_by(&self, follower: Arc<dyn Follower>) -> bool {
        let mut results = self.results();
        if !results.is_complete() {
            results.follower.get_or_insert(follower);
        }
        results.may_decide()
    }

    /// The one who takes the results shows the progress, too, as far as it takes them.
    pub(super) fn attend(&self) {
        if let Some(meter) = &self.meter {
            meter.attend();
        }
    }

    /// Whoever has taken results calls this, without a lock.
    fn show_progress(&self) {
        if let Some(meter) = &self.meter {
            meter.show();
        }
    }

    /// Takes what has arrived.
    pub(super) fn take(&self) -> Arrivals {
        let arrivals = self.results().take();
        self.show_progress();
        arrivals
    }

    /// Takes what has arrived, if anything has, or nothing will any more.
    pub(super) fn try_take(&self) -> Option<Arrivals> {
        let mut results = self.results();
        if !results.are(Until::News) {
            return None;
        }
        let arrivals = results.take();
        drop(results);
        self.show_progress();
        Some(arrivals)
    }

    /// Waits until this is so, or `deadline` has come.
    pub(super) fn wait(&self, until: Until, deadline: Option<Instant>) {
        let mut results = self.results();
        results.waiting += 1;
        while !results.are(until) {
            results = match deadline {
                None => self
                    .arrived
                    .wait(results)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    let woken = self.arrived.wait_timeout(results, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        results.waiting -= 1;
    }

    /// Sleeps at a worker's ring until this is so, or the worker has put something there, or
    /// `deadline` has come. Tells whether it could sleep there.
    pub(super) fn sleep_at(
        &self,
        link: &Arc<Link>,
        until: Until,
        deadline: Option<Instant>,
    ) -> bool {
        let mut results = self.results();
        if results.are(until) {
            return true;
        }
        results.sleep_at.push(Arc::clone(link));
        drop(results);
        let limit = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let has_slept = link.sleep(limit, || self.is(until));
        // Another one who waits for it may sleep on.
        let mut results = self.results();
        let own = results
            .sleep_at
            .iter()
            .position(|other| Arc::ptr_eq(other, link));
        let own = own.map(|own| results.sleep_at.swap_remove(own));
        drop(results);
        drop(own);
        has_slept
    }

    /// Whether this is so.
    pub(super) fn is(&self, until: Until) -> bool {
        self.results().are(until)
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
        self.show_progress();
        arrivals
    }

    /// Whether every result has arrived.
    pub(super) fn is_finished(&self) -> bool {
        self.results().is_complete()
    }

    /// Tells `watcher` when every result has arrived; now if they have.
    pub(super) fn tell_when_finished(&self, watcher: Watcher) {
        let mut results = self.results();
        if !results.is_complete() {
            results.watchers.push(watcher);
            return;
        }
        drop(results);
        watcher.tell();
    }

    /// Does not ring `bell` any more.
    pub(super) fn forget(&self, bell: &Arc<EventFd>) {
        let is_other = |watcher: &Watcher| match watcher {
            Watcher::Bell(other) => !Arc::ptr_eq(other, bell),
            Watcher::Finished(..) => true,
        };
        self.results().watchers.retain(is_other);
    }

    fn results(&self) -> MutexGuard<'_, Results> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
