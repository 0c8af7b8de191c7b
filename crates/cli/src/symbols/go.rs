//! The functions of a Go program as its own runtime knows them: the table `.gopclntab`, which stays
//! where a program was stripped, since tracebacks need it.
//!
//! Written from the description in Go's `runtime/symtab.go` and `internal/abi/symtab.go`. Nothing
//! of a table is believed: what does not lie in it, or names no code, is left out.

use super::elf::{DT_NEEDED, Elf, string_at, u32_at};

/// A function, from its first byte to the last that is no padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GoFunction<'a> {
    pub(crate) address: u64,
    pub(crate) size: u64,
    pub(crate) name: &'a str,
    pub(crate) origin: Origin,
    /// Whether goroutines are preempted among its first instructions.
    pub(crate) preempted: bool,
    /// Where the runtime goes on in it when it has recovered from a panic, if it defers calls.
    pub(crate) recovers: Option<u64>,
}

/// Where a function comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Compiler,
    /// Go's assembler.
    Assembler,
    /// C, linked by Go's linker.
    C,
    /// The table is of a version that does not say.
    Unknown,
}

/// Packages that are parts of the runtime.
const RUNTIME: [&str; 8] = [
    "runtime.",
    "runtime/internal/",
    "internal/runtime/",
    "internal/abi.",
    "internal/bytealg.",
    "internal/cpu.",
    "internal/goarch.",
    "internal/chacha8rand.",
];

/// Where a program begins that Go's linker has made.
const ENTRY: &str = "_rt0_amd64_linux";

impl GoFunction<'_> {
    /// Whether it is a part of the runtime.
    pub(crate) fn is_runtime(&self) -> bool {
        RUNTIME.iter().any(|package| self.name.starts_with(package))
    }
}

/// Whether it is a program of Go's, and if so, whether it is one without a C library.
pub(crate) fn kind(elf: &Elf<'_>) -> Option<Alone> {
    let functions = functions(elf);
    let entry = functions.iter().find(|function| function.address == elf.entry());
    let own_entry = entry.is_some_and(|function| function.name == ENTRY);
    let needs = elf.dynamic().iter().any(|(tag, _)| *tag == DT_NEEDED);
    (!functions.is_empty()).then_some(Alone(own_entry && !needs))
}

/// Whether a program has no C library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alone(pub(crate) bool);

/// Byte by which the linker fills up between functions.
const PADDING: u8 = 0xcc;
/// The linker keeps the build's name where the code begins, and lists it among the functions; and
/// names where the code begins and ends.
const NO_CODE: [&str; 4] = ["go:buildid", "go.buildid", "runtime.text", "runtime.etext"];

/// Whether a symbol of a Go program is called as a function and is none.
pub(super) fn is_no_code(name: &str) -> bool {
    NO_CODE.contains(&name)
}

/// All functions, by address. Empty where there is no table that can be read.
pub(crate) fn functions<'a>(elf: &Elf<'a>) -> Vec<GoFunction<'a>> {
    let sections = [".gopclntab", ".data.rel.ro.gopclntab"];
    let section = sections.iter().find_map(|name| elf.section(name));
    let Some(table) = section.and_then(|section| Table::new(elf, section.address, section.data))
    else {
        return Vec::new();
    };
    let mut functions: Vec<GoFunction<'a>> =
        (0..table.count).map_while(|index| table.function(elf, index)).flatten().collect();
    functions.sort_unstable_by_key(|function| function.address);
    functions.dedup_by_key(|function| function.address);
    functions
}

/// How the entries look: they changed with Go 1.16 and 1.18.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// Go 1.2 to 1.15: one table, addresses.
    Go12,
    /// Go 1.16 and 1.17: names in a part of their own.
    Go116,
    /// Go 1.18 and 1.19: distances from where the code begins.
    Go118,
    /// Go 1.20 and later: descriptions have one word more.
    Go120,
}

#[derive(Debug)]
struct Table<'a> {
    version: Version,
    count: u64,
    /// What addresses count from; 0 where they are whole.
    text: u64,
    names: &'a [u8],
    /// A pair for each function, (where it begins, where it is described), and the end of the last.
    entries: &'a [u8],
    /// What the second of a pair counts from.
    descriptions: &'a [u8],
    /// Tables of values by address; empty where they are not looked at.
    values: &'a [u8],
}

impl<'a> Table<'a> {
    fn new(elf: &Elf<'a>, address: u64, data: &'a [u8]) -> Option<Self> {
        let version = match u32_at(data, 0)? {
            0xffff_fffb => Version::Go12,
            0xffff_fffa => Version::Go116,
            0xffff_fff0 => Version::Go118,
            0xffff_fff1 => Version::Go120,
            _ => return None,
        };
        // Two zero bytes, the quantum of instructions, the size of a pointer.
        if data.get(4..8)? != [0, 0, 1, 8] {
            return None;
        }
        let word = |index: usize| u64_at(data, 8 + index * 8);
        let part = |index: usize| data.get(usize::try_from(word(index)?).ok()?..);
        let (count, text, names, entries) = match version {
            Version::Go12 => (word(0)?, 0, data, data.get(16..)?),
            Version::Go116 => (word(0)?, 0, part(2)?, part(6)?),
            Version::Go118 | Version::Go120 => {
                (word(0)?, text_start(elf, address + 24, word(2)?)?, part(3)?, part(7)?)
            }
        };
        let descriptions = if version == Version::Go12 { data } else { entries };
        let values = match version {
            Version::Go118 | Version::Go120 => part(6)?,
            Version::Go12 | Version::Go116 => &[],
        };
        Some(Self { version, count, text, names, entries, descriptions, values })
    }

