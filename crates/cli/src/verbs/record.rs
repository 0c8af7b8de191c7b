//! `trapline record`: a run whose hits are counted by call stack.

use crate::args::{OnFull, RecordArgs, StackMode};
use crate::exit::{Failure, USAGE};
use crate::out::say;
use crate::outputs::{self, Format};
use crate::recording::collect::{Known, collect};
use crate::recording::meta::Meta;
use crate::recording::symbolize::symbolize;
use crate::recording::{Recording, Weight};
use crate::render;
use crate::report::SkippedRow;
use crate::run::session::{Session, Times, Watch};
use crate::run::tables::Room;
use std::path::{Path, PathBuf};
use wire::Stacks;

/// Where a recording goes without `-o`.
const DEFAULT: &str = "trapline.tlp";
/// Counters may take so many times the memory of the stacks themselves: threads count for themselves.
const COUNTERS: u64 = 8;
/// Parts of the segment are whole pages.
const PAGE: u64 = 4096;

pub(crate) fn run(args: &RecordArgs) -> anyhow::Result<u8> {
    let outputs = outputs_of(args)?;
    let stacks = stacks(args)?;
    let command = args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let meta = Meta::now(command, args.specs.all(), args.weight, args.stack.to_string());
    let room = Room { budget: args.max_memory, per_thread: false, stacks: Some(stacks), file: args.segment.clone() };
    let session = Session::start(&args.specs.all(), &args.command, &room, |tables| {
        tables.segment.set_meta(&meta.bytes());
        // Before the program runs for an hour: can the files be written?
        outputs.iter().try_for_each(|(path, _)| writable(path))
    })?;
    let times = Times { duration: args.duration, interval: None };
    session.until_the_end(times, args.require_events, &mut Record { args, meta, outputs, hits: 0 })
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
            "-f says the format of one file; with several, their endings do (.svg, .html, .folded, .pb.gz, .json, .tlp)",
        ));
    }
    args.output.iter().map(|path| Ok((path.clone(), Format::of(args.format, path)?))).collect()
}

fn writable(path: &Path) -> anyhow::Result<()> {
    if path == Path::new("-") {
        return Ok(());
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.is_dir() {
        return Err(Failure::error(USAGE, format!("{}: a directory; say a file", path.display())));
    }
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return Ok(());
    }
    match tempfile::tempfile_in(directory) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::error(USAGE, format!("cannot write {}: {error}", path.display()))),
    }
}

fn stacks(args: &RecordArgs) -> anyhow::Result<Stacks> {
    let evict = args.on_full == OnFull::Evict;
    if evict && args.weight == Weight::Time {
        return Err(Failure::error(
            USAGE,
            "--on-full evict goes with --weight calls: the time of a call that is still running has to find its stack",
        ));
    }
    let pages = |size: u64| usize::try_from(size.div_ceil(PAGE) * PAGE).unwrap_or(usize::MAX);
    Ok(Stacks {
        depot_bytes: pages(args.stack_memory),
        counts_bytes: pages(args.stack_memory * COUNTERS),
        depth: args.stack.depth,
        frame_pointers: args.stack.mode == StackMode::Fp,
        timed: args.weight == Weight::Time,
        evict,
    })
}

/// Files at the end.
struct Record<'a> {
    args: &'a RecordArgs,
    meta: Meta,
    outputs: Vec<(PathBuf, Format)>,
    hits: u64,
}

impl Watch for Record<'_> {
    fn over(&mut self, session: &Session, exit_code: Option<u8>) -> anyhow::Result<()> {
        let elapsed = session.clock.started().elapsed();
        let tables = session.tables();
        let mut header = self.meta.header();
        header.elapsed_ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        header.exit_code = exit_code;
        let state = session.server().state();
        let name = |armed: &crate::run::tables::Armed| {
            let object = state.resolution.objects[armed.object].name().to_string();
            (object, state.resolution.selections[armed.object].functions[armed.function].name.clone())
        };
        let known = Known {
            header,
            functions: state.armed.iter().map(name).collect(),
            called: state.resolution.objects.iter().map(|object| ((object.device, object.inode), object.name().to_string())).collect(),
            skipped: state.resolution.skipped().map(SkippedRow::from).collect(),
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
        if self.args.verbose {
            session.names.log().lines().for_each(|line| say(&format!("agent: {line}")));
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
        for (path, _) in self.outputs.iter().filter(|(path, _)| path != Path::new("-")) {
            say(&format!("wrote {}", path.display()));
        }
    }
}
