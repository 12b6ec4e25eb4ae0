//! Bytes that many read and nobody can change any more: memory without a name, sealed against
//! writing when it is full. It goes to another process as one descriptor, whatever its length.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use nix::sys::uio::pwrite;

use super::memory::{self, Mapping};

/// A signal ends a step that it interrupts, with what is done by then, so a large one is no loss.
const STEP_BYTES: usize = 64 << 20;

/// Nobody can change what these are on, nor take them off.
const SEALS: SealFlag = SealFlag::F_SEAL_WRITE
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_SEAL);

/// Some, mapped until this is dropped.
#[derive(Debug)]
pub(crate) struct SealedBytes(Mapping);

/// Copies `bytes` into such memory.
///
/// # Errors
///
/// `OutOfMemory` if there is not enough of it; if there is no descriptor left, or the limit on the
/// size of files is lower.
pub(crate) fn seal(bytes: &[u8]) -> io::Result<OwnedFd> {
    memory::check_room(bytes.len() as u64)?;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let fd = memfd_create(c"mp-message", flags)?;
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        let step = &rest[..rest.len().min(STEP_BYTES)];
        let offset = done as libc::off_t;
        let written = super::uninterrupted(|| Ok(pwrite(&fd, step, offset)?));
        done += match written {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                return Err(io::Error::new(io::ErrorKind::OutOfMemory, error));
            }
            other => other?,
        };
    }
    fcntl(&fd, FcntlArg::F_ADD_SEALS(SEALS))?;
    Ok(fd)
}

impl SealedBytes {
    /// Maps what `fd` has, which comes from somebody who says that it is so long.
    ///
    /// # Errors
    ///
    /// If it is not what [`seal`] makes, or there is no room to map it.
    pub(crate) fn open(fd: &OwnedFd, bytes: u64) -> io::Result<SealedBytes> {
        // Only memory files have seals.
        let seals = SealFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GET_SEALS)?);
        let status = fstat(fd.as_fd())?;
        // A page that is not there would have to be found when it is read.
        let is_there = memory::blocks_bytes(&status) >= bytes;
        let length = usize::try_from(bytes).ok().filter(|&length| {
            length > 0
                && seals.contains(SEALS)
                && status.st_size.cast_unsigned() == bytes
                && is_there
        });
        let length = length.ok_or(io::ErrorKind::InvalidData)?;
        Mapping::to_read(fd, length).map(SealedBytes)
    }
}

impl Deref for SealedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let (base, bytes) = (self.0.base().as_ptr(), self.0.bytes());
        // SAFETY: mapped and readable for so many bytes until this is dropped; the seals keep
        // everybody from writing there and from making it shorter.
        unsafe { std::slice::from_raw_parts(base, bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_read_and_cannot_be_written() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
        let fd = seal(&bytes).expect("there is memory");
        let opened = SealedBytes::open(&fd, 100_000).expect("it is sealed");
        assert_eq!(*opened, *bytes);
        assert!(pwrite(&fd, &[1], 0).is_err());
    }

    #[test]
    fn what_is_not_sealed_or_not_so_long_is_refused() {
        let fd = seal(b"abc").expect("there is memory");
        for lie in [0, 2, 4, u64::MAX] {
            assert!(SealedBytes::open(&fd, lie).is_err(), "{lie}");
        }
        let region = memory::create(4096).expect("there is memory");
        assert!(SealedBytes::open(&region, 4096).is_err());
        let (pipe, _) = super::super::descriptor::pipe().expect("there are descriptors");
        assert!(SealedBytes::open(&pipe, 1).is_err());
    }
}
