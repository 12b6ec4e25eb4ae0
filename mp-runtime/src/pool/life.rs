//! The life of an item: every transition of it, and nothing else. There is no clock in here, no
//! thread and no process, so that a test goes through all orders of events.
//!
//! ```text
//!   enqueue            hand_out                complete
//!  ────────▶  waiting  ────────▶ with a worker ────────▶ ended, with its result
//!               ▲ │                 │      │
//!               │ │ cancel          │ lose │ lose: it was running and has no retries left,
//!               │ │ abandon         │      │ or the worker was doomed for it
//!               │ │ refuse          │      ▼
//!               │ └─────────────────┼────▶ ended, with an error
//!               └───────────────────┘
//!                 lose: it had not begun, or has retries left
//! ```
//!
//! An item is in exactly one place: a piece in the queue, the undone part of a hand of a worker, or
//! ended. Each transition moves it from one to the next under the lock of the pool, and gives out
//! what ended by it, once; whoever called delivers that when the lock is released.
//!
//! # Hands
//!
//! A chunk that was given to a worker is a *hand* of it. It may have several, which it does in order;
//! those that it has not begun can be taken back (`reclaim`), and wait again as if it had never had
//! them. So can what it has not begun of a *divisible* hand, of which each item has a number of its
//! own to be begun by. Several divisible hands may go as one call.
//!
//! # Doom
//!
//! A worker that is killed on purpose is *doomed* first, with the reason. Between that and its end
//! it goes on: what it completes counts, except for what was cancelled, whose end is that error
//! whatever the worker says. So the race of a cancellation, or of a time limit, with the result is
//! decided by who has the lock first.
//!
//! # Death
//!
//! A worker does the items of a hand in order, and says which is running. When it is lost, all its
//! records have been taken. Then
//!
//! - the item that was running fails, or waits again while it has retries left; the ones behind it
//!   wait again, as new;
//! - if none was running, all of them wait again, [`MAX_UNSTARTED`] times, so that arguments that
//!   kill their receiver come to an end;
//! - of a job that was cancelled all of them end with that error;
//! - the hands behind the first one wait again: it had not begun with them, or did not say so. What
//!   nobody wants of them ends.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::job::{Arrived, Job};
use super::queue::Queue;
use super::segment::Piece;
use crate::error::Error;
use crate::few::Few;
use crate::link::{Report, Run, Running, Status};
use crate::process::Who;

/// How often a chunk is sent again when its worker died before it ran any of it.
const MAX_UNSTARTED: u32 = 10;

/// What ended, of one job.
pub(super) struct Ended {
    pub(super) job: Arc<Job>,
    arrived: Few<Arrived>,
    /// What ended with one and the same error: this takes no longer for a million items.
    failed: Option<(VecDeque<Piece>, Error)>,
    /// What is left of a hand, to be freed when no lock is held.
    remains: Option<Hand>,
}

impl Ended {
    fn of(job: &Arc<Job>) -> Ended {
        Ended {
            job: Arc::clone(job),
            arrived: Few::default(),
            failed: None,
            remains: None,
        }
    }

    /// All that arrived of a job.
    pub(super) fn of_all(job: &Arc<Job>, arrived: impl IntoIterator<Item = Arrived>) -> Ended {
        let mut ended = Ended::of(job);
        ended.arrived.extend(arrived);
        ended
    }

    fn failed(job: &Arc<Job>, pieces: VecDeque<Piece>, error: &Error) -> Ended {
        Ended {
            failed: Some((pieces, error.clone())),
            ..Ended::of(job)
        }
    }

    /// How many items the chunk had that it is the end of.
    pub(super) fn chunk_len(&self) -> usize {
        self.remains
            .as_ref()
            .map_or(0, |hand| hand.piece.range.len())
    }

    fn is_empty(&self) -> bool {
        self.arrived.is_empty() && self.failed.is_none() && self.remains.is_none()
    }

