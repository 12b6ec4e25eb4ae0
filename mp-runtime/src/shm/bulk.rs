//! Large runs of plain bytes that lie in shared memory, apart from the message they belong to: who
//! sends copies them there, and who receives reads them where they are, or copies them once more.
//!
//! Fresh memory costs several times what a copy into it costs, so it is used again. Each process keeps
//! the regions it has made, and a mapping of those it has received, until nobody has asked for any
//! of them for [`KEPT_FOR`].
//!
//! # States of a region
//!
//! | state | means | next |
//! | --- | --- | --- |
//! | free | only who made it has it, and `LENT` is 0 | in use, by who made it |
//! | in use | who made it has a [`Bulk`] of it, which it may send, and which it keeps as long as anybody may read | free, when that is dropped; lent |
//! | lent | who made it has [given it away](Bulk::give) with a message, and `LENT` is 1 | free, when who received it drops it, which sets `LENT` to 0, or the message [could not be sent](Bulk::keep) |
//!
//! What is kept by who made it, and lent, nobody else can write: arguments that several workers read in
//! turns are no way from one of them to another. What is given away has the word `LENT` at its
//! beginning, for its receiver to write. Who receives may be dead by then, or lie: then the
//! region is never free again, and goes with its last mapping. Who made it may be hostile, and write
//! while somebody reads: who does not trust it only [copies](Bulk::read), and looks at the copy.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytemuck::AnyBitPattern;

use super::region::Region;
use crate::os::identity::process_id;
use crate::os::memory;

/// Runs of so many bytes and more lie apart from their message.
pub(crate) const BULK_BYTES: usize = 128 << 10;

/// What was not used for so long is given back.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(2);

/// So many regions are kept at most, of each kind.
const MOST_KEPT: usize = 16;

/// The bytes begin here: before them stands `LENT`.
const START: usize = 64;
/// Regions are as large as a multiple of this, ...
const SMALL_STEP: usize = 1 << 20;
/// ... and large ones of this, so that those of nearly the same size can stand in for each other.
const LARGE_STEP: usize = 8 << 20;
/// A region is not used for less than this part of it.
const LEAST_SHARE: usize = 4;

/// A run of bytes in shared memory.
#[derive(Debug)]
pub(crate) struct Bulk {
    region: Arc<Region>,
    /// It is given away with its message.
    is_given: bool,
    /// It came from another process, which waits to have it back from this one.
    receiver_id: Option<u32>,
}

struct Kept {
    region: Arc<Region>,
    used: Instant,
    /// Whether what is copied there is given away.
    is_given: bool,
}

/// What this process keeps.
struct Depot {
    /// Made here.
    own: Vec<Kept>,
    /// Made elsewhere.
    received: Vec<Kept>,
}

static DEPOT: Mutex<Depot> = Mutex::new(Depot {
    own: Vec::new(),
    received: Vec::new(),
});

fn depot() -> MutexGuard<'static, Depot> {
    DEPOT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this process keeps anything that may be given back.
pub(crate) fn is_anything_kept() -> bool {
    let depot = depot();
    !depot.own.is_empty() || !depot.received.is_empty()
}

/// Gives back what was not used for a while.
pub(crate) fn give_back_unused() {
    let is_unused = |kept: &mut Kept| kept.used.elapsed() >= KEPT_FOR;
    let mut depot = depot();
    let mut unused = Vec::new();
    unused.extend(depot.own.extract_if(.., is_unused));
    unused.extend(depot.received.extract_if(.., is_unused));
    drop(depot);
    // Unmapping takes its time.
    drop(unused);
}

