//! In the object that the engine is linked into.
//!
//! # Unwinding
//! The code half is reserved in `.bss` between `.cfi_startproc` and `.cfi_endproc`, so the unwind
//! tables of whatever object this is linked into cover it from the start, and nothing is registered
//! at run time. One entry describes all stubs, by expressions over the instruction pointer: the
//! canonical frame address is rsp + 8 for each instruction of the prologue that has moved rsp, and
//! the return address is what the record says, less one, because the entry is that of a signal
//! frame: unwinders then take the address as it is, and tell this frame from its caller, which has
//! the same frame address.
#![allow(unsafe_code)]

use super::size::{HALF, RETURN, STUB};
use crate::descriptor::Descriptor;
use alloc::vec::Vec;
use core::arch::global_asm;
use sys::memory::{MAP_FIXED, MAP_PRIVATE, PROT_EXEC, PROT_READ};

global_asm!(
    ".pushsection .bss.__trapline_uprobe_area,\"aw\",@nobits",
    ".balign 4096",
    ".globl __trapline_uprobe_code_v0",
    ".hidden __trapline_uprobe_code_v0",
    ".type __trapline_uprobe_code_v0,@object",
    "__trapline_uprobe_code_v0:",
    ".cfi_startproc",
    ".cfi_signal_frame",
    // DW_CFA_def_cfa_expression: rsp + ((rip & 63) >= 11) * 8 + ((rip & 63) >= 12) * 8: breg7 0;
    // breg16 0; const1u 63; and; dup; lit11; ge; lit3; shl; swap; lit12; ge; lit3; shl; plus; plus
    ".cfi_escape 0x0f, 19, 0x77,0, 0x80,0, 0x08,63, 0x1a, 0x12, 0x3b, 0x2a, 0x33, 0x24, 0x16, \
        0x3c, 0x2a, 0x33, 0x24, 0x22, 0x22",
    // DW_CFA_val_expression of the return address: [(rip & -64) + HALF + 8] - 1:
    // breg16 0; const1s -64; and; const4u HALF + 8; plus; deref; lit1; minus
    ".cfi_escape 0x16, 0x10, 14, 0x80,0, 0x09,0xc0, 0x1a, 0x0c,8,0,0,1, 0x22, 0x06, 0x31, 0x1c",
    ".skip 16777216",
    ".cfi_endproc",
    ".size __trapline_uprobe_code_v0, 16777216",
    ".globl __trapline_uprobe_records_v0",
    ".hidden __trapline_uprobe_records_v0",
    ".type __trapline_uprobe_records_v0,@object",
    "__trapline_uprobe_records_v0:",
    ".skip 16777216",
    ".size __trapline_uprobe_records_v0, 16777216",
    ".popsection",
);

unsafe extern "C" {
    #[link_name = "__trapline_uprobe_code_v0"]
    static CODE: u8;
    #[link_name = "__trapline_uprobe_records_v0"]
    static RECORDS: u8;
}

/// There are return instances.
pub(crate) const EXIST: bool = true;

/// Address of the first stub.
#[inline]
pub(crate) fn code() -> usize {
    (&raw const CODE).addr()
}

/// The first record.
#[inline]
pub(crate) fn records() -> *mut u8 {
    (&raw const RECORDS).cast_mut()
}

/// The offset of the instance whose stub an address lies in; `None`: it lies in none.
#[inline]
pub(crate) fn offset_of(address: u64) -> Option<u32> {
    let offset = (address as usize).wrapping_sub(code());
    (offset < HALF).then_some((offset & !(STUB - 1)) as u32)
}

/// The bytes of every stub.
fn stub() -> [u8; STUB] {
    let field = |at: usize, field: usize| ((HALF + field - at) as u32).to_le_bytes();
    let mut bytes = [0xcc; STUB];
    let mut put = |at: usize, code: &[u8]| bytes[at..at + code.len()].copy_from_slice(code);
    put(0, &[0xff, 0x15]);
    put(2, &field(RETURN, 0));
    put(RETURN, &[0x48, 0x8d, 0x64, 0x24, 0xf8]);
    put(11, &[0x50]);
    put(12, &[0x48, 0x8d, 0x05]);
    put(15, &field(19, 0));
    put(19, &[0xff, 0x25]);
    put(21, &field(25, 16));
    bytes
}

/// Bytes of the file that is mapped again and again: few enough to cost little, many enough that
/// few mappings make the area.
const TEMPLATE: usize = 256 * 1024;

/// Maps the code half. False: the kernel refused; then there are no return probes.
///
/// # Context
/// About 70 system calls; once per process.
pub(crate) fn map() -> bool {
    let Some(file) = Descriptor::in_memory(c"trapline", TEMPLATE) else { return false };
    let template: Vec<u8> = stub().iter().copied().cycle().take(TEMPLATE).collect();
    file.write(&template, 0) && (0..HALF).step_by(TEMPLATE).all(|at| map_part(&file, at))
}

fn map_part(file: &Descriptor, at: usize) -> bool {
    let (protection, flags) = (PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED);
    // SAFETY: replaces a part of the code half, which nobody uses before this function has returned
    // true.
    unsafe { file.map(code() + at, TEMPLATE, protection, flags) }.is_some()
}
