//! The command line as it is written. Completions and man pages are made from it.

use crate::human::{parse_duration, parse_size};
use crate::model::recording::Weight;
use crate::model::report::Sort;
use crate::outputs::Format;
use crate::planning::Returns;
use clap::builder::FalseyValueParser;
use clap::{
    ArgAction, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

const SPECS: &str = "\
Specs: [!][call:|entry:|ret:][object:]function[+offset]
  malloc                  in the main program, or else in its libraries
  libc:malloc             in libc.so.6
  'redis-server:process*' a glob
  '/SSL_(read|write)/'    a regular expression
  'mycrate::db::*'        Rust and C++ names are matched demangled, without hash and generics
  entry:f                 count the entries of f only
  '!log_*'                take functions away that other specs match
  u:libc:malloc           prefixes of bpftrace and bcc (u, ur, p, r, uprobe, uretprobe)";

/// Counts and times the functions of unmodified programs, without root and without kernel traps.
#[derive(Debug, Parser)]
#[command(
    name = "trapline",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs"
)]
#[command(
    after_help = "Examples:\n  trapline stat libc:malloc -- ls -l\n  trapline stat -p 1234 -d 10s \
        libc:malloc\n\nExit codes: the program's own \
        (128 + signal when it was killed), 0 after -p; 2 wrong usage or no match; 125 trapline \
        failed; 126, 127 the program cannot be executed.\nEnvironment: TRAPLINE_OPTION sets \
        --option where the help shows it. NO_COLOR is honoured."
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a program, or attach to processes that run, and say how often functions are called, and
    /// how long they take.
    ///
    /// Without a SPEC, every function of the main program. The report goes to stderr, or to the
    /// file of -o; the program keeps its own stdin, stdout and stderr. ^C ends the tracing and
    /// prints the report while the program goes on; the second ^C ends trapline at once. In
    /// processes that ran already (-p) calls that had begun have no times.
    #[command(after_help = format!("{SPECS}\n\nExamples:\n  trapline stat libc:malloc -- ls -l\n  \
        trapline stat 'redis-server:call' -- redis-server --port 7777\n  trapline stat -p \
        $(pidof redis-server) -d 10s\n  trapline stat --name 'postgres*' -i 1 \
        '*palloc*'\n  trapline stat -i 1 -d 10s --hist 'entry:libc:*alloc' -- \
        ./server\n  trapline stat -j -o new.json -- ./prog && trapline stat --diff old.json \
        new.json"))]
    Stat(Box<StatArgs>),
    /// Run a program and record from where its functions are called: flame graphs and profiles.
    ///
    /// Without a SPEC, every function of the main program. Every hit is counted by its call stack,
    /// which is taken in the program itself; nothing is sampled or streamed. The recording is
    /// written when the program ends, at ^C, or after --duration.
    #[command(after_help = format!("{SPECS}\n\nExamples:\n  trapline record libc:malloc -o \
        malloc.svg -- ls -l\n  trapline record --weight time 'redis-server:*Command' -o time.html \
        -- redis-server --port 7777\n  trapline record 'mycrate::db::*' -o db.tlp -- ./server && \
        trapline report db.tlp"))]
    Record(Box<RecordArgs>),
    /// Show a recording: a table of functions, call trees, other formats, a page with a flame
    /// graph.
    ///
    /// Weights are what was recorded: calls, or time. A function's self weight is that of the
    /// stacks that end in it, its total that of all stacks it is in.
    #[command(
        after_help = "FUNC: a name, a glob ('redis*') or a regular expression between slashes \
            ('/^zm(alloc|free)$/').\n\nExamples:\n  trapline report redis.tlp\n  trapline report \
            --serve redis.tlp\n  trapline report --tree --min-percent 5 redis.tlp\n  trapline \
            report --callers malloc redis.tlp\n  trapline report --diff old.tlp new.tlp -o \
            difference.svg\n  trapline report redis.tlp -o redis.html\n  trapline report \
            redis.tlp -f folded -o - | inferno-flamegraph > redis.svg"
    )]
    Report(Box<ReportArgs>),
    /// Arm functions of a running process and leave them so: nothing of trapline goes on running.
    ///
    /// `trapline ps` lists such processes, `stat --attached PID` shows what is counted, and `detach
    /// PID` takes the probes back and prints the report. Without a SPEC, every function of the main
    /// program. Returns are seen at exits.
    #[command(after_help = format!("{SPECS}\n\nExamples:\n  trapline attach 1234 \
        'libc:*alloc'\n  trapline attach --name 'postgres*' palloc"))]
    Attach(BackgroundArgs),
    /// Take the probes of processes back that `attach`, or a trapline that was killed, has left
    /// armed, and print the last report.
    #[command(after_help = "Example:\n  trapline detach 1234")]
    Detach(DetachArgs),
    /// List the processes with probes in them.
    ///
    /// A row each: its number and name, armed functions, hits, what was lost, the memory that it
    /// takes, since when, and the trapline that counts there (none: `attach`, or one that was
    /// killed). Those of other users are not seen.
    #[command(after_help = "Examples:\n  trapline ps\n  trapline ps -j")]
    Ps {
        /// Print a JSON object for each.
        #[arg(short, long, env = "TRAPLINE_JSON")]
        json: bool,
    },
    /// Show the functions that a SPEC would match, and how each would be hooked.
    #[command(after_help = format!("{SPECS}\n\nExamples:\n  trapline list 'libc:*alloc*' -- ls\n  \
        trapline list -v /usr/bin/redis-server\n  trapline list -p 1234 \
        'libc:*alloc*'\n  trapline list libc:malloc"))]
    List(ListArgs),
    /// Say what would stop a run here, and the command that fixes it.
    #[command(
        after_help = "Exit code: 0 when nothing does, 1 when something does.\n\nExamples:\n  \
            trapline doctor\n  trapline doctor 1234\n  trapline doctor -- /usr/bin/redis-server"
    )]
    Doctor(DoctorArgs),
    /// Print the completions of a shell.
    #[command(after_help = "Example:\n  trapline completions bash > \
            ~/.local/share/bash-completion/completions/trapline")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the man page, or write those of all verbs into a directory.
    #[command(
        after_help = "Examples:\n  trapline man | man -l -\n  trapline man ~/.local/share/man/man1"
    )]
    Man {
        /// Where to write trapline.1, trapline-stat.1 and the others.
        directory: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SpecArgs {
    /// Which functions; see below.
    #[arg(value_name = "SPEC")]
    specs: Vec<String>,
    /// The same as a positional SPEC.
    #[arg(short = 'e', long = "event", value_name = "SPEC")]
    events: Vec<String>,
}

impl SpecArgs {
    pub(crate) fn all(&self) -> Vec<String> {
        self.specs.iter().chain(&self.events).cloned().collect()
    }
}

/// Processes that run already, instead of a command.
#[derive(Debug, Default, Args)]
pub(crate) struct ProcessArgs {
    /// Attach to a running process: several times, or with commas, for several.
    #[arg(
        short = 'p',
        long = "pid",
        value_name = "PID",
        value_delimiter = ',',
        value_parser = clap::value_parser!(i32).range(1..),
        conflicts_with = "command",
    )]
    pub(crate) pid: Vec<i32>,
    /// Attach to all processes whose program or first thread is called so: a name, a glob, or a
    /// regular expression between slashes. Neither trapline nor what has started it is meant.
    #[arg(long, value_name = "PATTERN", conflicts_with = "command")]
    pub(crate) name: Vec<String>,
    /// Attach to all processes whose first thread is called exactly so (/proc/PID/comm).
    #[arg(long, value_name = "NAME", conflicts_with = "command")]
    pub(crate) comm: Vec<String>,
}

