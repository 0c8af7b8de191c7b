//! 64-bit little-endian ELF files for x86-64, as far as functions go: the crate `object` reads,
//! this asks. Nothing of a file is believed.
//!
//! Headers are read once. Everything else is read where it is asked for, from a file that is in
//! memory and not copied.

use crate::text::of_bytes;
use object::elf::{self, Dyn64, FileHeader64, Rela64, SectionHeader64, Sym64};
use object::pod::slice_from_bytes;
use object::read::elf::{
    Dyn as _, FileHeader as _, NoteIterator, ProgramHeader as _, SectionHeader as _, Sym as _,
};
use object::{LittleEndian as LE, ReadRef as _};
use std::fmt;

/// Bytes for names that are no UTF-8, in one table. A hostile one has many, all of them long.
const FOREIGN_NAMES: usize = 16 << 20;

pub(crate) const PT_LOAD: u32 = elf::PT_LOAD.0;
pub(crate) const PT_GNU_EH_FRAME: u32 = elf::PT_GNU_EH_FRAME.0;
pub(crate) const SHT_SYMTAB: u32 = elf::SHT_SYMTAB.0;
pub(crate) const SHT_DYNSYM: u32 = elf::SHT_DYNSYM.0;
pub(crate) const SHN_UNDEF: u16 = elf::SHN_UNDEF.0;
pub(crate) const DT_NEEDED: u64 = elf::DT_NEEDED.0 as u64;
pub(crate) const DT_SONAME: u64 = elf::DT_SONAME.0 as u64;
pub(crate) const DT_RPATH: u64 = elf::DT_RPATH.0 as u64;
pub(crate) const DT_RUNPATH: u64 = elf::DT_RUNPATH.0 as u64;

type Header = FileHeader64<LE>;
type Dynamic = Dyn64<LE>;
type Rela = Rela64<LE>;

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
    align: u64,
}

impl Segment {
    pub(crate) fn executable(&self) -> bool {
        self.kind == PT_LOAD && self.flags & elf::PF_X.0 != 0
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
    align: u64,
    link: u32,
    /// Empty when the file does not hold it.
    pub(crate) data: &'a [u8],
    /// Whether `data` begins with a header that says how the rest is compressed.
    pub(crate) compressed: bool,
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
        let header = Header::parse(data).map_err(|_| Corrupt("truncated in its header"))?;
        let (kind, machine) = (header.e_type(LE), header.e_machine(LE));
        if machine != elf::EM_X86_64 {
            return Err(Machine(machine.0));
        }
        if kind != elf::ET_EXEC && kind != elf::ET_DYN {
            return Err(Kind(kind.0));
        }
        let segments = segments(header, data).ok_or(Corrupt("truncated in its program headers"))?;
        Ok(Self { data, segments, sections: sections(header, data).unwrap_or_default() })
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
                return Err(Unreadable::Corrupt(
                    "truncated: a segment lies behind the end of the file",
                ));
            }
            if load.address.checked_add(load.memory_size).is_none_or(|end| end >= 1 << 47)
                || load.memory_size < load.file_size
            {
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
        let Some(segment) = self.segments.iter().find(|s| s.kind == PT_LOAD && s.holds(address))
        else {
            return &[];
        };
        let at = address - segment.address;
        let start = segment.offset.saturating_add(at);
        slice(
            self.data,
            start,
            (segment.file_size - at).min((self.data.len() as u64).saturating_sub(start)),
        )
        .unwrap_or(&[])
    }

    /// The symbols of the first table of `kind`. Without section headers, those that the loader
    /// binds by are found as the loader finds them.
    pub(crate) fn symbols(&self, kind: u32) -> impl Iterator<Item = RawSymbol<'a>> + use<'a> {
        let table =
            self.sections.iter().find(|section| section.kind == kind && !section.data.is_empty());
        let (entries, strings) = match table {
            Some(table) => (
                table.data,
                self.sections.get(table.link as usize).map_or(&[][..], |strings| strings.data),
            ),
            None if kind == SHT_DYNSYM => self.dynamic_symbols(),
            None => (&[][..], &[][..]),
        };
        let entries: &[Sym64<LE>] =
            slice_from_bytes(entries, entries.len() / size_of::<Sym64<LE>>())
                .map_or(&[], |(entries, _)| entries);
        let mut room = FOREIGN_NAMES;
        entries.iter().filter_map(move |entry| {
            Some(RawSymbol {
                name: symbol_name(strings, entry.st_name(LE) as usize, &mut room)?,
                info: entry.st_info().0,
                visibility: entry.st_other().0 & 3,
                section: entry.st_shndx(LE).0,
                address: entry.st_value(LE),
                size: entry.st_size(LE),
            })
        })
    }

