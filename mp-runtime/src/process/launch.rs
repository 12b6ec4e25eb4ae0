//! The parent's part of a start.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ChildStdout, ExitStatus};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::builder::Stdio;
use super::info::{self, Identity};
use super::request::{PART_COUNT, Part, Parts};
use super::server::{self, Asked, name_descriptors};
use super::stderr::Source;
use super::{Child, Exit, ProcessInfo, StartMethod, birth, nursery, stderr, watch};
use crate::error::{Error, ErrorKind};
use crate::link::{self, Connection, Events, Lanes, Link};
use crate::os::call::{named, unnamed};
use crate::os::carrier::{self, Carrier};
use crate::os::environment::{INHERITED_COUNT, WORKER_VARIABLE};
use crate::os::exec::{self, Stream};
use crate::os::{descriptor, limit, packet, pidfd::PidFd};
use crate::registry::Catalogue;
use crate::sync::statics;
use crate::wire::{Freight, Payload};

/// So many requests in a row may be lost, with their fork server or since that was out of date, before
/// the process is executed.
const MAX_TRIES: u32 = 3;

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
    /// `None`: as the program is told to.
    pub(crate) start_method: Option<StartMethod>,
}

/// What the parent writes into the lifeline for the worker to read.
#[derive(Serialize, Deserialize)]
pub(super) struct Boot {
    pub(super) parent_id: u32,
    pub(super) role: Role,
    pub(super) identity: Identity,
    pub(super) memory_limit: Option<u64>,
    pub(super) cpus: Option<Vec<usize>>,
    /// What the parent calls.
    pub(super) functions: Functions,
}

/// What tells whether a worker has the functions of its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Functions {
    pub(super) fingerprint: u64,
    pub(super) count: u64,
}

impl Functions {
    pub(super) fn of(catalogue: &Catalogue) -> Functions {
        Functions {
            fingerprint: catalogue.fingerprint(),
            count: catalogue.len() as u64,
        }
    }
}

/// A process that was started and has not come yet; calls for it may be put in.
pub(crate) struct Launched {
    pub(crate) child: Arc<Child>,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) link: Link,
    pub(crate) events: Events,
    pub(super) due: Due,
    /// The worker's end of the carrier: as long as it is open here the other one is not readable for
    /// being hung up.
    pub(super) carrier: OwnedFd,
}

/// By when a worker has to have come.
#[derive(Clone)]
pub(super) struct Due {
    start_timeout: Duration,
    /// `false` once it was seen to have come: then it is not killed for that. `true` once it is
    /// killed, or about to be, since it had not; even if it comes in between.
    is_late: Arc<OnceLock<bool>>,
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
            start_method: None,
        }
    }

    /// Checks what can be checked before anything is made.
    pub(crate) fn check(&self) -> Result<(), Error> {
        Catalogue::get()?;
        birth::require_init()?;
        check_name(self.name.as_deref())?;
        check_cpus(self.cpus.as_deref())
    }

    /// Starts the process, and watches it from here on; it connects in [`Launched::connect`].
    pub(crate) fn launch(self) -> Result<Launched, Error> {
        self.check()?;
        let functions = Functions::of(Catalogue::get()?);
        let identity = info::next_child(self.name.clone(), self.worker_index);
        let name = identity.name.clone();
        self.start(identity, functions).map_err(|error| {
            let message = format!("`{name}` could not be started: {error}");
            Error::new(ErrorKind::Spawn, message).with_source(unnamed(error))
        })
    }

    /// The way that is open to it: see [`StartMethod::ForkServer`].
    fn method(&self) -> StartMethod {
        match self.env.is_empty() {
            true => self.start_method.unwrap_or_default(),
            false => StartMethod::Exec,
        }
    }

    fn start(self, identity: Identity, functions: Functions) -> io::Result<Launched> {
        watch::start()?;
        let method = self.method();
        // The workers of a pool are started at once, and would be in each other's way.
        if self.role == Role::Once {
            match method {
                StartMethod::ForkServer => server::rouse(),
                StartMethod::Exec => nursery::rouse(),
            }
        }
        if let Some(dir) = &self.current_dir {
            // The start would fail with the same error, without saying of what.
            std::fs::metadata(dir).map_err(|error| {
                let message = format!("its working directory {}: {error}", dir.display());
                io::Error::new(error.kind(), message)
            })?;
        }
        let kept_bytes = self.stderr_tail.filter(|_| self.stderr.is_inherited());
        let kept = kept_bytes.map(stderr::open).transpose();
        let (source, stderr) = match kept.map_err(named("pipe2"))? {
            Some((source, workers_end)) => (Some(source), Stream::Of(workers_end)),
            None => (None, self.stderr.into_stream()?),
        };
        let (stdout, own_end) = self.stdout.open_output().map_err(named("pipe2"))?;
        let streams = [self.stdin.into_stream()?, stdout, stderr];

        let boot = Boot {
            parent_id: std::process::id(),
            role: self.role,
            identity,
            memory_limit: self.memory_limit,
            cpus: self.cpus,
            functions,
        };
        let outfit = Outfit {
            env: self.env,
            streams,
            current_dir: self.current_dir,
        };
        let mut tries_left = match method {
            StartMethod::ForkServer => MAX_TRIES,
            StartMethod::Exec => 0,
        };
        // What a process was given that nobody has heard of is of no use for another.
        let ((child, link, events), carrier) = loop {
            let (ends, luggage) = Ends::make()?;
            let mut kills = None;
            let asked = match tries_left {
                0 => Asked::InVain,
                _ => outfit.fork(&luggage, self.start_timeout, |before| {
                    kills = Some(before);
                    ends.send(&boot)
                })?,
            };
            match asked {
                Asked::Born(born) => {
                    let (id, pidfd, _replies) = born.into_parts();
                    let [.., carrier] = luggage;
                    let kills = kills.flatten();
                    break (ends.adopt(boot, source, kills, id, pidfd)?, carrier);
                }
                Asked::InVain => {
                    if kills.is_none() {
                        ends.send(&boot)?;
                    }
                    let adopt = move |kills, id, pidfd| ends.adopt(boot, source, kills, id, pidfd);
                    break outfit.exec(luggage, adopt)?;
                }
                Asked::Lost => tries_left -= 1,
            }
        };
        Ok(Launched {
            stdout: own_end.map(Into::into),
            due: Due::set(self.start_timeout, &child, &link),
            child,
            link,
            events,
            carrier,
        })
    }
}

