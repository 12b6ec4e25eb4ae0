//! What is done with the result of a task: callbacks, `as_completed`, futures.

use std::fs::{self, File};
use std::future::Future;
use std::iter;
use std::panic::panic_any;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use mp::{Error, ErrorKind, Pool, Task, TaskOptions};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::programs::{self, Directory, program, say};
use crate::watchdog::{until, within};

const LIMIT: Duration = Duration::from_secs(120);

#[mp::process_fn]
fn echo(number: u64) -> u64 {
    number
}

#[mp::process_fn]
fn wait_for(path: &str) -> u64 {
    until(|| fs::exists(path).expect("a path can be looked at"));
    path.len() as u64
}

/// Returns, dies, panics, or waits for a file after it has made another, as its item says.
#[mp::process_fn]
fn act(what: &str) -> String {
    match what {
        "die" => std::process::abort(),
        "panic" => panic!("asked to"),
        path if path.starts_with('/') => {
            touch(&format!("{path}.begun"));
            until(|| fs::exists(path).expect("it can be looked at"));
        }
        _ => {}
    }
    what.to_owned()
}

fn touch(path: &str) {
    File::create(path).expect("a file can be made");
}

fn kind<R>(result: &Result<R, Error>) -> Option<ErrorKind> {
    result.as_ref().err().map(Error::kind)
}

/// A callback that sends what it was called with.
fn report<R: Clone + Send + 'static>(
    to: &Sender<Result<R, ErrorKind>>,
) -> impl FnOnce(&Result<R, Error>) + Send + use<R> {
    let to = to.clone();
    move |result| {
        let result = result.clone().map_err(|error| error.kind());
        to.send(result).expect("somebody listens");
    }
}

#[track_caller]
fn next<T>(of: &Receiver<T>) -> T {
    of.recv().expect("another callback is called")
}

/// Nothing more comes, and nobody is left who could send.
#[track_caller]
fn check_over<T: PartialEq + std::fmt::Debug>(of: &Receiver<T>) {
    assert_eq!(of.recv().ok(), None, "each is called once");
}

#[mp::test]
fn callbacks_are_called_once_each_in_their_order() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        for round in 0..100 {
            let (calls, called) = channel();
            let task = pool.submit(echo, (round,)).expect("the pool is open");
            for number in 0..5 {
                let calls = calls.clone();
                task.on_done(move |result| {
                    let result = *result.as_ref().expect("it returns");
                    calls.send((number, result)).expect("the test listens");
                });
                if number == 2 && round % 3 == 0 {
                    // The rest is added to what is done.
                    task.wait();
                }
            }
            drop(calls);
            match round % 2 {
                0 => drop(task),
                _ => assert_eq!(task.join().expect("it returns"), round),
            }
            assert!(called.iter().eq((0..5).map(|number| (number, round))));
        }
    });
}

#[mp::test]
fn join_returns_after_the_callbacks() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        for round in 0..200 {
            let task = pool.submit(echo, (round,)).expect("the pool is open");
            let count = Arc::new(AtomicUsize::new(0));
            for _ in 0..3 {
                let count = Arc::clone(&count);
                task.on_done(move |_| {
                    thread::yield_now();
                    count.fetch_add(1, Ordering::SeqCst);
                });
            }
            if round % 2 == 0 {
                task.wait();
            }
            assert_eq!(task.join().expect("it returns"), round);
            assert_eq!(count.load(Ordering::SeqCst), 3);
        }
    });
}

#[mp::test]
fn neither_wait_nor_is_finished_waits_for_callbacks() {
    within(LIMIT, || {
        let pool = Pool::new(1).expect("a pool can be started");
        let task = pool.submit(echo, (1,)).expect("the pool is open");
        let (go, gone) = channel::<()>();
        let (calls, called) = channel();
        task.on_done(move |_| {
            calls.send(()).expect("the test listens");
            gone.recv().expect("the test says so");
        });
        next(&called);
        task.wait();
        assert!(task.is_finished());
        // Those of other pools do not wait for it either.
        let other = Pool::new(1).expect("a pool can be started");
        let (calls, called) = channel();
        let second = other.submit(echo, (2,)).expect("the pool is open");
        second.on_done(report(&calls));
        drop(second);
        assert_eq!(next(&called), Ok(2));
        go.send(()).expect("the callback listens");
        assert_eq!(task.join().expect("it returns"), 1);
    });
}

