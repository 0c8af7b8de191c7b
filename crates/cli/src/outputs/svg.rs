//! A flame graph as one SVG file, with the page's boxes and colours: zoom, search and tooltips work
//! in any browser, without a network, and every program that shows pictures draws it.

use super::colour::Palette;
use super::flame::places;
use crate::human::{date, grouped, percent, time};
use crate::model::functions::Functions;
use crate::model::recording::{Recording, Weight};
use crate::model::tree::{Order, Part, Tree};
use crate::text::{is_unseen, visible};
use std::fmt::Write;

/// A graph that is ready to be drawn.
pub(super) struct Graph {
    pub(super) title: String,
    pub(super) subtitle: String,
    /// The width of everything.
    pub(super) total: u64,
    /// Each in front of those above it; not the one below all of them.
    pub(super) boxes: Vec<Drawn>,
    /// What stands for all: its tooltip.
    pub(super) all: String,
}

/// A box.
pub(super) struct Drawn {
    /// 0: right above the one that stands for all.
    pub(super) depth: u32,
    pub(super) start: u64,
    pub(super) width: u64,
    /// `#rrggbb`.
    pub(super) colour: String,
    /// Lines; the first is the function's name.
    pub(super) tip: String,
}

/// The file.
pub(crate) fn render(recording: &Recording) -> String {
    let functions = Functions::of(recording);
    let tree = Tree::new(recording, &functions, Part::All, Order::Name);
    let palette = Palette::of(recording, &functions);
    let total = functions.total;
    let nodes = &tree.nodes;
    let placed = places(nodes.len(), |node| nodes[node].depth, total, |node| nodes[node].total);
    let boxes = placed.into_iter().map(|place| {
        let node = tree.nodes[place.node];
        let function = &functions.list[node.function as usize];
        let mut tip = function.name.clone();
        let module = functions.module(node.function, recording);
        let inlined = if node.inlined { "inlined into its caller" } else { "" };
        let file = function
            .file
            .as_ref()
            .map_or(String::new(), |file| format!("{file}{}", lines(node.lines)));
        for line in [module, inlined, &file].into_iter().filter(|line| !line.is_empty()) {
            let _ = write!(tip, "\n{line}");
        }
        let _ = write!(
            tip,
            "\n{}, {}",
            weight(recording, node.total),
            percent(functions.percent(node.total))
        );
        let colour = palette.colour(&function.name, function.module);
        Drawn { depth: node.depth, start: place.start, width: node.total, colour, tip }
    });
    let header = &recording.header;
    let what = match header.weight {
        _ if total == 0 => "no hits".to_string(),
        Weight::Calls => format!("{} calls", grouped(total)),
        Weight::Time => format!("{} in the functions themselves", time(total as f64)),
    };
    let words = [header.command_line(), header.specs.join(" ")];
    draw(&Graph {
        title: words.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": "),
        subtitle: format!("{what}; {} on {}", date(header.started), header.host),
        total,
        boxes: boxes.collect(),
        all: if total == 0 {
            "no hits".to_string()
        } else {
            format!("all\n{}", weight(recording, total))
        },
    })
}

/// `:12`, or `:12-20`; nothing where no line is known.
fn lines(lines: (u32, u32)) -> String {
    match lines {
        (0, _) => String::new(),
        (first, last) if last > first => format!(":{first}-{last}"),
        (first, _) => format!(":{first}"),
    }
}

pub(super) fn weight(recording: &Recording, value: u64) -> String {
    match recording.header.weight {
        Weight::Calls => format!("{} call{}", grouped(value), if value == 1 { "" } else { "s" }),
        Weight::Time => time(value as f64),
    }
}

const WIDTH: f64 = 1180.0;
const MARGIN: f64 = 10.0;
const ROW: f64 = 19.0;
const HEAD: f64 = 58.0;
const FOOT: f64 = 30.0;
/// Of the 12 pixels' type that boxes are written in.
const LETTER: f64 = 7.25;

const STYLE: &str = include_str!("svg/graph.css");
const SCRIPT: &str = include_str!("svg/graph.js");