/// The parent's ends of what it shares with a worker.
struct Ends {
    lanes: Lanes,
    lifeline: OwnedFd,
    carrier: Carrier,
}

/// The worker's, in the order of [`Part`] and of what a worker inherits: lifeline, lanes, carrier.
type Luggage = [OwnedFd; 3];

impl Ends {
    /// Makes both.
    fn make() -> io::Result<(Ends, Luggage)> {
        let (lanes, lanes_fd) = Lanes::create()?;
        let (lifeline, workers_end) = descriptor::stream_pair().map_err(named("socketpair"))?;
        let (carrier, workers_carrier) = carrier::pair().map_err(named("socketpair"))?;
        let ends = Ends {
            lanes,
            lifeline,
            carrier,
        };
        Ok((ends, [workers_end, lanes_fd, workers_carrier]))
    }

    /// Sends the boot message over the lifeline.
    fn send(&self, boot: &Boot) -> io::Result<()> {
        // It fits into the socket's buffer, so nobody has to read it yet.
        let boot = Payload::encode(|to| to.value(boot))
            .map_err(io::Error::other)?
            .bytes;
        let length = (boot.len() as u32).to_le_bytes();
        match descriptor::send_all(&self.lifeline, &[&length, &boot[..]].concat()) {
            // The process has ended already, or its server has: that is found out soon.
            Err(error) if packet::is_gone(&error) => Ok(()),
            sent => sent.map_err(named("sendto")),
        }
    }

    /// Takes over the process that has the other ends.
    fn adopt(
        self,
        boot: Boot,
        source: Option<Arc<Source>>,
        out_of_memory_kills: Option<u64>,
        id: u32,
        pidfd: PidFd,
    ) -> io::Result<(Arc<Child>, Link, Events)> {
        let info = ProcessInfo {
            id,
            name: boot.identity.name,
            parent_id: boot.parent_id,
            worker_index: boot.identity.worker_index,
        };
        let limits = (boot.memory_limit, out_of_memory_kills);
        let child = Arc::new(Child::new(info, pidfd, self.lifeline, source, limits));
        let connection = Connection::over(Freight::over(self.carrier));
        let (link, events, ending) = link::open(self.lanes, connection, Arc::clone(child.pidfd()));
        child.at_end(move || ending.tell());
        let watched = watch::add(&child).map_err(named("epoll_ctl"));
        watched.inspect_err(|_| child.pidfd().end())?;
        Ok((child, link, events))
    }
}

/// What a new process is told, besides its luggage.
struct Outfit {
    env: Vec<(OsString, OsString)>,
    /// Standard input, output and error.
    streams: [Stream; 3],
    current_dir: Option<PathBuf>,
}

impl Outfit {
    /// Asks the fork server for the process, and calls `boot` meanwhile.
    fn fork(
        &self,
        luggage: &Luggage,
        warm_up: Duration,
        boot: impl FnOnce(Option<u64>) -> io::Result<()>,
    ) -> io::Result<Asked> {
        let directory = match &self.current_dir {
            None => None,
            Some(path) => Some(descriptor::directory(path).map_err(named("open"))?),
        };
        let mut parts: Parts<BorrowedFd<'_>> = [None; PART_COUNT];
        for (part, fd) in parts.iter_mut().zip(luggage) {
            *part = Some(fd.as_fd());
        }
        let streams = [Part::Stdin, Part::Stdout, Part::Stderr];
        for (number, (stream, part)) in (0..).zip(self.streams.iter().zip(streams)) {
            parts[part as usize] = match stream {
                Stream::Null => None,
                Stream::Of(fd) => Some(fd.as_fd()),
                Stream::Inherit => descriptor::standard(number),
            };
        }
        parts[Part::Directory as usize] = directory.as_ref().map(AsFd::as_fd);
        server::ask(&parts, warm_up, boot)
    }

