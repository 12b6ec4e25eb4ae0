//! Who is alive: names of threads and processes that fit into a word and are never used twice.
//!
//! An id alone can come to mean another thread. So a name is the id together with the moment the
//! kernel started it (field 22 of `/proc/<id>/stat`, proc(5)), in clock ticks, cut to 32 bits:
//! two names are equal by mistake only if an id is used again within a hundredth of a second, or
//! at the same tick 497 days later.
//!
//! ```text
//! bit 63            32 31            10 9          0
//!    ┌────────────────┬────────────────┬────────────┐
//!    │ moment (0: not │ id, below 2²²  │ zero: free │
//!    │ known)         │ (PID_MAX_LIMIT)│ for flags  │
//!    └────────────────┴────────────────┴────────────┘
//! ```
//!
//! Names are kept for the life of a thread; a forked child starts without.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use nix::libc;

const ID_SHIFT: u32 = 10;
const MOMENT_SHIFT: u32 = 32;
const ID_MASK: u64 = (1 << (MOMENT_SHIFT - ID_SHIFT)) - 1;
const NAME_MASK: u64 = !((1 << ID_SHIFT) - 1);

/// The name of a thread. No thread has the name `NOBODY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadName(u64);

/// The name of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessName(u64);

thread_local! {
    static OWN_THREAD: Cell<u64> = const { Cell::new(0) };
}
static OWN_PROCESS: AtomicU64 = AtomicU64::new(0);
static OWN_ID: AtomicU32 = AtomicU32::new(0);

impl ThreadName {
    pub(crate) const NOBODY: ThreadName = ThreadName(0);

    /// The thread that calls.
    #[inline]
    pub(crate) fn current() -> ThreadName {
        match OWN_THREAD.get() {
            0 => ThreadName::find_out(),
            name => ThreadName(name),
        }
    }

    #[cold]
    fn find_out() -> ThreadName {
        forget_at_fork();
        // SAFETY: gettid takes nothing and cannot fail.
        let id = unsafe { libc::gettid() };
        let name = pack(id.cast_unsigned(), Stat::read("thread-self"));
        OWN_THREAD.set(name);
        ThreadName(name)
    }

    /// The name in a word that has flags in its low bits.
    #[inline]
    pub(crate) fn of_word(word: u64) -> ThreadName {
        ThreadName(word & NAME_MASK)
    }

    /// As a word without flags.
    #[inline]
    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// Whether this thread can still run. Costs a few system calls.
    pub(crate) fn is_alive(self) -> bool {
        is_alive(self.0, |_| true)
    }

    /// Whether any thread can still run of the process with this id, which this thread is, or was,
    /// one of. Costs a few system calls.
    pub(crate) fn is_process_alive(self, process_id: u32) -> bool {
        let moment = (self.0 >> MOMENT_SHIFT) as u32;
        match Stat::read(&process_id.to_string()) {
            Ok(stat) => {
                // A process is no younger than its threads, so a younger one has taken the id.
                let is_another = moment != 0 && stat.moment.wrapping_sub(moment).cast_signed() > 0;
                !(is_another || stat.has_ended() && stat.thread_count <= 1)
            }
            Err(_) => is_there(process_id),
        }
    }
}

impl ProcessName {
    /// The process that calls.
    #[inline]
    pub(crate) fn current() -> ProcessName {
        match OWN_PROCESS.load(Ordering::Relaxed) {
            0 => {
                forget_at_fork();
                let name = pack(std::process::id(), Stat::read("self"));
                OWN_PROCESS.store(name, Ordering::Relaxed);
                ProcessName(name)
            }
            name => ProcessName(name),
        }
    }

    /// The name in a word that has something else in its low bits.
    pub(crate) fn of_word(word: u64) -> ProcessName {
        ProcessName(word & NAME_MASK)
    }

    /// As a word whose low bits are zero.
    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// The process id.
    pub(crate) fn id(self) -> u32 {
        id_of(self.0)
    }

    /// Whether any thread of this process can still run. Costs a few system calls.
    pub(crate) fn is_alive(self) -> bool {
        // The thread that a process is named after may end before the others.
        is_alive(self.0, |stat| stat.thread_count <= 1)
    }
}

/// The id of this process, kept: glibc asks the kernel each time.
#[inline]
pub(crate) fn process_id() -> u32 {
    match OWN_ID.load(Ordering::Relaxed) {
        0 => {
            forget_at_fork();
            let id = std::process::id();
            OWN_ID.store(id, Ordering::Relaxed);
            id
        }
        id => id,
    }
}

fn pack(id: u32, stat: io::Result<Stat>) -> u64 {
    let moment = stat.map_or(0, |stat| stat.moment);
    (u64::from(moment) << MOMENT_SHIFT) | (u64::from(id) << ID_SHIFT)
}