impl ProcessArgs {
    /// Whether processes are asked for.
    pub(crate) fn is_given(&self) -> bool {
        !self.pid.is_empty() || !self.name.is_empty() || !self.comm.is_empty()
    }
}

/// How processes are attached to.
#[derive(Debug, Default, Args)]
pub(crate) struct AttachArgs {
    #[command(flatten)]
    pub(crate) processes: ProcessArgs,
    /// Attach also to processes that filter their system calls: a filter that kills for one that it
    /// does not expect kills the process.
    #[arg(long, conflicts_with = "command")]
    pub(crate) force: bool,
}

/// What is armed in the background.
#[derive(Debug, Args)]
pub(crate) struct BackgroundArgs {
    /// The process, unless --name or --comm says which; then which functions (see below).
    #[arg(value_name = "PID|SPEC")]
    pub(crate) words: Vec<String>,
    /// Also functions.
    #[arg(short = 'e', long = "event", value_name = "SPEC")]
    pub(crate) events: Vec<String>,
    /// All processes whose program or first thread is called so: a name, a glob, or a regular
    /// expression between slashes.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) name: Vec<String>,
    /// All processes whose first thread is called exactly so (/proc/PID/comm).
    #[arg(long, value_name = "NAME")]
    pub(crate) comm: Vec<String>,
    /// Also processes that filter their system calls: a filter that kills for one that it does not
    /// expect kills the process.
    #[arg(long)]
    pub(crate) force: bool,
    /// Most memory for counters of each process (512k, 64M, 1G); what does not fit is counted as
    /// lost.
    #[arg(
        long,
        value_name = "SIZE",
        value_parser = parse_size,
        default_value = "1G",
        env = "TRAPLINE_MAX_MEMORY",
    )]
    pub(crate) max_memory: u64,
}

