//! Objects in namespaces of the dynamic loader that `dlmopen` has made.
//!
//! `dl_iterate_phdr` lists its caller's namespace only. Since glibc 2.35 the structure for
//! debuggers, `_r_debug`, leads to those of the other namespaces (its version is 2 once there are
//! some); each has a list of objects, whose program headers are found through their file's header.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::ptr;
use std::sync::OnceLock;
use unwind::ProgramHeader;

/// What the loader tells debuggers of a namespace: `struct r_debug_extended`.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Debug {
    version: c_int,
    map: *const Link,
    breakpoint: usize,
    state: c_int,
    base: usize,
    /// The next namespace's; there from version 2 on.
    next: *const Debug,
}

/// The address of a field, without a reference to what the loader changes.
macro_rules! field {
    ($debug:expr, $name:ident, $type:ty) => {
        $debug.wrapping_byte_add(std::mem::offset_of!(Debug, $name)).cast::<$type>()
    };
}

impl Debug {
    /// Address of the empty function that the loader calls at each change of any namespace.
    pub(crate) fn breakpoint(&self) -> usize {
        self.breakpoint
    }
}

/// An object: `struct link_map`.
#[repr(C)]
#[derive(Debug)]
struct Link {
    base: u64,
    name: *const c_char,
    dynamic: *const c_void,
    next: *const Link,
    previous: *const Link,
}

const CONSISTENT: c_int = 0;
const WITH_NEXT: c_int = 2;
/// Sixteen namespaces are all that glibc has.
const MOST: usize = 64;
const MOST_OBJECTS: usize = 1 << 16;

/// An object as one of the loader's lists has it.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) base: u64,
    pub(crate) name: Vec<u8>,
    pub(crate) headers: Vec<ProgramHeader>,
}

static DEBUG: OnceLock<Option<&'static Debug>> = OnceLock::new();

// SAFETY: what it points to is only read, under the loader's own lock.
unsafe impl Sync for Debug {}

/// The loader's own structure, of the namespace that the program is in. Looked up once, by the
/// constructor: at a hit, `dlsym` would be a call of the program's.
pub(crate) fn debug() -> Option<&'static Debug> {
    *DEBUG.get_or_init(|| {
        // SAFETY: a name that lives through the call.
        let debug = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_r_debug".as_ptr()) };
        // SAFETY: null, or the loader's own structure, of which the last field is not looked at in
        // versions that do not have it.
        unsafe { debug.cast::<Debug>().as_ref() }
    })
}

/// The structures of all namespaces, the program's first.
fn all() -> impl Iterator<Item = *const Debug> {
    let mut at = debug().map_or(ptr::null(), ptr::from_ref);
    let next = move || {
        let here = (!at.is_null()).then_some(at)?;
        // SAFETY: the loader's structure; it changes only under the lock that our caller holds.
        let version = unsafe { field!(here, version, c_int).read_volatile() };
        at = if version < WITH_NEXT {
            ptr::null()
        } else {
            // SAFETY: as above; it has this field from that version on.
            unsafe { field!(here, next, *const Debug).read_volatile() }
        };
        Some(here)
    };
    std::iter::from_fn(next).take(MOST)
}

/// Whether no list is being changed.
///
/// # Context
/// In the loader's notification, whose caller holds its lock.
pub(crate) fn consistent() -> bool {
    all().all(|debug| {
        // SAFETY: the loader's structure.
        let state = unsafe { field!(debug, state, c_int).read_volatile() };
        state == CONSISTENT
    })
}

/// The objects of all namespaces but the program's. Those whose headers are not where they are
/// expected are left out, with a line in the log.
pub(crate) fn listed() -> Vec<Listed> {
    let mut found = Vec::new();
    for (base, name) in places() {
        match program_headers(base) {
            Some(headers) => found.push(Listed { base, name, headers }),
            None => crate::log::line("an object of another namespace is not followed"),
        }
    }
    found
}

/// Where those objects are, and what they are called.
///
/// # Context
/// Allocates; no system call.
pub(crate) fn places() -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    for debug in all().skip(1) {
        // SAFETY: the loader's structure.
        let mut at = unsafe { field!(debug, map, *const Link).read_volatile() };
        for _ in 0..MOST_OBJECTS {
            // SAFETY: null, or an element of the loader's list, which does not change now.
            let Some(link) = (unsafe { at.as_ref() }) else { break };
            found.push((link.base, name(link)));
            at = link.next;
        }
    }
    found
}

fn name(link: &Link) -> Vec<u8> {
    if link.name.is_null() {
        return Vec::new();
    }
    // SAFETY: the loader's names are terminated.
    unsafe { CStr::from_ptr(link.name) }.to_bytes().to_vec()
}

/// Program headers of the file that is mapped from its beginning at `base`, read so that nothing
/// kills where it is not.
fn program_headers(base: u64) -> Option<Vec<ProgramHeader>> {
    const SIZE: usize = size_of::<ProgramHeader>();
    let memory = File::open("/proc/self/mem").ok()?;
    let mut header = [0; size_of::<libc::Elf64_Ehdr>()];
    memory.read_exact_at(&mut header, base).ok()?;
    let half = |at: usize| usize::from(u16::from_ne_bytes([header[at], header[at + 1]]));
    let at = u64::from_ne_bytes(header[32..40].try_into().ok()?);
    if !header.starts_with(b"\x7fELF\x02") || half(54) != SIZE {
        return None;
    }
    let mut bytes = vec![0; half(56) * SIZE];
    memory.read_exact_at(&mut bytes, base.checked_add(at)?).ok()?;
    let headers = bytes.chunks_exact(SIZE).map(|chunk| {
        // SAFETY: so many bytes, in which every pattern is a header.
        unsafe { chunk.as_ptr().cast::<ProgramHeader>().read_unaligned() }
    });
    Some(headers.collect())
}
