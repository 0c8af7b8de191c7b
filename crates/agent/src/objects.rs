//! What is loaded in this process.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, c_int, c_void};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use unwind::Module;
use wire::Identity;

const NOTE_BUILD_ID: u32 = 3;

/// A program or library in memory.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// What to add to addresses in the file.
    pub(crate) base: u64,
    /// Memory from its first to its last segment.
    pub(crate) range: Range<u64>,
    /// Which file it is.
    pub(crate) file: Identity,
    /// For unwinding; without a tag, and unseen if it is this object.
    pub(crate) module: Module,
}

/// Everything that is loaded, without this object and the kernel's.
pub(crate) fn loaded() -> Vec<Object> {
    let mut all = everything();
    all.retain(|o| o.file.path != KERNELS && !o.module.unseen);
    all
}

/// What the kernel's own object is called.
const KERNELS: &[u8] = b"[vdso]";

/// Everything that is loaded.
pub(crate) fn everything() -> Vec<Object> {
    let mut all: Vec<Object> = Vec::new();
    // SAFETY: the callback gets `all` back, which lives through the call.
    unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut all).cast()) };
    let own = own_address();
    all.iter_mut().for_each(|o| o.module.unseen = o.range.contains(&own));
    all
}

/// Path under which this object was loaded.
pub(crate) fn own_path() -> Option<Vec<u8>> {
    // SAFETY: zero is a valid Dl_info.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: an address in this object, and a place for the answer.
    let found = unsafe { libc::dladdr(own_address() as *const c_void, &raw mut info) } != 0;
    // SAFETY: the loader keeps its names.
    (found && !info.dli_fname.is_null()).then(|| unsafe { CStr::from_ptr(info.dli_fname) }.to_bytes().to_vec())
}

fn own_address() -> u64 {
    own_address as *const () as u64
}

unsafe extern "C" fn add(info: *mut libc::dl_phdr_info, _size: usize, all: *mut c_void) -> c_int {
    // SAFETY: `loaded` passes its vector.
    let all = unsafe { &mut *all.cast::<Vec<Object>>() };
    // SAFETY: the loader passes a valid description.
    let info = unsafe { &*info };
    // SAFETY: the loader's names are terminated, and never null.
    let name = unsafe { CStr::from_ptr(info.dlpi_name) }.to_bytes();
    let kernels = name.starts_with(b"linux-vdso") || name.starts_with(b"linux-gate");
    // SAFETY: the loader's program headers.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let parts = || {
        headers.iter().filter(|h| h.p_type == libc::PT_LOAD).map(|h| (info.dlpi_addr + h.p_vaddr, info.dlpi_addr + h.p_vaddr + h.p_memsz))
    };
    let Some(start) = parts().map(|p| p.0).min() else { return 0 };
    let end = parts().map(|p| p.1).max().unwrap_or(start);
    // The program itself has no name here.
    let path: &[u8] = if name.is_empty() { b"/proc/self/exe" } else { name };
    let file = if kernels { None } else { std::fs::metadata(OsStr::from_bytes(path)).ok() };
    let shown = match name {
        _ if kernels => KERNELS.to_vec(),
        b"" => program(),
        _ => name.to_vec(),
    };
    let Some(module) = Module::of(info.dlpi_addr, headers, 0) else { return 0 };
    let build_id = headers.iter().filter(|h| h.p_type == libc::PT_NOTE).find_map(|h| build_id(info.dlpi_addr + h.p_vaddr, h.p_memsz));
    let identity = Identity {
        dev: file.as_ref().map_or(0, MetadataExt::dev),
        ino: file.as_ref().map_or(0, MetadataExt::ino),
        build_id: build_id.unwrap_or_default(),
        path: shown,
    };
    all.push(Object { base: info.dlpi_addr, range: start..end, file: identity, module });
    0
}

/// Path of the program.
pub(crate) fn program() -> Vec<u8> {
    std::fs::read_link("/proc/self/exe").map(|p| p.into_os_string().as_bytes().to_vec()).unwrap_or_default()
}

/// The build-id in a segment of notes.
fn build_id(address: u64, size: u64) -> Option<Vec<u8>> {
    // SAFETY: a loaded segment of this process, as its program header says.
    let mut notes = unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance::<u8>(address as usize), size as usize) };
    loop {
        let word = |i: usize| Some(u32::from_ne_bytes(notes.get(4 * i..4 * i + 4)?.try_into().ok()?));
        let (name_size, size, kind) = (word(0)? as usize, word(1)? as usize, word(2)?);
        let from = 12 + name_size.checked_next_multiple_of(4)?;
        let end = from.checked_add(size)?;
        if kind == NOTE_BUILD_ID && notes.get(12..16) == Some(b"GNU\0") {
            return notes.get(from..end).map(<[u8]>::to_vec);
        }
        notes = notes.get(end.checked_next_multiple_of(4)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::{KERNELS, everything, loaded};

    #[test]
    fn the_program_and_its_libraries_are_found() {
        // In a test this object is the program, so only the others are left.
        let all = loaded();
        let libc = all.iter().find(|o| o.file.path.ends_with(b"libc.so.6")).expect("libc is loaded");
        assert!(libc.file.ino != 0 && libc.file.build_id.len() == 20);
        assert!(libc.range.contains(&(libc::getpid as *const () as u64)) || !libc.range.is_empty());
        assert!(all.iter().all(|o| o.file.path != KERNELS));
        let kernels = everything().into_iter().find(|o| o.file.path == KERNELS).expect("every process has it");
        assert!(!kernels.module.eh_frame_hdr.is_empty());
    }
}
