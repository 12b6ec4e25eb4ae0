//! Stretches of shared memory, each mapped once in a process however often it comes in.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::heap::Place;
use crate::os::exit::at_exit;
use crate::os::memory::{self, Mapping, MemoryId};

/// A stretch of memory that processes share. It is there as long as somebody, in any process, has
/// it; in this one it is mapped until the last `Arc` is dropped.
#[derive(Debug)]
pub(crate) struct Region {
    id: MemoryId,
    mapping: Mapping,
    /// It came from a process that lets nobody else write there.
    is_only_to_read: bool,
    fd: OwnedFd,
    farewells: Mutex<Vec<Farewell>>,
}

/// What is to be done at an offset of a region before this process is without it.
#[derive(Clone, Copy, Debug)]
struct Farewell {
    offset: usize,
    say: fn(&Region, usize),
}

/// The regions of this process.
#[derive(Default)]
struct Table {
    by_id: Option<HashMap<MemoryId, Weak<Region>>>,
    by_base: BTreeMap<usize, Weak<Region>>,
}

static TABLE: Mutex<Table> = Mutex::new(Table {
    by_id: None,
    by_base: BTreeMap::new(),
});

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    fn add(&mut self, region: Region) -> Arc<Region> {
        let region = Arc::new(region);
        let weak = Arc::downgrade(&region);
        self.by_base.insert(region.address(), Weak::clone(&weak));
        self.by_id.get_or_insert_default().insert(region.id, weak);
        region
    }
}

impl Region {
    /// Makes one of `bytes` bytes, all zeroes.
    pub(crate) fn create(bytes: usize) -> io::Result<Arc<Region>> {
        Region::adopt(memory::create(bytes)?)
    }

    /// Takes over one that came from another process, or finds it among those that are here.
    ///
    /// # Errors
    ///
    /// If it is no memory of ours, if it cannot be written, or cannot be mapped.
    pub(crate) fn adopt(fd: OwnedFd) -> io::Result<Arc<Region>> {
        let region = Region::adopt_any(fd)?;
        match region.is_only_to_read {
            true => Err(io::ErrorKind::InvalidData.into()),
            false => Ok(region),
        }
    }

    /// As [`adopt`](Region::adopt), of one that perhaps can only be read.
    pub(crate) fn adopt_any(fd: OwnedFd) -> io::Result<Arc<Region>> {
        let (id, bytes) = memory::inspect(&fd)?;
        let is_only_to_read = memory::is_only_to_read(&fd)?;
        let mut table = table();
        let known = table.by_id.get_or_insert_default().get(&id);
        if let Some(region) = known.and_then(Weak::upgrade) {
            return Ok(region);
        }
        let mapping = match is_only_to_read {
            true => Mapping::to_read(&fd, bytes)?,
            false => Mapping::of(&fd, bytes)?,
        };
        Ok(table.add(Region {
            id,
            mapping,
            is_only_to_read,
            fd,
            farewells: Mutex::default(),
        }))
    }

    /// Makes one of `bytes` bytes, all zeroes, that no other process can write.
    pub(crate) fn create_to_lend(bytes: usize) -> io::Result<Arc<Region>> {
        let (fd, mapping) = memory::create_to_lend(bytes)?;
        let (id, _) = memory::inspect(&fd)?;
        Ok(table().add(Region {
            id,
            mapping,
            is_only_to_read: false,
            fd,
            farewells: Mutex::default(),
        }))
    }

    /// Whether writing there would end this process.
    pub(crate) fn is_only_to_read(&self) -> bool {
        self.is_only_to_read
    }

    /// The region that holds the `bytes` bytes at `address` of this process, and where in it they
    /// are.
    pub(crate) fn holding(address: usize, bytes: usize) -> Option<(Arc<Region>, usize)> {
        let region = {
            let table = table();
            let (_, region) = table.by_base.range(..=address).next_back()?;
            region.upgrade()?
        };
        let offset = address - region.address();
        let end = offset.checked_add(bytes)?;
        (end <= region.bytes()).then_some((region, offset))
    }

    /// Which memory it is, the same in every process.
    pub(crate) fn id(&self) -> MemoryId {
        self.id
    }

