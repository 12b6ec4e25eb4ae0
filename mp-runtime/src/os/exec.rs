//! Starts the current binary again.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::libc;
use nix::sys::signal::{SigSet, Signal};

/// The running binary: the same inode even if the file at its path was replaced or removed.
pub(crate) const THIS_BINARY: &str = "/proc/self/exe";

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

impl From<Stream> for Stdio {
    fn from(stream: Stream) -> Stdio {
        match stream {
            Stream::Inherit => Stdio::inherit(),
            Stream::Null => Stdio::null(),
            Stream::Of(fd) => fd.into(),
        }
    }
}

impl Launch {
    /// Forks and execs; the new process keeps the descriptors `inherit` under the numbers they
    /// have here, and SIGINT waits until it is ready for it. It is killed when the thread ends that
    /// calls this. Returns its process id.
    ///
    /// # Errors
    ///
    /// Whatever kept the fork, the change of directory or the exec from succeeding; no process is
    /// left behind then.
    pub(crate) fn start(self, inherit: Vec<RawFd>) -> io::Result<u32> {
        let mut command = Command::new(THIS_BINARY);
        command.arg0(
            std::env::args_os()
                .next()
                .unwrap_or_else(|| OsStr::new("mp").into()),
        );
        command.args(self.args).envs(self.env);
        let [stdin, stdout, stderr] = self.streams;
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        if let Some(dir) = self.current_dir {
            command.current_dir(dir);
        }
        let parent = nix::unistd::Pid::this();
        let prepare = move || {
            for &fd in &inherit {
                keep_at_exec(fd)?;
            }
            block_interrupt_alone()?;
            die_with(parent)
        };
        // SAFETY: `prepare` runs between fork and exec: it makes system calls that are
        // async-signal-safe, allocates nothing and takes no lock.
        unsafe { command.pre_exec(prepare) };
        // The `Child` is dropped: dropping it neither waits nor kills, and whoever called us waits
        // through a pidfd.
        Ok(command.spawn()?.id())
    }
}

/// Kills and collects a process that cannot be watched.
pub(crate) fn forget(process_id: u32) {
    let id = nix::unistd::Pid::from_raw(process_id.cast_signed());
    // It is our child and was not collected, so the id is its; it may have ended.
    let _ = nix::sys::signal::kill(id, Signal::SIGKILL);
    let _ = super::uninterrupted(|| Ok(nix::sys::wait::waitpid(id, None)?));
}

fn keep_at_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: a plain system call on a number; a closed descriptor is an error, not undefined.
    match unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Exec keeps the mask, and the thread that forks has every signal blocked.
fn block_interrupt_alone() -> io::Result<()> {
    Ok(SigSet::from(Signal::SIGINT).thread_set_mask()?)
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
