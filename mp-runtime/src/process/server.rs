//! The program's side of its fork server: starts one when it is first needed, asks it for processes,
//! and makes do without it.
//!
//! # States
//!
//! | stage | next, at the start of a process |
//! | --- | --- |
//! | `Away` | a server is started: `Coming` |
//! | `Coming`: executed, has not said hello | its hello: `Ready`. It says it is unfit: `Unfit`. It has ended: `Away`, and the next one is started after a pause. Nothing: it stays, and the process is executed |
//! | `Ready`, with the [`Surroundings`] it was started in | those are others now, it has ended, or does not answer: `Away`. The kernel does not let it fork: `Unfit` |
//! | `Unfit` | for ever: all processes are executed |
//!
//! What is to be compared is compared while the server forks, which takes about as long: until then the
//! new process waits for its boot message, and where it does not get one it has run nothing and ends. A
//! comparison counts for all who asked before it began, since what each of them may have changed was
//! changed by then: many processes that are started at once take few of them ([`Ticket`]).
//!
//! # Two at a time
//!
//! While the reply to one request is waited for, the next request is sent, so that the server has
//! always something to do. There are two locks, taken hand over hand:
//!
//! | lock | is held | while it is held |
//! | --- | --- | --- |
//! | the keeper's | before a request is sent, until its sender has the other lock; longer where something is amiss | nobody else sends, and the stage stays |
//! | of replies | from then on, until the new process is on the [`watch`], or it is sure that there is none | nobody else receives |
//!
//! So replies are received in the order in which requests were sent. Who has both locks knows that no
//! request is on its way but its own, and only such a one lets go of a server. The keeper's lock is never
//! waited for with the other one held.
//!
//! A server that sleeps takes as long to wake up as the program takes to get ready what goes with a
//! request. So the start of a process of its own begins with a packet that says that there will be one
//! [soon](rouse), and the server looks for it for a moment. It is sent where both locks are free, has no
//! reply, and means nothing else: the request may come late or never, as the packet itself may.
//!
//! Nothing here makes a start fail that would not fail by exec: where the server is of no use, the
//! process is executed.
//!
//! # If somebody dies
//!
//! | who, and when | what happens |
//! | --- | --- |
//! | the server, before it takes a request | to send fails, or the reply is the end of the socket: another one is started and asked, with everything made anew, and after that the process is executed |
//! | the server, after the fork and before its reply | the same, since the new process may have taken its boot message; and that process is found among the children of this program's [`nursery`] as one that nobody knows, killed and collected ([`collect_lost`]). Its lifeline ends it as well, once the start has been given up |
//! | the server, stopped or stuck | after [`PATIENCE`] its replies count as lost, and the same |
//! | the new process, at any time | its parent has its pidfd: as any worker |
//! | the program | the kernel kills the server with the nursery's thread; if not, its socket ends |
//!
//! Who finds that no reply will come marks all of them as lost, for the one that waits behind him. Each
//! of these lets go of the lock of replies and takes both; the first one that has them lets go of the
//! server and looks for lost children. A child is put on the [`watch`] before the lock of replies is let
//! go, so that whoever looks for lost ones knows all others.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::libc;

use super::request::{self, Parts, Reply};
use super::{birth, nursery, watch};
use crate::os::call::named;
use crate::os::environment::{INHERITED_COUNT, STATICS, WORKER_VARIABLE};
use crate::os::exec::{Launch, Stream};
use crate::os::pidfd::{self, PidFd};
use crate::os::surroundings::Surroundings;
use crate::os::thread::{self, PerProcess};
use crate::os::{descriptor, limit, packet, stderr};
use crate::sync::statics;

/// How long a start waits for a new server, at most; then it goes on without.
const WARM_UP: Duration = Duration::from_millis(250);
/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked for a lost child, and the pause after each look: the list of children leaves
/// some out if others end while it is read (proc(5)).
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(1);
/// How long no other server is started after one that did not come to `init`; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// ... up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A process that the server has made. While its guard is there nobody looks for lost ones.
pub(super) struct Born {
    id: u32,
    pidfd: PidFd,
    replies: MutexGuard<'static, Replies>,
}

impl Born {
    pub(super) fn into_parts(self) -> (u32, PidFd, impl Drop) {
        (self.id, self.pidfd, self.replies)
    }
}

/// Where processes are asked for. See "Two at a time" above.
struct Desk {
    keeper: Mutex<Keeper>,
    replies: Mutex<Replies>,
}

