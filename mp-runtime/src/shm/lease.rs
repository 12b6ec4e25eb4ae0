//! Who has which part of an array that was split.
//!
//! # Layout
//!
//! ```text
//! owners   254 words: names of processes, 0 for none
//! lost     the name of a dead process whose place was used again
//! serial   counts the parts there have ever been
//! entries  as many words as there can be parts
//! length   how many entries there are
//! lock     the lock of the array comes right behind
//!
//! entry    63                   24 23        10 9             2 1       0
//!         ┌──────────────────────┬────────────┬───────────────┬─────────┐
//!         │ number of the part   │ journey    │ owner's place │ custody │     0: free
//!         └──────────────────────┴────────────┴───────────────┴─────────┘
//! ```
//!
//! # Rules
//!
//! 1. The lock is *lent* from a split until somebody takes it.
//! 2. A part has one entry, at one place, from the split until its end, and everything that happens
//!    to it is one compare-and-swap of that entry, from exactly what was seen:
//!
//!    | step | from | to |
//!    | --- | --- | --- |
//!    | it is split off, by the owner of the lock | free | `HELD` by this process |
//!    | a chunk that was put into a message is dropped | `HELD` by this process | `SENT` by this process |
//!    | any other chunk is dropped | `HELD` by this process | free |
//!    | it is taken out of a message | `SENT` by who sent it | `HELD` by this process |
//!    | a parent receives a result it is in | `SENT` by the worker | `SENT` by this process |
//!    | the message is no more | `SENT` by this process | free |
//!    | it is taken out again, since who took it out first died | `HELD` by the dead | `HELD` by this process |
//!
//!    Numbers of parts are never used twice, and each taking out begins another journey, so an
//!    entry that looks the same is the same part, in the same hands. Number and journey together
//!    are the *serial* of the part.
//! 3. Who wants the lock while it is lent claims its word, and then looks at the entries. If one is
//!    of a living process, the claim is given up. Those of the dead it makes free, one by one, as
//!    above: if that fails somebody has just taken the part, and is looked at again.
//! 4. A message leaves a process once the chunks in it are dropped, so no two processes have one.
//! 5. A process enters its name among the owners before its first entry. The place of a dead one is
//!    used again after its entries were made free; parts it held then count as lost.
//!
//! # Death
//!
//! With a part held: the array is poisoned, for the part may be half written. With a part sent: the
//! message may still arrive; whoever gets the lock before that has the part, and its arrival is
//! an error. With the lock claimed: it is lent, and claimed again by the next. Every step is one
//! store, so there is nothing in between.
//!
//! Any bits in the table lead to an early or a late end of the loan, to an error, or to poison.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use super::region::Region;
use crate::os::futex;
use crate::os::identity::ProcessName;

const OWNER_COUNT: usize = 254;
/// The place of the lost, whose own place was used again, right after the owners.
const LOST: usize = OWNER_COUNT;
/// Owners, lost, serial.
const HEAD_WORDS: usize = OWNER_COUNT + 2;
const WORD_BYTES: usize = size_of::<AtomicU64>();

const HELD: u64 = 1;
const SENT: u64 = 2;
const CUSTODY_MASK: u64 = 3;
const OWNER_SHIFT: u32 = 2;
const OWNER_MASK: u64 = 0xff;
const SERIAL_SHIFT: u32 = 10;
/// The bits of a serial that are the journey.
const JOURNEY_BITS: u32 = 14;

/// The most parts that can be out at a time.
pub(crate) const PART_LIMIT: usize = 4096;

/// How many parts an array of `len` elements can have out.
pub(crate) const fn capacity(len: usize) -> usize {
    // In slots of the heap; an empty part has no entry.
    let wanted = if len < PART_LIMIT { len } else { PART_LIMIT };
    wanted.next_multiple_of(8)
}

/// How many bytes stand before the lock of an array of `len` elements.
pub(crate) const fn table_bytes(len: usize) -> usize {
    (HEAD_WORDS + capacity(len) + 1) * WORD_BYTES
}