#[mp::test]
fn a_pool_is_joined_after_the_callbacks_of_its_tasks() {
    within(LIMIT, || {
        for _ in 0..10 {
            let pool = Pool::new(2).expect("a pool can be started");
            let is_joining = Arc::new(AtomicBool::new(false));
            let count = Arc::new(AtomicUsize::new(0));
            for number in 0..20 {
                let (is_joining, count) = (Arc::clone(&is_joining), Arc::clone(&count));
                let task = pool.submit(echo, (number,)).expect("the pool is open");
                task.on_done(move |_| {
                    until(|| is_joining.load(Ordering::SeqCst));
                    // Long enough for a join that does not wait to return.
                    thread::sleep(Duration::from_millis(1));
                    count.fetch_add(1, Ordering::SeqCst);
                });
            }
            is_joining.store(true, Ordering::SeqCst);
            pool.join().expect("everything was done");
            assert_eq!(count.load(Ordering::SeqCst), 20);
        }
    });
}

#[mp::test]
fn callbacks_get_the_error_of_what_was_cancelled() {
    within(LIMIT, || {
        let directory = Directory::new();
        let pool = Pool::new(1).expect("a pool can be started");
        let (calls, called) = channel();
        let submit = |name: &str| {
            let task = pool.submit(wait_for, (directory.join(name),));
            let task = task.expect("the pool is open");
            task.on_done(report(&calls));
            task
        };
        let (running, queued) = (submit("never"), submit("never"));
        assert!(queued.cancel());
        assert_eq!(next(&called), Err(ErrorKind::Cancelled));
        assert!(running.cancel());
        assert_eq!(next(&called), Err(ErrorKind::Cancelled));
        assert_eq!(kind(&running.join()), Some(ErrorKind::Cancelled));
        drop(calls);
        check_over(&called);
    });
}

#[mp::test]
fn callbacks_get_the_error_of_a_death_and_of_a_panic() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        for (what, expected) in [("die", ErrorKind::Died), ("panic", ErrorKind::Panicked)] {
            for is_dropped in [true, false] {
                let (calls, called) = channel();
                let task = pool.submit(act, (what.to_owned(),)).expect("it is open");
                task.on_done(report(&calls));
                task.on_done(report(&calls));
                drop(calls);
                if is_dropped {
                    drop(task);
                } else {
                    assert_eq!(kind(&task.join()), Some(expected));
                }
                assert_eq!(next(&called), Err(expected));
                assert_eq!(next(&called), Err(expected));
                check_over(&called);
            }
        }
    });
}

#[mp::test]
fn callbacks_are_called_when_their_pool_is_terminated_or_dropped() {
    within(LIMIT, || {
        for is_dropped in [true, false] {
            let directory = Directory::new();
            let pool = Pool::new(2).expect("a pool can be started");
            let (calls, called) = channel();
            let tasks: Vec<Task<u64>> = (0..10)
                .map(|_| {
                    let task = pool.submit(wait_for, (directory.join("never"),));
                    let task = task.expect("the pool is open");
                    task.on_done(report(&calls));
                    task
                })
                .collect();
            let mapped = pool.submit_map(echo, 0..100).expect("the pool is open");
            let (map_calls, map_called) = channel();
            mapped.on_done(report(&map_calls));
            drop(mapped);
            if is_dropped {
                drop(tasks);
                drop(pool);
            } else {
                pool.terminate();
            }
            for _ in 0..10 {
                assert_eq!(next(&called), Err(ErrorKind::Cancelled));
            }
            assert_eq!(next(&map_called), Err(ErrorKind::Cancelled));
            drop((calls, map_calls));
            check_over(&called);
            check_over(&map_called);
        }
    });
}

