//! A ring in one process: how it grows and shrinks, what it refuses, and what becomes of it where
//! somebody writes to its memory by other means.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::stat::fstat;
use proptest::prelude::*;

use super::watchdog::within;
use crate::channel::bounds::{KEPT_UNITS, PAGE_UNITS, UNIT_BYTES, WARM_UNITS};
use crate::channel::ring::{Refused, Ring};
use crate::os::memory;
use crate::os::shared_fd::SharedFd;
use crate::shm::Expanse;
use crate::sync::Patience;
use crate::sync::atomic::Ordering;

const LIMIT: Duration = Duration::from_secs(120);

// As in `ring.rs`.
const CAPACITY: usize = 0;
const TAIL: usize = 256;
const HEAD: usize = 512;
const HEADER_BYTES: usize = 4096;
/// Each in one word: the locks.
const LOCKS: [usize; 4] = [128, 136, 384, 392];

/// How many units a small ring has.
const SMALL_UNITS: usize = 4 * PAGE_UNITS as usize;

fn put(ring: &Ring, bytes: &[u8]) -> Result<(), Refused> {
    ring.put(bytes, Patience::Never, |_| false)
}

fn take(ring: &Ring) -> Result<Vec<u8>, Refused> {
    ring.take(
        Patience::Never,
        |_| false,
        |message| {
            let mut bytes = Vec::new();
            message.read(&mut bytes)?;
            Ok(bytes)
        },
    )
}

/// A ring that has room for little, in the memory it lies in.
fn small(capacity: u64) -> (Ring, Arc<Expanse>) {
    let fd = memory::reserve(HEADER_BYTES + SMALL_UNITS * UNIT_BYTES).unwrap();
    memory::commit(&fd, 0..HEADER_BYTES).unwrap();
    let file = SharedFd::adopt(fd).unwrap();
    let memory = Expanse::adopt(Arc::clone(&file)).unwrap();
    memory.word(CAPACITY).store(capacity, Ordering::Relaxed);
    (Ring::adopt(file).unwrap(), memory)
}

/// A message that takes so many units.
fn of_units(count: usize, byte: u8) -> Vec<u8> {
    vec![byte; count * UNIT_BYTES - 8]
}

/// How many bytes of memory there are behind a ring.
fn memory_of(ring: &Ring) -> usize {
    let blocks = fstat(&**ring.file()).unwrap().st_blocks;
    usize::try_from(blocks).unwrap() * 512
}

#[test]
fn messages_of_all_lengths_come_out_as_they_went_in() {
    let ring = Ring::create(0).unwrap();
    let message = |length: usize| -> Vec<u8> { (0..length).map(|at| at as u8).collect() };
    let lengths = || (0..70).chain([4088, 4096, 100_000, 1, 3_000_000, 0]);
    for length in lengths() {
        put(&ring, &message(length)).unwrap();
    }
    assert_eq!(ring.len(), lengths().count());
    for length in lengths() {
        assert!(take(&ring).unwrap() == message(length), "of {length} bytes");
    }
    assert!(matches!(take(&ring), Err(Refused::Empty)));
    assert_eq!(ring.len(), 0);
}

#[test]
fn what_is_used_over_and_over_stays_small() {
    let ring = Ring::create(0).unwrap();
    let warm = WARM_UNITS as usize * UNIT_BYTES;
    for round in 0..3000 {
        put(&ring, &[round as u8; 1000]).unwrap();
        put(&ring, &[1; 10]).unwrap();
        assert_eq!(take(&ring).unwrap(), [round as u8; 1000]);
        assert_eq!(take(&ring).unwrap(), [1; 10]);
    }
    assert!(memory_of(&ring) <= HEADER_BYTES + warm * 3 / 2);
}

#[test]
fn an_empty_ring_gives_memory_back_and_has_it_again() {
    let ring = Ring::create(0).unwrap();
    let kept = KEPT_UNITS as usize * UNIT_BYTES;
    let count = kept / (1 << 20) + 16;
    for _ in 0..2 {
        for number in 0..count {
            put(&ring, &vec![number as u8; 1 << 20]).unwrap();
        }
        assert!(memory_of(&ring) >= count << 20);
        for number in 0..count {
            assert!(take(&ring).unwrap() == vec![number as u8; 1 << 20]);
        }
        assert!(memory_of(&ring) <= HEADER_BYTES + kept);
    }
    // What it keeps is enough for four messages as large as the last one.
    let large = vec![7; kept];
    put(&ring, &large).unwrap();
    assert!(take(&ring).unwrap() == large);
    assert!(memory_of(&ring) > kept);
    put(&ring, b"small").unwrap();
    assert_eq!(take(&ring).unwrap(), b"small");
    assert!(memory_of(&ring) <= HEADER_BYTES + kept);
}

