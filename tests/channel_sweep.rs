//! Processes killed at every step of what they do with channels and queues, and what others find
//! then: all that was put before and not taken is there, once, whole and in order; the message in
//! flight is there or not; and the channel goes on.
//!
//! The sweeps kill at some dozen steps of each operation, at others in each run. To kill at every
//! single one (hours):
//!
//! ```text
//! MP_SWEEP=all cargo test --release --test channel_sweep
//! ```
//!
//! The kill points with a name are those of the table in `channel/ring.rs`, one by one.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![expect(unsafe_code, reason = "victims are forked")]

mod programs;
mod sweep;
mod watchdog;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use mp::prelude::*;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use sweep::{Companion, Kill, Sweep};
use watchdog::{until, within};

const LIMIT: Duration = Duration::from_secs(3000);
/// How long somebody waits for what must not be waited for: long enough for any machine.
const GENEROUS: Duration = Duration::from_secs(60);
/// After so many steps of a victim that waits, what it waits for comes.
const WAITED_STEPS: usize = 4_000;
/// More than an empty ring keeps.
const BACKLOG: usize = 18;

type Message = Vec<u8>;
/// Sends and receives what stands before the victim's operation, and says what is left.
type Prelude = dyn Fn(&Sender<Message>, &Receiver<Message>) -> Vec<Message>;

/// Bytes of a kind of their own.
fn message(number: u8, bytes: usize) -> Message {
    let block: Message = (0..251).map(|at| at ^ number).collect();
    let mut message = block.repeat(bytes / block.len() + 1);
    message.truncate(bytes);
    message
}

/// A channel, made anew for each victim.
struct Line {
    capacity: usize,
    prelude: Box<Prelude>,
    ends: RefCell<Option<(Sender<Message>, Receiver<Message>)>>,
    before: RefCell<Vec<Message>>,
    ring: RefCell<Option<RingFile>>,
    /// What the victim warms up with.
    other: (Sender<Message>, Receiver<Message>),
    /// The first byte of what the victim received; 0: it has not come so far.
    taken: Shared<AtomicU32>,
    is_done: Shared<AtomicU32>,
}

impl Line {
    fn new(
        capacity: usize,
        prelude: impl Fn(&Sender<Message>, &Receiver<Message>) -> Vec<Message> + 'static,
    ) -> Line {
        let other = mp::unbounded_channel().unwrap();
        // Whatever this process does once.
        other.1.recv_timeout(Duration::from_millis(1)).unwrap_err();
        Line {
            capacity,
            prelude: Box::new(prelude),
            ends: RefCell::default(),
            before: RefCell::default(),
            ring: RefCell::default(),
            other,
            taken: Shared::new(AtomicU32::new(0)).unwrap(),
            is_done: Shared::new(AtomicU32::new(0)).unwrap(),
        }
    }

    /// With two small messages in it.
    fn of_two(capacity: usize) -> Line {
        Line::new(capacity, |tx, _| put_all(tx, &[(1, 10), (2, 40)]))
    }

    fn begin(&self) {
        self.ends.take();
        let ring = RingFile::of(|| {
            let ends = match self.capacity {
                0 => mp::unbounded_channel(),
                _ => mp::channel(self.capacity),
            };
            self.ends.replace(Some(ends.unwrap()));
        });
        self.ring.replace(Some(ring));
        let ends = self.ends.borrow();
        let (tx, rx) = ends.as_ref().unwrap();
        self.before.replace((self.prelude)(tx, rx));
        self.taken.store(0, Ordering::SeqCst);
        self.is_done.store(0, Ordering::SeqCst);
    }

    fn warm(&self) {
        self.other.0.send(message(9, 10)).unwrap();
        self.other.1.recv().unwrap();
    }

    fn tx(&self) -> Sender<Message> {
        self.ends.borrow().as_ref().unwrap().0.clone()
    }

    fn rx(&self) -> Receiver<Message> {
        self.ends.borrow().as_ref().unwrap().1.clone()
    }

    /// What the victim does.
    fn send(&self, message: Message) {
        self.tx().send(message).unwrap();
        self.is_done.store(1, Ordering::SeqCst);
    }

