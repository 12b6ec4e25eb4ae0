//! The thread that forks. The kernel can kill a process when the *thread* ends that started it
//! (`PR_SET_PDEATHSIG`), which is of use only if that thread ends with the program: so all
//! processes are started by this one, those of the fork server too, since the server is its child
//! and they are made children of the same parent. It reaches even a worker that is stopped; see the
//! module above for what else ends a worker with its parent.

use std::io;
use std::sync::mpsc::{Sender, channel};

use crate::os::call::named;
use crate::os::{self, thread::PerProcess};

type Start = Box<dyn FnOnce() + Send>;

/// The thread of this process.
#[derive(Clone)]
struct Nursery {
    starts: Sender<Start>,
    thread_id: u32,
}

/// Runs `start` on the thread that starts processes, and waits for it.
pub(super) fn run<T: Send + 'static>(
    start: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    run_on(&nursery()?.starts, start)
}

/// The id of the thread that starts processes.
pub(super) fn thread_id() -> io::Result<u32> {
    Ok(nursery()?.thread_id)
}

fn run_on<T: Send + 'static>(
    starts: &Sender<Start>,
    start: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (result, outcome) = channel();
    let ended = || io::Error::other("the thread that starts processes has ended");
    let start: Start = Box::new(move || {
        // It is waited for, so the other end is there.
        let _ = result.send(start());
    });
    starts.send(start).map_err(|_| ended())?;
    outcome.recv().map_err(|_| ended())?
}

/// The one of this process, started if it was not.
fn nursery() -> io::Result<Nursery> {
    static NURSERY: PerProcess<Nursery> = PerProcess::new();
    NURSERY.get_or_try_init(|| {
        let (starts, queue) = channel::<Start>();
        os::thread::spawn("mp-nursery", move || {
            for start in queue {
                os::thread::contained(start);
            }
        })
        .map_err(named("clone"))?;
        let thread_id = run_on(&starts, || Ok(os::thread::own_id()))?;
        Ok(Nursery { starts, thread_id })
    })
}
