//! What running processes have mapped: their programs and libraries, each file read once however
//! many of them have it.

use super::c_library::CLibrary;
use super::opened;
use crate::exit::{FAILED, Failure};
use crate::processes;
use crate::symbols::object::Object;
use crate::text::visible;
use ::sys::mappings::Mapping;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use wire::Identity;

/// What the kernel puts behind the path of a file that has no name any more.
const DELETED: &[u8] = b" (deleted)";
/// What an image of ours is called there, and memory that it has made.
const IMAGE: &[u8] = b"/memfd:trapline";
/// Most bytes of notes and headers of an object in memory that are looked through.
const MOST_NOTES: u64 = 64 << 10;
/// `PT_LOAD`, `PT_NOTE`.
const LOAD: u32 = 1;
const NOTE: u32 = 4;

/// A running process.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) name: String,
    /// What its program's file says.
    pub(crate) c_library: Option<CLibrary>,
}

/// The objects of some processes.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    /// Main programs.
    mains: Vec<Object>,
    others: Vec<Object>,
    /// Paths of files with code that cannot be read.
    unread: Vec<String>,
    /// The process that was added first, unless it is started for this run.
    first: Option<i32>,
    started: bool,
}

impl Objects {
    /// Of processes that are started for this run, and are not there to be named.
    pub(crate) fn of_started() -> Self {
        Self { started: true, ..Self::default() }
    }

    /// Adds what a process has mapped.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub(crate) fn add(&mut self, pid: i32) -> anyhow::Result<Loaded> {
        let (folder, files) = mapped(pid).map_err(|why| {
            Failure::error(FAILED, format!("process {pid} cannot be read: {why}"))
        })?;
        self.first.get_or_insert(pid);
        let main = main_program(&folder, &files);
        let mut loaded = Loaded { name: processes::name(pid), c_library: None };
        let memory = File::open(folder.join("mem")).ok();
        for (at, mut file) in files.into_iter().enumerate() {
            let is_main = main == Some(at);
            let known = self.find(&file.identity);
            let object = match known {
                Some(object) => object,
                None => {
                    file.identity.build_id = memory
                        .as_ref()
                        .and_then(|memory| build_id(memory, file.start))
                        .unwrap_or_default();
                    match opened::open(&folder, &file.identity, file.start) {
                        Some(object) => {
                            let mut object = as_mapped(object, &file.identity);
                            let program = processes::program_name(pid);
                            if is_main && !program.is_empty() {
                                object.mainly_called(&program);
                            }
                            self.keep(object, is_main)
                        }
                        None => {
                            let path = String::from_utf8_lossy(&file.identity.path);
                            self.unread.push(visible(&path).into_owned());
                            continue;
                        }
                    }
                }
            };
            if is_main {
                loaded.c_library = CLibrary::of_program(&object.elf);
            }
        }
        Ok(loaded)
    }

    /// The process that was added first, if it ran before.
    pub(crate) fn first(&self) -> Option<i32> {
        self.first.filter(|_| !self.started)
    }

    fn find(&self, file: &Identity) -> Option<&Object> {
        let same = |object: &&Object| (object.device, object.inode) == (file.dev, file.ino);
        self.mains.iter().chain(&self.others).find(same)
    }

    fn keep(&mut self, object: Object, is_main: bool) -> &Object {
        let list = if is_main { &mut self.mains } else { &mut self.others };
        list.push(object);
        &list[list.len() - 1]
    }

    /// Paths of what cannot be read; all others, the main programs first; and how many those are.
    pub(crate) fn in_order(mut self) -> (Vec<String>, Vec<Object>, usize) {
        let mains = self.mains.len();
        self.unread.sort_unstable();
        self.unread.dedup();
        (self.unread, self.mains.into_iter().chain(self.others).collect(), mains)
    }
}

/// The files that a process has mapped code of and that are not known; `None` for each that cannot
/// be read.
///
/// # Errors
/// The process cannot be looked at.
pub(super) fn unknown(
    pid: i32,
    is_known: impl Fn(&Identity) -> bool,
) -> std::io::Result<Vec<Option<Object>>> {
    let (folder, mut files) = mapped(pid)?;
    files.retain(|file| !is_known(&file.identity));
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let memory = File::open(folder.join("mem")).ok();
    let open = |mut file: Mapped| {
        let build_id = memory.as_ref().and_then(|memory| build_id(memory, file.start));
        file.identity.build_id = build_id.unwrap_or_default();
        let object = opened::open(&folder, &file.identity, file.start)?;
        Some(as_mapped(object, &file.identity))
    };
    Ok(files.into_iter().map(open).collect())
}

