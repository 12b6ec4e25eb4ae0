//! Feeding items to a pool, and gathering all results in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use super::Backend;
use super::core::Core;
use super::job::{Arrived, Chunking, Job, Reader};
use super::segment::{Segment, SegmentBuilder};
use crate::error::Error;
use crate::process::not_encoded;
use crate::registry::ProcessFn;

/// The most items of a segment whose chunks are cut as they go.
const MAX_SEGMENT: usize = 4096;
/// So many chunks are put in at once, at most.
const MOST_AT_ONCE: usize = 128;
/// `map` pulls no further while so many items are on their way, ...
const WINDOW_ITEMS: usize = 1 << 16;
/// ... or so many bytes.
const WINDOW_BYTES: usize = 64 << 20;

/// Encodes the items of a job and submits them in segments. Dropping it ends the feed.
pub(super) struct Feed {
    core: Arc<Core>,
    job: Arc<Job>,
    builder: SegmentBuilder,
    /// How many items were pushed, ...
    pub(super) count: usize,
    /// ... and how many results were taken by whoever wants them.
    pub(super) consumed: usize,
    segment_size: usize,
    /// Segments that may still be in use, and their bytes.
    live: VecDeque<(Weak<Segment>, usize)>,
    live_bytes: usize,
    /// The pool takes no more: items that were refused have come back as errors.
    pub(super) is_refused: bool,
    /// Its consumer decides when it goes on.
    is_lazy: bool,
    is_open: bool,
}

impl Feed {
    /// Begins to feed a job; a lazy feed goes on when its consumer wants more.
    pub(super) fn open(core: &Arc<Core>, job: Arc<Job>, is_lazy: bool) -> Result<Feed, Error> {
        core.open_feed(&job, is_lazy)?;
        Ok(Feed {
            core: Arc::clone(core),
            job,
            builder: SegmentBuilder::new(core.bulk_place()),
            count: 0,
            consumed: 0,
            segment_size: 1,
            live: VecDeque::new(),
            live_bytes: 0,
            is_refused: false,
            is_lazy,
            is_open: true,
        })
    }

    /// Adds an item; tells whether a segment was submitted with it. An item that cannot be encoded
    /// is delivered as that error.
    #[inline]
    pub(super) fn push<F: ProcessFn>(&mut self, args: F::Args) -> bool {
        let number = self.count;
        let encoded = self.builder.push::<F>(number, args);
        self.count += 1;
        if let Err(error) = encoded {
            let place = self.job.place(number);
            let error = not_encoded(self.job.function, place, &error);
            // What follows it does not follow what is before it.
            self.flush();
            let failed = Arrived::Failed(number, error);
            self.core.deliver(&self.job, [failed]);
            return true;
        }
        let size = match self.job.chunking {
            // What one item comes to is known before the next one runs.
            _ if self.core.config.backend == Backend::Inline => 1,
            Chunking::Fixed(size) => size.saturating_mul(self.at_once()),
            Chunking::Lazy => self.at_once(),
            Chunking::Automatic => self.segment_size,
        };
        let is_full = self.builder.is_full(size);
        if is_full {
            self.flush();
        }
        is_full
    }

    /// How many chunks are put in at once: several while much is on its way, or has come and was not
    /// taken.
    fn at_once(&self) -> usize {
        match self.job.is_quick() {
            true => ((self.count - self.consumed) / 8).clamp(1, MOST_AT_ONCE),
            false => 1,
        }
    }

    /// Submits what was pushed.
    pub(super) fn flush(&mut self) {
        self.prune();
        if self.builder.is_empty() {
            return;
        }
        let segment = self.builder.take();
        // The first items go one by one, so that every worker has something at once.
        if self.job.is_quick() {
            self.segment_size = MAX_SEGMENT;
        } else if self.count >= self.core.worker_count() {
            self.segment_size = (self.segment_size * 2).min(MAX_SEGMENT);
        }
        let bytes = segment.byte_count();
        self.live_bytes += bytes;
        self.live.push_back((Arc::downgrade(&segment), bytes));
        self.is_refused |= self.core.submit(&self.job, segment, self.is_lazy).is_err();
        if self.job.is_quick() {
            self.core.attend_in_passing();
        }
    }

    /// Forgets segments that are done.
    fn prune(&mut self) {
        while let Some((segment, bytes)) = self.live.front()
            && segment.strong_count() == 0
        {
            self.live_bytes -= bytes;
            self.live.pop_front();
        }
    }

    /// Whether enough is on its way.
    fn is_ahead(&mut self) -> bool {
        if self.live_bytes >= WINDOW_BYTES {
            self.prune();
        }
        let ahead = self.count - self.consumed;
        ahead >= WINDOW_ITEMS
            || self.live_bytes >= WINDOW_BYTES && ahead >= 2 * self.core.worker_count()
    }

