//! What is around the functions of a file.
// Not every test looks there.
#![allow(dead_code)]

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, LittleEndian, Pointer, UnwindContext, UnwindSection,
    X86_64,
};
use object::elf::FileHeader64;
use object::read::elf::ElfFile;
use object::{Endianness, Object, ObjectSection, ObjectSegment, ObjectSymbol, SymbolKind};
use patch::{Piece, Surroundings};
use std::collections::HashMap;
use std::path::Path;

const R_X86_64_RELATIVE: u64 = 8;

/// A file as it is when it is loaded at 0.
pub(crate) struct File {
    segments: Vec<(u64, Vec<u8>)>,
    relative: HashMap<u64, u64>,
    /// (start, end, a part), ascending.
    pieces: Vec<(u64, u64, bool)>,
    /// Landing pads, ascending.
    pub(crate) landing_pads: Vec<u64>,
}

impl File {
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let data = std::fs::read(path).ok()?;
        let file = ElfFile::<FileHeader64<Endianness>>::parse(&*data).ok()?;
        let segments =
            file.segments().map(|s| (s.address(), s.data().unwrap_or(&[]).to_vec())).collect();
        let mut relative = HashMap::new();
        let rela = file.section_by_name(".rela.dyn").and_then(|s| s.data().ok()).unwrap_or(&[]);
        for entry in rela.chunks_exact(24) {
            let word = |n: usize| u64::from_le_bytes(entry[n..n + 8].try_into().expect("eight"));
            if word(8) == R_X86_64_RELATIVE {
                relative.insert(word(0), word(16));
            }
        }
        let mut this = Self { segments, relative, pieces: Vec::new(), landing_pads: Vec::new() };
        this.read_frames(&file);
        let mut named: Vec<(u64, u64, bool)> = file
            .symbols()
            .chain(file.dynamic_symbols())
            .filter(|s| s.kind() == SymbolKind::Text && s.size() > 0 && s.is_definition())
            .map(|s| {
                let part = s.name().is_ok_and(|name| name.contains(".cold"));
                (s.address(), s.address() + s.size(), part)
            })
            .collect();
        // What linkers make has neither shape nor name.
        let lookups: Vec<_> = file
            .sections()
            .filter(|s| s.name().is_ok_and(|name| name.starts_with(".plt")))
            .map(|s| s.address()..s.address() + s.size())
            .collect();
        this.pieces.retain(|piece| !lookups.iter().any(|plt| plt.contains(&piece.0)));
        // A symbol says more than an unwind entry.
        named.sort_unstable();
        this.pieces.retain(|piece| {
            let at = named.partition_point(|name| name.0 <= piece.0);
            at == 0 || named[at - 1].1 <= piece.0
        });
        this.pieces.extend(named);
        this.pieces.sort_unstable();
        this.pieces.dedup_by_key(|piece| piece.0);
        this.landing_pads.sort_unstable();
        this.landing_pads.dedup();
        Some(this)
    }

    fn read_frames(&mut self, file: &ElfFile<'_, FileHeader64<Endianness>>) -> Option<()> {
        let section = file.section_by_name(".eh_frame")?;
        let bases = BaseAddresses::default().set_eh_frame(section.address());
        let mut table = EhFrame::new(section.data().ok()?, LittleEndian);
        table.set_address_size(8);
        let mut context = UnwindContext::new();
        let mut entries = table.entries(&bases);
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else { continue };
            let Ok(fde) = partial.parse(EhFrame::cie_from_offset) else { continue };
            let start = fde.initial_address();
            let called = fde.rows(&table, &bases, &mut context).ok().and_then(|mut rows| {
                let row = rows.next_row().ok().flatten()?;
                Some(matches!(row.cfa(), CfaRule::RegisterAndOffset { register, offset: 8 }
                    if *register == X86_64::RSP))
            });
            self.pieces.push((start, start + fde.len(), called == Some(false)));
            if let Some(Pointer::Direct(at)) = fde.lsda() {
                let bytes = self.bytes(at).to_vec();
                let mut pads = Vec::new();
                assert!(patch::landing_pads(start, at, &bytes, &mut pads), "{start:x}");
                self.landing_pads.append(&mut pads);
            }
        }
        Some(())
    }

    fn bytes(&self, address: u64) -> &[u8] {
        let part = |(start, bytes): &'_ (u64, Vec<u8>)| {
            let from = address.checked_sub(*start)?;
            (from < bytes.len() as u64).then_some(from as usize)
        };
        let found = self.segments.iter().find_map(|s| Some(&s.1[part(s)?..]));
        found.unwrap_or(&[])
    }
}

impl Surroundings for File {
    fn read(&self, address: u64, into: &mut [u8]) -> bool {
        if let (Ok(word), Some(value)) =
            (<&mut [u8; 8]>::try_from(&mut *into), self.relative.get(&address))
        {
            *word = value.to_le_bytes();
            return true;
        }
        let bytes = self.bytes(address).get(..into.len());
        bytes.map(|bytes| into.copy_from_slice(bytes)).is_some()
    }

    fn piece(&self, address: u64) -> Option<Piece<'_>> {
        let at = self.pieces.partition_point(|piece| piece.0 <= address).checked_sub(1)?;
        let (start, end, part) = self.pieces[at];
        let code = self.bytes(start).get(..(end - start) as usize)?;
        (address < end).then_some(Piece { address: start, code, part })
    }
}
