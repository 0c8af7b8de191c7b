//! What the kernel gives to a signal handler, as it lays it out (Linux
//! `arch/x86/include/uapi/asm/ucontext.h` and `sigcontext.h`): a C library's `ucontext_t` begins
//! like that, and goes on with what only the library fills in.

use crate::kernel::Mask;
use patch::Registers;
use sys::signal::Stack;

/// The beginning of `siginfo_t`.
#[repr(C)]
pub(crate) struct Info {
    pub(crate) signal: i32,
    errno: i32,
    /// Where the signal comes from; above 0 from the kernel.
    pub(crate) code: i32,
}

/// Where the thread was, and goes on when the handler returns.
#[repr(C)]
pub(crate) struct Frame {
    flags: u64,
    link: usize,
    /// The thread's signal stack.
    pub(crate) stack: Stack,
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
    rflags: u64,
    segments: [u16; 4],
    error: u64,
    trap: u64,
    old_mask: u64,
    fault: u64,
    vectors: usize,
    reserved: [u64; 8],
    /// What is blocked behind the handler.
    pub(crate) mask: Mask,
}

impl Frame {
    /// The registers that the signal interrupted.
    pub(crate) fn registers(&self) -> Registers {
        Registers {
            rax: self.rax,
            rcx: self.rcx,
            rdx: self.rdx,
            rbx: self.rbx,
            rsp: self.rsp,
            rbp: self.rbp,
            rsi: self.rsi,
            rdi: self.rdi,
            r8: self.r8,
            r9: self.r9,
            r10: self.r10,
            r11: self.r11,
            r12: self.r12,
            r13: self.r13,
            r14: self.r14,
            r15: self.r15,
            rip: self.rip,
            rflags: self.rflags,
        }
    }

    /// Makes the thread go on with these registers when the handler returns.
    pub(crate) fn set_registers(&mut self, registers: &Registers) {
        self.rax = registers.rax;
        self.rcx = registers.rcx;
        self.rdx = registers.rdx;
        self.rbx = registers.rbx;
        self.rsp = registers.rsp;
        self.rbp = registers.rbp;
        self.rsi = registers.rsi;
        self.rdi = registers.rdi;
        self.r8 = registers.r8;
        self.r9 = registers.r9;
        self.r10 = registers.r10;
        self.r11 = registers.r11;
        self.r12 = registers.r12;
        self.r13 = registers.r13;
        self.r14 = registers.r14;
        self.r15 = registers.r15;
        self.rip = registers.rip;
        self.rflags = registers.rflags;
    }
}

#[cfg(test)]
mod tests {
    use super::{Frame, Info};
    use core::mem::offset_of;
    use libc::{mcontext_t, siginfo_t, ucontext_t};

    /// The C library's words for the same.
    #[test]
    fn as_the_c_library_has_it() {
        assert_eq!(offset_of!(Info, code), offset_of!(siginfo_t, si_code));
        assert_eq!(offset_of!(Frame, stack), offset_of!(ucontext_t, uc_stack));
        assert_eq!(offset_of!(Frame, mask), offset_of!(ucontext_t, uc_sigmask));
        let registers = offset_of!(ucontext_t, uc_mcontext) + offset_of!(mcontext_t, gregs);
        let at = |number: libc::c_int| registers + 8 * number as usize;
        let table = [
            (offset_of!(Frame, r8), libc::REG_R8),
            (offset_of!(Frame, r9), libc::REG_R9),
            (offset_of!(Frame, r10), libc::REG_R10),
            (offset_of!(Frame, r11), libc::REG_R11),
            (offset_of!(Frame, r12), libc::REG_R12),
            (offset_of!(Frame, r13), libc::REG_R13),
            (offset_of!(Frame, r14), libc::REG_R14),
            (offset_of!(Frame, r15), libc::REG_R15),
            (offset_of!(Frame, rdi), libc::REG_RDI),
            (offset_of!(Frame, rsi), libc::REG_RSI),
            (offset_of!(Frame, rbp), libc::REG_RBP),
            (offset_of!(Frame, rbx), libc::REG_RBX),
            (offset_of!(Frame, rdx), libc::REG_RDX),
            (offset_of!(Frame, rax), libc::REG_RAX),
            (offset_of!(Frame, rcx), libc::REG_RCX),
            (offset_of!(Frame, rsp), libc::REG_RSP),
            (offset_of!(Frame, rip), libc::REG_RIP),
            (offset_of!(Frame, rflags), libc::REG_EFL),
            (offset_of!(Frame, error), libc::REG_ERR),
            (offset_of!(Frame, fault), libc::REG_CR2),
        ];
        for (ours, theirs) in table {
            assert_eq!(ours, at(theirs), "{theirs}");
        }
        let vectors = offset_of!(ucontext_t, uc_mcontext) + offset_of!(mcontext_t, fpregs);
        assert_eq!(offset_of!(Frame, vectors), vectors);
    }
}
