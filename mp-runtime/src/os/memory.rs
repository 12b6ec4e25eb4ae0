//! Memory that processes share: sealed, anonymous files, mapped.
//!
//! Nobody can shrink such a file, so that touching its mapping never raises SIGBUS, and the kernel
//! frees it with its last descriptor and its last mapping, however those who had them ended. It
//! has no name that another user could find.
//!
//! Most of it is *set aside* when it is made. Some is *reserved*: an expanse of addresses behind which
//! there is memory where somebody has asked for it, until it is given back.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{FileStat, fstat};

use super::limit;

/// The size of a page: of both processors, as they are mostly set up.
const PAGE_BYTES: usize = 4096;

/// Memory is taken from the kernel in steps of so many bytes. A signal undoes the step it
/// interrupts, so that a step must fit between two of them: each that was undone is tried again in
/// halves, down to the smallest.
const STEP_BYTES: u64 = 4 << 20;
const SMALLEST_STEP_BYTES: u64 = 64 << 10;

/// Which memory it is, wherever it is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MemoryId {
    device: u64,
    inode: u64,
}

/// A mapping of all of it, readable and mostly writable, until it is dropped.
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
    let fd = unsealed(wanted)?;
    take(&fd, 0..wanted)?;
    seal(&fd)?;
    Ok(fd)
}

/// As [`create`], of memory that nobody but this process can write, and that only through the
/// mapping that this gives (`F_SEAL_FUTURE_WRITE`, Linux 5.1).
///
/// # Errors
///
/// As those of `create`, and if it cannot be mapped.
pub(crate) fn create_to_lend(bytes: usize) -> io::Result<(OwnedFd, Mapping)> {
    let wanted = bytes as u64;
    check_room(wanted)?;
    let fd = unsealed(wanted)?;
    take(&fd, 0..wanted)?;
    let mapping = Mapping::of(&fd, bytes)?;
    fcntl(
        &fd,
        FcntlArg::F_ADD_SEALS(SEALS | SealFlag::F_SEAL_FUTURE_WRITE),
    )?;
    Ok((fd, mapping))
}

/// Whether memory that came from another process is of the kind that [`create_to_lend`] makes.
pub(crate) fn is_only_to_read(fd: &impl AsFd) -> io::Result<bool> {
    let seals = SealFlag::from_bits_truncate(fcntl(fd.as_fd(), FcntlArg::F_GET_SEALS)?);
    Ok(seals.contains(SealFlag::F_SEAL_FUTURE_WRITE))
}

/// Makes room for up to `bytes` bytes, and no memory behind it yet.
///
/// # Errors
///
/// If there is no descriptor left, or the limit on the size of files is lower.
pub(crate) fn reserve(bytes: usize) -> io::Result<OwnedFd> {
    check_file_limit(bytes as u64)?;
    let fd = unsealed(bytes as u64)?;
    seal(&fd)?;
    Ok(fd)
}

/// Has the kernel set aside the memory at `range` of what was reserved; what is there stays.
///
/// # Errors
///
/// If there is not enough.
pub(crate) fn commit(fd: &impl AsFd, range: Range<usize>) -> io::Result<()> {
    let range = range.start as u64..range.end as u64;
    let wanted = range.end.saturating_sub(range.start);
    if wanted > COMMON_BYTES {
        check_available(wanted.saturating_add(MARGIN_BYTES))?;
    }
    take(fd, range)
}

/// Gives memory back to the kernel; zeroes stand in its place. In whole pages, so a part of what
/// is at the edges of `range` may stay.
///
/// # Errors
///
/// If the kernel refuses; then nothing is lost but memory.
pub(crate) fn give_back(fd: &impl AsFd, range: Range<usize>) -> io::Result<()> {
    let (start, end) = (range.start as libc::off_t, range.end as libc::off_t);
    if start < end {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        super::uninterrupted(|| Ok(fallocate(fd, flags, start, end - start)?))?;
    }
    Ok(())
}

fn unsealed(bytes: u64) -> io::Result<OwnedFd> {
    let size = libc::off_t::try_from(bytes).map_err(|_| too_large())?;
    let fd = memfd_create(c"mp", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    super::uninterrupted(|| Ok(nix::unistd::ftruncate(&fd, size)?))?;
    Ok(fd)
}

/// Nobody changes its size, nor takes these off.
const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_SEAL);

fn seal(fd: &OwnedFd) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_ADD_SEALS(SEALS))?;
    Ok(())
}

