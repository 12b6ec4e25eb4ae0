//! A worker that is a thread of this process.
//!
//! It runs what a process would, in the same way: values are encoded, panics are contained, and
//! `mp::current` says which worker it is. What ends a process ends all of them: a signal, `exit`, a
//! stack that is full, an allocation that fails. And nothing can stop a thread, so one that has to
//! end is let go of (see [`mailbox`](crate::link)): it goes on until its function returns, keeps
//! until then what its function has, a chunk of an array for one, and ends.

use std::sync::Arc;
use std::sync::mpsc::channel;

use super::info::AsWorker;
use super::launch::{Role, check_cpus, check_name};
use super::{Exit, ProcessInfo, Worker, panic, serve};
use crate::error::{Error, ErrorKind};
use crate::link::{self, Events, Hold, Link};
use crate::os::{self, limit};
use crate::registry::Catalogue;

/// A started thread.
pub(crate) struct Thread {
    info: Arc<ProcessInfo>,
    hold: Hold,
}

impl Thread {
    pub(super) fn info(&self) -> &ProcessInfo {
        &self.info
    }

    pub(super) fn let_go(&self) {
        self.hold.let_go();
    }

    pub(super) fn exit(&self) -> Option<Exit> {
        self.hold.end().map(Exit::of_thread)
    }

    pub(super) fn wait(&self) -> Exit {
        Exit::of_thread(self.hold.wait())
    }
}

/// Starts a worker that is a thread, bound to these processors if any are given. It ends when it is
/// told to stop or let go of, or when one of the ends that this gives is dropped.
///
/// # Errors
///
/// [`ErrorKind::Spawn`] if the thread cannot be started or bound, if the name or the processors
/// cannot be, or if two functions have one name.
pub(crate) fn start_thread(
    name: &str,
    worker_index: usize,
    cpus: Option<Vec<usize>>,
) -> Result<(Worker, Link, Events), Error> {
    let catalogue = Catalogue::get()?;
    check_name(Some(name))?;
    check_cpus(cpus.as_deref())?;
    let info = Arc::new(ProcessInfo::of_thread(name.to_owned(), worker_index));
    let (link, events, mut end, hold) = link::open_in_process();
    let (bound, is_bound) = channel();
    let own = Arc::clone(&info);
    let body = move || {
        let _worker = AsWorker::begin(&own);
        panic::install_hook();
        let outcome = match &cpus {
            Some(cpus) => limit::pin(cpus)
                .map_err(|error| format!("it cannot be bound to the processors {cpus:?}: {error}")),
            None => Ok(()),
        };
        let is_ready = outcome.is_ok();
        if bound.send(outcome).is_ok() && is_ready {
            serve::run_calls(&mut end, catalogue, Role::Pool);
        }
    };
    let not_started = |reason: &str| {
        let message = format!("`{name}` could not be started: {reason}");
        Error::new(ErrorKind::Spawn, message)
    };
    os::thread::spawn_for_program(name, Some(limit::main_stack()), body)
        .map_err(|error| not_started(&error.to_string()).with_source(error))?;
    is_bound
        .recv()
        .map_err(|_| not_started("its thread has ended"))?
        .map_err(|reason| not_started(&reason))?;
    let thread = Thread { info, hold };
    Ok((Worker::Thread(Arc::new(thread)), link, events))
}
