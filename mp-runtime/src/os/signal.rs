//! Signals: what a worker does about them, and their names.
//!
//! The terminal sends SIGINT to the whole foreground group. A worker lets it pass, since its
//! parent decides, and obeys only the one that its parent sends on purpose, which carries a mark.

use std::io;

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// What tells a SIGINT sent on purpose from one of the terminal: "mp" and a number.
const DELIBERATE: usize = 0x6d70_0001;

/// Lets SIGINT pass unless it was sent with [`deliberate_interrupt`], which ends the process.
pub(crate) fn obey_deliberate_interrupts_only() -> io::Result<()> {
    let flags = SaFlags::SA_RESTART | SaFlags::SA_SIGINFO;
    let action = SigAction::new(SigHandler::SigAction(on_interrupt), flags, SigSet::empty());
    // SAFETY: the handler reads its arguments and makes async-signal-safe calls only.
    unsafe { sigaction(Signal::SIGINT, &action) }?;
    // It was blocked at the exec, so that none was missed before the handler was there.
    Ok(SigSet::from(Signal::SIGINT).thread_unblock()?)
}

extern "C" fn on_interrupt(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes a valid siginfo_t to a handler set with SA_SIGINFO.
    let info = unsafe { &*info };
    if info.si_code != libc::SI_QUEUE {
        return;
    }
    // SAFETY: a signal with SI_QUEUE carries a value.
    let value = unsafe { info.si_value() };
    if value.sival_ptr.addr() == DELIBERATE {
        // SAFETY: signal is async-signal-safe, and the default action runs no code.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        // SAFETY: raise is async-signal-safe; the signal is delivered when the handler returns.
        unsafe { libc::raise(signal) };
    }
}

/// The `siginfo_t` of a SIGINT sent on purpose.
pub(crate) fn deliberate_interrupt() -> libc::siginfo_t {
    /// The start of `siginfo_t` for a queued signal, as the kernel lays it out on 64-bit Linux.
    #[repr(C)]
    struct Queued {
        signal: libc::c_int,
        errno: libc::c_int,
        code: libc::c_int,
        padding: libc::c_int,
        process_id: libc::pid_t,
        user_id: libc::uid_t,
        value: usize,
    }
    const { assert!(size_of::<Queued>() <= size_of::<libc::siginfo_t>()) };
    // SAFETY: all zeroes is a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let queued = Queued {
        signal: libc::SIGINT,
        errno: 0,
        code: libc::SI_QUEUE,
        padding: 0,
        process_id: std::process::id().cast_signed(),
        user_id: nix::unistd::getuid().as_raw(),
        value: DELIBERATE,
    };
    let target = (&raw mut info).cast::<Queued>();
    // SAFETY: `Queued` is no larger than siginfo_t and needs no stricter alignment (the const
    // assertion, and both hold a pointer-sized field); siginfo_t is plain integers throughout.
    unsafe { target.write(queued) };
    info
}

/// Ends this process at once, running nothing of it any more.
pub(crate) fn end_now() -> ! {
    // Neither call fails for one's own process; the loop is for the moment until it takes effect.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), Signal::SIGKILL);
    loop {
        std::thread::park();
    }
}

/// Shows `name` in the lists of processes, as far as the kernel has room for it (15 bytes).
pub(crate) fn show_name(name: &str) {
    if let Ok(name) = std::ffi::CString::new(name) {
        // A name that could not be set is only not shown.
        let _ = nix::sys::prctl::set_name(&name);
    }
}

/// The name of a signal, `SIGSEGV`; its number where it has none.
pub(crate) fn name(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(
        |_| format!("signal {signal}"),
        |signal| signal.as_str().to_owned(),
    )
}
