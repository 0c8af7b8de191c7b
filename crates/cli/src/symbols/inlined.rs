//! Functions that the compiler has inlined, from debug information: how often, and in what. There
//! is nothing to probe where they are, which is worth saying.
//!
//! Files that `dwz` has shared out and split debug information (`.dwo`) are not followed.

use super::debug_entries::{Index, Name};
use super::debug_files::separate;
use super::elf::{Elf, Section};
use super::object::Object;
use flate2::read::ZlibDecoder;
use gimli::{Dwarf, EndianSlice, LittleEndian};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read as _;

/// A compressed section that unpacks to more is left alone.
const LARGEST_UNPACKED: u64 = 256 << 20;
/// Bytes before what is compressed, which say how.
const COMPRESSION_HEADER: usize = 24;
/// zlib's number there; zstd's is 2.
const ZLIB: u8 = 1;
/// Where names and functions are; other debug information is not unpacked for them.
const SECTIONS: [&str; 7] = [
    ".debug_abbrev",
    ".debug_addr",
    ".debug_info",
    ".debug_line",
    ".debug_line_str",
    ".debug_str",
    ".debug_str_offsets",
];

/// Where one function is inlined.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Inlined {
    pub(crate) places: usize,
    /// The functions that have it in them, by the names to show.
    pub(crate) within: BTreeSet<String>,
}

/// The inlined functions of an object that were asked for, by the names to show.
pub(crate) type Found = BTreeMap<String, Inlined>;

/// The functions of `object` that are inlined somewhere and whose names `means` takes. Reads debug
/// information for as long as there is `room` for it (bytes), and takes that from `room`: 0
/// afterwards means that some was left out.
pub(crate) fn inlined<M>(object: &Object, room: &mut usize, means: M) -> Found
where
    M: Fn(&Name<'_>) -> bool,
{
    if has_information(&object.elf) {
        return in_file(&object.elf, room, means);
    }
    let separate = separate(&object.elf, &object.path);
    separate.map_or_else(Found::new, |(_, debug)| in_file(&debug, room, means))
}

fn has_information(elf: &Elf<'_>) -> bool {
    elf.section(".debug_info").is_some_and(|section| !section.data.is_empty())
}

fn in_file(elf: &Elf<'_>, room: &mut usize, means: impl Fn(&Name<'_>) -> bool) -> Found {
    let contents: HashMap<&str, Cow<'_, [u8]>> = elf
        .sections
        .iter()
        .filter(|section| SECTIONS.contains(&section.name))
        .filter_map(|section| Some((section.name, content(section)?)))
        .collect();
    let load = |id: gimli::SectionId| {
        let bytes = contents.get(id.name()).map_or(&[][..], |bytes| &**bytes);
        Ok::<_, gimli::Error>(EndianSlice::new(bytes, LittleEndian))
    };
    let Ok(dwarf) = Dwarf::load(load) else { return Found::new() };
    let mut index = Index::default();
    let mut units = dwarf.units();
    while let Ok(Some(header)) = units.next() {
        let Some(left) = room.checked_sub(header.length_including_self()) else {
            *room = 0;
            break;
        };
        *room = left;
        // What is damaged ends its unit.
        if let Ok(unit) = dwarf.unit(header) {
            let _ = index.read(unit.unit_ref(&dwarf));
        }
    }
    find(&index, means)
}

/// What a section holds, unpacked.
fn content<'a>(section: &Section<'a>) -> Option<Cow<'a, [u8]>> {
    if !section.compressed {
        return Some(Cow::Borrowed(section.data));
    }
    let packed = section.data.get(COMPRESSION_HEADER..)?;
    if section.data[0] != ZLIB {
        return None;
    }
    let mut unpacked = Vec::new();
    ZlibDecoder::new(packed).take(LARGEST_UNPACKED + 1).read_to_end(&mut unpacked).ok()?;
    (unpacked.len() as u64 <= LARGEST_UNPACKED).then_some(Cow::Owned(unpacked))
}

/// What of `index` has a name that `means` takes.
fn find(index: &Index<'_>, means: impl Fn(&Name<'_>) -> bool) -> Found {
    let mut wanted: HashMap<usize, Option<String>> = HashMap::new();
    let mut found = Found::new();
    for (of, within) in &index.places {
        let shown = wanted.entry(*of).or_insert_with(|| {
            let name = index.name(*of).filter(|name| means(name))?;
            Some(name.display())
        });
        let Some(shown) = shown else { continue };
        // A function that has no code has no places: its instances have.
        if index.entries.get(within).is_none_or(|function| function.pattern) {
            continue;
        }
        let inlined = found.entry(shown.clone()).or_default();
        inlined.places += 1;
        inlined.within.extend(index.name(*within).map(|name| name.display()));
    }
    found
}
