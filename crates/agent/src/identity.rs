//! Which file an object in memory is.
//!
//! Its name alone does not say: it may be relative to a directory that was left since, belong to a
//! memory file or a file that is gone, or lead to another file that took its place. The kernel
//! knows the file of each mapping (proc_pid_maps(5)); its path and its name are compared by device
//! and inode.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::ops::{ControlFlow, Range};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use unwind::ProgramHeader;
use wire::Identity;

/// The program itself, which has no name in the loader's lists.
const PROGRAM: &[u8] = b"/proc/self/exe";
/// What the kernel appends to the path of a file that has no name any more.
const DELETED: &[u8] = b" (deleted)";
/// Longest segment of notes that is looked at, in bytes.
const MOST_NOTES: u64 = 64 << 10;

/// Finds files of mappings. The kernel's list is read once, when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Identifier {
    mappings: Option<Vec<Mapping>>,
}

/// A mapping of a file.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    range: Range<u64>,
    dev: u64,
    ino: u64,
    path: Vec<u8>,
}

impl Identifier {
    /// The file that is mapped at `address` and that the loader calls `name`; without a build-id.
    ///
    /// # Context
    /// Allocates, makes system calls.
    pub(crate) fn identify(&mut self, name: &[u8], address: u64) -> Identity {
        if name.is_empty() {
            let path = program();
            return found(PROGRAM, path.clone())
                .unwrap_or(Identity { path, ..Identity::default() });
        }
        let named = found(name, name.to_vec());
        let mappings = self.mappings.get_or_insert_with(mappings);
        let at = mappings.partition_point(|m| m.range.end <= address);
        let Some(mapping) = mappings.get(at).filter(|m| m.range.contains(&address)) else {
            return named.unwrap_or(Identity { path: name.to_vec(), ..Identity::default() });
        };
        choose(name, named, mapping, found(&mapping.path, mapping.path.clone()))
    }
}

/// The file, of what the name leads to (`named`) and what the mapping's path leads to (`mapped`).
fn choose(
    name: &[u8],
    named: Option<Identity>,
    mapping: &Mapping,
    mapped: Option<Identity>,
) -> Identity {
    // Names in /proc mean something to this process only, relative ones to its directory.
    let lasting = name.starts_with(b"/") && !name.starts_with(b"/proc/");
    let same = |a: &Identity, dev, ino| (a.dev, a.ino) == (dev, ino);
    match (named, mapped) {
        // Not compared with the mapping's own numbers: some file systems have two kinds of them.
        (Some(named), Some(mapped)) if same(&named, mapped.dev, mapped.ino) => {
            Identity { path: if lasting { named.path } else { mapped.path }, ..named }
        }
        // It has no path any more, or none here; the name leads to it all the same.
        (Some(named), None) if same(&named, mapping.dev, mapping.ino) => {
            let path = if lasting { name } else { without_mark(&mapping.path) };
            Identity { path: path.to_vec(), ..named }
        }
        // In another root directory than the kernel's list is written for.
        (Some(named), None) if !mapping.path.ends_with(DELETED) => named,
        // The name leads elsewhere by now.
        (_, Some(mapped)) => mapped,
        (_, None) => Identity {
            dev: mapping.dev,
            ino: mapping.ino,
            path: without_mark(&mapping.path).to_vec(),
            ..Identity::default()
        },
    }
}

/// Path of the program.
pub(crate) fn program() -> Vec<u8> {
    let path = std::fs::read_link(OsStr::from_bytes(PROGRAM));
    path.map(|p| p.into_os_string().as_bytes().to_vec()).unwrap_or_default()
}

fn without_mark(path: &[u8]) -> &[u8] {
    path.strip_suffix(DELETED).unwrap_or(path)
}

/// The file at `path`, to be called `shown`.
fn found(path: &[u8], shown: Vec<u8>) -> Option<Identity> {
    let metadata = fs::metadata(OsStr::from_bytes(path)).ok()?;
    let nanoseconds = metadata.ctime().wrapping_mul(1_000_000_000) + metadata.ctime_nsec();
    Some(Identity {
        dev: metadata.dev(),
        ino: metadata.ino(),
        changed: nanoseconds.cast_unsigned(),
        build_id: Vec::new(),
        path: shown,
    })
}

/// The mappings of files, ascending. Empty when /proc is not there.
fn mappings() -> Vec<Mapping> {
    let mut all = Vec::new();
    // A list that breaks off is as long as it is: names serve for the rest.
    let _ = sys::mappings::read(&mut [0; 8 << 10], |line| {
        all.extend(parse(line));
        ControlFlow::Continue(())
    });
    all
}

