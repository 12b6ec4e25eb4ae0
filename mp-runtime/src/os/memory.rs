//! Memory that processes share: sealed, anonymous files, mapped.
//!
//! Nobody can shrink such a file, so that touching its mapping never raises SIGBUS, and the kernel
//! frees it with its last descriptor and its last mapping, however those who had them ended. It
//! has no name that another user could find.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::resource::{Resource, getrlimit};

use super::limit;

/// Memory is taken from the kernel in steps of so many bytes. A signal undoes the step it
/// interrupts, so a step must fit between two of them.
const STEP_BYTES: u64 = 4 << 20;

/// Which memory it is, wherever it is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MemoryId {
    device: u64,
    inode: u64,
}

/// A mapping of all of it, readable and writable, until it is dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a mapping belongs to no thread; what is done with its memory is unsafe for itself.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

/// Makes memory of `bytes` bytes, all zeroes, which the kernel has set aside.
///
/// # Errors
///
/// If there is not enough memory, no descriptor left, or the limit on the size of files is lower.
pub(crate) fn create(bytes: usize) -> io::Result<OwnedFd> {
    let wanted = bytes as u64;
    check_room(wanted)?;
    let size = libc::off_t::try_from(wanted).map_err(|_| too_large(wanted))?;
    let fd = memfd_create(c"mp", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    super::uninterrupted(|| Ok(nix::unistd::ftruncate(&fd, size)?))?;
    // Pages that are missing when they are touched end the process, so they are asked for here,
    // where it is an error.
    let mut done = 0;
    while done < wanted {
        let step = STEP_BYTES.min(wanted - done);
        super::uninterrupted(|| {
            let flags = FallocateFlags::empty();
            Ok(fallocate(
                &fd,
                flags,
                done.cast_signed(),
                step.cast_signed(),
            )?)
        })?;
        done += step;
    }
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(fd)
}

/// Looks at memory that came from another process: which it is, and how large.
///
/// # Errors
///
/// If it is no memory of the kind that [`create`] makes.
pub(crate) fn inspect(fd: &OwnedFd) -> io::Result<(MemoryId, usize)> {
    // Only memory files have seals.
    let seals = fcntl(fd, FcntlArg::F_GET_SEALS)?;
    if !SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_SHRINK) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let status = nix::sys::stat::fstat(fd.as_fd())?;
    let bytes = usize::try_from(status.st_size).map_err(io::Error::other)?;
    // What was not set aside would be, page by page, when this process reads it.
    if (status.st_blocks as u64).saturating_mul(512) < bytes as u64 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let id = MemoryId {
        device: status.st_dev,
        inode: status.st_ino,
    };
    Ok((id, bytes))
}

/// Refuses what this machine cannot give, before it is tried.
pub(super) fn check_room(bytes: u64) -> io::Result<()> {
    // Growing a file beyond this limit raises SIGXFSZ.
    let (limit, _) = getrlimit(Resource::RLIMIT_FSIZE)?;
    if limit != libc::RLIM_INFINITY && bytes > limit {
        let message = format!("{bytes} bytes are more than RLIMIT_FSIZE allows, {limit}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    if bytes > SMALL_BYTES && available_bytes().is_some_and(|available| bytes > available) {
        return Err(too_large(bytes));
    }
    Ok(())
}

/// So little is not worth reading a file to check.
const SMALL_BYTES: u64 = 16 << 20;

fn too_large(bytes: u64) -> io::Error {
    let message = format!("this machine does not have {bytes} bytes of free memory");
    io::Error::new(io::ErrorKind::OutOfMemory, message)
}

/// How much memory the kernel could give now: what is available, and free swap (proc(5)), and no
/// more than what is left of the cgroup's limit.
fn available_bytes() -> Option<u64> {
    let machine = machine_bytes()?;
    Some(limit::left_of_memory().map_or(machine, |left| left.min(machine)))
}

fn machine_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kilobytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    let swap = kilobytes("SwapFree:").unwrap_or(0);
    Some((kilobytes("MemAvailable:")? + swap) << 10)
}

impl Mapping {
    /// Maps the first `bytes` bytes behind `fd`, which must be there.
    pub(crate) fn of(fd: &impl AsFd, bytes: usize) -> io::Result<Mapping> {
        let length = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, fd, 0) }?;
        Ok(Mapping {
            base: base.cast(),
            bytes,
        })
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping `of` made; who made references into it vouched that they do
        // not outlive it.
        let unmapped = unsafe { munmap(self.base.cast(), self.bytes) };
        debug_assert!(
            unmapped.is_ok(),
            "munmap of a mapping of our own: {unmapped:?}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_machine_has_is_an_error() {
        let error = create(1 << 50).expect_err("nobody has a pebibyte");
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    }

    #[test]
    fn what_can_shrink_is_not_taken() {
        let fd = memfd_create(
            c"loose",
            MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
        )
        .expect("there is a descriptor");
        assert!(inspect(&fd).is_err());
        let (pipe, _) = super::super::descriptor::pipe().expect("there are descriptors");
        assert!(inspect(&pipe).is_err());
        let own = create(4096).expect("there is memory");
        let (_, bytes) = inspect(&own).expect("it is ours");
        assert_eq!(bytes, 4096);
    }
}
