//! Where messages go: each shape, and against a ring that remembers what lies in each unit.

use std::collections::VecDeque;

use proptest::prelude::*;

use crate::channel::room::{Bounds, Cursor, Room, find_room};

fn at(unit: u32) -> Cursor {
    Cursor { unit, count: 7 }
}

fn bounds(limit: u32, base: u32) -> Bounds {
    Bounds { limit, base }
}

/// Room in a ring of 100 units, of which 40 are warm.
fn room(head: u32, tail: u32, known: Bounds, need: u32) -> Option<(u32, bool, Bounds)> {
    let room = find_room(at(head), at(tail), known, need, 100, 40)?;
    Some((room.unit, room.is_jump, room.bounds))
}

const NOTHING: Bounds = Bounds { limit: 0, base: 0 };

#[test]
fn a_straight_ring_goes_on_while_it_is_warm() {
    assert_eq!(room(0, 0, NOTHING, 5), Some((0, false, NOTHING)));
    assert_eq!(room(10, 34, NOTHING, 5), Some((34, false, NOTHING)));
    // What is left of former shapes means nothing.
    assert_eq!(room(10, 34, bounds(35, 0), 5), Some((34, false, NOTHING)));
    assert_eq!(room(10, 34, bounds(0, 10), 5), Some((34, false, NOTHING)));
}

#[test]
fn a_straight_ring_wraps_if_there_is_room_before_the_head() {
    let wrapped = bounds(36, 0);
    assert_eq!(room(10, 35, NOTHING, 5), Some((0, true, wrapped)));
    assert_eq!(room(6, 35, NOTHING, 5), Some((0, true, wrapped)));
    assert_eq!(room(35, 35, NOTHING, 5), Some((0, true, wrapped)));
}

#[test]
fn a_straight_ring_grows_if_there_is_no_room_before_the_head() {
    assert_eq!(room(5, 35, NOTHING, 5), Some((35, false, NOTHING)));
    assert_eq!(room(0, 35, NOTHING, 64), Some((35, false, NOTHING)));
    assert_eq!(room(0, 35, NOTHING, 65), None);
}

#[test]
fn a_wrapped_ring_goes_on_up_to_the_head() {
    let wrapped = bounds(36, 0);
    assert_eq!(room(10, 0, wrapped, 9), Some((0, false, wrapped)));
    assert_eq!(room(10, 4, wrapped, 5), Some((4, false, wrapped)));
}

#[test]
fn a_wrapped_ring_that_is_full_grows_behind_what_is_live() {
    let wrapped = bounds(36, 0);
    let overflowing = bounds(0, 36);
    assert_eq!(room(10, 4, wrapped, 6), Some((36, true, overflowing)));
    assert_eq!(room(10, 4, wrapped, 63), Some((36, true, overflowing)));
    assert_eq!(room(10, 4, wrapped, 64), None);
}

#[test]
fn an_overflowing_ring_goes_on_until_the_head_has_come_past_its_base() {
    let overflowing = bounds(0, 36);
    let straight = Some((50, false, NOTHING));
    for head in [10, 4, 0, 35] {
        assert_eq!(
            room(head, 50, overflowing, 5),
            Some((50, false, overflowing))
        );
        assert_eq!(room(head, 50, overflowing, 50), None);
    }
    assert_eq!(room(36, 50, overflowing, 36), straight);
    assert_eq!(
        room(36, 50, overflowing, 5),
        Some((0, true, bounds(51, 0))),
        "it is straight again"
    );
}

#[test]
fn words_hold_cursors_and_bounds() {
    for (first, second) in [(0, 0), (1, 2), (u32::MAX, 0), (0, u32::MAX)] {
        let cursor = Cursor {
            unit: first,
            count: second,
        };
        assert_eq!(Cursor::of_word(cursor.word()), cursor);
        let bounds = bounds(first, second);
        assert_eq!(Bounds::of_word(bounds.word()), bounds);
    }
    assert_eq!(Bounds::of_word(0), Bounds::default());
    let later = Cursor { unit: 3, count: 2 };
    let earlier = Cursor {
        unit: 90,
        count: u32::MAX,
    };
    assert_eq!(later.since(earlier), 3);
}

