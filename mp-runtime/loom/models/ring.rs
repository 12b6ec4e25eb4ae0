//! The ring: eight units, of which three are warm, kept, and there at the beginning. So it wraps at
//! the third message, or grows, and shrinks when it is empty.

use std::io;
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard};

use loom::thread;

use super::{FOREVER, check, check_deaths, models};
use crate::channel::ring::{Message, Refused, Ring, Unfinished};
use crate::channel::{self, bounds::UNIT_BYTES};
use crate::os::futex::Sleep;
use crate::os::identity::live;
use crate::sync::Patience;

models! {
    a_ring_hands_over_messages_in_order
    a_ring_jumps_over_its_end
    a_ring_has_several_producers
    a_ring_has_several_consumers
    a_ring_is_rewound_while_somebody_puts
    a_full_ring_wakes_its_producers
    an_empty_ring_wakes_its_consumers
    a_ring_wakes_both_sides
    a_ring_without_room_in_one_piece_wakes_its_producers
    a_ring_that_is_closed_wakes_its_consumers
    a_ring_that_is_closed_wakes_its_producers
    a_ring_that_is_left_wakes_its_consumers
    a_ring_that_is_left_wakes_its_producers
    a_ring_tells_when_all_is_done
    a_ring_survives_a_producer_at_every_step
    a_ring_survives_a_producer_that_wraps_at_every_step
    a_ring_survives_a_producer_that_rewinds_at_every_step
    a_ring_survives_a_consumer_at_every_step
    a_ring_survives_a_consumer_that_rewinds_at_every_step
    a_ring_survives_who_closes_it_at_every_step
    a_ring_tells_what_is_lost_with_a_worker_at_every_step
}

fn ring(capacity: u32) -> Arc<Ring> {
    Arc::new(Ring::create(capacity).expect("there is memory"))
}

/// The message of this number, which takes as many units as its tens say.
fn bytes_of(number: u8) -> Vec<u8> {
    let units = usize::from(number / 10);
    vec![number; (units - 1) * UNIT_BYTES + 1]
}

fn put_with(ring: &Ring, number: u8, patience: Patience) -> Result<(), Refused> {
    channel::put(ring, &bytes_of(number), patience)
}

fn put(ring: &Ring, number: u8) {
    put_with(ring, number, Patience::Forever).expect("there is room, some day");
}

/// The number of a message, if it is whole.
fn number_of(message: &Message<'_>) -> io::Result<u8> {
    let mut bytes = Vec::<u8>::new();
    message.read(&mut bytes)?;
    assert_eq!(bytes, bytes_of(bytes[0]));
    Ok(bytes[0])
}

fn take_with(ring: &Ring, patience: Patience) -> Result<u8, Refused> {
    channel::take(ring, patience, number_of)
}

fn take(ring: &Ring) -> u8 {
    take_with(ring, Patience::Forever).expect("there is a message, some day")
}

/// Takes what there is.
fn rest(ring: &Ring) -> Vec<u8> {
    let mut numbers = Vec::new();
    loop {
        match take_with(ring, Patience::Never) {
            Ok(number) => numbers.push(number),
            Err(Refused::Empty | Refused::Closed) => return numbers,
            Err(refused) => panic!("{refused:?}"),
        }
    }
}

/// Uses the ring all round, to see that it is in order.
fn use_all(ring: &Ring) {
    let lap = [11, 22, 13, 14, 15, 36];
    for number in lap {
        put(ring, number);
        assert_eq!(take(ring), number);
    }
    [31, 32].iter().for_each(|&number| put(ring, number));
    assert_eq!(rest(ring), [31, 32]);
}

/// Has a ring that has grown and is empty, with its head and tail at the unit of this number.
fn used_up_to(ring: &Ring, unit: u8) {
    put(ring, unit * 10);
    assert_eq!(take(ring), unit * 10);
}

