//! Lazy maps: a bounded window over an iterator.

use std::collections::{BTreeMap, VecDeque};
use std::iter::Fuse;
use std::sync::Arc;

use super::core::Core;
use super::job::{Arrived, Chunking, Job, Reader};
use super::map::{Feed, Wanted};
use crate::error::Error;
use crate::registry::ProcessFn;

/// So many chunks for each worker are pulled ahead of what was consumed; ...
const CHUNKS_AHEAD: usize = 2;
/// ... of short items, as many as have been consumed, but no more than so many for each worker.
const QUICK_AHEAD: usize = 512;

/// The items of a lazy map, and the results that have come.
pub(super) struct Window<F: ProcessFn, I> {
    items: Fuse<I>,
    feed: Feed,
    wanted: Wanted,
    arrived: VecDeque<Arrived>,
    /// How many items a chunk has.
    chunk: usize,
    reader: Reader<F>,
    /// The program forked, and this is a copy that was told so.
    is_of_another_process: bool,
}

impl<F: ProcessFn, I: Iterator<Item = F::Args>> Window<F, I> {
    /// Opens one; nothing is pulled yet.
    pub(super) fn open(
        core: &Arc<Core>,
        job: Result<Arc<Job>, Error>,
        items: I,
    ) -> Result<Window<F, I>, Error> {
        let job = job?;
        let feed = Feed::open(core, Arc::clone(&job), true)?;
        let chunk = match job.chunking {
            Chunking::Fixed(size) => size,
            Chunking::Automatic | Chunking::Lazy => 1,
        };
        let reader = job.reader();
        Ok(Window {
            items: items.fuse(),
            feed,
            wanted: Wanted {
                core: Arc::clone(core),
                job,
            },
            arrived: VecDeque::new(),
            chunk,
            reader,
            is_of_another_process: false,
        })
    }

    /// Waits for more results; tells whether there will be none. `is_served` tells whether the
    /// consumer has what it wants, and only more items are to be fed.
    fn advance(&mut self, is_served: impl Fn(&VecDeque<Arrived>) -> bool) -> bool {
        // One more at least, so that the workers do not run dry while the consumer is slow, and no
        // more than needed, so that a slow iterator does not hold back what is there.
        let mut must_pull = true;
        loop {
            let has_room = self.feed.count - self.feed.consumed < self.size();
            if has_room && (must_pull || !is_served(&self.arrived)) && self.pull() {
                must_pull = false;
                if !is_served(&self.arrived) {
                    self.arrived.extend(self.wanted.job.take().outcomes);
                }
                continue;
            }
            if is_served(&self.arrived) {
                return false;
            }
            // Everything that was pulled must be on its way before this waits for it.
            self.feed.flush();
            if let Err(error) = self.wanted.job.require_owner() {
                // Once, and then it is over.
                let is_first = !std::mem::replace(&mut self.is_of_another_process, true);
                let error = is_first.then_some(Arrived::Failed(self.feed.consumed, error));
                self.arrived.extend(error);
                return !is_first;
            }
            let arrived = self.wanted.core.wait_take(&self.wanted.job).outcomes;
            if arrived.is_empty() {
                return true;
            }
            self.arrived.extend(arrived);
        }
    }

    /// The first of what has arrived.
    fn next_arrived(&mut self) -> Option<(usize, Result<F::Output, Error>)> {
        let first = self.arrived.front_mut()?;
        let result = self.reader.read_first(first);
        if !first.has_more() {
            self.arrived.pop_front();
        }
        result
    }

    /// How many items may be pulled and not consumed, by as many workers as there are now.
    fn size(&self) -> usize {
        let workers = self.wanted.core.worker_count();
        let chunks = CHUNKS_AHEAD.saturating_mul(workers);
        let least = self.chunk.saturating_mul(chunks);
        match self.wanted.job.is_quick() {
            true => least.max(self.feed.consumed.min(QUICK_AHEAD.saturating_mul(workers))),
            false => least,
        }
    }

    /// Feeds one item, if there is one.
    fn pull(&mut self) -> bool {
        // After a refusal the rest of the items would only be refused as well.
        let next = if self.feed.is_refused {
            None
        } else {
            self.items.next()
        };
        match next {
            Some(args) => {
                self.feed.push::<F>(args);
                true
            }
            None => {
                self.feed.finish();
                false
            }
        }
    }
}

/// What `imap` returns.
pub(super) struct InOrder<F: ProcessFn, I> {
    /// `Err` once, if the pool takes no work; then `None`.
    window: Option<Result<Window<F, I>, Error>>,
    /// Results that came before their turn, by the number of the first of each.
    early: BTreeMap<usize, Arrived>,
}

impl<F: ProcessFn, I: Iterator<Item = F::Args>> InOrder<F, I> {
    pub(super) fn new(window: Result<Window<F, I>, Error>) -> InOrder<F, I> {
        InOrder {
            window: Some(window),
            early: BTreeMap::new(),
        }
    }
}

impl<F: ProcessFn, I: Iterator<Item = F::Args>> Iterator for InOrder<F, I> {
    type Item = Result<F::Output, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let window = match self.window.take()? {
            Ok(window) => self.window.insert(Ok(window)).as_mut().ok()?,
            Err(error) => return Some(Err(error)),
        };
        let turn = window.feed.consumed;
        loop {
            let has_come = self.early.contains_key(&turn);
            let is_end = window.advance(|arrived| has_come || !arrived.is_empty());
            for arrived in window.arrived.drain(..) {
                self.early.insert(arrived.number(), arrived);
            }
            if let Some(mut arrived) = self.early.remove(&turn)
                && let Some((_, result)) = window.reader.read_first(&mut arrived)
            {
                if arrived.has_more() {
                    self.early.insert(arrived.number(), arrived);
                }
                window.feed.consumed += 1;
                return Some(result);
            }
            if is_end {
                self.window = None;
                return None;
            }
        }
    }
}

/// What `imap_unordered` returns.
pub(super) struct AsTheyCome<F: ProcessFn, I> {
    window: Option<Result<Window<F, I>, Error>>,
}

impl<F: ProcessFn, I: Iterator<Item = F::Args>> AsTheyCome<F, I> {
    pub(super) fn new(window: Result<Window<F, I>, Error>) -> AsTheyCome<F, I> {
        AsTheyCome {
            window: Some(window),
        }
    }
}

impl<F: ProcessFn, I: Iterator<Item = F::Args>> Iterator for AsTheyCome<F, I> {
    type Item = (usize, Result<F::Output, Error>);

    fn next(&mut self) -> Option<Self::Item> {
        let window = match self.window.take()? {
            Ok(window) => self.window.insert(Ok(window)).as_mut().ok()?,
            Err(error) => return Some((0, Err(error))),
        };
        if window.advance(|arrived| !arrived.is_empty()) {
            self.window = None;
            return None;
        }
        let next = window.next_arrived()?;
        window.feed.consumed += 1;
        Some(next)
    }
}
