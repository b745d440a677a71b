//! A plot of few lines, as SVG.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};

/// The x axis is logarithmic; y begins at 0.
pub(super) struct Plot<'a> {
    pub(super) title: &'a str,
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    pub(super) lines: Vec<Line>,
}

/// Points in order of x, which is above 0.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

impl Plot<'_> {
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, self.svg()).with_context(|| format!("write {}", path.display()))
    }

    fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let (low, high) = points().fold((f64::MAX, f64::MIN), |(low, high), (x, _)| (low.min(*x), high.max(*x)));
        let top = points().fold(0.0_f64, |top, (_, y)| top.max(*y));
        let step = step(top / 5.0);
        let top = (top / step).ceil().max(1.0) * step;
        let width = (high / low).log2().max(f64::MIN_POSITIVE);
        let place = |x: f64, y: f64| (LEFT + WIDTH * (x / low).log2() / width, TOP + HEIGHT * (1.0 - y / top));

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
            LEFT + WIDTH + RIGHT,
            TOP + HEIGHT + BOTTOM
        );
        let mut text = |x: f64, y: f64, anchor: &str, text: &str| {
            let text = text.replace('&', "&amp;").replace('<', "&lt;");
            let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
        };
        text(LEFT + WIDTH / 2.0, 20.0, "middle", self.title);
        text(LEFT + WIDTH / 2.0, TOP + HEIGHT + 40.0, "middle", self.x);
        text(LEFT, TOP - 10.0, "end", self.y);
        let mut ticks: Vec<f64> = points().map(|(x, _)| *x).collect();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        for x in ticks {
            text(place(x, 0.0).0, TOP + HEIGHT + 18.0, "middle", &format!("{x}"));
        }
        let levels = (0..).map(|number| f64::from(number) * step).take_while(|level| *level <= top * 1.001);
        for level in levels.clone() {
            text(LEFT - 8.0, place(low, level).1 + 4.0, "end", &format!("{level}"));
        }
        for (number, line) in self.lines.iter().enumerate() {
            let (x, y) = (LEFT + WIDTH + 12.0, TOP + 16.0 * number as f64);
            text(x + 24.0, y + 4.0, "start", &line.name);
        }
        for level in levels {
            let y = place(low, level).1;
            let _ = writeln!(svg, "<path d=\"M{LEFT} {y:.1}h{WIDTH}\" stroke=\"#ddd\"/>");
        }
        for (number, (line, color)) in self.lines.iter().zip(COLORS.iter().cycle()).enumerate() {
            let path: Vec<String> =
                line.points.iter().map(|&(x, y)| place(x, y)).map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
            let legend = format!("M{} {}h18", LEFT + WIDTH + 12.0, TOP + 16.0 * number as f64);
            let _ = writeln!(
                svg,
                "<path d=\"M{}{legend}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
                path.join("L")
            );
        }
        svg + "</svg>\n"
    }
}

/// 1, 2 or 5 and zeros, at least as much as `least`.
fn step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1e-9).log10().floor());
    [1.0, 2.0, 5.0].map(|digit| digit * power).into_iter().find(|step| *step >= least).unwrap_or(10.0 * power)
}

const LEFT: f64 = 70.0;
const WIDTH: f64 = 480.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 50.0;
const HEIGHT: f64 = 280.0;
const BOTTOM: f64 = 60.0;
const COLORS: [&str; 6] = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (least, expected) in [(1.0, 1.0), (1.1, 2.0), (2.1, 5.0), (30.0, 50.0), (51.0, 100.0), (0.3, 0.5)] {
            assert!((step(least) - expected).abs() < 1e-9, "{least}");
        }
    }

    #[test]
    fn points_are_where_they_belong() {
        let line =
            Line { name: "a < b".to_owned(), points: vec![(1_000.0, 50.0), (10_000.0, 0.0), (100_000.0, 100.0)] };
        let svg = Plot { title: "t", x: "x", y: "y", lines: vec![line] }.svg();
        // In the middle of its height at the left, below in the middle, above at the right.
        assert!(svg.contains("M70.0 190.0L310.0 330.0L550.0 50.0"), "{svg}");
        assert!(svg.contains("a &lt; b"), "{svg}");
    }
}
