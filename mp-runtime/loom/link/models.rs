//! A worker and its parent: the rings, the bells with both kinds of sleepers, the claim, and who
//! attends.

use std::sync::Arc;

use loom::thread;

use super::bell::{Bell, Sleeper};
use super::lanes::Claim;
use super::ring::{DownReader, DownWriter, Ring, UpReader, UpWriter};
use crate::models::{FOREVER, check, models};
use crate::os::futex::Sleep;
use crate::os::identity::live;
use crate::os::shared_page::SharedPage;
use crate::sync::atomic::{AtomicU64, Ordering, fence};

models! {
    a_ring_up_hands_over_all_bytes_in_order
    a_ring_down_hands_over_frames_in_order
    a_full_ring_wakes_its_writer
    a_bell_wakes_its_keeper
    a_bell_wakes_both_kinds_of_sleepers
    a_bell_wakes_a_sleeping_worker
    who_stops_taking_leaves_nothing_behind
    an_item_is_begun_or_taken_back
    a_worker_is_attended_or_left_to_its_keeper
}

const TAIL: usize = 0;
const HEAD: usize = 1;
const UP_BELL: usize = 2;
const ROOM_BELL: usize = 3;
const DOWN_TAIL: usize = 4;
const DOWN_HEAD: usize = 5;
const DOWN_BELL: usize = 6;

/// Two frames, each of a line of the cache.
const DOWN_BYTES: usize = 128;

fn page(bytes: usize) -> Arc<SharedPage> {
    Arc::new(SharedPage::of(bytes))
}

fn up(page: &Arc<SharedPage>, bytes: usize) -> Ring {
    Ring {
        page: Arc::clone(page),
        tail_word: TAIL,
        head_word: HEAD,
        bytes: 0..bytes,
    }
}

fn down(page: &Arc<SharedPage>, bytes: usize) -> Ring {
    Ring {
        tail_word: DOWN_TAIL,
        head_word: DOWN_HEAD,
        ..up(page, bytes)
    }
}

/// As `OfProcess::wake_now` of the worker.
fn wake_now(bell: Bell<'_>) {
    fence(Ordering::SeqCst);
    if bell.is_wanted() {
        bell.ring();
    }
}

/// As `Link::leave_to_keeper`.
fn leave_to_keeper(bell: Bell<'_>, has_news: impl Fn() -> bool) {
    if !bell.is_surely_wanted_by(Sleeper::Keeper) {
        bell.want(Sleeper::Keeper);
        if has_news() {
            bell.wake(Sleeper::Keeper);
        }
    }
}

fn a_ring_up_hands_over_all_bytes_in_order() {
    check(Sleep::Slice, 3, || {
        let page = page(4);
        let mut writer = UpWriter::new(up(&page, 4));
        let mut reader = UpReader::new(up(&page, 4));
        let worker = thread::spawn(move || {
            live(2, FOREVER, || {
                // The second one wraps.
                for number in [1, 4] {
                    while !writer.put([&[number], &[number + 1, number + 2]]) {
                        thread::yield_now();
                    }
                }
            })
        });
        live(1, FOREVER, || {
            let mut all = Vec::new();
            while all.len() < 6 {
                let count = reader.take(&mut all).expect("the counts are true");
                assert_eq!(count % 3, 0, "what is put at once is there at once");
                if count == 0 {
                    thread::yield_now();
                }
            }
            assert_eq!(all, [1, 2, 3, 4, 5, 6]);
        });
        worker.join().expect("it ends");
    });
}

fn a_ring_down_hands_over_frames_in_order() {
    check(Sleep::Slice, 3, || {
        let page = page(DOWN_BYTES);
        let mut writer = DownWriter::new(down(&page, DOWN_BYTES));
        let mut reader = DownReader::new(down(&page, DOWN_BYTES));
        let parent = thread::spawn(move || {
            live(2, FOREVER, || {
                // Of a half of the ring each: the third one lies where the first one did.
                for number in 1..=3_u8 {
                    while !matches!(
                        writer.put(number.into(), &[&[number], &[number; 3]]),
                        Ok(true)
                    ) {
                        thread::yield_now();
                    }
                }
            })
        });
        live(1, FOREVER, || {
            let mut number = 1;
            while number <= 3 {
                let Some(frame) = reader.next() else {
                    thread::yield_now();
                    continue;
                };
                assert_eq!(frame.kind, u32::from(number));
                assert_eq!(frame.content(), [number; 4]);
                reader.pass(frame);
                number += 1;
            }
        });
        parent.join().expect("it ends");
    });
}

