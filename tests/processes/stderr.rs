//! What workers write to standard error: all of it comes out at the program's, and the end of it is
//! in the error of one that dies.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs::{self, File};
use std::io::{IsTerminal as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use mp::{Error, ErrorKind, Pool};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, raise};
use nix::sys::stat::Mode;
use nix::unistd::{close, dup2_stderr, mkfifo};

use crate::programs::{self, Directory, End, Program, say};
use crate::watchdog::{until, within};

const LIMIT: Duration = Duration::from_secs(120);

/// More than a pipe holds, and than is read of one at a time.
const LARGE: usize = 1 << 20;

fn abort() -> ! {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).expect("a limit can be lowered");
    std::process::abort()
}

/// Writes without what `eprintln!` has between it and the descriptor.
fn write(text: &str) {
    std::io::stderr()
        .write_all(text.as_bytes())
        .expect("somebody reads it");
}

#[mp::process_fn]
fn echo(number: u64) -> u64 {
    number
}

#[mp::process_fn]
fn write_and_return(text: String) {
    write(&text);
}

#[mp::process_fn]
fn write_and_abort(text: String) {
    write(&text);
    abort();
}

#[mp::process_fn]
fn write_and_hang(text: String) {
    write(&text);
    loop {
        std::thread::park();
    }
}

#[mp::process_fn]
fn kill_itself() {
    raise(Signal::SIGKILL).expect("a process can signal itself");
}

#[mp::process_fn]
fn overflow(depth: u64) -> u64 {
    fn descend(depth: u64) -> u64 {
        let room = [depth; 64];
        match std::hint::black_box(depth) {
            u64::MAX => 0,
            _ => descend(depth + 1) + std::hint::black_box(room)[7],
        }
    }
    setrlimit(Resource::RLIMIT_CORE, 0, 0).expect("a limit can be lowered");
    descend(depth)
}

#[mp::process_fn]
fn fail_to_allocate() {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).expect("a limit can be lowered");
    std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u8; 12345]>());
}

/// Many whole lines, each in one piece.
#[mp::process_fn]
fn write_lines(writer: usize, lines: usize) {
    for number in 0..lines {
        write(&line(writer, number));
    }
}

/// What standard error is.
#[mp::process_fn]
fn standard_error() -> (String, bool) {
    let link = fs::read_link("/proc/self/fd/2").expect("it is open");
    let is_terminal = std::io::stderr().is_terminal();
    (link.display().to_string(), is_terminal)
}

/// Dies, and leaves a process that has its standard error until somebody opens the pipe `path`.
#[expect(clippy::zombie_processes, reason = "it outlives its parent")]
#[mp::process_fn]
fn leave_somebody_behind(path: String) {
    let script = "echo begun >&2; read x < \"$0\"; echo late >&2";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, &path])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let _child = command.spawn().expect("there is a shell");
    abort();
}

fn line(writer: usize, number: usize) -> String {
    let filling = "x".repeat((writer * 31 + number * 7) % 150);
    format!("writer {writer} line {number} {filling} end\n")
}

fn large_text() -> String {
    let lines = (0..).map(|number| line(9, number));
    let mut length = 0;
    lines
        .take_while(|line| {
            length += line.len();
            length <= LARGE
        })
        .collect()
}

