//! What a lock knows about owners that did not come to their end.

use std::fmt;

use crate::error::{Error, ErrorKind};

/// Why a lock could not be handed over as if nothing had happened.
///
/// ```
/// # use mp::sync::{Mutex, PoisonCause};
/// let lock = Mutex::new(0);
/// let result = std::thread::scope(|scope| {
///     scope.spawn(|| {
///         let _guard = lock.lock();
///         panic!("half-way");
///     }).join()
/// });
/// assert!(result.is_err());
/// let poisoned = lock.lock().unwrap_err();
/// let pid = std::process::id();
/// assert_eq!(poisoned.cause(), PoisonCause::Panicked { pid });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoisonCause {
    /// The process that had the lock ended while it had it.
    OwnerDied {
        /// The id of that process.
        pid: u32,
    },
    /// A panic began while the lock was held.
    Panicked {
        /// The id of the process it happened in.
        pid: u32,
    },
}

/// This very thread has the lock: waiting would never end.
pub(crate) const WOULD_DEADLOCK: &str =
    "this thread holds the lock already: to wait for it would be a deadlock";

const KIND_SHIFT: u32 = 30;
const PID_MASK: u32 = (1 << KIND_SHIFT) - 1;
const DIED: u32 = 1;
const PANICKED: u32 = 2;

impl PoisonCause {
    /// As a word of shared memory: the kind in the two high bits, the process id below; 0 is none.
    pub(crate) fn word(self) -> u32 {
        match self {
            PoisonCause::OwnerDied { pid } => (DIED << KIND_SHIFT) | (pid & PID_MASK),
            PoisonCause::Panicked { pid } => (PANICKED << KIND_SHIFT) | (pid & PID_MASK),
        }
    }

    #[inline]
    pub(crate) fn of_word(word: u32) -> Option<PoisonCause> {
        let pid = word & PID_MASK;
        match word >> KIND_SHIFT {
            0 => None,
            PANICKED => Some(PoisonCause::Panicked { pid }),
            _ => Some(PoisonCause::OwnerDied { pid }),
        }
    }

    fn pid(self) -> u32 {
        match self {
            PoisonCause::OwnerDied { pid } | PoisonCause::Panicked { pid } => pid,
        }
    }
}

impl fmt::Display for PoisonCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoisonCause::OwnerDied { pid } => write!(
                f,
                "the lock is poisoned: process {pid} died while it held it"
            ),
            PoisonCause::Panicked { pid } => write!(
                f,
                "the lock is poisoned: process {pid} panicked while it held it"
            ),
        }
    }
}

/// The lock was had, but an owner before did not come to its end with it: what it guards may be
/// half done. [`into_inner`](Poisoned::into_inner) gives the guard all the same; after the repair,
/// `clear_poison` of the lock lets others have it without being told.
///
/// Dropping it gives the lock back, and leaves it poisoned.
///
/// It is also what `lock` gives a thread that has the lock already, since to wait for itself would
/// never end. Then its [`kind`](Poisoned::kind) is [`ErrorKind::WouldDeadlock`], there is no cause,
/// and no guard: this thread has the one there is.
///
/// ```
/// # use mp::sync::Mutex;
/// # let lock = Mutex::new(1);
/// let mut guard = match lock.lock() {
///     Ok(guard) => guard,
///     Err(poisoned) => {
///         eprintln!("{}", poisoned.cause());
///         let mut guard = poisoned.into_inner();
///         *guard = 0; // back to a state that is known
///         lock.clear_poison();
///         guard
///     }
/// };
/// *guard += 1;
/// ```
pub struct Poisoned<G>(Option<(G, PoisonCause)>);

impl<G> Poisoned<G> {
    pub(crate) fn new(guard: G, cause: PoisonCause) -> Poisoned<G> {
        Poisoned(Some((guard, cause)))
    }

    /// This thread has the lock already.
    pub(crate) fn would_deadlock() -> Poisoned<G> {
        Poisoned(None)
    }

    /// The same about a guard made of this one.
    pub(crate) fn map<H>(self, make: impl FnOnce(G) -> H) -> Poisoned<H> {
        Poisoned(self.0.map(|(guard, cause)| (make(guard), cause)))
    }