    fn recv(&self) {
        let message = self.rx().recv().unwrap();
        self.taken.store(message[0].into(), Ordering::SeqCst);
        self.is_done.store(1, Ordering::SeqCst);
    }

    fn is_done(&self) -> bool {
        self.is_done.load(Ordering::SeqCst) == 1
    }

    fn word(&self, name: &str) -> u64 {
        self.ring.borrow().as_ref().unwrap().word(name)
    }

    fn head(&self) -> (u64, u64) {
        halves(self.word("HEAD"))
    }

    fn tail(&self) -> (u64, u64) {
        halves(self.word("TAIL"))
    }

    fn is_put_locked(&self) -> bool {
        self.word("PUT_LOCK") != 0
    }

    fn is_get_locked(&self) -> bool {
        self.word("GET_LOCK") != 0
    }

    /// What kind of word stands at the tail: that of a message, of a jump, or none.
    fn kind_at(&self, unit: u64) -> u64 {
        let ring = self.ring.borrow();
        let ring = ring.as_ref().unwrap();
        ring.word_at(offset_of("RING") + unit * 16) >> 48
    }

    /// All that is in the channel.
    fn drain(&self) -> Vec<Message> {
        let rx = self.rx();
        let count = rx.len();
        (0..count)
            .map(|_| rx.recv_timeout(GENEROUS).unwrap())
            .collect()
    }

    /// A victim that was killed in `send` has sent all of it or nothing. Tells which.
    #[track_caller]
    fn check_sent(&self, kill: &Kill, sent: &[Message]) -> bool {
        let mut expected = self.before.take();
        let found = self.drain();
        let is_there = found.len() > expected.len();
        if is_there {
            expected.extend_from_slice(sent);
        }
        check_same(&found, &expected, kill);
        if kill.is_complete || self.is_done() {
            assert!(is_there, "it was sent, and is not there: {kill:?}");
        }
        self.check_usable();
        is_there
    }

    /// A victim that was killed in `recv` has taken the first one or nothing. Tells which.
    #[track_caller]
    fn check_taken(&self, kill: &Kill) -> bool {
        let mut expected = self.before.take();
        let found = self.drain();
        let is_taken = found.len() < expected.len();
        let taken = self.taken.load(Ordering::SeqCst);
        if is_taken {
            let first = expected.remove(0);
            assert!(taken == 0 || taken == first[0].into());
        } else {
            assert_eq!(taken, 0, "it comes twice: {kill:?}");
        }
        check_same(&found, &expected, kill);
        if kill.is_complete {
            assert_ne!(taken, 0);
        }
        self.check_usable();
        is_taken
    }

    /// It works both ways, for messages of all sizes, in this process and another, and then it ends.
    #[track_caller]
    fn check_usable(&self) {
        let (tx, rx) = (self.tx(), self.rx());
        assert!(tx.is_empty());
        for bytes in [10, 3000, 60_000, 300_000, 0, 100_000, 100_000, 1] {
            let sent = message(7, bytes);
            tx.send_timeout(sent.clone(), GENEROUS).unwrap();
            assert!(rx.recv_timeout(GENEROUS).unwrap() == sent);
        }
        sweep::in_child(|| tx.send_timeout(message(8, 20), GENEROUS).unwrap());
        assert_eq!(rx.recv_timeout(GENEROUS).unwrap(), message(8, 20));
        tx.send_timeout(message(9, 20), GENEROUS).unwrap();
        sweep::in_child(|| {
            assert_eq!(rx.recv_timeout(GENEROUS).unwrap(), message(9, 20));
        });
        assert_eq!(rx.try_recv().unwrap_err().kind(), ErrorKind::TimedOut);
        drop(tx);
        let ends = self.ends.take().unwrap();
        drop(ends.0);
        assert_eq!(
            rx.recv_timeout(GENEROUS).unwrap_err().kind(),
            ErrorKind::Closed
        );
    }
}

fn halves(word: u64) -> (u64, u64) {
    (word >> 32, word & 0xffff_ffff)
}

