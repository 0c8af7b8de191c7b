//! The table of `trapline ps`.

use crate::human;
use crate::model::ps::Row;
use crate::text::visible;
use std::time::Duration;

/// The table; a sentence where there is nothing.
pub(crate) fn ps(rows: &[Row]) -> Vec<String> {
    if rows.is_empty() {
        return vec!["no process of yours has probes in it".to_string()];
    }
    let number = |n: Option<u64>| n.map_or_else(|| "-".to_string(), human::grouped);
    let head = ["PID", "FUNCTIONS", "HITS", "LOST", "MEMORY", "AGE", "BY", "NAME"];
    let mut cells = vec![head.map(str::to_string)];
    cells.extend(rows.iter().map(|row| {
        let by = match (row.trapline, row.background) {
            _ if row.why.is_some() => "?".to_string(),
            (Some(pid), _) => pid.to_string(),
            (None, true) => "attach".to_string(),
            (None, false) => "nobody".to_string(),
        };
        let age = row.age_s.map(|s| match s {
            0 => "0 s".to_string(),
            s => human::time(Duration::from_secs(s).as_nanos() as f64),
        });
        [
            row.process.to_string(),
            number(row.functions),
            number(row.hits),
            number(row.lost),
            row.memory.map_or_else(|| "-".to_string(), human::bytes),
            age.unwrap_or_else(|| "-".to_string()),
            by,
            visible(&row.name).into_owned(),
        ]
    }));
    let last = head.len() - 1;
    let width = |at: usize| cells.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..last).map(width).collect();
    let line = |row: &[String; 8]| {
        let right = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
        let numbers: Vec<String> = right.collect();
        format!("{}  {}", numbers.join("  "), row[last])
    };
    let mut lines: Vec<String> = cells.iter().map(line).collect();
    for row in rows {
        let why = row.why.iter().map(|why| format!("{}: {why}", row.process));
        lines.extend(why);
    }
    if rows.iter().any(|row| row.trapline.is_none() && !row.background && row.why.is_none()) {
        lines.push("by nobody: a trapline that has ended; `trapline detach PID`".to_string());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::ps;
    use crate::model::ps::Row;

    #[test]
    fn rows_are_aligned_and_what_is_not_known_is_a_dash() {
        let known = Row {
            process: 12,
            name: "server".to_string(),
            functions: Some(3),
            hits: Some(1_234_567),
            lost: Some(0),
            memory: Some(1 << 20),
            age_s: Some(90),
            background: true,
            ..Row::default()
        };
        let unknown = Row { process: 1_000_000, why: Some("no".to_string()), ..Row::default() };
        let lines = ps(&[known, unknown]);
        assert!(
            lines[1].contains("1,234,567") && lines[1].ends_with("attach  server"),
            "{lines:?}"
        );
        assert!(lines[2].starts_with("1000000          -"), "{lines:?}");
        assert!(lines[2].ends_with("?  "), "{lines:?}");
        assert_eq!(lines[3], "1000000: no");
        assert_eq!((lines.len(), ps(&[]).len()), (4, 1));
        let left = ps(&[Row { process: 3, hits: Some(0), ..Row::default() }]);
        assert!(left[1].ends_with("nobody  ") && left[2].contains("detach"), "{left:?}");
    }
}
