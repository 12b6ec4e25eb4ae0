//! Processes, their handles, names and options.

use std::future::Future;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
use std::time::Duration;

use crate::watchdog::{until, within};
use mp::sync::Event;
use mp::{Builder, ErrorKind, ProcessFn as _, ProcessInfo, Shared, Stdio};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

const LIMIT: Duration = Duration::from_secs(120);

#[mp::process_fn]
fn square(x: i64) -> i64 {
    x * x
}

#[mp::process_fn]
fn who() -> ProcessInfo {
    mp::current()
}

#[mp::process_fn]
fn names_of_children(count: u32) -> Vec<String> {
    let children = (0..count).map(|_| mp::spawn!(who()).expect("a worker can start processes"));
    let infos = children.map(|child| child.join().expect("it returned"));
    infos.map(|info| info.name).collect()
}

#[mp::process_fn]
fn wait_for_ever() {
    loop {
        std::thread::park();
    }
}

/// Traces a process until it is told to end, if it may.
#[mp::process_fn]
fn trace(id: u32, begun: Shared<Event>, end: Shared<Event>) {
    let seized = ptrace::seize(Pid::from_raw(id.cast_signed()), ptrace::Options::empty());
    begun.set();
    if seized.is_ok() {
        end.wait();
    }
}

/// For how many ticks of the clock (of 10 ms) the thread that watches processes has computed.
fn ticks_of_watch() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("there is /proc");
    let stats =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let mut watches = stats.filter_map(|stat| Some(stat.split_once("(mp-watch) ")?.1.to_owned()));
    let stat = watches.next().expect("it has a name");
    // In the kernel or not (proc(5)).
    let times = stat.split(' ').skip(11).take(2);
    times
        .map(|ticks| ticks.parse::<u64>().expect("it is a number"))
        .sum()
}

#[mp::test]
fn a_process_whose_end_a_tracer_holds_back_is_waited_for_in_peace() {
    within(LIMIT, || {
        let event = || Shared::new(Event::new()).expect("there is memory");
        let (begun, end) = (event(), event());
        let process = mp::spawn!(wait_for_ever()).expect("it starts");
        let tracer = mp::spawn!(trace(process.id(), begun.clone(), end.clone()));
        let tracer = tracer.expect("it starts");
        begun.wait();
        process.kill().expect("it is a child");
        let before = ticks_of_watch();
        if !process.wait_timeout(Duration::from_millis(400)) {
            let ticks = ticks_of_watch() - before;
            assert!(ticks < 20, "it is looked at all the time");
        }
        // Others have their ends.
        let other = mp::spawn!(square(3)).expect("it starts");
        assert_eq!(other.join().expect("it returns"), 9);
        end.set();
        tracer.join().expect("it returns");
        process.wait();
        let signal = process.exit_status().and_then(|status| status.signal());
        assert_eq!(signal, Some(Signal::SIGKILL as i32));
    });
}

#[mp::process_fn]
fn variable_and_directory(name: &str) -> (Option<String>, String) {
    let dir = std::env::current_dir().expect("there is one");
    (std::env::var(name).ok(), dir.display().to_string())
}

#[mp::process_fn]
fn say(text: &str) {
    println!("{text}");
}

#[mp::process_fn]
fn cpus() -> usize {
    mp::cpu_count()
}

#[mp::process_fn]
fn read_stdin() -> usize {
    std::io::stdin()
        .read_to_end(&mut Vec::new())
        .expect("it can be read")
}

fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[mp::test]
fn a_process_returns_what_its_function_returns() {
    within(LIMIT, || {
        let process = mp::spawn!(square(12)).expect("a process can be started");
        assert_ne!(process.id(), std::process::id());
        assert_eq!(process.join().expect("it returned"), 144);
        assert_eq!(square(5), 25);
        assert_eq!(square::NAME, "processes::process::square");
    });
}

