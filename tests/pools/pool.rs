//! Pools: order, chunks, options, lazy maps, tasks.

use std::cell::Cell;
use std::future::Future as _;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::watchdog::{until, within};
use mp::{ErrorKind, Pool, TaskOptions};

const LIMIT: Duration = Duration::from_secs(120);

/// Takes a moment, but not long.
#[mp::process_fn]
fn square_slowly(x: i64) -> i64 {
    std::thread::sleep(Duration::from_millis(1));
    x * x
}

#[mp::process_fn]
fn square(x: i64) -> i64 {
    x * x
}

#[mp::process_fn]
fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[mp::process_fn]
fn nothing() {}

#[mp::process_fn]
fn fails_on_odd(x: u32) -> Result<u32, String> {
    if x.is_multiple_of(2) {
        Ok(x)
    } else {
        Err(format!("{x} is odd"))
    }
}

#[mp::process_fn]
fn panics_from(first: u32, x: u32) -> u32 {
    assert!(x < first, "{x} is too large");
    x
}

#[mp::process_fn]
fn spin() {
    loop {
        std::hint::spin_loop();
    }
}

#[mp::process_fn(timeout = "50ms")]
fn spin_at_most_50_ms() {
    loop {
        std::hint::spin_loop();
    }
}

#[mp::process_fn]
fn worker() -> (u32, Option<usize>, String) {
    let me = mp::current();
    (me.id, me.worker_index, me.name)
}

#[mp::process_fn]
fn sum_of_squares_in_a_pool_of_its_own(count: i64) -> i64 {
    let pool = Pool::new(2).expect("a worker can have a pool");
    let squares = pool.map(square, 0..count).expect("it works there too");
    squares.into_iter().sum()
}

/// Dies as often as it finds no mark of an earlier life, and says how often that was.
#[mp::process_fn]
fn dies_at_first(marks: &str, times: usize) -> usize {
    let lives = std::fs::read_dir(marks)
        .expect("the directory is there")
        .count();
    if lives < times {
        std::fs::write(format!("{marks}/{lives}"), "").expect("it can be written");
        std::process::abort();
    }
    lives
}

#[mp::test]
fn results_come_in_the_order_of_the_items() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        for count in [0, 1, 2, 10, 1000, 50_000] {
            let squares = pool.map(square, 0..count).expect("nothing fails");
            assert!(squares.into_iter().eq((0..count).map(|x| x * x)));
        }
        for size in [0, 1, 7, 1000, usize::MAX] {
            let options = TaskOptions::new().chunk_size(size);
            let squares = pool
                .with(options)
                .map(square, 0..1000)
                .expect("nothing fails");
            assert!(squares.into_iter().eq((0..1000).map(|x| x * x)));
        }
        assert_eq!(
            pool.starmap(add, [(1, 2), (3, 4)]).expect("nothing fails"),
            [3, 7]
        );
        assert_eq!(
            pool.starmap(nothing, [(), (), ()]).expect("nothing fails"),
            [(); 3]
        );
        assert_eq!(pool.apply(add, (1, 2)).expect("nothing fails"), 3);
        let results: Vec<_> = pool.imap(square, 0..100).map(Result::ok).collect();
        assert!(results.into_iter().eq((0..100).map(|x| Some(x * x))));
        let mut unordered: Vec<_> = pool.imap_unordered(square, 0..100).collect();
        unordered.sort_by_key(|(place, _)| *place);
        for (place, (number, result)) in unordered.into_iter().enumerate() {
            let expected = (place * place) as i64;
            assert_eq!((number, result.expect("nothing fails")), (place, expected));
        }
        pool.join().expect("everything was done");
    });
}

#[mp::test]
fn a_result_of_the_functions_own_is_no_error() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let results = pool
            .map(fails_on_odd, 0..3)
            .expect("none of them dies or panics");
        assert_eq!(results, [Ok(0), Err("1 is odd".to_owned()), Ok(2)]);
    });
}

#[mp::test]
fn the_first_error_is_that_of_the_first_item() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        for size in [None, Some(1), Some(13)] {
            let options = size.map_or(TaskOptions::new(), |size| {
                TaskOptions::new().chunk_size(size)
            });
            let items = (0..1000).map(|x| (300, x));
            let error = pool
                .with(options)
                .starmap(panics_from, items)
                .expect_err("most fail");
            assert_eq!(
                (error.kind(), error.item()),
                (ErrorKind::Panicked, Some(300))
            );
        }
        let task = pool
            .submit_map(fails_on_odd, 0..10)
            .expect("the pool is open");
        assert_eq!(task.join().expect("none of them dies").len(), 10);
    });
}

