//! The words of lanes, above all the one that says which calls were begun.

use std::sync::Arc;

use proptest::prelude::*;

use super::within;
use crate::link::Lanes;
use crate::link::lanes::{Claim, Running};
use crate::os::memory;
use crate::sync::atomic::{AtomicU64, Ordering};

/// The number of the call behind this one; 0 is none.
fn after(call: u32) -> u32 {
    call.wrapping_add(1).max(1)
}

/// A word as it is when everything up to this call was begun.
fn begun_up_to(call: u32) -> AtomicU64 {
    AtomicU64::new(u64::from(call) << 32 | u64::from(call))
}

#[test]
fn a_call_is_begun_once_and_what_was_begun_is_not_taken_back() {
    let word = AtomicU64::new(0);
    let claim = Claim(&word);
    assert_eq!(claim.take_back(0), Some(0));
    assert!(claim.begin(1) && claim.begin(2));
    // Five were sent.
    assert_eq!(claim.take_back(5), Some(2));
    assert_eq!(claim.take_back(5), Some(2));
    assert!((1..=5).all(|call| !claim.begin(call)));
    assert!(claim.begin(6));
    assert_eq!(claim.take_back(6), Some(6));
}

#[test]
fn calls_are_taken_back_where_their_numbers_begin_again() {
    for first in [u32::MAX - 2, u32::MAX - 1, u32::MAX, 1, i32::MAX as u32 - 1] {
        let word = begun_up_to(first.wrapping_sub(1));
        let claim = Claim(&word);
        let [one, two, three, four] = [first, after(first), after(after(first)), 0];
        let four = after(three).max(four);
        assert!(claim.begin(one));
        assert_eq!(claim.take_back(three), Some(one));
        assert!(!claim.begin(two) && !claim.begin(three));
        assert!(claim.begin(four));
        assert_eq!(claim.take_back(four), Some(four));
    }
}

proptest! {
    #[test]
    fn a_claim_is_as_a_list_of_calls(
        first in prop_oneof![
            Just(0), Just(u32::MAX), Just(u32::MAX - 3), Just(i32::MAX as u32), any::<u32>(),
        ],
        steps in prop::collection::vec(0..3_u8, 1..200),
    ) {
        let word = begun_up_to(first);
        let claim = Claim(&word);
        // What the parent has sent and the worker has not come to; whether it is void.
        let mut sent: std::collections::VecDeque<(u32, bool)> = Default::default();
        let (mut last, mut begun) = (first, first);
        for step in steps {
            match step {
                0 => {
                    last = after(last);
                    sent.push_back((last, false));
                }
                1 => {
                    if let Some((call, is_void)) = sent.pop_front() {
                        prop_assert_eq!(claim.begin(call), !is_void);
                        begun = if is_void { begun } else { call };
                    }
                }
                _ => {
                    prop_assert_eq!(claim.take_back(last), Some(begun));
                    sent.iter_mut().for_each(|(_, is_void)| *is_void = true);
                }
            }
        }
    }

    #[test]
    fn whatever_is_in_the_word_taking_back_comes_to_an_end(word in any::<u64>(), last in any::<u32>()) {
        let word = AtomicU64::new(word);
        let begun = (word.load(Ordering::Relaxed) >> 32) as u32;
        let is_nonsense = last.wrapping_sub(begun).cast_signed() < 0;
        prop_assert_eq!(Claim(&word).take_back(last), (!is_nonsense).then_some(begun));
        // What was sent is void.
        prop_assert!(is_nonsense || !Claim(&word).begin(last));
    }
}

#[test]
fn each_call_is_begun_or_taken_back_and_never_both() {
    const CALLS: u32 = 20_000;
    within(|| {
        let word = Arc::new(AtomicU64::new(0));
        let workers = Arc::clone(&word);
        let worker = std::thread::spawn(move || {
            let calls = 1..=CALLS;
            calls
                .filter(|&call| Claim(&workers).begin(call))
                .collect::<Vec<u32>>()
        });
        let mut taken_back = Vec::new();
        let mut from = 1;
        for last in (10..=CALLS).step_by(10) {
            let Some(begun) = Claim(&word).take_back(last) else {
                continue; // It has begun what was not sent here.
            };
            taken_back.extend(from.max(begun + 1)..=last);
            from = last + 1;
        }
        let begun = worker.join().expect("it does not panic");
        let mut all = [begun, taken_back].concat();
        all.sort_unstable();
        assert_eq!(all, (1..=CALLS).collect::<Vec<u32>>());
    });
}