#[track_caller]
fn check_same(found: &[Message], expected: &[Message], kill: &Kill) {
    let first = |messages: &[Message]| -> Vec<_> {
        let first = messages.iter().map(|one| (one.first().copied(), one.len()));
        first.collect()
    };
    assert_eq!(first(found), first(expected), "{kill:?}");
    assert!(found == expected, "a message is not whole: {kill:?}");
}

fn put_all(tx: &Sender<Message>, sizes: &[(u8, usize)]) -> Vec<Message> {
    let messages = sizes.iter().map(|&(number, bytes)| message(number, bytes));
    messages
        .inspect(|one| tx.send(one.clone()).unwrap())
        .collect()
}

/// The memory of a ring, as the kernel has it.
struct RingFile(File);

impl RingFile {
    /// That of the ring which `make` makes.
    fn of(make: impl FnOnce()) -> RingFile {
        let before: HashSet<u64> = memory_files().map(|(inode, _)| inode).collect();
        make();
        let mut made = memory_files().filter(|(inode, _)| !before.contains(inode));
        let (_, path) = made.next().expect("it is a file of memory");
        RingFile(File::open(path).unwrap())
    }

    fn word(&self, name: &str) -> u64 {
        self.word_at(offset_of(name))
    }

    fn word_at(&self, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, offset).unwrap();
        u64::from_le_bytes(bytes)
    }
}

/// The files of memory that this process has open.
fn memory_files() -> impl Iterator<Item = (u64, std::path::PathBuf)> {
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let name = fs::read_link(&path).ok()?;
        let is_memory = name.to_str()?.contains("memfd:mp");
        let inode = fs::metadata(&path).ok()?.ino();
        is_memory.then_some((inode, path))
    })
}

/// Where a word of a ring is, as its source says.
fn offset_of(name: &str) -> u64 {
    const SOURCE: &str = include_str!("../mp-runtime/src/channel/ring.rs");
    let rest = SOURCE
        .split_once(&format!("\nconst {name}: usize = "))
        .map(|(_, rest)| rest);
    let number = rest.and_then(|rest| rest.split(';').next()?.parse().ok());
    number.unwrap_or_else(|| panic!("`ring.rs` says no place of `{name}`"))
}

/// Runs a sweep on its own, and tells for how many of its kills `check` was true.
fn sweep(sweep: &Sweep<'_>, check: impl Fn(&Kill) -> bool) -> usize {
    let mut count = 0;
    within(LIMIT, || {
        sweep.run(|kill| count += usize::from(check(kill)));
    });
    count
}

/// Sweeps over a send, and then kills at points with a name: where it is, and whether the message
/// is there then.
#[track_caller]
fn check_send(line: &Line, sent: (u8, usize), points: &[(&str, &dyn Fn() -> bool, bool)]) {
    let sent = message(sent.0, sent.1);
    let of_send = Sweep::of(|| line.send(sent.clone()))
        .begin(|| line.begin())
        .warm(|| line.warm());
    sweep(&of_send, |kill| {
        line.check_sent(kill, std::slice::from_ref(&sent))
    });
    for (name, is_there, is_sent) in points {
        within(LIMIT, || {
            of_send.kill_when(is_there, |kill| {
                let was_sent = line.check_sent(kill, std::slice::from_ref(&sent));
                assert_eq!(was_sent, *is_sent, "{name}");
            });
        });
    }
}

/// The same for a receive.
#[track_caller]
fn check_recv(line: &Line, points: &[(&str, &dyn Fn() -> bool, bool)]) {
    let of_recv = Sweep::of(|| line.recv())
        .begin(|| line.begin())
        .warm(|| line.warm());
    sweep(&of_recv, |kill| line.check_taken(kill));
    for (name, is_there, is_taken) in points {
        within(LIMIT, || {
            of_recv.kill_when(is_there, |kill| {
                assert_eq!(line.check_taken(kill), *is_taken, "{name}");
            });
        });
    }
}

const MESSAGE: u64 = 0x4d67;
const JUMP: u64 = 0x4a70;