    /// How many items have a result, and how many failed.
    pub(super) fn counts(&self) -> (usize, usize) {
        let pieces = self.failed.iter().flat_map(|(pieces, _)| pieces);
        let failed: usize = pieces.map(|piece| piece.range.len()).sum();
        let count = |(done, failed), arrived: &Arrived| match arrived {
            Arrived::Failed(..) => (done, failed + 1),
            Arrived::Done(answers) => (done + answers.len(), failed),
        };
        self.arrived.iter().fold((0, failed), count)
    }

    /// Brings all of it to whoever waits for it.
    pub(super) fn deliver(self) {
        let failed = self.failed.iter().flat_map(|(pieces, error)| {
            let numbers = pieces.iter().flat_map(Piece::numbers);
            numbers.map(|number| Arrived::Failed(number, error.clone()))
        });
        let arrived = self.arrived.into_iter().chain(failed);
        self.job.deliver(arrived);
    }
}

/// All items of a pool that have not ended.
#[cfg_attr(test, derive(Clone))]
pub(super) struct Life {
    queue: Queue,
    /// What the worker of each slot has, in the order in which it does it.
    hands: Vec<VecDeque<Hand>>,
}

/// A chunk that a worker has.
#[derive(Clone)]
pub(super) struct Hand {
    /// That of its first item; the others follow.
    pub(super) number: u32,
    /// Each of its items can be taken back, until it has begun; and its call may go on behind it.
    is_divisible: bool,
    pub(super) job: Arc<Job>,
    pub(super) piece: Piece,
    /// How many of its items, from the front, have ended.
    done: usize,
    doom: Option<Doom>,
    /// Nobody wants what has not begun.
    is_abandoned: bool,
}

/// Some items of a link, in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) first: u32,
    count: u32,
}

impl Numbers {
    /// The place of an item among them.
    pub(super) fn place_of(self, item: u32) -> Option<usize> {
        let place = item.wrapping_sub(self.first);
        (place < self.count).then_some(place as usize)
    }
}

/// Why a worker is being killed.
#[derive(Clone)]
pub(super) enum Doom {
    /// This item took longer than it may.
    TimedOut { item: usize, limit: Duration },
    /// What it sent made no sense.
    Broken(String),
    /// Nobody wants what it runs; this is the end of it.
    Cancelled(Error),
}

/// What a worker's records did.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) ended: Few<Ended>,
    /// How many hands have come to their end, ...
    pub(super) hands: usize,
    /// ... and how many items have.
    pub(super) items: usize,
    /// Why the records make no sense, if they do not.
    pub(super) nonsense: Option<&'static str>,
}

/// What a death did.
pub(super) struct Loss {
    pub(super) ended: Few<Ended>,
    /// Whether the worker had begun with what it had.
    pub(super) has_begun: bool,
}

impl Hand {
    /// The place of the item that comes next in it, if there is one.
    fn next_number(&self) -> Option<usize> {
        let position = self.piece.range.start + self.done;
        (position < self.piece.range.end).then(|| self.piece.segment.number(position))
    }

    /// The number of the item at this place in it.
    pub(super) fn number_at(&self, place: usize) -> usize {
        self.piece.segment.number(self.piece.range.start + place)
    }

    /// How many of its items have not ended.
    pub(super) fn left(&self) -> usize {
        self.piece.range.len() - self.done
    }

    /// Its items, by their numbers.
    pub(super) fn numbers(&self) -> Numbers {
        Numbers {
            first: self.number,
            count: self.piece.range.len() as u32,
        }
    }

    /// The place in it of what its worker runs, if that is of it.
    pub(super) fn place_of(&self, running: &Running) -> Option<usize> {
        self.numbers().place_of(running.item())
    }

    /// Whether its worker has begun with what comes next of it, when the last item was this that it has
    /// begun.
    pub(super) fn has_begun(&self, begun: u32) -> bool {
        let place = self.numbers().place_of(begun);
        place.is_some_and(|place| place >= self.done || !self.is_divisible)
    }

