//! The thread that sees processes end, workers knock and timers run out. There is one in a program,
//! started with the first process; it waits on one pidfd a child, never for "any child", since the
//! program's other children are not ours.
//!
//! Who waits for one child does so at its pidfd himself, and collects it: it would cost a wake-up more to
//! hear of it from here. Meanwhile the watch [looks away](look_away).
//!
//! What it calls is short and never waits: a farewell, a wake-up, a kill. Should a bug make that panic,
//! the others are watched all the same.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::Child;
use super::stderr::{self, FORWARD_PATIENCE, FORWARD_ROUNDS};
use crate::os::call::named;
use crate::os::{self, pidfd::PidFd, thread::PerProcess};

/// The epoll data of the event that only wakes the thread; children are numbered from 1.
const WAKE: u64 = 0;
/// How long it is left alone what has ended and cannot be collected: whoever traces it has it.
const HELD_PAUSE: Duration = Duration::from_millis(10);

struct Watch {
    epoll: Epoll,
    wake: EventFd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    children: HashMap<u64, Arc<Child>>,
    /// Those that were plugged in again.
    held: HashSet<u64>,
    /// Processes that serve the library: their ids. They are collected, and nobody is told.
    servants: HashMap<u64, (u32, Arc<PidFd>)>,
    /// What is to be called when somebody knocks.
    guests: HashMap<u64, Call>,
    timers: BinaryHeap<Timer>,
    last_key: u64,
}

type Call = Box<dyn FnOnce() + Send>;

struct Timer {
    due: Instant,
    call: Call,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Timer) -> bool {
        self.due == other.due
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Timer) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    /// The heap gives out its greatest element, so the earliest is the greatest.
    fn cmp(&self, other: &Timer) -> Ordering {
        other.due.cmp(&self.due)
    }
}

static WATCH: PerProcess<Arc<Watch>> = PerProcess::new();

/// The watch of this process, started if it was not.
fn watch() -> io::Result<Arc<Watch>> {
    WATCH.get_or_try_init(|| {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(named("epoll_create1"))?;
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = EventFd::from_value_and_flags(0, flags).map_err(named("eventfd2"))?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, WAKE);
        epoll.add(&wake, event).map_err(named("epoll_ctl"))?;
        let state = Mutex::new(State::default());
        let watch = Arc::new(Watch { epoll, wake, state });
        let own = Arc::clone(&watch);
        os::thread::spawn("mp-watch", move || own.run()).map_err(named("clone"))?;
        Ok(watch)
    })
}

/// Makes sure that processes can be watched before one is started.
pub(crate) fn start() -> io::Result<()> {
    watch().map(drop)
}

/// Watches a child until it has ended, and collects it.
pub(super) fn add(child: &Arc<Child>) -> io::Result<()> {
    let watch = watch()?;
    let mut state = watch.state();
    let key = state.next_key();
    child.set_watched_as(key);
    let event = EpollEvent::new(EpollFlags::EPOLLIN, key);
    watch.epoll.add(child.pidfd().as_fd(), event)?;
    state.children.insert(key, Arc::clone(child));
    Ok(())
}

/// Leaves it to others to see a child end.
pub(super) fn look_away(child: &Child) {
    change(child, EpollFlags::empty());
}

/// Sees to it again. It may have ended meanwhile.
pub(super) fn look_again(child: &Child) {
    change(child, EpollFlags::EPOLLIN);
}

fn change(child: &Child, flags: EpollFlags) {
    if let Some(watch) = WATCH.get_waiting() {
        // It is not among those that are watched when it was collected.
        let mut event = EpollEvent::new(flags, child.watched_as());
        let _ = watch.epoll.modify(child.pidfd().as_fd(), &mut event);
    }
}

/// Does not look at a child any more, which has ended and is about to be collected. Who cannot
/// collect it [plugs it in](plug_in) again.
pub(super) fn unplug(child: &Child) {
    if let Some(watch) = WATCH.get_waiting() {
        let _ = watch.epoll.delete(child.pidfd().as_fd());
    }
}

/// Leaves a child to the watch that has ended and could not be collected.
pub(super) fn plug_in(child: &Child) {
    if let Some(watch) = WATCH.get_waiting() {
        let mut state = watch.state();
        let key = child.watched_as();
        if state.children.contains_key(&key) {
            state.held.insert(key);
            let event = EpollEvent::new(EpollFlags::EPOLLIN, key);
            // It may be there again already.
            let _ = watch.epoll.add(child.pidfd().as_fd(), event);
        }
    }
}

/// Forgets a child that was collected.
pub(super) fn forget(child: &Child) {
    if let Some(watch) = WATCH.get_waiting() {
        let mut state = watch.state();
        let key = child.watched_as();
        state.children.remove(&key);
        if state.held.remove(&key) {
            let _ = watch.epoll.delete(child.pidfd().as_fd());
        }
    }
}

/// Calls `call` when `fd` is readable, once; gives the key to [`dismiss`] that with.
pub(super) fn at_knock(
    fd: BorrowedFd<'_>,
    call: impl FnOnce() + Send + 'static,
) -> io::Result<u64> {
    let watch = watch()?;
    let mut state = watch.state();
    let key = state.next_key();
    let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT;
    watch.epoll.add(fd, EpollEvent::new(flags, key))?;
    state.guests.insert(key, Box::new(call));
    Ok(key)
}

/// Nobody needs to knock any more; tells whether nobody has.
pub(super) fn dismiss(key: u64) -> bool {
    let guest = WATCH
        .get_waiting()
        .and_then(|watch| watch.state().guests.remove(&key));
    guest.is_some()
}

