//! The state that a pool's slots and callers share, and every change of it.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::TaskOptions;
use super::job::{Job, Outcome};
use super::queue::Queue;
use super::segment::{Piece, Segment};
use super::slot::{self, Busy, Slot, SlotState};
use crate::error::{Error, ErrorKind};
use crate::link::{Link, Record, Reply, Status};
use crate::os;
use crate::process::{Child, Exit, ProcessInfo, Who, call_at};

/// How long `terminate` waits for killed workers to be gone.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(5);

/// Timers are not set closer than this, so that they cannot keep their thread from anything else.
const SHORTEST_TIMER: Duration = Duration::from_millis(1);

/// What a pool was made with.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) name: String,
    /// Whether the user named it.
    pub(super) has_own_name: bool,
    pub(super) worker_count: usize,
    pub(super) tasks: TaskOptions,
    pub(super) start_timeout: Option<Duration>,
    /// How many bytes of its workers' standard error are kept.
    pub(super) stderr_tail: Option<usize>,
}

impl Config {
    /// What errors call the worker of a slot.
    fn title(&self, index: usize) -> Arc<str> {
        match self.has_own_name {
            true => format!("worker {index} of `{}`", self.name).into(),
            false => format!("worker {index}").into(),
        }
    }
}

/// A pool.
pub(super) struct Core {
    pub(super) config: Config,
    /// The process that made it.
    owner_id: u32,
    state: Mutex<State>,
    /// Notified when a slot or the phase changes, and when work comes that slots wait for.
    changed: Condvar,
    threads: Mutex<Vec<JoinHandle<()>>>,
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
    pub(super) queue: Queue,
    pub(super) slots: Vec<Slot>,
    /// Jobs whose items are still being submitted.
    feeds: usize,
    /// The same for those that wait for their consumer.
    lazy_feeds: usize,
    /// Somebody waits for the end, so lazy feeds get no further.
    joining: bool,
    last_chunk: u64,
    /// Counts submissions, for slots that wait for one.
    pub(super) submissions: u64,
    /// Slots whose thread has not ended.
    live_slots: usize,
}

/// Results on their way to those who wait; delivered when no lock is held.
pub(super) type Deliveries = Vec<(Arc<Job>, Vec<(usize, Outcome)>)>;

/// A call that a slot was made busy for, to be sent when no lock is held.
struct Dispatch {
    link: Arc<Link>,
    slot: usize,
    chunk: u64,
    job: Arc<Job>,
    piece: Piece,
}

impl State {
    /// Whether items are still being submitted.
    pub(super) fn has_feeds(&self) -> bool {
        self.feeds > 0 || self.lazy_feeds > 0 && !self.joining
    }
}

impl Core {
    /// Starts a pool and its workers.
    pub(super) fn start(config: Config) -> Result<Arc<Core>, Error> {
        let worker_count = config.worker_count;
        let core = Arc::new(Core {
            owner_id: std::process::id(),
            state: Mutex::new(State {
                phase: Phase::Opening,
                queue: Queue::default(),
                slots: (0..worker_count)
                    .map(|index| Slot::new(config.title(index)))
                    .collect(),
                feeds: 0,
                lazy_feeds: 0,
                joining: false,
                last_chunk: 0,
                submissions: 0,
                live_slots: 0,
            }),
            changed: Condvar::new(),
            threads: Mutex::default(),
            config,
        });
        for index in 0..worker_count {
            core.state().live_slots += 1;
            let own = Arc::clone(&core);
            match os::thread::spawn("mp-pool", move || slot::run(&own, index)) {
                Ok(thread) => core.threads().push(thread),
                Err(error) => {
                    core.state().live_slots -= 1;
                    core.terminate();
                    let message = format!("{} could not be started: {error}", core.described());
                    return Err(Error::new(ErrorKind::Spawn, message).with_source(error));
                }
            }
        }
        core.wait_opened()?;
        Ok(core)
    }

