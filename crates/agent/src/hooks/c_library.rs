//! Functions of the C library that the agent probes for itself.
#![allow(unsafe_code)]

use crate::own_probes::OwnProbes;
use crate::watched;
use std::ffi::CStr;
use std::ptr;
use uprobe::{Action, Consumer, Context, Target, Vectors, Verdict};

/// Bytes that are looked at; the functions are longer, and nothing in their first bytes depends on
/// the rest.
const SIZE_LIMIT: u64 = 64;

/// What a probe of ours calls: with the number below that it was added with, shifted by
/// [`NUMBER_BITS`], and the function's number for [`watched::count`] above it.
pub(super) type Called = fn(&mut Context, usize, &mut u64) -> Verdict;

/// Bits of the number that a probe was added with.
const NUMBER_BITS: u32 = 8;

/// Adds a probe on the entry of an exported function; `number` is below 256, and `without` is what
/// the log says where it cannot be. One that is not there, or whose size nobody knows, is left out.
pub(super) fn add(
    probes: &mut OwnProbes<'_>,
    name: &CStr,
    called: Called,
    number: usize,
    without: &'static str,
) {
    debug_assert!(name.to_str().is_ok_and(|name| wire::WATCHED.contains(&name)), "{name:?}");
    // SAFETY: a name that lives through the call.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    let Some(size) = size_of_function(address) else { return };
    let Some(watch) = watched::add(address.addr() as u64) else { return };
    let consumer = Consumer {
        entry: Some(called),
        ret: None,
        span: None,
        busy: Some(meanwhile),
        data: watch << NUMBER_BITS | number,
        vectors: Vectors::All,
        limit: 0,
    };
    // The C library calls some of its functions with all signals blocked, where a breakpoint kills.
    let entry = Target::entry(address.addr() as u64, size, Action::Call(consumer));
    probes.add(Target { returns: false, traps: false, ..entry }, without);
}

/// A hit in the middle of another one, by a signal handler: only counted for who wants it.
fn meanwhile(data: usize) {
    count(data);
}

/// At the hit of such a probe: counts it for who wants it, and gives the number that it was added
/// with.
pub(super) fn count(data: usize) -> usize {
    watched::count(data >> NUMBER_BITS);
    data & ((1 << NUMBER_BITS) - 1)
}

/// Bytes of an exported function, from its symbol.
fn size_of_function(address: *const std::ffi::c_void) -> Option<u32> {
    if address.is_null() {
        return None;
    }
    // SAFETY: zero is a valid Dl_info.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    let mut symbol: *const libc::Elf64_Sym = ptr::null();
    // SAFETY: places for the answers; RTLD_DL_SYMENT asks for the symbol.
    let found =
        unsafe { dladdr1(address, &raw mut info, (&raw mut symbol).cast(), RTLD_DL_SYMENT) } != 0;
    // SAFETY: the loader's table.
    let symbol = unsafe { symbol.as_ref() }.filter(|_| found)?;
    u32::try_from(symbol.st_size)
        .ok()
        .filter(|size| u64::from(*size) < 64 * SIZE_LIMIT && *size > 0)
}

const RTLD_DL_SYMENT: libc::c_int = 1;

unsafe extern "C" {
    fn dladdr1(
        address: *const std::ffi::c_void,
        info: *mut libc::Dl_info,
        extra: *mut *mut std::ffi::c_void,
        flags: libc::c_int,
    ) -> libc::c_int;
}
