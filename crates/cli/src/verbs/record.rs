//! `trapline record`: a run whose hits are counted by call stack.

use crate::args::{OnFull, RecordArgs, STACK_MEMORY, StackMode};
use crate::exit::{Failure, USAGE};
use crate::human;
use crate::model::meta::Meta;
use crate::model::recording::{Recording, Weight};
use crate::model::report::SkippedRow;
use crate::out::say;
use crate::outputs::{self, Format};
use crate::processes;
use crate::recording::collect::{Known, collect};
use crate::recording::symbolize::symbolize;
use crate::render;
use crate::run::child;
use crate::run::session::{Session, Times, Watch};
use crate::run::tables::{Room, Tables};
use crate::sys;
use crate::target::Target;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use wire::{NoStack, Stacks};

/// Where a recording goes without `-o`.
const DEFAULT: &str = "trapline.tlp";
/// Counters may take so many times the memory of the stacks themselves: threads count for
/// themselves.
const COUNTERS: u64 = 8;
/// What to do when the memory for stacks is used up.
const FULL: &str = "--stack-memory gives it more (up to 1G, and within --max-memory), --stack \
    dwarf:32 keeps fewer frames of each, and fewer functions have fewer stacks";
/// Memory for stacks where all of it is taken at once.
const AT_ONCE: u64 = 64 << 20;
/// The share of the machine's memory that stacks may take if nobody says how much.
const SHARE: u64 = 8;
/// Parts of the segment are whole pages.
const PAGE: u64 = 4096;

pub(crate) fn run(args: &RecordArgs) -> anyhow::Result<u8> {
    let outputs = outputs_of(args)?;
    let stacks = stacks(args)?;
    let pids = processes::chosen(&args.attach.processes)?;
    let command = processes::command(&pids, &args.command);
    let meta = Meta::now(&command, args.specs.all(), args.weight, args.stack.to_string());
    let room = Room {
        budget: args.max_memory,
        per_thread: false,
        stacks: Some(stacks),
        file: args.segment.clone(),
        returns: args.returns,
        agent: args.agent,
    };
    let prepare = |tables: &Tables| {
        tables.segment.set_meta(&meta.bytes());
        // Before the program runs for an hour: can the files be written?
        outputs.iter().try_for_each(|(path, _)| Target::of(path).check())
    };
    let specs = args.specs.all();
    let session = if pids.is_empty() {
        Session::start(&specs, &args.command, &room, prepare)?
    } else {
        Session::attach(&specs, &pids, args.attach.force, &room, prepare)?
    };
    let times = Times { duration: args.duration, interval: None };
    let stack_memory = stacks.depot_bytes as u64;
    let mut record = Record { args, meta, outputs, stack_memory, hits: 0 };
    session.until_the_end(times, args.require_events, &mut record)
}

/// The files to write, and how.
fn outputs_of(args: &RecordArgs) -> anyhow::Result<Vec<(PathBuf, Format)>> {
    if args.output.is_empty() {
        let format = args.format.unwrap_or(Format::Tlp);
        let path = PathBuf::from(DEFAULT).with_extension(format.ending());
        return Ok(vec![(path.clone(), Format::of(Some(format), &path)?)]);
    }
    if args.output.len() > 1 && args.format.is_some() {
        return Err(Failure::error(
            USAGE,
            "-f says the format of one file; with several, their endings do (.svg, .html, \
                .folded, .pb.gz, .json, .tlp)",
        ));
    }
    args.output.iter().map(|path| Ok((path.clone(), Format::of(args.format, path)?))).collect()
}

