//! What pools make of what they are given, and when.

mod ahead;
mod backends;
mod policies;
mod pool;
#[path = "../programs/mod.rs"]
mod programs;
#[cfg(feature = "indicatif")]
mod progress;
mod tasks;
#[path = "../watchdog/mod.rs"]
mod watchdog;
