//! Which worker gets what.
//!
//! A worker that has nothing to do gets a chunk, the one first that had something last: it is still
//! warm. When all have something, or as many as there are processors, those whose calls are *light*
//! and quick get more of that kind, when they are through with half of what they have: a fair part of
//! all that waits of one function, of however many jobs, in one call. So a burst of short calls costs
//! a wake-up and not one each, and no more workers than can compute at once. What a worker has and has
//! not begun can be taken back, item by item: when it is cancelled, or when another worker has nothing
//! to do ([`rebalance`](Core::rebalance)).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::core::{Aftermath, Core, Dispatch, State};
use super::job::{Job, QUICK_NANOS};
use super::life::{Doom, Numbers};
use super::segment::Piece;
use crate::few::Few;
use crate::link::{Args as _, CallHead, LIGHT_BYTES, Link, MANY_ITEMS, Table};

/// A worker has no more quick items than take so long together, ...
pub(super) const AHEAD_NANOS: u32 = 200_000;
/// ... and no more chunks of them.
const MOST_AHEAD: usize = 256;
/// A worker that has quick things to do, and has ended none for so long, gets no more of them.
const STALLED: Duration = Duration::from_millis(5);
/// And after so long also if it has not begun: it is stopped, or lies.
const STOPPED: Duration = STALLED.saturating_mul(20);
/// Of few items that wait a worker gets no less than take so long together.
const FEW_NANOS: u32 = 10_000;
/// A light call has no more items, ...
pub(super) const LIGHT_ITEMS: usize = 1024;
/// ... nor one whose results somebody waits for one by one.
const WANTED_ITEMS: usize = MANY_ITEMS as usize;

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
        let size = if job.has_own_chunks() { size } else { 1 };
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
        self.has_idle()
            && (self.life.has_waiting() || self.busy.iter().any(|&slot| self.life.has_behind(slot)))
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

    /// Whether a worker that has something to do has ended nothing for a while, or has not come to the end
    /// of what should take less. One that has not begun
    /// with it waits for a processor, as others would.
    pub(super) fn is_stalled(&self, index: usize, now: Instant) -> bool {
        let slot = &self.slots[index];
        let silent = now.saturating_duration_since(slot.mark);
        // Looking what it has begun takes a line of the cache from it.
        let has_begun = || {
            let begun = slot.link.as_ref().and_then(|link| link.begun());
            let hand = self.life.hand(index);
            begun.is_none_or(|begun| hand.is_some_and(|hand| hand.has_begun(begun)))
        };
        // What a worker is given at once takes less, but for what seemed to be quick and is not.
        let in_front = now.saturating_duration_since(slot.front);
        in_front >= STALLED && self.life.is_divisible(index)
            || silent >= STALLED && (silent >= STOPPED || has_begun())
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
        // When it is through with half of it, so that it gets much at once.
        slot.item_count <= most_ahead(pace.max(before)) / 2
            && self.life.hand_count(index) < MOST_AHEAD
            && slot.link.as_ref().is_some_and(|link| link.takes_more())
    }
}