#[test]
fn a_ring_has_its_capacity() {
    let ring = Ring::create(3).unwrap();
    for _ in 0..5 {
        (0..3).for_each(|number| put(&ring, &[number]).unwrap());
        assert!(matches!(put(&ring, &[3]), Err(Refused::Full)));
        assert_eq!(ring.len(), 3);
        assert_eq!(take(&ring).unwrap(), [0]);
        put(&ring, &[3]).unwrap();
        assert!(matches!(put(&ring, &[4]), Err(Refused::Full)));
        (1..4).for_each(|number| assert_eq!(take(&ring).unwrap(), [number]));
        assert!(matches!(take(&ring), Err(Refused::Empty)));
    }
}

#[test]
fn what_is_too_large_at_all_is_told_from_what_has_no_room_now() {
    for capacity in [0, 2] {
        let (ring, _) = small(capacity);
        let largest = SMALL_UNITS - 2;
        let refused = put(&ring, &of_units(largest + 1, 1));
        assert!(matches!(refused, Err(Refused::TooLarge)));
        put(&ring, &of_units(largest, 1)).unwrap();
        match (capacity, put(&ring, &of_units(2, 2))) {
            (0, Err(Refused::TooLarge)) | (2, Err(Refused::Full)) => {}
            (_, outcome) => panic!("{outcome:?}"),
        }
        assert_eq!(take(&ring).unwrap(), of_units(largest, 1));
        // An empty ring is rewound.
        put(&ring, &of_units(largest, 2)).unwrap();
        assert_eq!(take(&ring).unwrap(), of_units(largest, 2));
    }
}

#[test]
fn an_empty_ring_is_rewound_where_there_is_no_room_in_one_piece() {
    let (ring, _) = small(0);
    for round in 0..200_usize {
        let units = 1 + (round * 389) % (SMALL_UNITS - 2);
        put(&ring, &of_units(units, round as u8)).unwrap();
        assert_eq!(take(&ring).unwrap(), of_units(units, round as u8));
        assert!(matches!(take(&ring), Err(Refused::Empty)));
    }
}

#[test]
fn messages_are_counted_round_and_round() {
    let (ring, memory) = small(3);
    for offset in [HEAD, TAIL] {
        memory
            .word(offset)
            .store(u64::from(u32::MAX - 2), Ordering::Relaxed);
    }
    // What the sides last saw of each other is of before the first message, too.
    for number in 0..20 {
        put(&ring, &[number]).unwrap();
        put(&ring, &[number + 1]).unwrap();
        assert_eq!(ring.len(), 2);
        put(&ring, &[number + 2]).unwrap();
        assert!(matches!(put(&ring, &[0]), Err(Refused::Full)));
        (0..3).for_each(|more| assert_eq!(take(&ring).unwrap(), [number + more]));
        assert!(matches!(take(&ring), Err(Refused::Empty)));
    }
}

#[test]
fn a_closed_ring_gives_what_is_there_and_takes_nothing() {
    let ring = Ring::create(0).unwrap();
    put(&ring, b"before").unwrap();
    ring.close();
    assert!(matches!(put(&ring, b"after"), Err(Refused::Closed)));
    assert_eq!(take(&ring).unwrap(), b"before");
    assert!(matches!(take(&ring), Err(Refused::Closed)));
}

#[test]
fn what_cannot_be_read_stays_where_it_is() {
    let ring = Ring::create(0).unwrap();
    put(&ring, b"precious").unwrap();
    let taken = ring.take(
        Patience::Never,
        |_| false,
        |_| Err::<(), _>(std::io::ErrorKind::OutOfMemory.into()),
    );
    assert!(matches!(taken, Err(Refused::NoMemory(_))));
    assert_eq!(take(&ring).unwrap(), b"precious");
}

#[test]
fn what_is_not_a_ring_is_not_adopted() {
    let fd = memory::reserve(HEADER_BYTES).unwrap();
    assert!(Ring::adopt(SharedFd::adopt(fd).unwrap()).is_err());
}

