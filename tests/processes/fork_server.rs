//! The fork server: what comes from it is what an exec gives, and whatever becomes of it, processes
//! start, and nobody is left over.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{ExitStatusExt as _, parent_id};
use std::process::{Command, Stdio};
use std::time::Duration;

use mp::{Builder, ErrorKind, Pool, StartMethod};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::Pid;

use crate::programs::{self, Directory, Program, fork_servers_of, say};
use crate::watchdog::{until, within};

const LIMIT: Duration = Duration::from_secs(120);

/// Whether this process was forked: then what it was executed with is what its server was.
#[mp::process_fn]
fn was_forked() -> bool {
    let environment = fs::read("/proc/self/environ").expect("there is /proc");
    let mut entries = environment.split(|&byte| byte == 0);
    entries.any(|entry| {
        let fds = entry.strip_prefix(b"MP_WORKER_DESCRIPTORS=");
        fds.is_some_and(|fds| fds.windows(5).any(|window| window == b",-,-,"))
    })
}

#[mp::process_fn]
fn echo(number: u64) -> u64 {
    number
}

#[mp::process_fn]
fn parent() -> (u32, u32) {
    (mp::current().parent_id, parent_id())
}

#[mp::process_fn]
fn own_umask() -> u32 {
    umask(Mode::empty()).bits()
}

#[mp::process_fn]
fn meet_end(how: &str) {
    match how {
        "exit" => std::process::exit(7),
        "abort" => std::process::abort(),
        "panic" => panic!("as it was told"),
        "overflow" => {
            #[expect(unconditional_recursion, reason = "that is the point")]
            fn deeper(at: &mut [u8; 4096]) -> u8 {
                let mut more = *at;
                more[1] = deeper(&mut more);
                more[1]
            }
            let _ = deeper(&mut [0; 4096]);
        }
        _ => loop {
            std::thread::park();
        },
    }
}

/// What a process has from its parent.
#[mp::process_fn]
fn look_around() -> Vec<String> {
    let mut seen: Vec<String> = std::env::vars()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    seen.sort();
    let status = fs::read_to_string("/proc/thread-self/status").expect("there is /proc");
    let names = [
        "Umask:",
        "Uid:",
        "Gid:",
        "Groups:",
        "SigBlk:",
        "SigIgn:",
        "SigCgt:",
        "Cap",
        "NoNewPrivs:",
        "Seccomp",
        "Cpus_allowed:",
    ];
    let lines = status
        .lines()
        .filter(|line| names.iter().any(|name| line.starts_with(name)));
    seen.extend(lines.map(str::to_owned));
    let directory = std::env::current_dir().expect("it is there");
    seen.push(directory.display().to_string());
    let limits = fs::read_to_string("/proc/self/limits").expect("there is /proc");
    seen.extend(limits.lines().map(str::to_owned));
    for name in ["cgroup", "oom_score_adj"] {
        seen.push(fs::read_to_string(format!("/proc/self/{name}")).expect("there is /proc"));
    }
    let stat = fs::read_to_string("/proc/self/stat").expect("there is /proc");
    let (_, fields) = stat.rsplit_once(')').expect("the name ends");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // Parent, group, session, terminal, its group; niceness.
    seen.extend(
        fields[1..6]
            .iter()
            .chain(&fields[16..17])
            .map(|&field| field.to_owned()),
    );
    seen.push(format!("{:?}", std::env::args().collect::<Vec<_>>()));
    let mut kinds: Vec<String> = fs::read_dir("/proc/self/fd")
        .expect("there is /proc")
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .map(|target| target.display().to_string())
        .map(|target| target.split(":[").next().unwrap_or_default().to_owned())
        // Those that lead to its parent, of which one that is executed has fewer at first.
        .filter(|target| !target.ends_with("/fd") && target != "socket")
        .collect();
    kinds.sort();
    seen.extend(kinds);
    seen
}