/// How many quick items a worker has at most that take so long each.
fn most_ahead(pace: u32) -> usize {
    (AHEAD_NANOS / pace.max(1)) as usize
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
    /// last item that each of them has begun, where that is known: only that can be running, and
    /// nothing else can be when it has ended.
    pub(super) fn reclaim_all_of(&self, state: &mut State, job: &Arc<Job>) -> Vec<(usize, u32)> {
        let mut begun = Vec::new();
        for slot in state.busy.clone() {
            if state.slots[slot].is_light && state.life.has_of(slot, job) {
                begun.extend(self.reclaim(state, slot).0.map(|item| (slot, item)));
            }
        }
        begun
    }

    /// Takes back what a worker has not begun of what it has. Gives the last item it has begun, and
    /// how many items wait again.
    pub(super) fn reclaim(&self, state: &mut State, index: usize) -> (Option<u32>, usize) {
        let slot = &mut state.slots[index];
        let Some(link) = &slot.link else {
            return (None, 0);
        };
        let Some(begun) = link.take_back() else {
            if self.has_rings() {
                let reason = "what it says that it has begun makes no sense";
                state.life.doom(index, Doom::Broken(reason.into()));
                slot.kill();
            }
            return (None, 0);
        };
        let count = state.life.reclaim(index, begun);
        slot.item_count = slot.item_count.saturating_sub(count);
        if let Some(left) = &mut slot.tasks_left {
            *left += count;
        }
        if state.life.hand(index).is_none() {
            self.has_nothing(state, index, Instant::now());
            // The last one to get something: it did not go on with what it had.
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
            let Some(index) = next else { return };
            // Even one that has nothing may have no room yet, behind what was taken back from it.
            let has_room = |link: &Arc<Link>| link.takes_more();
            let has_room = state.slots[index].link.as_ref().is_some_and(has_room);
            let mut chunks = match pace {
                Some(pace) if has_room => self.take_quick(state, index, pace),
                _ => Chunks::default(),
            };
            if chunks.is_empty() {
                let most = state.slots[index].tasks_left.unwrap_or(usize::MAX);
                chunks.extend(state.life.next(state.target, most));
            }
            self.give(state, index, chunks, aftermath);
        }
    }

    /// Takes quick items for a worker that take so long each: a fair part of what waits, of one
    /// function, as much as goes into a light call. Nothing of a job that has its own chunks.
    fn take_quick(&self, state: &mut State, index: usize, pace: u32) -> Chunks {
        let slot = &state.slots[index];
        let waiting = state.life.waiting_count();
        let workers = state.target.clamp(1, self.processors);
        let few = waiting.div_ceil(workers).min((FEW_NANOS / pace) as usize);
        let mut left = (waiting / (2 * workers))
            .max(few)
            .min(most_ahead(pace).saturating_sub(slot.item_count))
            .min(slot.tasks_left.unwrap_or(usize::MAX))
            .clamp(1, LIGHT_ITEMS);
        let mut chunks_left = MOST_AHEAD
            .saturating_sub(state.life.hand_count(index))
            .max(1);
        let mut bytes_left = LIGHT_BYTES;
        let mut function = None;
        let mut chunks = Chunks::default();
        while left > 0
            && chunks_left > 0
            && let Some((job, piece, _)) = state.life.next_up(state.target)
            && !job.has_own_chunks()
            && *function.get_or_insert(job.function_number) == job.function_number
            && is_light(job, piece, 1)
            && piece.front_bytes(1) <= bytes_left
        {
            if job.wants_each() {
                left = left.min(WANTED_ITEMS);
            }
            let Some((job, piece)) = state.life.take(left, bytes_left) else {
                break;
            };
            chunks_left -= 1;
            left -= piece.range.len();
            bytes_left -= piece.front_bytes(piece.range.len());
            chunks.push((job, piece));
        }
        chunks
    }

    /// Gives a worker these chunks as one call: one, or several light ones of the same function.
    pub(super) fn give(
        &self,
        state: &mut State,
        index: usize,
        chunks: Chunks,
        aftermath: &mut Aftermath,
    ) {
        let slot = &mut state.slots[index];
        let (Some(link), Some((job, piece))) = (slot.link.clone(), chunks.first()) else {
            return;
        };
        let count = chunks.iter().map(|(_, piece)| piece.range.len()).sum();
        slot.item_count += count;
        if let Some(left) = &mut slot.tasks_left {
            *left = left.saturating_sub(count);
        }
        // There may be as many void ones in the ring of one that has nothing.
        slot.is_light = is_light(job, piece, piece.range.len()) && link.takes_more();
        let is_divisible = slot.is_light && !job.has_own_chunks();
        let mut number = link.next_number(count);
        let head = CallHead {
            function: job.function_number,
            number,
            count: count as u32,
            is_timed: job.timeout.is_some(),
            is_divisible,
            ..CallHead::default()
        };
        if slot.is_light {
            state.packer.call(&link, head, &chunks);
            if !aftermath.wakes.iter().any(|one| Arc::ptr_eq(one, &link)) {
                aftermath.wakes.push(link);
            }
        } else {
            debug_assert!(chunks.only().is_some(), "chunks that are lost");
            aftermath.calls.push(Dispatch {
                link,
                slot: index,
                call: piece.call(head),
                handles: piece.segment.handles.clone(),
                timeout: job.timeout,
            });
        }
        if state.life.hand(index).is_none() {
            self.has_something(state, index);
        }
        for (job, piece) in chunks {
            let first = number;
            number = number.wrapping_add(piece.range.len() as u32);
            state.life.hand_out(index, job, piece, first, is_divisible);
        }
    }

    /// The worker of a slot has got something to do.
    fn has_something(&self, state: &mut State, index: usize) {
        let slot = &mut state.slots[index];
        let now = Instant::now();
        (slot.since, slot.mark, slot.front) = (Some(now), now, now);
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

/// Whether a worker may be running one of these items that it has, given the last one that each has
/// begun.
pub(super) fn may_run(begun: &[(usize, u32)], slot: usize, items: Numbers) -> bool {
    let begun = begun.iter().find(|(other, _)| *other == slot);
    begun.is_none_or(|(_, begun)| items.place_of(*begun).is_some())
}

/// What is given to a worker at once.
pub(super) type Chunks = Few<(Arc<Job>, Piece)>;

/// Puts chunks together to one call.
#[derive(Default)]
pub(super) struct Packer {
    args: Vec<u8>,
    ends: Vec<[u8; 4]>,
}

impl Packer {
    /// Sends a light call of these.
    fn call(&mut self, link: &Link, head: CallHead, chunks: &Chunks) {
        if let Some((_, piece)) = chunks.only() {
            let (segment, items) = (&piece.segment, piece.range.clone());
            return link.call_lightly(head, segment.table(items.clone()), segment.bytes(items));
        }
        self.args.clear();
        self.ends.clear();
        let mut is_even = true;
        let mut even = None;
        for args in chunks.iter().flat_map(|(_, piece)| piece.args()) {
            is_even &= *even.get_or_insert(args.len()) == args.len();
            self.args.extend_from_slice(args);
            self.ends.push((self.args.len() as u32).to_le_bytes());
        }
        let table = match is_even {
            true => Table::Even(even.unwrap_or(0) as u32),
            false => Table::Ends(self.ends.as_flattened(), 0),
        };
        link.call_lightly(head, table, &self.args);
    }
}
