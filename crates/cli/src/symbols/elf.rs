//! A reader of 64-bit little-endian ELF files for x86-64 that trusts nothing it reads (System V ABI, gabi 4.1; x86-64 psABI).
//!
//! Headers are read once. Everything else is read where it is asked for, from a file that is mapped and not copied.

use std::fmt;

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const SECTION_HEADER: usize = 64;
const SYMBOL: usize = 24;

pub(crate) const PT_LOAD: u32 = 1;
pub(crate) const PT_DYNAMIC: u32 = 2;
pub(crate) const PT_INTERP: u32 = 3;
pub(crate) const PT_NOTE: u32 = 4;
pub(crate) const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
pub(crate) const SHT_SYMTAB: u32 = 2;
pub(crate) const SHT_NOTE: u32 = 7;
pub(crate) const SHT_NOBITS: u32 = 8;
pub(crate) const SHT_DYNSYM: u32 = 11;
pub(crate) const DT_NULL: u64 = 0;
pub(crate) const DT_NEEDED: u64 = 1;
pub(crate) const DT_STRTAB: u64 = 5;
pub(crate) const DT_STRSZ: u64 = 10;
pub(crate) const DT_SONAME: u64 = 14;
pub(crate) const DT_RPATH: u64 = 15;
pub(crate) const DT_RUNPATH: u64 = 29;
const PF_X: u32 = 1;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;
const NT_GNU_BUILD_ID: u32 = 3;
const NT_GNU_PROPERTY_TYPE_0: u32 = 5;
const GNU_PROPERTY_X86_FEATURE_1_AND: u32 = 0xc000_0002;
const GNU_PROPERTY_X86_FEATURE_1_SHSTK: u32 = 2;

/// Why a file cannot be read as a program or library of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    NotElf,
    Class32,
    BigEndian,
    Machine(u16),
    Kind(u16),
    Corrupt(&'static str),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => f.write_str("not an ELF file"),
            Self::Class32 => f.write_str("a 32-bit program"),
            Self::BigEndian => f.write_str("a big-endian program"),
            Self::Machine(machine) => match machine {
                183 => f.write_str("a program for arm64"),
                243 => f.write_str("a program for RISC-V"),
                21 => f.write_str("a program for ppc64"),
                22 => f.write_str("a program for s390x"),
                258 => f.write_str("a program for LoongArch"),
                other => write!(f, "a program for another architecture (ELF machine {other})"),
            },
            Self::Kind(1) => f.write_str("a relocatable object file, not a program"),
            Self::Kind(4) => f.write_str("a core file, not a program"),
            Self::Kind(_) => f.write_str("an ELF file that is no program"),
            Self::Corrupt(what) => write!(f, "a corrupt ELF file ({what})"),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) kind: u32,
    flags: u32,
    pub(crate) offset: u64,
    pub(crate) address: u64,
    pub(crate) file_size: u64,
    pub(crate) memory_size: u64,
}

impl Segment {
    pub(crate) fn executable(&self) -> bool {
        self.kind == PT_LOAD && self.flags & PF_X != 0
    }

    /// Whether `address` lies in the part that comes from the file.
    pub(crate) fn holds(&self, address: u64) -> bool {
        address.checked_sub(self.address).is_some_and(|at| at < self.file_size)
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Section<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: u32,
    pub(crate) address: u64,
    pub(crate) size: u64,
    link: u32,
    /// Empty when the file does not hold it.
    pub(crate) data: &'a [u8],
}

/// One entry of a symbol table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawSymbol<'a> {
    pub(crate) name: &'a str,
    pub(crate) info: u8,
    pub(crate) visibility: u8,
    pub(crate) section: u16,
    pub(crate) address: u64,
    pub(crate) size: u64,
}

/// The headers of a file, checked.
#[derive(Debug, Clone)]
pub(crate) struct Elf<'a> {
    pub(crate) data: &'a [u8],
    pub(crate) segments: Vec<Segment>,
    pub(crate) sections: Vec<Section<'a>>,
}

impl<'a> Elf<'a> {
    /// Reads the headers.
    pub(crate) fn parse(data: &'a [u8]) -> Result<Self, Unreadable> {
        use Unreadable::{BigEndian, Class32, Corrupt, Kind, Machine, NotElf};
        if !data.starts_with(b"\x7fELF") {
            return Err(NotElf);
        }
        match (data.get(4), data.get(5)) {
            (Some(1), _) => return Err(Class32),
            (Some(2), Some(1)) => {}
            (Some(2), Some(2)) => return Err(BigEndian),
            _ => return Err(Corrupt("its header names no class")),
        }
        if data.len() < HEADER {
            return Err(Corrupt("truncated in its header"));
        }
        let (kind, machine) = (u16_at(data, 16).unwrap_or(0), u16_at(data, 18).unwrap_or(0));
        if machine != EM_X86_64 {
            return Err(Machine(machine));
        }
        if kind != ET_EXEC && kind != ET_DYN {
            return Err(Kind(kind));
        }
        let segments = segments(data)?;
        Ok(Self { data, segments, sections: sections(data).unwrap_or_default() })
    }

