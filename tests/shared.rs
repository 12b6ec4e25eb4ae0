//! Handles to shared memory, in and out of processes.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod watchdog;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mp::prelude::*;
use mp::sync::{Mutex, PoisonCause};
use serde::{Deserialize, Serialize};
use watchdog::within;

const LIMIT: Duration = Duration::from_secs(60);

mp::shared! {
    /// Counted up by every process.
    static HITS: u64 = 0;
    static LETTERS: [char; 3] = ['a', 'b', 'c'];
}

#[mp::process_fn]
fn hit(hits: Shared<AtomicU64>, data: Shared<[f64]>) -> f64 {
    hits.fetch_add(1, Ordering::Relaxed);
    data.iter().sum()
}

#[mp::test]
fn a_worker_sees_the_same_value_and_changes_it() {
    within(LIMIT, || {
        let hits = Shared::new(AtomicU64::new(0)).unwrap();
        let data = Shared::from_slice(&[0.5, 1.5, 2.0]).unwrap();
        let sum = mp::spawn!(hit(hits.clone(), data.clone()))
            .unwrap()
            .join()
            .unwrap();
        assert_eq!((sum, hits.load(Ordering::Relaxed)), (4.0, 1));
        let pool = Pool::new(2).unwrap();
        let sums = pool
            .starmap(hit, (0..1000).map(|_| (hits.clone(), data.clone())))
            .unwrap();
        assert_eq!(sums.len(), 1000);
        assert_eq!(hits.load(Ordering::Relaxed), 1001);
    });
}

#[derive(Serialize, Deserialize)]
struct Nested {
    name: String,
    values: Vec<Shared<AtomicU64>>,
    total: Option<Value<f64>>,
    by_name: std::collections::BTreeMap<String, Lock>,
}

#[mp::process_fn]
fn visit(mut nested: Nested) -> Nested {
    for value in &nested.values {
        value.fetch_add(1, Ordering::Relaxed);
    }
    nested
        .total
        .as_ref()
        .unwrap()
        .update(|total| *total += 0.5)
        .unwrap();
    nested.values.push(Shared::new(AtomicU64::new(42)).unwrap());
    nested.name.push('!');
    nested
}

#[mp::test]
fn handles_travel_nested_in_serde_types_both_ways() {
    within(LIMIT, || {
        let values: Vec<_> = (0..500)
            .map(|n| Shared::new(AtomicU64::new(n)).unwrap())
            .collect();
        let nest = Nested {
            name: "nest".into(),
            values: values.clone(),
            total: Some(mp::shared!(1.0).unwrap()),
            by_name: [("a".to_owned(), Lock::new(Mutex::new(())).unwrap())].into(),
        };
        let back = mp::spawn!(visit(nest)).unwrap().join().unwrap();
        assert_eq!(back.name, "nest!");
        assert_eq!(back.total.unwrap().get().unwrap(), 1.5);
        assert_eq!(back.values.len(), 501);
        assert_eq!(back.values[500].load(Ordering::Relaxed), 42);
        for (n, value) in values.iter().enumerate() {
            assert_eq!(value.load(Ordering::Relaxed), n as u64 + 1);
            assert!(Shared::ptr_eq(value, &back.values[n]));
        }
    });
}

#[mp::process_fn]
fn count() {
    for _ in 0..1000 {
        HITS.update(|hits| *hits += 1).unwrap();
    }
}

#[mp::process_fn]
fn count_below() {
    mp::spawn!(count()).unwrap().join().unwrap();
    LETTERS.update(|letters| letters[1] = 'x').unwrap();
}

#[mp::test]
fn statics_are_one_in_the_whole_tree() {
    within(LIMIT, || {
        let below = mp::spawn!(count_below()).unwrap();
        let beside = mp::spawn!(count()).unwrap();
        count();
        below.join().unwrap();
        beside.join().unwrap();
        assert_eq!(HITS.get().unwrap(), 3000);
        assert_eq!(LETTERS.get().unwrap(), ['a', 'x', 'c']);
    });
}

#[mp::process_fn]
fn die_with(lock: Value<u64>) {
    let mut guard = lock.lock().unwrap();
    *guard = 7;
    std::process::abort();
}

#[mp::test]
fn the_next_owner_gets_the_guard_and_is_told() {
    within(LIMIT, || {
        let value = mp::shared!(0_u64).unwrap();
        let process = mp::spawn!(die_with(value.clone())).unwrap();
        let pid = process.id();
        process.join().unwrap_err();
        let poisoned = value.lock().unwrap_err();
        assert_eq!(poisoned.cause(), PoisonCause::OwnerDied { pid });
        assert_eq!(*poisoned.into_inner(), 7);
        value.clear_poison();
        assert_eq!(value.get().unwrap(), 7);
    });
}

#[mp::process_fn]
fn fill(mut chunk: ArrayChunk<u32>, with: u32) {
    chunk.fill(with);
}

#[mp::process_fn]
fn fill_and_return(mut chunk: ArrayChunk<u32>) -> ArrayChunk<u32> {
    let start = chunk.start() as u32;
    chunk
        .iter_mut()
        .zip(start..)
        .for_each(|(item, n)| *item = n);
    chunk
}

#[mp::test]
fn chunks_are_written_by_workers_without_a_lock() {
    within(LIMIT, || {
        let array: Array<u32> = Array::zeroed(1001).unwrap();
        let pool = Pool::new(2).unwrap();
        let chunks = array.split(7);
        assert_eq!(
            chunks.iter().map(|chunk| chunk.len()).collect::<Vec<_>>(),
            [143; 7]
        );
        pool.starmap(fill, chunks.into_iter().zip(1..)).unwrap();
        let items = array.lock().unwrap();
        assert!(
            items
                .iter()
                .enumerate()
                .all(|(n, &item)| item == n as u32 / 143 + 1)
        );
        drop(items);

        let back = pool.map(fill_and_return, array.split(3)).unwrap();
        assert!(array.try_lock().is_err());
        assert!(back.iter().map(|chunk| chunk.len()).eq([334, 334, 333]));
        drop(back);
        let items = array.lock().unwrap();
        assert!(items.iter().copied().eq(0..1001));
    });
}
