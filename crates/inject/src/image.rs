//! An image: a freestanding ELF file, checked and taken apart.

use crate::arch::{MACHINE, PAGE, RELATIVE};
use object::LittleEndian as LE;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader, Sym};
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

/// A freestanding image: a static-PIE that needs no interpreter, no library and no symbol of
/// others, and whose only relocations are by where it lies.
#[derive(Clone, Debug)]
pub struct Image {
    /// As it lies in memory, from its address 0 on, not relocated; whole pages. Behind them are
    /// zeros.
    bytes: Vec<u8>,
    /// Bytes of memory, whole pages.
    size: u64,
    parts: Vec<Part>,
    /// Words to be set: where, and to what, both relative to the image.
    relocations: Vec<(u64, u64)>,
    symbols: HashMap<String, Symbol>,
}

/// A symbol of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Relative to the image.
    pub offset: u64,
    /// In bytes; 0 where the image does not say.
    pub size: u64,
}

/// What may be done with the memory of a part. Nothing may be written and executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    Read,
    Write,
    Execute,
}

/// Pages of an image with the same rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) range: Range<u64>,
    pub(crate) rights: Rights,
}

/// Why a file is no image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageError {
    /// It is no ELF file, or a damaged one.
    Damaged(&'static str),
    /// It is for another kind of machine.
    Machine,
    /// It is not position independent.
    Fixed,
    /// It wants an interpreter, thread-local storage or a library.
    Wants(&'static str),
    /// It uses a symbol that it does not define.
    Undefined(String),
    /// It has a relocation of another kind.
    Relocation(u32),
    /// Some of its memory can be written and executed.
    WritableCode,
    /// It takes more memory than [`Image::LIMIT`].
    Large,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(what) => write!(f, "no image: {what}"),
            Self::Machine => f.write_str("an image for another machine"),
            Self::Fixed => f.write_str("an image that is not position independent"),
            Self::Wants(what) => write!(f, "an image that wants {what}"),
            Self::Undefined(name) => write!(f, "an image that does not define {name}"),
            Self::Relocation(kind) => write!(f, "an image with a relocation of type {kind}"),
            Self::WritableCode => f.write_str("an image with code that can be written"),
            Self::Large => f.write_str("an image that is too large"),
        }
    }
}

impl std::error::Error for ImageError {}

fn damaged(what: &'static str) -> impl FnOnce(object::read::Error) -> ImageError {
    move |_| ImageError::Damaged(what)
}

impl Image {
    /// The most memory that an image may take.
    pub const LIMIT: u64 = 256 << 20;

    /// Takes an image apart.
    ///
    /// # Errors
    /// If the file is anything else; no contents make this panic.
    pub fn parse(file: &[u8]) -> Result<Self, ImageError> {
        let header = FileHeader64::<LE>::parse(file).map_err(damaged("its header"))?;
        if !header.is_little_endian() || header.e_machine.get(LE).0 != MACHINE {
            return Err(ImageError::Machine);
        }
        if header.e_type.get(LE) != elf::ET_DYN {
            return Err(ImageError::Fixed);
        }
        let segments = header.program_headers(LE, file).map_err(damaged("its segments"))?;
        for segment in segments {
            match segment.p_type(LE) {
                elf::PT_INTERP => return Err(ImageError::Wants("an interpreter")),
                elf::PT_TLS => return Err(ImageError::Wants("thread-local storage")),
                _ => {}
            }
        }
        let (mut bytes, parts) = loaded(file, segments)?;
        let dynamic = segments.iter().find(|segment| segment.p_type(LE) == elf::PT_DYNAMIC);
        let relocations = match dynamic {
            Some(segment) => relocations(&bytes, segment.p_vaddr(LE), segment.p_memsz(LE))?,
            None => Vec::new(),
        };
        let writable = |at: u64| {
            let inside = |part: &Part| part.range.start <= at && at + 8 <= part.range.end;
            parts.iter().any(|part| part.rights == Rights::Write && inside(part))
        };
        if relocations.iter().any(|(at, _)| !writable(*at)) {
            return Err(ImageError::Damaged("a relocation outside of its data"));
        }
        let size = bytes.len() as u64;
        let symbols = symbols(header, file, size)?;
        // Most of it are variables that begin as zeros: a file is that where nothing was written.
        let last = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        let relocated = relocations.iter().map(|(at, _)| at + 8).max().unwrap_or(0);
        let code = parts.iter().filter(|part| part.rights == Rights::Execute);
        let code = code.map(|part| part.range.end).max().unwrap_or(0);
        bytes.truncate(last.max(relocated).max(code).next_multiple_of(PAGE) as usize);
        Ok(Self { bytes, size, parts, relocations, symbols })
    }

    /// A symbol by its name.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        self.symbols.get(name).copied()
    }

    pub(crate) fn symbols(&self) -> &HashMap<String, Symbol> {
        &self.symbols
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Bytes of memory, whole pages.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The image as it has to be at `base`, up to where there are only zeros.
    pub(crate) fn relocated(&self, base: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for (at, addend) in &self.relocations {
            let word = base.wrapping_add(*addend).to_le_bytes();
            bytes[*at as usize..][..8].copy_from_slice(&word);
        }
        bytes
    }
}

