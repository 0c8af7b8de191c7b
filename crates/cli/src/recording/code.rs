//! The functions and lines of one module of a recording: from the file that was recorded and no
//! other, from the files that go with it, or from the kernel.

use crate::model::recording::{Module, Symbol};
use crate::symbols::debug_files::{by_build_id, separate, supplement};
use crate::symbols::elf::Elf;
use crate::symbols::object::Object;
use crate::symbols::table::Table;
use crate::symbols::vdso::vdso;
use crate::{names, select};
use addr2line::Loader;
use std::collections::HashMap;
use std::path::Path;

/// Functions inlined into each other that are looked at for one address.
const MOST_INLINED: usize = 128;

/// What names the addresses of a module.
pub(super) struct Code<'t> {
    table: &'t Table<'static>,
    lines: Option<Loader>,
    /// Demangled: inlined functions come again and again.
    shown: HashMap<String, String>,
}

impl<'t> Code<'t> {
    /// Finds the files of `module`, or takes one of those that are open: it may be out of reach by
    /// its path.
    pub(super) fn of(module: &Module, open: &'t [Object]) -> Option<Self> {
        let same =
            |object: &&Object| (object.device, object.inode) == (module.device, module.inode);
        Self::of_files(module)
            .or_else(|| open.iter().find(same).map(|object| Self::new(object.table(), None)))
    }

    fn of_files(module: &Module) -> Option<Self> {
        if module.path == "[vdso]" {
            let elf = vdso().filter(|elf| is(elf, module))?;
            return Some(Self::new(Box::leak(Box::new(Table::new(elf, &[]))), None));
        }
        Self::of_file(module).or_else(|| {
            let (path, debug) = by_build_id(&id(&module.build_id)?)?;
            let lines = lines(&debug, &path);
            Some(Self::new(Box::leak(Box::new(Table::new(debug, &[]))), lines))
        })
    }

    fn of_file(module: &Module) -> Option<Self> {
        let path = Path::new(&module.path);
        // Whatever else has the name now, nothing is read from a pipe.
        if !path.metadata().ok()?.is_file() {
            return None;
        }
        let object = Object::open(path).ok()?.ok()?;
        let same = if module.build_id.is_empty() {
            (object.device, object.inode) == (module.device, module.inode)
        } else {
            is(&object.elf, module)
        };
        if !same {
            return None;
        }
        let object = Box::leak(Box::new(object));
        let lines = lines(&object.elf, &object.path).or_else(|| {
            let (path, debug) = separate(&object.elf, &object.path)?;
            lines(&debug, &path)
        });
        Some(Self::new(object.table(), lines))
    }

    fn new(table: &'t Table<'static>, lines: Option<Loader>) -> Self {
        Self { table, lines, shown: HashMap::new() }
    }

    /// The function at `address` and what is inlined into it there, innermost first. Empty: nothing
    /// is known.
    pub(super) fn at(&mut self, address: u64) -> Vec<Symbol> {
        // The symbol's name is the one that specs and reports know the function by. The source may
        // have another: `malloc` is `__libc_malloc` there.
        let table = self.table;
        let own = table.name_at(address).map(|raw| self.show(raw));
        let mut symbols = self.lines_at(address);
        let outermost = symbols.pop().unwrap_or_default();
        symbols.retain(|symbol| !symbol.name.is_empty());
        let named = Some(outermost.name).filter(|name| !name.is_empty());
        let name = own.or(named).or_else(|| table.unnamed_at(address).map(select::unnamed));
        match name {
            Some(name) => symbols.push(Symbol { name, ..outermost }),
            None => symbols.clear(),
        }
        symbols
    }

    /// What the debug information says, innermost first. Names may be missing.
    fn lines_at(&mut self, address: u64) -> Vec<Symbol> {
        let mut raw = Vec::new();
        if let Some(Ok(mut frames)) = self.lines.as_ref().map(|lines| lines.find_frames(address)) {
            while let Ok(Some(frame)) = frames.next() {
                if raw.len() == MOST_INLINED {
                    break;
                }
                let name = frame
                    .function
                    .as_ref()
                    .and_then(|function| function.raw_name().ok())
                    .map(|name| name.into_owned());
                let (file, line) = frame.location.map_or((None, None), |location| {
                    (location.file.map(str::to_string), location.line)
                });
                raw.push((name, file, line));
            }
        }
        raw.into_iter()
            .map(|(name, file, line)| Symbol {
                name: name.map(|raw| self.show(&raw)).unwrap_or_default(),
                file,
                line: line.filter(|&line| line > 0),
            })
            .collect()
    }

    fn show(&mut self, raw: &str) -> String {
        if let Some(shown) = self.shown.get(raw) {
            return shown.clone();
        }
        let shown = names::display(raw);
        self.shown.insert(raw.to_string(), shown.clone());
        shown
    }
}

/// Whether a file is the one that was recorded, by build identifier.
fn is(elf: &Elf<'_>, module: &Module) -> bool {
    id(&module.build_id).is_some_and(|id| elf.build_id() == Some(&id))
}

/// A build identifier as bytes; none if there is none.
fn id(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// The debug information of a file that has some.
fn lines(elf: &Elf<'_>, path: &Path) -> Option<Loader> {
    elf.section(".debug_info")
        .or_else(|| elf.section(".zdebug_info"))
        .filter(|section| !section.data.is_empty())?;
    Loader::new_with_sup(path, supplement(elf, path)).ok()
}
