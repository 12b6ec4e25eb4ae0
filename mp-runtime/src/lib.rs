//! The runtime of `mp`. Programs use the facade, `mp`; this crate is its inside, and the order of
//! its modules is its architecture: a module names only modules above it.

#[cfg(not(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!(
    "mp runs on Linux with glibc on x86-64 and aarch64: it needs pidfds, memfds and /proc; \
     build for x86_64-unknown-linux-gnu or aarch64-unknown-linux-gnu"
);

pub mod error;
mod few;
#[expect(
    unsafe_code,
    reason = "system calls, shared memory and signal handlers live here alone"
)]
mod os;
#[expect(
    unsafe_code,
    reason = "typed values in memory that other processes write to"
)]
pub mod shm;
#[expect(
    unsafe_code,
    reason = "locks give references to what they guard, and live in shared memory"
)]
pub mod sync;
mod wire;
pub mod channel;
mod registry;
#[expect(unsafe_code, reason = "a worker reads calls where its parent put them")]
mod link;
pub mod process;
pub mod pool;
pub mod wait;

#[doc(hidden)]
pub mod __private {
    //! What the macros' output names. Not part of the public API.

    pub use bytemuck;
    pub use inventory;

    pub use crate::process::enter_test;
    pub use crate::registry::{
        Call, CallError, Debugs, Displays, Fails, Function, Items, Registered, Returned, Succeeds,
    };
    pub use crate::shm::{AnyBits, Mend, Optional, Place};
    pub use crate::sync::{Guarded, RegisteredStatic, lock_order};
    pub use crate::wire::{
        BulkLane, DecodeError, Decoder, EncodeError, Encoder, Lane, Plain, RefusedLane, SerdeLane,
        Transfer, can_travel,
    };
}

pub use registry::ProcessFn;
