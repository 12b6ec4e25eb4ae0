//! How pools, processes and programs end: in bounded time, from anywhere, and with nobody left.

use std::fs::{self, File};
use std::future::Future as _;
use std::os::unix::process::CommandExt as _;
use std::pin::pin;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use mp::{ErrorKind, Pool, ProcessInfo, Task};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::programs::{self, Directory, Program, say};
use crate::watchdog::{until, within};

const LIMIT: Duration = Duration::from_secs(120);

#[mp::process_fn]
fn echo(number: u64) -> u64 {
    number
}

/// Says so by a file of its process id when it has begun.
#[mp::process_fn]
fn forever_in(directory: String) {
    let path = format!("{directory}/{}", std::process::id());
    File::create(path).expect("a file can be made");
    loop {
        std::hint::spin_loop();
    }
}

#[mp::process_fn]
fn wait_for(path: &str) -> u32 {
    until(|| fs::exists(path).expect("a path can be looked at"));
    std::process::id()
}

fn are_gone(workers: &[ProcessInfo]) -> bool {
    workers
        .iter()
        .all(|worker| !fs::exists(format!("/proc/{}", worker.id)).unwrap_or(true))
}

/// A pool whose workers run for ever, with more that waits, and the tasks.
fn busy_pool(directory: &Directory) -> (Pool, Vec<Task<()>>) {
    let pool = Pool::new(2).expect("a pool can be started");
    let tasks = (0..6)
        .map(|_| {
            let path = directory.path().display().to_string();
            pool.submit(forever_in, (path,)).expect("the pool is open")
        })
        .collect();
    until(|| directory.entries().len() >= 2);
    (pool, tasks)
}

fn stop(worker: &ProcessInfo) {
    kill(Pid::from_raw(worker.id.cast_signed()), Signal::SIGSTOP).expect("it is there");
    until(|| programs::state(worker.id) == Some('T'));
}

#[track_caller]
fn check_cancelled(tasks: Vec<Task<()>>) {
    for task in tasks {
        let error = task.join().expect_err("it would take for ever");
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    }
}

#[mp::test]
fn promise_16_terminate_ends_workers_that_run_for_ever() {
    within(LIMIT, || {
        let directory = Directory::new();
        let (pool, tasks) = busy_pool(&directory);
        let workers = pool.workers();
        pool.terminate();
        assert!(are_gone(&workers), "terminate waits until they are gone");
        assert!(pool.workers().is_empty());
        check_cancelled(tasks);
        let error = pool.submit(echo, (1,)).expect_err("it is over");
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        let error = pool.map(echo, 0..3).expect_err("it is over");
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        pool.terminate();
        let error = pool.join().expect_err("it was terminated");
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    });
}

#[mp::test]
fn promise_16_terminate_ends_workers_that_are_stopped() {
    within(LIMIT, || {
        let directory = Directory::new();
        let (pool, tasks) = busy_pool(&directory);
        let workers = pool.workers();
        workers.iter().for_each(stop);
        pool.terminate();
        assert!(are_gone(&workers));
        check_cancelled(tasks);
        let pool = Pool::new(2).expect("a pool can be started");
        let workers = pool.workers();
        workers.iter().for_each(stop);
        drop(pool);
        assert!(are_gone(&workers));
    });
}

#[mp::test]
fn promise_16_drop_is_terminate() {
    within(LIMIT, || {
        let directory = Directory::new();
        let (pool, tasks) = busy_pool(&directory);
        let workers = pool.workers();
        drop(pool);
        assert!(are_gone(&workers));
        check_cancelled(tasks);
    });
}

