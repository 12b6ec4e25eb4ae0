//! The workers of a pool: how many there shall be, and what becomes of each.
//!
//! Each slot has a thread, which asks before every start whether its worker is
//! [needed](Core::needs_worker): a slot below the target number, in a pool that goes on. There is no
//! count of workers that have died and must be replaced, which could be wrong: who is there, and who
//! should be, decides. The answer "no" and the end of the slot are one step under the lock, so that
//! a slot that is needed again is either still there or surely gone.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::core::{Aftermath, Config, Core, Phase, State};
use super::life::Doom;
use super::slot::{self, Slot, Stage};
use super::{Backend, inline};
use crate::error::{Error, ErrorKind};
use crate::link::{Link, Report, Turn};
use crate::os;
use crate::os::call::unnamed;
use crate::process::{Death, Who, Worker, start_watch};

/// Items that seem to take longer do not only seem to, because they wait for a processor.
const SURELY_LONG_NANOS: u64 = 5_000_000;

impl State {
    /// Forgets slots at the end that are not needed and have stopped.
    fn trim(&mut self) {
        let is_over = |slot: &Slot| slot.stage.is_stopped();
        while self.slots.len() > self.target && self.slots.last().is_some_and(is_over) {
            self.slots.pop();
        }
    }

    /// Whether the worker of this slot, if it has one, is given work.
    pub(super) fn is_wanted(&self, index: usize) -> bool {
        // What the last worker of a closed pool left must not be left to nobody.
        index < self.target || self.phase == Phase::Closed && self.live_slots == 1
    }

    /// Whether the pool needs a worker in this slot, which has none.
    fn needs(&self, index: usize) -> bool {
        match self.phase {
            _ if self.failure.is_some() => false,
            Phase::Opening | Phase::Open => self.is_wanted(index),
            Phase::Closed => (self.life.has_waiting() || self.has_feeds()) && self.is_wanted(index),
            Phase::Terminated => false,
        }
    }
}

impl Core {
    /// Starts a pool and its workers, and waits until they are there.
    pub(super) fn start(config: Config, worker_count: usize) -> Result<Arc<Core>, Error> {
        let core = Arc::new(Core::new(config));
        let opened = match core.config.backend {
            Backend::Inline => {
                core.set_target(&mut core.state(), 1);
                inline::open(&core)
            }
            _ => start_watch()
                .map_err(|error| {
                    let message = format!("{} could not be started: {error}", core.described());
                    Error::new(ErrorKind::Spawn, message).with_source(unnamed(error))
                })
                .and_then(|()| core.grow(worker_count)),
        };
        if let Err(error) = opened {
            core.terminate();
            return Err(error);
        }
        core.state().phase = Phase::Open;
        Ok(core)
    }

    /// Changes how many workers there are, and waits for the new ones.
    pub(super) fn resize(self: &Arc<Self>, worker_count: usize) -> Result<(), Error> {
        self.require_owner()?;
        let resizing = self.resizing.lock();
        let _resizing = resizing.unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        if let Some(error) = self.refused(&state) {
            return Err(error);
        }
        let before = state.target;
        if self.config.backend == Backend::Inline || worker_count == before {
            return Ok(());
        }
        if worker_count < before {
            self.set_target(&mut state, worker_count);
            self.changed_need(state);
            return Ok(());
        }
        drop(state);
        self.grow(worker_count).inspect_err(|_| {
            let mut state = self.state();
            self.set_target(&mut state, before);
            self.changed_need(state);
        })
    }

    /// Tells slots that may not be needed any more, and their workers if they are idle.
    fn changed_need(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        state.trim();
        self.notify();
        self.settle(state, Aftermath::default());
    }

    /// Opens slots up to so many, and waits until each has a worker, or one could get none.
    fn grow(self: &Arc<Self>, worker_count: usize) -> Result<(), Error> {
        for index in 0..worker_count {
            self.open(index).map_err(|error| {
                let message = format!("{} could not get a thread: {error}", self.described());
                Error::new(ErrorKind::Spawn, message).with_source(error)
            })?;
        }
        let mut state = self.state();
        loop {
            let wanted = &state.slots[..worker_count.min(state.slots.len())];
            let failure = wanted.iter().find_map(|slot| match &slot.stage {
                Stage::Stopped(failure) => Some(failure.clone()),
                _ => None,
            });
            if let Some(failure) = failure {
                let ended = || self.refused(&state).unwrap_or_else(|| self.terminated());
                return Err(failure.unwrap_or_else(ended));
            }
            if wanted.iter().all(|slot| !slot.is_opening) {
                return Ok(());
            }
            state = self.wait(state);
        }
    }

