//! All orders of events for a few items and two workers: whatever happens, each item ends once.

use std::collections::{BTreeMap, HashSet};

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
    run: |_| (),
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

/// What a worker has put into its ring about an item, or a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Put {
    status: Status,
    is_last: bool,
}

/// Records as they are taken out of the ring.
fn report(put: &[Put]) -> Report {
    let head = |put: &Put| crate::link::record_head(Some(put.status), put.is_last, 0);
    let body = put.iter().flat_map(head).collect();
    Report::of_body(body).expect("they are records")
}

fn running(call: u32, place: usize) -> Running {
    let elapsed = None;
    Running {
        call,
        place,
        elapsed,
    }
}

/// A call that was sent to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Given {
    /// That of its first item.
    number: u32,
    is_divisible: bool,
    /// Its items that are not void: the job, and the number in that.
    items: Vec<(usize, usize)>,
    /// How many there were.
    count: usize,
}

/// A worker as it is in truth; the pool knows only what it is told.
#[derive(Clone, Default)]
struct Worker {
    /// The calls that it has not ended, in order, those that are void left out.
    calls: VecDeque<Given>,
    /// The last item that it has begun, ...
    begun: u32,
    /// ... and whether that is the next one of the first of these, or stands for it.
    has_begun: bool,
    /// How many items of it have ended.
    run: usize,
    is_running: bool,
    /// The item that it ran last: the call, and the place.
    running: Option<(u32, usize)>,
    /// The call whose further items shall not run.
    cancelled: u32,
    /// What it has put into its ring and nobody has taken.
    ring: Vec<Put>,
    /// It is being killed.
    is_doomed: bool,
    /// It is being killed, and what is in its ring is not looked at any more.
    is_broken: bool,
    last_item: u32,
}

impl Worker {
    /// Ends the first of its calls.
    fn end_call(&mut self) {
        self.calls.pop_front();
        (self.has_begun, self.run) = (false, 0);
    }

    /// Ends the first of its calls if nothing is left of it.
    fn pass(&mut self) {
        let left = |call: &Given| call.items.len() - self.run;
        if !self.is_running && self.calls.front().is_some_and(|call| left(call) == 0) {
            self.end_call();
        }
    }
}

/// What may still happen.
#[derive(Clone, Copy)]
struct Budget {
    /// How many hands a worker has at most. If it is one, they are not divisible.
    hands: usize,
    /// How often workers are asked for what they have not begun.
    reclaims: u32,
    deaths: u32,
    time_outs: u32,
    nonsense: u32,
    cancels: u32,
    abandons: u32,
    terminates: u32,
}

