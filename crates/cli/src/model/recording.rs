//! A recording: what `trapline record` keeps, and what every output is made of.
//!
//! It is complete in itself: once its frames have symbols, nothing else is needed to show it.

use super::counters::sum;
use super::outside::{Inlined, NotFollowed, Overwritten, StillRunning};
use super::report::{Row, SkippedRow};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One recording. The fields are those of the payload of a `.tlp` file, which stay as they are: new
/// ones get a default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recording {
    pub(crate) header: Header,
    /// The probed functions, most calls first. `functions[i].calls` is exact: what no stack
    /// accounts for is in `no_stack`.
    pub(crate) functions: Vec<Row>,
    /// Programs and libraries that frames lie in.
    pub(crate) modules: Vec<Module>,
    /// The distinct frames of all stacks.
    pub(crate) frames: Vec<Frame>,
    /// The distinct stacks.
    pub(crate) stacks: Vec<Stack>,
    /// Hits and ticks that no stack was kept for.
    pub(crate) no_stack: NoStack,
    /// Hits that were not counted at all, by reason.
    pub(crate) lost: BTreeMap<String, u64>,
    /// Functions that were not probed.
    pub(crate) skipped: Vec<SkippedRow>,
    /// The threads in which stacks were counted. Empty: nobody knows, or there were no hits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) threads: Vec<Thread>,
    /// Programs that were executed without the agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) not_followed: Vec<NotFollowed>,
    /// Processes that went on when the recording was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) still_running: Vec<StillRunning>,
    /// Functions whose probes the program has written over: later calls are not counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) overwritten: Vec<Overwritten>,
    /// Of the functions that were asked for one by one: those that are inlined, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) also_inlined: Vec<Inlined>,
    /// Whether there was more debug information than was searched for them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) inlined_partly: bool,
}

/// A thread, or several of which nobody knows which counted what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Thread {
    /// 0: of several processes.
    pub(crate) process: u32,
    /// 0: several threads.
    pub(crate) thread: u32,
    /// What the process was called last; may be empty.
    #[serde(default)]
    pub(crate) process_name: String,
    /// What the thread was called last; may be empty.
    #[serde(default)]
    pub(crate) thread_name: String,
}

/// What was recorded, where and how.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// Version of trapline.
    pub(crate) trapline: String,
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
    /// What was asked for, as written.
    pub(crate) specs: Vec<String>,
    /// Name of the machine.
    pub(crate) host: String,
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// Seconds since 1970.
    pub(crate) started: u64,
    /// How long was recorded.
    pub(crate) elapsed_ns: u64,
    /// The program's exit code, 128 + signal when it was killed; none if it ran on, or nobody
    /// knows.
    pub(crate) exit_code: Option<u8>,
    /// The signal that killed the program; none if it ended otherwise, or nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<i32>,
    /// What a stack's weight is.
    pub(crate) weight: Weight,
    /// How stacks were taken.
    pub(crate) stack: String,
    /// Functions that were armed: by detour, by breakpoint.
    pub(crate) armed: (u64, u64),
    /// Processes that were recorded.
    pub(crate) processes: u64,
    /// Memory in bytes: of the agent in the largest process, of the distinct stacks, of their
    /// counters.
    pub(crate) memory: Memory,
    /// Addresses and threads' stacks that were seen for the first time: those hits took
    /// microseconds instead of nanoseconds.
    #[serde(default)]
    pub(crate) first_sights: u64,
    /// Estimated CPU time that recording has cost.
    #[serde(default)]
    pub(crate) overhead_ns: u64,
    /// Whether the recording was taken from the segment of a run that did not end by itself.
    #[serde(default)]
    pub(crate) recovered: bool,
}

