//! The file that a process has mapped.
//!
//! Its path serves where the process sees the same files as trapline does. Elsewhere, and where
//! the file has another name or none by now, the kernel leads to it: through the process's root
//! directory, what it executes, the mapping itself (`map_files`, for who may), or a descriptor that
//! the process still has.

use crate::symbols::object::Object;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use wire::Identity;

/// How memory files are called in lists of mappings.
const MEMORY_FILE: &str = "memfd:";

/// What is asked about: a file that is mapped at `address` in the process, or thread, that has the
/// folder `process` in /proc. `None`: it cannot be read, or is no program of ours.
pub(super) fn open(process: &Path, asked: &Identity, address: u64) -> Option<Object> {
    let path = Path::new(OsStr::from_bytes(&asked.path));
    let usable = |opened: anyhow::Result<Result<Object, _>>| {
        opened.ok()?.ok().filter(|object| is_asked_for(object, asked))
    };
    let by_path = || path.is_absolute().then(|| usable(Object::open(path))).flatten();
    let through = |file: PathBuf| usable(Object::open_elsewhere(path, &file));
    let inside = path.strip_prefix("/").unwrap_or(path);
    let mut object = by_path()
        .or_else(|| through(process.join("root").join(inside)))
        .or_else(|| is_executed(process, asked).then(|| through(process.join("exe"))).flatten())
        .or_else(|| mapping(process, address).and_then(through))
        .or_else(|| descriptor(process, asked).and_then(through))?;
    // A memory file's name is what the program gave it.
    if let Some(name) = object.name().strip_prefix(MEMORY_FILE).map(str::to_string) {
        object.called(&name);
    }
    Some(object)
}

fn is_asked_for(object: &Object, asked: &Identity) -> bool {
    (object.device, object.inode) == (asked.dev, asked.ino)
        || (!asked.build_id.is_empty() && object.elf.build_id() == Some(&asked.build_id[..]))
}

/// Whether the process executes the file.
fn is_executed(process: &Path, asked: &Identity) -> bool {
    let executed = fs::metadata(process.join("exe"));
    executed.is_ok_and(|file| (file.dev(), file.ino()) == (asked.dev, asked.ino))
}

/// The link to the file that is mapped at `address`.
fn mapping(process: &Path, address: u64) -> Option<PathBuf> {
    let directory = process.join("map_files");
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let names = fs::read_dir(&directory).ok()?.flatten().map(|entry| entry.file_name());
    let holds = |name: &OsStr| {
        let (start, end) = name.to_str()?.split_once('-')?;
        Some((hex(start)?..hex(end)?).contains(&address))
    };
    names.into_iter().find(|name| holds(name) == Some(true)).map(|name| directory.join(name))
}

/// The link of a descriptor that the process has of the file.
fn descriptor(process: &Path, asked: &Identity) -> Option<PathBuf> {
    let links = fs::read_dir(process.join("fd")).ok()?.flatten().map(|entry| entry.path());
    let same = |link: &PathBuf| {
        fs::metadata(link)
            .is_ok_and(|m| m.is_file() && (m.dev(), m.ino()) == (asked.dev, asked.ino))
    };
    links.into_iter().find(same)
}
