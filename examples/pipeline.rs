//! Counts the words and links of a text: `cargo run --release --example pipeline [--verbose] [FILE]`,
//! or of the README. A process reads, a few parse, one brings together what they found, and channels
//! with little room lie between them: who is faster has to wait, so a file of any length passes
//! through the same little memory. Should a process die, the report says which lines are missing. (The
//! words themselves are kept: a file of nothing but different words takes memory for them.)

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{ExitCode, exit};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{cmp::Reverse, env, ops::Range, thread};

use mp::prelude::*;
use nix::sys::signal::{SigSet, Signal};
use serde::{Deserialize, Serialize};

/// A batch is so long, and then up to the end of its line; of a longer line it is a part, and counts
/// as a line itself.
const BATCH_BYTES: u64 = 4 << 10;
const LONGEST_LINE: u64 = 64 << 10;
/// How many batches, and how many results, may be on their way.
const ROOM: usize = 4;
const SHOWN: usize = 10;

type Counts = HashMap<String, u64>;

#[derive(Serialize, Deserialize)]
struct Batch {
    lines: Range<u64>,
    text: Vec<u8>,
}

/// What was found in a batch.
#[derive(Serialize, Deserialize)]
struct Part {
    lines: Range<u64>,
    words: Counts,
    links: Counts,
}

/// What a stage has to say of itself.
#[derive(Default, Serialize, Deserialize)]
struct Stage {
    lines: u64,
    waits: u64,
    waited: Duration,
    /// So many messages were in its channel, at most.
    most: usize,
    memory_kib: u64,
}

impl Stage {
    fn send<T: mp::Portable>(&mut self, to: &Sender<T>, value: T) -> Result<(), String> {
        let mut sent = to.try_send(value);
        if let Err(full) = sent {
            if full.kind() != ErrorKind::TimedOut {
                return Err(full.to_string());
            }
            let start = Instant::now();
            sent = to.send(full.into_inner());
            self.waits += 1;
            self.waited += start.elapsed();
        }
        self.most = self.most.max(to.len());
        sent.map_err(|error| error.to_string())
    }

    /// With the memory that this process had at most.
    fn finished(mut self) -> Stage {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        self.memory_kib = number.and_then(|n| n.parse().ok()).unwrap_or(0);
        self
    }
}

#[mp::process_fn]
fn read(path: OsString, batches: Sender<Batch>) -> Result<Stage, String> {
    let name = |error| format!("{}: {error}", path.display());
    let mut file = BufReader::new(File::open(&path).map_err(name)?);
    let mut stage = Stage::default();
    loop {
        let mut text = Vec::new();
        let taken = file.by_ref().take(BATCH_BYTES).read_to_end(&mut text);
        if taken.map_err(name)? == 0 {
            return Ok(stage.finished());
        }
        if !text.ends_with(b"\n") {
            let rest = file
                .by_ref()
                .take(LONGEST_LINE)
                .read_until(b'\n', &mut text);
            rest.map_err(name)?;
        }
        let first = stage.lines;
        stage.lines += text.split_inclusive(|&byte| byte == b'\n').count() as u64;
        let lines = first..stage.lines;
        stage.send(&batches, Batch { lines, text })?;
    }
}

#[mp::process_fn]
fn parse(batches: Receiver<Batch>, parts: Sender<Part>) -> Result<Stage, String> {
    let mut stage = Stage::default();
    for Batch { lines, text } in &batches {
        let text = String::from_utf8_lossy(&text);
        let (mut words, mut links) = (Counts::new(), Counts::new());
        for word in text.split(|c: char| !c.is_alphabetic()) {
            *words.entry(word.to_lowercase()).or_default() += 1;
        }
        words.remove("");
        for link in links_of(&text) {
            *links.entry(link.to_owned()).or_default() += 1;
        }
        stage.lines += lines.end - lines.start;
        let part = Part {
            lines,
            words,
            links,
        };
        stage.send(&parts, part)?;
    }
    Ok(stage.finished())
}

/// What Markdown refers to, and addresses as they stand.
fn links_of(text: &str) -> impl Iterator<Item = &str> {
    let is_address = |link: &&str| link.starts_with("https://") || link.starts_with("http://");
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'));
    let targets = targets.map(|(target, _)| target);
    let standing = text.split(|c: char| c.is_whitespace() || "()<>[]\"'`|,".contains(c));
    let targets = targets.filter(move |link| !is_address(link));
    targets.chain(standing.filter(is_address))
}

/// What all of it comes to: what is most frequent, and how many different ones there are.
#[derive(Serialize, Deserialize)]
struct Report {
    stage: Stage,
    words: (Vec<(String, u64)>, usize),
    links: (Vec<(String, u64)>, usize),
    counted: Lines,
}

/// Some lines, as stretches: from, to.
#[derive(Default, Serialize, Deserialize)]
struct Lines(BTreeMap<u64, u64>);

impl Lines {
    /// Neighbours become one, so that this stays short.
    fn add(&mut self, Range { mut start, mut end }: Range<u64>) {
        end = self.0.remove(&end).unwrap_or(end);
        let before = self.0.range(..start).next_back();
        if let Some((&from, _)) = before.filter(|&(_, &to)| to == start) {
            start = from;
        }
        self.0.insert(start, end);
    }

