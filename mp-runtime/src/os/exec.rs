//! Starts the current binary again.
//!
//! The new process borrows the memory of this one until it executes the binary (`CLONE_VM` and
//! `CLONE_VFORK`, clone(2)), as with `posix_spawn`, so that it does not matter how much that is; the
//! thread that calls waits for so long. What is done in between is more than `posix_spawn` can do, and
//! follows its rules:
//!
//! 1. Every signal is blocked meanwhile, and before they are not, the new process forgets the handlers
//!    of the program (but that of SIGABRT), so that none runs in it.
//! 2. It makes system calls, on what was made ready before, and nothing else: no allocation, no lock.
//!    Descriptors, signals and the working directory are its own; of the memory it writes to its
//!    stack, which nobody else has, to the place for its error, and to `errno` of the thread that
//!    waits.

use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::ptr;

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::unistd::Pid;

use super::call::named;
use super::descriptor;
use super::pidfd::PidFd;

/// The running binary: the same inode even if the file at its path was replaced or removed.
pub(crate) const THIS_BINARY: &CStr = c"/proc/self/exe";

/// What the new process needs before it has a stack of its own, and more.
const STACK_BYTES: usize = 64 << 10;

/// How to start it.
pub(crate) struct Launch {
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) current_dir: Option<PathBuf>,
    /// Standard input, output and error.
    pub(crate) streams: [Stream; 3],
}

/// A standard stream of a new process.
#[derive(Debug)]
pub(crate) enum Stream {
    /// That of this process.
    Inherit,
    /// `/dev/null`.
    Null,
    Of(OwnedFd),
}

impl Stream {
    /// What is to be put in its place, above the places of all of them.
    fn open(self) -> io::Result<Option<OwnedFd>> {
        let fd = match self {
            Stream::Inherit => return Ok(None),
            Stream::Null => File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .map_err(named("open of /dev/null"))?
                .into(),
            Stream::Of(fd) => fd,
        };
        let above = descriptor::above_standard(fd);
        above.map(Some).map_err(named("fcntl"))
    }
}

impl Launch {
    /// Starts the process; it keeps the descriptors `inherit` under the numbers they have here, and
    /// SIGINT waits until it is ready for it. It is killed when the thread ends that calls this.
    ///
    /// # Errors
    ///
    /// Whatever kept the clone, the change of directory or the exec from succeeding; no process is
    /// left behind then.
    pub(crate) fn start(self, inherit: &[RawFd]) -> io::Result<(u32, PidFd)> {
        let name = std::env::args_os().next();
        let name = name.unwrap_or_else(|| OsStr::new("mp").into());
        let args: Vec<CString> = std::iter::once(name)
            .chain(self.args)
            .map(|arg| Ok(CString::new(arg.into_vec())?))
            .collect::<io::Result<_>>()?;
        let env = environment(self.env)?;
        let directory = self.current_dir;
        let directory = directory.map(|path| CString::new(path.into_os_string().into_vec()));
        let [stdin, stdout, stderr] = self.streams;
        let streams = [stdin.open()?, stdout.open()?, stderr.open()?];
        let (args, env) = (pointers(&args), pointers(&env));
        let mut plan = Plan {
            args: &args,
            env: &env,
            directory: directory.transpose()?,
            streams: [0, 1, 2].map(|place| streams[place].as_ref().map(OwnedFd::as_raw_fd)),
            inherit,
            parent: Pid::this(),
            error: None,
        };
        let mut before = SigSet::empty();
        pthread_sigmask(
            SigmaskHow::SIG_SETMASK,
            Some(&SigSet::all()),
            Some(&mut before),
        )?;
        let cloned = clone(&mut plan);
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
        let (id, pidfd) = cloned.map_err(named("clone"))?;
        let pidfd = PidFd::of(id, pidfd);
        match plan.error {
            None => Ok((id, pidfd)),
            Some((call, error)) => {
                pidfd.end();
                Err(named(call)(error))
            }
        }
    }
}

/// That of this process, with these in it.
fn environment(changes: Vec<(OsString, OsString)>) -> io::Result<Vec<CString>> {
    let is_changed = |name: &OsStr| changes.iter().any(|(changed, _)| changed == name);
    let kept = std::env::vars_os().filter(|(name, _)| !is_changed(name));
    // The last of several counts.
    let is_last = |&(place, (name, _)): &(usize, &(OsString, OsString))| {
        !changes[place + 1..].iter().any(|(later, _)| later == name)
    };
    let new = changes.iter().enumerate().filter(is_last);
    let new = new.map(|(_, change)| change.clone());
    let entries = kept.chain(new).map(|(name, value)| {
        let entry = [name.as_bytes(), b"=", value.as_bytes()].concat();
        Ok(CString::new(entry)?)
    });
    entries.collect()
}

