//! Processes that count without a command line: what `attach` has begun, and what killed runs have
//! left. They have the segment mapped; its files are opened by their descriptors, or, by root, by
//! their mappings.

use super::tables::Tables;
use crate::model::meta::Meta;
use crate::processes;
use anyhow::Context as _;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Names of files that nobody but trapline has.
const TABLES: &str = "/memfd:trapline-tables.segment";
const COUNTERS: &str = "/memfd:trapline-counters.segment";
/// That of an image.
const IMAGE: &str = "/memfd:trapline";
/// What the kernel puts behind it.
const DELETED: &str = " (deleted)";

/// A process with probes in it.
#[derive(Debug)]
pub(crate) struct Armed {
    pub(crate) pid: i32,
    pub(crate) name: String,
    /// Its segment, or why it cannot be opened.
    pub(crate) tables: anyhow::Result<Tables>,
    /// What it is for, if that is known.
    pub(crate) meta: Option<Meta>,
}

impl Armed {
    /// The command line that counts in it, if it has not ended.
    pub(crate) fn owner(&self) -> Option<u32> {
        let owner = self.tables.as_ref().ok()?.segment.owner();
        processes::is_trapline(owner.cast_signed()).then_some(owner)
    }
}

/// A mapping of a file of a segment.
struct Mapped {
    range: String,
    inode: u64,
}

/// What of a process's mappings is ours: tables, counters. None: it has no image, or none that is
/// in use.
fn mapped(pid: i32) -> Option<[Mapped; 2]> {
    let maps = processes::maps(pid).ok()?;
    let maps = String::from_utf8_lossy(&maps);
    let (mut has_image, mut tables, mut counters) = (false, None, None);
    for line in maps.lines() {
        let Some((fields, file)) = line.split_once("/memfd:") else { continue };
        let file = format!("/memfd:{file}");
        let mut fields = fields.split_ascii_whitespace();
        let (Some(range), Some(rights)) = (fields.next(), fields.next()) else { continue };
        let inode = fields.nth(2).and_then(|inode| inode.parse().ok());
        let file = file.strip_suffix(DELETED).unwrap_or(&file);
        let place = match file {
            TABLES => &mut tables,
            COUNTERS => &mut counters,
            IMAGE => {
                has_image |= rights.contains('x');
                continue;
            }
            _ => continue,
        };
        if let Some(inode) = inode.filter(|_| rights.ends_with('s')) {
            *place = Some(Mapped { range: range.to_string(), inode });
        }
    }
    has_image.then_some(())?;
    Some([tables?, counters?])
}

/// The descriptors that a process has of files of segments.
pub(super) fn descriptors(pid: i32) -> Vec<u64> {
    /// What is left of a memory file of the image's.
    const IMAGE: &str = "/memfd:trapline (";
    let links = fs::read_dir(processes::folder(pid).join("fd")).into_iter().flatten().flatten();
    let ours = |link: fs::DirEntry| {
        let file = fs::read_link(link.path()).ok()?;
        let file = file.to_str()?;
        [TABLES, COUNTERS, IMAGE].iter().any(|ours| file.starts_with(ours)).then_some(())?;
        link.file_name().to_str()?.parse().ok()
    };
    links.filter_map(ours).collect()
}

fn open(pid: i32, mapped: &Mapped, writable: bool) -> anyhow::Result<File> {
    let is_it = |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.ino() == mapped.inode);
    let by_number = |n: u64| processes::folder(pid).join("fd").join(n.to_string());
    let path = descriptors(pid).into_iter().map(by_number).find(is_it);
    // A thread's folder has no such list of the mappings' files.
    let map_files = Path::new("/proc").join(pid.to_string()).join("map_files");
    let path = path.unwrap_or_else(|| map_files.join(&mapped.range));
    let opened = File::options().read(true).write(writable).open(path);
    opened.context("its counters can be opened only by root: it has closed its descriptors of them")
}

/// The process, if there are probes in it.
pub(crate) fn find(pid: i32) -> Option<Armed> {
    let [tables, counters] = mapped(pid)?;
    let opened = open(pid, &tables, false).and_then(|tables| {
        let counters = open(pid, &counters, true)?;
        Tables::of_another(tables, counters)
    });
    let meta = opened.as_ref().ok().map(|tables| tables.segment.meta());
    let meta = meta.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    Some(Armed { pid, name: processes::name(pid), tables: opened, meta })
}

/// All processes with probes in them that can be looked at.
pub(crate) fn all() -> Vec<Armed> {
    processes::all_numbers().into_iter().filter_map(find).collect()
}

/// Whether probes are to stay in a process although no command line counts there.
pub(super) fn is_in_background(pid: i32) -> bool {
    find(pid).and_then(|armed| armed.meta).is_some_and(|meta| meta.background)
}
