//! ELF objects in this process's memory, by the kernel's list of mappings and their own headers.
//!
//! Nothing of what is read is believed before it was compared with what is mapped: a mapping that
//! begins like an object may be a file that somebody looks at, and headers can be made by anybody.
//! What is an object has each of its segments where its headers say, mapped from the place in its
//! file that they name (or from no file: what is zeros, and code that its program has moved to
//! large pages), and its code can be executed. What is longer than what is mapped of it is cut.

use crate::peek::Memory;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::{ControlFlow, Range};
use sys::Errno;
use sys::mappings::{self, Mapping};

/// A program header, as files of 64 bits have it (`Elf64_Phdr`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ProgramHeader {
    /// What it is about: `PT_*`.
    pub p_type: u32,
    /// What may be done with it: `PF_*`.
    pub p_flags: u32,
    /// Where it is in the file.
    pub p_offset: u64,
    /// Where it is in memory, without the bias.
    pub p_vaddr: u64,
    /// Unused.
    pub p_paddr: u64,
    /// Bytes in the file.
    pub p_filesz: u64,
    /// Bytes in memory.
    pub p_memsz: u64,
    /// Alignment of the segment.
    pub p_align: u64,
}

impl ProgramHeader {
    pub(crate) const LOAD: u32 = 1;
    pub(crate) const GNU_EH_FRAME: u32 = 0x6474_e550;
    const EXECUTABLE: u32 = 1;
    const READABLE: u32 = 4;
    const BYTES: usize = size_of::<Self>();

    fn parse(bytes: &[u8; Self::BYTES]) -> Self {
        Self {
            p_type: word32(bytes, 0),
            p_flags: word32(bytes, 4),
            p_offset: word64(bytes, 8),
            p_vaddr: word64(bytes, 16),
            p_paddr: word64(bytes, 24),
            p_filesz: word64(bytes, 32),
            p_memsz: word64(bytes, 40),
            p_align: word64(bytes, 48),
        }
    }

    /// Whether it is a segment.
    pub(crate) fn loads(&self) -> bool {
        self.p_type == Self::LOAD
    }

    pub(crate) fn is_readable(&self) -> bool {
        self.p_flags & Self::READABLE != 0
    }

    /// Where it is in memory.
    pub(crate) fn place(&self, bias: u64) -> Range<u64> {
        let start = bias.wrapping_add(self.p_vaddr);
        start..start.saturating_add(self.p_memsz)
    }
}

fn word16(bytes: &[u8], at: usize) -> u16 {
    bytes[at..].first_chunk().map_or(0, |bytes| u16::from_ne_bytes(*bytes))
}

fn word32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

fn word64(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

/// An object that was found.
pub(crate) struct Object<'o> {
    /// The mapping that begins with its header.
    pub(crate) mapping: Mapping<'o>,
    /// What its addresses are above those in its file.
    pub(crate) bias: u64,
    pub(crate) headers: &'o [ProgramHeader],
    /// From its first to its last segment.
    pub(crate) range: Range<u64>,
    /// What is mapped, and can be read, of its readable segments.
    pub(crate) readable: Vec<Range<u64>>,
}

