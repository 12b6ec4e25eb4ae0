//! Limits in time: of each item from its begin to its end, and of a worker that was told to stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::core::Core;
use super::life::Doom;
use crate::link::Link;
use crate::process::{Worker, call_at};

/// Timers are not set closer than this, so that they cannot keep their thread from anything else.
const SHORTEST_TIMER: Duration = Duration::from_millis(1);

/// A worker that was told to stop has so long for what the program does at its exit.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

impl Core {
    /// Looks in `after` at how long the slot's item has run, unless somebody looks before.
    pub(super) fn watch_timeout(self: &Arc<Self>, index: usize, after: Duration) {
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
        // The watch runs, since the pool has workers.
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
        let (Some(worker), Some(link)) = (slot.worker.clone(), slot.link.clone()) else {
            return;
        };
        let Some((chunk, limit)) = state
            .life
            .hand(index)
            .and_then(|hand| Some((hand.chunk, hand.job.timeout?)))
        else {
            return;
        };
        let running = link.running().filter(|running| running.chunk == chunk);
        match running {
            Some(running) if running.elapsed >= limit => {
                let item = running.item;
                state.life.doom(index, Doom::TimedOut { item, limit });
                worker.kill();
            }
            running => {
                let after = running.map_or(limit, |running| limit - running.elapsed);
                drop(state);
                self.watch_timeout(index, after);
            }
        }
    }

    /// Tells a worker to stop, and sees to it that it does.
    pub(super) fn stop(&self, link: &Link, worker: &Worker) {
        link.stop();
        let kill = worker.killer();
        // Should there be no timer, whoever waits can still terminate.
        let _ = call_at(Instant::now() + STOP_TIMEOUT, kill);
    }
}
