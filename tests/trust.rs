//! What a worker sends and what it leaves lying about harms nobody else.

mod programs;
mod watchdog;

use std::fs;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::process::Stdio;
use std::time::{Duration, Instant};

use mp::{Builder, Pool};

use programs::{Directory, Program, say};
use watchdog::{until, within};

const LIMIT: Duration = Duration::from_secs(120);
/// How long what is on its way out may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

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

/// Numbers that look like nothing in particular (Marsaglia, "Xorshift RNGs").
fn random_bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(next).flatten().take(count).collect();
    if seed.is_multiple_of(3) {
        // As the length of what is to come it is not absurd.
        bytes.iter_mut().skip(2).take(6).for_each(|byte| *byte = 0);
    }
    bytes
}

#[expect(
    unsafe_code,
    reason = "the descriptors belong to somebody else, which is the point"
)]
fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the descriptor was open a moment ago, and nothing in this process closes it.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Writes `bytes` bytes of nonsense into every descriptor of this process, without waiting.
fn scribble(seed: u64, bytes: usize) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let nonsense = random_bytes(seed, bytes);
    for fd in own_descriptors() {
        let fd = borrow(fd);
        let flags = fcntl(fd, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
        let Ok(flags) = flags else { continue };
        // It may refuse, as it may refuse to be written to.
        let _ = fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK));
        let _ = nix::unistd::write(fd, &nonsense);
        let _ = fcntl(fd, FcntlArg::F_SETFL(flags));
    }
}

#[mp::process_fn]
fn scribble_and_return(seed: u64, bytes: usize) -> u64 {
    scribble(seed, bytes);
    seed
}

#[mp::process_fn]
fn scribble_and_stay(seed: u64, bytes: usize) {
    scribble(seed, bytes);
    loop {
        std::thread::park();
    }
}

const SIZES: [usize; 9] = [1, 7, 8, 9, 16, 17, 64, 1000, 100_000];

#[mp::test]
fn promise_26_random_bytes_in_every_descriptor_end_that_worker_alone() {
    within(LIMIT, || {
        let pool = Pool::builder().workers(2).name("victims").build();
        let pool = pool.expect("a pool can be started");
        for (seed, bytes) in (1..).zip(SIZES) {
            // It is heard, or the worker is ended for its nonsense.
            match pool.apply(scribble_and_return, (seed, bytes)) {
                Ok(number) => assert_eq!(number, seed),
                Err(error) => assert!(error.process_id().is_some(), "{error}"),
            }
            assert!(
                pool.map(echo, 0..50)
                    .expect("the others work")
                    .into_iter()
                    .eq(0..50)
            );
        }
        pool.join().expect("all is done");
    });
}

#[mp::test]
fn promise_26_random_bytes_and_no_answer_are_noticed() {
    within(LIMIT, || {
        let pool = Pool::new(1).expect("a pool can be started");
        for (seed, bytes) in (1..).zip(SIZES) {
            // A task that never ends may be what it is; but it can be cancelled.
            let task = pool
                .submit(scribble_and_stay, (seed, bytes))
                .expect("it is open");
            task.wait_timeout(Duration::from_millis(300));
            task.cancel();
            let error = task.join().expect_err("it does not return");
            assert!(!error.to_string().is_empty());
            assert_eq!(pool.apply(echo, (seed,)).expect("the next one works"), seed);
        }
    });
}

#[mp::test]
fn promise_26_random_bytes_of_a_process_of_its_own_end_it_alone() {
    within(LIMIT, || {
        for (seed, bytes) in (1..).zip(SIZES) {
            let process = mp::spawn!(scribble_and_return(seed, bytes));
            match process.expect("a process can be started").join() {
                Ok(number) => assert_eq!(number, seed),
                Err(error) => assert!(error.process_id().is_some(), "{error}"),
            }
        }
    });
}

/// A packet as `ipc-channel` begins one, whose sizes are lies.
fn lie(fragment_bytes: u64, total_bytes: u64, body: &[u8]) -> Vec<u8> {
    let words = [fragment_bytes, total_bytes].map(u64::to_le_bytes);
    [words.concat().as_slice(), body].concat()
}

/// Sends a packet, with `handles` descriptors, into every socket of this process.
fn send_everywhere(packet: &[u8], handles: usize) {
    let (end, _other) = std::os::unix::net::UnixStream::pair().expect("a pair can be made");
    let numbers = vec![end.as_raw_fd(); handles];
    for fd in own_descriptors() {
        send_with_handles(fd, packet, &numbers);
    }
}

