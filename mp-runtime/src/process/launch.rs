//! The parent's part of a start.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::process::ChildStdout;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::builder::Stdio;
use super::info::{self, Identity};
use super::{Child, ProcessInfo, birth, nursery, stderr, watch};
use crate::error::{Error, ErrorKind};
use crate::link::{Events, Greeting, Lanes, Link, Server};
use crate::os::environment::{INHERITED_COUNT, WORKER_VARIABLE};
use crate::os::{carrier, descriptor, exec, limit, pidfd::PidFd};
use crate::registry::Catalogue;
use crate::sync::statics;
use crate::wire::{Freight, Payload};

/// The longest name of a process, in bytes.
const NAME_BYTES: usize = 255;

/// What a worker is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    /// Run one call and exit.
    Once,
    /// Run calls until there are no more.
    Pool,
}

/// How to start a process.
pub(crate) struct LaunchSpec {
    pub(crate) role: Role,
    pub(crate) name: Option<String>,
    pub(crate) worker_index: Option<usize>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) current_dir: Option<PathBuf>,
    pub(crate) stdin: Stdio,
    pub(crate) stdout: Stdio,
    pub(crate) stderr: Stdio,
    /// How many bytes of what it writes to standard error are kept, if that is inherited; `None`:
    /// it writes to that itself.
    pub(crate) stderr_tail: Option<usize>,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) cpus: Option<Vec<usize>>,
    pub(crate) start_timeout: Duration,
}

/// What the parent writes into the lifeline for the worker to read.
#[derive(Serialize, Deserialize)]
pub(super) struct Boot {
    pub(super) token: u64,
    pub(super) parent_id: u32,
    pub(super) role: Role,
    pub(super) identity: Identity,
    pub(super) memory_limit: Option<u64>,
    pub(super) cpus: Option<Vec<usize>>,
}

/// A process that was started and has not come yet.
pub(crate) struct Launched {
    pub(crate) child: Arc<Child>,
    pub(crate) stdout: Option<ChildStdout>,
    server: Server,
    lanes: Lanes,
    freight: Freight,
    start_timeout: Duration,
}

impl LaunchSpec {
    pub(crate) fn new(role: Role) -> LaunchSpec {
        LaunchSpec {
            role,
            name: None,
            worker_index: None,
            env: Vec::new(),
            current_dir: None,
            stdin: Stdio::null(),
            stdout: Stdio::inherit(),
            stderr: Stdio::inherit(),
            stderr_tail: None,
            memory_limit: None,
            cpus: None,
            start_timeout: super::START_TIMEOUT,
        }
    }

    /// Checks what can be checked before anything is made.
    pub(crate) fn check(&self) -> Result<(), Error> {
        Catalogue::get()?;
        birth::require_init()?;
        check_name(self.name.as_deref())?;
        check_cpus(self.cpus.as_deref())
    }

    /// Forks and execs. The process is watched from here on; it connects in
    /// [`Launched::connect`].
    pub(crate) fn launch(self) -> Result<Launched, Error> {
        self.check()?;
        let identity = info::next_child(self.name.clone(), self.worker_index);
        let name = identity.name.clone();
        self.start(identity).map_err(|error| {
            let message = format!("`{name}` could not be started: {error}");
            Error::new(ErrorKind::Spawn, message).with_source(error)
        })
    }

