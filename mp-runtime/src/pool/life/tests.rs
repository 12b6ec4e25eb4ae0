//! All orders of events for a few items and two workers: whatever happens, each item ends once.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::super::TaskOptions;
use super::super::core::{Config, Core};
use super::super::job::Chunking;
use super::super::segment::SegmentBuilder;
use super::*;
use crate::error::ErrorKind;
use crate::registry::{Function, ProcessFn};
use crate::wire::{DecodeError, Decoder, EncodeError, Encoder};

const WORKERS: usize = 2;

#[derive(Clone, Copy)]
struct Nothing;

static NOTHING: Function = Function {
    name: "nothing",
    signature: "()",
    file: "tests.rs",
    line: 1,
    column: 1,
    timeout: None,
    retries: None,
    run: |_| Ok(()),
};

impl ProcessFn for Nothing {
    type Args = ();
    type Output = ();
    const NAME: &'static str = "nothing";

    fn __function() -> &'static Function {
        &NOTHING
    }

    fn __encode(_: &(), _: &mut Encoder) -> Result<(), EncodeError> {
        Ok(())
    }

    fn __decode(_: &mut Decoder<'_>) -> Result<(), DecodeError> {
        Ok(())
    }
}

fn job(chunk_size: usize, retries: u32) -> Arc<Job> {
    let options = TaskOptions::new().retries(retries);
    let chunking = Chunking::Fixed(chunk_size);
    let core = Core::new(Config::default());
    let job = Job::new::<Nothing>(&core, &options, chunking, true, None);
    Arc::new(job.expect("no two functions have one name"))
}

fn piece(count: usize) -> Piece {
    let mut builder = SegmentBuilder::default();
    for number in 0..count {
        builder
            .push::<Nothing>(number, ())
            .expect("nothing can be encoded");
    }
    Piece::whole(builder.take())
}

fn who() -> Who {
    Who {
        name: "worker".into(),
        process_id: 1,
        function: &NOTHING,
        item: None,
    }
}

fn error(kind: ErrorKind) -> Error {
    Error::new(kind, "an error")
}

fn records(chunk: u64, items: Range<usize>, numbers: &[u64]) -> Vec<Record> {
    let record = |&item: &u64| Record {
        chunk,
        item,
        status: Status::Returned,
        payload: 0..0,
    };
    numbers[items].iter().map(record).collect()
}

fn chunk_end(chunk: u64) -> Record {
    Record {
        chunk,
        item: 0,
        status: Status::ChunkEnd,
        payload: 0..0,
    }
}

/// A worker as it is in truth; the pool knows only what it is told.
#[derive(Clone, Default)]
struct Worker {
    chunk: u64,
    job: usize,
    /// The items of its chunk; none if it has none.
    numbers: Vec<u64>,
    /// How many of them have run, ...
    run: usize,
    /// ... and how many of these were sent.
    sent: usize,
    /// How many of these are surely forgotten by its recorder.
    cleared: usize,
    is_running: bool,
    /// It is being killed.
    is_doomed: bool,
}

/// What may still happen.
#[derive(Clone, Copy)]
struct Budget {
    deaths: u32,
    time_outs: u32,
    nonsense: u32,
    cancels: u32,
    abandons: u32,
    terminates: u32,
}

const QUIET: Budget = Budget {
    deaths: 0,
    time_outs: 0,
    nonsense: 0,
    cancels: 0,
    abandons: 0,
    terminates: 0,
};

