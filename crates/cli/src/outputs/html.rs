//! One page that needs nothing else: a flame graph, a table of functions, histograms, and what the
//! recording says of itself.
//!
//! The figures are in it as JSON, which the page's script draws. The script lets no name become
//! markup, and the page's policy lets it load nothing.

#[cfg(test)]
mod browser_tests;
mod data;

use crate::model::functions::Functions;
use crate::model::recording::Recording;
use data::Data;

/// The script, in the order in which its parts need each other.
const SCRIPT: [&str; 6] = [
    include_str!("html/text.js"),
    include_str!("html/tree.js"),
    include_str!("html/graph.js"),
    include_str!("html/tables.js"),
    include_str!("html/facts.js"),
    include_str!("html/page.js"),
];
const STYLE: &str = include_str!("html/page.css");
const BODY: &str = include_str!("html/body.html");

/// The page.
pub(crate) fn render(recording: &Recording) -> String {
    page(recording, false)
}

/// The page as `trapline report --serve` shows it, with links to the other formats.
pub(crate) fn served(recording: &Recording) -> String {
    page(recording, true)
}

fn page(recording: &Recording, served: bool) -> String {
    // No name may end the element that it is in: inside strings, JSON has another way to write `<`.
    let functions = Functions::of(recording);
    let data = crate::text::to_json(&Data::of(recording, &functions, served))
        .unwrap_or_default()
        .replace('<', "\\u003c");
    let title = recording
        .header
        .command
        .first()
        .map_or("trapline", |program| program.rsplit('/').next().unwrap_or(program));
    let title = title.replace('&', "&amp;").replace('<', "&lt;");
    [
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>",
        &title,
        " - trapline</title>\n<meta name=\"viewport\" content=\"width=device-width, \
            initial-scale=1\">\n",
        "<meta name=\"color-scheme\" content=\"light dark\">\n",
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src \
            'unsafe-inline'; style-src 'unsafe-inline'; img-src data:\">\n",
        "<link rel=\"icon\" href=\"data:,\">\n<style>\n",
        STYLE,
        "</style>\n</head>\n",
        BODY,
        "<script type=\"application/json\" id=\"data\">",
        &data,
        "</script>\n<script>\n\"use strict\";\n",
        &SCRIPT.concat(),
        "</script>\n</body>\n</html>\n",
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::model::file::tests::complete;
    use crate::model::recording::{Frame, Recording, Stack, Symbol};
    use std::time::{Duration, Instant};

    #[test]
    fn no_name_breaks_out() {
        let mut recording = complete();
        let hostile = "</script><script>alert(1)</script><!--<script>";
        recording.frames[1].symbols[0].name = hostile.to_string();
        recording.modules[0].path = format!("/bin/{hostile}");
        recording.header.command = vec!["</title><script>".to_string()];
        recording.functions[0].name = hostile.to_string();
        let page = render(&recording);
        assert_eq!(page.matches("<script").count(), 2);
        assert_eq!(page.matches("</script").count(), 2);
        assert_eq!(page.matches("<!--").count(), 0);
        assert!(page.contains("\\u003c/script>"));
    }

    #[test]
    fn nothing_is_loaded() {
        let page = render(&complete());
        for reference in ["src=", "@import", "url(", "fetch(", "XMLHttpRequest"] {
            assert!(!page.contains(reference), "{reference}");
        }
    }

    /// Many distinct stacks, as a busy server has them.
    pub(super) fn many_stacks(count: u32) -> Recording {
        let mut recording = complete();
        let functions = 5_000;
        recording.frames = (0..functions)
            .map(|at| Frame {
                module: Some(at % 2),
                address: u64::from(at),
                returns: true,
                symbols: vec![Symbol {
                    name: format!("function_{at}"),
                    file: Some("/src/many.c".to_string()),
                    line: Some(at + 1),
                }],
            })
            .collect();
        // Numbers with a long period: ways share their beginnings and spread out towards their
        // ends.
        let way = |at: u32| {
            (0..30_u32).map(move |depth| {
                if depth < 8 {
                    depth
                } else {
                    at.wrapping_mul(2_654_435_761).rotate_left(depth) % (depth * 100)
                }
            })
        };
        recording.stacks = (0..count)
            .map(|at| {
                let mut frames: Vec<u32> = way(at).collect();
                frames.reverse();
                Stack { frames, calls: u64::from(at % 100) + 1, ..Stack::default() }
            })
            .collect();
        recording.no_stack.functions.clear();
        recording
    }

    #[test]
    fn many_stacks_take_no_long_time() {
        let started = Instant::now();
        let page = render(&many_stacks(20_000));
        assert!(page.contains("function_4242"));
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    }
}
