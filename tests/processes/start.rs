//! Starts that fail: in bounded time, with the reason, and with nothing left behind.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::parent_id;
use std::process::Stdio;
use std::time::{Duration, Instant};

use mp::{Builder, Error, ErrorKind, Pool, StartMethod};
use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::Pid;

use crate::programs::{self, Directory, Program, open_descriptors, say};
use crate::watchdog::{until, within};

const LIMIT: Duration = Duration::from_secs(120);
/// How long what is on its way out may take to be gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a worker of the programs below does in place of coming to `mp::init`.
const BEFORE_INIT: &str = "BEFORE_INIT";
/// A file: while it is there the workers do that.
const BEFORE_INIT_IF: &str = "BEFORE_INIT_IF";
/// The process that a program is the child of; a worker is not.
const TEST_ID: &str = "TEST_ID";

#[mp::process_fn]
fn echo(number: u64) -> u64 {
    number
}

#[mp::process_fn]
fn process_id() -> u32 {
    std::process::id()
}

fn fate_before_init() {
    let is_program = std::env::var(TEST_ID).is_ok_and(|id| id == parent_id().to_string());
    let is_off = std::env::var(BEFORE_INIT_IF).is_ok_and(|path| !fs::exists(path).unwrap_or(false));
    if is_program || is_off {
        return;
    }
    match std::env::var(BEFORE_INIT).as_deref() {
        Ok("hang") => loop {
            std::thread::park();
        },
        Ok("exit") => std::process::exit(5),
        Ok("succeed") => std::process::exit(0),
        Ok("kill") => raise(Signal::SIGKILL).expect("a process can signal itself"),
        _ => {}
    }
}

/// A program: `name` is that of the test, and `body` runs once `init` has returned.
fn program(name: &str, body: impl FnOnce()) {
    if !programs::is_asked(name) {
        return;
    }
    fate_before_init();
    mp::init();
    within(LIMIT, body);
}

fn command(name: &str) -> std::process::Command {
    let mut command = programs::command(name);
    command.env(TEST_ID, std::process::id().to_string());
    command
}

#[track_caller]
fn check_success(command: std::process::Command) -> Vec<String> {
    let program = Program::start(command);
    let id = program.id();
    let end = program.finish();
    assert!(
        end.status.success(),
        "program {id} ended with {}",
        end.status
    );
    end.said
}

/// Checks that `fails` leaves nothing behind, with what must be warm already warm.
#[track_caller]
fn check_leaves_nothing(mut fails: impl FnMut()) {
    // Whatever is made once for the whole program.
    fails();
    let process = mp::spawn!(echo(1));
    drop(process.and_then(mp::Process::join));
    fails();
    settle();
    let before = open_descriptors();
    for _ in 0..20 {
        fails();
    }
    settle();
    // The thread that watches processes may be about to close what it had for the last one.
    let done = Instant::now();
    while open_descriptors() > before && done.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(2));
    }
    let after = open_descriptors();
    assert!(after <= before, "{before} descriptors became {after}");
}

/// Waits until no process of this program and none of the threads that serve one is left.
fn settle() {
    until(|| programs::children_of(std::process::id()).is_empty());
    assert_eq!(mp::active_children(), []);
    until(|| {
        let tasks = fs::read_dir("/proc/self/task").expect("there is /proc");
        let mut names = tasks.map(|task| {
            let path = task.expect("it can be read").path().join("comm");
            fs::read_to_string(path).unwrap_or_default()
        });
        !names.any(|name| {
            let is_of_program = ["mp-watch", "mp-nursery", "mp-stderr"].contains(&name.trim_end());
            name.starts_with("mp-") && !is_of_program
        })
    });
}

