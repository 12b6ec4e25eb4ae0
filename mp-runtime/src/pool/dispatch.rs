//! Which worker gets what.
//!
//! A worker that has nothing to do gets a chunk, the one first that had something last: it is still
//! warm. When all have something, or as many as there are processors, those whose calls are *light*
//! and quick get more of that kind, in turns, so that a burst of short calls costs a wake-up and not
//! one each, and no more workers than can compute at once. What a worker has and has not begun can
//! be taken back: when it is cancelled, or when another worker has nothing to do
//! ([`rebalance`](Core::rebalance)).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::core::{Aftermath, Core, Dispatch, State};
use super::job::{Job, QUICK_NANOS};
use super::segment::Piece;
use crate::link::{CallHead, LIGHT_BYTES, Link};

/// A worker has no more calls than take so long together, ...
pub(super) const AHEAD_NANOS: u32 = 200_000;
/// ... and no more than so many.
const MOST_AHEAD: usize = 256;
/// A worker that has quick things to do, and has ended none for so long, gets no more of them.
const STALLED: Duration = Duration::from_millis(5);
/// And after so long also if it has not begun: it is stopped, or lies.
const STOPPED: Duration = STALLED.saturating_mul(20);
/// A light chunk has no more items.
pub(super) const LIGHT_ITEMS: usize = 1024;

impl State {
    /// The worker of a slot has nothing to do.
    pub(super) fn rests(&mut self, index: usize) {
        self.idle.push(index);
        // Those that are none any more are few, mostly.
        if self.idle.len() > 2 * self.slots.len() + 8 {
            self.idle = (0..self.slots.len())
                .filter(|&index| self.is_idle(index))
                .collect();
        }
    }

    /// The worker of a slot has come, and has nothing to do. The first of the slots gets the first
    /// work.
    pub(super) fn arrives(&mut self, index: usize) {
        self.rests(index);
        self.idle.sort_unstable_by(|one, other| other.cmp(one));
    }

    /// Whether a worker that is wanted has nothing to do.
    pub(super) fn has_idle(&mut self) -> bool {
        while let Some(&index) = self.idle.last() {
            let is_doomed = self.slots.get(index).is_some_and(|slot| slot.is_doomed);
            if self.is_idle(index) && self.is_wanted(index) && !is_doomed {
                return true;
            }
            self.idle.pop();
        }
        false
    }

    /// How long an item of a function took lately, in nanoseconds, if that is known.
    pub(super) fn pace(&self, function_number: u32) -> Option<u32> {
        let pace = self.paces.get(function_number as usize).copied();
        pace.filter(|&pace| pace > 0)
    }

    /// Notes that an item of a function took so long.
    pub(super) fn note_pace(&mut self, function_number: u32, nanos: u64) {
        let place = function_number as usize;
        if self.paces.len() <= place {
            self.paces.resize(place + 1, 0);
        }
        let now = u32::try_from(nanos).unwrap_or(u32::MAX).max(1);
        let pace = &mut self.paces[place];
        *pace = match *pace {
            0 => now,
            before => before - before / 4 + now / 4,
        };
    }

    /// How long an item takes of what waits, if it is quick and light.
    fn quick_pace(&mut self) -> Option<u32> {
        let (job, piece, size) = self.life.next_up(self.target)?;
        let function_number = job.function_number;
        let is_light = is_light(job, piece, size);
        let pace = self.pace(function_number).filter(|_| is_light)?;
        (pace < QUICK_NANOS).then_some(pace)
    }

    /// Looks through the workers that do quick and light things, and have done one lately, up to so many:
    /// how many there are, and the one that has least of those that get more behind that.
    fn quick_ones(&self, most: usize, pace: u32, now: Instant) -> (usize, Option<usize>) {
        let is_quick = |&&index: &&usize| self.is_quick(index, now);
        let mut quick_ones = self.busy.iter().filter(is_quick).take(most);
        let (mut count, mut least) = (0, None);
        for &index in &mut quick_ones {
            count += 1;
            let item_count = self.slots[index].item_count;
            let is_least = least.is_none_or(|(least, _)| item_count < least);
            if is_least && self.takes_more(index, pace) {
                least = Some((item_count, index));
            }
        }
        (count, least.map(|(_, index)| index))
    }