/// Has the kernel set memory aside. Pages that are missing when they are touched end the process,
/// so they are asked for here, where it is an error.
fn take(fd: &impl AsFd, range: Range<u64>) -> io::Result<()> {
    let mut done = range.start;
    let mut most = STEP_BYTES;
    while done < range.end {
        let step = most.min(range.end - done);
        let flags = FallocateFlags::empty();
        match fallocate(fd, flags, done.cast_signed(), step.cast_signed()) {
            Ok(()) => done += step,
            Err(Errno::EINTR) => most = (most / 2).max(SMALLEST_STEP_BYTES),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Looks at memory that came from another process: which it is, and how large.
///
/// # Errors
///
/// If it is no memory of the kind that [`create`] makes.
pub(crate) fn inspect(fd: &OwnedFd) -> io::Result<(MemoryId, usize)> {
    let (status, bytes) = sealed_status(fd)?;
    // What was not set aside would be, page by page, when this process reads it.
    if blocks_bytes(&status) < bytes as u64 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let id = MemoryId {
        device: status.st_dev,
        inode: status.st_ino,
    };
    Ok((id, bytes))
}

/// The size of memory that came from another process and that nobody can shrink.
///
/// # Errors
///
/// If it is no such memory.
pub(crate) fn sealed_bytes(fd: &impl AsFd) -> io::Result<usize> {
    sealed_status(fd).map(|(_, bytes)| bytes)
}

fn sealed_status(fd: &impl AsFd) -> io::Result<(FileStat, usize)> {
    // Only memory files have seals.
    let seals = fcntl(fd.as_fd(), FcntlArg::F_GET_SEALS)?;
    if !SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_SHRINK) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let status = fstat(fd.as_fd())?;
    let bytes = usize::try_from(status.st_size).map_err(io::Error::other)?;
    Ok((status, bytes))
}

/// How many bytes of memory are behind a file: it is counted in blocks of 512 (stat(2)).
pub(super) fn blocks_bytes(status: &FileStat) -> u64 {
    (status.st_blocks as u64).saturating_mul(512)
}

/// How many bytes of memory are behind `fd`.
pub(crate) fn present_bytes(fd: &impl AsFd) -> io::Result<u64> {
    Ok(blocks_bytes(&fstat(fd.as_fd())?))
}

/// Refuses a copy that this machine has no memory for, before it is made.
pub(crate) fn check_copy(bytes: usize) -> io::Result<()> {
    match bytes as u64 {
        bytes if bytes > SMALL_BYTES => check_available(bytes),
        _ => Ok(()),
    }
}

/// Refuses what this machine cannot give, before it is tried.
pub(super) fn check_room(bytes: u64) -> io::Result<()> {
    check_file_limit(bytes)?;
    if bytes > SMALL_BYTES {
        check_available(bytes)?;
    }
    Ok(())
}

fn check_file_limit(bytes: u64) -> io::Result<()> {
    // Growing a file beyond this limit raises SIGXFSZ.
    match file_limit()? {
        Some(limit) if bytes > limit => {
            let message = format!("it is more than RLIMIT_FSIZE allows, {limit} bytes");
            Err(io::Error::new(io::ErrorKind::FileTooLarge, message))
        }
        _ => Ok(()),
    }
}

/// How large a file this process may make, if there is a limit.
pub(crate) fn file_limit() -> io::Result<Option<u64>> {
    let (limit, _) = getrlimit(Resource::RLIMIT_FSIZE)?;
    Ok((limit != libc::RLIM_INFINITY).then_some(limit))
}

fn check_available(bytes: u64) -> io::Result<()> {
    match available_bytes() {
        Some(available) if bytes > available => Err(too_large()),
        _ => Ok(()),
    }
}

/// So little is not worth reading a file to check.
const SMALL_BYTES: u64 = 16 << 20;
/// As `SMALL_BYTES`, of what is asked for again and again.
const COMMON_BYTES: u64 = 1 << 20;
/// What is asked for in small steps stops so long before there is none left.
const MARGIN_BYTES: u64 = 16 << 20;

/// Who asked says how much that is: it may be less than what is needed for it.
fn too_large() -> io::Error {
    let message = "there is not that much free memory";
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

/// Less is not worth it.
const LEAST_HUGE_BYTES: usize = 4 << 20;
/// The size of a huge page, of both processors with pages of 4 KiB.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Has the kernel find large pages for memory that is about to be filled for the first time, if it is
/// large: it is found page by page otherwise, which takes longer than filling it.
pub(crate) fn prefer_huge_pages<T>(memory: &mut [std::mem::MaybeUninit<T>]) {
    let bytes = size_of_val(memory);
    if bytes < LEAST_HUGE_BYTES {
        return;
    }
    let start = memory.as_mut_ptr().cast::<u8>();
    let skipped = start.align_offset(HUGE_PAGE_BYTES);
    let Some(whole) = bytes.checked_sub(skipped) else {
        return;
    };
    let whole = whole / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    // SAFETY: within the slice, by the lengths.
    let aligned = unsafe { start.add(skipped) };
    if let Some(aligned) = NonNull::new(aligned.cast()).filter(|_| whole > 0) {
        // SAFETY: this is advice: what is in this memory, and who may use it, stays as it is. It fails
        // where the kernel has no such pages, and then small ones do.
        let _ = unsafe { madvise(aligned, whole, MmapAdvise::MADV_HUGEPAGE) };
    }
}

/// All the memory and swap that this machine has.
pub(crate) fn total_bytes() -> u64 {
    // SAFETY: all zeroes is a valid sysinfo.
    let mut info: libc::sysinfo = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills a structure that is there. It cannot fail then.
    unsafe { libc::sysinfo(&raw mut info) };
    (info.totalram + info.totalswap).saturating_mul(info.mem_unit.into())
}

/// How many addresses this process has left, about: of those that processors give to programs
/// (2⁴⁷ on x86-64), or of `RLIMIT_AS`.
pub(crate) fn free_addresses() -> usize {
    const ALL: usize = 1 << 47;
    let limit = getrlimit(Resource::RLIMIT_AS).map_or(ALL, |(limit, _)| {
        usize::try_from(limit).unwrap_or(ALL).min(ALL)
    });
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_ascii_whitespace().next();
    let used = pages.and_then(|pages| pages.parse::<usize>().ok());
    limit.saturating_sub(used.unwrap_or(0).saturating_mul(PAGE_BYTES))
}

impl Mapping {
    /// Maps the first `bytes` bytes behind `fd`, which must be there.
    pub(crate) fn of(fd: &impl AsFd, bytes: usize) -> io::Result<Mapping> {
        Mapping::map(fd, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)
    }

    /// As [`of`](Mapping::of), only to be read.
    pub(crate) fn to_read(fd: &impl AsFd, bytes: usize) -> io::Result<Mapping> {
        Mapping::map(fd, bytes, ProtFlags::PROT_READ)
    }

    fn map(fd: &impl AsFd, bytes: usize, access: ProtFlags) -> io::Result<Mapping> {
        let length = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, fd, 0) }?;
        Ok(Mapping {
            base: base.cast(),
            bytes,
        })
    }

    /// Has the kernel set aside the pages that these bytes lie in, and map them. Tells whether it can
    /// do so (`MADV_POPULATE_WRITE`, Linux 5.14).
    ///
    /// # Errors
    ///
    /// If there is not enough memory.
    ///
    /// # Panics
    ///
    /// If they are not within.
    pub(super) fn set_aside(&self, bytes: Range<usize>) -> io::Result<bool> {
        assert!(
            bytes.start <= bytes.end && bytes.end <= self.bytes,
            "beyond the mapping"
        );
        let start = bytes.start / PAGE_BYTES * PAGE_BYTES;
        // SAFETY: in bounds by the assertion.
        let first = unsafe { self.base.add(start) };
        let advise = || {
            // SAFETY: this finds memory for what is mapped here, and changes nothing that is there.
            Ok(unsafe {
                madvise(
                    first.cast(),
                    bytes.end - start,
                    MmapAdvise::MADV_POPULATE_WRITE,
                )
            }?)
        };
        match super::uninterrupted(advise) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
            // Where a touch would be a SIGBUS.
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {
                Err(io::ErrorKind::OutOfMemory.into())
            }
            Err(error) => Err(error),
        }
    }

    /// Leaves it out of core dumps.
    pub(crate) fn keep_from_dumps(&self) {
        // SAFETY: this says what a core dump has, and changes nothing that is there.
        let advised = unsafe { madvise(self.base.cast(), self.bytes, MmapAdvise::MADV_DONTDUMP) };
        debug_assert!(advised.is_ok(), "madvise of our own: {advised:?}");
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