impl Depot {
    /// Takes a free region of those that were made here, or makes one, for so many bytes.
    fn take(bytes: usize, is_given: bool) -> io::Result<Arc<Region>> {
        let wanted = bytes.checked_add(START).ok_or(io::ErrorKind::OutOfMemory)?;
        let mut depot = depot();
        let fits = |kept: &&mut Kept| {
            let size = kept.region.bytes();
            let is_of_size = size >= wanted && size / LEAST_SHARE <= wanted;
            is_of_size && kept.is_given == is_given && is_free(&kept.region)
        };
        let smallest = depot.own.iter_mut().filter(fits);
        if let Some(kept) = smallest.min_by_key(|kept| kept.region.bytes()) {
            kept.used = Instant::now();
            return Ok(Arc::clone(&kept.region));
        }
        drop(depot);
        let step = match wanted < LARGE_STEP {
            true => SMALL_STEP,
            false => LARGE_STEP,
        };
        let size = wanted.checked_next_multiple_of(step);
        let size = size.ok_or(io::ErrorKind::OutOfMemory)?;
        let region = match is_given {
            true => Region::create(size)?,
            false => Region::create_to_lend(size)?,
        };
        keep(|depot| &mut depot.own, &region, is_given);
        Ok(region)
    }
}

/// Keeps a region, in the place of the one that was used least lately if there are many.
fn keep(list: impl FnOnce(&mut Depot) -> &mut Vec<Kept>, region: &Arc<Region>, is_given: bool) {
    let mut depot = depot();
    let list = list(&mut depot);
    let used = Instant::now();
    if let Some(kept) = list
        .iter_mut()
        .find(|kept| Arc::ptr_eq(&kept.region, region))
    {
        kept.used = used;
        return;
    }
    let mut before = None;
    if list.len() >= MOST_KEPT {
        let oldest = list.iter().enumerate().min_by_key(|(_, kept)| kept.used);
        before = oldest
            .map(|(place, _)| place)
            .map(|place| list.swap_remove(place));
    }
    list.push(Kept {
        region: Arc::clone(region),
        used,
        is_given,
    });
    drop(depot);
    drop(before);
}

/// Whether nobody uses a region that the depot has.
fn is_free(region: &Arc<Region>) -> bool {
    // SYNC lent: pairs with the store in `Bulk::drop`.
    Arc::strong_count(region) == 1
        && lent(region).is_none_or(|word| word.load(Ordering::Acquire) == 0)
}

/// The word that says whether it is lent; none in a region that this process cannot write.
fn lent(region: &Region) -> Option<&AtomicU32> {
    if region.is_only_to_read() {
        return None;
    }
    let place = region.at(0, size_of::<AtomicU32>(), align_of::<AtomicU32>())?;
    // SAFETY: mapped as long as the region lives, and aligned; every bit pattern is one, and all
    // processes use atomics only there.
    Some(unsafe { place.cast::<AtomicU32>().as_ref() })
}

