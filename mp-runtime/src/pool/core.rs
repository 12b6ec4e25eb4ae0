//! The state that a pool's workers and callers share, and what callers do with it. What workers do
//! with it is in `crew`, time limits in `timing`.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::attendance::Attendants;
use super::callbacks::Callbacks;
use super::dispatch::{Packer, may_run};
use super::initializer::Initializer;
use super::job::{Arrived, Job};
use super::life::{Ended, Life};
use super::segment::{Piece, Segment};
use super::slot::{self, Slot, Stage};
use super::stats::{Counters, PoolStats};
use super::{Backend, TaskOptions, inline};
use crate::error::{Error, ErrorKind};
use crate::few::Few;
use crate::link::{Call, Link};
use crate::os::identity::process_id;
use crate::os::limit;
use crate::process::{ProcessInfo, StartMethod, Worker};
use crate::wire::{BulkPlace, Handles};

/// How many workers can compute at once. To ask for it takes as long as a call.
static PROCESSORS: LazyLock<usize> = LazyLock::new(|| limit::usable_cpus().max(1));

/// How long `terminate` waits for killed workers to be gone.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a pool was made with.
#[derive(Debug, Default)]
pub(super) struct Config {
    pub(super) name: String,
    /// Whether the user named it.
    pub(super) has_own_name: bool,
    pub(super) backend: Backend,
    pub(super) tasks: TaskOptions,
    pub(super) initializer: Option<Initializer>,
    /// A worker is replaced after so many items.
    pub(super) max_tasks: Option<usize>,
    pub(super) memory_limit: Option<u64>,
    /// The processors that workers are bound to, one each, in turns.
    pub(super) cpus: Option<Vec<usize>>,
    pub(super) start_timeout: Option<Duration>,
    pub(super) start_method: Option<StartMethod>,
    /// How many bytes of its workers' standard error are kept.
    pub(super) stderr_tail: Option<usize>,
}

impl Config {
    /// What errors call the worker of a slot.
    pub(super) fn title(&self, index: usize) -> Arc<str> {
        match self.has_own_name {
            true => format!("worker {index} of `{}`", self.name).into(),
            false => format!("worker {index}").into(),
        }
    }

    /// What the worker of a slot calls itself.
    pub(super) fn worker_name(&self, index: usize) -> String {
        format!("{}-worker-{index}", self.name)
    }
}

/// A pool.
pub(super) struct Core {
    pub(super) config: Config,
    /// The process that made it.
    pub(super) owner_id: u32,
    state: Mutex<State>,
    /// Notified when a slot, the phase or the number of workers changes.
    changed: Condvar,
    /// How many workers can compute at once.
    pub(super) processors: usize,
    /// What `State::target` is, for those who need not know it exactly.
    worker_count: AtomicUsize,
    pub(super) counters: Arc<Counters>,
    pub(super) attendants: Attendants,
    /// For those without workers.
    pub(super) here: inline::Here,
    /// Held by who changes the number of workers.
    pub(super) resizing: Mutex<()>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    callbacks: Arc<Callbacks>,
}

/// What happens to a pool, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Its first workers are being started.
    Opening,
    /// It takes work.
    Open,
    /// It takes no new work.
    Closed,
    /// It does nothing any more.
    Terminated,
}

pub(super) struct State {
    pub(super) phase: Phase,
    /// Why it runs nothing more, though nobody has ended it: its initializer failed.
    pub(super) failure: Option<Error>,
    pub(super) life: Life,
    pub(super) slots: Vec<Slot>,
    /// Slots whose workers have something to do, in no order.
    pub(super) busy: Vec<usize>,
    /// Slots whose workers have nothing to do, the one last that had something last; and some that
    /// are none of these any more.
    pub(super) idle: Vec<usize>,
    /// The slot whose keeper looks for stalled workers, as long as that is needed.
    pub(super) looker: Option<usize>,
    /// How often that was not needed, in a row.
    pub(super) vain_looks: u32,
    /// How long an item of each function took lately, by its number; 0 where that is not known.
    pub(super) paces: Vec<u32>,
    /// How many workers there shall be: those of the slots before this one.
    pub(super) target: usize,
    pub(super) packer: Packer,

    /// Slots whose thread has not ended.
    pub(super) live_slots: usize,
    /// Jobs whose items are still being submitted.
    feeds: usize,
    /// The same for those that wait for their consumer.
    lazy_feeds: usize,
    /// Somebody waits for the end, so lazy feeds get no further.
    joining: bool,
    /// Workers that were started in place of others.
    pub(super) restarts: usize,
}

