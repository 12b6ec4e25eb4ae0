//! A process of ours, from its start until it was collected.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use std::os::unix::process::ExitStatusExt as _;

use nix::libc;

use super::stderr::Source;
use super::{ProcessInfo, watch};
use crate::link::{Link, ThreadEnd};
use crate::os::{self, descriptor, limit, pidfd::PidFd, signal};

/// A started process. Somebody holds it until it was collected: the watch.
pub(crate) struct Child {
    info: ProcessInfo,
    pidfd: Arc<PidFd>,
    /// Closes when the last holder lets go, and the process ends then if it has not.
    lifeline: OwnedFd,
    /// What it writes to standard error, if that is kept.
    stderr: Option<Arc<Source>>,
    memory_limit: Option<u64>,
    out_of_memory_kills: Option<u64>,
    /// The program sent it a signal that may end it.
    was_signalled: AtomicBool,
    /// The key that the watch knows it by.
    watched_as: AtomicU64,
    /// It was collected. Held by who does it.
    is_collected: Mutex<bool>,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    exit: Option<Exit>,
    /// How many threads wait at its pidfd.
    waiters: usize,
    at_end: Vec<Box<dyn FnOnce() + Send>>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exit {
    /// `None` if somebody else collected it, and for a thread.
    pub(crate) status: Option<ExitStatus>,
    /// Why lack of memory is the cause, where it is.
    pub(crate) out_of_memory: Option<OutOfMemory>,
    /// If it is no process.
    pub(crate) thread: Option<ThreadEnd>,
}

/// The evidence for lack of memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OutOfMemory {
    /// The kernel killed a process of the cgroup for it.
    Kernel,
    /// An allocation failed, since the process may have so many bytes.
    Limit(u64),
}

/// How a worker ended, with all the evidence.
#[derive(Clone, Debug)]
pub(crate) struct Death {
    pub(super) exit: Exit,
    pub(super) memory_limit: Option<u64>,
    /// Why it was killed, if it is this process that could not go on with it.
    pub(super) given_up: Option<String>,
    /// The end of what it wrote to standard error.
    pub(super) stderr: Option<String>,
}

impl Death {
    /// Whether somebody else may have ended it: it did not end itself, nor for want of what it may
    /// have.
    pub(crate) fn is_by_signal(&self) -> bool {
        !matches!(self.exit.out_of_memory, Some(OutOfMemory::Limit(_)))
            && (self.exit.status).is_none_or(|status| status.signal().is_some())
    }
}

impl From<Exit> for Death {
    fn from(exit: Exit) -> Death {
        Death {
            exit,
            memory_limit: None,
            given_up: None,
            stderr: None,
        }
    }
}

impl Exit {
    /// Adds what the process left word of: that an allocation had failed.
    fn after(self, allocation_failed: bool, memory_limit: Option<u64>) -> Exit {
        let limit = memory_limit.filter(|_| allocation_failed);
        Exit {
            out_of_memory: self.out_of_memory.or(limit.map(OutOfMemory::Limit)),
            ..self
        }
    }

    pub(super) fn of_thread(end: ThreadEnd) -> Exit {
        Exit {
            status: None,
            out_of_memory: None,
            thread: Some(end),
        }
    }
}

impl Child {
    pub(super) fn new(
        info: ProcessInfo,
        pidfd: PidFd,
        lifeline: OwnedFd,
        stderr: Option<Arc<Source>>,
        (memory_limit, out_of_memory_kills): (Option<u64>, Option<u64>),
    ) -> Child {
        Child {
            info,
            pidfd: Arc::new(pidfd),
            lifeline,
            stderr,
            memory_limit,
            out_of_memory_kills,
            was_signalled: AtomicBool::new(false),
            watched_as: AtomicU64::new(0),
            is_collected: Mutex::new(false),
            state: Mutex::default(),
            ended: Condvar::new(),
        }
    }

    pub(crate) fn info(&self) -> &ProcessInfo {
        &self.info
    }