/// The state of what was lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lease {
    /// Somebody alive has a part of it.
    Running,
    /// Everything came back, or was lost.
    Over,
}

/// The leases of one array.
#[derive(Clone, Debug)]
pub(crate) struct Leases {
    region: Arc<Region>,
    /// Where the lock is in the region, and how many entries stand before it.
    lock_offset: usize,
    capacity: usize,
}

/// A part: the place of its entry, and its number and journey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) place: u32,
    pub(crate) serial: u64,
}

impl Part {
    /// That of an empty chunk, which has no entry.
    pub(crate) const NONE: Part = Part {
        place: u32::MAX,
        serial: 0,
    };

    fn next_journey(self) -> Part {
        let mask = (1 << JOURNEY_BITS) - 1;
        let journey = (self.serial + 1) & mask;
        Part {
            serial: (self.serial & !mask) | journey,
            ..self
        }
    }
}

impl Leases {
    /// Says how many entries there are, of an array of `len` elements that is being made.
    pub(crate) fn write_capacity(region: &Region, lock_offset: usize, len: usize) {
        if let Some(length) = word_at(region, lock_offset - WORD_BYTES) {
            length.store(capacity(len) as u64, Ordering::Relaxed);
        }
    }

    /// Those of the lock at `lock_offset` of `region`.
    pub(crate) fn at(region: &Arc<Region>, lock_offset: usize) -> Option<Leases> {
        let length = lock_offset.checked_sub(WORD_BYTES)?;
        let length = word_at(region, length)?.load(Ordering::Relaxed);
        let capacity = usize::try_from(length).ok().filter(|&n| n <= PART_LIMIT)?;
        lock_offset.checked_sub((HEAD_WORDS + capacity + 1) * WORD_BYTES)?;
        word_at(region, lock_offset)?;
        Some(Leases {
            region: Arc::clone(region),
            lock_offset,
            capacity,
        })
    }

    /// Those of the lock at this address of this process.
    pub(crate) fn before(lock_address: usize) -> Option<Leases> {
        let (region, offset) = Region::holding(lock_address, WORD_BYTES)?;
        Leases::at(&region, offset)
    }

    /// The word so many before the lock.
    fn word(&self, before: usize) -> &AtomicU64 {
        static NOWHERE: AtomicU64 = AtomicU64::new(0);
        word_at(&self.region, self.lock_offset - before * WORD_BYTES).unwrap_or(&NOWHERE)
    }

    fn lock_word(&self) -> &AtomicU64 {
        self.word(0)
    }

    fn entry(&self, place: usize) -> &AtomicU64 {
        self.word(2 + place)
    }

    fn serial(&self) -> &AtomicU64 {
        self.word(2 + self.capacity)
    }

    /// `place` is below `OWNER_COUNT`, or `LOST`.
    fn owner(&self, place: usize) -> &AtomicU64 {
        self.word(2 + self.capacity + HEAD_WORDS - 1 - place.min(LOST))
    }

    pub(crate) fn lock_offset(&self) -> usize {
        self.lock_offset
    }

    /// Splits off `count` parts for this process. For the owner of the lock, who has thereby seen
    /// that none is out. `None` if there is no room for so many.
    pub(crate) fn split_off(&self, count: usize) -> Option<Vec<Part>> {
        if count > self.capacity {
            return None;
        }
        for place in 0..self.capacity {
            self.entry(place).store(0, Ordering::Relaxed);
        }
        let own = self.own_place()?;
        let parts = (0..count).map(|place| {
            let number = self.serial().fetch_add(1, Ordering::Relaxed);
            let serial = serial_of(number << (SERIAL_SHIFT + JOURNEY_BITS));
            let entry = pack(serial, own, HELD);
            self.entry(place).store(entry, Ordering::Relaxed);
            Part {
                place: place as u32,
                serial,
            }
        });
        Some(parts.collect())
    }

