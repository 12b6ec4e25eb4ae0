//! The handle of a process that runs one call.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::process::{ChildStdout, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use nix::libc;

use super::launch::{Due, Launched};
use super::{Answer, Child, LaunchSpec, ProcessInfo, Who, watch};
use crate::error::{Error, ErrorKind};
use crate::link::{Call, Event, Events, Link, Record, Reply};
use crate::os;
use crate::os::call::{named, unnamed};
use crate::registry::Function;
use crate::shm::bulk::Bulk;
use crate::shm::lease::Loan;
use crate::wire::{DecodeError, Decoder, Handles};

/// The number of the one call that a process of its own runs.
pub(super) const ONLY_CALL: u32 = 1;

/// A process that runs one function (`multiprocessing.Process`).
///
/// It is also a `Future` of its result, for any executor, and its descriptor ([`AsFd`]) is
/// readable when the process has ended.
///
/// Dropping it detaches: the process runs on, and is collected when it ends. It ends with its
/// parent at the latest, however the parent ends.
///
/// ```
/// #[mp::process_fn]
/// fn square(x: i64) -> i64 {
///     x * x
/// }
///
/// # #[mp::main]
/// fn main() -> Result<(), mp::Error> {
///     let process = mp::spawn!(square(12))?;
///     assert_eq!(process.join()?, 144);
///     Ok(())
/// }
/// ```
pub struct Process<R> {
    run: Arc<Run>,
    stdout: Option<ChildStdout>,
    decode: fn(&mut Decoder<'_>) -> Result<R, DecodeError>,
}

/// A call in a process of its own, and what becomes of it.
///
/// Nobody is needed for most of it: the call is in the ring before its worker has come, and a small
/// result in the ring when that has ended. So no thread waits for a process:
///
/// | what happens | who receives |
/// | --- | --- |
/// | the process ends | whoever collects it: who waits for it, or the [watch] |
/// | it has a large result, or one with handles, and [knocks](crate::link) | a thread that the watch starts |
/// | its arguments have handles, which are let go of when it has ended | a thread from the beginning |
struct Run {
    child: Arc<Child>,
    function: &'static Function,
    due: Due,
    state: Mutex<State>,
    ready: Condvar,
}

struct State {
    /// Nobody has received yet.
    line: Option<Line>,
    outcome: Outcome,
    waker: Option<Waker>,
}

/// What is received over.
struct Line {
    link: Link,
    events: Events,
    /// Parts of arrays count as sent until the call has ended; of the rest, who is called alone says how
    /// long it has it.
    _loans: Option<Arc<Vec<Loan>>>,
    /// The process reads what lies apart where it is.
    _bulks: Option<Arc<Vec<Bulk>>>,
    _carrier: OwnedFd,
}

enum Outcome {
    Waiting,
    Ready(Result<Answer, Error>),
    Taken,
}

impl<R> Process<R> {
    pub(super) fn start(
        spec: LaunchSpec,
        function: &'static Function,
        call: Call,
        handles: Option<Arc<Handles>>,
        decode: fn(&mut Decoder<'_>) -> Result<R, DecodeError>,
    ) -> Result<Process<R>, Error> {
        let Launched {
            child,
            stdout,
            link,
            events,
            due,
            carrier,
        } = spec.launch()?;
        // What goes over the connection has a thread of its own that waits for it.
        let needs_thread = handles.is_some() || call.is_large();
        let loans = handles.as_ref().map(|handles| Arc::clone(handles.loans()));
        let bulks = handles.as_ref().map(|handles| Arc::clone(handles.bulks()));
        link.call(call, handles);
        let line = Line {
            link,
            events,
            _loans: loans,
            _bulks: bulks,
            _carrier: carrier,
        };
        let run = Arc::new(Run {
            child,
            function,
            due,
            state: Mutex::new(State {
                line: None,
                outcome: Outcome::Waiting,
                waker: None,
            }),
            ready: Condvar::new(),
        });
        run.attend_to(line, needs_thread).map_err(|error| {
            run.child.kill();
            run.child.wait();
            let message = format!("`{}` could not be started: {error}", run.child.info().name);
            Error::new(ErrorKind::Spawn, message).with_source(unnamed(error))
        })?;
        Ok(Process {
            run,
            stdout,
            decode,
        })
    }

    /// Its process id.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let process = mp::spawn!(square(12))?;
    /// assert_ne!(process.id(), std::process::id());
    /// # process.join()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn id(&self) -> u32 {
        self.run.child.info().id
    }

    /// Its name.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let process = mp::Builder::new().name("p1").spawn(square, (12,))?;
    /// assert_eq!(process.name(), "p1");
    /// # process.join()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn name(&self) -> &str {
        &self.run.child.info().name
    }

    /// Whether it has ended (the opposite of `is_alive`).
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let process = mp::spawn!(square(12))?;
    /// process.wait();
    /// assert!(process.is_finished());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "is_alive")]
    pub fn is_finished(&self) -> bool {
        self.run.child.exit().is_some()
    }