/// What is to be done about a change once no lock is held.
#[derive(Default)]
pub(super) struct Aftermath {
    pub(super) ended: Few<Ended>,
    /// Workers that need not stay, and how they are told.
    pub(super) stops: Few<(Arc<Link>, Worker)>,
    pub(super) calls: Few<Dispatch>,
    /// Workers that have light calls and may sleep.
    pub(super) wakes: Few<Arc<Link>>,
}

/// A call that a worker was given.
pub(super) struct Dispatch {
    pub(super) link: Arc<Link>,
    pub(super) slot: usize,
    pub(super) call: Call,
    pub(super) handles: Option<Arc<Handles>>,
    pub(super) timeout: Option<Duration>,
}

impl From<Ended> for Aftermath {
    fn from(ended: Ended) -> Aftermath {
        Aftermath {
            ended: ended.into(),
            ..Aftermath::default()
        }
    }
}

impl State {
    /// Whether items are still being submitted.
    pub(super) fn has_feeds(&self) -> bool {
        self.feeds > 0 || self.lazy_feeds > 0 && !self.joining
    }

    /// Whether a pool that takes no more work has nothing left to do.
    pub(super) fn is_done(&self) -> bool {
        match self.phase {
            Phase::Terminated => true,
            _ if self.failure.is_some() => self.life.is_idle(),
            Phase::Closed => !self.has_feeds() && self.life.is_idle(),
            Phase::Opening | Phase::Open => false,
        }
    }

    /// Whether the worker of a slot is there and has nothing to do.
    pub(super) fn is_idle(&self, index: usize) -> bool {
        let has_worker = self.slots.get(index).is_some_and(Slot::has_worker);
        has_worker && self.life.hand(index).is_none()
    }
}

