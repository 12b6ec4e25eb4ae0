//! Waiting for the first of several: processes, tasks and connections.
//!
//! Processes and connections have descriptors. Tasks have none: each rings a bell when its result
//! is there, one for all that are waited for, which has a descriptor. So one call of poll(2) sleeps
//! for all of them, and nobody looks again and again.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::channel::Connection;
use crate::error::{Error, ErrorKind};
use crate::os::descriptor;
use crate::os::event_fd::EventFd;
use crate::pool::Task;
use crate::process::Process;
use sealed::{Sign, Waits};

/// What [`wait_any`] waits for: a [`Process`], a [`Task`], a [`Connection`], or a reference to one.
///
/// ```
/// # fn main() -> Result<(), mp::Error> {
/// fn first(of: &[&dyn mp::Waitable]) -> Result<Option<usize>, mp::Error> {
///     mp::wait_any(of, std::time::Duration::from_millis(1))
/// }
///
/// let (_here, there) = mp::pipe::<u32, u32>()?;
/// assert_eq!(first(&[&there])?, None);
/// # Ok(())
/// # }
/// ```
pub trait Waitable: Waits {}

impl<T: Waits + ?Sized> Waitable for T {}

mod sealed {
    use super::*;

    /// How to find out that something is ready.
    #[derive(Debug)]
    pub enum Sign<'a> {
        /// Its descriptor is readable.
        Fd(BorrowedFd<'a>),
        /// It rings.
        Bell,
    }

    /// What can be waited for.
    pub trait Waits {
        /// How to find out.
        #[doc(hidden)]
        fn sign(&self) -> Sign<'_>;

        /// Whether it is ready. If its descriptor is readable or it has rung, `was_signed`, this
        /// may wait for a moment.
        #[doc(hidden)]
        fn is_ready(&self, was_signed: bool) -> Result<bool, Error>;

        /// Rings when it is ready, if it rings.
        #[doc(hidden)]
        fn ring(&self, _bell: &Ringer) {}

        /// Does not ring any more.
        #[doc(hidden)]
        fn forget(&self, _bell: &Ringer) {}
    }

    /// The bell of one who waits.
    #[derive(Debug)]
    pub struct Ringer(pub(super) Arc<EventFd>);
}

use sealed::Ringer;

impl<R> Waits for Process<R> {
    fn sign(&self) -> Sign<'_> {
        Sign::Fd(self.as_fd())
    }

    fn is_ready(&self, was_signed: bool) -> Result<bool, Error> {
        if was_signed {
            // It has ended; the thread that collects it is about to.
            self.wait();
        }
        Ok(self.is_finished())
    }
}

impl<S, R> Waits for Connection<S, R> {
    fn sign(&self) -> Sign<'_> {
        Sign::Fd(self.as_fd())
    }

    fn is_ready(&self, _was_signed: bool) -> Result<bool, Error> {
        self.poll(Duration::ZERO)
    }
}

impl<R> Waits for Task<R> {
    fn sign(&self) -> Sign<'_> {
        Sign::Bell
    }

    fn is_ready(&self, _was_signed: bool) -> Result<bool, Error> {
        self.require_waitable()?;
        Ok(self.is_finished())
    }

    fn ring(&self, bell: &Ringer) {
        self.ring_when_finished(&bell.0);
    }

    fn forget(&self, bell: &Ringer) {
        Task::forget(self, &bell.0);
    }
}

impl<T: Waits + ?Sized> Waits for &T {
    fn sign(&self) -> Sign<'_> {
        (**self).sign()
    }

    fn is_ready(&self, was_signed: bool) -> Result<bool, Error> {
        (**self).is_ready(was_signed)
    }

    fn ring(&self, bell: &Ringer) {
        (**self).ring(bell);
    }

    fn forget(&self, bell: &Ringer) {
        (**self).forget(bell);
    }
}

