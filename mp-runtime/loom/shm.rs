//! What may live in shared memory: the source itself.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "the models need some of it, and the tests in the source are not run here"
)]

#[path = "../src/shm/shareable.rs"]
mod shareable;

pub use shareable::{Content, Mend, Shareable};

pub(crate) mod lease {
    //! Nothing is lent here.

    #[derive(PartialEq, Eq)]
    pub(crate) enum Lease {
        Running,
        Over,
        Lost(u32),
    }

    pub(crate) fn state_of(_lock_address: usize) -> Lease {
        Lease::Over
    }

    pub(crate) fn epoch_of(_lock_address: usize) -> u64 {
        0
    }

    pub(crate) fn bury_of(_lock_address: usize) {}
}