/// What is done to a ring.
#[derive(Clone, Debug)]
enum Step {
    /// Puts a message of so many units.
    Put(u32),
    /// Takes so many.
    Take(usize),
    /// The producers look where the head is.
    Look,
    /// Goes back to the beginning, if it is empty.
    Rewind,
    /// As `Rewind`, by somebody who dies half-way.
    HalfRewind,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..12_u32).prop_map(Step::Put),
        1 => (1..70_u32).prop_map(Step::Put),
        5 => (1..5_usize).prop_map(Step::Take),
        1 => Just(Step::Look),
        1 => Just(Step::Rewind),
        1 => Just(Step::HalfRewind),
    ]
}

/// What lies at a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Nothing,
    Message {
        number: u32,
        need: u32,
    },
    /// A part of a message behind its first unit.
    Rest,
    JumpTo(u32),
}

/// A ring that remembers what lies in each unit. The head and the tail move as those of `ring.rs`.
struct Naive {
    units: Vec<Unit>,
    warm: u32,
    head: Cursor,
    tail: Cursor,
    bounds: Bounds,
    seen_head: Cursor,
    /// The messages that are there, by number.
    numbers: VecDeque<u32>,
}

impl Naive {
    fn new(size: u32, warm: u32, first_count: u32) -> Naive {
        let start = Cursor {
            unit: 0,
            count: first_count,
        };
        Naive {
            units: vec![Unit::Nothing; size as usize],
            warm,
            head: start,
            tail: start,
            bounds: Bounds::default(),
            seen_head: start,
            numbers: VecDeque::new(),
        }
    }

    fn size(&self) -> u32 {
        self.units.len() as u32
    }

    /// The place of the next message from `unit` on, and of the jumps before it.
    fn next(&self, mut unit: u32) -> (u32, Vec<u32>) {
        let mut jumps = Vec::new();
        while let Unit::JumpTo(to) = self.units[unit as usize] {
            jumps.push(unit);
            assert!(jumps.len() <= 2, "two jumps in a row at most");
            unit = to;
        }
        (unit, jumps)
    }