const MESSAGE: u64 = 0x4d67 << 48;
const JUMP: u64 = 0x4a70 << 48;

#[test]
fn a_message_that_is_none_is_passed_over_with_all_behind_it() {
    within(LIMIT, || {
        let words = [
            0,
            u64::MAX,
            MESSAGE | ((1 << 48) - 1),
            MESSAGE | (SMALL_UNITS * UNIT_BYTES) as u64,
            JUMP,
            JUMP | 1,
            JUMP | SMALL_UNITS as u64,
            JUMP | u64::from(u32::MAX),
            JUMP | (1 << 47),
        ];
        for word in words {
            let (ring, memory) = small(0);
            (0..3).for_each(|number| put(&ring, &[number]).unwrap());
            assert_eq!(take(&ring).unwrap(), [0]);
            // A jump to where it stands, among others.
            let unit = HEADER_BYTES + UNIT_BYTES;
            memory.word(unit).store(word, Ordering::Relaxed);
            if word == JUMP {
                memory.word(HEADER_BYTES).store(word, Ordering::Relaxed);
            }
            let taken = take(&ring);
            assert!(
                matches!(taken, Err(Refused::Damaged(Some(2)))),
                "{word:x}: {taken:?}"
            );
            assert!(matches!(take(&ring), Err(Refused::Empty)));
            put(&ring, b"goes on").unwrap();
            assert_eq!(take(&ring).unwrap(), b"goes on");
        }
    });
}

/// Does all that can be done to a ring without waiting for somebody.
fn use_all(ring: &Ring) {
    for bytes in [of_units(1, 1), of_units(7, 2), of_units(700, 3)] {
        let _ = put(ring, &bytes);
        let _ = ring.len();
    }
    for _ in 0..5 {
        if let Ok(bytes) = take(ring) {
            assert!(bytes.len() <= SMALL_UNITS * UNIT_BYTES);
        }
    }
    let _ = put(ring, &of_units(700, 4));
    let _ = take(ring);
    ring.note_taken();
    ring.note_done();
    let _ = (ring.unfinished(), ring.put_count(), ring.leavings());
    let _ = ring.wait_finished(Patience::lasting(Duration::ZERO));
    ring.leave();
}

/// A ring that was used, with messages in it.
fn used() -> (Ring, Arc<Expanse>) {
    let (ring, memory) = small(0);
    put(&ring, &of_units(3, 1)).unwrap();
    put(&ring, &of_units(5, 2)).unwrap();
    take(&ring).unwrap();
    put(&ring, &of_units(1, 3)).unwrap();
    (ring, memory)
}

#[test]
fn any_word_of_the_memory_may_be_anything() {
    within(LIMIT, || {
        let words = [
            1,
            u64::MAX,
            1 << 63,
            u64::from(u32::MAX),
            (SMALL_UNITS as u64) << 32,
            (SMALL_UNITS as u64 - 1) << 32 | 2,
            JUMP | 2,
        ];
        let units = (3..9).map(|unit| HEADER_BYTES + unit * UNIT_BYTES);
        for offset in (0..HEADER_BYTES).step_by(8).chain(units) {
            for word in words {
                let (ring, memory) = used();
                memory.word(offset).store(word, Ordering::Relaxed);
                use_all(&ring);
                // As somebody has it who gets it only now.
                use_all(&Ring::adopt(Arc::clone(ring.file())).unwrap());
            }
        }
    });
}

fn word() -> impl Strategy<Value = u64> {
    let size = SMALL_UNITS as u64;
    let near = prop_oneof![0..4_u64, size - 3..size + 3, 0..size];
    let half = prop_oneof![near, any::<u32>().prop_map(u64::from)];
    let halves = (half.clone(), half).prop_map(|(high, low)| high << 32 | low);
    prop_oneof![halves, any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn several_words_of_the_memory_may_be_anything(
        changes in prop::collection::vec((0..140_usize, word()), 1..6),
    ) {
        let (ring, memory) = used();
        for (index, word) in changes {
            let offset = index * 8;
            // Locks that somebody seems to have cost patience.
            if !LOCKS.contains(&offset) {
                memory.word(offset).store(word, Ordering::Relaxed);
            }
        }
        use_all(&ring);
        use_all(&Ring::adopt(Arc::clone(ring.file())).unwrap());
    }
}
