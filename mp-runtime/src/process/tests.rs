//! Workers within this process.

#[path = "../../../tests/watchdog/mod.rs"]
#[allow(
    clippy::duplicate_mod,
    reason = "the tests of another layer have it, too"
)]
mod watchdog;

use std::collections::VecDeque;
use std::ops::Range;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_channel::ipc::{self, IpcSender};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::watchdog::{until, within};
use super::{Exit, ProcessInfo, Who, Worker, call_at, current, run_here, start_thread};
use crate::channel::{self, Sender};
use crate::error::ErrorKind;
use crate::link::{
    Call, CallHead, Event as News, Events, Link, Listed, Record, Reply, Status, ThreadEnd,
};
use crate::registry::{self, Catalogue, Function, Registered};
use crate::shm::Shared;
use crate::sync::{Array, ArrayChunk, Event};
use crate::wire::{Decoder, Encoder, Handles};

const LIMIT: Duration = Duration::from_secs(60);

/// The arguments of `act`: something to run on a worker.
#[derive(Serialize, Deserialize)]
enum Act {
    Square(i64),
    WhoAmI,
    Panic(String),
    /// Says that it has begun, and waits.
    Wait(Shared<[Event; 2]>),
    Fill(ArrayChunk<u32>),
    /// As `Wait`, with a chunk that it gives back.
    Keep(ArrayChunk<u32>, Shared<[Event; 2]>),
    /// Looks at what its thread is like.
    LookAround,
    PassBack(Shared<u64>),
    Send(Sender<u64>),
    SendOverIpcChannel(IpcSender<u64>),
    Large(usize),
    /// Runs another act here.
    Nested(i64),
    /// Its result cannot be encoded.
    Refuse,
}

#[derive(Serialize, Deserialize)]
enum Yield {
    Nothing,
    Number(i64),
    Info(ProcessInfo),
    Chunk(ArrayChunk<u32>),
    Shared(Shared<u64>),
    Large(Vec<u8>),
    Refused(Refused),
}

#[derive(Deserialize)]
struct Refused;

impl Serialize for Refused {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not this"))
    }
}

/// What became of an act, and why if it came to nothing.
type Outcome = Result<Yield, (Status, String)>;

fn act(act: Act) -> Yield {
    match act {
        Act::Square(x) => Yield::Number(x * x),
        Act::WhoAmI => Yield::Info(current()),
        Act::Panic(message) => panic!("{message}"),
        Act::Wait(events) => {
            events[0].set();
            events[1].wait();
            Yield::Nothing
        }
        Act::Keep(chunk, events) => {
            events[0].set();
            events[1].wait();
            Yield::Chunk(chunk)
        }
        Act::LookAround => Yield::Number(look_around()),
        Act::Fill(mut chunk) => {
            let start = chunk.start() as u32;
            chunk
                .iter_mut()
                .zip(start..)
                .for_each(|(item, n)| *item = n);
            Yield::Chunk(chunk)
        }
        Act::PassBack(value) => Yield::Shared(value),
        Act::Send(to) => {
            to.send(5).expect("somebody listens");
            Yield::Nothing
        }
        Act::SendOverIpcChannel(to) => {
            to.send(7).expect("somebody listens");
            Yield::Nothing
        }
        Act::Large(len) => Yield::Large(vec![3; len]),
        Act::Nested(x) => {
            let outer = current();
            let inner = here("inner", Act::WhoAmI);
            let Ok(Yield::Info(inner)) = inner else {
                panic!("it says who it is")
            };
            assert_eq!(inner.name, "inner");
            let refused = here("inner", Act::Panic("within".into()));
            assert!(matches!(refused, Err((Status::Panicked, _))));
            assert_eq!(current(), outer);
            Yield::Number(x)
        }
        Act::Refuse => Yield::Refused(Refused),
    }
}

/// Apart, so that its frame is no part of that of others.
#[inline(never)]
fn look_around() -> i64 {
    let large = std::hint::black_box([1_u8; 512 << 10]);
    let masked = SigSet::thread_get_mask().expect("it can be asked");
    assert!(masked.contains(Signal::SIGINT) && masked.contains(Signal::SIGCHLD));
    assert!(!masked.contains(Signal::SIGSEGV));
    assert_eq!(std::thread::current().name(), Some("bound"));
    let cpus = sched_getaffinity(Pid::from_raw(0)).expect("it can be asked");
    let count = (0..CpuSet::count()).filter(|&cpu| cpus.is_set(cpu) == Ok(true));
    count.count() as i64 * i64::from(large[77])
}