#[mp::test]
fn promise_16_many_threads_may_end_a_pool_at_once() {
    within(LIMIT, || {
        for _ in 0..10 {
            let directory = Directory::new();
            let (pool, tasks) = busy_pool(&directory);
            let workers = pool.workers();
            thread::scope(|scope| {
                for number in 0..6 {
                    let pool = &pool;
                    scope.spawn(move || match number % 2 {
                        0 => pool.terminate(),
                        _ => pool.close(),
                    });
                }
                scope.spawn(|| pool.map(echo, 0..1000).err());
            });
            assert!(are_gone(&workers));
            check_cancelled(tasks);
        }
    });
}

#[mp::test]
fn promise_16_terminate_wakes_who_waits_in_map_imap_and_join() {
    within(LIMIT, || {
        let directory = Directory::new();
        let path = directory.path().display().to_string();
        let pool = Pool::new(2).expect("a pool can be started");
        let endless = || std::iter::repeat_with(|| path.clone());
        thread::scope(|scope| {
            let map = scope.spawn(|| pool.map(forever_in, endless().take(4)).err());
            let imap = scope.spawn(|| pool.imap(forever_in, endless()).next());
            until(|| directory.entries().len() >= 2);
            pool.terminate();
            let error = map.join().expect("it does not panic").expect("it fails");
            let result = imap.join().expect("it does not panic");
            let other = result.expect("there is an item").expect_err("it fails");
            // Both workers may be busy for one of them before the other has begun.
            for error in [error, other] {
                let kinds = [ErrorKind::Cancelled, ErrorKind::Closed];
                assert!(kinds.contains(&error.kind()), "{error}");
            }
        });
    });
}

#[mp::test]
fn promise_16_join_is_woken_when_another_thread_lets_go() {
    within(LIMIT, || {
        let directory = Directory::new();
        let go = directory.join("go");
        let pool = Pool::new(2).expect("a pool can be started");
        let tasks: Vec<_> = (0..6)
            .map(|_| pool.submit(wait_for, (go.clone(),)).expect("it is open"))
            .collect();
        let joining = thread::spawn(move || pool.join());
        File::create(&go).expect("a file can be made");
        joining
            .join()
            .expect("it does not panic")
            .expect("all is done");
        for task in tasks {
            assert!(task.is_finished());
            task.join().expect("it was finished first");
        }
    });
}

#[mp::test]
fn promise_16_close_lets_what_was_submitted_finish() {
    within(LIMIT, || {
        let directory = Directory::new();
        let go = directory.join("go");
        let pool = Pool::new(1).expect("a pool can be started");
        let workers = pool.workers();
        let tasks: Vec<_> = (0..3)
            .map(|_| pool.submit(wait_for, (go.clone(),)).expect("it is open"))
            .collect();
        pool.close();
        pool.close();
        let error = pool.submit(echo, (1,)).expect_err("it is closed");
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        let first = pool.imap(echo, 0..3).next().expect("it says so");
        assert_eq!(first.expect_err("it is closed").kind(), ErrorKind::Closed);
        File::create(&go).expect("a file can be made");
        for task in tasks {
            assert_eq!(task.join().expect("it was submitted before"), workers[0].id);
        }
        until(|| are_gone(&workers));
        pool.join().expect("all is done");
    });
}

#[mp::test]
fn promise_16_a_map_that_is_under_way_survives_close() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let results = pool.map(
            echo,
            (0..500).inspect(|&number| {
                if number == 250 {
                    pool.close();
                }
            }),
        );
        assert!(results.expect("it had begun").into_iter().eq(0..500));
        pool.join().expect("all is done");
    });
}

#[mp::test]
fn promise_16_a_worker_that_dies_after_close_is_replaced_while_there_is_work() {
    within(LIMIT, || {
        let directory = Directory::new();
        let go = directory.join("go");
        let pool = Pool::new(1).expect("a pool can be started");
        let worker = pool.workers()[0].id;
        let tasks: Vec<_> = (0..3)
            .map(|_| pool.submit(wait_for, (go.clone(),)).expect("it is open"))
            .collect();
        pool.close();
        kill(Pid::from_raw(worker.cast_signed()), Signal::SIGKILL).expect("it is there");
        File::create(&go).expect("a file can be made");
        let results: Vec<_> = tasks.into_iter().map(Task::join).collect();
        let failed = results.iter().filter(|result| result.is_err()).count();
        assert!(failed <= 1, "{results:?}");
        pool.join().expect("all is done");
    });
}

