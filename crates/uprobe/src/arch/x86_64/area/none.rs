//! None: no call waits for its return.
#![allow(unsafe_code)]

use core::arch::global_asm;

// What the code that would use it names.
global_asm!(
    ".pushsection .bss.__trapline_uprobe_area,\"aw\",@nobits",
    ".balign 4096",
    ".globl __trapline_uprobe_records_v0",
    ".hidden __trapline_uprobe_records_v0",
    ".type __trapline_uprobe_records_v0,@object",
    "__trapline_uprobe_records_v0:",
    ".skip 4096",
    ".size __trapline_uprobe_records_v0, 4096",
    ".popsection",
);

unsafe extern "C" {
    #[link_name = "__trapline_uprobe_records_v0"]
    static RECORDS: u8;
}

/// There are no return instances: what is for them is left out.
pub(crate) const EXIST: bool = false;

/// Where the first stub would be.
#[inline]
pub(crate) fn code() -> usize {
    0
}

/// The first chunk's records, of which none is ever in use.
#[inline]
pub(crate) fn records() -> *mut u8 {
    (&raw const RECORDS).cast_mut()
}

/// No address lies in a stub.
#[inline]
pub(crate) fn offset_of(_address: u64) -> Option<u32> {
    None
}

/// There is nothing to map.
pub(crate) fn map() -> bool {
    false
}
