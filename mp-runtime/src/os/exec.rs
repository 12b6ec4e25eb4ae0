//! Starts the current binary again.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
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
    pub(crate) stdin: Stdio,
    pub(crate) stdout: Stdio,
    pub(crate) stderr: Stdio,
}

impl Launch {
    /// Forks and execs; the new process keeps the descriptors `inherit` under the numbers they
    /// have here, and SIGINT waits until it is ready for it. Returns its process id.
    ///
    /// # Errors
    ///
    /// Whatever kept the fork, the change of directory or the exec from succeeding; no process is
    /// left behind then.
    pub(crate) fn start(self, inherit: &[BorrowedFd<'_>]) -> io::Result<u32> {
        let mut command = Command::new(THIS_BINARY);
        command.arg0(
            std::env::args_os()
                .next()
                .unwrap_or_else(|| OsStr::new("mp").into()),
        );
        command.args(self.args).envs(self.env);
        command
            .stdin(self.stdin)
            .stdout(self.stdout)
            .stderr(self.stderr);
        if let Some(dir) = self.current_dir {
            command.current_dir(dir);
        }
        let inherit: Vec<RawFd> = inherit.iter().map(AsRawFd::as_raw_fd).collect();
        let prepare = move || {
            for &fd in &inherit {
                keep_at_exec(fd)?;
            }
            block_interrupt()
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

/// Exec keeps the mask; the standard library has emptied it before it calls this.
fn block_interrupt() -> io::Result<()> {
    Ok(SigSet::from(Signal::SIGINT).thread_block()?)
}
