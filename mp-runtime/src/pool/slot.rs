//! A worker's place in its pool, and the thread that looks after it.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::libc;

use super::Backend;
use super::core::Core;
use crate::error::{Error, ErrorKind};
use crate::link::{Event, Events, Link, Pace};
use crate::process::{Death, LaunchSpec, Role, Worker, short_life, start_thread};

/// So many starts in a row may fail before a slot gives up until there is new work.
const MAX_FAILED_STARTS: u32 = 4;
/// So many if it is this process that cannot start one: it may have descriptors and memory again
/// soon. With the pauses these are about ten seconds.
const MAX_FAILED_STARTS_HERE: u32 = 12;
/// The pause after the first failed start; it doubles with each, ...
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// ... up to this.
const LONGEST_PAUSE: Duration = Duration::from_millis(1500);
/// A worker that lives shorter than this and runs nothing counts as a failed start.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// A worker's place.
pub(super) struct Slot {
    /// What errors call its worker.
    pub(super) title: Arc<str>,
    pub(super) stage: Stage,
    /// No worker of it was ready yet since it was opened, and somebody waits for that.
    pub(super) is_opening: bool,
    /// The worker that is being started was killed, since it was not needed any more; should it be
    /// needed again, that is no failure.
    pub(super) is_dismissed: bool,
    /// Its worker is being killed for what it has, or has done: it is given nothing more, which
    /// would die with it.
    pub(super) is_doomed: bool,
    /// Its process, from the start on.
    pub(super) worker: Option<Worker>,
    /// The way to its process, once it is there; gone when it was told to stop.
    pub(super) link: Option<Arc<Link>>,
    /// How many items its worker may run before it is replaced.
    pub(super) tasks_left: Option<usize>,
    /// When a timer is due that looks at how long its item has run.
    pub(super) timer: Option<Instant>,
    /// Since when nothing of what it has was seen running, or going to it, where there is a time limit.
    pub(super) silent_since: Option<Instant>,
    /// How much had [gone to it](Link::sent) then.
    sent: u64,
    /// The number of the hand and the place in it of the item that was last seen running, where there is
    /// a time limit, and when it was seen first.
    seen: Option<(u32, usize, Instant)>,
    /// When its worker, which had nothing, got something.
    pub(super) since: Option<Instant>,
    /// When that, or an item of it, ended last that it has had since.
    pub(super) mark: Instant,
    /// When it came to what its worker does first.
    pub(super) front: Instant,
    /// For how long its worker had run calls when that was.
    pub(super) pace: Pace,
    /// Its place among those that have something to do.
    pub(super) place: usize,
    /// All that its worker has is light.
    pub(super) is_light: bool,
    /// How many items its worker has, at most.
    pub(super) item_count: usize,
    /// How long its workers have had something before that.
    busy: Duration,
}

/// See the table in the module above.
pub(super) enum Stage {
    Starting,
    Ready,
    /// With the reason.
    Broken(Error),
    /// With the reason, if it could not be opened.
    Stopped(Option<Error>),
}

impl Stage {
    pub(super) fn is_ready(&self) -> bool {
        matches!(self, Stage::Ready)
    }

    pub(super) fn is_broken(&self) -> bool {
        matches!(self, Stage::Broken(_))
    }

    pub(super) fn is_stopped(&self) -> bool {
        matches!(self, Stage::Stopped(_))
    }
}

thread_local! {
    /// The address of the pool this thread belongs to, 0 for none.
    static POOL_OF_THREAD: Cell<usize> = const { Cell::new(0) };
}

/// Whether this is called by something that runs on a thread of a slot of `core`, such as a waker.
pub(super) fn is_thread_of(core: &Core) -> bool {
    POOL_OF_THREAD.get() == std::ptr::from_ref(core).addr()
}

/// Whether this is called by something that runs on a thread of a slot of any pool.
pub(super) fn is_any_thread() -> bool {
    POOL_OF_THREAD.get() != 0
}

