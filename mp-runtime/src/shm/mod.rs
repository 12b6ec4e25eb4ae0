//! Typed memory that processes share.
//!
//! # Layout
//!
//! A *region* is a sealed memfd, mapped once in each process that has it (`region.rs`). Values lie
//! in regions at the same offset in every process, at whatever address; a *place* (memory, offset)
//! names one wherever it is (`heap.rs`). A [`Shared`] holds its block, the block its region.
//!
//! # Rules
//!
//! 1. A value is written by who makes it, before anybody else hears of it. From then on it is
//!    changed through atomics and locks alone: every handle gives `&T`.
//! 2. A region is never shrunk (its seals see to that) and never unmapped while a block of it is
//!    held.
//! 3. What comes from another process (number, offset, length, type of a handle; the region
//!    itself) is checked before it is used. What lies *in* a region was checked by nobody:
//!    [`Shareable`] says why any bytes there are values.
//!
//! # Death
//!
//! The kernel counts who has a region: descriptors, mappings and messages on their way. A process
//! that dies at any point lets go of all it had, and the memory is freed with its last holder.
//! There is no name in any directory, and no count of our own that a kill could leave wrong.

mod region;
mod expanse;
pub(crate) mod bulk;
mod heap;
pub(crate) mod lease;
mod shareable;
mod pod;
mod shared;
pub(crate) mod transit;

pub(crate) use expanse::Expanse;
pub(crate) use heap::Block;
pub use heap::Place;
pub use pod::Pod;
pub(crate) use region::Region;
pub use shareable::{AnyBits, Content, Mend, Optional, Shareable};
pub use shared::Shared;
pub(crate) use shared::{allocate, too_many};