/// What depends on glibc's knowing the id of this thread.
#[mp::process_fn]
fn knows_its_thread() -> bool {
    let mut clock = 0;
    // SAFETY: it takes nothing and cannot fail.
    #[expect(unsafe_code, reason = "glibc tells the id it keeps by no safe call")]
    let own = unsafe { nix::libc::pthread_self() };
    // SAFETY: the thread runs; a number is written to a place that is valid for that.
    #[expect(unsafe_code, reason = "as above")]
    let told = unsafe { nix::libc::pthread_getcpuclockid(own, &raw mut clock) };
    // A clock of a thread is named by its id (clock_getcpuclockid(3) of glibc, posix-timers.h).
    let own = !(nix::unistd::gettid().as_raw()) << 3 | 6;
    let others = std::thread::spawn(nix::unistd::gettid)
        .join()
        .expect("it returns");
    told == 0 && clock == own && others != nix::unistd::gettid()
}

/// Starts processes until one was forked: while a new server takes long to come, they are executed.
fn spawn_forked() {
    until(|| {
        let builder = Builder::new().start_method(StartMethod::ForkServer);
        let process = builder.spawn(was_forked, ());
        process.and_then(mp::Process::join).expect("it comes")
    });
}

fn only_server() -> Pid {
    let servers = || {
        let mut servers = fork_servers_of(std::process::id());
        servers.retain(|&id| programs::is_alive(id));
        servers
    };
    until(|| servers().len() == 1);
    Pid::from_raw(servers()[0].cast_signed())
}

fn program(name: &str, body: impl FnOnce()) {
    if programs::is_asked(name) {
        mp::init();
        within(LIMIT, body);
    }
}

/// The program called `name`, whatever the tests are run with.
fn command(name: &str) -> Command {
    let mut command = programs::command(name);
    command
        .env("MP_START_METHOD", "forkserver")
        .stderr(Stdio::piped());
    command
}

#[track_caller]
fn check(name: &str) -> String {
    let end = Program::start(command(name)).finish();
    assert!(
        end.status.success(),
        "`{name}` ended with {}: {}",
        end.status,
        end.stderr
    );
    end.stderr
}

/// Nobody is left: neither a process nor a zombie.
fn check_nobody_is_left() {
    until(|| {
        let mut left = programs::all_children_of(std::process::id());
        left.retain(|&id| !(programs::is_fork_server(id) && programs::is_alive(id)));
        left.is_empty()
    });
}

#[test]
#[ignore = "a program that another test runs"]
fn program_of_forked_processes() {
    program("program_of_forked_processes", || {
        spawn_forked();
        let own = std::process::id();
        let process = mp::spawn!(parent()).expect("it starts");
        assert_eq!(process.join().expect("it returns"), (own, own));
        let process = mp::spawn!(meet_end("exit".into())).expect("it starts");
        process.wait();
        assert_eq!(
            process.exit_status().and_then(|status| status.code()),
            Some(7)
        );
        for (how, number) in [("abort", 6), ("overflow", 6)] {
            let error = mp::spawn!(meet_end(how.into())).and_then(mp::Process::join);
            let error = error.expect_err("it dies");
            assert_eq!(
                (error.kind(), error.signal()),
                (ErrorKind::Died, Some(number)),
                "{error}"
            );
        }
        let error = mp::spawn!(meet_end("panic".into())).and_then(mp::Process::join);
        assert_eq!(error.expect_err("it panics").kind(), ErrorKind::Panicked);
        for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGUSR1] {
            let process = mp::spawn!(meet_end("never".into())).expect("it starts");
            let id = Pid::from_raw(process.id().cast_signed());
            kill(id, signal).expect("it is there");
            process.wait();
            let status = process.exit_status().expect("nobody else collects it");
            assert_eq!(status.signal(), Some(signal as i32));
        }
        let process = mp::spawn!(meet_end("never".into())).expect("it starts");
        process.interrupt().expect("it is there");
        assert_eq!(process.join().expect_err("it ends").signal(), Some(2));
        assert!(
            mp::spawn!(knows_its_thread())
                .and_then(mp::Process::join)
                .expect("it returns")
        );
        // The server is no child that anybody is told of.
        assert_eq!(mp::active_children(), []);
        assert!(programs::is_alive(only_server().as_raw().cast_unsigned()));
        check_nobody_is_left();
    });
}

