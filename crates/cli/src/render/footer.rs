//! What stands below every report: hits, losses, what was armed and what not, memory, overhead.

use crate::human::{bytes, grouped, time};
use crate::report::{Armed, Report, SkippedRow};
use std::collections::BTreeMap;

/// What the estimate of the overhead is made of: hits of one kind and what one costs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Share {
    pub(crate) hits: u64,
    pub(crate) ns: f64,
    pub(crate) what: &'static str,
}

/// The lines. `shares` explain `report.overhead_ns`.
pub(crate) fn footer(report: &Report, shares: &[Share], verbose: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let processes = if report.processes > 1 { format!(" in {} processes", report.processes) } else { String::new() };
    lines.push(match report.hits {
        0 => format!("no hits: none of the functions was called in {}{processes}", time(report.elapsed_ns as f64)),
        hits => format!("{} in {}{processes}", counted(hits, "hit"), time(report.elapsed_ns as f64)),
    });
    lines.push(reasons("lost", report.lost.iter().map(|(reason, count)| (reason.as_str(), *count))));
    lines.extend(armed(report.armed, &report.skipped, verbose));
    let share = if report.elapsed_ns > 0 { report.overhead_ns as f64 * 100.0 / report.elapsed_ns as f64 } else { 0.0 };
    let sum: Vec<String> =
        shares.iter().map(|share| format!("{} x {} ns {}", grouped(share.hits), trimmed(share.ns), share.what)).collect();
    let sum = if sum.is_empty() { String::new() } else { format!(": {}", sum.join(" + ")) };
    lines.push(format!(
        "agent memory: {}; estimated overhead: {} of CPU time ({share:.1} % of the run){sum}",
        bytes(report.agent_bytes),
        time(report.overhead_ns as f64)
    ));
    lines
}

/// How many functions were armed, and which were not.
pub(super) fn armed(armed: Armed, skipped: &[SkippedRow], verbose: bool) -> Vec<String> {
    let mut lines = vec![format!(
        "armed: {} by detour, {} by breakpoint; skipped: {}",
        grouped(armed.detour),
        grouped(armed.breakpoint),
        grouped(skipped.len() as u64)
    )];
    if verbose {
        lines.extend(skipped.iter().map(|skipped| format!("  {}:{}  ({})", skipped.object, skipped.name, skipped.reason)));
    } else {
        let mut by_reason: BTreeMap<&str, u64> = BTreeMap::new();
        for skipped in skipped {
            *by_reason.entry(&skipped.reason).or_default() += 1;
        }
        lines.extend(by_reason.iter().map(|(reason, count)| format!("  {:>6} {reason}", grouped(*count))));
    }
    lines
}

/// A sum and what it is made of, also when it is 0.
pub(super) fn reasons<'a>(what: &str, counts: impl Iterator<Item = (&'a str, u64)>) -> String {
    let mut sum = 0_u64;
    let parts: Vec<String> = counts
        .map(|(reason, count)| {
            sum = sum.saturating_add(count);
            format!("{reason} {}", grouped(count))
        })
        .collect();
    if parts.is_empty() { format!("{what}: 0") } else { format!("{what}: {} ({})", grouped(sum), parts.join(", ")) }
}

pub(super) fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(count), if count == 1 { "" } else { "s" })
}

fn trimmed(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}
