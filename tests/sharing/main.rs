//! Memory that processes share, and the locks in it.

#[cfg(feature = "bytemuck")]
mod bytemuck;
#[path = "../interruption/mod.rs"]
mod interruption;
mod locks;
mod memory;
#[cfg(feature = "ndarray")]
mod ndarray;
mod primitives;
#[path = "../programs/mod.rs"]
mod programs;
mod shared;
// In sight of other crates, as far as lints know: those ask for documentation.
pub mod shared_macros;
#[path = "../watchdog/mod.rs"]
mod watchdog;