    pub(crate) fn bytes(&self) -> usize {
        self.mapping.bytes()
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    fn address(&self) -> usize {
        self.mapping.base().as_ptr().addr()
    }

    /// Where `address` of this process, which is in it, is in any process.
    pub(crate) fn place_of(&self, address: usize) -> Place {
        Place::shared(self, address.wrapping_sub(self.address()))
    }

    /// Has `say` called, with `offset`, before this process is without the region: before it is
    /// unmapped, or when the process exits in order. Once for an offset, however often this is said.
    pub(crate) fn before_leaving(&self, offset: usize, say: fn(&Region, usize)) {
        at_exit(say_all_farewells);
        let mut farewells = self.farewells();
        if !farewells.iter().any(|known| known.offset == offset) {
            farewells.push(Farewell { offset, say });
        }
    }

    /// Forgets what was to be done in these `bytes` bytes, which are to be something else.
    pub(crate) fn forget_farewells(&self, offset: usize, bytes: usize) {
        self.farewells()
            .retain(|known| known.offset < offset || known.offset - offset >= bytes);
    }

    fn say_farewells(&self, farewells: &[Farewell]) {
        for farewell in farewells {
            (farewell.say)(self, farewell.offset);
        }
    }

    fn farewells(&self) -> MutexGuard<'_, Vec<Farewell>> {
        self.farewells
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What is at `offset`, of which `bytes` bytes are wanted, aligned to `align`.
    pub(crate) fn at(&self, offset: usize, bytes: usize, align: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(bytes)?;
        // A mapping starts at a page.
        if end > self.bytes() || !offset.is_multiple_of(align) || align > MAX_ALIGN {
            return None;
        }
        // SAFETY: in bounds of the mapping, as was just checked.
        Some(unsafe { self.mapping.base().add(offset) })
    }
}

/// The largest alignment there can be: that of a page.
pub(crate) const MAX_ALIGN: usize = 4096;

/// Called when this process exits. The thread that exits may be in the handler of a signal which
/// interrupted it anywhere, and others may still run: what somebody has locked is left alone.
fn say_all_farewells() {
    let regions: Vec<Arc<Region>> = match TABLE.try_lock() {
        Ok(table) => table.by_base.values().filter_map(Weak::upgrade).collect(),
        Err(_) => return,
    };
    for region in regions {
        let farewells = match region.farewells.try_lock() {
            Ok(mut farewells) => std::mem::take(&mut *farewells),
            Err(_) => Vec::new(),
        };
        region.say_farewells(&farewells);
        // It is not unmapped any more: that might wait for somebody's lock.
        std::mem::forget(region);
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let farewells = std::mem::take(&mut *self.farewells());
        self.say_farewells(&farewells);
        // It may have come in again since its last `Arc` went: then the entries are the new one's.
        let mut table = table();
        if let Some(by_id) = &mut table.by_id
            && by_id.get(&self.id).is_some_and(is_gone)
        {
            by_id.remove(&self.id);
        }
        let address = self.address();
        if table.by_base.get(&address).is_some_and(is_gone) {
            table.by_base.remove(&address);
        }
    }
}

fn is_gone(region: &Weak<Region>) -> bool {
    region.strong_count() == 0
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_region_that_comes_in_again_is_mapped_once() {
        let region = Region::create(8192).expect("there is memory");
        let copy = region.fd().try_clone().expect("there is a descriptor");
        let again = Region::adopt(copy).expect("it is ours");
        assert!(Arc::ptr_eq(&region, &again));
        let place = region.at(4096, 64, 64).expect("it is in bounds");
        let (found, offset) = Region::holding(place.as_ptr().addr(), 64).expect("it is there");
        assert!(Arc::ptr_eq(&region, &found));
        assert_eq!(offset, 4096);
        assert!(Region::holding(place.as_ptr().addr(), 4097).is_none());
    }

    #[test]
    fn a_farewell_is_said_once_before_the_region_is_gone_unless_it_is_forgotten() {
        fn mark(region: &Region, offset: usize) {
            let place = region.at(offset, 4, 4).expect("it is in bounds");
            // SAFETY: it is mapped, aligned, and shared through atomics alone.
            let count = unsafe { place.cast::<AtomicU32>().as_ref() };
            count.fetch_add(1, Ordering::Relaxed);
        }
        let region = Region::create(4096).expect("there is memory");
        let copy = region.fd().try_clone().expect("there is a descriptor");
        for offset in [0, 64, 64, 128] {
            region.before_leaving(offset, mark);
        }
        region.forget_farewells(0, 64);
        drop(region);
        let region = Region::adopt(copy).expect("it is ours");
        let count = |offset| {
            let place = region.at(offset, 4, 4).expect("it is in bounds");
            // SAFETY: as in `mark`.
            unsafe { place.cast::<AtomicU32>().as_ref() }.load(Ordering::Relaxed)
        };
        assert_eq!([count(0), count(64), count(128)], [0, 1, 1]);
    }

    #[test]
    fn what_is_out_of_bounds_or_not_aligned_is_refused() {
        let region = Region::create(4096).expect("there is memory");
        assert!(region.at(4096, 0, 1).is_some());
        for (offset, bytes, align) in [
            (4096, 1, 1),
            (usize::MAX, 2, 1),
            (4, 8, 8),
            (0, 1, 8192),
            (0, 4097, 1),
        ] {
            assert!(region.at(offset, bytes, align).is_none());
        }
    }
}
