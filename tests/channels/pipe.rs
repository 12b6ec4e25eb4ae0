//! Pipes between processes, and waiting for the first of several.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ipc_channel::ipc::{self, IpcReceiver, IpcSender, IpcSharedMemory};
use mp::{Array, ArrayChunk, Connection, ErrorKind, Pool, Shared, Value};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{MsgFlags, send};
use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::interruption;
use crate::programs::{self, say};
use crate::watchdog::{until, within};

const LIMIT: Duration = Duration::from_secs(120);
const SHORT: Duration = Duration::from_millis(5);

/// Bytes that are encoded at once.
#[derive(Debug, PartialEq)]
struct Bulk(Vec<u8>);

impl Serialize for Bulk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bulk {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bulk, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Bulk;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bulk, E> {
                Ok(Bulk(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// Can be encoded, or decoded, if it says so.
#[derive(Debug, PartialEq)]
struct Fussy {
    encodes: bool,
    decodes: bool,
}

impl Serialize for Fussy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.encodes {
            true => self.decodes.serialize(serializer),
            false => Err(serde::ser::Error::custom("not this one")),
        }
    }
}

impl<'de> Deserialize<'de> for Fussy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fussy, D::Error> {
        match bool::deserialize(deserializer)? {
            true => Ok(Fussy {
                encodes: true,
                decodes: true,
            }),
            false => Err(D::Error::custom("not that one")),
        }
    }
}

fn kind<T>(result: Result<T, mp::Error>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

fn limit_descriptors(most: u64) {
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("it is less than before");
}

#[mp::process_fn]
fn echo(to: Connection<String, String>) -> u64 {
    let mut count = 0;
    while let Ok(text) = to.recv() {
        to.send(text).unwrap();
        count += 1;
    }
    count
}

#[mp::test]
fn what_is_sent_comes_back_in_order() -> Result<(), mp::Error> {
    within(LIMIT, || {
        let (here, there) = mp::pipe::<String, String>()?;
        let process = mp::spawn!(echo(there))?;
        for length in [0, 1, 100, 30_000, 33_000, 100_000, 3_000_000] {
            let text = "x".repeat(length);
            here.send(text.clone())?;
            assert_eq!(here.recv()?, text);
        }
        for number in 0..200 {
            here.send(number.to_string())?;
        }
        for number in 0..200 {
            assert_eq!(here.recv()?, number.to_string());
        }
        drop(here);
        assert_eq!(process.join()?, 207);
        Ok(())
    })
}

// Nobody waits for one who waits for him.

fn send_then_receive(
    end: &Connection<Bulk, Bulk>,
    count: usize,
    bytes: usize,
) -> Result<bool, mp::Error> {
    for number in 0..count {
        end.send(Bulk(vec![number as u8; bytes]))?;
    }
    let mut are_right = true;
    for number in 0..count {
        are_right &= end.recv()?.0 == vec![number as u8; bytes];
    }
    Ok(are_right)
}

#[mp::process_fn]
fn flood(end: Connection<Bulk, Bulk>, count: usize, bytes: usize) -> bool {
    send_then_receive(&end, count, bytes).unwrap()
}

#[track_caller]
fn check_flood(count: usize, bytes: usize) {
    within(LIMIT, || {
        let (here, there) = mp::pipe().unwrap();
        let process = mp::spawn!(flood(there, count, bytes)).unwrap();
        assert!(send_then_receive(&here, count, bytes).unwrap());
        assert!(process.join().unwrap());
    });
}

#[mp::test]
fn both_sides_send_a_hundred_large_ones_before_they_receive() {
    check_flood(100, 4 << 20);
}

#[mp::test]
fn both_sides_send_thousands_of_small_ones_before_they_receive() {
    check_flood(5000, 8);
}

#[mp::test]
fn both_sides_send_full_packets_before_they_receive() {
    check_flood(500, 30_000);
}

#[mp::test]
fn threads_send_and_receive_on_one_end_while_the_other_does_too() {
    within(LIMIT, || {
        const EACH: u64 = 3000;
        let (here, there) = mp::pipe::<(u64, u64), (u64, u64)>().unwrap();
        // Every thread's own come in order, and all come once.
        let receive = |end: &Connection<(u64, u64), (u64, u64)>| {
            let mut got: Vec<(u64, u64)> = Vec::new();
            while got.len() < EACH as usize {
                got.push(end.recv().unwrap());
            }
            for thread in 0..3 {
                let own = got.iter().filter(|one| one.0 == thread);
                assert!(own.is_sorted_by_key(|one| one.1));
            }
            got
        };
        thread::scope(|scope| {
            let mut receivers = Vec::new();
            for end in [&here, &there] {
                for thread in 0..3 {
                    scope.spawn(move || {
                        for number in 0..EACH {
                            end.send((thread, number)).unwrap();
                        }
                    });
                    receivers.push(scope.spawn(move || receive(end)));
                }
            }
            let all = receivers
                .into_iter()
                .map(|receiver| receiver.join().unwrap());
            let mut all: Vec<_> = all.collect();
            for side in all.chunks_mut(3) {
                let mut got: Vec<_> = side.concat();
                got.sort_unstable();
                let wanted = (0..3).flat_map(|thread| (0..EACH).map(move |n| (thread, n)));
                assert!(got.into_iter().eq(wanted));
            }
        });
    });
}

#[mp::process_fn]
fn length_of(from: Connection<u64, Bulk>) {
    let bytes = from.recv().unwrap().0;
    from.send(bytes.len() as u64 + u64::from(bytes[bytes.len() - 1]))
        .unwrap();
}

#[mp::test]
#[ignore = "takes 16 GiB of memory; `cargo test --release --test channels pipe::promise_15 -- --ignored`"]
fn promise_15_five_gibibytes_travel() {
    within(LIMIT, || {
        const BYTES: usize = 5 << 30;
        let (here, there) = mp::pipe::<Bulk, u64>().unwrap();
        let process = mp::spawn!(length_of(there)).unwrap();
        here.send(Bulk(vec![7; BYTES])).unwrap();
        assert_eq!(here.recv().unwrap(), BYTES as u64 + 7);
        process.join().unwrap();
    });
}

// The end of one side.

#[mp::process_fn]
fn send_and_stay(to: Connection<Bulk, u64>, sent: Shared<AtomicU64>, sizes: Vec<usize>) {
    for bytes in sizes {
        to.send(Bulk(vec![1; bytes])).unwrap();
        sent.fetch_add(1, Ordering::SeqCst);
    }
    loop {
        thread::park();
    }
}

#[mp::test]
fn promise_13_a_killed_peer_is_closed_after_what_it_has_sent() -> Result<(), mp::Error> {
    within(LIMIT, || {
        let (here, there) = mp::pipe::<u64, Bulk>()?;
        let sent = Shared::new(AtomicU64::new(0))?;
        let sizes = vec![0, 10, 30_000, 5_000_000, 1];
        let process = mp::spawn!(send_and_stay(there, sent.clone(), sizes.clone()))?;
        // It does not receive them.
        here.send(1)?;
        here.send(2)?;
        until(|| sent.load(Ordering::SeqCst) == 5);
        process.kill()?;
        process.wait();
        for bytes in sizes {
            assert_eq!(here.recv()?, Bulk(vec![1; bytes]));
        }
        assert_eq!(kind(here.recv()), Some(ErrorKind::Closed));
        assert_eq!(kind(here.try_recv()), Some(ErrorKind::Closed));
        assert_eq!(kind(here.recv_timeout(LIMIT)), Some(ErrorKind::Closed));
        assert!(here.poll(LIMIT)?);
        let error = here.send(17).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert_eq!(error.into_inner(), 17);
        Ok(())
    })
}

#[mp::process_fn]
fn stay(_with: Connection<Bulk, Bulk>) {
    loop {
        thread::park();
    }
}

#[mp::test]
fn a_sender_and_a_receiver_that_wait_are_woken_by_the_death_of_the_peer() {
    within(LIMIT, || {
        let (here, there) = mp::pipe::<Bulk, Bulk>().unwrap();
        let process = mp::spawn!(stay(there)).unwrap();
        let sent = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&sent);
        let here = &here;
        thread::scope(|scope| {
            let receiver = scope.spawn(|| kind(here.recv()));
            let sender = scope.spawn(move || {
                loop {
                    if let Err(error) = here.send(Bulk(vec![5; 1000])) {
                        return (error.kind(), error.into_inner());
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
            // Until the socket is full, or nearly so.
            until(|| sent.load(Ordering::SeqCst) > 100);
            process.kill().unwrap();
            assert_eq!(receiver.join().unwrap(), Some(ErrorKind::Closed));
            let (kind, value) = sender.join().unwrap();
            assert_eq!((kind, value), (ErrorKind::Closed, Bulk(vec![5; 1000])));
        });
    });
}

// Handles.

#[derive(Serialize, Deserialize)]
struct Handles {
    counter: Shared<AtomicU64>,
    numbers: Shared<[f64]>,
    total: Value<f64>,
    array: Array<u32>,
    sender: IpcSender<String>,
    receiver: IpcReceiver<u64>,
    region: IpcSharedMemory,
    words: mp::Sender<String>,
    queue: mp::Queue<u64>,
    text: String,
}

#[mp::process_fn]
fn use_handles(from: Connection<Handles, Handles>) {
    let handles = from.recv().unwrap();
    handles.counter.fetch_add(1, Ordering::SeqCst);
    handles
        .total
        .update(|total| *total = handles.numbers.iter().sum())
        .unwrap();
    handles.array.lock().unwrap()[3] = 4;
    let number = handles.receiver.recv().expect("it was sent");
    handles.words.send("word".into()).unwrap();
    handles.queue.put(handles.queue.get().unwrap() + 1).unwrap();
    let text = format!("{} {} {}", handles.text, number, handles.region[2]);
    handles.sender.send(text).expect("somebody receives");
    from.send(handles).unwrap();
}

#[mp::test]
fn handles_of_every_kind_go_there_and_back() -> Result<(), mp::Error> {
    within(LIMIT, || {
        let (here, there) = mp::pipe::<Handles, Handles>()?;
        let process = mp::spawn!(use_handles(there))?;
        let (sender, texts) = ipc::channel().expect("there are descriptors");
        let (numbers, receiver) = ipc::channel().expect("there are descriptors");
        let counter = Shared::new(AtomicU64::new(7))?;
        let total = mp::shared!(0.0)?;
        let array = Array::zeroed(10)?;
        let (words, heard) = mp::channel(10)?;
        let queue = mp::Queue::unbounded()?;
        queue.put(30)?;
        here.send(Handles {
            counter: counter.clone(),
            numbers: Shared::from_slice(&[1.5; 100_000])?,
            total: total.clone(),
            array: array.clone(),
            sender,
            receiver,
            region: IpcSharedMemory::from_bytes(&[1, 2, 3]),
            words,
            queue: queue.clone(),
            text: "text".repeat(20_000),
        })?;
        numbers.send(12).expect("it is on its way, which is enough");
        let text: String = texts.recv().expect("it is sent");
        assert!(text.starts_with("texttext") && text.ends_with("text 12 3"));
        process.join()?;
        let back = here.recv()?;
        assert_eq!(counter.load(Ordering::SeqCst), 8);
        assert_eq!(total.get()?, 150_000.0);
        assert_eq!(array.lock()?[3], 4);
        assert!(Shared::ptr_eq(&back.counter, &counter));
        assert_eq!(back.region[1], 2);
        assert_eq!((heard.recv()?, queue.get()?), ("word".to_owned(), 31));
        numbers.send(13).expect("the receiver came back");
        assert_eq!(back.receiver.recv().expect("it was sent"), 13);
        back.sender.send("again".into()).expect("it came back");
        assert_eq!(texts.recv().expect("it was sent"), "again");
        Ok(())
    })
}

type Regions = Vec<Shared<[u32]>>;

/// What makes a region of its own.
const LARGE: usize = 1 << 16;

#[mp::process_fn]
fn give_back(with: Connection<Regions, Regions>) {
    while let Ok(regions) = with.recv() {
        with.send(regions).unwrap();
    }
}

#[mp::test]
fn hundreds_of_regions_go_in_one_message() -> Result<(), mp::Error> {
    within(LIMIT, || {
        let (here, there) = mp::pipe::<Regions, Regions>()?;
        let process = mp::spawn!(give_back(there))?;
        let region = |n: u32| Shared::from_slice(&vec![n; LARGE]);
        let regions: Vec<_> = (0..600).map(region).collect::<Result<_, _>>()?;
        for count in [252, 253, 254, 506, 507, 600] {
            here.send(regions[..count].to_vec())?;
            let back = here.recv()?;
            assert_eq!(back.len(), count);
            assert!(back.iter().zip(&regions).all(|(a, b)| Shared::ptr_eq(a, b)));
        }
        drop(here);
        process.join()
    })
}

#[mp::test]
fn a_chunk_of_an_array_is_refused_and_given_back() {
    within(LIMIT, || {
        let (here, there) = mp::pipe::<ArrayChunk<u32>, ()>().unwrap();
        let array = Array::<u32>::zeroed(10).unwrap();
        let mut chunks = array.split(2).into_iter();
        let error = here.send(chunks.next().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let mut chunk = error.into_inner();
        chunk[0] = 1;
        drop((chunk, chunks));
        assert_eq!(array.lock().unwrap()[0], 1);
        assert_eq!(kind(there.try_recv()), Some(ErrorKind::TimedOut));
    });
}

type Numbers = Connection<u64, u64>;

#[mp::process_fn]
fn double_all(ends: Connection<(), Numbers>) {
    while let Ok(end) = ends.recv() {
        while let Ok(number) = end.recv() {
            end.send(2 * number).unwrap();
        }
    }
}

#[mp::test]
fn an_end_goes_over_another_pipe_with_what_waits_for_it() -> Result<(), mp::Error> {
    within(LIMIT, || {
        let (give, take) = mp::pipe::<Numbers, ()>()?;
        let process = mp::spawn!(double_all(take))?;
        for round in 0..3 {
            let (here, there) = mp::pipe::<u64, u64>()?;
            // Sent before it leaves, and while it is on its way.
            here.send(round)?;
            give.send(there)?;
            here.send(20)?;
            assert_eq!([here.recv()?, here.recv()?], [2 * round, 40]);
        }
        drop(give);
        process.join()
    })
}

#[mp::process_fn]
fn make_pipe() -> Numbers {
    let (here, there) = mp::pipe::<u64, u64>().unwrap();
    here.send(99).unwrap();
    there
}

#[mp::test]
fn an_end_is_a_result_too() -> Result<(), mp::Error> {
    within(LIMIT, || {
        let end = mp::spawn!(make_pipe())?.join()?;
        assert_eq!(end.recv()?, 99);
        assert_eq!(kind(end.recv()), Some(ErrorKind::Closed));
        let pool = Pool::new(1)?;
        let end = pool.apply(make_pipe, ())?;
        assert_eq!(end.recv()?, 99);
        assert_eq!(kind(end.recv()), Some(ErrorKind::Closed));
        Ok(())
    })
}

#[mp::process_fn]
fn drop_it(end: Numbers, ready: Numbers) {
    drop(end);
    // The process goes on.
    let _ = ready.recv();
}

#[mp::test]
fn an_end_that_its_process_drops_is_gone_though_the_call_goes_on() -> Result<(), mp::Error> {
    within(LIMIT, || {
        let (here, there) = mp::pipe::<u64, u64>()?;
        let (go, ready) = mp::pipe::<u64, u64>()?;
        let process = mp::spawn!(drop_it(there, ready))?;
        assert_eq!(kind(here.recv()), Some(ErrorKind::Closed));
        drop(go);
        process.join()
    })
}

/// Sends so many numbers to `to`, more than a socket holds, and has them wait there.
fn fill(from: &Numbers, to: &Numbers, count: u64) {
    const LAST: u64 = u64::MAX;
    let are_all_sent = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            (0..count).for_each(|n| from.send(n).unwrap());
            are_all_sent.store(true, Ordering::SeqCst);
            while from.recv().unwrap() != LAST {}
        });
        // It receives nothing, but finds no room for its own sometime.
        while !are_all_sent.load(Ordering::SeqCst) {
            to.send(0).unwrap();
        }
        to.send(LAST).unwrap();
    });
}

#[mp::test]
fn an_end_with_messages_in_this_process_stays_until_they_are_received() -> Result<(), mp::Error> {
    within(LIMIT, || {
        let (here, there) = mp::pipe::<u64, u64>()?;
        const COUNT: u64 = 3000;
        fill(&here, &there, COUNT);
        let (give, take) = mp::pipe::<Numbers, ()>()?;
        let error = give.send(there).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Encode);
        let there = error.into_inner();
        for number in 0..COUNT {
            assert_eq!(there.recv()?, number);
        }
        give.send(there)?;
        drop(here);
        assert_eq!(kind(take.recv()?.recv()), Some(ErrorKind::Closed));
        Ok(())
    })
}

// Timeouts and readiness.

fn is_readable(end: &Numbers) -> bool {
    let mut polled = [PollFd::new(end.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).expect("it can be asked") == 1
}

#[mp::test]
fn timeouts_and_poll_tell_what_is_there() -> Result<(), mp::Error> {
    within(LIMIT, || {
        let (here, there) = mp::pipe::<u64, u64>()?;
        assert!(!is_readable(&there) && !there.poll(SHORT)? && !there.poll(Duration::ZERO)?);
        assert_eq!(kind(there.recv_timeout(SHORT)), Some(ErrorKind::TimedOut));
        let error = there.recv_timeout(Duration::ZERO);
        assert_eq!(kind(error), Some(ErrorKind::TimedOut));
        assert_eq!(kind(there.try_recv()), Some(ErrorKind::TimedOut));
        here.send(1)?;
        here.send(2)?;
        assert!(is_readable(&there) && there.poll(Duration::ZERO)? && there.poll(Duration::MAX)?);
        assert_eq!(there.recv_timeout(Duration::ZERO)?, 1);
        assert_eq!(there.try_recv()?, 2);
        assert!(!is_readable(&there));
        thread::scope(|scope| {
            let receiver = scope.spawn(|| there.recv_timeout(Duration::MAX));
            let waiter = scope.spawn(|| here.poll(LIMIT));
            here.send(3).unwrap();
            assert_eq!(receiver.join().unwrap()?, 3);
            drop(there.send(4));
            assert!(waiter.join().unwrap()?);
            Ok::<(), mp::Error>(())
        })?;
        drop(there);
        assert!(is_readable(&here) && here.poll(Duration::ZERO)?);
        assert_eq!(here.recv()?, 4);
        assert!(is_readable(&here) && here.poll(Duration::ZERO)?);
        assert_eq!(kind(here.try_recv()), Some(ErrorKind::Closed));
        Ok(())
    })
}

#[mp::test]
fn the_descriptor_stays_readable_while_there_is_something_in_this_process() {
    within(LIMIT, || {
        const COUNT: u64 = 2000;
        let (here, there) = mp::pipe::<u64, u64>().unwrap();
        fill(&here, &there, COUNT);
        for number in 0..COUNT {
            assert!(is_readable(&there) && there.poll(Duration::ZERO).unwrap());
            assert_eq!(there.try_recv().unwrap(), number);
        }
        assert!(!is_readable(&there));
    });
}

// What goes wrong with one message.

#[mp::test]
fn a_value_that_cannot_be_encoded_is_given_back() -> Result<(), mp::Error> {
    within(LIMIT, || {
        let (here, there) = mp::pipe::<Fussy, ()>()?;
        let value = |encodes| Fussy {
            encodes,
            decodes: true,
        };
        let error = here.send(value(false)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Encode);
        assert!(error.to_string().contains("not this one"));
        assert_eq!(error.into_inner(), value(false));
        here.send(value(true))?;
        assert_eq!(there.recv()?, value(true));
        assert_eq!(kind(there.try_recv()), Some(ErrorKind::TimedOut));
        Ok(())
    })
}

#[mp::test]
fn promise_10_a_message_that_cannot_be_decoded_is_lost_alone() -> Result<(), mp::Error> {
    within(LIMIT, || {
        let (here, there) = mp::pipe::<Fussy, ()>()?;
        for decodes in [false, true] {
            here.send(Fussy {
                encodes: true,
                decodes,
            })?;
        }
        let error = there.recv().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert!(error.to_string().contains("not that one"));
        assert!(there.recv()?.decodes);
        Ok(())
    })
}

#[mp::process_fn]
fn write_nonsense(end: Numbers) {
    let raw = end.as_fd().as_raw_fd();
    let header = |kind: u8, form: u8, files: u32, before: u32, bytes: u64| {
        let mut header = vec![kind, form, 0, 0, 0, 0, 0, 0];
        header.extend_from_slice(&files.to_le_bytes());
        header.extend_from_slice(&[0; 8]);
        header.extend_from_slice(&before.to_le_bytes());
        header.extend_from_slice(&bytes.to_le_bytes());
        header
    };
    let mut seed = 88_172_645_463_325_252_u64;
    let mut noise = move |bytes: usize| -> Vec<u8> {
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as u8
        };
        (0..bytes).map(|_| next()).collect()
    };
    let mut packets = vec![
        vec![],
        vec![1],
        vec![0xff; 100_000],
        header(2, 0, 0, 0, u64::MAX),
        header(2, 1, 0, 0, 1 << 60),
        header(1, 0, u32::MAX, 0, 0),
        header(1, 0, 300, 0, 0),
        header(2, 0, 300, 253, 0),
        header(2, 0, 0, 9, 0),
        header(2, 0, 0, 0, 0),
        header(9, 9, 0, 0, 0),
        [header(2, 0, 0, 0, 5), vec![0xff; 5]].concat(),
        [header(2, 0, 0, 0, 5), vec![1; 5]].concat(),
    ];
    packets.extend((0..300).map(&mut noise));
    packets.extend((0..300).map(|n| [header(2, 0, 0, 0, n as u64), noise(n)].concat()));
    for (number, packet) in packets.into_iter().enumerate() {
        send(raw, &packet, MsgFlags::empty()).expect("it is a socket");
        end.send(number as u64).unwrap();
    }
}

#[mp::test]
fn promise_26_nonsense_in_the_socket_is_errors_and_what_is_true_comes_through() {
    within(LIMIT, || {
        let (here, there) = mp::pipe().unwrap();
        let process = mp::spawn!(write_nonsense(there)).unwrap();
        let (mut expected, mut errors) = (0, 0);
        loop {
            match here.recv() {
                Ok(number) if number == expected => expected += 1,
                // Noise may be a number.
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Closed => break,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
                    errors += 1;
                }
            }
        }
        process.join().unwrap();
        assert_eq!(expected, 613);
        assert!(errors > 500, "{errors}");
    });
}

