//! The peers' bench: the same work by `mp`, by other pools of processes, by threads, and by what the
//! machine itself asks for it, in one run on one machine.
//!
//! Each kind of work has a process of its own, so that nothing is left of the one before. In there
//! the contestants take turns, so that a noisy moment hits them all. A figure is the median of the
//! turns, with the quartiles around it. Python's contestants measure themselves, in an interpreter
//! that is there already.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml -- [--quick] [--svg FILE]
//! [--readme FILE] [ROW…]`

#[path = "../../measure/machine.rs"]
mod machine;
#[path = "../../measure/page.rs"]
#[expect(unsafe_code, reason = "to map memory is a raw call")]
mod page;
#[path = "../../measure/ping.rs"]
#[expect(unsafe_code, reason = "a futex is a raw call, and the peer of ours")]
mod ping;
#[path = "../../measure/place.rs"]
#[expect(dead_code, reason = "other benches use the rest")]
mod place;
#[path = "../../measure/readme.rs"]
mod readme;
#[path = "../../measure/spread.rs"]
mod spread;
#[path = "../../measure/svg.rs"]
#[expect(dead_code, reason = "other benches use the rest")]
mod svg;

mod settings;
mod process_tree;
mod python;
mod contest;
mod raw;
mod descriptor;
mod row;
mod report;
mod chart;

use std::env;
use std::fs;
use std::process::{Child, Command, Stdio};

use contest::{Contest, Outcome};
use nix::sched::{sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use report::Measured;
use row::{ROWS, Row};
use settings::{CONTEST, Placement, QUICK, Settings};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    if env::args().nth(1).as_deref() == Some(descriptor::MAP) {
        return descriptor::map_what_comes();
    }
    // Both start this binary again, each to be its own worker.
    mp::init();
    procspawn::init();
    let settings = Settings::of(env::args().skip(1))?;
    match &settings.contest {
        Some(name) => tell_figures(row_named(name)?, &settings),
        None => run_all(&settings),
    }
}

fn row_named(name: &str) -> Result<&'static Row, Failure> {
    let names = ROWS.iter().map(|row| row.name).collect::<Vec<_>>();
    let row = ROWS.iter().find(|row| row.name == name);
    row.ok_or_else(|| format!("no row {name}; there are {}", names.join(", ")).into())
}

/// Runs one row in this process.
fn tell_figures(row: &Row, settings: &Settings) -> Result<(), Failure> {
    let mut contest = Contest::default();
    (row.enter)(&mut contest, settings)?;
    print!("{}", contest.run(settings, row.placement)?);
    Ok(())
}

fn run_all(settings: &Settings) -> Result<(), Failure> {
    let rows: Vec<&'static Row> = match &settings.rows[..] {
        [] => ROWS.iter().collect(),
        names => (names.iter())
            .map(|name| row_named(name))
            .collect::<Result<_, _>>()?,
    };
    if settings.is_quick {
        println!("(small sizes and few turns: no figures to go by)\n");
    }
    let machine = machine::description();
    let mut measured = Vec::new();
    let mut failed = Vec::new();
    for row in rows {
        let outcome = run_apart(row, settings).unwrap_or_else(|error| {
            failed.push(row.name);
            Outcome {
                notes: vec![format!("failed: {error}")],
                ..Outcome::default()
            }
        });
        let one = Measured::new(row, outcome);
        println!("{one}");
        measured.push(one);
    }
    let table = format!("{}\n{machine}", report::markdown(&measured));
    println!("{table}");
    if let Some(file) = &settings.svg {
        fs::write(file, chart::draw(&measured))?;
    }
    if let Some(file) = &settings.readme {
        readme::replace(file, "peers", &table)?;
    }
    match &failed[..] {
        [] => Ok(()),
        rows => Err(format!("failed: {}", rows.join(", ")).into()),
    }
}

/// Runs one row in a process of its own.
fn run_apart(row: &Row, settings: &Settings) -> Result<Outcome, Failure> {
    let mut command = Command::new("/proc/self/exe");
    command.args([CONTEST, row.name]).stdout(Stdio::piped());
    if settings.is_quick {
        command.arg(QUICK);
    }
    let process = match row.placement {
        Placement::OneCore => start_on_one_core(&mut command)?,
        Placement::Anywhere | Placement::TwoCores => command.spawn()?,
    };
    let output = process.wait_with_output()?;
    if !output.status.success() {
        return Err(output.status.to_string().into());
    }
    Ok(Outcome::parse(&String::from_utf8_lossy(&output.stdout)))
}

/// Placed before it starts: what it sees then of the machine, it may keep in mind.
fn start_on_one_core(command: &mut Command) -> Result<Child, Failure> {
    let this_thread = Pid::from_raw(0);
    let everywhere = sched_getaffinity(this_thread)?;
    let first = place::processors()?;
    place::stay_on(this_thread, *first.first().ok_or("there is no processor")?)?;
    let process = command.spawn();
    sched_setaffinity(this_thread, &everywhere)?;
    Ok(process?)
}