/// How a program is entered that trapline starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// By an image that is put into it before it runs.
    Image,
    /// By a shared object that its loader preloads.
    Preload,
}

/// Where probes are taken back.
#[derive(Debug, Args)]
pub(crate) struct DetachArgs {
    /// The processes.
    #[arg(value_name = "PID", required = true, value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) pids: Vec<i32>,
    /// Print the report of each as one JSON object.
    #[arg(short, long, env = "TRAPLINE_JSON")]
    pub(crate) json: bool,
    /// Also from processes that filter their system calls.
    #[arg(long)]
    pub(crate) force: bool,
    /// Name every function that was left alone, with the reason.
    #[arg(short, long, env = "TRAPLINE_VERBOSE")]
    pub(crate) verbose: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatArgs {
    #[command(flatten)]
    pub(crate) specs: SpecArgs,
    #[command(flatten)]
    pub(crate) attach: AttachArgs,
    /// Print lines while the program runs, every so often (1, 500ms, 10s).
    #[arg(
        short,
        long,
        value_name = "TIME",
        value_parser = parse_interval,
        env = "TRAPLINE_INTERVAL",
    )]
    pub(crate) interval: Option<Duration>,
    /// End the tracing and print the report after this time; the program goes on, and its exit code
    /// is passed. Processes of -p get their code back.
    #[arg(
        short,
        long,
        value_name = "TIME",
        value_parser = parse_duration,
        env = "TRAPLINE_DURATION",
    )]
    pub(crate) duration: Option<Duration>,
    /// Order of the rows; largest first (with --diff, the largest change), names from a to z.
    #[arg(
        long,
        value_enum,
        value_name = "COLUMN",
        default_value_t = Sort::Total,
        env = "TRAPLINE_SORT",
    )]
    pub(crate) sort: Sort,
    /// Most rows of the table.
    #[arg(long, value_name = "N", default_value_t = 40, env = "TRAPLINE_LIMIT")]
    pub(crate) limit: usize,
    /// All rows, also functions that were never called.
    #[arg(long, conflicts_with = "limit", env = "TRAPLINE_ALL")]
    pub(crate) all: bool,
    /// Names of functions in full, however long the lines get.
    ///
    /// Otherwise, template arguments and more are cut out (`<...>`) where a name does not fit the
    /// terminal. What is left can be given as a spec.
    #[arg(long, env = "TRAPLINE_WIDE")]
    pub(crate) wide: bool,
    /// How returns are seen: by probes where a function leaves (exits; of a function where those
    /// have no room only entries), or by putting something in the place of its return address
    /// (instances). Default: exits, and instances where those have no room.
    #[arg(long, value_enum, value_name = "METHOD", env = "TRAPLINE_RETURNS")]
    pub(crate) returns: Option<Returns>,
    /// A histogram of each function's durations.
    #[arg(long, env = "TRAPLINE_HIST")]
    pub(crate) hist: bool,
    /// Rows for each thread.
    #[arg(long, env = "TRAPLINE_PER_THREAD")]
    pub(crate) per_thread: bool,
    /// Rows for each process.
    #[arg(long, env = "TRAPLINE_PER_PROCESS")]
    pub(crate) per_process: bool,
    /// Leave out functions with fewer calls.
    #[arg(long, value_name = "N", default_value_t = 0, env = "TRAPLINE_MIN_CALLS")]
    pub(crate) min_calls: u64,
    /// Print one JSON object.
    ///
    /// Its fields: functions: [{object, name, calls, p50_ns, p90_ns, p99_ns, max_ns, total_ns,
    /// self_ns}], hits, lost: {reason: n}, armed: {detour: n, breakpoint: n}, skipped: [{object,
    /// name, reason}], elapsed_ns, agent_bytes; then processes, overhead_ns, exit_code. Times are
    /// null where only entries were counted or nothing has returned. A function has more: unwound
    /// and running (calls without a return), note, with --hist histogram: [[from_ns, to_ns, n]],
    /// with --per-thread threads: [{process, thread, calls, ..., process_name, thread_name}], with
    /// --per-process processes. New fields may come; these stay. Which version they are (schema),
    /// when they were counted (time) and what was run (run: command, host, started, ...) is in it,
    /// too; docs/formats.md describes all. With -i, a line for each interval (kind: "interval") and
    /// then the report (kind: "report").
    #[arg(short, long, conflicts_with = "field_separator", env = "TRAPLINE_JSON")]
    pub(crate) json: bool,
    /// Print lines of fields with this between them; times are in nanoseconds.
    ///
    /// The first line names the fields. What stands below a table follows in lines that begin with
    /// "# ". With -i, rows come at each interval, with their time and the kind "interval".
    #[arg(short = 'x', long, value_name = "SEPARATOR", env = "TRAPLINE_FIELD_SEPARATOR")]
    pub(crate) field_separator: Option<String>,
    /// Compare two reports of -j instead of running a program.
    #[arg(
        long,
        num_args = 2,
        value_names = ["A", "B"],
        conflicts_with_all = ["command", "pid", "name", "comm", "interval", "duration"],
    )]
    pub(crate) diff: Option<Vec<PathBuf>>,
    /// Show what is counted in a process that `trapline attach` has armed.
    #[arg(
        long,
        value_name = "PID",
        value_parser = clap::value_parser!(i32).range(1..),
        conflicts_with_all = [
            "command", "pid", "name", "comm", "interval", "duration", "diff", "specs", "events",
        ],
    )]
    pub(crate) attached: Option<i32>,
    /// What --diff compares, beside the column of --sort: calls, rate, p50, p90, p99, max, total,
    /// self.
    #[arg(
        long,
        value_enum,
        value_name = "COLUMN,...",
        value_delimiter = ',',
        conflicts_with = "command"
    )]
    pub(crate) columns: Vec<Sort>,
    /// Write the report to a file instead of stderr; `-` is stdout.
    #[arg(short, long, value_name = "FILE", env = "TRAPLINE_OUTPUT")]
    pub(crate) output: Option<PathBuf>,
    /// Name every function that was left alone, with the reason.
    #[arg(short, long, env = "TRAPLINE_VERBOSE")]
    pub(crate) verbose: bool,
    /// Exit with 1 when a program that ended well called none of the functions.
    #[arg(long, env = "TRAPLINE_REQUIRE_EVENTS")]
    pub(crate) require_events: bool,
    /// Most memory for counters (512k, 64M, 1G); what does not fit is counted as lost.
    #[arg(
        long,
        value_name = "SIZE",
        value_parser = parse_size,
        default_value = "1G",
        env = "TRAPLINE_MAX_MEMORY",
    )]
    pub(crate) max_memory: u64,
    /// How a program is entered that is started: by a preloaded object, or by an image that is put
    /// into it from outside, which leaves its environment as it is and sees returns at exits only.
    /// Not given: preloaded where glibc's loader loads the program.
    #[arg(long, value_name = "WAY", env = "TRAPLINE_AGENT")]
    pub(crate) agent: Option<Way>,
    /// The program and its arguments.
    #[arg(
        last = true,
        value_name = "CMD",
        required_unless_present_any = ["diff", "attached", "pid", "name", "comm"],
    )]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    #[command(flatten)]
    pub(crate) specs: SpecArgs,
    #[command(flatten)]
    pub(crate) attach: AttachArgs,
    /// What is added up for each stack: the calls, or the time spent in the function itself
    /// (without other recorded functions that it calls).
    #[arg(long, value_enum, default_value_t = Weight::Calls, env = "TRAPLINE_WEIGHT")]
    pub(crate) weight: Weight,
    /// How returns are seen: by probes where a function leaves (exits; of a function where those
    /// have no room only entries), or by putting something in the place of its return address
    /// (instances). Default: exits, and instances where those have no room.
    #[arg(long, value_enum, value_name = "METHOD", env = "TRAPLINE_RETURNS")]
    pub(crate) returns: Option<Returns>,
    /// How stacks are taken, and at most how many frames: dwarf (unwind tables), fp (frame
    /// pointers, and unwind tables where they end), none; 1 to 254 frames.
    #[arg(long, value_name = "MODE[:DEPTH]", default_value = "dwarf:127", env = "TRAPLINE_STACK")]
    pub(crate) stack: StackArg,
    /// What happens when the memory for stacks is used up: hits are counted without a stack, or old
    /// stacks give way and their hits are counted without one.
    #[arg(long, value_enum, default_value_t = OnFull::Count, env = "TRAPLINE_ON_FULL")]
    pub(crate) on_full: OnFull,
    /// Most memory for distinct stacks, which is taken as they come, from 256k to 1G.
    ///
    /// Default: half of --max-memory, but not more than an eighth of the machine's memory or 1G;
    /// 64M with --segment, and where the kernel does not overcommit, for there it is taken at
    /// once. Their counters take more, of --max-memory.
    #[arg(
        long,
        value_name = "SIZE",
        value_parser = parse_stack_memory,
        env = "TRAPLINE_STACK_MEMORY",
    )]
    pub(crate) stack_memory: Option<u64>,
    /// Where to write; several times for several formats. `-` is standard output. Default:
    /// trapline.tlp
    #[arg(short, long, value_name = "FILE", env = "TRAPLINE_OUTPUT")]
    pub(crate) output: Vec<PathBuf>,
    /// The format, where the file's ending does not say it.
    #[arg(short, long, value_enum, env = "TRAPLINE_FORMAT")]
    pub(crate) format: Option<Format>,
    /// End the recording after this time; the program goes on, and its exit code is passed.
    #[arg(
        short,
        long,
        value_name = "TIME",
        value_parser = parse_duration,
        env = "TRAPLINE_DURATION",
    )]
    pub(crate) duration: Option<Duration>,
    /// Count in this file, which stays: `trapline report FILE` shows it even if trapline and the
    /// program were killed.
    #[arg(long, value_name = "FILE", env = "TRAPLINE_SEGMENT_FILE")]
    pub(crate) segment: Option<PathBuf>,
    /// Show what the agent has to say.
    #[arg(short, long, env = "TRAPLINE_VERBOSE")]
    pub(crate) verbose: bool,
    /// Exit with 1 when a program that ended well called none of the functions.
    #[arg(long, env = "TRAPLINE_REQUIRE_EVENTS")]
    pub(crate) require_events: bool,
    /// Most memory of the agent (512k, 64M, 1G); what does not fit is counted as lost.
    #[arg(
        long,
        value_name = "SIZE",
        value_parser = parse_size,
        default_value = "1G",
        env = "TRAPLINE_MAX_MEMORY",
    )]
    pub(crate) max_memory: u64,
    /// How a program is entered that is started: by a preloaded object, or by an image that is put
    /// into it from outside, which leaves its environment as it is and sees returns at exits only.
    /// Not given: preloaded where glibc's loader loads the program.
    #[arg(long, value_name = "WAY", env = "TRAPLINE_AGENT")]
    pub(crate) agent: Option<Way>,
    /// The program and its arguments.
    #[arg(
        last = true,
        value_name = "CMD",
        required_unless_present_any = ["pid", "name", "comm"],
    )]
    pub(crate) command: Vec<OsString>,
}

