//! From the first instruction to `main`. An injector would do the same from outside.
#![allow(unsafe_code)]

use core::arch::naked_asm;
use core::ffi::{CStr, c_char};
use sys::process::exit_group;

/// What the kernel jumps to: the stack has the number of arguments on top, and nothing is
/// relocated.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    naked_asm!(
        // Nobody has called it: stacks end here.
        ".cfi_startproc",
        ".cfi_undefined rip",
        "xor ebp, ebp",
        "mov rdi, rsp",
        "lea rsi, [rip + __ehdr_start]",
        "lea rdx, [rip + _DYNAMIC]",
        "and rsp, -16",
        "call {begin}",
        "ud2",
        ".cfi_endproc",
        begin = sym begin,
    )
}

/// An entry of the dynamic section.
#[repr(C)]
struct Dynamic {
    tag: usize,
    value: usize,
}

/// A relocation with its addend in it.
#[repr(C)]
struct Rela {
    offset: usize,
    info: usize,
    addend: usize,
}

const DT_NULL: usize = 0;
const DT_RELA: usize = 7;
const DT_RELASZ: usize = 8;
const R_X86_64_RELATIVE: usize = 8;

extern "C" fn begin(stack: *const usize, base: *const u8, mut entry: *const Dynamic) -> ! {
    let (mut from, mut bytes) = (0, 0);
    loop {
        // SAFETY: the dynamic section ends with DT_NULL.
        let Dynamic { tag, value } = unsafe { entry.read() };
        match tag {
            DT_NULL => break,
            DT_RELA => from = value,
            DT_RELASZ => bytes = value,
            _ => {}
        }
        entry = entry.wrapping_add(1);
    }
    let table = base.wrapping_add(from).cast::<Rela>();
    for index in 0..bytes / size_of::<Rela>() {
        // SAFETY: inside the table.
        let Rela { offset, info, addend } = unsafe { table.wrapping_add(index).read() };
        if info != R_X86_64_RELATIVE {
            exit_group(98);
        }
        let place = base.wrapping_add(offset).cast::<usize>().cast_mut();
        // SAFETY: a word of the program's data, which the linker has chosen.
        unsafe { place.write(base.addr() + addend) };
    }
    crate::heap::begin();
    crate::main(&Program { arguments: stack, base: base.addr() as u64 });
    exit_group(0)
}

/// What the kernel has started.
pub(crate) struct Program {
    /// Their number, and their addresses.
    arguments: *const usize,
    /// Where its first byte is.
    pub(crate) base: u64,
}

impl Program {
    /// An argument, if there are as many.
    pub(crate) fn argument(&self, index: usize) -> Option<&'static CStr> {
        // SAFETY: the first word on the stack at the first instruction.
        let number = unsafe { self.arguments.read() };
        let place = self.arguments.wrapping_add(1 + index).cast::<*const c_char>();
        (index < number).then(|| {
            // SAFETY: there are as many.
            let argument = unsafe { place.read() };
            // SAFETY: arguments are strings of C, and stay where they are.
            unsafe { CStr::from_ptr(argument) }
        })
    }

    /// The end of the first stack, or not far from it: it ends with what arguments are made of.
    pub(crate) fn stack_end(&self) -> u64 {
        let last =
            (0..).map_while(|n| self.argument(n)).map(|a| a.to_bytes_with_nul().as_ptr_range());
        last.map(|bytes| bytes.end.addr() as u64).max().unwrap_or(0)
    }
}