    /// Whether somebody has to look now and then whether a worker is stalled: while something waits
    /// for it, or is behind something else, and another one has nothing to do.
    pub(super) fn needs_look(&mut self) -> bool {
        let is_ahead = |&slot: &usize| self.life.hand_count(slot) > 1;
        let is_any = self.life.has_waiting() || self.busy.iter().any(is_ahead);
        is_any && self.has_idle()
    }

    /// The link whose keeper is to look from now on, unless one does.
    pub(super) fn appoint_looker(&mut self) -> Option<Arc<Link>> {
        if self.looker.is_some() || !self.needs_look() {
            return None;
        }
        let index = *self.idle.last()?;
        self.looker = Some(index);
        self.slots[index].link.clone()
    }

    /// Whether a worker that has something to do has ended nothing for a while. One that has not begun
    /// with it waits for a processor, as others would.
    pub(super) fn is_stalled(&self, index: usize, now: Instant) -> bool {
        let slot = &self.slots[index];
        let silent = now.saturating_duration_since(slot.mark);
        // Looking what it has begun takes a line of the cache from it.
        let has_begun = || {
            let begun = slot.link.as_ref().and_then(|link| link.begun());
            begun == self.life.hand(index).map(|hand| hand.call)
        };
        silent >= STALLED && (silent >= STOPPED || has_begun())
    }

    fn is_quick(&self, index: usize, now: Instant) -> bool {
        let slot = &self.slots[index];
        let is_going_on = slot.has_worker() && !slot.is_doomed && !slot.is_used_up();
        let hand = self.life.hand(index);
        let pace = hand.and_then(|hand| self.pace(hand.job.function_number));
        slot.is_light
            && pace.is_some_and(|pace| pace < QUICK_NANOS)
            && is_going_on
            && self.is_wanted(index)
            && !self.is_stalled(index, now)
    }

    /// Whether the worker of a slot that is quick gets something more that takes so long for each
    /// item.
    fn takes_more(&self, index: usize, pace: u32) -> bool {
        let before = self.life.hand(index);
        let Some(before) = before.and_then(|hand| self.pace(hand.job.function_number)) else {
            return false;
        };
        let slot = &self.slots[index];
        let most = (AHEAD_NANOS / pace.max(before)) as usize;
        slot.item_count < most
            && self.life.hand_count(index) < MOST_AHEAD
            && slot.link.as_ref().is_some_and(|link| link.takes_more())
    }
}

/// Whether a worker may have a chunk among others.
fn is_light(job: &Job, piece: &Piece, size: usize) -> bool {
    let size = size.min(piece.range.len());
    job.timeout.is_none()
        && piece.segment.handles.is_none()
        && !piece.is_tried()
        && size <= LIGHT_ITEMS
        && piece.front_bytes(size) <= LIGHT_BYTES
}

impl Core {
    /// Takes back what workers have that have something of this job, and have not begun. Gives the
    /// last call that each of them has begun, where that is known: only that can be running, and
    /// nothing else can be when it has ended.
    pub(super) fn reclaim_all_of(&self, state: &mut State, job: &Arc<Job>) -> Vec<(usize, u32)> {
        let mut begun = Vec::new();
        for slot in state.busy.clone() {
            if state.slots[slot].is_light && state.life.has_of(slot, job) {
                begun.extend(self.reclaim(state, slot).0.map(|call| (slot, call)));
            }
        }
        begun
    }

    /// Takes back what a worker has not begun of what it has. Gives the last call it has begun, and
    /// how many items wait again.
    pub(super) fn reclaim(&self, state: &mut State, index: usize) -> (Option<u32>, usize) {
        let slot = &mut state.slots[index];
        let Some(begun) = slot.link.as_ref().and_then(|link| link.take_back()) else {
            return (None, 0);
        };
        let count = state.life.reclaim(index, begun);
        slot.item_count = slot.item_count.saturating_sub(count);
        if let Some(left) = &mut slot.tasks_left {
            *left += count;
        }
        if state.life.hand(index).is_none() {
            self.has_nothing(state, index, Instant::now());
            // The last one to get something: it did not begin with what it had.
            if state.idle.pop_if(|last| *last == index).is_some() {
                state.idle.insert(0, index);
            }
        }
        (Some(begun), count)
    }