/// The mapping of a line of the list, if it is a file's.
fn parse(line: &[u8]) -> Option<Mapping> {
    let sys::mappings::Mapping { range, dev, ino, path, .. } = sys::mappings::Mapping::parse(line)?;
    (ino != 0).then(|| Mapping { range, dev, ino, path: unescaped(path) })
}

/// A path as it is: the kernel writes line ends in it as `\012`.
fn unescaped(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, behind)) = rest.split_first() {
        let line_end = rest.strip_prefix(b"\\012");
        plain.push(if line_end.is_some() { b'\n' } else { *first });
        rest = line_end.unwrap_or(behind);
    }
    plain
}

/// The build-id of the object at `base`. Its headers are not believed: what they say is loaded may
/// lie behind the end of its file, where a look would kill.
pub(crate) fn build_id(base: u64, headers: &[ProgramHeader]) -> Option<Vec<u8>> {
    let mut memory = None;
    headers.iter().filter(|h| h.p_type == libc::PT_NOTE).find_map(|header| {
        if memory.is_none() {
            memory = File::open("/proc/self/mem").ok();
        }
        let mut notes = vec![0; header.p_filesz.min(MOST_NOTES) as usize];
        memory.as_ref()?.read_exact_at(&mut notes, base.wrapping_add(header.p_vaddr)).ok()?;
        wire::build_id_in(&notes).map(<[u8]>::to_vec)
    })
}

#[cfg(test)]
mod tests {
    use super::{Mapping, choose, parse};
    use wire::Identity;

    #[test]
    fn lines_of_the_kernels_list() {
        let dev = libc::makedev(0xfe, 1);
        let parsed = |line: &str| parse(line.as_bytes());
        let path = |path: &str| {
            Some(Mapping { range: 0x1000..0x2000, dev, ino: 7, path: path.as_bytes().to_vec() })
        };
        let line = "1000-2000 r-xp 00001000 fe:01 7";
        assert_eq!(parsed(&format!("{line}      /a/b c.so")), path("/a/b c.so"));
        assert_eq!(parsed(&format!("{line}      /a\\012b")), path("/a\nb"));
        assert_eq!(parsed(&format!("{line}      /memfd:x (deleted)")), path("/memfd:x (deleted)"));
        assert_eq!(parsed("1000-2000 rw-p 00000000 00:00 0 [heap]"), None);
        for bad in ["", "1000", "1000-2000 r-xp 0 fe:01 ", "x-y r-xp 0 fe:01 7 /a"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_file_that_is_mapped_whatever_its_name_leads_to() {
        let file = |ino, path: &str| {
            Some(Identity {
                dev: 1,
                ino,
                changed: ino + 100,
                path: path.into(),
                ..Identity::default()
            })
        };
        let at = |ino, path: &str| Mapping { range: 0..1, dev: 1, ino, path: path.into() };
        // Name, what it leads to, mapping, what its path leads to: inode, change and path.
        for (name, named, mapping, mapped, ino, changed, path) in [
            ("/l.so", file(5, "/l.so"), at(5, "/l.so.1"), file(5, "/l.so.1"), 5, 105, "/l.so"),
            ("./l.so", file(5, "./l.so"), at(5, "/d/l.so"), file(5, "/d/l.so"), 5, 105, "/d/l.so"),
            // The directory was left since; another file has the name there.
            ("l.so", None, at(5, "/d/l.so"), file(5, "/d/l.so"), 5, 105, "/d/l.so"),
            ("l.so", file(6, "l.so"), at(5, "/d/l.so"), file(5, "/d/l.so"), 5, 105, "/d/l.so"),
            // Numbers of another kind in the list, as on overlays.
            ("/l.so", file(5, "/l.so"), at(9, "/l.so"), file(5, "/l.so"), 5, 105, "/l.so"),
            // A memory file, still open or not.
            (
                "/proc/self/fd/3",
                file(5, "3"),
                at(5, "/memfd:p (deleted)"),
                None,
                5,
                105,
                "/memfd:p",
            ),
            ("/proc/self/fd/3", None, at(5, "/memfd:p (deleted)"), None, 5, 0, "/memfd:p"),
            // Another file has the name by now.
            ("/l.so", file(6, "/l.so"), at(5, "/l.so (deleted)"), None, 5, 0, "/l.so"),
            // In a root directory of its own.
            ("/l.so", file(6, "/l.so"), at(5, "/r/l.so"), None, 6, 106, "/l.so"),
        ] {
            let chosen = choose(name.as_bytes(), named, &mapping, mapped);
            let path = path.as_bytes();
            assert_eq!((chosen.ino, chosen.changed, &*chosen.path), (ino, changed, path), "{name}");
        }
    }
}
