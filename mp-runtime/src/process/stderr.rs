//! What workers write to standard error: forwarded to that of this process, and its end kept as
//! evidence for the error of a worker that dies.
//!
//! # Parties
//!
//! - **worker**: has a pipe in place of standard error, and so has whatever it starts;
//! - **forwarder**: the thread `mp-stderr`, one in a program, started with the first such worker. It
//!   alone writes to standard error, and is the only one that waits when nobody reads that;
//! - **watch**: when a worker has ended, it takes what is left in the pipe before anybody is told.
//!
//! # Protocol
//!
//! Each worker has a [`Source`]: its pipe, the [`Tail`] of what came, and what came and was not
//! *taken* to be written. Rules:
//!
//! 1. Bytes go from the pipe to the end of `unwritten` and of the tail under the source's lock,
//!    without waiting, whoever reads. So they are in order, and none comes twice.
//! 2. The forwarder alone takes from the front of `unwritten`, and writes without a lock. It reads
//!    no pipe while it writes: standard error that takes nothing fills the pipes, and then the
//!    workers wait, as they would if they wrote to it themselves.
//! 3. It takes whole lines. What has no end yet, a prompt or a progress bar, is written after
//!    [`LINE_PATIENCE`], or at once if it is long or at its worker's end.
//! 4. A source is let go when its pipe is at its end and all was written. A process that the worker
//!    started may hold the pipe for longer, and its output is forwarded for as long.
//!
//! # The end of a worker
//!
//! The watch [reads out](Source::read_out) the pipe, which never waits, so that the tail is
//! complete. That the worker has ended is told when the forwarder has written all of it, so that it
//! stands before what the program writes about the error; or soon, if standard error takes nothing.
//! What is read out for that is kept in memory, of at most [`MAX_PENDING`] workers at a time: a
//! worker that dies beyond that leaves its tail alone.
//!
//! When the program exits in order, it takes what is left in the pipes, and gives it the same time.
//! A program that is killed loses what was under way.

use std::collections::HashMap;
use std::io::{self, PipeReader, Read as _};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::tail::Tail;
use crate::os::event_fd::EventFd;
use crate::os::thread::PerProcess;
use crate::os::{self, exit, stderr};

/// How long the rest of a line is waited for.
const LINE_PATIENCE: Duration = Duration::from_millis(20);
/// A line that is longer than this is written in pieces.
const LINE_BYTES: usize = 64 << 10;
/// How much is read of one pipe before another has its turn.
const TURN_BYTES: usize = 64 << 10;
/// How much is read of the pipe of a worker that has ended: more than a pipe holds, unless root
/// made it larger. Whoever else writes to it cannot make it endless.
const READ_OUT_BYTES: usize = 1 << 20;
/// So many ended workers may have bytes in memory that were not taken.
const MAX_PENDING: usize = 256;
/// How long the forwarder is given, before it is looked whether it can write at all.
pub(super) const FORWARD_PATIENCE: Duration = Duration::from_millis(50);
/// How often it is given that.
pub(super) const FORWARD_ROUNDS: u32 = 20;

/// The epoll data of the event that only wakes the thread; sources are numbered from 1.
const WAKE: u64 = 0;

static FORWARDER: PerProcess<Arc<Forwarder>> = PerProcess::new();

struct Forwarder {
    epoll: Epoll,
    wake: EventFd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sources: HashMap<u64, Arc<Source>>,
    last_key: u64,
    /// Those that were read out, for the forwarder to write.
    pending: Vec<Arc<Source>>,
}

/// What one worker, and what it has started, writes to standard error.
pub(super) struct Source {
    forwarder: Arc<Forwarder>,
    key: u64,
    stream: Mutex<Stream>,
}

struct Stream {
    /// `None` when nobody can write to it any more.
    pipe: Option<PipeReader>,
    tail: Tail,
    /// What was read and not taken.
    unwritten: Vec<u8>,
    /// Since when the end of a line is waited for.
    held_since: Option<Instant>,
    /// How many bytes were read since the start.
    read: u64,
    /// How many of them were written.
    written: u64,
    /// How many of them are written even if their line has no end.
    due: u64,
    /// What is to be called when so many bytes were written.
    calls: Vec<(u64, Call)>,
}

type Call = Box<dyn FnOnce() + Send>;

/// Makes a pipe for a worker's standard error, of which so many bytes are kept: what stands for it
/// here, and the worker's end.
pub(super) fn open(tail_bytes: usize) -> io::Result<(Arc<Source>, OwnedFd)> {
    stderr::fill_gap()?;
    let forwarder = FORWARDER.get_or_try_init(Forwarder::start)?;
    let (pipe, workers_end) = stderr::pipe()?;
    let mut state = forwarder.state();
    state.last_key += 1;
    let key = state.last_key;
    let event = EpollEvent::new(EpollFlags::EPOLLIN, key);
    forwarder.epoll.add(&pipe, event)?;
    let source = Arc::new(Source {
        forwarder: Arc::clone(&forwarder),
        key,
        stream: Mutex::new(Stream::of(pipe, tail_bytes)),
    });
    state.sources.insert(key, Arc::clone(&source));
    Ok((source, workers_end))
}