    /// What happened.
    ///
    /// ```
    /// # let lock = mp::sync::Mutex::new(0);
    /// # std::thread::scope(|scope| scope.spawn(|| { let _guard = lock.lock(); panic!() }).join().is_err());
    /// let poisoned = lock.lock().unwrap_err();
    /// println!("{}", poisoned.cause());
    /// ```
    ///
    /// # Panics
    ///
    /// If this thread had the lock already.
    #[track_caller]
    pub fn cause(&self) -> PoisonCause {
        match &self.0 {
            Some((_, cause)) => *cause,
            None => panic!("{WOULD_DEADLOCK}"),
        }
    }

    /// [`ErrorKind::Poisoned`]; or [`ErrorKind::WouldDeadlock`], if this thread had the lock
    /// already.
    ///
    /// ```
    /// # let lock = mp::sync::Mutex::new(0);
    /// let _guard = lock.lock();
    /// let error = lock.lock().map(drop).unwrap_err();
    /// assert_eq!(error.kind(), mp::ErrorKind::WouldDeadlock);
    /// ```
    pub fn kind(&self) -> ErrorKind {
        match &self.0 {
            Some(_) => ErrorKind::Poisoned,
            None => ErrorKind::WouldDeadlock,
        }
    }

    /// The guard.
    ///
    /// ```
    /// # let lock = mp::sync::Mutex::new(0);
    /// let guard = lock.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    /// # drop(guard);
    /// ```
    ///
    /// # Panics
    ///
    /// If this thread had the lock already.
    #[track_caller]
    pub fn into_inner(self) -> G {
        match self.0 {
            Some((guard, _)) => guard,
            None => panic!("{WOULD_DEADLOCK}"),
        }
    }
}

impl<G> fmt::Debug for Poisoned<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((_, cause)) => f.debug_tuple("Poisoned").field(cause).finish(),
            None => f.write_str("WouldDeadlock"),
        }
    }
}

impl<G> fmt::Display for Poisoned<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((_, cause)) => cause.fmt(f),
            None => f.write_str(WOULD_DEADLOCK),
        }
    }
}

impl<G> std::error::Error for Poisoned<G> {}

impl<G> From<Poisoned<G>> for Error {
    /// Gives the lock back, and keeps what happened.
    fn from(poisoned: Poisoned<G>) -> Error {
        let error = Error::new(poisoned.kind(), poisoned.to_string());
        match poisoned.0 {
            Some((_, cause)) => error.with_process_id(cause.pid()),
            None => error,
        }
    }
}

/// Why a lock was not had without waiting, or not in time.
///
/// ```
/// # use mp::sync::{Mutex, TryLockError};
/// let lock = Mutex::new(0);
/// let _guard = lock.lock();
/// assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
/// ```
pub enum TryLockError<G> {
    /// It was had, and is poisoned; or this thread has it already, so that waiting for it would
    /// never end.
    Poisoned(Poisoned<G>),
    /// Somebody has it.
    WouldBlock,
    /// Somebody had it for the whole time.
    TimedOut,
}

impl<G> fmt::Debug for TryLockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryLockError::Poisoned(poisoned) => f.debug_tuple("Poisoned").field(poisoned).finish(),
            TryLockError::WouldBlock => f.write_str("WouldBlock"),
            TryLockError::TimedOut => f.write_str("TimedOut"),
        }
    }
}

impl<G> fmt::Display for TryLockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryLockError::Poisoned(poisoned) => poisoned.fmt(f),
            TryLockError::WouldBlock => f.write_str("the lock is held"),
            TryLockError::TimedOut => f.write_str("the lock was held until the time was over"),
        }
    }
}

impl<G> std::error::Error for TryLockError<G> {}

impl<G> From<Poisoned<G>> for TryLockError<G> {
    fn from(poisoned: Poisoned<G>) -> TryLockError<G> {
        TryLockError::Poisoned(poisoned)
    }
}

impl<G> From<TryLockError<G>> for Error {
    fn from(error: TryLockError<G>) -> Error {
        match error {
            TryLockError::Poisoned(poisoned) => poisoned.into(),
            other => Error::new(ErrorKind::TimedOut, other.to_string()),
        }
    }
}
