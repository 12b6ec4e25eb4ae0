//! How a pool grows: starting it, small calls, memory and its end, by the number of workers. A small
//! call must not cost more because others have nothing to do.
//!
//! `cargo bench --bench scale -- [--quick] [--svg FILE] [--readme FILE]`; a file without a leading `/`
//! is below the folder of the package.

#[path = "../measure/mod.rs"]
mod measure;

mod chart;
mod figures;
mod table;

use std::env;
use std::fs;
use std::path::PathBuf;

use measure::{Failure, is_quick, machine, readme, size};

/// One round is a pool of each size.
const ROUNDS: usize = 9;
const QUICK_ROUNDS: usize = 2;

fn worker_counts() -> &'static [usize] {
    if is_quick() {
        &[1, 4, 16]
    } else {
        &[1, 4, 16, 64, 256]
    }
}

/// The value of an option.
fn path_of(option: &str) -> Option<PathBuf> {
    let mut arguments = env::args().skip_while(|argument| argument != option);
    arguments.next()?;
    arguments.next().map(PathBuf::from)
}

fn main() -> Result<(), Failure> {
    mp::init();
    let machine = machine::description();
    let mut sizes = Vec::from_iter(
        worker_counts()
            .iter()
            .map(|&count| figures::Size::new(count)),
    );
    for _ in 0..size(ROUNDS, QUICK_ROUNDS) {
        // In turns, so that a noisy moment of the machine hits them all.
        for size in &mut sizes {
            size.measure()?;
        }
    }
    let table = format!("{}\n{machine}", table::markdown(&sizes));
    println!("{table}");
    if let Some(file) = path_of("--svg") {
        fs::write(file, chart::draw(&sizes))?;
    }
    match path_of("--readme") {
        Some(file) => readme::replace(&file, "scale", &table),
        None => Ok(()),
    }
}