#[mp::test]
fn callbacks_of_a_map_get_its_vector() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let (calls, called) = channel();
        let task = pool.submit_map(echo, 0..1000).expect("the pool is open");
        task.on_done(report(&calls));
        drop(task);
        assert_eq!(next(&called), Ok(Vec::from_iter(0..1000)));
        let task = pool.submit_map(echo, 0..0).expect("the pool is open");
        task.on_done(report(&calls));
        drop((calls, task));
        assert_eq!(next(&called), Ok(Vec::new()));
        check_over(&called);
    });
}

#[mp::test]
fn callbacks_of_a_map_get_its_first_error_as_soon_as_it_is_known() {
    within(LIMIT, || {
        for is_joined in [true, false] {
            let directory = Directory::new();
            let (late, go) = (directory.join("late"), directory.join("go"));
            let pool = Pool::new(2).expect("a pool can be started");
            let items = [&late, "panic", &go, "nothing"].map(str::to_owned);
            let options = TaskOptions::new().chunk_size(1);
            let task = pool.with(options).submit_map(act, items);
            let task = task.expect("the pool is open");
            let (calls, called) = channel();
            task.on_done(report(&calls));
            drop(calls);
            // The third has begun, so the second has failed, while the first still runs.
            until(|| fs::exists(format!("{go}.begun")).expect("it can be looked at"));
            touch(&late);
            if is_joined {
                let error = task.join().expect_err("an item panics");
                assert_eq!(error.item(), Some(1));
            } else {
                drop(task);
            }
            // The third still runs, for ever if nobody allows it to end.
            assert_eq!(next(&called), Err(ErrorKind::Panicked));
            assert!(!fs::exists(&go).expect("it can be looked at"));
            touch(&go);
            pool.join().expect("the rest was done");
            check_over(&called);
        }
    });
}

#[mp::test]
fn a_callback_may_submit_and_wait() {
    within(LIMIT, || {
        // One worker, which nothing that waits may keep busy.
        let pool = Arc::new(Pool::new(1).expect("a pool can be started"));
        let (calls, called) = channel();
        let task = pool.submit(echo, (3,)).expect("the pool is open");
        let own = Arc::clone(&pool);
        task.on_done(move |result| {
            let first = *result.as_ref().expect("it returns");
            let sum: u64 = own.map(echo, 0..100).expect("they return").iter().sum();
            let second = own.submit(echo, (first + sum,)).expect("it is open");
            second.on_done(report(&calls));
        });
        drop(task);
        assert_eq!(next(&called), Ok(4953));
        check_over(&called);
    });
}

#[mp::test]
fn a_callback_may_join_other_tasks_that_have_callbacks() {
    /// Has the callback of each task join the next one, down to the last.
    fn chain(mut tasks: Vec<Task<u64>>, calls: Sender<u64>) {
        let Some(task) = tasks.pop() else { return };
        let rest = Mutex::new(tasks);
        let own = calls.clone();
        task.on_done(move |result| {
            let mut rest = std::mem::take(&mut *rest.lock().expect("nobody panics with it"));
            if let Some(next) = rest.pop() {
                next.join().expect("it returns");
            }
            let number = *result.as_ref().expect("it returns");
            own.send(number).expect("the test listens");
            chain(rest, own);
        });
        drop(task);
    }

    within(LIMIT, || {
        let pool = Pool::new(1).expect("a pool can be started");
        for _ in 0..50 {
            let (calls, called) = channel();
            let tasks: Vec<_> = (0..10)
                .map(|number| {
                    let task = pool.submit(echo, (number,)).expect("the pool is open");
                    let calls = calls.clone();
                    task.on_done(move |_| calls.send(100).expect("the test listens"));
                    task
                })
                .collect();
            chain(tasks, calls);
            let calls = called.iter();
            assert_eq!(calls.filter(|number| *number == 100).count(), 10);
        }
    });
}