impl Slot {
    /// One whose thread is about to be started.
    pub(super) fn new(title: Arc<str>) -> Slot {
        Slot {
            title,
            stage: Stage::Starting,
            is_opening: true,
            is_dismissed: false,
            is_doomed: false,
            worker: None,
            link: None,
            tasks_left: None,
            timer: None,
            silent_since: None,
            sent: 0,
            seen: None,
            since: None,
            mark: Instant::now(),
            front: Instant::now(),
            pace: Pace::default(),
            place: 0,
            is_light: false,
            item_count: 0,
            busy: Duration::ZERO,
        }
    }

    /// Opens it again after its thread has ended.
    pub(super) fn reopen(&mut self) {
        let busy = self.busy;
        *self = Slot::new(Arc::clone(&self.title));
        self.busy = busy;
    }

    /// Whether its worker is there, and has not been told to stop.
    pub(super) fn has_worker(&self) -> bool {
        self.stage.is_ready() && self.link.is_some()
    }

    /// Its worker has come.
    pub(super) fn welcome(&mut self, link: Arc<Link>) {
        (self.is_dismissed, self.is_doomed) = (false, false);
        self.seen = None;
        self.pace = Pace::default();
        self.link = Some(link);
        self.stage = Stage::Ready;
    }

    /// An item of its worker is seen running: tells for how long it was, since it or one behind it
    /// was seen first.
    pub(super) fn seen_for(&mut self, number: u32, place: usize) -> Duration {
        match self.seen {
            Some((same, last, since)) if same == number && place <= last => since.elapsed(),
            _ => {
                self.seen = Some((number, place, Instant::now()));
                Duration::ZERO
            }
        }
    }

    /// Nothing of what its worker has is seen running: tells for how long nothing was, nor went to it.
    pub(super) fn silent_for(&mut self) -> Duration {
        let sent = self.link.as_ref().map_or(0, |link| link.sent());
        if std::mem::replace(&mut self.sent, sent) != sent {
            self.silent_since = None;
        }
        self.silent_since.get_or_insert_with(Instant::now).elapsed()
    }

    /// Its worker is not to live on.
    pub(super) fn kill(&mut self) {
        if let Some(worker) = &self.worker {
            self.is_doomed = true;
            worker.kill();
        }
    }

    /// Whether its worker may run nothing more, and is replaced when it is done.
    pub(super) fn is_used_up(&self) -> bool {
        self.tasks_left == Some(0)
    }

    /// Whether its worker takes the time of its calls.
    pub(super) fn takes_time(&self) -> bool {
        self.link
            .as_ref()
            .is_some_and(|link| link.begun().is_some())
    }

    /// How long each item has taken its worker lately, in nanoseconds, if that says so.
    pub(super) fn take_pace(&mut self) -> Option<u64> {
        let pace = self.link.as_ref()?.pace();
        pace.since(std::mem::replace(&mut self.pace, pace))
    }

