//! Processes: how they start and end, what they have and leave, and what becomes of those around them.

mod death;
mod ending;
mod fork_server;
mod process;
#[path = "../programs/mod.rs"]
mod programs;
mod signals;
mod start;
mod stderr;
mod trust;
#[path = "../watchdog/mod.rs"]
mod watchdog;
