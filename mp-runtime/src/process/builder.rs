//! How to start a process.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::handle::Process;
use super::{LaunchSpec, Role, StartMethod, not_encoded};
use crate::error::Error;
use crate::link::{Call, CallHead};
use crate::os::{descriptor, exec::Stream};
use crate::registry::{Catalogue, ProcessFn};
use crate::wire::{BulkPlace, Encoder, Payload};

/// Starts a process with options; `mp::spawn!(square(12))` is `Builder::new().spawn(square,
/// (12,))`.
///
/// Without options the process has the environment, working directory, standard output and error
/// of this one, and nothing to read on standard input.
///
/// ```
/// #[mp::process_fn]
/// fn greeting() -> String {
///     format!("{} says {}", mp::current().name, std::env::var("WORD").unwrap_or_default())
/// }
///
/// # #[mp::main]
/// fn main() -> Result<(), mp::Error> {
///     let process = mp::Builder::new().name("p1").env("WORD", "hello").spawn(greeting, ())?;
///     assert_eq!(process.join()?, "p1 says hello");
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[must_use = "nothing starts before `spawn`"]
pub struct Builder {
    spec: LaunchSpec,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

impl Builder {
    /// A process like any other.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// assert_eq!(mp::Builder::new().spawn(square, (12,))?.join()?, 144);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new() -> Builder {
        Builder {
            spec: LaunchSpec::new(Role::Once),
        }
    }

    /// Its name, 1 to 255 bytes without NUL, in errors, in [`current`](crate::process::current) and
    /// in the lists of processes. Default: `Process-1` and so on.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let process = mp::Builder::new().name("p1").spawn(square, (12,))?;
    /// assert_eq!(process.name(), "p1");
    /// # process.join()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.spec.name = Some(name.into());
        self
    }

    /// Sets an environment variable for it, which is then executed whatever the
    /// [`start_method`](Builder::start_method): what runs before `mp::init` finds it, too.
    ///
    /// ```
    /// #[mp::process_fn]
    /// fn language() -> Option<String> {
    ///     std::env::var("LANG").ok()
    /// }
    ///
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let process = mp::Builder::new().env("LANG", "C").spawn(language, ())?;
    /// assert_eq!(process.join()?.as_deref(), Some("C"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Builder {
        self.spec.env.push((key.into(), value.into()));
        self
    }

    /// Its working directory.
    ///
    /// ```
    /// #[mp::process_fn]
    /// fn place() -> std::path::PathBuf {
    ///     std::env::current_dir().expect("it is there")
    /// }
    ///
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let process = mp::Builder::new().current_dir("/").spawn(place, ())?;
    /// assert_eq!(process.join()?, std::path::Path::new("/"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Builder {
        self.spec.current_dir = Some(dir.into());
        self
    }

    /// What it reads on standard input. Default: nothing.
    ///
    /// ```
    /// #[mp::process_fn]
    /// fn count() -> usize {
    ///     std::io::stdin().lines().count()
    /// }
    ///
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// use std::io::Write as _;
    ///
    /// let (read, mut write) = std::io::pipe().expect("there are descriptors");
    /// let stdin = mp::Stdio::from(std::os::fd::OwnedFd::from(read));
    /// let process = mp::Builder::new().stdin(stdin).spawn(count, ())?;
    /// write.write_all(b"one\ntwo\n").expect("somebody reads");
    /// drop(write);
    /// assert_eq!(process.join()?, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stdin(mut self, stdin: Stdio) -> Builder {
        self.spec.stdin = stdin;
        self
    }

    /// Where its standard output goes. Default: where this process's goes.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// mp::Builder::new().stdout(mp::Stdio::null()).spawn(square, (12,))?.join()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn stdout(mut self, stdout: Stdio) -> Builder {
        self.spec.stdout = stdout;
        self
    }

    /// Where its standard error goes. Default: where this process's goes.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// mp::Builder::new().stderr(mp::Stdio::null()).spawn(square, (12,))?.join()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn stderr(mut self, stderr: Stdio) -> Builder {
        self.spec.stderr = stderr;
        self
    }

    /// The most private memory it may have, in bytes: heap, anonymous mappings and stacks of
    /// threads (`RLIMIT_DATA`). An allocation beyond it fails, which ends a Rust program with
    /// SIGABRT. Default: that of this process.
    ///
    /// ```
    /// #[mp::process_fn]
    /// fn allocate(bytes: usize) -> usize {
    ///     vec![1_u8; bytes].len()
    /// }
    ///
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let process = mp::Builder::new().memory_limit(256 << 20).spawn(allocate, (1 << 30,))?;
    /// assert_eq!(process.join().unwrap_err().kind(), mp::ErrorKind::OutOfMemory);
    /// # Ok(())
    /// # }
    /// ```
    pub fn memory_limit(mut self, bytes: u64) -> Builder {
        self.spec.memory_limit = Some(bytes);
        self
    }

    /// The processors it may run on, by number. Default: those of this process.
    ///
    /// ```no_run
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let process = mp::Builder::new().cpus([0, 1]).spawn(square, (12,))?;
    /// assert_eq!(process.join()?, 144);
    /// # Ok(())
    /// # }
    /// ```
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = usize>) -> Builder {
        let mut cpus: Vec<usize> = cpus.into_iter().collect();
        cpus.sort_unstable();
        cpus.dedup();
        self.spec.cpus = Some(cpus);
        self
    }

    /// How long it may take until it has come to [`init`](crate::process::init); then it is killed
    /// and `join` says so. Default: 30 seconds.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// // On a machine that is so busy that even a start takes its time.
    /// let timeout = std::time::Duration::from_secs(120);
    /// let process = mp::Builder::new().start_timeout(timeout).spawn(square, (12,))?;
    /// assert_eq!(process.join()?, 144);
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_timeout(mut self, timeout: Duration) -> Builder {
        self.spec.start_timeout = timeout;
        self
    }

    /// How it is started. Default: [`StartMethod::ForkServer`], or what the environment variable
    /// `MP_START_METHOD` says.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let method = mp::StartMethod::Exec;
    /// let process = mp::Builder::new().start_method(method).spawn(square, (12,))?;
    /// assert_eq!(process.join()?, 144);
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_method(mut self, method: StartMethod) -> Builder {
        self.spec.start_method = Some(method);
        self
    }

    /// Starts a process that runs `function` with `args`, and returns while it starts.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let process = mp::Builder::new().spawn(square, (12,))?;
    /// assert_eq!(process.join()?, 144);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotInitialized`](crate::error::ErrorKind::NotInitialized),
    /// [`Encode`](crate::error::ErrorKind::Encode) for arguments that cannot be encoded, and
    /// [`Spawn`](crate::error::ErrorKind::Spawn), with the reason, if no process could be started;
    /// then none is left behind. What keeps a process that was started from working is told by
    /// [`Process::join`].
    pub fn spawn<F: ProcessFn>(
        self,
        function: F,
        args: F::Args,
    ) -> Result<Process<F::Output>, Error> {
        let _ = function;
        self.spec.check()?;
        let function = F::__function();
        let encoder = Encoder::with_bulk(BulkPlace::Kept);
        let encoded = Payload::encode_with(encoder, |to| F::__encode(&args, to));
        drop(args);
        let payload = encoded
            .and_then(|payload| payload.check_released().map(|()| payload))
            .map_err(|error| not_encoded(function, None, &error))?;
        let head = CallHead {
            function: Catalogue::get()?.number(function).unwrap_or(u32::MAX),
            number: super::handle::ONLY_CALL,
            ..CallHead::default()
        };
        let call = Call::of_one(head, Arc::new(payload.bytes));
        let handles = payload.handles.map(Arc::new);
        Process::start(self.spec, function, call, handles, F::__decode)
    }
}

