//! Lines of fields for other programs (`-x ';'`): a head, then a line for each function, times in nanoseconds, empty where there are none.

use crate::report::Report;

const HEAD: [&str; 12] =
    ["object", "name", "calls", "p50_ns", "p90_ns", "p99_ns", "max_ns", "total_ns", "self_ns", "elapsed_ns", "process", "thread"];

/// The lines. A function's threads follow it, with the last two fields filled.
pub(crate) fn fields(report: &Report, separator: &str, all: bool) -> Vec<String> {
    let mut lines = vec![HEAD.join(separator)];
    for row in report.functions.iter().filter(|row| all || row.calls > 0) {
        let names = [field(&row.object, separator), field(&row.name, separator)];
        let mut line = |calls: u64, times: [Option<u64>; 6], thread: [String; 2]| {
            let mut cells = names.to_vec();
            cells.push(calls.to_string());
            cells.extend(times.map(|ns| ns.map_or_else(String::new, |ns| ns.to_string())));
            cells.push(report.elapsed_ns.to_string());
            cells.extend(thread);
            lines.push(cells.join(separator));
        };
        line(row.calls, [row.p50_ns, row.p90_ns, row.p99_ns, row.max_ns, row.total_ns, row.self_ns], Default::default());
        for thread in &row.threads {
            let times = [thread.p50_ns, thread.p90_ns, thread.p99_ns, thread.max_ns, thread.total_ns, thread.self_ns];
            line(thread.calls, times, [thread.process.to_string(), thread.thread.to_string()]);
        }
    }
    lines
}

/// In double quotes when the separator or a quote is in it (RFC 4180).
fn field(text: &str, separator: &str) -> String {
    if !separator.is_empty() && text.contains(separator) || text.contains('"') {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_string()
    }
}
