//! What the benches share: rounds, medians, tables, and the raw side of each comparison.
//!
//! Each figure is the median of several rounds, with the least beside it, and the contestants take
//! turns within a round, so that a noisy moment of the machine hits them all. `--quick`, or `MP_BENCH_QUICK=1`, runs small.

#![allow(
    dead_code,
    reason = "a module of every bench, of which none uses all of it"
)]

pub(crate) mod machine;
#[expect(unsafe_code, reason = "a fork is a raw call")]
pub(crate) mod fork;
#[expect(unsafe_code, reason = "the peer of shared memory is raw calls")]
pub(crate) mod page;
pub(crate) mod place;
#[expect(unsafe_code, reason = "a futex is a raw call, and the peer of ours")]
pub(crate) mod ping;
#[expect(
    unsafe_code,
    reason = "a mutex of POSIX threads is raw calls, and the peer of ours"
)]
pub(crate) mod robust;
pub(crate) mod readme;
pub(crate) mod spread;
pub(crate) mod svg;

use std::env;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use spread::Seconds;

/// The first argument of the raw side's processes: return at once, or echo blocks of a length.
const NOTHING: &str = "--raw-nothing";
const ECHO: &str = "--raw-echo";

pub(crate) type Failure = Box<dyn std::error::Error>;

/// Whether to run small, to see that it works.
pub(crate) fn is_quick() -> bool {
    env::var_os("MP_BENCH_QUICK").is_some() || env::args().any(|argument| argument == "--quick")
}

/// `full`, or `quick` in a quick run.
pub(crate) fn size(full: usize, quick: usize) -> usize {
    if is_quick() { quick } else { full }
}

/// One way to do it; each call does it once, or as often as the bench's `per` says.
pub(crate) struct Contestant<'a> {
    name: String,
    /// How many operations one run is.
    operations: usize,
    run: Box<dyn FnMut() -> Result<Duration, Failure> + 'a>,
    seconds: Vec<f64>,
}

/// The contestants of one claim; the first is ours.
pub(crate) struct Contest<'a> {
    title: String,
    /// How many operations one run of a contestant is, unless it says otherwise.
    operations: usize,
    /// How many bytes one operation moves, if that is what it is about.
    bytes: Option<usize>,
    contestants: Vec<Contestant<'a>>,
    notes: Vec<String>,
}

impl<'a> Contest<'a> {
    pub(crate) fn new(title: impl Into<String>, operations: usize) -> Contest<'a> {
        Contest {
            title: title.into(),
            operations,
            bytes: None,
            contestants: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// As [`new`](Contest::new), of operations that move so many bytes each.
    pub(crate) fn rated(title: impl Into<String>, operations: usize, bytes: usize) -> Contest<'a> {
        let contest = Contest::new(title, operations);
        Contest {
            bytes: Some(bytes),
            ..contest
        }
    }

    /// Adds a contestant.
    pub(crate) fn enter(
        &mut self,
        name: impl Into<String>,
        run: impl FnMut() -> Result<(), Failure> + 'a,
    ) {
        self.enter_many(name, self.operations, run);
    }

    /// Adds a contestant of which one run is so many operations.
    pub(crate) fn enter_many(
        &mut self,
        name: impl Into<String>,
        operations: usize,
        mut run: impl FnMut() -> Result<(), Failure> + 'a,
    ) {
        self.enter_timed(name, operations, move || {
            let start = Instant::now();
            run()?;
            Ok(start.elapsed())
        });
    }

    /// Adds a contestant that tells how long its so many operations took, without what was between.
    pub(crate) fn enter_timed(
        &mut self,
        name: impl Into<String>,
        operations: usize,
        run: impl FnMut() -> Result<Duration, Failure> + 'a,
    ) {
        self.contestants.push(Contestant {
            name: name.into(),
            operations,
            run: Box::new(run),
            seconds: Vec::new(),
        });
    }

