//! A recording as text: what it is, the table of its functions, and what stands below.

use super::columns::{fit_names, lay_out};
use super::end::killed;
use super::footer::{armed, counted, reasons};
use super::outside::{Outside, outside};
use super::table::Look;
use crate::human::{bytes, date, grouped, percent, time};
use crate::model::functions::Functions;
use crate::model::recording::{Recording, Weight};
use crate::model::report::Armed;
use crate::text::BOLD;

const HEAD: [&str; 6] = ["self", "self %", "total", "total %", "object", "function"];

/// A weight with its unit.
pub(super) fn weight(recording: &Recording, value: u64) -> String {
    match recording.header.weight {
        Weight::Calls => grouped(value),
        Weight::Time => time(value as f64),
    }
}

/// The lines above everything: which program, when and where, and what weights are.
pub(crate) fn head(recording: &Recording) -> Vec<String> {
    let header = &recording.header;
    let command =
        if header.command.is_empty() { "(no command)".to_string() } else { header.command_line() };
    let specs = if header.specs.is_empty() {
        "every function of the program".to_string()
    } else {
        header.specs.join(" ")
    };
    let end = match (header.signal, header.exit_code) {
        (Some(signal), _) => killed(signal),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "it ran on".to_string(),
    };
    let weight = match header.weight {
        Weight::Calls => "calls",
        Weight::Time => "time in the functions themselves",
    };
    let mut lines = vec![
        format!("{command}  [{specs}]"),
        format!(
            "{} on {} (Linux {}); {end}; weight: {weight}; stacks: {}",
            date(header.started),
            header.host,
            header.kernel,
            header.stack
        ),
    ];
    if header.recovered {
        lines.push("recovered from the segment of a run that did not end by itself".to_string());
    }
    lines
}

/// The functions, those with the most weight of their own first.
pub(crate) fn order(functions: &Functions) -> Vec<u32> {
    let mut order: Vec<u32> = (0..functions.list.len() as u32)
        .filter(|at| functions.list[*at as usize].total > 0)
        .collect();
    order.sort_by(|a, b| {
        let [a, b] = [a, b].map(|at| &functions.list[*at as usize]);
        (b.own, b.total)
            .cmp(&(a.own, a.total))
            .then_with(|| (&a.name, a.module).cmp(&(&b.name, b.module)))
    });
    order
}

/// The table of functions.
pub(crate) fn table(recording: &Recording, functions: &Functions, look: Look) -> Vec<String> {
    let order = order(functions);
    let shown = if look.all { order.len() } else { order.len().min(look.limit) };
    if shown == 0 {
        return Vec::new();
    }
    let mut cells = vec![HEAD.map(str::to_string).to_vec()];
    for at in &order[..shown] {
        let function = &functions.list[*at as usize];
        let object = functions.module(*at, recording);
        cells.push(vec![
            weight(recording, function.own),
            percent(functions.percent(function.own)),
            weight(recording, function.total),
            percent(functions.percent(function.total)),
            if object.is_empty() { "-" } else { object }.to_string(),
            function.name.clone(),
        ]);
    }
    let nothing = vec![String::new(); cells.len()];
    fit_names(&mut cells, &nothing, look.width);
    let mut lines = lay_out(&cells);
    if look.bold {
        lines[0] = format!("{}{}{}", BOLD.0, lines[0], BOLD.1);
    }
    if order.len() > shown {
        lines.push(format!(
            "... and {} more; --all or -n N shows them",
            grouped((order.len() - shown) as u64)
        ));
    }
    lines
}

/// What stands below every view: hits, losses, stacks that are missing or cut, what was armed and
/// what not, memory.
pub(crate) fn footer(recording: &Recording, verbose: bool) -> Vec<String> {
    let header = &recording.header;
    let processes = if header.processes > 1 {
        format!(" in {} processes", grouped(header.processes))
    } else {
        String::new()
    };
    // Nobody knows how long a recording took that was found in a segment.
    let elapsed = if header.elapsed_ns == 0 {
        String::new()
    } else {
        format!(" in {}", time(header.elapsed_ns as f64))
    };
    let functions = counted(recording.functions.len() as u64, "function");
    let end = header.signal.map_or(String::new(), |signal| format!("; {}", killed(signal)));
    let mut lines = vec![match recording.hits() {
        0 => format!("no hits: none of the functions was called{elapsed}{processes}{end}"),
        hits => format!("{} of {functions}{elapsed}{processes}{end}", counted(hits, "hit")),
    }];
    lines.push(reasons(
        "lost",
        recording.lost.iter().map(|(reason, count)| (reason.as_str(), *count)),
    ));
    lines.push(reasons(
        "no stack",
        recording.no_stack.reasons.iter().map(|(reason, count)| (reason.as_str(), *count)),
    ));
    lines.push(reasons("cut stacks", recording.cuts().into_iter()));
    let (detour, breakpoint) = header.armed;
    lines.extend(armed(Armed { detour, breakpoint }, &recording.skipped, verbose));
    let others = Outside {
        not_followed: &recording.not_followed,
        still_running: &recording.still_running,
        overwritten: recording.overwritten.iter().map(|one| one.name.as_str()).collect(),
        also_inlined: &recording.also_inlined,
        inlined_partly: recording.inlined_partly,
        attached: &[],
    };
    lines.extend(outside(others, verbose));
    let memory = header.memory;
    lines.push(format!(
        "memory: {}, of which {} for {} distinct stacks (frames {}), {} for counters",
        bytes(memory.total),
        bytes(memory.stacks),
        grouped(recording.stacks.len() as u64),
        bytes(memory.frames),
        bytes(memory.counters)
    ));
    let share = if header.elapsed_ns > 0 {
        format!(
            " ({:.1} % of the run)",
            header.overhead_ns as f64 * 100.0 / header.elapsed_ns as f64
        )
    } else {
        String::new()
    };
    lines.push(format!(
        "estimated overhead: {} of CPU time{share}, with {} addresses and stacks that were seen \
            for the first time",
        time(header.overhead_ns as f64),
        grouped(header.first_sights)
    ));
    lines
}

