//! The thread that forks. The kernel can kill a process when the *thread* ends that started it
//! (`PR_SET_PDEATHSIG`), which is of use only if that thread ends with the program: so all
//! processes are started by this one, those of the fork server too, since the server is its child
//! and they are made children of the same parent. It reaches even a worker that is stopped; see the
//! module above for what else ends a worker with its parent.

use std::cell::RefCell;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::link::Spinner;
use crate::os::call::named;
use crate::os::{self, thread::PerProcess};

type Start = Box<dyn FnOnce() + Send>;

/// What the thread is told.
enum Order {
    /// There will be something to start.
    Soon,
    Start(Start),
}

/// The thread of this process.
#[derive(Clone)]
struct Nursery {
    orders: Sender<Order>,
    thread_id: u32,
}

/// Runs `start` on the thread that starts processes, and waits for it.
pub(super) fn run<T: Send + 'static>(
    start: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    run_beside(start, || {})
}

/// The same; `meanwhile` runs on the thread that calls.
pub(super) fn run_beside<T: Send + 'static>(
    start: impl FnOnce() -> io::Result<T> + Send + 'static,
    meanwhile: impl FnOnce(),
) -> io::Result<T> {
    run_on(&nursery()?.orders, start, meanwhile)
}

/// Wakes the thread, which takes as long as it takes to get ready what a process is started with. It looks
/// for a start for a moment, which may come late or never.
pub(super) fn rouse() {
    if let Ok(nursery) = nursery() {
        // Who starts something finds out if it has ended.
        let _ = nursery.orders.send(Order::Soon);
    }
}

/// The id of the thread that starts processes.
pub(super) fn thread_id() -> io::Result<u32> {
    Ok(nursery()?.thread_id)
}

fn run_on<T: Send + 'static>(
    orders: &Sender<Order>,
    start: impl FnOnce() -> io::Result<T> + Send + 'static,
    meanwhile: impl FnOnce(),
) -> io::Result<T> {
    let (result, outcome) = channel();
    let ended = || io::Error::other("the thread that starts processes has ended");
    let start: Start = Box::new(move || {
        // It is waited for, so the other end is there.
        let _ = result.send(start());
    });
    orders.send(Order::Start(start)).map_err(|_| ended())?;
    meanwhile();
    outcome.recv().map_err(|_| ended())?
}

/// The one of this process, started if it was not.
fn nursery() -> io::Result<Nursery> {
    static NURSERY: PerProcess<Nursery> = PerProcess::new();
    NURSERY.get_or_try_init(|| {
        let (orders, queue) = channel();
        os::thread::spawn("mp-nursery", move || work(&queue)).map_err(named("clone"))?;
        let thread_id = run_on(&orders, || Ok(os::thread::own_id()), || {})?;
        Ok(Nursery { orders, thread_id })
    })
}

/// What the thread does.
fn work(queue: &Receiver<Order>) {
    let spinner = Spinner::default();
    let next = RefCell::new(None);
    let look = || {
        *next.borrow_mut() = queue.try_recv().ok();
        next.borrow().is_some()
    };
    while let Some(order) = next.take().or_else(|| queue.recv().ok()) {
        match order {
            Order::Start(start) => os::thread::contained(start),
            Order::Soon => drop(spinner.spin(look)),
        }
    }
}
