//! Names of threads, each of which is a process of its own, and how they die.
//!
//! A thread that is to die does so before one of its accesses, by unwinding. What runs during that
//! changes nothing any more: the dead do nothing. That it is dead, others learn with all that it
//! did before, as from the kernel.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use loom::sync::atomic::{AtomicBool, Ordering};

const ID_SHIFT: u32 = 10;
/// Ids are below this.
const LIMIT: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadName(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessName(u64);

/// What a thread dies with.
struct Death;

loom::lazy_static! {
    static ref IS_DEAD: [AtomicBool; LIMIT] = Default::default();
}

loom::thread_local! {
    static OWN_ID: Cell<u64> = Cell::new(0);
    /// How many accesses this thread has left.
    static STEPS_LEFT: Cell<u32> = Cell::new(u32::MAX);
    static OWN_DEATH: Cell<bool> = Cell::new(false);
}

/// Everybody is alive: called first in each model.
pub(crate) fn begin() {
    for is_dead in IS_DEAD.iter() {
        is_dead.store(false, Ordering::Relaxed);
    }
}

/// Runs `life` as the thread with this id, which dies before the access of this number. Tells what
/// came of it, or that it died.
pub(crate) fn live<R>(id: u64, steps: u32, life: impl FnOnce() -> R) -> Option<R> {
    OWN_ID.with(|own| own.set(id));
    STEPS_LEFT.with(|left| left.set(steps));
    match catch_unwind(AssertUnwindSafe(life)) {
        Ok(result) => Some(result),
        Err(reason) if reason.is::<Death>() => {
            IS_DEAD[id as usize].store(true, Ordering::Release);
            None
        }
        Err(reason) => resume_unwind(reason),
    }
}

/// Called before each access: perhaps the thread dies.
pub(crate) fn step() {
    let left = STEPS_LEFT.with(Cell::get);
    if left == 0 && !is_dead() {
        die();
    }
    STEPS_LEFT.with(|steps| steps.set(left.saturating_sub(u32::from(left != u32::MAX))));
}

/// Ends the thread that calls.
pub(crate) fn die() -> ! {
    OWN_DEATH.with(|death| death.set(true));
    resume_unwind(Box::new(Death));
}

/// Whether the thread that calls is.
pub(crate) fn is_dead() -> bool {
    OWN_DEATH.with(Cell::get)
}

fn is_alive(name: u64) -> bool {
    let id = (name >> ID_SHIFT) as usize;
    (1..LIMIT).contains(&id) && !IS_DEAD[id].load(Ordering::Acquire)
}

fn own_name() -> u64 {
    OWN_ID.with(Cell::get) << ID_SHIFT
}

pub(crate) fn process_id() -> u32 {
    OWN_ID.with(Cell::get) as u32
}

impl ThreadName {
    pub(crate) const NOBODY: ThreadName = ThreadName(0);

    pub(crate) fn current() -> ThreadName {
        ThreadName(own_name())
    }

    pub(crate) fn of_word(word: u64) -> ThreadName {
        ThreadName(word >> ID_SHIFT << ID_SHIFT)
    }

    pub(crate) fn word(self) -> u64 {
        self.0
    }

    pub(crate) fn is_process_alive(self, _process_id: u32) -> bool {
        self.is_alive()
    }

    pub(crate) fn is_alive(self) -> bool {
        is_alive(self.0)
    }
}

impl ProcessName {
    pub(crate) fn current() -> ProcessName {
        ProcessName(own_name())
    }

    pub(crate) fn of_word(word: u64) -> ProcessName {
        ProcessName(word >> ID_SHIFT << ID_SHIFT)
    }

    pub(crate) fn word(self) -> u64 {
        self.0
    }

    pub(crate) fn id(self) -> u32 {
        (self.0 >> ID_SHIFT) as u32
    }

    pub(crate) fn is_alive(self) -> bool {
        is_alive(self.0)
    }
}