#[mp::test]
fn promise_16_tasks_and_iterators_may_outlive_their_pool() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let done = pool.submit(echo, (1,)).expect("the pool is open");
        done.wait();
        let mut results = pool.imap(echo, 0..);
        assert_eq!(results.next().expect("one came").expect("it is fine"), 0);
        let mut unordered = pool.imap_unordered(echo, 0..);
        drop(pool);
        assert_eq!(done.join().expect("it had come"), 1);
        // What had come may be delivered; then it says why no more comes.
        let error = results.find_map(Result::err).expect("the pool is gone");
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
        let error = unordered.find_map(|(_, result)| result.err());
        let error = error.expect("the pool is gone");
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    });
}

/// Does something once when it wakes, and says that it did.
struct Once<F> {
    action: Mutex<Option<F>>,
    done: Mutex<Sender<()>>,
}

impl<F: FnOnce() + Send + 'static> Wake for Once<F> {
    fn wake(self: Arc<Self>) {
        let action = self.action.lock().expect("nobody panics with it").take();
        if let Some(action) = action {
            action();
            let done = self.done.lock().expect("nobody panics with it");
            done.send(()).expect("the test waits");
        }
    }
}

/// Polls `task`, which cannot be ready, with a waker that runs `action`, then calls `release` and
/// waits until the action has returned.
fn in_waker<R>(task: Task<R>, action: impl FnOnce() + Send + 'static, release: impl FnOnce()) {
    let (done, is_done) = channel();
    let waker = Waker::from(Arc::new(Once {
        action: Mutex::new(Some(action)),
        done: Mutex::new(done),
    }));
    let mut task = pin!(task);
    let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    release();
    is_done.recv().expect("the waker was called");
}

/// A pool of two, one of whose workers waits for the file.
fn waiting_pool(path: &str) -> (Arc<Pool>, Task<u32>) {
    let pool = Pool::new(2).expect("a pool can be started");
    let task = pool
        .submit(wait_for, (path.to_owned(),))
        .expect("it is open");
    (Arc::new(pool), task)
}

fn touch(path: &str) {
    File::create(path).expect("a file can be made");
}

#[mp::test]
fn promise_16_a_waker_may_drop_the_pool() {
    within(LIMIT, || {
        let directory = Directory::new();
        let go = directory.join("go");
        let (pool, task) = waiting_pool(&go);
        let workers = pool.workers();
        in_waker(task, move || drop(pool), || touch(&go));
        until(|| are_gone(&workers));
    });
}

#[mp::test]
fn promise_16_a_waker_may_close_terminate_and_submit() {
    within(LIMIT, || {
        let directory = Directory::new();
        let (go, on) = (directory.join("go"), directory.join("on"));
        let (pool, task) = waiting_pool(&go);
        let workers = pool.workers();
        let (own, path) = (Arc::clone(&pool), on.clone());
        let submitted = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&submitted);
        let submit = move || {
            let task = own.submit(wait_for, (path,)).expect("the pool is open");
            *slot.lock().expect("nobody panics with it") = Some(task);
        };
        in_waker(task, submit, || touch(&go));
        let task = submitted.lock().expect("nobody panics with it").take();
        let own = Arc::clone(&pool);
        let end = move || {
            own.close();
            own.terminate();
        };
        in_waker(task.expect("it was submitted"), end, || touch(&on));
        pool.terminate();
        assert!(are_gone(&workers));
    });
}