#[mp::test]
fn a_callback_that_panics_harms_nobody() {
    struct PanicsAgain;
    impl Drop for PanicsAgain {
        fn drop(&mut self) {
            panic!("what it panicked with panics too");
        }
    }

    within(LIMIT, || {
        let pool = Pool::new(1).expect("a pool can be started");
        for is_joined in [true, false] {
            let (calls, called) = channel();
            let task = pool.submit(echo, (7,)).expect("the pool is open");
            task.on_done(|_| panic!("a callback may panic"));
            task.on_done(report(&calls));
            task.on_done(|_| panic_any(PanicsAgain));
            task.on_done(report(&calls));
            drop(calls);
            if is_joined {
                assert_eq!(task.join().expect("it returns"), 7);
            } else {
                drop(task);
            }
            assert_eq!(next(&called), Ok(7));
            assert_eq!(next(&called), Ok(7));
            check_over(&called);
        }
        pool.join().expect("everything was done");
    });
}

#[mp::test]
fn promise_16_a_callback_may_drop_the_pool() {
    within(LIMIT, || {
        let directory = Directory::new();
        let go = directory.join("go");
        let pool = Pool::new(2).expect("a pool can be started");
        let (calls, called) = channel();
        let first = pool.submit(wait_for, (go.clone(),)).expect("it is open");
        let second = pool.submit(wait_for, (directory.join("never"),));
        let second = second.expect("it is open");
        second.on_done(report(&calls));
        first.on_done(move |_| drop(pool));
        first.on_done(report(&calls));
        drop((first, calls));
        touch(&go);
        assert_eq!(next(&called), Ok(go.len() as u64));
        assert_eq!(next(&called), Err(ErrorKind::Cancelled));
        assert_eq!(kind(&second.join()), Some(ErrorKind::Cancelled));
        check_over(&called);
    });
}

#[mp::test]
fn promise_16_a_callback_may_close_and_terminate_the_pool() {
    within(LIMIT, || {
        for is_joined in [true, false] {
            let directory = Directory::new();
            let pool = Arc::new(Pool::new(2).expect("a pool can be started"));
            let (calls, called) = channel();
            let first = pool.submit(echo, (1,)).expect("it is open");
            let second = pool.submit(wait_for, (directory.join("never"),));
            let second = second.expect("it is open");
            second.on_done(report(&calls));
            let own = Arc::clone(&pool);
            first.on_done(move |_| {
                own.close();
                own.terminate();
                assert!(own.workers().is_empty());
            });
            first.on_done(report(&calls));
            drop(calls);
            if is_joined {
                assert_eq!(first.join().expect("it returned before"), 1);
            } else {
                drop(first);
            }
            let mut results = [next(&called), next(&called)];
            results.sort_by_key(Result::is_err);
            assert_eq!(results, [Ok(1), Err(ErrorKind::Cancelled)]);
            check_over(&called);
        }
    });
}

#[mp::test]
fn a_callback_that_joins_its_pool_or_its_task_is_told_so() {
    within(LIMIT, || {
        for is_joined in [true, false] {
            let pool = Pool::new(1).expect("a pool can be started");
            let (calls, called) = channel();
            let task = pool.submit(echo, (1,)).expect("it is open");
            let own = calls.clone();
            task.on_done(move |_| own.send(pool.join().map(|()| 0)).expect("the test listens"));
            if is_joined {
                drop(calls);
                task.join().expect("it returns");
            } else {
                let own = Arc::new(Mutex::new(Some(task)));
                let other = Arc::clone(&own);
                let own = own.lock().expect("nobody panics with it");
                own.as_ref().expect("it is there").on_done(move |_| {
                    let task = other.lock().expect("nobody panics with it").take();
                    let result = task.expect("it is there").join();
                    calls.send(result).expect("the test listens");
                });
            }
            let kinds = called.iter().map(|result| kind(&result));
            let expected = vec![Some(ErrorKind::WouldDeadlock); 2 - usize::from(is_joined)];
            assert_eq!(Vec::from_iter(kinds), expected);
        }
    });
}