    /// Opens a slot if it has no thread; after this it is wanted.
    fn open(self: &Arc<Self>, index: usize) -> std::io::Result<()> {
        let mut state = self.state();
        let was_wanted = index < state.target;
        let target = state.target.max(index + 1);
        self.set_target(&mut state, target);
        match state.slots.get_mut(index) {
            None => state.slots.push(Slot::new(self.config.title(index))),
            Some(slot) if slot.stage.is_stopped() => slot.reopen(),
            Some(slot) => {
                if !was_wanted && !slot.has_worker() {
                    // Its worker was told to stop, and another one is to come.
                    slot.is_opening = true;
                    self.revive(&mut state);
                }
                return Ok(());
            }
        }
        state.live_slots += 1;
        drop(state);
        let own = Arc::clone(self);
        let thread = os::thread::spawn("mp-pool", move || slot::run(&own, index));
        match thread {
            Ok(thread) => {
                self.keep(thread);
                Ok(())
            }
            Err(error) => {
                self.stopped(index, None);
                Err(error)
            }
        }
    }

    /// Whether the thread of a slot without a worker shall start one; if not, the slot has stopped
    /// when this returns.
    pub(super) fn needs_worker(self: &Arc<Self>, index: usize) -> bool {
        let mut state = self.state();
        if state.needs(index) {
            state.slots[index].stage = Stage::Starting;
            return true;
        }
        self.stop_slot(state, index, None);
        false
    }

    /// A worker could not be started. If somebody waits for it in vain, or there never can be one,
    /// the slot has stopped when this returns `true`.
    pub(super) fn cannot_open(self: &Arc<Self>, index: usize, error: &Error) -> bool {
        let state = self.state();
        let is_opening = state.slots[index].is_opening && state.needs(index);
        if is_opening {
            self.stop_slot(state, index, Some(error.clone()));
        }
        is_opening
    }

    /// The initializer has failed, and would fail again: nothing more is run.
    pub(super) fn fail(self: &Arc<Self>, index: usize, error: &Error) {
        let mut state = self.state();
        if state.slots[index].is_opening || state.phase == Phase::Terminated {
            // Whoever opened it is told.
            return;
        }
        state.failure.get_or_insert_with(|| error.clone());
        self.changed_need(state);
    }

