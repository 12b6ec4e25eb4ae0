//! A point at which threads and processes wait for each other.
//!
//! # Layout
//!
//! ```text
//! state    63                            32 31                             0
//!         ┌────────────────────────────────┬────────────────────────────────┐
//!         │ bad: the last generation that  │ generation: the one that       │
//!         │ did not end with everybody     │ gathers now                    │
//!         └────────────────────────────────┴────────────────────────────────┘
//! cause    why it was broken: kind in the two high bits, process id below
//! parties  how many wait for each other
//! lock     a `RawMutex`: its owner comes to wait, or resets
//! count    how many of this generation have come
//! tables   two tables of process names: who has come in this generation, and who was in the one
//!          before; they change places with each generation
//! ```
//!
//! # Rules
//!
//! 1. `count` and the tables belong to the owner of the lock.
//! 2. The barrier is broken if `bad` is right before `generation`.
//! 3. `state` goes from one value to the next by compare-and-swap:
//!    - everybody has come: the next generation. The owner of the lock has emptied the table that
//!      becomes the next generation's, and `count`, before;
//!    - broken: this generation is bad, the next one begins. Anybody may do that. Nobody comes to a
//!      generation of a broken barrier;
//!    - reset: this generation is bad, the one after the next begins. The owner of the lock has
//!      emptied both tables and `count` before.
//! 4. Who waits sleeps on the generation it came to. When that has passed, its wait has ended: well,
//!    if `bad` is older. (If `bad` is younger, its own generation may have ended well; it is told
//!    that the barrier was broken all the same, as in Python.)
//! 5. Who waits for longer than a slice of at most 50 ms looks, as the owner of the lock, who is
//!    dead. If the lock has an owner, it looks after its next slice: somebody else looks, or comes.
//!    The barrier is broken by a dead process that waits. It is also broken if a process of the last
//!    generation is dead that is not marked as gone, while one of that generation lives: those who
//!    wait would wait for the dead. (Not if as many have newly come as are dead or gone, or if none
//!    of it lives: then the parties are others now.)
//! 6. The time of who comes is for the others. The lock, which is had for microseconds, is waited for
//!    for at least 100 ms. If time ends there all the same, since the owner was stopped for
//!    instance, the barrier is broken, as by any timeout.
//! 7. A process that exits in order, or lets go of the memory that the barrier lies in, is no party
//!    any more: before that it marks its name in the last generation as gone, as the owner of the
//!    lock. Who is gone is waited for by nobody, unless somebody takes its place. The region that
//!    the barrier lies in calls for that, since a process first came to it (`shm/region.rs`).
//!
//! # Ordering
//!
//! SYNC h: who comes does so with the lock; the last one stores the state with `Release`, and the
//! others see it with `Acquire`. So what each did before it came happens before what anybody does
//! after.
//!
//! # Death
//!
//! | it dies | the others find | and |
//! | --- | --- | --- |
//! | while it waits | its name among those who came | the barrier is broken |
//! | killed after a generation it was in, before it comes to the next | its name in the last generation | the barrier is broken |
//! | with the lock, in any call | a lock whose owner died | the barrier is broken, since `count` and the tables may be half changed |
//! | after it stored the state, before it woke the others | the state, at the latest after a slice | go on, or are told |
//! | before it ever came | nothing | wait, until their time is over: nobody knows of it |
//!
//! A process that exits in order while a thread of it waits is as dead as one that was killed. So is
//! one that cannot mark itself as gone, since the lock is not had in time, or since it ends by
//! `_exit` or an abort.
//!
//! Any bits at all in the words may lead to an error or a wait, never to a panic.

use std::fmt;
use std::time::Duration;

use super::atomic::{AtomicU32, AtomicU64, Ordering};
use super::bounds::SLOT_COUNT;
use super::patience::{Patience, Slices};
use super::poison::PoisonCause;
use super::raw_mutex::{RawMutex, Refusal};
use crate::error::{Error, ErrorKind};
use crate::os::futex;
use crate::os::identity::ProcessName;
use crate::shm::{Region, Shareable};

