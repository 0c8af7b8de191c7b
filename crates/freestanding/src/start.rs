//! From the first instruction to `main`. An injector would do the same from outside.
#![allow(unsafe_code)]

use crate::program::Program;
use core::arch::naked_asm;
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
