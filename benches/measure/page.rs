//! A mapping of shared memory, by the system calls alone.

use std::num::NonZeroUsize;
use std::os::fd::AsFd;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::Failure;

/// Maps the file, writes its first byte, and unmaps it.
pub(crate) fn map_and_unmap(file: impl AsFd, bytes: NonZeroUsize) -> Result<(), Failure> {
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: the kernel chooses a place where nothing is.
    let place = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, file, 0) }?;
    // SAFETY: it is mapped, at least a byte, and nobody else knows of it.
    unsafe { place.cast::<u8>().write_volatile(1) };
    // SAFETY: it is what was mapped above, and nothing refers to it.
    unsafe { munmap(place, bytes.get()) }?;
    Ok(())
}