/// Draws a graph.
pub(super) fn draw(graph: &Graph) -> String {
    let rows = graph.boxes.iter().map(|at| at.depth + 2).max().unwrap_or(1);
    let height = HEAD + f64::from(rows) * ROW + FOOT;
    let width = WIDTH + 2.0 * MARGIN;
    let mut out = format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" data-total="{}" data-width="{WIDTH}">
<style>{STYLE}</style>
<rect class="page" width="100%" height="100%"/>
<text class="name" x="{MARGIN}" y="24">{}</text>
<text class="quiet" x="{MARGIN}" y="44">{}</text>
<text id="matched" class="quiet end" x="{}" y="44"></text>
<text id="reset" class="does end off" x="{}" y="44">reset zoom</text>
<text id="search" class="does end off" x="{}" y="44">search</text>
<text id="detail" class="quiet" x="{MARGIN}" y="{}"></text>
<svg x="{MARGIN}" y="{HEAD}" width="{WIDTH}" height="{}">
"#,
        graph.total,
        text(&cut(&graph.title, 128)),
        text(&graph.subtitle),
        width - MARGIN - 190.0,
        width - MARGIN - 95.0,
        width - MARGIN,
        height - 10.0,
        f64::from(rows) * ROW,
    );
    let all = Drawn {
        depth: 0,
        start: 0,
        width: graph.total.max(1),
        colour: "#dedad2".to_string(),
        tip: graph.all.clone(),
    };
    let scale = WIDTH / all.width as f64;
    for (at, above) in std::iter::once((&all, 0)).chain(graph.boxes.iter().map(|at| (at, 1))) {
        let depth = at.depth + above;
        let (x, wide) = (at.start as f64 * scale, at.width as f64 * scale);
        let y = f64::from(rows - 1 - depth) * ROW;
        let gap = if wide > 3.0 { 1.0 } else { 0.0 };
        let name = at.tip.lines().next().unwrap_or_default();
        let room = ((wide - 8.0) / LETTER).floor();
        let label = if room < 3.0 { String::new() } else { cut(name, room as usize) };
        let _ = writeln!(
            out,
            "<g class=\"box\" data-start=\"{}\" data-weight=\"{}\" data-depth=\"{depth}\">\
             <title>{}</title><rect x=\"{x:.2}\" y=\"{y}\" width=\"{:.2}\" height=\"{}\" \
             rx=\"1.5\" fill=\"{}\"/><text x=\"{:.2}\" y=\"{}\">{}</text></g>",
            at.start,
            at.width,
            text(&at.tip),
            (wide - gap).max(0.3),
            ROW - 1.0,
            at.colour,
            x + 4.0,
            y + 13.0,
            text(&label),
        );
    }
    let _ = write!(out, "</svg>\n<script><![CDATA[\n{SCRIPT}]]></script>\n</svg>\n");
    out
}

/// The beginning of a text that is longer than so many letters.
fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_string();
    }
    text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

