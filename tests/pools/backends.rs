//! The same pool over processes, threads, and none of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::watchdog::{until, within};
use mp::sync::Event;
use mp::{Array, ArrayChunk, Backend, ErrorKind, Pool, Receiver, Sender, Shared, TaskOptions};

const LIMIT: Duration = Duration::from_secs(120);
const BACKENDS: [Backend; 3] = [Backend::Processes, Backend::Threads, Backend::Inline];

#[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
struct Lossy {
    kept: u32,
    #[serde(skip)]
    lost: u32,
}

#[mp::process_fn]
fn square(x: i64) -> i64 {
    x * x
}

#[mp::process_fn]
fn lossy(kept: u32) -> Lossy {
    Lossy { kept, lost: 7 }
}

#[mp::process_fn]
fn panics_on_3(x: i64) -> i64 {
    assert!(x != 3, "{x} is odd");
    x
}

#[mp::process_fn]
fn length(text: &str, items: &[f64]) -> usize {
    text.len() + items.len()
}

#[mp::process_fn]
fn whose() -> (u32, String, Option<usize>) {
    let me = mp::current();
    (me.id, me.name, me.worker_index)
}

#[mp::process_fn]
fn take(jobs: Receiver<u32>, results: Sender<u32>) -> u32 {
    let job = jobs.recv().expect("a job is there");
    results.send(job * 2).expect("somebody listens");
    job
}

#[mp::process_fn]
fn fill(mut part: ArrayChunk<u64>, value: u64) {
    part.fill(value);
}

#[mp::process_fn]
fn sums(count: i64) -> i64 {
    let pool = Pool::builder().workers(2).backend(Backend::Threads);
    let pool = pool.build().expect("a pool can be made");
    pool.map(square, 0..count)
        .expect("nothing fails")
        .iter()
        .sum()
}

#[mp::process_fn]
fn slow(millis: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(millis));
    millis
}

#[mp::process_fn]
fn wait_for(event: Shared<Event>) {
    event.wait();
}

fn pool(backend: Backend) -> Pool {
    let builder = Pool::builder().workers(2).backend(backend).name("p");
    builder.build().expect("a pool can be made")
}

#[mp::test]
fn results_are_the_same() {
    within(LIMIT, || {
        for backend in BACKENDS {
            let pool = pool(backend);
            let squares: Vec<i64> = (0..2000).map(|x| x * x).collect();
            assert_eq!(pool.map(square, 0..2000).expect("nothing fails"), squares);
            let lazy: Result<Vec<i64>, _> = pool.imap(square, 0..2000).collect();
            assert_eq!(lazy.expect("nothing fails"), squares);
            let mut unordered: Vec<_> = pool.imap_unordered(square, 0..100).collect();
            unordered.sort_by_key(|(place, _)| *place);
            assert_eq!(unordered.len(), 100);
            let result = pool.apply(lossy, (1,)).expect("it returns");
            assert_eq!(result, Lossy { kept: 1, lost: 0 });
            let text = ("four".to_owned(), vec![0.5; 3]);
            assert_eq!(pool.apply(length, text).expect("it returns"), 7);
            let error = pool.map(panics_on_3, 0..10).expect_err("one panics");
            assert_eq!((error.kind(), error.item()), (ErrorKind::Panicked, Some(3)));
            let panic = error.panic().expect("it panicked");
            assert_eq!(panic.message(), "3 is odd");
            assert!(
                panic
                    .location()
                    .is_some_and(|place| place.contains("backends.rs"))
            );
            let task = pool.submit_map(square, 0..3).expect("the pool is open");
            assert_eq!(task.join().expect("nothing fails"), [0, 1, 4]);
            assert_eq!(pool.apply(sums, (4,)).expect("pools nest"), 14);
            let stats = pool.stats();
            assert_eq!((stats.queued, stats.running), (0, 0), "{stats:?}");
            assert!(stats.done > 4000 && stats.failed >= 1, "{stats:?}");
            pool.join().expect("all is done");
        }
    });
}