/// What is known of replies that have not come.
#[derive(Default)]
struct Replies {
    /// There will be none from this server.
    are_lost: bool,
}

/// Who has the server.
struct Keeper {
    stage: Stage,
    /// So many in a row have not come.
    failures: u32,
    /// No server is started before.
    not_before: Option<Instant>,
}

enum Stage {
    Away,
    Coming(Server),
    Ready(Server),
    Unfit,
}

struct Server {
    /// Whoever waits for a reply has it, too.
    socket: Arc<OwnedFd>,
    pidfd: Arc<PidFd>,
    surroundings: Surroundings,
    /// What the last comparison has found.
    check: Check,
    /// Whether it is one of a test.
    is_of_test: bool,
}

/// That a server [fits](Server::fits), and how often the kernel had killed a process for lack of memory by
/// then.
#[derive(Clone, Copy)]
struct Check {
    /// It counts for those who asked before.
    until: Ticket,
    kills: Option<u64>,
}

/// When somebody has asked for a process.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct Ticket(u64);

impl Ticket {
    /// A later one than all before. What was done by those who had one, before they took it, is seen by
    /// who takes a later one.
    fn take() -> Ticket {
        static LAST: AtomicU64 = AtomicU64::new(0);
        // SYNC a: each change of the word is one of a chain, in which each sees what stands before.
        Ticket(LAST.fetch_add(1, Ordering::AcqRel))
    }
}

impl Check {
    /// Begins one, of a server that turns out to fit or is not used.
    fn begin() -> Check {
        Check {
            until: Ticket::take(),
            kills: limit::out_of_memory_kills(),
        }
    }
}

/// The one of this process.
fn desk() -> &'static Desk {
    static DESK: PerProcess<&'static Desk> = PerProcess::new();
    let make = || -> Result<_, std::convert::Infallible> {
        let keeper = Mutex::new(Keeper {
            stage: Stage::Away,
            failures: 0,
            not_before: None,
        });
        let replies = Mutex::default();
        Ok(&*Box::leak(Box::new(Desk { keeper, replies })))
    };
    let Ok(desk) = DESK.get_or_try_init(make);
    desk
}