fn run(items: &mut registry::Items<'_, '_>) {
    items.each(|call| {
        let argument: Act = call.decode(Decoder::value)?;
        let output = call.invoke(move || act(argument))?;
        call.check(|| matches!(output, Yield::Refused(_)).then(|| "not set up".to_owned()))?;
        call.finish(|to| to.value(&output))
    });
}

static ACT: Function = Function {
    name: "act",
    signature: "(Act) -> Yield",
    file: file!(),
    line: line!(),
    column: 1,
    timeout: None,
    retries: None,
    run,
};

inventory::submit! { Registered(&ACT) }

fn function_number() -> u32 {
    let catalogue = Catalogue::get().expect("no two functions have one name");
    catalogue.number(&ACT).expect("it was submitted")
}

/// Items that were encoded, as a pool keeps them.
struct Encoded {
    args: Arc<Listed>,
    count: usize,
    handles: Option<Arc<Handles>>,
}

impl Encoded {
    fn new(acts: Vec<Act>) -> Encoded {
        let mut encoder = Encoder::default();
        let mut ends = Vec::new();
        let mut ipc_ends = None;
        for act in acts {
            encoder.value(&act).expect("it can be encoded");
            drop(act);
            let taken = encoder.take_ends().expect("there are descriptors");
            ipc_ends = ipc_ends.or(taken);
            encoder.end_item().expect("there is room");
            ends.push(encoder.len());
        }
        let (bytes, cargo) = encoder.take_parts();
        Encoded {
            args: Arc::new(Listed::new(bytes.get().to_vec(), 0, &ends)),
            count: ends.len(),
            handles: Handles::of(ipc_ends, cargo).map(Arc::new),
        }
    }

    /// A call of this number, of the items at `range`.
    fn call(&self, number: u32, range: Range<usize>) -> Call {
        let head = CallHead {
            function: function_number(),
            number,
            ..CallHead::default()
        };
        self.call_with(head, range)
    }

    fn call_with(&self, head: CallHead, range: Range<usize>) -> Call {
        let args: Arc<Listed> = Arc::clone(&self.args);
        Call::new(head, args, range)
    }
}

/// A worker that is a thread, and what came from it.
struct Station {
    worker: Worker,
    link: Link,
    events: Events,
    received: VecDeque<(Record, Reply)>,
}

impl Station {
    fn start(name: &str) -> Station {
        let (worker, link, events) = start_thread(name, 3, None).expect("there is a thread");
        Station {
            worker,
            link,
            events,
            received: VecDeque::new(),
        }
    }

    fn send(&self, number: u32, acts: Vec<Act>) -> Encoded {
        let encoded = Encoded::new(acts);
        let call = encoded.call(number, 0..encoded.count);
        self.link.call(call, encoded.handles.clone());
        encoded
    }

    /// The next record; `None` when the worker has ended.
    fn next(&mut self) -> Option<(Record, Reply)> {
        loop {
            if let Some(next) = self.received.pop_front() {
                return Some(next);
            }
            match self.events.next() {
                News::Records(report, _turn) => {
                    let reply = &report.bundle.reply;
                    let records = report.records().into_iter();
                    self.received
                        .extend(records.map(|record| (record, reply.clone())));
                }
                News::Ended => return None,
                News::Broken(reason) => panic!("{reason}"),
            }
        }
    }

    /// Runs one item on it.
    fn run(&mut self, number: u32, act: Act) -> Outcome {
        let _encoded = self.send(number, vec![act]);
        self.only()
    }

    /// Runs one item on it, as an initializer.
    fn run_as_initializer(&mut self, number: u32, act: Act) -> Outcome {
        let encoded = Encoded::new(vec![act]);
        let head = CallHead {
            function: function_number(),
            number,
            is_initializer: true,
            ..CallHead::default()
        };
        let call = encoded.call_with(head, 0..1);
        self.link.call(call, encoded.handles.clone());
        self.only()
    }

    /// What became of the only item of a call.
    fn only(&mut self) -> Outcome {
        let (record, reply) = self.next().expect("it runs");
        assert!(record.is_last);
        outcome(&record, &reply)
    }
}

