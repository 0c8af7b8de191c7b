//! The segment, and which of its functions is which of ours.

use super::ended::Ended;
use super::files::Files;
use crate::args::Way;
use crate::exit::{Failure, USAGE};
use crate::human;
use crate::planning::{self, Returns};
use crate::resolve::Resolution;
use crate::select::Function;
use crate::spec::Kind;
use crate::spec::Spec;
use crate::symbols::object::Object;
use crate::symbols::unwind::unsaid;
use crate::sys;
use anyhow::Context;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use wire::cell::{COUNT_BYTES, TIMED_BYTES};
use wire::{Identity, Segment, Shape, Stacks};

/// Threads that can count at the same time, of all processes together. Files are sparse, and
/// targets map what they use: places that nobody takes cost nothing.
const THREADS: usize = 1 << 14;
/// Bytes of all blocks together: file systems have limits.
const MOST_BYTES: usize = 1 << 43;
/// Places for programs and libraries that appear during the run.
const LATER_OBJECTS: usize = 1024;
/// All functions that there can be: what bounds them is `--max-memory`.
const FUNCTIONS: usize = 1 << 20;
/// Largest cells of a thread that wire allows.
const MOST_CELL_BYTES: usize = 1 << 30;
/// Cells are added in a block of at least so many bytes, where functions may come later.
const LATER_CELL_BYTES: usize = 512 << 20;

/// Memory that a probed function takes in a process, as agents reckon.
const BYTES_PER_SITE: u64 = 2048;
/// Memory that an agent takes before it has armed anything.
const AGENT_START: u64 = 3 << 20;
/// What the first stack takes, with everything that is needed to walk it.
const STACKS_START: u64 = 4 << 20;

/// A function of the segment, by its index: the object in the resolution, and the function in that
/// object's selection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Armed {
    pub(crate) object: usize,
    pub(crate) function: usize,
}

/// The segment, its files, and the functions in it.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) segment: Segment,
    files: Files,
    /// Functions that are in the user's file already, if there is one.
    kept: AtomicUsize,
    /// What ended threads have counted, where those are kept apart.
    pub(super) ended: Mutex<Ended>,
    /// How returns are seen, if that was asked for.
    returns: Option<Returns>,
}

/// What a segment is to have room for, besides the functions.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Bytes that agents may use.
    pub(crate) budget: u64,
    /// Whether the counts of threads are kept apart.
    pub(crate) per_thread: bool,
    /// Whether and how stacks are recorded.
    pub(crate) stacks: Option<Stacks>,
    /// A file of the user's for the segment, which stays.
    pub(crate) file: Option<PathBuf>,
    /// How returns are seen, if that was asked for.
    pub(crate) returns: Option<Returns>,
    /// How a program is entered that is started, if that was said.
    pub(crate) agent: Option<Way>,
}

impl Tables {
    /// Makes a segment with room for what `resolution` has, and for what may come.
    ///
    /// # Errors
    /// Whatever keeps it from being made, and a budget that is too small for one thread.
    pub(crate) fn create(resolution: &Resolution, room: &Room) -> anyhow::Result<Self> {
        let known = resolution.selections.iter().flat_map(|selection| &selection.functions);
        let bytes: usize = known.map(|f| cell_bytes(kind(f, room.stacks))).sum();
        let later = resolution.specs.iter().any(Spec::names_objects);
        let cells = if later { bytes + LATER_CELL_BYTES } else { bytes.max(TIMED_BYTES) };
        let cell_bytes = cells.next_power_of_two().min(MOST_CELL_BYTES);
        let files = room.file.as_deref().map_or_else(Files::in_memory, Files::named)?;
        let shape = Shape {
            objects: resolution.objects.len() + LATER_OBJECTS,
            functions: FUNCTIONS,
            blocks: THREADS.min(MOST_BYTES / cell_bytes),
            cell_bytes,
            budget: room.budget,
            per_thread: room.per_thread,
            scarce: files.scarce(),
            stacks: room.stacks,
        };
        let segment = sys::with_file_size(|most| {
            let needed = Segment::bytes_of(shape)?;
            anyhow::ensure!(
                needed <= most,
                "a segment has up to {} (most of it never becomes memory), and files may have {}: \
                    ulimit -f unlimited",
                human::bytes(needed),
                human::bytes(most)
            );
            Segment::create_in(files.parts(), shape).context("cannot make the segment of counters")
        })?;
        files.seal()?;
        let (kept, ended) = (AtomicUsize::new(0), Mutex::default());
        let this = Self { segment, files, kept, ended, returns: room.returns };
        this.segment.set_measured(this.bytes());
        Ok(this)
    }