#[test]
fn a_forked_process_is_a_child_of_the_program_and_ends_as_any() {
    within(LIMIT, || check("program_of_forked_processes"));
}

#[test]
#[ignore = "a program that another test runs"]
fn program_that_changes() {
    program("program_that_changes", || {
        let looks = || {
            let methods = [StartMethod::ForkServer, StartMethod::Exec];
            let looks = methods.map(|method| {
                let builder = Builder::new().name("looker").start_method(method);
                let process = builder.spawn(look_around, ()).expect("it starts");
                process.join().expect("it returns")
            });
            assert_eq!(looks[0], looks[1]);
            spawn_forked();
            let [forked, _] = looks;
            forked
        };
        let mut before = looks();
        let mut check_changed = |what: &str| {
            let now = looks();
            assert_ne!(now, before, "{what}");
            before = now;
        };
        let directory = Directory::new();
        #[expect(unsafe_code, reason = "nobody else looks at it meanwhile")]
        // SAFETY: the other threads of this program do not look at the environment now.
        unsafe {
            std::env::set_var("MP_TEST_NEW", "1");
        }
        check_changed("environment");
        std::env::set_current_dir(directory.path()).expect("it is there");
        check_changed("working directory");
        umask(Mode::from_bits_truncate(0o077));
        check_changed("umask");
        let (_, hard) = getrlimit(Resource::RLIMIT_CORE).expect("it can be asked");
        let other = if hard == 0 {
            Resource::RLIMIT_NOFILE
        } else {
            Resource::RLIMIT_CORE
        };
        let (soft, hard) = getrlimit(other).expect("it can be asked");
        let lower = if soft == 0 { hard.min(4096) } else { soft - 1 };
        setrlimit(other, lower, hard).expect("it is lower");
        check_changed("limits");
        #[expect(unsafe_code, reason = "a disposition without a handler")]
        // SAFETY: no handler is installed.
        unsafe { signal(Signal::SIGUSR1, SigHandler::SigIgn) }.expect("it can be ignored");
        check_changed("ignored signals");
        fs::write("/proc/self/oom_score_adj", "500").expect("it may be raised");
        check_changed("oom_score_adj");
        nix::sys::prctl::set_no_new_privs().expect("anybody may");
        looks();
        let _ = std::env::set_current_dir("/");
        check_changed("working directory again");
        check_nobody_is_left();
    });
}

#[test]
fn a_forked_process_has_from_the_program_what_an_executed_one_has() {
    within(LIMIT, || check("program_that_changes"));
}

#[test]
#[ignore = "a program that another test runs"]
fn program_that_changes_while_others_start() {
    program("program_that_changes_while_others_start", || {
        let is_done = std::sync::atomic::AtomicBool::new(false);
        let starts = || {
            let mut number = 0;
            while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                let process = mp::spawn!(echo(number)).expect("it starts");
                assert_eq!(process.join().expect("it returns"), number);
                number += 1;
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(starts);
            }
            for mask in (0o001..0o077).cycle().take(80) {
                umask(Mode::from_bits_truncate(mask));
                // Others have compared what there is again and again: not since this.
                let process = mp::spawn!(own_umask()).expect("it starts");
                assert_eq!(process.join().expect("it returns"), mask);
            }
            is_done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        check_nobody_is_left();
    });
}

#[test]
fn a_change_counts_for_whoever_starts_after_it() {
    within(LIMIT, || check("program_that_changes_while_others_start"));
}

