use super::message::{read_records, write_record};
use std::sync::Arc;

use super::*;
use crate::os::carrier;
use crate::wire::{Freight, Payload, Seat};

#[test]
fn a_released_parent_does_not_wait_for_its_worker() {
    let (offer, _ends) = Offer::make().expect("there are descriptors");
    offer.releaser().release();
    assert!(offer.accept().is_err());
}

#[test]
fn a_worker_that_takes_its_seat_is_greeted_by() {
    let (offer, ends) = Offer::make().expect("there are descriptors");
    let (recorder, _fd) = Recorder::create().expect("a recorder can be made");
    let (carrier, _there) = carrier::pair().expect("there are descriptors");
    let seat = Seat::make().expect("there are descriptors");
    let greeting = Greeting {
        fingerprint: 1,
        function_count: 2,
        failure: Some("not today".into()),
    };
    let freight = Freight::over(carrier);
    WorkerEnd::introduce(seat, ends, &greeting, recorder.into(), freight)
        .expect("the other side is there");
    let received = offer.accept().expect("it was sent");
    assert_eq!((received.fingerprint, received.function_count), (1, 2));
    assert_eq!(received.failure.as_deref(), Some("not today"));
}

#[test]
fn records_are_found_again() {
    let mut body = Vec::new();
    write_record(&mut body, 5, 17, Status::Returned, b"result");
    write_record(&mut body, 5, 18, Status::Panicked, b"");
    write_record(&mut body, 5, 0, Status::ChunkEnd, b"");
    let records = read_records(&body).expect("they were just written");
    let items: Vec<_> = records
        .iter()
        .map(|record| (record.chunk, record.item))
        .collect();
    assert_eq!(items, [(5, 17), (5, 18), (5, 0)]);
    assert_eq!(&body[records[0].payload.clone()], b"result");
    assert_eq!(records[1].status, Status::Panicked);
}

#[test]
fn random_bytes_are_no_records_and_no_panic() {
    // xorshift64 (Marsaglia, 2003).
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for length in 1..500 {
        let body: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(length)
        .collect();
        for record in read_records(&body).into_iter().flatten() {
            assert!(record.payload.end <= body.len());
        }
    }
}

#[test]
fn the_recorder_tells_what_was_committed_and_what_was_running() {
    let (parent, fd) = Recorder::create().expect("a recorder can be made");
    let worker = Recorder::attach(&fd).expect("it is as large as it was made");
    assert!(parent.running().is_none() && parent.records().1.is_empty());

    worker.begin(3, 0);
    let running = parent.running().expect("an item is running");
    assert_eq!((running.chunk, running.item), (3, 0));
    let mut record = Vec::new();
    write_record(&mut record, 3, 0, Status::Returned, b"one");
    worker.commit(0, &record);
    worker.end();
    assert!(parent.running().is_none());
    let (body, records) = parent.records();
    assert_eq!(&body[records[0].payload.clone()], b"one");

    worker.clear();
    assert!(parent.records().1.is_empty());
    parent.cancel(3);
    assert!(worker.is_cancelled(3) && !worker.is_cancelled(4));
}

fn payload(bytes: &[u8]) -> Payload {
    let bytes = bytes.to_vec();
    let handles = None;
    Payload { bytes, handles }
}

#[test]
fn a_mailbox_stays_as_it_was_when_its_worker_was_let_go_of() {
    for is_running in [false, true] {
        let (link, events, mut end, hold) = open_in_process();
        let items = [(4, 1), (5, 2), (6, 3)].into_iter();
        link.call(
            Call::new(7, 1, items, Arc::new(b"abc".to_vec()), 0..3),
            None,
        );
        let chunk = end.next().expect("it was called");
        assert_eq!((chunk.function(), chunk.number()), (7, 1));
        let items: Vec<_> = chunk.items().collect();
        assert_eq!(items, [(4, &b"a"[..]), (5, b"b"), (6, b"c")]);

        assert!(end.begin(1, 4));
        let ended = end.end(1, 4, Status::Returned, payload(b"done"));
        assert!(ended.is_ok() && link.running().is_none());
        if is_running {
            assert!(end.begin(1, 5));
        }
        hold.let_go();
        assert_eq!(
            (hold.end(), hold.wait()),
            (Some(ThreadEnd::LetGo), ThreadEnd::LetGo)
        );
        match is_running {
            true => assert!(end.end(1, 5, Status::Returned, payload(b"late")).is_err()),
            false => assert!(!end.begin(1, 5)),
        }
        assert!(end.end_chunk(1).is_err() && end.next().is_none());
        let running = link.running().map(|running| running.item);
        assert_eq!(running, is_running.then_some(5));

        let Event::Records(records, reply) = events.next() else {
            panic!("one item was done")
        };
        assert_eq!((records.len(), records[0].item), (1, 4));
        assert_eq!(reply.text(&records[0].payload), "done");
        assert!(matches!(events.next(), Event::Ended(records, _) if records.is_empty()));
        drop(end);
        assert_eq!(hold.end(), Some(ThreadEnd::LetGo));
    }
}

#[test]
fn a_call_that_was_not_taken_is_dropped_with_its_worker() {
    let (link, events, mut end, hold) = open_in_process();
    let bytes = Arc::new(b"a".to_vec());
    let call = || Call::new(0, 1, [(0, 1)].into_iter(), Arc::clone(&bytes), 0..1);
    link.call(call(), None);
    hold.let_go();
    assert_eq!(Arc::strong_count(&bytes), 1);
    link.call(call(), None);
    assert_eq!(Arc::strong_count(&bytes), 1);
    assert!(end.next().is_none() && link.running().is_none());
    assert!(matches!(events.abandon(), Event::Ended(..)));
}
