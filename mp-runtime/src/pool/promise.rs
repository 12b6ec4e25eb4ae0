//! The result of a task: made of what arrives for its job, given to its callbacks, and to whoever
//! asks for it.
//!
//! # States
//!
//! | state | means | next |
//! | --- | --- | --- |
//! | `Gathering` | what has arrived does not decide it | `Held` |
//! | `Decided` | the result is there | `Held` |
//! | `Taken` | somebody has the result | `Held`, for callbacks that were added later |
//! | `Held` | a thread has what is above: it decodes, or calls callbacks | what it made of it |
//!
//! # Rules
//!
//! 1. Whoever moves it to `Held`, the *holder*, has its content to itself until it gives it back. It
//!    alone takes the job's results, decodes them and calls callbacks, and holds no lock meanwhile.
//! 2. A callback is called by the holder that takes it out of the list, so once, and in order, since
//!    there is one holder at a time. It is called before the result is taken.
//! 3. Holders are: `join`, from its beginning to its end; `poll`; and the thread of
//!    [callbacks](super::callbacks), which tries when every result has arrived, or an item has
//!    failed, while callbacks wait. `join` waits for another holder, `poll` has itself woken by
//!    it, and the thread of callbacks leaves the rest to it.
//! 4. Who finds it held has `was_missed` set; who gives it back looks at that under the same lock,
//!    and has the thread of callbacks try again if callbacks are left. So none is forgotten.
//! 5. Code of the program that panics in the hands of a holder is contained, or it gives the content
//!    back as it unwinds.
//!
//! A callback that joins another task either becomes its holder, and calls its callbacks itself, or
//! waits for a holder that has begun. So it waits for nothing that waits for its own thread, unless
//! that is itself in a callback of the first task. One that joins its own task is told so.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};

use super::callbacks::Callbacks;
use super::core::Core;
use super::job::{Arrivals, Arrived, Follower, Job};
use super::slot;
use crate::error::{Error, ErrorKind};
use crate::few::Few;
use crate::os::thread::contained;

/// Makes a result of what arrives.
pub(super) trait Gather<R>: Send {
    fn add(&mut self, arrived: Few<Arrived>);
    /// The result, once what has arrived decides it.
    fn take(&mut self, is_complete: bool) -> Option<Result<R, Error>>;
}

/// How a result is made.
pub(super) enum Gathering<R> {
    /// It is the only one that arrives, read by this.
    One(fn(&Job, Arrived) -> Option<Result<R, Error>>),
    Many(Box<dyn Gather<R>>),
}

impl<R> Gathering<R> {
    /// Adds what has arrived. Gives the result, once that decides it.
    fn add(&mut self, job: &Job, arrivals: Arrivals) -> Option<Result<R, Error>> {
        match self {
            Gathering::One(read) => {
                let mut arrived = arrivals.outcomes.into_iter();
                arrived.find_map(|arrived| read(job, arrived))
            }
            Gathering::Many(gather) => {
                gather.add(arrivals.outcomes);
                gather.take(arrivals.are_last)
            }
        }
    }
}

type Callback<R> = Box<dyn FnOnce(&Result<R, Error>) + Send>;

/// The result of a task.
pub(super) struct Promise<R> {
    state: Mutex<State<R>>,
    /// Notified when it is given back and somebody waits for that.
    returned: Condvar,
    callbacks: Arc<Callbacks>,
}

struct State<R> {
    stage: Stage<R>,
    /// Those that were not called.
    calls: VecDeque<Callback<R>>,
    /// The thread of callbacks will try.
    is_queued: bool,
    /// It was held when something came that callbacks wait for.
    was_missed: bool,
    /// Woken when it is given back.
    waker: Option<Waker>,
    /// How many wait until it is given back.
    waiting: usize,
    /// Itself, once it has callbacks.
    follower: Option<Weak<dyn Follower>>,
}

enum Stage<R> {
    Free(Content<R>),
    Held(ThreadId),
}

