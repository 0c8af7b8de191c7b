//! The registers in a signal frame.

use libc::{
    REG_EFL, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RAX,
    REG_RBP, REG_RBX, REG_RCX, REG_RDI, REG_RDX, REG_RIP, REG_RSI, REG_RSP, ucontext_t,
};
use patch::Registers;

/// The registers that the signal interrupted.
pub(super) fn read(frame: &ucontext_t) -> Registers {
    let r = |n: libc::c_int| frame.uc_mcontext.gregs[n as usize].cast_unsigned();
    Registers {
        rax: r(REG_RAX),
        rcx: r(REG_RCX),
        rdx: r(REG_RDX),
        rbx: r(REG_RBX),
        rsp: r(REG_RSP),
        rbp: r(REG_RBP),
        rsi: r(REG_RSI),
        rdi: r(REG_RDI),
        r8: r(REG_R8),
        r9: r(REG_R9),
        r10: r(REG_R10),
        r11: r(REG_R11),
        r12: r(REG_R12),
        r13: r(REG_R13),
        r14: r(REG_R14),
        r15: r(REG_R15),
        rip: r(REG_RIP),
        rflags: r(REG_EFL),
    }
}

/// Makes the thread go on with these registers when the handler returns.
pub(super) fn write(frame: &mut ucontext_t, registers: &Registers) {
    let all = [
        (REG_RAX, registers.rax),
        (REG_RCX, registers.rcx),
        (REG_RDX, registers.rdx),
        (REG_RBX, registers.rbx),
        (REG_RSP, registers.rsp),
        (REG_RBP, registers.rbp),
        (REG_RSI, registers.rsi),
        (REG_RDI, registers.rdi),
        (REG_R8, registers.r8),
        (REG_R9, registers.r9),
        (REG_R10, registers.r10),
        (REG_R11, registers.r11),
        (REG_R12, registers.r12),
        (REG_R13, registers.r13),
        (REG_R14, registers.r14),
        (REG_R15, registers.r15),
        (REG_RIP, registers.rip),
        (REG_EFL, registers.rflags),
    ];
    for (n, value) in all {
        frame.uc_mcontext.gregs[n as usize] = value.cast_signed();
    }
}