#[test]
#[ignore = "a program that another test runs"]
fn program_whose_server_is_killed() {
    program("program_whose_server_is_killed", || {
        for _ in 0..5 {
            spawn_forked();
            kill(only_server(), Signal::SIGKILL).expect("it is there");
            spawn_forked();
        }
        // In the middle of requests: it is stopped, asked, and killed.
        for _ in 0..5 {
            spawn_forked();
            let server = only_server();
            kill(server, Signal::SIGSTOP).expect("it is there");
            until(|| programs::state(server.as_raw().cast_unsigned()) == Some('T'));
            std::thread::scope(|scope| {
                for number in 0..4 {
                    scope.spawn(move || {
                        let process = mp::spawn!(echo(number)).expect("it starts");
                        assert_eq!(process.join().expect("it returns"), number);
                    });
                }
                kill(server, Signal::SIGKILL).expect("it is there");
            });
        }
        check_nobody_is_left();
    });
}

#[test]
fn promise_20_a_killed_server_is_replaced_and_no_start_fails() {
    within(LIMIT, || check("program_whose_server_is_killed"));
}

#[test]
#[ignore = "a program that another test runs"]
fn program_whose_server_is_killed_again_and_again() {
    program("program_whose_server_is_killed_again_and_again", || {
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        let killer = std::thread::spawn(move || {
            let pause = Duration::from_micros(700);
            while is_done.recv_timeout(pause) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                for server in fork_servers_of(std::process::id()) {
                    let _ = kill(Pid::from_raw(server.cast_signed()), Signal::SIGKILL);
                }
            }
        });
        for number in 0..150 {
            // A process that has not named itself yet looks like its server to the killer.
            match mp::spawn!(echo(number)).map(mp::Process::join) {
                Ok(Ok(same)) => assert_eq!(same, number),
                Ok(Err(error)) => assert!(
                    matches!(error.kind(), ErrorKind::Died | ErrorKind::Spawn),
                    "{error}"
                ),
                Err(error) => panic!("{error}"),
            }
        }
        drop(done);
        killer.join().expect("it does not panic");
        check_nobody_is_left();
        // Servers that never came are tried again after a while.
        until(|| {
            mp::spawn!(was_forked())
                .and_then(mp::Process::join)
                .expect("it returns")
        });
    });
}

#[test]
fn promise_21_whenever_a_server_is_killed_nobody_is_left_over() {
    within(LIMIT, || {
        check("program_whose_server_is_killed_again_and_again")
    });
}

#[test]
#[ignore = "a program that another test runs"]
fn program_whose_server_is_stopped() {
    program("program_whose_server_is_stopped", || {
        spawn_forked();
        kill(only_server(), Signal::SIGSTOP).expect("it is there");
        // Who waits behind the first one does not wait for as long again.
        std::thread::scope(|scope| {
            for number in 0..4 {
                scope.spawn(move || {
                    let process = mp::spawn!(echo(number)).expect("it starts");
                    assert_eq!(process.join().expect("it returns"), number);
                });
            }
        });
        spawn_forked();
        check_nobody_is_left();
    });
}

#[test]
fn promise_20_a_server_that_does_not_answer_is_done_without() {
    within(LIMIT, || check("program_whose_server_is_stopped"));
}

#[test]
#[ignore = "a program that another test runs"]
fn program_that_is_killed_with_its_server_stopped() {
    program("program_that_is_killed_with_its_server_stopped", || {
        spawn_forked();
        let _process = mp::spawn!(meet_end("never".into())).expect("it starts");
        kill(only_server(), Signal::SIGSTOP).expect("it is there");
        say("ready");
        std::thread::park();
    });
}

#[test]
fn promise_17_a_server_does_not_survive_its_program() {
    within(LIMIT, || {
        let name = "program_that_is_killed_with_its_server_stopped";
        let mut program = Program::start(command(name));
        program.expect("ready");
        program.signal(Signal::SIGKILL);
        program.check_gone_but(&[]);
    });
}