enum Content<R> {
    Gathering(Gathering<R>),
    Decided(Result<R, Error>),
    Taken,
}

impl<R> Promise<R> {
    pub(super) fn new(gathering: Gathering<R>, callbacks: &Arc<Callbacks>) -> Arc<Promise<R>> {
        Arc::new(Promise {
            state: Mutex::new(State {
                stage: Stage::Free(Content::Gathering(gathering)),
                calls: VecDeque::new(),
                is_queued: false,
                was_missed: false,
                waker: None,
                waiting: 0,
                follower: None,
            }),
            returned: Condvar::new(),
            callbacks: Arc::clone(callbacks),
        })
    }

    /// Waits for the result, has callbacks called, and takes it.
    pub(super) fn join(&self, core: &Arc<Core>, job: &Arc<Job>) -> Result<R, Error> {
        let mut hold = self.hold_or_wait(job)?;
        if !hold.is_decided() {
            hold.add(job.take());
        }
        while !hold.is_decided() {
            job.require_owner()?;
            hold.add(core.wait_take(job));
        }
        hold.call_all();
        hold.take()
    }

    /// The same without waiting: has the waker woken when it may be there.
    pub(super) fn poll(&self, job: &Arc<Job>, context: &Context<'_>) -> Poll<Result<R, Error>> {
        let Some(mut hold) = self.hold_or_wake(job, context.waker()) else {
            return Poll::Pending;
        };
        if !hold.is_decided() {
            hold.add(job.poll_take(context.waker()));
        }
        if !hold.is_decided() {
            return match job.require_owner() {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            };
        }
        if slot::is_any_thread() && self.has_calls() {
            // A waker that polls at once, on a thread that serves others.
            hold.leave_to_thread(context.waker());
            return Poll::Pending;
        }
        hold.call_all();
        Poll::Ready(hold.take())
    }

    /// Makes this thread the holder; waits while another one is.
    fn hold_or_wait<'p>(&'p self, job: &'p Arc<Job>) -> Result<Hold<'p, R>, Error> {
        let own = thread::current().id();
        let mut state = self.state();
        loop {
            match &state.stage {
                Stage::Free(_) => return Ok(self.hold(job, state, own)),
                Stage::Held(holder) if *holder == own => {
                    let message = "a callback of a task cannot wait for the task itself";
                    return Err(Error::new(ErrorKind::WouldDeadlock, message));
                }
                Stage::Held(_) => {}
            }
            state.waiting += 1;
            state = self
                .returned
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
    }

    /// Makes this thread the holder, or has `waker` woken by the one that is.
    fn hold_or_wake<'p>(&'p self, job: &'p Arc<Job>, waker: &Waker) -> Option<Hold<'p, R>> {
        let waker = waker.clone();
        let mut state = self.state();
        if let Stage::Free(_) = state.stage {
            return Some(self.hold(job, state, thread::current().id()));
        }
        let before = state.waker.replace(waker);
        drop(state);
        // Dropping a waker may run code of the program.
        drop(before);
        None
    }

    fn hold<'p>(
        &'p self,
        job: &'p Arc<Job>,
        mut state: MutexGuard<'_, State<R>>,
        own: ThreadId,
    ) -> Hold<'p, R> {
        let content = match std::mem::replace(&mut state.stage, Stage::Held(own)) {
            Stage::Free(content) => content,
            Stage::Held(_) => Content::Taken,
        };
        Hold {
            promise: self,
            job,
            content,
            left_to_thread: None,
        }
    }

    fn has_calls(&self) -> bool {
        !self.state().calls.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Send + 'static> Promise<R> {
    /// Has `callback` called with the result when it is there.
    pub(super) fn on_done(
        self: &Arc<Self>,
        job: &Arc<Job>,
        callback: impl FnOnce(&Result<R, Error>) + Send + 'static,
    ) {
        let weak = Arc::downgrade(self);
        let follower: Arc<dyn Follower> = Arc::<Self>::clone(self);
        self.callbacks.add();
        let mut state = self.state();
        state.follower = Some(weak);
        state.calls.push_back(Box::new(callback));
        drop(state);
        if job.followed_by(Arc::clone(&follower)) {
            follower.follow(job);
        }
    }

    /// What the thread of callbacks does.
    fn attempt(&self, job: &Arc<Job>) {
        let mut state = self.state();
        state.is_queued = false;
        if let Stage::Held(_) = state.stage {
            state.was_missed = true;
            return;
        }
        let mut hold = self.hold(job, state, thread::current().id());
        if !hold.is_decided() {
            hold.add(job.take());
        }
        if hold.is_decided() {
            hold.call_all();
        }
    }
}