    /// Waits until it has ended. Its result stays where it is.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let process = mp::spawn!(square(12))?;
    /// process.wait();
    /// assert_eq!(process.join()?, 144);
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait(&self) {
        self.run.child.wait();
    }

    /// Waits until it has ended, at most so long; tells whether it has. The process runs on if it
    /// has not.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn wait_for_ever() { loop { std::thread::park() } }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let process = mp::spawn!(wait_for_ever())?;
    /// assert!(!process.wait_timeout(std::time::Duration::from_millis(10)));
    /// process.kill()?;
    /// process.wait();
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.run.child.wait_timeout(timeout).is_some()
    }

    /// Waits until it has ended, and returns what its function returned.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// assert_eq!(mp::spawn!(square(12))?.join()?, 144);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Panicked`](ErrorKind::Panicked), [`Died`](ErrorKind::Died),
    /// [`Exited`](ErrorKind::Exited) or [`OutOfMemory`](ErrorKind::OutOfMemory) if the function did
    /// not return, [`Decode`](ErrorKind::Decode) or [`Encode`](ErrorKind::Encode) if a value could
    /// not travel, [`Spawn`](ErrorKind::Spawn) if the process never came to its function.
    pub fn join(self) -> Result<R, Error> {
        let answer = self.run.take();
        self.decode(answer)
    }

    /// How it ended; `None` while it runs, and if somebody else collected it (a `waitpid` for any
    /// child, an ignored SIGCHLD).
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn square(x: i64) -> i64 { x * x }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let process = mp::spawn!(square(12))?;
    /// process.wait();
    /// assert!(process.exit_status().is_some_and(|status| status.success()));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "exitcode")]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.run.child.exit().and_then(|exit| exit.status)
    }

    /// Asks it to end: SIGTERM. A process that has ended is fine.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn wait_for_ever() { loop { std::thread::park() } }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let process = mp::spawn!(wait_for_ever())?;
    /// process.terminate()?;
    /// assert_eq!(process.join().unwrap_err().signal(), Some(15));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the kernel refuses, since the process changed its user.
    pub fn terminate(&self) -> Result<(), Error> {
        self.send_signal(libc::SIGTERM, "terminated")
    }

    /// Ends it: SIGKILL. A process that has ended is fine.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn wait_for_ever() { loop { std::thread::park() } }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let process = mp::spawn!(wait_for_ever())?;
    /// process.kill()?;
    /// assert_eq!(process.join().unwrap_err().signal(), Some(9));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the kernel refuses, since the process changed its user.
    pub fn kill(&self) -> Result<(), Error> {
        self.send_signal(libc::SIGKILL, "killed")
    }

    /// Interrupts it as Ctrl-C would a program of its own: SIGINT, which ends it unless its
    /// function handles it. (The Ctrl-C of the terminal itself is for the parent; workers let it
    /// pass.) A process that has ended is fine.
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn wait_for_ever() { loop { std::thread::park() } }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// let process = mp::spawn!(wait_for_ever())?;
    /// process.interrupt()?;
    /// assert_eq!(process.join().unwrap_err().signal(), Some(2));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the kernel refuses, since the process changed its user.
    pub fn interrupt(&self) -> Result<(), Error> {
        self.send_signal(libc::SIGINT, "interrupted")
    }

    /// The other end of its standard output, once, if it was started with
    /// [`Stdio::piped`](super::Stdio::piped).
    ///
    /// ```
    /// # #[mp::process_fn]
    /// # fn hello() { println!("hello") }
    /// # #[mp::main]
    /// # fn main() -> Result<(), mp::Error> {
    /// use std::io::Read as _;
    ///
    /// let mut process = mp::Builder::new().stdout(mp::Stdio::piped()).spawn(hello, ())?;
    /// let mut output = String::new();
    /// let mut stdout = process.take_stdout().expect("it was piped");
    /// stdout.read_to_string(&mut output).expect("the pipe can be read");
    /// assert_eq!(output, "hello\n");
    /// process.join()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    fn send_signal(&self, signal: i32, done: &str) -> Result<(), Error> {
        self.run.child.send_signal(signal).map_err(|error| {
            let ProcessInfo { name, id, .. } = self.run.child.info();
            let message = format!("process `{name}` (pid {id}) could not be {done}: {error}");
            Error::new(ErrorKind::Io, message)
                .with_process_id(*id)
                .with_source(error)
        })
    }

    fn decode(&self, answer: Result<Answer, Error>) -> Result<R, Error> {
        answer?.decode(self.decode)
    }
}