    /// How long its workers have had something to do.
    pub(super) fn busy_time(&self) -> Duration {
        self.busy + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Its worker has nothing more; tells how long it had it.
    pub(super) fn rest(&mut self, now: Instant) -> Duration {
        self.silent_since = None;
        let since = self.since.take();
        let took = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.busy += took;
        took
    }

    /// Its worker is to stop: from now on it gets nothing more.
    pub(super) fn let_go(&mut self) -> Option<(Arc<Link>, Worker)> {
        let worker = self.worker.clone()?;
        Some((self.link.take()?, worker))
    }
}

/// A worker that is there, and the way from it.
type Started = (Worker, Arc<Link>, Events);

/// What the thread of slot `index` does until the pool needs the slot no more.
pub(super) fn run(core: &Arc<Core>, index: usize) {
    /// Whatever happens, nobody shall wait for a slot whose thread is gone.
    struct Ending<'c>(&'c Arc<Core>, usize);
    impl Drop for Ending<'_> {
        fn drop(&mut self) {
            let message = format!(
                "the thread of worker {} of pool `{}` panicked",
                self.1,
                self.0.name()
            );
            self.0
                .stopped(self.1, Some(Error::new(ErrorKind::Spawn, message)));
        }
    }

    POOL_OF_THREAD.set(Arc::as_ptr(core).addr());
    let ending = Ending(core, index);
    let mut failed_starts = 0;
    while core.needs_worker(index) {
        let error = match start(core, index) {
            Ok((worker, link, events)) => {
                core.ready(index, Arc::clone(&link));
                let born = Instant::now();
                let (has_worked, death) = receive(core, index, &worker, &link, &events);
                if has_worked || born.elapsed() >= SHORT_LIFE {
                    failed_starts = 0;
                    continue;
                }
                short_life(worker.info(), &death)
            }
            Err(_) if core.was_dismissed(index) => continue,
            Err(error) => error,
        };
        failed_starts += 1;
        if core.cannot_open(index, &error) {
            break;
        }
        let most = match is_for_want_of_resources(&error) {
            true => MAX_FAILED_STARTS_HERE,
            false => MAX_FAILED_STARTS,
        };
        if failed_starts < most {
            let pause = FIRST_PAUSE * 2_u32.pow(failed_starts.min(10) - 1);
            core.pause(index, pause.min(LONGEST_PAUSE));
        } else {
            core.wait_for_work(index, error);
        }
    }
    // `needs_worker` and `cannot_open` have said so to the pool.
    std::mem::forget(ending);
}

/// Whether a system call of this process failed that may succeed later.
fn is_for_want_of_resources(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    let source = source.and_then(|source| source.downcast_ref::<std::io::Error>());
    let code = source.and_then(std::io::Error::raw_os_error);
    code.is_some_and(|code| {
        [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN].contains(&code)
    })
}

/// Starts a worker.
fn start(core: &Arc<Core>, index: usize) -> Result<Started, Error> {
    let config = &core.config;
    let name = config.worker_name(index);
    let cpus = config.cpus.as_ref();
    let cpus = cpus.map(|cpus| vec![cpus[index % cpus.len()]]);
    let (worker, connected) = match config.backend {
        Backend::Threads => {
            let (worker, link, events) = start_thread(&name, index, cpus)?;
            core.starting(index, &worker);
            (worker, Ok((link, events)))
        }
        _ => {
            let mut spec = LaunchSpec::new(Role::Pool);
            spec.name = Some(name);
            spec.worker_index = Some(index);
            spec.cpus = cpus;
            spec.memory_limit = config.memory_limit;
            spec.stderr_tail = config.stderr_tail;
            spec.start_method = config.start_method;
            if let Some(timeout) = config.start_timeout {
                spec.start_timeout = timeout;
            }
            let launched = spec.launch()?;
            let worker = Worker::Process(Arc::clone(&launched.child));
            core.starting(index, &worker);
            (worker, launched.connect())
        }
    };
    let started = connected.and_then(|(link, events)| {
        if let Some(initializer) = &config.initializer {
            initializer.run(core, index, &worker, &link, &events)?;
        }
        Ok((Arc::new(link), events))
    });
    started
        .map(|(link, events)| (worker.clone(), link, events))
        .inspect_err(|_| {
            worker.kill();
            worker.wait();
            core.not_started(index);
        })
}

/// Receives from a worker until it has ended; tells whether it has done anything, and how it ended.
fn receive(
    core: &Arc<Core>,
    index: usize,
    worker: &Worker,
    link: &Link,
    events: &Events,
) -> (bool, Death) {
    let mut has_worked = false;
    let mut found = 0;
    let mut last = None;
    loop {
        match events.take() {
            None => {
                let (is_wanted, is_soon) = core.keeper_rests(index, found);
                found = 0;
                last = events.sleep(is_wanted, last.filter(|_| !is_soon));
            }
            Some(Event::Records(report, turn)) => {
                has_worked = true;
                found += core.records(index, &report, turn);
            }
            Some(Event::Broken(reason)) => {
                core.broken(index, reason);
                worker.kill();
                worker.wait();
                break;
            }
            Some(Event::Ended) => break,
        }
    }
    let death = worker.death(link);
    has_worked |= core.ended(index, &death);
    (has_worked, death)
}
