//! Programs of their own: the test binary, executed again, straight to one of its tests.
//!
//! Such a test is `#[ignore]`d and returns at once unless it [is asked](is_asked). What it
//! [says](say) is read by the test that started it; the harness's own output is passed over.
#![allow(dead_code, reason = "each test file uses a part of this")]

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// The test that shall be a program.
const PROGRAM: &str = "MP_TEST_PROGRAM";
/// What all processes of a program have in their environment, and nobody else.
const RUN: &str = "MP_TEST_RUN";
/// How long survivors are waited for. Whoever is there then is there to stay.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a line that a program says begins with.
const MARK: &str = "@ ";

/// Whether this process was started as the program called `name`.
pub(crate) fn is_asked(name: &str) -> bool {
    std::env::var(PROGRAM).is_ok_and(|program| program == name)
}

/// What a program does: nothing, unless it was started as the program called `name`; then `body`,
/// under a watchdog of its own.
#[track_caller]
pub(crate) fn program(name: &str, limit: Duration, body: impl FnOnce()) {
    if is_asked(name) {
        crate::watchdog::within(limit, body);
    }
}

/// Says a line to the test.
pub(crate) fn say(line: impl std::fmt::Display) {
    let mut stdout = std::io::stdout().lock();
    let whole = format!("\n{MARK}{line}\n");
    stdout
        .write_all(whole.as_bytes())
        .and_then(|()| stdout.flush())
        .expect("the test reads what its program says");
}

/// A program that runs in a process group of its own. Dropping it kills the program.
pub(crate) struct Program {
    child: Child,
    output: BufReader<ChildStdout>,
    run: String,
    ended: Option<ExitStatus>,
    passed_over: VecDeque<String>,
}

/// What a program left when it ended.
pub(crate) struct End {
    pub(crate) status: ExitStatus,
    /// What it said after what was read before.
    pub(crate) said: Vec<String>,
    /// What it wrote to standard error, if that was piped.
    pub(crate) stderr: String,
}

/// How to start the program called `name`, which is in the file that asks.
#[track_caller]
pub(crate) fn command(name: &str) -> Command {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let run = format!(
        "{}-{}",
        std::process::id(),
        RUNS.fetch_add(1, Ordering::Relaxed)
    );
    let mut command = Command::new(std::env::current_exe().expect("this binary has a path"));
    command
        .arg(name_in_harness(name, Location::caller().file()))
        .args(["--exact", "--include-ignored", "--nocapture"])
        .arg("--test-threads=1")
        .env(PROGRAM, name)
        .env(RUN, run)
        .process_group(0);
    command
}

/// The harness's name of a test: a file in a folder is a module of the suite in `main.rs` there.
fn name_in_harness(name: &str, file: &str) -> String {
    let module = file
        .rsplit_once("tests/")
        .and_then(|(_, file)| file.split_once('/')?.1.strip_suffix(".rs"));
    match module {
        None => name.to_owned(),
        Some(module) => format!("{module}::{name}"),
    }
}

/// Starts the program called `name`.
#[track_caller]
pub(crate) fn start(name: &str) -> Program {
    Program::start(command(name))
}

/// Runs the program called `name`, which must succeed, and returns what it said.
#[track_caller]
pub(crate) fn run(name: &str) -> Vec<String> {
    let end = start(name).finish();
    assert!(end.status.success(), "`{name}` ended with {}", end.status);
    end.said
}

impl Program {
    pub(crate) fn start(mut command: Command) -> Program {
        let run = command
            .get_envs()
            .find(|(key, _)| *key == RUN)
            .and_then(|(_, value)| value?.to_str().map(str::to_owned))
            .expect("the command was made here");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this binary can be started again");
        let output = child.stdout.take().expect("it was piped");
        Program {
            child,
            output: BufReader::new(output),
            run,
            ended: None,
            passed_over: VecDeque::new(),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that the program says; `None` when nobody can say anything any more.
    pub(crate) fn hear(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            let count = self
                .output
                .read_line(&mut line)
                .expect("what programs say is text");
            if count == 0 {
                return None;
            }
            let begin = line.strip_prefix("running ");
            if let Some(tests) = begin.and_then(|rest| rest.strip_suffix(" tests\n")) {
                panic!("the harness found {tests} tests in place of the program");
            }
            if let Some(said) = line.strip_prefix(MARK) {
                return Some(said.trim_end().to_owned());
            }
            self.passed_over.push_back(line);
        }
    }

    /// The next line, which must begin with `key`; returns what follows that.
    #[track_caller]
    pub(crate) fn expect(&mut self, key: &str) -> String {
        let line = self.hear();
        let rest = line.as_deref().and_then(|line| line.strip_prefix(key));
        match rest {
            Some(rest) => rest.trim().to_owned(),
            None => panic!(
                "instead of `{key}` the program said {line:?}, and before {:?}",
                self.passed_over
            ),
        }
    }

    /// Sends a signal to the program alone.
    pub(crate) fn signal(&self, signal: Signal) {
        // It was not waited for, so the id is its.
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("the program is there");
    }

    /// Sends a signal to the program and all that are in its process group.
    pub(crate) fn signal_group(&self, signal: Signal) {
        killpg(Pid::from_raw(self.child.id().cast_signed()), signal).expect("the program is there");
    }

    /// Waits until the program has ended; others may still hold its output.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = self.child.wait().expect("the program is waited for once");
        self.ended = Some(status);
        status
    }

