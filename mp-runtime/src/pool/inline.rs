//! A pool without workers: the thread that submits runs what it submits, one item after the other.
//!
//! Policy is the same as far as it can be: what takes too long has an error when it has returned,
//! and is tried again if it may be; what is not begun when the pool is terminated does not run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::core::{Core, Phase};
use super::job::{Arrived, Job};
use super::segment::Piece;
use crate::error::Error;
use crate::link::{Report, Status};
use crate::process::{Answers, ProcessInfo, Who, run_here};

/// What such a pool is doing, on all threads that use it.
#[derive(Debug)]
pub(super) struct Here {
    pub(super) info: Arc<ProcessInfo>,
    /// Items that were submitted and have not ended, ...
    left: AtomicUsize,
    /// ... and those of them that are running.
    running: AtomicUsize,
    busy_nanos: AtomicU64,
}

impl Here {
    pub(super) fn new(worker_name: String) -> Here {
        Here {
            info: Arc::new(ProcessInfo::of_thread(worker_name, 0)),
            left: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            busy_nanos: AtomicU64::new(0),
        }
    }

    /// How many items wait, and how many are running.
    pub(super) fn counts(&self) -> (usize, usize) {
        let running = self.running.load(Ordering::Relaxed);
        let left = self.left.load(Ordering::Relaxed);
        (left.saturating_sub(running), running)
    }

    pub(super) fn busy_time(&self) -> Duration {
        Duration::from_nanos(self.busy_nanos.load(Ordering::Relaxed))
    }
}

/// Runs the items of a piece and delivers what becomes of each.
pub(super) fn run(core: &Core, job: &Arc<Job>, piece: &Piece) {
    let here = &core.here;
    here.left.fetch_add(piece.range.len(), Ordering::Relaxed);
    for position in piece.range.clone() {
        let outcome = try_item(core, job, piece, position);
        here.left.fetch_sub(1, Ordering::Relaxed);
        let number = piece.segment.number(position);
        core.deliver(job, [Arrived::of(number, outcome)]);
    }
    if piece.range.end == piece.segment.len() {
        piece.segment.end_loans();
    }
}

/// Runs an item as often as it takes.
fn try_item(core: &Core, job: &Job, piece: &Piece, position: usize) -> Result<Answers, Error> {
    let here = &core.here;
    let number = piece.segment.number(position);
    let who = Who::runs(&core.config.title(0), &here.info, job.function).of(job.place(number));
    let mut retried = 0;
    loop {
        if core.state().phase == Phase::Terminated {
            return Err(core.terminated());
        }
        here.running.fetch_add(1, Ordering::Relaxed);
        let begin = Instant::now();
        let (record, reply) = run_here(
            &here.info,
            job.function,
            false,
            piece.segment.args(position),
            piece.segment.handles.clone(),
        );
        let took = begin.elapsed();
        here.running.fetch_sub(1, Ordering::Relaxed);
        let nanos = took.as_nanos() as u64;
        here.busy_nanos.fetch_add(nanos, Ordering::Relaxed);
        match job.timeout {
            Some(limit) if took > limit && retried < job.retries => retried += 1,
            Some(limit) if took > limit => return Err(who.returned_late(limit, took)),
            _ if record.status != Status::Returned => {
                return Err(who.failed(record.status, &reply, &record.payload));
            }
            _ => {
                let (run, bundle) = Report::only(record, reply);
                let place = (number, job.is_mapped);
                return Ok(who.answers(place, &run, &bundle));
            }
        }
    }
}

/// Runs the initializer, if there is one.
pub(super) fn open(core: &Core) -> Result<(), Error> {
    let Some(initializer) = &core.config.initializer else {
        return Ok(());
    };
    let function = initializer.function;
    let begin = Instant::now();
    let (record, reply) = run_here(
        &core.here.info,
        function,
        true,
        &initializer.args,
        initializer.handles.clone(),
    );
    let took = begin.elapsed();
    let who = Who::runs(&core.config.title(0), &core.here.info, function);
    let outcome = match function.timeout.filter(|limit| took > *limit) {
        Some(limit) => Err(who.returned_late(limit, took)),
        None => who.answered(&record, reply).map(drop),
    };
    outcome.map_err(Error::of_initializer)
}
