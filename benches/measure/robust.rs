//! What an operating system offers for a value that processes share: a robust process-shared mutex
//! of POSIX threads, and a number beside it.

use std::mem::{MaybeUninit, align_of, size_of};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use mp::Shared;
use nix::libc;
use serde::{Deserialize, Serialize};

use super::Failure;

/// The number is the first word; its mutex has a line of the processor's cache to itself.
const MUTEX_WORD: usize = 8;
const WORDS: usize = MUTEX_WORD + size_of::<libc::pthread_mutex_t>().div_ceil(size_of::<u64>());
const _: () = assert!(align_of::<libc::pthread_mutex_t>() <= size_of::<u64>());

/// A number under a mutex, in memory that processes share.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct RobustValue {
    memory: Shared<[AtomicU64]>,
}

impl RobustValue {
    pub(crate) fn new() -> Result<RobustValue, Failure> {
        let memory = Shared::zeroed(WORDS)?;
        let value = RobustValue { memory };
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: there is room for the attributes.
        check(unsafe { libc::pthread_mutexattr_init(attributes.as_mut_ptr()) })?;
        let attributes = attributes.as_mut_ptr();
        // SAFETY: they were initialized.
        check(unsafe {
            libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED)
        })?;
        // SAFETY: as above.
        check(unsafe {
            libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST)
        })?;
        // SAFETY: there is room for a mutex, aligned, that nobody else knows of yet.
        check(unsafe { libc::pthread_mutex_init(value.mutex(), attributes) })?;
        Ok(value)
    }

    fn mutex(&self) -> *mut libc::pthread_mutex_t {
        let words: &[AtomicU64] = &self.memory;
        ptr::from_ref(&words[MUTEX_WORD..]).cast_mut().cast()
    }

    pub(crate) fn get(&self) -> u64 {
        self.memory[0].load(Ordering::Relaxed)
    }

    /// Locks, adds one, unlocks.
    #[inline]
    pub(crate) fn add_one(&self) -> Result<(), Failure> {
        self.lock()?;
        self.add_one_while_locked();
        self.unlock()
    }

    #[inline]
    pub(crate) fn add_one_while_locked(&self) {
        // The lock keeps others out, so two plain instructions will do.
        self.memory[0].store(self.get() + 1, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn lock(&self) -> Result<(), Failure> {
        // SAFETY: the mutex was initialized by whoever made the value.
        check(unsafe { libc::pthread_mutex_lock(self.mutex()) })
    }

    #[inline]
    pub(crate) fn unlock(&self) -> Result<(), Failure> {
        // SAFETY: as in `lock`.
        check(unsafe { libc::pthread_mutex_unlock(self.mutex()) })
    }
}

#[inline]
fn check(code: libc::c_int) -> Result<(), Failure> {
    match code {
        0 => Ok(()),
        code => Err(std::io::Error::from_raw_os_error(code).into()),
    }
}