/// Text between tags. XML has no way to write control characters but the end of a line; a mark of
/// direction would turn what stands beside it.
pub(super) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\n' => out.push('\n'),
            '\u{fffe}' | '\u{ffff}' => out.push(' '),
            c if is_unseen(c) => out.push_str(&visible(c.encode_utf8(&mut [0; 4]))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Recording, Weight, render};
    use crate::model::file::tests::{complete, sample};
    use crate::outputs::browser::{self, state};
    use quick_xml::Reader;
    use quick_xml::events::Event;

    /// All text and all titles of the file, and its total; panics where it is not well-formed.
    fn read(svg: &str) -> (Vec<String>, u64) {
        let mut reader = Reader::from_str(svg);
        reader.config_mut().check_end_names = true;
        let (mut texts, mut text, mut total, mut depth) = (Vec::new(), String::new(), 0, 0);
        loop {
            match reader.read_event().expect("XML") {
                Event::Start(start) => {
                    depth += 1;
                    for attribute in start.attributes() {
                        let attribute = attribute.expect("an attribute");
                        if attribute.key.as_ref() == b"data-total" {
                            total = std::str::from_utf8(&attribute.value).unwrap().parse().unwrap();
                        }
                    }
                }
                Event::End(_) => {
                    depth -= 1;
                    texts.push(std::mem::take(&mut text).trim_start().to_string());
                }
                Event::Text(part) => text.push_str(&part.decode().unwrap()),
                Event::GeneralRef(name) => text.push_str(match &*name.decode().unwrap() {
                    "amp" => "&",
                    "lt" => "<",
                    "gt" => ">",
                    other => panic!("&{other};"),
                }),
                Event::Eof => break,
                _ => {}
            }
        }
        assert_eq!(depth, 0);
        (texts, total)
    }

    #[test]
    fn a_graph_has_the_totals_and_the_names() {
        let recording = sample();
        let (texts, total) = read(&render(&recording));
        assert_eq!(total, recording.total());
        for expected in [
            "./a -x: libc:malloc",
            "10 calls; 2023-11-14 22:13:20 UTC on here",
            "all\n10 calls",
            "g<int>\na\ninlined into its caller\n/src/a.c:31\n4 calls, 40.0 %",
            "[no stack]\n2 calls, 20.0 %",
            "malloc",
        ] {
            assert!(texts.iter().any(|text| text == expected), "{expected} in {texts:#?}");
        }
        let mut recording = sample();
        recording.header.weight = Weight::Time;
        let (texts, total) = read(&render(&recording));
        assert_eq!(total, recording.total());
        assert!(texts.iter().any(|text| text == "f\na\n/src/a.c:20\n300 ns, 30.0 %"), "{texts:#?}");
    }

    #[test]
    fn nothing_is_a_graph_too() {
        let empty = Recording { header: sample().header, ..Recording::default() };
        let (texts, _) = read(&render(&empty));
        assert!(texts.iter().any(|text| text.contains("no hits")), "{texts:?}");
    }

    #[test]
    fn names_are_escaped() {
        let mut recording = sample();
        recording.frames[1].symbols[0].name = "operator<&\"']]>\u{1}\u{202e}<script>".to_string();
        recording.header.command = vec!["</text><script>\u{0}&".to_string()];
        recording.header.specs = vec!["\u{1b}[31m".to_string()];
        let svg = render(&recording);
        let (texts, total) = read(&svg);
        assert_eq!((total, svg.matches("<script").count()), (recording.total(), 1));
        assert!(
            texts.iter().any(|text| text.starts_with("operator<&\"']]>\\x01\\u{202e}<script>\n")),
            "{texts:?}"
        );
        assert!(texts.iter().any(|text| text.starts_with("'</text><script>")), "{texts:?}");
    }

    #[test]
    fn nothing_is_loaded() {
        let svg = render(&complete());
        for reference in ["href", "@import", "url(", "fetch(", "XMLHttpRequest"] {
            assert!(!svg.contains(reference), "{reference}");
        }
        assert_eq!(svg.matches("http").count(), 1, "the name of the format");
    }

    /// What a user does, in a browser: the box of `g` fills the width, what it is called by stays,
    /// the rest goes.
    #[test]
    fn zoom_and_search() {
        const ACTS: &str = r#"
const title = (g) => g.querySelector("title").textContent;
const box = (name) =>
    [...document.querySelectorAll(".box")].filter((g) => title(g).startsWith(name + "\n"));
const place = (g) => ["x", "width"].map((name) => g.querySelector("rect").getAttribute(name));
const see = (g) => g.classList.contains("off") ? "off" : place(g).join("+");
const seen = [];
box("g<int>")[1].dispatchEvent(new MouseEvent("click"));
seen.push(document.documentElement.dataset.zoom, see(box("g<int>")[1]));
seen.push(...["_start", "f", "[no stack]"].map((name) => see(box(name)[0])));
box("g<int>")[1].dispatchEvent(new MouseEvent("mouseenter"));
seen.push(document.getElementById("detail").textContent);
document.getElementById("reset").dispatchEvent(new MouseEvent("click"));
seen.push(document.documentElement.dataset.zoom, see(box("f")[0]));
window.prompt = () => "^(F|main)$".toLowerCase();
document.getElementById("search").dispatchEvent(new MouseEvent("click"));
seen.push(document.documentElement.dataset.matched);
seen.push(document.getElementById("matched").textContent);
seen.push(document.querySelectorAll(".found").length);
dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
seen.push(document.querySelectorAll(".found").length);
document.documentElement.dataset.seen = seen.join(" | ");
"#;
        let svg = render(&complete()).replace("]]></script>", &format!("{ACTS}]]></script>"));
        let Some(text) = browser::opened(&svg, "svg", "") else { return };
        let expected = "g&lt;int&gt; | 0+1179 | 0+1179 | off | off | g&lt;int&gt;   a   inlined \
            into its caller   /src/a.c:31   4 calls, 40.0 % | all | 354+353 | 8 | matched 80.0 % \
            | 3 | 0";
        assert_eq!(state(&text, "seen"), expected);
    }
}
