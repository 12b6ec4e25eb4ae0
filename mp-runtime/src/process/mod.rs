//! One process: started, watched, ended; and a [`thread`] in the place of one.
//!
//! # What happens at a start
//!
//! | step | who | if it fails, or its process dies |
//! | --- | --- | --- |
//! | make the lifeline, the [lanes](crate::link) and the carrier | parent | the start fails with the reason |
//! | have the fork server fork itself, with the descriptors of the worker in the request ([`server`]) | parent | the process is executed instead |
//! | write the *boot message* into the lifeline, while the server forks | parent | the same, and without it a forked process ends |
//! | or write it, and execute the binary, with its descriptors named in one variable | parent | the start fails with the reason |
//! | hand its pidfd to the [watch] | parent | the process is killed and collected, the start fails |
//! | put the first call into the ring, if it is known by now | parent | the worker ends with it |
//! | run up to [`init`], if executed; read the boot message, arm the lifeline | worker | the parent sees the end; after [`START_TIMEOUT`] the watch kills it |
//! | compare its functions with those of its parent; say that it [has come](crate::link) | worker | the same, with its last words as the reason |
//!
//! Nobody waits for a worker that has something to do but for its end: a process of its own takes its
//! call when it has come, and its result is there when it has ended ([`Process`]).
//!
//! # How it ends with its parent
//!
//! The parent holds one end of the lifeline, and the worker has armed the other: when nobody has the
//! parent's end any more the kernel kills the worker, whatever its threads are doing, and stopped
//! ones too ([`crate::os::lifeline`]). Besides, it kills a worker when the thread has ended that
//! started it, or whose child it was made ([`nursery`]): a copy of the parent, forked without an
//! exec, may still hold the lifeline. A worker that is a parent takes its own along.

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
pub(crate) use report::{Answer, Answers, Who, not_encoded, short_life};
pub(crate) use serve::run_here;
pub(crate) use thread::start_thread;
pub(crate) use watch::{at as call_at, start as start_watch};
pub(crate) use worker::Worker;

/// How long a process may take from its exec to the end of [`init`].
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(30);
