//! What is told of several measurements of the same: the median, and the quartiles around it.

use std::fmt;

/// In seconds.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) lower: f64,
    pub(crate) median: f64,
    pub(crate) upper: f64,
}

impl Spread {
    /// Nothing, if there are no samples.
    pub(crate) fn of(samples: &[f64]) -> Option<Spread> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        Some(Spread {
            lower: sorted[last / 4],
            median: sorted[sorted.len() / 2],
            upper: sorted[(3 * last).div_ceil(4)],
        })
    }
}

/// `median (lower to upper)`.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, lower, upper] = [self.median, self.lower, self.upper].map(Seconds);
        f.pad(&format!("{median} ({lower} to {upper})"))
    }
}

/// A round figure, as short as it can be said: `1 µs`.
pub(crate) fn brief(seconds: f64) -> String {
    // 1e-6 may be a little less than a microsecond.
    let figure = Seconds(seconds * (1.0 + 1e-9)).to_string();
    figure.replace(".00 ", " ").replace(".0 ", " ")
}

/// Shown with three digits.
pub(crate) struct Seconds(pub(crate) f64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (figure, unit) = match self.0 {
            0.0 => (0.0, "s"),
            seconds if seconds < 1e-6 => (seconds * 1e9, "ns"),
            seconds if seconds < 1e-3 => (seconds * 1e6, "µs"),
            seconds if seconds < 1.0 => (seconds * 1e3, "ms"),
            seconds => (seconds, "s"),
        };
        let digits = match figure {
            0.0 => 0,
            figure if figure < 10.0 => 2,
            figure if figure < 100.0 => 1,
            _ => 0,
        };
        f.pad(&format!("{figure:.digits$} {unit}"))
    }
}
