//! Handles to shared memory, in and out of processes.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::watchdog::within;
use mp::prelude::*;
use mp::sync::{Mutex, PoisonCause};
use serde::{Deserialize, Serialize};

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

#[mp::process_fn]
fn count_slowly(mut chunk: ArrayChunk<u32>, go: Shared<AtomicU64>) {
    while go.load(Ordering::Relaxed) == 0 {
        std::thread::yield_now();
    }
    chunk.fill(7);
}

#[mp::test]
fn a_chunk_that_waits_in_a_pool_keeps_the_array_from_being_locked() {
    within(LIMIT, || {
        let array: Array<u32> = Array::zeroed(10).unwrap();
        let go = Shared::new(AtomicU64::new(0)).unwrap();
        let pool = Pool::new(1).unwrap();
        let tasks: Vec<_> = array
            .split(3)
            .into_iter()
            .map(|chunk| pool.submit(count_slowly, (chunk, go.clone())).unwrap())
            .collect();
        assert!(array.try_lock().is_err());
        go.store(1, Ordering::Relaxed);
        assert!(array.lock().unwrap().iter().all(|&item| item == 7));
        for task in tasks {
            task.join().unwrap();
        }
        assert!(array.try_lock().is_ok());
    });
}

#[mp::process_fn]
fn give_back_and_lock(chunk: ArrayChunk<u32>, array: Array<u32>) -> u32 {
    drop(chunk);
    array.lock().unwrap().iter().sum()
}

#[mp::test]
fn who_has_dropped_its_chunk_can_lock_the_array_in_the_same_call() {
    within(LIMIT, || {
        let array = Array::from_slice(&[1, 2, 3]).unwrap();
        let chunk = array.split(1).pop().unwrap();
        let process = mp::spawn!(give_back_and_lock(chunk, array.clone())).unwrap();
        assert_eq!(process.join().unwrap(), 6);
        let pool = Pool::new(1).unwrap();
        let chunk = array.split(1).pop().unwrap();
        let sum = pool.apply(give_back_and_lock, (chunk, array.clone()));
        assert_eq!(sum.unwrap(), 6);
    });
}

/// Sends a chunk and keeps it, as `Arc` does with serde's feature `rc`.
struct Kept(std::sync::Arc<ArrayChunk<u32>>);

impl Serialize for Kept {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Takes a chunk out of its message as often as it can.
impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Kept, D::Error> {
        use serde::de::{Error as _, IntoDeserializer as _};
        let first = ArrayChunk::deserialize(deserializer)?;
        let again: serde::de::value::U32Deserializer<serde::de::value::Error> =
            0_u32.into_deserializer();
        match ArrayChunk::<u32>::deserialize(again) {
            Ok(_) => Err(D::Error::custom("the chunk is there twice")),
            Err(_) => Ok(Kept(std::sync::Arc::new(first))),
        }
    }
}

#[mp::process_fn]
fn write_kept(kept: Kept) {
    assert!(!kept.0.is_empty());
}

#[mp::test]
fn a_chunk_is_in_one_place() {
    within(LIMIT, || {
        let array: Array<u32> = Array::zeroed(10).unwrap();
        let chunk = std::sync::Arc::new(array.split(1).pop().unwrap());
        let seen: &[u32] = &chunk;
        let pool = Pool::new(1).unwrap();
        for _ in 0..2 {
            let error = pool.apply(write_kept, (Kept(chunk.clone()),)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Encode, "{error}");
        }
        assert!(array.try_lock().is_err());
        assert_eq!(seen, [0; 10]);
        drop(chunk);
        assert!(array.try_lock().is_ok());
        // Moved in, it arrives, and once.
        let chunk = std::sync::Arc::new(array.split(1).pop().unwrap());
        pool.apply(write_kept, (Kept(chunk),)).unwrap();
        assert!(array.lock().is_ok());
    });
}

#[mp::process_fn]
fn die_the_first_time(mut chunk: ArrayChunk<Option<char>>, tries: Shared<AtomicU64>) {
    chunk.fill(Some('x'));
    if tries.fetch_add(1, Ordering::Relaxed) == 0 {
        std::process::abort();
    }
}

#[mp::test]
fn a_chunk_is_tried_again_and_the_array_tells_of_the_first_try() {
    within(LIMIT, || {
        let array = Array::from_slice(&[None; 10]).unwrap();
        let tries = Shared::new(AtomicU64::new(0)).unwrap();
        let pool = Pool::builder().workers(1).retries(2).build().unwrap();
        let chunk = array.split(1).pop().unwrap();
        let call = (chunk, tries.clone());
        pool.apply(die_the_first_time, call).unwrap();
        assert_eq!(tries.load(Ordering::Relaxed), 2);
        let poisoned = array.lock().unwrap_err();
        assert!(matches!(poisoned.cause(), PoisonCause::OwnerDied { .. }));
        assert!(poisoned.into_inner().iter().all(|&item| item == Some('x')));
    });
}