fn outcome(record: &Record, reply: &Reply) -> Outcome {
    match record.status {
        Status::Returned => Ok(read(record, reply)),
        Status::Panicked => {
            let (message, place, _): (String, Option<String>, Option<String>) = read(record, reply);
            Err((record.status, format!("{message} at {place:?}")))
        }
        status => Err((status, reply.text(&record.payload))),
    }
}

fn read<T: DeserializeOwned>(record: &Record, reply: &Reply) -> T {
    let value = reply.decode(&record.payload, |from: &mut Decoder<'_>| from.value());
    value.expect("it was encoded so")
}

fn number(outcome: Outcome) -> i64 {
    match outcome {
        Ok(Yield::Number(number)) => number,
        Ok(_) => panic!("it is another kind of result"),
        Err(error) => panic!("{error:?}"),
    }
}

fn here(name: &str, act: Act) -> Outcome {
    let info = Arc::new(ProcessInfo::of_thread(name.into(), 0));
    let encoded = Encoded::new(vec![act]);
    let (record, reply) = run_here(
        &info,
        &ACT,
        false,
        &encoded.args.bytes,
        encoded.handles.clone(),
    );
    outcome(&record, &reply)
}

fn events() -> Shared<[Event; 2]> {
    Shared::new([Event::new(), Event::new()]).expect("there is memory")
}

#[test]
fn a_thread_runs_calls_in_order_and_knows_who_it_is() {
    within(LIMIT, || {
        let mut station = Station::start("pool-worker-3");
        let acts = (0..100).map(Act::Square).collect();
        let _encoded = station.send(1, acts);
        for item in 0..100 {
            let (record, reply) = station.next().expect("it runs");
            assert_eq!(number(outcome(&record, &reply)), item * item);
            assert_eq!(record.is_last, item == 99);
        }

        let Ok(Yield::Info(info)) = station.run(2, Act::WhoAmI) else {
            panic!("it says who it is")
        };
        assert_eq!(&info, station.worker.info());
        assert_eq!((info.id, info.worker_index), (std::process::id(), Some(3)));
        assert_eq!(info.name, "pool-worker-3");
        assert_eq!(current().name, "MainProcess");
        assert!(station.worker.exit().is_none());
    });
}

#[test]
fn results_of_any_size_come_in_their_order() {
    within(LIMIT, || {
        let mut station = Station::start("sizes");
        let sizes = [1, 100_000, 2, 5_000, 3, 4];
        let _encoded = station.send(1, sizes.map(Act::Large).into());
        for size in sizes {
            let (record, reply) = station.next().expect("it runs");
            let Ok(Yield::Large(bytes)) = outcome(&record, &reply) else {
                panic!("it is large")
            };
            assert!(bytes.len() == size && bytes.iter().all(|&byte| byte == 3));
        }
    });
}

#[test]
fn a_panic_is_a_result_and_so_is_what_cannot_be_encoded() {
    within(LIMIT, || {
        let mut station = Station::start("panics");
        let (status, text) = station
            .run(1, Act::Panic("on purpose".into()))
            .err()
            .expect("it panics");
        assert_eq!(status, Status::Panicked);
        assert!(
            text.contains("on purpose") && text.contains("tests.rs:"),
            "{text}"
        );
        let refused = station.run(2, Act::Refuse).err();
        assert_eq!(refused, Some((Status::NotEncoded, "not this".into())));
        let refused = station.run_as_initializer(3, Act::Refuse).err();
        assert_eq!(refused, Some((Status::Refused, "not set up".into())));
        assert_eq!(number(station.run(4, Act::Square(4))), 16);

        let refused = here("inline", Act::Panic("here".into())).err();
        assert!(refused.is_some_and(|(_, text)| text.contains("here at Some")));
    });
}

/// Runs itself again, since a hook is of the whole process, and looks at what is printed.
#[test]
fn only_panics_of_functions_are_not_printed() {
    const VARIABLE: &str = "MP_TEST_PRINTS";
    if std::env::var_os(VARIABLE).is_some() {
        let mut station = Station::start("prints");
        assert!(station.run(1, Act::Panic("kept back".into())).is_err());
        assert!(here("inline", Act::Panic("kept back".into())).is_err());
        let _ = std::thread::spawn(|| panic!("of the program")).join();
        let _ = std::panic::catch_unwind(|| panic!("of the program"));
        return;
    }
    within(LIMIT, || {
        let test = "process::tests::only_panics_of_functions_are_not_printed";
        let program = std::env::current_exe().expect("it is running");
        let output = Command::new(program)
            .args([test, "--exact", "--nocapture"])
            .env(VARIABLE, "1")
            .output()
            .expect("it can be run");
        assert!(output.status.success());
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(printed.matches("of the program").count(), 2, "{printed}");
        assert_eq!(printed.matches("kept back").count(), 0, "{printed}");
    });
}

#[test]
fn handles_go_there_and_back() {
    within(LIMIT, || {
        let mut station = Station::start("handles");
        let mut workers: [&mut dyn FnMut(Act) -> Outcome; 2] =
            [&mut |act| station.run(1, act), &mut |act| {
                here("inline", act)
            }];
        for run in &mut workers {
            let value = Shared::new(77_u64).expect("there is memory");
            let address = std::ptr::from_ref(&*value);
            let Ok(Yield::Shared(back)) = run(Act::PassBack(value)) else {
                panic!("it comes back")
            };
            assert_eq!((*back, std::ptr::from_ref(&*back)), (77, address));

            let (tx, rx) = channel::channel(4).expect("there are descriptors");
            assert!(run(Act::Send(tx)).is_ok());
            assert_eq!(rx.recv().ok(), Some(5));
            // Nobody keeps the sender that went there.
            let closed = rx.recv().map_err(|error| error.kind());
            assert_eq!(closed, Err(ErrorKind::Closed));

            let (tx, rx) = ipc::channel().expect("there are descriptors");
            assert!(run(Act::SendOverIpcChannel(tx)).is_ok());
            assert_eq!(rx.recv().ok(), Some(7));
            assert!(rx.recv().is_err(), "nobody keeps the sender");
        }
    });
}

#[test]
fn chunks_of_arrays_go_there_and_back() {
    within(LIMIT, || {
        let mut station = Station::start("chunks");
        let mut workers: [&mut dyn FnMut(Act) -> Outcome; 2] =
            [&mut |act| station.run(1, act), &mut |act| {
                here("inline", act)
            }];
        for run in &mut workers {
            let array = Array::<u32>::zeroed(10).expect("there is memory");
            let mut chunks = array.split(3);
            let Ok(Yield::Chunk(back)) = run(Act::Fill(chunks.remove(0))) else {
                panic!("it comes back")
            };
            assert_eq!(&*back, [0, 1, 2, 3]);
            // It is here, so the array is not.
            let locked = array.lock_timeout(Duration::from_millis(1)).is_ok();
            assert!(!locked);
            drop(back);
            // What nobody decodes comes back when its message is dropped, as does what is not run.
            drop(run(Act::Fill(chunks.remove(0))));
            drop(Encoded::new(vec![Act::Fill(chunks.remove(0))]));
            let array = array.lock().expect("nothing was lost");
            assert_eq!(&*array, [0, 1, 2, 3, 4, 5, 6, 0, 0, 0]);
        }
    });
}

#[test]
fn a_result_that_is_not_asked_for_gives_its_chunk_back() {
    within(LIMIT, || {
        let mut station = Station::start("unasked");
        let array = Array::<u32>::zeroed(4).expect("there is memory");
        let encoded = station.send(1, array.split(1).into_iter().map(Act::Fill).collect());
        drop(encoded);
        let result = station.next().expect("it runs");
        assert!(array.lock_timeout(Duration::from_millis(1)).is_err());
        drop(result);
        assert_eq!(
            &*array.lock().expect("it came back in its message"),
            [0, 1, 2, 3]
        );
    });
}

#[test]
fn what_a_worker_does_that_was_let_go_of_does_not_count() {
    within(LIMIT, || {
        let mut station = Station::start("let-go");
        let (waiting, array) = (events(), Array::<u32>::zeroed(2).expect("there is memory"));
        let (tx, rx) = channel::channel(4).expect("there are descriptors");
        let mut acts = vec![
            Act::Square(2),
            Act::Large(100_000),
            Act::Wait(waiting.clone()),
        ];
        acts.push(Act::Send(tx));
        let encoded = station.send(9, acts);
        waiting[0].wait();
        let running = station.link.running().expect("it is running");
        assert_eq!((running.call, running.place), (9, 2));
        until(|| {
            let now = station.link.running().expect("it is running");
            now.elapsed > running.elapsed
        });

        station.worker.kill();
        let exit = station.worker.wait();
        assert_eq!(exit.thread, Some(ThreadEnd::LetGo));
        // Two were done, once each, in their order.
        let (record, reply) = station.next().expect("it was done");
        assert_eq!(number(outcome(&record, &reply)), 4);
        let (record, reply) = station.next().expect("it was done");
        assert!(matches!(outcome(&record, &reply), Ok(Yield::Large(_))));
        assert!(!record.is_last && station.next().is_none());
        let running = station.link.running().expect("it was running");
        assert_eq!((running.call, running.place), (9, 2));

        // What is left of the call runs elsewhere, with the same handles.
        let mut other = Station::start("other");
        other
            .link
            .call(encoded.call(10, 3..4), encoded.handles.clone());
        let sent = other.next().map(|(record, _)| record.status);
        assert_eq!(sent, Some(Status::Returned));
        assert_eq!(rx.recv().ok(), Some(5));
        // The function that goes on has nothing of them but its own.
        let bytes = Arc::downgrade(&encoded.args);
        drop(encoded);
        let closed = rx.recv().map_err(|error| error.kind());
        assert_eq!(closed, Err(ErrorKind::Closed));

        // Nor does anything count that it has done when it returns.
        assert!(bytes.upgrade().is_some());
        waiting[1].set();
        until(|| bytes.upgrade().is_none());
        assert!(station.next().is_none() && station.next().is_none());
        let _encoded = station.send(11, array.split(1).into_iter().map(Act::Fill).collect());
        assert!(station.next().is_none());
        drop(_encoded);
        drop(array.lock().expect("it was never there"));
        assert_eq!(
            station.worker.exit().and_then(|exit| exit.thread),
            Some(ThreadEnd::LetGo)
        );
    });
}

#[test]
fn a_function_that_was_let_go_of_keeps_nothing_when_it_returns() {
    within(LIMIT, || {
        let station = Station::start("late");
        let waiting = events();
        let encoded = station.send(1, vec![Act::Wait(waiting.clone())]);
        let bytes = Arc::downgrade(&encoded.args);
        drop(encoded);
        waiting[0].wait();
        drop(station);
        assert!(bytes.upgrade().is_some(), "it may still borrow from them");
        waiting[1].set();
        until(|| bytes.upgrade().is_none());
    });
}

#[test]
fn a_chunk_is_with_the_function_that_was_let_go_of_until_it_returns() {
    within(LIMIT, || {
        let station = Station::start("keeper");
        let (waiting, array) = (events(), Array::<u32>::zeroed(2).expect("there is memory"));
        let chunk = array.split(1).remove(0);
        let encoded = station.send(1, vec![Act::Keep(chunk, waiting.clone())]);
        waiting[0].wait();
        station.worker.kill();
        assert!(array.lock_timeout(Duration::from_millis(1)).is_err());
        // So it cannot be tried again meanwhile.
        let mut other = Station::start("other");
        other
            .link
            .call(encoded.call(2, 0..1), encoded.handles.clone());
        let (record, reply) = other.next().expect("it answers");
        let refused = outcome(&record, &reply).err();
        assert!(
            matches!(&refused, Some((Status::NotDecoded, text)) if text.contains("taken out before")),
            "{refused:?}"
        );
        assert!(array.lock_timeout(Duration::from_millis(1)).is_err());
        waiting[1].set();
        drop(array.lock().expect("nothing was lost"));
    });
}

#[test]
fn a_worker_that_is_told_to_stop_ends_after_its_call() {
    within(LIMIT, || {
        let mut station = Station::start("stop");
        let _encoded = station.send(1, vec![Act::Square(3)]);
        station.link.stop();
        assert_eq!(number(station.only()), 9);
        assert!(station.next().is_none() && station.link.running().is_none());
        let exit = station.worker.wait();
        assert_eq!(exit.thread, Some(ThreadEnd::Returned));
        station.worker.kill();
        let exit = station.worker.exit().expect("it has ended");
        assert_eq!(exit.thread, Some(ThreadEnd::Returned));
    });
}

#[test]
fn a_worker_that_nobody_calls_any_more_ends() {
    within(LIMIT, || {
        let (worker, link, events) = start_thread("orphan", 0, None).expect("there is a thread");
        drop(link);
        assert!(matches!(events.next(), News::Ended));
        assert_eq!(worker.wait().thread, Some(ThreadEnd::Returned));
    });
}

#[test]
fn the_items_of_a_cancelled_chunk_that_have_not_begun_do_not_run() {
    within(LIMIT, || {
        let mut station = Station::start("cancel");
        let waiting = events();
        let acts = vec![Act::Wait(waiting.clone()), Act::Square(1), Act::Square(2)];
        let _encoded = station.send(5, acts);
        waiting[0].wait();
        station.link.cancel(5);
        waiting[1].set();
        let (record, _) = station.next().expect("it was running");
        assert_eq!((record.status, record.is_last), (Status::Returned, false));
        let (end, _) = station.next().expect("the end of its call");
        assert_eq!((end.status, end.is_last), (Status::CutShort, true));
        assert_eq!(number(station.run(6, Act::Square(5))), 25);
    });
}

#[test]
fn what_runs_here_may_run_more_here() {
    within(LIMIT, || {
        let before = current();
        assert_eq!(number(here("outer", Act::Nested(8))), 8);
        let mut station = Station::start("outer");
        assert_eq!(number(station.run(1, Act::Nested(9))), 9);
        let after = here("outer", Act::Panic("again".into())).err();
        assert!(after.is_some_and(|(_, text)| text.contains("again at Some")));
        assert_eq!(current(), before);
    });
}

#[test]
fn a_call_while_its_thread_panics_is_contained() {
    struct Calls;
    impl Drop for Calls {
        fn drop(&mut self) {
            let refused = here("inline", Act::Panic("second".into())).err();
            assert!(refused.is_some_and(|(status, _)| status == Status::Panicked));
            assert_eq!(number(here("inline", Act::Square(2))), 4);
        }
    }
    within(LIMIT, || {
        let first = std::thread::spawn(|| {
            let _calls = Calls;
            panic!("first");
        });
        let message = first.join().expect_err("it panics");
        assert_eq!(message.downcast_ref::<&str>(), Some(&"first"));
    });
}

#[test]
fn a_thread_is_bound_or_not_started() {
    within(LIMIT, || {
        // Some processor it may run on.
        let allowed = sched_getaffinity(Pid::from_raw(0)).expect("it can be asked");
        let cpu = (0..CpuSet::count()).find(|&cpu| allowed.is_set(cpu) == Ok(true));
        let started = start_thread("bound", 0, cpu.map(|cpu| vec![cpu]));
        let (worker, link, events) = started.expect("there is a thread");
        let received = VecDeque::new();
        let mut station = Station {
            worker,
            link,
            events,
            received,
        };
        assert_eq!(number(station.run(1, Act::LookAround)), 1);

        for (name, cpus, reason) in [
            (
                "bound",
                vec![1023],
                "`bound` could not be started: it cannot be bound to",
            ),
            ("bound", vec![], "name at least one"),
            ("bound", vec![5000], "numbers below 1024"),
            ("a\0b", vec![0], "has a NUL in it"),
        ] {
            let error = start_thread(name, 0, Some(cpus)).err().expect(reason);
            assert_eq!(error.kind(), ErrorKind::Spawn);
            assert!(error.to_string().contains(reason), "{error}");
        }
    });
}

#[test]
fn sentences_about_threads_are_true() {
    let who = Who {
        name: "worker 1".into(),
        process_id: 7,
        function: &ACT,
        item: Some(2),
    };
    let death = super::Death::from(Exit::of_thread(ThreadEnd::LetGo));
    let sentences = [
        who.died(&death),
        who.died_before(&death),
        who.timed_out(Duration::from_secs(1), &death),
        super::short_life(&ProcessInfo::of_thread("w".into(), 0), &death),
    ]
    .map(|error| (error.kind(), error.to_string()));
    let last = format!(
        "`w` (pid {}) was let go of right after its start",
        std::process::id()
    );
    assert_eq!(
        sentences,
        [
            (
                ErrorKind::Cancelled,
                "worker 1 (pid 7) was let go of while running `act` (item 2)".to_owned()
            ),
            (
                ErrorKind::Cancelled,
                "worker 1 (pid 7) was let go of before it could run `act` (item 2)".to_owned()
            ),
            (
                ErrorKind::TimedOut,
                "worker 1 (pid 7) was let go of: `act` (item 2) took longer than 1s".to_owned()
            ),
            (ErrorKind::Spawn, last),
        ]
    );
}

#[test]
fn a_panic_in_a_timer_leaves_the_others_alone() {
    within(LIMIT, || {
        let (done, is_done) = std::sync::mpsc::channel();
        let due = Instant::now();
        call_at(due, || panic!("a bug")).expect("there is a thread");
        call_at(due, move || done.send(()).expect("it is waited for")).expect("there is a thread");
        is_done.recv().expect("it is called");
    });
}