#[mp::test]
fn promise_12_a_producer_is_killed_while_it_sends() {
    let _alone = sweep::alone();
    for capacity in [0, 5] {
        let line = Line::of_two(capacity);
        let has_put = || line.tail().1 == 3;
        check_send(
            &line,
            (3, 100),
            &[
                ("with the lock", &|| line.is_put_locked(), false),
                (
                    "with the message written",
                    &|| line.kind_at(line.tail().0) == MESSAGE,
                    false,
                ),
                (
                    "when it is put, with the lock",
                    &|| has_put() && line.is_put_locked(),
                    true,
                ),
                (
                    "when it is put, before it rings",
                    &|| has_put() && !line.is_put_locked(),
                    true,
                ),
            ],
        );
    }
}

#[mp::test]
fn promise_12_a_producer_is_killed_while_it_goes_back_to_the_beginning() {
    let _alone = sweep::alone();
    // The part of a ring that is used over and over has 128 KiB.
    let line = Line::new(0, |tx, rx| {
        let mut sent = put_all(tx, &[(1, 40_000), (2, 40_000), (3, 40_000)]);
        for one in sent.drain(..2) {
            assert!(rx.recv().unwrap() == one);
        }
        sent
    });
    let has_jumped = || line.kind_at(line.tail().0) == JUMP;
    let has_put = || line.tail().1 == 4;
    check_send(
        &line,
        (4, 15_000),
        &[
            ("with the jump written", &has_jumped, false),
            ("when it is put", &|| has_put(), true),
        ],
    );
}

#[mp::test]
fn promise_12_a_producer_is_killed_while_it_goes_on_behind_what_is_live() {
    let _alone = sweep::alone();
    let line = Line::new(0, |tx, rx| {
        let mut sent = put_all(tx, &[(1, 40_000), (2, 40_000), (3, 40_000)]);
        for one in sent.drain(..2) {
            assert!(rx.recv().unwrap() == one);
        }
        // These go to the beginning, up to where the third one is, or near it.
        sent.extend(put_all(tx, &[(4, 70_000), (5, 9000)]));
        sent
    });
    let has_jumped = || line.kind_at(line.tail().0) == JUMP;
    check_send(
        &line,
        (6, 3000),
        &[
            ("with the jump written", &has_jumped, false),
            ("when it is put", &|| line.tail().1 == 6, true),
        ],
    );
}

#[mp::test]
fn promise_12_a_producer_is_killed_while_the_ring_grows() {
    let _alone = sweep::alone();
    let line = Line::new(0, |tx, _| put_all(tx, &[(1, 100), (2, 14_000)]));
    let committed = Cell::new(0);
    let has_grown = || {
        let now = line.word("COMMITTED");
        // At the first step it has not.
        if line.is_done() || !line.is_put_locked() || line.tail().1 != 2 {
            committed.set(now);
        }
        now > committed.get()
    };
    check_send(
        &line,
        (3, 12_000),
        &[
            (
                "with more memory and without the message",
                &has_grown,
                false,
            ),
            ("when it is put", &|| line.tail().1 == 3, true),
        ],
    );
}

#[mp::test]
fn promise_12_a_producer_is_killed_while_it_waits_for_room() {
    let _alone = sweep::alone();
    let line = Line::of_two(2);
    let is_received = Cell::new(false);
    let receive = || {
        if !is_received.replace(true) {
            let first = line.before.borrow_mut().remove(0);
            assert_eq!(line.rx().recv_timeout(GENEROUS).unwrap(), first);
        }
    };
    let sent = [message(3, 50)];
    let of_wait = Sweep::of(|| line.send(message(3, 50)))
        .begin(|| {
            line.begin();
            is_received.set(false);
        })
        .warm(|| line.warm())
        .before_step(|step| {
            if step == WAITED_STEPS {
                receive();
            }
        });
    let count = sweep(&of_wait, |kill| {
        if kill.steps <= WAITED_STEPS {
            assert_eq!(line.tx().len(), 2);
        }
        receive();
        line.check_sent(kill, &sent)
    });
    assert!(count > 0, "no message was ever sent");
}