#[derive(Clone)]
struct World {
    life: Life,
    jobs: Vec<Arc<Job>>,
    sizes: Vec<usize>,
    enqueued: Vec<bool>,
    cancelled: Vec<bool>,
    abandoned: Vec<bool>,
    is_terminated: bool,
    workers: [Worker; WORKERS],
    /// What a worker's recorder may still have of the chunk before.
    stale: [Vec<Record>; WORKERS],
    budget: Budget,
    /// How often an item may begin beyond its tries.
    spare_begins: u32,
    /// How each item ended: `None` is a result.
    ends: BTreeMap<(usize, usize), Option<ErrorKind>>,
    /// How often each item has begun.
    begun: BTreeMap<(usize, usize), u32>,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Enqueue(usize),
    Assign(usize),
    Begin(usize),
    Return(usize),
    Send(usize),
    Clear(usize),
    EndChunk(usize),
    /// With the records that were not cleared; the running item may be the last one that returned.
    Die(usize, bool),
    TimeOut(usize),
    Nonsense(usize),
    Cancel(usize),
    Abandon(usize),
    Terminate,
}

impl World {
    fn new(jobs: &[(Arc<Job>, usize)], budget: Budget) -> World {
        World {
            life: Life::new(),
            jobs: jobs.iter().map(|(job, _)| Arc::clone(job)).collect(),
            sizes: jobs.iter().map(|(_, size)| *size).collect(),
            enqueued: vec![false; jobs.len()],
            cancelled: vec![false; jobs.len()],
            abandoned: vec![false; jobs.len()],
            is_terminated: false,
            workers: Default::default(),
            stale: Default::default(),
            // A worker that is killed for the item before may have begun with it.
            spare_begins: u32::from(budget.time_outs > 0),
            budget,
            ends: BTreeMap::new(),
            begun: BTreeMap::new(),
        }
    }