fn sorted(mut numbers: Vec<u8>) -> Vec<u8> {
    numbers.sort_unstable();
    numbers
}

/// What a thread did before it died.
type Notes = Arc<Mutex<Vec<u8>>>;

fn look(notes: &Notes) -> MutexGuard<'_, Vec<u8>> {
    notes.lock().expect("nobody dies with it")
}

fn hand_over(ring: &Arc<Ring>, numbers: &'static [u8]) {
    let producers = Arc::clone(ring);
    let producer = thread::spawn(move || {
        live(2, FOREVER, || {
            numbers.iter().for_each(|&number| put(&producers, number));
        })
    });
    live(1, FOREVER, || {
        for &number in numbers {
            assert_eq!(take(ring), number);
        }
    });
    producer.join().expect("it ends");
    live(1, FOREVER, || assert_eq!(rest(ring), []));
}

fn a_ring_hands_over_messages_in_order() {
    check(Sleep::Slice, 3, || hand_over(&ring(0), &[11, 12, 13]));
    check(Sleep::Slice, 3, || hand_over(&ring(0), &[21, 12]));
}

fn a_ring_jumps_over_its_end() {
    check(Sleep::Slice, 3, || {
        let ring = ring(0);
        live(1, FOREVER, || {
            put(&ring, 11);
            put(&ring, 12);
            assert_eq!(take(&ring), 11);
            assert_eq!(take(&ring), 12);
        });
        hand_over(&ring, &[13, 14, 15]);
    });
}

fn a_ring_has_several_producers() {
    check(Sleep::Wake, 3, || {
        let ring = ring(0);
        let producers = [(2, 11), (3, 22)].map(|(id, number)| {
            let ring = Arc::clone(&ring);
            thread::spawn(move || live(id, FOREVER, || put(&ring, number)))
        });
        live(1, FOREVER, || {
            let numbers = vec![take(&ring), take(&ring)];
            assert_eq!(sorted(numbers), [11, 22]);
        });
        for producer in producers {
            producer.join().expect("it ends");
        }
    });
}

fn a_ring_has_several_consumers() {
    check(Sleep::Wake, 3, || {
        let ring = ring(0);
        let consumers = [2, 3].map(|id| {
            let ring = Arc::clone(&ring);
            thread::spawn(move || live(id, FOREVER, || take(&ring)).expect("it lives"))
        });
        live(1, FOREVER, || {
            put(&ring, 11);
            put(&ring, 22);
        });
        let numbers = consumers.map(|consumer| consumer.join().expect("it ends"));
        assert_eq!(sorted(numbers.to_vec()), [11, 22]);
    });
}

fn a_ring_is_rewound_while_somebody_puts() {
    // It has grown, so that who takes the last message gives memory back.
    check(Sleep::Slice, 3, || {
        let ring = ring(0);
        live(1, FOREVER, || {
            [11, 12, 13, 14]
                .iter()
                .for_each(|&number| put(&ring, number));
            assert_eq!([(); 3].map(|()| take(&ring)), [11, 12, 13]);
        });
        let producers = Arc::clone(&ring);
        let producer = thread::spawn(move || {
            live(2, FOREVER, || {
                [15, 16].map(|number| put(&producers, number))
            })
        });
        live(1, FOREVER, || {
            assert_eq!([(); 3].map(|()| take(&ring)), [14, 15, 16]);
            producer.join().expect("it ends");
            use_all(&ring);
        });
    });
    // There is no room in one piece, so that who puts rewinds; the other side looks meanwhile.
    check(Sleep::Slice, 3, || {
        let ring = ring(2);
        live(1, FOREVER, || used_up_to(&ring, 2));
        hand_over(&ring, &[61]);
    });
}