/// How stacks are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StackArg {
    pub(crate) mode: StackMode,
    /// Most frames.
    pub(crate) depth: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StackMode {
    Dwarf,
    Fp,
    None,
}

/// Frames that are kept if nobody says how many.
const DEPTH: u8 = 127;
/// One more than that, with the mark of a stack that was cut off, is what a depot keeps.
const DEEPEST: u8 = 254;

impl std::str::FromStr for StackArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mode, depth) =
            text.split_once(':').map_or((text, None), |(mode, depth)| (mode, Some(depth)));
        let mode = match mode {
            "dwarf" => StackMode::Dwarf,
            "fp" => StackMode::Fp,
            "none" => StackMode::None,
            _ => return Err("write dwarf, fp or none, and perhaps a depth: fp:32".to_string()),
        };
        let given = depth
            .map(|depth| {
                depth
                    .parse()
                    .ok()
                    .filter(|n| (1..=DEEPEST).contains(n))
                    .ok_or(format!("a depth is 1 to {DEEPEST}"))
            })
            .transpose()?;
        // The function itself is a frame.
        let depth = if mode == StackMode::None { 1 } else { given.unwrap_or(DEPTH) };
        Ok(Self { mode, depth })
    }
}

impl std::fmt::Display for StackArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.mode {
            StackMode::Dwarf => write!(f, "dwarf:{}", self.depth),
            StackMode::Fp => write!(f, "fp:{}", self.depth),
            StackMode::None => f.write_str("none"),
        }
    }
}