impl Header {
    /// The command as a shell would be given it.
    pub(crate) fn command_line(&self) -> String {
        let plain = |word: &str| {
            !word.is_empty()
                && word.chars().all(|c| c.is_alphanumeric() || "_@%+=:,./-".contains(c))
        };
        let quoted = |word: &String| {
            if plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) }
        };
        self.command.iter().map(quoted).collect::<Vec<_>>().join(" ")
    }
}

/// Bytes that a recording took while it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Agent and segment.
    pub(crate) total: u64,
    /// Distinct stacks with their table.
    pub(crate) stacks: u64,
    /// Of which bare frames, 8 bytes each.
    pub(crate) frames: u64,
    /// Counters of stacks.
    pub(crate) counters: u64,
}

/// What a stack's weight is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Weight {
    /// Hits.
    #[default]
    Calls,
    /// Nanoseconds in the function itself: without those in other probed functions that it called.
    Time,
}

/// A program or library.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Module {
    /// Its path as the process saw it; `[vdso]` for the kernel's.
    pub(crate) path: String,
    /// In hexadecimal; empty if it has none.
    pub(crate) build_id: String,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// What it was called when it was started; empty if that is the last part of the path.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) called: String,
}

impl Module {
    /// What to call it.
    pub(crate) fn name(&self) -> &str {
        if self.called.is_empty() {
            self.path.rsplit('/').next().unwrap_or(&self.path)
        } else {
            &self.called
        }
    }
}

/// A place in code. For all frames but a stack's innermost it is a return address: the call is in
/// front of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Frame {
    /// Index of the module; none: code that belongs to no file (and then the address is that of the
    /// process).
    pub(crate) module: Option<u32>,
    /// The address as the module's symbols have it.
    pub(crate) address: u64,
    /// Whether it is a return address.
    pub(crate) returns: bool,
    /// Its function, and those inlined into it, innermost first. Empty: not looked up yet, see
    /// `recording::symbolize`.
    #[serde(default)]
    pub(crate) symbols: Vec<Symbol>,
}

/// A function at a frame.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Symbol {
    /// Demangled.
    pub(crate) name: String,
    /// Source file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u32>,
}

/// A distinct stack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stack {
    /// Indices of frames, innermost first: the first is the probed function.
    pub(crate) frames: Vec<u32>,
    /// Hits.
    pub(crate) calls: u64,
    /// With [`Weight::Time`]: nanoseconds in the function itself.
    #[serde(default)]
    pub(crate) self_ns: u64,
    /// Why its outermost frame is not the program's start; empty if it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) cut: String,
    /// By thread: its index in the recording's, hits, nanoseconds. What is missing in the sum
    /// belongs to threads that nobody knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) threads: Vec<(u32, u64, u64)>,
}

/// What no stack was kept for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct NoStack {
    /// How often, by reason.
    pub(crate) reasons: BTreeMap<String, u64>,
    /// By frame of the probed function: the frame, hits, nanoseconds. They add up with the stacks
    /// to the functions' calls.
    pub(crate) functions: Vec<(u32, u64, u64)>,
}

/// A root that stands for what is not known.
const NO_STACK: &str = "[no stack]";

/// A stack as outputs show it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line<'a> {
    /// Indices of frames, outermost first.
    pub(crate) frames: Vec<u32>,
    /// What stands in front of them: why the stack does not begin at the program's start, in
    /// brackets.
    pub(crate) root: Option<String>,
    /// Hits, or nanoseconds: never 0.
    pub(crate) weight: u64,
    /// Hits.
    pub(crate) calls: u64,
    /// For the lifetime of the recording.
    pub(crate) recording: &'a Recording,
}

impl Line<'_> {
    /// The names of the line, outermost first, inlined functions expanded.
    pub(crate) fn names(&self) -> Vec<String> {
        let inner = self
            .frames
            .iter()
            .flat_map(|at| self.recording.frames[*at as usize].names(self.recording));
        self.root.clone().into_iter().chain(inner).collect()
    }
}