#[mp::test]
fn ten_thousand_tasks_have_their_callbacks_called() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let sum = Arc::new(AtomicUsize::new(0));
        for number in 0..10_000 {
            let sum = Arc::clone(&sum);
            let task = pool.submit(echo, (number,)).expect("the pool is open");
            task.on_done(move |result| {
                let number = *result.as_ref().expect("it returns");
                sum.fetch_add(number as usize, Ordering::Relaxed);
            });
        }
        pool.join().expect("everything was done");
        assert_eq!(sum.load(Ordering::Relaxed), 9999 * 5000);
    });
}

#[mp::test]
fn threads_may_add_callbacks_while_a_task_finishes() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        for round in 0..100 {
            let task = pool.submit(echo, (round,)).expect("the pool is open");
            let (calls, called) = channel();
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| (0..10).for_each(|_| task.on_done(report(&calls))));
                }
            });
            assert_eq!(task.join().expect("it returns"), round);
            drop(calls);
            assert_eq!(called.iter().count(), 30);
        }
    });
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_without_room_for_a_thread() {
    program("program_without_room_for_a_thread", LIMIT, || {
        let directory = Directory::new();
        let go = directory.join("go");
        let pool = Pool::new(1).expect("a pool can be started");
        let task = pool.submit(wait_for, (go.clone(),)).expect("it is open");
        let (calls, called) = channel();
        task.on_done(report(&calls));
        let status = fs::read_to_string("/proc/self/statm").expect("it can be read");
        let pages = status.split(' ').next().expect("there is a first number");
        let size = pages.parse::<u64>().expect("it is a number") * 4096;
        let (_, most) = getrlimit(Resource::RLIMIT_AS).expect("there is a limit");
        // Less than a stack, and enough for everything else.
        setrlimit(Resource::RLIMIT_AS, size + (1 << 20), most).expect("it can be lower");
        let has_room = thread::Builder::new().spawn(|| {}).is_ok();
        touch(&go);
        task.wait();
        // Nor does a thread that delivers call it: those have a worker to receive from.
        pool.apply(echo, (1,)).expect("it returns");
        let is_called = called.try_recv().is_ok();
        setrlimit(Resource::RLIMIT_AS, most, most).expect("it can be higher again");
        drop(task);
        assert!(is_called || next(&called).is_ok());
        say(format!("{has_room} {is_called}"));
    });
}

#[test]
fn promise_23_callbacks_wait_for_a_thread_that_cannot_be_started() {
    within(LIMIT, || {
        let said = programs::run("program_without_room_for_a_thread");
        assert_eq!(said, ["false false"]);
    });
}

#[mp::test]
fn as_completed_gives_results_in_the_order_in_which_they_come() {
    within(LIMIT, || {
        let directory = Directory::new();
        let paths = ["a", "bb", "ccc"].map(|name| directory.join(name));
        let pool = Pool::new(4).expect("a pool can be started");
        let mut tasks: Vec<_> = paths
            .iter()
            .map(|path| pool.submit(wait_for, (path.clone(),)).expect("it is open"))
            .collect();
        for number in [7, 8] {
            let done = pool.submit(echo, (number,)).expect("it is open");
            done.wait();
            tasks.push(done);
        }
        let mut results = mp::as_completed(tasks);
        assert_eq!((results.len(), results.size_hint()), (5, (5, Some(5))));
        let mut next = || results.next().expect("there is one").expect("it returns");
        assert_eq!((next(), next()), (7, 8));
        for place in [1, 2, 0] {
            touch(&paths[place]);
            assert_eq!(next(), paths[place].len() as u64);
        }
        assert_eq!((results.len(), results.size_hint()), (0, (0, Some(0))));
        assert!(results.next().is_none());
        assert!(results.next().is_none());
        assert!(
            mp::as_completed(iter::empty::<Task<u64>>())
                .next()
                .is_none()
        );
    });
}

