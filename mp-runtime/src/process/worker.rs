//! A worker of a pool, whatever it is.

use std::sync::Arc;

use super::thread::Thread;
use super::{Child, Death, Exit, ProcessInfo};
use crate::link::Link;

/// A started worker. A clone is the same one.
#[derive(Clone)]
pub(crate) enum Worker {
    Process(Arc<Child>),
    Thread(Arc<Thread>),
}

impl Worker {
    pub(crate) fn info(&self) -> &ProcessInfo {
        match self {
            Worker::Process(child) => child.info(),
            Worker::Thread(thread) => thread.info(),
        }
    }

    /// Ends it at once: a process is killed, a thread let go of. One that has ended is fine.
    pub(crate) fn kill(&self) {
        match self {
            Worker::Process(child) => child.kill(),
            Worker::Thread(thread) => thread.let_go(),
        }
    }

    /// Kills it, if it is still there when that is called; keeps nothing of it until then.
    pub(crate) fn killer(&self) -> impl FnOnce() + Send + use<> {
        let (child, thread) = match self {
            Worker::Process(child) => (Some(Arc::downgrade(child)), None),
            Worker::Thread(thread) => (None, Some(Arc::downgrade(thread))),
        };
        move || {
            let child = child.and_then(|child| child.upgrade()).map(Worker::Process);
            let thread = thread.and_then(|thread| thread.upgrade());
            let worker = child.or(thread.map(Worker::Thread));
            worker.iter().for_each(Worker::kill);
        }
    }

    pub(crate) fn exit(&self) -> Option<Exit> {
        match self {
            Worker::Process(child) => child.exit(),
            Worker::Thread(thread) => thread.exit(),
        }
    }

    /// Waits until it has ended, or, if it is a thread, was let go of.
    pub(crate) fn wait(&self) -> Exit {
        match self {
            Worker::Process(child) => child.wait(),
            Worker::Thread(thread) => thread.wait(),
        }
    }

    /// Waits as [`wait`](Worker::wait), and gathers the evidence.
    pub(crate) fn death(&self, link: &Link) -> Death {
        match self {
            Worker::Process(child) => child.death(link),
            Worker::Thread(thread) => thread.wait().into(),
        }
    }
}

impl From<Arc<Child>> for Worker {
    fn from(child: Arc<Child>) -> Worker {
        Worker::Process(child)
    }
}
