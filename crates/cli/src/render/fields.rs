//! Lines of fields for other programs (`-x ';'`): a head, then a line for each function, times in nanoseconds, empty where there are none.

use crate::report::Report;

const HEAD: [&str; 10] = ["object", "name", "calls", "p50_ns", "p90_ns", "p99_ns", "max_ns", "total_ns", "self_ns", "elapsed_ns"];

/// The lines.
pub(crate) fn fields(report: &Report, separator: &str, all: bool) -> Vec<String> {
    let mut lines = vec![HEAD.join(separator)];
    for row in report.functions.iter().filter(|row| all || row.calls > 0) {
        let times = [row.p50_ns, row.p90_ns, row.p99_ns, row.max_ns, row.total_ns, row.self_ns];
        let mut line = vec![field(&row.object, separator), field(&row.name, separator), row.calls.to_string()];
        line.extend(times.map(|ns| ns.map_or_else(String::new, |ns| ns.to_string())));
        line.push(report.elapsed_ns.to_string());
        lines.push(line.join(separator));
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