/// A list that ends with a null pointer.
fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    let ends = std::iter::once(ptr::null());
    texts.iter().map(|text| text.as_ptr()).chain(ends).collect()
}

/// What the new process does.
struct Plan<'p> {
    args: &'p [*const c_char],
    env: &'p [*const c_char],
    directory: Option<CString>,
    streams: [Option<RawFd>; 3],
    inherit: &'p [RawFd],
    parent: Pid,
    /// What kept it from doing so.
    error: Option<(&'static str, io::Error)>,
}

/// Makes the process, and comes back when that has executed the binary, or failed.
fn clone(plan: &mut Plan<'_>) -> io::Result<(u32, OwnedFd)> {
    extern "C" fn body(plan: *mut c_void) -> c_int {
        // SAFETY: it is what `clone` was given, and the thread that has it waits.
        let plan = unsafe { &mut *plan.cast::<Plan<'_>>() };
        let Err(error) = plan.carry_out();
        plan.error = Some(error);
        // SAFETY: it takes a number, and runs nothing of the program.
        unsafe { libc::_exit(127) }
    }

    // Aligned as the processor wants it, and not written to: the new process needs little of it.
    let mut stack = Vec::<u128>::with_capacity(STACK_BYTES / size_of::<u128>());
    let top = stack.spare_capacity_mut().as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let mut pidfd: RawFd = -1;
    let plan: *mut Plan<'_> = plan;
    // SAFETY: the stack, the plan and the place of the descriptor live until this thread goes on, which
    // it does when the new process has executed something else or ended; rules 1 and 2 are kept by
    // who calls, and by `carry_out`.
    let id = unsafe { libc::clone(body, top.cast(), flags, plan.cast(), &raw mut pidfd) };
    match id {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel just made this descriptor (close-on-exec), so nothing else owns it.
        id => Ok((id.cast_unsigned(), unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

impl Plan<'_> {
    /// Runs in the new process.
    fn carry_out(&self) -> Result<Infallible, (&'static str, io::Error)> {
        for (number, stream) in (0..).zip(self.streams) {
            if let Some(stream) = stream {
                check("dup2", || {
                    // SAFETY: a plain system call on two numbers.
                    unsafe { libc::dup2(stream, number) }
                })?;
            }
        }
        for &fd in self.inherit {
            check("fcntl", || {
                // SAFETY: as above; a closed descriptor is an error, not undefined.
                unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }
            })?;
        }
        if let Some(directory) = &self.directory {
            check("chdir", || {
                // SAFETY: a text that ends with a NUL.
                unsafe { libc::chdir(directory.as_ptr()) }
            })?;
        }
        // Rust ignores it for itself.
        // SAFETY: the default action runs no code.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        die_with(self.parent).map_err(|error| ("prctl", error))?;
        forget_handlers();
        let mask = SigSet::from(Signal::SIGINT).thread_set_mask();
        mask.map_err(|error| ("sigprocmask", error.into()))?;
        // SAFETY: texts that end with a NUL, and lists of them that end with a null pointer.
        unsafe { libc::execve(THIS_BINARY.as_ptr(), self.args.as_ptr(), self.env.as_ptr()) };
        Err(("execve", io::Error::last_os_error()))
    }
}

/// From now on what the program handles does what it does by default: dispositions are this
/// process's own, and a handler would run on the memory of the other one.
fn forget_handlers() {
    for number in 1..=64 {
        // The C library may take a lock for this one.
        if number == libc::SIGABRT {
            continue;
        }
        // SAFETY: all zeroes is a valid sigaction.
        let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: it only writes what there is to `now`; numbers that are none are an error.
        let asked = unsafe { libc::sigaction(number, ptr::null(), &raw mut now) };
        if asked == 0 && ![libc::SIG_DFL, libc::SIG_IGN].contains(&now.sa_sigaction) {
            // SAFETY: the default action runs no code.
            unsafe { libc::signal(number, libc::SIG_DFL) };
        }
    }
}

fn check(
    name: &'static str,
    mut call: impl FnMut() -> c_int,
) -> Result<(), (&'static str, io::Error)> {
    let checked = super::uninterrupted(|| match call() {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    });
    checked.map_err(|error| (name, error))
}

/// Has this process killed when the thread ends that started it, or whose child it was made. Exec
/// keeps this too.
pub(crate) fn die_with(parent: nix::unistd::Pid) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    // If the parent has ended before, nothing will tell.
    if nix::unistd::getppid() == parent {
        Ok(())
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}
