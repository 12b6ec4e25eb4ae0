//! Sleeping on a word of memory, and waking who sleeps there, in this process or another.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use nix::libc;

use super::clock;

/// Sleeps until somebody wakes `word`, unless it no longer holds `expected`. It may return at any
/// time for no reason, and does at a signal and after `limit`: the caller looks again. Tells
/// whether nobody woke it: then whoever should have may be dead. (A signal counts as such: where
/// one comes before each limit, deaths must be noticed too.)
pub(crate) fn wait(word: &AtomicU32, expected: u32, limit: Duration) -> bool {
    sleep(word.as_ptr(), expected, limit)
}

/// Wakes up to `count` of those who sleep on `word`, and tells how many there were.
pub(crate) fn wake(word: &AtomicU32, count: u32) -> u32 {
    rouse(word.as_ptr(), count)
}

/// As [`wait`], as one of those only whom a wake for one of the `kinds` wakes.
pub(crate) fn wait_as(word: &AtomicU32, expected: u32, limit: Option<Duration>, kinds: u32) {
    // FUTEX_WAIT_BITSET takes the moment at which it ends, and not how long it lasts.
    let until = limit.and_then(|limit| {
        let nanos = u64::try_from(limit.as_nanos()).ok()?;
        let until = clock::monotonic_nanos().checked_add(nanos)?;
        Some(libc::timespec {
            tv_sec: libc::time_t::try_from(until / 1_000_000_000).ok()?,
            tv_nsec: (until % 1_000_000_000) as libc::c_long,
        })
    });
    let until = until.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word is valid and aligned, as the reference; the kernel reads it atomically, and
    // reads `until` before it returns.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET,
            expected,
            until,
            ptr::null::<u32>(),
            kinds,
        )
    };
}

/// Wakes all who sleep on `word` as one of these `kinds`, or as any.
pub(crate) fn wake_kinds(word: &AtomicU32, kinds: u32) {
    // SAFETY: the kernel uses the address as a name here, and does not touch what is there.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE_BITSET,
            i32::MAX,
            ptr::null::<libc::timespec>(),
            ptr::null::<u32>(),
            kinds,
        )
    };
}

/// As [`wait`], on the low half of a word.
pub(crate) fn wait_low(word: &AtomicU64, expected: u64, limit: Duration) -> bool {
    sleep(low_half(word), expected as u32, limit)
}

/// As [`wake`], of those who sleep on the low half of a word.
pub(crate) fn wake_low(word: &AtomicU64, count: u32) {
    rouse(low_half(word), count);
}

/// Where the kernel looks: both processors are little-endian.
fn low_half(word: &AtomicU64) -> *mut u32 {
    word.as_ptr().cast()
}

fn sleep(word: *mut u32, expected: u32, limit: Duration) -> bool {
    let limit = libc::timespec {
        tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(limit.subsec_nanos()),
    };
    // SAFETY: the word is valid and aligned, as the references it came from; the kernel reads it
    // atomically, and reads `limit` before it returns.
    let woken = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word,
            libc::FUTEX_WAIT,
            expected,
            ptr::from_ref(&limit),
        )
    };
    woken != 0 && io::Error::last_os_error().raw_os_error() != Some(libc::EAGAIN)
}

fn rouse(word: *mut u32, count: u32) -> u32 {
    let count = count.min(i32::MAX as u32);
    // SAFETY: the kernel uses the address as a name here, and does not touch what is there.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, count) };
    u32::try_from(woken).unwrap_or(0)
}
