//! Where values are put: small ones into slabs, several to a region, so that a hundred thousand
//! take a few descriptors; large ones into a region of their own.
//!
//! A slot is used again only if its value never left this process, and only while its slab is the
//! one that is being filled. A value that did leave may be in the hands of any process, and there
//! is no count of those that a kill could not falsify; its slab goes back to the kernel when
//! nobody has anything in it any more.

use std::collections::HashMap;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::region::{MAX_ALIGN, Region};
use crate::os::memory::MemoryId;

/// Slots are multiples of this, and aligned to it: a line of the processor's cache, so that two
/// locks are never fought over as one.
const SLOT_BYTES: usize = 64;
/// The first slab of a process; each is twice as large as the one before, up to `LAST_SLAB_BYTES`.
const FIRST_SLAB_BYTES: usize = 64 << 10;
const LAST_SLAB_BYTES: usize = 1 << 20;
/// What is larger gets a region of its own.
const SMALL_BYTES: usize = 32 << 10;

/// A place in shared memory, held until the last `Arc` of it is dropped.
#[derive(Debug)]
pub(crate) struct Block {
    region: Arc<Region>,
    place: Place,
    start: NonNull<u8>,
    slot: Option<Slot>,
}

// SAFETY: it says where something is; what is done with that is unsafe for itself.
unsafe impl Send for Block {}
// SAFETY: as for `Send`.
unsafe impl Sync for Block {}

/// Where something is, the same in every process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    memory: Option<MemoryId>,
    offset: usize,
}

impl Place {
    /// That of an address in memory that is this process's own.
    pub(crate) fn private(address: usize) -> Place {
        Place {
            memory: None,
            offset: address,
        }
    }

    pub(crate) fn shared(region: &Region, offset: usize) -> Place {
        Place {
            memory: Some(region.id()),
            offset,
        }
    }
}

/// A slot of a slab that this process has filled.
#[derive(Debug)]
struct Slot {
    bytes: usize,
    /// Another process was told of it.
    has_left: AtomicBool,
}

/// The slab that is being filled.
#[derive(Default)]
struct Heap {
    slab: Option<Slab>,
    slab_bytes: usize,
}

struct Slab {
    region: Arc<Region>,
    used_bytes: usize,
    /// Slots to use again, by size.
    free: HashMap<usize, Vec<usize>>,
}

static HEAP: Mutex<Heap> = Mutex::new(Heap {
    slab: None,
    slab_bytes: FIRST_SLAB_BYTES,
});

fn heap() -> MutexGuard<'static, Heap> {
    HEAP.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Block {
    /// Room for `bytes` bytes, aligned to `align`. What is there is old: the caller writes first.
    ///
    /// # Errors
    ///
    /// If there is no memory, or no descriptor for it.
    pub(crate) fn allocate(bytes: usize, align: usize) -> io::Result<Arc<Block>> {
        if align > MAX_ALIGN {
            let message = format!("values aligned to {align} bytes cannot be shared");
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        let slot_bytes = bytes.max(1).next_multiple_of(SLOT_BYTES);
        if align > SLOT_BYTES || slot_bytes > SMALL_BYTES {
            let region = Region::create(slot_bytes)?;
            return Block::existing(region, 0, slot_bytes, align);
        }
        let (region, offset) = heap().take(slot_bytes)?;
        let start = region
            .at(offset, slot_bytes, align)
            .ok_or(io::ErrorKind::InvalidData)?;
        let slot = Slot {
            bytes: slot_bytes,
            has_left: AtomicBool::new(false),
        };
        Ok(Block::of(region, offset, start, Some(slot)))
    }

    /// One that was filled already, by another process perhaps.
    ///
    /// # Errors
    ///
    /// If the region has no such place.
    pub(crate) fn existing(
        region: Arc<Region>,
        offset: usize,
        bytes: usize,
        align: usize,
    ) -> io::Result<Arc<Block>> {
        let start = region
            .at(offset, bytes, align)
            .ok_or(io::ErrorKind::InvalidData)?;
        Ok(Block::of(region, offset, start, None))
    }

    /// The one at `start` of this process.
    fn of(
        region: Arc<Region>,
        offset: usize,
        start: NonNull<u8>,
        slot: Option<Slot>,
    ) -> Arc<Block> {
        Arc::new(Block {
            place: Place::shared(&region, offset),
            region,
            start,
            slot,
        })
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Whether it was all zeroes when it was allocated: it is a region of its own.
    pub(crate) fn is_blank(&self) -> bool {
        self.slot.is_none()
    }

    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Where it is in its region.
    pub(crate) fn offset(&self) -> usize {
        self.place.offset
    }

    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Its region, for another process.
    pub(crate) fn leave(&self) -> &Arc<Region> {
        if let Some(slot) = &self.slot {
            slot.has_left.store(true, Ordering::Relaxed);
        }
        &self.region
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(slot) = &self.slot
            && !slot.has_left.load(Ordering::Relaxed)
        {
            self.region.forget_farewells(self.place.offset, slot.bytes);
            heap().give_back(&self.region, self.place.offset, slot.bytes);
        }
    }
}

impl Heap {
    fn take(&mut self, bytes: usize) -> io::Result<(Arc<Region>, usize)> {
        if let Some(slab) = &mut self.slab
            && let Some(offset) = slab.take(bytes)
        {
            return Ok((Arc::clone(&slab.region), offset));
        }
        let region = Region::create(self.slab_bytes)?;
        self.slab_bytes = (self.slab_bytes * 2).min(LAST_SLAB_BYTES);
        self.slab = Some(Slab {
            region: Arc::clone(&region),
            used_bytes: bytes,
            free: HashMap::new(),
        });
        Ok((region, 0))
    }

    fn give_back(&mut self, region: &Arc<Region>, offset: usize, bytes: usize) {
        if let Some(slab) = &mut self.slab
            && Arc::ptr_eq(&slab.region, region)
        {
            slab.free.entry(bytes).or_default().push(offset);
        }
    }
}

impl Slab {
    fn take(&mut self, bytes: usize) -> Option<usize> {
        if let Some(offset) = self.free.get_mut(&bytes).and_then(Vec::pop) {
            return Some(offset);
        }
        let offset = self.used_bytes;
        let end = offset.checked_add(bytes)?;
        (end <= self.region.bytes()).then(|| {
            self.used_bytes = end;
            offset
        })
    }
}
