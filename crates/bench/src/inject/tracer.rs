//! Who enters the program and leaves it again, once.

use super::program::{Memory, Program, Stood};
use crate::group::Group;
use crate::scratch::Scratch;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// No step takes longer.
const LIMIT: Duration = Duration::from_secs(120);

/// Who enters.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tracer {
    /// `trapline stat -p` at this path.
    Trapline(PathBuf),
    /// `gdb -p`: attaches and detaches, and does nothing else.
    Gdb,
    /// Frida's Python interface: an interceptor on each function.
    Frida,
}

/// One time in and out. Times in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Round {
    /// From the start of the command to the first count that it shows; for gdb, to its end; for
    /// Frida, whose interpreter has been started before, to the first hit.
    pub(super) enter: f64,
    /// From when it is told so until it has left.
    pub(super) leave: Option<f64>,
    /// How long the program stood meanwhile.
    pub(super) entering: Stood,
    pub(super) leaving: Option<Stood>,
    /// What the program has more of when it is entered, and when it was left.
    pub(super) entered: Option<Memory>,
    pub(super) left: Memory,
}

impl Tracer {
    /// In the tables.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Trapline(_) => "trapline",
            Self::Gdb => "gdb, attach and detach alone",
            Self::Frida => "Frida",
        }
    }

    /// Whether it makes a difference to it how many functions there are.
    pub(super) fn arms(&self) -> bool {
        *self != Self::Gdb
    }

    /// Enters and leaves.
    ///
    /// # Errors
    /// It did not work, or was not there.
    pub(super) fn round(&self, program: &mut Program) -> io::Result<Round> {
        let before = program.memory()?;
        let grown = |now: Memory| Memory {
            resident: now.resident - before.resident,
            size: now.size - before.size,
        };
        let pid = program.pid().to_string();
        if *self == Self::Gdb {
            let mut command = Command::new("gdb");
            command.args(["-nx", "-batch", "-p", &pid, "-ex", "detach"]);
            quiet(&mut command).stdout(Stdio::null());
            let (enter, entering) = program.watched(|| timed(|| to_end(&mut command)))?;
            let (enter, left) = (enter?, grown(program.memory()?));
            return Ok(Round { enter, leave: None, entering, leaving: None, entered: None, left });
        }
        let mut inside = match self {
            Self::Trapline(path) => Inside::trapline(path, &pid)?,
            _ => Inside::frida(&pid)?,
        };
        let (enter, entering) = program.watched(|| timed(|| inside.enter()))?;
        let enter = enter?;
        let entered = Some(grown(program.memory()?));
        let (leave, leaving) = program.watched(|| timed(|| inside.leave()))?;
        let (leave, leaving) = (Some(leave?), Some(leaving));
        let left = grown(program.memory()?);
        Ok(Round { enter, leave, entering, leaving, entered, left })
    }
}

/// Milliseconds of what went well.
fn timed(f: impl FnOnce() -> io::Result<()>) -> io::Result<f64> {
    let start = Instant::now();
    f()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stderr(Stdio::null())
}

fn to_end(command: &mut Command) -> io::Result<()> {
    ended(&mut Group::spawn(command)?)
}

fn ended(group: &mut Group) -> io::Result<()> {
    match group.wait_closely(LIMIT) {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(io::Error::other(status.to_string())),
        None => Err(io::Error::other("did not end")),
    }
}

/// A tracer that stays until it is told to leave.
enum Inside {
    Trapline { command: Command, report: PathBuf, group: Option<Group>, _folder: Scratch },
    Frida { group: Group, lines: BufReader<std::process::ChildStdout> },
}

impl Inside {
    fn trapline(path: &PathBuf, pid: &str) -> io::Result<Self> {
        let folder = Scratch::new("inject")?;
        let report = folder.path().join("report");
        let mut command = Command::new(path);
        command.args(["stat", "-j", "-i", "10ms", "-p", pid, "-o"]).arg(&report).arg("traced_*");
        quiet(&mut command).stdout(Stdio::null());
        Ok(Self::Trapline { command, report, group: None, _folder: folder })
    }

    fn frida(pid: &str) -> io::Result<Self> {
        let mut command = Command::new("python3");
        command.args(["-c", include_str!("frida.py"), pid]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut group = Group::spawn(&mut command)?;
        let lines = group.child().stdout.take().ok_or_else(|| io::Error::other("no output"))?;
        let mut this = Self::Frida { group, lines: BufReader::new(lines) };
        this.line("ready")?;
        Ok(this)
    }

    /// Waits for a line of Frida's.
    fn line(&mut self, wanted: &str) -> io::Result<()> {
        let Self::Frida { lines, .. } = self else { return Ok(()) };
        let mut line = String::new();
        lines.read_line(&mut line)?;
        let line = line.trim_end();
        match line {
            _ if line == wanted => Ok(()),
            "absent" => Err(io::Error::other(ABSENT)),
            _ => Err(io::Error::other(format!("{wanted} was expected, and it said '{line}'"))),
        }
    }

    fn tell(&mut self) -> io::Result<()> {
        let Self::Frida { group, .. } = self else { return Ok(()) };
        let stdin = group.child().stdin.as_mut();
        stdin.ok_or_else(|| io::Error::other("no input"))?.write_all(b"\n")
    }

    /// To the first count.
    fn enter(&mut self) -> io::Result<()> {
        let Self::Trapline { command, report, group, .. } = self else {
            self.tell()?;
            return self.line("hit");
        };
        let mut running = Group::spawn(command)?;
        let end = Instant::now() + LIMIT;
        loop {
            let text = fs::read_to_string(&*report).unwrap_or_default();
            if text.lines().any(has_hits) {
                *group = Some(running);
                return Ok(());
            }
            if let Some(status) = running.wait(Duration::ZERO) {
                return Err(io::Error::other(format!("ended with {status} before it counted")));
            }
            if Instant::now() > end {
                return Err(io::Error::other("counts nothing"));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn leave(&mut self) -> io::Result<()> {
        match self {
            Self::Trapline { group: Some(group), .. } => {
                group.signal(libc::SIGINT);
                ended(group)
            }
            Self::Trapline { .. } => Err(io::Error::other("it was not entered")),
            Self::Frida { .. } => {
                self.tell()?;
                self.line("detached")
            }
        }
    }
}

/// What is said where there is no Frida.
pub(super) const ABSENT: &str = "Frida is not installed (pip install frida)";

/// Whether a line of a report has hits.
fn has_hits(line: &str) -> bool {
    let report: Option<serde_json::Value> = serde_json::from_str(line).ok();
    report.is_some_and(|report| report["hits"].as_u64().is_some_and(|hits| hits > 0))
}

#[cfg(test)]
mod tests {
    use super::has_hits;

    #[test]
    fn the_first_report_with_hits() {
        assert!(has_hits(r#"{"hits": 3, "functions": []}"#));
        assert!(!has_hits(r#"{"hits": 0}"#) && !has_hits("") && !has_hits(r#"{"hits": 3"#));
    }
}
