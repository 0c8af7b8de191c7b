//! Who traces the server, and what.

use super::seen::Seen;
use super::server::PROGRAM;
use crate::bpftrace;
use crate::group::Group;
use crate::programs::resolved;
use crate::scratch::Scratch;
use std::io;
use std::path::PathBuf;
use std::process::Command;

/// What is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probes {
    /// One function.
    Function(&'static str),
    /// Every function of the program.
    All,
}

impl Probes {
    /// In the tables.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Function(name) => name,
            Self::All => "all functions",
        }
    }
}

/// Who traces.
#[derive(Clone, Debug)]
pub(super) enum Tracer {
    /// `trapline stat` at this path.
    Trapline(PathBuf),
    /// `trapline record` at this path: call stacks.
    Record(PathBuf),
    /// `uftrace record -P`.
    Uftrace,
    /// A latency histogram by bpftrace: a kernel uprobe and uretprobe.
    Bpftrace,
    /// Call stacks counted by bpftrace: a kernel uprobe.
    BpftraceStacks,
}

/// What stacks are taken of.
pub(super) const STACKS: Probes = Probes::Function("zmalloc");

impl Tracer {
    /// In the tables.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Trapline(_) => "trapline",
            Self::Record(_) => "trapline, call stacks",
            Self::Uftrace => "uftrace -P",
            Self::Bpftrace => "bpftrace (kernel pair)",
            Self::BpftraceStacks => "bpftrace, call stacks (frame pointers)",
        }
    }

    /// Whether this tracer can do it here.
    pub(super) fn takes(&self, probes: Probes) -> bool {
        match self {
            Self::Trapline(_) | Self::Uftrace => true,
            // Thousands of kernel probes take minutes to attach.
            Self::Bpftrace => probes != Probes::All,
            Self::Record(_) | Self::BpftraceStacks => probes == STACKS,
        }
    }

    /// The command that runs the program under the tracer, up to the traced command; `None` when
    /// the tracer attaches from outside.
    pub(super) fn command(&self, probes: Probes, dir: &Scratch) -> Option<Command> {
        match self {
            Self::Trapline(path) => {
                let mut command = Command::new(path);
                command.arg("stat");
                if let Probes::Function(name) = probes {
                    command.arg(format!("{PROGRAM}:{name}"));
                }
                command.arg("-j").arg("-o").arg(report_in(dir)).arg("--");
                Some(command)
            }
            Self::Record(path) => {
                let mut command = Command::new(path);
                command.arg("record");
                if let Probes::Function(name) = probes {
                    command.arg(format!("{PROGRAM}:{name}"));
                }
                command.arg("-o").arg(recording_in(dir)).arg("--");
                Some(command)
            }
            Self::Uftrace => {
                let mut command = Command::new("uftrace");
                command
                    .args(["record", "--no-pager", "--no-libcall", "--no-event", "-d"])
                    .arg(dir.path().join("recording"));
                match probes {
                    Probes::Function(name) => command.args(["-P", &format!("^{name}$")]),
                    Probes::All => command.args(["-P", "."]),
                };
                Some(command)
            }
            Self::Bpftrace | Self::BpftraceStacks => None,
        }
    }

    /// Attaches a tracer that works from outside, and waits until it has.
    pub(super) fn attach(&self, probes: Probes, dir: &Scratch) -> io::Result<Option<Group>> {
        let Probes::Function(name) = probes else { return Ok(None) };
        let script = match self {
            Self::Bpftrace => bpftrace::histogram,
            Self::BpftraceStacks => bpftrace::stacks,
            _ => return Ok(None),
        };
        let file =
            resolved(PROGRAM).ok_or_else(|| io::Error::other("redis-server is not in PATH"))?;
        bpftrace::attach(&script(&file, name), &dir.path().join("bpftrace")).map(Some)
    }

    /// What it says itself of a server that has ended; only trapline does.
    pub(super) fn seen(&self, dir: &Scratch) -> Option<Seen> {
        match self {
            Self::Trapline(_) => Seen::read(&std::fs::read_to_string(report_in(dir)).ok()?),
            Self::Record(path) => {
                let report = Command::new(path)
                    .args(["report", "-j"])
                    .arg(recording_in(dir))
                    .output()
                    .ok()?;
                Seen::read(std::str::from_utf8(&report.stdout).ok()?)
            }
            Self::Uftrace | Self::Bpftrace | Self::BpftraceStacks => None,
        }
    }

    /// Hits that it has counted of a server that has ended.
    pub(super) fn hits(&self, dir: &Scratch) -> Option<u64> {
        match self {
            Self::Trapline(_) | Self::Record(_) => Some(self.seen(dir)?.hits),
            Self::Uftrace => {
                // One record of 16 bytes at the entry and one at the return.
                let files = std::fs::read_dir(dir.path().join("recording")).ok()?.flatten();
                let data = files.filter(|f| f.path().extension().is_some_and(|e| e == "dat"));
                Some(data.filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum::<u64>() / 32)
            }
            Self::Bpftrace | Self::BpftraceStacks => {
                let text = std::fs::read_to_string(dir.path().join("bpftrace")).ok()?;
                Some(bpftrace::hits(&text))
            }
        }
    }
}

fn recording_in(dir: &Scratch) -> PathBuf {
    dir.path().join("recording.tlp")
}

fn report_in(dir: &Scratch) -> PathBuf {
    dir.path().join("report.json")
}
