//! Channels, queues and pipes between processes.

mod channel_limits;
mod channel_model;
mod channels;
#[path = "../interruption/mod.rs"]
mod interruption;
mod pipe;
#[path = "../programs/mod.rs"]
mod programs;
mod queues;
#[path = "../watchdog/mod.rs"]
mod watchdog;