/// All objects of this process, by address.
///
/// # Errors
/// The list of mappings cannot be read.
pub(crate) fn objects<R>(see: &mut dyn FnMut(Object<'_>) -> R) -> Result<Vec<R>, Errno> {
    let mut mapped = Mapped::default();
    let mut text = vec![0; TEXT];
    mappings::read(&mut text, |line| {
        mapped.add(line);
        ControlFlow::Continue(())
    })?;
    let mut memory = Memory::own();
    Ok(find(&mapped, &mut |at, to| memory.read(at, to), see))
}

/// Room for a line of the list with the longest path, and more than the kernel gives at a time.
const TEXT: usize = 8 << 10;
const PAGE: u64 = 4096;
/// The kernel loads no program with more bytes of program headers.
const MOST_HEADERS: usize = (64 << 10) / ProgramHeader::BYTES;
const ELF_BYTES: usize = 64;
/// What is read of an object at first: with the program headers of most.
const FIRST_LOOK: usize = ELF_BYTES + 16 * ProgramHeader::BYTES;

const fn page_of(address: u64) -> u64 {
    address & !(PAGE - 1)
}

/// The list of mappings, kept.
#[derive(Default)]
struct Mapped {
    parts: Vec<Part>,
    /// Their paths, each once for mappings of one file that follow each other.
    paths: Vec<u8>,
}

/// A mapping.
struct Part {
    /// Without its path.
    mapping: Mapping<'static>,
    path: Range<usize>,
}

impl Mapped {
    fn add(&mut self, line: &[u8]) {
        let Some(mapping) = Mapping::parse(line) else { return };
        let last = self.parts.last().map_or(0..0, |part| part.path.clone());
        let path = if self.paths[last.clone()] == *mapping.path {
            last
        } else {
            let start = self.paths.len();
            self.paths.extend_from_slice(mapping.path);
            start..self.paths.len()
        };
        self.parts.push(Part { mapping: mapping.without_path(), path });
    }

    /// A mapping with its path.
    fn with_path(&self, part: &Part) -> Mapping<'_> {
        Mapping { path: &self.paths[part.path.clone()], ..part.mapping.clone() }
    }

    /// The mappings from the one with this address on.
    fn from(&self, address: u64) -> impl Iterator<Item = &Mapping<'static>> {
        let first = self.parts.partition_point(|part| part.mapping.range.end <= address);
        self.parts[first..].iter().map(|part| &part.mapping)
    }

    /// The mapping with this address.
    fn at(&self, address: u64) -> Option<&Mapping<'static>> {
        self.from(address).next().filter(|mapping| mapping.range.contains(&address))
    }

    /// What of `place` is mapped without a gap from its beginning on, by mappings that are fit.
    fn covered(&self, place: &Range<u64>, fit: impl Fn(&Mapping<'_>) -> bool) -> Range<u64> {
        let mut end = place.start;
        for mapping in self.from(place.start) {
            if end >= place.end || mapping.range.start > end || !fit(mapping) {
                break;
            }
            end = mapping.range.end.min(place.end);
        }
        place.start..end
    }

    /// The parts of `place` that can be read.
    fn readable(&self, place: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let mut at = place.start;
        core::iter::from_fn(move || {
            while at < place.end {
                let covered = self.covered(&(at..place.end), |mapping| mapping.readable);
                if !covered.is_empty() {
                    at = covered.end;
                    return Some(covered);
                }
                // On to the next one that can be read.
                let next = self.from(at).find(|m| m.readable && m.range.start > at)?;
                at = next.range.start;
            }
            None
        })
    }
}

/// Whether the second mapping can belong to the object that begins with the first: it is of the
/// same file, or of none.
fn belongs(first: &Mapping<'_>, other: &Mapping<'_>) -> bool {
    other.ino == 0 || (other.dev, other.ino) == (first.dev, first.ino)
}

type Read<'r> = &'r mut dyn FnMut(u64, &mut [u8]) -> usize;

