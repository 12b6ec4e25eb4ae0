//! Tests of what is inside of channels.
#![expect(clippy::unwrap_used, reason = "a test fails")]

#[path = "../../../tests/watchdog/mod.rs"]
mod watchdog;

mod ring;
mod room;