#[mp::test]
fn a_process_is_a_future_of_its_result() {
    within(LIMIT, || {
        let process = mp::spawn!(square(7)).expect("a process can be started");
        assert_eq!(block_on(process).expect("it returned"), 49);
        let mut process = mp::spawn!(square(7)).expect("a process can be started");
        assert_eq!(block_on(&mut process).expect("it returned"), 49);
        let again = block_on(process).expect_err("it was taken");
        assert_eq!(again.kind(), ErrorKind::Closed);
    });
}

#[mp::test]
fn names_tell_the_lineage() {
    within(LIMIT, || {
        assert_eq!(mp::current().name, "MainProcess");
        assert_eq!(mp::current().worker_index, None);
        let process = mp::spawn!(names_of_children(2)).expect("a process can be started");
        let own = process.name().to_owned();
        assert!(own.starts_with("Process-"), "{own}");
        let names = process.join().expect("it returned");
        assert_eq!(names, [format!("{own}:1"), format!("{own}:2")]);
        let named = Builder::new()
            .name("p1")
            .spawn(who, ())
            .expect("a process can be started");
        assert_eq!(named.name(), "p1");
        let (id, parent_id) = (named.id(), std::process::id());
        let info = named.join().expect("it returned");
        assert_eq!(
            (info.name.as_str(), info.id, info.parent_id),
            ("p1", id, parent_id)
        );
    });
}

#[mp::test]
fn the_builder_sets_environment_directory_and_processors() {
    within(LIMIT, || {
        let process = Builder::new()
            .env("MP_TEST_WORD", "hello")
            .current_dir("/")
            .spawn(variable_and_directory, ("MP_TEST_WORD".into(),))
            .expect("a process can be started");
        let seen = process.join().expect("it returned");
        assert_eq!(seen, (Some("hello".to_owned()), "/".to_owned()));
        let process = Builder::new()
            .cpus([0, 0])
            .env_less_workers()
            .spawn(cpus, ())
            .expect("a process can be started");
        assert_eq!(process.join().expect("it returned"), 1);
        let process = Builder::new()
            .env("MP_WORKERS", "7")
            .spawn(cpus, ())
            .expect("a process can be started");
        assert_eq!(process.join().expect("it returned"), 7);
    });
}

trait EnvLessWorkers {
    fn env_less_workers(self) -> Self;
}

impl EnvLessWorkers for Builder {
    /// A number that is none leaves the count to the machine.
    fn env_less_workers(self) -> Self {
        self.env("MP_WORKERS", "")
    }
}

#[mp::test]
fn standard_streams_go_where_they_are_sent() {
    within(LIMIT, || {
        let mut piped = Builder::new()
            .stdout(Stdio::piped())
            .spawn(say, ("through a pipe".into(),))
            .expect("a process can be started");
        let mut output = String::new();
        let mut stdout = piped.take_stdout().expect("it was piped");
        assert!(piped.take_stdout().is_none());
        stdout
            .read_to_string(&mut output)
            .expect("the pipe can be read");
        piped.join().expect("it returned");
        // Its own output and nothing of the harness.
        assert_eq!(output, "through a pipe\n");

        let (mut reader, writer) = std::io::pipe().expect("a pipe can be made");
        let process = Builder::new()
            .stdout(Stdio::from(std::os::fd::OwnedFd::from(writer)))
            .spawn(say, ("into a descriptor".into(),))
            .expect("a process can be started");
        let mut output = String::new();
        reader
            .read_to_string(&mut output)
            .expect("the pipe can be read");
        process.join().expect("it returned");
        assert_eq!(output, "into a descriptor\n");

        let quiet = Builder::new()
            .stdout(Stdio::null())
            .spawn(say, ("nowhere".into(),));
        quiet.and_then(mp::Process::join).expect("it returned");
        let reads = mp::spawn!(read_stdin()).expect("a process can be started");
        assert_eq!(reads.join().expect("there is nothing to read"), 0);
        let piped = Builder::new()
            .stderr(Stdio::piped())
            .spawn(say, (String::new(),));
        assert_eq!(
            piped.map(drop).expect_err("only stdout").kind(),
            ErrorKind::Spawn
        );
    });
}

