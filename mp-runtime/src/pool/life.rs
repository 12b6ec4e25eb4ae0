//! The life of an item: every transition of it, and nothing else. There is no clock in here, no
//! thread and no process, so that a test goes through all orders of events.
//!
//! ```text
//!   enqueue             assign                 complete
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
//! An item is in exactly one place: a piece in the queue, the undone part of a worker's hand, or
//! ended. Each transition moves it from one to the next under the lock of the pool, and gives out
//! what ended by it, once; whoever called delivers that when the lock is released.
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
//! A worker does the items of a chunk in order, and says which is running. When it is lost,
//!
//! - records it left complete items as if they had been sent;
//! - the item that was running fails, or waits again while it has retries left; the ones behind it
//!   wait again, as new;
//! - if none was running, all of them wait again, [`MAX_UNSTARTED`] times, so that arguments that
//!   kill their receiver come to an end;
//! - of a job that was cancelled all of them end with that error.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::job::{Job, Outcome};
use super::queue::Queue;
use super::segment::Piece;
use crate::error::Error;
use crate::link::{Record, Reply, Running, Status};
use crate::process::Who;

/// How often a chunk is sent again when its worker died before it ran any of it.
const MAX_UNSTARTED: u32 = 10;

/// What ended, of one job.
pub(super) struct Ended {
    pub(super) job: Arc<Job>,
    /// By the place of the item.
    outcomes: Vec<(usize, Outcome)>,
    /// What ended with one and the same error: this takes no longer for a million items.
    failed: Option<(VecDeque<Piece>, Error)>,
    /// What is left of a hand, to be freed when no lock is held.
    remains: Option<Hand>,
}

impl Ended {
    /// How many items have a result, and how many failed.
    pub(super) fn counts(&self) -> (usize, usize) {
        let pieces = self.failed.iter().flat_map(|(pieces, _)| pieces);
        let failed: usize = pieces.map(|piece| piece.range.len()).sum();
        let is_failed = |(_, outcome): &&(usize, Outcome)| outcome.is_err();
        let errors = self.outcomes.iter().filter(is_failed).count();
        (self.outcomes.len() - errors, errors + failed)
    }

    /// Brings all of it to whoever waits for it.
    pub(super) fn deliver(mut self) {
        let outcomes = self.take_outcomes();
        self.job.deliver(outcomes);
    }

    /// All that ended, by the place of the item.
    fn take_outcomes(&mut self) -> Vec<(usize, Outcome)> {
        let mut outcomes = std::mem::take(&mut self.outcomes);
        if let Some((pieces, error)) = self.failed.take() {
            outcomes.extend(failed_pieces(&pieces, &error));
        }
        outcomes
    }

    pub(super) fn of(job: &Arc<Job>, outcomes: Vec<(usize, Outcome)>) -> Ended {
        Ended {
            job: Arc::clone(job),
            outcomes,
            failed: None,
            remains: None,
        }
    }

    fn failed(job: &Arc<Job>, pieces: VecDeque<Piece>, error: &Error) -> Ended {
        Ended {
            failed: Some((pieces, error.clone())),
            ..Ended::of(job, Vec::new())
        }
    }
}

/// All items of a pool that have not ended.
#[cfg_attr(test, derive(Clone))]
pub(super) struct Life {
    queue: Queue,
    /// What the worker of each slot has.
    hands: Vec<Option<Hand>>,
    last_chunk: u64,
}

/// The chunk that a worker has.
#[derive(Clone)]
pub(super) struct Hand {
    pub(super) chunk: u64,
    pub(super) job: Arc<Job>,
    pub(super) piece: Piece,
    /// How many of its items, from the front, have ended.
    done: usize,
    doom: Option<Doom>,
    /// Nobody wants what has not begun.
    is_abandoned: bool,
}

/// Why a worker is being killed.
#[derive(Clone)]
pub(super) enum Doom {
    /// This item took longer than it may.
    TimedOut { item: u64, limit: Duration },
    /// What it sent made no sense.
    Broken(String),
    /// Nobody wants what it runs; this is the end of it.
    Cancelled(Error),
}

/// What a worker's records did.
pub(super) struct Progress {
    pub(super) ended: Ended,
    /// How many items the chunk had, if it has come to its end.
    pub(super) chunk_end: Option<usize>,
}

/// What a death did.
pub(super) struct Loss {
    pub(super) ended: Ended,
    /// Whether the worker had begun with what it had.
    pub(super) has_begun: bool,
}