#[mp::test]
fn promise_12_a_consumer_is_killed_while_it_receives() {
    let _alone = sweep::alone();
    for capacity in [0, 2] {
        let line = Line::of_two(capacity);
        let has_taken = || line.head().1 == 1;
        check_recv(
            &line,
            &[
                ("with the lock", &|| line.is_get_locked(), false),
                (
                    "when it is taken, with the lock",
                    &|| has_taken() && line.is_get_locked(),
                    true,
                ),
                (
                    "when it is taken, before it rings",
                    &|| has_taken() && !line.is_get_locked(),
                    true,
                ),
            ],
        );
    }
}

#[mp::test]
fn promise_12_a_consumer_is_killed_while_it_follows_a_jump() {
    let _alone = sweep::alone();
    let line = Line::new(0, |tx, rx| {
        let mut sent = put_all(tx, &[(1, 40_000), (2, 40_000), (3, 40_000)]);
        for one in sent.drain(..2) {
            assert!(rx.recv().unwrap() == one);
        }
        sent.extend(put_all(tx, &[(4, 15_000), (5, 20)]));
        assert!(rx.recv().unwrap() == sent.remove(0));
        sent
    });
    check_recv(
        &line,
        &[
            ("with the lock", &|| line.is_get_locked(), false),
            ("when it is taken", &|| line.head().1 == 4, true),
        ],
    );
}

#[mp::test]
fn promise_12_a_consumer_is_killed_while_it_gives_memory_back() {
    let _alone = sweep::alone();
    let line = Line::new(0, |tx, rx| {
        let large = vec![1; 1 << 20];
        for _ in 0..BACKLOG {
            tx.send(large.clone()).unwrap();
        }
        let last = put_all(tx, &[(2, 20)]);
        for _ in 0..BACKLOG {
            assert!(rx.recv().unwrap() == large);
        }
        last
    });
    let kept = 17 << 16;
    let has_taken = || line.head().1 == BACKLOG as u64 + 1;
    let has_both = || has_taken() && line.is_put_locked() && line.is_get_locked();
    let is_head_back = || has_both() && line.head().0 == 0 && line.tail().0 != 0;
    let is_back = || has_both() && line.head().0 == 0 && line.tail().0 == 0;
    let is_small = || has_both() && line.word("COMMITTED") < kept;
    check_recv(
        &line,
        &[
            ("when it is taken", &has_taken, true),
            ("with both locks", &has_both, true),
            ("between head and tail", &is_head_back, true),
            (
                "behind the tail, before it gives memory back",
                &|| is_back() && !is_small(),
                true,
            ),
            (
                "before the memory is given back that nobody counts on",
                &is_small,
                true,
            ),
            (
                "with one lock",
                &|| has_taken() && is_small_and_free(&line, kept),
                true,
            ),
        ],
    );
}

fn is_small_and_free(line: &Line, kept: u64) -> bool {
    line.word("COMMITTED") < kept && !line.is_put_locked()
}

#[mp::test]
fn promise_12_a_consumer_is_killed_while_it_waits_for_a_message() {
    let _alone = sweep::alone();
    let line = Line::new(4, |_, _| Vec::new());
    let is_sent = Cell::new(false);
    let send = || {
        if !is_sent.replace(true) {
            line.before
                .replace(put_all(&line.tx(), &[(1, 60), (2, 10)]));
        }
    };
    let of_wait = Sweep::of(|| line.recv())
        .begin(|| {
            line.begin();
            is_sent.set(false);
        })
        .warm(|| line.warm())
        .before_step(|step| {
            if step == WAITED_STEPS {
                send();
            }
        });
    let count = sweep(&of_wait, |kill| {
        send();
        line.check_taken(kill)
    });
    assert!(count > 0, "no message was ever taken");
}

