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