#[track_caller]
fn check_died(error: &Error, signal: Signal) {
    assert_eq!(error.kind(), ErrorKind::Died, "{error}");
    assert_eq!(error.signal(), Some(signal as i32), "{error}");
    let said = format!("{error} {error:?}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

fn program(name: &str, body: impl FnOnce()) {
    programs::program(name, LIMIT, body);
}

/// Runs a program whose standard error is a pipe to this test.
fn run(name: &str) -> End {
    let mut command = programs::command(name);
    command.stderr(Stdio::piped());
    let end = Program::start(command).finish();
    assert!(end.status.success(), "{}: {}", end.status, end.stderr);
    end
}

#[mp::test]
fn promise_06_the_error_has_the_end_of_what_a_dead_worker_wrote() {
    within(LIMIT, || {
        // There is room for a backtrace.
        let pool = Pool::builder().workers(2).stderr_tail(1 << 16).build();
        let pool = pool.unwrap();
        let error = pool.apply(write_and_abort, ("one\ntwo".into(),));
        let error = error.unwrap_err();
        check_died(&error, Signal::SIGABRT);
        assert_eq!(error.stderr(), Some("one\ntwo"));
        assert_eq!(error.clone().stderr(), Some("one\ntwo"));

        let error = pool.apply(overflow, (0,)).unwrap_err();
        check_died(&error, Signal::SIGABRT);
        let tail = error.stderr().expect("the runtime says something");
        assert!(tail.contains("has overflowed its stack"), "{tail}");

        let error = pool.apply(fail_to_allocate, ()).unwrap_err();
        check_died(&error, Signal::SIGABRT);
        let tail = error.stderr().expect("the runtime says something");
        assert!(tail.contains("allocation of 12345 bytes failed"), "{tail}");

        // It is each worker's own, and one that said nothing has none.
        let error = pool.apply(kill_itself, ()).unwrap_err();
        check_died(&error, Signal::SIGKILL);
        assert_eq!(error.stderr(), None);
        assert_eq!(pool.apply(echo, (7,)).unwrap(), 7);
    });
}

#[mp::test]
fn an_item_that_took_too_long_has_what_its_worker_wrote() {
    within(LIMIT, || {
        let pool = Pool::builder()
            .workers(1)
            .task_timeout(Duration::from_millis(300))
            .build()
            .unwrap();
        let error = pool.apply(write_and_hang, ("it began\n".into(),));
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        // On a machine that is busy it may not have begun in time.
        assert!(matches!(error.stderr(), Some("it began\n") | None));
    });
}

#[mp::test]
fn of_much_text_the_tail_is_the_last_whole_lines() {
    within(LIMIT, || {
        let text = large_text();
        for kept in [1000, 4096, 200_000] {
            let pool = Pool::builder().workers(1).stderr_tail(kept).build();
            let error = pool.unwrap().apply(write_and_abort, (text.clone(),));
            let error = error.unwrap_err();
            let tail = error.stderr().expect("it wrote a lot");
            assert!(text.ends_with(tail), "{tail}");
            assert!(tail.starts_with("writer 9 line "), "{tail}");
            assert!(tail.len() <= kept && tail.len() > kept - 300);
        }
        // Two workers that are killed at once know nothing of each other's words.
        let pool = Pool::builder().workers(2).stderr_tail(usize::MAX).build();
        let pool = pool.unwrap();
        let tasks = ["a", "b"].map(|word| {
            let text = format!("{word}\n").repeat(50_000);
            pool.submit(write_and_abort, (text.clone(),))
                .map(|task| (text, task))
        });
        for task in tasks {
            let (text, task) = task.unwrap();
            let error = task.join().unwrap_err();
            assert!(error.stderr() == Some(&text), "it is another text");
        }
    });
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_many_words() {
    program("program_of_many_words", || {
        let pool = Pool::new(2).unwrap();
        pool.apply(write_and_abort, (large_text(),)).unwrap_err();
    });
}

#[test]
fn everything_is_forwarded_however_much_it_is() {
    within(LIMIT, || {
        let end = run("program_of_many_words");
        let (is, shall_be) = (end.stderr, large_text());
        assert!(is == shall_be, "{} of {} bytes", is.len(), shall_be.len());
    });
}

/// So many that without an order one of them would be late, and so few that the pipe to the test
/// has room for what they write.
const DEATHS: usize = 60;

/// What a dying worker writes, without an end, and what the program says of it.
fn death(number: usize) -> (String, String) {
    let words = "words ".repeat(80);
    (
        format!("death {number}: {words}"),
        format!("is over {number}\n"),
    )
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_many_deaths() {
    program("program_of_many_deaths", || {
        let pool = Pool::new(2).unwrap();
        for number in 0..DEATHS {
            let (last_words, comment) = death(number);
            pool.apply(write_and_abort, (last_words,)).unwrap_err();
            write(&comment);
        }
    });
}

#[test]
fn last_words_stand_before_what_the_program_says_of_the_error() {
    within(LIMIT, || {
        let end = run("program_of_many_deaths");
        let deaths = (0..DEATHS).map(death);
        let expected: String = deaths
            .flat_map(|(words, comment)| [words, comment])
            .collect();
        assert_eq!(end.stderr, expected);
    });
}

const WRITERS: usize = 8;
const LINES: usize = 3000;

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_many_writers() {
    program("program_of_many_writers", || {
        let pool = Pool::new(4).unwrap();
        let writers = (0..WRITERS).map(|writer| (writer, LINES));
        pool.starmap(write_lines, writers).unwrap();
        pool.join().unwrap();
        eprintln!("all are done");
    });
}

#[test]
fn lines_of_many_workers_are_whole_and_none_is_lost() {
    within(LIMIT, || {
        let end = run("program_of_many_writers");
        let mut next = [0; WRITERS];
        let mut lines = end.stderr.split_inclusive('\n');
        for text in lines.by_ref().take(WRITERS * LINES) {
            let words: Vec<&str> = text.split(' ').collect();
            let writer = words.get(1).and_then(|word| word.parse::<usize>().ok());
            let writer = writer.unwrap_or_else(|| panic!("{text} is no whole line"));
            assert_eq!(text, line(writer, next[writer]));
            next[writer] += 1;
        }
        assert_eq!(next, [LINES; WRITERS]);
        assert_eq!(lines.next(), Some("all are done\n"));
    });
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_that_ends_at_once() {
    program("program_that_ends_at_once", || {
        // Nothing ends this pool but the end of the program.
        mp::pool::apply(write_and_return, ("the last words".into(),)).unwrap();
    });
}

#[test]
fn what_was_written_before_the_program_ends_is_forwarded() {
    within(LIMIT, || {
        let end = run("program_that_ends_at_once");
        assert_eq!(end.stderr, "the last words");
    });
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_a_prompt() {
    program("program_of_a_prompt", || {
        let pool = Pool::new(1).unwrap();
        let task = pool.submit(write_and_hang, ("password: ".into(),));
        let task = task.unwrap();
        say("asked");
        // The test kills the program when it has read that.
        task.wait();
    });
}

#[test]
fn a_line_without_an_end_is_not_held_back() {
    within(LIMIT, || {
        use std::io::Read as _;
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut command = programs::command("program_of_a_prompt");
        command.stderr(writer);
        let mut program = Program::start(command);
        program.expect("asked");
        let mut text = [0; 10];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"password: ");
    });
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_that_has_descendants() {
    program("program_that_has_descendants", || {
        let directory = Directory::new();
        let path = directory.join("fifo");
        mkfifo(path.as_str(), Mode::S_IRWXU).unwrap();
        let pool = Pool::new(1).unwrap();
        pool.apply(echo, (1,)).unwrap();
        let own = programs::open_descriptors();
        let error = pool.apply(leave_somebody_behind, (path.clone(),));
        check_died(&error.unwrap_err(), Signal::SIGABRT);
        // Its place is taken, and its pipe is still there.
        pool.apply(echo, (1,)).unwrap();
        assert!(programs::open_descriptors() > own);
        eprintln!("the error was there");
        drop(File::options().write(true).open(&path).unwrap());
        // Then that is the end of it.
        until(|| programs::open_descriptors() == own);
    });
}

#[test]
fn a_process_that_keeps_the_pipe_does_not_hold_up_the_error_and_is_heard() {
    within(LIMIT, || {
        let end = run("program_that_has_descendants");
        let lines: Vec<&str> = end.stderr.lines().collect();
        // The first two may come in any order.
        assert!(lines.contains(&"begun"), "{lines:?}");
        assert!(lines.contains(&"the error was there"), "{lines:?}");
        assert_eq!((lines.len(), lines.last()), (3, Some(&"late")), "{lines:?}");
    });
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_that_keeps_nothing() {
    program("program_that_keeps_nothing", || {
        let own = fs::read_link("/proc/self/fd/2").unwrap();
        let pool = Pool::builder().workers(1).stderr_tail(0).build().unwrap();
        let (workers, _) = pool.apply(standard_error, ()).unwrap();
        assert_eq!(workers, own.display().to_string());
        let error = pool.apply(write_and_abort, ("one\n".into(),));
        assert_eq!(error.unwrap_err().stderr(), None);
        // Nor does the thread exist.
        let threads = fs::read_dir("/proc/self/task").unwrap();
        let mut names = threads.filter_map(|entry| {
            let path = entry.ok()?.path().join("comm");
            fs::read_to_string(path).ok()
        });
        assert!(!names.any(|name| name == "mp-stderr\n"));

        let pool = Pool::new(1).unwrap();
        let (workers, is_terminal) = pool.apply(standard_error, ()).unwrap();
        assert_ne!(workers, own.display().to_string());
        assert!(workers.starts_with("pipe:") && !is_terminal);
        // A process that has one of its own, or none but the program's, keeps that.
        let process = mp::spawn!(standard_error()).unwrap();
        assert_eq!(process.join().unwrap().0, own.display().to_string());
    });
}

#[test]
fn without_a_tail_workers_write_to_the_programs_standard_error_themselves() {
    within(LIMIT, || {
        let end = run("program_that_keeps_nothing");
        assert_eq!(end.stderr, "one\n");
    });
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_that_nobody_listens_to() {
    program("program_that_nobody_listens_to", || {
        let pool = Pool::new(2).unwrap();
        // More than the pipe to the test holds.
        let filling = line(1, 1).repeat(100_000 / line(1, 1).len());
        pool.apply(write_and_return, (filling,)).unwrap();
        for _ in 0..5 {
            let error = pool.apply(write_and_abort, ("nobody hears\n".into(),));
            let error = error.unwrap_err();
            let tail = error.stderr().expect("it wrote that");
            assert!(tail.ends_with("nobody hears\n"), "{tail}");
        }
        assert_eq!(pool.map(echo, 0..100).unwrap().len(), 100);
        pool.terminate();
        say("done");
        // The test reads from here on, and then all of it is there.
        eprintln!("and that is all");
    });
}

#[test]
fn promise_04_a_blocked_standard_error_holds_up_no_error() {
    within(LIMIT, || {
        let mut command = programs::command("program_that_nobody_listens_to");
        command.stderr(Stdio::piped());
        let mut program = Program::start(command);
        program.expect("done");
        let end = program.finish();
        assert!(end.status.success(), "{}: {}", end.status, end.stderr);
        // What the program says itself may stand between them.
        let heard = end.stderr.matches("nobody hears\n").count();
        assert_eq!(heard, 5, "{}", end.stderr.len());
    });
}

/// The text of a worker that writes much and dies.
fn check_a_death(pool: &Pool) {
    let text = large_text();
    let error = pool.apply(write_and_abort, (text.clone(),)).unwrap_err();
    let tail = error.stderr().expect("it wrote a lot");
    assert!(text.ends_with(tail), "{tail}");
}

#[mp::test]
#[ignore = "a program that another test runs"]
fn program_of_other_standard_errors() {
    program("program_of_other_standard_errors", || {
        let pool = Pool::new(1).unwrap();
        fcntl(std::io::stderr(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        check_a_death(&pool);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        dup2_stderr(&writer).unwrap();
        check_a_death(&pool);
        // Whoever starts a worker just now would get its number.
        pool.apply(echo, (1,)).unwrap();
        close(2).unwrap();
        check_a_death(&pool);
        // A start and a death where the number of standard error is free.
        let error = pool.apply(write_and_abort, ("one\n".into(),));
        assert_eq!(error.unwrap_err().stderr(), Some("one\n"));
        let more = Pool::new(1).unwrap();
        check_a_death(&more);
        say(pool.map(echo, 0..10).unwrap().len());
    });
}

#[test]
fn standard_error_may_be_non_blocking_broken_or_closed() {
    within(LIMIT, || {
        let end = run("program_of_other_standard_errors");
        assert!(
            end.stderr == large_text(),
            "{} bytes came",
            end.stderr.len()
        );
        assert_eq!(end.said, ["10"]);
    });
}

/// Not one of `#[mp::test]`, since its workers say something before they come to `init`.
#[test]
#[ignore = "a program that another test runs"]
fn program_whose_workers_cannot_start() {
    program("program_whose_workers_cannot_start", || {
        if std::env::var_os("MP_WORKER_DESCRIPTORS").is_some() {
            write("no library for that\n");
            std::process::exit(3);
        }
        mp::init();
        let error = Pool::new(1).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Spawn, "{error}");
        assert_eq!(error.stderr(), Some("no library for that\n"), "{error}");
    });
}

#[test]
fn promise_20_a_worker_that_cannot_start_says_why() {
    within(LIMIT, || {
        let end = run("program_whose_workers_cannot_start");
        assert_eq!(end.stderr, "no library for that\n");
    });
}