fn fill(ring: &Arc<Ring>, producers: u64) {
    let threads: Vec<_> = (0..producers)
        .map(|index| {
            let ring = Arc::clone(ring);
            let number = 11 + index as u8;
            thread::spawn(move || live(2 + index, FOREVER, || put(&ring, number)))
        })
        .collect();
    let numbers = live(1, FOREVER, || (0..producers).map(|_| take(ring)).collect());
    let wanted: Vec<u8> = (0..producers).map(|index| 11 + index as u8).collect();
    assert_eq!(sorted(numbers.expect("it lives")), wanted);
    for thread in threads {
        thread.join().expect("it ends");
    }
}

fn a_full_ring_wakes_its_producers() {
    check(Sleep::Wake, 3, || fill(&ring(1), 2));
}

fn an_empty_ring_wakes_its_consumers() {
    check(Sleep::Wake, 3, || {
        let ring = ring(0);
        let consumers = [2, 3].map(|id| {
            let ring = Arc::clone(&ring);
            thread::spawn(move || live(id, FOREVER, || take(&ring)).expect("it lives"))
        });
        live(1, FOREVER, || [11, 12].map(|number| put(&ring, number)));
        let numbers = consumers.map(|consumer| consumer.join().expect("it ends"));
        assert_eq!(sorted(numbers.to_vec()), [11, 12]);
    });
}

fn a_ring_wakes_both_sides() {
    check(Sleep::Wake, 3, || hand_over(&ring(1), &[11, 12]));
    check(Sleep::Wake, 3, || hand_over(&ring(2), &[11, 12, 13]));
}

/// The capacity is not used up, but there is never room for two.
fn a_ring_without_room_in_one_piece_wakes_its_producers() {
    check(Sleep::Wake, 3, || hand_over(&ring(2), &[41, 42]));
}

fn a_ring_that_is_closed_wakes_its_consumers() {
    check(Sleep::Wake, 5, || {
        let ring = ring(0);
        let consumers = Arc::clone(&ring);
        let consumer = thread::spawn(move || {
            let taken = live(2, FOREVER, || {
                let first = take(&consumers);
                let second = take_with(&consumers, Patience::Forever);
                (first, second)
            });
            assert!(matches!(taken, Some((11, Err(Refused::Closed)))));
        });
        live(1, FOREVER, || {
            put(&ring, 11);
            ring.close();
        });
        consumer.join().expect("it ends");
    });
}

fn a_ring_that_is_closed_wakes_its_producers() {
    check(Sleep::Wake, 5, || {
        let ring = ring(1);
        let producers = Arc::clone(&ring);
        let producer = thread::spawn(move || {
            let put = live(2, FOREVER, || {
                let first = put_with(&producers, 11, Patience::Forever).is_ok();
                let second = put_with(&producers, 12, Patience::Forever);
                assert!(matches!(second, Err(Refused::Closed)));
                first
            });
            put.expect("it lives")
        });
        live(1, FOREVER, || ring.close());
        let was_put = producer.join().expect("it ends");
        // Nothing is put after all that was there has been taken.
        let numbers = live(1, FOREVER, || rest(&ring)).expect("it lives");
        assert_eq!(numbers.len(), usize::from(was_put));
    });
}

fn a_ring_that_is_left_wakes_its_consumers() {
    check(Sleep::Wake, 5, || {
        let ring = ring(0);
        let consumers = Arc::clone(&ring);
        let consumer = thread::spawn(move || {
            live(2, FOREVER, || {
                assert_eq!(take(&consumers), 11);
                let second = take_with(&consumers, Patience::Forever);
                assert!(matches!(second, Err(Refused::Closed)));
            })
        });
        live(1, FOREVER, || {
            put(&ring, 11);
            ring.leave();
        });
        consumer.join().expect("it ends");
    });
}

fn a_ring_that_is_left_wakes_its_producers() {
    check(Sleep::Wake, 5, || {
        let ring = ring(1);
        let producers = Arc::clone(&ring);
        let producer = thread::spawn(move || {
            live(2, FOREVER, || {
                put(&producers, 11);
                let second = put_with(&producers, 12, Patience::Forever);
                assert!(matches!(second, Err(Refused::Closed)));
            })
        });
        live(1, FOREVER, || ring.leave());
        producer.join().expect("it ends");
    });
}

