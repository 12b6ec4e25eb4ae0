//! Signals of the program, and limits of the machine.
#![expect(
    unsafe_code,
    reason = "handlers of signals and limits are set as a program would"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::programs;
use crate::watchdog::{until, within};
use mp::{Builder, ErrorKind, Pool};
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

const LIMIT: Duration = Duration::from_secs(120);

static SIGNALS: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_signal: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// Has SIGALRM interrupt whatever this process does, about every millisecond.
fn be_interrupted() {
    // Without SA_RESTART: every system call that can fail with EINTR does.
    let action = SigAction::new(
        SigHandler::Handler(count),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler adds to an atomic.
    unsafe { sigaction(Signal::SIGALRM, &action) }.expect("it can be set");
    let interval = libc::timeval {
        tv_sec: 0,
        tv_usec: 1000,
    };
    let timer = libc::itimerval {
        it_interval: interval,
        it_value: interval,
    };
    // SAFETY: both pointers are valid for the call; the second is null, which is allowed.
    let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
    assert_eq!(set, 0, "there is a timer");
}

#[mp::process_fn]
fn echo(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

#[mp::process_fn]
fn echo_while_interrupted(bytes: Vec<u8>) -> Vec<u8> {
    be_interrupted();
    bytes
}

#[mp::process_fn]
fn square(x: u64) -> u64 {
    x * x
}

#[mp::process_fn]
fn allocate(bytes: usize) -> usize {
    let memory = vec![1_u8; bytes];
    std::hint::black_box(&memory).len()
}

#[mp::process_fn]
fn hold(bytes: usize) -> usize {
    let chunks: Vec<Vec<u8>> = (0..bytes / 4096).map(|_| vec![1_u8; 4096]).collect();
    std::hint::black_box(&chunks).len()
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_that_is_interrupted_all_the_time() {
    programs::program("program_that_is_interrupted_all_the_time", LIMIT, || {
        be_interrupted();
        let large = vec![7_u8; 3_000_000];
        for _ in 0..10 {
            let process = mp::spawn!(echo(large.clone())).expect("a process can be started");
            while !process.wait_timeout(Duration::from_millis(3)) {}
            assert!(process.join().expect("it returned") == large);
        }
        let pool = Pool::new(2).expect("a pool can be started");
        for _ in 0..5 {
            let squares = pool.map(square, 0..5000).expect("nothing fails");
            assert!(squares.into_iter().eq((0..5000).map(|x| x * x)));
            let back = pool
                .map(echo, vec![large.clone(); 4])
                .expect("nothing fails");
            assert!(back.iter().all(|bytes| *bytes == large));
            let back = pool.map(echo_while_interrupted, vec![large.clone(); 4]);
            assert!(
                back.expect("nothing fails")
                    .iter()
                    .all(|bytes| *bytes == large)
            );
            assert!(pool.imap(square, 0..100).all(|result| result.is_ok()));
            let task = pool
                .submit(echo, (large.clone(),))
                .expect("the pool is open");
            task.wait();
            assert!(task.join().expect("it returned") == large);
        }
        pool.join().expect("everything was done");
        assert!(
            SIGNALS.load(Ordering::Relaxed) > 10,
            "it was not interrupted"
        );
    });
}

#[test]
fn promise_25_signals_of_the_program_change_nothing() {
    within(LIMIT, || {
        programs::run("program_that_is_interrupted_all_the_time");
    });
}

#[mp::test]
fn promise_23_memory_that_runs_out_is_an_error() {
    within(LIMIT, || {
        for (function, bytes) in [("at once", 1 << 30), ("bit by bit", 200 << 20)] {
            let builder = Builder::new()
                .memory_limit(64 << 20)
                .stderr(mp::Stdio::null());
            let process = match function {
                "at once" => builder.spawn(allocate, (bytes,)),
                _ => builder.spawn(hold, (bytes,)),
            };
            let error = process
                .and_then(mp::Process::join)
                .expect_err("it may not have so much");
            assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{function}: {error}");
            assert!(error.to_string().contains("memory limit"), "{error}");
        }
        let process = Builder::new()
            .memory_limit(64 << 20)
            .spawn(allocate, (1 << 20,));
        let allocated = process
            .and_then(mp::Process::join)
            .expect("so much it may have");
        assert_eq!(allocated, 1 << 20);
    });
}

fn limit(resource: libc::__rlimit_resource_t, count: libc::rlim_t) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is valid for the call.
    assert_eq!(unsafe { libc::getrlimit(resource, &mut limit) }, 0);
    limit.rlim_cur = count;
    // SAFETY: as above.
    assert_eq!(unsafe { libc::setrlimit(resource, &limit) }, 0);
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_that_runs_out_of_descriptors() {
    programs::program("program_that_runs_out_of_descriptors", LIMIT, || {
        // With every number of descriptors: something else fails each time.
        for count in 10..60 {
            limit(libc::RLIMIT_NOFILE, count);
            let process = mp::spawn!(square(3)).and_then(mp::Process::join);
            let pool = Pool::new(2).and_then(|pool| {
                let squares = pool.map(square, 0..20)?;
                pool.join()?;
                Ok(squares)
            });
            limit(libc::RLIMIT_NOFILE, 200);
            for result in [process.map(|nine| vec![nine]), pool] {
                match result {
                    Ok(squares) => assert!(squares == [9] || squares.len() == 20),
                    Err(error) => {
                        let text = error.to_string();
                        assert!(
                            text.contains("open files") || text.contains("descriptor"),
                            "{text}"
                        );
                    }
                }
            }
            until(|| mp::active_children().is_empty());
        }
        let process = mp::spawn!(square(3)).and_then(mp::Process::join);
        assert_eq!(process.expect("there are enough again"), 9);
    });
}

#[test]
fn promise_23_descriptors_that_run_out_are_an_error() {
    within(LIMIT, || {
        programs::run("program_that_runs_out_of_descriptors");
    });
}