    /// The symbol table of `PT_DYNAMIC` and its strings. How long it is, only its hash table knows.
    fn dynamic_symbols(&self) -> (&'a [u8], &'a [u8]) {
        let dynamic = self.dynamic();
        let value = |wanted: elf::DynamicTag| {
            dynamic.iter().find(|&&(tag, _)| tag == wanted.0 as u64).map(|&(_, value)| value)
        };
        let count = match (value(elf::DT_HASH), value(elf::DT_GNU_HASH)) {
            (Some(table), _) => u32_at(self.bytes_from(table), 4),
            (None, Some(table)) => gnu_hash_symbols(self.bytes_from(table)),
            (None, None) => None,
        };
        let (Some(table), Some(count)) = (value(elf::DT_SYMTAB), count) else { return (&[], &[]) };
        let entries = self.bytes_from(table);
        let size = (count as usize).saturating_mul(size_of::<Sym64<LE>>());
        (&entries[..entries.len().min(size)], self.dynamic_strings(&dynamic))
    }

    /// The words that the loader fills with an address of the file's own: where each lies, and the
    /// address.
    pub(crate) fn relative(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let data = self.section(".rela.dyn").map_or(&[][..], |section| section.data);
        let entries: &[Rela] = slice_from_bytes(data, data.len() / size_of::<Rela>())
            .map_or(&[], |(entries, _)| entries);
        entries
            .iter()
            .filter(|entry| entry.r_type(LE, false) == elf::R_X86_64_RELATIVE)
            .map(|entry| (entry.r_offset.get(LE), entry.r_addend.get(LE).cast_unsigned()))
    }

    pub(crate) fn interpreter(&self) -> Option<&'a str> {
        let segment = self.segment(elf::PT_INTERP.0)?;
        string_at(slice(self.data, segment.offset, segment.file_size)?, 0)
    }

    /// Where the program begins.
    pub(crate) fn entry(&self) -> u64 {
        let bytes = self.data.get(24..32).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    }

    /// The entries of the dynamic section up to its end.
    pub(crate) fn dynamic(&self) -> Vec<(u64, u64)> {
        let bytes = self
            .segment(elf::PT_DYNAMIC.0)
            .and_then(|s| slice(self.data, s.offset, s.file_size))
            .unwrap_or(&[]);
        let entries: &[Dynamic] = slice_from_bytes(bytes, bytes.len() / size_of::<Dynamic>())
            .map_or(&[], |(entries, _)| entries);
        let entries =
            entries.iter().map(|entry| (entry.d_tag(LE).0.cast_unsigned(), entry.d_val(LE)));
        entries.take_while(|&(tag, _)| tag != elf::DT_NULL.0.cast_unsigned()).collect()
    }

    /// The string table of the dynamic section.
    pub(crate) fn dynamic_strings(&self, dynamic: &[(u64, u64)]) -> &'a [u8] {
        let value =
            |wanted| dynamic.iter().find(|&&(tag, _)| tag == wanted).map(|&(_, value)| value);
        let Some(address) = value(elf::DT_STRTAB.0.cast_unsigned()) else {
            return &[];
        };
        let bytes = self.bytes_from(address);
        &bytes[..bytes.len().min(
            usize::try_from(value(elf::DT_STRSZ.0.cast_unsigned()).unwrap_or(0))
                .unwrap_or(usize::MAX),
        )]
    }

    /// The build identifier of the linker, if it wrote one.
    pub(crate) fn build_id(&self) -> Option<&'a [u8]> {
        let ids = self.notes().filter(|note| note.n_type(LE) == elf::NT_GNU_BUILD_ID);
        ids.map(|note| note.desc()).find(|id| !id.is_empty())
    }

    /// Whether every part of it says that it works with a shadow stack.
    pub(crate) fn shadow_stack(&self) -> bool {
        self.notes().filter_map(|note| note.gnu_properties(LE)).any(|properties| {
            let mut features = properties
                .filter_map(Result::ok)
                .filter(|p| p.pr_type() == elf::GNU_PROPERTY_X86_FEATURE_1_AND);
            features
                .next()
                .and_then(|feature| feature.data_u32(LE).ok())
                .is_some_and(|bits| bits & elf::GNU_PROPERTY_X86_FEATURE_1_SHSTK != 0)
        })
    }

    /// The notes of the owner "GNU".
    fn notes(&self) -> impl Iterator<Item = object::read::elf::Note<'a, Header>> + use<'a> {
        let sections = self
            .sections
            .iter()
            .filter(|section| section.kind == elf::SHT_NOTE.0)
            .map(|section| (section.data, section.align));
        let segments = self.segments.iter().filter(|segment| segment.kind == elf::PT_NOTE.0);
        let segments =
            segments.filter_map(|s| Some((slice(self.data, s.offset, s.file_size)?, s.align)));
        let areas: Vec<(&[u8], u64)> = sections.chain(segments).collect();
        let notes = areas
            .into_iter()
            .filter_map(|(bytes, align)| NoteIterator::<Header>::new(LE, align, bytes).ok());
        notes
            .flat_map(|notes| notes.map_while(Result::ok))
            .filter(|note| note.name() == elf::ELF_NOTE_GNU)
    }
}

