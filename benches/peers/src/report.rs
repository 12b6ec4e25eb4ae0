//! What came out, as tables.

use std::fmt;

use crate::contest::{Kind, Outcome};
use crate::row::{Row, Target};
use crate::spread::{Seconds, Spread, brief};

/// A contestant's figures.
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) spread: Spread,
}

/// A row with its figures; ours is the first.
pub(crate) struct Measured {
    pub(crate) row: &'static Row,
    pub(crate) entries: Vec<Entry>,
    notes: Vec<String>,
}

impl Measured {
    pub(crate) fn new(row: &'static Row, outcome: Outcome) -> Measured {
        let entries = outcome.figures.into_iter().filter_map(|figure| {
            Some(Entry {
                kind: figure.kind,
                name: figure.name,
                spread: Spread::of(&figure.samples)?,
            })
        });
        Measured {
            row,
            entries: entries.collect(),
            notes: outcome.notes,
        }
    }

    fn ours(&self) -> Option<&Entry> {
        self.entries.first().filter(|entry| entry.kind == Kind::Mp)
    }

    fn best(&self, is_one: impl Fn(Kind) -> bool) -> Option<&Entry> {
        (self.entries.iter())
            .filter(|entry| is_one(entry.kind))
            .min_by(|one, other| one.spread.median.total_cmp(&other.spread.median))
    }

    fn median_of(&self, name: &str) -> Option<f64> {
        let entry = self.entries.iter().find(|entry| entry.name == name)?;
        Some(entry.spread.median)
    }

    /// What is asked of ours, in seconds; none if whom it is compared with did not run.
    pub(crate) fn target(&self) -> Option<f64> {
        match self.row.target {
            Target::Below(seconds) => Some(seconds),
            Target::Times(times, name) => Some(self.median_of(name)? * times),
            Target::Beyond(seconds, name) => Some(self.median_of(name)? + seconds),
        }
    }

    /// `under 1 µs: missed`.
    fn verdict(&self) -> String {
        let what = match self.row.target {
            Target::Below(seconds) => format!("under {}", brief(seconds)),
            Target::Times(times, name) => {
                format!("at most {times} x {}", name.trim_start_matches("raw: "))
            }
            Target::Beyond(seconds, name) => {
                format!("at most {} more than {name}", brief(seconds))
            }
        };
        let reached = self.ours().zip(self.target());
        match reached.map(|(ours, target)| ours.spread.median <= target) {
            Some(true) => format!("{what}: reached"),
            Some(false) => format!("{what}: missed"),
            None => format!("{what}: unknown"),
        }
    }
}

/// All contestants of one row, a line each.
impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (title, heading) = (self.row.title, "lower to upper quartile");
        writeln!(
            f,
            "{title:50} {:>10} {heading:>26} {:>12}",
            "median", "mp takes"
        )?;
        let ours = self.ours().map(|entry| entry.spread.median);
        for (index, Entry { name, spread, .. }) in self.entries.iter().enumerate() {
            let quartiles = format!("{} to {}", Seconds(spread.lower), Seconds(spread.upper));
            let ratio = ours.filter(|_| index > 0);
            let ratio = ratio.map_or(String::new(), |ours| Ratio(ours, spread.median).to_string());
            let median = Seconds(spread.median);
            writeln!(f, "  {name:48} {median:>10} {quartiles:>26} {ratio:>12}")?;
        }
        for note in &self.notes {
            writeln!(f, "  ({note})")?;
        }
        writeln!(f, "  target: {}", self.verdict())
    }
}

/// One to the other, shown with two digits, and as a fraction below a half; of nothing there is none.
struct Ratio(f64, f64);

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = |figure: f64| usize::from(figure < 10.0);
        let ratio = self.0 / self.1;
        if !ratio.is_normal() {
            Ok(())
        } else if ratio < 0.5 {
            let inverse = 1.0 / ratio;
            let digits = digits(inverse);
            write!(f, "1/{inverse:.digits$}")
        } else if ratio < 2.0 {
            write!(f, "{ratio:.2} x")
        } else {
            let digits = digits(ratio);
            write!(f, "{ratio:.digits$} x")
        }
    }
}

/// The table of the README: ours, the best of the peers, and what nobody gets below.
pub(crate) fn markdown(measured: &[Measured]) -> String {
    let mut table = String::from(
        "| two workers | `mp` | best other pool | `mp` takes | threads or raw | `mp` takes | target |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for one in measured {
        let Some(ours) = one.ours() else {
            table += &format!("| {} | failed | | | | | |\n", one.row.title);
            continue;
        };
        let beside = |entry: Option<&Entry>| match entry {
            Some(Entry { name, spread, .. }) => {
                let ratio = Ratio(ours.spread.median, spread.median);
                let name = name.trim_start_matches("raw: ");
                format!("{}: {name} | {ratio}", Seconds(spread.median))
            }
            None => " | ".to_owned(),
        };
        let (peer, limit) = (
            beside(one.best(Kind::is_peer)),
            beside(one.best(Kind::is_limit)),
        );
        let (title, verdict) = (one.row.title, one.verdict());
        table += &format!(
            "| {title} | {} | {peer} | {limit} | {verdict} |\n",
            ours.spread
        );
    }
    table
}
