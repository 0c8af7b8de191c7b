//! What is loaded in this process.
#![allow(unsafe_code)]

use crate::identity::{self, Identifier};
use crate::namespaces::{self, Listed};
use std::ffi::{CStr, c_int, c_void};
use std::ops::Range;
use unwind::{Module, ProgramHeader};
use wire::{Function, Identity};

/// A program or library in memory.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// What to add to addresses in the file.
    pub(crate) base: u64,
    /// Memory from its first to its last segment.
    pub(crate) range: Range<u64>,
    /// Memory of its executable segments.
    executable: Vec<Range<u64>>,
    /// What the loader calls it; empty: the program.
    name: Vec<u8>,
    /// Which file it is.
    pub(crate) file: Identity,
    /// For unwinding; without a tag, and unseen if it is this object.
    pub(crate) module: Module,
}

impl Object {
    /// Whether functions of it can be probed: it is neither this object nor the kernel's.
    pub(crate) fn open_to_probes(&self) -> bool {
        self.file.path != KERNELS && !self.module.unseen
    }

    /// Whether this is the same one, still where it was.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.base == other.base && self.range == other.range && self.name == other.name
    }

    /// Memory of its executable segments.
    pub(crate) fn code(&self) -> &[Range<u64>] {
        &self.executable
    }

    /// Where a function of it lies: see [`resident::place()`].
    pub(crate) fn place(&self, function: &Function) -> Option<(u64, u32)> {
        resident::place(function, self.base, &self.executable)
    }
}

/// What the kernel's own object is called.
const KERNELS: &[u8] = b"[vdso]";

/// Everything that is loaded. What is in `known` is the file that it was: what its name leads to
/// may be another one by now.
///
/// # Context
/// Allocates, makes system calls. From a constructor, or while the loader's lists do not change.
pub(crate) fn loaded(known: &[Object]) -> Vec<Object> {
    let mut listed: Vec<Listed> = Vec::new();
    // SAFETY: the callback gets `listed` back, which lives through the call.
    unsafe { libc::dl_iterate_phdr(Some(list), (&raw mut listed).cast()) };
    for more in namespaces::listed() {
        // The loader itself is listed in every namespace.
        if !listed.iter().any(|l| l.base == more.base) {
            listed.push(more);
        }
    }
    let own = own_address();
    let mut identifier = Identifier::default();
    listed.into_iter().filter_map(|l| object(l, known, &mut identifier, own)).collect()
}

/// Of those, the ones that are loaded still.
///
/// # Context
/// As [`loaded`], but without system calls.
pub(crate) fn remaining(known: &[Object]) -> Vec<Object> {
    let mut listed: Vec<Listed> = Vec::new();
    // SAFETY: the callback gets `listed` back, which lives through the call.
    unsafe { libc::dl_iterate_phdr(Some(list), (&raw mut listed).cast()) };
    let places = listed.into_iter().map(|l| (l.base, l.name));
    let there: Vec<_> = places.chain(namespaces::places()).collect();
    let is_there =
        |o: &&Object| there.iter().any(|(base, name)| *base == o.base && *name == o.name);
    known.iter().filter(is_there).cloned().collect()
}

unsafe extern "C" fn list(info: *mut libc::dl_phdr_info, _size: usize, all: *mut c_void) -> c_int {
    // SAFETY: `loaded` passes its vector.
    let all = unsafe { &mut *all.cast::<Vec<Listed>>() };
    // SAFETY: the loader passes a valid description.
    let info = unsafe { &*info };
    // SAFETY: the loader's names are terminated, and never null.
    let name = unsafe { CStr::from_ptr(info.dlpi_name) }.to_bytes().to_vec();
    let count = usize::from(info.dlpi_phnum);
    let first = info.dlpi_phdr.cast::<ProgramHeader>();
    // SAFETY: the loader's program headers, by their fields' names in the ABI.
    let headers = unsafe { std::slice::from_raw_parts(first, count) }.to_vec();
    all.push(Listed { base: info.dlpi_addr, name, headers });
    0
}

