//! Signals that interrupt whatever a process does.
#![expect(unsafe_code, reason = "they are set up as a program would")]

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

extern "C" fn ignore(_signal: libc::c_int) {}

/// Has signals interrupt whatever this process does, about every half millisecond.
pub(crate) fn be_interrupted() {
    let (handler, none) = (SigHandler::Handler(ignore), SigSet::empty());
    let action = SigAction::new(handler, SaFlags::empty(), none);
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGALRM, &action) }.expect("it can be set");
    let interval = libc::timeval {
        tv_sec: 0,
        tv_usec: 500,
    };
    let timer = libc::itimerval {
        it_interval: interval,
        it_value: interval,
    };
    // SAFETY: both pointers are valid for the call; the second is null, which is allowed.
    let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
    assert_eq!(set, 0, "there is a timer");
}