#[mp::test]
fn promise_16_a_waker_that_is_called_by_terminate_may_drop_the_pool() {
    within(LIMIT, || {
        let directory = Directory::new();
        let go = directory.join("go");
        let (pool, task) = waiting_pool(&go);
        let workers = pool.workers();
        let own = Arc::clone(&pool);
        let end = move || {
            own.terminate();
            drop(own);
        };
        in_waker(task, end, || pool.terminate());
        drop(pool);
        until(|| are_gone(&workers));
    });
}

#[mp::test]
fn promise_16_a_waker_that_panics_harms_nobody() {
    within(LIMIT, || {
        let directory = Directory::new();
        let go = directory.join("go");
        let (pool, task) = waiting_pool(&go);
        let (done, is_done) = channel();
        let action = move || {
            // Dropped by the panic.
            let _done: Sender<()> = done;
            panic!("a waker may panic");
        };
        let (unused, _receiver) = channel();
        let waker = Waker::from(Arc::new(Once {
            action: Mutex::new(Some(action)),
            done: Mutex::new(unused),
        }));
        let mut task = pin!(task);
        assert!(
            task.as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        touch(&go);
        is_done.recv().expect_err("nothing is sent");
        for _ in 0..10 {
            let results = pool.map(echo, 0..100).expect("the pool is usable");
            assert!(results.into_iter().eq(0..100));
        }
        assert_eq!(pool.workers().len(), 2);
        let pool = Arc::into_inner(pool).expect("nobody else has it");
        pool.join().expect("all is done");
    });
}

#[mp::test]
fn promise_16_join_in_a_waker_returns() {
    within(LIMIT, || {
        let directory = Directory::new();
        let go = directory.join("go");
        let (pool, task) = waiting_pool(&go);
        let pool = Arc::into_inner(pool).expect("nobody else has it");
        // Whether it can wait there or says that it cannot: it does not hang.
        let join = move || drop(pool.join());
        in_waker(task, join, || touch(&go));
    });
}

#[mp::test]
fn promise_16_the_waker_of_a_process_may_end_pools_and_processes() {
    within(LIMIT, || {
        let directory = Directory::new();
        let go = directory.join("go");
        let (pool, _task) = waiting_pool(&directory.join("never"));
        let workers = pool.workers();
        let path = directory.join("never");
        let other = mp::spawn!(wait_for(path)).expect("a process can be started");
        let path = go.clone();
        let mut process = pin!(mp::spawn!(wait_for(path)).expect("a process can be started"));
        let (done, is_done) = channel();
        let action = move || {
            drop(pool);
            other.kill().expect("it is ours");
            other.wait();
        };
        let waker = Waker::from(Arc::new(Once {
            action: Mutex::new(Some(action)),
            done: Mutex::new(done),
        }));
        let mut context = Context::from_waker(&waker);
        assert!(process.as_mut().poll(&mut context).is_pending());
        touch(&go);
        is_done.recv().expect("the waker was called");
        assert!(are_gone(&workers));
        assert!(matches!(
            process.as_mut().poll(&mut context),
            Poll::Ready(Ok(_))
        ));
    });
}

#[mp::test]
fn promise_16_a_cancelled_task_is_stopped_and_its_worker_replaced() {
    within(LIMIT, || {
        let directory = Directory::new();
        let (pool, tasks) = busy_pool(&directory);
        for task in &tasks {
            assert!(task.cancel(), "it takes for ever");
        }
        check_cancelled(tasks);
        assert!(
            pool.map(echo, 0..100)
                .expect("it is usable")
                .into_iter()
                .eq(0..100)
        );
        let task = pool.submit(echo, (1,)).expect("the pool is open");
        task.wait();
        assert!(!task.cancel(), "it is over");
        assert_eq!(task.join().expect("it had come"), 1);
    });
}

#[mp::test]
fn promise_16_dropping_an_iterator_cancels_what_it_has_not_delivered() {
    within(LIMIT, || {
        let directory = Directory::new();
        let pool = Pool::new(1).expect("a pool can be started");
        let gate = directory.join("gate");
        let runs = Directory::new();
        let items = (0..).map(|number| (gate.clone(), runs.join(&format!("{number}"))));
        let mut results = pool.imap_unordered(gated, items);
        touch(&gate);
        results
            .next()
            .expect("there is no end")
            .1
            .expect("it is fine");
        fs::remove_file(&gate).expect("it is there");
        drop(results);
        // What was running runs on; nothing else begins.
        touch(&gate);
        pool.apply(echo, (1,)).expect("the pool is usable");
        let ran = runs.entries().len();
        assert!(ran <= 3, "{ran} ran");
        pool.apply(echo, (1,)).expect("the pool is usable");
        assert_eq!(runs.entries().len(), ran);
    });
}

#[mp::process_fn]
fn gated((gate, path): (String, String)) {
    File::create(path).expect("a file can be made");
    until(|| fs::exists(&gate).expect("a path can be looked at"));
}

#[mp::test]
fn promise_17_a_process_outlives_the_thread_that_started_it() {
    within(LIMIT, || {
        let directory = Directory::new();
        let go = directory.join("go");
        let path = go.clone();
        let (process, pool) = thread::spawn(move || {
            let process = mp::spawn!(wait_for(path)).expect("a process can be started");
            (process, Pool::new(1).expect("a pool can be started"))
        })
        .join()
        .expect("it does not panic");
        let worker = pool.workers()[0].id;
        assert!(!process.wait_timeout(Duration::from_millis(300)));
        touch(&go);
        let id = process.id();
        assert_eq!(process.join().expect("it lives"), id);
        assert_eq!(pool.apply(wait_for, (go,)).expect("it lives"), worker);
    });
}

#[mp::test]
fn promise_21_a_process_whose_handle_was_dropped_runs_on_and_is_collected() {
    within(LIMIT, || {
        let directory = Directory::new();
        let (go, done) = (directory.join("go"), directory.join("done"));
        let process =
            mp::spawn!(wait_and_touch(go.clone(), done.clone())).expect("a process can be started");
        let id = process.id();
        drop(process);
        assert!(programs::is_alive(id));
        touch(&go);
        until(|| fs::exists(&done).expect("a path can be looked at"));
        until(|| programs::state(id).is_none());
    });
}

#[mp::process_fn]
fn wait_and_touch(go: String, done: String) {
    until(|| fs::exists(&go).expect("a path can be looked at"));
    touch(&done);
}

/// Says `busy` and runs for ever, taking no notice of what can be ignored.
#[mp::process_fn]
fn busy_for_ever() {
    say("busy");
    loop {
        std::hint::spin_loop();
    }
}

/// Has a process and a pool of its own, all of which run for ever.
#[mp::process_fn]
fn family() {
    let pool = Pool::new(1).expect("a pool can be started");
    let _task = pool.submit(busy_for_ever, ()).expect("it is open");
    let process = mp::spawn!(busy_for_ever()).expect("a process can be started");
    process.join().expect("it runs for ever");
}

/// A parent of five busy processes, two of them grandchildren.
#[mp::test]
#[ignore = "a program that other tests run"]
fn program_with_busy_processes() {
    programs::program("program_with_busy_processes", LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let _tasks = [(); 2].map(|()| pool.submit(busy_for_ever, ()).expect("it is open"));
        let _detached = mp::spawn!(busy_for_ever()).expect("a process can be started");
        let _parent = mp::spawn!(family()).expect("a process can be started");
        // What it is to do when all are busy.
        let mut order = String::new();
        until(|| {
            order = std::env::var("ORDER_FILE")
                .ok()
                .and_then(|path| fs::read_to_string(path).ok())
                .unwrap_or_default();
            !order.is_empty()
        });
        match order.as_str() {
            "exit" => std::process::exit(0),
            "abort" => std::process::abort(),
            "return" => {}
            "panic" => panic!("as ordered"),
            "exec" => {
                let error = std::process::Command::new("/bin/sleep").arg("100").exec();
                panic!("there is no sleep: {error}");
            }
            "leave" => {
                std::mem::forget(pool);
                std::process::exit(0);
            }
            order => panic!("nobody knows how to {order}"),
        }
    });
}