#[cfg(test)]
mod tests {
    use super::{footer, head, table};
    use crate::model::file::tests::complete;
    use crate::model::functions::Functions;
    use crate::model::outside::{NotFollowed, StillRunning};
    use crate::model::recording::{Memory, Recording, Weight};
    use crate::model::report::SkippedRow;
    use crate::render::Look;

    const LOOK: Look = Look { limit: 4, all: false, bold: false, width: None };

    #[test]
    fn the_table() {
        let mut recording = complete();
        let expected = [
            "self   self %  total  total %     object  function",
            "  10  100.0 %     10  100.0 %  libc.so.6  malloc",
            "   0    0.0 %      8   80.0 %          a  main",
            "   0    0.0 %      7   70.0 %          a  _start",
            "   0    0.0 %      5   50.0 %          a  g<int>",
            "... and 3 more; --all or -n N shows them",
        ];
        assert_eq!(table(&recording, &Functions::of(&recording), LOOK), expected);
        assert_eq!(
            table(&recording, &Functions::of(&recording), Look { all: true, ..LOOK }).len(),
            8
        );
        recording.header.weight = Weight::Time;
        let timed = table(&recording, &Functions::of(&recording), Look { bold: true, ..LOOK });
        assert!(
            timed[0].starts_with("\x1b[1m") && timed[1].starts_with("1.00 us  100.0 %"),
            "{timed:#?}"
        );
        let nothing = Recording::default();
        assert!(table(&nothing, &Functions::of(&nothing), LOOK).is_empty());
    }

    #[test]
    fn the_head() {
        let expected = [
            "./a -x  [libc:malloc]",
            "2023-11-14 22:13:20 UTC on here (Linux 6.1); exit code 0; weight: calls; stacks: \
                dwarf:127",
        ];
        assert_eq!(head(&complete()), expected);
        let mut recording = complete();
        recording.header.exit_code = None;
        recording.header.recovered = true;
        assert!(
            head(&recording)[1].contains("it ran on")
                && head(&recording)[2].starts_with("recovered")
        );
    }

    #[test]
    fn the_footer() {
        let mut recording = complete();
        recording.lost = [("recursion".to_string(), 3)].into();
        recording.header.memory = Memory { total: 3 << 20, stacks: 4096, frames: 80, counters: 64 };
        (recording.header.overhead_ns, recording.header.first_sights) = (15_000_000, 40);
        let skipped = |name: &str| SkippedRow {
            object: "a".into(),
            name: name.into(),
            reason: "undecodable".into(),
        };
        recording.skipped = vec![skipped("x"), skipped("y")];
        let expected = [
            "10 hits of 1 function in 1.50 s",
            "lost: 3 (recursion 3)",
            "no stack: 2 (full 2)",
            "cut stacks: 1 (no unwind information 1)",
            "armed: 1 by detour, 0 by breakpoint; skipped: 2",
            "       2 undecodable [a]",
            "memory: 3.00 MiB, of which 4.00 KiB for 3 distinct stacks (frames 80 B), 64 B for \
                counters",
            "estimated overhead: 15.0 ms of CPU time (1.0 % of the run), with 40 addresses and \
                stacks that were seen for the first time",
        ];
        assert_eq!(footer(&recording, false), expected);
        assert!(footer(&recording, true).contains(&"  a:y  (undecodable)".to_string()));
        let (program, reason) = ("/bin/s".to_string(), "statically linked".to_string());
        recording.not_followed = vec![NotFollowed { program, reason }];
        recording.still_running = vec![StillRunning { process: 7, name: "d".to_string() }];
        let lines = footer(&recording, false);
        for line in ["not followed: /bin/s (statically linked)", "still running: 1 (7 d)"] {
            assert!(lines.iter().any(|other| other == line), "{lines:#?}");
        }
        let nothing = footer(&Recording::default(), false);
        assert_eq!(
            nothing[..4],
            [
                "no hits: none of the functions was called",
                "lost: 0",
                "no stack: 0",
                "cut stacks: 0"
            ]
        );
    }
}
