//! The two ways to start a process.

use std::sync::OnceLock;

/// The variable that chooses the way of those who do not say.
const METHOD_VARIABLE: &str = "MP_START_METHOD";

/// How a process is started: see [`Builder::start_method`](super::Builder::start_method) and
/// [`PoolBuilder::start_method`](crate::pool::PoolBuilder::start_method).
///
/// The default is `ForkServer`, or what the environment variable `MP_START_METHOD` says when the
/// program first starts a process: `forkserver` or `exec`.
///
/// # What a process has from whom
///
/// | | `Exec` | `ForkServer` |
/// | --- | --- | --- |
/// | what stands before `mp::init`, constructors of libraries | runs in each | ran once, in the fork server: what it left in memory, each has a copy of; what it opened, all have |
/// | memory, locks, threads of the program | nothing | nothing |
/// | memory of another worker | nothing | nothing |
/// | parent, pidfd, exit status, resource usage | a child of the program | the same |
/// | environment, working directory, root, umask | as the program's at the start | the same |
/// | user, groups, capabilities, filters of system calls | as the program's | the same |
/// | limits, niceness, processors, cgroup, `oom_score_adj` | as the program's | the same |
/// | process group, session, terminal | as the program's | the same |
/// | ignored signals | as the program's | the same |
/// | signal handlers and mask | none, but SIGINT | the same |
/// | standard streams | as the program's, or as the builder says | the same |
/// | descriptors that are close-on-exec | none | none |
/// | descriptors that are not | those of the program | those that it had when the fork server was started |
/// | places of code, stacks and heap (ASLR), the key of stack protection, and those of hash maps if they were drawn before `mp::init` | its own | those of the fork server, as all from it |
/// | what `/proc/<id>/environ` and `cmdline` show | its own | that of the fork server |
/// | the thread id in the message of a stack overflow | its own | that of the fork server |
/// | handlers of `pthread_atfork` of what ran before `mp::init` | | are not called |
///
/// What is the same is so because it is compared at each start: where something of the program has
/// changed, a new fork server is started first.
///
/// # Security
///
/// All that come from one fork server have the same layout of memory. Who learns it in one of them,
/// by a bug that reads what it should not, knows it for all, and of a worker that was replaced for
/// the next one. Where processes run code on behalf of somebody who is not trusted, choose `Exec`.
///
/// ```
/// use mp::StartMethod;
///
/// # #[mp::process_fn]
/// # fn square(x: i64) -> i64 { x * x }
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// let process = mp::Builder::new().start_method(StartMethod::Exec).spawn(square, (12,))?;
/// assert_eq!(process.join()?, 144);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StartMethod {
    /// Forked from the *fork server*: a worker of this program, started with the first process and
    /// ended with the program, that has run nothing but what stands before `mp::init`, and has no
    /// thread. Less than half the time of `Exec`, and its memory is shared until it is written to.
    ///
    /// `Exec` is taken in its place where it has to be: for a process with an environment of its
    /// own, which may mean something to what runs before `mp::init`; while a fork server takes long
    /// to come, or cannot be had: where another thread runs before `mp::init` is called, or the
    /// kernel does not allow it. Then that is said once, on standard error. Linux 5.4 has all that
    /// it needs.
    ForkServer,
    /// The binary is executed anew, and comes to `mp::init` by itself.
    Exec,
}

impl StartMethod {
    /// That of those who do not say.
    pub(crate) fn default_one() -> StartMethod {
        static DEFAULT: OnceLock<StartMethod> = OnceLock::new();
        *DEFAULT.get_or_init(|| match std::env::var(METHOD_VARIABLE).as_deref() {
            Ok("exec") => StartMethod::Exec,
            _ => StartMethod::ForkServer,
        })
    }
}

impl Default for StartMethod {
    /// What `MP_START_METHOD` says, else `ForkServer`.
    fn default() -> StartMethod {
        StartMethod::default_one()
    }
}
