//! The general registers of a thread that stands.

/// The registers, as the kernel hands them to a tracer.
pub type Registers = libc::user_regs_struct;

/// Code segment of 64-bit code.
pub(super) const CODE_64: u64 = 0x33;
/// Direction, resume and trap flags: a function starts without them.
const NOT_AT_ENTRY: u64 = 1 << 10 | 1 << 16 | 1 << 8;

/// Where the thread goes on.
pub(crate) fn instruction(registers: &Registers) -> u64 {
    registers.rip
}

pub(crate) fn go_to(registers: &mut Registers, address: u64) {
    registers.rip = address;
}

pub(crate) fn stack(registers: &Registers) -> u64 {
    registers.rsp
}

/// Whether the thread runs 64-bit code.
pub(crate) fn is_native(registers: &Registers) -> bool {
    registers.cs == CODE_64
}

/// The system call that the thread is in, if it is.
pub(crate) fn call_number(registers: &Registers) -> Option<u64> {
    (registers.orig_rax as i64 >= 0).then_some(registers.orig_rax)
}

/// Whether the thread has a thread pointer.
pub(crate) fn has_thread_pointer(registers: &Registers) -> bool {
    registers.fs_base != 0
}

/// Whether the thread stands behind a system call that was to execute a program, and has not.
pub(crate) fn has_failed_to_execute(registers: &Registers) -> bool {
    let executes = |number| [libc::SYS_execve as u64, libc::SYS_execveat as u64].contains(&number);
    call_number(registers).is_some_and(executes) && result(registers).is_err()
}

/// There is no system call to be restarted.
pub(crate) fn forget_call(registers: &mut Registers) {
    registers.orig_rax = u64::MAX;
}

/// A system call's instruction.
pub(crate) const CALL: [u8; 2] = [0x0f, 0x05];

/// The registers of a thread that stands before a call that it has entered, which is not to be
/// made: at its instruction again, with the number where it was. What the instruction itself
/// changes (rcx, r11) is lost.
pub(crate) fn uncall(registers: &mut Registers, at: u64) {
    registers.rax = registers.orig_rax;
    registers.orig_rax = u64::MAX;
    registers.rip = at;
}

/// The registers for a system call at the instruction `at`, with nothing left to restart.
pub(crate) fn begin_call(
    thread: &Registers,
    at: u64,
    stack: u64,
    number: u64,
    arguments: [u64; 6],
) -> Registers {
    let [rdi, rsi, rdx, r10, r8, r9] = arguments;
    Registers {
        rip: at,
        rsp: stack,
        rax: number,
        // In no system call: the kernel must not look for one to be restarted.
        orig_rax: u64::MAX,
        rdi,
        rsi,
        rdx,
        r10,
        r8,
        r9,
        eflags: thread.eflags & !NOT_AT_ENTRY,
        ..*thread
    }
}

/// What a system call has given.
pub(crate) fn result(registers: &Registers) -> Result<u64, i32> {
    let value = registers.rax as i64;
    if (-4095..0).contains(&value) { Err(-value as i32) } else { Ok(registers.rax) }
}

/// The registers of a thread at the first instruction of a function of the image. The function
/// returns to what lies at `stack`; `kept` are two words that it leaves in registers for that.
pub(crate) fn arguments_of_function(
    thread: &Registers,
    function: u64,
    stack: u64,
    arguments: [u64; 6],
    kept: [u64; 2],
) -> Registers {
    let [rdi, rsi, rdx, rcx, r8, r9] = arguments;
    Registers {
        rip: function,
        rsp: stack,
        rbp: 0,
        rax: 0,
        orig_rax: u64::MAX,
        rdi,
        rsi,
        rdx,
        rcx,
        r8,
        r9,
        rbx: kept[0],
        r12: kept[1],
        eflags: thread.eflags & !NOT_AT_ENTRY,
        ..*thread
    }
}