fn id_of(name: u64) -> u32 {
    ((name >> ID_SHIFT) & ID_MASK) as u32
}

/// Has this process, which was just forked, find out its own names.
pub(crate) extern "C" fn forget() {
    OWN_THREAD.set(0);
    OWN_PROCESS.store(0, Ordering::Relaxed);
    OWN_ID.store(0, Ordering::Relaxed);
}

/// Has a forked child, which has other names, find out its own.
fn forget_at_fork() {
    static IS_ARRANGED: AtomicBool = AtomicBool::new(false);
    if !IS_ARRANGED.swap(true, Ordering::Relaxed) {
        // SAFETY: the handler touches a thread-local that needs no set-up, and atomics.
        unsafe { libc::pthread_atfork(None, None, Some(forget)) };
    }
}

/// Whether the one with this name is there; `ended_counts` says whether one that has ended, and
/// was not collected, is gone.
fn is_alive(name: u64, ended_counts: impl FnOnce(&Stat) -> bool) -> bool {
    let (id, moment) = (id_of(name), (name >> MOMENT_SHIFT) as u32);
    if !is_there(id) {
        return false;
    }
    match Stat::read(&id.to_string()) {
        Ok(stat) => {
            let is_another = moment != 0 && stat.moment != moment;
            !(is_another || stat.has_ended() && ended_counts(&stat))
        }
        // Either it went meanwhile, or /proc cannot be read: then what the kernel says decides.
        Err(_) => is_there(id),
    }
}

/// Whether the kernel knows a thread with this id.
fn is_there(id: u32) -> bool {
    if id == 0 {
        return false;
    }
    // SAFETY: tkill takes two integers; signal 0 is none, it only looks.
    let found = unsafe { libc::syscall(libc::SYS_tkill, id, 0) };
    found == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// What matters of `/proc/<id>/stat`.
struct Stat {
    state: u8,
    thread_count: u32,
    /// Never 0.
    moment: u32,
}

impl Stat {
    fn read(who: &str) -> io::Result<Stat> {
        let mut text = [0_u8; 1024];
        let mut file = File::open(format!("/proc/{who}/stat"))?;
        let count = super::uninterrupted(|| file.read(&mut text))?;
        Stat::parse(&text[..count]).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// Reads one line. The second field is a name in parentheses that may hold anything.
    fn parse(text: &[u8]) -> Option<Stat> {
        let name_end = text.iter().rposition(|&byte| byte == b')')?;
        let rest = std::str::from_utf8(text.get(name_end + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        // Field 3 was the first of these; 20 and 22 are wanted.
        let thread_count = fields.nth(16)?.parse().ok()?;
        let ticks: u64 = fields.nth(1)?.parse().ok()?;
        Some(Stat {
            state,
            thread_count,
            moment: (ticks as u32).max(1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_is_no_trap() {
        let line = b"42 (a b) R) Z 1 42 42 0 -1 4 1 2 3 4 5 6 7 8 20 0 9 0 777 1 2 3";
        let stat = Stat::parse(line).expect("it is well formed");
        assert_eq!((stat.state, stat.thread_count, stat.moment), (b'Z', 9, 777));
        assert!(Stat::parse(b"42 (a").is_none());
        assert!(Stat::parse(b"42 (a) R 1 2").is_none());
    }

    #[test]
    fn a_thread_is_alive_until_it_ends() {
        let own = ThreadName::current();
        assert!(own.is_alive());
        assert_eq!(own, ThreadName::current());
        assert_eq!(own, ThreadName::of_word(own.word() | 0x3ff));
        let other = std::thread::spawn(ThreadName::current)
            .join()
            .expect("it does not panic");
        assert_ne!(own, other);
        while other.is_alive() {
            std::thread::yield_now();
        }
        assert!(!ThreadName::NOBODY.is_alive());
        assert!(ProcessName::current().is_alive());
        assert_eq!(ProcessName::current().id(), std::process::id());
    }

    #[test]
    fn a_process_outlives_its_threads() {
        let ended = std::thread::spawn(ThreadName::current)
            .join()
            .expect("it does not panic");
        assert!(ended.is_process_alive(std::process::id()));
        // The limit itself is no process's id.
        assert!(!ended.is_process_alive(1 << 22));
        // Long before this process, so the id must have been another's then.
        let earlier = ThreadName(ended.0 & u64::from(u32::MAX) | (1 << MOMENT_SHIFT));
        assert!(!earlier.is_process_alive(std::process::id()));
    }

    #[test]
    fn an_id_that_was_used_again_is_somebody_else() {
        let own = ThreadName::current();
        let earlier = ThreadName(own.0 ^ (1 << 40));
        assert!(!earlier.is_alive());
        let unknown_moment = ThreadName(own.0 & u64::from(u32::MAX));
        assert!(unknown_moment.is_alive());
    }
}