impl Frame {
    /// Where the code is that was running: what a return address returns to comes behind the call,
    /// and may belong to another line, or to another function.
    pub(crate) fn place(&self) -> u64 {
        self.address.saturating_sub(u64::from(self.returns))
    }

    /// What is shown of it, outermost first: the function, then what was inlined into it.
    pub(crate) fn names(&self, recording: &Recording) -> Vec<String> {
        if self.symbols.is_empty() {
            return vec![match self.module.and_then(|m| recording.modules.get(m as usize)) {
                Some(module) => format!("{}+{:#x}", module.name(), self.address),
                None => format!("{:#x}", self.address),
            }];
        }
        self.symbols.iter().rev().map(|symbol| symbol.name.clone()).collect()
    }
}

impl Recording {
    /// All stacks with a weight, those without a stack included: their weights add up to the total.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let timed = self.header.weight == Weight::Time;
        let of = move |calls, ns| if timed { ns } else { calls };
        let stacks = self.stacks.iter().map(move |stack| Line {
            frames: stack.frames.iter().rev().copied().collect(),
            root: (!stack.cut.is_empty()).then(|| format!("[{}]", stack.cut)),
            weight: of(stack.calls, stack.self_ns),
            calls: stack.calls,
            recording: self,
        });
        let rest = self.no_stack.functions.iter().map(move |&(frame, calls, ns)| Line {
            frames: vec![frame],
            root: Some(NO_STACK.to_string()),
            weight: of(calls, ns),
            calls,
            recording: self,
        });
        stacks.chain(rest).filter(|line| line.weight > 0)
    }

    /// [`Recording::lines`], each for every thread that it belongs to, by the thread's index in the
    /// recording; none: nobody knows which thread.
    pub(crate) fn lines_by_thread(&self) -> impl Iterator<Item = (Option<u32>, Line<'_>)> {
        let timed = self.header.weight == Weight::Time;
        // The threads of each line: lines without a weight are no lines.
        let has_weight =
            move |stack: &&Stack| (if timed { stack.self_ns } else { stack.calls }) > 0;
        let parts = self.stacks.iter().filter(has_weight).map(|stack| &stack.threads[..]);
        let parts = parts.chain(std::iter::repeat(&[][..]));
        self.lines().zip(parts).flat_map(move |(line, parts)| {
            let mut rest = (line.calls, line.weight);
            let mut all = Vec::with_capacity(parts.len() + 1);
            for &(thread, calls, ns) in parts {
                let weight = if timed { ns } else { calls };
                // No more than there is: files say what they like.
                let (calls, weight) = (calls.min(rest.0), weight.min(rest.1));
                rest = (rest.0 - calls, rest.1 - weight);
                all.push((Some(thread), Line { calls, weight, ..line.clone() }));
            }
            all.push((None, Line { calls: rest.0, weight: rest.1, ..line }));
            all.retain(|(_, line)| line.weight > 0);
            all
        })
    }

    /// The sum of all weights, as [`super::functions::Functions`] has it.
    #[cfg(test)]
    pub(crate) fn total(&self) -> u64 {
        self.lines().fold(0, |sum, line| sum.saturating_add(line.weight))
    }

    /// Hits of all functions.
    pub(crate) fn hits(&self) -> u64 {
        sum(self.functions.iter().map(|row| row.calls))
    }

    /// What a weight is called.
    pub(crate) fn unit(&self) -> &'static str {
        match self.header.weight {
            Weight::Calls => "calls",
            Weight::Time => "ns",
        }
    }

    /// Hits whose stack was cut, by reason.
    pub(crate) fn cuts(&self) -> BTreeMap<&str, u64> {
        let mut cuts = BTreeMap::new();
        for stack in self.stacks.iter().filter(|stack| !stack.cut.is_empty()) {
            let cut = cuts.entry(&*stack.cut).or_insert(0_u64);
            *cut = cut.saturating_add(stack.calls);
        }
        cuts
    }
}
