//! What a worker sends and what it leaves lying about harms nobody else.

mod programs;
mod watchdog;

use std::fs;
use std::os::fd::RawFd;
use std::time::Duration;

use mp::{Builder, Pool};

use programs::{Directory, Program, say};
use watchdog::{until, within};

const LIMIT: Duration = Duration::from_secs(120);

#[mp::process_fn]
fn echo(number: u64) -> u64 {
    number
}

/// The descriptors that this process has above the standard streams.
fn own_descriptors() -> Vec<RawFd> {
    let entries = fs::read_dir("/proc/self/fd").expect("there is /proc");
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    // That of the listing is closed by now.
    numbers
        .filter(|&fd| fd > 2 && fs::read_link(format!("/proc/self/fd/{fd}")).is_ok())
        .collect()
}

#[mp::process_fn]
fn close_everything() {
    for fd in own_descriptors() {
        // Some may be gone.
        let _ = nix::unistd::close(fd);
    }
    loop {
        std::hint::spin_loop();
    }
}

#[mp::process_fn]
fn close_everything_and_return() -> u32 {
    for fd in own_descriptors() {
        let _ = nix::unistd::close(fd);
    }
    1
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_whose_workers_close_everything() {
    programs::program("program_whose_workers_close_everything", LIMIT, || {
        let pool = Pool::new(1).expect("a pool can be started");
        for _ in 0..3 {
            let result = pool.apply(close_everything_and_return, ());
            assert!(result.as_ref().is_ok_and(|&one| one == 1) || result.is_err());
            assert_eq!(pool.map(echo, 0..3).expect("the next one works"), [0, 1, 2]);
        }
        let process = mp::spawn!(close_everything_and_return()).expect("a process can be started");
        let result = process.join();
        assert!(result.as_ref().is_ok_and(|&one| one == 1) || result.is_err());
        say("alive");
        let task = pool.submit(close_everything, ()).expect("it is open");
        task.wait_timeout(Duration::from_millis(200));
        say("busy");
        std::thread::park();
    });
}

#[test]
fn promise_26_a_worker_that_closes_all_its_descriptors_harms_itself_alone() {
    within(LIMIT, || {
        let mut program = programs::start("program_whose_workers_close_everything");
        program.expect("alive");
        program.expect("busy");
        program.signal(nix::sys::signal::Signal::SIGKILL);
        program.check_gone_but(&[]);
    });
}

#[mp::test]
fn promise_27_the_environment_of_a_worker_holds_no_secret() {
    within(LIMIT, || {
        let directory = Directory::new();
        let go = directory.join("go");
        let process = mp::spawn!(wait_for(go.clone())).expect("a process can be started");
        let pool = Pool::new(1).expect("a pool can be started");
        assert_eq!(pool.apply(echo, (1,)).expect("it returns"), 1);
        let own: Vec<_> = std::env::vars().collect();
        for id in [process.id(), pool.workers()[0].id] {
            let environment = fs::read(format!("/proc/{id}/environ")).expect("it is ours");
            let entries = environment
                .split(|&byte| byte == 0)
                .filter(|entry| !entry.is_empty());
            for entry in entries {
                let entry = String::from_utf8_lossy(entry);
                let (key, value) = entry.split_once('=').expect("it is a variable");
                let is_inherited = own.iter().any(|(k, v)| k == key && v == value);
                // Numbers of descriptors mean nothing to another process.
                let is_small = |number: &str| {
                    number == "-" || number.parse().is_ok_and(|number: u32| number < 65536)
                };
                assert!(is_inherited || value.split(',').all(is_small), "{entry}");
            }
        }
        fs::write(&go, "").expect("a file can be made");
        process.join().expect("it returns");
    });
}

#[mp::process_fn]
fn wait_for(path: String) {
    until(|| fs::exists(&path).expect("a path can be looked at"));
}

#[mp::process_fn]
fn variables() -> Vec<String> {
    std::env::vars().map(|(key, _)| key).collect()
}

#[mp::test]
fn promise_27_a_function_sees_the_environment_of_its_parent_and_nothing_more() {
    within(LIMIT, || {
        let own: Vec<String> = std::env::vars().map(|(key, _)| key).collect();
        let process = Builder::new().env("ONE_MORE", "1").spawn(variables, ());
        let mut seen = process.and_then(mp::Process::join).expect("it returns");
        seen.retain(|key| key != "ONE_MORE" && !own.contains(key));
        assert_eq!(seen, Vec::<String>::new());
    });
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_with_running_workers() {
    programs::program("program_with_running_workers", LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        assert_eq!(pool.map(echo, 0..3).expect("it returns"), [0, 1, 2]);
        let _process = mp::spawn!(echo(1)).expect("a process can be started");
        say("running");
        std::thread::park();
    });
}

#[test]
fn promise_27_nothing_of_running_workers_is_in_a_public_directory() {
    within(LIMIT, || {
        let directory = Directory::new();
        let mut command = programs::command("program_with_running_workers");
        command.env("TMPDIR", directory.path());
        let mut program = Program::start(command);
        program.expect("running");
        assert!(directory.entries().is_empty(), "{:?}", directory.entries());
        // No socket of theirs has a name that can be connected to, abstract or not.
        let sockets = fs::read_to_string("/proc/net/unix").expect("there is /proc");
        let name = directory.path().display().to_string();
        assert!(!sockets.contains(&name) || sockets.lines().all(is_unreachable));
        program.signal(nix::sys::signal::Signal::SIGKILL);
        program.check_gone_but(&[]);
        assert!(directory.entries().is_empty(), "{:?}", directory.entries());
    });
}

/// Whether a line of `/proc/net/unix` is of a socket without a name that leads to it.
fn is_unreachable(line: &str) -> bool {
    line.split_whitespace().nth(7).is_none_or(|path| {
        path.starts_with('@') || !fs::exists(path).unwrap_or(false) || !path.contains("mp-test")
    })
}
