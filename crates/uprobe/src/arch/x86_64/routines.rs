//! Where a stub's prologue goes: the addresses of the routines that
//! [`slow_path`](super::slow_path), [`switching`](super::switching),
//! [`goroutine`](super::goroutine) and [`consumer`](super::consumer) define, which call what stands
//! above the stubs.
#![allow(unsafe_code)]

unsafe extern "C" {
    #[link_name = "__trapline_uprobe_slow_entry_v0"]
    static SLOW_ENTRY: u8;
    #[link_name = "__trapline_uprobe_slow_entry_careful_v0"]
    static SLOW_ENTRY_CAREFUL: u8;
    #[link_name = "__trapline_uprobe_switching_entry_v0"]
    static SWITCHING_ENTRY: u8;
    #[link_name = "__trapline_uprobe_goroutine_enter_v0"]
    static GOROUTINE_ENTER: u8;
    #[link_name = "__trapline_uprobe_goroutine_leave_v0"]
    static GOROUTINE_LEAVE: u8;
    #[link_name = "__trapline_uprobe_call_entry_v0"]
    static CALL_ENTRY: u8;
    #[link_name = "__trapline_uprobe_call_entry_careful_v0"]
    static CALL_ENTRY_CAREFUL: u8;
}

/// Address of the routine for stubs' slow tails.
pub(crate) fn slow_path(skips_red_zone: bool) -> u64 {
    let address =
        if skips_red_zone { &raw const SLOW_ENTRY_CAREFUL } else { &raw const SLOW_ENTRY };
    address.addr() as u64
}

/// Address of the routine for stubs' slow tails where there is no stack.
pub(crate) fn switching() -> u64 {
    (&raw const SWITCHING_ENTRY).addr() as u64
}

/// Address of the routine for entries of timed functions of Go, or for their exits.
pub(crate) fn goroutine(leaves: bool) -> u64 {
    let address = if leaves { &raw const GOROUTINE_LEAVE } else { &raw const GOROUTINE_ENTER };
    address.addr() as u64
}

/// Address of the routine for the stubs of sites with consumers.
pub(crate) fn call(skips_red_zone: bool) -> u64 {
    let address =
        if skips_red_zone { &raw const CALL_ENTRY_CAREFUL } else { &raw const CALL_ENTRY };
    address.addr() as u64
}
