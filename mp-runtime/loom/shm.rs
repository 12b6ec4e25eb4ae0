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
    }

    pub(crate) fn is_running(_lock_address: usize) -> bool {
        false
    }

    pub(crate) fn end(_lock_address: usize, _note_loss: &dyn Fn(u32)) -> Lease {
        Lease::Over
    }
}