impl std::fmt::Debug for LaunchSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaunchSpec")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Where a standard stream of a process comes from or goes to.
///
/// ```
/// # #[mp::process_fn]
/// # fn square(x: i64) -> i64 { x * x }
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// let quiet = mp::Builder::new().stdout(mp::Stdio::null()).stderr(mp::Stdio::null());
/// quiet.spawn(square, (12,))?.join()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Stdio(Kind);

#[derive(Debug)]
enum Kind {
    Inherit,
    Null,
    Piped,
    Descriptor(OwnedFd),
}

impl Stdio {
    /// The stream of this process.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// // As without it.
    /// mp::Builder::new().stdout(mp::Stdio::inherit()).spawn(square, (12,))?.join()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn inherit() -> Stdio {
        Stdio(Kind::Inherit)
    }

    /// Nowhere: `/dev/null`.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// mp::Builder::new().stderr(mp::Stdio::null()).spawn(square, (12,))?.join()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn null() -> Stdio {
        Stdio(Kind::Null)
    }

    /// A pipe to this process, for standard output: see [`Process::take_stdout`]. For the other
    /// streams make a pipe with [`std::io::pipe`] and hand over an end.
    ///
    /// ```
    /// #[mp::process_fn]
    /// fn hello() {
    ///     println!("hello");
    /// }
    ///
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let mut process = mp::Builder::new().stdout(mp::Stdio::piped()).spawn(hello, ())?;
    /// let stdout = process.take_stdout().expect("it was piped");
    /// assert_eq!(std::io::read_to_string(stdout).expect("it can be read"), "hello\n");
    /// process.join()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn piped() -> Stdio {
        Stdio(Kind::Piped)
    }

    pub(super) fn is_inherited(&self) -> bool {
        matches!(self.0, Kind::Inherit)
    }

    /// What standard output of the process shall be, and this process's end of a pipe.
    pub(super) fn open_output(self) -> io::Result<(Stream, Option<OwnedFd>)> {
        match self.0 {
            Kind::Piped => {
                let (read, write) = descriptor::pipe()?;
                Ok((Stream::Of(write), Some(read)))
            }
            _ => Ok((self.into_stream()?, None)),
        }
    }

    /// For the streams that cannot be piped.
    pub(super) fn into_stream(self) -> io::Result<Stream> {
        match self.0 {
            Kind::Inherit => Ok(Stream::Inherit),
            Kind::Null => Ok(Stream::Null),
            Kind::Descriptor(fd) => Ok(Stream::Of(fd)),
            Kind::Piped => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "`Stdio::piped` is for standard output; for another stream make a pipe with \
                 `std::io::pipe` and hand over an end of it",
            )),
        }
    }
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Stdio {
        Stdio(Kind::Descriptor(fd))
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Stdio {
        OwnedFd::from(file).into()
    }
}