    /// The place of this process among the owners; a new one if it has none.
    fn own_place(&self) -> Option<u64> {
        let own = ProcessName::current().word();
        let places = || (0..OWNER_COUNT).map(|place| (place, self.owner(place)));
        if let Some((place, _)) = places().find(|(_, owner)| owner.load(Ordering::Acquire) == own) {
            return Some(place as u64);
        }
        let enter = |owner: &AtomicU64, from| {
            let entered = owner.compare_exchange(from, own, Ordering::AcqRel, Ordering::Relaxed);
            entered.is_ok()
        };
        if let Some((place, _)) = places().find(|(_, owner)| enter(owner, 0)) {
            return Some(place as u64);
        }
        let replaced = places().find(|&(place, owner)| {
            let name = owner.load(Ordering::Acquire);
            if ProcessName::of_word(name).is_alive() {
                return false;
            }
            self.disown(place as u64, name);
            enter(owner, name)
        });
        replaced.map(|(place, _)| place as u64)
    }

    /// Makes free what a dead owner sent, and counts as lost what it held.
    fn disown(&self, place: u64, name: u64) {
        self.owner(LOST).store(name, Ordering::Release);
        for index in 0..self.capacity {
            let entry = self.entry(index);
            let word = entry.load(Ordering::Acquire);
            // If the place is another's by now, the entry may be that one's.
            let is_its = owner_of(word) == place
                && self.owner(place as usize).load(Ordering::Acquire) == name;
            let next = match word & CUSTODY_MASK {
                HELD if is_its => pack(serial_of(word), LOST as u64, HELD),
                SENT if is_its => 0,
                _ => continue,
            };
            let _ = entry.compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Whose an entry is.
    fn process(&self, word: u64) -> ProcessName {
        let owner = self.owner(owner_of(word) as usize);
        ProcessName::of_word(owner.load(Ordering::Acquire))
    }

    /// What the entry of `part` holds, if it is still its.
    fn find(&self, part: Part) -> Option<(&AtomicU64, u64)> {
        let place = part.place as usize;
        let entry = (place < self.capacity).then(|| self.entry(place))?;
        let word = entry.load(Ordering::Acquire);
        (word & CUSTODY_MASK != 0 && serial_of(word) == part.serial).then_some((entry, word))
    }

    /// A chunk of this process is dropped; `is_sent`: it was put into a message.
    pub(crate) fn put_down(&self, part: Part, is_sent: bool) {
        let Some((entry, word)) = self.find(part) else {
            return;
        };
        let is_own = word & CUSTODY_MASK == HELD && self.process(word) == ProcessName::current();
        let next = match is_sent {
            true => pack(part.serial, owner_of(word), SENT),
            false => 0,
        };
        // SYNC c: what was written to the part happens before who sees this has it.
        let put = is_own
            && entry
                .compare_exchange(word, next, Ordering::Release, Ordering::Relaxed)
                .is_ok();
        if put && !is_sent {
            self.wake();
        }
    }

    /// Takes a part out of a message. Tells what part it is from now on, and the process that died
    /// with it before, if one did.
    ///
    /// # Errors
    ///
    /// If somebody else has it by now.
    pub(crate) fn pick_up(&self, part: Part) -> Result<(Part, Option<u32>), &'static str> {
        const GONE: &str = "the array was locked while it was on its way";
        let own = self
            .own_place()
            .ok_or("too many processes have chunks of it")?;
        // Who took it out before had begun the next journey.
        let taken = part.next_journey();
        let (was, entry, word) = [part, taken]
            .into_iter()
            .find_map(|was| self.find(was).map(|(entry, word)| (was, entry, word)))
            .ok_or(GONE)?;
        let holder = self.process(word);
        let dead = match word & CUSTODY_MASK {
            SENT if was == part => None,
            HELD if was == taken && !holder.is_alive() => Some(holder.id()),
            _ => return Err("it was taken out before"),
        };
        let now = was.next_journey();
        let next = pack(now.serial, own, HELD);
        // SYNC c: with `put_down`.
        match entry.compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => Ok((now, dead)),
            Err(_) => Err(GONE),
        }
    }