    /// Adds a line below the table.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Adds what a script of `benches/python` measures: it prints lines of a name and seconds for
    /// one operation.
    fn python(&mut self, script: &str, arguments: &[usize]) -> Vec<(String, f64)> {
        if script.is_empty() {
            return Vec::new();
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("benches/python")
            .join(script);
        let arguments = arguments.iter().map(ToString::to_string);
        let output = Command::new("python3").arg(path).args(arguments).output();
        let output = match output {
            Ok(output) if output.status.success() => output.stdout,
            Ok(output) => {
                let reason = String::from_utf8_lossy(&output.stderr).into_owned();
                self.notes
                    .push(format!("python3 failed: {}", reason.trim()));
                return Vec::new();
            }
            Err(error) => {
                self.notes
                    .push(format!("Python skipped: no python3 ({error})"));
                return Vec::new();
            }
        };
        let figure = |line: &str| {
            let (name, seconds) = line.rsplit_once(' ')?;
            Some((name.to_owned(), seconds.parse().ok()?))
        };
        String::from_utf8_lossy(&output)
            .lines()
            .filter_map(figure)
            .collect()
    }

    /// Runs all of it and prints the table; `script` and its arguments add Python's figures, if it
    /// has a name.
    pub(crate) fn run(
        mut self,
        rounds: usize,
        script: &str,
        arguments: &[usize],
    ) -> Result<(), Failure> {
        for contestant in &mut self.contestants {
            // Once for nothing: caches, pages, workers.
            (contestant.run)()?;
        }
        for _ in 0..size(rounds, 3) {
            for contestant in &mut self.contestants {
                let seconds = (contestant.run)()?.as_secs_f64();
                (contestant.seconds).push(seconds / contestant.operations as f64);
            }
        }
        let mut rows: Vec<_> = (self.contestants.iter_mut())
            .map(|contestant| {
                let median = median(&mut contestant.seconds);
                let least = contestant.seconds.first().copied();
                (contestant.name.clone(), median, least)
            })
            .collect();
        let python = self.python(script, arguments);
        rows.extend(
            python
                .into_iter()
                .map(|(name, median)| (name, median, None)),
        );
        self.print(&rows);
        Ok(())
    }

    fn print(&self, rows: &[(String, f64, Option<f64>)]) {
        let ours = rows.first().map_or(0.0, |(_, seconds, _)| *seconds);
        println!(
            "{:58} {:>10} {:>10} {:>10}",
            self.title, "median", "least", "ours takes"
        );
        for (row, (name, seconds, least)) in rows.iter().enumerate() {
            let ratio = match row {
                0 => String::new(),
                _ if ours < seconds / 100.0 => format!("1/{:.0}", seconds / ours),
                _ => format!("{:.2} x", ours / seconds),
            };
            let least = least.map_or(String::new(), |least| Seconds(least).to_string());
            let rate = (self.bytes).map_or(String::new(), |bytes| {
                format!("{:7.2} GB/s", bytes as f64 / seconds / 1e9)
            });
            println!(
                "  {name:56} {:>10} {least:>10} {ratio:>10}{rate}",
                Seconds(*seconds).to_string()
            );
        }
        for note in &self.notes {
            println!("  ({note})");
        }
    }
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What a process of the raw side does instead of the bench. Call it before `mp::init`.
pub(crate) fn be_raw_if_told() -> Result<(), Failure> {
    let mut arguments = env::args().skip(1);
    match arguments.next().as_deref() {
        Some(NOTHING) => std::process::exit(0),
        Some(ECHO) => {
            let mut block = vec![0; arguments.next().unwrap_or_default().parse()?];
            let mut stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
            while stream.read_exact(&mut block).is_ok() {
                stream.write_all(&block)?;
            }
            std::process::exit(0)
        }
        _ => Ok(()),
    }
}

/// Starts a process that does nothing, and waits for it.
pub(crate) fn start_nothing() -> Result<(), Failure> {
    let status = Command::new("/proc/self/exe").arg(NOTHING).status()?;
    status
        .success()
        .then_some(())
        .ok_or_else(|| status.to_string().into())
}

/// A process that sends back every block it gets, over a socket pair and nothing else.
pub(crate) struct Echo {
    stream: UnixStream,
    process: Child,
    block: Vec<u8>,
}

impl Echo {
    pub(crate) fn start(block_bytes: usize) -> Result<Echo, Failure> {
        let (stream, theirs) = UnixStream::pair()?;
        Echo::over(stream, theirs.into(), block_bytes)
    }

    /// The same over sockets that keep packets apart.
    pub(crate) fn start_packets(block_bytes: usize) -> Result<Echo, Failure> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        // Reading and writing is the same.
        Echo::over(ours.into(), theirs, block_bytes)
    }

    fn over(stream: UnixStream, theirs: OwnedFd, block_bytes: usize) -> Result<Echo, Failure> {
        let process = Command::new("/proc/self/exe")
            .args([ECHO, &block_bytes.to_string()])
            .stdin(Stdio::from(theirs))
            .spawn()?;
        let block = vec![7; block_bytes];
        Ok(Echo {
            stream,
            process,
            block,
        })
    }

    /// One block there and back.
    pub(crate) fn round_trip(&mut self) -> Result<(), Failure> {
        self.stream.write_all(&self.block)?;
        Ok(self.stream.read_exact(&mut self.block)?)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // It ends at the end of its input.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        let _ = self.process.wait();
    }
}