/// The object under the numbers that the kernel shows in lists of mappings, by which an image finds
/// it: some file systems have two for a file. When it was changed is not said there.
fn as_mapped(mut object: Object, file: &Identity) -> Object {
    (object.device, object.inode, object.changed) = (file.dev, file.ino, 0);
    object
}

/// A file of which a process has mapped code.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mapped {
    identity: Identity,
    /// Where the file's first byte is, or the first that is mapped.
    start: u64,
}

/// The files of a process, and its folder in /proc, or that of a thread if the first one has ended:
/// then nothing is to be seen in the process's.
fn mapped(pid: i32) -> std::io::Result<(PathBuf, Vec<Mapped>)> {
    let files = files(&processes::maps(pid)?);
    if files.is_empty() {
        return Err(std::io::Error::other("it has nothing mapped"));
    }
    Ok((processes::folder(pid), files))
}

/// The files with code in a list of mappings.
fn files(maps: &[u8]) -> Vec<Mapped> {
    let mut found: Vec<Mapped> = Vec::new();
    let mut starts: Vec<Mapped> = Vec::new();
    for line in maps.split(|byte| *byte == b'\n').filter_map(Line::parse) {
        // An image of ours is no part of the program.
        if line.identity.path == IMAGE {
            continue;
        }
        let file = Mapped { identity: line.identity, start: line.range.start };
        if line.offset == 0 {
            starts.push(file.clone());
        }
        if line.executable && !found.iter().any(|known| known.identity == file.identity) {
            let start = starts.iter().rev().find(|start| start.identity == file.identity);
            found.push(start.cloned().unwrap_or(file));
        }
    }
    found
}

/// A line of a list of mappings that is of a file.
struct Line {
    range: Range<u64>,
    executable: bool,
    offset: u64,
    identity: Identity,
}

impl Line {
    fn parse(line: &[u8]) -> Option<Self> {
        let Mapping { range, executable, offset, dev, ino, path, .. } = Mapping::parse(line)?;
        let path = path.strip_suffix(DELETED).unwrap_or(path);
        // What the kernel escapes in a path cannot be opened by it, and is found by its numbers.
        let identity = Identity { dev, ino, path: path.to_vec(), ..Identity::default() };
        (ino != 0).then_some(Self { range, executable, offset, identity })
    }
}

/// Memory of a process that is code of a file: what a list of changes may have addresses of.
pub(super) fn code_of_files(maps: &[u8]) -> Vec<Range<u64>> {
    let lines = maps.split(|byte| *byte == b'\n').filter_map(Line::parse);
    let code = lines.filter(|line| line.executable && line.identity.path != IMAGE);
    code.map(|line| line.range).collect()
}

/// Whether a process has a file with this inode mapped, and shares it.
pub(crate) fn shares(pid: i32, inode: u64) -> bool {
    let maps = processes::maps(pid).unwrap_or_default();
    let inode = inode.to_string();
    String::from_utf8_lossy(&maps).lines().any(|line| maps_shared(line, &inode))
}

/// Whether a line of a process's mappings is of a file with this inode that it shares. Its device
/// is not compared: some file systems have two numbers for it.
fn maps_shared(line: &str, inode: &str) -> bool {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let shared = fields.next().is_some_and(|rights| rights.ends_with('s'));
    shared && fields.nth(2) == Some(inode)
}

/// Which of the files is the program.
fn main_program(folder: &Path, files: &[Mapped]) -> Option<usize> {
    let link = folder.join("exe");
    let numbers = fs::metadata(&link).ok().map(|file| (file.dev(), file.ino()));
    let same = |file: &Mapped| Some((file.identity.dev, file.identity.ino)) == numbers;
    // Some file systems have two numbers for a file.
    let path = fs::read_link(&link).ok();
    let path = path.as_ref().map(|path| path.as_os_str().as_bytes());
    let path = path.map(|path| path.strip_suffix(DELETED).unwrap_or(path));
    let called = |file: &Mapped| Some(&file.identity.path[..]) == path;
    files.iter().position(same).or_else(|| files.iter().position(called))
}

