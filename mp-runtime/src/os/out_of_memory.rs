//! Tells a failed allocation from any other abort.
//!
//! When Rust cannot allocate it calls `std::alloc::handle_alloc_error`, which prints a line and
//! aborts; nothing can be put in between on stable Rust. So in a process whose memory is limited a
//! handler of SIGABRT walks up the stack and looks for that function.

use std::ffi::c_void;
use std::io;
use std::ptr;
use std::sync::OnceLock;

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Frames above the abort that are looked at; `handle_alloc_error` is among the first few.
const FRAME_LIMIT: u32 = 64;

/// What to call when the process aborts for lack of memory.
static NOTE: OnceLock<Box<dyn Fn() + Send + Sync>> = OnceLock::new();

#[repr(C)]
struct UnwindContext {
    _opaque: [u8; 0],
}

type TraceFn = extern "C" fn(context: *mut UnwindContext, data: *mut c_void) -> i32;

/// `_URC_NO_REASON` and `_URC_END_OF_STACK` of the Itanium C++ ABI's unwinder.
const GO_ON: i32 = 0;
const STOP: i32 = 5;

// The unwinder that the standard library links to.
unsafe extern "C" {
    fn _Unwind_Backtrace(trace: TraceFn, data: *mut c_void) -> i32;
    fn _Unwind_GetIP(context: *mut UnwindContext) -> usize;
    fn _Unwind_FindEnclosingFunction(address: *mut c_void) -> *mut c_void;
}

/// Has `note` called when this process aborts because an allocation failed. `note` must be
/// async-signal-safe. Only the first call counts.
pub(crate) fn notice(note: impl Fn() + Send + Sync + 'static) -> io::Result<()> {
    if NOTE.set(Box::new(note)).is_err() {
        return Ok(());
    }
    // The handler is reset before it runs, so that the abort goes its way.
    let action = SigAction::new(
        SigHandler::Handler(on_abort),
        SaFlags::SA_RESETHAND | SaFlags::SA_ONSTACK,
        SigSet::empty(),
    );
    // SAFETY: the handler walks the stack, which allocates nothing and takes no lock of the
    // program's, and calls `note`, which is async-signal-safe. The process is ending anyway.
    unsafe { sigaction(Signal::SIGABRT, &action) }?;
    Ok(())
}

extern "C" fn on_abort(_signal: libc::c_int) {
    struct Walk {
        frames: u32,
        found: bool,
    }

    extern "C" fn look(context: *mut UnwindContext, data: *mut c_void) -> i32 {
        // SAFETY: `data` is the `Walk` below, which nothing else refers to meanwhile.
        let walk = unsafe { &mut *data.cast::<Walk>() };
        // SAFETY: the unwinder passes a valid context.
        let address = unsafe { _Unwind_GetIP(context) };
        // The address is the one to return to; a call that never returns may be the last
        // instruction of its function.
        let inside = ptr::without_provenance_mut(address.saturating_sub(1));
        // SAFETY: the address is only looked up.
        let function = unsafe { _Unwind_FindEnclosingFunction(inside) };
        let wanted = std::alloc::handle_alloc_error as fn(std::alloc::Layout) -> !;
        walk.frames += 1;
        walk.found = function.addr() == wanted as usize;
        if walk.found || walk.frames == FRAME_LIMIT {
            STOP
        } else {
            GO_ON
        }
    }

    let mut walk = Walk {
        frames: 0,
        found: false,
    };
    // SAFETY: `look` fits the type the unwinder calls, and `walk` outlives the call.
    unsafe { _Unwind_Backtrace(look, (&raw mut walk).cast()) };
    if let (true, Some(note)) = (walk.found, NOTE.get()) {
        note();
    }
}
