//! Memory that comes and goes, of a few units: the header is whatever is looked for there, and each
//! unit of the ring has a first word and its bytes.
//!
//! Bytes of a unit that one thread writes while another looks are a race, which loom reports.
//! To touch a unit that has no memory fails the model.

use std::any::Any;
use std::cell::{Cell, OnceCell};
use std::io;
use std::ops::Range;
use std::ptr;
use std::sync::{Arc, Weak};

use bytemuck::AnyBitPattern;
use loom::cell::UnsafeCell;

use crate::channel::bounds::UNIT_BYTES;
use crate::os::identity;
use crate::os::shared_fd::SharedFd;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::{Bell, RawMutex, Slots};

const HEADER_BYTES: usize = 4096;
/// How many units there could be.
const UNIT_COUNT: usize = 8;

/// What may lie in the header.
pub(crate) trait Part: 'static {
    type Kept: 'static;

    fn zero() -> Self::Kept;
    fn of(kept: &Self::Kept) -> &Self;
}

macro_rules! part {
    ($type:ty, $zero:expr) => {
        impl Part for $type {
            type Kept = $type;

            fn zero() -> $type {
                $zero
            }

            fn of(kept: &$type) -> &$type {
                kept
            }
        }
    };
}

part!(AtomicU32, AtomicU32::new(0));
part!(AtomicU64, AtomicU64::new(0));
part!(RawMutex, RawMutex::new());
part!(Slots, Slots::new());

impl Part for Bell {
    type Kept = AtomicU32;

    fn zero() -> AtomicU32 {
        AtomicU32::new(0)
    }

    fn of(word: &AtomicU32) -> &Bell {
        let bell = ptr::from_ref(word).cast::<Bell>();
        // SAFETY: a bell is such a word and nothing else.
        unsafe { &*bell }
    }
}

pub(crate) struct Expanse {
    file: Arc<SharedFd>,
    header: Vec<OnceCell<Box<dyn Any>>>,
    units: Vec<Unit>,
}

struct Unit {
    is_there: Cell<bool>,
    first_word: AtomicU64,
    bytes: UnsafeCell<[u8; UNIT_BYTES]>,
}

impl Unit {
    fn change(&self, change: impl FnOnce(&mut [u8; UNIT_BYTES])) {
        // SAFETY: loom reports it if somebody else has the cell.
        self.bytes.with_mut(|bytes| change(unsafe { &mut *bytes }));
    }

    fn bytes(&self) -> [u8; UNIT_BYTES] {
        // SAFETY: loom reports it if somebody writes to the cell.
        self.bytes.with(|bytes| unsafe { *bytes })
    }
}

// SAFETY: loom runs all threads of a model on one.
unsafe impl Send for Expanse {}
// SAFETY: as above.
unsafe impl Sync for Expanse {}

impl std::fmt::Debug for Expanse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expanse").finish_non_exhaustive()
    }
}

impl Expanse {
    pub(crate) fn create(bytes: usize) -> io::Result<Arc<Expanse>> {
        let first_count = (bytes - HEADER_BYTES) / UNIT_BYTES;
        let units = (0..UNIT_COUNT).map(|index| Unit {
            is_there: Cell::new(index < first_count),
            first_word: AtomicU64::new(0),
            bytes: UnsafeCell::new([0; UNIT_BYTES]),
        });
        Ok(Arc::new_cyclic(|expanse| Expanse {
            file: Arc::new(SharedFd(Weak::clone(expanse))),
            header: (0..HEADER_BYTES).map(|_| OnceCell::new()).collect(),
            units: units.collect(),
        }))
    }

    pub(crate) fn adopt(file: Arc<SharedFd>) -> io::Result<Arc<Expanse>> {
        file.0
            .upgrade()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(crate) fn file(&self) -> &Arc<SharedFd> {
        &self.file
    }

    pub(crate) fn bytes(&self) -> usize {
        HEADER_BYTES + UNIT_COUNT * UNIT_BYTES
    }

    pub(crate) fn commit(&self, range: Range<usize>) -> io::Result<()> {
        identity::step();
        for unit in self.units_of(range) {
            unit.is_there.set(true);
        }
        Ok(())
    }

    pub(crate) fn give_back(&self, range: Range<usize>) {
        identity::step();
        for unit in self.units_of(range) {
            unit.is_there.set(false);
            unit.first_word.clear();
            unit.change(|bytes| bytes.fill(0));
        }
    }

    pub(crate) fn at<T: Part>(&self, offset: usize) -> &T {
        let kept: &dyn Any = if offset < HEADER_BYTES {
            &**self.header[offset].get_or_init(|| Box::new(T::zero()))
        } else {
            assert!(offset.is_multiple_of(UNIT_BYTES), "only first words");
            let unit = self.unit_at(offset);
            // Nobody may write bytes there meanwhile.
            unit.bytes();
            &unit.first_word
        };
        T::of(kept.downcast_ref().expect("it is the same at every look"))
    }

    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        self.at(offset)
    }

    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) -> bool {
        for (index, &byte) in bytes.iter().enumerate() {
            let place = offset + index;
            if place >= self.bytes() {
                return false;
            }
            let unit = self.unit_at(place);
            if index == 0 || place.is_multiple_of(UNIT_BYTES) {
                identity::step();
            }
            if place.is_multiple_of(UNIT_BYTES) {
                unit.first_word.store(u64::from(byte), Ordering::Relaxed);
            }
            unit.change(|bytes| bytes[place % UNIT_BYTES] = byte);
        }
        true
    }

    pub(crate) fn read<T: AnyBitPattern>(
        &self,
        offset: usize,
        count: usize,
        to: &mut Vec<T>,
    ) -> io::Result<bool> {
        let size = size_of::<T>();
        for index in 0..count {
            let Some(value) = self.value(offset + index * size) else {
                return Ok(false);
            };
            to.push(value);
        }
        Ok(true)
    }

    pub(crate) fn value<T: AnyBitPattern>(&self, offset: usize) -> Option<T> {
        let end = offset + size_of::<T>();
        let mut bytes = Vec::new();
        for place in offset..end.min(self.bytes()) {
            if place.is_multiple_of(UNIT_BYTES) {
                identity::step();
            }
            bytes.push(self.unit_at(place).bytes()[place % UNIT_BYTES]);
        }
        (end <= self.bytes()).then(|| bytemuck::pod_read_unaligned(&bytes))
    }

    fn unit_at(&self, offset: usize) -> &Unit {
        let index = (offset - HEADER_BYTES) / UNIT_BYTES;
        let unit = &self.units[index];
        assert!(unit.is_there.get(), "unit {index} has no memory");
        unit
    }

    fn units_of(&self, range: Range<usize>) -> &[Unit] {
        let index = |offset| (offset - HEADER_BYTES) / UNIT_BYTES;
        &self.units[index(range.start)..index(range.end)]
    }
}
