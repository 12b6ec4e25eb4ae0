//! What may live in shared memory: the source itself.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "the models need some of it, and the tests in the source are not run here"
)]

use std::ptr::NonNull;
use std::sync::Arc;

#[path = "../src/shm/shareable.rs"]
mod shareable;
mod expanse;

pub(crate) use expanse::Expanse;
pub use shareable::{Content, Mend, Shareable};

/// No memory is shared here: nobody has a region.
pub(crate) enum Region {}

impl Region {
    pub(crate) fn holding(_address: usize, _bytes: usize) -> Option<(Arc<Region>, usize)> {
        None
    }

    pub(crate) fn before_leaving(&self, _offset: usize, _say: fn(&Region, usize)) {
        match *self {}
    }

    pub(crate) fn at(&self, _offset: usize, _bytes: usize, _align: usize) -> Option<NonNull<u8>> {
        match *self {}
    }
}

pub(crate) mod lease {
    //! Nothing is lent here.

    #[derive(PartialEq, Eq)]
    pub(crate) enum Lease {
        Running,
        Over,
    }

    pub(crate) fn is_running(_lock_address: usize) -> bool {
        false
    }

    pub(crate) fn end(_lock_address: usize, _note_loss: &dyn Fn(u32)) -> Lease {
        Lease::Over
    }
}
