//! What the primitives of `sync` do between the threads of one process.

mod barrier;
mod condvar;
mod event;
mod mutex;
mod once;
mod reentrant_mutex;
mod rwlock;
mod semaphore;
#[path = "../../../tests/watchdog/mod.rs"]
mod watchdog;

use std::time::Duration;

/// How long a test may take before it counts as hanging.
const LIMIT: Duration = Duration::from_secs(120);

/// A timeout that is to pass.
const SHORT: Duration = Duration::from_millis(20);