impl Bulk {
    /// Copies bytes into shared memory. What is `given` away is used again when its receiver has
    /// dropped it; else, when this is dropped.
    ///
    /// # Errors
    ///
    /// If there is no memory, or no descriptor, for them.
    pub(crate) fn of(bytes: &[u8], is_given: bool) -> io::Result<Bulk> {
        let region = Depot::take(bytes.len(), is_given)?;
        let place = region.at(START, bytes.len(), 1);
        let place = place.ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: so many bytes are within the region, and nobody else writes or reads there: it was
        // free, and whoever takes it from the depot sees that it is not any more.
        unsafe { place.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        Ok(Bulk {
            region,
            is_given,
            receiver_id: None,
        })
    }

    /// What came from another process.
    pub(crate) fn received(region: Arc<Region>) -> Bulk {
        keep(|depot| &mut depot.received, &region, false);
        Bulk {
            region,
            is_given: false,
            receiver_id: Some(process_id()),
        }
    }

    /// It is about to be sent: if it is given away, it is its receiver's from now on.
    pub(crate) fn give(&self) {
        self.set_lent(1);
    }

    /// The message that was to bring it was not sent, so that nobody receives it.
    pub(crate) fn keep(&self) {
        self.set_lent(0);
    }

    fn set_lent(&self, number: u32) {
        if self.is_given
            && let Some(word) = lent(&self.region)
        {
            word.store(number, Ordering::Relaxed);
        }
    }

    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// How many bytes there could be.
    pub(crate) fn capacity(&self) -> usize {
        self.region.bytes().saturating_sub(START)
    }

    /// The first `count` bytes, if there are so many, where who made them is trusted not to write
    /// there as long as this lives.
    pub(crate) fn lend(&self, count: usize) -> Option<&[u8]> {
        let place = self.region.at(START, count, 1)?;
        // SAFETY: within the region, which is mapped as long as this lives. Who made it keeps its own
        // `Bulk`, and so does not write there, until it has the record of the item; the caller
        // vouches that it does.
        Some(unsafe { std::slice::from_raw_parts(place.as_ptr(), count) })
    }

    /// Copies the first `count` elements, if there are so many.
    ///
    /// # Errors
    ///
    /// If this process has no memory for them.
    pub(crate) fn read<T: AnyBitPattern>(&self, count: usize) -> io::Result<Option<Vec<T>>> {
        let place = count
            .checked_mul(size_of::<T>())
            .and_then(|bytes| self.region.at(START, bytes, 1));
        let Some(place) = place else { return Ok(None) };
        let mut elements = Vec::<T>::new();
        elements
            .try_reserve_exact(count)
            .map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))?;
        memory::prefer_huge_pages(elements.spare_capacity_mut());
        let free = elements.as_mut_ptr().cast::<u8>();
        // SAFETY: so many bytes are within the region, and were reserved; no reference to what the
        // other process may write is made.
        unsafe { free.copy_from_nonoverlapping(place.as_ptr(), count * size_of::<T>()) };
        // SAFETY: they were just written, and any bytes are an element.
        unsafe { elements.set_len(count) };
        Ok(Some(elements))
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        // A fork of the receiver has nothing to give back.
        if self.receiver_id.is_some_and(|id| id == process_id())
            && let Some(word) = lent(&self.region)
        {
            // SYNC lent: pairs with the load in `is_free`: what was read was read before.
            word.store(0, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_copied_in_is_read_and_no_more() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        let bulk = Bulk::of(&bytes, false).expect("there is memory");
        assert_eq!(bulk.lend(bytes.len()), Some(&bytes[..]));
        let read = bulk.read::<u8>(bytes.len()).expect("there is memory");
        assert_eq!(read, Some(bytes));
        let all = bulk.capacity();
        assert!(bulk.lend(all).is_some() && bulk.lend(all + 1).is_none());
        for count in [all / 8 + 1, usize::MAX / 8, usize::MAX] {
            assert_eq!(bulk.read::<u64>(count).expect("it is not tried"), None);
        }
    }

    #[test]
    fn a_region_is_used_again_when_nobody_has_it_and_not_before() {
        // Of a size that no other test uses.
        let bytes = vec![1; 3 << 20];
        let first = Bulk::of(&bytes, false).expect("there is memory");
        let second = Bulk::of(&bytes, true).expect("there is memory");
        let (first_id, second_id) = (first.region().id(), second.region().id());
        assert_ne!(first_id, second_id);
        drop(first);
        let received = Bulk::received(Arc::clone(second.region()));
        drop(second);
        let third = Bulk::of(&bytes, false).expect("there is memory");
        assert_eq!(third.region().id(), first_id);
        drop(received);
    }

    #[test]
    fn what_is_kept_cannot_be_written_by_who_receives_it() {
        let bulk = Bulk::of(&vec![1; 5 << 20], false).expect("there is memory");
        let fd = bulk
            .region()
            .fd()
            .try_clone()
            .expect("there is a descriptor");
        let bytes = bulk.region().bytes();
        assert!(crate::os::memory::Mapping::of(&fd, bytes).is_err());
        assert!(crate::os::memory::Mapping::to_read(&fd, bytes).is_ok());
        assert!(nix::sys::uio::pwrite(&fd, &[2], 0).is_err());
    }
}
