//! What a worker sends and what it leaves lying about harms nobody else.

use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

use mp::{Builder, Pool, TaskOptions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::programs::{self, Directory, Program, say};
use crate::watchdog::{until, within};

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

/// What it was given, who ran it, and a sum over both, which random bytes do not have.
type Signed = (u64, u32, u64);

fn sum(number: u64, id: u32) -> u64 {
    // Fibonacci hashing (Knuth, 6.4), twice.
    let once = (number ^ u64::from(id) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (once ^ once >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[mp::process_fn]
fn signed(number: u64) -> Signed {
    let id = std::process::id();
    (number, id, sum(number, id))
}

/// Where the memory that this process shares with others is mapped.
fn shared_mappings() -> Vec<(u64, u64)> {
    let maps = fs::read_to_string("/proc/self/maps").expect("there is /proc");
    let shared = maps.lines().filter(|line| line.contains("memfd:mp"));
    let ranges = shared.filter_map(|line| line.split_once(' ')?.0.split_once('-'));
    let address = |text| u64::from_str_radix(text, 16).expect("it is a number");
    ranges
        .map(|(start, end)| (address(start), address(end)))
        .collect()
}

/// Writes random words over all that its process shares with its parent, from now on.
#[mp::process_fn]
fn scribble(directory: PathBuf) -> u32 {
    let id = std::process::id();
    fs::write(directory.join(id.to_string()), "").expect("a file can be made");
    let mappings = shared_mappings();
    assert!(!mappings.is_empty(), "it shares memory with its parent");
    std::thread::spawn(move || {
        let memory = fs::File::options().write(true).open("/proc/self/mem");
        let memory = memory.expect("its own memory can be written to");
        let random = RandomState::new();
        for step in 0_u64.. {
            let word = random.hash_one(step);
            for &(start, end) in &mappings {
                // Mostly the words at the beginning, which say how things stand.
                let bytes = match step % 4 {
                    0 => end - start,
                    _ => 1024,
                };
                let place = start + random.hash_one(!step) % (bytes / 8) * 8;
                let bytes = match step % 3 {
                    0 => word.to_le_bytes(),
                    1 => (word % (1 << 17)).to_le_bytes(),
                    _ => (word % 16).to_le_bytes(),
                };
                let _ = memory.write_at(&bytes, place);
            }
            if step % 64 == 0 {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    });
    id
}

#[mp::test]
fn promise_26_a_worker_that_scribbles_over_what_it_shares_harms_itself_alone() {
    within(LIMIT, || {
        let directory = Directory::new();
        let is_scribbler = |id: u32| directory.path().join(id.to_string()).exists();
        let pool = Pool::new(3).expect("a pool can be started");
        // With and without a time limit: what has none goes to workers that have other calls.
        for limit in [None, Some(Duration::from_secs(1)), None, None] {
            let options = match limit {
                Some(limit) => TaskOptions::new().timeout(limit),
                None => TaskOptions::new(),
            };
            let some = pool.with(options);
            let path = directory.path().to_path_buf();
            let scribbler = some.submit(scribble, (path,)).expect("it is open");
            let tasks: Vec<_> = (0..300)
                .map(|number| some.submit(signed, (number,)).expect("it is open"))
                .collect();
            let mut honest = 0;
            for (number, task) in (0..).zip(tasks) {
                while !task.wait_timeout(Duration::from_millis(300)) {
                    // It has written over what would tell it what to do: as one that is stuck.
                    for worker in pool.workers() {
                        if is_scribbler(worker.id) {
                            let _ = kill(Pid::from_raw(worker.id as i32), Signal::SIGKILL);
                        }
                    }
                }
                // What such a worker says itself is worth nothing, and may be an error.
                match task.join() {
                    Ok((given, id, sum_of)) if sum_of == sum(given, id) && !is_scribbler(id) => {
                        assert_eq!(given, number, "the result of another item");
                        honest += 1;
                    }
                    Ok(_) | Err(_) => {}
                }
            }
            assert!(honest > 0, "others have done something");
            let _ = scribbler.join();
        }
        for worker in pool.workers() {
            if is_scribbler(worker.id) {
                let _ = kill(Pid::from_raw(worker.id as i32), Signal::SIGKILL);
            }
        }
        // It goes on as if nothing had been. What was in the air may die with the last of them.
        until(|| {
            (0..)
                .zip(pool.map(signed, 0..100).into_iter().flatten())
                .filter(|(number, (given, ..))| number == given)
                .count()
                == 100
        });
        pool.close();
        pool.join().expect("it ends in order");
    });
}
