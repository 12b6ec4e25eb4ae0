//! Threads that the library starts.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};

use super::identity::process_id;

/// Enough for the library's own code, which decodes no user's value on these threads.
const STACK_BYTES: usize = 256 << 10;

/// Starts a thread that no signal of the program is ever delivered to.
pub(crate) fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let thread = Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
    spawn_without(&SigSet::all(), thread, body)
}

/// Starts a thread that runs code of the program. It has a stack of so many bytes, or that of any
/// thread of the program, and takes no signal but those that its own code causes, for which the
/// program may have handlers.
///
/// # Panics
///
/// If there is a NUL in the name.
pub(crate) fn spawn_for_program(
    name: &str,
    stack_bytes: Option<usize>,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    const OWN: [Signal; 7] = [
        Signal::SIGABRT,
        Signal::SIGBUS,
        Signal::SIGFPE,
        Signal::SIGILL,
        Signal::SIGSEGV,
        Signal::SIGSYS,
        Signal::SIGTRAP,
    ];
    let mut masked = SigSet::all();
    OWN.into_iter().for_each(|signal| masked.remove(signal));
    let thread = Builder::new().name(name.to_owned());
    let thread = match stack_bytes {
        Some(bytes) => thread.stack_size(bytes),
        None => thread,
    };
    spawn_without(&masked, thread, body)
}

fn spawn_without(
    signals: &SigSet,
    thread: Builder,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    // The new thread inherits the mask, so there is no moment at which it could be picked.
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(signals), Some(&mut before))?;
    let thread = thread.spawn(body);
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    thread
}

/// What a thread of the library serves, made at first use and once in each process: a fork of the
/// program has none of its threads, and gets its own.
pub(crate) struct PerProcess<T>(Mutex<Option<(u32, T)>>);

impl<T: Clone> PerProcess<T> {
    pub(crate) const fn new() -> PerProcess<T> {
        PerProcess(Mutex::new(None))
    }

    /// The one of this process; if it cannot be made the next call tries again.
    pub(crate) fn get_or_try_init<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own_id = process_id();
        if let Some((owner_id, value)) = &*made
            && *owner_id == own_id
        {
            return Ok(value.clone());
        }
        let value = make()?;
        *made = Some((own_id, value.clone()));
        Ok(value)
    }

    /// The one of this process, if it was made.
    pub(crate) fn get_waiting(&self) -> Option<T> {
        let made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (owner_id, value) = made.as_ref()?;
        (*owner_id == process_id()).then(|| value.clone())
    }

    /// The one of this process, if it was made and nobody else asks for it at the moment: it waits for
    /// nobody.
    pub(crate) fn get(&self) -> Option<T> {
        let made = self.0.try_lock().ok()?;
        let (owner_id, value) = made.as_ref()?;
        (*owner_id == process_id()).then(|| value.clone())
    }
}

/// Runs code whose panic must not end the thread it is called on: of the program, such as a waker, or
/// of the library, on a thread that serves others.
/// The panic was reported by the program's hook.
pub(crate) fn contained(call: impl FnOnce()) {
    if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)) {
        // Dropping what somebody panicked with may panic again.
        std::mem::forget(panic);
    }
}

/// The kernel's id of the thread that calls.
pub(crate) fn own_id() -> u32 {
    nix::unistd::gettid().as_raw().cast_unsigned()
}
