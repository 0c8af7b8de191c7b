//! Programs that write over their own code, and with it over probes, or take it away.
//!
//! Who writes makes the code writable and then executable again, by `mprotect` or `pkey_mprotect`:
//! at the second call the probes in the range are compared with what stands there, and the report
//! knows at once. What is written otherwise (to code that stays writable, through `/proc/self/mem`,
//! by another process) is found at the end of the process ([`super::ends`]). What is unmapped,
//! mapped over or made unreadable is not looked at any more.
//!
//! These functions are the program's way to the C library's; they look at the arguments and go on
//! there. [`super::filters`] has `syscall`, by which the same calls can be made. They are no
//! probes, for the C library calls its own where no hit can be recorded (at the end of a thread),
//! and the user may want to time them.
#![allow(unsafe_code)]
#![cfg_attr(test, expect(dead_code, reason = "tests keep the C library's own"))]

use crate::overwritten;
use libc::{c_int, c_void, off_t, size_t};
use std::ffi::CStr;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A function of the C library; 0: not looked up yet, or not there.
struct Real {
    name: &'static CStr,
    address: AtomicUsize,
    number: libc::c_long,
}

impl Real {
    const fn new(name: &'static CStr, number: libc::c_long) -> Self {
        Self { name, address: AtomicUsize::new(0), number }
    }

    fn look_up(&self) {
        // SAFETY: a name that lives through the call.
        let real = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        self.address.store(real.expose_provenance(), Ordering::Release);
    }

    /// Calls it, or the system, as it does.
    ///
    /// # Safety
    /// As the function of that name, which takes so many words at most.
    unsafe fn call(&self, words: [usize; 6]) -> isize {
        let [a, b, c, d, e, f] = words;
        let address = self.address.load(Ordering::Acquire);
        if address == 0 {
            // Before the constructor: other objects of the loader's begin.
            // SAFETY: the caller's.
            return unsafe { libc::syscall(self.number, a, b, c, d, e, f) } as isize;
        }
        type Function = unsafe extern "C" fn(usize, usize, usize, usize, usize, usize) -> isize;
        // SAFETY: the address of a function that takes its arguments in these registers and leaves
        // those that it does not have.
        let function: Function = unsafe { std::mem::transmute(address) };
        // SAFETY: the caller's.
        unsafe { function(a, b, c, d, e, f) }
    }
}

static MMAP: Real = Real::new(c"mmap", libc::SYS_mmap);
static MUNMAP: Real = Real::new(c"munmap", libc::SYS_munmap);
static MREMAP: Real = Real::new(c"mremap", libc::SYS_mremap);
static MPROTECT: Real = Real::new(c"mprotect", libc::SYS_mprotect);
static PKEY_MPROTECT: Real = Real::new(c"pkey_mprotect", libc::SYS_pkey_mprotect);

/// Looks up the C library's functions.
pub(super) fn prepare() {
    [&MMAP, &MUNMAP, &MREMAP, &MPROTECT, &PKEY_MPROTECT].into_iter().for_each(Real::look_up);
}

/// `mmap(2)`.
///
/// # Safety
/// As there.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn mmap(
    address: *mut c_void,
    len: size_t,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: off_t,
) -> *mut c_void {
    let words = [
        address.expose_provenance(),
        len,
        protection as usize,
        flags as usize,
        file as usize,
        offset as usize,
    ];
    about_to(MMAP.number, words);
    // SAFETY: the caller's arguments.
    std::ptr::with_exposed_provenance_mut(unsafe { MMAP.call(words) } as usize)
}

/// `mmap(2)` under its other name: offsets have 64 bits here.
///
/// # Safety
/// As there.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn mmap64(
    address: *mut c_void,
    len: size_t,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: off_t,
) -> *mut c_void {
    // SAFETY: the caller's arguments.
    unsafe { mmap(address, len, protection, flags, file, offset) }
}

/// `munmap(2)`.
///
/// # Safety
/// As there.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn munmap(address: *mut c_void, len: size_t) -> c_int {
    let words = [address.expose_provenance(), len, 0, 0, 0, 0];
    about_to(MUNMAP.number, words);
    // SAFETY: the caller's arguments.
    unsafe { MUNMAP.call(words) as c_int }
}