    /// Which units the consumers will read.
    fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.units.len()];
        let mut mark = |from: u32, count: u32| {
            for unit in from..from + count {
                let was_live = std::mem::replace(&mut live[unit as usize], true);
                assert!(!was_live, "unit {unit} is used twice");
            }
        };
        let mut unit = self.head.unit;
        for &wanted in &self.numbers {
            let (place, jumps) = self.next(unit);
            jumps.into_iter().for_each(|jump| mark(jump, 1));
            let Unit::Message { number, need } = self.units[place as usize] else {
                panic!("no message at {place}");
            };
            assert_eq!(number, wanted);
            mark(place, need);
            unit = place + need;
        }
        // Of somebody who died in a rewind.
        if unit != self.tail.unit {
            assert_eq!(self.units[unit as usize], Unit::JumpTo(self.tail.unit));
            mark(unit, 1);
        }
        live
    }

    fn find(&self, head: Cursor, need: u32) -> Option<Room> {
        find_room(head, self.tail, self.bounds, need, self.size(), self.warm)
    }

    fn put(&mut self, need: u32) {
        let live = self.live();
        let known = self.find(self.seen_head, need);
        if let Some(room) = known {
            self.check(room, need, &live);
        }
        let room = known.filter(|room| !room.is_jump).or_else(|| {
            self.seen_head = self.head;
            self.find(self.head, need)
        });
        let end = live.iter().rposition(|&is_live| is_live);
        let end = end.map_or(0, |unit| unit as u32 + 1).max(self.tail.unit);
        let Some(room) = room else {
            assert!(end + need >= self.size(), "there is room behind all");
            return;
        };
        self.check(room, need, &live);
        if room.is_jump {
            self.units[self.tail.unit as usize] = Unit::JumpTo(room.unit);
        }
        let number = self.tail.count;
        let message = room.unit as usize..(room.unit + need) as usize;
        self.units[message].fill(Unit::Rest);
        self.units[room.unit as usize] = Unit::Message { number, need };
        self.numbers.push_back(number);
        self.bounds = room.bounds;
        self.tail = Cursor {
            unit: room.unit + need,
            count: self.tail.count.wrapping_add(1),
        };
        self.live();
    }

    /// Whether a message there, and the jump to it, overwrite nothing that somebody will read, and
    /// leave room for a jump.
    fn check(&self, room: Room, need: u32, live: &[bool]) {
        let message = room.unit..room.unit + need;
        assert!(message.end < self.size(), "no room for a jump");
        assert!(message.clone().all(|unit| !live[unit as usize]), "{room:?}");
        if room.is_jump {
            assert!(!live[self.tail.unit as usize]);
            assert!(!message.contains(&self.tail.unit));
        } else {
            assert_eq!(room.unit, self.tail.unit);
        }
        // Where the next jump may be written.
        assert!(!live[message.end as usize]);
    }

    fn take(&mut self) {
        let Some(wanted) = self.numbers.pop_front() else {
            return;
        };
        let (place, _) = self.next(self.head.unit);
        let Unit::Message { number, need } = self.units[place as usize] else {
            panic!("no message at {place}");
        };
        assert_eq!(number, wanted);
        self.head = Cursor {
            unit: place + need,
            count: self.head.count.wrapping_add(1),
        };
    }

    fn rewind(&mut self, is_whole: bool) {
        if !self.numbers.is_empty() {
            return;
        }
        self.bounds = Bounds::default();
        if self.tail.unit != 0 {
            let start = Cursor {
                unit: 0,
                ..self.tail
            };
            self.units[0] = Unit::JumpTo(self.tail.unit);
            self.seen_head = start;
            self.head = start;
            if is_whole {
                self.tail = start;
            }
        }
    }

    fn make(&mut self, step: &Step) {
        match *step {
            Step::Put(need) => self.put(need),
            Step::Take(count) => (0..count).for_each(|_| self.take()),
            Step::Look => self.seen_head = self.head,
            Step::Rewind => self.rewind(true),
            Step::HalfRewind => self.rewind(false),
        }
    }
}

fn settings(case_count: u32) -> ProptestConfig {
    ProptestConfig {
        cases: case_count,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(settings(2000))]

    #[test]
    fn no_message_overwrites_what_somebody_will_read(
        size in 4..100_u32,
        warm in 0..120_u32,
        first_count in prop_oneof![Just(0), Just(u32::MAX - 20)],
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut ring = Naive::new(size, warm, first_count);
        steps.iter().for_each(|step| ring.make(step));
        while !ring.numbers.is_empty() {
            ring.take();
        }
        // Whatever was before, an empty ring that is rewound has room for all that fits.
        ring.rewind(true);
        prop_assert!(ring.find(ring.head, size - 1).is_some());
    }
}

/// A number as likely to be near one of these as anywhere.
fn any_near(places: [u32; 2]) -> impl Strategy<Value = u32> {
    let near =
        |place: u32| (0..4_u32).prop_map(move |more| place.wrapping_add(more).wrapping_sub(2));
    prop_oneof![any::<u32>(), near(0), near(places[0]), near(places[1])]
}

proptest! {
    #![proptest_config(settings(5000))]

    /// The words are read from memory that anybody may have written to: the tail is checked, the
    /// others are not.
    #[test]
    fn any_words_lead_to_a_place_within_reach_or_to_none(
        (size, warm, tail) in (2..=u32::MAX).prop_flat_map(|size| {
            (Just(size), any_near([size, size / 2]), 0..size)
        }),
        head in any_near([0, u32::MAX / 2]),
        head_is_sound in any::<bool>(),
        limit in any_near([0, u32::MAX]),
        base in any_near([0, u32::MAX]),
        need in any_near([1, u32::MAX / 2]),
    ) {
        let head = if head_is_sound { head % size } else { head };
        let room = find_room(at(head), at(tail), bounds(limit, base), need, size, warm);
        if let Some(room) = room && head_is_sound {
            prop_assert!(u64::from(room.unit) + u64::from(need) < u64::from(size));
            prop_assert!(room.is_jump || room.unit == tail);
        }
    }
}