    /// A worker has got something to do: if nobody attends, its keeper is to be woken by what it
    /// does.
    pub(super) fn see_to(&self, link: &Link) {
        if !self.is_attended() {
            link.leave_to_keeper();
        }
    }

    /// Gives workers what waits. What is quick gets no more workers than can compute at once, but those
    /// that have the like already, behind that, as long as they are not stalled; and waits if they have
    /// enough. What is not gets those that have nothing to do.
    pub(super) fn assign(&self, state: &mut State, aftermath: &mut Aftermath) {
        let mut now = None;
        while state.life.has_waiting() {
            let has_idle = state.has_idle();
            let pace = self.has_rings().then(|| state.quick_pace()).flatten();
            let (count, next) = pace.map_or((0, None), |pace| {
                let now = *now.get_or_insert_with(Instant::now);
                state.quick_ones(self.processors, pace, now)
            });
            let is_enough = count >= self.processors || !has_idle;
            let next = match is_enough {
                true => next,
                false => state.idle.pop(),
            };
            match next {
                Some(index) => self.give(state, index, None, aftermath),
                None => return,
            }
        }
    }

    /// Gives a worker a chunk, the next one or this.
    pub(super) fn give(
        &self,
        state: &mut State,
        index: usize,
        chunk: Option<(Arc<Job>, Piece)>,
        aftermath: &mut Aftermath,
    ) {
        let slot = &mut state.slots[index];
        let Some(link) = slot.link.clone() else {
            return;
        };
        let most = slot.tasks_left.unwrap_or(usize::MAX);
        let number = link.next_number();
        let is_first = state.life.hand(index).is_none();
        let hand = match chunk {
            Some((job, piece)) => state.life.hand_out(index, job, piece, number),
            None => match state.life.assign(index, state.target, most, number) {
                Some(hand) => hand,
                None => return,
            },
        };
        let count = hand.piece.range.len();
        slot.item_count += count;
        if let Some(left) = &mut slot.tasks_left {
            *left = left.saturating_sub(count);
        }
        let head = CallHead {
            function: hand.job.function_number,
            number,
            is_timed: hand.job.timeout.is_some(),
            ..CallHead::default()
        };
        let call = hand.piece.call(head);
        // There may be as many void ones in the ring of one that has nothing.
        slot.is_light = is_light(&hand.job, &hand.piece, count) && link.takes_more();
        if slot.is_light {
            link.call_lightly(call);
            if !aftermath.wakes.iter().any(|one| Arc::ptr_eq(one, &link)) {
                aftermath.wakes.push(link);
            }
        } else {
            aftermath.calls.push(Dispatch {
                link,
                slot: index,
                call,
                handles: hand.piece.segment.handles.clone(),
                timeout: hand.job.timeout,
            });
        }
        if is_first {
            self.has_something(state, index);
        }
    }

    /// The worker of a slot has got something to do.
    fn has_something(&self, state: &mut State, index: usize) {
        let slot = &mut state.slots[index];
        let now = Instant::now();
        (slot.since, slot.mark) = (Some(now), now);
        slot.place = state.busy.len();
        state.busy.push(index);
        let attendants = &self.attendants;
        attendants.busy.store(state.busy.len(), Ordering::SeqCst);
        attendants.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// The worker of a slot has nothing to do any more, or is gone.
    pub(super) fn has_nothing(&self, state: &mut State, index: usize, now: Instant) -> Duration {
        let slot = &mut state.slots[index];
        slot.item_count = 0;
        let place = slot.place;
        if state.busy.get(place) == Some(&index) {
            state.busy.swap_remove(place);
            if let Some(&moved) = state.busy.get(place) {
                state.slots[moved].place = place;
            }
            self.attendants
                .busy
                .store(state.busy.len(), Ordering::SeqCst);
        }
        let took = state.slots[index].rest(now);
        if state.is_idle(index) {
            state.rests(index);
        }
        took
    }
}

/// Whether a worker may be running a call that it has, given the last one that each has begun.
pub(super) fn may_run(begun: &[(usize, u32)], slot: usize, call: u32) -> bool {
    let begun = begun.iter().find(|(other, _)| *other == slot);
    begun.is_none_or(|(_, begun)| *begun == call)
}