/// How many parties there can be.
const LIMIT: u32 = SLOT_COUNT as u32;

/// The flag of a name: its process was in the last generation, and left the barrier in order.
const GONE: u64 = 1;

/// How long somebody waits for the lock, however little time it has for the others: longer than the
/// kernel lets an owner wait for a processor.
const LOCK_PATIENCE: Duration = Duration::from_millis(100);

/// How far `bad` may lie behind, so that the two can be compared although they wrap around.
const FARTHEST: u32 = 1 << 30;

/// A point at which a number of threads and processes wait for each other, again and again. At
/// most 64. 1064 bytes.
///
/// A party that is killed breaks it; one that exits in order is no party any more. In full: a
/// process that dies breaks the barrier, for those who wait and those who come, if it waited, or if
/// it was in the last generation and another process of that generation lives: otherwise the others
/// would wait for it for ever. A process that was in the last generation and then exits, or drops
/// its last handle of the memory, may be replaced by another at any time. A process that dies before it
/// has ever come is unknown to the barrier; [`wait_timeout`](Barrier::wait_timeout) is for that. A
/// timeout breaks it too, as does [`abort`](Barrier::abort). [`reset`](Barrier::reset) makes it whole.
///
/// ```
/// use mp::sync::Barrier;
///
/// let barrier = Barrier::new(3);
/// std::thread::scope(|scope| {
///     for _ in 0..3 {
///         scope.spawn(|| {
///             println!("this comes three times before");
///             if barrier.wait().unwrap().is_leader() {
///                 println!("this comes once");
///             }
///         });
///     }
/// });
/// ```
#[repr(C)]
pub struct Barrier {
    state: AtomicU64,
    cause: AtomicU32,
    parties: AtomicU32,
    lock: RawMutex,
    count: AtomicU32,
    tables: [[AtomicU64; SLOT_COUNT]; 2],
}

/// How a wait at a [`Barrier`] ended.
///
/// ```
/// # fn main() -> Result<(), mp::Error> {
/// let result: mp::sync::BarrierWaitResult = mp::sync::Barrier::new(1).wait()?;
/// assert!(result.is_leader());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// Whether this is the one of its generation that leads: the last that came.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let barrier = mp::sync::Barrier::new(1);
    /// assert!(barrier.wait()?.is_leader());
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_leader(&self) -> bool {
        self.0
    }
}

/// Why a barrier was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Reset,
    Died(u32),
    TimedOut,
    Aborted,
}

/// What `state` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    bad: u32,
    generation: u32,
}

impl Barrier {
    /// A barrier for this many parties, of 1 to 64; with another number each
    /// [`wait`](Barrier::wait) is an error.
    ///
    /// ```
    /// # use mp::{ErrorKind, sync::Barrier};
    /// static START: Barrier = Barrier::new(1);
    /// assert!(START.wait().is_ok());
    /// assert_eq!(Barrier::new(0).wait().unwrap_err().kind(), ErrorKind::Unsupported);
    /// ```
    pub const fn new(parties: usize) -> Barrier {
        let parties = if parties > LIMIT as usize {
            LIMIT + 1
        } else {
            parties as u32
        };
        Barrier {
            state: AtomicU64::new(
                State {
                    bad: 0,
                    generation: 2,
                }
                .word(),
            ),
            cause: AtomicU32::new(0),
            parties: AtomicU32::new(parties),
            lock: RawMutex::new(),
            count: AtomicU32::new(0),
            tables: [const { [const { AtomicU64::new(0) }; SLOT_COUNT] }; 2],
        }
    }