fn a_ring_tells_when_all_is_done() {
    check(Sleep::Wake, 3, || {
        let ring = ring(0);
        live(1, FOREVER, || [11, 12].map(|number| put(&ring, number)));
        let workers = [2, 3].map(|id| {
            let ring = Arc::clone(&ring);
            thread::spawn(move || live(id, FOREVER, || assert!(ring.note_done())))
        });
        live(1, FOREVER, || {
            ring.wait_finished(Patience::Forever).expect("they live");
        });
        for worker in workers {
            worker.join().expect("it ends");
        }
        live(1, FOREVER, || assert!(!ring.note_done()));
    });
}

/// The ring as another process has it.
fn same(ring: &Ring) -> Ring {
    Ring::adopt(Arc::clone(ring.file())).expect("it is one")
}

/// Takes a message, if there is one, and says that it is worked off.
fn work_off(ring: &Ring) -> bool {
    let taken = channel::take(ring, Patience::Never, |message| {
        ring.note_taken();
        number_of(message)
    });
    taken.is_ok_and(|_| ring.note_done())
}

/// A victim works messages off and dies before the step of this number; another one does what is
/// left. Whoever waits for all to be done hears of it, or that the dead had something in hand.
fn a_ring_tells_what_is_lost_with_a_worker_at_every_step() {
    check_deaths(2, |steps| {
        let ring = ring(0);
        live(1, FOREVER, || put(&ring, 11));
        let victims = same(&ring);
        let victim = thread::spawn(move || live(2, steps, || work_off(&victims)).is_none());
        let workers = same(&ring);
        live(3, FOREVER, || {
            work_off(&workers);
        });
        let has_died = victim.join().expect("it ends");
        live(1, FOREVER, || {
            while work_off(&ring) {}
            match ring.wait_finished(Patience::Forever) {
                Ok(()) => assert_eq!(ring.unfinished(), 0),
                Err(Unfinished::Lost { count, process_id }) => {
                    assert!(has_died);
                    assert_eq!((count, process_id), (1, 2));
                }
                Err(Unfinished::TimedOut) => panic!("it waits for ever"),
            }
        });
        has_died
    });
}

/// A victim puts messages and dies before the step of this number, while another producer puts one
/// too. What was put is there, in order; what was not, is not.
fn put_and_die(ring: &Arc<Ring>, steps: u32, numbers: &'static [u8], other: u8) -> bool {
    let notes = Notes::default();
    let (victims, victims_notes) = (Arc::clone(ring), Arc::clone(&notes));
    let victim = thread::spawn(move || {
        let end = live(2, steps, || {
            for &number in numbers {
                put(&victims, number);
                look(&victims_notes).push(number);
            }
        });
        end.is_none()
    });
    live(1, FOREVER, || put(ring, other));
    let has_died = victim.join().expect("it ends");
    live(1, FOREVER, || {
        // It lies where memory is, or was only said to be.
        let is_full = put_with(ring, 34, Patience::Never).is_err();
        let mut found = rest(ring);
        assert!(is_full || found.pop() == Some(34));
        let place = found.iter().position(|&number| number == other);
        found.remove(place.expect("it was put"));
        assert!(numbers.starts_with(&found));
        assert!(found.starts_with(&look(&notes)));
        use_all(ring);
    });
    has_died
}

fn a_ring_survives_a_producer_at_every_step() {
    // The second one has the ring grow.
    check_deaths(2, |steps| put_and_die(&ring(0), steps, &[11, 22], 13));
}

fn a_ring_survives_a_producer_that_wraps_at_every_step() {
    check_deaths(2, |steps| {
        let ring = ring(0);
        live(1, FOREVER, || {
            [11, 12].iter().for_each(|&number| put(&ring, number));
            assert_eq!([(); 2].map(|()| take(&ring)), [11, 12]);
        });
        put_and_die(&ring, steps, &[13], 14)
    });
}