// Interruptions, descriptors, leaks.

#[mp::process_fn]
fn echo_interrupted(end: Connection<Bulk, Bulk>) {
    interruption::be_interrupted();
    while let Ok(bulk) = end.recv() {
        end.send(bulk).unwrap();
    }
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_that_is_interrupted() {
    programs::program("program_that_is_interrupted", LIMIT, || {
        let (here, there) = mp::pipe::<Bulk, Bulk>().unwrap();
        let process = mp::spawn!(echo_interrupted(there)).unwrap();
        interruption::be_interrupted();
        for round in 0..300 {
            let bytes = [10, 20_000, 300_000, 8 << 20][round % 4];
            here.send(Bulk(vec![round as u8; bytes])).unwrap();
            assert!(here.recv().unwrap().0 == vec![round as u8; bytes]);
        }
        assert!(!here.poll(SHORT).unwrap());
        assert_eq!(kind(here.recv_timeout(SHORT)), Some(ErrorKind::TimedOut));
        assert_eq!(mp::wait_any(&[&here, &process], SHORT).unwrap(), None);
        drop(here);
        process.join().unwrap();
        say("done");
    });
}

#[test]
fn promise_25_signals_change_nothing() {
    within(LIMIT, || {
        assert_eq!(programs::run("program_that_is_interrupted"), ["done"]);
    });
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_without_descriptors() {
    programs::program("program_without_descriptors", LIMIT, || {
        let (here, there) = mp::pipe::<Bulk, u64>().unwrap();
        let (ends_out, ends_in) = mp::pipe::<Numbers, u64>().unwrap();
        let (ipc_out, ipc_in) = mp::pipe::<IpcSender<u64>, u64>().unwrap();
        let (region_out, region_in) = mp::pipe::<Shared<[u64]>, u64>().unwrap();
        let (sender, receiver) = ipc::channel().unwrap();
        // No process: what is left of one makes room some time later.
        let region = Shared::from_slice(&[1; LARGE]).unwrap();
        region_out.send(region).unwrap();
        let (one, other) = mp::pipe().unwrap();
        ends_out.send(one).unwrap();
        ipc_out.send(sender.clone()).unwrap();
        here.send(Bulk(vec![1; 1 << 20])).unwrap();

        limit_descriptors(200);
        let mut all = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            all.push(file);
        }
        assert_eq!(kind(mp::pipe::<u64, u64>()), Some(ErrorKind::Io));
        let error = here.send(Bulk(vec![2; 1 << 20])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.into_inner(), Bulk(vec![2; 1 << 20]));
        let error = ipc_out.send(sender).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Encode));
        // What needs none goes on.
        here.send(Bulk(vec![3; 10])).unwrap();
        let lost = [
            kind(there.recv()),
            kind(ends_in.recv()),
            kind(ipc_in.recv()),
            kind(region_in.recv()),
        ];
        assert_eq!(lost, [Some(ErrorKind::Io); 4]);
        assert_eq!(there.recv().unwrap(), Bulk(vec![3; 10]));

        // And with descriptors again, all is well.
        drop(all);
        drop(error);
        here.send(Bulk(vec![4; 1 << 20])).unwrap();
        assert_eq!(there.recv().unwrap(), Bulk(vec![4; 1 << 20]));
        assert_eq!(kind(other.recv()), Some(ErrorKind::Closed));
        let (sender, again) = ipc::channel().unwrap();
        ipc_out.send(sender).unwrap();
        ipc_in.recv().unwrap().send(5).unwrap();
        assert_eq!(again.recv().unwrap(), 5);
        drop(receiver);
        say("done");
    });
}