    /// Executes this binary, and has `adopt` take the process over on the thread that starts it, with how
    /// often the kernel had killed a process for lack of memory. Gives the worker's end of the carrier
    /// back as well.
    fn exec<T: Send + 'static>(
        self,
        luggage: Luggage,
        adopt: impl FnOnce(Option<u64>, u32, PidFd) -> io::Result<T> + Send + 'static,
    ) -> io::Result<(T, OwnedFd)> {
        let statics = statics::to_hand_down().map_err(io::Error::other)?;
        let statics = statics.map(|region| descriptor::duplicate(region.fd()));
        let statics = statics.transpose().map_err(named("fcntl"))?;
        let entry = birth::entry();
        let [stdin, mut stdout, stderr] = self.streams;
        let mut handed_stdout = None;
        if entry.is_some() {
            // The harness writes to standard output before it comes to the test, so it gets none,
            // and the worker takes the real one when it has arrived.
            handed_stdout = match stdout {
                Stream::Null => None,
                Stream::Of(fd) => Some(descriptor::above_standard(fd).map_err(named("fcntl"))?),
                Stream::Inherit => {
                    Some(descriptor::duplicate(io::stdout()).map_err(named("fcntl"))?)
                }
            };
            stdout = Stream::Null;
        }
        // They stay open until the process was started, since this waits for it.
        let mut fds = Vec::with_capacity(INHERITED_COUNT);
        for fd in luggage {
            fds.push(descriptor::above_standard(fd).map_err(named("fcntl"))?);
        }
        fds.extend(statics);
        let mut numbers = fds.iter().map(|fd| Some(fd.as_raw_fd()));
        let mut inherit: [Option<RawFd>; INHERITED_COUNT] =
            std::array::from_fn(|_| numbers.next().flatten());
        inherit[INHERITED_COUNT - 1] = handed_stdout.as_ref().map(AsRawFd::as_raw_fd);
        let mut env = self.env;
        env.push((WORKER_VARIABLE.into(), name_descriptors(&inherit).into()));
        let inherit: Vec<_> = inherit.into_iter().flatten().collect();
        let launch = exec::Launch {
            args: birth::arguments(entry),
            env,
            current_dir: self.current_dir,
            streams: [stdin, stdout, stderr],
        };
        // The two work at once.
        let (told, kills) = mpsc::channel();
        let start = move || {
            let (id, pidfd) = launch.start(&inherit)?;
            adopt(kills.recv().unwrap_or_default(), id, pidfd)
        };
        let adopted = nursery::run_beside(start, move || {
            // It may have failed already, and then nobody wants to know.
            let _ = told.send(limit::out_of_memory_kills());
        })?;
        Ok((adopted, fds.swap_remove(Part::Carrier as usize)))
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
        match self.events.wait_for_arrival() && self.due.lift() {
            true => Ok((self.link, self.events)),
            false => Err(self.due.not_come(&self.child)),
        }
    }
}

impl Due {
    /// Sees to it that a process that has not come in time is killed.
    fn set(start_timeout: Duration, child: &Arc<Child>, link: &Link) -> Due {
        let is_late = Arc::new(OnceLock::new());
        if let Some(due) = Instant::now().checked_add(start_timeout) {
            let (arrival, late) = (link.arrival(), Arc::clone(&is_late));
            let pidfd = Arc::downgrade(child.pidfd());
            let timer = watch::at(due, move || {
                if let (false, Some(pidfd)) = (arrival.is_over(), pidfd.upgrade())
                    && late.set(true).is_ok()
                {
                    let _ = pidfd.send_signal(nix::libc::SIGKILL);
                }
            });
            // The watch runs, since the child was added to it.
            debug_assert!(timer.is_ok());
        }
        Due {
            start_timeout,
            is_late,
        }
    }

    /// The process has come; tells whether that is in time. If not it is being killed.
    fn lift(&self) -> bool {
        !self.is_late.get_or_init(|| false)
    }

    /// Whether this is why a process ended so. It may have come just before.
    pub(super) fn has_ended(&self, exit: Exit) -> bool {
        let killed = |status: ExitStatus| status.signal() == Some(nix::libc::SIGKILL);
        exit.status.is_none_or(killed) && self.is_late.get() == Some(&true)
    }

    /// Why a process that has ended had not come.
    pub(super) fn not_come(&self, child: &Child) -> Error {
        let exit = child.wait();
        let info = child.info();
        let (name, id) = (&info.name, info.id);
        let message = if self.has_ended(exit) {
            let start_timeout = self.start_timeout;
            format!(
                "`{name}` (pid {id}) did not come to `mp::init` within {start_timeout:?}: it must \
                 be the first line of `main`"
            )
        } else {
            let ended = || format!("it {exit} before it came to `mp::init`");
            let reason = child.last_words().unwrap_or_else(ended);
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