    /// Waits so long, or until the slot is not needed.
    pub(super) fn pause(&self, index: usize, pause: Duration) {
        let until = Instant::now() + pause;
        let mut state = self.state();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !state.needs(index) {
                return;
            }
            state = self.wait_timeout(state, left);
        }
    }

    /// After too many failed starts: fails what waits, unless other slots can run it, and waits for
    /// new work, or until the slot is not needed.
    pub(super) fn wait_for_work(self: &Arc<Self>, index: usize, error: Error) {
        let mut state = self.state();
        state.slots[index].stage = Stage::Broken(error);
        self.settle(state, Aftermath::default());
        state = self.state();
        while state.slots[index].stage.is_broken() && state.needs(index) {
            state = self.wait(state);
        }
    }

    /// A slot has a worker that is not there yet, and ends at once if it is not wanted any more.
    pub(super) fn starting(&self, index: usize, worker: &Worker) {
        let mut state = self.state();
        state.slots[index].worker = Some(worker.clone());
        if !state.needs(index) {
            state.slots[index].is_dismissed = true;
            worker.kill();
        }
    }

    /// Whether the worker that could not be started was not to be; once.
    pub(super) fn was_dismissed(&self, index: usize) -> bool {
        std::mem::take(&mut self.state().slots[index].is_dismissed)
    }

    /// That worker has ended before it was ready.
    pub(super) fn not_started(&self, index: usize) {
        self.state().slots[index].worker = None;
    }

    /// A slot's worker is there.
    pub(super) fn ready(self: &Arc<Self>, index: usize, link: Arc<Link>) {
        let mut state = self.state();
        let slot = &mut state.slots[index];
        slot.welcome(link);
        slot.tasks_left = self.config.max_tasks;
        state.arrives(index);
        let slot = &mut state.slots[index];
        let is_first = std::mem::take(&mut slot.is_opening);
        state.restarts += usize::from(!is_first);
        // Who waits for all of them has nothing from each: the last one that comes tells.
        let wanted = &state.slots[..state.target.min(state.slots.len())];
        if is_first && wanted.iter().rev().all(|slot| !slot.is_opening) {
            self.notify();
        }
        self.settle(state, Aftermath::default());
    }

    /// Records came from a slot's worker; tells how many items have ended. `turn` is what keeps
    /// others from bringing later ones before.
    pub(super) fn records(
        self: &Arc<Self>,
        index: usize,
        report: &Report,
        turn: Turn<'_>,
    ) -> usize {
        let mut state = self.state();
        drop(turn);
        let State { life, slots, .. } = &mut *state;
        let Some(slot) = slots.get(index) else {
            return 0;
        };
        let Some(worker) = &slot.worker else {
            return 0;
        };
        let progress = life.complete(index, report, |hand| {
            Who::runs(&slot.title, worker.info(), hand.job.function)
        });
        if let Some(reason) = progress.nonsense {
            life.doom(index, Doom::Broken(reason.into()));
            slots[index].kill();
        }
        let mut aftermath = Aftermath::default();
        if let (Some(ended), true) = (progress.ended.last(), progress.items > 0) {
            let job = Arc::clone(&ended.job);
            let chunk = ended.chunk_len();
            let slot = &mut slots[index];
            slot.item_count = slot.item_count.saturating_sub(progress.items);
            let now = Instant::now();
            let took = now.duration_since(std::mem::replace(&mut slot.mark, now));
            if progress.hands > 0 {
                slot.front = now;
            }
            let nanos = took.as_nanos() as u64 / progress.items as u64;
            // What is seen from here has waits for processors in it.
            let is_telling = nanos > SURELY_LONG_NANOS || !slot.takes_time();
            let nanos = slot.take_pace().or(is_telling.then_some(nanos));
            if let Some(nanos) = nanos {
                state.note_pace(job.function_number, nanos);
            }
            if let Some(pace) = state.pace(job.function_number) {
                job.note_pace(pace);
            }
            if state.life.hand(index).is_none() {
                let took = self.has_nothing(&mut state, index, now);
                job.learn(chunk, took);
                let slot = &mut state.slots[index];
                if slot.is_used_up() {
                    aftermath.stops.extend(slot.let_go());
                }
            }
        }
        aftermath.ended = progress.ended;
        self.settle(state, aftermath);
        progress.items
    }

    /// A slot's worker has ended, and all its records were taken. Tells whether it had run
    /// anything of a chunk it had, or was told to stop.
    pub(super) fn ended(self: &Arc<Self>, index: usize, death: &Death) -> bool {
        let mut state = self.state();
        let slot = &mut state.slots[index];
        slot.stage = Stage::Starting;
        let (worker, link) = (slot.worker.take(), slot.link.take());
        state.looker.take_if(|looker| *looker == index);
        self.has_nothing(&mut state, index, Instant::now());
        let State { life, slots, .. } = &mut *state;
        let mut aftermath = Aftermath::default();
        let mut has_begun = link.is_none();
        if let (Some(worker), Some(link)) = (worker, link) {
            let title = &slots[index].title;
            let loss = life.lose(
                index,
                link.running(),
                |hand| Who::runs(title, worker.info(), hand.job.function),
                |doom, was_running, who| match doom {
                    Some(Doom::TimedOut { limit, .. }) => who.timed_out(*limit, death),
                    Some(Doom::Broken(reason)) => who.broke_off(reason, death),
                    _ if was_running => who.died(death),
                    _ => who.died_before(death),
                },
            );
            if let Some(loss) = loss {
                has_begun = loss.has_begun;
                aftermath.ended = loss.ended;
            }
        }
        self.notify();
        self.settle(state, aftermath);
        has_begun
    }

    /// A slot's worker sent what makes no sense, and is about to be killed.
    pub(super) fn broken(&self, index: usize, reason: String) {
        let mut state = self.state();
        state.life.doom(index, Doom::Broken(reason));
        state.slots[index].kill();
    }

    /// The thread of a slot has ended, or there is none. With a failure, a bug ended it.
    pub(super) fn stopped(self: &Arc<Self>, index: usize, failure: Option<Error>) {
        self.stop_slot(self.state(), index, failure);
    }

    fn stop_slot(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        index: usize,
        failure: Option<Error>,
    ) {
        let slot = &mut state.slots[index];
        slot.stage = Stage::Stopped(failure);
        slot.link = None;
        let worker = slot.worker.take();
        let title = Arc::clone(&slot.title);
        state.live_slots -= 1;
        let mut aftermath = Aftermath::default();
        // Only a bug leaves something here; its worker must not stay, nor its caller wait.
        if let Some(worker) = worker {
            worker.kill();
            self.has_nothing(&mut state, index, Instant::now());
            let loss = state.life.lose(
                index,
                None,
                |hand| Who::runs(&title, worker.info(), hand.job.function),
                |_, _, who| who.left_out(),
            );
            aftermath.ended = loss.map(|loss| loss.ended).unwrap_or_default();
        }
        if state.live_slots == 0 && state.phase < Phase::Closed && state.failure.is_none() {
            // Nothing is left that could run anything, without an orderly end.
            state.phase = Phase::Terminated;
        }
        state.trim();
        self.notify();
        self.settle(state, aftermath);
    }
}
