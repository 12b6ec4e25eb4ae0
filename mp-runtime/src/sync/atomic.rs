//! The atomics that the primitives are built on, named in one place so that models can put their
//! own beneath the same code.

pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence, fence};