    /// Waits until all parties have come.
    ///
    /// The last party wakes the others; so do [`abort`](Barrier::abort), [`reset`](Barrier::reset), a
    /// timeout and the death of a party.
    ///
    /// ```
    /// # use mp::sync::Barrier;
    /// # fn main() -> Result<(), mp::Error> {
    /// let barrier = Barrier::new(2);
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| barrier.wait());
    ///     barrier.wait().map(drop)
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Poisoned`] if the barrier is broken, or is broken or reset meanwhile; if that
    /// is because of a dead process, with its id. [`ErrorKind::Unsupported`] if the barrier is for no
    /// party, or for more than 64. [`ErrorKind::WouldDeadlock`] in the handler of a signal that
    /// interrupted a call of this thread on this barrier.
    pub fn wait(&self) -> Result<BarrierWaitResult, Error> {
        self.wait_for(Patience::Forever)
    }

    /// As [`wait`](Barrier::wait), at most for `timeout` on the monotonic clock; when it is over, the
    /// barrier is broken.
    ///
    /// ```
    /// # use mp::{ErrorKind, sync::Barrier};
    /// # use std::time::Duration;
    /// let barrier = Barrier::new(2);
    /// let late = barrier.wait_timeout(Duration::from_millis(5));
    /// assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
    /// assert!(barrier.is_broken());
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TimedOut`] if not everybody came in time; otherwise as [`wait`](Barrier::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierWaitResult, Error> {
        self.wait_for(Patience::lasting(timeout))
    }

    /// Breaks it: who waits, and who comes, gets an error.
    ///
    /// ```
    /// # use mp::sync::Barrier;
    /// let barrier = Barrier::new(2);
    /// barrier.abort();
    /// assert!(barrier.wait().is_err());
    /// ```
    pub fn abort(&self) {
        loop {
            let state = self.state();
            if state.is_broken() || self.break_it(state, Cause::Aborted) {
                return;
            }
        }
    }

    /// Makes it whole: nobody has come, and it is not broken. Who waits gets an error.
    ///
    /// ```
    /// # use mp::sync::Barrier;
    /// # fn main() -> Result<(), mp::Error> {
    /// let barrier = Barrier::new(1);
    /// barrier.abort();
    /// barrier.reset()?;
    /// assert!(barrier.wait().is_ok());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldDeadlock`] in the handler of a signal that interrupted a call of this
    /// thread on this barrier.
    pub fn reset(&self) -> Result<(), Error> {
        if self.lock.acquire(Patience::Forever, || ()).is_err() {
            return Err(interrupted());
        }
        self.lock.clear_poison();
        self.count.store(0, Ordering::Relaxed);
        self.tables.iter().for_each(empty);
        loop {
            let state = self.state();
            if self.change(state, state.reset(), Cause::Reset) {
                break;
            }
        }
        self.lock.release();
        futex::wake_low(&self.state, u32::MAX);
        Ok(())
    }

    /// Whether it is broken.
    ///
    /// ```
    /// assert!(!mp::sync::Barrier::new(2).is_broken());
    /// ```
    pub fn is_broken(&self) -> bool {
        self.state().is_broken() || self.lock.poison().is_some()
    }

    fn wait_for(&self, patience: Patience) -> Result<BarrierWaitResult, Error> {
        let parties = self.parties.load(Ordering::Relaxed);
        if parties == 0 || parties > LIMIT {
            return Err(unsupported(parties));
        }
        if let Err(refusal) = self.lock.acquire(patience.at_least(LOCK_PATIENCE), || ()) {
            return Err(self.refused(refusal));
        }
        let come = self.come(parties);
        self.lock.release();
        match come? {
            Come::Last => {
                futex::wake_low(&self.state, u32::MAX);
                Ok(BarrierWaitResult(true))
            }
            Come::Waits(generation) => {
                self.wait_for_others(generation, patience)?;
                Ok(BarrierWaitResult(false))
            }
        }
    }

    /// The error of who did not get the lock. Patience that ended there breaks the barrier too.
    fn refused(&self, refusal: Refusal) -> Error {
        if refusal == Refusal::WouldDeadlock {
            return interrupted();
        }
        loop {
            let state = self.state();
            if state.is_broken() {
                return self.broken();
            }
            if self.break_it(state, Cause::TimedOut) {
                return timed_out();
            }
        }
    }

    /// Comes to the generation that gathers now, as the owner of the lock.
    fn come(&self, parties: u32) -> Result<Come, Error> {
        self.break_after_death_in_here();
        let state = self.state();
        if state.is_broken() {
            return Err(self.broken());
        }
        let count = self.count.load(Ordering::Relaxed);
        let [table, next_table] = self.tables(state.generation);
        let me = ProcessName::current().word();
        // Who was in the last generation has arranged its farewell already.
        if !next_table
            .iter()
            .any(|slot| slot.load(Ordering::Relaxed) == me)
        {
            self.arrange_farewell();
        }
        let slot = &table[count as usize % SLOT_COUNT];
        slot.store(me, Ordering::Relaxed);
        if count + 1 < parties {
            self.count.store(count + 1, Ordering::Relaxed);
            return Ok(Come::Waits(state.generation));
        }
        self.count.store(0, Ordering::Relaxed);
        empty(next_table);
        if self.exchange(state, state.completed()) {
            Ok(Come::Last)
        } else {
            Err(self.broken())
        }
    }

    /// Rule 7: has this process marked as gone before it is without the barrier. In memory of its own it
    /// is alone.
    fn arrange_farewell(&self) {
        let address = std::ptr::from_ref(self).addr();
        if let Some((region, offset)) = Region::holding(address, size_of::<Barrier>()) {
            region.before_leaving(offset, Barrier::say_farewell);
        }
    }

    fn say_farewell(region: &Region, offset: usize) {
        if let Some(place) = region.at(offset, size_of::<Barrier>(), align_of::<Barrier>()) {
            // SAFETY: it is in bounds and aligned, as was just checked; the region is mapped for as
            // long as it is borrowed. A barrier was here when this was arranged; it is changed through
            // atomics alone, of which any bits are values.
            unsafe { place.cast::<Barrier>().as_ref() }.go();
        }
    }

    /// Marks this process as gone in the table of the last generation. If the lock is not had in
    /// time, it will be taken for one that was killed.
    fn go(&self) {
        if self
            .lock
            .acquire(Patience::lasting(LOCK_PATIENCE), || ())
            .is_err()
        {
            return;
        }
        let me = ProcessName::current().word();
        let [_, last] = self.tables(self.state().generation);
        for slot in last {
            if slot.load(Ordering::Relaxed) == me {
                slot.store(me | GONE, Ordering::Relaxed);
            }
        }
        self.lock.release();
    }

    /// Sleeps until this generation has passed.
    fn wait_for_others(&self, generation: u32, patience: Patience) -> Result<(), Error> {
        let mut slices = Slices::new();
        loop {
            let state = self.state();
            match state.end_of(generation) {
                Some(true) => return Ok(()),
                Some(false) => return Err(self.broken()),
                None => {}
            }
            let Some(limit) = patience.allows(slices.next()) else {
                if self.break_it(state, Cause::TimedOut) {
                    return Err(timed_out());
                }
                continue;
            };
            if futex::wait_low(&self.state, state.word(), limit) {
                self.break_after_death(generation);
            }
        }
    }

    /// Rule 5. Of many that wait, each would otherwise wait in turn for a look like its own.
    fn break_after_death(&self, generation: u32) {
        if self.lock.acquire(Patience::Never, || ()).is_err() {
            return;
        }
        self.break_after_death_in_here();
        let state = self.state();
        if state.generation == generation
            && let Some(dead) = self.missed(generation)
        {
            self.break_it(state, Cause::Died(dead.id()));
        }
        self.lock.release();
    }

    /// Breaks it if an owner of the lock died. Called by the next one.
    fn break_after_death_in_here(&self) {
        let state = self.state();
        if let Some(PoisonCause::OwnerDied { pid }) = self.lock.poison()
            && !state.is_broken()
        {
            self.break_it(state, Cause::Died(pid));
        }
    }

    /// A dead process for which those who came to this generation would wait in vain.
    fn missed(&self, generation: u32) -> Option<ProcessName> {
        let me = ProcessName::current();
        let is_alive = |name: &ProcessName| *name == me || name.is_alive();
        let [come_table, last_table] = self.tables(generation);
        let come = names(come_table, |_| true);
        let stayed = names(last_table, |word| word & GONE == 0);
        let gone = names(last_table, |word| word & GONE != 0);
        let dead_waiter = come.iter().find(|name| !is_alive(name));
        if dead_waiter.is_some() {
            return dead_waiter.copied();
        }
        // Who has come is alive, as was just seen.
        let (living, dead): (Vec<_>, Vec<_>) = stayed
            .iter()
            .partition(|name| come.contains(name) || is_alive(name));
        let is_new = |name: &&ProcessName| !stayed.contains(name) && !gone.contains(name);
        let newcomer_count = come.iter().filter(is_new).count();
        // Those who are gone have first claim to be replaced.
        if living.is_empty() || dead.len() + gone.len() <= newcomer_count {
            return None;
        }
        dead.first().copied()
    }

    /// The table of this generation, and the other.
    fn tables(&self, generation: u32) -> [&[AtomicU64; SLOT_COUNT]; 2] {
        let [even, odd] = &self.tables;
        if generation.is_multiple_of(2) {
            [even, odd]
        } else {
            [odd, even]
        }
    }

    fn state(&self) -> State {
        // SYNC h: with `exchange`.
        State::of_word(self.state.load(Ordering::Acquire))
    }

    fn exchange(&self, from: State, to: State) -> bool {
        // SYNC h: with `state`.
        self.state
            .compare_exchange(from.word(), to.word(), Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Ends a generation badly. The cause comes first, so that who sees the end can say why; of
    /// two at once, either is true.
    fn change(&self, from: State, to: State, cause: Cause) -> bool {
        self.cause.store(cause.word(), Ordering::Relaxed);
        self.exchange(from, to)
    }

    /// Breaks it in this state, and wakes everybody.
    fn break_it(&self, state: State, cause: Cause) -> bool {
        let is_changed = self.change(state, state.broken(), cause);
        if is_changed {
            futex::wake_low(&self.state, u32::MAX);
        }
        is_changed
    }

    /// The error of who waits at a broken barrier.
    fn broken(&self) -> Error {
        let cause = Cause::of_word(self.cause.load(Ordering::Relaxed));
        let error = |what: String| Error::new(ErrorKind::Poisoned, what);
        match cause {
            Cause::Died(pid) => error(format!(
                "the barrier is broken: its party in process {pid} died"
            ))
            .with_process_id(pid),
            Cause::TimedOut => error("the barrier is broken: the time of a party was over".into()),
            Cause::Aborted => error("the barrier is broken: it was aborted".into()),
            Cause::Reset => error("the barrier was reset while this party waited".into()),
        }
    }
}

/// What became of who came.
enum Come {
    /// Everybody is there.
    Last,
    /// It waits for the others of this generation.
    Waits(u32),
}

impl State {
    const fn word(self) -> u64 {
        ((self.bad as u64) << 32) | self.generation as u64
    }

    fn of_word(word: u64) -> State {
        State {
            bad: (word >> 32) as u32,
            generation: word as u32,
        }
    }

    fn is_broken(self) -> bool {
        self.bad.wrapping_add(1) == self.generation
    }

    fn completed(self) -> State {
        let is_far = self.generation.wrapping_sub(self.bad) > FARTHEST;
        State {
            bad: if is_far {
                self.generation.wrapping_sub(FARTHEST)
            } else {
                self.bad
            },
            generation: self.generation.wrapping_add(1),
        }
    }

    fn broken(self) -> State {
        State {
            bad: self.generation,
            generation: self.generation.wrapping_add(1),
        }
    }

    fn reset(self) -> State {
        State {
            bad: self.generation,
            generation: self.generation.wrapping_add(2),
        }
    }

    /// Whether this generation ended well; `None` if it has not ended.
    fn end_of(self, generation: u32) -> Option<bool> {
        if self.generation == generation {
            return None;
        }
        // How far `bad` lies after it; less than half way round, since it never lies far behind.
        Some(self.bad.wrapping_sub(generation) > u32::MAX / 2)
    }
}

impl Cause {
    const KIND_SHIFT: u32 = 30;
    const PID_MASK: u32 = (1 << Cause::KIND_SHIFT) - 1;

    fn word(self) -> u32 {
        match self {
            Cause::Reset => 0,
            Cause::Died(pid) => (1 << Cause::KIND_SHIFT) | (pid & Cause::PID_MASK),
            Cause::TimedOut => 2 << Cause::KIND_SHIFT,
            Cause::Aborted => 3 << Cause::KIND_SHIFT,
        }
    }

    fn of_word(word: u32) -> Cause {
        match word >> Cause::KIND_SHIFT {
            0 => Cause::Reset,
            1 => Cause::Died(word & Cause::PID_MASK),
            2 => Cause::TimedOut,
            _ => Cause::Aborted,
        }
    }
}

/// Who stands in a table, in the words that are wanted.
fn names(table: &[AtomicU64; SLOT_COUNT], is_wanted: impl Fn(u64) -> bool) -> Vec<ProcessName> {
    let words = table.iter().map(|slot| slot.load(Ordering::Relaxed));
    words
        .filter(|&word| word != 0 && is_wanted(word))
        .map(ProcessName::of_word)
        .collect()
}

fn empty(table: &[AtomicU64; SLOT_COUNT]) {
    for slot in table {
        slot.store(0, Ordering::Relaxed);
    }
}

fn timed_out() -> Error {
    Error::new(
        ErrorKind::TimedOut,
        "not all parties of the barrier came in time",
    )
}

fn interrupted() -> Error {
    Error::new(
        ErrorKind::WouldDeadlock,
        "this thread was interrupted in a call on this barrier: to wait here would be a deadlock",
    )
}

fn unsupported(parties: u32) -> Error {
    let message = match parties {
        0 => "a barrier of no party has nobody to wait for: make it for at least one".into(),
        _ => format!("a barrier has room for {LIMIT} parties, and this one is for more"),
    };
    Error::new(ErrorKind::Unsupported, message)
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("parties", &self.parties.load(Ordering::Relaxed))
            .field("waiting", &self.count.load(Ordering::Relaxed))
            .field("is_broken", &self.is_broken())
            .finish_non_exhaustive()
    }
}

