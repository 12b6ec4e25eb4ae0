//! The figures as a table in Markdown.

use std::fmt;

use crate::figures::{Size, What};
use crate::measure::spread::{Seconds, Spread};

/// A line for each size, and at the end how many times as long the last takes as the first.
pub(crate) fn markdown(sizes: &[Size]) -> String {
    let names = What::ALL.map(What::name).join(" | ");
    let rule = ["---"; What::ALL.len()].join(" | ");
    let mut table = format!("| workers | {names} |\n| --- | {rule} |\n");
    for size in sizes {
        let cells = What::ALL.map(|what| cell(size, what)).join(" | ");
        table += &format!("| {} | {cells} |\n", size.workers);
    }
    if let [first, .., last] = sizes {
        let cells = What::ALL.map(|what| growth(first, last, what)).join(" | ");
        let (few, many) = (first.workers, last.workers);
        table += &format!("| {many} beside {few} | {cells} |\n");
    }
    table
}

fn growth(first: &Size, last: &Size, what: What) -> String {
    let medians = first.spread(what).zip(last.spread(what));
    medians.map_or(String::new(), |(first, last)| {
        format!("{:.2} x", last.median / first.median)
    })
}

fn cell(size: &Size, what: What) -> String {
    match size.spread(what) {
        Some(bytes) if what == What::Memory => {
            let [median, lower, upper] = [bytes.median, bytes.lower, bytes.upper].map(Bytes);
            format!("{median} ({lower} to {upper})")
        }
        Some(seconds) => seconds.to_string(),
        None => String::new(),
    }
}

/// Shown with three digits.
pub(crate) struct Bytes(pub(crate) f64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes < 1e6 => write!(f, "{:.0} kB", bytes / 1e3),
            bytes => write!(f, "{:.2} MB", bytes / 1e6),
        }
    }
}

/// What stands beside the end of a line of the chart.
pub(crate) fn short(what: What, spread: Spread) -> String {
    match what {
        What::Memory => Bytes(spread.median).to_string(),
        _ => Seconds(spread.median).to_string(),
    }
}