    fn end(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(_, &end)| end)
    }

    /// Those that are not among them, of so many.
    fn missing(&self, all: u64) -> Vec<Range<u64>> {
        let starts = self.0.keys().copied().chain([all]);
        let ends = [0].into_iter().chain(self.0.values().copied());
        let gaps = ends.zip(starts).map(|(end, start)| end..start);
        gaps.filter(|gap| !gap.is_empty()).collect()
    }
}

#[mp::process_fn]
fn write(parts: Receiver<Part>, progress: Shared<AtomicU64>) -> Report {
    let (mut words, mut links) = (Counts::new(), Counts::new());
    let (mut stage, mut counted) = (Stage::default(), Lines::default());
    for part in &parts {
        for (all, counts) in [(&mut words, part.words), (&mut links, part.links)] {
            for (name, n) in counts {
                *all.entry(name).or_default() += n;
            }
        }
        stage.lines += part.lines.end - part.lines.start;
        counted.add(part.lines);
        progress.store(stage.lines, Relaxed);
    }
    Report {
        words: (most(&words), words.len()),
        links: (most(&links), links.len()),
        counted,
        stage: stage.finished(),
    }
}

fn most(counts: &Counts) -> Vec<(String, u64)> {
    let mut counts: Vec<_> = counts.iter().map(|(name, &n)| (name.clone(), n)).collect();
    counts.sort_by(|a, b| (Reverse(a.1), &a.0).cmp(&(Reverse(b.1), &b.0)));
    counts.truncate(SHOWN);
    counts
}

/// On Ctrl-C says so, in one line, and ends this process; the others end with it.
fn end_when_interrupted(progress: Shared<AtomicU64>) -> Result<(), nix::Error> {
    let interrupt = SigSet::from(Signal::SIGINT);
    interrupt.thread_block()?; // here, and in the threads that this one starts
    thread::spawn(move || {
        if interrupt.wait().is_ok() {
            eprintln!("interrupted: {} lines were counted", progress.load(Relaxed));
            exit(130);
        }
    });
    Ok(())
}

/// What a stage found, unless it failed or died.
fn join<R>(process: Process<Result<R, String>>, is_whole: &mut bool) -> Option<R> {
    let name = process.name().to_owned();
    let result = match process.join() {
        Ok(Ok(result)) => return Some(result),
        Ok(Err(failed)) => format!("failed: {name}: {failed}"),
        Err(died) => format!("died: {died}"),
    };
    println!("{result}");
    *is_whole = false;
    None
}

fn print_waits(who: &str, what: &str, stages: &[Stage]) {
    let waits: u64 = stages.iter().map(|stage| stage.waits).sum();
    let waited: Duration = stages.iter().map(|stage| stage.waited).sum();
    let most = stages.iter().map(|stage| stage.most).max().unwrap_or(0);
    println!(
        "{who} waited {waits} times, {waited:.1?} in all: {most} of {ROOM} {what} were waiting"
    );
}

#[mp::main]
fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let progress = Shared::new(AtomicU64::new(0))?;
    end_when_interrupted(progress.clone())?;
    let (mut path, mut is_verbose) = (None, false);
    for argument in env::args_os().skip(1) {
        match argument.to_str() {
            Some("--verbose") => is_verbose = true,
            _ => path = Some(argument),
        }
    }
    let path = path.unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md").into());

    let (batches, to_parse) = mp::channel(ROOM)?;
    let (parts, to_write) = mp::channel(ROOM)?;
    let start = Instant::now();
    let stage = |name: &str| Builder::new().name(name);
    let writer = stage("writer").spawn(write, (to_write, progress))?;
    let parsers = (1..=mp::cpu_count().max(2)).map(|n| {
        let ends = (to_parse.clone(), parts.clone());
        stage(&format!("parser {n}")).spawn(parse, ends)
    });
    let parsers = parsers.collect::<Result<Vec<_>, _>>()?;
    // What this process has would keep the channels open.
    drop((to_parse, parts));
    let reader = stage("reader").spawn(read, (path.clone(), batches))?;
    if is_verbose {
        let parsers: Vec<_> = parsers.iter().map(Process::id).collect();
        let (reader, writer) = (reader.id(), writer.id());
        eprintln!("reader {reader}, parsers {parsers:?}, writer {writer}");
    }

    let mut is_whole = true;
    let reader = join(reader, &mut is_whole);
    let parsers = Vec::from_iter(parsers.into_iter().filter_map(|p| join(p, &mut is_whole)));
    let report = writer.join()?;

    let read_lines = reader.as_ref().map(|reader| reader.lines);
    let end = report.counted.end();
    let missing = report.counted.missing(read_lines.unwrap_or(end));
    let took = start.elapsed();
    for (what, (most, different)) in [("words", report.words), ("links", report.links)] {
        println!("{different} different {what}; the most frequent:");
        most.iter().for_each(|(name, n)| println!("{n:8} {name}"));
    }
    let stages = reader.iter().chain(&parsers).chain([&report.stage]);
    let memory_kib = stages.map(|stage| stage.memory_kib).max().unwrap_or(0);
    print_waits("the reader", "batches", reader.as_slice());
    print_waits("the parsers", "results", &parsers);
    println!(
        "{took:.1?}; no process had more than {} MiB",
        memory_kib >> 10
    );
    let (all, counted) = (
        read_lines.map_or("?".into(), |n| n.to_string()),
        report.stage.lines,
    );
    println!("{}: {all} lines read, {counted} counted", path.display());
    for Range { start, end } in missing {
        println!("missing: lines {} to {end}", start + 1);
    }
    if read_lines.is_none() {
        println!("missing: whatever follows line {end}");
    }
    Ok(if is_whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