#[track_caller]
fn check_spawn_error(error: &Error, parts: &[&str]) {
    assert_eq!(error.kind(), ErrorKind::Spawn, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
}

#[test]
#[ignore = "a program that another test runs"]
fn program_whose_workers_may_not_come() {
    program("program_whose_workers_may_not_come", || {
        let start = |how: &str| {
            Builder::new()
                .name("laggard")
                .env(BEFORE_INIT, how)
                .start_timeout(Duration::from_millis(300))
                .spawn(echo, (1,))
                .expect("a process can be started")
        };
        let process = start("hang");
        let id = process.id();
        let error = process.join().expect_err("it never comes");
        check_spawn_error(
            &error,
            &["laggard", "mp::init", "300ms", &format!("pid {id}")],
        );
        assert_eq!(error.process_id(), Some(id));

        let error = start("exit").join().expect_err("it never comes");
        check_spawn_error(&error, &["laggard", "exited with code 5"]);
        assert_eq!(
            error.exit_status().and_then(|status| status.code()),
            Some(5)
        );
        let error = start("succeed").join().expect_err("it never comes");
        check_spawn_error(&error, &["laggard", "exited with code 0"]);
        let error = start("kill").join().expect_err("it never comes");
        check_spawn_error(&error, &["laggard", "SIGKILL"]);
        assert_eq!(error.signal(), Some(Signal::SIGKILL as i32));

        assert_eq!(start("").join().expect("this one comes"), 1);
        for how in ["exit", "kill", "hang"] {
            check_leaves_nothing(|| {
                let timeout = Duration::from_millis(50);
                let process = Builder::new()
                    .env(BEFORE_INIT, how)
                    .start_timeout(timeout)
                    .spawn(echo, (1,));
                let process = process.expect("a process can be started");
                process.join().expect_err("it never comes");
            });
        }
        // Nobody waits for it, and it is ended all the same.
        drop(start("hang"));
        settle();
    });
}

#[test]
fn promise_20_a_process_that_does_not_come_to_init_is_an_error_and_is_gone() {
    within(LIMIT, || {
        check_success(command("program_whose_workers_may_not_come"))
    });
}

#[test]
#[ignore = "a program that another test runs"]
fn program_whose_pool_cannot_start() {
    program("program_whose_pool_cannot_start", || {
        let start = || {
            let builder = Pool::builder().workers(3);
            builder.start_timeout(Duration::from_millis(200)).build()
        };
        let error = start().expect_err("no worker comes");
        check_spawn_error(&error, &["worker-"]);
        say(error);
        settle();
        check_leaves_nothing(|| drop(start().expect_err("no worker comes")));
        let error = mp::pool::apply(echo, (1,));
        assert_eq!(error.expect_err("no worker comes").kind(), ErrorKind::Spawn);
    });
}

#[test]
fn promise_20_a_pool_whose_workers_do_not_come_fails_at_once_with_the_reason() {
    within(LIMIT, || {
        for (how, reason) in [("exit", "exited with code 5"), ("kill", "SIGKILL")] {
            let mut command = command("program_whose_pool_cannot_start");
            command.env(BEFORE_INIT, how);
            let said = check_success(command);
            assert!(said[0].contains(reason), "{said:?}");
        }
    });
}

#[test]
#[ignore = "a program that another test runs"]
fn program_whose_workers_stop_coming() {
    program("program_whose_workers_stop_coming", || {
        let switch = std::env::var(BEFORE_INIT_IF).expect("the test sets it");
        let pool = Pool::new(2).expect("workers come");
        assert_eq!(pool.apply(echo, (1,)).expect("workers come"), 1);
        fs::write(&switch, "").expect("a file can be made");
        for worker in pool.workers() {
            let id = Pid::from_raw(worker.id.cast_signed());
            kill(id, Signal::SIGKILL).expect("it is there");
        }
        let error = pool.map(echo, 0..10).expect_err("no worker comes");
        check_spawn_error(&error, &["exited with code 5"]);
        let error = pool.apply(echo, (1,)).expect_err("no worker comes");
        check_spawn_error(&error, &["exited with code 5"]);
        fs::remove_file(&switch).expect("it is there");
        // It tries again when there is new work.
        until(|| pool.apply(echo, (2,)).is_ok());
        assert!(
            pool.map(echo, 0..10)
                .expect("workers come")
                .into_iter()
                .eq(0..10)
        );
        pool.join().expect("all is done");
        settle();
    });
}

#[test]
fn promise_07_workers_that_keep_dying_at_their_start_trip_a_fuse() {
    within(LIMIT, || {
        let directory = Directory::new();
        let mut command = command("program_whose_workers_stop_coming");
        // What stands before `init` runs in each worker that is executed.
        command
            .env("MP_START_METHOD", "exec")
            .env(BEFORE_INIT, "exit")
            .env(BEFORE_INIT_IF, directory.join("switch"));
        check_success(command);
    });
}

#[test]
#[ignore = "a program that another test runs"]
fn program_that_is_killed_while_its_workers_start() {
    program("program_that_is_killed_while_its_workers_start", || {
        let _process = mp::spawn!(echo(1)).expect("a process can be started");
        say("started");
        std::thread::park();
    });
}

#[test]
fn promise_17_a_process_that_never_came_to_init_does_not_survive_its_parent() {
    within(LIMIT, || {
        let mut command = command("program_that_is_killed_while_its_workers_start");
        command.env(BEFORE_INIT, "hang");
        let mut program = Program::start(command);
        program.expect("started");
        assert_eq!(program.living().len(), 2);
        program.signal(Signal::SIGKILL);
        program.check_gone_but(&[]);
    });
}

#[test]
#[ignore = "a program that another test runs"]
fn program_that_never_called_init() {
    if !programs::is_asked("program_that_never_called_init") {
        return;
    }
    let errors = [
        mp::spawn!(echo(1)).err(),
        Builder::new().spawn(echo, (1,)).err(),
        Pool::new(2).err(),
        mp::pool::map(echo, 0..3).err(),
        mp::pool::imap(echo, 0..).next().and_then(Result::err),
        mp::pool::submit(echo, (1,)).err(),
    ];
    for error in errors {
        let error = error.expect("nothing can be started");
        assert_eq!(error.kind(), ErrorKind::NotInitialized, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("#[mp::main]") && text.contains("mp::init()"),
            "{text}"
        );
    }
    assert_eq!(mp::active_children(), []);
    assert_eq!(programs::children_of(std::process::id()), []);
    // What needs no process works.
    assert_eq!(mp::current().name, "MainProcess");
    assert!(mp::cpu_count() >= 1);
    // It is never too late.
    mp::init();
    let process = mp::spawn!(echo(7)).expect("a process can be started");
    assert_eq!(process.join().expect("it comes to init"), 7);
}

#[test]
fn promise_20_a_program_that_never_called_init_is_told_what_to_add() {
    within(LIMIT, || programs::run("program_that_never_called_init"));
}

#[test]
#[ignore = "a program that another test runs"]
fn program_without_temporary_directory() {
    program("program_without_temporary_directory", || {
        let process = mp::spawn!(echo(1)).expect("it needs no file");
        assert_eq!(process.join().expect("it was started"), 1);
        let pool = Pool::new(2).expect("it needs no file");
        assert_eq!(pool.apply(echo, (2,)).expect("it was started"), 2);
        drop(pool);
        check_leaves_nothing(|| drop(mp::spawn!(echo(1)).and_then(mp::Process::join)));
    });
}

#[test]
fn a_missing_temporary_directory_does_not_matter() {
    within(LIMIT, || {
        let directory = Directory::new();
        let file = directory.join("file");
        fs::write(&file, "").expect("a file can be made");
        for path in [directory.join("missing"), file] {
            let mut command = command("program_without_temporary_directory");
            command.env("TMPDIR", path);
            check_success(command);
        }
    });
}

#[test]
#[ignore = "a program that another test runs"]
fn program_in_a_strange_temporary_directory() {
    program("program_in_a_strange_temporary_directory", || {
        // It works, or says why it does not; it never panics.
        let mut works = false;
        match mp::spawn!(echo(1)) {
            Ok(process) => {
                assert_eq!(process.join().expect("it was started"), 1);
                works = true;
            }
            Err(error) => check_spawn_error(&error, &["could not be started"]),
        }
        let pool = Pool::new(1);
        assert_eq!(pool.is_ok(), works);
        drop(pool);
        check_leaves_nothing(|| drop(mp::spawn!(echo(1)).and_then(mp::Process::join)));
    });
}

#[track_caller]
fn check_temporary_directory_called(name: &[u8]) {
    let directory = Directory::new();
    let path = directory.path().join(OsString::from_vec(name.to_vec()));
    fs::create_dir(&path).expect("a directory can be made");
    let mut command = command("program_in_a_strange_temporary_directory");
    command.env("TMPDIR", &path);
    check_success(command);
    let left = fs::read_dir(&path).expect("it is there").count();
    assert_eq!(left, 0, "in {path:?}");
}

#[test]
fn promise_20_a_temporary_directory_whose_name_is_no_text_makes_no_start_panic() {
    within(LIMIT, || {
        check_temporary_directory_called(b"not \xff text");
    });
}

#[test]
fn promise_20_a_temporary_directory_with_a_long_name_makes_no_start_panic() {
    within(LIMIT, || {
        check_temporary_directory_called(&[b'l'; 120]);
    });
}

#[test]
fn promise_20_a_temporary_directory_with_a_strange_name_makes_no_start_panic() {
    within(LIMIT, || {
        check_temporary_directory_called(b"with spaces, % and \n lines");
    });
}

#[test]
#[ignore = "a program that another test runs"]
fn program_with_unusable_options() {
    program("program_with_unusable_options", || {
        let refused = |builder: Builder, parts: &[&str]| {
            let error = builder.spawn(echo, (1,)).expect_err("it cannot be done");
            check_spawn_error(&error, parts);
        };
        let no_directory = || Builder::new().current_dir("/no/such/directory");
        refused(no_directory(), &["No such file or directory"]);
        refused(
            Builder::new().current_dir("/dev/null"),
            &["Not a directory"],
        );
        refused(Builder::new().current_dir("with\0nul"), &["nul"]);
        refused(Builder::new().env("KEY", "with\0nul"), &["nul"]);
        refused(Builder::new().env("with\0nul", "value"), &["nul"]);
        refused(Builder::new().name("with\0nul"), &["NUL"]);
        refused(Builder::new().name(""), &["empty"]);
        refused(Builder::new().name("n".repeat(256)), &["256", "255"]);
        refused(Builder::new().cpus([]), &["processor"]);
        refused(
            Builder::new().stdin(mp::Stdio::piped()),
            &["standard output"],
        );
        check_leaves_nothing(|| refused(no_directory(), &[]));
        check_leaves_nothing(|| refused(Builder::new().env("KEY", "with\0nul"), &[]));
        check_leaves_nothing(|| refused(Builder::new().stdin(mp::Stdio::piped()), &[]));

        for cpus in [vec![9999], vec![usize::MAX], vec![1023]] {
            check_leaves_nothing(|| {
                let process = Builder::new().cpus(cpus.clone()).spawn(echo, (1,));
                let error = process.and_then(mp::Process::join);
                check_spawn_error(
                    &error.expect_err("there is no such processor"),
                    &["processors"],
                );
            });
        }
        let longest = "n".repeat(255);
        let process = Builder::new().name(longest.clone()).spawn(echo, (1,));
        let process = process.expect("it is not too long");
        assert_eq!(process.name(), longest);
        assert_eq!(process.join().expect("it works"), 1);

        let error = Pool::new(0).expect_err("nobody would work");
        check_spawn_error(&error, &["0 workers"]);
        let error = Pool::builder().workers(1).name("a\0b").build();
        check_spawn_error(&error.expect_err("a NUL"), &["NUL"]);
        // The names of workers are made of it.
        let pool = Pool::builder().workers(1).name("p".repeat(255)).build();
        match pool {
            Ok(pool) => assert_eq!(pool.apply(echo, (1,)).expect("it works"), 1),
            Err(error) => check_spawn_error(&error, &["255"]),
        }
    });
}

#[test]
fn promise_20_options_that_cannot_be_met_are_errors_that_leave_nothing() {
    within(LIMIT, || {
        check_success(command("program_with_unusable_options"))
    });
}

#[test]
#[ignore = "a program that another test runs"]
fn program_whose_binary_is_gone() {
    program("program_whose_binary_is_gone", || {
        let own = std::env::current_exe().expect("this binary has a path");
        fs::remove_file(&own).expect("it is a copy");
        let process = mp::spawn!(echo(1)).expect("a process can be started");
        assert_eq!(process.join().expect("it is the same binary"), 1);
        fs::write(&own, "#!/bin/false\n").expect("a file can be made");
        let pool = Pool::new(2).expect("a pool can be started");
        assert_eq!(
            pool.map(echo, 0..3).expect("it is the same binary"),
            [0, 1, 2]
        );
    });
}

#[test]
fn workers_are_the_same_binary_even_if_its_file_was_removed_or_replaced() {
    within(LIMIT, || {
        let directory = Directory::new();
        let copy = directory.join("copy");
        let own = std::env::current_exe().expect("this binary has a path");
        fs::copy(own, &copy).expect("it can be copied");
        let model = command("program_whose_binary_is_gone");
        let mut command = std::process::Command::new(&copy);
        command.args(model.get_args());
        for (key, value) in model.get_envs() {
            command.env(key, value.expect("none is removed"));
        }
        // Another process that is being started right now may hold the copy open for writing.
        until(|| !is_busy(&copy));
        check_success(command);
    });
}

/// Whether a file cannot be executed since somebody has it open for writing.
fn is_busy(path: &str) -> bool {
    let started = std::process::Command::new(path)
        .arg("--list")
        .stdout(Stdio::null())
        .status();
    started.is_err_and(|error| error.kind() == std::io::ErrorKind::ExecutableFileBusy)
}

#[test]
#[ignore = "a program that another test runs"]
fn program_that_ignores_sigchld() {
    if !programs::is_asked("program_that_ignores_sigchld") {
        return;
    }
    ignore_sigchld();
    mp::init();
    within(LIMIT, || {
        let process = mp::spawn!(echo(4)).expect("a process can be started");
        assert_eq!(process.join().expect("it returned"), 4);
        let process = mp::spawn!(exit_with(3)).expect("a process can be started");
        process.wait();
        assert!(process.is_finished());
        let error = process.join().expect_err("it exited");
        assert!(
            [ErrorKind::Died, ErrorKind::Exited].contains(&error.kind()),
            "{error}"
        );
        let pool = Pool::new(2).expect("a pool can be started");
        assert!(
            pool.map(echo, 0..100)
                .expect("it works")
                .into_iter()
                .eq(0..100)
        );
        pool.apply(exit_with, (0,)).expect_err("it exited");
        assert!(
            pool.map(echo, 0..100)
                .expect("it works")
                .into_iter()
                .eq(0..100)
        );
        pool.join().expect("all is done");
        settle();
    });
}

/// Whether it came in time is decided once.
#[mp::test]
fn promise_06_a_process_that_comes_just_too_late_is_said_to_be_late() {
    within(LIMIT, || {
        let methods = [StartMethod::ForkServer, StartMethod::Exec];
        for (number, method) in (0..600).zip(methods.into_iter().cycle()) {
            let timeout = Duration::from_micros(number * 10 % 5000);
            let builder = Builder::new().start_timeout(timeout).start_method(method);
            let process = builder.spawn(echo, (number,)).expect("it is started");
            match process.join() {
                Ok(echoed) => assert_eq!(echoed, number),
                Err(error) => check_spawn_error(&error, &["within", "mp::init"]),
            }
        }
    });
}

#[mp::process_fn]
fn exit_with(code: i32) {
    std::process::exit(code);
}

#[expect(unsafe_code, reason = "there is no safe way to ignore a signal")]
fn ignore_sigchld() {
    use nix::sys::signal::{SigHandler, signal};
    // SAFETY: no code runs for a signal that is ignored.
    let before = unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) };
    before.expect("SIGCHLD can be ignored");
}