/// What happens when there is no room for more stacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnFull {
    /// Hits are counted without a stack.
    Count,
    /// Old stacks give way; only the first process records stacks then.
    Evict,
}

/// What can be asked for.
pub(crate) const STACK_MEMORY: RangeInclusive<u64> = 256 << 10..=1 << 30;

fn parse_stack_memory(text: &str) -> Result<u64, String> {
    let size = parse_size(text)?;
    if STACK_MEMORY.contains(&size) { Ok(size) } else { Err("from 256k to 1G".to_string()) }
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The recording, as `trapline record` wrote it.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Most rows of the table.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 40, env = "TRAPLINE_LIMIT")]
    pub(crate) limit: usize,
    /// All rows; each function that was not probed by name.
    #[arg(long, conflicts_with = "limit", env = "TRAPLINE_ALL")]
    pub(crate) all: bool,
    /// Names of functions in full, however long the lines get.
    ///
    /// Otherwise, template arguments and more are cut out (`<...>`) where a name does not fit the
    /// terminal. What is left can be given as a spec.
    #[arg(long, env = "TRAPLINE_WIDE")]
    pub(crate) wide: bool,
    /// The call tree from the start of the program.
    #[arg(
        long,
        conflicts_with_all = ["callers", "callees", "json", "format", "serve"],
        env = "TRAPLINE_TREE",
    )]
    pub(crate) tree: bool,
    /// Who called FUNC, and who called them: the tree from FUNC upwards.
    #[arg(
        long,
        value_name = "FUNC",
        conflicts_with_all = ["callees", "json", "format", "serve"],
        env = "TRAPLINE_CALLERS",
    )]
    pub(crate) callers: Option<String>,
    /// What FUNC called: the tree from FUNC downwards.
    #[arg(
        long,
        value_name = "FUNC",
        conflicts_with_all = ["json", "format", "serve"],
        env = "TRAPLINE_CALLEES",
    )]
    pub(crate) callees: Option<String>,
    /// Leave out of a tree what has less than this share of the recording.
    #[arg(
        long,
        value_name = "PERCENT",
        default_value_t = 1.0,
        value_parser = parse_percent,
        env = "TRAPLINE_MIN_PERCENT",
    )]
    pub(crate) min_percent: f64,
    /// Turn the recording into another format; to stdout without -o.
    #[arg(short, long, value_enum, env = "TRAPLINE_FORMAT", conflicts_with_all = ["json", "serve"])]
    pub(crate) format: Option<Format>,
    /// Write to a file, whose name says the format where -f does not; `-` is stdout. With -j or a
    /// tree, that is what is written.
    #[arg(short, long, value_name = "FILE", env = "TRAPLINE_OUTPUT", conflicts_with = "serve")]
    pub(crate) output: Option<PathBuf>,
    /// Serve the recording as a page with a flame graph, and in the other formats, until ^C.
    ///
    /// Without an address, on a free port of 127.0.0.1, which only this machine reaches.
    #[arg(
        long,
        value_name = "ADDR:PORT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "127.0.0.1:0",
        value_parser = parse_address,
        conflicts_with = "json",
        env = "TRAPLINE_SERVE",
    )]
    pub(crate) serve: Option<SocketAddr>,
    /// Compare it with an older recording: a table, or a differential flame graph (-f svg, -f
    /// html).
    #[arg(
        long,
        value_name = "OLDER",
        conflicts_with_all = ["tree", "callers", "callees", "json", "serve"],
        env = "TRAPLINE_DIFF",
    )]
    pub(crate) diff: Option<PathBuf>,
    /// Print the table as one JSON object, with all rows.
    ///
    /// Its fields: functions: [{name, object, file, self, self_percent, total, total_percent}],
    /// unit ("calls" or "ns"), total, hits, lost: {reason: n}, no_stack: {reason: n}, cut: {reason:
    /// n}, armed: {detour: n, breakpoint: n}, skipped: [{object, name, reason}], memory: {total,
    /// stacks, frames, counters}, header, schema. New fields may come; these stay. docs/formats.md
    /// describes all.
    #[arg(short, long, env = "TRAPLINE_JSON")]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Which functions (see below), or the path of a program or library.
    #[command(flatten)]
    pub(crate) specs: SpecArgs,
    #[command(flatten)]
    pub(crate) processes: ProcessArgs,
    /// Names of functions in full, however long the lines get.
    ///
    /// Otherwise, template arguments and more are cut out (`<...>`) where a name does not fit the
    /// terminal. What is left can be given as a spec.
    #[arg(long, env = "TRAPLINE_WIDE")]
    pub(crate) wide: bool,
    /// How each would be hooked, at what estimated cost, or why it cannot be.
    #[arg(short, long, env = "TRAPLINE_VERBOSE")]
    pub(crate) verbose: bool,
    /// How returns are seen: by probes where a function leaves (exits; of a function where those
    /// have no room only entries), or by putting something in the place of its return address
    /// (instances). Default: exits, and instances where those have no room.
    #[arg(long, value_enum, value_name = "METHOD", env = "TRAPLINE_RETURNS")]
    pub(crate) returns: Option<Returns>,
    /// The program whose functions are meant.
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// A process to look at.
    #[arg(value_name = "PID", conflicts_with = "command")]
    pub(crate) pid: Option<u32>,
    /// A program to look at.
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// Reads the arguments, and the variables that stand for them.
///
/// # Errors
/// Help and version, which are to be printed, or what is wrong.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(arguments)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// The parser. A variable that is empty is not set, and one that stands for a flag may say no (`0`,
/// `no`, `false`, `off`).
fn command() -> Command {
    let mut command = Cli::command();
    let verbs: Vec<String> =
        command.get_subcommands().map(|verb| verb.get_name().to_string()).collect();
    for verb in verbs {
        command = command.mut_subcommand(verb, |verb| {
            verb.mut_args(|arg| {
                let Some(name) = arg.get_env().map(ToOwned::to_owned) else { return arg };
                let flag = matches!(arg.get_action(), ArgAction::SetTrue);
                if !std::env::var(&name)
                    .is_ok_and(|value| value.is_empty() || flag && says_no(&value))
                {
                    return if flag { arg.value_parser(FalseyValueParser::new()) } else { arg };
                }
                // As if it were not there: a flag that is off is in nobody's way.
                arg.env(None)
            })
        });
    }
    command
}