fn stacks(args: &RecordArgs) -> anyhow::Result<Stacks> {
    let evict = args.on_full == OnFull::Evict;
    if evict && args.weight == Weight::Time {
        return Err(Failure::error(
            USAGE,
            "--on-full evict goes with --weight calls: the time of a call that is still running \
                has to find its stack",
        ));
    }
    let pages = |size: u64| usize::try_from(size.div_ceil(PAGE) * PAGE).unwrap_or(usize::MAX);
    let memory = stack_memory(args);
    // More than the budget is never handed out, and addresses of trapline's own are bounded, too.
    let counters = (memory * COUNTERS).min(args.max_memory.max(memory));
    Ok(Stacks {
        depot_bytes: pages(memory),
        counts_bytes: pages(counters),
        depth: args.stack.depth,
        frame_pointers: args.stack.mode == StackMode::Fp,
        timed: args.weight == Weight::Time,
        evict,
    })
}

/// Most memory for distinct stacks, in bytes. An interpreter has hundreds of thousands (python3,
/// all functions, a dictionary of 2,000 entries dumped to JSON and loaded five times and a pass of
/// a regular expression: 440,000 in 231 MiB); what is not used costs its part of the table.
fn stack_memory(args: &RecordArgs) -> u64 {
    let all = sys::memory().unwrap_or(u64::MAX);
    let at_once = args.segment.is_some() || sys::commits_strictly();
    let most = if at_once { AT_ONCE } else { *STACK_MEMORY.end() };
    let default = || (args.max_memory / 2).min(all / SHARE).clamp(*STACK_MEMORY.start(), most);
    // What the budget has no room for needs no table either.
    args.stack_memory.unwrap_or_else(default).min(args.max_memory)
}

/// Files at the end.
struct Record<'a> {
    args: &'a RecordArgs,
    meta: Meta,
    outputs: Vec<(PathBuf, Format)>,
    stack_memory: u64,
    hits: u64,
}

impl Watch for Record<'_> {
    fn over(&mut self, session: &Session, end: Option<ExitStatus>) -> anyhow::Result<()> {
        let elapsed = session.clock.started().elapsed();
        let tables = session.tables();
        let mut header = self.meta.header();
        header.elapsed_ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        header.exit_code = end.map(child::code);
        header.signal = end.and_then(|end| end.signal());
        let state = session.server().state();
        let name = |armed: &crate::run::tables::Armed| {
            let object = state.resolution.objects[armed.object].name().to_string();
            (
                object,
                state.resolution.selections[armed.object].functions[armed.function].name.clone(),
            )
        };
        let known = Known {
            header,
            functions: state.armed.iter().map(name).collect(),
            called: state
                .resolution
                .objects
                .iter()
                .map(|object| ((object.device, object.inode), object.name().to_string()))
                .collect(),
            skipped: state
                .resolution
                .skipped()
                .map(SkippedRow::from)
                .chain(state.left_out())
                .collect(),
            also_inlined: state.resolution.also_inlined(),
            ns_per_tick: session.clock.ns_per_tick(),
        };
        let mut recording = collect(tables, known);
        // The program may run on: what it counts from now on is nobody's.
        tables.segment.stop();
        symbolize(&mut recording, &state.resolution.objects);
        self.hits = recording.hits();
        for (path, format) in &self.outputs {
            outputs::write(&recording, *format, path)?;
        }
        self.summary(&recording);
        render::attached(&session.attached(), self.args.verbose).iter().for_each(|line| say(line));
        if self.args.verbose {
            tables.log().lines().for_each(|line| say(&format!("agent: {line}")));
        }
        Ok(())
    }

    fn hits(&self) -> u64 {
        self.hits
    }
}

impl Record<'_> {
    /// A few lines on stderr: what was recorded, and what was not.
    fn summary(&self, recording: &Recording) {
        render::recording::footer(recording, self.args.verbose).iter().for_each(|line| say(line));
        let full = recording.no_stack.reasons.get(NoStack::Full.name()).copied().unwrap_or(0);
        if full > 0 {
            let size = human::bytes(self.stack_memory);
            say(&format!(
                "{full} hits have no stack because the memory for stacks ({size}) was used up: \
                    {FULL}"
            ));
        }
        for (path, _) in self.outputs.iter().filter(|(path, _)| Target::of(path).is_file()) {
            say(&format!("wrote {}", path.display()));
        }
    }
}