fn object(
    listed: Listed,
    known: &[Object],
    identifier: &mut Identifier,
    own: u64,
) -> Option<Object> {
    let Listed { base, name, headers } = listed;
    let memory = |h: &ProgramHeader| {
        let start = base.wrapping_add(h.p_vaddr);
        start..start.saturating_add(h.p_memsz)
    };
    let parts: Vec<&ProgramHeader> = headers.iter().filter(|h| h.p_type == libc::PT_LOAD).collect();
    let start = parts.iter().map(|h| memory(h).start).min()?;
    let end = parts.iter().map(|h| memory(h).end).max()?;
    let executable =
        parts.iter().filter(|h| h.p_flags & libc::PF_X != 0).map(|h| memory(h)).collect();
    let mut module = Module::of(base, &headers, 0)?;
    module.unseen = (start..end).contains(&own);
    let mut object =
        Object { base, range: start..end, executable, name, file: Identity::default(), module };
    object.file = match known.iter().find(|k| k.is(&object)) {
        Some(known) => known.file.clone(),
        None if object.name.starts_with(b"linux-vdso")
            || object.name.starts_with(b"linux-gate") =>
        {
            Identity { path: KERNELS.to_vec(), ..Identity::default() }
        }
        None => identifier.identify(&object.name, start),
    };
    if object.file.build_id.is_empty() {
        object.file.build_id = identity::build_id(base, &headers).unwrap_or_default();
    }
    Some(object)
}

/// Path under which this object was loaded.
pub(crate) fn own_path() -> Option<Vec<u8>> {
    // SAFETY: zero is a valid Dl_info.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: an address in this object, and a place for the answer.
    let found = unsafe { libc::dladdr(own_address() as *const c_void, &raw mut info) } != 0;
    // SAFETY: the loader keeps its names.
    let name = || unsafe { CStr::from_ptr(info.dli_fname) }.to_bytes().to_vec();
    (found && !info.dli_fname.is_null()).then(name)
}

fn own_address() -> u64 {
    own_address as *const () as u64
}

#[cfg(test)]
mod tests {
    use super::{KERNELS, Object, loaded};
    use wire::{Function, Identity, Kind};

    #[test]
    fn the_program_and_its_libraries_are_found() {
        // In a test this object is the program, so only the others are open to probes.
        let all = loaded(&[]);
        let named = |o: &&Object| o.file.path.ends_with(b"libc.so.6");
        let libc = all.iter().find(named).expect("libc is loaded");
        assert!(libc.file.ino != 0 && libc.file.changed != 0 && libc.file.build_id.len() == 20);
        assert!(libc.executable.iter().any(|s| s.contains(&(libc::getpid as *const () as u64))));
        assert!(all.iter().any(|o| !o.open_to_probes() && o.module.unseen));
        let kernels = all.iter().find(|o| o.file.path == KERNELS).expect("every process has it");
        assert!(!kernels.module.eh_frame_hdr.is_empty() && !kernels.open_to_probes());
    }

    /// A name may lead to another file later: an object is the file that it was when it came.
    #[test]
    fn what_is_known_is_not_looked_up_again() {
        let mut known = loaded(&[]);
        known.iter_mut().for_each(|o| o.file.ino = 77);
        assert!(loaded(&known).iter().all(|o| o.file.ino == 77));
    }

    #[test]
    fn functions_lie_in_executable_segments() {
        let module = loaded(&[]).swap_remove(0).module;
        let object = Object {
            base: 0x1000_0000,
            range: 0x1000_0000..0x1001_0000,
            executable: vec![0x1000_1000..0x1000_2000, 0x1000_4000..0x1000_4800],
            name: Vec::new(),
            file: Identity::default(),
            module,
        };
        let at = |address: u64, size, after, offset| {
            let kind = Kind::Count;
            object.place(&Function { address, size, after, offset, kind, returns: true, cell: 64 })
        };
        assert_eq!(at(0x1000, 16, 4, 0), Some((0x1000_1000, 4)));
        assert_eq!(at(0x1ff0, 16, 64, 0), Some((0x1000_1ff0, 0)));
        assert_eq!(at(0x47f0, 8, 64, 7), Some((0x1000_47f0, 8)));
        for (address, size, offset) in [
            (0xfff, 16, 0),                  // in front of it
            (0x1ff1, 16, 0),                 // across its end
            (0x3000, 16, 0),                 // in between
            (0x4800, 1, 0),                  // behind it
            (0x1000, 0, 0),                  // nothing
            (0x1000, 16, 16),                // behind the function
            (0x1000, u32::MAX, 0),           // longer than everything
            (u64::MAX - 0xfff, 16, 0),       // around the end
            (0u64.wrapping_sub(0x10), 8, 0), // in front of the object
        ] {
            assert_eq!(at(address, size, 0, offset), None, "{address:#x} {size} {offset}");
        }
    }
}
