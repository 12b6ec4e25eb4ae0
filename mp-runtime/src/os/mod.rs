//! Every system call, and all that is unsafe about it. What leaves this layer is safe to call and
//! answers with `io::Result`; the layers above add who and what.

pub(crate) mod call;
pub(crate) mod carrier;
pub(crate) mod carry;
pub(crate) mod clock;
pub(crate) mod crowd;
pub(crate) mod descriptor;
pub(crate) mod environment;
pub(crate) mod event_fd;
pub(crate) mod exec;
pub(crate) mod exit;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod identity;
pub(crate) mod lifeline;
pub(crate) mod limit;
pub(crate) mod memory;
pub(crate) mod out_of_memory;
pub(crate) mod packet;
pub(crate) mod pidfd;
pub(crate) mod sealed;
pub(crate) mod shared_fd;
pub(crate) mod shared_page;
pub(crate) mod signal;
pub(crate) mod stderr;
pub(crate) mod surroundings;
pub(crate) mod thread;

/// A number nobody can guess.
pub(crate) fn random() -> std::io::Result<u64> {
    let mut number = 0_u64;
    uninterrupted(|| {
        let (place, bytes) = ((&raw mut number).cast(), size_of::<u64>());
        // SAFETY: the kernel writes at most so many bytes there, and every bit pattern is a number.
        match unsafe { nix::libc::getrandom(place, bytes, 0) } {
            8 => Ok(number),
            _ => Err(std::io::Error::last_os_error()),
        }
    })
}

/// Calls `operation` again for as long as a signal interrupts it.
pub(crate) fn uninterrupted<T>(
    mut operation: impl FnMut() -> std::io::Result<T>,
) -> std::io::Result<T> {
    loop {
        match operation() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