/// Waits for the result and for the end of the process.
fn receive(
    child: &Child,
    line: &Line,
    function: &'static Function,
    due: &Due,
) -> Result<Answer, Error> {
    let Line { link, events, .. } = line;
    let name = format!("process `{}`", child.info().name).into();
    let who = Who {
        name,
        process_id: child.info().id,
        function,
        item: None,
    };
    let mut result: Option<(Record, Reply)> = None;
    let mut complaint = None;
    loop {
        let report = match events.next() {
            Event::Records(report, _turn) => report,
            Event::Ended => break,
            Event::Broken(reason) => {
                complaint = Some(reason);
                child.kill();
                child.wait();
                break;
            }
        };
        if result.is_none() {
            result = report.first().map(|record| (record, report.bundle.reply));
        }
    }
    let death = child.death(link);
    match (result, complaint) {
        (Some((record, reply)), _) => who.answered(&record, reply),
        (None, Some(reason)) => Err(who.broke_off(&reason, &death)),
        (None, None) if !link.arrival().is_over() || due.has_ended(death.exit) => {
            Err(due.not_come(child))
        }
        (None, None) if link.running().is_some() => Err(who.died(&death)),
        (None, None) => Err(who.died_before(&death)),
    }
}

impl Run {
    /// Sees to it that somebody receives.
    fn attend_to(self: &Arc<Self>, line: Line, now: bool) -> io::Result<()> {
        let key = {
            let mut state = self.state();
            let line = state.line.insert(line);
            let own = Arc::clone(self);
            match line.link.knocker() {
                Some(fd) if !now => watch::at_knock(fd, move || {
                    if own.start_thread().is_err() {
                        // Nobody could take what it has.
                        own.child.kill();
                        let late = Arc::clone(&own);
                        own.child.at_end(move || {
                            let waker = late.attend();
                            os::thread::contained(|| waker.into_iter().for_each(Waker::wake));
                        });
                    }
                })
                .map_err(named("epoll_ctl"))?,
                _ => {
                    drop(state);
                    return self.start_thread();
                }
            }
        };
        let own = Arc::clone(self);
        self.child.at_end(move || {
            if watch::dismiss(key)
                && let Some(waker) = own.attend()
            {
                // What it calls may wait for other processes, so it is not called here. Without a thread
                // for it there is no other place.
                let waker = Arc::new(Mutex::new(Some(waker)));
                let own = Arc::clone(&waker);
                if os::thread::spawn("mp-waker", move || wake(&own)).is_err() {
                    wake(&waker);
                }
            }
        });
        Ok(())
    }

    fn start_thread(self: &Arc<Self>) -> io::Result<()> {
        let own = Arc::clone(self);
        let body = move || {
            if let Some(waker) = own.attend() {
                os::thread::contained(|| waker.wake());
            }
        };
        let thread = os::thread::spawn("mp-process", body);
        thread.map(drop).map_err(named("clone"))
    }

    /// Receives, if nobody has begun to. Gives back who is to be woken then.
    #[must_use]
    fn attend(&self) -> Option<Waker> {
        let line = self.state().line.take()?;
        let answer = receive(&self.child, &line, self.function, &self.due);
        drop(line);
        let waker = {
            let mut state = self.state();
            state.outcome = Outcome::Ready(answer);
            state.waker.take()
        };
        self.ready.notify_all();
        waker
    }

    fn take(&self) -> Result<Answer, Error> {
        let mut state = self.state();
        loop {
            match std::mem::replace(&mut state.outcome, Outcome::Taken) {
                Outcome::Ready(answer) => return answer,
                Outcome::Taken => return Err(taken()),
                Outcome::Waiting => state.outcome = Outcome::Waiting,
            }
            if state.line.is_some() {
                drop(state);
                self.child.wait();
                // It is the `Future` itself that waits.
                drop(self.attend());
                state = self.state();
            } else {
                let woken = self.ready.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<Answer, Error>> {
        let waker = waker.clone();
        let mut state = self.state();
        match std::mem::replace(&mut state.outcome, Outcome::Taken) {
            Outcome::Ready(answer) => Poll::Ready(answer),
            Outcome::Taken => Poll::Ready(Err(taken())),
            Outcome::Waiting => {
                state.outcome = Outcome::Waiting;
                let before = state.waker.replace(waker);
                drop(state);
                // Dropping a waker may run code of the program.
                drop(before);
                Poll::Pending
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waker: &Mutex<Option<Waker>>) {
    let waker = waker.lock().unwrap_or_else(PoisonError::into_inner).take();
    os::thread::contained(|| waker.into_iter().for_each(Waker::wake));
}

fn taken() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the result of this process was taken already",
    )
}

impl<R> Future for Process<R> {
    type Output = Result<R, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<R, Error>> {
        self.run
            .poll(context.waker())
            .map(|answer| self.decode(answer))
    }
}

impl<R> AsFd for Process<R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.run.child.as_fd()
    }
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("id", &self.id())
            .field("name", &self.name())
            .field("exit_status", &self.exit_status())
            .finish_non_exhaustive()
    }
}
