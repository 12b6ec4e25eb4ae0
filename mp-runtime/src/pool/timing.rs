//! Limits in time: of each item from its begin to its end, and of a worker that was told to stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::core::{Core, State};
use super::life::Doom;
use crate::link::Link;
use crate::process::{Worker, call_at};

/// Timers are not set closer than this, so that they cannot keep their thread from anything else.
const SHORTEST_TIMER: Duration = Duration::from_millis(1);

/// A worker that was sent a call has so long beyond the time limit to begin with an item of it, from
/// when the last part of it went to the worker; then it is stuck, stopped by a signal say.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(5);
/// A large call, which its worker puts together first, has so much longer for each byte of it: a copy
/// of all of it is several times as fast.
const NANOS_PER_BYTE: u64 = 5;

/// A worker that was told to stop has so long for what the program does at its exit.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

impl Core {
    /// Looks in `after` at how long the slot's item has run, unless somebody looks before.
    pub(super) fn watch_timeout(self: &Arc<Self>, index: usize, after: Duration) {
        let Some(due) = Instant::now().checked_add(after.max(SHORTEST_TIMER)) else {
            return;
        };
        let mut state = self.state();
        // A slot that is not needed any more is not there any more.
        let Some(slot) = state.slots.get_mut(index) else {
            return;
        };
        if slot.timer.is_some_and(|timer| timer <= due) {
            return;
        }
        slot.timer = Some(due);
        drop(state);
        let core = Arc::downgrade(self);
        // The watch runs, since the pool has workers.
        let _ = call_at(due, move || {
            if let Some(core) = core.upgrade() {
                core.check_timeout(index, due);
            }
        });
    }

    fn check_timeout(self: &Arc<Self>, index: usize, due: Instant) {
        let mut state = self.state();
        let State { life, slots, .. } = &mut *state;
        let Some(slot) = slots.get_mut(index).filter(|slot| slot.timer == Some(due)) else {
            return;
        };
        slot.timer = None;
        let (Some(link), Some(hand)) = (&slot.link, life.hand(index)) else {
            return;
        };
        let Some(limit) = hand.job.timeout else {
            return;
        };
        let running = link.running();
        let elapsed =
            running.and_then(|running| Some((hand.place_of(&running)?, running.elapsed?)));
        // It could say that the item has just begun, again and again.
        let elapsed =
            elapsed.map(|(place, elapsed)| (place, elapsed.max(slot.seen_for(hand.number, place))));
        let after = match elapsed {
            Some((place, elapsed)) if elapsed >= limit => {
                let item = hand.number_at(place);
                life.doom(index, Doom::TimedOut { item, limit });
                slot.kill();
                return;
            }
            Some((_, elapsed)) => {
                slot.silent_since = None;
                limit - elapsed
            }
            None => {
                let bytes = hand.piece.segment.byte_count() as u64;
                let allowance = Duration::from_nanos(bytes.saturating_mul(NANOS_PER_BYTE));
                let is_stuck = slot.silent_for() >= BEGIN_TIMEOUT + allowance;
                if is_stuck && hand.left() > 0 {
                    // What it has waits for another worker.
                    slot.kill();
                    return;
                }
                limit.min(BEGIN_TIMEOUT)
            }
        };
        drop(state);
        self.watch_timeout(index, after);
    }

    /// Tells a worker to stop, and sees to it that it does.
    pub(super) fn stop(&self, link: &Link, worker: &Worker) {
        link.stop();
        let kill = worker.killer();
        // Should there be no timer, whoever waits can still terminate.
        let _ = call_at(Instant::now() + STOP_TIMEOUT, kill);
    }
}
