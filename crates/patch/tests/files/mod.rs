//! The functions of programs and libraries that a system has.

pub(crate) mod surroundings;

use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use patch::Function;
use std::collections::BTreeMap;
use std::path::Path;

/// Calls `see` with each function that the file has a symbol for, and its name. None: it is no file
/// for this machine.
pub(crate) fn each_function(path: &Path, mut see: impl FnMut(&Function<'_>, &str)) -> Option<()> {
    let data = std::fs::read(path).ok()?;
    let file = object::File::parse(&*data)
        .ok()
        .filter(|f| f.architecture() == object::Architecture::X86_64)?;
    let mut functions: BTreeMap<u64, (u64, String)> = BTreeMap::new();
    for symbol in file.symbols().chain(file.dynamic_symbols()) {
        if symbol.kind() == SymbolKind::Text && symbol.size() > 0 && symbol.is_definition() {
            functions
                .insert(symbol.address(), (symbol.size(), symbol.name().unwrap_or("?").to_owned()));
        }
    }
    let starts: Vec<u64> = functions.keys().copied().collect();
    for (k, (&address, (size, name))) in functions.iter().enumerate() {
        let Some(section) =
            file.sections().find(|s| (s.address()..s.address() + s.size()).contains(&address))
        else {
            continue;
        };
        let Ok(bytes) = section.data() else { continue };
        let from = (address - section.address()) as usize;
        let end = (from + *size as usize).min(bytes.len());
        let limit = starts.get(k + 1).map_or(bytes.len(), |&next| {
            ((next - section.address()) as usize).clamp(end, bytes.len())
        });
        let (code, after) = (&bytes[from..end], &bytes[end..limit]);
        see(&Function { address, code, after, site: 0 }, name);
    }
    Some(())
}