impl Hand {
    /// The place of the item that comes next in it, if there is one.
    fn next_number(&self) -> Option<usize> {
        let position = self.piece.range.start + self.done;
        (position < self.piece.range.end).then(|| self.piece.segment.number(position))
    }

    /// How many of its items have not ended.
    pub(super) fn left(&self) -> usize {
        self.piece.range.len() - self.done
    }

    /// Takes the results of items that had none. A record of another item than the next came
    /// before, or is nonsense.
    fn take_in(&mut self, records: &[Record], reply: &Reply, who: &Who) -> Vec<(usize, Outcome)> {
        let mut outcomes = Vec::with_capacity(records.len());
        for record in records {
            let number = self.next_number().filter(|&number| {
                record.chunk == self.chunk
                    && record.status != Status::ChunkEnd
                    && number as u64 == record.item
            });
            let Some(number) = number else { continue };
            let outcome = match &self.doom {
                Some(Doom::Cancelled(error)) => Err(error.clone()),
                _ => who
                    .of(self.job.place(number))
                    .answered(record, reply.clone()),
            };
            outcomes.push((number, outcome));
            self.done += 1;
        }
        if self.left() == 0 && self.piece.range.end == self.piece.segment.len() {
            self.piece.segment.end_loans();
        }
        outcomes
    }

    /// Everything that has not ended ends with this error.
    fn fail(&mut self, error: &Error) -> Vec<(usize, Outcome)> {
        let rest = self.piece.rest(self.piece.range.start + self.done);
        self.done = self.piece.range.len();
        failed_pieces([&rest], error)
    }
}

impl Life {
    pub(super) fn new() -> Life {
        Life {
            queue: Queue::default(),
            hands: Vec::new(),
            last_chunk: 0,
        }
    }

    /// What the worker of a slot has.
    pub(super) fn hand(&self, slot: usize) -> Option<&Hand> {
        self.hands.get(slot)?.as_ref()
    }

    fn hand_mut(&mut self, slot: usize) -> Option<&mut Hand> {
        self.hands.get_mut(slot)?.as_mut()
    }