#[test]
fn promise_23_running_out_of_descriptors_is_an_error() {
    within(LIMIT, || {
        assert_eq!(programs::run("program_without_descriptors"), ["done"]);
    });
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_pipes() {
    programs::program("program_of_pipes", LIMIT, || {
        let pool = Pool::new(1).unwrap();
        let round = || {
            let (here, there) = mp::pipe::<Handles, Numbers>().unwrap();
            let (sender, _texts) = ipc::channel().unwrap();
            let (numbers, receiver) = ipc::channel().unwrap();
            let handles = Handles {
                counter: Shared::new(AtomicU64::new(0)).unwrap(),
                numbers: Shared::from_slice(&[0.5; 10]).unwrap(),
                total: mp::shared!(0.0).unwrap(),
                array: Array::zeroed(3).unwrap(),
                sender,
                receiver,
                region: IpcSharedMemory::from_bytes(&[1, 2, 3]),
                words: mp::channel(1).unwrap().0,
                queue: mp::Queue::unbounded().unwrap(),
                text: "x".repeat(100_000),
            };
            here.send(handles).unwrap();
            let back = there.recv().unwrap();
            numbers.send(1).unwrap();
            assert_eq!(back.receiver.recv().unwrap(), 1);
            let (one, other) = mp::pipe::<u64, u64>().unwrap();
            there.send(one).unwrap();
            // Of these, one is received and one is not.
            here.recv().unwrap().send(1).unwrap();
            assert_eq!(other.recv().unwrap(), 1);
            there.send(other).unwrap();
        };
        let in_a_process = || {
            let end = pool.apply(make_pipe, ()).unwrap();
            assert_eq!(end.recv().unwrap(), 99);
        };
        for _ in 0..5 {
            round();
            in_a_process();
        }
        let before = programs::open_descriptors();
        (0..1000).for_each(|_| round());
        (0..200).for_each(|_| in_a_process());
        until(|| programs::open_descriptors() <= before);
        say("done");
    });
}

#[test]
fn promise_21_a_thousand_pipes_leave_nothing() {
    within(LIMIT, || {
        assert_eq!(programs::run("program_of_pipes"), ["done"]);
    });
}

// The first of several.

#[mp::process_fn]
fn wait_for_the_end(end: Numbers) -> bool {
    kind(end.recv()) == Some(ErrorKind::Closed)
}

#[mp::process_fn]
fn answer(number: u64) -> u64 {
    number
}

#[mp::test]
fn the_first_of_several_is_told_whatever_it_is() -> Result<(), mp::Error> {
    within(LIMIT, || {
        let pool = Pool::new(1)?;
        let (end_process, for_process) = mp::pipe()?;
        let (end_task, for_task) = mp::pipe()?;
        let (here, there) = mp::pipe::<u64, u64>()?;
        let process = mp::spawn!(wait_for_the_end(for_process))?;
        let task = pool.submit(wait_for_the_end, (for_task,))?;
        let all: [&dyn mp::Waitable; 3] = [&process, &task, &there];
        assert_eq!(mp::wait_any(&all, SHORT)?, None);
        assert_eq!(mp::wait_any(&all, Duration::ZERO)?, None);

        thread::scope(|scope| {
            scope.spawn(|| here.send(1).unwrap());
            assert_eq!(mp::wait_any(&[&process, &task, &there], None)?, Some(2));
            Ok::<(), mp::Error>(())
        })?;
        assert_eq!(mp::wait_any(&all, None)?, Some(2), "waiting takes nothing");
        assert_eq!(there.recv()?, 1);

        thread::scope(|scope| {
            scope.spawn(|| drop(end_task));
            assert_eq!(mp::wait_any(&[&process, &task, &there], LIMIT)?, Some(1));
            Ok::<(), mp::Error>(())
        })?;
        assert!(task.is_finished());

        drop(end_process);
        assert_eq!(mp::wait_any(&[&process, &&there], None)?, Some(0));
        assert!(process.is_finished());
        assert_eq!(mp::wait_any(&[&there, &process, &task], None)?, Some(1));
        drop(here);
        assert_eq!(mp::wait_any(&[&there, &process], None)?, Some(0));
        assert!(process.join()? && task.join()?);
        Ok(())
    })
}

#[mp::test]
fn waiting_for_nothing_is_an_error_or_a_pause() {
    within(LIMIT, || {
        assert_eq!(
            kind(mp::wait_any(&[], None)),
            Some(ErrorKind::WouldDeadlock)
        );
        assert_eq!(mp::wait_any(&[], SHORT).unwrap(), None);
    });
}

#[mp::test]
fn many_waits_for_one_task_leave_nothing_with_it() -> Result<(), mp::Error> {
    within(LIMIT, || {
        let pool = Pool::new(1)?;
        let (go, ready) = mp::pipe()?;
        let task = pool.submit(wait_for_the_end, (ready,))?;
        let next = pool.submit(answer, (5,))?;
        let before = programs::open_descriptors();
        for _ in 0..300 {
            assert_eq!(
                mp::wait_any(&[&task, &next], Duration::from_micros(1))?,
                None
            );
        }
        // Others of this process may come and go.
        assert!(programs::open_descriptors() < before + 200);
        drop(go);
        assert_eq!(mp::wait_any(&[&next, &next], None)?, Some(0));
        assert_eq!(next.join()?, 5);
        Ok(())
    })
}