    /// From now on the message that `part` is in is this process's.
    fn take_over(&self, part: Part) -> bool {
        let (Some(own), Some((entry, word))) = (self.own_place(), self.find(part)) else {
            return false;
        };
        let next = pack(part.serial, own, SENT);
        word & CUSTODY_MASK == SENT
            && entry
                .compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// The message of this process that `part` was in is no more.
    pub(crate) fn let_go(&self, part: Part) {
        let Some((entry, word)) = self.find(part) else {
            return;
        };
        let is_own = word & CUSTODY_MASK == SENT && self.process(word) == ProcessName::current();
        let let_go = is_own
            && entry
                .compare_exchange(word, 0, Ordering::Release, Ordering::Relaxed)
                .is_ok();
        if let_go {
            self.wake();
        }
    }

    /// Tells those who wait for the lock to look again.
    fn wake(&self) {
        // A sleeper that is not woken does so after its slice.
        futex::wake_low(self.lock_word(), 1);
    }

    /// Whether anybody alive has a part.
    pub(crate) fn is_running(&self) -> bool {
        (0..self.capacity)
            .map(|place| self.entry(place).load(Ordering::Acquire))
            .any(|word| word & CUSTODY_MASK != 0 && self.process(word).is_alive())
    }

    /// Ends the loan, for who has claimed the lock: makes free what dead processes had. Before it
    /// does so with a part that one held, it calls `note_loss` with the process's id. Tells whether
    /// a living process has a part.
    pub(crate) fn end(&self, note_loss: &dyn Fn(u32)) -> Lease {
        for place in 0..self.capacity {
            let entry = self.entry(place);
            loop {
                // SYNC c: with `put_down`.
                let word = entry.load(Ordering::Acquire);
                if word & CUSTODY_MASK == 0 {
                    break;
                }
                let process = self.process(word);
                if process.is_alive() {
                    return Lease::Running;
                }
                if word & CUSTODY_MASK != SENT {
                    note_loss(process.id());
                }
                let freed = entry.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed);
                if freed.is_ok() {
                    break;
                }
            }
        }
        Lease::Over
    }
}

/// The word at `offset` of `region`.
fn word_at(region: &Region, offset: usize) -> Option<&AtomicU64> {
    let word: NonNull<AtomicU64> = region.at(offset, WORD_BYTES, WORD_BYTES)?.cast();
    // SAFETY: in bounds and aligned, as was just checked; the region outlives the reference to it;
    // every bit pattern is a word, and all processes use atomics here.
    Some(unsafe { word.as_ref() })
}

fn pack(serial: u64, owner: u64, custody: u64) -> u64 {
    (serial << SERIAL_SHIFT) | (owner << OWNER_SHIFT) | custody
}

fn serial_of(word: u64) -> u64 {
    word >> SERIAL_SHIFT
}

fn owner_of(word: u64) -> u64 {
    (word >> OWNER_SHIFT) & OWNER_MASK
}

/// Whether a living process has a part of what the lock at this address lent.
pub(crate) fn is_running(lock_address: usize) -> bool {
    Leases::before(lock_address).is_some_and(|leases| leases.is_running())
}

/// Ends what the lock at this address lent, as [`Leases::end`] does.
pub(crate) fn end(lock_address: usize, note_loss: &dyn Fn(u32)) -> Lease {
    Leases::before(lock_address).map_or(Lease::Over, |leases| leases.end(note_loss))
}

/// What a chunk and the message it was put into know of each other.
#[derive(Debug, Default)]
pub(crate) struct Bond(AtomicU8);

/// The chunk was dropped.
const DROPPED: u8 = 1;
/// The message is no more.
const ENDED: u8 = 2;

impl Bond {
    /// The chunk was put down as sent. Tells whether the message is still there.
    #[must_use]
    pub(crate) fn drop_chunk(&self) -> bool {
        self.0.fetch_or(DROPPED, Ordering::AcqRel) & ENDED == 0
    }

