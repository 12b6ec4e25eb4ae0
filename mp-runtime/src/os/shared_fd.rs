//! Open files that processes share, each known once in a process however often it comes in.
//!
//! What the kernel counts (who still has an end of a pipe, say) is true whatever was killed; a
//! process that holds one descriptor of a file tells no more and no less than one that holds ten.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::stat::fstat;

/// Which file it is, and which end of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
    access: i32,
}

/// A descriptor, closed with its last `Arc`.
#[derive(Debug)]
pub(crate) struct SharedFd {
    id: FileId,
    fd: OwnedFd,
    /// Dropped after `fd`.
    farewell: Farewell,
}

/// What is to be done when this process has let go of a file: when this is dropped.
#[derive(Default)]
struct Farewell(OnceLock<Box<dyn Fn() + Send + Sync>>);

/// Those of this process.
static TABLE: Mutex<Option<HashMap<FileId, Weak<SharedFd>>>> = Mutex::new(None);

fn table() -> MutexGuard<'static, Option<HashMap<FileId, Weak<SharedFd>>>> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SharedFd {
    /// Takes over `fd`, or closes it and gives what this process has of the same file.
    ///
    /// # Errors
    ///
    /// If the kernel does not say what it is.
    pub(crate) fn adopt(fd: OwnedFd) -> io::Result<Arc<SharedFd>> {
        let status = fstat(fd.as_fd())?;
        let id = FileId {
            device: status.st_dev,
            inode: status.st_ino,
            access: fcntl(fd.as_fd(), FcntlArg::F_GETFL)? & OFlag::O_ACCMODE.bits(),
        };
        let mut table = table();
        let known = table.get_or_insert_default();
        let known_one = known.get(&id).and_then(Weak::upgrade);
        if let Some(file) = &known_one
            && is_same(file.as_fd(), fd.as_fd())
        {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(SharedFd {
            id,
            fd,
            farewell: Farewell::default(),
        });
        if known_one.is_none() {
            known.insert(id, Arc::downgrade(&file));
        }
        // Dropping it would take the lock of the table.
        drop(table);
        drop(known_one);
        Ok(file)
    }

    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Has `say` called when this process has let go of it, unless that was said before.
    pub(crate) fn on_leaving(&self, say: impl Fn() + Send + Sync + 'static) {
        self.farewell.0.get_or_init(|| Box::new(say));
    }
}

/// Whether two descriptors of what looks like the same file are: numbers of pipes and sockets are used
/// again after 2³² of them (kcmp(2)).
fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    /// `KCMP_FILE`: the same open file.
    const FILE: libc::c_int = 0;
    let (own, fds) = (std::process::id(), [one.as_raw_fd(), other.as_raw_fd()]);
    // SAFETY: it takes five integers, and compares.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, own, own, FILE, fds[0], fds[1]) };
    // Where the kernel has not got it, or does not allow it, that has to do.
    order <= 0
}

impl AsFd for SharedFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        if let Some(say) = self.0.get() {
            say();
        }
    }
}

impl fmt::Debug for Farewell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Farewell").finish_non_exhaustive()
    }
}

impl Drop for SharedFd {
    fn drop(&mut self) {
        // The same file may have come in again since the last `Arc` went.
        let mut table = table();
        if let Some(known) = &mut *table
            && known
                .get(&self.id)
                .is_some_and(|file| file.strong_count() == 0)
        {
            known.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::descriptor;

    #[test]
    fn a_file_that_comes_in_again_is_the_one_that_is_here() {
        let (reader, writer) = descriptor::pipe().expect("there are descriptors");
        let copy = writer.try_clone().expect("there is a descriptor");
        let reader = SharedFd::adopt(reader).expect("it is open");
        let writer = SharedFd::adopt(writer).expect("it is open");
        assert!(!Arc::ptr_eq(&reader, &writer), "the ends of a pipe are two");
        let again = SharedFd::adopt(copy).expect("it is open");
        assert!(Arc::ptr_eq(&writer, &again));
    }

    #[test]
    fn a_file_that_was_let_go_can_come_in_again() {
        let (_reader, writer) = descriptor::pipe().expect("there are descriptors");
        let copy = writer.try_clone().expect("there is a descriptor");
        let first = SharedFd::adopt(writer).expect("it is open");
        let id = first.id();
        drop(first);
        assert_eq!(SharedFd::adopt(copy).expect("it is open").id(), id);
    }
}
