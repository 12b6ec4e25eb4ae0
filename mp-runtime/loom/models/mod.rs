//! The models. Each is small: two or three threads, one or two operations each.

mod mutex;
mod rwlock;
mod semaphore;
mod condvar;
mod event;
mod once;
mod barrier;
mod ring;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use loom::cell::UnsafeCell;
use loom::model::Builder;

use crate::link;
use crate::os::clock;
use crate::os::futex::{self, Sleep};
use crate::os::identity;
use crate::sync::atomic;

/// A model and its name.
pub(crate) type Model = (&'static str, fn());

/// The models of a file.
pub(crate) type Models = &'static [Model];

macro_rules! models {
    ($($name:ident)*) => {
        pub(crate) const MODELS: crate::models::Models = &[$((stringify!($name), $name)),*];
    };
}
pub(crate) use models;

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Model> {
    let files = [
        mutex::MODELS,
        rwlock::MODELS,
        semaphore::MODELS,
        condvar::MODELS,
        event::MODELS,
        once::MODELS,
        barrier::MODELS,
        ring::MODELS,
        link::models::MODELS,
    ];
    files.into_iter().flatten()
}

/// Those that fail today: run with `--ignored`.
pub(crate) const FAILING: &[&str] = &[];

/// Through how many orders of their steps the models have been.
pub(crate) static ORDER_COUNT: AtomicU64 = AtomicU64::new(0);

/// As many steps as a thread wants.
pub(crate) const FOREVER: u32 = u32::MAX;

/// Runs a model in which what ends a sleep is this.
pub(crate) fn check(sleep: Sleep, preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    futex::set_sleep(sleep);
    clock::set_pace(0);
    explore(preemptions, model);
}

fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(move || {
        ORDER_COUNT.fetch_add(1, Ordering::Relaxed);
        atomic::begin();
        identity::begin();
        model();
    });
}

/// Runs a model once for each step at which its victim can die, until it is the end of its life
/// that it comes to first. The model tells whether it died.
fn check_deaths(preemptions: usize, model: impl Fn(u32) -> bool + Send + Sync + 'static) {
    let model = Arc::new(model);
    let mut steps = 0;
    while check_death(preemptions, steps, &model) {
        steps += 1;
    }
}

/// As `check_deaths`, up to this step: of a victim that may wait for ever.
fn check_deaths_until(
    last_step: u32,
    preemptions: usize,
    model: impl Fn(u32) -> bool + Send + Sync + 'static,
) {
    let model = Arc::new(model);
    for steps in 0..=last_step {
        check_death(preemptions, steps, &model);
    }
}

/// Runs a model whose victim dies before the step of this number. Tells whether it ever did.
fn check_death(
    preemptions: usize,
    steps: u32,
    model: &Arc<impl Fn(u32) -> bool + Send + Sync + 'static>,
) -> bool {
    let has_died = Arc::new(AtomicBool::new(false));
    let (model, result) = (Arc::clone(model), Arc::clone(&has_died));
    check(Sleep::Slice, preemptions, move || {
        if model(steps) {
            result.store(true, Ordering::Relaxed);
        }
    });
    has_died.load(Ordering::Relaxed)
}

/// What a lock guards: equal halves, except while somebody changes them.
struct Pair(UnsafeCell<u64>, UnsafeCell<u64>);

impl Pair {
    fn new() -> Pair {
        Pair(UnsafeCell::new(0), UnsafeCell::new(0))
    }

    fn add(&self) {
        // SAFETY: loom reports it if somebody else has the cell.
        self.0.with_mut(|half| unsafe { *half += 1 });
        // Here its thread may die.
        identity::step();
        // SAFETY: as above.
        self.1.with_mut(|half| unsafe { *half += 1 });
    }

    fn halves(&self) -> (u64, u64) {
        // SAFETY: loom reports it if somebody writes to the cell.
        let first = self.0.with(|half| unsafe { *half });
        // SAFETY: as above.
        (first, self.1.with(|half| unsafe { *half }))
    }

    fn mend(&self) {
        // SAFETY: loom reports it if somebody else has the cell.
        self.0.with_mut(|half| unsafe { *half = 100 });
        // SAFETY: as above.
        self.1.with_mut(|half| unsafe { *half = 100 });
    }
}

/// What threads of a model share.
struct Guarded<L> {
    lock: L,
    pair: Pair,
}

// SAFETY: loom runs all threads of a model on one, and reports what is not guarded.
unsafe impl<L> Send for Guarded<L> {}
// SAFETY: as above.
unsafe impl<L> Sync for Guarded<L> {}

fn guarded<L>(lock: L) -> Arc<Guarded<L>> {
    let pair = Pair::new();
    Arc::new(Guarded { lock, pair })
}
