//! Peer: uftrace on a C program with the same functions, compiled for it (`-pg -mfentry`) or
//! patched when it starts (`-P`).

use super::case::{Kind, ProbeCase};
use super::check::Checks;
use crate::harness::{Entry, Job, Role};
use crate::scratch::Scratch;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Row of the tables: an unmodified program.
pub(super) const PATCHED: &str = "uftrace -P";
/// Row of the tables: a program compiled for it.
pub(super) const COMPILED: &str = "uftrace, compiled with -mfentry";

const SOURCE: &str = include_str!("../../csrc/uftrace_target.c");
/// Calls of one measurement: 32 bytes of recording each.
const CALLS: u64 = 300_000;
const QUICK_CALLS: u64 = 20_000;

/// The compiled programs.
struct Programs {
    dir: Scratch,
    calls: u64,
}

impl Programs {
    /// # Errors
    /// In words, for the table.
    fn build(quick: bool) -> Result<Self, String> {
        if Command::new("uftrace")
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_err()
        {
            return Err("uftrace is not installed".to_owned());
        }
        let dir = Scratch::new("uftrace").map_err(|e| format!("no temporary directory: {e}"))?;
        let source = dir.path().join("target.c");
        std::fs::write(&source, SOURCE).map_err(|e| format!("{}: {e}", source.display()))?;
        for (name, flags) in
            [("plain", &[][..]), ("nop5", &["-DNOP5"]), ("fentry", &["-pg", "-mfentry"])]
        {
            let output = Command::new("cc")
                .args(["-O2", "-pthread"])
                .args(flags)
                .arg("-o")
                .arg(dir.path().join(name))
                .arg(&source)
                .output();
            let output = output.map_err(|e| format!("cannot run cc: {e}"))?;
            if !output.status.success() {
                return Err(format!(
                    "cc: {}",
                    String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("failed")
                ));
            }
        }
        Ok(Self { dir, calls: if quick { QUICK_CALLS } else { CALLS } })
    }

    fn program(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Nanoseconds per call of `function` in `program` under uftrace, provided that it recorded
    /// every call.
    fn measure(
        &self,
        program: &str,
        function: &str,
        threads: usize,
        patch: bool,
    ) -> Result<f64, String> {
        let recording = self.dir.path().join("recording");
        // A recording of the run before; the first run has none.
        let _ = std::fs::remove_dir_all(&recording);
        let symbol = if patch { format!("f_{function}") } else { function.to_owned() };
        let mut command = Command::new("uftrace");
        command.args(["record", "--no-pager", "--no-libcall", "--no-event", "-d"]).arg(&recording);
        if patch {
            command.args(["-P", &format!("^{symbol}$")]);
        }
        let output = command
            .arg(self.program(program))
            .args([function, &self.calls.to_string(), &threads.to_string()])
            .output();
        let output = output.map_err(|e| format!("cannot run uftrace: {e}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let ns = text.lines().last().and_then(|line| line.trim().parse::<f64>().ok());
        let ns = ns.ok_or_else(|| {
            format!(
                "uftrace: {}",
                String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("no output")
            )
        })?;
        let (recorded, made) = (recorded_calls(&recording, &symbol), self.calls * threads as u64);
        if recorded == made {
            Ok(ns)
        } else {
            Err(format!("recorded {recorded} of {made} calls, without a word"))
        }
    }
}

/// Calls of `symbol` in a recording.
fn recorded_calls(recording: &Path, symbol: &str) -> u64 {
    let output = Command::new("uftrace")
        .args(["report", "--no-pager", "--color=no", "-f", "call", "-d"])
        .arg(recording)
        .output();
    output.map_or(0, |output| calls_in(&String::from_utf8_lossy(&output.stdout), symbol))
}

/// The number before `symbol` in a report.
fn calls_in(report: &str, symbol: &str) -> u64 {
    let line = |line: &str| {
        let (calls, name) = line.trim().rsplit_once(' ')?;
        if name == symbol { calls.split_ascii_whitespace().last()?.parse().ok() } else { None }
    };
    report.lines().find_map(line).unwrap_or(0)
}

/// The rows.
pub(super) fn contenders(quick: bool, checks: &Checks) -> Vec<Entry<ProbeCase>> {
    match Programs::build(quick) {
        Ok(programs) => {
            let programs = Arc::new(programs);
            vec![row(PATCHED, true, &programs, checks), row(COMPILED, false, &programs, checks)]
        }
        Err(why) => vec![Entry::absent(PATCHED, Role::Peer, &why)],
    }
}

fn row(
    name: &'static str,
    patch: bool,
    programs: &Arc<Programs>,
    checks: &Checks,
) -> Entry<ProbeCase> {
    let (programs, checks) = (Arc::clone(programs), checks.clone());
    Entry::new(name, Role::Peer, move |case: &ProbeCase| {
        if case.kind != Kind::Histogram {
            return None;
        }
        let target = case.function().name;
        let (program, function) = match (patch, target) {
            (true, "nop5") => ("nop5", target),
            (true, _) => ("plain", target),
            // What the compiler makes of a C function; the first instruction is always the call.
            (false, "ordinary") => ("fentry", "compiled"),
            (false, _) => return None,
        };
        let case = *case;
        let measured = match programs.measure(program, function, case.threads, patch) {
            Ok(ns) => ns,
            Err(why) => {
                checks.say(format!("{name}, {target}: {why}"));
                return None;
            }
        };
        let calls = programs.calls * case.threads as u64;
        let job: Job = Box::new(move |seat, meter| {
            // One process measured all threads.
            let share = if seat.index == 0 {
                (calls, Duration::from_nanos((measured * calls as f64) as u64))
            } else {
                (0, Duration::ZERO)
            };
            meter.run_outside(|| share);
        });
        Some(job)
    })
}

#[cfg(test)]
mod tests {
    use super::calls_in;

    #[test]
    fn calls_are_read_from_a_report() {
        let report = "       Calls  Function\n  ==========  ====================\n      300000  \
            f_nop5\n           1  main\n";
        assert_eq!(
            (calls_in(report, "f_nop5"), calls_in(report, "main"), calls_in(report, "f_nop")),
            (300_000, 1, 0)
        );
    }
}