    /// What can happen next.
    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for slot in 0..WORKERS {
            let worker = &self.workers[slot];
            if worker.numbers.is_empty() {
                if self.life.has_waiting() {
                    events.push(Event::Assign(slot));
                }
                continue;
            }
            let has_more = worker.run < worker.numbers.len();
            let is_left_out = self.abandoned[worker.job];
            let at_rest = !worker.is_running;
            if at_rest && has_more && !is_left_out {
                events.push(Event::Begin(slot));
            }
            if worker.is_running {
                events.push(Event::Return(slot));
                if self.budget.time_outs > 0 && !worker.is_doomed {
                    events.push(Event::TimeOut(slot));
                }
            }
            if worker.sent < worker.run {
                events.push(Event::Send(slot));
            } else if worker.cleared < worker.sent {
                events.push(Event::Clear(slot));
            } else if at_rest && (!has_more || is_left_out) {
                events.push(Event::EndChunk(slot));
            }
            if worker.is_doomed || self.budget.deaths > 0 {
                events.push(Event::Die(slot, false));
                if worker.run > 0 && at_rest {
                    events.push(Event::Die(slot, true));
                }
            }
            if self.budget.nonsense > 0 && !worker.is_doomed {
                events.push(Event::Nonsense(slot));
            }
        }
        for job in 0..self.jobs.len() {
            if !self.enqueued[job] {
                if !self.is_terminated && !self.cancelled[job] && !self.abandoned[job] {
                    events.push(Event::Enqueue(job));
                }
                continue;
            }
            if self.budget.cancels > 0 && !self.cancelled[job] {
                events.push(Event::Cancel(job));
            }
            if self.budget.abandons > 0 && !self.abandoned[job] {
                events.push(Event::Abandon(job));
            }
        }
        if self.budget.terminates > 0 {
            events.push(Event::Terminate);
        }
        events
    }

    fn apply(&mut self, event: Event) {
        let reply = Reply::default();
        match event {
            Event::Enqueue(job) => {
                self.enqueued[job] = true;
                self.life.enqueue(&self.jobs[job], piece(self.sizes[job]));
            }
            Event::Assign(slot) => {
                let Some(hand) = self.life.assign(slot, WORKERS, usize::MAX) else {
                    panic!("something waits");
                };
                let is_its = |job: &Arc<Job>| Arc::ptr_eq(job, &hand.job);
                self.workers[slot] = Worker {
                    chunk: hand.chunk,
                    job: self.jobs.iter().position(is_its).expect("it was made here"),
                    numbers: hand.piece.numbers().map(|number| number as u64).collect(),
                    ..Worker::default()
                };
            }
            Event::Begin(slot) => {
                let worker = &mut self.workers[slot];
                worker.is_running = true;
                let item = (worker.job, worker.numbers[worker.run] as usize);
                *self.begun.entry(item).or_default() += 1;
            }
            Event::Return(slot) => {
                let worker = &mut self.workers[slot];
                worker.is_running = false;
                worker.run += 1;
            }
            Event::Send(slot) => {
                let worker = &mut self.workers[slot];
                let sent = records(worker.chunk, worker.sent..worker.run, &worker.numbers);
                worker.sent = worker.run;
                let progress = self.life.complete(slot, &sent, &reply, |_| who());
                let progress = progress.expect("it has a chunk");
                assert!(progress.chunk_end.is_none());
                self.note(progress.ended);
            }
            Event::Clear(slot) => self.workers[slot].cleared = self.workers[slot].sent,
            Event::EndChunk(slot) => {
                let worker = std::mem::take(&mut self.workers[slot]);
                let end = [chunk_end(worker.chunk)];
                let progress = self.life.complete(slot, &end, &reply, |_| who());
                let progress = progress.expect("it has a chunk");
                assert_eq!(progress.chunk_end, Some(worker.numbers.len()));
                self.stale[slot] = records(worker.chunk, 0..worker.run, &worker.numbers);
                self.note(progress.ended);
                // It is being killed, and idle by now; the next one takes its place.
                assert!(self.life.hand(slot).is_none());
            }
            Event::Die(slot, last_still_runs) => {
                let worker = std::mem::take(&mut self.workers[slot]);
                if !worker.is_doomed {
                    self.budget.deaths -= 1;
                }
                let mut left = std::mem::take(&mut self.stale[slot]);
                if worker.is_running || worker.run > 0 {
                    left.clear();
                }
                left.extend(records(
                    worker.chunk,
                    worker.cleared..worker.run,
                    &worker.numbers,
                ));
                let item = match (worker.is_running, last_still_runs) {
                    (true, _) => Some(worker.numbers[worker.run]),
                    (false, true) => Some(worker.numbers[worker.run - 1]),
                    (false, false) => None,
                };
                let running = item.map(|item| Running {
                    chunk: worker.chunk,
                    item,
                    elapsed: Duration::ZERO,
                });
                let failure = |doom: Option<&Doom>, _: bool, _: Who| match doom {
                    Some(Doom::TimedOut { .. }) => error(ErrorKind::TimedOut),
                    Some(Doom::Broken(_)) => error(ErrorKind::Io),
                    _ => error(ErrorKind::Died),
                };
                let loss = self
                    .life
                    .lose(slot, (&left, &reply), running, |_| who(), failure);
                self.note(loss.expect("it had a chunk").ended);
            }
            Event::TimeOut(slot) => {
                self.budget.time_outs -= 1;
                let worker = &mut self.workers[slot];
                worker.is_doomed = true;
                let item = worker.numbers[worker.run];
                let limit = Duration::ZERO;
                self.life.doom(slot, Doom::TimedOut { item, limit });
            }
            Event::Nonsense(slot) => {
                self.budget.nonsense -= 1;
                self.workers[slot].is_doomed = true;
                self.life.doom(slot, Doom::Broken("nonsense".into()));
            }
            Event::Cancel(job) => {
                self.budget.cancels -= 1;
                self.cancelled[job] = true;
                let cancelled = error(ErrorKind::Cancelled);
                let (ended, slots) = self.life.cancel(&Arc::clone(&self.jobs[job]), &cancelled);
                self.note(ended);
                for slot in slots {
                    self.workers[slot].is_doomed = true;
                }
            }
            Event::Abandon(job) => {
                self.budget.abandons -= 1;
                self.abandoned[job] = true;
                let cancelled = error(ErrorKind::Cancelled);
                let (ended, _) = self.life.abandon(&Arc::clone(&self.jobs[job]), &cancelled);
                self.note(ended);
            }
            Event::Terminate => {
                self.budget.terminates -= 1;
                self.is_terminated = true;
                for ended in self.life.terminate(&error(ErrorKind::Cancelled)) {
                    self.note(ended);
                }
                for worker in &mut self.workers {
                    worker.is_doomed = !worker.numbers.is_empty();
                }
            }
        }
    }

    fn note(&mut self, mut ended: Ended) {
        let is_its = |job: &Arc<Job>| Arc::ptr_eq(job, &ended.job);
        let job = self.jobs.iter().position(is_its).expect("it was made here");
        for (number, outcome) in ended.take_outcomes() {
            let kind = outcome.err().map(|error| error.kind());
            let before = self.ends.insert((job, number), kind);
            assert!(before.is_none(), "item {number} of job {job} ended twice");
            if self.cancelled[job] || self.is_terminated {
                assert_eq!(
                    kind,
                    Some(ErrorKind::Cancelled),
                    "it was cancelled before it ended"
                );
            }
            let began = self.begun.get(&(job, number)).copied().unwrap_or(0);
            match kind {
                None => assert!(began > 0, "a result of what never ran"),
                Some(ErrorKind::Cancelled) => {
                    let is_unwanted = self.cancelled[job] || self.abandoned[job];
                    assert!(is_unwanted || self.is_terminated, "nobody cancelled it");
                }
                Some(ErrorKind::Died | ErrorKind::TimedOut | ErrorKind::Io) => {
                    let tries = self.jobs[job].retries + 1;
                    assert!(began >= tries, "it failed after {began} of {tries} tries");
                }
                Some(other) => panic!("an item ended as {other:?}"),
            }
        }
    }

    /// What holds at every moment.
    fn check(&self) {
        let enqueued = self.sizes.iter().zip(&self.enqueued);
        let submitted: usize = enqueued.map(|(size, is)| if *is { *size } else { 0 }).sum();
        let (queued, running) = self.life.counts();
        assert_eq!(submitted, queued + running + self.ends.len());
        if self.life.is_idle() {
            assert_eq!((queued, running), (0, 0));
        }
        for (job, is_abandoned) in self.jobs.iter().zip(&self.abandoned) {
            let waits = !self.life.clone().queue.remove(job).is_empty();
            assert!(
                !(waits && *is_abandoned),
                "something waits that nobody wants"
            );
        }
        for (&(job, number), &began) in &self.begun {
            let most = self.jobs[job].retries + 1 + self.spare_begins;
            assert!(
                began <= most,
                "item {number} of job {job} has begun {began} times"
            );
        }
    }

    /// Tells states apart that differ in what can follow.
    fn key(&self) -> String {
        let mut queue = self.life.queue.clone();
        let waiting: Vec<_> = std::iter::from_fn(|| queue.next(WORKERS, 1))
            .map(|(job, piece)| (job.key, piece.range, piece.retried, piece.unstarted))
            .collect();
        let hands = self.life.hands.iter().flatten().map(|hand| {
            let doom = match &hand.doom {
                None => 0,
                Some(Doom::TimedOut { item, .. }) => 10 + item,
                Some(Doom::Broken(_)) => 1,
                Some(Doom::Cancelled(_)) => 2,
            };
            let piece = &hand.piece;
            (
                hand.job.key,
                piece.range.clone(),
                piece.retried,
                piece.unstarted,
                hand.done,
                doom,
            )
        });
        let workers = self.workers.iter().map(|worker| {
            let Worker {
                run, sent, cleared, ..
            } = worker;
            (
                worker.job,
                &worker.numbers,
                run,
                sent,
                cleared,
                worker.is_running,
                worker.is_doomed,
            )
        });
        let budget = self.budget;
        let left = [
            budget.deaths,
            budget.time_outs,
            budget.nonsense,
            budget.cancels,
            budget.abandons,
            budget.terminates,
        ];
        format!(
            "{waiting:?} {:?} {:?} {:?} {left:?} {:?} {:?} {:?} {:?} {:?} {}",
            hands.collect::<Vec<_>>(),
            self.stale.iter().map(Vec::len).collect::<Vec<_>>(),
            workers.collect::<Vec<_>>(),
            self.ends,
            self.begun,
            self.enqueued,
            self.cancelled,
            self.abandoned,
            self.is_terminated,
        )
    }
}