#[mp::test]
fn promise_22_a_lazy_map_pulls_a_bounded_window() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let pulled = Rc::new(Cell::new(0));
        let count = Rc::clone(&pulled);
        let endless = (0..).inspect(move |_| count.set(count.get() + 1));
        let mut squares = pool.imap(square, endless);
        assert_eq!(pulled.get(), 0);
        for x in 0..5000_i64 {
            let result = squares.next().expect("it is endless");
            assert_eq!(result.expect("nothing fails"), x * x);
            let ahead = pulled.get() - (x + 1);
            // A few, or as many as were consumed, if they are short; 512 for each worker at most.
            let most = x.clamp(16, 1024);
            assert!(
                (0..=most).contains(&ahead),
                "{ahead} items were pulled ahead"
            );
        }
        drop(squares);
        let count = Rc::clone(&pulled);
        pulled.set(0);
        let endless = (0..).inspect(move |_| count.set(count.get() + 1));
        let options = TaskOptions::new().chunk_size(10);
        let mut unordered = pool.with(options).imap_unordered(square, endless);
        for taken in 1..=1000 {
            let (place, result) = unordered.next().expect("it is endless");
            assert_eq!(result.expect("nothing fails"), (place * place) as i64);
            let most = taken.max(80);
            assert!(
                pulled.get() - taken <= most,
                "{} items were pulled",
                pulled.get()
            );
        }
        drop(unordered);
        // Of long ones just a few, however many were consumed.
        let count = Rc::clone(&pulled);
        pulled.set(0);
        let endless = (0..).inspect(move |_| count.set(count.get() + 1));
        let mut long = pool.imap(square_slowly, endless);
        for x in 0..200_i64 {
            let result = long.next().expect("it is endless");
            assert_eq!(result.expect("nothing fails"), x * x);
            assert!(pulled.get() - (x + 1) <= 16, "{} were pulled", pulled.get());
        }
        drop(long);
        assert_eq!(pool.apply(square, (3,)).expect("it is usable"), 9);
    });
}

#[mp::test]
fn an_iterator_that_panics_ends_its_map_alone() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let items = || (0..100).inspect(|&x: &i64| assert!(x < 50, "the iterator gave up"));
        let map = std::panic::AssertUnwindSafe(|| drop(pool.map(square, items())));
        assert!(std::panic::catch_unwind(map).is_err());
        let imap = std::panic::AssertUnwindSafe(|| pool.imap(square, items()).count());
        assert!(std::panic::catch_unwind(imap).is_err());
        assert_eq!(pool.map(square, 0..3).expect("it is usable"), [0, 1, 4]);
        pool.join().expect("nothing is left of them");
    });
}

#[mp::test]
fn an_iterator_may_use_the_pool_it_feeds() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let items = (0..20).map(|x| pool.apply(square, (x,)).expect("nothing fails"));
        let fourth_powers = pool.map(square, items).expect("nothing fails");
        assert!(fourth_powers.into_iter().eq((0..20_i64).map(|x| x.pow(4))));
    });
}

#[mp::test]
fn many_threads_share_a_pool() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        std::thread::scope(|scope| {
            for thread in 0..6 {
                let pool = &pool;
                scope.spawn(move || {
                    for _ in 0..5 {
                        let items = thread..thread + 300;
                        let squares = pool.map(square, items.clone()).expect("nothing fails");
                        assert!(squares.into_iter().eq(items.map(|x| x * x)));
                        assert_eq!(pool.apply(add, (thread, 1)).expect("it works"), thread + 1);
                    }
                });
            }
        });
    });
}

#[mp::test]
fn a_short_call_does_not_wait_for_a_long_map() {
    within(LIMIT, || {
        let pool = Pool::new(1).expect("a pool can be started");
        let options = TaskOptions::new().chunk_size(1);
        let mut endless = pool.with(options).imap(square, 0..);
        assert!(endless.next().is_some_and(|result| result.is_ok()));
        let long = pool
            .submit_map(square, 0..100_000)
            .expect("the pool is open");
        assert_eq!(pool.apply(square, (2,)).expect("it has its turn"), 4);
        assert_eq!(long.join().expect("nothing fails").len(), 100_000);
    });
}

