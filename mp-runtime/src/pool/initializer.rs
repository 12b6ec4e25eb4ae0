//! What each worker runs before anything else.
//!
//! It is a call like any other, the first of its worker, which the slot's thread sends and waits for
//! before the worker counts as ready. What can become of it:
//!
//! | it | the pool |
//! | --- | --- |
//! | returns | has a worker |
//! | panics, returns an `Err`, exits, takes too long, cannot take its arguments | fails, since the next one would as well |
//! | is killed | tries again, as with any worker that dies at its start |
//!
//! While the pool, or more of it, is being opened, all of these are the error of that.

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::core::Core;
use crate::error::{Error, ErrorKind};
use crate::link::{Call, CallHead, Event, Events, Link, Record, Reply, Status};
use crate::process::{Who, Worker, call_at, not_encoded};
use crate::registry::{Catalogue, Function, ProcessFn};
use crate::wire::{Handles, Payload};

/// A call with its arguments, which is made in many workers.
#[derive(Clone, Debug)]
pub(super) struct Initializer {
    pub(super) function: &'static Function,
    pub(super) args: Arc<Vec<u8>>,
    pub(super) handles: Option<Arc<Handles>>,
}

// It is never changed.
impl RefUnwindSafe for Initializer {}
impl UnwindSafe for Initializer {}

/// How a call of it ended.
enum End {
    /// With this record.
    Answered(Record, Reply),
    /// With its worker.
    Lost,
    /// With nonsense.
    Broken(String),
}

impl Initializer {
    pub(super) fn new<F: ProcessFn>(args: &F::Args) -> Result<Initializer, Error> {
        let function = F::__function();
        let payload = Payload::encode(|to| F::__encode(args, to))
            .map_err(|error| not_encoded(function, None, &error))?;
        let handles = payload.handles.map(Arc::new);
        if handles
            .as_ref()
            .is_some_and(|handles| !handles.loans().is_empty())
        {
            let message = format!(
                "the initializer `{}` is called in every worker, and a chunk of an array is of one \
                 process: give it the array",
                function.name
            );
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        Ok(Initializer {
            function,
            args: Arc::new(payload.bytes),
            handles,
        })
    }

    /// Its call.
    fn call(&self, number: u32) -> Result<Call, Error> {
        let function = Catalogue::get()?.number(self.function).unwrap_or(u32::MAX);
        let head = CallHead {
            function,
            number,
            is_initializer: true,
            ..CallHead::default()
        };
        Ok(Call::of_one(head, Arc::clone(&self.args)))
    }

    /// Calls it in a worker that has just come, and waits for its end.
    ///
    /// # Errors
    ///
    /// If it fails; then the pool has been told whether the next worker is worth a try.
    pub(super) fn run(
        &self,
        core: &Arc<Core>,
        index: usize,
        worker: &Worker,
        link: &Link,
        events: &Events,
    ) -> Result<(), Error> {
        let call = self.call(link.next_number(1))?;
        link.call(call, self.handles.clone());
        let limit = self.function.timeout.map(|limit| Limit::set(limit, worker));
        let end = wait(events);
        let was_late = limit.is_some_and(|limit| limit.lift());
        let who = Who::runs(&core.config.title(index), worker.info(), self.function);
        let (error, may_succeed) = match end {
            End::Answered(record, reply) => match who.answered(&record, reply) {
                Ok(_) => return Ok(()),
                Err(error) => (error, false),
            },
            End::Broken(reason) => {
                worker.kill();
                (who.broke_off(&reason, &worker.death(link)), false)
            }
            End::Lost => {
                let death = worker.death(link);
                match self.function.timeout.filter(|_| was_late) {
                    Some(limit) => (who.timed_out(limit, &death), false),
                    None => (who.died(&death), death.is_by_signal()),
                }
            }
        };
        let error = error.of_initializer();
        if !may_succeed {
            core.fail(index, &error);
        }
        Err(error)
    }
}

/// Waits for the end of the first call of a worker.
fn wait(events: &Events) -> End {
    loop {
        let report = match events.next() {
            Event::Records(report, _turn) => report,
            Event::Ended => return End::Lost,
            Event::Broken(reason) => return End::Broken(reason),
        };
        match report.first() {
            Some(record) if record.status == Status::CutShort => {
                return End::Broken("it did not say what became of it".into());
            }
            Some(record) => return End::Answered(record, report.bundle.reply),
            None => {}
        }
    }
}

/// How long it may take.
struct Limit {
    is_pending: Arc<AtomicBool>,
}

impl Limit {
    fn set(limit: Duration, worker: &Worker) -> Limit {
        let is_pending = Arc::new(AtomicBool::new(true));
        if let Some(due) = Instant::now().checked_add(limit) {
            let (is_pending, kill) = (Arc::clone(&is_pending), worker.killer());
            // The watch runs, since there is a worker.
            let _ = call_at(due, move || {
                if is_pending.swap(false, Ordering::Relaxed) {
                    kill();
                }
            });
        }
        Limit { is_pending }
    }

    /// It holds no longer; tells whether it was exceeded.
    fn lift(&self) -> bool {
        !self.is_pending.swap(false, Ordering::Relaxed)
    }
}
