//! Who a process is, and how many may run at once.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::watch;
use crate::os::limit;

/// The variable that overrides [`cpu_count`].
const WORKERS_VARIABLE: &str = "MP_WORKERS";

/// A process of the program's tree.
///
/// ```
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// let pool = mp::Pool::builder().workers(1).name("render").build()?;
/// let worker = &pool.workers()[0];
/// assert_eq!((worker.name.as_str(), worker.worker_index), ("render-worker-0", Some(0)));
/// assert_eq!(worker.parent_id, mp::current().id);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProcessInfo {
    /// Its process id.
    pub id: u32,
    /// Its name: what its builder was given, else `Process-1`, `Process-1:2` for the second child
    /// of that one, `MainProcess` for the program itself.
    pub name: String,
    /// The process id of its parent.
    pub parent_id: u32,
    /// Its place in its pool, from 0, if it is the worker of one.
    pub worker_index: Option<usize>,
}

/// What a process is told of itself by its parent, besides its id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) name: String,
    /// `1:2` for the second child of the first child of the program.
    pub(super) lineage: String,
    pub(super) worker_index: Option<usize>,
}

static IDENTITY: OnceLock<Identity> = OnceLock::new();

/// Makes this process a worker called so.
pub(super) fn assume(identity: Identity) {
    // Only the first call counts, and there is only one.
    let _ = IDENTITY.set(identity);
}

thread_local! {
    /// What this thread is, if it is, for now, a worker itself.
    static WORKER: RefCell<Option<Arc<ProcessInfo>>> = const { RefCell::new(None) };
}

/// While this is there, its thread is a worker.
pub(super) struct AsWorker {
    before: Option<Arc<ProcessInfo>>,
}

impl AsWorker {
    pub(super) fn begin(info: &Arc<ProcessInfo>) -> AsWorker {
        let now = Some(Arc::clone(info));
        // A thread that ends has no place for it any more.
        let before = WORKER.try_with(|worker| worker.replace(now));
        AsWorker {
            before: before.unwrap_or_default(),
        }
    }
}

impl Drop for AsWorker {
    fn drop(&mut self) {
        let _ = WORKER.try_with(|worker| worker.replace(self.before.take()));
    }
}

impl ProcessInfo {
    /// A worker that is no process of its own, but in this one.
    pub(crate) fn of_thread(name: String, worker_index: usize) -> ProcessInfo {
        ProcessInfo {
            id: std::process::id(),
            name,
            parent_id: std::os::unix::process::parent_id(),
            worker_index: Some(worker_index),
        }
    }
}

/// Draws the identity of the next child; without a name it gets the default one.
pub(super) fn next_child(name: Option<String>, worker_index: Option<usize>) -> Identity {
    static CHILDREN: AtomicU32 = AtomicU32::new(0);
    let number = CHILDREN.fetch_add(1, Ordering::Relaxed) + 1;
    let lineage = match IDENTITY.get() {
        Some(own) => format!("{}:{number}", own.lineage),
        None => number.to_string(),
    };
    let name = name.unwrap_or_else(|| format!("Process-{lineage}"));
    Identity {
        name,
        lineage,
        worker_index,
    }
}

/// The process this is called in (`current_process`). In a worker of a pool that is a thread, that
/// worker: its name and index, and the id of the process it is in.
///
/// ```
/// let me = mp::current();
/// assert_eq!(me.id, std::process::id());
/// assert_eq!(me.name, "MainProcess");
/// ```
#[doc(alias = "current_process")]
pub fn current() -> ProcessInfo {
    let worker = WORKER.try_with(|worker| worker.borrow().clone());
    if let Ok(Some(worker)) = worker {
        return ProcessInfo::clone(&worker);
    }
    let identity = IDENTITY.get();
    ProcessInfo {
        id: std::process::id(),
        name: identity.map_or_else(|| "MainProcess".into(), |own| own.name.clone()),
        parent_id: std::os::unix::process::parent_id(),
        worker_index: identity.and_then(|own| own.worker_index),
    }
}

/// The processes that this one has started and that have not ended, workers of pools included, by
/// process id.
///
/// ```
/// # #[mp::process_fn]
/// # fn wait_for_ever() { loop { std::thread::park() } }
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// let process = mp::spawn!(wait_for_ever())?;
/// assert_eq!(mp::active_children()[0].id, process.id());
/// process.kill()?;
/// # Ok(())
/// # }
/// ```
pub fn active_children() -> Vec<ProcessInfo> {
    let mut children: Vec<ProcessInfo> = watch::children()
        .iter()
        .map(|child| child.info().clone())
        .collect();
    children.sort_by_key(|info| info.id);
    children
}

/// How many processes can run at once: the processors that affinity and the quota of the cgroups
/// leave to this process, or the environment variable `MP_WORKERS` if it holds a number from 1.
///
/// ```
/// assert!(mp::cpu_count() >= 1);
/// ```
pub fn cpu_count() -> usize {
    std::env::var(WORKERS_VARIABLE)
        .ok()
        .and_then(|count| count.trim().parse().ok())
        .filter(|&count| count > 0)
        .unwrap_or_else(limit::usable_cpus)
}
