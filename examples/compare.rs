//! The same work by processes, by threads and by neither: `cargo run --release --example compare
//! [--quick] [CHART]`, with a chart as SVG.
//!
//! Sums and allocations are shared out equally well by both, so they are safe in threads, which start
//! faster. Work that may crash is not: a thread takes the whole program with it. That is why this one
//! has it done by threads, and by neither, within a process of its own.

mod ending;
#[expect(dead_code, reason = "the benches draw more than this")]
#[path = "../benches/measure/svg.rs"]
mod svg;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{env, ffi::OsString, fs};

use mp::prelude::*;
use serde::{Deserialize, Serialize};

use ending::{Outcome, WrongArguments, exit_code};
use svg::{Anchor, Svg};

const USAGE: &str = "compare [--quick] [CHART]";
const ITEMS: u64 = 16;
const CRASH_AT: u64 = ITEMS / 2;

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Way {
    Processes,
    Threads,
    Neither,
}

const WAYS: [(Way, &str); 3] = [
    (Way::Processes, "processes"),
    (Way::Threads, "threads"),
    (Way::Neither, "neither"),
];

impl Way {
    fn pool(self) -> Result<Option<Pool>, Error> {
        let backend = match self {
            Way::Processes => Backend::Processes,
            Way::Threads => Backend::Threads,
            Way::Neither => return Ok(None),
        };
        Pool::builder().backend(backend).build().map(Some)
    }

    /// The function is there twice, to be called by a pool, and here. (Without the black box the
    /// compiler would see that it has the results already.)
    fn map<F, R>(self, function: F, plain: fn(u64) -> R, items: &[u64]) -> Result<Vec<R>, Error>
    where
        F: ProcessFn<Args = (u64,), Output = R>,
    {
        let Some(pool) = self.pool()? else {
            return Ok(items.iter().map(|&n| plain(black_box(n))).collect());
        };
        let results = pool.map(function, items.to_vec())?;
        pool.join()?;
        Ok(results)
    }
}

/// Nothing but computing.
#[mp::process_fn]
fn sum(n: u64) -> f64 {
    (0..n)
        .map(|i| i as f64)
        .map(|i| i.powi(5) + i.powi(6))
        .sum()
}

/// Nothing but allocating, and giving back.
#[mp::process_fn]
fn allocate(n: u64) -> usize {
    let words: BTreeMap<_, _> = (0..n).map(|i| (i.to_string(), vec![i; 8])).collect();
    words
        .into_iter()
        .map(|(word, copies)| word.len() * copies.len())
        .sum()
}

/// A sum, with a bug.
#[mp::process_fn]
fn fragile(item: u64) -> f64 {
    if item == CRASH_AT {
        std::process::abort();
    }
    sum(100_000 + item)
}

/// Counts the results as they come, where the count is seen when this process is no more.
#[mp::process_fn]
fn do_fragile_work(way: Way, results: Shared<AtomicU64>) -> Result<Option<String>, String> {
    let mut reason = None;
    let mut count = |result: Result<f64, Error>| match result {
        Ok(_) => drop(results.fetch_add(1, Relaxed)),
        Err(error) => reason = Some(error.to_string()),
    };
    match way.pool().map_err(|error| error.to_string())? {
        Some(pool) => pool
            .imap_unordered(fragile, 0..ITEMS)
            .for_each(|(_, result)| count(result)),
        None => (0..ITEMS).for_each(|item| count(Ok(fragile(item)))),
    }
    Ok(reason)
}

/// So many results of fragile work, and what happened.
fn crash(way: Way) -> Outcome<(u64, String)> {
    let results = Shared::new(AtomicU64::new(0))?;
    let end = match way {
        Way::Processes => do_fragile_work(way, results.clone()),
        // Not in this program, which has something to do yet.
        Way::Threads | Way::Neither => {
            let process = Builder::new()
                .name("program")
                .spawn(do_fragile_work, (way, results.clone()))?;
            process
                .join()
                .unwrap_or_else(|error| Ok(Some(error.to_string())))
        }
    };
    let reason = end?.unwrap_or("nothing".into());
    Ok((results.load(Relaxed), reason))
}

