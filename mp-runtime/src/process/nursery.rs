//! The thread that forks. The kernel can kill a process when the *thread* ends that started it
//! (`PR_SET_PDEATHSIG`), which is of use only if that thread ends with the program: so all
//! processes are started by this one. It reaches even a worker that is stopped; see the module
//! above for what else ends a worker with its parent.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

use crate::os;

type Start = Box<dyn FnOnce() + Send>;

/// Runs `start` on the thread that starts processes, and waits for it.
pub(super) fn run<T: Send + 'static>(
    start: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (result, outcome) = channel();
    let starts = starts()?;
    let ended = || io::Error::other("the thread that starts processes has ended");
    let start: Start = Box::new(move || {
        // It is waited for, so the other end is there.
        let _ = result.send(start());
    });
    starts.send(start).map_err(|_| ended())?;
    outcome.recv().map_err(|_| ended())?
}

/// The way to the thread of this process, started if it was not; a fork of the program has none.
fn starts() -> io::Result<Sender<Start>> {
    static NURSERY: Mutex<Option<(u32, Sender<Start>)>> = Mutex::new(None);
    let mut started = NURSERY.lock().unwrap_or_else(PoisonError::into_inner);
    let own_id = std::process::id();
    if let Some((process_id, starts)) = &*started
        && *process_id == own_id
    {
        return Ok(starts.clone());
    }
    let (starts, queue) = channel::<Start>();
    os::thread::spawn("mp-nursery", move || {
        for start in queue {
            os::thread::contained(start);
        }
    })?;
    *started = Some((own_id, starts.clone()));
    Ok(starts)
}
