//! What the bytes mean, and bytes that mean nothing.

use std::sync::Arc;

use proptest::prelude::*;

use crate::link::message::{Read, read_call, read_record, record_head};
use crate::link::{Call, CallHead, Listed, Record, Reply, Report, Status};

/// A call as it lies in a frame.
fn frame(call: &Call) -> Vec<u8> {
    let (head, ends) = call.table();
    [&head, ends, call.args()].concat()
}

fn status() -> impl Strategy<Value = Status> {
    (0..6_u32).prop_map(|number| Status::from_number(number).expect("there are six"))
}

proptest! {
    #[test]
    fn calls_come_as_they_were_sent(
        words in any::<(u32, u32, bool, bool, bool)>(),
        before in prop::collection::vec(any::<u8>(), 0..20),
        items in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..20),
        behind in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let (function, number, is_timed, is_initializer, is_divisible) = words;
        let count = items.len() as u32;
        let head = CallHead {
            function, number, count, is_timed, is_initializer, is_divisible,
        };
        let bytes = [before.clone(), items.concat(), behind].concat();
        let mut ends = Vec::new();
        for item in &items {
            ends.push(ends.last().copied().unwrap_or(before.len()) + item.len());
        }
        let args = Arc::new(Listed::new(bytes, before.len(), &ends));
        let call = Call::new(head, args, 0..items.len());
        let bytes = frame(&call);
        prop_assert_eq!(call.byte_count(), bytes.len());
        prop_assert_eq!(call.parts().collect::<Vec<_>>(), &items[..]);
        let (read, parts) = read_call(&bytes).expect("it is a call");
        prop_assert_eq!(read, head);
        prop_assert_eq!(parts.collect::<Vec<_>>(), &items[..]);
        // One that is cut off is none, or has fewer arguments.
        for end in 0..bytes.len() {
            if let Ok((_, parts)) = read_call(&bytes[..end]) {
                prop_assert_eq!(parts.count(), items.len());
            }
        }
    }

    #[test]
    fn records_are_found_again(
        written in prop::collection::vec(
            (status(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)), 0..20,
        ),
    ) {
        let mut body = Vec::new();
        for (status, is_last, payload) in &written {
            body.extend(record_head(Some(*status), *is_last, payload.len()));
            body.extend(payload);
        }
        let report = Report::of_body(body).expect("they are records");
        let bytes = report.bundle.reply.open().bytes;
        let records = report.records();
        let read = records.iter().map(|record| {
            (record.status, record.is_last, bytes[record.payload.clone()].to_vec())
        });
        prop_assert_eq!(read.collect::<Vec<_>>(), written);
        prop_assert_eq!(report.first(), records.first().cloned());
        // A run is of one call, and of more than one item only if they returned.
        for run in report.runs.iter() {
            prop_assert!(run.count == 1 || run.status == Status::Returned);
        }
    }

    #[test]
    fn random_bytes_are_no_records_and_no_panic(
        body in prop::collection::vec(prop_oneof![any::<u8>(), 0..8_u8, Just(0)], 0..200),
        start in 0..210_usize,
    ) {
        let mut at = start;
        while let Some((read, next)) = read_record(&body, at) {
            prop_assert!(next > at && next <= body.len());
            if let Read::Record(record) = read {
                prop_assert!(record.payload.end == next);
            }
            at = next;
        }
        if let Ok((_, parts)) = read_call(&body) {
            parts.for_each(drop);
        }
        if let Some(report) = Report::of_body(body) {
            for record in report.records() {
                prop_assert!(report.bundle.reply.open().bytes.get(record.payload).is_some());
            }
        }
    }
}

#[test]
fn a_record_that_stands_for_another_says_whether_it_is_the_last() {
    for is_last in [false, true] {
        let head = record_head(None, is_last, 0);
        assert_eq!(read_record(&head, 0), Some((Read::Apart { is_last }, 4)));
    }
}

#[test]
fn a_record_of_no_status_is_none() {
    // Six has no meaning.
    assert_eq!(read_record(&6_u32.to_le_bytes(), 0), None);
    assert_eq!(read_record(&[0; 3], 0), None);
    // Its payload ends behind the message.
    assert_eq!(
        read_record(&record_head(Some(Status::Returned), true, 1), 0),
        None
    );
}

#[test]
fn a_report_of_one_has_that_one() {
    let record = Record {
        status: Status::Returned,
        is_last: true,
        payload: 1..3,
    };
    let report = Report::of_one(record.clone(), Reply::new(&mut vec![0, 7, 8], None));
    assert_eq!(report.records(), std::slice::from_ref(&record));
    assert_eq!(report.first().as_ref(), Some(&record));
    assert_eq!(report.bundle.reply.text(&record.payload), "\u{7}\u{8}");
}