impl Desk {
    fn keeper(&self) -> MutexGuard<'_, Keeper> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replies(&self) -> MutexGuard<'_, Replies> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the server, which takes as long as it takes to get ready what a process is asked for with.
pub(super) fn rouse() {
    let desk = desk();
    // Where somebody asks already it is awake.
    let (Ok(keeper), Ok(_replies)) = (desk.keeper.try_lock(), desk.replies.try_lock()) else {
        return;
    };
    if let Stage::Ready(server) = &keeper.stage {
        // Who asks finds out if it has ended.
        let _ = request::send_soon(&server.socket);
    }
}

/// What came of asking for a process.
pub(super) enum Asked {
    Born(Born),
    /// There is no server that could make it, and there is no process. If `boot` was called, the boot
    /// message is there.
    InVain,
    /// The server ended, did not answer, or was of no use any more. If it had made a process that is
    /// gone, or ends without its boot message; and what that was given may be used up.
    Lost,
}

/// Has the server make a process with `parts`, and calls `boot` while it does, with how often the kernel
/// had killed a process for lack of memory. Before that is called the new process has no boot message.
///
/// # Errors
///
/// What would keep an exec from succeeding as well, and those of `boot`.
pub(super) fn ask(
    parts: &Parts<BorrowedFd<'_>>,
    warm_up: Duration,
    boot: impl FnOnce(Option<u64>) -> io::Result<()>,
) -> io::Result<Asked> {
    let ticket = Ticket::take();
    let desk = desk();
    let mut keeper = desk.keeper();
    let Some(server) = keeper.ready(desk, warm_up.min(WARM_UP)) else {
        return Ok(Asked::InVain);
    };
    let sent = request::send_request(&server.socket, parts);
    // The two work at once.
    let fits = server.fits(ticket).is_ok_and(|fits| fits);
    let booted = match fits {
        true => boot(server.check.kills),
        false => Ok(()),
    };
    let socket = Arc::clone(&server.socket);
    if let Err(error) = &sent
        && !packet::is_gone(error)
    {
        // Too many descriptors are on their way, or there is no memory or no room: it has not got it.
        return booted.map(|()| Asked::InVain);
    }
    let mut replies = desk.replies();
    // The next one may ask, if all is well.
    let is_wanted = fits && booted.is_ok();
    let keeper = (!is_wanted).then_some(keeper);
    let answered = match sent {
        Ok(()) if !replies.are_lost => request::receive_reply(&socket, Instant::now() + PATIENCE),
        _ => Err(io::ErrorKind::BrokenPipe.into()),
    };
    match answered {
        Ok(Reply::Born { id, pidfd: None }) => {
            pidfd::end_by_id(id);
            Err(named("recvmsg")(io::Error::from_raw_os_error(libc::EMFILE)))
        }
        Ok(Reply::Born {
            id,
            pidfd: Some(pidfd),
        }) => {
            let pidfd = PidFd::of(id, pidfd);
            let Some(mut keeper) = keeper else {
                return Ok(Asked::Born(Born { id, pidfd, replies }));
            };
            // Where that is not allowed it ends when its lifeline is closed.
            let _ = pidfd.send_signal(libc::SIGKILL);
            let pidfd = Arc::new(pidfd);
            if watch::collect(id, &pidfd).is_err() {
                pidfd.end();
            }
            booted?;
            keeper.let_go(&mut replies);
            Ok(Asked::Lost)
        }
        Ok(Reply::Refused(error)) => match error.raw_os_error() {
            Some(libc::EPERM | libc::ENOSYS | libc::EINVAL) => {
                drop(replies);
                let mut keeper = keeper.unwrap_or_else(|| desk.keeper());
                keeper.let_go(&mut desk.replies());
                keeper.be_unfit(&format!("it may not fork: {error}"));
                booted.map(|()| Asked::InVain)
            }
            Some(libc::EMFILE) => booted.map(|()| Asked::InVain),
            // It enters the directory first.
            Some(libc::EACCES) => Err(named("chdir")(error)),
            _ => Err(named("clone")(error)),
        },
        Err(_) => {
            replies.are_lost = true;
            drop(replies);
            let mut keeper = keeper.unwrap_or_else(|| desk.keeper());
            let mut replies = desk.replies();
            if replies.are_lost {
                keeper.let_go(&mut replies);
            }
            Ok(Asked::Lost)
        }
    }
}

impl Keeper {
    /// The server, if there is one that is ready by the end of `warm_up`.
    fn ready(&mut self, desk: &Desk, warm_up: Duration) -> Option<&mut Server> {
        let is_of_test = birth::entry().is_some();
        let is_known = match &self.stage {
            Stage::Unfit => return None,
            Stage::Ready(server) => server.is_of_test == is_of_test,
            Stage::Away | Stage::Coming(_) => false,
        };
        if !is_known {
            self.come(desk, warm_up, is_of_test)?;
        }
        match &mut self.stage {
            Stage::Ready(server) => Some(server),
            _ => None,
        }
    }

    /// Sees to it that there is one, which is new or was not asked before.
    fn come(&mut self, desk: &Desk, warm_up: Duration, is_of_test: bool) -> Option<()> {
        let check = Check::begin();
        let now = Surroundings::of(nursery::thread_id().ok()?).ok()?;
        let mut deadline = Instant::now();
        if let Stage::Coming(server) | Stage::Ready(server) = &self.stage
            && (server.surroundings != now || server.is_of_test != is_of_test)
        {
            self.let_go(&mut desk.replies());
        }
        if let Stage::Away = self.stage {
            if self.not_before.is_some_and(|due| Instant::now() < due) {
                return None;
            }
            self.stage = Stage::Coming(Server::start(now, check, is_of_test).ok()?);
            deadline += warm_up;
        }
        if let Stage::Coming(server) | Stage::Ready(server) = &mut self.stage {
            server.check = check;
        }
        if let Stage::Coming(server) = &self.stage {
            match request::receive_hello(&server.socket, deadline) {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => {
                    self.be_unfit(&reason);
                    return None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => {
                    let pause = FIRST_PAUSE * 2_u32.pow(self.failures.min(10));
                    self.not_before = Instant::now().checked_add(pause.min(LONGEST_PAUSE));
                    self.failures += 1;
                    self.stage = Stage::Away;
                    return None;
                }
            }
            (self.failures, self.not_before) = (0, None);
            if let Stage::Coming(server) = std::mem::replace(&mut self.stage, Stage::Away) {
                self.stage = Stage::Ready(server);
            }
        }
        Some(())
    }

    /// No server is started any more.
    fn be_unfit(&mut self, reason: &str) {
        if let Stage::Unfit = std::mem::replace(&mut self.stage, Stage::Unfit) {
            // Another one was refused as well, and has said so.
            return;
        }
        let line = format!("mp: there is no fork server, so processes are executed: {reason}\n");
        stderr::write_all(line.as_bytes());
    }

    /// Lets go of the server, of which nobody waits for a reply any more.
    fn let_go(&mut self, replies: &mut Replies) {
        let stage = match self.stage {
            Stage::Unfit => return,
            _ => std::mem::replace(&mut self.stage, Stage::Away),
        };
        if !std::mem::take(&mut replies.are_lost) {
            // Its socket closes, and it ends.
            return;
        }
        // It has ended, or does not answer.
        if let Stage::Ready(server) = stage {
            let _ = server.pidfd.send_signal(libc::SIGKILL);
            let _ = descriptor::wait_readable(&[server.pidfd.as_fd()]);
        }
        // If this fails, a process that was killed in the same moment is collected when the program
        // ends.
        let _ = nursery::run(collect_lost);
    }
}

impl Server {
    /// Whether what it was started in is what the program would give to an exec now, or had given since
    /// it was asked.
    fn fits(&mut self, asked: Ticket) -> io::Result<bool> {
        if asked < self.check.until {
            return Ok(true);
        }
        let check = Check::begin();
        let fits = Surroundings::of(nursery::thread_id()?)? == self.surroundings;
        if fits {
            self.check = check;
        }
        Ok(fits)
    }