/// Waits until one of `items` is ready, at most so long; `None` waits for ever. Gives the place of
/// the first that is, or `None` after the time (`multiprocessing.connection.wait`).
///
/// A process is ready when it has ended, a task when its result is there, a connection when there
/// is something to receive or its other end is gone. Waiting changes none of them.
///
/// ```
/// # #[mp::process_fn]
/// # fn square(x: i64) -> i64 { x * x }
/// # #[mp::process_fn]
/// # fn wait_for_ever() { loop { std::thread::park() } }
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// # let pool = mp::Pool::new(1)?;
/// let process = mp::spawn!(wait_for_ever())?;
/// let task = pool.submit(square, (12,))?;
/// let (_here, there) = mp::pipe::<u32, u32>()?;
///
/// assert_eq!(mp::wait_any(&[&process, &task, &there], None)?, Some(1));
/// assert_eq!(task.join()?, 144);
///
/// let timeout = std::time::Duration::from_millis(5);
/// assert_eq!(mp::wait_any(&[&process, &there], timeout)?, None);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`WouldDeadlock`](ErrorKind::WouldDeadlock) for no items and no timeout, [`Io`](ErrorKind::Io)
/// if there is no free descriptor: tasks take one while they are waited for.
pub fn wait_any(
    items: &[&dyn Waitable],
    timeout: impl Into<Option<Duration>>,
) -> Result<Option<usize>, Error> {
    let deadline = timeout
        .into()
        .and_then(|timeout| Instant::now().checked_add(timeout));
    wait_until(items, deadline)
}

fn wait_until(items: &[&dyn Waitable], deadline: Option<Instant>) -> Result<Option<usize>, Error> {
    if items.is_empty() && deadline.is_none() {
        let message = "waiting for the first of no items would never end";
        return Err(Error::new(ErrorKind::WouldDeadlock, message));
    }
    let mut signs = vec![false; items.len()];
    if let Some(place) = first_ready(items, &signs)? {
        return Ok(Some(place));
    }
    let bell = Hung::before(items)?;
    // The bell comes last.
    let fds = items.iter().filter_map(|item| match item.sign() {
        Sign::Fd(fd) => Some(fd),
        Sign::Bell => None,
    });
    let fds: Vec<_> = fds.chain(bell.as_ref().map(Hung::as_fd)).collect();
    loop {
        let readable = descriptor::wait_readable_until(&fds, deadline).map_err(not_waited)?;
        let mut readable = readable.into_iter();
        for (item, was_signed) in items.iter().zip(&mut signs) {
            *was_signed = match item.sign() {
                Sign::Fd(_) => readable.next().unwrap_or(false),
                Sign::Bell => true,
            };
        }
        if readable.next().unwrap_or(false) {
            // What rings from now on rings again.
            bell.iter().for_each(|bell| bell.ringer.0.silence());
        }
        if let Some(place) = first_ready(items, &signs)? {
            return Ok(Some(place));
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(None);
        }
    }
}

fn first_ready(items: &[&dyn Waitable], signs: &[bool]) -> Result<Option<usize>, Error> {
    for (place, (item, &was_signed)) in items.iter().zip(signs).enumerate() {
        if item.is_ready(was_signed)? {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// A bell that items ring, until this is dropped.
struct Hung<'a> {
    items: &'a [&'a dyn Waitable],
    ringer: Ringer,
}

impl<'a> Hung<'a> {
    /// One for those of `items` that ring, if there are any.
    fn before(items: &'a [&'a dyn Waitable]) -> Result<Option<Hung<'a>>, Error> {
        if !items.iter().any(|item| matches!(item.sign(), Sign::Bell)) {
            return Ok(None);
        }
        let bell = EventFd::new().map_err(not_waited)?;
        let ringer = Ringer(Arc::new(bell));
        items.iter().for_each(|item| item.ring(&ringer));
        Ok(Some(Hung { items, ringer }))
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ringer.0.as_fd()
    }
}

impl Drop for Hung<'_> {
    fn drop(&mut self) {
        self.items.iter().for_each(|item| item.forget(&self.ringer));
    }
}

fn not_waited(error: std::io::Error) -> Error {
    let message = format!("the first of several could not be waited for: {error}");
    Error::new(ErrorKind::Io, message).with_source(error)
}
