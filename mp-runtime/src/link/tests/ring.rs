//! Rings against queues that remember what was put in, and with counts that are lies.

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;

use crate::link::ring::{DownReader, DownWriter, Nonsense, Ring, UpReader, UpWriter};
use crate::os::shared_page::SharedPage;
use crate::sync::atomic::Ordering;

const SIZE: usize = 256;
const TAIL: usize = 0;
const HEAD: usize = 1;
/// Bytes of others, before and behind the ring.
const MARGIN: usize = 64;

fn ring() -> Ring {
    let (page, _fd) =
        SharedPage::create(SIZE + 2 * MARGIN, SIZE + 2 * MARGIN).expect("there is memory");
    page.write(0, &[0xaa; SIZE + 2 * MARGIN]);
    Ring {
        page: Arc::new(page),
        tail_word: TAIL,
        head_word: HEAD,
        bytes: MARGIN..MARGIN + SIZE,
    }
}

fn check_margins(ring: &Ring) {
    let mut margins = Vec::new();
    ring.page.read(0, MARGIN, &mut margins);
    ring.page.read(MARGIN + SIZE, MARGIN, &mut margins);
    assert_eq!(margins, [0xaa; 2 * MARGIN]);
}

/// Bytes that tell where they belong.
fn bytes_from(next: &mut u8, count: usize) -> Vec<u8> {
    let bytes = std::iter::repeat_with(|| {
        *next = next.wrapping_add(1);
        *next
    });
    bytes.take(count).collect()
}

#[derive(Clone, Debug)]
enum Up {
    Put(usize, usize),
    Take,
}

fn up() -> impl Strategy<Value = Up> {
    prop_oneof![
        3 => (0..40_usize, 0..=SIZE + 8).prop_map(|(head, rest)| Up::Put(head, rest)),
        6 => (0..5_usize, 0..40_usize).prop_map(|(head, rest)| Up::Put(head, rest)),
        4 => Just(Up::Take),
    ]
}

#[derive(Clone, Debug)]
enum Down {
    /// The sizes of the parts.
    Put(usize, usize),
    /// Reads a frame, and passes it.
    Pass,
    /// Reads a frame.
    Look,
}

fn down() -> impl Strategy<Value = Down> {
    prop_oneof![
        3 => (0..40_usize, 0..=SIZE + 8).prop_map(|(first, rest)| Down::Put(first, rest)),
        6 => (0..5_usize, 0..40_usize).prop_map(|(first, rest)| Down::Put(first, rest)),
        6 => Just(Down::Pass),
        1 => Just(Down::Look),
    ]
}

proptest! {
    #[test]
    fn what_goes_up_comes_out_in_order(steps in prop::collection::vec(up(), 1..200)) {
        let ring = ring();
        let (mut writer, mut reader) = (UpWriter::new(ring.clone()), UpReader::new(ring.clone()));
        let (mut model, mut next) = (VecDeque::new(), 0);
        for step in steps {
            match step {
                Up::Put(head, rest) => {
                    let bytes = bytes_from(&mut next, head + rest);
                    let fits = model.len() + bytes.len() <= SIZE;
                    prop_assert_eq!(writer.has_room(bytes.len()), fits);
                    prop_assert_eq!(writer.put([&bytes[..head], &bytes[head..]]), fits);
                    if fits {
                        model.extend(bytes);
                    }
                }
                Up::Take => {
                    // What was there before stays.
                    let mut to = b"before".to_vec();
                    prop_assert_eq!(reader.take(&mut to), Ok(model.len()));
                    prop_assert_eq!(&to[..6], b"before");
                    prop_assert_eq!(&to[6..], model.drain(..).collect::<Vec<u8>>());
                }
            }
            prop_assert_eq!(reader.is_empty(), model.is_empty());
        }
        check_margins(&ring);
    }

    #[test]
    fn frames_go_down_in_one_piece_and_in_order(steps in prop::collection::vec(down(), 1..200)) {
        let ring = ring();
        let mut writer = DownWriter::new(ring.clone());
        let mut reader = DownReader::new(ring.clone());
        let (mut model, mut next) = (VecDeque::new(), 0);
        for (number, step) in steps.into_iter().enumerate() {
            prop_assert_eq!(reader.has_some(), !model.is_empty());
            let kind = 1 + number as u32;
            match step {
                Down::Put(first, rest) => {
                    let bytes = bytes_from(&mut next, first + rest);
                    let parts = [&bytes[..first], &[], &bytes[first..]];
                    let is_put = writer.put(kind, &parts).expect("there is memory");
                    let taken: usize = model.iter().map(frame_bytes).sum();
                    let wanted = frame_bytes(&(kind, bytes.clone()));
                    // What is passed over may take as much again.
                    if taken + wanted > SIZE {
                        prop_assert!(!is_put);
                    } else if model.is_empty() && wanted <= SIZE / 4 {
                        prop_assert!(is_put);
                    }
                    if is_put {
                        model.push_back((kind, bytes));
                    }
                }
                Down::Pass | Down::Look => {
                    let frame = reader.next();
                    prop_assert_eq!(frame.is_some(), !model.is_empty());
                    if let (Some(frame), Some((kind, bytes))) = (frame, model.front()) {
                        prop_assert_eq!(frame.kind, *kind);
                        prop_assert_eq!(frame.content(), bytes);
                        if matches!(step, Down::Pass) {
                            reader.pass(frame);
                            model.pop_front();
                        }
                    }
                }
            }
            let taken: usize = model.iter().map(frame_bytes).sum();
            prop_assert!(!writer.has_less_than(taken));
            prop_assert_eq!(writer.has_less_than(1), model.is_empty());
        }
        check_margins(&ring);
    }

    #[test]
    fn a_tail_that_is_a_lie_is_nonsense_or_gives_bytes(
        truth in 0..=SIZE,
        lies in prop::collection::vec(prop_oneof![any::<u64>(), 0..2 * SIZE as u64], 1..20),
    ) {
        let ring = ring();
        let mut writer = UpWriter::new(ring.clone());
        let mut reader = UpReader::new(ring.clone());
        prop_assert!(writer.put([&vec![1; truth], &[]]));
        let mut head = 0_u64;
        for lie in lies {
            ring.page.word(TAIL).store(lie, Ordering::Relaxed);
            let mut to = Vec::new();
            let taken = reader.take(&mut to);
            let count = lie.wrapping_sub(head);
            if count <= SIZE as u64 {
                prop_assert_eq!(taken, Ok(count as usize));
                prop_assert_eq!(to.len() as u64, count);
                head = lie;
            } else {
                prop_assert_eq!(taken, Err(Nonsense::TooMuch));
                prop_assert!(to.is_empty());
            }
        }
    }

    #[test]
    fn a_head_that_is_a_lie_makes_no_room_that_is_not_there(
        sizes in prop::collection::vec(0..=SIZE, 1..20),
        lies in prop::collection::vec(prop_oneof![any::<u64>(), 0..2 * SIZE as u64], 20),
    ) {
        let ring = ring();
        let mut writer = DownWriter::new(ring.clone());
        for (size, lie) in sizes.into_iter().zip(lies) {
            ring.page.word(HEAD).store(lie, Ordering::Relaxed);
            let _ = writer.put(1, &[&vec![7; size]]);
            writer.has_less_than(size);
        }
        check_margins(&ring);
    }
}