#[mp::test]
fn as_completed_takes_ten_thousand_tasks_of_two_pools() {
    within(LIMIT, || {
        let pools = [1, 2].map(|workers| Pool::new(workers).expect("it can be started"));
        let tasks: Vec<_> = (0..10_000)
            .map(|number| {
                let pool = &pools[number as usize % 2];
                pool.submit(echo, (number,)).expect("the pool is open")
            })
            .collect();
        let results = mp::as_completed(tasks).map(|result| result.expect("it returns"));
        let mut results = Vec::from_iter(results);
        results.sort_unstable();
        assert!(results.into_iter().eq(0..10_000));
    });
}

#[mp::test]
fn as_completed_gives_errors_and_waits_for_callbacks() {
    within(LIMIT, || {
        let directory = Directory::new();
        let pool = Pool::new(2).expect("a pool can be started");
        let count = Arc::new(AtomicUsize::new(0));
        let never = directory.join("never");
        let submit = |what: &str| {
            let task = pool.submit(act, (what.to_owned(),)).expect("it is open");
            let count = Arc::clone(&count);
            task.on_done(move |_| _ = count.fetch_add(1, Ordering::SeqCst));
            task
        };
        let cancelled = submit(&never);
        let mut results = mp::as_completed([submit("die"), submit("panic"), submit("fine")]);
        let mut kinds = Vec::new();
        for expected in 1..=3 {
            let result = results.next().expect("there is one more");
            kinds.push(format!("{:?}", kind(&result)));
            assert!(count.load(Ordering::SeqCst) >= expected);
        }
        kinds.sort();
        assert_eq!(kinds, ["None", "Some(Died)", "Some(Panicked)"]);
        cancelled.cancel();
        let result = mp::as_completed([cancelled]).next().expect("there is one");
        assert_eq!(kind(&result), Some(ErrorKind::Cancelled));
        let mut results = mp::as_completed([submit(&never), submit(&never)]);
        pool.terminate();
        for _ in 0..2 {
            let result = results.next().expect("there is one more");
            assert_eq!(kind(&result), Some(ErrorKind::Cancelled));
        }
    });
}

#[mp::test]
fn dropping_as_completed_lets_the_rest_run_on() {
    within(LIMIT, || {
        let pool = Pool::new(1).expect("a pool can be started");
        let (calls, called) = channel();
        let tasks = (0..100).map(|number| {
            let task = pool.submit(echo, (number,)).expect("the pool is open");
            task.on_done(report(&calls));
            task
        });
        let mut results = mp::as_completed(tasks);
        results.next().expect("there is one").expect("it returns");
        drop(results);
        drop(calls);
        assert_eq!(called.iter().filter(Result::is_ok).count(), 100);
    });
}

/// Counts how often it is woken, and wakes a thread.
struct Counted {
    thread: Thread,
    count: AtomicUsize,
}

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.thread.unpark();
    }
}

fn counted() -> (Arc<Counted>, Waker) {
    let counted = Arc::new(Counted {
        thread: thread::current(),
        count: AtomicUsize::new(0),
    });
    let waker = Waker::from(Arc::clone(&counted));
    (counted, waker)
}

/// The smallest executor.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let (_, waker) = counted();
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Both of two futures, polled by one waker.
struct Both<A: Future, B: Future>(
    Pin<Box<A>>,
    Pin<Box<B>>,
    (Option<A::Output>, Option<B::Output>),
);

impl<A: Future<Output: Unpin>, B: Future<Output: Unpin>> Future for Both<A, B> {
    type Output = (A::Output, B::Output);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Both(first, second, (one, two)) = &mut *self;
        if one.is_none()
            && let Poll::Ready(output) = first.as_mut().poll(context)
        {
            *one = Some(output);
        }
        if two.is_none()
            && let Poll::Ready(output) = second.as_mut().poll(context)
        {
            *two = Some(output);
        }
        match (one.take(), two.take()) {
            (Some(one), Some(two)) => Poll::Ready((one, two)),
            unready => {
                self.2 = unready;
                Poll::Pending
            }
        }
    }
}

fn both<A: Future, B: Future>(first: A, second: B) -> Both<A, B> {
    Both(Box::pin(first), Box::pin(second), (None, None))
}