/// In a ring of 16 KiB.
#[mp::test]
#[ignore = "a program that another test runs"]
fn program_with_a_small_ring() {
    programs::program("program_with_a_small_ring", LIMIT, || {
        let _alone = sweep::alone();
        // It is empty, and the next message fits neither behind this one nor before it.
        let line = Line::new(0, |tx, rx| {
            let one = put_all(tx, &[(1, 8500)]);
            assert!(rx.recv().unwrap() == one[0]);
            Vec::new()
        });
        let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
        setrlimit(Resource::RLIMIT_FSIZE, (16 << 10) + 2 * 4096, hard).unwrap();
        let has_both = || line.is_put_locked() && line.is_get_locked();
        let is_head_back = || has_both() && line.head().0 == 0 && line.tail().0 != 0;
        let is_back = || has_both() && line.head().0 == 0 && line.tail().0 == 0;
        let sent = message(2, 12_000);
        let of_send = Sweep::of(|| line.send(sent.clone()))
            .begin(|| line.begin())
            .warm(|| line.warm());
        let points: [(&str, &dyn Fn() -> bool, bool); 4] = [
            ("with both locks", &has_both, false),
            ("between head and tail", &is_head_back, false),
            ("behind the tail", &is_back, false),
            ("when it is put", &|| line.tail().1 == 2, true),
        ];
        for (name, is_there, is_sent) in points {
            of_send.kill_when(is_there, |kill| {
                let was_sent = line.check_small(kill, &sent);
                assert_eq!(was_sent, is_sent, "{name}");
            });
        }
    });
}

impl Line {
    /// As `check_sent`, where the sizes of `check_usable` find no room.
    #[track_caller]
    fn check_small(&self, kill: &Kill, sent: &Message) -> bool {
        let found = self.drain();
        let is_there = !found.is_empty();
        if is_there {
            check_same(&found, std::slice::from_ref(sent), kill);
        }
        let (tx, rx) = (self.tx(), self.rx());
        for bytes in [15_000, 10, 6000, 6000, 15_000] {
            let sent = message(7, bytes);
            tx.send_timeout(sent.clone(), GENEROUS).unwrap();
            assert!(rx.recv_timeout(GENEROUS).unwrap() == sent);
        }
        is_there
    }
}

#[test]
fn promise_12_a_producer_is_killed_while_it_rewinds_a_ring() {
    within(LIMIT, || drop(programs::run("program_with_a_small_ring")));
}

#[mp::test]
fn promise_12_whoever_closes_a_queue_is_killed() {
    let _alone = sweep::alone();
    let queue = RefCell::new(Queue::<u64>::unbounded().unwrap());
    let is_done = Shared::new(AtomicU32::new(0)).unwrap();
    let ring = RefCell::new(None);
    let of_close = Sweep::of(|| {
        queue.borrow().close();
        is_done.store(1, Ordering::SeqCst);
    })
    .begin(|| {
        ring.replace(Some(RingFile::of(|| {
            queue.replace(Queue::bounded(3).unwrap());
        })));
        is_done.store(0, Ordering::SeqCst);
        queue.borrow().put(1).unwrap();
        queue.borrow().put(2).unwrap();
    })
    .warm(|| {
        let other = Queue::<u64>::bounded(1).unwrap();
        other.put(1).unwrap();
        other.close();
    });
    let check = |kill: &Kill| {
        let queue = queue.borrow();
        let is_closed = match queue.put_timeout(3, GENEROUS) {
            Ok(()) => false,
            Err(error) => {
                assert_eq!((error.kind(), error.into_inner()), (ErrorKind::Closed, 3));
                true
            }
        };
        assert!(is_closed || !kill.is_complete && is_done.load(Ordering::SeqCst) == 0);
        queue.close();
        let last = if is_closed { 2 } else { 3 };
        for number in 1..=last {
            assert_eq!(queue.get_timeout(GENEROUS).unwrap(), number);
        }
        assert_eq!(queue.get().unwrap_err().kind(), ErrorKind::Closed);
        is_closed
    };
    sweep(&of_close, check);
    let word = |name: &str| {
        ring.borrow()
            .as_ref()
            .map_or(0, |ring: &RingFile| ring.word(name))
    };
    within(LIMIT, || {
        let is_closed = || word("CLOSED") & 0xffff_ffff != 0;
        of_close.kill_when(is_closed, |kill| assert!(check(kill)));
    });
}