fn find<R>(mapped: &Mapped, read: Read<'_>, see: &mut dyn FnMut(Object<'_>) -> R) -> Vec<R> {
    let mut found = Vec::new();
    let mut headers = Vec::new();
    // Where the last one was, and its first mapping.
    let mut last: Option<(Range<u64>, &Mapping<'_>)> = None;
    for part in &mapped.parts {
        let mapping = &part.mapping;
        // Two segments of a small file may be in one page of it, which is then mapped twice.
        let inside = last.as_ref().is_some_and(|(range, first)| {
            range.contains(&mapping.range.start) && belongs(first, mapping)
        });
        if inside
            || !may_begin(mapping)
            || read_headers(mapped, mapping, read, &mut headers).is_none()
        {
            continue;
        }
        let Some((bias, range)) = place(mapped, mapping, &headers) else { continue };
        let segments = headers.iter().filter(|h| h.loads() && h.is_readable());
        let own = |h: &ProgramHeader| mapped.covered(&h.place(bias), |m| belongs(mapping, m));
        let readable = segments.flat_map(|h| mapped.readable(own(h))).collect();
        last = Some((range.clone(), mapping));
        let mapping = mapped.with_path(part);
        found.push(see(Object { mapping, bias, headers: &headers, range, readable }));
    }
    found
}

/// Whether an object may begin with this mapping: it shows the beginning of a file, or is of none
/// and looks like what is not written any more.
fn may_begin(mapping: &Mapping<'_>) -> bool {
    let of_file = mapping.ino != 0 && mapping.offset == 0;
    mapping.readable && (of_file || (mapping.ino == 0 && !mapping.writable))
}

/// The program headers of the object that may begin with this mapping. `None`: none does.
fn read_headers(
    mapped: &Mapped,
    mapping: &Mapping<'_>,
    read: Read<'_>,
    headers: &mut Vec<ProgramHeader>,
) -> Option<()> {
    let start = mapping.range.start;
    let room = usize::try_from(mapping.range.end - start).unwrap_or(usize::MAX);
    let mut first = [0; FIRST_LOOK];
    let len = read(start, &mut first[..room.min(FIRST_LOOK)]);
    let first = first.get(..len)?;
    let (at, count) = elf(first)?;
    let bytes = count * ProgramHeader::BYTES;
    headers.clear();
    let mut add = |bytes: &[u8]| {
        let chunks = bytes.as_chunks::<{ ProgramHeader::BYTES }>().0;
        headers.extend(chunks.iter().map(ProgramHeader::parse));
    };
    let known = usize::try_from(at).ok().and_then(|at| first.get(at..at.checked_add(bytes)?));
    if let Some(known) = known {
        add(known);
        return Some(());
    }
    let mut all = vec![0; bytes];
    let address = in_memory(mapped, mapping, at)?;
    (read(address, &mut all) == bytes).then(|| add(&all))
}

/// Where the program headers are in a file that begins so, and how many. `None`: it is no object
/// that could be loaded.
fn elf(bytes: &[u8]) -> Option<(u64, usize)> {
    const CLASS_64: u8 = 2;
    const NATIVE_ENDIAN: u8 = if cfg!(target_endian = "little") { 1 } else { 2 };
    const PROGRAM: u16 = 2;
    const LIBRARY: u16 = 3;
    let header = bytes.get(..ELF_BYTES)?;
    let (kind, count) = (word16(header, 16), usize::from(word16(header, 56)));
    let good = header.starts_with(b"\x7fELF")
        && header[4] == CLASS_64
        && header[5] == NATIVE_ENDIAN
        && matches!(kind, PROGRAM | LIBRARY)
        && usize::from(word16(header, 54)) == ProgramHeader::BYTES
        && (1..=MOST_HEADERS).contains(&count);
    good.then(|| (word64(header, 32), count))
}

/// Where a byte of the file is that the mapping shows the beginning of.
fn in_memory(mapped: &Mapped, first: &Mapping<'_>, offset: u64) -> Option<u64> {
    if first.ino == 0 {
        return first.range.start.checked_add(offset);
    }
    // Tools that change files put the headers anywhere: into a segment of their own.
    let its = mapped.from(first.range.start).filter(|m| m.ino != 0 && belongs(first, m));
    let within = |m: &Mapping<'_>| {
        let inside = offset.checked_sub(m.offset)?;
        (inside < m.range.end - m.range.start).then(|| m.range.start + inside)
    };
    its.filter(|m| m.readable).find_map(within)
}

/// The bias of an object with these headers that begins with this mapping, and from where to where
/// it is. `None`: what the headers describe is not what is mapped.
fn place(
    mapped: &Mapped,
    first: &Mapping<'_>,
    headers: &[ProgramHeader],
) -> Option<(u64, Range<u64>)> {
    let segments = || headers.iter().filter(|h| h.loads() && h.p_memsz > 0);
    segments().any(|h| h.p_flags & ProgramHeader::EXECUTABLE != 0).then_some(())?;
    // The segment that the first mapping is of.
    let homes = segments().filter(|h| page_of(h.p_offset) == 0);
    homes.map(|h| first.range.start.wrapping_sub(page_of(h.p_vaddr))).find_map(|bias| {
        let ends = segments().map(|h| is_there(mapped, first, h, bias));
        let end = ends.reduce(|a, b| Some(a?.max(b?)))??;
        let start = segments().map(|h| h.place(bias).start).min()?;
        Some((bias, start..end))
    })
}

/// Whether a segment is where it should be: the end of what is mapped of it.
fn is_there(
    mapped: &Mapped,
    first: &Mapping<'_>,
    header: &ProgramHeader,
    bias: u64,
) -> Option<u64> {
    let place = header.place(bias);
    let page = page_of(place.start);
    let mapping = mapped.at(page)?;
    let needs_code = header.p_flags & ProgramHeader::EXECUTABLE != 0;
    let from_file = mapping.offset.wrapping_add(page - mapping.range.start);
    let good = belongs(first, mapping)
        && (mapping.executable || !needs_code)
        && (mapping.ino == 0 || from_file == page_of(header.p_offset))
        && !place.is_empty();
    good.then(|| mapped.covered(&place, |other| belongs(first, other)).end)
}

#[cfg(test)]
mod tests {
    use super::{ELF_BYTES, MOST_HEADERS, Mapped, ProgramHeader, find};
    use alloc::string::String;
    use alloc::vec;
    use alloc::vec::Vec;
    use core::ops::Range;
    use std::format;