/// The memory that the segments ask for, and its parts.
fn loaded(
    file: &[u8],
    segments: &[elf::ProgramHeader64<LE>],
) -> Result<(Vec<u8>, Vec<Part>), ImageError> {
    const OVERLAP: ImageError = ImageError::Damaged("segments that overlap");
    let (mut bytes, mut parts) = (Vec::new(), Vec::<Part>::new());
    for segment in segments.iter().filter(|segment| segment.p_type(LE) == elf::PT_LOAD) {
        let (start, size) = (segment.p_vaddr(LE), segment.p_memsz(LE));
        let end = start.checked_add(size).ok_or(ImageError::Large)?;
        if end > Image::LIMIT {
            return Err(ImageError::Large);
        }
        let contents = segment.data(LE, file).map_err(|()| ImageError::Damaged("a segment"))?;
        if contents.len() as u64 > size {
            return Err(ImageError::Damaged("a segment that is larger than its memory"));
        }
        let flags = segment.p_flags(LE).0;
        let has = |right: elf::ProgramFlags| flags & right.0 != 0;
        let rights = match (has(elf::PF_W), has(elf::PF_X)) {
            (true, true) => return Err(ImageError::WritableCode),
            (true, false) => Rights::Write,
            (false, true) => Rights::Execute,
            (false, false) => Rights::Read,
        };
        let range = start / PAGE * PAGE..end.next_multiple_of(PAGE);
        // As the format demands: ascending, and no page belongs to two.
        if parts.last().is_some_and(|last| last.range.end > range.start) {
            return Err(OVERLAP);
        }
        bytes.resize(range.end as usize, 0);
        bytes[start as usize..][..contents.len()].copy_from_slice(contents);
        if !range.is_empty() {
            parts.push(Part { range, rights });
        }
    }
    if parts.is_empty() {
        return Err(ImageError::Damaged("nothing to be loaded"));
    }
    Ok((bytes, parts))
}

/// A word of the image.
fn word(bytes: &[u8], at: u64) -> Option<u64> {
    let start = usize::try_from(at).ok()?;
    let word = bytes.get(start..start.checked_add(8)?)?;
    Some(u64::from_le_bytes(word.try_into().expect("eight bytes")))
}

/// The relocations, by the dynamic section at `at`.
fn relocations(bytes: &[u8], at: u64, size: u64) -> Result<Vec<(u64, u64)>, ImageError> {
    const OUTSIDE: ImageError = ImageError::Damaged("a table outside of it");
    /// Bytes of an entry of the dynamic section, and of a relocation.
    const ENTRY: u64 = 16;
    const RELOCATION: u64 = 24;
    let (mut table, mut length) = (0, 0);
    for n in 0..size / ENTRY {
        let place = at.checked_add(n * ENTRY).ok_or(OUTSIDE)?;
        let tag = word(bytes, place).ok_or(OUTSIDE)?;
        let value = word(bytes, place + 8).ok_or(OUTSIDE)?;
        match elf::DynamicTag(tag as i64) {
            elf::DT_NULL => break,
            elf::DT_NEEDED => return Err(ImageError::Wants("a library")),
            elf::DT_RELA => table = value,
            elf::DT_RELASZ => length = value,
            elf::DT_PLTRELSZ | elf::DT_RELSZ | elf::DT_RELRSZ if value != 0 => {
                return Err(ImageError::Wants("relocations of another form"));
            }
            elf::DT_TEXTREL => return Err(ImageError::WritableCode),
            _ => {}
        }
    }
    if length > bytes.len() as u64 {
        return Err(OUTSIDE);
    }
    let mut found = Vec::with_capacity((length / RELOCATION) as usize);
    for n in 0..length / RELOCATION {
        let place = table.checked_add(n * RELOCATION).ok_or(OUTSIDE)?;
        let field = |n: u64| word(bytes, place.checked_add(8 * n)?);
        let (Some(at), Some(info), Some(addend)) = (field(0), field(1), field(2)) else {
            return Err(OUTSIDE);
        };
        let kind = info as u32;
        if kind != RELATIVE || info >> 32 != 0 {
            return Err(ImageError::Relocation(kind));
        }
        if at > bytes.len() as u64 - 8 {
            return Err(OUTSIDE);
        }
        found.push((at, addend));
    }
    Ok(found)
}

/// The symbols that the file defines, of both tables.
fn symbols(
    header: &FileHeader64<LE>,
    file: &[u8],
    size: u64,
) -> Result<HashMap<String, Symbol>, ImageError> {
    let sections = header.sections(LE, file).map_err(damaged("its sections"))?;
    let mut found = HashMap::new();
    for kind in [elf::SHT_DYNSYM, elf::SHT_SYMTAB] {
        let table = sections.symbols(LE, file, kind).map_err(damaged("its symbols"))?;
        for symbol in table.iter() {
            let name = symbol.name(LE, table.strings()).map_err(damaged("a symbol's name"))?;
            let name = String::from_utf8_lossy(name);
            if symbol.is_undefined(LE) {
                if !name.is_empty() {
                    return Err(ImageError::Undefined(name.into_owned()));
                }
                continue;
            }
            let (offset, length) = (symbol.st_value(LE), symbol.st_size(LE));
            let placed =
                matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_OBJECT | elf::STT_NOTYPE);
            let inside = offset.checked_add(length).is_some_and(|end| end <= size);
            if placed && inside && !name.is_empty() {
                found.insert(name.into_owned(), Symbol { offset, size: length });
            }
        }
    }
    Ok(found)
}