/// The best time of each way; they take turns.
fn time<F, R>(function: F, plain: fn(u64) -> R, n: u64, turns: usize) -> Outcome<[Duration; 3]>
where
    F: ProcessFn<Args = (u64,), Output = R>,
    R: PartialEq,
{
    let items = Vec::from_iter((0..ITEMS).map(|index| n + index));
    let expected = Way::Neither.map(function, plain, &items)?;
    let mut best = [Duration::MAX; 3];
    for _ in 0..turns {
        for ((way, name), best) in WAYS.iter().zip(&mut best) {
            let begin = Instant::now();
            let results = way.map(function, plain, &items)?;
            *best = begin.elapsed().min(*best);
            if results != expected {
                return Err(format!("{name} had other results").into());
            }
        }
    }
    Ok(best)
}

/// What a line of the table, and of the chart, says of a way: how much, and in words.
type Row = (&'static str, [(f64, String); 3]);

fn of_times(name: &'static str, times: [Duration; 3]) -> Row {
    (
        name,
        times.map(|time| (time.as_secs_f64(), format!("{time:.1?}"))),
    )
}

fn chart(rows: &[Row; 3], subtitle: &str) -> String {
    const LEFT: f64 = 110.0;
    let mut svg = Svg::new(760.0, 400.0);
    svg.text(
        (20.0, 28.0),
        Anchor::Start,
        "title",
        "The same work by processes, threads and neither",
    );
    svg.text((20.0, 48.0), Anchor::Start, "dim", subtitle);
    let mut y = 80.0;
    for (name, cells) in rows {
        svg.text((20.0, y), Anchor::Start, "heading", name);
        let most = cells.iter().map(|cell| cell.0).fold(0.0, f64::max);
        for (index, ((_, way), (much, text))) in WAYS.iter().zip(cells).enumerate() {
            y += 24.0;
            let class = format!("s{index}");
            let end = LEFT + 450.0 * much / most.max(f64::MIN_POSITIVE);
            svg.text((LEFT - 10.0, y + 4.0), Anchor::End, "dim", way);
            svg.line((LEFT, y), (end, y), &format!("thick {class}"));
            svg.dot((end, y), 5.0, &class);
            svg.text((end + 12.0, y + 4.0), Anchor::Start, "", text);
        }
        y += 36.0;
    }
    svg.finish("The same work by processes, threads and neither: times, and results after a crash")
}

fn run() -> Outcome {
    let arguments = Vec::from_iter(env::args_os().skip(1));
    let is_quick = arguments.first().is_some_and(|first| first == "--quick");
    let files = &arguments[usize::from(is_quick)..];
    let is_option = |file: &OsString| file.as_encoded_bytes().starts_with(b"-");
    if files.len() > 1 || files.iter().any(is_option) {
        return Err(WrongArguments.into());
    }
    let (turns, part) = if is_quick { (1, 50) } else { (25, 1) };
    let crashes = [
        crash(Way::Processes)?,
        crash(Way::Threads)?,
        crash(Way::Neither)?,
    ];
    let counts = crashes
        .each_ref()
        .map(|(count, _)| (*count as f64, format!("{count} of {ITEMS}")));
    let rows = [
        of_times("sums", time(sum, *sum, 4_000_000 / part, turns)?),
        of_times(
            "allocations",
            time(allocate, *allocate, 50_000 / part, turns)?,
        ),
        ("results, if one crashes", counts),
    ];

    let subtitle = format!(
        "{ITEMS} items, {} workers; best of {turns} turns, with the start and the end of workers",
        mp::cpu_count(),
    );
    if let Some(file) = files.first() {
        let written = fs::write(file, chart(&rows, &subtitle));
        written.map_err(|error| format!("{file:?}: {error}"))?;
    }
    let mut out = io::stdout();
    writeln!(out, "{subtitle}")?;
    writeln!(
        out,
        "{:<25}{:<12}{:<12}{:<12}",
        "", WAYS[0].1, WAYS[1].1, WAYS[2].1
    )?;
    for (name, [a, b, c]) in &rows {
        writeln!(out, "{name:<25}{:<12}{:<12}{:<12}", a.1, b.1, c.1)?;
    }
    for ((_, way), (_, reason)) in WAYS.iter().zip(&crashes) {
        writeln!(out, "{way}: {reason}")?;
    }
    Ok(())
}

#[mp::main]
fn main() -> ExitCode {
    exit_code(USAGE, run())
}
