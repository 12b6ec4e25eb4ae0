//! All figures in one picture: a row for each kind of work, and in it a line for each contestant with
//! its median, its quartiles, and its name. The scale is logarithmic.

use crate::contest::Kind;
use crate::report::{Entry, Measured};
use crate::spread::{Seconds, brief};
use crate::svg::{Anchor, LogScale, Svg};

const WIDTH: f64 = 1000.0;
const TOP: f64 = 74.0;
const BOTTOM: f64 = 34.0;
/// Where the scale begins and ends. Names stand to the right of their dots.
const SCALE: (f64, f64) = (262.0, 790.0);
const LINE: f64 = 17.0;
const GAP: f64 = 15.0;
const CHARACTERS_OF_A_TITLE: usize = 30;

pub(crate) fn draw(measured: &[Measured]) -> String {
    let height_of = |one: &Measured| one.entries.len().max(2) as f64 * LINE + GAP;
    let height = TOP + measured.iter().map(height_of).sum::<f64>() + BOTTOM;
    let mut svg = Svg::new(WIDTH, height);
    let scale = LogScale::covering(measured.iter().flat_map(all_figures), SCALE);
    heading(&mut svg);
    ticks(&mut svg, &scale, height - BOTTOM);
    let mut top = TOP;
    for one in measured {
        svg.line((20.0, top), (WIDTH - 20.0, top), "grid");
        row(&mut svg, &scale, one, top);
        top += height_of(one);
    }
    svg.finish("How long the same work takes mp, other pools of processes, and the machine itself")
}

fn all_figures(one: &Measured) -> impl Iterator<Item = f64> {
    let spreads = one.entries.iter().map(|entry| entry.spread);
    spreads
        .flat_map(|spread| [spread.lower, spread.median, spread.upper])
        .chain(one.target())
}

fn heading(svg: &mut Svg) {
    svg.text(
        (20.0, 28.0),
        Anchor::Start,
        "title",
        "mp beside other pools and the machine itself: two workers, further left is faster",
    );
    let explanation = "dot: median; bar: quartiles; dashed: what mp is to reach; logarithmic scale";
    svg.text((20.0, 48.0), Anchor::Start, "dim", explanation);
}

fn ticks(svg: &mut Svg, scale: &LogScale, bottom: f64) {
    for decade in scale.decades() {
        let x = scale.position(decade);
        svg.line((x, TOP), (x, bottom), "grid");
        for y in [TOP - 8.0, bottom + 18.0] {
            svg.text((x, y), Anchor::Middle, "dim", brief(decade));
        }
    }
}

fn row(svg: &mut Svg, scale: &LogScale, one: &Measured, top: f64) {
    let middle = |line: usize| top + GAP / 2.0 + (line as f64 + 0.5) * LINE;
    for (line, text) in wrapped(one.row.title).iter().enumerate() {
        svg.text((20.0, middle(line) + 4.0), Anchor::Start, "heading", text);
    }
    if let Some(target) = one.target() {
        let x = scale.position(target);
        let last = middle(one.entries.len().saturating_sub(1));
        let reach = LINE / 2.0;
        svg.line((x, middle(0) - reach), (x, last + reach), "target");
    }
    for (line, entry) in one.entries.iter().enumerate() {
        contestant(svg, scale, entry, middle(line));
    }
}

fn contestant(svg: &mut Svg, scale: &LogScale, entry: &Entry, y: f64) {
    let class = format!("s{}", entry.kind.index());
    let [lower, median, upper] = [entry.spread.lower, entry.spread.median, entry.spread.upper]
        .map(|seconds| scale.position(seconds));
    svg.line((lower, y), (upper, y), &format!("{class} thick"));
    let radius = if entry.kind == Kind::Mp { 5.5 } else { 4.0 };
    svg.dot((median, y), radius, &class);
    let label = format!("{}  {}", entry.name, Seconds(entry.spread.median));
    let class = match entry.kind {
        Kind::Mp => format!("{class} halo heading"),
        _ => format!("{class} halo"),
    };
    svg.text(
        (upper.max(median) + 10.0, y + 4.0),
        Anchor::Start,
        &class,
        label,
    );
}

/// Cut into lines between words.
fn wrapped(title: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in title.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line)
                if line.chars().count() + 1 + word.chars().count() <= CHARACTERS_OF_A_TITLE =>
            {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