    pub(crate) fn pidfd(&self) -> &Arc<PidFd> {
        &self.pidfd
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&*self.pidfd)
    }

    /// What a worker that could not come has said of it.
    pub(crate) fn last_words(&self) -> Option<String> {
        let words = descriptor::read_available(&self.lifeline);
        (!words.is_empty()).then(|| String::from_utf8_lossy(&words).into_owned())
    }

    /// The end of what it wrote to standard error, if that is kept and there is any. It is complete
    /// when the process has ended.
    pub(crate) fn stderr_tail(&self) -> Option<String> {
        self.stderr.as_ref()?.tail()
    }

    pub(super) fn stderr(&self) -> Option<&Arc<Source>> {
        self.stderr.as_ref()
    }

    /// Ends it at once. A process that has ended is fine.
    pub(crate) fn kill(&self) {
        // It fails for a process that changed its user; then only its lifeline ends it.
        let _ = self.pidfd.send_signal(libc::SIGKILL);
    }

    /// Sends a signal for the program.
    pub(crate) fn send_signal(&self, signal: i32) -> io::Result<()> {
        self.was_signalled.store(true, Ordering::Relaxed);
        match signal {
            libc::SIGINT => self.pidfd.interrupt(),
            _ => self.pidfd.send_signal(signal),
        }
    }

    /// Whether it was ended by a signal after the program had sent it one.
    pub(crate) fn was_ended_on_purpose(&self, exit: Exit) -> bool {
        self.was_signalled.load(Ordering::Relaxed)
            && exit.status.is_some_and(|status| status.signal().is_some())
    }

    pub(crate) fn exit(&self) -> Option<Exit> {
        self.state().exit
    }

    pub(super) fn watched_as(&self) -> u64 {
        self.watched_as.load(Ordering::Relaxed)
    }

    pub(super) fn set_watched_as(&self, key: u64) {
        self.watched_as.store(key, Ordering::Relaxed);
    }

    /// Collects it, if it has ended and nobody else has. Who does it has to tell.
    pub(super) fn collect(&self) -> Option<Option<ExitStatus>> {
        let mut is_collected = self.collected();
        if *is_collected {
            return None;
        }
        // If waiting fails the process has ended all the same: the pidfd says so.
        let status = self.pidfd.try_wait().unwrap_or(Some(None))?;
        *is_collected = true;
        Some(status)
    }

    fn collected(&self) -> MutexGuard<'_, bool> {
        let is_collected = self.is_collected.lock();
        is_collected.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_collected(&self) -> bool {
        *self.collected()
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&self) -> Exit {
        loop {
            if let Some(exit) = self.wait_until(None) {
                return exit;
            }
        }
    }

    /// Waits until it has ended, or until `deadline`.
    fn wait_until(&self, deadline: Option<Instant>) -> Option<Exit> {
        if self.stderr.is_none() {
            // Of the others the watch knows when all that they wrote was forwarded.
            self.see_end(deadline);
        }
        let mut state = self.state();
        while state.exit.is_none() {
            let Some(deadline) = deadline else {
                let woken = self.ended.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.ended.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.exit
    }

    /// Waits at its pidfd, and collects it, if nobody else does.
    fn see_end(&self, deadline: Option<Instant>) {
        let mut state = self.state();
        if state.exit.is_some() {
            return;
        }
        state.waiters += 1;
        if state.waiters == 1 {
            watch::look_away(self);
        }
        drop(state);
        let readable = descriptor::wait_readable_until(&[self.as_fd()], deadline);
        let has_ended = readable.is_ok_and(|readable| readable == [true]);
        if has_ended {
            // First, or it would be woken by what follows.
            watch::unplug(self);
            if let Some(status) = self.collect() {
                watch::forget(self);
                return self.set_ended(status);
            }
            if self.is_collected() {
                return;
            }
            // Whoever traces it has it first, for as long as it likes.
            watch::plug_in(self);
        }
        let mut state = self.state();
        state.waiters -= 1;
        if state.waiters == 0 {
            watch::look_again(self);
        }
    }

    /// Waits until it has ended, and gathers the evidence; it may have left word over its link that an
    /// allocation had failed.
    pub(crate) fn death(&self, link: &Link) -> Death {
        let exit = self
            .wait()
            .after(link.is_out_of_memory(), self.memory_limit);
        let was_killed = exit
            .status
            .is_none_or(|status| status.signal() == Some(libc::SIGKILL));
        let given_up = link.given_up().filter(|_| was_killed);
        Death {
            exit,
            memory_limit: self.memory_limit,
            given_up: given_up.map(str::to_owned),
            stderr: self.stderr_tail(),
        }
    }

    /// Waits until it has ended, at most so long.
    pub(crate) fn wait_timeout(&self, timeout: Duration) -> Option<Exit> {
        match Instant::now().checked_add(timeout) {
            None => Some(self.wait()),
            deadline => self.wait_until(deadline),
        }
    }

    /// Calls `call` when it has ended; here and now if it has.
    pub(crate) fn at_end(&self, call: impl FnOnce() + Send + 'static) {
        let mut state = self.state();
        if state.exit.is_none() {
            state.at_end.push(Box::new(call));
            return;
        }
        drop(state);
        call();
    }

    /// The watch has collected it. To say so again changes nothing.
    pub(super) fn set_ended(&self, status: Option<ExitStatus>) {
        let killed = status.and_then(|status| status.signal()) == Some(libc::SIGKILL);
        let more_kills = killed && self.out_of_memory_kills.is_some_and(limit::claim_kill);
        let exit = Exit {
            status,
            out_of_memory: more_kills.then_some(OutOfMemory::Kernel),
            thread: None,
        };
        let mut state = self.state();
        if state.exit.is_some() {
            return;
        }
        state.exit = Some(exit);
        let calls = std::mem::take(&mut state.at_end);
        drop(state);
        self.ended.notify_all();
        for call in calls {
            os::thread::contained(call);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OutOfMemory::Kernel => f.write_str("the kernel killed it for lack of memory"),
            OutOfMemory::Limit(bytes) => {
                write!(
                    f,
                    "an allocation failed within its memory limit of {bytes} bytes"
                )
            }
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.thread, self.status) {
            (Some(ThreadEnd::LetGo), _) => f.write_str("was let go of"),
            (Some(ThreadEnd::Returned), _) => f.write_str("ended"),
            (None, None) => f.write_str("ended in a way that somebody else collected"),
            (None, Some(status)) => match (status.signal(), status.code()) {
                (Some(number), _) => write!(f, "was killed by {}", signal::name(number)),
                (None, Some(code)) => write!(f, "exited with code {code}"),
                (None, None) => write!(f, "ended with {status}"),
            },
        }
    }
}