    /// Whether all that the loader maps is there.
    pub(crate) fn check_loadable(&self) -> Result<(), Unreadable> {
        let mut loads = self.segments.iter().filter(|s| s.kind == PT_LOAD).peekable();
        if loads.peek().is_none() {
            return Err(Unreadable::Corrupt("nothing in it is to be loaded"));
        }
        for load in loads {
            let end = load.offset.checked_add(load.file_size);
            if end.is_none_or(|end| end > self.data.len() as u64) {
                return Err(Unreadable::Corrupt("truncated: a segment lies behind the end of the file"));
            }
            if load.address.checked_add(load.memory_size).is_none_or(|end| end >= 1 << 47) || load.memory_size < load.file_size {
                return Err(Unreadable::Corrupt("a segment lies outside the address space"));
            }
        }
        Ok(())
    }

    pub(crate) fn section(&self, name: &str) -> Option<&Section<'a>> {
        self.sections.iter().find(|section| section.name == name)
    }

    pub(crate) fn segment(&self, kind: u32) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.kind == kind)
    }

    pub(crate) fn executable(&self, address: u64) -> bool {
        self.segments.iter().any(|segment| segment.executable() && segment.holds(address))
    }

    /// The bytes of the file that are loaded at `address`, up to the end of their segment.
    pub(crate) fn bytes_from(&self, address: u64) -> &'a [u8] {
        let Some(segment) = self.segments.iter().find(|s| s.kind == PT_LOAD && s.holds(address)) else {
            return &[];
        };
        let at = address - segment.address;
        let start = segment.offset.saturating_add(at);
        slice(self.data, start, (segment.file_size - at).min((self.data.len() as u64).saturating_sub(start))).unwrap_or(&[])
    }

    /// The symbols of the first table of `kind`.
    pub(crate) fn symbols(&self, kind: u32) -> impl Iterator<Item = RawSymbol<'a>> + use<'a> {
        let table = self.sections.iter().find(|section| section.kind == kind && !section.data.is_empty());
        let entries = table.map_or(&[][..], |table| table.data);
        let strings = table.and_then(|table| self.sections.get(table.link as usize)).map_or(&[][..], |strings| strings.data);
        entries.chunks_exact(SYMBOL).filter_map(move |entry| {
            Some(RawSymbol {
                name: string_at(strings, u32_at(entry, 0)? as usize)?,
                info: entry[4],
                visibility: entry[5] & 3,
                section: u16_at(entry, 6)?,
                address: u64_at(entry, 8)?,
                size: u64_at(entry, 16)?,
            })
        })
    }

    pub(crate) fn interpreter(&self) -> Option<&'a str> {
        let segment = self.segment(PT_INTERP)?;
        string_at(slice(self.data, segment.offset, segment.file_size)?, 0)
    }

    /// The entries of the dynamic section up to its end.
    pub(crate) fn dynamic(&self) -> Vec<(u64, u64)> {
        let bytes = self.segment(PT_DYNAMIC).and_then(|s| slice(self.data, s.offset, s.file_size)).unwrap_or(&[]);
        bytes
            .chunks_exact(16)
            .filter_map(|entry| Some((u64_at(entry, 0)?, u64_at(entry, 8)?)))
            .take_while(|&(tag, _)| tag != DT_NULL)
            .collect()
    }

    /// The string table of the dynamic section.
    pub(crate) fn dynamic_strings(&self, dynamic: &[(u64, u64)]) -> &'a [u8] {
        let value = |wanted| dynamic.iter().find(|&&(tag, _)| tag == wanted).map(|&(_, value)| value);
        let Some(address) = value(DT_STRTAB) else {
            return &[];
        };
        let bytes = self.bytes_from(address);
        &bytes[..bytes.len().min(usize::try_from(value(DT_STRSZ).unwrap_or(0)).unwrap_or(usize::MAX))]
    }

    /// The build identifier of the linker, if it wrote one.
    pub(crate) fn build_id(&self) -> Option<&'a [u8]> {
        self.notes().find(|note| note.kind == NT_GNU_BUILD_ID && !note.data.is_empty()).map(|note| note.data)
    }

    /// Whether every part of it says that it works with a shadow stack.
    pub(crate) fn shadow_stack(&self) -> bool {
        self.notes().filter(|note| note.kind == NT_GNU_PROPERTY_TYPE_0).any(|note| {
            let mut rest = note.data;
            while let (Some(kind), Some(size)) = (u32_at(rest, 0), u32_at(rest, 4)) {
                if kind == GNU_PROPERTY_X86_FEATURE_1_AND {
                    return u32_at(rest, 8).is_some_and(|bits| bits & GNU_PROPERTY_X86_FEATURE_1_SHSTK != 0);
                }
                let Some(next) = rest.get(8 + (size as usize).next_multiple_of(8)..) else { break };
                rest = next;
            }
            false
        })
    }

    /// The notes of the owner "GNU".
    fn notes(&self) -> impl Iterator<Item = Note<'a>> + use<'a> {
        let sections = self.sections.iter().filter(|section| section.kind == SHT_NOTE).map(|section| section.data);
        let segments =
            self.segments.iter().filter(|segment| segment.kind == PT_NOTE).filter_map(|s| slice(self.data, s.offset, s.file_size));
        let areas: Vec<&[u8]> = sections.chain(segments).collect();
        areas.into_iter().flat_map(|mut rest| {
            std::iter::from_fn(move || {
                let (owner, size, kind) = (u32_at(rest, 0)? as usize, u32_at(rest, 4)? as usize, u32_at(rest, 8)?);
                let start = 12 + owner.checked_next_multiple_of(4)?;
                let note = Note { gnu: rest.get(12..12 + owner)? == b"GNU\0", kind, data: rest.get(start..start.checked_add(size)?)? };
                rest = rest.get(start + size.checked_next_multiple_of(4)?..).unwrap_or(&[]);
                Some(note)
            })
            .filter(|note| note.gnu)
        })
    }
}