    const R: u32 = 4;
    const RX: u32 = 5;
    const RW: u32 = 6;

    #[derive(Debug, PartialEq, Eq)]
    struct Found {
        bias: u64,
        range: Range<u64>,
        readable: Vec<Range<u64>>,
        path: String,
    }

    /// What is found where these are the mappings, and this is at these addresses.
    fn found(list: &str, memory: &[(u64, &[u8])]) -> Vec<Found> {
        let mut mapped = Mapped::default();
        list.lines().for_each(|line| mapped.add(line.trim_start().as_bytes()));
        let mut read = |address: u64, to: &mut [u8]| {
            let there = memory.iter().find_map(|(start, bytes)| {
                bytes.get(usize::try_from(address.checked_sub(*start)?).ok()?..)
            });
            let there = there.unwrap_or_default();
            let len = there.len().min(to.len());
            to[..len].copy_from_slice(&there[..len]);
            len
        };
        find(&mapped, &mut read, &mut |object| Found {
            bias: object.bias,
            range: object.range,
            readable: object.readable,
            path: String::from_utf8(object.mapping.path.to_vec()).unwrap(),
        })
    }

    fn load(p_flags: u32, p_offset: u64, p_vaddr: u64, p_memsz: u64) -> ProgramHeader {
        let p_type = ProgramHeader::LOAD;
        ProgramHeader { p_type, p_flags, p_offset, p_vaddr, p_memsz, ..ProgramHeader::default() }
    }

    fn header_bytes(h: &ProgramHeader) -> Vec<u8> {
        let words = [h.p_offset, h.p_vaddr, h.p_paddr, h.p_filesz, h.p_memsz, h.p_align];
        let first = [h.p_type, h.p_flags].map(u32::to_ne_bytes).concat();
        [first, words.map(u64::to_ne_bytes).concat()].concat()
    }

    /// The beginning of a file with these headers at `at`.
    fn file(at: u64, headers: &[ProgramHeader]) -> Vec<u8> {
        let mut bytes = vec![0; ELF_BYTES];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[16] = 3;
        bytes[32..40].copy_from_slice(&at.to_ne_bytes());
        bytes[54] = 56;
        bytes[56..58].copy_from_slice(&(headers.len() as u16).to_ne_bytes());
        if at == ELF_BYTES as u64 {
            headers.iter().for_each(|header| bytes.extend(header_bytes(header)));
        }
        bytes
    }

    const AT: u64 = 0x1000_0000;
    /// A library, loaded, and other mappings behind it.
    const LIBRARY: &str = "10000000-10001000 r--p 00000000 fe:01 7    /l.so
        10001000-10003000 r-xp 00001000 fe:01 7    /l.so
        10003000-10004000 r--p 00003000 fe:01 7    /l.so
        10004000-10005000 rw-p 00004000 fe:01 7    /l.so
        10005000-10006000 rw-p 00000000 00:00 0
        10006000-10007000 r--s 00000000 fe:01 9    /data
        7ffff000-80000000 rw-p 00000000 00:00 0    [stack]";

    fn segments() -> [ProgramHeader; 3] {
        [load(R, 0, 0, 0x800), load(RX, 0x1000, 0x1000, 0x1f00), load(RW, 0x3e00, 0x3e00, 0x2000)]
    }

    fn library() -> Found {
        Found {
            bias: AT,
            range: AT..AT + 0x5e00,
            readable: vec![AT..AT + 0x800, AT + 0x1000..AT + 0x2f00, AT + 0x3e00..AT + 0x5e00],
            path: "/l.so".into(),
        }
    }

    #[test]
    fn a_library_is_what_its_headers_say() {
        let bytes = file(64, &segments());
        assert_eq!(found(LIBRARY, &[(AT, &bytes)]), [library()]);
        // Deleted, or without a name since ever.
        for path in ["/l.so (deleted)", "/memfd:l (deleted)"] {
            let list = LIBRARY.replace("/l.so", path);
            assert_eq!(found(&list, &[(AT, &bytes)]), [Found { path: path.into(), ..library() }]);
        }
        // Between the dynamic loader's calls a part of it is not there yet, or not any more.
        for at in 1..5 {
            let lines = LIBRARY.lines().enumerate().filter(|(n, _)| *n != at);
            let list: Vec<&str> = lines.map(|(_, line)| line).collect();
            let found = found(&list.join("\n"), &[(AT, &bytes)]);
            // What is zeros at its end may be cut.
            let cut = Found {
                range: AT..AT + 0x5000,
                readable: vec![AT..AT + 0x800, AT + 0x1000..AT + 0x2f00, AT + 0x3e00..AT + 0x5000],
                ..library()
            };
            match at {
                1 | 2 => assert_eq!(found, [], "{at}"),
                3 => assert!(found[0].range.end == AT + 0x4000),
                _ => assert_eq!(found, [cut]),
            }
        }
    }