// SAFETY: it is made of atomics, of which every bit pattern is valid.
unsafe impl Shareable for Barrier {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The highest ids there can be, which no machine reaches, at some moment.
    fn dead(number: u64) -> u64 {
        (1 << 32) | ((0x3f_ffff - number) << 10)
    }

    fn fill(table: &[AtomicU64; SLOT_COUNT], words: &[u64]) {
        for (slot, word) in table.iter().zip(words) {
            slot.store(*word, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_generation_ends_well_unless_it_was_broken_or_reset() {
        for generation in [2, u32::MAX - 1, u32::MAX, 0, 1, FARTHEST] {
            let begin = State {
                bad: generation.wrapping_sub(2),
                generation,
            };
            assert!(!begin.is_broken());
            assert_eq!(begin.end_of(generation), None);
            let completed = begin.completed();
            assert!(!completed.is_broken());
            assert_eq!(completed.end_of(generation), Some(true));
            assert_eq!(completed.completed().end_of(generation), Some(true));
            let broken = begin.broken();
            assert!(broken.is_broken());
            assert_eq!(broken.end_of(generation), Some(false));
            for reset in [broken.reset(), begin.reset()] {
                assert!(!reset.is_broken());
                assert_eq!(reset.end_of(generation), Some(false));
                assert_eq!(reset.completed().end_of(generation), Some(false));
                assert_eq!(reset.completed().end_of(reset.generation), Some(true));
            }
        }
    }

    #[test]
    fn what_was_bad_is_forgotten_before_it_could_be_taken_for_the_future() {
        let mut state = State {
            bad: 0,
            generation: FARTHEST - 3,
        };
        for _ in 0..9 {
            let generation = state.generation;
            state = state.completed();
            assert_eq!(state.end_of(generation), Some(true));
            assert!(state.generation.wrapping_sub(state.bad) <= FARTHEST + 1);
        }
    }

    #[test]
    fn a_state_and_a_cause_are_words() {
        let state = State {
            bad: 7,
            generation: 0xdead_beef,
        };
        assert_eq!(State::of_word(state.word()), state);
        for cause in [
            Cause::Reset,
            Cause::Died(4_194_303),
            Cause::TimedOut,
            Cause::Aborted,
        ] {
            assert_eq!(Cause::of_word(cause.word()), cause);
        }
    }

    #[test]
    fn no_time_at_all_is_enough_for_who_comes_last() {
        let barrier = Barrier::new(1);
        assert!(barrier.wait_timeout(Duration::ZERO).is_ok());
    }

    #[test]
    fn a_timeout_at_the_lock_breaks_it() {
        let barrier = Barrier::new(2);
        barrier
            .lock
            .acquire(Patience::Forever, || ())
            .expect("it is free");
        let error = std::thread::scope(|scope| {
            let late = scope.spawn(|| {
                barrier
                    .wait_timeout(Duration::ZERO)
                    .expect_err("it is late")
            });
            late.join().expect("it ends")
        });
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(barrier.is_broken());
        barrier.lock.release();
    }

    #[test]
    fn a_dead_party_that_waits_breaks_it() {
        let barrier = Barrier::new(3);
        fill(&barrier.tables[0], &[dead(0)]);
        barrier.count.store(1, Ordering::Relaxed);
        let error = barrier.wait().expect_err("its party is dead");
        assert_eq!(error.kind(), ErrorKind::Poisoned);
        assert_eq!(error.process_id(), Some(0x3f_ffff));
        assert!(barrier.is_broken());
    }

    #[test]
    fn a_party_that_died_between_two_waits_breaks_it() {
        let barrier = Barrier::new(2);
        let me = ProcessName::current().word();
        fill(&barrier.tables[1], &[me, dead(0)]);
        let error = barrier.wait().expect_err("its party is dead");
        assert_eq!(error.process_id(), Some(0x3f_ffff));
    }

    #[test]
    fn parties_that_were_all_replaced_are_not_missed() {
        let barrier = Barrier::new(2);
        let me = ProcessName::current().word();
        let generation = barrier.state().generation;
        fill(&barrier.tables[0], &[me]);
        fill(&barrier.tables[1], &[dead(0), dead(1)]);
        assert_eq!(barrier.missed(generation), None);
        fill(&barrier.tables[1], &[dead(0) | GONE, me]);
        assert_eq!(barrier.missed(generation), None);
        fill(&barrier.tables[1], &[dead(0), me]);
        assert_eq!(
            barrier.missed(generation),
            Some(ProcessName::of_word(dead(0)))
        );
    }

    #[test]
    fn a_death_with_the_lock_breaks_it_until_the_reset() {
        let barrier = Barrier::new(1);
        barrier.lock.set_poison(PoisonCause::OwnerDied { pid: 7 });
        assert!(barrier.is_broken());
        let error = barrier.wait().expect_err("it is broken");
        assert_eq!(error.process_id(), Some(7));
        barrier.reset().expect("it can be");
        assert!(barrier.wait().is_ok());
    }
}