    /// Executes one.
    fn start(before: Surroundings, check: Check, is_of_test: bool) -> io::Result<Server> {
        let (socket, servers_end) = packet::pair()?;
        let servers_end = descriptor::above_standard(servers_end)?;
        let statics = statics::to_hand_down().map_err(io::Error::other)?;
        let statics = statics.map(|region| descriptor::duplicate(region.fd()));
        let statics = statics.transpose()?;
        let statics_number = statics.as_ref().map(AsRawFd::as_raw_fd);
        let mut inherit = [None; INHERITED_COUNT];
        inherit[0] = Some(servers_end.as_raw_fd());
        inherit[STATICS] = statics_number;
        let launch = Launch {
            args: birth::arguments(birth::entry()),
            env: vec![(WORKER_VARIABLE.into(), name_descriptors(&inherit).into())],
            current_dir: None,
            // What stands before `init` may write: the program itself has written the same.
            streams: [Stream::Null, Stream::Null, Stream::Null],
        };
        let inherit: Vec<_> = inherit.into_iter().flatten().collect();
        let (thread_id, pidfd) = nursery::run(move || {
            let (id, pidfd) = launch.start(&inherit)?;
            let pidfd = Arc::new(pidfd);
            watch::collect(id, &pidfd).inspect_err(|_| pidfd.end())?;
            Ok((thread::own_id(), pidfd))
        })?;
        let surroundings = Surroundings::of(thread_id)?;
        if surroundings != before {
            return Err(io::Error::other("the surroundings are changing"));
        }
        Ok(Server {
            socket: Arc::new(socket),
            pidfd,
            surroundings,
            check,
            is_of_test,
        })
    }
}

/// What the variable of a worker says of the descriptors that it inherits.
pub(super) fn name_descriptors(fds: &[Option<i32>; INHERITED_COUNT]) -> String {
    fds.map(|fd| fd.map_or("-".to_owned(), |fd| fd.to_string()))
        .join(",")
}

/// Kills and collects the children of this thread, the nursery's, that nobody knows: their server
/// was killed before it could tell of them.
fn collect_lost() -> io::Result<()> {
    for _ in 0..LOOKS {
        for id in children()? {
            if watch::knows(id) {
                continue;
            }
            // From here on the id is its. Whoever is no child any more was collected.
            let Ok(pidfd) = PidFd::open(id) else { continue };
            if children()?.contains(&id) && !watch::knows(id) {
                let _ = pidfd.send_signal(libc::SIGKILL);
                let _ = descriptor::wait_readable(&[pidfd.as_fd()]);
                let _ = pidfd.try_wait();
            }
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// The children of this thread.
fn children() -> io::Result<Vec<u32>> {
    let all = fs::read_to_string("/proc/thread-self/children")?;
    Ok(all
        .split_whitespace()
        .filter_map(|id| id.parse().ok())
        .collect())
}