    #[test]
    fn programs_have_the_addresses_of_their_file() {
        let mut bytes = file(64, &[load(RX, 0, 0x40_0000, 0x1500), load(RW, 0x1500, 0x40_2500, 8)]);
        bytes[16] = 2;
        let list = "400000-402000 r-xp 00000000 fe:01 7    /p
            402000-403000 rw-p 00001000 fe:01 7    /p";
        let program = Found {
            bias: 0,
            range: 0x40_0000..0x40_2508,
            readable: vec![0x40_0000..0x40_1500, 0x40_2500..0x40_2508],
            path: "/p".into(),
        };
        assert_eq!(found(list, &[(0x40_0000, &bytes)]), [program]);
        // So small that both segments lie in its first page, which is mapped twice.
        let both = [load(RX, 0, 0x40_0000, 0x300), load(RW, 0x300, 0x40_1300, 8)];
        let list = "400000-401000 r-xp 00000000 fe:01 7    /p
            401000-402000 rw-p 00000000 fe:01 7    /p";
        let bytes = file(64, &both);
        let small = found(list, &[(0x40_0000, &bytes), (0x40_1000, &bytes)]);
        assert_eq!(small.len(), 1);
        assert_eq!((small[0].bias, small[0].range.clone()), (0, 0x40_0000..0x40_1308));
    }

    #[test]
    fn objects_of_no_file() {
        let bytes = file(64, &[load(RX, 0, 0, 0x900)]);
        let of = |list| found(list, &[(AT, &bytes)]);
        let kernels = of("10000000-10001000 r-xp 00000000 00:00 0    [vdso]");
        assert_eq!((kernels[0].bias, &*kernels[0].path), (AT, "[vdso]"));
        // Nobody looks into what is written.
        assert_eq!(of("10000000-10001000 rwxp 00000000 00:00 0"), []);
        // Code that its program has moved to large pages.
        let bytes = file(64, &segments());
        let list = LIBRARY.replace("00001000 fe:01 7    /l.so", "00000000 00:00 0");
        assert_eq!(found(&list, &[(AT, &bytes)]), [library()]);
    }

    #[test]
    fn headers_in_a_segment_of_their_own() {
        let mut headers = segments().to_vec();
        headers.push(load(RW, 0x9000, 0x8000, 0x1000));
        let bytes = file(0x9040, &headers);
        let list = LIBRARY.replace(
            "        10006000-10007000",
            "        10008000-10009000 rw-p 00009000 fe:01 7    /l.so
            10019000-1001a000",
        );
        let table: Vec<u8> = headers.iter().flat_map(header_bytes).collect();
        let of = |at| found(&list, &[(AT, &bytes), (at, &table)]);
        let all = of(AT + 0x8040);
        assert_eq!((all[0].bias, all[0].range.clone()), (AT, AT..AT + 0x9000));
        assert_eq!(of(AT + 0x8050), []);
    }

    #[test]
    fn more_headers_than_are_read_at_once() {
        let mut headers = vec![ProgramHeader::default(); 40];
        headers.extend(segments());
        let bytes = file(64, &headers);
        assert_eq!(found(LIBRARY, &[(AT, &bytes)]), [library()]);
        assert_eq!(found(LIBRARY, &[(AT, &bytes[..bytes.len() - 1])]), []);
        let mut headers = vec![ProgramHeader::default(); MOST_HEADERS - 2];
        headers.extend(segments());
        assert_eq!(found(LIBRARY, &[(AT, &file(64, &headers))]), []);
    }