/// Not one of `#[mp::test]`: what stands before `init` is of interest.
#[test]
#[ignore = "a program that another test runs"]
fn program_with_a_thread_before_init() {
    if !programs::is_asked("program_with_a_thread_before_init") {
        return;
    }
    std::thread::spawn(|| {
        loop {
            std::thread::park();
        }
    });
    mp::init();
    within(LIMIT, || {
        for _ in 0..3 {
            let process = mp::spawn!(was_forked()).expect("it starts");
            assert!(!process.join().expect("it returns"));
        }
        assert_eq!(fork_servers_of(std::process::id()), []);
    });
}

#[test]
fn a_program_with_a_thread_before_init_is_told_once_and_works() {
    within(LIMIT, || {
        let said = check("program_with_a_thread_before_init");
        let lines: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("mp: "))
            .collect();
        assert!(
            lines.len() == 1 && lines[0].contains("another thread"),
            "{said}"
        );
    });
}

/// As above.
#[test]
#[ignore = "a program that another test runs"]
fn program_whose_server_does_not_come() {
    if !programs::is_asked("program_whose_server_does_not_come") {
        return;
    }
    let fds = std::env::var("MP_WORKER_DESCRIPTORS").unwrap_or_default();
    if fds.contains(",-,-,") {
        match std::env::var("FATE").as_deref() {
            Ok("exit") => std::process::exit(5),
            _ => loop {
                std::thread::park();
            },
        }
    }
    mp::init();
    within(LIMIT, || {
        let pool = Pool::new(2).expect("workers come");
        assert!(
            pool.map(echo, 0..10)
                .expect("they return")
                .into_iter()
                .eq(0..10)
        );
        assert!(!pool.apply(was_forked, ()).expect("it returns"));
        for number in 0..5 {
            let process = mp::spawn!(echo(number)).expect("it starts");
            assert_eq!(process.join().expect("it returns"), number);
        }
        say("works");
    });
}

#[test]
fn promise_20_a_server_that_does_not_come_to_init_is_done_without() {
    within(LIMIT, || {
        for fate in ["exit", "hang"] {
            let mut command = command("program_whose_server_does_not_come");
            command.env("FATE", fate);
            let mut program = Program::start(command);
            program.expect("works");
            assert!(program.wait().success(), "{fate}");
            program.check_gone_but(&[]);
        }
    });
}

#[test]
#[ignore = "a program that another test runs"]
fn program_of_both_methods() {
    program("program_of_both_methods", || {
        let is_forked_by = |builder: Builder| {
            let process = builder.spawn(was_forked, ()).expect("it starts");
            process.join().expect("it returns")
        };
        spawn_forked();
        let default = std::env::var("MP_START_METHOD").as_deref() != Ok("exec");
        assert_eq!(is_forked_by(Builder::new()), default);
        assert!(is_forked_by(
            Builder::new().start_method(StartMethod::ForkServer)
        ));
        assert!(!is_forked_by(
            Builder::new().start_method(StartMethod::Exec)
        ));
        // It may mean something to what runs before `init`.
        let builder = Builder::new().start_method(StartMethod::ForkServer);
        assert!(!is_forked_by(builder.env("LD_BIND_NOW", "1")));
        for method in [StartMethod::ForkServer, StartMethod::Exec] {
            let pool = Pool::builder().workers(2).start_method(method).build();
            let pool = pool.expect("workers come");
            let is_forked = pool.apply(was_forked, ()).expect("it returns");
            assert_eq!(is_forked, method == StartMethod::ForkServer);
        }
    });
}

#[test]
fn the_method_is_what_the_builder_says_or_else_the_environment() {
    within(LIMIT, || {
        for method in ["exec", "forkserver"] {
            let mut command = command("program_of_both_methods");
            command.env("MP_START_METHOD", method);
            let end = Program::start(command).finish();
            assert!(end.status.success(), "{method}: {}", end.stderr);
        }
    });
}

