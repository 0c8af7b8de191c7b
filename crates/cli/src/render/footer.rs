//! What stands below every report: hits, losses, what was armed and what not, memory, overhead.

use super::end::killed;
use super::outside::{Outside, outside};
use crate::human::{bytes, grouped, time};
use crate::model::report::{Armed, Report, Share, SkippedRow};
use crate::text::visible;
use std::collections::BTreeMap;

/// Most objects that are named beside a reason why functions were skipped.
const MOST_OBJECTS: usize = 3;

/// The lines. `shares` explain `report.overhead_ns`.
pub(crate) fn footer(report: &Report, shares: &[Share], verbose: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let processes = if report.processes > 1 {
        format!(" in {} processes", report.processes)
    } else {
        String::new()
    };
    let end = report.signal.map_or(String::new(), |signal| format!("; {}", killed(signal)));
    lines.push(match report.hits {
        0 => format!(
            "no hits: none of the functions was called in {}{processes}{end}",
            time(report.elapsed_ns as f64)
        ),
        hits => format!(
            "{} in {}{processes}{end}",
            counted(hits, "hit"),
            time(report.elapsed_ns as f64)
        ),
    });
    lines
        .push(reasons("lost", report.lost.iter().map(|(reason, count)| (reason.as_str(), *count))));
    lines.extend(armed(report.armed, &report.skipped, verbose));
    let others = Outside {
        not_followed: &report.not_followed,
        still_running: &report.still_running,
        overwritten: report
            .functions
            .iter()
            .filter(|row| row.is_overwritten())
            .map(|row| row.name.as_str())
            .collect(),
        also_inlined: &report.also_inlined,
        inlined_partly: report.inlined_partly,
        attached: &report.attached,
    };
    lines.extend(outside(others, verbose));
    if report.overlaps > 0 {
        lines.push(format!(
            "overlapping stacks: {} returned that were taken for left, without a time: the program \
                copies stacks away and back, and times of what it suspends so are not to be \
                believed",
            counted(report.overlaps, "call")
        ));
    }
    let share = if report.elapsed_ns > 0 {
        report.overhead_ns as f64 * 100.0 / report.elapsed_ns as f64
    } else {
        0.0
    };
    let each = |ns: f64| if ns < 1e4 { format!("{} ns", trimmed(ns)) } else { time(ns) };
    let part =
        |share: &Share| format!("{} x {} {}", grouped(share.hits), each(share.ns), share.what);
    let sum: Vec<String> = shares.iter().map(part).collect();
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
        lines.extend(
            skipped.iter().map(|skipped| {
                format!("  {}:{}  ({})", skipped.object, skipped.name, skipped.reason)
            }),
        );
    } else {
        let mut by_reason: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
        for skipped in skipped {
            let objects = by_reason.entry(&skipped.reason).or_default();
            *objects.entry(&skipped.object).or_default() += 1;
        }
        lines.extend(by_reason.iter().map(|(reason, objects)| {
            let all = grouped(objects.values().sum());
            format!("  {all:>6} {reason} [{}]", in_objects(objects))
        }));
    }
    lines
}

/// Where functions were skipped: the objects with most of them, and how many each if there are
/// several.
fn in_objects(objects: &BTreeMap<&str, u64>) -> String {
    let mut by_count: Vec<(&str, u64)> = objects.iter().map(|(name, n)| (*name, *n)).collect();
    by_count.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    if let [(only, _)] = by_count[..] {
        return visible(only).to_string();
    }
    let (named, others) = by_count.split_at(by_count.len().min(MOST_OBJECTS));
    let name = |(name, count): &(&str, u64)| format!("{} {}", visible(name), grouped(*count));
    let mut parts: Vec<String> = named.iter().map(name).collect();
    if !others.is_empty() {
        let rest = others.iter().map(|(_, count)| count).sum();
        parts.push(format!("{} others {}", others.len(), grouped(rest)));
    }
    parts.join(", ")
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
    if parts.is_empty() {
        format!("{what}: 0")
    } else {
        format!("{what}: {} ({})", grouped(sum), parts.join(", "))
    }
}

pub(super) fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(count), if count == 1 { "" } else { "s" })
}

fn trimmed(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}
