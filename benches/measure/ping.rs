//! The least that two processes need to wake each other: a futex, and no look before the sleep.

use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use mp::Shared;
use nix::libc;
use serde::{Deserialize, Serialize};

/// Whose turn it is; `OVER`: nobody's any more.
const CALLER: u32 = 0;
const ANSWERER: u32 = 1;
const OVER: u32 = 2;

/// A word that two processes share and sleep on.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Ping(Shared<AtomicU32>);

impl Ping {
    pub(crate) fn new() -> Result<Ping, mp::Error> {
        Ok(Ping(Shared::new(AtomicU32::new(CALLER))?))
    }

    /// Wakes the other, and sleeps until it has answered.
    pub(crate) fn call(&self) {
        self.pass_to(ANSWERER);
        self.sleep_while(ANSWERER);
    }

    /// Answers until [`end`](Ping::end).
    pub(crate) fn answer(&self) {
        while self.sleep_while(CALLER) != OVER {
            self.pass_to(CALLER);
        }
    }

    pub(crate) fn end(&self) {
        self.pass_to(OVER);
    }

    fn pass_to(&self, side: u32) {
        self.0.store(side, Ordering::SeqCst);
        // SAFETY: the word is there as long as `self`; nobody else is touched.
        unsafe { libc::syscall(libc::SYS_futex, self.0.as_ptr(), libc::FUTEX_WAKE, 1) };
    }

    fn sleep_while(&self, side: u32) -> u32 {
        loop {
            let now = self.0.load(Ordering::SeqCst);
            if now != side {
                return now;
            }
            let no_limit = ptr::null::<libc::timespec>();
            // SAFETY: as above; no limit of time is a null pointer.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    self.0.as_ptr(),
                    libc::FUTEX_WAIT,
                    side,
                    no_limit,
                )
            };
        }
    }
}