    /// Whether nothing waits and nothing is with a worker.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.hands.iter().all(Option::is_none)
    }

    /// Whether something waits.
    pub(super) fn has_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// How many items wait, those in a worker's hand behind the one that is running included, and
    /// how many workers have one.
    pub(super) fn counts(&self) -> (usize, usize) {
        let left = self.hands.iter().flatten().map(Hand::left);
        let (with_workers, running) = left.fold((0, 0), |(all, running), left| {
            (all + left, running + usize::from(left > 0))
        });
        (self.queue.item_count() + with_workers - running, running)
    }

    /// New items.
    pub(super) fn enqueue(&mut self, job: &Arc<Job>, piece: Piece) {
        self.queue.push_back(job, piece);
    }

    /// Gives the worker of `slot`, one of `workers` and without anything in hand, a chunk of at
    /// most so many items.
    pub(super) fn assign(&mut self, slot: usize, workers: usize, most: usize) -> Option<&Hand> {
        if self.hands.len() <= slot {
            self.hands.resize(slot + 1, None);
        }
        debug_assert!(self.hands[slot].is_none(), "it has something");
        let (job, piece) = self.queue.next(workers, most)?;
        self.last_chunk += 1;
        let hand = Hand {
            chunk: self.last_chunk,
            job,
            piece,
            done: 0,
            doom: None,
            is_abandoned: false,
        };
        Some(self.hands[slot].insert(hand))
    }

    /// Records came from the worker of a slot.
    pub(super) fn complete(
        &mut self,
        slot: usize,
        records: &[Record],
        reply: &Reply,
        who: impl FnOnce(&Hand) -> Who,
    ) -> Option<Progress> {
        let place = self.hands.get_mut(slot)?;
        let hand = place.as_mut()?;
        let who = who(hand);
        let mut outcomes = hand.take_in(records, reply, &who);
        let is_end =
            |record: &Record| record.status == Status::ChunkEnd && record.chunk == hand.chunk;
        let has_ended = records.iter().any(is_end);
        if has_ended {
            // Items are left out only for a job that nobody wants any more.
            let error = match &hand.doom {
                Some(Doom::Cancelled(error)) => error.clone(),
                _ => who.left_out(),
            };
            outcomes.extend(hand.fail(&error));
        }
        let mut ended = Ended::of(&hand.job, outcomes);
        let chunk_end = has_ended.then(|| hand.piece.range.len());
        if has_ended {
            ended.remains = place.take();
        }
        Some(Progress { ended, chunk_end })
    }

    /// The worker of a slot is being killed for this. Tells whether there is still something that
    /// it concerns; what was cancelled stays cancelled.
    pub(super) fn doom(&mut self, slot: usize, doom: Doom) -> bool {
        let Some(hand) = self.hand_mut(slot) else {
            return false;
        };
        let is_first = !matches!(hand.doom, Some(Doom::Cancelled(_)));
        if is_first {
            hand.doom = Some(doom);
        }
        is_first && hand.left() > 0
    }

    /// The worker of a slot is dead, and left these records. `failure` says how the item ended that
    /// it was running, or, `false`, was to run.
    pub(super) fn lose(
        &mut self,
        slot: usize,
        (records, reply): (&[Record], &Reply),
        running: Option<Running>,
        who: impl FnOnce(&Hand) -> Who,
        failure: impl FnOnce(Option<&Doom>, bool, Who) -> Error,
    ) -> Option<Loss> {
        let mut hand = self.hands.get_mut(slot)?.take()?;
        let who = who(&hand);
        let mut outcomes = hand.take_in(records, reply, &who);
        let running = running.filter(|running| running.chunk == hand.chunk);
        let has_begun = running.is_some() || !outcomes.is_empty();
        if let Some(Doom::Cancelled(error)) = &hand.doom {
            let error = error.clone();
            outcomes.extend(hand.fail(&error));
        } else if let Some(number) = hand.next_number() {
            let was_running = running.is_some_and(|running| running.item == number as u64);
            let (failed, again) = divide(&hand, number, was_running);
            if failed {
                let who = who.of(hand.job.place(number));
                outcomes.push((number, Err(failure(hand.doom.as_ref(), was_running, who))));
            }
            if hand.is_abandoned {
                outcomes.extend(failed_pieces(&again, &who.left_out()));
            } else {
                for piece in again.into_iter().rev() {
                    self.queue.push_front(&hand.job, piece);
                }
            }
        }
        let mut ended = Ended::of(&hand.job, outcomes);
        ended.remains = Some(hand);
        Some(Loss { ended, has_begun })
    }

    /// Ends what waits of a job with this error, and dooms the workers that have more of it: those
    /// slots are to be killed.
    pub(super) fn cancel(&mut self, job: &Arc<Job>, error: &Error) -> (Ended, Vec<usize>) {
        let ended = Ended::failed(job, self.queue.remove(job), error);
        let slots = self.slots_with(job);
        let doomed = slots
            .into_iter()
            .filter(|&slot| self.doom(slot, Doom::Cancelled(error.clone())));
        (ended, doomed.collect())
    }

    /// Nobody wants what has not ended of a job: what waits ends with this error, and what is left
    /// of it in these slots need not begin.
    pub(super) fn abandon(&mut self, job: &Arc<Job>, error: &Error) -> (Ended, Vec<usize>) {
        let ended = Ended::failed(job, self.queue.remove(job), error);
        let slots = self.slots_with(job);
        for &slot in &slots {
            self.hands[slot]
                .iter_mut()
                .for_each(|hand| hand.is_abandoned = true);
        }
        (ended, slots)
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
        for slot in 0..self.hands.len() {
            self.doom(slot, Doom::Cancelled(error.clone()));
        }
        self.refuse(error)
    }

    fn slots_with(&self, job: &Arc<Job>) -> Vec<usize> {
        let has_it = |hand: &Hand| Arc::ptr_eq(&hand.job, job);
        let slots = self.hands.iter().enumerate();
        slots
            .filter(|(_, hand)| hand.as_ref().is_some_and(has_it))
            .map(|(slot, _)| slot)
            .collect()
    }
}

/// Of what a dead worker had, whether the next item, `number`, fails, and what waits again.
fn divide(hand: &Hand, number: usize, was_running: bool) -> (bool, Vec<Piece>) {
    let first = hand.piece.range.start + hand.done;
    let unstarted = hand.piece.unstarted + 1;
    // The item that the worker was killed for ended in time after all.
    let killed_for_another = matches!(
        hand.doom,
        Some(Doom::TimedOut { item, .. }) if item != number as u64
    );
    if !was_running && unstarted < MAX_UNSTARTED || killed_for_another {
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

fn failed_pieces<'p>(
    pieces: impl IntoIterator<Item = &'p Piece>,
    error: &Error,
) -> Vec<(usize, Outcome)> {
    let numbers = pieces.into_iter().flat_map(Piece::numbers);
    numbers.map(|number| (number, Err(error.clone()))).collect()
}