#[mp::test]
fn promise_12_whoever_gets_work_and_does_it_is_killed_and_join_ends() {
    let _alone = sweep::alone();
    let new = || {
        let queue = Queue::<u64>::bounded(3).unwrap();
        (1..=2).for_each(|number| queue.put(number).unwrap());
        queue
    };
    let queue = RefCell::new(new());
    let ring = RefCell::new(None);
    let is_done = Shared::new(AtomicU32::new(0)).unwrap();
    let of_work = Sweep::of(|| {
        let queue = queue.borrow();
        assert_eq!(queue.get().unwrap(), 1);
        queue.task_done().unwrap();
        is_done.store(1, Ordering::SeqCst);
    })
    .begin(|| {
        ring.replace(Some(RingFile::of(|| drop(queue.replace(new())))));
        is_done.store(0, Ordering::SeqCst);
    })
    .warm(|| {
        let other = new();
        other.get().unwrap();
        other.task_done().unwrap();
    });
    let check = |kill: &Kill| {
        let queue = queue.borrow();
        let is_taken = queue.len() == 1;
        for number in 1 + u64::from(is_taken)..=2 {
            assert_eq!(queue.get_timeout(GENEROUS).unwrap(), number);
            queue.task_done().unwrap();
        }
        // Who has taken it is dead: nobody waits for it.
        let is_lost = match queue.join() {
            Ok(()) => false,
            Err(error) => {
                assert_eq!(error.process_id(), Some(kill.pid));
                queue.task_done().unwrap();
                queue.join().unwrap();
                true
            }
        };
        assert!(
            !is_lost || is_taken && is_done.load(Ordering::SeqCst) == 0,
            "{kill:?}"
        );
        is_lost
    };
    sweep(&of_work, check);
    let low_word = |name: &str| {
        let ring = ring.borrow();
        ring.as_ref().map_or(0, |ring: &RingFile| ring.word(name)) & 0xffff_ffff
    };
    within(LIMIT, || {
        let has_it = || low_word("HEAD") == 1;
        of_work.kill_when(has_it, |kill| assert!(check(kill)));
        let has_done_it = || low_word("DONE") == 1;
        of_work.kill_when(has_done_it, |kill| assert!(!check(kill)));
    });
}

#[mp::test]
fn promise_12_whoever_says_that_work_is_done_is_killed() {
    let _alone = sweep::alone();
    let queue = Queue::<u64>::bounded(3).unwrap();
    let is_done = Shared::new(AtomicU32::new(0)).unwrap();
    // Somebody who waits for it at the same time.
    let joined = Shared::new(AtomicU64::new(0)).unwrap();
    let may_join = Shared::new(AtomicU64::new(0)).unwrap();
    let _companion = Companion::start(|| {
        until(|| may_join.load(Ordering::SeqCst) > joined.load(Ordering::SeqCst));
        queue.join().unwrap();
        joined.fetch_add(1, Ordering::SeqCst);
    });
    let of_done = Sweep::of(|| {
        queue.task_done().unwrap();
        is_done.store(1, Ordering::SeqCst);
    })
    .begin(|| {
        is_done.store(0, Ordering::SeqCst);
        queue.put(1).unwrap();
        may_join.fetch_add(1, Ordering::SeqCst);
        assert_eq!(queue.get().unwrap(), 1);
    })
    .warm(|| {
        let other = Queue::<u64>::bounded(1).unwrap();
        other.put(1).unwrap();
        other.task_done().unwrap();
        other.join().unwrap();
    });
    sweep(&of_done, |kill| {
        // It was counted once or not at all.
        let is_counted = queue.task_done().is_err();
        assert!(is_counted || !kill.is_complete && is_done.load(Ordering::SeqCst) == 0);
        queue.join_timeout(GENEROUS).unwrap();
        until(|| joined.load(Ordering::SeqCst) == may_join.load(Ordering::SeqCst));
        is_counted
    });
}

#[mp::test]
fn promise_13_a_process_that_drops_its_sender_is_killed() {
    let _alone = sweep::alone();
    let line = Line::of_two(4);
    let of_drop = Sweep::of(|| drop(line.ends.take()))
        .begin(|| line.begin())
        .warm(|| line.warm());
    sweep(&of_drop, |kill| {
        let found = line.drain();
        check_same(&found, &line.before.take(), kill);
        line.check_usable();
        true
    });
}