#[test]
#[ignore = "a program that another test runs"]
fn program_of_a_directory_that_cannot_be_entered() {
    program("program_of_a_directory_that_cannot_be_entered", || {
        spawn_forked();
        let directory = Directory::new();
        let closed = directory.path().join("closed");
        fs::create_dir(&closed).expect("it is new");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("it is ours");
        let errors = [StartMethod::ForkServer, StartMethod::Exec].map(|method| {
            let builder = Builder::new()
                .name("p")
                .start_method(method)
                .current_dir(&closed);
            let process = builder.spawn(echo, (1,)).and_then(mp::Process::join);
            process.map_err(|error| (error.kind(), error.to_string()))
        });
        // Root may.
        assert_eq!(errors[0], errors[1]);
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("it is ours");
        let builder = Builder::new()
            .current_dir(&closed)
            .stdout(mp::Stdio::null());
        let builder = builder.start_method(StartMethod::ForkServer);
        let seen = builder.spawn(look_around, ()).and_then(mp::Process::join);
        assert!(
            seen.expect("it returns")
                .contains(&closed.display().to_string())
        );
        // The server is where it was.
        let process = mp::spawn!(look_around()).and_then(mp::Process::join);
        let own = std::env::current_dir()
            .expect("it is there")
            .display()
            .to_string();
        assert!(process.expect("it returns").contains(&own));
        spawn_forked();
    });
}

#[test]
fn a_directory_is_entered_by_a_forked_process_as_by_an_executed_one() {
    within(LIMIT, || {
        check("program_of_a_directory_that_cannot_be_entered")
    });
}

/// Has the kernel refuse to fork children of one's own parent, to this thread and all that come from
/// it. Whoever is executed does so once more.
fn forbid_forks_of_siblings() {
    forbid(libc::SYS_clone, libc::CLONE_PARENT as u32, libc::EPERM);
}