fn frame_bytes((_, bytes): &(u32, Vec<u8>)) -> usize {
    (12 + bytes.len()).next_multiple_of(16)
}

#[test]
fn a_ring_that_is_full_has_room_for_nothing_and_takes_all_again() {
    let ring = ring();
    let (mut writer, mut reader) = (UpWriter::new(ring.clone()), UpReader::new(ring));
    for _ in 0..3 {
        assert!(writer.put([&[1; 100], &[2; SIZE - 100]]));
        assert!(!writer.put([&[3], &[]]) && writer.put([&[], &[]]));
        let mut to = Vec::new();
        assert_eq!(reader.take(&mut to), Ok(SIZE));
        assert_eq!(to, [[1; 100].as_slice(), &[2; SIZE - 100]].concat());
        assert_eq!(reader.take(&mut to), Ok(0));
    }
}

#[test]
fn an_empty_ring_has_room_for_a_frame_of_a_quarter_wherever_it_stands() {
    for before in 0..SIZE / 16 {
        let ring = ring();
        let (mut writer, mut reader) = (DownWriter::new(ring.clone()), DownReader::new(ring));
        for _ in 0..before {
            assert!(matches!(writer.put(1, &[]), Ok(true)));
            let frame = reader.next().expect("it was put");
            reader.pass(frame);
        }
        assert!(matches!(writer.put(2, &[&[5; SIZE / 4 - 12]]), Ok(true)));
        let frame = reader.next().expect("it was put");
        assert_eq!((frame.kind, frame.content()), (2, &[5; SIZE / 4 - 12][..]));
        reader.pass(frame);
        assert!(!reader.has_some() && reader.next().is_none());
    }
}

#[test]
fn what_one_thread_puts_another_one_takes() {
    const COUNT: u32 = 20_000;
    let ring = ring();
    let (mut writer, mut reader) = (UpWriter::new(ring.clone()), UpReader::new(ring));
    super::within(|| {
        let puts = std::thread::spawn(move || {
            for number in 0..COUNT {
                while !writer.put([&number.to_le_bytes(), &[]]) {
                    std::thread::yield_now();
                }
            }
        });
        let (mut bytes, mut expected) = (Vec::new(), 0);
        while expected < COUNT {
            let taken = reader.take(&mut bytes);
            taken.expect("the counts are true");
            for number in bytes.as_chunks().0 {
                assert_eq!(u32::from_le_bytes(*number), expected);
                expected += 1;
            }
            assert_eq!(bytes.len() % 4, 0, "what is put at once is there at once");
            bytes.clear();
            std::thread::yield_now();
        }
        puts.join().expect("it does not panic");
    });
}

#[test]
fn frames_of_one_thread_are_read_by_another_one() {
    const COUNT: u32 = 20_000;
    let ring = ring();
    let (mut writer, mut reader) = (DownWriter::new(ring.clone()), DownReader::new(ring));
    super::within(|| {
        let puts = std::thread::spawn(move || {
            for number in 0..COUNT {
                let bytes = vec![number as u8; number as usize % 50];
                while !writer.put(number + 1, &[&bytes]).expect("there is memory") {
                    std::thread::yield_now();
                }
            }
        });
        for number in 0..COUNT {
            let frame = loop {
                match reader.next() {
                    Some(frame) => break frame,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(frame.kind, number + 1);
            assert_eq!(frame.content(), vec![number as u8; number as usize % 50]);
            reader.pass(frame);
        }
        puts.join().expect("it does not panic");
    });
}
