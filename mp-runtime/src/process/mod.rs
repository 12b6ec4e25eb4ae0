//! One process: started, watched, ended; and a [`thread`] in the place of one.
//!
//! # What happens at a start
//!
//! | step | who | if it fails, or its process dies |
//! | --- | --- | --- |
//! | make the lifeline, the recorder and the [server](crate::link) | parent | the start fails with the reason |
//! | write the *boot message* into the lifeline | parent | the same |
//! | fork and exec, with its descriptors named in one variable | parent | the same |
//! | open a pidfd, hand it to the [watch] | parent | the process is killed and collected, the start fails |
//! | run up to [`init`], read the boot message, start the lifeline's thread | worker | the watch sees the end and releases the parent |
//! | connect, greet | worker | the same; after [`START_TIMEOUT`] the watch kills it |
//! | compare fingerprints | parent | the worker is killed, the start fails |
//!
//! # How it ends with its parent
//!
//! The parent holds one end of the lifeline, and a thread of the worker waits on the other and on a
//! pidfd of the parent. Whichever way the parent ends, the kernel closes its descriptors and the
//! worker kills itself, whatever its other threads are doing. A worker that is stopped cannot: it
//! is killed by the kernel, since the thread that started it has ended ([`nursery`]). A worker that
//! is a parent takes its own along.

mod birth;
mod child;
mod info;
mod launch;
mod report;
mod panic;
mod serve;
mod builder;
mod handle;
mod method;
mod watch;
mod stderr;
mod tail;
mod nursery;
mod request;
mod server;
mod template;
mod thread;
mod worker;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use birth::{enter_test, init};
pub use builder::{Builder, Stdio};
pub(crate) use child::{Child, Death, Exit};
pub use handle::Process;
pub use info::{ProcessInfo, active_children, cpu_count, current};
pub(crate) use launch::{LaunchSpec, Role, check_name};
pub use method::StartMethod;
pub(crate) use report::{Answer, Who, not_encoded, short_life};
pub(crate) use serve::run_here;
pub(crate) use thread::start_thread;
pub(crate) use watch::{at as call_at, start as start_watch};
pub(crate) use worker::Worker;

/// How long a process may take from its exec to the end of [`init`].
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(30);