    /// Waits until every worker is there, or one could not be started.
    fn wait_opened(&self) -> Result<(), Error> {
        let mut state = self.state();
        loop {
            if let Some(error) = state.slots.iter().find_map(Slot::failure) {
                drop(state);
                self.terminate();
                return Err(error);
            }
            if state
                .slots
                .iter()
                .all(|slot| !matches!(slot.state, SlotState::Starting))
            {
                state.phase = Phase::Open;
                return Ok(());
            }
            state = self.wait(state);
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    pub(super) fn worker_count(&self) -> usize {
        self.config.worker_count
    }

    pub(super) fn task_defaults(&self) -> &TaskOptions {
        &self.config.tasks
    }

    fn described(&self) -> String {
        format!("pool `{}`", self.config.name)
    }

    /// The workers that are running.
    pub(super) fn workers(&self) -> Vec<ProcessInfo> {
        let state = self.state();
        let children = state.slots.iter().filter_map(|slot| slot.child.as_ref());
        children
            .filter(|child| child.exit().is_none())
            .map(|child| child.info().clone())
            .collect()
    }

    /// Whether this is the process that made the pool, and not a fork of it.
    fn is_owner(&self) -> bool {
        std::process::id() == self.owner_id
    }

    fn require_owner(&self) -> Result<(), Error> {
        if self.is_owner() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "{} belongs to process {}, of which this one is a fork: make a pool after the fork",
                self.described(),
                self.owner_id
            ),
        ))
    }

    /// Announces that items of a new job will be submitted. A lazy feed does not keep the pool from
    /// being joined.
    pub(super) fn open_feed(&self, is_lazy: bool) -> Result<(), Error> {
        self.require_owner()?;
        let mut state = self.state();
        match state.phase {
            Phase::Opening | Phase::Open => {
                match is_lazy {
                    true => state.lazy_feeds += 1,
                    false => state.feeds += 1,
                }
                Ok(())
            }
            Phase::Closed => Err(self.closed()),
            Phase::Terminated => Err(Error::new(
                ErrorKind::Closed,
                format!("{} was terminated and takes no more work", self.described()),
            )),
        }
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
        self.settle(state, Vec::new());
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
        let mut state = self.state();
        let piece = Piece::whole(segment);
        let refusal = match state.phase {
            Phase::Terminated => Some(self.terminated()),
            Phase::Closed if is_lazy && state.joining => Some(self.closed()),
            _ if state.live_slots == 0 => Some(self.closed()),
            _ => None,
        };
        if let Some(error) = refusal {
            drop(state);
            job.deliver(failed_pieces([&piece], &error));
            return Err(());
        }
        state.queue.push_back(job, piece);
        state.submissions += 1;
        if state
            .slots
            .iter()
            .any(|slot| matches!(slot.state, SlotState::Broken))
        {
            self.changed.notify_all();
        }
        self.settle(state, Vec::new());
        Ok(())
    }

    /// Nobody wants what has not come of this job: what has not begun does not run.
    pub(super) fn abandon(self: &Arc<Self>, job: &Arc<Job>) {
        job.abandon();
        if !self.is_owner() {
            return;
        }
        let mut state = self.state();
        let removed = state.queue.remove(job);
        for slot in &state.slots {
            if let (SlotState::Busy(busy), Some(link)) = (&slot.state, &slot.link)
                && Arc::ptr_eq(&busy.job, job)
            {
                link.cancel(busy.chunk);
            }
        }
        self.settle(state, Vec::new());
        drop(removed);
    }

    /// Cancels what has not come of this job; what is running is stopped with its worker. Tells
    /// whether there was anything left.
    pub(super) fn cancel(self: &Arc<Self>, job: &Arc<Job>) -> bool {
        if !self.is_owner() {
            return false;
        }
        let mut state = self.state();
        let error = Error::new(
            ErrorKind::Cancelled,
            format!("a call of `{}` was cancelled", job.function.name),
        )
        .with_function(job.function.name);
        let removed = state.queue.remove(job);
        let mut any = !removed.is_empty();
        for slot in &mut state.slots {
            if let SlotState::Busy(busy) = &mut slot.state
                && Arc::ptr_eq(&busy.job, job)
                && !busy.is_done()
            {
                any |= busy.cancelled.is_none();
                busy.cancelled = Some(error.clone());
                if let Some(child) = &slot.child {
                    child.kill();
                }
            }
        }
        let deliveries = vec![(Arc::clone(job), failed_pieces(&removed, &error))];
        self.settle(state, deliveries);
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
        self.settle(state, Vec::new());
    }

    /// Closes, cuts off lazy feeds, and waits until every slot has ended.
    pub(super) fn join(self: &Arc<Self>) -> Result<(), Error> {
        self.require_owner()?;
        if slot::is_thread_of(self) {
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
        while state.live_slots > 0 {
            state = self.wait(state);
        }
        let terminated = state.phase == Phase::Terminated;
        drop(state);
        self.join_threads();
        if terminated {
            Err(self.terminated())
        } else {
            Ok(())
        }
    }

    /// Ends everything now.
    pub(super) fn terminate(&self) {
        if !self.is_owner() {
            // The program forked: this is a copy, and the workers belong to the original.
            return;
        }
        let mut state = self.state();
        if state.phase != Phase::Terminated && state.live_slots > 0 {
            let error = self.terminated();
            state.phase = Phase::Terminated;
            let mut deliveries: Deliveries = Vec::new();
            for (job, pieces) in state.queue.drain() {
                deliveries.push((job, failed_pieces(&pieces, &error)));
            }
            for slot in &mut state.slots {
                if let SlotState::Busy(busy) = &mut slot.state {
                    busy.cancelled = Some(error.clone());
                }
                if let Some(child) = &slot.child {
                    child.kill();
                }
            }
            self.changed.notify_all();
            drop(state);
            deliver(deliveries);
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
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        drop(state);
        self.join_threads();
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

    /// A slot has a process that is not there yet. Tells whether it is still wanted.
    pub(super) fn starting(&self, index: usize, child: &Arc<Child>) -> bool {
        let mut state = self.state();
        state.slots[index].child = Some(Arc::clone(child));
        state.phase != Phase::Terminated
    }

    /// A slot's worker is there.
    pub(super) fn ready(self: &Arc<Self>, index: usize, link: Link) {
        let mut state = self.state();
        let slot = &mut state.slots[index];
        slot.link = Some(Arc::new(link));
        slot.state = SlotState::Idle;
        self.changed.notify_all();
        self.settle(state, Vec::new());
    }

    /// Records came from a slot's worker.
    pub(super) fn records(self: &Arc<Self>, index: usize, records: &[Record], reply: &Reply) {
        let mut state = self.state();
        let slot = &mut state.slots[index];
        let mut deliveries = Vec::new();
        if let (SlotState::Busy(busy), Some(child)) = (&mut slot.state, &slot.child) {
            let who = busy.who(&slot.title, child);
            let mut outcomes = busy.complete(records, reply, &who);
            let is_end =
                |record: &Record| record.status == Status::ChunkEnd && record.chunk == busy.chunk;
            if records.iter().any(is_end) {
                busy.job.learn(busy.piece.range.len(), busy.since.elapsed());
                // Items are left out only for a job that nobody wants any more.
                outcomes.extend(busy.left_out(&who.left_out()));
            }
            let job = Arc::clone(&busy.job);
            if records.iter().any(is_end) {
                slot.state = SlotState::Idle;
            }
            deliveries.push((job, outcomes));
        }
        self.settle(state, deliveries);
    }

    /// A slot's worker has ended, `exit`, and left these records. Tells whether it had run
    /// anything of a chunk it had.
    pub(super) fn ended(
        self: &Arc<Self>,
        index: usize,
        exit: Exit,
        records: &[Record],
        reply: &Reply,
    ) -> bool {
        let mut state = self.state();
        let slot = &mut state.slots[index];
        let ended = std::mem::replace(&mut slot.state, SlotState::Starting);
        let (child, link) = (slot.child.take(), slot.link.take());
        let mut deliveries = Vec::new();
        let mut has_worked = false;
        if let (SlotState::Busy(mut busy), Some(child), Some(link)) = (ended, child, link) {
            let who = busy.who(&slot.title, &child);
            let mut outcomes = busy.complete(records, reply, &who);
            let running = link.running().filter(|running| running.chunk == busy.chunk);
            has_worked = running.is_some() || !outcomes.is_empty();
            let exit = exit.after(link.is_out_of_memory(), &child);
            let failure = |busy: &Busy, who: Who| match (busy.timed_out, &busy.broken) {
                (Some((_, limit)), _) => who.timed_out(&child, limit, exit),
                (None, Some(reason)) => who.broke_off(&child, reason),
                (None, None) if running.is_some() => who.died(&child, exit),
                (None, None) => who.died_before(&child, exit),
            };
            let fate = busy.fate(running, failure, &who);
            outcomes.extend(fate.delivered);
            if busy.job.is_abandoned() || state.phase == Phase::Terminated {
                outcomes.extend(failed_pieces(&fate.queued, &self.terminated()));
            } else {
                for piece in fate.queued.into_iter().rev() {
                    state.queue.push_front(&busy.job, piece);
                }
            }
            deliveries.push((busy.job, outcomes));
        }
        self.changed.notify_all();
        self.settle(state, deliveries);
        has_worked
    }

    /// A slot's worker sent what makes no sense, and is about to be killed.
    pub(super) fn broken(&self, index: usize, reason: String) {
        if let SlotState::Busy(busy) = &mut self.state().slots[index].state {
            busy.broken = Some(reason);
        }
    }

    /// No worker can be started any more, in any slot: fails what waits for one.
    pub(super) fn fail_waiting(self: &Arc<Self>, mut state: MutexGuard<'_, State>, error: &Error) {
        let waiting = state.queue.drain();
        let deliveries = waiting
            .into_iter()
            .map(|(job, pieces)| {
                let outcomes = failed_pieces(&pieces, error);
                (job, outcomes)
            })
            .collect();
        self.settle(state, deliveries);
    }

    /// A slot's thread ends. With a failure, it could not be opened, or a bug ended it.
    pub(super) fn slot_ended(&self, index: usize, failure: Option<Error>) {
        let mut state = self.state();
        let slot = &mut state.slots[index];
        let last = std::mem::replace(&mut slot.state, SlotState::Stopped(failure.clone()));
        slot.link = None;
        let child = slot.child.take();
        state.live_slots -= 1;
        let mut deliveries: Deliveries = Vec::new();
        if state.live_slots == 0 {
            // Nothing is left of an orderly end. What is, nobody would run any more.
            if state.phase < Phase::Closed {
                state.phase = Phase::Terminated;
            }
            let error = failure.unwrap_or_else(|| self.terminated());
            for (job, pieces) in state.queue.drain() {
                deliveries.push((job, failed_pieces(&pieces, &error)));
            }
        }
        self.changed.notify_all();
        drop(state);
        // Only a bug leaves something here; its worker must not stay, nor its caller wait.
        if let Some(child) = child {
            child.kill();
        }
        if let SlotState::Busy(busy) = last {
            busy.job.deliver(busy.left_out(&self.terminated()));
        }
        deliver(deliveries);
    }

    /// Whether a pool that is closed has nothing left to do.
    pub(super) fn is_done(state: &State) -> bool {
        let is_busy = |slot: &Slot| matches!(slot.state, SlotState::Busy(_));
        match state.phase {
            Phase::Opening | Phase::Open => false,
            Phase::Closed => {
                !state.has_feeds() && state.queue.is_empty() && !state.slots.iter().any(is_busy)
            }
            Phase::Terminated => true,
        }
    }

    /// After a change: gives idle workers something to do, or lets them go when there is nothing
    /// more; then, without the lock, sends and delivers.
    fn settle(self: &Arc<Self>, mut state: MutexGuard<'_, State>, deliveries: Deliveries) {
        let mut dispatches = Vec::new();
        let mut stops = Vec::new();
        let State {
            phase,
            queue,
            slots,
            last_chunk,
            ..
        } = &mut *state;
        if *phase != Phase::Terminated {
            for (index, slot) in slots.iter_mut().enumerate() {
                let (SlotState::Idle, Some(link)) = (&slot.state, &slot.link) else {
                    continue;
                };
                let Some((job, piece)) = queue.next(self.config.worker_count) else {
                    break;
                };
                *last_chunk += 1;
                let (link, chunk) = (Arc::clone(link), *last_chunk);
                slot.state = SlotState::Busy(Busy::new(chunk, Arc::clone(&job), piece.clone()));
                dispatches.push(Dispatch {
                    link,
                    slot: index,
                    chunk,
                    job,
                    piece,
                });
            }
            if Core::is_done(&state) {
                let idle = state.slots.iter_mut().filter(|slot| slot.is_idle());
                stops.extend(idle.filter_map(|slot| slot.link.take()));
                self.changed.notify_all();
            }
        }
        drop(state);
        // First what others wait for: nothing that goes wrong with a call may hold it back.
        deliver(deliveries);
        for dispatch in dispatches {
            self.send(dispatch);
        }
        for link in stops {
            link.stop();
        }
    }

    fn send(self: &Arc<Self>, dispatch: Dispatch) {
        let Dispatch {
            link,
            slot,
            chunk,
            job,
            piece,
        } = dispatch;
        let call = piece.call(job.function_number, chunk);
        link.call(call, piece.segment.handles.clone());
        if let Some(limit) = job.timeout {
            self.watch_timeout(slot, limit);
        }
    }

    /// Looks in `after` at how long the slot's item has run, unless somebody looks before.
    fn watch_timeout(self: &Arc<Self>, index: usize, after: Duration) {
        let Some(due) = Instant::now().checked_add(after.max(SHORTEST_TIMER)) else {
            return;
        };
        let mut state = self.state();
        let timer = &mut state.slots[index].timer;
        if timer.is_some_and(|timer| timer <= due) {
            return;
        }
        *timer = Some(due);
        drop(state);
        let core = Arc::downgrade(self);
        // The watch runs, since the pool has processes.
        let _ = call_at(due, move || {
            if let Some(core) = core.upgrade() {
                core.check_timeout(index, due);
            }
        });
    }

    fn check_timeout(self: &Arc<Self>, index: usize, due: Instant) {
        let mut state = self.state();
        let slot = &mut state.slots[index];
        if slot.timer != Some(due) {
            return;
        }
        slot.timer = None;
        let (SlotState::Busy(busy), Some(child), Some(link)) =
            (&mut slot.state, &slot.child, &slot.link)
        else {
            return;
        };
        let Some(limit) = busy.job.timeout else {
            return;
        };
        let running = link.running().filter(|running| running.chunk == busy.chunk);
        match running {
            Some(running) if running.elapsed >= limit => {
                busy.timed_out = Some((running.item, limit));
                child.kill();
            }
            running => {
                let after = running.map_or(limit, |running| limit - running.elapsed);
                drop(state);
                self.watch_timeout(index, after);
            }
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

fn failed_pieces<'p>(
    pieces: impl IntoIterator<Item = &'p Piece>,
    error: &Error,
) -> Vec<(usize, Outcome)> {
    let numbers = pieces.into_iter().flat_map(Piece::numbers);
    numbers.map(|number| (number, Err(error.clone()))).collect()
}

fn deliver(deliveries: Deliveries) {
    for (job, outcomes) in deliveries {
        job.deliver(outcomes);
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
