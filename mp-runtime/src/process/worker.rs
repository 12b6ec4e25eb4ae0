//! A worker of a pool, whatever it is.

use std::sync::Arc;

use super::thread::Thread;
use super::{Child, Exit, ProcessInfo};

/// A started worker. A clone is the same one.
#[derive(Clone)]
#[allow(dead_code, reason = "for pools whose workers are threads")]
pub(crate) enum Worker {
    Process(Arc<Child>),
    Thread(Arc<Thread>),
}

#[allow(dead_code, reason = "for pools whose workers are threads")]
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

    pub(crate) fn memory_limit(&self) -> Option<u64> {
        match self {
            Worker::Process(child) => child.memory_limit(),
            Worker::Thread(_) => None,
        }
    }
}

impl From<Arc<Child>> for Worker {
    fn from(child: Arc<Child>) -> Worker {
        Worker::Process(child)
    }
}