    fn start(self, identity: Identity) -> io::Result<Launched> {
        watch::start()?;
        if let Some(dir) = &self.current_dir {
            // The exec would fail with the same error, without saying of what.
            std::fs::metadata(dir).map_err(|error| {
                let message = format!("its working directory {}: {error}", dir.display());
                io::Error::new(error.kind(), message)
            })?;
        }
        let kept_bytes = self.stderr_tail.filter(|_| self.stderr.is_inherited());
        let (source, stderr) = match kept_bytes.map(stderr::open).transpose()? {
            Some((source, workers_end)) => (Some(source), workers_end.into()),
            None => (None, self.stderr.into_std()?),
        };
        let server = Server::open()?;
        let (lanes, lanes_fd) = Lanes::create()?;
        let lanes_fd = descriptor::above_standard(lanes_fd)?;
        let (lifeline, workers_end) = descriptor::stream_pair()?;
        let workers_end = descriptor::above_standard(workers_end)?;
        let boot = Boot {
            token: server.token(),
            parent_id: std::process::id(),
            role: self.role,
            identity: identity.clone(),
            memory_limit: self.memory_limit,
            cpus: self.cpus,
        };
        // It fits into the socket's buffer, so nobody has to read it yet.
        let boot = Payload::encode(|to| to.value(&boot))
            .map_err(io::Error::other)?
            .bytes;
        descriptor::send_all(&lifeline, &(boot.len() as u32).to_le_bytes())?;
        descriptor::send_all(&lifeline, &boot)?;

        let (carrier, workers_carrier) = carrier::pair()?;
        let workers_carrier = descriptor::above_standard(workers_carrier)?;
        let statics = statics::to_hand_down().map_err(io::Error::other)?;
        let statics = statics.map(|region| descriptor::duplicate(region.fd()));
        let statics = statics.transpose()?;

        let entry = birth::entry();
        let (stdout, own_end) = self.stdout.open_output()?;
        let mut handed_stdout = None;
        let stdout = match entry {
            // The harness writes to standard output before it comes to the test, so it gets none,
            // and the worker takes the real one when it has arrived.
            Some(_) => {
                let target = match stdout {
                    Some(fd) => descriptor::above_standard(fd)?,
                    None => descriptor::duplicate(io::stdout())?,
                };
                handed_stdout = Some(target);
                std::process::Stdio::null()
            }
            None => stdout.map_or_else(std::process::Stdio::inherit, Into::into),
        };
        // In the order of `Inherited`. They stay open until the process was started, since this
        // waits for it.
        let inherit: [Option<RawFd>; INHERITED_COUNT] = [
            Some(workers_end.as_raw_fd()),
            Some(lanes_fd.as_raw_fd()),
            Some(server.anchor().as_raw_fd()),
            Some(workers_carrier.as_raw_fd()),
            statics.as_ref().map(AsRawFd::as_raw_fd),
            handed_stdout.as_ref().map(AsRawFd::as_raw_fd),
        ];
        let numbers = inherit.map(|fd| fd.map_or("-".to_owned(), |fd| fd.to_string()));
        let inherit = inherit.into_iter().flatten().collect();
        let mut env = self.env;
        env.push((WORKER_VARIABLE.into(), numbers.join(",").into()));
        let launch = exec::Launch {
            args: birth::arguments(entry),
            env,
            current_dir: self.current_dir,
            stdin: self.stdin.into_std()?,
            stdout,
            stderr,
        };
        let process_id = nursery::run(move || launch.start(inherit))?;
        let pidfd = PidFd::open(process_id).inspect_err(|error| {
            // Without a pidfd it cannot be watched. If there is no such process (the program
            // ignores SIGCHLD, and it has ended) the number may be somebody else's by now.
            if error.raw_os_error() != Some(nix::libc::ESRCH) {
                exec::forget(process_id);
            }
        })?;
        let info = ProcessInfo {
            id: process_id,
            name: identity.name,
            parent_id: std::process::id(),
            worker_index: identity.worker_index,
        };
        let child = Arc::new(Child::new(info, pidfd, lifeline, source, self.memory_limit));
        watch::add(&child).inspect_err(|_| {
            child.kill();
            exec::forget(process_id);
        })?;
        let start_timeout = self.start_timeout;
        Ok(Launched {
            child,
            stdout: own_end.map(Into::into),
            server,
            lanes,
            freight: Freight::over(carrier),
            start_timeout,
        })
    }
}

/// A name of a process or a pool.
pub(crate) fn check_name(name: Option<&str>) -> Result<(), Error> {
    let Some(name) = name else { return Ok(()) };
    let complaint = if name.is_empty() {
        "a name must not be empty".to_owned()
    } else if name.contains('\0') {
        format!("the name {name:?} has a NUL in it: leave it out")
    } else if name.len() > NAME_BYTES {
        format!(
            "a name of {} bytes is too long: {NAME_BYTES} are the most",
            name.len()
        )
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Spawn, complaint))
}

/// The processors that a worker is to be bound to.
pub(super) fn check_cpus(cpus: Option<&[usize]>) -> Result<(), Error> {
    let complaint = match cpus {
        Some([]) => "a worker that may use no processor cannot run: name at least one",
        Some(cpus) if cpus.iter().any(|&cpu| cpu >= limit::CPU_LIMIT) => {
            "processors are named by numbers below 1024"
        }
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::Spawn, complaint))
}