/// `mremap(2)`, whose last argument is there with `MREMAP_FIXED` only; else it is whatever its
/// register holds.
///
/// # Safety
/// As there.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn mremap(
    old: *mut c_void,
    old_len: size_t,
    new_len: size_t,
    flags: c_int,
    new: *mut c_void,
) -> *mut c_void {
    let words =
        [old.expose_provenance(), old_len, new_len, flags as usize, new.expose_provenance(), 0];
    about_to(MREMAP.number, words);
    // SAFETY: the caller's arguments.
    std::ptr::with_exposed_provenance_mut(unsafe { MREMAP.call(words) } as usize)
}

/// `mprotect(2)`.
///
/// # Safety
/// As there.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn mprotect(address: *mut c_void, len: size_t, protection: c_int) -> c_int {
    let words = [address.expose_provenance(), len, protection as usize, 0, 0, 0];
    about_to(MPROTECT.number, words);
    // SAFETY: the caller's arguments.
    unsafe { MPROTECT.call(words) as c_int }
}

/// `pkey_mprotect(2)`.
///
/// # Safety
/// As there.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn pkey_mprotect(
    address: *mut c_void,
    len: size_t,
    protection: c_int,
    key: c_int,
) -> c_int {
    let words = [address.expose_provenance(), len, protection as usize, key as usize, 0, 0];
    about_to(PKEY_MPROTECT.number, words);
    // SAFETY: the caller's arguments.
    unsafe { PKEY_MPROTECT.call(words) as c_int }
}

/// The system call with this number is about to be made with these arguments; any other is passed
/// by.
///
/// # Context
/// As [`overwritten::hide`] and [`overwritten::look`].
pub(super) fn about_to(number: libc::c_long, words: [usize; 6]) {
    let [address, len, third, fourth, fifth, _] = words;
    let range = pages(address, len);
    match number {
        libc::SYS_mmap if fourth as c_int & libc::MAP_FIXED != 0 => overwritten::hide(&range),
        libc::SYS_munmap => overwritten::hide(&range),
        libc::SYS_mremap => {
            overwritten::hide(&range);
            if fourth as c_int & libc::MREMAP_FIXED != 0 {
                overwritten::hide(&pages(fifth, third));
            }
        }
        libc::SYS_mprotect => protect(&range, third as c_int),
        libc::SYS_pkey_mprotect => {
            protect(&range, third as c_int);
            if fourth as c_int > 0 {
                // Who may read it, the key says.
                overwritten::hide(&range);
            }
        }
        _ => {}
    }
}

fn protect(range: &Range<u64>, protection: c_int) {
    match access(protection) {
        Access::Writable => overwritten::note_writable(range),
        Access::Code => overwritten::look(range),
        Access::Data => {}
        Access::Hidden => overwritten::hide(range),
    }
}

/// What pages are to be.
#[derive(Debug, PartialEq, Eq)]
enum Access {
    Writable,
    /// What was written there before is run from now on.
    Code,
    Data,
    /// They may not be read, where the processor can forbid that of pages with code.
    Hidden,
}

fn access(protection: c_int) -> Access {
    let has = |bit| protection & bit != 0;
    match (has(libc::PROT_WRITE), has(libc::PROT_READ), has(libc::PROT_EXEC)) {
        (true, _, _) => Access::Writable,
        (false, true, true) => Access::Code,
        (false, true, false) => Access::Data,
        (false, false, _) => Access::Hidden,
    }
}

/// The pages that a call means: the kernel's ends with the one that has the last byte.
fn pages(address: usize, len: size_t) -> Range<u64> {
    const PAGE: u64 = 4096;
    let start = address as u64;
    let end = start.saturating_add(len as u64);
    start & !(PAGE - 1)..end.checked_next_multiple_of(PAGE).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::{Access, access, pages};

    #[test]
    fn what_is_asked_for() {
        let [read, write, run] = [libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC];
        assert_eq!(access(read | write | run), Access::Writable);
        assert_eq!(access(read | write), Access::Writable);
        assert_eq!(access(read | run), Access::Code);
        assert_eq!(access(read), Access::Data);
        assert_eq!((access(run), access(0)), (Access::Hidden, Access::Hidden));
    }

    #[test]
    fn pages_are_whole() {
        assert_eq!(pages(0x1000, 0x2000), 0x1000..0x3000);
        assert_eq!(pages(0x1000, 0x2001), 0x1000..0x4000);
        assert!(pages(0x1000, 0).is_empty() && !pages(1 << 40, usize::MAX).is_empty());
    }
}
