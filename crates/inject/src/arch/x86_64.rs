//! x86-64.

pub(crate) mod frame;
pub(crate) mod gadget;
mod registers;
pub(crate) mod restart;
pub(crate) mod rseq;

pub use registers::Registers;
pub(crate) use registers::{
    CALL, arguments_of_function, begin_call, call_number, forget_call, go_to,
    has_failed_to_execute, has_thread_pointer, instruction, is_native, result, stack, uncall,
};

/// `e_machine` of the images that can run here.
pub(crate) const MACHINE: u16 = object::elf::EM_X86_64.0;
/// The relocation that adds where the image lies.
pub(crate) const RELATIVE: u32 = object::elf::R_X86_64_RELATIVE.0;
/// Bytes of a page.
pub(crate) const PAGE: u64 = 4096;
/// Lowest address that a mapping may have; below are the kernel's guard pages.
pub(crate) const LOWEST: u64 = 0x10000;
/// How far a relative jump reaches.
pub(crate) const REACH: u64 = 1 << 31;
