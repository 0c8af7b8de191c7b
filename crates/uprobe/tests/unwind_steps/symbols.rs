//! The program's own symbols, and the instructions between them.

use iced_x86::{Decoder, DecoderOptions, Instruction};
use object::{Object, ObjectSection, ObjectSegment, ObjectSymbol};
use std::collections::BTreeMap;

/// A symbol in memory.
#[derive(Clone, Debug)]
pub(crate) struct Symbol {
    pub(crate) name: String,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Symbol {
    pub(crate) fn size(&self) -> u64 {
        self.end - self.start
    }

    pub(crate) fn contains(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }

    /// Whether it is a target with that action.
    pub(crate) fn is_of(&self, action: &str) -> bool {
        let rest = self.name.strip_prefix(crate::targets::PREFIX).unwrap_or_default();
        rest.rsplit_once(action)
            .is_some_and(|(before, after)| before.is_empty() && after.starts_with('_'))
    }

    /// Its instructions, by address. They are those of the file: probes are not seen.
    pub(crate) fn instructions(&self, file: &[u8], bias: u64) -> BTreeMap<u64, Instruction> {
        let file = object::File::parse(file).expect("an ELF file");
        let at = self.start - bias;
        let code = file
            .segments()
            .find_map(|s| s.data_range(at, self.size()).ok().flatten())
            .expect("code in a segment");
        let decoder = Decoder::with_ip(64, code, self.start, DecoderOptions::NONE);
        decoder.into_iter().map(|i| (i.ip(), i)).collect()
    }
}

/// All symbols of this program.
pub(crate) struct Symbols {
    pub(crate) file: Vec<u8>,
    /// What addresses in memory are above those in the file.
    pub(crate) bias: u64,
    all: Vec<Symbol>,
}

impl Symbols {
    /// `anchor`: the name and the address of any symbol.
    pub(crate) fn read(anchor: &str, address: u64) -> Self {
        let file = std::fs::read("/proc/self/exe").expect("this program");
        let elf = object::File::parse(&*file).expect("an ELF file");
        let its = elf.symbols().find(|s| s.name() == Ok(anchor)).expect("not stripped");
        let bias = address - its.address();
        let all = elf.symbols().filter(|s| s.size() != 0).filter_map(|s| {
            let start = s.address() + bias;
            Some(Symbol { name: s.name().ok()?.to_owned(), start, end: start + s.size() })
        });
        let all = all.collect();
        drop(elf);
        Self { file, bias, all }
    }

    /// Whether that lies in an executable segment.
    pub(crate) fn is_code(&self, address: u64) -> bool {
        let elf = object::File::parse(&*self.file).expect("an ELF file");
        elf.sections().any(|s| {
            s.kind() == object::SectionKind::Text
                && (s.address()..s.address() + s.size()).contains(&(address - self.bias))
        })
    }

    /// Those whose names begin with that.
    pub(crate) fn functions<'s>(&'s self, prefix: &'s str) -> impl Iterator<Item = Symbol> + 's {
        self.all.iter().filter(move |s| s.name.starts_with(prefix)).cloned()
    }
}