impl<R: Send + 'static> Follower for Promise<R> {
    fn follow(self: Arc<Self>, job: &Arc<Job>) {
        let mut state = self.state();
        if state.calls.is_empty() || state.is_queued {
            return;
        }
        if let Stage::Held(_) = state.stage {
            state.was_missed = true;
            return;
        }
        state.is_queued = true;
        drop(state);
        let callbacks = Arc::clone(&self.callbacks);
        let job = Arc::clone(job);
        callbacks.call_later(move || self.attempt(&job));
    }
}

/// The content in the hands of its holder; given back when this is dropped.
struct Hold<'p, R> {
    promise: &'p Promise<R>,
    job: &'p Arc<Job>,
    content: Content<R>,
    /// The thread of callbacks shall go on with it, and wake this then.
    left_to_thread: Option<Waker>,
}

impl<R> Hold<'_, R> {
    fn is_decided(&self) -> bool {
        !matches!(self.content, Content::Gathering(_))
    }

    /// Adds what has arrived.
    fn add(&mut self, arrivals: Arrivals) {
        if let Content::Gathering(gathering) = &mut self.content {
            let are_last = arrivals.are_last;
            if let Some(result) = gathering.add(self.job, arrivals) {
                self.content = Content::Decided(result);
            } else if are_last {
                self.content = Content::Taken;
            }
        }
    }

    /// Calls the callbacks that wait, of a result that is decided.
    fn call_all(&self) {
        let taken;
        let result = match &self.content {
            Content::Gathering(_) => return,
            Content::Decided(result) => result,
            Content::Taken => {
                taken = Err(was_taken());
                &taken
            }
        };
        loop {
            let next = self.promise.state().calls.pop_front();
            let Some(callback) = next else { return };
            self.promise.callbacks.call(|| callback(result));
        }
    }

    fn take(&mut self) -> Result<R, Error> {
        match std::mem::replace(&mut self.content, Content::Taken) {
            Content::Decided(result) => result,
            Content::Gathering(_) | Content::Taken => Err(was_taken()),
        }
    }

    fn leave_to_thread(mut self, waker: &Waker) {
        self.left_to_thread = Some(waker.clone());
    }
}

impl<R> Drop for Hold<'_, R> {
    fn drop(&mut self) {
        let content = std::mem::replace(&mut self.content, Content::Taken);
        let left_to = self.left_to_thread.take();
        let mut state = self.promise.state();
        state.stage = Stage::Free(content);
        let was_missed = std::mem::take(&mut state.was_missed) || left_to.is_some();
        let follower = match was_missed {
            true => state.follower.clone(),
            false => None,
        };
        let before = std::mem::replace(&mut state.waker, left_to);
        let must_wake = state.waker.is_none();
        let has_waiters = state.waiting > 0;
        drop(state);
        if has_waiters {
            self.promise.returned.notify_all();
        }
        if let Some(follower) = follower.and_then(|follower| follower.upgrade()) {
            follower.follow(self.job);
        }
        // Waking one, or dropping it, may run code of the program.
        contained(|| match before {
            Some(waker) if must_wake => waker.wake(),
            before => drop(before),
        });
    }
}

fn was_taken() -> Error {
    let message = "the result of this task was taken already";
    Error::new(ErrorKind::Closed, message)
}