/// Goes through everything that can follow; returns how many states there are.
fn explore(world: World) -> usize {
    let mut seen = HashSet::new();
    let mut open = vec![world];
    while let Some(world) = open.pop() {
        world.check();
        let events = world.events();
        if events.is_empty() {
            // Nothing can happen any more: all must be over.
            assert!(
                world.life.is_idle(),
                "something is left that nobody will end"
            );
        }
        for event in events {
            let mut next = world.clone();
            next.apply(event);
            if seen.insert(next.key()) {
                open.push(next);
            }
        }
    }
    seen.len()
}

/// Explores fresh jobs, so that what `abandon` marks in one does not show in another.
fn explore_with(budget: Budget, make: impl Fn() -> Vec<(Arc<Job>, usize)>) {
    let count = explore(World::new(&make(), budget));
    println!("{count} states");
    assert!(
        count > 100,
        "{count} states are too few: the model does nothing"
    );
}

fn three_and_one() -> Vec<(Arc<Job>, usize)> {
    vec![(job(2, 1), 3), (job(1, 0), 1)]
}

#[test]
fn every_item_ends_once_whoever_dies() {
    explore_with(Budget { deaths: 2, ..QUIET }, three_and_one);
}

#[test]
fn every_item_ends_once_when_one_takes_too_long() {
    let budget = Budget {
        time_outs: 1,
        deaths: 1,
        ..QUIET
    };
    explore_with(budget, three_and_one);
}