/// Whether waiting for the forwarder is of use.
pub(super) fn can_forward() -> bool {
    stderr::is_writable()
}

/// Forwards what workers have written when this process exits.
fn flush() {
    let Some(forwarder) = FORWARDER.get() else {
        return;
    };
    let sources: Vec<_> = forwarder.state().sources.values().cloned().collect();
    let (done, are_done) = channel::<()>();
    for source in sources {
        let done = done.clone();
        source.read_out(move || drop(done));
    }
    drop(done);
    for _ in 0..FORWARD_ROUNDS {
        let is_late = are_done.recv_timeout(FORWARD_PATIENCE) == Err(RecvTimeoutError::Timeout);
        if !(is_late && can_forward()) {
            return;
        }
    }
}

impl Forwarder {
    fn start() -> io::Result<Arc<Forwarder>> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let wake = EventFd::new()?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let state = Mutex::new(State::default());
        let forwarder = Arc::new(Forwarder { epoll, wake, state });
        let own = Arc::clone(&forwarder);
        os::thread::spawn("mp-stderr", move || own.run())?;
        exit::at_exit(flush);
        Ok(forwarder)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut events = [EpollEvent::empty(); 32];
        // Those that are in the middle of a line, or were read out.
        let mut held: HashMap<u64, Arc<Source>> = HashMap::new();
        loop {
            let timeout = match held.is_empty() {
                true => EpollTimeout::NONE,
                false => EpollTimeout::try_from(LINE_PATIENCE).unwrap_or(EpollTimeout::ZERO),
            };
            let count = self
                .epoll
                .wait(&mut events, timeout)
                .unwrap_or_else(|error| {
                    // The thread must neither end nor spin, even if somebody closed its
                    // descriptors.
                    if error != Errno::EINTR {
                        thread::sleep(LINE_PATIENCE);
                    }
                    0
                });
            for event in &events[..count] {
                if event.data() == WAKE {
                    self.wake.silence();
                    continue;
                }
                let source = self.state().sources.get(&event.data()).cloned();
                let Some(source) = source else { continue };
                source.read();
                if source.forward() {
                    held.insert(source.key, source);
                }
            }
            let pending = std::mem::take(&mut self.state().pending);
            held.extend(pending.into_iter().map(|source| (source.key, source)));
            held.retain(|_, source| {
                // The rest of its line may have come while this thread wrote what others said.
                source.read();
                source.forward()
            });
        }
    }
}

impl Source {
    /// The end of what was written, as far as it was read.
    pub(super) fn tail(&self) -> Option<String> {
        self.stream().tail.text()
    }

    /// Reads what was written up to now, and calls `call` when that was forwarded: here and now if
    /// it was. Tells whether it was.
    pub(super) fn read_out(self: &Arc<Source>, call: impl FnOnce() + Send + 'static) -> bool {
        let is_full = self.forwarder.state().pending.len() >= MAX_PENDING;
        let mut stream = self.stream();
        stream.fill(READ_OUT_BYTES, &self.forwarder.epoll);
        if is_full {
            stream.forget();
        }
        stream.due = stream.read;
        if stream.written == stream.read {
            let is_over = stream.pipe.is_none();
            drop(stream);
            self.let_go_if(is_over);
            call();
            return true;
        }
        let mark = stream.read;
        stream.calls.push((mark, Box::new(call)));
        drop(stream);
        self.forwarder.state().pending.push(Arc::clone(self));
        self.forwarder.wake.ring();
        false
    }

    /// Reads what is there, as far as it is one source's turn.
    fn read(&self) {
        self.stream().fill(TURN_BYTES, &self.forwarder.epoll);
    }

    /// Writes what can be written; tells whether something is left that waits for its line's end.
    fn forward(&self) -> bool {
        let bytes = self.stream().take();
        // As long as nobody reads it, here is where the thread is.
        stderr::write_all(&bytes);
        let mut stream = self.stream();
        stream.written += bytes.len() as u64;
        let calls = stream.take_calls();
        let is_held = !stream.unwritten.is_empty();
        let is_over = stream.pipe.is_none() && !is_held;
        drop(stream);
        self.let_go_if(is_over);
        for call in calls {
            os::thread::contained(call);
        }
        is_held
    }

    fn let_go_if(&self, is_over: bool) {
        if is_over {
            self.forwarder.state().sources.remove(&self.key);
        }
    }