#[mp::test]
fn tasks_are_futures() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        for round in 0..100 {
            let one = pool.submit(echo, (round,)).expect("the pool is open");
            let two = pool.submit_map(echo, 0..round).expect("the pool is open");
            let count = Arc::new(AtomicUsize::new(0));
            if round % 2 == 0 {
                let (a, b) = (Arc::clone(&count), Arc::clone(&count));
                one.on_done(move |_| _ = a.fetch_add(1, Ordering::SeqCst));
                two.on_done(move |_| _ = b.fetch_add(1, Ordering::SeqCst));
            }
            let (one, two) = block_on(both(one, two));
            assert_eq!(one.expect("it returns"), round);
            assert_eq!(two.expect("they return"), Vec::from_iter(0..round));
            let expected = if round % 2 == 0 { 2 } else { 0 };
            assert_eq!(count.load(Ordering::SeqCst), expected);
        }
        let panics = pool.submit(act, ("panic".to_owned(),)).expect("it is open");
        let dies = pool.submit(act, ("die".to_owned(),)).expect("it is open");
        let (one, two) = block_on(both(panics, dies));
        assert_eq!(kind(&one), Some(ErrorKind::Panicked));
        assert_eq!(kind(&two), Some(ErrorKind::Died));
    });
}

#[mp::test]
fn the_waker_of_the_last_poll_is_woken() {
    within(LIMIT, || {
        let directory = Directory::new();
        let go = directory.join("go");
        let pool = Pool::new(1).expect("a pool can be started");
        let mut task = pool.submit(wait_for, (go.clone(),)).expect("it is open");
        let ((first, first_waker), (last, last_waker)) = (counted(), counted());
        for waker in [&first_waker, &first_waker, &last_waker] {
            let polled = pin!(&mut task).poll(&mut Context::from_waker(waker));
            assert!(polled.is_pending());
        }
        drop(first_waker);
        assert_eq!(Arc::strong_count(&first), 1, "it was let go");
        touch(&go);
        until(|| last.count.load(Ordering::SeqCst) > 0);
        assert_eq!(first.count.load(Ordering::SeqCst), 0);
        let polled = pin!(&mut task).poll(&mut Context::from_waker(&last_waker));
        let Poll::Ready(result) = polled else {
            panic!("it is there: {task:?}");
        };
        assert_eq!(result.expect("it returns"), go.len() as u64);
        // Asking once more harms nobody.
        let polled = pin!(&mut task).poll(&mut Context::from_waker(&last_waker));
        let Poll::Ready(result) = polled else {
            panic!("it was there: {task:?}");
        };
        assert_eq!(kind(&result), Some(ErrorKind::Closed));
        let (calls, called) = channel();
        task.on_done(report(&calls));
        assert_eq!(next(&called), Err(ErrorKind::Closed));
        assert_eq!(kind(&task.join()), Some(ErrorKind::Closed));
    });
}

#[mp::test]
fn a_future_is_woken_by_cancel_and_by_terminate() {
    within(LIMIT, || {
        let directory = Directory::new();
        let never = directory.join("never");
        let pool = Pool::new(1).expect("a pool can be started");
        let submit = || pool.submit(wait_for, (never.clone(),)).expect("it is open");
        let mut tasks = [submit(), submit(), submit()];
        let (counted, waker) = counted();
        let ready = |task: &mut Task<u64>| {
            let polled = pin!(task).poll(&mut Context::from_waker(&waker));
            match polled {
                Poll::Pending => None,
                Poll::Ready(result) => Some(kind(&result)),
            }
        };
        for task in &mut tasks {
            assert_eq!(ready(task), None);
        }
        let mut count = 0;
        for place in [1, 0] {
            tasks[place].cancel();
            until(|| counted.count.load(Ordering::SeqCst) > count);
            count += 1;
            assert_eq!(ready(&mut tasks[place]), Some(Some(ErrorKind::Cancelled)));
        }
        pool.terminate();
        until(|| counted.count.load(Ordering::SeqCst) > count);
        assert_eq!(ready(&mut tasks[2]), Some(Some(ErrorKind::Cancelled)));
    });
}