/// The build-id of an object in memory, whose file begins at `start`.
fn build_id(memory: &File, start: u64) -> Option<Vec<u8>> {
    let read = |at: u64, length: u64| {
        let mut bytes = vec![0; usize::try_from(length.min(MOST_NOTES)).ok()?];
        memory.read_exact_at(&mut bytes, at).ok().map(|()| bytes)
    };
    let word =
        |bytes: &[u8], at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let half =
        |bytes: &[u8], at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let header = read(start, 64)?;
    header.starts_with(b"\x7fELF").then_some(())?;
    let count = u64::from(half(&header, 56)? & 0xffff);
    let segments = read(start.checked_add(word(&header, 32)?)?, 56 * count)?;
    // Where the file says that its beginning is.
    let first = segments.chunks_exact(56).find(|segment| half(segment, 0) == Some(LOAD));
    let first = first.and_then(|segment| word(segment, 16)?.checked_sub(word(segment, 8)?))?;
    segments.chunks_exact(56).find_map(|segment| {
        (half(segment, 0)? == NOTE).then_some(())?;
        let place = start.wrapping_add(word(segment, 16)?.wrapping_sub(first));
        let notes = read(place, word(segment, 32)?)?;
        wire::build_id_in(&notes).map(<[u8]>::to_vec)
    })
}

#[cfg(test)]
mod tests {
    use super::{Line, Objects, build_id, code_of_files, files, mapped, maps_shared};
    use crate::run::c_library::CLibrary;
    use std::fs::File;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    #[test]
    fn lines() {
        let line = b"7f00-7f80 r-xp 00002000 08:01 77                         /usr/lib/a b.so";
        let found = Line::parse(line).expect("of a file");
        assert_eq!((found.range, found.executable, found.offset), (0x7f00..0x7f80, true, 0x2000));
        assert_eq!((found.identity.dev, found.identity.ino), (libc::makedev(8, 1), 77));
        assert_eq!(found.identity.path, b"/usr/lib/a b.so");
        let gone = b"1000-2000 r-xp 00000000 00:05 9                          /tmp/x (deleted)";
        assert_eq!(Line::parse(gone).expect("of a file").identity.path, b"/tmp/x");
        for other in [
            &b"7ffc0000-7ffd0000 rw-p 00000000 00:00 0                  [stack]"[..],
            b"1000-2000 rw-p 00000000 00:00 0 ",
            b"",
            b"\xff\xff",
        ] {
            assert!(Line::parse(other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn only_files_with_code_and_where_they_begin() {
        let maps = b"1000-2000 r--p 00000000 08:01 5  /a\n2000-3000 r-xp 00001000 08:01 5  /a\n\
            4000-5000 r--p 00000000 08:01 6  /data\n\
            6000-7000 r-xp 00000000 00:01 7  /memfd:trapline (deleted)\n";
        let found = files(maps);
        let found: Vec<_> = found.iter().map(|f| (f.start, &f.identity.path[..])).collect();
        assert_eq!(found, [(0x1000, &b"/a"[..])], "an image of ours is not the program's");
        let code = code_of_files(maps);
        assert_eq!((code.len(), code[0].clone()), (1, 0x2000..0x3000));
    }

    #[test]
    fn this_process_has_what_it_has() {
        let own = std::process::id().cast_signed();
        let mut objects = Objects::default();
        let loaded = objects.add(own).expect("readable");
        assert_eq!(loaded.c_library, Some(CLibrary::Glibc));
        let again = objects.add(own).expect("readable");
        assert_eq!(again.c_library, loaded.c_library);
        let (unread, all, mains) = objects.in_order();
        assert_eq!((mains, unread.is_empty()), (1, true));
        let file = std::fs::metadata("/proc/self/exe").unwrap();
        assert_eq!(all[0].inode, file.ino());
        let named = |name: &str| all.iter().filter(|object| object.name() == name).count();
        assert_eq!(named("libc.so.6"), 1, "read once");
    }

    #[test]
    fn build_ids_in_memory_are_those_of_the_files() {
        let own = std::process::id().cast_signed();
        let (folder, files) = mapped(own).unwrap();
        let memory = File::open(folder.join("mem")).unwrap();
        let libc = files.iter().find(|f| f.identity.path.ends_with(b"libc.so.6")).unwrap();
        let path = Path::new(std::str::from_utf8(&libc.identity.path).unwrap());
        let object = crate::symbols::object::Object::open(path).unwrap().unwrap();
        assert_eq!(build_id(&memory, libc.start).as_deref(), object.elf.build_id());
        assert!(object.elf.build_id().is_some());
        assert_eq!(build_id(&memory, 0), None);
    }

    #[test]
    fn lines_of_shared_mappings() {
        let line = "7f2c4e000000-7f2c4e021000 rw-s 00000000 00:01 1034  /memfd:trapline (deleted)";
        assert!(maps_shared(line, "1034"));
        assert!(!maps_shared(line, "103") && !maps_shared(line, "00:01"));
        assert!(!maps_shared(&line.replace("rw-s", "rw-p"), "1034"));
        assert!(!maps_shared("7f2c4e000000-7f2c4e021000", "1034") && !maps_shared("", "0"));
    }
}