    fn stream(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    fn of(pipe: PipeReader, tail_bytes: usize) -> Stream {
        Stream {
            pipe: Some(pipe),
            tail: Tail::of(tail_bytes),
            unwritten: Vec::new(),
            held_since: None,
            read: 0,
            written: 0,
            due: 0,
            calls: Vec::new(),
        }
    }

    /// Reads at most so many bytes, as many as there are now.
    fn fill(&mut self, most: usize, epoll: &Epoll) {
        let Some(pipe) = &mut self.pipe else { return };
        let before = self.unwritten.len();
        let outcome = pipe.take(most as u64).read_to_end(&mut self.unwritten);
        let new = &self.unwritten[before..];
        self.tail.push(new);
        self.read += new.len() as u64;
        let is_at_end = match outcome {
            Ok(count) => count < most,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        };
        if is_at_end {
            // To close it is not enough: a fork of the program may have it too.
            let _ = epoll.delete(&*pipe);
            self.pipe = None;
        }
    }

    /// Takes what is to be written now.
    fn take(&mut self) -> Vec<u8> {
        let length = self.unwritten.len();
        let last_end = self.unwritten.iter().rposition(|&byte| byte == b'\n');
        let is_late = |since: Instant| since.elapsed() >= LINE_PATIENCE;
        let due = self.due.saturating_sub(self.written) as usize;
        let count = match last_end {
            _ if self.pipe.is_none() => length,
            Some(at) => due.max(at + 1).min(length),
            None if length >= LINE_BYTES || self.held_since.is_some_and(is_late) => length,
            None => due.min(length),
        };
        let rest = self.unwritten.split_off(count);
        let taken = std::mem::replace(&mut self.unwritten, rest);
        self.held_since = match self.held_since.filter(|_| taken.is_empty()) {
            _ if self.unwritten.is_empty() => None,
            since => since.or_else(|| Some(Instant::now())),
        };
        taken
    }

    /// What was read and not taken will not be written.
    fn forget(&mut self) {
        self.read -= self.unwritten.len() as u64;
        self.unwritten.clear();
        for (mark, _) in &mut self.calls {
            *mark = self.read.min(*mark);
        }
    }

    /// What is to be called by now.
    fn take_calls(&mut self) -> Vec<Call> {
        let calls = std::mem::take(&mut self.calls);
        let is_due = |(mark, _): &(u64, Call)| *mark <= self.written;
        let (due, later) = calls.into_iter().partition::<Vec<_>, _>(is_due);
        self.calls = later;
        due.into_iter().map(|(_, call)| call).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use super::*;

    /// A stream, and a way to write to it.
    struct Setting {
        stream: Stream,
        epoll: Epoll,
        writer: File,
    }

    impl Setting {
        fn new() -> Setting {
            let (pipe, writer) = stderr::pipe().expect("a pipe can be made");
            Setting {
                stream: Stream::of(pipe, 100),
                epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("there is one"),
                writer: writer.into(),
            }
        }

        fn write(&mut self, text: &str) {
            self.writer
                .write_all(text.as_bytes())
                .expect("the pipe has room");
            self.stream.fill(TURN_BYTES, &self.epoll);
        }

        fn take(&mut self) -> String {
            let taken = self.stream.take();
            self.stream.written += taken.len() as u64;
            String::from_utf8(taken).expect("it was text")
        }

        /// Makes what is held as old as it may be.
        fn age(&mut self) {
            let since = &mut self.stream.held_since;
            *since = since.and_then(|since| since.checked_sub(LINE_PATIENCE));
        }
    }

    #[test]
    fn whole_lines_are_taken_and_the_rest_waits_for_its_end() {
        let mut setting = Setting::new();
        assert_eq!(setting.take(), "");
        setting.write("one\ntwo\nth");
        assert_eq!(setting.take(), "one\ntwo\n");
        setting.write("r");
        assert_eq!(setting.take(), "");
        setting.age();
        // The end has come, and what follows it is new.
        setting.write("ee\nfo");
        assert_eq!(setting.take(), "three\n");
        assert_eq!(setting.take(), "");
        assert_eq!(
            setting.stream.tail.text().as_deref(),
            Some("one\ntwo\nthree\nfo")
        );
    }

    #[test]
    fn what_is_late_or_long_or_last_is_taken_without_an_end() {
        let mut setting = Setting::new();
        setting.write("late");
        assert_eq!(setting.take(), "");
        setting.age();
        assert_eq!(setting.take(), "late");
        let long = "x".repeat(LINE_BYTES / 2);
        setting.write(&long);
        assert_eq!(setting.take(), "");
        setting.write(&long);
        assert_eq!(setting.take().len(), LINE_BYTES);
        setting.write("due, and not");
        setting.stream.due = setting.stream.written + 3;
        assert_eq!(setting.take(), "due");
        setting.writer = File::open("/dev/null").expect("there is one");
        setting.stream.fill(TURN_BYTES, &setting.epoll);
        assert!(setting.stream.pipe.is_none());
        assert_eq!(setting.take(), ", and not");
    }

    #[test]
    fn what_is_forgotten_is_not_waited_for() {
        let mut setting = Setting::new();
        setting.write("one\ntwo\n");
        setting.stream.calls.push((8, Box::new(|| ())));
        assert!(setting.stream.take_calls().is_empty());
        setting.stream.forget();
        assert_eq!(setting.stream.take_calls().len(), 1);
        assert_eq!(setting.take(), "");
        assert_eq!(setting.stream.tail.text().as_deref(), Some("one\ntwo\n"));
    }
}
