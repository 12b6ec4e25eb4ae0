//! The figures as two panels over the number of workers: times, and memory. All scales are logarithmic.

use crate::figures::{Size, What};
use crate::measure::spread::brief;
use crate::measure::svg::{Anchor, LogScale, Svg};
use crate::table::{Bytes, short};

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 470.0;
const TOP: f64 = 90.0;
const BOTTOM: f64 = 405.0;
/// How near each other two names may stand.
const LINE: f64 = 16.0;

const TIMES: [What; 5] = [
    What::Start,
    What::Stop,
    What::Apply,
    What::Submit,
    What::Map,
];

/// A part of the picture with scales of its own.
struct Panel<'a> {
    heading: &'a str,
    series: &'a [What],
    /// Where its scale of workers begins and ends; names stand to the right of it.
    from: f64,
    to: f64,
    tick: fn(f64) -> String,
}

pub(crate) fn draw(sizes: &[Size]) -> String {
    let mut svg = Svg::new(WIDTH, HEIGHT);
    svg.text(
        (20.0, 28.0),
        Anchor::Start,
        "title",
        "A pool of mp, by the number of its workers",
    );
    let explanation = "dot: median; bar: quartiles; all scales are logarithmic";
    svg.text((20.0, 48.0), Anchor::Start, "dim", explanation);
    let times = Panel {
        heading: "time",
        series: &TIMES,
        from: 80.0,
        to: 450.0,
        tick: brief,
    };
    let memory = Panel {
        heading: "memory of a worker (PSS)",
        series: &[What::Memory],
        from: 770.0,
        to: 910.0,
        tick: |bytes| Bytes(bytes).to_string(),
    };
    times.draw(&mut svg, sizes);
    memory.draw(&mut svg, sizes);
    svg.finish("Time and memory of a pool of mp by the number of its workers")
}

impl Panel<'_> {
    fn draw(&self, svg: &mut Svg, sizes: &[Size]) {
        let spreads = (self.series.iter())
            .flat_map(|&what| sizes.iter().filter_map(move |size| size.spread(what)));
        let figures = spreads.flat_map(|spread| [spread.lower, spread.upper]);
        let scale = LogScale::covering(figures, (BOTTOM, TOP));
        self.axes(svg, sizes, &scale);
        let mut ends = Vec::new();
        for (index, &what) in self.series.iter().enumerate() {
            ends.extend(self.line(svg, sizes, &scale, (index, what)));
        }
        self.names(svg, ends);
    }

    fn x(&self, sizes: &[Size], workers: usize) -> f64 {
        let log = |workers: usize| (workers as f64).ln();
        let last = sizes.last().map_or(1.0, |size| log(size.workers));
        self.from + log(workers) / last * (self.to - self.from)
    }

    fn axes(&self, svg: &mut Svg, sizes: &[Size], scale: &LogScale) {
        svg.text(
            (self.from, TOP - 16.0),
            Anchor::Start,
            "heading",
            self.heading,
        );
        for decade in scale.decades() {
            let y = scale.position(decade);
            svg.line((self.from - 8.0, y), (self.to + 8.0, y), "grid");
            let label = (self.tick)(decade);
            svg.text((self.from - 14.0, y + 4.0), Anchor::End, "dim", label);
        }
        for size in sizes {
            let x = self.x(sizes, size.workers);
            svg.line((x, TOP), (x, BOTTOM), "grid");
            svg.text((x, BOTTOM + 20.0), Anchor::Middle, "dim", size.workers);
        }
        let middle = f64::midpoint(self.from, self.to);
        svg.text((middle, BOTTOM + 42.0), Anchor::Middle, "dim", "workers");
    }

    /// One series; says where it ends, its class and what to write there.
    fn line(
        &self,
        svg: &mut Svg,
        sizes: &[Size],
        scale: &LogScale,
        (index, what): (usize, What),
    ) -> Option<(f64, String, String)> {
        let class = format!("s{index}");
        let mut points = Vec::new();
        for size in sizes {
            let (x, spread) = (self.x(sizes, size.workers), size.spread(what)?);
            let [lower, upper] = [spread.lower, spread.upper].map(|figure| scale.position(figure));
            svg.line((x, lower), (x, upper), &format!("{class} thick"));
            let point = (x, scale.position(spread.median));
            svg.dot(point, 4.0, &class);
            points.push(point);
        }
        svg.polyline(&points, &class);
        let (first, last) = (sizes.first()?.spread(what)?, sizes.last()?.spread(what)?);
        let (first, last) = (short(what, first), short(what, last));
        let label = match self.series {
            [_] => last,
            _ => format!("{}: {first} … {last}", what.name()),
        };
        Some((points.last()?.1, class, label))
    }

    /// Beside the ends of the lines, and as far from each other as it takes to read them.
    fn names(&self, svg: &mut Svg, mut ends: Vec<(f64, String, String)>) {
        ends.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut last = f64::NEG_INFINITY;
        for (y, class, label) in ends {
            last = y.max(last + LINE);
            let class = format!("{class} halo");
            svg.text((self.to + 14.0, last + 4.0), Anchor::Start, &class, label);
        }
    }
}