    /// How many of its items are the worker's to run, if the last item was this that it has begun: it
    /// may not say the truth.
    fn begun_items(&self, begun: u32) -> usize {
        let count = begun.wrapping_sub(self.number).wrapping_add(1);
        let count = usize::try_from(count.cast_signed()).unwrap_or(0);
        match count > 0 && !self.is_divisible {
            true => self.piece.range.len(),
            false => count.clamp(self.done, self.piece.range.len()),
        }
    }

    /// Whether a death for this reason is on its way, so that records count no more.
    fn is_broken(&self) -> bool {
        matches!(self.doom, Some(Doom::Broken(_)))
    }

    /// Its worker is being killed for it. Tells whether there is still something that this concerns;
    /// what was cancelled stays cancelled.
    fn doom(&mut self, doom: Doom) -> bool {
        let is_first = !matches!(self.doom, Some(Doom::Cancelled(_)));
        if is_first {
            self.doom = Some(doom);
        }
        is_first && self.left() > 0
    }

    /// Takes the records of the next items; tells whether there are so many.
    fn take_in(&mut self, run: &Run, report: &Report, who: &Who, ended: &mut Few<Arrived>) -> bool {
        let Some(number) = self.next_number().filter(|_| run.count <= self.left()) else {
            return false;
        };
        self.done += run.count;
        let is_mapped = self.job.is_mapped;
        match &self.doom {
            Some(Doom::Cancelled(error)) => {
                let failed = |number| Arrived::Failed(number, error.clone());
                ended.extend((number..).take(run.count).map(failed));
            }
            _ if run.status == Status::Returned => {
                let answers = who.answers((number, is_mapped), run, &report.bundle);
                ended.push(Arrived::Done(answers));
            }
            _ => {
                let who = who.of(is_mapped.then_some(number));
                let error = who.failed(run.status, &report.bundle.reply, &run.payload);
                ended.push(Arrived::Failed(number, error));
            }
        }
        true
    }

    /// Everything that has not ended ends with this error.
    fn fail(&mut self, error: &Error, ended: &mut Few<Arrived>) {
        let rest = self.piece.rest(self.piece.range.start + self.done);
        self.done = self.piece.range.len();
        rest.numbers()
            .for_each(|number| ended.push(Arrived::Failed(number, error.clone())));
    }

    /// Its last item has ended: parts of arrays, if it had any, come back.
    fn end_loans(&self) {
        if self.left() == 0 && self.piece.range.end == self.piece.segment.len() {
            self.piece.segment.end_loans();
        }
    }
}

impl Life {
    pub(super) fn new() -> Life {
        Life {
            queue: Queue::default(),
            hands: Vec::new(),
        }
    }

    /// What the worker of a slot does first of what it has.
    pub(super) fn hand(&self, slot: usize) -> Option<&Hand> {
        self.hands.get(slot)?.front()
    }

    /// How many hands the worker of a slot has.
    pub(super) fn hand_count(&self, slot: usize) -> usize {
        self.hands.get(slot).map_or(0, VecDeque::len)
    }

    /// Whether what the worker of a slot does first can be divided.
    pub(super) fn is_divisible(&self, slot: usize) -> bool {
        self.hand(slot).is_some_and(|hand| hand.is_divisible)
    }

    /// Whether the worker of a slot has something that can be taken back, behind what it does first.
    pub(super) fn has_behind(&self, slot: usize) -> bool {
        let is_long = |hand: &Hand| hand.is_divisible && hand.left() > 1;
        self.hand_count(slot) > 1 || self.hand(slot).is_some_and(is_long)
    }

    /// Whether the worker of a slot has something of a job.
    pub(super) fn has_of(&self, slot: usize, job: &Arc<Job>) -> bool {
        let mut hands = self.hands.get(slot).into_iter().flatten();
        hands.any(|hand| Arc::ptr_eq(&hand.job, job))
    }

