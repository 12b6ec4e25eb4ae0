//! The sources of links that both sides run over shared memory: rings, bells, and which calls were
//! begun.
#![allow(dead_code, unreachable_pub, reason = "the models need some of it")]

#[path = "../../src/link/bell.rs"]
mod bell;
#[path = "../../src/link/lanes.rs"]
mod lanes;
// Beside the sources, since they see what these show to each other alone.
pub(crate) mod models;
#[path = "../../src/link/ring.rs"]
mod ring;