/// Starts the program above; it carries out what is written into the file.
fn start_busy_family(directory: &Directory) -> Program {
    let mut command = programs::command("program_with_busy_processes");
    command
        .env("ORDER_FILE", directory.join("order"))
        .stderr(Stdio::null());
    let mut program = Program::start(command);
    for _ in 0..5 {
        program.expect("busy");
    }
    assert!(program.living().len() >= 7, "{:?}", program.living());
    program
}

fn order(directory: &Directory, order: &str) {
    let draft = directory.join("draft");
    fs::write(&draft, order).expect("a file can be written");
    fs::rename(draft, directory.join("order")).expect("a file can be renamed");
}

#[test]
fn promise_17_no_process_survives_a_parent_killed_by_sigkill() {
    within(LIMIT, || {
        let program = start_busy_family(&Directory::new());
        program.signal(Signal::SIGKILL);
        program.check_gone_but(&[]);
    });
}

#[test]
fn promise_17_no_process_survives_its_parent_however_that_ends() {
    within(LIMIT, || {
        for how in ["exit", "abort", "return", "panic", "leave"] {
            let directory = Directory::new();
            let program = start_busy_family(&directory);
            order(&directory, how);
            program.check_gone_but(&[]);
        }
    });
}

#[test]
fn promise_17_no_process_survives_when_its_parent_becomes_another_program() {
    within(LIMIT, || {
        let directory = Directory::new();
        let program = start_busy_family(&directory);
        order(&directory, "exec");
        program.check_gone_but(&[program.id()]);
    });
}