#[mp::test]
fn functions_know_whose_worker_they_run_in() {
    within(LIMIT, || {
        for backend in BACKENDS {
            let pool = pool(backend);
            let workers = pool.workers();
            let (id, name, index) = pool.apply(whose, ()).expect("it returns");
            let index = index.expect("it is the worker of a pool");
            assert_eq!((&workers[index].name, workers[index].id), (&name, id));
            assert_eq!(name, format!("p-worker-{index}"));
            assert_eq!(id == std::process::id(), backend != Backend::Processes);
            assert_eq!(mp::current().worker_index, None);
        }
    });
}

#[mp::test]
fn handles_are_the_same_objects() {
    within(LIMIT, || {
        for backend in BACKENDS {
            let pool = pool(backend);
            let (jobs, to_do) = mp::channel(10).expect("there is memory");
            let (results, done) = mp::channel(10).expect("there is memory");
            for job in 0..3 {
                jobs.send(job).expect("it is open");
                let ends = (to_do.clone(), results.clone());
                assert_eq!(pool.apply(take, ends).expect("it returns"), job);
            }
            drop(results);
            assert_eq!(done.iter().collect::<Vec<_>>(), [0, 2, 4], "{backend:?}");
            let array = Array::<u64>::zeroed(10).expect("there is memory");
            let parts = array.split(3).into_iter().zip(1..);
            pool.starmap(fill, parts).expect("nothing fails");
            let filled = array.lock().expect("nobody died with a part");
            assert_eq!(*filled, [1, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
        }
    });
}

#[mp::test]
fn what_takes_too_long_is_an_error() {
    within(LIMIT, || {
        for backend in BACKENDS {
            let pool = pool(backend);
            let options = TaskOptions::new()
                .timeout(Duration::from_millis(20))
                .retries(1);
            let error = pool
                .with(options)
                .apply(slow, (60,))
                .expect_err("it takes too long");
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
            assert_eq!(pool.apply(slow, (0,)).expect("it is usable"), 0);
            pool.join().expect("all is done");
        }
    });
}

#[mp::test]
fn a_thread_that_runs_on_is_let_go_of() {
    within(LIMIT, || {
        let builder = Pool::builder().workers(1).backend(Backend::Threads);
        let pool = builder.build().expect("a pool can be made");
        let event = Shared::new(Event::new()).expect("there is memory");
        let task = pool
            .submit(wait_for, (event.clone(),))
            .expect("the pool is open");
        until(|| pool.stats().running == 1);
        assert!(task.cancel());
        let error = task.join().expect_err("it was cancelled");
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(
            pool.apply(square, (3,)).expect("another thread is there"),
            9
        );
        assert_eq!(pool.stats().restarts, 1);
        let task = pool
            .submit(wait_for, (event.clone(),))
            .expect("the pool is open");
        until(|| pool.stats().running == 1);
        pool.terminate();
        let error = task.join().expect_err("the pool was terminated");
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        event.set();
    });
}

#[mp::test]
fn a_limit_on_memory_is_for_processes() {
    within(LIMIT, || {
        for backend in [Backend::Threads, Backend::Inline] {
            let builder = Pool::builder().backend(backend).memory_limit(1 << 30);
            let error = builder.build().expect_err("threads share their memory");
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
    });
}

#[mp::process_fn]
fn count_up(starts: Shared<AtomicU64>) -> Result<(), String> {
    let before = starts.fetch_add(1, Ordering::SeqCst);
    match before < 2 {
        true => Ok(()),
        false => Err(format!("{before} are enough")),
    }
}

#[mp::test]
fn initializers_run_in_every_worker() {
    within(LIMIT, || {
        for backend in BACKENDS {
            let starts = Shared::new(AtomicU64::new(0)).expect("there is memory");
            let builder = Pool::builder().workers(2).backend(backend);
            let builder = builder.initializer(count_up, (starts.clone(),));
            let pool = builder.clone().build().expect("two may start");
            assert_eq!(pool.apply(square, (3,)).expect("it is there"), 9);
            if backend == Backend::Inline {
                count_up(starts.clone()).expect("it is the second one");
            }
            let error = builder.build().expect_err("more must not start");
            assert_eq!(error.kind(), ErrorKind::Initializer);
            assert!(error.to_string().contains(" are enough"), "{error}");
            let error = pool.resize(3).err();
            let kind = (backend != Backend::Inline).then_some(ErrorKind::Initializer);
            assert_eq!(error.map(|error| error.kind()), kind);
            assert_eq!(pool.apply(square, (3,)).expect("it is as it was"), 9);
        }
    });
}

#[mp::process_fn]
fn count_and_fail(runs: Shared<AtomicU64>, number: u64) {
    runs.fetch_add(1, Ordering::SeqCst);
    assert!(number < 5, "{number} is too large");
}

#[mp::test]
fn without_workers_nothing_runs_after_the_first_error() {
    within(LIMIT, || {
        let pool = pool(Backend::Inline);
        let runs = Shared::new(AtomicU64::new(0)).expect("there is memory");
        let items = (0..100).map(|number| (runs.clone(), number));
        let error = pool.starmap(count_and_fail, items).expect_err("most fail");
        assert_eq!((error.kind(), error.item()), (ErrorKind::Panicked, Some(5)));
        assert_eq!(runs.load(Ordering::SeqCst), 6);
    });
}

#[mp::process_fn]
fn count_and_nap(runs: Shared<AtomicU64>) {
    runs.fetch_add(1, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(5));
}

#[mp::test]
fn without_workers_terminate_ends_retries_as_well() {
    within(LIMIT, || {
        let pool = pool(Backend::Inline);
        let runs = Shared::new(AtomicU64::new(0)).expect("there is memory");
        let options = TaskOptions::new()
            .timeout(Duration::from_millis(1))
            .retries(u32::MAX);
        std::thread::scope(|scope| {
            let call = || pool.with(options).apply(count_and_nap, (runs.clone(),));
            let call = scope.spawn(call);
            until(|| runs.load(Ordering::SeqCst) > 2);
            pool.terminate();
            let error = call
                .join()
                .expect("it does not panic")
                .expect_err("it takes too long");
            assert_eq!(error.kind(), ErrorKind::Cancelled);
        });
    });
}

/// Takes more than the 2 MiB that a thread has by default: each call has a frame above 4 KiB.
fn deeper(depth: usize) -> usize {
    let frame = std::hint::black_box([depth; 512]);
    match depth {
        0 => 0,
        _ => deeper(depth - 1) + usize::from(frame[depth % 512] == depth),
    }
}

#[mp::process_fn]
fn deep(depth: usize) -> usize {
    deeper(depth)
}

#[mp::test]
fn threads_have_the_stack_of_a_main_thread() {
    within(LIMIT, || {
        let pool = pool(Backend::Threads);
        assert_eq!(pool.apply(deep, (700,)).expect("there is room"), 700);
    });
}

#[mp::test]
fn callbacks_and_results_in_their_order_are_the_same() {
    within(LIMIT, || {
        for backend in BACKENDS {
            let pool = pool(backend);
            let (told, heard) = std::sync::mpsc::channel();
            let submit = |x| {
                let task = pool.submit(panics_on_3, (x,)).expect("the pool is open");
                let told = told.clone();
                task.on_done(move |result| {
                    let outcome = result.as_ref().map_err(mp::Error::kind);
                    told.send((x, outcome.copied())).expect("somebody listens");
                });
                task
            };
            let tasks: Vec<_> = (0..6).map(submit).collect();
            let mut results: Vec<_> = mp::as_completed(tasks)
                .map(|result| result.map_err(|error| error.kind()))
                .collect();
            results.sort_by_key(|result| result.unwrap_or(3));
            let expected = |x| {
                if x == 3 {
                    Err(ErrorKind::Panicked)
                } else {
                    Ok(x)
                }
            };
            assert_eq!(results, (0..6).map(expected).collect::<Vec<_>>());
            // Its callbacks have returned when `join` does.
            pool.join().expect("all is done");
            let mut heard: Vec<_> = heard.try_iter().collect();
            heard.sort_by_key(|(x, _)| *x);
            assert!(heard.into_iter().eq((0..6).map(|x| (x, expected(x)))));
        }
    });
}