    /// A file that somebody looks at is not loaded, whatever it is, also where the kernel lets all
    /// that is read be executed.
    #[test]
    fn files_that_are_read_are_none() {
        let bytes = file(64, &[load(R, 0, 0, 0x800), load(RX, 0x800, 0x1800, 0x1f00)]);
        for rights in ["r--p", "r--s", "r-xp", "rwxp"] {
            let list = format!("10000000-10006000 {rights} 00000000 fe:01 7    /l.so");
            assert_eq!(found(&list, &[(AT, &bytes)]), [], "{rights}");
        }
        // Beside the same one, loaded, twice.
        let there = file(64, &segments());
        let second: Vec<String> = LIBRARY
            .lines()
            .take(5)
            .map(|line| line.trim_start())
            .map(|line| format!("9{}9{}", &line[1..9], &line[10..]))
            .collect();
        let list = format!(
            "8000000-8006000 r--p 00000000 fe:01 7    /l.so\n{LIBRARY}\n{}",
            second.join("\n")
        );
        let all = found(&list, &[(0x800_0000, &there), (AT, &there), (AT * 9, &there)]);
        assert_eq!(all.iter().map(|found| found.bias).collect::<Vec<_>>(), [AT, AT * 9]);
    }

    #[test]
    fn headers_that_are_wrong_are_no_object() {
        let change = |at: usize, value: u8| {
            let mut bytes = file(64, &segments());
            bytes[at] = value;
            found(LIBRARY, &[(AT, &bytes)])
        };
        for (at, value, why) in [
            (0, 0, "no magic number"),
            (3, b'f', "another one"),
            (4, 1, "of 32 bits"),
            (5, 2, "of another byte order"),
            (16, 1, "not linked"),
            (16, 4, "a core"),
            (54, 32, "other headers"),
            (56, 0, "no headers"),
            (57, 0xff, "too many"),
            (39, 0xff, "headers around the end of memory"),
            (34, 1, "headers behind the end"),
            (64, 6, "no first segment"),
        ] {
            assert_eq!(change(at, value), [], "{why}");
        }
        let with = |n: usize, header| {
            let mut segments = segments();
            segments[n] = header;
            found(LIBRARY, &[(AT, &file(64, &segments))])
        };
        for (n, header, why) in [
            (1, load(R, 0x1000, 0x1000, 0x1f00), "no code"),
            (2, load(RX, 0x3e00, 0x3e00, 0x2000), "code that cannot be executed"),
            (1, load(RX, 0x2000, 0x1000, 0x1f00), "another part of the file"),
            (1, load(RX, 0x1000, 0x6000, 0x1f00), "in another file"),
            (2, load(RW, 0x3e00, 0x7e00, 0x2000), "nothing is there"),
            (2, load(RW, 0x3e00, u64::MAX - AT, 0x2000), "at the end of memory"),
            (0, load(R, 0x1000, 0x1000, 0x800), "nothing of the first page"),
        ] {
            assert_eq!(with(n, header), [], "{why}");
        }
        // Longer than everything: up to what is another's.
        let long = with(2, load(RW, 0x3e00, 0x3e00, u64::MAX));
        let end = AT + 0x6000;
        assert_eq!((long[0].range.end, long[0].readable.last().unwrap().end), (end, end));
        // What cannot be read, or not far enough.
        let bytes = file(64, &segments());
        assert_eq!(found(LIBRARY, &[]), []);
        for len in [0, 5, 63, 64, 65, bytes.len() - 1] {
            assert_eq!(found(LIBRARY, &[(AT, &bytes[..len])]), [], "{len}");
        }
    }

    /// Whatever the headers say, nothing is readable that is not mapped so, and no object reaches
    /// into another file.
    #[test]
    fn headers_that_lie_reach_nothing_of_others() {
        let good = file(64, &segments());
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut mapped = Mapped::default();
        LIBRARY.lines().for_each(|line| mapped.add(line.trim_start().as_bytes()));
        let mut objects = 0;
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..1 + random() % 3 {
                // A field of a segment, or a byte anywhere.
                if random() % 2 == 0 {
                    let field = 64 + 8 * (random() % 21) as usize;
                    let value = match random() % 4 {
                        0 => random(),
                        1 => u64::MAX - random() % 0x2000,
                        _ => (random() % 0x8000) & !(random() % 2 * 0xfff),
                    };
                    bytes[field..field + 8].copy_from_slice(&value.to_ne_bytes());
                } else {
                    let at = (random() % bytes.len() as u64) as usize;
                    bytes[at] = random() as u8;
                }
            }
            for found in found(LIBRARY, &[(AT, &bytes)]) {
                objects += 1;
                assert!(AT <= found.range.start && found.range.end <= AT + 0x6000, "{found:x?}");
                for range in &found.readable {
                    let all = mapped.covered(range, |m| m.readable && m.ino != 9);
                    assert_eq!(all, *range);
                }
            }
        }
        assert!(objects > 1000, "{objects}");
    }
}
