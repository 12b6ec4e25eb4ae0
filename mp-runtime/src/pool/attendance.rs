//! Who takes what workers have put into their rings.
//!
//! Each worker has a keeper, the thread of its slot, which sleeps at the worker's ring. Waking it
//! costs the worker a system call, and passing a result on costs another; so a thread that waits
//! for results of its own takes what comes itself, of all workers that have something to do, its own
//! or not: it *attends*.
//!
//! # Rules
//!
//! 1. A worker that has something to do is either attended, or *left* to its keeper
//!    ([`Link::leave_to_keeper`]), which it wakes then.
//! 2. Who gives a worker something to do looks afterwards whether anybody attends, and if not leaves
//!    the worker to its keeper.
//! 3. Who attends counts in `attending` first. Who stops takes itself off the count first, and then,
//!    if it was the last one, looks whether there are workers with something to do, and leaves them
//!    to their keepers. In the one order of all these steps one of the two, who gives and who stops,
//!    sees what the other did, and so rule 1 holds.
//! 4. Who attends looks at the rings for a moment, before it sleeps ([`Spinner`]). If nothing comes it stops
//!    attending, and sleeps: at the ring of the worker that has its item, if it waits for
//!    one, which then wakes it at once; else until somebody delivers to its job.
//! 5. As long as something waits for a worker that is quick, or stands behind something else that it
//!    has, while another one has nothing to do, one keeper is the *looker*: every change (`settle`)
//!    appoints one, that of an idle worker, unless there is one. It looks every 2 ms whether a worker
//!    is stalled (`rebalance`), whoever waits and however, until that has been over for a moment; and if
//!    its worker ends the next change appoints another one.
//!
//! A keeper that finds more than a result or two naps before it looks again: then many results cost
//! one wake-up, and one that comes alone is not kept waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::core::{Aftermath, Core};
use super::job::{Arrivals, Job, Until};
use crate::few::Few;
use crate::link::{Link, Spinner};

/// A keeper that found so many results at once naps ...
const MANY: usize = 3;
/// ... for so long.
const NAP: Duration = Duration::from_micros(60);

/// Who waits for what takes longer naps as well.
const MUCH_TIME: Duration = Duration::from_micros(400);

/// A looker that so often has not been needed is none any more.
const MOST_VAIN_LOOKS: u32 = 8;

/// Who attends, in a pool.
#[derive(Debug, Default)]
pub(super) struct Attendants {
    attending: AtomicUsize,
    /// How many workers have something to do.
    pub(super) busy: AtomicUsize,
    /// Counts up whenever another worker has something to do.
    pub(super) epoch: AtomicU64,
    spinner: Spinner,
    /// How often somebody has [passed](Core::pass).
    passed: AtomicUsize,
}

/// Every so many-eth time, who passes looks.
const EACH_PASSING: usize = 4;

/// A thread that attends, until this is dropped.
pub(super) struct Attendance<'c> {
    core: &'c Arc<Core>,
    /// The workers that have something to do, ...
    links: Few<(usize, Arc<Link>)>,
    /// ... when the count was this.
    epoch: u64,
}