fn says_no(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "0" | "n" | "no" | "f" | "false" | "off")
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < Duration::from_millis(10) {
        Err("less than 10ms is no interval".to_string())
    } else {
        Ok(interval)
    }
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let value: f64 = text
        .trim()
        .trim_end_matches('%')
        .trim_end()
        .parse()
        .map_err(|_| "not a percentage: write 0.5 or 5".to_string())?;
    if (0.0..=100.0).contains(&value) {
        Ok(value)
    } else {
        Err("not between 0 and 100".to_string())
    }
}

/// `127.0.0.1:8000`, `localhost:8000`, `[::1]:8000`, or the port alone.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim().trim_start_matches(':');
    let wrong = || "not an address: write 127.0.0.1:8000, or 8000 for that".to_string();
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    let text = text
        .strip_prefix("localhost:")
        .map_or(text.to_string(), |port| format!("127.0.0.1:{port}"));
    text.parse().map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_parser_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_has_an_example() {
        for verb in Cli::command().get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{}", verb.get_name());
        }
    }

    #[test]
    fn what_is_accepted() {
        for line in [
            "trapline stat -- ls -l",
            "trapline stat malloc -e free -- ls",
            "trapline stat -i 1 -d 10s --hist --per-thread -x ; malloc -- ls",
            "trapline stat --diff a b",
            "trapline stat --diff a b --columns calls,p99,self --sort p99 --min-calls 10",
            "trapline stat -j -o out --sort self --all -- ls --all",
            "trapline stat -p 12",
            "trapline stat --attached 12 -j",
            "trapline attach 12 malloc -e free",
            "trapline attach --name x malloc",
            "trapline detach 12 13 -j",
            "trapline ps -j",
            "trapline stat -p 12,13 -p 14 malloc -d 1",
            "trapline stat --pid=12 --name postgres* --comm x --force -e malloc",
            "trapline record -p 12 malloc",
            "trapline list -p 12 malloc",
            "trapline record malloc -- ls",
            "trapline record --weight time --stack fp:16 -o a.svg -o b.tlp malloc -- ls",
            "trapline record --on-full evict --stack-memory 1M --segment s malloc -- ls",
            "trapline report a.tlp",
            "trapline report --serve a.tlp",
            "trapline report a.tlp --serve",
            "trapline report --diff old.tlp new.tlp -o a.svg",
            "trapline report --serve=8000 a.tlp",
            "trapline report --serve=[::1]:0 a.tlp",
            "trapline report --serve=localhost:80 a.tlp",
            "trapline report --tree --min-percent 0.5% a.tlp",
            "trapline report --callers mal* a.tlp",
            "trapline report -n 3 -j a.tlp",
            "trapline report -j -o a.json a.tlp",
            "trapline report --tree -o - a.tlp",
            "trapline report a.tlp -f svg -o -",
            "trapline list libc:malloc",
            "trapline list -v malloc -- ls",
            "trapline doctor 12",
            "trapline doctor -- ls",
            "trapline completions zsh",
            "trapline man",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in [
            "trapline stat malloc",
            "trapline stat -j -x ; -- ls",
            "trapline stat --diff a",
            "trapline stat -p 12 malloc -- ls",
            "trapline stat --name x -- ls",
            "trapline stat --force -- ls",
            "trapline stat -p 0",
            "trapline stat --attached 12 -i 1",
            "trapline stat --attached 12 malloc",
            "trapline detach",
            "trapline ps 12",
            "trapline stat -p x",
            "trapline stat --diff a b -p 12",
            "trapline list -p 12 -- ls",
            "trapline stat --columns calls -- ls",
            "trapline doctor 12 -- ls",
            "trapline record malloc",
            "trapline record --stack fp:0 malloc -- ls",
            "trapline record --stack dwarf:255 malloc -- ls",
            "trapline record --stack-memory 2G malloc -- ls",
            "trapline stat -i 1ms -- ls",
            "trapline report",
            "trapline report --serve=nowhere a.tlp",
            "trapline report --serve --tree a.tlp",
            "trapline report --diff old.tlp --tree new.tlp",
            "trapline report --callers f --callees f a.tlp",
            "trapline report --min-percent 101 a.tlp",
            "trapline nosuch",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