#[test]
fn both_sides_see_the_same_words() {
    let (parents, fd) = Lanes::create().expect("there is memory");
    let workers = Lanes::attach(&fd).expect("it is as large as it was made");
    assert_eq!(parents.running(), None);
    workers.begin(7, 3, false);
    let running = Running {
        call: 7,
        place: 3,
        elapsed: None,
    };
    assert_eq!(parents.running(), Some(running));
    workers.end(false);
    // Whether it has ended the records tell.
    assert_eq!(parents.running(), Some(running));

    workers.begin(8, 0, true);
    let running = parents.running().expect("something was begun");
    assert_eq!((running.call, running.place), (8, 0));
    assert!(running.elapsed.is_some());
    workers.end(true);
    assert_eq!(parents.running().and_then(|running| running.elapsed), None);

    assert!(!workers.is_cancelled(8));
    parents.cancel(8);
    assert!(workers.is_cancelled(8) && !workers.is_cancelled(9));

    assert!(!parents.is_out_of_memory());
    workers.set_out_of_memory();
    assert!(parents.is_out_of_memory());

    assert!(workers.claim().begin(1));
    assert_eq!(parents.claim().take_back(4), Some(1));
    assert!(!workers.claim().begin(4) && workers.claim().begin(5));

    workers.up_bell().want(crate::link::bell::Sleeper::Keeper);
    assert!(parents.up_bell().is_wanted());
    assert!(!parents.room_bell().is_wanted() && !parents.down_bell().is_wanted());
}

#[test]
fn lanes_have_memory_as_far_as_they_are_used() {
    let (parents, fd) = Lanes::create().expect("there is memory");
    let present = || memory::present_bytes(&fd).expect("it can be asked");
    let workers = Lanes::attach(&fd).expect("it is as large as it was made");
    let at_first = present();
    let (mut calls, mut records) = (parents.down_writer(), workers.up_writer());
    let (mut called, mut recorded) = (workers.down_reader(), parents.up_reader());
    // One at a time stays at the beginning.
    for number in 0..1000_u32 {
        assert!(matches!(calls.put(1, &[&number.to_le_bytes()]), Ok(true)));
        let frame = called.next().expect("it was put in");
        assert_eq!(frame.content(), number.to_le_bytes());
        called.pass(frame);
    }
    let after_calls = present();
    assert!(after_calls < at_first + (128 << 10), "{after_calls}");
    // As much as fits, twice, so that it goes around.
    let bytes = [7; 1000];
    for _ in 0..2 {
        let mut count = 0;
        while records.put([&[], &bytes]) {
            count += 1;
        }
        let mut taken = Vec::new();
        let length = count * bytes.len();
        assert_eq!(recorded.take(&mut taken), Ok(length));
        assert!(taken.iter().all(|&byte| byte == 7));
        let mut count = 0;
        while calls.put(1, &[&bytes]).expect("there is memory") {
            count += 1;
        }
        assert!(count > 200);
        while let Some(frame) = called.next() {
            assert_eq!(frame.content(), bytes);
            called.pass(frame);
        }
    }
    assert!(present() >= 320 << 10);
}

#[test]
fn what_one_side_puts_in_the_other_side_takes_out() {
    let (parents, fd) = Lanes::create().expect("there is memory");
    let workers = Lanes::attach(&fd).expect("it is as large as it was made");
    assert!(matches!(parents.down_writer().put(1, &[b"call"]), Ok(true)));
    assert!(workers.up_writer().put([b"rec", b"ord"]));
    let mut calls = workers.down_reader();
    let frame = calls.next().expect("it was put in");
    assert_eq!((frame.kind, frame.content()), (1, &b"call"[..]));
    calls.pass(frame);
    let mut records = Vec::new();
    assert_eq!(parents.up_reader().take(&mut records), Ok(6));
    assert_eq!(records, b"record");
}

#[test]
fn lanes_of_another_size_are_refused() {
    let fd = crate::os::memory::create(8192).expect("there is memory");
    assert!(Lanes::attach(&fd).is_err());
}
