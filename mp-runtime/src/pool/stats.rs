//! What a pool has done, in numbers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::life::Ended;

/// What a pool has done and has to do; from [`Pool::stats`](super::Pool::stats).
///
/// Every item that was submitted is counted in exactly one of `queued`, `running`, `done` and
/// `failed`; a call of `submit` or `apply` is one item.
///
/// ```
/// # #[mp::process_fn]
/// # fn square(x: i64) -> i64 { x * x }
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// let pool = mp::Pool::new(2)?;
/// pool.map(square, 0..100)?;
/// let stats = pool.stats();
/// assert_eq!((stats.done, stats.failed, stats.restarts), (100, 0, 0));
/// assert_eq!(stats.busy.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Items that no worker has begun with.
    pub queued: usize,
    /// Items that a worker is running.
    pub running: usize,
    /// Items that have a result.
    pub done: usize,
    /// Items that ended with an error, cancelled ones included. A result that cannot be decoded
    /// moves here from `done` when somebody tries to.
    pub failed: usize,
    /// Workers that were started in the place of others: of dead ones, killed ones and recycled
    /// ones.
    pub restarts: usize,
    /// How long each worker has had something to do, those before it in its place included; by
    /// `worker_index`.
    pub busy: Vec<Duration>,
}

/// Counts ends.
#[derive(Debug, Default)]
pub(super) struct Counters {
    done: AtomicUsize,
    failed: AtomicUsize,
}

impl Counters {
    pub(super) fn count(&self, ended: &Ended) {
        let (done, failed) = ended.counts();
        // Most of the time nothing fails.
        if failed > 0 {
            self.failed.fetch_add(failed, Ordering::Relaxed);
        }
        self.done.fetch_add(done, Ordering::Relaxed);
    }

    /// A result that was counted is none: it cannot be decoded.
    pub(super) fn recount(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.done.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self) -> usize {
        self.failed.load(Ordering::Relaxed)
    }
}
