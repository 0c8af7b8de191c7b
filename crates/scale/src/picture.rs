//! Tables as a picture: both axes logarithmic, the posted figures as rings beside the model's
//! lines.

use crate::results::Results;
use crate::tables::Unit;
use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
/// Around the plot: for numbers and the legend.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 44.0;
const COLOURS: [&str; 8] =
    ["#c0392b", "#1f6fb2", "#2e8b57", "#8e44ad", "#d68910", "#117a8b", "#7f8c8d", "#34495e"];

/// One picture, of these tables below each other.
pub fn render(tables: &[&Results]) -> String {
    let mut svg = String::new();
    let height = HEIGHT * tables.len() as f64;
    _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">"
    );
    _ = writeln!(svg, "<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>");
    for (number, results) in tables.iter().enumerate() {
        _ = writeln!(svg, "<g transform=\"translate(0 {})\">", HEIGHT * number as f64);
        svg.push_str(&plot(results));
        _ = writeln!(svg, "</g>");
    }
    svg.push_str("</svg>\n");
    svg
}

/// A logarithmic axis: from a value to a place.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// Over the powers of `base` around all values.
    fn over(values: impl Iterator<Item = f64> + Clone, base: f64, from: f64, to: f64) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let most = values.fold(0.0, f64::max);
        // What is a power itself has to stay one.
        let low = base.powf((least.log(base) + 1e-9).floor());
        let high = base.powf((most.log(base) - 1e-9).ceil());
        Self { low, high: high.max(low * base), from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let part = (value / self.low).ln() / (self.high / self.low).ln();
        self.from + part * (self.to - self.from)
    }
}

fn plot(results: &Results) -> String {
    let mut svg = String::new();
    let rows = 0..results.cells.len();
    let columns = 0..results.threads.len();
    let cells = rows.clone().flat_map(|row| columns.clone().map(move |column| (row, column)));
    let figures = cells.clone().map(|(row, column)| results.figure(row, column));
    let posted = cells.filter_map(|(row, column)| results.posted(row, column));
    let y = Axis::over(figures.chain(posted), 10.0, HEIGHT - BOTTOM, TOP);
    let threads = results.threads.iter().map(|threads| *threads as f64);
    let x = Axis::over(threads, 2.0, LEFT, WIDTH - RIGHT);
    _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>",
        results.table.title
    );
    let mut decade = y.low;
    while decade <= y.high * 1.001 {
        let at = y.place(decade);
        _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#dddddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            decade
        );
        decade *= 10.0;
    }
    for threads in &results.threads {
        let at = x.place(*threads as f64);
        _ = writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{threads}</text>",
            HEIGHT - BOTTOM + 18.0
        );
    }
    let unit = match results.table.unit {
        Unit::Millions => "Mops/s",
        Unit::Nanoseconds => "ns",
    };
    _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">threads ({unit} upwards; rings: \
         posted)</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 8.0
    );
    for row in rows {
        svg.push_str(&line(results, row, &x, &y));
    }
    svg
}

fn line(results: &Results, row: usize, x: &Axis, y: &Axis) -> String {
    let mut svg = String::new();
    let colour = COLOURS[row % COLOURS.len()];
    let points: Vec<String> = (0..results.threads.len())
        .map(|column| {
            let at = x.place(results.threads[column] as f64);
            format!("{at:.1},{:.1}", y.place(results.figure(row, column)))
        })
        .collect();
    _ = writeln!(
        svg,
        "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
        points.join(" ")
    );
    for column in 0..results.threads.len() {
        if let Some(posted) = results.posted(row, column) {
            _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"#ffffff\" stroke=\"{colour}\" \
                 stroke-width=\"1.5\"/>",
                x.place(results.threads[column] as f64),
                y.place(posted)
            );
        }
    }
    let at = TOP + 18.0 * row as f64;
    _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"{colour}\" \
         stroke-width=\"2\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        WIDTH - RIGHT + 16.0,
        WIDTH - RIGHT + 40.0,
        WIDTH - RIGHT + 46.0,
        at + 4.0,
        results.rows[row].scheme
    );
    svg
}