#[test]
fn promise_02_a_program_that_ignores_sigchld_loses_nothing() {
    within(LIMIT, || programs::run("program_that_ignores_sigchld"));
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_that_waits_for_any_child() {
    if !programs::is_asked("program_that_waits_for_any_child") {
        return;
    }
    within(LIMIT, || {
        std::thread::spawn(|| {
            loop {
                // There is no child at times.
                let _ = nix::sys::wait::wait();
                std::thread::yield_now();
            }
        });
        for number in 0..20 {
            let process = mp::spawn!(echo(number)).expect("a process can be started");
            assert_eq!(process.join().expect("it returned"), number);
        }
        let pool = Pool::new(2).expect("a pool can be started");
        pool.apply(exit_with, (0,)).expect_err("it exited");
        assert!(
            pool.map(echo, 0..100)
                .expect("it works")
                .into_iter()
                .eq(0..100)
        );
        pool.join().expect("all is done");
        say("done");
    });
}

#[test]
fn promise_02_a_program_that_waits_for_any_child_loses_nothing() {
    within(LIMIT, || {
        assert_eq!(programs::run("program_that_waits_for_any_child"), ["done"]);
    });
}

#[mp::test]
fn two_processes_are_two() {
    within(LIMIT, || {
        let one = mp::spawn!(process_id()).expect("a process can be started");
        let other = mp::spawn!(process_id()).expect("a process can be started");
        let ids = [one.id(), other.id()];
        assert_eq!(
            [one.join().expect("it runs"), other.join().expect("it runs")],
            ids
        );
        assert!(ids[0] != ids[1] && !ids.contains(&std::process::id()));
    });
}