#[mp::test]
fn tasks_are_waited_for_polled_and_cancelled() {
    within(LIMIT, || {
        let pool = Pool::new(1).expect("a pool can be started");
        let running = pool.submit(spin, ()).expect("the pool is open");
        let queued = pool.submit(square, (3,)).expect("the pool is open");
        let last = pool.submit(square, (4,)).expect("the pool is open");
        assert!(!running.wait_timeout(Duration::from_millis(20)) && !running.is_finished());
        assert!(queued.cancel() && queued.is_finished());
        assert!(running.cancel());
        for error in [running.join().map(|()| 0), queued.join()] {
            assert_eq!(error.expect_err("cancelled").kind(), ErrorKind::Cancelled);
        }
        assert_eq!(last.join().expect("the worker was replaced"), 16);
        drop(pool.submit(square, (5,)).expect("the pool is open"));
        pool.join().expect("what was dropped ran on");
    });
}

#[mp::test]
fn a_call_that_takes_too_long_is_stopped() {
    within(LIMIT, || {
        let pool = Pool::new(1).expect("a pool can be started");
        let by_attribute = pool.apply(spin_at_most_50_ms, ());
        let options = TaskOptions::new().timeout(Duration::from_millis(20));
        let by_options = pool.with(options).apply(spin, ());
        for result in [by_attribute, by_options] {
            let error = result.expect_err("it spins for ever");
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
            assert!(error.process_id().is_some() && error.function().is_some());
        }
        let strict = Pool::builder()
            .workers(1)
            .task_timeout(Duration::from_millis(20))
            .build();
        let strict = strict.expect("a pool can be started");
        assert_eq!(
            strict.apply(spin, ()).expect_err("too long").kind(),
            ErrorKind::TimedOut
        );
        assert_eq!(
            strict
                .map(square, 0..500)
                .expect("none of them is slow")
                .len(),
            500
        );
    });
}

#[mp::test]
fn a_call_whose_worker_died_is_tried_again_as_often_as_was_asked() {
    within(LIMIT, || {
        let pool = Pool::builder()
            .workers(2)
            .retries(3)
            .build()
            .expect("a pool can be started");
        for (times, fits) in [(3, true), (4, false)] {
            let marks =
                std::env::temp_dir().join(format!("mp-retry-{}-{times}", std::process::id()));
            std::fs::create_dir(&marks).expect("it can be made");
            let path = marks.to_str().expect("it is UTF-8").to_owned();
            let result = pool.apply(dies_at_first, (path, times));
            std::fs::remove_dir_all(&marks).expect("it was made here");
            match result {
                Ok(lives) => assert!(fits && lives == times),
                Err(error) => assert!(!fits && error.kind() == ErrorKind::Died, "{error}"),
            }
        }
        // A panic is a result, and no accident.
        let error = pool.apply(panics_from, (0, 1)).expect_err("it panics");
        assert_eq!(error.kind(), ErrorKind::Panicked);
    });
}

#[mp::test]
fn workers_have_names_and_places() {
    within(LIMIT, || {
        let pool = Pool::builder()
            .workers(2)
            .name("render")
            .build()
            .expect("it can be started");
        let workers = pool.workers();
        let names: Vec<_> = workers.iter().map(|info| info.name.as_str()).collect();
        assert_eq!(names, ["render-worker-0", "render-worker-1"]);
        let (id, place, name) = pool.apply(worker, ()).expect("it returned");
        let place = place.expect("it is the worker of a pool");
        assert_eq!((id, name), (workers[place].id, workers[place].name.clone()));
        let error = pool.apply(panics_from, (0, 1)).expect_err("it panics");
        assert!(error.to_string().contains("of `render`"), "{error}");
        pool.terminate();
        until(|| pool.workers().is_empty());
    });
}

#[mp::test]
fn pools_nest() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let sums = pool.map(sum_of_squares_in_a_pool_of_its_own, [3, 4]);
        assert_eq!(sums.expect("each has its own pool"), [5, 14]);
    });
}

#[mp::test]
fn a_pool_that_is_closed_or_terminated_takes_no_work() {
    within(LIMIT, || {
        let error = Pool::new(0).map(drop).expect_err("nobody could work");
        assert_eq!(error.kind(), ErrorKind::Spawn);
        let error = Pool::new(usize::MAX)
            .map(drop)
            .expect_err("so many do not fit");
        assert_eq!(error.kind(), ErrorKind::Spawn);
        let (closed, terminated) = (Pool::new(1), Pool::new(1));
        let (closed, terminated) = (closed.expect("it starts"), terminated.expect("it starts"));
        closed.close();
        terminated.terminate();
        for pool in [&closed, &terminated] {
            let kinds = [
                pool.apply(square, (1,)).map(drop),
                pool.map(square, 0..3).map(drop),
                pool.submit(square, (1,)).map(drop),
                pool.submit_map(square, 0..3).map(drop),
                pool.imap(square, 0..3).next().expect("one error").map(drop),
                pool.imap_unordered(square, 0..3)
                    .next()
                    .expect("one error")
                    .1
                    .map(drop),
            ]
            .map(|result| result.expect_err("it takes no work").kind());
            assert_eq!(kinds, [ErrorKind::Closed; 6]);
            assert_eq!(pool.imap(square, 0..3).count(), 1);
        }
        assert!(closed.join().is_ok());
    });
}

