//! Lines of fields for other programs (`-x ';'`): a head, then a line for each function, times in
//! nanoseconds, empty where there are none.

use crate::model::report::{Kind, Report, Row};
use crate::text::visible;

const HEAD: [&str; 18] = [
    "object",
    "name",
    "calls",
    "p50_ns",
    "p90_ns",
    "p99_ns",
    "max_ns",
    "total_ns",
    "self_ns",
    "elapsed_ns",
    "process",
    "thread",
    "kind",
    "time",
    "process_name",
    "thread_name",
    "running",
    "note",
];

/// The names of the fields. New ones come at the end.
pub(crate) fn head(separator: &str) -> String {
    HEAD.join(separator)
}

/// A line for each function. Its processes and threads follow it, with process and thread filled.
pub(crate) fn fields(report: &Report, separator: &str, all: bool) -> Vec<String> {
    let kind = match report.kind {
        Kind::Report => "report",
        Kind::Interval => "interval",
    };
    let mut lines = Vec::new();
    let shown = |row: &&Row| all || row.calls > 0 || row.is_overwritten();
    for row in report.functions.iter().filter(shown) {
        let names = [field(&row.object, separator), field(&row.name, separator)];
        let mut line =
            |calls: [u64; 2], times: [Option<u64>; 6], part: [String; 2], texts: [&str; 3]| {
                let mut cells = names.to_vec();
                cells.push(calls[0].to_string());
                cells.extend(times.map(|ns| ns.map_or_else(String::new, |ns| ns.to_string())));
                cells.push(report.elapsed_ns.to_string());
                cells.extend(part);
                cells.extend([kind.to_string(), field(&report.time, separator)]);
                let [process, thread, note] = texts.map(|text| field(text, separator));
                cells.extend([process, thread]);
                cells.push(calls[1].to_string());
                cells.push(note);
                lines.push(cells.join(separator));
            };
        let times = [row.p50_ns, row.p90_ns, row.p99_ns, row.max_ns, row.total_ns, row.self_ns];
        let note = row.note.as_deref().unwrap_or_default();
        line([row.calls, row.running], times, Default::default(), ["", "", note]);
        for part in row.processes.iter().chain(&row.threads) {
            let times =
                [part.p50_ns, part.p90_ns, part.p99_ns, part.max_ns, part.total_ns, part.self_ns];
            let thread = part.thread.map_or_else(String::new, |thread| thread.to_string());
            let names = [&*part.process_name, &*part.thread_name, ""];
            line([part.calls, part.running], times, [part.process.to_string(), thread], names);
        }
    }
    lines
}

/// The lines of a footer as comments, which are no rows.
pub(crate) fn comments(footer: &[String]) -> Vec<String> {
    footer.iter().map(|line| format!("# {line}")).collect()
}

/// In double quotes when the separator or a quote is in it (RFC 4180), or when it could be taken
/// for a comment.
fn field(text: &str, separator: &str) -> String {
    let text = &*visible(text);
    if !separator.is_empty() && text.contains(separator)
        || text.contains('"')
        || text.starts_with('#')
    {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_string()
    }
}