/// There is no room in one piece, so that who puts rewinds; the other side looks meanwhile.
fn a_ring_survives_a_producer_that_rewinds_at_every_step() {
    check_deaths(2, |steps| {
        let ring = ring(2);
        live(1, FOREVER, || used_up_to(&ring, 2));
        let victims = Arc::clone(&ring);
        let victim = thread::spawn(move || live(2, steps, || put(&victims, 61)).is_none());
        let found = live(1, FOREVER, || take_with(&ring, Patience::Never).ok());
        let has_died = victim.join().expect("it ends");
        live(1, FOREVER, || {
            let mut found = Vec::from_iter(found.flatten());
            found.extend(rest(&ring));
            assert!(found == [61] || (has_died && found.is_empty()));
            use_all(&ring);
        });
        has_died
    });
}

/// A victim takes messages and dies before the step of this number, while another consumer takes
/// them too. Each is taken once, but one that the victim may have had in its hands.
fn take_and_die(ring: &Arc<Ring>, steps: u32, numbers: &'static [u8]) -> bool {
    let notes = Notes::default();
    let (victims, victims_notes) = (Arc::clone(ring), Arc::clone(&notes));
    let victim = thread::spawn(move || {
        let end = live(2, steps, || {
            while let Ok(number) = take_with(&victims, Patience::Never) {
                look(&victims_notes).push(number);
            }
        });
        end.is_none()
    });
    let mut found = live(1, FOREVER, || rest(ring)).expect("it lives");
    let has_died = victim.join().expect("it ends");
    live(1, FOREVER, || {
        found.extend(rest(ring));
        assert!(found.is_sorted() && look(&notes).is_sorted());
        found.extend(&*look(&notes));
        let found = sorted(found);
        assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "twice");
        assert!(found.iter().all(|number| numbers.contains(number)));
        assert!(found.len() + usize::from(has_died) >= numbers.len(), "lost");
        use_all(ring);
    });
    has_died
}

fn a_ring_survives_a_consumer_at_every_step() {
    check_deaths(2, |steps| {
        let ring = ring(0);
        live(1, FOREVER, || [11, 22].map(|number| put(&ring, number)));
        take_and_die(&ring, steps, &[11, 22])
    });
}

/// It has grown, so that who takes the last message gives memory back, while somebody puts one.
fn a_ring_survives_a_consumer_that_rewinds_at_every_step() {
    check_deaths(2, |steps| {
        let ring = ring(0);
        live(1, FOREVER, || put(&ring, 41));
        let victims = Arc::clone(&ring);
        let victim = thread::spawn(move || live(2, steps, || take(&victims)).is_none());
        live(1, FOREVER, || put(&ring, 12));
        let has_died = victim.join().expect("it ends");
        live(1, FOREVER, || {
            let is_full = put_with(&ring, 34, Patience::Never).is_err();
            let mut found = rest(&ring);
            assert!(is_full || found.pop() == Some(34));
            assert!(
                found == [12] || (has_died && found == [41, 12]),
                "{found:?}"
            );
            use_all(&ring);
        });
        has_died
    });
}

fn a_ring_survives_who_closes_it_at_every_step() {
    check_deaths(3, |steps| {
        let ring = ring(0);
        let victims = Arc::clone(&ring);
        let victim = thread::spawn(move || live(2, steps, || victims.close()).is_none());
        let was_put = live(1, FOREVER, || put_with(&ring, 11, Patience::Forever));
        let was_put = was_put.expect("it lives").is_ok();
        let has_died = victim.join().expect("it ends");
        live(1, FOREVER, || {
            assert!(has_died || ring.is_closed());
            assert_eq!(rest(&ring).len(), usize::from(was_put));
        });
        has_died
    });
}