impl Core {
    /// From now on this thread attends to the workers.
    pub(super) fn attend(self: &Arc<Self>) -> Attendance<'_> {
        self.attendants.attending.fetch_add(1, Ordering::SeqCst);
        Attendance {
            core: self,
            links: Few::default(),
            // Not looked yet.
            epoch: u64::MAX,
        }
    }

    /// Whether somebody attends.
    pub(super) fn is_attended(&self) -> bool {
        self.attendants.attending.load(Ordering::SeqCst) > 0
    }

    fn stop_attending(&self) {
        let attendants = &self.attendants;
        let before = attendants.attending.fetch_sub(1, Ordering::SeqCst);
        if before == 1 && attendants.busy.load(Ordering::SeqCst) > 0 {
            let links = self.busy_links();
            links.iter().for_each(|(_, link)| link.leave_to_keeper());
        }
    }

    fn busy_links(&self) -> Few<(usize, Arc<Link>)> {
        let state = self.state();
        let link = |&index: &usize| Some((index, Arc::clone(state.slots[index].link.as_ref()?)));
        state.busy.iter().filter_map(link).collect()
    }

    /// What one does now and then who submits much: takes what has come of what was submitted before,
    /// so that the workers get more of what waits, and no keeper has to wake up for that.
    pub(super) fn attend_in_passing(self: &Arc<Self>) {
        if self.has_rings() && !self.is_attended() {
            self.take_all(&self.busy_links());
        }
    }

    /// The same by one who submits single calls.
    pub(super) fn pass(self: &Arc<Self>) {
        let passed = self.attendants.passed.fetch_add(1, Ordering::Relaxed);
        if passed.is_multiple_of(EACH_PASSING) {
            self.attend_in_passing();
        }
    }

    fn take_all(self: &Arc<Self>, links: &Few<(usize, Arc<Link>)>) -> usize {
        let mut count = 0;
        for (index, link) in links.iter() {
            if let Some((report, turn)) = link.poll() {
                count += self.records(*index, &report, turn);
            }
        }
        count
    }

    /// Takes what has arrived for a job, attending until something has or nothing will any more.
    pub(super) fn wait_take(self: &Arc<Self>, job: &Arc<Job>) -> Arrivals {
        loop {
            if let Some(arrivals) = job.try_take() {
                return arrivals;
            }
            self.wait_until(job, Until::News, None);
        }
    }

    /// As [`wait_take`](Core::wait_take), by one who waits for so many items. While there is much to
    /// do it looks now and then only, and leaves its processor to the workers meanwhile, which have
    /// enough until then.
    pub(super) fn wait_take_many(self: &Arc<Self>, job: &Arc<Job>, items: usize) -> Arrivals {
        let time = job.quick_time(items, self.worker_count());
        if self.has_rings() && time.is_some_and(|time| time > MUCH_TIME) {
            let mut attendance = self.attend();
            attendance.take();
            if !job.is(Until::News) {
                std::thread::sleep(NAP);
                attendance.take();
            }
        }
        self.wait_take(job)
    }

    /// As [`wait_take`](Core::wait_take), by a thread that attends, and does so no longer then.
    pub(super) fn wait_take_on(
        self: &Arc<Self>,
        job: &Arc<Job>,
        mut attendance: Attendance<'_>,
    ) -> Arrivals {
        if attendance.look_for(job, Until::News)
            && let Some(arrivals) = job.try_take()
        {
            return arrivals;
        }
        drop(attendance);
        self.wait_take(job)
    }

    /// Attends until this is so of a job, or `deadline` has come.
    pub(super) fn wait_until(
        self: &Arc<Self>,
        job: &Arc<Job>,
        until: Until,
        deadline: Option<Instant>,
    ) {
        if !self.has_rings() {
            return job.wait(until, deadline);
        }
        if job.is(until) {
            return;
        }
        let is_late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        loop {
            // Also after a sleep, since what is then not attended any more is left to keepers.
            let mut attendance = self.attend();
            if attendance.look_for(job, until) || is_late() {
                return;
            }
            self.rebalance();
            drop(attendance);
            let at = match job.is_mapped {
                true => None,
                false => self.link_with(job),
            };
            let has_slept = at.is_some_and(|link| {
                link.spare_keeper();
                job.sleep_at(&link, until, deadline)
            });
            if !has_slept {
                job.wait(until, deadline);
            }
        }
    }

    /// The way to the worker that has something of a job.
    fn link_with(&self, job: &Arc<Job>) -> Option<Arc<Link>> {
        let state = self.state();
        let mut busy = state.busy.iter().copied();
        let slot = busy.find(|&slot| state.life.has_of(slot, job))?;
        state.slots[slot].link.clone()
    }

    /// Gives workers that have nothing to do what waits for one that is stalled.
    pub(super) fn rebalance(self: &Arc<Self>) {
        if self.attendants.busy.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut state = self.state();
        if !state.needs_look() {
            return;
        }
        let now = Instant::now();
        for slot in state.busy.clone() {
            let is_doomed = state.slots[slot].is_doomed;
            if !is_doomed && state.life.has_behind(slot) && state.is_stalled(slot, now) {
                self.reclaim(&mut state, slot);
            }
        }
        self.settle(state, Aftermath::default());
    }

    /// What a keeper does that found nothing more, after it had found so many results: tells whether
    /// its worker shall wake it, and whether it is to look again soon in any case.
    pub(super) fn keeper_rests(self: &Arc<Self>, index: usize, found: usize) -> (bool, bool) {
        self.rebalance();
        let mut state = self.state();
        let is_busy = state.life.hand_count(index) > 0;
        if state.looker.is_none_or(|looker| looker == index) {
            // The next time may be soon.
            state.vain_looks = match state.needs_look() {
                true => 0,
                false => state.vain_looks.saturating_add(1),
            };
            state.looker = (state.vain_looks < MOST_VAIN_LOOKS).then_some(index);
        }
        let looks = state.looker == Some(index);
        drop(state);
        if is_busy && found >= MANY {
            std::thread::sleep(NAP);
        }
        (is_busy && !self.is_attended(), looks)
    }
}

impl Attendance<'_> {
    /// Takes what comes until this is so of a job; `false` if nothing comes for a while.
    fn look_for(&mut self, job: &Arc<Job>, until: Until) -> bool {
        let core = self.core;
        loop {
            let count = self.take();
            if count > 0 {
                core.attendants.spinner.note_count(count);
            }
            if job.is(until) {
                return true;
            }
            let is_changed = || self.has_news() || job.is(until);
            if !core.attendants.spinner.spin(is_changed) {
                return false;
            }
        }
    }

    /// Takes what is there; tells of how many items it is the end.
    fn take(&mut self) -> usize {
        let epoch = self.core.attendants.epoch.load(Ordering::Acquire);
        if epoch != self.epoch {
            self.epoch = epoch;
            self.links = self.core.busy_links();
            self.links.iter().for_each(|(_, link)| link.spare_keeper());
        }
        self.core.take_all(&self.links)
    }

    fn has_news(&self) -> bool {
        self.links.iter().any(|(_, link)| link.has_records())
            || self.core.attendants.epoch.load(Ordering::Relaxed) != self.epoch
    }
}

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        self.core.stop_attending();
    }
}
