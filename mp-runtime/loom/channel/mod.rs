//! The sources of rings, in memory of a few units.
#![allow(
    dead_code,
    private_bounds,
    unreachable_pub,
    reason = "the models need some of it, and nobody spins here"
)]

pub(crate) mod bounds;
#[path = "../../src/channel/room.rs"]
mod room;
#[path = "../../src/channel/wait.rs"]
mod wait;
#[path = "../../src/channel/takers.rs"]
mod takers;
#[path = "../../src/channel/ring.rs"]
pub(crate) mod ring;

use std::io;

use crate::sync::Patience;
use ring::{Message, Refused, Ring};

/// Puts a message, unless the other side says that it has left.
pub(crate) fn put(ring: &Ring, bytes: &[u8], patience: Patience) -> Result<(), Refused> {
    ring.put(bytes, patience, |_| ring.leavings() != 0)
}

/// As [`put`], taking one.
pub(crate) fn take<R>(
    ring: &Ring,
    patience: Patience,
    read: impl FnMut(&Message<'_>) -> io::Result<R>,
) -> Result<R, Refused> {
    ring.take(patience, |_| ring.leavings() != 0, read)
}
