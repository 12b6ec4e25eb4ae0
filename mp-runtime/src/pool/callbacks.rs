//! Where code of the program runs that is to be called when something has come: callbacks of tasks,
//! and their progress.
//!
//! The threads that receive from workers serve everybody, so none of it may run there. What is due
//! waits in a queue of the pool, and at most one thread takes it from there, in order:
//!
//! | state | means | next |
//! | --- | --- | --- |
//! | `Idle` | nothing is due | `Draining` by whoever adds something |
//! | `Draining` | a thread takes what is due, or is about to | `Idle` by that thread, when nothing is left |
//!
//! Whoever moves it to `Draining` starts the thread, without the lock. If none can be started, it
//! is tried again later, and what is due waits: the thread that adds may be one that must not. The
//! thread has a stack like any thread of the program, and ends when nothing is left. It belongs to
//! no worker, so a callback may end the pool.
//!
//! The same calls may also be made by somebody who waits for the result ([`Promise`]). So this
//! counts the callbacks that were added and have not returned, for [`Pool::join`], and knows which
//! threads are in one, which cannot wait for that.
//!
//! [`Promise`]: super::promise::Promise
//! [`Pool::join`]: super::Pool::join

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::os::thread;
use crate::process::call_at;

/// How long nothing is done after no thread could be started.
const PAUSE: Duration = Duration::from_millis(50);

type Due = Box<dyn FnOnce() + Send>;

/// What is due, in a pool.
#[derive(Default)]
pub(super) struct Callbacks {
    state: Mutex<State>,
    /// Notified when nothing is left.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    stage: Stage,
    due: VecDeque<Due>,
    /// Callbacks that were added to a task and have not returned.
    unfinished: usize,
    /// How many wait for the end of all of it.
    waiting: usize,
}

#[derive(Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    Draining,
}

impl State {
    fn is_over(&self) -> bool {
        self.unfinished == 0 && self.due.is_empty() && self.stage == Stage::Idle
    }
}

thread_local! {
    /// The addresses of the queues whose calls this thread is in.
    static CALLING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// As long as it lives its thread is known to be in a call, unless its locals are gone already.
struct Calling;

impl Calling {
    fn of(callbacks: &Callbacks) -> Calling {
        let own = std::ptr::from_ref(callbacks).addr();
        let _ = CALLING.try_with(|calling| calling.borrow_mut().push(own));
        Calling
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        let _ = CALLING.try_with(|calling| calling.borrow_mut().pop());
    }
}

impl Callbacks {
    /// Whether this is called by something that is called for this pool.
    pub(super) fn is_calling_here(&self) -> bool {
        let own = std::ptr::from_ref(self).addr();
        let found = CALLING.try_with(|calling| calling.borrow().contains(&own));
        found.unwrap_or(false)
    }

    /// A callback was added to a task.
    pub(super) fn add(&self) {
        self.state().unfinished += 1;
    }

    /// Calls a callback that was added, and contains its panic.
    pub(super) fn call(&self, call: impl FnOnce()) {
        let calling = Calling::of(self);
        thread::contained(call);
        drop(calling);
        let mut state = self.state();
        state.unfinished -= 1;
        self.tell(state);
    }

    /// Has `due` called on the thread for that.
    pub(super) fn call_later(self: &Arc<Self>, due: impl FnOnce() + Send + 'static) {
        let mut state = self.state();
        state.due.push_back(Box::new(due));
        if state.stage == Stage::Draining {
            return;
        }
        state.stage = Stage::Draining;
        drop(state);
        self.start();
    }

    /// Starts the thread that it is `Draining` by.
    fn start(self: &Arc<Self>) {
        let own = Arc::clone(self);
        if thread::spawn_for_program("mp-callbacks", None, move || own.drain()).is_ok() {
            return;
        }
        let own = Arc::clone(self);
        if call_at(Instant::now() + PAUSE, move || own.start()).is_err() {
            // Not even the watch runs, which every process needs: there was none.
            self.drain();
        }
    }

    fn drain(&self) {
        let calling = Calling::of(self);
        let mut state = self.state();
        while let Some(due) = state.due.pop_front() {
            drop(state);
            thread::contained(due);
            state = self.state();
        }
        state.stage = Stage::Idle;
        self.tell(state);
        drop(calling);
    }

    /// Waits until every callback that was added has returned, and nothing else is due. A thread
    /// that [is in one](Callbacks::is_calling_here) would wait for ever.
    pub(super) fn wait_over(&self) {
        let mut state = self.state();
        state.waiting += 1;
        while !state.is_over() {
            state = self
                .ended
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
    }

    fn tell(&self, state: MutexGuard<'_, State>) {
        let has_waiters = state.waiting > 0 && state.is_over();
        drop(state);
        if has_waiters {
            self.ended.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