#[mp::test]
fn a_lazy_map_goes_on_in_a_closed_pool_until_that_is_joined() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let squares = pool.imap(square, 0..100);
        pool.close();
        assert_eq!(squares.filter(Result::is_ok).count(), 100);
        pool.join().expect("everything was done");

        let pool = Pool::new(2).expect("a pool can be started");
        let mut squares = pool.imap(square, 0..1000);
        assert!(squares.next().is_some_and(|result| result.is_ok()));
        pool.join().expect("what was pulled was done");
        let rest: Vec<_> = squares
            .map(|result| result.map_err(|error| error.kind()))
            .collect();
        assert_eq!(rest.last(), Some(&Err(ErrorKind::Closed)));
        assert!(rest.len() < 20, "it went on after the end: {}", rest.len());
    });
}

#[mp::test]
fn the_process_wide_pool_is_there_when_it_is_used() {
    within(LIMIT, || {
        assert_eq!(mp::pool::map(square, 0..3).expect("it works"), [0, 1, 4]);
        assert_eq!(mp::pool::starmap(add, [(1, 2)]).expect("it works"), [3]);
        assert_eq!(mp::pool::apply(add, (1, 2)).expect("it works"), 3);
        let task = mp::pool::submit(square, (3,)).expect("it is open");
        assert_eq!(task.join().expect("it works"), 9);
        let task = mp::pool::submit_map(square, 0..3).expect("it is open");
        assert_eq!(task.join().expect("it works"), [0, 1, 4]);
        assert_eq!(
            mp::pool::imap(square, 0..)
                .take(5)
                .filter(Result::is_ok)
                .count(),
            5
        );
        assert_eq!(mp::pool::imap_unordered(square, 0..5).count(), 5);
    });
}

#[mp::test]
fn promise_05_results_that_nobody_takes_hold_nobody_up() {
    const TASKS: usize = 20_000;
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let submit = |number: usize| pool.submit(square, (number as i64,)).expect("it is open");
        let tasks: Vec<_> = (0..TASKS).map(submit).collect();
        until(|| pool.stats().done == TASKS);
        for (number, task) in tasks.into_iter().enumerate() {
            task.wait();
            assert_eq!(task.join().expect("it works"), (number * number) as i64);
        }
        pool.join().expect("all is done");
    });
}

/// Counts how often it is woken.
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[mp::test]
fn promise_05_everyone_who_waits_is_woken() {
    const TASKS: usize = 400;
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let submit = |number: usize| pool.submit(square, (number as i64,)).expect("it is open");
        for _ in 0..5 {
            std::thread::scope(|scope| {
                // One at a time; any of those that are left; futures.
                scope.spawn(|| (0..TASKS).for_each(|number| submit(number).wait()));
                scope.spawn(|| {
                    let mut left: Vec<_> = (0..TASKS / 4).map(submit).collect();
                    while !left.is_empty() {
                        let waitables: Vec<&dyn mp::Waitable> =
                            left.iter().map(|task| task as &dyn mp::Waitable).collect();
                        let first = mp::wait_any(&waitables, None).expect("it can wait");
                        let task = left.swap_remove(first.expect("there is no limit"));
                        assert!(task.is_finished());
                    }
                });
                scope.spawn(|| {
                    for number in 0..TASKS {
                        let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
                        let waker = Waker::from(Arc::clone(&wakes));
                        let mut task = submit(number);
                        let mut poll =
                            || Pin::new(&mut task).poll(&mut Context::from_waker(&waker));
                        if let Poll::Ready(result) = poll() {
                            assert_eq!(result.expect("it works"), (number * number) as i64);
                            continue;
                        }
                        until(|| wakes.0.load(Ordering::SeqCst) > 0);
                        let is_ready = matches!(poll(), Poll::Ready(Ok(_)));
                        assert!(is_ready, "it was woken for its result");
                    }
                });
            });
        }
        pool.join().expect("all is done");
    });
}