#[expect(unsafe_code, reason = "descriptors are passed by a system call alone")]
fn send_with_handles(fd: RawFd, packet: &[u8], handles: &[RawFd]) {
    use nix::libc;
    let mut part = libc::iovec {
        iov_base: packet.as_ptr().cast_mut().cast(),
        iov_len: packet.len(),
    };
    // SAFETY: all zeroes is a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    // A cmsghdr (length, SOL_SOCKET, SCM_RIGHTS), and the numbers behind it.
    let mut control: Vec<u64> = Vec::new();
    if !handles.is_empty() {
        let bytes = 16 + size_of_val(handles);
        let kind = u64::from(libc::SOL_SOCKET.cast_unsigned())
            | u64::from(libc::SCM_RIGHTS.cast_unsigned()) << 32;
        control.extend([bytes as u64, kind]);
        let pairs = handles.chunks(2).map(|pair| {
            let low = u64::from(pair[0].cast_unsigned());
            pair.get(1)
                .map_or(low, |high| low | u64::from(high.cast_unsigned()) << 32)
        });
        control.extend(pairs);
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = bytes;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the header points to memory that lives until the call returns. What is no socket, or
    // is full, refuses, which is fine.
    unsafe { libc::sendmsg(fd, &raw const header, flags) };
}

#[mp::process_fn]
fn lie_and_return(which: usize) -> usize {
    let body = [7; 100];
    let whole = 16 + body.len() as u64;
    let (packet, handles) = match which {
        0 => (lie(whole, u64::MAX, &body), 0),
        4 => (lie(whole, 0, &body), 1),
        5 => (lie(whole, 100, &body), 1),
        6 => (lie(whole, 100, &[0; 100]), 0),
        _ => (Vec::new(), 0),
    };
    send_everywhere(&packet, handles);
    which
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_whose_workers_lie() {
    programs::program("program_whose_workers_lie", LIMIT, || {
        // Whatever is made once for the whole program.
        let process = mp::spawn!(echo(1)).expect("a process can be started");
        assert_eq!(process.join().expect("it returns"), 1);
        let before = programs::open_descriptors();
        let pool = Pool::new(2).expect("a pool can be started");
        let which = std::env::var("WHICH").expect("the test sets it");
        let which = which.parse().expect("it is a number");
        for _ in 0..3 {
            match pool.apply(lie_and_return, (which,)) {
                Ok(number) => assert_eq!(number, which),
                Err(error) => assert!(error.process_id().is_some(), "{error}"),
            }
            assert_eq!(pool.map(echo, 0..3).expect("the others work"), [0, 1, 2]);
        }
        let process = mp::spawn!(lie_and_return(which)).expect("a process can be started");
        match process.join() {
            Ok(number) => assert_eq!(number, which),
            Err(error) => assert!(error.process_id().is_some(), "{error}"),
        }
        pool.join().expect("all is done");
        let done = Instant::now();
        while programs::open_descriptors() > before && done.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
        }
        let after = programs::open_descriptors();
        assert!(after <= before, "{before} descriptors became {after}");
        say("alive");
    });
}

/// Each kind of lie alone, so that one that works does not hide the others.
macro_rules! lies {
    ($($name:ident: $which:literal,)*) => {$(
        #[test]
        fn $name() {
            within(LIMIT, || {
                let mut command = programs::command("program_whose_workers_lie");
                command.env("WHICH", stringify!($which)).stderr(Stdio::null());
                let mut program = Program::start(command);
                let said = program.hear();
                let status = program.wait();
                assert_eq!(said.as_deref(), Some("alive"), "the program ended with {status}");
                assert!(status.success(), "the program ended with {status}");
            });
        }
    )*};
}

// What `ipc-channel` itself takes for granted of a packet is in ARCHITECTURE.md, under known limits.
lies! {
    promise_26_a_packet_of_the_greatest_size_ends_that_worker_alone: 0,
    promise_26_a_packet_larger_than_it_says_ends_that_worker_alone: 4,
    promise_26_a_packet_of_nonsense_with_a_handle_ends_that_worker_alone: 5,
    promise_26_a_packet_of_zeroes_ends_that_worker_alone: 6,
    promise_26_an_empty_packet_ends_that_worker_alone: 13,
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
                let is_small =
                    |number: &str| number.parse().is_ok_and(|number: u32| number < 65536);
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
