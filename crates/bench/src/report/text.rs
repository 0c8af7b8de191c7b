//! The report as aligned text.

use super::model::{Group, Report, Row};
use super::sheet::Sheet;
use super::target::Target;
use crate::stats::Summary;
use std::fmt::Write;

/// The whole report, ready to print.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    let m = &report.machine;
    let vm = if m.virtual_machine { "virtual machine" } else { "bare metal" };
    line(&mut out, &format!("trapline-bench {}", report.bench));
    line(
        &mut out,
        &format!("{}, {} CPUs, {vm}, Linux {}, host {}", m.cpu, m.cpus, m.kernel, m.name),
    );
    line(
        &mut out,
        &format!(
            "{} UTC, load {:.2} at the start, rseq {}, fences {}",
            m.date,
            m.load,
            if m.rseq { "yes" } else { "no" },
            m.fence
        ),
    );
    line(&mut out, &report.settings.join(", "));
    for group in &report.groups {
        self::group(&mut out, group);
    }
    for sheet in &report.sheets {
        self::sheet(&mut out, sheet);
    }
    if !report.notes.is_empty() {
        line(&mut out, "\nnotes");
        for note in &report.notes {
            line(&mut out, &format!("  - {note}"));
        }
    }
    targets(&mut out, &report.targets);
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn group(out: &mut String, group: &Group) {
    let transfer = match (group.line_transfer_ns, group.distance()) {
        (Some(t), Some(distance)) => {
            format!("   line transfer {:.0} [{:.0}..{:.0}] ns: {distance}", t.median, t.min, t.max)
        }
        _ => String::new(),
    };
    line(out, &format!("\n{}{transfer}", group.title));
    let subtracted = group.rows.iter().any(|r| r.raw_cpu_ns.is_some());
    let width = group.rows.iter().map(|r| r.name.chars().count()).max().unwrap_or(0).max(9);
    let raw = if subtracted { format!("{:>9}", "raw med") } else { String::new() };
    line(
        out,
        &format!(
            "  {:<width$}  {:<5}  {:>9}{:>9}{:>9}{raw}  {:>9}  {:>9}  {:>8}",
            "contender", "role", "cpu min", "median", "max", "wall med", "best peer", "floor"
        ),
    );
    for row in &group.rows {
        line(out, &self::row(row, width, subtracted));
    }
}

fn row(row: &Row, width: usize, subtracted: bool) -> String {
    let head = format!("  {:<width$}  {:<5}", row.name, row.role.label());
    if let Some(why) = &row.absent {
        return format!("{head}  {why}");
    }
    let Some(cpu) = row.cpu_ns else {
        return format!("{head}  no operation finished inside the window");
    };
    let mut text =
        format!("{head}  {:>9}{:>9}{:>9}", number(cpu.min), number(cpu.median), number(cpu.max));
    if subtracted {
        let _ = write!(
            text,
            "{:>9}",
            row.raw_cpu_ns.map_or_else(|| "-".to_owned(), |raw| number(raw.median))
        );
    }
    let ratio =
        |r: Option<Summary>| r.map_or_else(|| "-".to_owned(), |r| format!("{}x", number(r.median)));
    let wall = row.wall_ns.map_or_else(|| "-".to_owned(), |w| number(w.median));
    let _ = write!(text, "  {wall:>9}  {:>9}  {:>8}", ratio(row.to_best_peer), ratio(row.to_floor));
    if row.misses_per_million > 0.0 {
        let _ = write!(text, "  {} refused per million", number(row.misses_per_million));
    }
    text
}

fn sheet(out: &mut String, sheet: &Sheet) {
    line(out, &format!("\n{}", sheet.title));
    let width = sheet.rows.iter().map(|r| r.name.chars().count()).max().unwrap_or(0).max(9);
    let widths: Vec<usize> = sheet.columns.iter().map(|c| c.chars().count().max(9)).collect();
    let head: String =
        sheet.columns.iter().zip(&widths).map(|(c, w)| format!("  {c:>w$}")).collect();
    line(out, &format!("  {:<width$}{head}", ""));
    for row in &sheet.rows {
        let value = |v: &Option<f64>| v.map_or_else(|| "-".to_owned(), number);
        let cells: String =
            row.values.iter().zip(&widths).map(|(v, w)| format!("  {:>w$}", value(v))).collect();
        line(out, format!("  {:<width$}{cells}  {}", row.name, row.remark).trim_end());
    }
    for note in &sheet.notes {
        line(out, &format!("  {note}"));
    }
}

/// The block of targets alone.
pub fn render_targets(targets: &[Target]) -> String {
    let mut out = String::new();
    self::targets(&mut out, targets);
    out
}

fn targets(out: &mut String, targets: &[Target]) {
    if targets.is_empty() {
        return;
    }
    line(out, "\ntargets (median of per-repeat ratios [min..max])");
    let width = targets.iter().map(|t| t.what.chars().count()).max().unwrap_or(0);
    for t in targets {
        let bound = t.bound.text();
        let measured = t.measured.map_or_else(
            || "-".to_owned(),
            |m| format!("{} [{}..{}]", number(m.median), number(m.min), number(m.max)),
        );
        line(
            out,
            &format!("  {:<12}  {:<width$}  {bound:<10}  {measured}", t.verdict.label(), t.what),
        );
    }
}

/// Three significant digits, and whole numbers from 100 on.
fn number(v: f64) -> String {
    let magnitude = v.abs();
    if v == v.trunc() && magnitude >= 100.0 {
        format!("{v:.0}")
    } else if magnitude < 1.0 {
        format!("{v:.3}")
    } else if magnitude < 10.0 {
        format!("{v:.2}")
    } else if magnitude < 100.0 {
        format!("{v:.1}")
    } else {
        format!("{v:.0}")
    }
}