    /// Whether the message is no more.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.load(Ordering::Acquire) & ENDED != 0
    }

    /// The chunk is still here, and its message is no more: it can be put into another. Tells
    /// whether it is so.
    #[must_use]
    pub(crate) fn renew(&self) -> bool {
        self.0
            .compare_exchange(ENDED, 0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }
}

/// A part in a message. When this ends, at the latest when it is dropped, the part comes back,
/// unless it was taken out.
#[derive(Debug)]
pub(crate) struct Loan {
    leases: Leases,
    part: Part,
    bond: Arc<Bond>,
    /// The message is its receiver's, or no more.
    is_over: AtomicBool,
}

impl Loan {
    /// Of a part whose chunk was put into a message.
    pub(crate) fn new(leases: &Leases, part: Part, bond: &Arc<Bond>) -> Loan {
        Loan {
            leases: leases.clone(),
            part,
            bond: Arc::clone(bond),
            is_over: AtomicBool::new(false),
        }
    }

    /// Takes over that of a message that was received.
    pub(crate) fn take_over(region: &Arc<Region>, lock_offset: usize, part: Part) -> Option<Loan> {
        let leases = Leases::at(region, lock_offset)?;
        (part == Part::NONE || leases.take_over(part))
            .then(|| Loan::new(&leases, part, &Arc::new(Bond(AtomicU8::new(DROPPED)))))
    }

    /// Whether the chunk is still there: then the message must not leave.
    pub(crate) fn is_held(&self) -> bool {
        self.bond.0.load(Ordering::Acquire) & DROPPED == 0
    }