    /// None: behind the end. Some(None): an entry that names no code.
    fn function(&self, elf: &Elf<'a>, index: u64) -> Option<Option<GoFunction<'a>>> {
        let index = usize::try_from(index).ok()?;
        let (address, next, described) = match self.version {
            Version::Go118 | Version::Go120 => {
                let at = index.checked_mul(8)?;
                (
                    u64::from(u32_at(self.entries, at)?),
                    u64::from(u32_at(self.entries, at.checked_add(8)?)?),
                    u64::from(u32_at(self.entries, at.checked_add(4)?)?),
                )
            }
            Version::Go12 | Version::Go116 => {
                let at = index.checked_mul(16)?;
                (
                    u64_at(self.entries, at)?,
                    u64_at(self.entries, at.checked_add(16)?)?,
                    u64_at(self.entries, at.checked_add(8)?)?,
                )
            }
        };
        Some(self.named(elf, address, next, described))
    }

    fn named(&self, elf: &Elf<'a>, from: u64, to: u64, described: u64) -> Option<GoFunction<'a>> {
        // The description begins with the address again, in the table's form; the name follows.
        let name_at = match self.version {
            Version::Go118 | Version::Go120 => 4,
            Version::Go12 | Version::Go116 => 8,
        };
        let described = usize::try_from(described).ok()?;
        let at = described.checked_add(name_at)?;
        let name = string_at(self.names, u32_at(self.descriptions, at)? as usize)?;
        let address = self.text.checked_add(from)?;
        if name.is_empty() || is_no_code(name) || !elf.executable(address) {
            return None;
        }
        let room = usize::try_from(to.checked_sub(from)?).ok()?;
        let code = elf.bytes_from(address);
        let code = &code[..code.len().min(room)];
        let end = code.iter().rposition(|byte| *byte != PADDING)? + 1;
        let origin = self.origin(described).unwrap_or(Origin::Unknown);
        let preempted = !self.is_unsafe_at_first(described).unwrap_or(false);
        let recovers = self.recovers(described).map(|at| address.saturating_add(at));
        Some(GoFunction { address, size: end as u64, name, origin, preempted, recovers })
    }

    /// Where the flags of a description begin (`funcID`), if they are known.
    fn flags_at(&self, described: usize) -> Option<usize> {
        described.checked_add(match self.version {
            Version::Go12 | Version::Go116 => return None,
            Version::Go118 => 36,
            Version::Go120 => 40,
        })
    }

    /// Distance from the first byte to the call that runs what was deferred (`deferreturn`).
    fn recovers(&self, described: usize) -> Option<u64> {
        self.flags_at(described)?;
        let at = u32_at(self.descriptions, described.checked_add(12)?)?;
        (at != 0).then_some(at.into())
    }

    fn origin(&self, described: usize) -> Option<Origin> {
        const ASSEMBLER: u8 = 4;
        let flags = *self.descriptions.get(self.flags_at(described)?.checked_add(1)?)?;
        // How deep the stack is at each instruction: C has no such table.
        let depths = u32_at(self.descriptions, described.checked_add(16)?)?;
        Some(match () {
            () if flags & ASSEMBLER != 0 => Origin::Assembler,
            () if depths == 0 => Origin::C,
            () => Origin::Compiler,
        })
    }

    /// Whether the function's first instructions (32 bytes, or all) are no place where a goroutine
    /// is preempted, by the table `PCDATA_UnsafePoint`.
    fn is_unsafe_at_first(&self, described: usize) -> Option<bool> {
        const UNSAFE: i64 = -2;
        let tables = u32_at(self.descriptions, described.checked_add(28)?)?;
        let first = self.flags_at(described)?.checked_add(4)?;
        let at = u32_at(self.descriptions, first)? as usize;
        if tables == 0 || at == 0 {
            return Some(false);
        }
        let mut bytes = self.values.get(at..)?.iter().copied();
        // Pairs: how the value changes, zigzag, and for how many bytes it stands then.
        let (mut value, mut pc) = (-1, 0);
        for _ in 0..32 {
            if pc >= 32 {
                break;
            }
            let change = varint(&mut bytes)?;
            if change == 0 && pc != 0 {
                break;
            }
            value += (change >> 1).cast_signed() ^ -(change & 1).cast_signed();
            if value != UNSAFE {
                return Some(false);
            }
            pc += varint(&mut bytes)?;
        }
        Some(true)
    }
}

/// Where the code begins that the table tells of: in the table, or in the relocation that fills it
/// in, or (since Go 1.26, which leaves it out) where the code's section begins.
fn text_start(elf: &Elf<'_>, field: u64, value: u64) -> Option<u64> {
    if value != 0 {
        return Some(value);
    }
    let relative = elf.relative().find(|(place, _)| *place == field);
    relative.map(|(_, address)| address).or_else(|| elf.section(".text").map(|text| text.address))
}

/// Seven bits a byte, the low ones first.
fn varint(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut value = 0;
    for shift in [0, 7, 14, 21, 28] {
        let byte = bytes.next()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn u64_at(data: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(data.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
