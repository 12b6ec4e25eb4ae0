//! The sources of rings, in memory of a few units.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "the models need some of it, and nobody spins here"
)]

pub(crate) mod bounds;
#[path = "../../src/channel/room.rs"]
mod room;
#[path = "../../src/channel/wait.rs"]
mod wait;
#[path = "../../src/channel/ring.rs"]
pub(crate) mod ring;
