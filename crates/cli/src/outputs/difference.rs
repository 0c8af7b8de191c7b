//! A differential flame graph: the stacks of two recordings, red where the later one has more and
//! blue where it has less. A box is as wide as the larger of the two, so that what is gone is
//! there, too.

use super::colour::hex;
use super::flame::places;
use super::svg::{Drawn, Graph, draw, text, weight};
use crate::human::percent;
use crate::model::compare::{Compared, Label, change, factor};
use crate::model::recording::Recording;
use std::fmt::Write;

/// Most rows of the page's table.
const ROWS: usize = 200;

/// The graph as an SVG file.
pub(crate) fn svg(before: &Recording, after: &Recording, compared: &Compared) -> String {
    let nodes = &compared.nodes;
    let boxes = places(nodes.len(), |at| nodes[at].depth, compared.width, |at| nodes[at].width)
        .into_iter()
        .map(|place| {
            let node = nodes[place.node];
            let Label { name, object, .. } = &compared.labels[node.label as usize];
            let mut tip = name.clone();
            if !object.is_empty() {
                let _ = write!(tip, "\n{object}");
            }
            let _ = write!(tip, "\n{}", both(after, compared, node.weights));
            Drawn {
                depth: node.depth,
                start: place.start,
                width: node.width,
                colour: colour(change(node.weights)),
                tip,
            }
        });
    let [a, b] = [before, after].map(|recording| recording.header.command_line());
    let title = if a == b { a } else { format!("{a} -> {b}") };
    let [a, b] = compared.totals.map(|total| weight(after, total));
    draw(&Graph {
        title: format!("{title}: {}", after.header.specs.join(" ")),
        subtitle: format!("{a} before, {b} after; red: more, blue: less"),
        total: compared.width,
        boxes: boxes.collect(),
        all: if compared.width == 0 {
            "no hits".to_string()
        } else {
            format!("all\n{a} before, {b} after")
        },
    })
}

/// The same in a page, with a table of functions: those whose own weight changed most first.
pub(crate) fn html(before: &Recording, after: &Recording, compared: &Compared) -> String {
    let svg = svg(before, after, compared);
    let svg = svg.split_once('\n').map_or(svg.as_str(), |(_, svg)| svg);
    let mut rows = String::new();
    for label in order(compared).into_iter().take(ROWS) {
        let cells = [label.own, label.total].map(|both| {
            let [a, b] = both.map(|value| weight(after, value));
            format!(
                "<td>{a}<td>{b}<td style=\"background:{}\">{}",
                colour(change(both)),
                factor(both)
            )
        });
        let _ = writeln!(
            rows,
            "<tr>{}<td>{}<td class=function>{}",
            cells.concat(),
            text(&label.object),
            text(&label.name)
        );
    }
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>difference \
            - trapline</title>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src \
         'unsafe-inline'; style-src 'unsafe-inline'\">\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n{svg}<table>\n\
         <thead><tr><th>self A<th>self B<th>change<th>total A<th>total B<th>change<th>object<th \
         class=function>function</thead>\n\
         <tbody>\n{rows}</tbody>\n</table>\n</body>\n</html>\n"
    )
}

const STYLE: &str = "\
body { margin: 16px auto; width: 1200px; background: #f6f5f2; color: #23211d; font: 13px/1.5 \
system-ui, sans-serif; }
table { border-collapse: collapse; margin: 12px 10px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 2px 10px; border-bottom: 1px solid #e3dfd6; white-space: \
nowrap; }
td.function { font-family: ui-monospace, Menlo, Consolas, \"DejaVu Sans Mono\", monospace; \
white-space: normal; overflow-wrap: anywhere; }
.function { text-align: left !important; }
";

/// Functions, those whose own weight changed most first.
pub(crate) fn order(compared: &Compared) -> Vec<&Label> {
    let mut labels: Vec<&Label> =
        compared.labels.iter().filter(|label| label.total != [0, 0]).collect();
    let by = |[a, b]: [u64; 2]| std::cmp::Reverse(a.abs_diff(b));
    labels.sort_by_key(|label| (by(label.own), by(label.total), label.name.as_str()));
    labels
}

fn both(after: &Recording, compared: &Compared, weights: [u64; 2]) -> String {
    let share = |side: usize| {
        let total = compared.totals[side];
        percent(if total == 0 { 0.0 } else { weights[side] as f64 * 100.0 / total as f64 })
    };
    let [a, b] = weights.map(|value| weight(after, value));
    format!("{a} ({}) before, {b} ({}) after", share(0), share(1))
}

/// Red where it grew, blue where it shrank, the stronger the more.
fn colour(change: f64) -> String {
    let much = change.abs().min(1.0);
    hex(0.93 - 0.2 * much, 0.004 + 0.13 * much, if change > 0.0 { 25.0 } else { 255.0 })
}

#[cfg(test)]
mod tests {
    use super::{colour, html, svg};
    use crate::model::compare::Compared;
    use crate::model::file::tests::complete;
    use crate::outputs::browser::{opened, state};

    #[test]
    fn what_grew_is_red_and_what_is_gone_is_there_and_blue() {
        let before = complete();
        let mut after = complete();
        after.stacks[0].calls = 12;
        after.stacks.remove(2);
        let svg = svg(&before, &after, &Compared::of(&before, &after).unwrap());
        assert!(svg.contains("10 calls before, 18 calls after; red: more, blue: less"));
        let fill = |tip: &str| {
            let at = svg.find(&format!("<title>{tip}")).unwrap_or_else(|| panic!("{tip} in {svg}"));
            svg[at..].split("fill=\"").nth(1).unwrap()[..7].to_string()
        };
        assert_eq!(fill("f\na\n3 calls (30.0 %) before, 12 calls (66.7 %) after"), colour(0.75));
        assert_eq!(
            fill("g&lt;int&gt;\na\n1 call (10.0 %) before, 0 calls (0.0 %) after"),
            colour(-1.0)
        );
        assert_eq!(
            fill("g&lt;int&gt;\na\n4 calls (40.0 %) before, 4 calls (22.2 %) after"),
            colour(0.0)
        );
        let channels = |colour: String| {
            [1, 3, 5].map(|at| u8::from_str_radix(&colour[at..at + 2], 16).unwrap())
        };
        let ([red, _, blue], [less_red, _, more_blue]) =
            (channels(colour(1.0)), channels(colour(-1.0)));
        assert!(red > blue + 60 && more_blue > less_red + 40);
    }

    #[test]
    fn the_page_has_the_graph_and_a_table() {
        let before = complete();
        let mut after = complete();
        after.stacks[0].calls = 12;
        let hostile = "</title></td><script>alert(1)</script>";
        after.frames[1].symbols[0].name = hostile.to_string();
        let page = html(&before, &after, &Compared::of(&before, &after).unwrap());
        assert_eq!(page.matches("<script").count(), 1);
        let body = page.split_once("<tbody>").unwrap().1;
        assert!(
            body.starts_with("\n<tr><td>10 calls<td>19 calls<td style=\"background:#"),
            "{body}"
        );
        assert!(
            body.contains("<td class=function>malloc\n") && body.contains("<td class=function>f\n")
        );
        let acts = "document.documentElement.dataset.seen = \
            document.querySelectorAll(\".box\").length;\
                    document.documentElement.dataset.ready = \"yes\";]]></script>";
        let Some(text) = opened(&page.replace("]]></script>", acts), "html", "") else { return };
        assert!(state(&text, "seen").parse::<u32>().unwrap() > 10);
    }
}