    /// Whether nothing waits and nothing is with a worker.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.hands.iter().all(VecDeque::is_empty)
    }

    /// Whether something waits.
    pub(super) fn has_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// How many items wait, those in a worker's hands behind the one that is running included, and
    /// how many workers have one.
    pub(super) fn counts(&self) -> (usize, usize) {
        let left = |hands: &VecDeque<Hand>| hands.iter().map(Hand::left).sum::<usize>();
        let (with_workers, running) = self.hands.iter().fold((0, 0), |(all, running), hands| {
            let left = left(hands);
            (all + left, running + usize::from(left > 0))
        });
        (self.queue.item_count() + with_workers - running, running)
    }

    /// New items.
    pub(super) fn enqueue(&mut self, job: &Arc<Job>, piece: Piece) {
        self.queue.push_back(job, piece);
    }

    /// What a worker would be given next: the job, the piece that the chunk is a part of, and how
    /// many items the chunk has at most.
    pub(super) fn next_up(&mut self, workers: usize) -> Option<(&Arc<Job>, &Piece, usize)> {
        self.queue.peek(workers)
    }

    /// How many items wait.
    pub(super) fn waiting_count(&self) -> usize {
        self.queue.item_count()
    }

    /// Takes the next chunk for one of `workers` workers, of at most so many items, to be handed out.
    pub(super) fn next(&mut self, workers: usize, most: usize) -> Option<(Arc<Job>, Piece)> {
        self.queue.next(workers, most)
    }

    /// Takes a chunk of so many items, or fewer, with at most so many bytes, to be handed out.
    pub(super) fn take(&mut self, size: usize, most_bytes: usize) -> Option<(Arc<Job>, Piece)> {
        self.queue.take(size, most_bytes)
    }

    /// Gives the worker of `slot` a chunk more that waits no more, whose items are numbered from this on.
    pub(super) fn hand_out(
        &mut self,
        slot: usize,
        job: Arc<Job>,
        piece: Piece,
        number: u32,
        is_divisible: bool,
    ) -> &Hand {
        if self.hands.len() <= slot {
            self.hands.resize_with(slot + 1, VecDeque::new);
        }
        let hands = &mut self.hands[slot];
        hands.push_back(Hand {
            number,
            is_divisible,
            job,
            piece,
            done: 0,
            doom: None,
            is_abandoned: false,
        });
        &hands[hands.len() - 1]
    }

    /// The worker of `slot` has begun the item of this number, and will begin none behind it that it
    /// has: those wait again. Tells how many they are.
    pub(super) fn reclaim(&mut self, slot: usize, begun: u32) -> usize {
        let Some(hands) = self.hands.get_mut(slot) else {
            return 0;
        };
        let mut count = 0;
        while let Some(hand) = hands.back_mut() {
            let kept = hand.begun_items(begun);
            let middle = hand.piece.range.start + kept;
            let rest = hand.piece.rest(middle);
            if rest.range.is_empty() {
                break;
            }
            count += rest.range.len();
            self.queue.push_front(&hand.job, rest);
            hand.piece.range.end = middle;
            if hand.left() > 0 {
                break;
            }
            hands.pop_back();
        }
        count
    }

    /// Records came from the worker of a slot.
    pub(super) fn complete(
        &mut self,
        slot: usize,
        report: &Report,
        who: impl Fn(&Hand) -> Who,
    ) -> Progress {
        let mut progress = Progress::default();
        let Some(hands) = self.hands.get_mut(slot) else {
            progress.nonsense = Some("it answered and was not asked");
            return progress;
        };
        let mut runs = report.runs.iter().cloned();
        let mut next = runs.next();
        while let Some(hand) = hands.front_mut()
            && next.is_some()
        {
            if hand.is_broken() {
                return progress;
            }
            let who = who(hand);
            let mut ended = Ended::of(&hand.job);
            let before = hand.done;
            let mut has_ended = false;
            while !has_ended && let Some(mut run) = next.take() {
                // What is behind a divisible one may be of the same call.
                let front = match hand.is_divisible {
                    true => run.split_front(hand.left(), &report.bundle),
                    false => None,
                };
                let run = match front {
                    Some(front) => {
                        next = Some(run);
                        front
                    }
                    None => {
                        next = runs.next();
                        run
                    }
                };
                has_ended = run.is_last;
                if run.status == Status::CutShort && !hand.is_divisible {
                    // Items are left out only for a job that nobody wants any more.
                    let error = match &hand.doom {
                        Some(Doom::Cancelled(error)) => error.clone(),
                        _ => who.left_out(),
                    };
                    hand.fail(&error, &mut ended.arrived);
                } else if !hand.take_in(&run, report, &who, &mut ended.arrived) {
                    progress.nonsense = Some("it answered more than it was asked");
                }
                if hand.is_divisible {
                    has_ended = hand.left() == 0;
                } else if has_ended != (hand.left() == 0) {
                    progress.nonsense = Some("it was at the end of a call too early, or too late");
                }
                if progress.nonsense.is_some() {
                    has_ended = false;
                    break;
                }
            }
            progress.items += hand.done - before;
            hand.end_loans();
            let is_broken = progress.nonsense.is_some();
            if has_ended {
                progress.hands += 1;
                ended.remains = hands.pop_front();
            }
            if !ended.is_empty() {
                progress.ended.push(ended);
            }
            if is_broken {
                return progress;
            }
        }
        if next.is_some() {
            progress.nonsense = Some("it answered and was not asked");
        }
        progress
    }

    /// The worker of a slot is being killed for what it does first. Tells whether there is still something that
    /// it concerns; what was cancelled stays cancelled.
    pub(super) fn doom(&mut self, slot: usize, doom: Doom) -> bool {
        let Some(hand) = self.hands.get_mut(slot).and_then(VecDeque::front_mut) else {
            return false;
        };
        hand.doom(doom)
    }

    /// The worker of a slot is dead, and all its records were taken. `failure` says how the item
    /// ended that it was running, or, `false`, was to run.
    pub(super) fn lose(
        &mut self,
        slot: usize,
        running: Option<Running>,
        who: impl Fn(&Hand) -> Who,
        failure: impl FnOnce(Option<&Doom>, bool, Who) -> Error,
    ) -> Option<Loss> {
        let hands = self.hands.get_mut(slot)?;
        let mut hand = hands.pop_front()?;
        let mut all_ended = Few::default();
        while let Some(mut behind) = hands.pop_back() {
            // An honest worker has begun with what is not taken back when it is cancelled, so that
            // it is the first; one that is broken off may not have said what it did before.
            let unwanted = match &behind.doom {
                Some(Doom::Cancelled(error)) => Some(error.clone()),
                _ => behind.is_abandoned.then(|| who(&behind).left_out()),
            };
            match unwanted {
                None => self.queue.push_front(&behind.job, behind.piece),
                Some(error) => {
                    let mut ended = Ended::of(&behind.job);
                    behind.fail(&error, &mut ended.arrived);
                    ended.remains = Some(behind);
                    all_ended.push(ended);
                }
            }
        }
        let who = who(&hand);
        let running = running.and_then(|running| hand.place_of(&running));
        let has_begun = running.is_some() || hand.done > 0;
        let mut ended = Ended::of(&hand.job);
        if let Some(Doom::Cancelled(error)) = &hand.doom {
            let error = error.clone();
            hand.fail(&error, &mut ended.arrived);
        } else if let Some(number) = hand.next_number() {
            let was_running = running == Some(hand.done);
            let (failed, again) = divide(&hand, number, was_running);
            if failed {
                let who = who.of(hand.job.is_mapped.then_some(number));
                let error = failure(hand.doom.as_ref(), was_running, who);
                ended.arrived.push(Arrived::Failed(number, error));
            }
            if hand.is_abandoned {
                let numbers = again.iter().flat_map(Piece::numbers);
                let left_out = |number| Arrived::Failed(number, who.left_out());
                ended.arrived.extend(numbers.map(left_out));
            } else {
                for piece in again.into_iter().rev() {
                    self.queue.push_front(&hand.job, piece);
                }
            }
        }
        ended.remains = Some(hand);
        all_ended.push(ended);
        Some(Loss {
            ended: all_ended,
            has_begun,
        })
    }

    /// Ends what waits of a job with this error, and dooms what workers have of it: whatever they say
    /// of that ends with it, too. Gives the slots and the items.
    pub(super) fn cancel(
        &mut self,
        job: &Arc<Job>,
        error: &Error,
    ) -> (Ended, Vec<(usize, Numbers)>) {
        let ended = Ended::failed(job, self.queue.remove(job), error);
        let mut doomed = Vec::new();
        for (slot, hand) in self.hands_of(job) {
            if hand.doom(Doom::Cancelled(error.clone())) {
                doomed.push((slot, hand.numbers()));
            }
        }
        (ended, doomed)
    }

    /// Nobody wants what has not ended of a job: what waits ends with this error, and what is left
    /// of it in these items of these slots need not begin.
    pub(super) fn abandon(
        &mut self,
        job: &Arc<Job>,
        error: &Error,
    ) -> (Ended, Vec<(usize, Numbers)>) {
        let ended = Ended::failed(job, self.queue.remove(job), error);
        let mut left = Vec::new();
        for (slot, hand) in self.hands_of(job) {
            hand.is_abandoned = true;
            left.push((slot, hand.numbers()));
        }
        (ended, left)
    }

    fn hands_of<'l>(
        &'l mut self,
        job: &'l Arc<Job>,
    ) -> impl Iterator<Item = (usize, &'l mut Hand)> {
        let all = self.hands.iter_mut().enumerate();
        let all = all.flat_map(|(slot, hands)| hands.iter_mut().map(move |hand| (slot, hand)));
        all.filter(|(_, hand)| Arc::ptr_eq(&hand.job, job))
    }

    /// Nobody will run what waits: it ends with this error.
    pub(super) fn refuse(&mut self, error: &Error) -> Vec<Ended> {
        let waiting = self.queue.drain();
        let ended = waiting
            .into_iter()
            .map(|(job, pieces)| Ended::failed(&job, pieces, error));
        ended.collect()
    }

    /// Everything ends with this error: what waits now, what workers have when they are dead.
    pub(super) fn terminate(&mut self, error: &Error) -> Vec<Ended> {
        for hand in self.hands.iter_mut().flatten() {
            hand.doom(Doom::Cancelled(error.clone()));
        }
        self.refuse(error)
    }
}

/// Of what a dead worker had, whether the next item, `number`, fails, and what waits again.
fn divide(hand: &Hand, number: usize, was_running: bool) -> (bool, Vec<Piece>) {
    let first = hand.piece.range.start + hand.done;
    let unstarted = hand.piece.unstarted + 1;
    // The item that the worker was killed for ended in time after all, or it lied about which it was:
    // then this comes to an end as well.
    let killed_for_another = matches!(
        hand.doom,
        Some(Doom::TimedOut { item, .. }) if item != number
    );
    if (!was_running || killed_for_another) && unstarted < MAX_UNSTARTED {
        let all = Piece {
            unstarted,
            ..hand.piece.rest(first)
        };
        return (false, vec![all]);
    }
    let mut again = Vec::new();
    let has_retries = was_running && hand.piece.retried < hand.job.retries;
    if has_retries {
        again.push(Piece {
            retried: hand.piece.retried + 1,
            ..hand.piece.part(first..first + 1)
        });
    }
    if first + 1 < hand.piece.range.end {
        again.push(hand.piece.part(first + 1..hand.piece.range.end));
    }
    (!has_retries, again)
}