/// Has the kernel refuse a system call with this error, to this thread and all that come from it,
/// where its first argument has one of these bits.
fn forbid(call: libc::c_long, bits: u32, error: i32) {
    use nix::libc::{sock_filter, sock_fprog};

    let statement = |code: u32, k: u32| sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let unless = |code: u32, k: u32, skipped: u8| sock_filter {
        jf: skipped,
        ..statement(libc::BPF_JMP | code | libc::BPF_K, k)
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let (number_at, argument_at) = (0, 16);
    let refuse = libc::SECCOMP_RET_ERRNO | error as u32;
    let mut filter = [
        statement(load, number_at),
        unless(libc::BPF_JEQ, call as u32, 3),
        statement(load, argument_at),
        unless(libc::BPF_JSET, bits, 1),
        statement(libc::BPF_RET | libc::BPF_K, refuse),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    nix::sys::prctl::set_no_new_privs().expect("anybody may");
    // SAFETY: the program is there during the call, which copies it.
    #[expect(unsafe_code, reason = "a filter is a raw call")]
    let set = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

/// Not one of `#[mp::test]`: what stands before `init` is of interest.
#[test]
#[ignore = "a program that another test runs"]
fn program_whose_server_may_not_fork() {
    if !programs::is_asked("program_whose_server_may_not_fork") {
        return;
    }
    forbid_forks_of_siblings();
    mp::init();
    within(LIMIT, || {
        let threads = [0, 1, 2].map(|number| {
            std::thread::spawn(move || {
                for _ in 0..3 {
                    let process = mp::spawn!(echo(number)).expect("it starts");
                    assert_eq!(process.join().expect("it returns"), number);
                }
            })
        });
        for thread in threads {
            thread.join().expect("it does not panic");
        }
        let process = mp::spawn!(was_forked()).expect("it starts");
        assert!(!process.join().expect("it returns"));
        until(|| fork_servers_of(std::process::id()).is_empty());
        check_nobody_is_left();
    });
}

#[test]
fn promise_20_a_server_that_may_not_fork_is_done_without_and_that_is_said_once() {
    within(LIMIT, || {
        let said = check("program_whose_server_may_not_fork");
        let lines: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("mp: "))
            .collect();
        assert!(
            lines.len() == 1 && lines[0].contains("may not fork"),
            "{said}"
        );
    });
}

/// As above.
#[test]
#[ignore = "a program that another test runs"]
fn program_that_cannot_send_boot_messages() {
    if !programs::is_asked("program_that_cannot_send_boot_messages") {
        return;
    }
    forbid_forks_of_siblings();
    mp::init();
    within(LIMIT, || {
        // The threads that start processes are there, and may send.
        let first = Builder::new().start_method(StartMethod::Exec);
        let first = first.spawn(echo, (1,)).expect("it starts");
        assert_eq!(first.join().expect("it returns"), 1);
        // Whichever descriptor it is.
        forbid(libc::SYS_sendto, u32::MAX, libc::ENOBUFS);
        let error = mp::spawn!(echo(1)).expect_err("it would wait for its boot message");
        assert_eq!(error.kind(), ErrorKind::Spawn, "{error}");
        assert!(error.to_string().contains("buffer space"), "{error}");
        until(|| fork_servers_of(std::process::id()).is_empty());
        check_nobody_is_left();
    });
}

#[test]
fn promise_20_a_boot_message_that_cannot_be_sent_fails_the_start_at_once() {
    within(LIMIT, || {
        check("program_that_cannot_send_boot_messages");
    });
}

#[mp::process_fn]
fn forever() {
    loop {
        std::thread::park();
    }
}

/// As above.
#[test]
#[ignore = "a program that another test runs"]
fn program_that_may_not_signal_by_descriptor() {
    if !programs::is_asked("program_that_may_not_signal_by_descriptor") {
        return;
    }
    forbid(libc::SYS_pidfd_send_signal, u32::MAX, libc::EPERM);
    mp::init();
    within(LIMIT, || {
        for method in [StartMethod::ForkServer, StartMethod::Exec] {
            let pool = Pool::builder().workers(1).start_method(method);
            let pool = pool.task_timeout(Duration::from_millis(50)).build();
            let pool = pool.expect("it starts");
            let error = pool.apply(forever, ()).expect_err("it takes too long");
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
            assert_eq!(pool.apply(echo, (1,)).expect("there is another worker"), 1);
            let task = pool.submit(forever, ()).expect("it is open");
            pool.terminate();
            assert!(task.join().is_err());
            let ends = [
                (mp::Process::kill as fn(&_) -> _, Signal::SIGKILL),
                (mp::Process::terminate, Signal::SIGTERM),
                (mp::Process::interrupt, Signal::SIGINT),
            ];
            for (end, signal) in ends {
                let process = Builder::new().start_method(method).spawn(forever, ());
                let process = process.expect("it starts");
                end(&process).expect("it is a child");
                let error = process.join().expect_err("it was ended");
                assert_eq!(error.signal(), Some(signal as i32), "{error}");
            }
        }
        check_nobody_is_left();
    });
}

#[test]
fn promise_16_what_takes_too_long_is_ended_where_signals_by_descriptor_are_refused() {
    within(LIMIT, || {
        check("program_that_may_not_signal_by_descriptor");
    });
}

/// Becomes a user that nobody else is, if this is root; limits of processes do not hold for root.
fn become_nobody_else() -> bool {
    use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};

    if !geteuid().is_root() {
        return false;
    }
    let id = 1_000_000 + std::process::id();
    setgroups(&[]).expect("root may");
    setgid(Gid::from_raw(id)).expect("root may");
    setuid(Uid::from_raw(id)).expect("root may");
    true
}

#[test]
#[ignore = "a program that another test runs"]
fn program_without_processes_left() {
    program("program_without_processes_left", || {
        become_nobody_else();
        spawn_forked();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NPROC).expect("it can be asked");
        let check_refused = || {
            for method in [StartMethod::ForkServer, StartMethod::Exec] {
                let builder = Builder::new().name("p").start_method(method);
                let process = builder.spawn(echo, (1,));
                let error = process.and_then(mp::Process::join).expect_err("it cannot");
                assert_eq!(error.kind(), ErrorKind::Spawn, "{error}");
                let text = error.to_string();
                assert!(
                    text.contains("`p`") && text.contains("temporarily unavailable"),
                    "{text}"
                );
            }
            let error = Pool::new(2).expect_err("it cannot");
            assert_eq!(error.kind(), ErrorKind::Spawn, "{error}");
        };
        setrlimit(Resource::RLIMIT_NPROC, 1, hard).expect("it is lower");
        check_refused();
        setrlimit(Resource::RLIMIT_NPROC, soft, hard).expect("it was so");
        spawn_forked();
        check_nobody_is_left();
    });
}