impl Launched {
    /// Waits until the process has come, died or run out of time.
    pub(crate) fn connect(self) -> Result<(Link, Events), Error> {
        let Launched {
            child,
            server,
            lanes,
            freight,
            start_timeout,
            ..
        } = self;
        let release = server.releaser();
        let late = Arc::new(AtomicBool::new(false));
        child.at_end({
            let release = release.clone();
            move || release.release()
        });
        if let Some(due) = Instant::now().checked_add(start_timeout) {
            let (release, late) = (release.clone(), Arc::clone(&late));
            let pidfd = Arc::downgrade(child.pidfd());
            let timer = watch::at(due, move || {
                if release.is_pending() {
                    late.store(true, Ordering::Relaxed);
                    let _ = pidfd
                        .upgrade()
                        .map(|pidfd| pidfd.send_signal(nix::libc::SIGKILL));
                    release.release();
                }
            });
            // The watch runs, since the child was added to it.
            debug_assert!(timer.is_ok());
        }
        let refuse = |reason: String| {
            child.kill();
            let exit = child.wait();
            let info = child.info();
            let (name, id) = (&info.name, info.id);
            let message = if late.load(Ordering::Relaxed) {
                format!(
                    "`{name}` (pid {id}) did not come to `mp::init` within {start_timeout:?}: it \
                     must be the first line of `main`"
                )
            } else {
                format!("`{name}` (pid {id}) could not be started: {reason}")
            };
            let kind = match child.was_ended_on_purpose(exit) {
                true => ErrorKind::Died,
                false => ErrorKind::Spawn,
            };
            Error::new(kind, message)
                .with_process_id(id)
                .with_exit_status(exit.status)
                .with_stderr(child.stderr_tail())
        };
        let (greeting, channels) = server.accept().map_err(|error| {
            if error.raw_os_error().is_some() {
                // It is this side that cannot go on.
                return refuse(error.to_string());
            }
            match child.wait_timeout(Duration::from_secs(1)) {
                // It did not come because it ended: that is the reason.
                Some(exit) => {
                    let reason = child.last_words();
                    let ended = || format!("it {exit} before it came to `mp::init`");
                    refuse(reason.unwrap_or_else(ended))
                }
                None => refuse(error.to_string()),
            }
        })?;
        check_greeting(greeting, Catalogue::get()?).map_err(refuse)?;
        let (link, events, farewell) = channels.open(lanes, Arc::clone(child.pidfd()), freight);
        child.at_end(|| farewell.say());
        Ok((link, events))
    }
}

/// Whether the worker can work, and for this program; or why not.
fn check_greeting(greeting: Greeting, catalogue: &Catalogue) -> Result<(), String> {
    if greeting.fingerprint != catalogue.fingerprint() {
        return Err(format!(
            "its binary differs from this one: it has {} process functions and the fingerprint \
             {:016x}, here are {} and {:016x}; start the program again after a build",
            greeting.function_count,
            greeting.fingerprint,
            catalogue.len(),
            catalogue.fingerprint(),
        ));
    }
    greeting.failure.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(fingerprint: u64, failure: Option<&str>) -> Greeting {
        Greeting {
            fingerprint,
            function_count: 3,
            failure: failure.map(str::to_owned),
        }
    }

    #[test]
    fn a_worker_whose_binary_differs_is_refused_with_a_sentence() {
        let catalogue = Catalogue::get().expect("no two functions have one name");
        let other = greeting(catalogue.fingerprint() ^ 1, None);
        let reason = check_greeting(other, catalogue).expect_err("it differs");
        assert!(
            reason.contains("its binary differs from this one"),
            "{reason}"
        );
        let same = greeting(catalogue.fingerprint(), None);
        assert_eq!(check_greeting(same, catalogue), Ok(()));
    }

    #[test]
    fn a_worker_that_says_it_cannot_work_is_refused() {
        let catalogue = Catalogue::get().expect("no two functions have one name");
        let broken = greeting(catalogue.fingerprint(), Some("no memory"));
        assert_eq!(
            check_greeting(broken, catalogue),
            Err("no memory".to_owned())
        );
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        for bad in ["", "a\0b", &"x".repeat(256)] {
            assert_eq!(
                check_name(Some(bad)).map_err(|error| error.kind()),
                Err(ErrorKind::Spawn)
            );
        }
        assert!(check_name(Some("render")).is_ok() && check_name(None).is_ok());
    }
}
