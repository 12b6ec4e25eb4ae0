//! A worker's place in its pool, and the thread that looks after it.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::MAX_UNSTARTED;
use super::core::{Core, Phase};
use super::job::{Job, Outcome};
use super::segment::Piece;
use crate::error::{Error, ErrorKind};
use crate::link::{Event, Events, Link, Record, Reply, Running, Status};
use crate::process::{Child, LaunchSpec, Role, Who};

/// So many starts in a row may fail before a slot gives up until there is new work.
const MAX_FAILED_STARTS: u32 = 4;
/// The pause after the first failed start; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// A worker that lives shorter than this and runs nothing counts as a failed start.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// A worker's place.
pub(super) struct Slot {
    /// What errors call its worker.
    pub(super) title: Arc<str>,
    pub(super) state: SlotState,
    /// Its process, from the start on.
    pub(super) child: Option<Arc<Child>>,
    /// When a timer is due that looks at how long its item has run.
    pub(super) timer: Option<Instant>,
    /// The way to its process, once it is there; gone when it was told to stop.
    pub(super) link: Option<Arc<Link>>,
}

/// See the table in the module above.
pub(super) enum SlotState {
    Starting,
    Idle,
    Busy(Busy),
    Broken,
    /// With the reason, if the pool could not be opened for it.
    Stopped(Option<Error>),
}

/// What a worker is busy with.
pub(super) struct Busy {
    pub(super) chunk: u64,
    pub(super) job: Arc<Job>,
    pub(super) piece: Piece,
    pub(super) since: Instant,
    /// How many of its items, from the front, have a result.
    done: usize,
    /// The item that its worker is being killed for, and how long it was allowed to run.
    pub(super) timed_out: Option<(u64, Duration)>,
    /// What becomes of the items that are not done, since the worker is being killed for them.
    pub(super) cancelled: Option<Error>,
    /// Why the worker is being killed, if what it sent made no sense.
    pub(super) broken: Option<String>,
}

/// What becomes of the items that a dead worker had not done.
pub(super) struct Fate {
    pub(super) delivered: Vec<(usize, Outcome)>,
    pub(super) queued: Vec<Piece>,
}

thread_local! {
    /// The address of the pool this thread belongs to, 0 for none.
    static POOL_OF_THREAD: Cell<usize> = const { Cell::new(0) };
}

/// Whether this is called by something that runs on a thread of a slot of `core`, such as a waker.
pub(super) fn is_thread_of(core: &Core) -> bool {
    POOL_OF_THREAD.get() == std::ptr::from_ref(core).addr()
}

impl Slot {
    pub(super) fn new(title: Arc<str>) -> Slot {
        Slot {
            title,
            state: SlotState::Starting,
            timer: None,
            child: None,
            link: None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, SlotState::Idle)
    }

    /// Why it could not be opened.
    pub(super) fn failure(&self) -> Option<Error> {
        match &self.state {
            SlotState::Stopped(failure) => failure.clone(),
            _ => None,
        }
    }
}

impl Busy {
    pub(super) fn new(chunk: u64, job: Arc<Job>, piece: Piece) -> Busy {
        let since = Instant::now();
        Busy {
            chunk,
            job,
            piece,
            since,
            done: 0,
            timed_out: None,
            cancelled: None,
            broken: None,
        }
    }

    /// Who runs it.
    pub(super) fn who(&self, title: &Arc<str>, child: &Child) -> Who {
        let (name, process_id) = (Arc::clone(title), child.info().id);
        Who {
            name,
            process_id,
            function: self.job.function,
            item: None,
        }
    }

    /// Takes the results of items that had none: a worker does its items in order, so a record of
    /// another than the next one came before.
    pub(super) fn complete(
        &mut self,
        records: &[Record],
        reply: &Reply,
        who: &Who,
    ) -> Vec<(usize, Outcome)> {
        let mut outcomes = Vec::with_capacity(records.len());
        for record in records {
            let is_next = record.chunk == self.chunk
                && record.status != Status::ChunkEnd
                && self
                    .next_number()
                    .is_some_and(|number| number as u64 == record.item);
            if is_next {
                let number = record.item as usize;
                let who = Who {
                    item: self.job.place(number),
                    ..who.clone()
                };
                let outcome = match &self.cancelled {
                    Some(error) => Err(error.clone()),
                    None => who.answered(record, reply.clone()),
                };
                outcomes.push((number, outcome));
                self.done += 1;
            }
        }
        if self.is_done() && self.piece.range.end == self.piece.segment.len() {
            self.piece.segment.end_loans();
        }
        outcomes
    }

    fn next_number(&self) -> Option<usize> {
        let position = self.piece.range.start + self.done;
        (position < self.piece.range.end).then(|| self.piece.segment.number(position))
    }

    /// Whether every item has a result; the end of the chunk may be on its way.
    pub(super) fn is_done(&self) -> bool {
        self.done == self.piece.range.len()
    }

    /// The chunk has ended: whatever has no result was left out.
    pub(super) fn left_out(&self, error: &Error) -> Vec<(usize, Outcome)> {
        let rest = self
            .piece
            .part(self.piece.range.start + self.done..self.piece.range.end);
        rest.numbers()
            .map(|number| (number, Err(error.clone())))
            .collect()
    }