#[test]
fn promise_17_no_process_survives_a_signal_that_kills_its_parent() {
    within(LIMIT, || {
        for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
            let program = start_busy_family(&Directory::new());
            program.signal(signal);
            program.check_gone_but(&[]);
        }
    });
}

#[test]
fn promise_17_a_grandchild_does_not_survive_the_worker_that_started_it() {
    within(LIMIT, || {
        let program = start_busy_family(&Directory::new());
        let all = program.living();
        let mut children = programs::children_of(program.id());
        children.retain(|child| all.contains(child));
        let parent = children
            .iter()
            .find(|child| !programs::children_of(**child).is_empty())
            .expect("one is a parent");
        kill(Pid::from_raw(parent.cast_signed()), Signal::SIGKILL).expect("it is there");
        children.push(program.id());
        children.extend(programs::fork_servers_of(program.id()));
        program.check_gone_but(&children);
        assert!(program.living().len() >= 4, "nobody else is touched");
    });
}

#[test]
fn promise_17_processes_that_are_stopped_do_not_survive_their_parent() {
    within(LIMIT, || {
        // In the process group of this test, which is not orphaned by the death of the program:
        // the kernel would wake the stopped members of a group that is.
        let directory = Directory::new();
        let group = nix::unistd::getpgrp().as_raw();
        let mut command = programs::command("program_with_busy_processes");
        command
            .env("ORDER_FILE", directory.join("order"))
            .stderr(Stdio::null())
            .process_group(group);
        let mut program = Program::start(command);
        for _ in 0..5 {
            program.expect("busy");
        }
        let mut workers = program.living();
        workers.retain(|id| *id != program.id());
        for worker in &workers {
            kill(Pid::from_raw(worker.cast_signed()), Signal::SIGSTOP).expect("it is there");
        }
        until(|| workers.iter().all(|id| programs::state(*id) == Some('T')));
        program.signal(Signal::SIGKILL);
        program.check_gone_but(&[]);
    });
}