#[test]
fn promise_23_no_processes_left_is_an_error_with_the_reason() {
    within(LIMIT, || check("program_without_processes_left"));
}

#[test]
#[ignore = "a program that another test runs"]
fn program_that_drops_its_privileges() {
    program("program_that_drops_its_privileges", || {
        spawn_forked();
        let before = only_server();
        if !become_nobody_else() {
            return;
        }
        let looks = [StartMethod::ForkServer, StartMethod::Exec].map(|method| {
            let builder = Builder::new().name("looker").start_method(method);
            let process = builder.spawn(look_around, ()).expect("it starts");
            process.join().expect("it returns")
        });
        assert_eq!(looks[0], looks[1]);
        let id = nix::unistd::getuid();
        let line = format!("Uid:\t{id}\t{id}\t{id}\t{id}");
        assert!(looks[0].contains(&line), "{looks:?}");
        // The server that has them still cannot be killed, and ends.
        until(|| !programs::is_alive(before.as_raw().cast_unsigned()));
        spawn_forked();
        check_nobody_is_left();
    });
}

#[test]
fn promise_27_no_process_has_privileges_that_its_program_has_dropped() {
    within(LIMIT, || check("program_that_drops_its_privileges"));
}

#[test]
#[ignore = "a program that another test runs"]
fn program_without_a_directory() {
    program("program_without_a_directory", || {
        let directory = Directory::new();
        std::env::set_current_dir(directory.path()).expect("it is there");
        spawn_forked();
        fs::remove_dir(directory.path()).expect("it is empty");
        for method in [StartMethod::ForkServer, StartMethod::Exec] {
            let builder = Builder::new().start_method(method);
            let process = builder.spawn(echo, (3,)).and_then(mp::Process::join);
            assert_eq!(process.expect("it returns"), 3);
        }
        spawn_forked();
        let builder = Builder::new().current_dir("/");
        let process = builder.spawn(echo, (4,)).and_then(mp::Process::join);
        assert_eq!(process.expect("it returns"), 4);
        check_nobody_is_left();
    });
}

#[test]
fn a_program_whose_directory_was_removed_starts_processes() {
    within(LIMIT, || check("program_without_a_directory"));
}

#[test]
#[ignore = "a program that another test runs"]
fn program_of_many_threads_whose_server_is_killed() {
    program("program_of_many_threads_whose_server_is_killed", || {
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        let killer = std::thread::spawn(move || {
            let pause = Duration::from_millis(3);
            while is_done.recv_timeout(pause) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                for server in fork_servers_of(std::process::id()) {
                    let _ = kill(Pid::from_raw(server.cast_signed()), Signal::SIGKILL);
                }
            }
        });
        let threads: Vec<_> = (0..10)
            .map(|thread| {
                std::thread::spawn(move || {
                    for number in thread * 50..thread * 50 + 50 {
                        // A process that has not named itself yet looks like its server to the
                        // killer.
                        match mp::spawn!(echo(number)).and_then(mp::Process::join) {
                            Ok(same) => assert_eq!(same, number),
                            Err(error) => assert!(
                                matches!(error.kind(), ErrorKind::Died | ErrorKind::Spawn),
                                "{error}"
                            ),
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("it does not panic");
        }
        drop(done);
        killer.join().expect("it does not panic");
        check_nobody_is_left();
    });
}

#[test]
fn promise_20_many_start_at_once_while_servers_are_killed() {
    within(LIMIT, || {
        check("program_of_many_threads_whose_server_is_killed")
    });
}
