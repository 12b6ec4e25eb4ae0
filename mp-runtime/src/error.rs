//! What can go wrong, said once for the whole library.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;

/// Why something failed: one sentence that names who, what and why, and the evidence behind it.
///
/// `Display` and `Debug` both print that sentence, so that a `main` that returns an `Error` reads
/// well. Match on [`kind`](Error::kind) to act on it.
///
/// ```
/// let error = mp::Pool::new(0).unwrap_err();
/// assert_eq!(error.to_string(), "a pool of 0 workers cannot run anything: ask for at least one");
/// ```
#[derive(Clone)]
pub struct Error(Arc<Report>);

#[derive(Clone)]
struct Report {
    kind: ErrorKind,
    message: String,
    panic: Option<Panic>,
    process_id: Option<u32>,
    exit_status: Option<ExitStatus>,
    function: Option<&'static str>,
    item: Option<usize>,
    stderr: Option<Arc<str>>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The kinds of [`Error`].
///
/// ```
/// # #[mp::process_fn]
/// # fn boom(n: u32) { panic!("no {n}") }
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// # let pool = mp::Pool::new(2)?;
/// match pool.apply(boom, (7,)) {
///     Err(error) if error.kind() == mp::ErrorKind::Panicked => println!("{error}"),
///     other => other?,
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The program never called `mp::init`, so that its processes could not become workers.
    NotInitialized,
    /// A process, or a pool, could not be started.
    Spawn,
    /// The function panicked; see [`Error::panic`].
    Panicked,
    /// The process was killed by a signal; see [`Error::signal`].
    Died,
    /// The process called `exit`, with any code, before its function returned.
    Exited,
    /// The function did not return in time; its worker was killed, or let go of if it is a thread.
    TimedOut,
    /// The task was cancelled, or its pool was terminated.
    Cancelled,
    /// The pool takes no more work, or the result was taken already.
    Closed,
    /// A value could not be turned into bytes.
    Encode,
    /// Bytes could not be turned into a value.
    Decode,
    /// The process ran out of the memory it may use.
    OutOfMemory,
    /// The initializer of a pool failed.
    Initializer,
    /// The owner of a lock died or panicked while it held it.
    Poisoned,
    /// Waiting would never end.
    WouldDeadlock,
    /// What was asked for cannot be done here.
    Unsupported,
    /// A system call failed; see `source()`.
    Io,
}