#[test]
fn promise_18_an_interrupt_of_the_whole_group_leaves_no_survivor_and_no_noise() {
    within(LIMIT, || {
        let directory = Directory::new();
        let mut command = programs::command("program_with_busy_processes");
        command
            .env("ORDER_FILE", directory.join("order"))
            .stderr(Stdio::piped());
        let mut program = Program::start(command);
        for _ in 0..5 {
            program.expect("busy");
        }
        program.signal_group(Signal::SIGINT);
        program.check_gone_but(&[]);
        let end = program.finish();
        assert!(end.stderr.lines().count() <= 1, "{}", end.stderr);
        assert!(!end.status.success());
    });
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_interrupt(_signal: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Installs a handler of SIGINT as a program with a graceful end has.
#[expect(unsafe_code, reason = "there is no safe way to install a handler")]
fn handle_interrupts() {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, sigaction};
    let handler = SigHandler::Handler(note_interrupt);
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler stores to an atomic and does nothing else.
    let installed = unsafe { sigaction(Signal::SIGINT, &action) };
    installed.expect("SIGINT can be handled");
}

#[mp::test]
#[ignore = "a program that other tests run"]
fn program_that_handles_interrupts() {
    programs::program("program_that_handles_interrupts", LIMIT, || {
        handle_interrupts();
        let go = std::env::var("GO_FILE").expect("the test sets it");
        let pool = Pool::new(2).expect("a pool can be started");
        let workers = pool.workers();
        let tasks = [(); 2].map(|()| {
            pool.submit(say_and_wait, (go.clone(),))
                .expect("it is open")
        });
        let process = mp::spawn!(say_and_wait(go)).expect("a process can be started");
        until(|| INTERRUPTED.load(Ordering::Relaxed));
        say("interrupted");
        for task in tasks {
            task.join().expect("it works on");
        }
        process.join().expect("it works on");
        assert_eq!(pool.workers(), workers);
        pool.join().expect("all is done");
        say("done");
    });
}

#[mp::process_fn]
fn say_and_wait(path: String) {
    say("busy");
    until(|| fs::exists(&path).expect("a path can be looked at"));
}

#[test]
fn promise_18_a_parent_that_handles_interrupts_keeps_its_workers() {
    within(LIMIT, || {
        let directory = Directory::new();
        let go = directory.join("go");
        let mut command = programs::command("program_that_handles_interrupts");
        command.env("GO_FILE", &go).stderr(Stdio::piped());
        let mut program = Program::start(command);
        for _ in 0..3 {
            program.expect("busy");
        }
        for _ in 0..3 {
            program.signal_group(Signal::SIGINT);
        }
        program.expect("interrupted");
        touch(&go);
        program.expect("done");
        let end = program.finish();
        assert!(end.status.success(), "{}", end.status);
        assert_eq!(end.stderr, "");
    });
}

#[mp::test]
fn interrupt_ends_a_process_that_does_not_handle_it() {
    within(LIMIT, || {
        let directory = Directory::new();
        let path = directory.path().display().to_string();
        let process = mp::spawn!(forever_in(path)).expect("a process can be started");
        until(|| !directory.entries().is_empty());
        process.interrupt().expect("it is ours");
        let error = process.join().expect_err("it ran for ever");
        assert_eq!(error.signal(), Some(Signal::SIGINT as i32), "{error}");
    });
}

/// Uses the process-wide pool and returns while it is busy.
#[mp::test]
#[ignore = "a program that other tests run"]
fn program_that_leaves_the_global_pool_busy() {
    programs::program("program_that_leaves_the_global_pool_busy", LIMIT, || {
        let tasks: Vec<_> = (0..3)
            .map(|_| mp::pool::submit(busy_for_ever, ()).expect("there is a pool"))
            .collect();
        drop(tasks);
    });
}

#[test]
fn promise_17_a_busy_global_pool_does_not_outlive_the_program_nor_hold_it_up() {
    within(LIMIT, || {
        let mut program = programs::start("program_that_leaves_the_global_pool_busy");
        assert!(program.wait().success());
        program.check_gone_but(&[]);
    });
}