#[mp::test]
fn the_descriptor_is_readable_when_the_process_has_ended() {
    within(LIMIT, || {
        let process = mp::spawn!(wait_for_ever()).expect("a process can be started");
        let is_readable = |timeout: PollTimeout| {
            let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, timeout).expect("it can be polled") == 1
        };
        assert!(!is_readable(PollTimeout::ZERO));
        process.kill().expect("it is ours");
        assert!(is_readable(PollTimeout::NONE));
        assert_eq!(process.join().expect_err("it was killed").signal(), Some(9));
    });
}

#[mp::test]
fn signals_do_what_their_methods_say() {
    within(LIMIT, || {
        let start = || mp::spawn!(wait_for_ever()).expect("a process can be started");
        for round in 0..3 {
            let (terminated, killed, interrupted) = (start(), start(), start());
            if round > 0 {
                // At once in the first round; when they run in the others.
                until(|| mp::active_children().len() >= 3);
            }
            terminated.terminate().expect("it is ours");
            killed.kill().expect("it is ours");
            interrupted.interrupt().expect("it is ours");
            for (process, signal) in [(terminated, 15), (killed, 9), (interrupted, 2)] {
                process.wait();
                process.kill().expect("one that has ended is fine");
                let error = process.join().expect_err("it was ended");
                assert_eq!(
                    (error.kind(), error.signal()),
                    (ErrorKind::Died, Some(signal))
                );
            }
        }
    });
}

#[mp::test]
fn promise_19_waiting_never_changes_a_process_and_never_takes_its_result() {
    within(LIMIT, || {
        let process = mp::spawn!(wait_for_ever()).expect("a process can be started");
        for _ in 0..20 {
            assert!(!process.wait_timeout(Duration::from_millis(1)));
            assert!(!process.is_finished());
            assert_eq!(process.exit_status(), None);
        }
        assert!(
            mp::active_children()
                .iter()
                .any(|child| child.id == process.id())
        );
        process.kill().expect("it is ours");
        process.wait();

        let process = mp::spawn!(square(3)).expect("a process can be started");
        for _ in 0..3 {
            process.wait();
            assert!(process.wait_timeout(Duration::MAX) && process.is_finished());
            assert!(process.exit_status().is_some_and(|status| status.success()));
        }
        assert_eq!(process.join().expect("it returned"), 9);
    });
}

#[mp::test]
fn a_process_that_is_dropped_runs_on_and_is_collected() {
    within(LIMIT, || {
        let (mut reader, writer) = std::io::pipe().expect("a pipe can be made");
        let process = Builder::new()
            .stdout(Stdio::from(std::os::fd::OwnedFd::from(writer)))
            .spawn(say, ("I ran on".into(),))
            .expect("a process can be started");
        let id = process.id();
        drop(process);
        let mut output = String::new();
        reader
            .read_to_string(&mut output)
            .expect("the pipe can be read");
        assert_eq!(output, "I ran on\n");
        until(|| mp::active_children().iter().all(|child| child.id != id));
        until(|| !std::path::Path::new(&format!("/proc/{id}")).exists());
    });
}

#[mp::test]
fn bad_names_are_errors() {
    within(LIMIT, || {
        for name in ["", "a\0b", &"x".repeat(1000)] {
            let process = Builder::new().name(name).spawn(square, (1,));
            assert_eq!(process.map(drop).expect_err(name).kind(), ErrorKind::Spawn);
            let pool = mp::Pool::builder().workers(1).name(name).build();
            assert_eq!(pool.map(drop).expect_err(name).kind(), ErrorKind::Spawn);
        }
    });
}

#[mp::test]
#[should_panic(expected = "144")]
fn a_test_may_panic() {
    let result = mp::spawn!(square(12)).and_then(mp::Process::join);
    panic!("{result:?}");
}

#[mp::test]
fn a_test_may_return_a_result() -> Result<(), mp::Error> {
    assert_eq!(mp::spawn!(square(12))?.join()?, 144);
    Ok(())
}