    /// Refuses a budget in which not even one thread could count.
    ///
    /// # Errors
    /// Says what is needed.
    pub(super) fn check_budget(&self) -> anyhow::Result<()> {
        let budget = self.segment.shape().budget;
        let stacks = if self.segment.stacks().is_some() { STACKS_START } else { 0 };
        let cells = self.segment.cells_len() as u64;
        let sites = self.segment.functions_len() as u64 * BYTES_PER_SITE;
        let needed = self.bytes() + cells + sites + stacks + AGENT_START;
        if needed > budget {
            let (needed, budget) = (human::bytes(needed), human::bytes(budget));
            let functions = self.segment.functions_len();
            let why = format!(
                "--max-memory {budget} is too little for {functions} functions: one thread needs \
                    {needed}"
            );
            return Err(Failure::error(
                USAGE,
                format!("{why}; choose fewer functions, or entry: instead of times"),
            ));
        }
        Ok(())
    }

    /// A segment that a process counts in whose command line has ended: its tables are only read.
    ///
    /// # Errors
    /// The files are none, or of another version.
    pub(super) fn of_another(tables: File, counters: File) -> anyhow::Result<Self> {
        let files = Files::of_another(tables, counters);
        let segment = Segment::look_at(files.parts())?;
        let (kept, ended) = (AtomicUsize::new(0), Mutex::default());
        Ok(Self { segment, files, kept, ended, returns: None })
    }

    /// A segment that a run has left.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let files = Files::left(path)?;
        let segment = Segment::open(files.parts()).with_context(|| path.display().to_string())?;
        let (kept, ended) = (AtomicUsize::new(0), Mutex::default());
        Ok(Self { segment, files, kept, ended, returns: None })
    }

    /// The file of the counters.
    pub(crate) fn counters(&self) -> &File {
        self.files.counters()
    }

    /// Lets the user's file, if there is one, have what the tables have by now. By one caller at a
    /// time.
    ///
    /// # Errors
    /// It cannot be written to.
    pub(super) fn keep(&self) -> anyhow::Result<()> {
        let functions = self.segment.functions_len();
        // Relaxed: callers come one after the other.
        let kept = self.kept.load(Ordering::Relaxed);
        self.files.keep(self.segment.tables_since(kept)).context("cannot write the segment")?;
        self.kept.store(functions, Ordering::Relaxed);
        Ok(())
    }

    /// What agents get of the tables: it can only be read.
    pub(super) fn read_only(&self) -> anyhow::Result<File> {
        sys::read_only(self.files.tables())
            .context("the tables cannot be opened for reading (is /proc there?)")
    }

    /// Memory that holds the segment.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.bytes()
    }

    /// What agents wrote to their log.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&self.segment.log_text()).into_owned()
    }

    /// Adds the object at `index` of `resolution` with its functions. What has no room any more is
    /// left out.
    pub(crate) fn add(
        &self,
        resolution: &Resolution,
        index: usize,
        armed: &mut Vec<Armed>,
        left_out: &mut Vec<Armed>,
    ) -> Option<usize> {
        let first = self.segment.functions_len();
        let place = self.segment.objects_len();
        let selection = &resolution.selections[index];
        for (at, function) in selection.functions.iter().enumerate() {
            let kind = kind(function, self.segment.stacks());
            let added = self.segment.add_cell(cell_bytes(kind)).and_then(|cell| {
                self.segment.add_function(place, &described(function, kind, cell))
            });
            match added {
                Ok(number) => {
                    debug_assert_eq!(
                        number,
                        armed.len(),
                        "functions are added here only, in order"
                    );
                    armed.push(Armed { object: index, function: at });
                }
                Err(_) => left_out.push(Armed { object: index, function: at }),
            }
        }
        let object = &resolution.objects[index];
        let functions = first..self.segment.functions_len();
        let returns = self.returns;
        let entries_only = self.segment.stacks().is_some_and(|stacks| !stacks.timed);
        let Resolution { runs, walked, .. } = *resolution;
        let wanted = planning::Wanted { runs, entries_only, returns, walked };
        let plans = planning::catalogue(object, &selection.functions, wanted);
        let added = self.segment.add_object(&identity(object), functions, plans.bytes()).ok();
        self.segment.set_unwind_tables(place, unsaid(&object.elf));
        self.segment.set_hooks(place, planning::hooks(object));
        added
    }
}

pub(super) fn identity(object: &Object) -> Identity {
    Identity {
        dev: object.device,
        ino: object.inode,
        changed: object.changed,
        build_id: object.elf.build_id().unwrap_or(&[]).to_vec(),
        path: object.path.as_os_str().as_bytes().to_vec(),
    }
}

/// What is recorded of a function.
fn kind(function: &Function, stacks: Option<Stacks>) -> wire::Kind {
    let timed = function.kind != Kind::Entry && stacks.is_none_or(|stacks| stacks.timed);
    if timed { wire::Kind::Time } else { wire::Kind::Count }
}

fn described(function: &Function, kind: wire::Kind, cell: u32) -> wire::Function {
    let word = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    wire::Function {
        address: function.address,
        size: word(function.size),
        after: word(function.padding),
        offset: word(function.offset),
        kind,
        returns: function.entry_only.is_none() && function.returns,
        cell,
    }
}

fn cell_bytes(kind: wire::Kind) -> usize {
    if kind == wire::Kind::Count { COUNT_BYTES } else { TIMED_BYTES }
}
