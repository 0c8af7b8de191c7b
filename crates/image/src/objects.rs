//! What is loaded in this process: the kernel's list of mappings says it, and the objects' own
//! headers in memory.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::{ControlFlow, Range};
use sys::mappings::{Mapping, read};
use unwind::Module;
use wire::{Function, Identity};

/// Room for a line of the list with the longest path.
const LINE: usize = 8 << 10;

/// A program or library in memory.
pub(crate) struct Object {
    /// What its addresses are above those in its file.
    pub(crate) bias: u64,
    /// Memory of it that can be executed.
    executable: Vec<Range<u64>>,
    /// Which file it is, by the numbers in the kernel's list.
    pub(crate) file: Identity,
    /// For unwinding.
    pub(crate) module: Module,
    /// Whether it is this image.
    pub(crate) is_own: bool,
}

impl Object {
    /// Whether functions of it can be probed: it has a file, and is not this image.
    pub(crate) fn open_to_probes(&self) -> bool {
        self.file.ino != 0 && !self.is_own
    }

    /// Where a function of it lies: see [`resident::place()`].
    pub(crate) fn place(&self, function: &Function) -> Option<(u64, u32)> {
        resident::place(function, self.bias, &self.executable)
    }
}

/// Everything that is loaded. `None`: the list cannot be read.
///
/// # Context
/// Allocates, makes system calls.
pub(crate) fn loaded() -> Option<Vec<Object>> {
    let mut files = Vec::new();
    // In the order of the calls.
    let modules = Module::all(&mut |mapping| {
        files.push(identity(mapping));
        0
    });
    let code = code()?;
    let own = loaded as *const () as u64;
    let object = |(module, file): (Module, Identity)| {
        let of_it = |(range, dev, ino): &(Range<u64>, u64, u64)| {
            let inside = module.range.start <= range.start && range.end <= module.range.end;
            (inside && (*dev, *ino) == (file.dev, file.ino)).then(|| range.clone())
        };
        let executable = code.iter().filter_map(of_it).collect();
        let is_own = module.range.contains(&own);
        Object { bias: module.bias, executable, file, is_own, module }
    };
    Some(modules.into_iter().zip(files).map(object).collect())
}

fn identity(mapping: &Mapping<'_>) -> Identity {
    let Mapping { dev, ino, path, .. } = mapping;
    Identity { dev: *dev, ino: *ino, path: path.to_vec(), ..Identity::default() }
}

/// What can be executed: where, device, inode.
fn code() -> Option<Vec<(Range<u64>, u64, u64)>> {
    let mut code = Vec::new();
    let add = |line: &[u8]| {
        let mapping = Mapping::parse(line).filter(|mapping| mapping.executable);
        code.extend(mapping.map(|mapping| (mapping.range, mapping.dev, mapping.ino)));
        ControlFlow::Continue(())
    };
    read(&mut vec![0; LINE], add).ok().map(|()| code)
}
