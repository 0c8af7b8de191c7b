//! The segment, and which of its functions is which of ours.

use super::leftovers;
use crate::resolve::Resolution;
use crate::select::Function;
use crate::spec::Kind;
use crate::symbols::object::Object;
use crate::sys;
use anyhow::Context;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tempfile::{NamedTempFile, TempPath};
use wire::cell::{COUNT_BYTES, TIMED_BYTES};
use wire::{Identity, Segment, Shape, Stacks};

/// Threads that can count at the same time, of all processes together. The file is sparse: places that nobody takes cost nothing.
const THREADS: usize = 4096;
/// Places for programs and libraries that appear during the run.
const LATER_OBJECTS: usize = 1024;
/// Places for their functions, when a spec could mean some.
const LATER_FUNCTIONS: usize = 16_384;
/// Largest cells of a thread that wire allows.
const MOST_CELL_BYTES: usize = 1 << 30;
/// What is free in /dev/shm must be at least this; else the segment goes to /tmp.
const SHARED_MEMORY: u64 = 16 << 20;

/// A function of the segment, by its index: the object in the resolution, and the function in that object's selection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Armed {
    pub(crate) object: usize,
    pub(crate) function: usize,
}

/// The segment, its file, and the functions in it.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) segment: Segment,
    file: File,
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
}

/// The names of a run's files. They are removed when this is dropped, but for a segment of the user's; what is mapped stays.
#[derive(Debug)]
pub(crate) struct Names {
    segment: Result<TempPath, PathBuf>,
    log: Option<TempPath>,
}

impl Names {
    /// The segment's.
    pub(crate) fn path(&self) -> &Path {
        match &self.segment {
            Ok(path) => path,
            Err(path) => path,
        }
    }

    /// What agents wrote to their log.
    pub(crate) fn log(&self) -> String {
        self.log
            .as_ref()
            .and_then(|log| std::fs::read(log).ok())
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .unwrap_or_default()
    }
}

impl Tables {
    /// Makes a segment with room for what `resolution` has, and for what may come.
    pub(crate) fn create(resolution: &Resolution, room: &Room) -> anyhow::Result<(Self, Names)> {
        let known = resolution.selections.iter().flat_map(|selection| &selection.functions);
        let (functions, bytes) =
            known.fold((0, 0), |(count, bytes), function| (count + 1, bytes + cell_bytes(kind(function, room.stacks))));
        let later = if resolution.specs.iter().any(|spec| spec.object.is_some() && !spec.exclude) { LATER_FUNCTIONS } else { 0 };
        let later_bytes = if room.stacks.is_some_and(|stacks| !stacks.timed) { COUNT_BYTES } else { TIMED_BYTES };
        let shape = Shape {
            objects: resolution.objects.len() + LATER_OBJECTS,
            functions: (functions + later).max(1),
            blocks: THREADS,
            cell_bytes: (bytes + later * later_bytes).clamp(TIMED_BYTES, MOST_CELL_BYTES),
            budget: room.budget,
            per_thread: room.per_thread,
            stacks: room.stacks,
        };
        let (file, path) = match &room.file {
            Some(path) => (own_file(path)?, Err(path.clone())),
            None => {
                let (file, path) = segment_file(room.stacks)?.into_parts();
                (file, Ok(path))
            }
        };
        let segment = Segment::create(&file, shape).context("cannot make the segment of counters")?;
        let log = tempfile::Builder::new().prefix(leftovers::PREFIX).suffix(leftovers::LOG).tempfile().ok();
        if let Some(log) = &log {
            segment.set_log_path(log.path().as_os_str().as_bytes());
        }
        Ok((Self { segment, file }, Names { segment: path, log: log.map(NamedTempFile::into_temp_path) }))
    }

    /// A segment that a run has left.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::options().read(true).write(true).open(path).with_context(|| path.display().to_string())?;
        let segment = Segment::from_file(&file).with_context(|| path.display().to_string())?;
        Ok(Self { segment, file })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Memory that holds the segment.
    pub(crate) fn bytes(&self) -> u64 {
        self.file().metadata().map_or(0, |metadata| metadata.blocks() * 512)
    }

    /// Adds the object at `index` of `resolution` with its functions. What has no room any more is left out: how many functions that are.
    pub(crate) fn add(&self, resolution: &Resolution, index: usize, armed: &mut Vec<Armed>) -> (Option<usize>, usize) {
        let first = self.segment.functions_len();
        let place = self.segment.objects_len();
        let selection = &resolution.selections[index];
        let mut left_out = 0;
        for (at, function) in selection.functions.iter().enumerate() {
            let kind = kind(function, self.segment.stacks());
            let added =
                self.segment.add_cell(cell_bytes(kind)).and_then(|cell| self.segment.add_function(place, &described(function, kind, cell)));
            match added {
                Ok(number) => {
                    debug_assert_eq!(number, armed.len(), "functions are added here only, in order");
                    armed.push(Armed { object: index, function: at });
                }
                Err(_) => left_out += 1,
            }
        }
        let object = &resolution.objects[index];
        let functions = first..self.segment.functions_len();
        (self.segment.add_object(&identity(object), functions).ok(), left_out)
    }
}

fn identity(object: &Object) -> Identity {
    Identity {
        dev: object.device,
        ino: object.inode,
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

/// A file that the user names. One that is there is replaced: another run may have it mapped.
fn own_file(path: &Path) -> anyhow::Result<File> {
    let cannot = || format!("cannot make the segment {}", path.display());
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(cannot),
        _ => {}
    }
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(path).with_context(cannot)?;
    sys::lock(&file);
    Ok(file)
}

/// In shared memory, which is never written to a disk, or else in the directory for temporary files. Mode 0600.
fn segment_file(stacks: Option<Stacks>) -> anyhow::Result<NamedTempFile> {
    let shared = Path::new("/dev/shm");
    let directories = [shared.to_path_buf(), std::env::temp_dir()];
    let wanted = SHARED_MEMORY + stacks.map_or(0, |stacks| stacks.depot_bytes as u64);
    let enough = |directory: &Path| directory != shared || sys::free_bytes(directory).is_some_and(|free| free >= wanted);
    let mut last = None;
    directories.iter().for_each(|directory| leftovers::sweep(directory));
    for directory in directories.iter().filter(|directory| enough(directory)) {
        match tempfile::Builder::new().prefix(leftovers::PREFIX).suffix(leftovers::SEGMENT).tempfile_in(directory) {
            Ok(file) => {
                // Tells later runs that this one is alive. Without it they may remove the name, which nobody needs but programs that are executed later.
                sys::lock(file.as_file());
                return Ok(file);
            }
            Err(error) => last = Some(error),
        }
    }
    let error = last.unwrap_or_else(|| std::io::Error::other("no room"));
    Err(error).context("no place for the segment in /dev/shm or /tmp; `trapline doctor` says more")
}