    /// Waits for the end of the program and of its output, which its processes hold as well.
    pub(crate) fn finish(mut self) -> End {
        let mut stderr_pipe = self.child.stderr.take();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            if let Some(pipe) = &mut stderr_pipe {
                pipe.read_to_string(&mut text).expect("errors are text");
            }
            text
        });
        let mut said = Vec::new();
        while let Some(line) = self.hear() {
            said.push(line);
        }
        let stderr = reader.join().expect("the reader does not panic");
        let status = self.wait();
        End {
            status,
            said,
            stderr,
        }
    }

    /// The processes of this program that are alive, the program itself included, but for fork
    /// servers.
    pub(crate) fn living(&self) -> Vec<u32> {
        let mut living = living_of(&self.run);
        living.retain(|&id| !is_fork_server(id));
        living
    }

    /// Waits until nobody of this program is alive but `spared`. Should that not come to pass,
    /// the survivors are ended before the test fails, so that they do not outlive it.
    #[track_caller]
    pub(crate) fn check_gone_but(&self, spared: &[u32]) {
        let start = Instant::now();
        loop {
            let mut left = living_of(&self.run);
            left.retain(|id| !spared.contains(id));
            if left.is_empty() {
                return;
            }
            if start.elapsed() > PATIENCE {
                let survivors: Vec<String> = left.iter().map(|&id| describe(id)).collect();
                self.end_survivors();
                panic!("there are survivors: {survivors:?}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn end_survivors(&self) {
        for id in living_of(&self.run) {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(id.cast_signed()), Signal::SIGKILL);
        }
    }
}

fn describe(id: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
    let state = state(id).unwrap_or('-');
    format!("{id} {} ({state})", name.trim_end())
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // If it has ended there is nobody to kill, which is fine.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        self.end_survivors();
    }
}

/// The other processes of the program that this process is, children and theirs, that are alive, but
/// for fork servers.
pub(crate) fn kin() -> Vec<u32> {
    let run = std::env::var(RUN).expect("this is a program");
    let mut living = living_of(&run);
    living.retain(|&id| id != std::process::id() && !is_fork_server(id));
    living
}

/// Whether a process is a fork server, or is about to become one.
pub(crate) fn is_fork_server(id: u32) -> bool {
    let read = |name: &str| fs::read(format!("/proc/{id}/{name}")).unwrap_or_default();
    let (name, environment) = (read("comm"), read("environ"));
    // A worker that was forked has the environment of its server here, and a name of its own. The
    // main thread of a server that is a test has that of what was executed, `/proc/self/exe`.
    let mut entries = environment.split(|&byte| byte == 0);
    let is_started_as_one = entries.any(|entry| {
        let inherited = entry.strip_prefix(b"MP_WORKER_DESCRIPTORS=");
        inherited.is_some_and(|fds| fds.windows(5).any(|window| window == b",-,-,"))
    });
    let name = name.trim_ascii_end();
    name == b"mp-fork-server" || is_started_as_one && name == b"exe"
}

/// The processes of a run that are alive.
fn living_of(run: &str) -> Vec<u32> {
    let mark = format!("{RUN}={run}");
    processes()
        .filter(|&id| {
            let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            let is_of_run = environment
                .split(|&byte| byte == 0)
                .any(|entry| entry == mark.as_bytes());
            is_of_run && is_alive(id)
        })
        .collect()
}

/// The ids of all processes of this machine that this process can see.
pub(crate) fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .expect("there is /proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The state letter of a process (`R`, `S`, `T`, `Z` ...), if there is one of this id.
pub(crate) fn state(id: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.trim_start().chars().next()
}

/// Whether a process has neither ended nor is a zombie.
pub(crate) fn is_alive(id: u32) -> bool {
    state(id).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The processes that have `parent` as their parent, zombies included, but for fork servers.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let mut children = all_children_of(parent);
    children.retain(|&id| !is_fork_server(id));
    children
}

/// The fork servers of `parent`.
pub(crate) fn fork_servers_of(parent: u32) -> Vec<u32> {
    let mut children = all_children_of(parent);
    children.retain(|&id| is_fork_server(id));
    children
}

/// The processes that have `parent` as their parent, zombies and fork servers included.
pub(crate) fn all_children_of(parent: u32) -> Vec<u32> {
    processes()
        .filter(|id| {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            let parent_id = stat
                .rsplit_once(')')
                .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
            parent_id == Some(parent)
        })
        .collect()
}

/// How many descriptors this process has open, that of counting not counted.
pub(crate) fn open_descriptors() -> usize {
    let entries = fs::read_dir("/proc/self/fd").expect("there is /proc");
    entries.count() - 1
}

/// A directory for a test, removed with all that is in it when this is dropped.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Directory {
        static DIRECTORIES: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "mp-test-{}-{}",
            std::process::id(),
            DIRECTORIES.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a directory of a new name can be made");
        Directory(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> String {
        let path = self.0.join(name);
        path.to_str().expect("the path is text").to_owned()
    }

    /// The names of what is in it.
    pub(crate) fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("the directory is there");
        entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // A directory that a test has removed itself is fine.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Takes all descriptors but so many.
pub(crate) fn take_descriptors_but(count: usize) -> Vec<fs::File> {
    let open = || fs::File::open("/dev/null");
    let mut taken: Vec<_> = std::iter::from_fn(|| open().ok()).collect();
    taken.truncate(taken.len() - count);
    taken
}
