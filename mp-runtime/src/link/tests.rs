//! Tests of what is inside of links. What each part promises has a file of its own.

#[path = "../../../tests/watchdog/mod.rs"]
#[allow(
    clippy::duplicate_mod,
    reason = "the tests of another layer have it, too"
)]
mod watchdog;

mod bell;
mod lanes;
mod message;
mod ring;
mod stranger;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::os::carrier::{self, Carrier};
use crate::os::pidfd::PidFd;
use crate::wire::{Freight, Payload};

/// Runs a test that may hang.
#[track_caller]
fn within<R>(body: impl FnOnce() -> R) -> R {
    watchdog::within(Duration::from_secs(120), body)
}

/// A parent and a worker in one process.
fn pair() -> (Link, Events, parent::Ending, WorkerEnd) {
    let (lanes, fd) = Lanes::create().expect("there is memory");
    let (carrier, there) = carrier::pair().expect("there are descriptors");
    let connection = Connection::over(Freight::over(carrier));
    let pidfd = PidFd::open(std::process::id()).expect("this process is there");
    let (link, events, ending) = open(lanes, connection, Arc::new(pidfd));
    assert!(!link.arrival().is_over());
    let lanes = Lanes::attach(&fd).expect("it is there");
    let freight = Freight::over(Carrier::of(there));
    let end = WorkerEnd::arrive(None, lanes, freight);
    (link, events, ending, end)
}

#[test]
fn who_waits_for_a_worker_sees_it_come_or_end() {
    within(|| {
        let (link, events, _ending, _end) = pair();
        assert!(events.wait_for_arrival() && link.arrival().is_over());
        let (lanes, _fd) = Lanes::create().expect("there is memory");
        let (carrier, _there) = carrier::pair().expect("there are descriptors");
        let connection = Connection::over(Freight::over(carrier));
        let pidfd = PidFd::open(std::process::id()).expect("this process is there");
        let (link, events, ending) = open(lanes, connection, Arc::new(pidfd));
        let waiter = std::thread::spawn(move || events.wait_for_arrival());
        ending.tell();
        assert!(!waiter.join().expect("it does not panic"));
        let arrival = link.arrival();
        assert!(!arrival.is_over());
        drop(link);
        assert!(arrival.is_over());
    });
}

#[test]
fn a_connection_is_made_when_something_goes_over_it() {
    within(|| {
        let (link, events, ending, mut end) = pair();
        for (number, bytes) in [(1, 10), (2, 1 << 20), (3, 10)] {
            let call = Call::of_one(head(7, number), Arc::new(vec![5; bytes]));
            link.call(call, None);
            let chunk = end.next().expect("it was called");
            assert_eq!(chunk.items().next().map(<[u8]>::len), Some(bytes));
            let call = chunk.head();
            assert!(end.begin(call, 0));
            let worker = std::thread::spawn(move || {
                let result = payload(&vec![6; bytes]);
                end.end(call, true, Status::Returned, result)
                    .and_then(|()| end.end_call(chunk, false))
                    .expect("the parent is there");
                // As one does that has nothing more to do.
                end.finish();
                end
            });
            let Event::Records(report, _) = events.next() else {
                panic!("it has a result")
            };
            let record = report.first().expect("there is one");
            assert_eq!(record.payload.len(), bytes);
            end = worker.join().expect("it does not panic");
        }
        ending.tell();
        assert!(matches!(events.next(), Event::Ended));
    });
}

#[test]
fn a_worker_that_ends_before_the_connection_is_made_is_not_waited_for() {
    within(|| {
        let (link, events, ending, mut end) = pair();
        let call = Call::of_one(head(7, 1), Arc::new(vec![5; 10]));
        link.call(call, None);
        let chunk = end.next().expect("it was called");
        let call = chunk.head();
        assert!(end.begin(call, 0));
        // It waits for the connection, and nobody makes it.
        let worker = std::thread::spawn(move || {
            let result = payload(&vec![6; 1 << 20]);
            end.end(call, true, Status::Returned, result)
        });
        while !link.has_records() {
            std::thread::yield_now();
        }
        ending.tell();
        assert!(matches!(events.next(), Event::Ended));
        drop((link, events));
        assert!(worker.join().expect("it does not panic").is_err());
    });
}

fn payload(bytes: &[u8]) -> Payload {
    let bytes = bytes.to_vec();
    let handles = None;
    Payload { bytes, handles }
}

fn head(function: u32, number: u32) -> CallHead {
    CallHead {
        function,
        number,
        ..CallHead::default()
    }
}

#[test]
fn a_mailbox_stays_as_it_was_when_its_worker_was_let_go_of() {
    for is_running in [false, true] {
        let (link, events, mut end, hold) = open_in_process();
        let number = link.next_number(3);
        let head = head(7, number);
        let args = Listed::new(b"abc".to_vec(), 0, &[1, 2, 3]);
        link.call(Call::new(head, Arc::new(args), 0..3), None);
        let chunk = end.next().expect("it was called");
        let head = CallHead { count: 3, ..head };
        assert_eq!(chunk.head(), head);
        let items: Vec<_> = chunk.items().collect();
        assert_eq!(items, [&b"a"[..], b"b", b"c"]);
        drop(items);

        assert!(end.begin(head, 0));
        let running = link.running().map(|running| (running.call, running.place));
        assert_eq!(running, Some((number, 0)));
        let ended = end.end(head, false, Status::Returned, payload(b"done"));
        assert!(ended.is_ok() && link.running().is_none());
        if is_running {
            assert!(end.begin(head, 1));
        }
        hold.let_go();
        assert_eq!(
            (hold.end(), hold.wait()),
            (Some(ThreadEnd::LetGo), ThreadEnd::LetGo)
        );
        match is_running {
            true => {
                let late = end.end(head, false, Status::Returned, payload(b"late"));
                assert!(late.is_err());
            }
            false => assert!(!end.begin(head, 1)),
        }
        assert!(end.end_call(chunk, true).is_err() && end.next().is_none());
        let running = link.running().map(|running| running.place);
        assert_eq!(running, is_running.then_some(1));

        let Event::Records(report, _) = events.next() else {
            panic!("one item was done")
        };
        let records = report.records();
        assert_eq!((records.len(), records[0].is_last), (1, false));
        assert_eq!(report.bundle.reply.text(&records[0].payload), "done");
        assert!(matches!(events.next(), Event::Ended));
        drop(end);
        assert_eq!(hold.end(), Some(ThreadEnd::LetGo));
    }
}

#[test]
fn a_call_that_was_not_taken_is_dropped_with_its_worker() {
    let (link, events, mut end, hold) = open_in_process();
    let bytes = Arc::new(b"a".to_vec());
    let call = || Call::of_one(head(0, 1), Arc::clone(&bytes));
    link.call(call(), None);
    hold.let_go();
    assert_eq!(Arc::strong_count(&bytes), 1);
    link.call(call(), None);
    assert_eq!(Arc::strong_count(&bytes), 1);
    assert!(end.next().is_none() && link.running().is_none());
    assert!(matches!(events.next(), Event::Ended));
}