#[test]
fn every_item_ends_once_whatever_is_cancelled_when() {
    let budget = Budget {
        cancels: 1,
        deaths: 1,
        ..QUIET
    };
    explore_with(budget, three_and_one);
    let budget = Budget {
        cancels: 1,
        time_outs: 1,
        ..QUIET
    };
    explore_with(budget, three_and_one);
}

#[test]
fn every_item_ends_once_when_nobody_wants_it() {
    let budget = Budget {
        abandons: 1,
        deaths: 1,
        ..QUIET
    };
    explore_with(budget, three_and_one);
}

#[test]
fn every_item_ends_once_when_the_pool_is_terminated() {
    let budget = Budget {
        terminates: 1,
        cancels: 1,
        ..QUIET
    };
    explore_with(budget, three_and_one);
}

#[test]
fn every_item_ends_once_when_a_worker_talks_nonsense() {
    let budget = Budget {
        nonsense: 1,
        deaths: 1,
        ..QUIET
    };
    explore_with(budget, three_and_one);
}

#[test]
fn what_kills_its_receiver_before_it_begins_comes_to_an_end() {
    let budget = Budget {
        deaths: u32::MAX,
        ..QUIET
    };
    let mut world = World::new(&[(job(2, 0), 2)], budget);
    world.apply(Event::Enqueue(0));
    let mut deaths = 0;
    while !world.life.is_idle() {
        world.apply(Event::Assign(0));
        let worker = &mut world.workers[0];
        let first = (worker.job, worker.numbers[0] as usize);
        // It has begun nothing, but the model wants a reason for the failure.
        world.begun.insert(first, 1);
        world.apply(Event::Die(0, false));
        deaths += 1;
    }
    // The first item ends it for itself alone; the second one is as new after that.
    assert_eq!(deaths, 2 * MAX_UNSTARTED);
    assert_eq!(world.ends.len(), 2);
}