/// Collects a process that serves the library when it has ended.
pub(super) fn collect(id: u32, pidfd: &Arc<PidFd>) -> io::Result<()> {
    let watch = watch()?;
    let mut state = watch.state();
    let key = state.next_key();
    let event = EpollEvent::new(EpollFlags::EPOLLIN, key);
    watch.epoll.add(pidfd.as_fd(), event)?;
    state.servants.insert(key, (id, Arc::clone(pidfd)));
    Ok(())
}

/// Whether the child with this id is watched.
pub(super) fn knows(id: u32) -> bool {
    watch().is_ok_and(|watch| {
        let state = watch.state();
        let mut children = state.children.values();
        let mut servants = state.servants.values();
        children.any(|child| child.info().id == id) || servants.any(|(servant, _)| *servant == id)
    })
}

/// Calls `call` when `due` has come.
pub(crate) fn at(due: Instant, call: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let watch = watch()?;
    let mut state = watch.state();
    let is_next = state.timers.peek().is_none_or(|next| due < next.due);
    state.timers.push(Timer {
        due,
        call: Box::new(call),
    });
    drop(state);
    if is_next {
        // It sleeps for longer. This fails only when so many wake-ups wait that another adds
        // nothing.
        let _ = watch.wake.write(1);
    }
    Ok(())
}

/// The children that have not ended.
pub(super) fn children() -> Vec<Arc<Child>> {
    watch()
        .map(|watch| watch.state().children.values().cloned().collect())
        .unwrap_or_default()
}

impl State {
    fn next_key(&mut self) -> u64 {
        self.last_key += 1;
        self.last_key
    }
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut events = [EpollEvent::empty(); 32];
        loop {
            let timeout = self.run_timers();
            // EINTR and any other failure end in another round; the thread must not end.
            let count = self.epoll.wait(&mut events, timeout).unwrap_or(0);
            for event in &events[..count] {
                match event.data() {
                    WAKE => drop(self.wake.read()),
                    key => self.collect(key),
                }
            }
        }
    }

    /// Calls what is due by now, and no more, since those calls may set timers; tells how long to
    /// sleep then.
    fn run_timers(&self) -> EpollTimeout {
        let now = Instant::now();
        loop {
            let mut state = self.state();
            let Some(next) = state.timers.peek() else {
                return EpollTimeout::NONE;
            };
            let left = next.due.saturating_duration_since(now);
            if !left.is_zero() {
                // Rounded up, so that it is due after the sleep.
                let millis = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
                return EpollTimeout::from(millis);
            }
            let timer = state.timers.pop();
            drop(state);
            if let Some(timer) = timer {
                os::thread::contained(timer.call);
            }
        }
    }

    fn collect(&self, key: u64) {
        let mut state = self.state();
        if let Some(call) = state.guests.remove(&key) {
            drop(state);
            return os::thread::contained(call);
        }
        let child = state.children.get(&key).cloned();
        drop(state);
        let Some(child) = child else {
            return self.collect_servant(key);
        };
        if let Some(status) = child.collect() {
            let _ = self.epoll.delete(child.pidfd().as_fd());
            let mut state = self.state();
            state.children.remove(&key);
            state.held.remove(&key);
            drop(state);
            tell_end(&child, status);
        } else if !child.is_collected() {
            self.leave_alone(child.pidfd(), key);
        }
    }

    fn collect_servant(&self, key: u64) {
        let servant = self.state().servants.get(&key).cloned();
        let Some((_, pidfd)) = servant else { return };
        if !matches!(pidfd.try_wait(), Ok(None)) {
            let _ = self.epoll.delete(pidfd.as_fd());
            self.state().servants.remove(&key);
        } else {
            self.leave_alone(&pidfd, key);
        }
    }

    /// Looks at what has ended, and cannot be collected yet, again in a while. It is readable all the
    /// time.
    fn leave_alone(&self, pidfd: &Arc<PidFd>, key: u64) {
        let mut event = EpollEvent::new(EpollFlags::empty(), key);
        let _ = self.epoll.modify(pidfd.as_fd(), &mut event);
        let late = Arc::downgrade(pidfd);
        // This is the watch, so that it is there.
        let _ = at(Instant::now() + HELD_PAUSE, move || {
            if let (Some(pidfd), Some(watch)) = (late.upgrade(), WATCH.get_waiting()) {
                let mut event = EpollEvent::new(EpollFlags::EPOLLIN, key);
                let _ = watch.epoll.modify(pidfd.as_fd(), &mut event);
            }
        });
    }
}

/// Tells that a child has ended, after what it wrote last was forwarded.
fn tell_end(child: &Arc<Child>, status: Option<ExitStatus>) {
    let told = Arc::clone(child);
    let tell = move || told.set_ended(status);
    match child.stderr() {
        None => tell(),
        Some(stderr) => {
            if !stderr.read_out(tell) {
                tell_end_later(child, status, FORWARD_ROUNDS);
            }
        }
    }
}

/// The same if the forwarder does not come to it: standard error may take nothing for ever.
fn tell_end_later(child: &Arc<Child>, status: Option<ExitStatus>, rounds: u32) {
    let late = Arc::clone(child);
    let timer = at(Instant::now() + FORWARD_PATIENCE, move || {
        if late.exit().is_none() && rounds > 1 && stderr::can_forward() {
            tell_end_later(&late, status, rounds - 1);
        } else {
            late.set_ended(status);
        }
    });
    if timer.is_err() {
        child.set_ended(status);
    }
}