impl Error {
    /// An error of this kind whose sentence is `message`.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Arc::new(Report {
            kind,
            message: message.into(),
            panic: None,
            process_id: None,
            exit_status: None,
            function: None,
            item: None,
            stderr: None,
            source: None,
        }))
    }

    /// Its own report: a clone of an error shares that of the original.
    fn report(&mut self) -> &mut Report {
        Arc::make_mut(&mut self.0)
    }

    pub(crate) fn with_panic(mut self, panic: Panic) -> Error {
        self.report().panic = Some(panic);
        self
    }

    pub(crate) fn with_process_id(mut self, process_id: u32) -> Error {
        self.report().process_id = Some(process_id);
        self
    }

    pub(crate) fn with_exit_status(mut self, status: Option<ExitStatus>) -> Error {
        self.report().exit_status = status;
        self
    }

    pub(crate) fn with_function(mut self, function: &'static str) -> Error {
        self.report().function = Some(function);
        self
    }

    pub(crate) fn with_item(mut self, item: Option<usize>) -> Error {
        self.report().item = item;
        self
    }

    pub(crate) fn with_stderr(mut self, tail: Option<String>) -> Error {
        self.report().stderr = tail.map(Arc::from);
        self
    }

    pub(crate) fn with_source(
        mut self,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Error {
        self.report().source = Some(Arc::new(source));
        self
    }

    /// The same, as what made an initializer fail.
    pub(crate) fn of_initializer(mut self) -> Error {
        let report = self.report();
        report.kind = ErrorKind::Initializer;
        report.message = format!("the initializer failed: {}", report.message);
        self
    }

    /// What kind of failure this is.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn boom(n: u32) { panic!("no {n}") }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let error = pool.apply(boom, (7,)).unwrap_err();
    /// assert_eq!(error.kind(), mp::ErrorKind::Panicked);
    /// # Ok(())
    /// # }
    /// ```
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The panic of the function, for [`ErrorKind::Panicked`].
    ///
    /// ```
    /// #[mp::process_fn]
    /// fn boom(n: u32) {
    ///     panic!("no {n}")
    /// }
    ///
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let error = pool.apply(boom, (7,)).unwrap_err();
    /// assert_eq!(error.panic().map(|panic| panic.message()), Some("no 7"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn panic(&self) -> Option<&Panic> {
        self.0.panic.as_ref()
    }

    /// The id of the process it happened in.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn boom(n: u32) { panic!("no {n}") }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let pool = mp::Pool::new(1)?;
    /// let worker = pool.workers()[0].id;
    /// let error = pool.apply(boom, (7,)).unwrap_err();
    /// assert_eq!(error.process_id(), Some(worker));
    /// # Ok(())
    /// # }
    /// ```
    pub fn process_id(&self) -> Option<u32> {
        self.0.process_id
    }

    /// How that process ended, if it ended.
    ///
    /// ```
    /// #[mp::process_fn]
    /// fn leave() {
    ///     std::process::exit(3);
    /// }
    ///
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let error = pool.apply(leave, ()).unwrap_err();
    /// assert_eq!(error.exit_status().and_then(|status| status.code()), Some(3));
    /// # Ok(())
    /// # }
    /// ```
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.0.exit_status
    }

    /// The signal that killed that process.
    ///
    /// ```
    /// #[mp::process_fn]
    /// fn fail() {
    ///     std::process::abort();
    /// }
    ///
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// const SIGABRT: i32 = 6;
    /// let error = pool.apply(fail, ()).unwrap_err();
    /// assert_eq!(error.signal(), Some(SIGABRT));
    /// # Ok(())
    /// # }
    /// ```
    pub fn signal(&self) -> Option<i32> {
        self.0.exit_status.and_then(|status| status.signal())
    }

    /// The name of the process function that was running.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn boom(n: u32) { panic!("no {n}") }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let error = pool.apply(boom, (7,)).unwrap_err();
    /// assert!(error.function().is_some_and(|name| name.ends_with("::boom")));
    /// # Ok(())
    /// # }
    /// ```
    pub fn function(&self) -> Option<&str> {
        self.0.function
    }

    /// The place of the item in what was mapped over, from 0.
    ///
    /// ```
    /// #[mp::process_fn]
    /// fn share(parts: u32) -> u32 {
    ///     100 / parts
    /// }
    ///
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let error = pool.map(share, [5, 2, 0, 4]).unwrap_err();
    /// assert_eq!(error.item(), Some(2));
    /// # Ok(())
    /// # }
    /// ```
    pub fn item(&self) -> Option<usize> {
        self.0.item
    }

    /// The end of what the process wrote to standard error, where it was kept: for the workers of a
    /// pool (see [`PoolBuilder::stderr_tail`](crate::pool::PoolBuilder::stderr_tail)) that died or
    /// were killed. `None` if it wrote nothing.
    ///
    /// It says what a signal does not: `double free or corruption`, `memory allocation of 64 bytes
    /// failed`, which assertion of a C library did not hold. It is all that was written since the
    /// worker's start, by any of its threads and calls, and not of this call alone. Bytes that are
    /// not UTF-8 are replaced.
    ///
    /// ```
    /// #[mp::process_fn]
    /// fn fail() {
    ///     eprintln!("the disk is on fire");
    ///     std::process::abort();
    /// }
    ///
    /// # #[mp::main]
    /// fn main() -> Result<(), mp::Error> {
    ///     let pool = mp::Pool::new(1)?;
    ///     let error = pool.apply(fail, ()).unwrap_err();
    ///     assert_eq!(error.stderr(), Some("the disk is on fire\n"));
    ///     Ok(())
    /// }
    /// ```
    pub fn stderr(&self) -> Option<&str> {
        self.0.stderr.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.0.message, self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0
            .source
            .as_ref()
            .map(|source| source.as_ref() as &(dyn std::error::Error + 'static))
    }
}

/// A panic of a process function, as it happened in its process.
///
/// ```
/// # #[mp::process_fn]
/// # fn boom(n: u32) { panic!("no {n}") }
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// # let pool = mp::Pool::new(2)?;
/// let error = pool.apply(boom, (7,)).unwrap_err();
/// let panic = error.panic().expect("it panicked");
/// assert_eq!(panic.message(), "no 7");
/// assert!(panic.location().is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panic {
    pub(crate) message: String,
    pub(crate) location: Option<String>,
    pub(crate) backtrace: Option<String>,
}

impl Panic {
    /// What the function panicked with; a placeholder if that was neither a `&str` nor a `String`.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn boom(n: u32) { panic!("no {n}") }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let error = pool.apply(boom, (7,)).unwrap_err();
    /// assert_eq!(error.panic().expect("it panicked").message(), "no 7");
    /// # Ok(())
    /// # }
    /// ```
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where it panicked, as `file:line:column`.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn boom(n: u32) { panic!("no {n}") }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// # let pool = mp::Pool::new(2)?;
    /// let error = pool.apply(boom, (7,)).unwrap_err();
    /// let location = error.panic().and_then(|panic| panic.location());
    /// // As in "src/main.rs:3:5".
    /// assert!(location.is_some_and(|place| place.contains(".rs:")));
    /// # Ok(())
    /// # }
    /// ```
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// The stack at the panic, where `RUST_BACKTRACE` or `RUST_LIB_BACKTRACE` asks for one.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn boom(n: u32) { panic!("no {n}") }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let process = mp::Builder::new().env("RUST_BACKTRACE", "1").spawn(boom, (7,))?;
    /// let error = process.join().unwrap_err();
    /// assert!(error.panic().is_some_and(|panic| panic.backtrace().is_some()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn backtrace(&self) -> Option<&str> {
        self.backtrace.as_deref()
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Some(location) => write!(f, "panicked at {location}: {}", self.message),
            None => write!(f, "panicked: {}", self.message),
        }
    }
}
