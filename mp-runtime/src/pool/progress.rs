//! Showing how far a job is.
//!
//! What shows it is code of the program, which may write to a terminal that takes nothing. So the
//! threads that deliver only count, and others show what was counted: whoever takes the job's
//! results, as soon as it has them, or the thread for [callbacks](super::callbacks) as long as
//! nobody has come who will take all of them. One at a time shows, without a lock; another one
//! waits for it, so that whoever has a result finds it shown.

use std::fmt;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use super::callbacks::Callbacks;
use crate::os::thread::contained;

/// What there is to show.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "indicatif"),
    allow(dead_code, reason = "without the feature nothing shows it")
)]
pub(super) enum Step {
    /// There will be so many items.
    Length(usize),
    /// So many more are finished.
    Finished(usize),
}

/// What shows it. Its panics are contained, also when it is dropped.
#[derive(Clone)]
pub(super) struct Progress(Option<Arc<Show>>);

type Show = dyn Fn(Step) + Send + Sync + UnwindSafe + RefUnwindSafe;

impl Progress {
    #[cfg_attr(
        not(feature = "indicatif"),
        allow(dead_code, reason = "without the feature nothing shows progress")
    )]
    pub(super) fn new(show: impl Fn(Step) + Send + Sync + 'static) -> Progress {
        // Options, and so pools, are as safe as they are without one.
        let show = AssertUnwindSafe(show);
        Progress(Some(Arc::new(move |step| {
            let AssertUnwindSafe(show) = &show;
            show(step);
        })))
    }

    fn show(&self, step: Step) {
        if let Some(show) = &self.0 {
            contained(|| show(step));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let show = self.0.take();
        contained(|| drop(show));
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

/// The progress of one job.
pub(super) struct Meter {
    progress: Progress,
    callbacks: Arc<Callbacks>,
    state: Mutex<State>,
    /// Notified when somebody has shown something and another one waits for that.
    shown: Condvar,
}

#[derive(Default)]
struct State {
    /// How many items are finished and not shown.
    new: usize,
    /// The thread that shows some.
    showing: Option<ThreadId>,
    waiting: usize,
    /// Somebody takes the results, and shows as it does.
    is_attended: bool,
    /// The thread for callbacks will look.
    is_queued: bool,
}

impl Meter {
    pub(super) fn new(progress: Progress, callbacks: &Arc<Callbacks>) -> Arc<Meter> {
        Arc::new(Meter {
            progress,
            callbacks: Arc::clone(callbacks),
            state: Mutex::default(),
            shown: Condvar::new(),
        })
    }

    /// Shows how many items there will be.
    pub(super) fn expect(&self, items: usize) {
        self.progress.show(Step::Length(items));
    }

    /// So many more items are finished.
    pub(super) fn count(&self, items: usize) {
        self.state().new += items;
    }

    /// From now on its caller shows what it takes.
    pub(super) fn attend(&self) {
        self.state().is_attended = true;
    }

    /// Has what is new shown by the thread for that, unless somebody else will.
    pub(super) fn show_later(self: &Arc<Self>) {
        let mut state = self.state();
        if state.is_attended || state.is_queued || state.new == 0 {
            return;
        }
        state.is_queued = true;
        drop(state);
        let own = Arc::clone(self);
        self.callbacks.call_later(move || {
            own.state().is_queued = false;
            own.show();
        });
    }

    /// Shows what is new; when it returns, everything that was counted before has been shown.
    pub(super) fn show(&self) {
        let own = std::thread::current().id();
        let mut state = self.state();
        while let Some(other) = state.showing {
            if other == own {
                // What shows it has come back to its own job.
                return;
            }
            state.waiting += 1;
            state = self
                .shown
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        let items = std::mem::take(&mut state.new);
        if items == 0 {
            return;
        }
        state.showing = Some(own);
        drop(state);
        self.progress.show(Step::Finished(items));
        let mut state = self.state();
        state.showing = None;
        let has_waiters = state.waiting > 0;
        drop(state);
        if has_waiters {
            self.shown.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