fn a_full_ring_wakes_its_writer() {
    check(Sleep::Wake, 3, || {
        let page = page(2);
        let workers = Arc::clone(&page);
        let worker = thread::spawn(move || {
            live(2, FOREVER, || {
                let mut writer = UpWriter::new(up(&workers, 2));
                // As `OfProcess::put`.
                for number in [1, 2] {
                    while !writer.put([&[number], &[number]]) {
                        wake_now(Bell(workers.sleeping_word(UP_BELL)));
                        let bell = Bell(workers.sleeping_word(ROOM_BELL));
                        bell.sleep(Sleeper::Keeper, None, || writer.has_room(2));
                    }
                }
                wake_now(Bell(workers.sleeping_word(UP_BELL)));
            })
        });
        live(1, FOREVER, || {
            let mut reader = UpReader::new(up(&page, 2));
            let mut all = Vec::new();
            while all.len() < 4 {
                // As `Receiver::take` and `Events::sleep`.
                let count = reader.take(&mut all).expect("the counts are true");
                Bell(page.sleeping_word(ROOM_BELL)).ring();
                if count == 0 {
                    let bell = Bell(page.sleeping_word(UP_BELL));
                    bell.sleep(Sleeper::Keeper, None, || !reader.is_empty());
                }
            }
            assert_eq!(all, [1, 1, 2, 2]);
        });
        worker.join().expect("it ends");
    });
}

/// Sleeps until there is something to take.
fn sleep_as(sleeper: Sleeper, page: &Arc<SharedPage>) {
    let reader = UpReader::new(up(page, 4));
    while reader.is_empty() {
        let bell = Bell(page.sleeping_word(UP_BELL));
        bell.sleep(sleeper, None, || !reader.is_empty());
    }
}

/// Puts something in, and rings.
fn put_and_ring(page: &Arc<SharedPage>) {
    let mut writer = UpWriter::new(up(page, 4));
    assert!(writer.put([&[1], &[]]));
    wake_now(Bell(page.sleeping_word(UP_BELL)));
}

fn a_bell_wakes_its_keeper() {
    check(Sleep::Wake, 4, || {
        let page = page(4);
        let keepers = Arc::clone(&page);
        let keeper =
            thread::spawn(move || live(2, FOREVER, || sleep_as(Sleeper::Keeper, &keepers)));
        live(1, FOREVER, || put_and_ring(&page));
        keeper.join().expect("it ends");
    });
}

fn a_bell_wakes_both_kinds_of_sleepers() {
    check(Sleep::Wake, 3, || {
        let page = page(4);
        let sleepers = [(2, Sleeper::Keeper), (3, Sleeper::Waiter)].map(|(id, sleeper)| {
            let page = Arc::clone(&page);
            thread::spawn(move || live(id, FOREVER, || sleep_as(sleeper, &page)))
        });
        live(1, FOREVER, || put_and_ring(&page));
        for sleeper in sleepers {
            sleeper.join().expect("it ends");
        }
    });
}

fn a_bell_wakes_a_sleeping_worker() {
    check(Sleep::Wake, 4, || {
        let page = page(DOWN_BYTES);
        let workers = Arc::clone(&page);
        let worker = thread::spawn(move || {
            live(2, FOREVER, || {
                let reader = DownReader::new(down(&workers, DOWN_BYTES));
                let bell = Bell(workers.sleeping_word(DOWN_BELL));
                while !reader.has_some() {
                    bell.sleep(Sleeper::Keeper, None, || reader.has_some());
                }
                bell.do_not_want(Sleeper::Keeper);
            })
        });
        live(1, FOREVER, || {
            let mut writer = DownWriter::new(down(&page, DOWN_BYTES));
            assert!(matches!(writer.put(1, &[]), Ok(true)));
            Bell(page.sleeping_word(DOWN_BELL)).ring();
        });
        worker.join().expect("it ends");
    });
}