impl Core {
    pub(super) fn new(config: Config) -> Core {
        Core {
            owner_id: process_id(),
            state: Mutex::new(State {
                phase: Phase::Opening,
                failure: None,
                life: Life::new(),
                slots: Vec::new(),
                busy: Vec::new(),
                idle: Vec::new(),
                looker: None,
                vain_looks: 0,
                paces: Vec::new(),
                target: 0,
                packer: Packer::default(),
                live_slots: 0,
                feeds: 0,
                lazy_feeds: 0,
                joining: false,
                restarts: 0,
            }),
            changed: Condvar::new(),
            processors: *PROCESSORS,
            worker_count: AtomicUsize::new(0),
            counters: Arc::default(),
            attendants: Attendants::default(),
            here: inline::Here::new(config.worker_name(0)),
            resizing: Mutex::default(),
            threads: Mutex::default(),
            callbacks: Arc::default(),
            config,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    /// How many workers there shall be.
    pub(super) fn worker_count(&self) -> usize {
        self.worker_count.load(Ordering::Relaxed)
    }

    /// Changes how many workers there shall be.
    pub(super) fn set_target(&self, state: &mut State, target: usize) {
        state.target = target;
        self.worker_count.store(target, Ordering::Relaxed);
    }

    pub(super) fn callbacks(&self) -> &Arc<Callbacks> {
        &self.callbacks
    }

    pub(super) fn described(&self) -> String {
        format!("pool `{}`", self.config.name)
    }

    /// The workers that are running, but for those that it wants no more.
    pub(super) fn workers(&self) -> Vec<ProcessInfo> {
        if !self.is_owner() {
            return Vec::new();
        }
        if self.config.backend == Backend::Inline {
            return vec![ProcessInfo::clone(&self.here.info)];
        }
        let state = self.state();
        let wanted = state.slots.iter().take(state.target);
        wanted
            .filter_map(|slot| slot.worker.as_ref())
            .filter(|worker| worker.exit().is_none())
            .map(|worker| worker.info().clone())
            .collect()
    }

    pub(super) fn stats(&self) -> PoolStats {
        if !self.is_owner() {
            // Somebody may have had the lock when the program forked.
            return PoolStats::default();
        }
        let state = self.state();
        let wanted = state.slots.iter().take(state.target);
        let (counts, busy) = match self.config.backend {
            Backend::Inline => (self.here.counts(), vec![self.here.busy_time()]),
            _ => (state.life.counts(), wanted.map(Slot::busy_time).collect()),
        };
        PoolStats {
            queued: counts.0,
            running: counts.1,
            done: self.counters.done(),
            failed: self.counters.failed(),
            restarts: state.restarts,
            busy,
        }
    }

    /// Where large runs of numbers among arguments go.
    pub(super) fn bulk_place(&self) -> BulkPlace {
        match self.has_rings() {
            true => BulkPlace::Kept,
            false => BulkPlace::Within,
        }
    }

    /// Whether its workers put what they have done into rings.
    pub(super) fn has_rings(&self) -> bool {
        self.config.backend == Backend::Processes
    }

    /// Whether this is the process that made the pool, and not a fork of it.
    pub(super) fn is_owner(&self) -> bool {
        process_id() == self.owner_id
    }

    pub(super) fn require_owner(&self) -> Result<(), Error> {
        match self.is_owner() {
            true => Ok(()),
            false => Err(of_another_process(&self.described(), self.owner_id)),
        }
    }

    /// Why it takes no work from callers, if it does not.
    pub(super) fn refused(&self, state: &State) -> Option<Error> {
        match state.phase {
            _ if state.failure.is_some() => state.failure.clone(),
            Phase::Opening | Phase::Open => None,
            Phase::Closed => Some(self.closed()),
            Phase::Terminated => Some(Error::new(
                ErrorKind::Closed,
                format!("{} was terminated and takes no more work", self.described()),
            )),
        }
    }

    /// Announces that items of a new job will be submitted. A lazy feed does not keep the pool from
    /// being joined.
    pub(super) fn open_feed(&self, job: &Job, is_lazy: bool) -> Result<(), Error> {
        self.require_owner()?;
        let mut state = self.state();
        if let Some(error) = self.refused(&state) {
            return Err(error);
        }
        if let Some(pace) = state.pace(job.function_number) {
            job.note_pace(pace);
        }
        match is_lazy {
            true => state.lazy_feeds += 1,
            false => state.feeds += 1,
        }
        Ok(())
    }

    /// All items of a job were submitted.
    pub(super) fn close_feed(self: &Arc<Self>, is_lazy: bool) {
        if !self.is_owner() {
            return;
        }
        let mut state = self.state();
        match is_lazy {
            true => state.lazy_feeds -= 1,
            false => state.feeds -= 1,
        }
        self.settle(state, Aftermath::default());
    }

    /// Queues the only item of a job.
    ///
    /// # Errors
    ///
    /// If the pool takes no more work. If nobody will run it, that is its result.
    pub(super) fn submit_alone(
        self: &Arc<Self>,
        job: &Arc<Job>,
        segment: Arc<Segment>,
    ) -> Result<(), Error> {
        self.require_owner()?;
        let mut state = self.state();
        if let Some(error) = self.refused(&state) {
            return Err(error);
        }
        self.revive(&mut state);
        let piece = Piece::whole(segment);
        if self.config.backend == Backend::Inline {
            drop(state);
            inline::run(self, job, &piece);
            return Ok(());
        }
        if state.life.has_waiting() {
            // Nobody could be given what waits already; what changes that looks at this as well.
            state.life.enqueue(job, piece);
            drop(state);
            self.pass();
            return Ok(());
        }
        let mut aftermath = Aftermath::default();
        let is_enough = state.busy.len() >= self.processors;
        if !is_enough && state.has_idle() {
            // As `settle` would, without a queue for one.
            if let Some(index) = state.idle.pop() {
                let chunk = (Arc::clone(job), piece);
                self.give(&mut state, index, chunk.into(), &mut aftermath);
            }
        } else {
            state.life.enqueue(job, piece);
        }
        self.settle(state, aftermath);
        self.pass();
        Ok(())
    }

    /// Queues items of a job whose feed is open.
    ///
    /// # Errors
    ///
    /// If the pool takes no more; the items are delivered as that error.
    pub(super) fn submit(
        self: &Arc<Self>,
        job: &Arc<Job>,
        segment: Arc<Segment>,
        is_lazy: bool,
    ) -> Result<(), ()> {
        let piece = Piece::whole(segment);
        if let Err(error) = self.require_owner() {
            job.deliver(
                piece
                    .numbers()
                    .map(|number| Arrived::Failed(number, error.clone())),
            );
            return Err(());
        }
        let mut state = self.state();
        if state.phase <= Phase::Open {
            self.revive(&mut state);
        }
        let is_cut_off = is_lazy && state.joining && state.phase == Phase::Closed;
        let refusal = match is_cut_off {
            true => Some(self.closed()),
            false => self.not_run(&state),
        };
        if let Some(error) = refusal {
            drop(state);
            let failed = |number| Arrived::Failed(number, error.clone());
            self.deliver(job, piece.numbers().map(failed));
            return Err(());
        }
        if self.config.backend == Backend::Inline {
            drop(state);
            inline::run(self, job, &piece);
            return Ok(());
        }
        state.life.enqueue(job, piece);
        self.settle(state, Aftermath::default());
        Ok(())
    }

    /// Workers that could not be started are tried again for new work.
    pub(super) fn revive(&self, state: &mut State) {
        let broken = state.slots.iter_mut().filter(|slot| slot.stage.is_broken());
        let mut any = false;
        for slot in broken {
            slot.stage = Stage::Starting;
            any = true;
        }
        if any {
            self.changed.notify_all();
        }
    }

    /// Why nothing that waits would ever run, if that is so.
    pub(super) fn not_run(&self, state: &State) -> Option<Error> {
        if state.phase == Phase::Terminated {
            return Some(self.terminated());
        }
        if state.failure.is_some() || self.config.backend == Backend::Inline {
            return state.failure.clone();
        }
        // Those that have ended and those that cannot be started will run nothing.
        let mut reason = None;
        for slot in &state.slots {
            match &slot.stage {
                Stage::Broken(error) => reason = Some(error),
                Stage::Stopped(error) => reason = reason.or(error.as_ref()),
                Stage::Starting | Stage::Ready => return None,
            }
        }
        Some(reason.cloned().unwrap_or_else(|| self.closed()))
    }

    /// Nobody wants what has not come of this job: what has not begun does not run.
    pub(super) fn abandon(self: &Arc<Self>, job: &Arc<Job>) {
        if !self.is_owner() {
            return;
        }
        let mut state = self.state();
        let begun = self.reclaim_all_of(&mut state, job);
        let (ended, left) = state.life.abandon(job, &self.not_wanted(job));
        for (slot, items) in left {
            if let Some(link) = &state.slots[slot].link
                && may_run(&begun, slot, items)
            {
                link.cancel(items.first);
            }
        }
        self.settle(state, ended.into());
    }

    /// Cancels what has not come of this job; what is running is stopped with its worker. Tells
    /// whether there was anything left.
    pub(super) fn cancel(self: &Arc<Self>, job: &Arc<Job>) -> bool {
        if !self.is_owner() {
            return false;
        }
        let mut state = self.state();
        let begun = self.reclaim_all_of(&mut state, job);
        let (ended, doomed) = state.life.cancel(job, &self.not_wanted(job));
        let any = ended.counts() != (0, 0) || !doomed.is_empty();
        for (slot, items) in doomed {
            if may_run(&begun, slot, items) {
                state.slots[slot].kill();
            }
        }
        self.settle(state, ended.into());
        any
    }

    /// Takes no more work.
    pub(super) fn close(self: &Arc<Self>) {
        if !self.is_owner() {
            return;
        }
        let mut state = self.state();
        state.phase = state.phase.max(Phase::Closed);
        self.changed.notify_all();
        self.settle(state, Aftermath::default());
    }

    /// Closes, cuts off lazy feeds, and waits until every worker has ended and every callback has
    /// returned.
    pub(super) fn join(self: &Arc<Self>) -> Result<(), Error> {
        self.require_owner()?;
        if slot::is_thread_of(self) || self.callbacks.is_calling_here() {
            let message = format!(
                "{} cannot wait for the thread it is joined on",
                self.described()
            );
            return Err(Error::new(ErrorKind::WouldDeadlock, message));
        }
        let mut state = self.state();
        state.joining = true;
        drop(state);
        self.close();
        let mut state = self.state();
        while state.live_slots > 0 || !state.is_done() {
            state = self.wait(state);
        }
        let failure = match state.phase {
            Phase::Terminated => Some(self.terminated()),
            _ => state.failure.clone(),
        };
        drop(state);
        self.join_threads();
        self.callbacks.wait_over();
        failure.map_or(Ok(()), Err)
    }

    /// Ends everything now.
    pub(super) fn terminate(self: &Arc<Self>) {
        if !self.is_owner() {
            // The program forked: this is a copy, and the workers belong to the original.
            return;
        }
        let mut state = self.state();
        if state.phase != Phase::Terminated {
            // What was ended in order stays so.
            let is_at_work = state.live_slots > 0 || !state.is_done();
            if is_at_work {
                state.phase = Phase::Terminated;
            }
            let ended = state.life.terminate(&self.terminated());
            for slot in &state.slots {
                if let Some(worker) = &slot.worker {
                    worker.kill();
                }
            }
            self.changed.notify_all();
            let aftermath = Aftermath {
                ended: ended.into_iter().collect(),
                ..Aftermath::default()
            };
            self.settle(state, aftermath);
            state = self.state();
        }
        if slot::is_thread_of(self) {
            // A slot cannot wait for its own end.
            return;
        }
        let deadline = Instant::now() + TERMINATE_TIMEOUT;
        while state.live_slots > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.wait_timeout(state, left);
        }
        drop(state);
        self.join_threads();
    }

    /// Keeps the thread of a slot, to be joined.
    pub(super) fn keep(&self, thread: JoinHandle<()>) {
        let mut threads = self.threads();
        // Those of slots that went away in between have ended.
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
    }

    fn join_threads(&self) {
        if slot::is_thread_of(self) {
            return;
        }
        let threads = std::mem::take(&mut *self.threads());
        for thread in threads {
            // They end without panicking; if one did there is nothing left to wait for.
            let _ = thread.join();
        }
    }

    fn closed(&self) -> Error {
        let message = format!("{} is closed and takes no more work", self.described());
        Error::new(ErrorKind::Closed, message)
    }

    pub(super) fn terminated(&self) -> Error {
        let message = format!(
            "{} was terminated before the call was done",
            self.described()
        );
        Error::new(ErrorKind::Cancelled, message)
    }

    fn not_wanted(&self, job: &Job) -> Error {
        let name = job.function.name;
        let message = format!("a call of `{name}` was cancelled");
        Error::new(ErrorKind::Cancelled, message).with_function(name)
    }

    /// After a change: fails what nobody will run, gives idle workers something to do, and lets
    /// those go that are not needed; then, without the lock, delivers and sends.
    pub(super) fn settle(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        mut aftermath: Aftermath,
    ) {
        if state.life.has_waiting() {
            match self.not_run(&state) {
                Some(error) => aftermath.ended.extend(state.life.refuse(&error)),
                None => self.assign(&mut state, &mut aftermath),
            }
        }
        let is_done = state.is_done();
        let has_too_many = is_done || state.slots.len() > state.target;
        // Those of a pool that was terminated have been killed.
        if has_too_many && state.phase != Phase::Terminated {
            for index in 0..state.slots.len() {
                if is_done || !state.is_wanted(index) {
                    self.dismiss(&mut state, index, &mut aftermath);
                }
            }
        }
        if is_done {
            self.changed.notify_all();
        }
        // Under the lock: each item is in one place whenever somebody counts.
        for ended in aftermath.ended.iter() {
            self.counters.count(ended);
        }
        let looker = match self.has_rings() {
            true => state.appoint_looker(),
            false => None,
        };
        drop(state);
        if let Some(link) = looker {
            link.wake_keeper();
        }
        // First what others wait for: nothing that goes wrong with a call may hold it back.
        aftermath.ended.into_iter().for_each(Ended::deliver);
        for link in aftermath.wakes {
            link.wake();
            self.see_to(&link);
        }
        for dispatch in aftermath.calls {
            dispatch.link.call(dispatch.call, dispatch.handles);
            self.see_to(&dispatch.link);
            if let Some(limit) = dispatch.timeout {
                self.watch_timeout(dispatch.slot, limit);
            }
        }
        for (link, worker) in aftermath.stops {
            self.stop(&link, &worker);
        }
    }

    /// The worker of a slot is not needed, whether it is idle or has not come yet.
    fn dismiss(&self, state: &mut State, index: usize, aftermath: &mut Aftermath) {
        if state.is_idle(index) {
            aftermath.stops.extend(state.slots[index].let_go());
        }
        let slot = &mut state.slots[index];
        if let (Stage::Starting, Some(worker)) = (&slot.stage, &slot.worker) {
            slot.is_dismissed = true;
            worker.kill();
        }
    }

    /// Counts what never was with a worker of another process, and brings it to whoever waits for
    /// it.
    pub(super) fn deliver(&self, job: &Arc<Job>, arrived: impl IntoIterator<Item = Arrived>) {
        let ended = Ended::of_all(job, arrived);
        self.counters.count(&ended);
        ended.deliver();
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who wait for a change.
    pub(super) fn notify(&self) {
        self.changed.notify_all();
    }

    /// Waits for a change.
    pub(super) fn wait<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change, at most so long.
    pub(super) fn wait_timeout<'s>(
        &self,
        state: MutexGuard<'s, State>,
        timeout: Duration,
    ) -> MutexGuard<'s, State> {
        self.changed
            .wait_timeout(state, timeout)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why what belongs to a pool of process `owner_id` is of no use in this one.
pub(super) fn of_another_process(what: &str, owner_id: u32) -> Error {
    let message = format!(
        "{what} belongs to process {owner_id}, of which this one is a fork: make a pool after the fork"
    );
    Error::new(ErrorKind::Unsupported, message)
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