const QUIET: Budget = Budget {
    hands: 1,
    reclaims: 0,
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
    /// A hand more, or the first.
    Assign(usize),
    /// As many hands as there can be, as one call.
    AssignAll(usize),
    /// The worker says that it begins a call, or an item of a divisible one, ...
    SayBegun(usize),
    /// ... runs an item, ...
    Run(usize),
    /// ... and ends it, and the call if it was the last one.
    End(usize),
    /// It finds that the call was cancelled.
    CutShort(usize),
    /// What is in the ring is taken.
    Take(usize),
    /// What was not begun is taken back for others.
    Reclaim(usize),
    Die(usize),
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
            // A worker that is killed for the item before may have begun with it.
            // What a worker has done that talks nonsense is not looked at, and done again.
            spare_begins: u32::from(budget.time_outs > 0) + budget.nonsense,
            budget,
            ends: BTreeMap::new(),
            begun: BTreeMap::new(),
        }
    }

    /// What can happen next.
    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for slot in 0..WORKERS {
            self.events_of(slot, &mut events);
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

    fn events_of(&self, slot: usize, events: &mut Vec<Event>) {
        let worker = &self.workers[slot];
        let hand_count = self.life.hand_count(slot);
        if worker.is_doomed {
            events.push(Event::Die(slot));
        } else if self.life.has_waiting() && hand_count < self.budget.hands {
            events.push(Event::Assign(slot));
            if hand_count + 1 < self.budget.hands {
                events.push(Event::AssignAll(slot));
            }
        }
        if !worker.ring.is_empty() && !worker.is_broken {
            events.push(Event::Take(slot));
        }
        if self.budget.reclaims > 0 && hand_count > 0 {
            events.push(Event::Reclaim(slot));
        }
        if !worker.is_doomed && hand_count > 0 {
            if self.budget.deaths > 0 {
                events.push(Event::Die(slot));
            }
            if self.budget.nonsense > 0 {
                events.push(Event::Nonsense(slot));
            }
        }
        let Some(call) = worker.calls.front() else {
            return;
        };
        if worker.is_running {
            events.push(Event::End(slot));
        } else if !worker.has_begun {
            events.push(Event::SayBegun(slot));
        } else if worker.cancelled == call.number && !call.is_divisible {
            events.push(Event::CutShort(slot));
        } else {
            events.push(Event::Run(slot));
        }
        // Only who runs one call at a time is timed.
        let is_timed = self.budget.time_outs > 0 && self.budget.hands == 1;
        if worker.is_running && is_timed && !worker.is_doomed {
            events.push(Event::TimeOut(slot));
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Enqueue(job) => {
                self.enqueued[job] = true;
                self.life.enqueue(&self.jobs[job], piece(self.sizes[job]));
            }
            Event::Assign(slot) => self.assign(slot, 1),
            Event::AssignAll(slot) => {
                let room = self.budget.hands - self.life.hand_count(slot);
                self.assign(slot, room);
            }
            Event::SayBegun(slot) => {
                let worker = &mut self.workers[slot];
                worker.has_begun = true;
                worker.begun = worker.calls[0].number + worker.run as u32;
            }
            Event::Run(slot) => {
                let worker = &mut self.workers[slot];
                worker.is_running = true;
                let call = &worker.calls[0];
                worker.running = Some((call.number, worker.run));
                *self.begun.entry(call.items[worker.run]).or_default() += 1;
            }
            Event::End(slot) => {
                let worker = &mut self.workers[slot];
                worker.is_running = false;
                worker.run += 1;
                let call = &worker.calls[0];
                let is_last = worker.run == call.count;
                worker.has_begun = !call.is_divisible;
                let status = Status::Returned;
                worker.ring.push(Put { status, is_last });
                worker.pass();
            }
            Event::CutShort(slot) => {
                let worker = &mut self.workers[slot];
                let (status, is_last) = (Status::CutShort, true);
                worker.ring.push(Put { status, is_last });
                worker.end_call();
            }
            Event::Take(slot) => {
                self.take(slot);
            }
            Event::Reclaim(slot) => {
                self.budget.reclaims -= 1;
                self.reclaim(slot);
            }
            Event::Die(slot) => self.die(slot),
            Event::TimeOut(slot) => {
                self.budget.time_outs -= 1;
                let worker = &mut self.workers[slot];
                let (call, place) = worker.running.expect("something runs");
                // The pool looks whether this is of what it thinks that the worker does.
                let running = running(call, place);
                let hand = self.life.hand(slot);
                if let Some((hand, place)) =
                    hand.and_then(|hand| Some((hand, hand.place_of(&running)?)))
                {
                    worker.is_doomed = true;
                    let item = hand.number_at(place);
                    let limit = Duration::ZERO;
                    self.life.doom(slot, Doom::TimedOut { item, limit });
                }
            }
            Event::Nonsense(slot) => {
                self.budget.nonsense -= 1;
                let worker = &mut self.workers[slot];
                (worker.is_doomed, worker.is_broken) = (true, true);
                self.life.doom(slot, Doom::Broken("nonsense".into()));
            }
            Event::Cancel(job) => {
                self.budget.cancels -= 1;
                self.reclaim_all_of(job);
                self.cancelled[job] = true;
                let cancelled = error(ErrorKind::Cancelled);
                let (ended, doomed) = self.life.cancel(&Arc::clone(&self.jobs[job]), &cancelled);
                self.note(ended);
                for (slot, items) in doomed {
                    let may_run = self.may_run(slot, items);
                    self.workers[slot].is_doomed |= may_run;
                }
            }
            Event::Abandon(job) => {
                self.budget.abandons -= 1;
                self.reclaim_all_of(job);
                self.abandoned[job] = true;
                let cancelled = error(ErrorKind::Cancelled);
                let (ended, left) = self.life.abandon(&Arc::clone(&self.jobs[job]), &cancelled);
                self.note(ended);
                for (slot, items) in left {
                    if self.may_run(slot, items) {
                        self.workers[slot].cancelled = items.first;
                    }
                }
            }
            Event::Terminate => {
                self.budget.terminates -= 1;
                self.is_terminated = true;
                for ended in self.life.terminate(&error(ErrorKind::Cancelled)) {
                    self.note(ended);
                }
                for (slot, worker) in self.workers.iter_mut().enumerate() {
                    worker.is_doomed |= self.life.hand_count(slot) > 0;
                }
            }
        }
        // What a pool does after each change that was terminated.
        if self.is_terminated {
            for ended in self.life.refuse(&error(ErrorKind::Cancelled)) {
                self.note(ended);
            }
        }
    }

    /// Gives a worker up to so many hands, as one call.
    fn assign(&mut self, slot: usize, hands: usize) {
        let worker = &mut self.workers[slot];
        let number = worker.last_item + 1;
        let is_divisible = self.budget.hands > 1;
        let mut items = Vec::new();
        for _ in 0..hands {
            let Some((job, piece)) = self.life.next(WORKERS, usize::MAX) else {
                break;
            };
            let is_its = |other: &Arc<Job>| Arc::ptr_eq(other, &job);
            let place = self.jobs.iter().position(is_its).expect("it was made here");
            let first = worker.last_item + 1;
            worker.last_item += piece.range.len() as u32;
            items.extend(piece.numbers().map(|number| (place, number)));
            self.life.hand_out(slot, job, piece, first, is_divisible);
        }
        assert!(!items.is_empty(), "something waits");
        worker.calls.push_back(Given {
            number,
            is_divisible,
            count: items.len(),
            items,
        });
    }

    /// Takes what is in a worker's ring.
    fn take(&mut self, slot: usize) {
        let put = std::mem::take(&mut self.workers[slot].ring);
        let progress = self.life.complete(slot, &report(&put), |_| who());
        assert_eq!(progress.nonsense, None);
        if self.budget.hands == 1 {
            let ended_calls = put.iter().filter(|put| put.is_last).count();
            assert_eq!(progress.hands, ended_calls);
        }
        let items: usize = progress
            .ended
            .iter()
            .map(|ended| all_of(ended.counts()))
            .sum();
        assert_eq!(progress.items, items);
        for ended in progress.ended {
            self.note(ended);
        }
    }

    /// Takes back what a worker has not begun.
    fn reclaim(&mut self, slot: usize) {
        let worker = &mut self.workers[slot];
        let begun = worker.begun;
        let items =
            |calls: &VecDeque<Given>| calls.iter().map(|call| call.items.len()).sum::<usize>();
        let before = items(&worker.calls);
        for call in &mut worker.calls {
            let left = (begun + 1).saturating_sub(call.number) as usize;
            if call.is_divisible || left == 0 {
                call.items.truncate(left);
            }
        }
        worker.calls.retain(|call| !call.items.is_empty());
        let void = before - items(&worker.calls);
        worker.pass();
        let count = self.life.reclaim(slot, begun);
        assert_eq!(count, void, "what is void waits again");
    }

    fn reclaim_all_of(&mut self, job: usize) {
        for slot in 0..WORKERS {
            if self.budget.hands > 1 && self.life.has_of(slot, &self.jobs[job]) {
                self.reclaim(slot);
            }
        }
    }

    /// As far as the pool knows.
    fn may_run(&self, slot: usize, items: Numbers) -> bool {
        self.budget.hands == 1 || items.place_of(self.workers[slot].begun).is_some()
    }

    fn die(&mut self, slot: usize) {
        if !self.workers[slot].is_doomed {
            self.budget.deaths -= 1;
        }
        if !self.workers[slot].is_broken {
            self.take(slot);
        }
        let worker = std::mem::take(&mut self.workers[slot]);
        let running = worker.running.map(|(call, place)| running(call, place));
        let failure = |doom: Option<&Doom>, _: bool, _: Who| match doom {
            Some(Doom::TimedOut { .. }) => error(ErrorKind::TimedOut),
            Some(Doom::Broken(_)) => error(ErrorKind::Io),
            _ => error(ErrorKind::Died),
        };
        let loss = self.life.lose(slot, running, |_| who(), failure);
        for ended in loss.into_iter().flat_map(|loss| loss.ended) {
            self.note(ended);
        }
        assert_eq!(self.life.hand_count(slot), 0);
    }

    fn note(&mut self, ended: Ended) {
        let is_its = |job: &Arc<Job>| Arc::ptr_eq(job, &ended.job);
        let job = self.jobs.iter().position(is_its).expect("it was made here");
        for (number, kind) in kinds(ended) {
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
        let hands = self
            .life
            .hands
            .iter()
            .zip(&self.workers)
            .map(|(hands, worker)| {
                let hands = hands.iter().map(|hand| {
                    let doom = match &hand.doom {
                        None => 0,
                        Some(Doom::TimedOut { item, .. }) => 10 + item,
                        Some(Doom::Broken(_)) => 1,
                        Some(Doom::Cancelled(_)) => 2,
                    };
                    let piece = &hand.piece;
                    let running = worker.running.map(|(call, place)| running(call, place));
                    (
                        hand.job.key,
                        piece.range.clone(),
                        (piece.retried, piece.unstarted),
                        (hand.done, doom, hand.is_abandoned),
                        hand.begun_items(worker.begun),
                        hand.has_begun(worker.begun),
                        running.and_then(|running| hand.place_of(&running)),
                    )
                });
                hands.collect::<Vec<_>>()
            });
        let workers = self.workers.iter().map(|worker| {
            let calls = worker.calls.iter();
            (
                calls
                    .map(|given| (given.items.clone(), given.count))
                    .collect::<Vec<_>>(),
                (worker.has_begun, worker.run, worker.is_running),
                (worker.calls.front()).is_some_and(|given| given.number == worker.cancelled),
                &worker.ring,
                (worker.is_doomed, worker.is_broken),
            )
        });
        let budget = self.budget;
        let left = [
            budget.reclaims,
            budget.deaths,
            budget.time_outs,
            budget.nonsense,
            budget.cancels,
            budget.abandons,
            budget.terminates,
        ];
        format!(
            "{waiting:?} {:?} {:?} {left:?} {:?} {:?} {:?} {:?} {:?} {}",
            hands.collect::<Vec<_>>(),
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

/// How items ended, by their numbers.
fn kinds(ended: Ended) -> Vec<(usize, Option<ErrorKind>)> {
    let mut kinds = Vec::new();
    for arrived in ended.arrived {
        match arrived {
            Arrived::Failed(number, error) => kinds.push((number, Some(error.kind()))),
            Arrived::Done(answers) => {
                kinds.extend(
                    (answers.number()..answers.number() + answers.len())
                        .map(|number| (number, None)),
                );
            }
        }
    }
    if let Some((pieces, error)) = ended.failed {
        let numbers = pieces.iter().flat_map(Piece::numbers);
        kinds.extend(numbers.map(|number| (number, Some(error.kind()))));
    }
    kinds
}

fn all_of((done, failed): (usize, usize)) -> usize {
    done + failed
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

/// As many calls as there are items.
fn one_by_one() -> Vec<(Arc<Job>, usize)> {
    vec![(job(1, 1), 2), (job(1, 0), 1)]
}

/// Workers that have one hand, and several.
fn explore_both(budget: Budget) {
    explore_with(budget, three_and_one);
    let several = Budget { hands: 2, ..budget };
    explore_with(several, one_by_one);
}

#[test]
fn every_item_ends_once_whoever_dies() {
    explore_both(Budget { deaths: 2, ..QUIET });
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
    explore_both(budget);
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
    explore_both(budget);
}

#[test]
fn every_item_ends_once_when_the_pool_is_terminated() {
    let budget = Budget {
        terminates: 1,
        cancels: 1,
        ..QUIET
    };
    explore_both(budget);
}

#[test]
fn every_item_ends_once_when_a_worker_talks_nonsense() {
    let budget = Budget {
        nonsense: 1,
        deaths: 1,
        ..QUIET
    };
    explore_with(budget, three_and_one);
    // What it has not begun is unwanted, or it did not say so.
    for (cancels, abandons) in [(1, 0), (0, 1)] {
        let budget = Budget {
            hands: 2,
            nonsense: 1,
            cancels,
            abandons,
            ..QUIET
        };
        explore_with(budget, || vec![(job(1, 0), 1), (job(1, 0), 1)]);
    }
}

#[test]
fn chunks_are_taken_back_behind_what_was_begun_of_them() {
    let budget = Budget {
        hands: 2,
        reclaims: 2,
        deaths: 1,
        ..QUIET
    };
    explore_with(budget, || vec![(job(2, 1), 3)]);
    let budget = Budget {
        hands: 2,
        reclaims: 1,
        abandons: 1,
        ..QUIET
    };
    explore_with(budget, || vec![(job(2, 0), 2), (job(1, 0), 1)]);
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
        let first = world.workers[0].calls[0].items[0];
        // It has begun nothing, but the model wants a reason for the failure.
        world.begun.insert(first, 1);
        world.apply(Event::Die(0));
        deaths += 1;
    }
    // The first item ends it for itself alone; the second one is as new after that.
    assert_eq!(deaths, 2 * MAX_UNSTARTED);
    assert_eq!(world.ends.len(), 2);
}