/// A keeper that sleeps without a wish of its own, while somebody stops taking in its place.
fn who_stops_taking_leaves_nothing_behind() {
    check(Sleep::Wake, 3, || {
        let page = page(4);
        let keepers = Arc::clone(&page);
        let keeper = thread::spawn(move || {
            live(2, FOREVER, || {
                let reader = UpReader::new(up(&keepers, 4));
                while reader.is_empty() {
                    let bell = Bell(keepers.sleeping_word(UP_BELL));
                    bell.doze(Sleeper::Keeper, None, || !reader.is_empty());
                }
            })
        });
        let workers = Arc::clone(&page);
        let worker = thread::spawn(move || live(3, FOREVER, || put_and_ring(&workers)));
        live(1, FOREVER, || {
            let reader = UpReader::new(up(&page, 4));
            let bell = Bell(page.sleeping_word(UP_BELL));
            leave_to_keeper(bell, || !reader.is_empty());
        });
        keeper.join().expect("it ends");
        worker.join().expect("it ends");
    });
}

fn an_item_is_begun_or_taken_back() {
    // Where numbers begin again, too.
    for first in [1, u32::MAX] {
        check(Sleep::Slice, 4, move || {
            let before = u64::from(first.wrapping_sub(1));
            let word = Arc::new(AtomicU64::new(before << 32 | before));
            let items = [first, first.wrapping_add(1).max(1)];
            let workers = Arc::clone(&word);
            let worker = thread::spawn(move || {
                live(2, FOREVER, || items.map(|item| Claim(&workers).begin(item)))
            });
            let begun = live(1, FOREVER, || Claim(&word).take_back(items[1]));
            let is_begun = worker.join().expect("it ends").expect("it lives");
            let last = match is_begun {
                [true, true] => items[1],
                [true, false] => items[0],
                [false, false] => first.wrapping_sub(1),
                [false, true] => panic!("an item was begun behind one that is void"),
            };
            assert_eq!(begun, Some(Some(last)));
            // Whoever asks again is told the same.
            let again = live(1, FOREVER, || Claim(&word).take_back(items[1]));
            assert_eq!(again, Some(Some(last)));
        });
    }
}

/// What `pool/attendance.rs` does, step by step, of one worker.
fn a_worker_is_attended_or_left_to_its_keeper() {
    struct Shared {
        page: Arc<SharedPage>,
        attending: AtomicU64,
        busy: AtomicU64,
    }
    impl Shared {
        /// As `Link::leave_to_keeper`.
        fn leave_to_keeper(&self) {
            let reader = UpReader::new(up(&self.page, 4));
            let bell = Bell(self.page.sleeping_word(UP_BELL));
            leave_to_keeper(bell, || !reader.is_empty());
        }
    }
    check(Sleep::Wake, 3, || {
        let shared = Arc::new(Shared {
            page: page(4),
            attending: AtomicU64::new(1),
            busy: AtomicU64::new(0),
        });
        // Who attends is just about to stop, `Core::stop_attending`.
        let own = Arc::clone(&shared);
        let attendant = thread::spawn(move || {
            live(2, FOREVER, || {
                let before = own.attending.fetch_sub(1, Ordering::SeqCst);
                if before == 1 && own.busy.load(Ordering::SeqCst) > 0 {
                    own.leave_to_keeper();
                }
            })
        });
        // The keeper, `receive` in `slot.rs` with `Core::keeper_rests`.
        let own = Arc::clone(&shared);
        let keeper = thread::spawn(move || {
            live(3, FOREVER, || {
                let reader = UpReader::new(up(&own.page, 4));
                while reader.is_empty() {
                    let is_busy = own.busy.load(Ordering::SeqCst) > 0;
                    let is_wanted = is_busy && own.attending.load(Ordering::SeqCst) == 0;
                    let bell = Bell(own.page.sleeping_word(UP_BELL));
                    match is_wanted {
                        true => bell.sleep(Sleeper::Keeper, None, || !reader.is_empty()),
                        false => bell.doze(Sleeper::Keeper, None, || !reader.is_empty()),
                    }
                }
            })
        });
        live(1, FOREVER, || {
            // Somebody gives the worker a call, `Core::give` and `Core::see_to`, ...
            shared.busy.store(1, Ordering::SeqCst);
            let own = Arc::clone(&shared);
            // ... which it does.
            let worker = thread::spawn(move || live(4, FOREVER, || put_and_ring(&own.page)));
            if shared.attending.load(Ordering::SeqCst) == 0 {
                shared.leave_to_keeper();
            }
            worker.join().expect("it ends");
        });
        // Nobody attends any more, so that it is the keeper who comes.
        keeper.join().expect("it ends");
        attendant.join().expect("it ends");
    });
}