    /// There are no more items.
    pub(super) fn finish(&mut self) {
        self.flush();
        if std::mem::take(&mut self.is_open) {
            self.job.expect(self.count);
            self.core.close_feed(self.is_lazy);
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if std::mem::take(&mut self.is_open) {
            self.core.close_feed(self.is_lazy);
        }
    }
}

/// A job whose results somebody waits for. Dropping it abandons what has not come.
pub(super) struct Wanted {
    pub(super) core: Arc<Core>,
    pub(super) job: Arc<Job>,
}

impl Drop for Wanted {
    fn drop(&mut self) {
        if !self.job.is_finished() {
            self.core.abandon(&self.job);
        }
    }
}

/// Results on their way into a vector.
pub(super) struct Gathered<F: ProcessFn> {
    /// Those of the first items, as far as all have come.
    results: Vec<F::Output>,
    /// Those of later ones, by the number of the first of some in a row.
    later: BTreeMap<usize, Vec<F::Output>>,
    /// How many have come.
    pub(super) count: usize,
    first_error: Option<(usize, Error)>,
    reader: Reader<F>,
}

impl<F: ProcessFn> Gathered<F> {
    pub(super) fn new(reader: Reader<F>) -> Gathered<F> {
        Gathered {
            results: Vec::new(),
            later: BTreeMap::new(),
            count: 0,
            first_error: None,
            reader,
        }
    }

    pub(super) fn add(&mut self, arrived: impl IntoIterator<Item = Arrived>) {
        for arrived in arrived {
            self.count += arrived.len();
            self.add_row(arrived);
        }
        while let Some(next) = self.later.remove(&self.results.len()) {
            self.results.extend(next);
        }
    }

    /// Adds some in a row.
    fn add_row(&mut self, arrived: Arrived) {
        let Gathered {
            results,
            later,
            first_error,
            reader,
            ..
        } = self;
        let mut first = arrived.number();
        let mut row = Vec::new();
        match first == results.len() {
            true => results.reserve(arrived.len()),
            false => row.reserve(arrived.len()),
        }
        let keep = |later: &mut BTreeMap<_, _>, first, row: Vec<_>| {
            if !row.is_empty() {
                later.insert(first, row);
            }
        };
        reader.read_each(arrived, |number, result| match result {
            Ok(result) if number == results.len() => results.push(result),
            Ok(result) => {
                if number != first + row.len() {
                    // One before it has failed.
                    keep(later, first, std::mem::take(&mut row));
                    first = number;
                }
                row.push(result);
            }
            Err(error) => {
                let is_first = first_error
                    .as_ref()
                    .is_none_or(|(first, _)| number < *first);
                if is_first {
                    *first_error = Some((number, error));
                }
            }
        });
        keep(later, first, row);
    }

    /// Whether some item is known to have failed.
    pub(super) fn has_failed(&self) -> bool {
        self.first_error.is_some()
    }

    /// The first error in the order of the items, once all before it are there.
    pub(super) fn error(&mut self) -> Option<Error> {
        let complete = self.results.len();
        self.first_error
            .take_if(|(number, _)| *number == complete)
            .map(|(_, error)| error)
    }

    pub(super) fn into_results(self) -> Vec<F::Output> {
        self.results
    }
}

/// Feeds all items, as far ahead as is good, and waits for all results.
pub(super) fn run<F: ProcessFn>(
    core: &Arc<Core>,
    job: Arc<Job>,
    items: impl Iterator<Item = F::Args>,
) -> Result<Vec<F::Output>, Error> {
    let mut feed = Feed::open(core, Arc::clone(&job), false)?;
    let wanted = Wanted {
        core: Arc::clone(core),
        job,
    };
    let mut gathered = Gathered::<F>::new(wanted.job.reader());
    let mut items = items.fuse();
    loop {
        // After an error only what comes before it matters, and that was fed.
        feed.consumed = gathered.count;
        let has_room = !feed.is_ahead();
        while has_room && feed.is_open {
            let next = if gathered.has_failed() || feed.is_refused {
                None
            } else {
                items.next()
            };
            match next {
                None => feed.finish(),
                Some(args) => {
                    if feed.push::<F>(args) {
                        break;
                    }
                }
            }
        }
        let is_ahead = feed.is_open && feed.is_ahead();
        if is_ahead {
            feed.flush();
        }
        let arrivals = if is_ahead || !feed.is_open {
            wanted.job.require_owner()?;
            core.wait_take_many(&wanted.job, feed.count - gathered.count)
        } else {
            wanted.job.take()
        };
        gathered.add(arrivals.outcomes);
        if let Some(error) = gathered.error() {
            return Err(error);
        }
        if arrivals.are_last {
            return Ok(gathered.into_results());
        }
    }
}