fn segments(header: &Header, data: &[u8]) -> Option<Vec<Segment>> {
    let headers = header.program_headers(LE, data).ok()?;
    let segment = |header: &elf::ProgramHeader64<LE>| Segment {
        kind: header.p_type(LE).0,
        flags: header.p_flags(LE).0,
        offset: header.p_offset(LE),
        address: header.p_vaddr(LE),
        file_size: header.p_filesz(LE),
        memory_size: header.p_memsz(LE),
        align: header.p_align(LE),
    };
    Some(headers.iter().map(segment).collect())
}

/// None: there is no section table, or it is not whole. A program runs without one.
fn sections<'a>(header: &Header, data: &'a [u8]) -> Option<Vec<Section<'a>>> {
    let headers = header.section_headers(LE, data).ok()?;
    let names = header.section_strings(LE, data, headers).unwrap_or_default();
    let section = |header: &SectionHeader64<LE>| Section {
        name: header
            .name(LE, names)
            .ok()
            .and_then(|name| std::str::from_utf8(name).ok())
            .unwrap_or(""),
        kind: header.sh_type(LE).0,
        address: header.sh_addr(LE),
        size: header.sh_size(LE),
        align: header.sh_addralign(LE),
        link: header.sh_link(LE),
        data: header.data(LE, data).unwrap_or(&[]),
        compressed: header.compression(LE, data).is_ok_and(|header| header.is_some()),
    };
    Some(headers.iter().map(section).collect())
}

/// How many symbols there are where only a hash table of GNU's is: one more than the last that a
/// chain reaches.
fn gnu_hash_symbols(table: &[u8]) -> Option<u32> {
    let (buckets, first, bloom) = (u32_at(table, 0)?, u32_at(table, 4)?, u32_at(table, 8)?);
    let start = 16_usize.checked_add((bloom as usize).checked_mul(8)?)?;
    let chains = start.checked_add((buckets as usize).checked_mul(4)?)?;
    let buckets = table.get(start..chains)?.chunks_exact(4);
    let last = buckets.filter_map(|bucket| u32_at(bucket, 0)).max()?;
    if last < first {
        return Some(first);
    }
    // The last of a chain has the lowest bit.
    (last..)
        .find(|&symbol| {
            let at = chains.saturating_add((symbol - first) as usize * 4);
            u32_at(table, at).is_none_or(|hash| hash & 1 != 0)
        })?
        .checked_add(1)
}

fn slice(data: &[u8], offset: u64, size: u64) -> Option<&[u8]> {
    data.read_bytes_at(offset, size).ok()
}

/// The string that starts at `at` and ends in a zero byte, if it is UTF-8.
pub(crate) fn string_at(strings: &[u8], at: usize) -> Option<&str> {
    let rest = strings.get(at..)?;
    let end = rest.iter().position(|&byte| byte == 0)?;
    std::str::from_utf8(&rest[..end]).ok()
}

/// The name of a symbol. What is no UTF-8 is spelled with escapes, as far as there is `room`.
fn symbol_name<'a>(strings: &'a [u8], at: usize, room: &mut usize) -> Option<&'a str> {
    let rest = strings.get(at..)?;
    let bytes = &rest[..rest.iter().position(|&byte| byte == 0)?];
    if let Ok(name) = std::str::from_utf8(bytes) {
        return Some(name);
    }
    // An escape takes four bytes for one.
    *room = room.checked_sub(bytes.len() * 4)?;
    // Lives as long as the names that are borrowed from the file: as long as the process.
    Some(of_bytes(bytes).into_owned().leak())
}

pub(crate) fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(data.get(at..at.checked_add(4)?)?.try_into().ok()?))
}
