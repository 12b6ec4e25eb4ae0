//! Forks this process so that the new one is a child of its *parent*, not of itself (`CLONE_PARENT`,
//! clone(2)).
//!
//! glibc has no call for that, so the system call is made by hand, and what glibc's `fork` does
//! beyond it is done here as far as it matters in a process of which one thread alone runs:
//!
//! | what `fork` of glibc does | here |
//! | --- | --- |
//! | has the kernel write the new thread id to where glibc keeps it | the same: the kernel says where that is |
//! | registers the list of robust mutexes anew | the same |
//! | takes and mends the locks of malloc, stdio and the dynamic linker | nobody holds them: no other thread runs |
//! | calls the handlers of `pthread_atfork` | not done, as the docs of `StartMethod` say; the library's own is called by hand |
//!
//! A wrong thread id would not show in `raise` and `abort`, which ask the kernel, but in recursive
//! and robust mutexes, and `pthread_setaffinity_np` would reach the wrong process. So a process
//! whose place of the thread id cannot be found is no [`Template`].

use std::ffi::{c_int, c_long, c_ulong};
use std::fs;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::ptr;
use std::time::{Duration, Instant};

use nix::libc;

use super::{identity, thread};

/// How long a thread is given that is about to wait for this one.
const PATIENCE: Duration = Duration::from_secs(1);

/// A process that can be forked.
#[derive(Debug)]
pub(crate) struct Template {
    /// Where glibc keeps the id of this thread.
    thread_id: *mut c_int,
    /// The list of robust mutexes of this thread, and the size of its head.
    robust_list: (*mut libc::c_void, usize),
}

/// Which of the two this is.
pub(crate) enum Fork {
    Child,
    Original { id: u32, pidfd: OwnedFd },
}

impl Template {
    /// Finds out whether this process can be forked; if not, the reason.
    pub(crate) fn of_this_process() -> Result<Template, String> {
        check_threads()?;
        let mut thread_id: *mut c_int = ptr::null_mut();
        let place = &raw mut thread_id;
        // SAFETY: the kernel writes one pointer to `place`, which is valid for that.
        let told = unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, place, 0, 0, 0) };
        if told != 0 || thread_id.is_null() {
            return Err("the kernel does not tell where the thread id is kept".into());
        }
        // SAFETY: glibc registered this address of its own structure of this thread when it started
        // the thread, and it stays for as long as the thread runs.
        let kept = unsafe { thread_id.read() };
        if kept.cast_unsigned() != thread::own_id() {
            return Err("the thread id is not kept where the kernel says".into());
        }
        let mut robust_list = (ptr::null_mut::<libc::c_void>(), 0_usize);
        let (head, length) = (&raw mut robust_list.0, &raw mut robust_list.1);
        // SAFETY: the kernel writes a pointer and a size, to places that are valid for that.
        let told = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, head, length) };
        if told != 0 {
            return Err("the list of robust mutexes is not known".into());
        }
        Ok(Template {
            thread_id,
            robust_list,
        })
    }

    /// Forks.
    ///
    /// # Errors
    ///
    /// Whatever keeps the kernel from it; there is no new process then.
    pub(crate) fn fork(&self) -> io::Result<Fork> {
        let flags = libc::CLONE_PARENT
            | libc::CLONE_PIDFD
            | libc::CLONE_CHILD_SETTID
            | libc::CLONE_CHILD_CLEARTID;
        let mut pidfd: RawFd = -1;
        let id = self.clone(flags as c_ulong, &raw mut pidfd);
        match id {
            0 => {
                self.settle();
                Ok(Fork::Child)
            }
            1.. => Ok(Fork::Original {
                id: id as u32,
                // SAFETY: the kernel just made this descriptor (close-on-exec), so nothing else
                // owns it.
                pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
            }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The signal at the end of a child of somebody else is that of the caller's own end, so none
    /// is named.
    fn clone(&self, flags: c_ulong, pidfd: *mut RawFd) -> c_long {
        let (stack, tls) = (ptr::null_mut::<libc::c_void>(), 0_usize);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: without CLONE_VM the new process has a copy of this memory and goes on on its own
        // copy of this stack; the kernel writes to `pidfd`, a valid place, and in the child to
        // where glibc keeps the thread id. No other thread runs, so no lock is held for ever.
        return unsafe { libc::syscall(libc::SYS_clone, flags, stack, pidfd, self.thread_id, tls) };
        #[cfg(not(target_arch = "x86_64"))]
        // SAFETY: as above; the last two change places.
        return unsafe { libc::syscall(libc::SYS_clone, flags, stack, pidfd, tls, self.thread_id) };
    }

    /// What the child does first.
    fn settle(&self) {
        let (head, length) = self.robust_list;
        // SAFETY: the head lies in glibc's structure of this thread, whose copy is at the same
        // address here. If it fails robust mutexes of the program do not see this process die.
        unsafe { libc::syscall(libc::SYS_set_robust_list, head, length) };
        identity::forget();
    }
}

/// Whether no thread runs but this one. The main thread may be there if it waits, without a limit
/// of time, until this one wakes it, as in a test, whose harness waits for the thread of the test:
/// it holds no lock that anybody else could want, and is not in the child.
fn check_threads() -> Result<(), String> {
    let start = Instant::now();
    loop {
        let tasks = fs::read_dir("/proc/self/task").map_err(|error| error.to_string())?;
        let names = tasks.filter_map(|task| task.ok()?.file_name().into_string().ok());
        let threads: Vec<u32> = names.filter_map(|name| name.parse().ok()).collect();
        let own_id = thread::own_id();
        let main_id = std::process::id();
        match *threads {
            [only] if only == own_id => return Ok(()),
            [first, second]
                if own_id != main_id
                    && [first, second].contains(&main_id)
                    && [first, second].contains(&own_id) =>
            {
                if is_waiting_for_ever(main_id) {
                    return Ok(());
                }
            }
            _ => return Err("another thread runs in it before it comes to `mp::init`".into()),
        }
        if start.elapsed() > PATIENCE {
            return Err("its main thread runs beside the one that comes to `mp::init`".into());
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Whether a thread of this process waits on a futex without a limit of time.
fn is_waiting_for_ever(thread_id: u32) -> bool {
    let call = fs::read_to_string(format!("/proc/self/task/{thread_id}/syscall"));
    let call = call.unwrap_or_default();
    // The number of the call and its arguments: the word, what to do, a value, the time.
    let mut fields = call.split_whitespace();
    let number = fields.next().and_then(|number| number.parse().ok());
    number == Some(libc::SYS_futex) && fields.nth(3) == Some("0x0")
}