struct Note<'a> {
    gnu: bool,
    kind: u32,
    data: &'a [u8],
}

fn segments(data: &[u8]) -> Result<Vec<Segment>, Unreadable> {
    let read = || {
        let (table, size, count) = (u64_at(data, 32)?, u16_at(data, 54)?, u16_at(data, 56)?);
        if usize::from(size) != PROGRAM_HEADER && count != 0 {
            return None;
        }
        let table = slice(data, table, u64::from(count) * PROGRAM_HEADER as u64)?;
        table
            .chunks_exact(PROGRAM_HEADER)
            .map(|header| {
                Some(Segment {
                    kind: u32_at(header, 0)?,
                    flags: u32_at(header, 4)?,
                    offset: u64_at(header, 8)?,
                    address: u64_at(header, 16)?,
                    file_size: u64_at(header, 32)?,
                    memory_size: u64_at(header, 40)?,
                })
            })
            .collect()
    };
    read().ok_or(Unreadable::Corrupt("truncated in its program headers"))
}

/// None: there is no section table, or it is not whole. A program runs without one.
fn sections(data: &[u8]) -> Option<Vec<Section<'_>>> {
    let (table, size, count, names) = (u64_at(data, 40)?, u16_at(data, 58)?, u16_at(data, 60)?, u16_at(data, 62)?);
    if usize::from(size) != SECTION_HEADER {
        return None;
    }
    let headers = slice(data, table, u64::from(count) * SECTION_HEADER as u64)?;
    let contents = |header: &[u8]| {
        let kind = u32_at(header, 4)?;
        if kind == SHT_NOBITS { Some(&[][..]) } else { slice(data, u64_at(header, 24)?, u64_at(header, 32)?) }
    };
    let strings = headers.chunks_exact(SECTION_HEADER).nth(usize::from(names)).and_then(contents).unwrap_or(&[]);
    headers
        .chunks_exact(SECTION_HEADER)
        .map(|header| {
            Some(Section {
                name: string_at(strings, u32_at(header, 0)? as usize).unwrap_or(""),
                kind: u32_at(header, 4)?,
                address: u64_at(header, 16)?,
                size: u64_at(header, 32)?,
                link: u32_at(header, 40)?,
                data: contents(header).unwrap_or(&[]),
            })
        })
        .collect()
}

pub(crate) fn slice(data: &[u8], offset: u64, size: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    data.get(start..start.checked_add(usize::try_from(size).ok()?)?)
}

/// The string that starts at `at` and ends in a zero byte, if it is UTF-8.
pub(crate) fn string_at(strings: &[u8], at: usize) -> Option<&str> {
    let rest = strings.get(at..)?;
    let end = rest.iter().position(|&byte| byte == 0)?;
    std::str::from_utf8(&rest[..end]).ok()
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(data.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(crate) fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(data.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(data: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(data.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