#[mp::test]
fn dropping_a_future_lets_the_task_run_on() {
    within(LIMIT, || {
        let directory = Directory::new();
        let go = directory.join("go");
        let pool = Pool::new(1).expect("a pool can be started");
        let mut task = pool.submit(wait_for, (go.clone(),)).expect("it is open");
        let (calls, called) = channel();
        task.on_done(report(&calls));
        let (_, waker) = counted();
        let polled = pin!(&mut task).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        drop(task);
        touch(&go);
        assert_eq!(next(&called), Ok(go.len() as u64));
        pool.join().expect("everything was done");
    });
}

/// Allows a function to return when it is dropped, and waits until the other waker was woken.
struct Last {
    go: String,
    other: Arc<Counted>,
}

impl Wake for Last {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Last {
    fn drop(&mut self) {
        touch(&self.go);
        until(|| self.other.count.load(Ordering::SeqCst) > 0);
    }
}

#[mp::test]
fn callbacks_are_called_if_the_result_comes_while_its_task_is_polled_for_the_last_time() {
    within(LIMIT, || {
        let directory = Directory::new();
        let go = directory.join("go");
        let pool = Pool::new(1).expect("a pool can be started");
        let mut task = pool.submit(wait_for, (go.clone(),)).expect("it is open");
        let (calls, called) = channel();
        task.on_done(report(&calls));
        let (other, second) = counted();
        let first = Waker::from(Arc::new(Last {
            go: go.clone(),
            other,
        }));
        let polled = pin!(&mut task).poll(&mut Context::from_waker(&first));
        assert!(polled.is_pending());
        drop(first);
        // This drops the first waker after it has looked for the result.
        let polled = pin!(&mut task).poll(&mut Context::from_waker(&second));
        assert!(polled.is_pending());
        drop(task);
        assert_eq!(next(&called), Ok(go.len() as u64));
    });
}

/// Polls its task on the thread that wakes it, as some executors do, and sends the result.
struct PolledAtOnce {
    task: Mutex<Option<Task<u64>>>,
    results: Sender<Result<u64, Error>>,
}

impl Wake for PolledAtOnce {
    fn wake(self: Arc<Self>) {
        let taken = self.task.lock().expect("nobody panics with it").take();
        let Some(mut task) = taken else { return };
        let waker = Waker::from(Arc::clone(&self));
        let polled = pin!(&mut task).poll(&mut Context::from_waker(&waker));
        match polled {
            Poll::Ready(result) => self.results.send(result).expect("the test listens"),
            Poll::Pending => {
                *self.task.lock().expect("nobody panics with it") = Some(task);
            }
        }
    }
}

#[mp::test]
fn callbacks_of_a_task_polled_by_its_waker_do_not_hold_up_a_worker() {
    within(LIMIT, || {
        let directory = Directory::new();
        let go = directory.join("go");
        let pool = Arc::new(Pool::new(1).expect("a pool can be started"));
        let task = pool.submit(wait_for, (go.clone(),)).expect("it is open");
        let own = Arc::clone(&pool);
        // On the thread of the one worker this would wait for ever.
        task.on_done(move |_| _ = own.apply(echo, (1,)).expect("it returns"));
        let (results, received) = channel();
        let polled = Arc::new(PolledAtOnce {
            task: Mutex::new(Some(task)),
            results,
        });
        Arc::clone(&polled).wake();
        touch(&go);
        let result = next(&received);
        assert_eq!(result.expect("it returns"), go.len() as u64);
    });
}

#[mp::test]
fn the_process_wide_pool_takes_options() {
    within(LIMIT, || {
        let options = TaskOptions::new().chunk_size(7);
        let pool = mp::pool::with(options).expect("it can be started");
        let numbers = pool.map(echo, 0..100).expect("they return");
        assert!(numbers.into_iter().eq(0..100));
    });
}