    /// The worker is dead: decides about each item that has no result.
    pub(super) fn fate(
        &self,
        running: Option<Running>,
        failure: impl FnOnce(&Busy, Who) -> Error,
        who: &Who,
    ) -> Fate {
        let first = self.piece.range.start + self.done;
        let end = self.piece.range.end;
        let mut fate = Fate {
            delivered: Vec::new(),
            queued: Vec::new(),
        };
        let Some(number) = self.next_number() else {
            return fate;
        };
        if let Some(error) = &self.cancelled {
            fate.delivered = self.left_out(error);
            return fate;
        }
        let was_running = running.is_some_and(|running| running.item == number as u64);
        let killed_for_another = self
            .timed_out
            .is_some_and(|(item, _)| item != number as u64);
        let unstarted = self.piece.unstarted + 1;
        if !was_running && unstarted < MAX_UNSTARTED || killed_for_another {
            fate.queued.push(Piece {
                unstarted,
                ..self.piece.rest(first)
            });
            return fate;
        }
        if was_running && self.piece.retried < self.job.retries {
            let again = self.piece.part(first..first + 1);
            fate.queued.push(Piece {
                retried: self.piece.retried + 1,
                ..again
            });
        } else {
            let who = Who {
                item: self.job.place(number),
                ..who.clone()
            };
            fate.delivered.push((number, Err(failure(self, who))));
        }
        if first + 1 < end {
            fate.queued.push(self.piece.part(first + 1..end));
        }
        fate
    }
}

/// What the thread of slot `index` does until the pool needs the slot no more.
pub(super) fn run(core: &Arc<Core>, index: usize) {
    /// Whatever happens, nobody shall wait for a slot whose thread is gone.
    struct Ending<'c>(&'c Core, usize, Option<Error>);
    impl Drop for Ending<'_> {
        fn drop(&mut self) {
            self.0.slot_ended(self.1, self.2.take());
        }
    }

    POOL_OF_THREAD.set(Arc::as_ptr(core).addr());
    let panicked = Error::new(
        ErrorKind::Spawn,
        format!(
            "the thread of worker {index} of pool `{}` panicked",
            core.name()
        ),
    );
    let mut ending = Ending(core, index, Some(panicked));
    let mut failed_starts = 0;
    loop {
        let error = match start(core, index) {
            Ok(None) => {
                ending.2 = None;
                break;
            }
            Ok(Some((child, link, events))) => {
                core.ready(index, link);
                let born = Instant::now();
                let has_worked = receive(core, index, &child, &events);
                if !is_needed(core) {
                    ending.2 = None;
                    break;
                }
                if has_worked || born.elapsed() >= SHORT_LIFE {
                    failed_starts = 0;
                    continue;
                }
                let exit = child.wait();
                crate::process::short_life(&child, exit)
            }
            Err(error) if core.state().phase == Phase::Opening => {
                ending.2 = Some(error);
                break;
            }
            Err(error) => error,
        };
        failed_starts += 1;
        if !pause(core, index, failed_starts, error) {
            ending.2 = None;
            break;
        }
    }
    drop(ending);
}

/// Starts a worker; `None` if none is needed any more.
fn start(core: &Arc<Core>, index: usize) -> Result<Option<(Arc<Child>, Link, Events)>, Error> {
    let mut spec = LaunchSpec::new(Role::Pool);
    spec.name = Some(format!("{}-worker-{index}", core.name()));
    spec.worker_index = Some(index);
    spec.stderr_tail = core.config.stderr_tail;
    if let Some(timeout) = core.config.start_timeout {
        spec.start_timeout = timeout;
    }
    if !is_needed(core) {
        return Ok(None);
    }
    let launched = spec.launch()?;
    let child = Arc::clone(&launched.child);
    if !core.starting(index, &child) {
        child.kill();
    }
    let connected = launched.connect();
    if core.state().phase == Phase::Terminated {
        child.kill();
        child.wait();
        return Ok(None);
    }
    let (link, events) = connected?;
    Ok(Some((child, link, events)))
}

/// Whether the pool still needs this slot's worker, which is not running.
fn is_needed(core: &Core) -> bool {
    let state = core.state();
    match state.phase {
        Phase::Opening | Phase::Open => true,
        Phase::Closed => !state.queue.is_empty() || state.has_feeds(),
        Phase::Terminated => false,
    }
}

/// Receives from a worker until it has ended; tells whether it has done anything.
fn receive(core: &Arc<Core>, index: usize, child: &Child, events: &Events) -> bool {
    let mut has_worked = false;
    loop {
        let event = match events.next() {
            Event::Broken(reason) => {
                core.broken(index, reason);
                child.kill();
                child.wait();
                events.abandon()
            }
            event => event,
        };
        match event {
            Event::Records(records, reply) => {
                has_worked = true;
                core.records(index, &records, &reply);
            }
            Event::Ended(records, reply) => {
                let exit = child.wait();
                has_worked |= core.ended(index, exit, &records, &reply);
                return has_worked;
            }
            Event::Broken(_) => {}
        }
    }
}

/// After a failed start: waits a while, or for new work after too many; tells whether to try again.
fn pause(core: &Arc<Core>, index: usize, failed_starts: u32, error: Error) -> bool {
    let mut state = core.state();
    let submissions = state.submissions;
    if failed_starts < MAX_FAILED_STARTS {
        let until = Instant::now() + FIRST_PAUSE * 2_u32.pow(failed_starts - 1);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.phase == Phase::Terminated {
                break;
            }
            state = core.wait_timeout(state, left);
        }
    } else {
        state.slots[index].state = SlotState::Broken;
        // Whoever is the last to give up fails what waits.
        let cannot_start =
            |slot: &Slot| matches!(slot.state, SlotState::Broken | SlotState::Stopped(_));
        if state.slots.iter().all(cannot_start) {
            core.fail_waiting(state, &error);
            state = core.state();
        }
        while state.submissions == submissions && state.phase <= Phase::Open {
            state = core.wait(state);
        }
        if state.phase > Phase::Open {
            // Other slots serve what is left, or have failed it.
            return false;
        }
        state.slots[index].state = SlotState::Starting;
    }
    drop(state);
    is_needed(core)
}
