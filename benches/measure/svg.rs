//! Charts as text: the few elements of SVG that they need, and a logarithmic scale.
//!
//! A chart has a background of its own, and follows the reader's light or dark colours; who does not
//! know of them (`prefers-color-scheme`) sees it light, and legible on any page.

use std::fmt::{Display, Write as _};

/// `s0` to `s5` are the series; their names are written beside them in the same colour, with a `halo`
/// where they may lie over lines.
const STYLE: &str = "\
text { font: 12px system-ui, 'DejaVu Sans', sans-serif; fill: #1f2328 }
.title { font-size: 16px; font-weight: 600 }
.heading { font-weight: 600 }
.dim { fill: #59636e }
.page { fill: #ffffff; stroke: #d1d9e0 }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.target { stroke: #cf222e; stroke-width: 2; stroke-dasharray: 4 3 }
.thick { stroke-width: 3; fill: none }
.s0 { fill: #0757ba; stroke: #0757ba }
.s1 { fill: #9a4d00; stroke: #9a4d00 }
.s2 { fill: #a21e9b; stroke: #a21e9b }
.s3 { fill: #0b7261; stroke: #0b7261 }
.s4 { fill: #4d6f0a; stroke: #4d6f0a }
.s5 { fill: #59636e; stroke: #59636e }
text.halo { stroke: #ffffff; stroke-width: 4; paint-order: stroke }
polyline { fill: none !important; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.dim { fill: #9ea7b3 }
.page { fill: #0d1117; stroke: #3d444d }
.grid { stroke: #2d333b }
.target { stroke: #ff7b72 }
.s0 { fill: #79b8ff; stroke: #79b8ff }
.s1 { fill: #f0a35e; stroke: #f0a35e }
.s2 { fill: #f08ce8; stroke: #f08ce8 }
.s3 { fill: #4fd1b5; stroke: #4fd1b5 }
.s4 { fill: #b5d664; stroke: #b5d664 }
text.halo { stroke: #0d1117 }
.s5 { fill: #9ea7b3; stroke: #9ea7b3 }
}";

/// Where a text is attached to its place.
#[derive(Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture that grows.
pub(crate) struct Svg {
    size: (f64, f64),
    elements: String,
}

impl Svg {
    pub(crate) fn new(width: f64, height: f64) -> Svg {
        let elements = String::new();
        Svg {
            size: (width, height),
            elements,
        }
    }

    pub(crate) fn text(
        &mut self,
        (x, y): (f64, f64),
        anchor: Anchor,
        class: &str,
        text: impl Display,
    ) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(&text.to_string());
        self.element(format_args!(
            "<text x='{x:.1}' y='{y:.1}' text-anchor='{anchor}' class='{class}'>{text}</text>"
        ));
    }

    pub(crate) fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) {
        self.element(format_args!(
            "<line x1='{x1:.1}' y1='{y1:.1}' x2='{x2:.1}' y2='{y2:.1}' class='{class}'/>"
        ));
    }

    pub(crate) fn dot(&mut self, (x, y): (f64, f64), radius: f64, class: &str) {
        self.element(format_args!(
            "<circle cx='{x:.1}' cy='{y:.1}' r='{radius}' class='{class}'/>"
        ));
    }

    pub(crate) fn polyline(&mut self, points: &[(f64, f64)], class: &str) {
        let points: Vec<_> = (points.iter())
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let points = points.join(" ");
        self.element(format_args!(
            "<polyline points='{points}' class='{class}'/>"
        ));
    }

    /// The whole file; the title is what a reader hears who does not see it.
    pub(crate) fn finish(self, title: &str) -> String {
        let (width, height) = self.size;
        let (title, elements) = (escaped(title), self.elements);
        let (inner_width, inner_height) = (width - 1.0, height - 1.0);
        format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:.0} {height:.0}' \
             width='{width:.0}' height='{height:.0}' role='img'>\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n\
             <rect x='0.5' y='0.5' width='{inner_width:.0}' height='{inner_height:.0}' rx='8' class='page'/>\n\
             {elements}</svg>\n"
        )
    }

    fn element(&mut self, element: impl Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.elements, "{element}");
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Whole decades, from one coordinate to another.
pub(crate) struct LogScale {
    decades: (i32, i32),
    coordinates: (f64, f64),
}

impl LogScale {
    /// The decades that have all of these; what is not positive counts as nothing.
    pub(crate) fn covering(
        figures: impl IntoIterator<Item = f64>,
        coordinates: (f64, f64),
    ) -> LogScale {
        let logs = (figures.into_iter())
            .filter(|figure| *figure > 0.0)
            .map(f64::log10);
        let (least, most) = logs.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), log| {
            (least.min(log), most.max(log))
        });
        let decades = if least <= most {
            let first = least.floor() as i32;
            (first, (most.ceil() as i32).max(first + 1))
        } else {
            (0, 1)
        };
        LogScale {
            decades,
            coordinates,
        }
    }

    pub(crate) fn position(&self, figure: f64) -> f64 {
        let (first, last) = (f64::from(self.decades.0), f64::from(self.decades.1));
        let part = ((figure.log10() - first) / (last - first)).clamp(0.0, 1.0);
        let (from, to) = self.coordinates;
        from + part * (to - from)
    }

    /// Its ticks.
    pub(crate) fn decades(&self) -> impl Iterator<Item = f64> {
        (self.decades.0..=self.decades.1).map(|decade| 10f64.powi(decade))
    }
}
