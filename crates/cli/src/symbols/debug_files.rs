//! Files with more symbols of an object: by build identifier, by `.gnu_debuglink`, and the small
//! table inside `.gnu_debugdata`.

use super::elf::{Elf, PT_LOAD, u32_at};
use super::mapped::read;
use lzma_rust2::XzReader;
use std::io::Read as _;
use std::path::{Path, PathBuf};

const DEBUG_DIRECTORY: &str = "/usr/lib/debug";
/// A `.gnu_debugdata` that unpacks to more is left alone.
const LARGEST_UNPACKED: u64 = 256 << 20;
/// What unpacking may take, in KiB: the dictionary of `xz -9` and room to spare.
const MOST_MEMORY_KB: u32 = 256 << 10;

/// The file that the system installed for this object, if there is one.
pub(crate) fn separate(elf: &Elf<'_>, path: &Path) -> Option<(PathBuf, Elf<'static>)> {
    let id = elf.build_id();
    candidates(elf, path, Path::new(DEBUG_DIRECTORY)).into_iter().find_map(|(file, crc)| {
        let data = read(&file).ok()?.data;
        let debug = Elf::parse(data).ok()?;
        let same = match (id, debug.build_id()) {
            (Some(wanted), Some(found)) => wanted == found,
            // Without identifiers, the check sum over the whole file is what there is.
            _ => crc.is_some_and(|crc| crc32(data) == crc),
        };
        same.then_some((file, debug))
    })
}

/// The file that the system installed for the object of this build identifier. Its segments are
/// those of the object, with nothing in them.
pub(crate) fn by_build_id(id: &[u8]) -> Option<(PathBuf, Elf<'static>)> {
    in_directory(Path::new(DEBUG_DIRECTORY), id)
}

fn in_directory(root: &Path, id: &[u8]) -> Option<(PathBuf, Elf<'static>)> {
    let file = identified(root, id)?;
    let mut debug =
        Elf::parse(read(&file).ok()?.data).ok().filter(|debug| debug.build_id() == Some(id))?;
    // What lies at those offsets is something else; only the addresses count.
    debug.segments.retain(|segment| {
        segment.kind == PT_LOAD
            && segment.address.checked_add(segment.memory_size).is_some_and(|end| end < 1 << 47)
    });
    debug.segments.iter_mut().for_each(|segment| segment.file_size = segment.memory_size);
    Some((file, debug))
}

/// The file that holds what dwz found to be the same in several files (`.gnu_debugaltlink`). `path`
/// is where `debug` lies.
pub(crate) fn supplement(debug: &Elf<'_>, path: &Path) -> Option<PathBuf> {
    let data = debug.section(".gnu_debugaltlink")?.data;
    let name = super::elf::string_at(data, 0).filter(|name| !name.is_empty())?;
    let id = data.get(name.len() + 1..)?;
    let beside = path.parent().unwrap_or(Path::new("/")).join(name);
    identified(Path::new(DEBUG_DIRECTORY), id)
        .into_iter()
        .chain([beside])
        .find(|file| file.is_file())
}

/// Where the file for a build identifier is below a debug directory.
fn identified(root: &Path, id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = id.split_first()?;
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(root.join(format!(".build-id/{first:02x}/{rest}.debug")))
}

/// Where such a file can be, and its check sum where one is known.
fn candidates(elf: &Elf<'_>, path: &Path, root: &Path) -> Vec<(PathBuf, Option<u32>)> {
    let mut files = Vec::new();
    files.extend(elf.build_id().and_then(|id| identified(root, id)).map(|file| (file, None)));
    if let Some((name, crc)) = link(elf) {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let inside = directory.strip_prefix("/").unwrap_or(directory);
        files.extend(
            [
                directory.join(name),
                directory.join(".debug").join(name),
                root.join(inside).join(name),
            ]
            .map(|file| (file, Some(crc))),
        );
    }
    files.retain(|(file, _)| file != path);
    files
}

/// The name and the check sum in `.gnu_debuglink`.
fn link<'a>(elf: &Elf<'a>) -> Option<(&'a str, u32)> {
    let data = elf.section(".gnu_debuglink")?.data;
    let name =
        super::elf::string_at(data, 0).filter(|name| !name.is_empty() && !name.contains('/'))?;
    Some((name, u32_at(data, (name.len() + 1).next_multiple_of(4))?))
}

/// The table that Fedora and others pack into each object.
pub(crate) fn packed(elf: &Elf<'_>) -> Option<Elf<'static>> {
    let section = elf.section(".gnu_debugdata").filter(|section| !section.data.is_empty())?;
    let mut unpacked = Vec::new();
    let reader = XzReader::new_mem_limit(section.data, false, MOST_MEMORY_KB);
    reader
        .take(LARGEST_UNPACKED + 1)
        .read_to_end(&mut unpacked)
        .ok()
        .filter(|&size| size as u64 <= LARGEST_UNPACKED)?;
    // Lives as long as the names that are read from it: as long as the process.
    Elf::parse(unpacked.leak()).ok()
}

/// CRC-32 as gdb and binutils use it for `.gnu_debuglink` (ISO 3309, reflected, polynomial
/// 0xEDB88320).
fn crc32(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut value = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 != 0 { 0xEDB8_8320 ^ (value >> 1) } else { value >> 1 };
                bit += 1;
            }
            table[byte] = value;
            byte += 1;
        }
        table
    };
    !data
        .iter()
        .fold(!0, |crc, &byte| TABLE[((crc ^ u32::from(byte)) & 0xff) as usize] ^ (crc >> 8))
}

#[cfg(test)]
mod tests {
    use super::{crc32, in_directory};
    use crate::symbols::elf::Elf;
    use crate::symbols::table::Table;
    use std::process::Command;

    #[test]
    fn a_file_for_a_build_identifier_has_the_functions() {
        let directory = tempfile::tempdir().expect("a directory");
        let directory = directory.path();
        let run = |program: &str, arguments: &[&str]| {
            Command::new(program)
                .args(arguments)
                .current_dir(directory)
                .status()
                .is_ok_and(|status| status.success())
        };
        std::fs::write(
            directory.join("a.c"),
            "int worker(int n) { return n * 3; } int main(void) { return worker(0); }",
        )
        .expect("a file");
        if !(run("cc", &["-g", "-Wl,--build-id=0xabcdef", "-o", "a", "a.c"])
            && run("objcopy", &["--only-keep-debug", "a", "debug"]))
        {
            return;
        }
        let at = |elf: Elf<'static>| {
            let table = Table::new(elf, &[]);
            let site =
                table.sites().find(|site| site[0].name == "worker").expect("a symbol").to_vec();
            (site[0].address, table.name_at(site[0].address + 3))
        };
        std::fs::create_dir_all(directory.join(".build-id/ab")).expect("a directory");
        let file = directory.join(".build-id/ab/cdef.debug");
        std::fs::rename(directory.join("debug"), &file).expect("a move");
        let whole = Elf::parse(std::fs::read(directory.join("a")).expect("a file").leak())
            .expect("an ELF file");
        let (found, debug) = in_directory(directory, &[0xab, 0xcd, 0xef]).expect("found");
        assert_eq!(found, file);
        assert_eq!(at(debug), at(whole));
        // One of another build under this name is not taken.
        std::fs::rename(&file, directory.join(".build-id/ab/cd.debug")).expect("a move");
        assert!(
            in_directory(directory, &[0xab, 0xcd]).is_none()
                && in_directory(directory, &[]).is_none()
        );
    }

    #[test]
    fn the_check_value_of_crc_32() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
    }
}
