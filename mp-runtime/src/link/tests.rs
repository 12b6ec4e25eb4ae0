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
use crate::os::carrier;
use crate::wire::{Freight, Payload, Seat};

/// Runs a test that may hang.
#[track_caller]
fn within<R>(body: impl FnOnce() -> R) -> R {
    watchdog::within(Duration::from_secs(120), body)
}

#[test]
fn a_released_parent_does_not_wait_for_its_worker() {
    let (offer, _ends) = Offer::make().expect("there are descriptors");
    offer.releaser().release();
    assert!(offer.accept().is_err());
}

#[test]
fn a_worker_that_takes_its_seat_is_greeted_by() {
    let (offer, ends) = Offer::make().expect("there are descriptors");
    let (lanes, _fd) = Lanes::create().expect("there is memory");
    let (carrier, _there) = carrier::pair().expect("there are descriptors");
    let seat = Seat::make().expect("there are descriptors");
    let greeting = Greeting {
        fingerprint: 1,
        function_count: 2,
        failure: Some("not today".into()),
    };
    let freight = Freight::over(carrier);
    WorkerEnd::introduce(seat, ends, &greeting, lanes, freight).expect("the other side is there");
    let received = offer.accept().expect("it was sent");
    assert_eq!((received.fingerprint, received.function_count), (1, 2));
    assert_eq!(received.failure.as_deref(), Some("not today"));
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
        let number = link.next_number();
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