    /// From now on the message is its receiver's.
    pub(crate) fn hand_over(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Nobody will take the part out of the message any more.
    pub(crate) fn end(&self) {
        // Once: the chunk may be in another message after that.
        if self.is_over.swap(true, Ordering::Relaxed) {
            return;
        }
        // If the chunk is still there it sees this when it is dropped.
        let before = self.bond.0.fetch_or(ENDED, Ordering::AcqRel);
        if before == DROPPED {
            self.leases.let_go(self.part);
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leases() -> Leases {
        let lock_offset = table_bytes(20);
        let region = Region::create(lock_offset + 64).expect("there is memory");
        Leases::write_capacity(&region, lock_offset, 20);
        Leases::at(&region, lock_offset).expect("it is in bounds")
    }

    /// Ends the loan, and tells who died with a part.
    fn end(leases: &Leases) -> (Lease, Option<u32>) {
        let lost = std::cell::Cell::new(None);
        let lease = leases.end(&|process_id| lost.set(Some(process_id)));
        (lease, lost.get())
    }

    const OVER: (Lease, Option<u32>) = (Lease::Over, None);
    const RUNNING: (Lease, Option<u32>) = (Lease::Running, None);
    const LOST_TO: (Lease, Option<u32>) = (Lease::Over, Some((1 << 22) - 1));

    /// No process has the id 2²² - 1, the limit itself.
    const DEAD: u64 = ((1 << 22) - 1) << 10;

    /// Has a dead process have `part` in place of this one.
    fn kill_owner(leases: &Leases, part: Part, custody: u64) {
        leases.owner(7).store(DEAD, Ordering::Relaxed);
        let entry = leases.entry(part.place as usize);
        entry.store(pack(part.serial, 7, custody), Ordering::Relaxed);
    }

    #[test]
    fn a_loan_is_over_when_every_part_came_back() {
        let leases = leases();
        assert!(leases.split_off(capacity(20) + 1).is_none());
        let parts = leases.split_off(3).expect("there is room");
        for part in &parts {
            assert_eq!(end(&leases), RUNNING);
            leases.put_down(*part, false);
        }
        assert_eq!(end(&leases), OVER);
        // A second end of the same part is none.
        leases.put_down(parts[0], false);
        assert_eq!(end(&leases), OVER);
    }

    #[test]
    fn a_part_travels_and_only_one_takes_it_out() {
        let leases = leases();
        let part = leases.split_off(1).expect("there is room")[0];
        let bond = Arc::default();
        let loan = Loan::new(&leases, part, &bond);
        assert!(loan.is_held());
        leases.put_down(part, true);
        assert!(bond.drop_chunk() && !loan.is_held() && leases.is_running());
        let (taken, dead) = leases.pick_up(part).expect("it is on its way");
        assert_eq!((taken.place, dead), (part.place, None));
        assert!(leases.pick_up(part).is_err());
        // It comes back with a result, while the message it was sent with is still there.
        let bond = Arc::default();
        let result = Loan::new(&leases, taken, &bond);
        leases.put_down(taken, true);
        assert!(bond.drop_chunk());
        drop(loan);
        assert_eq!(end(&leases), RUNNING);
        drop(result);
        assert_eq!(end(&leases), OVER);
    }

    #[test]
    fn a_message_that_is_dropped_gives_its_part_back() {
        let leases = leases();
        let part = leases.split_off(1).expect("there is room")[0];
        let bond = Arc::default();
        let loan = Loan::new(&leases, part, &bond);
        leases.put_down(part, true);
        assert!(bond.drop_chunk());
        loan.hand_over();
        drop(loan);
        assert_eq!(end(&leases), RUNNING);
        let received = Loan::take_over(&leases.region, leases.lock_offset, part);
        drop(received.expect("it is on its way"));
        assert_eq!(end(&leases), OVER);
        assert!(Loan::take_over(&leases.region, leases.lock_offset, part).is_none());
    }

    #[test]
    fn a_message_that_ends_before_its_chunk_leaves_the_end_to_it() {
        let leases = leases();
        let part = leases.split_off(1).expect("there is room")[0];
        let bond = Arc::default();
        drop(Loan::new(&leases, part, &bond));
        assert_eq!(end(&leases), RUNNING);
        leases.put_down(part, true);
        assert!(!bond.drop_chunk());
        leases.let_go(part);
        assert_eq!(end(&leases), OVER);
    }

    #[test]
    fn a_dead_holder_is_a_loss_and_a_dead_sender_is_none() {
        let leases = leases();
        let parts = leases.split_off(2).expect("there is room");
        kill_owner(&leases, parts[0], SENT);
        leases.put_down(parts[1], false);
        assert_eq!(end(&leases), OVER);
        assert!(leases.pick_up(parts[0]).is_err());
        let parts = leases.split_off(2).expect("there is room");
        kill_owner(&leases, parts[0], HELD);
        leases.put_down(parts[1], false);
        assert_eq!(end(&leases), LOST_TO);
        assert_eq!(end(&leases), OVER);
    }

    #[test]
    fn a_part_is_taken_out_again_after_a_death() {
        let leases = leases();
        let part = leases.split_off(1).expect("there is room")[0];
        kill_owner(&leases, part.next_journey(), HELD);
        let (_, dead) = leases.pick_up(part).expect("its holder is dead");
        assert_eq!(dead, Some((1 << 22) - 1));
        assert!(leases.pick_up(part).is_err());
        assert_eq!(end(&leases), RUNNING);
    }

    #[test]
    fn the_places_of_dead_owners_are_used_again() {
        let leases = leases();
        let parts = leases.split_off(2).expect("there is room");
        for place in 0..OWNER_COUNT {
            leases.owner(place).store(DEAD, Ordering::Relaxed);
        }
        kill_owner(&leases, parts[0], HELD);
        kill_owner(&leases, parts[1], SENT);
        // Until this process is at place 7, which the two entries name.
        for place in 0..7 {
            let alive = ProcessName::current().word() ^ (1 << 40);
            leases.owner(place).store(alive, Ordering::Relaxed);
        }
        for _ in 0..8 {
            assert!(leases.own_place().is_some());
            let own = ProcessName::current().word();
            let owners = (0..OWNER_COUNT).map(|place| leases.owner(place));
            owners
                .filter(|owner| owner.load(Ordering::Relaxed) == own)
                .for_each(|owner| owner.store(own ^ (1 << 40), Ordering::Relaxed));
        }
        assert_eq!(end(&leases), LOST_TO);
    }
}
