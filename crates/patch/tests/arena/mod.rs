//! A place to run a few instructions with chosen registers: memory far from everything else, a way
//! in, and ways out (a thunk for every exit, a signal handler for every fault). It can step.
//!
//! Only one thread may use it at a time.
// test machinery: raw memory throughout, all of it in the mapping that `Arena::new` makes
#![allow(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]

pub(crate) mod windows;

use patch::Registers;
use std::cell::UnsafeCell;
use std::ops::Range;

/// The mapping: nothing else is within 2^40 bytes, so that wild accesses of random instructions
/// fault.
pub(crate) const BASE: u64 = 0x2000_0000_0000;
/// Original code.
pub(crate) const CODE: u64 = BASE + 0x1000;
/// Thunks: 64 bytes each. Registers may point here, so that indirect jumps arrive; stores fault.
pub(crate) const THUNKS: u64 = BASE + 0x4000;
pub(crate) const THUNK_COUNT: u64 = 16;
const EXIT: u64 = BASE + 0xf_0000;
/// Eight bytes for code that is inserted.
#[allow(dead_code)] // not every test inserts some
pub(crate) const NOTE: u64 = EXIT + 0x800;
/// Relocated code.
pub(crate) const RELOCATED: u64 = BASE + 0x10_0000;
/// Data; the registers point to its middle.
pub(crate) const SCRATCH: u64 = BASE + 0x20_0000;
pub(crate) const SCRATCH_BYTES: u64 = 0x4000;
pub(crate) const STACK: u64 = BASE + 0x30_0000;
pub(crate) const STACK_BYTES: u64 = 0x2000;
const BYTES: u64 = 0x40_0000;

const TRAP_FLAG: u64 = 1 << 8;
/// Arithmetic and direction flags.
const FLAGS: u64 = 0xcd5;
const STEPS: usize = 200;
/// [`Outcome::fault`] of a run that did not end in time.
pub(crate) const RUNAWAY: i32 = -1;

core::arch::global_asm!(
    ".globl patch_test_enter, patch_test_exit, patch_test_resume, patch_test_out",
    "patch_test_enter:",
    "push rbx; push rbp; push r12; push r13; push r14; push r15",
    "mov [rip + patch_test_host], rsp",
    // What is popped by `iretq`: steps begin where it leads.
    "mov eax, ss; push rax; push [rdi + 32]; push [rdi + 136]",
    "mov eax, cs; push rax; push [rdi + 128]",
    "pxor xmm0, xmm0; pxor xmm1, xmm1; pxor xmm2, xmm2; pxor xmm3, xmm3; pxor xmm4, xmm4; pxor \
        xmm5, xmm5; pxor xmm6, xmm6; pxor xmm7, xmm7",
    "movq xmm8, [rdi]; movq xmm9, [rdi + 8]; movq xmm10, [rdi + 16]; movq xmm11, [rdi + 24]",
    "movq xmm12, [rdi + 48]; movq xmm13, [rdi + 56]",
    "movq xmm14, [rdi + 64]; movq xmm15, [rdi + 72]",
    "mov rax, [rdi]; mov rcx, [rdi + 8]; mov rdx, [rdi + 16]; mov rbx, [rdi + 24]; \
        mov rbp, [rdi + 40]; mov rsi, [rdi + 48]",
    "mov r8, [rdi + 64]; mov r9, [rdi + 72]; mov r10, [rdi + 80]; mov r11, [rdi + 88]; mov r12, \
        [rdi + 96]; mov r13, [rdi + 104]; mov r14, [rdi + 112]; mov r15, [rdi + 120]",
    "mov rdi, [rdi + 56]",
    "iretq",
    "patch_test_exit:",
    "mov [rip + patch_test_out], rax; mov [rip + patch_test_out + 8], rcx; mov [rip + \
        patch_test_out + 16], rdx; mov [rip + patch_test_out + 24], rbx",
    "mov [rip + patch_test_out + 32], rsp; mov [rip + patch_test_out + 40], rbp; mov [rip + \
        patch_test_out + 48], rsi; mov [rip + patch_test_out + 56], rdi",
    "mov [rip + patch_test_out + 64], r8; mov [rip + patch_test_out + 72], r9; mov [rip + \
        patch_test_out + 80], r10; mov [rip + patch_test_out + 88], r11",
    "mov [rip + patch_test_out + 96], r12; mov [rip + patch_test_out + 104], r13; mov [rip + \
        patch_test_out + 112], r14; mov [rip + patch_test_out + 120], r15",
    "mov rsp, [rip + patch_test_host]",
    "pushfq; pop [rip + patch_test_out + 136]",
    "patch_test_resume:",
    "mov rsp, [rip + patch_test_host]",
    "push 0x202; popfq",
    "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx",
    "ret",
    ".bss",
    ".balign 8",
    "patch_test_host: .skip 8",
    "patch_test_out: .skip 144",
    ".text",
);

unsafe extern "C" {
    fn patch_test_enter(registers: *const Registers);
    fn patch_test_exit();
    fn patch_test_resume();
    static mut patch_test_out: Registers;
}

struct Shared(UnsafeCell<Recording>);
unsafe impl Sync for Shared {}

struct Recording {
    fault: i32,
    steps: usize,
    trace: [Registers; STEPS],
}

const NOTHING: Registers = Registers {
    rax: 0,
    rcx: 0,
    rdx: 0,
    rbx: 0,
    rsp: 0,
    rbp: 0,
    rsi: 0,
    rdi: 0,
    r8: 0,
    r9: 0,
    r10: 0,
    r11: 0,
    r12: 0,
    r13: 0,
    r14: 0,
    r15: 0,
    rip: 0,
    rflags: 0,
};

static RECORDING: Shared =
    Shared(UnsafeCell::new(Recording { fault: 0, steps: 0, trace: [NOTHING; STEPS] }));

/// How a run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Outcome {
    /// Signal of the fault that ended it; 0: by a thunk.
    pub fault: i32,
    /// Registers at the end; rip is the thunk's number, or the address of the fault.
    pub registers: Registers,
    /// The state before every instruction in [`CODE`] and [`RELOCATED`], if it was stepped.
    pub trace: Vec<Registers>,
    pub scratch: Vec<u8>,
    pub stack: Vec<u8>,
}

pub(crate) struct Arena(());

fn from_context(context: &libc::ucontext_t) -> Registers {
    let g = &context.uc_mcontext.gregs;
    let r = |n: libc::c_int| g[n as usize] as u64;
    Registers {
        rax: r(libc::REG_RAX),
        rcx: r(libc::REG_RCX),
        rdx: r(libc::REG_RDX),
        rbx: r(libc::REG_RBX),
        rsp: r(libc::REG_RSP),
        rbp: r(libc::REG_RBP),
        rsi: r(libc::REG_RSI),
        rdi: r(libc::REG_RDI),
        r8: r(libc::REG_R8),
        r9: r(libc::REG_R9),
        r10: r(libc::REG_R10),
        r11: r(libc::REG_R11),
        r12: r(libc::REG_R12),
        r13: r(libc::REG_R13),
        r14: r(libc::REG_R14),
        r15: r(libc::REG_R15),
        rip: r(libc::REG_RIP),
        rflags: r(libc::REG_EFL) & FLAGS,
    }
}

extern "C" fn on_signal(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    const TRAP_TRACE: i32 = 2;
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let recording = unsafe { &mut *RECORDING.0.get() };
    let registers = from_context(context);
    let inside = (CODE..CODE + 0x1000).contains(&registers.rip)
        || (RELOCATED..RELOCATED + 0x1000).contains(&registers.rip);
    if signal == libc::SIGTRAP && unsafe { (*info).si_code } == TRAP_TRACE {
        if !inside {
            if !(BASE..BASE + BYTES).contains(&registers.rip) {
                // Out again.
                context.uc_mcontext.gregs[libc::REG_EFL as usize] &= !(TRAP_FLAG as i64);
            }
            return;
        }
        if recording.steps < STEPS {
            recording.trace[recording.steps] = registers;
            recording.steps += 1;
            return;
        }
    }
    if signal == libc::SIGVTALRM && !(BASE..BASE + BYTES).contains(&registers.rip) {
        return;
    }
    let long = recording.steps == STEPS || signal == libc::SIGVTALRM;
    recording.fault = if long { RUNAWAY } else { signal };
    unsafe { patch_test_out = registers };
    context.uc_mcontext.gregs[libc::REG_RIP as usize] = patch_test_resume as *const () as i64;
    context.uc_mcontext.gregs[libc::REG_EFL as usize] = 0x202;
}

/// Where code is written: the same memory as at [`BASE`], where it can be run and not written.
const WRITABLE: u64 = 0x2100_0000_0000;
const PAGE: u64 = 0x1000;

fn map_code() {
    unsafe {
        let code = libc::memfd_create(c"arena".as_ptr(), libc::MFD_CLOEXEC);
        assert_eq!(libc::ftruncate(code, (SCRATCH - BASE) as i64), 0);
        let map = |at: u64, offset: u64, bytes: u64, protection| {
            let flags = libc::MAP_SHARED | libc::MAP_FIXED;
            let offset = offset as i64;
            let map = libc::mmap(at as *mut _, bytes as usize, protection, flags, code, offset);
            assert_eq!(map as u64, at, "{}", std::io::Error::last_os_error());
        };
        for page in [CODE, THUNKS, RELOCATED] {
            map(page, page - BASE, PAGE, libc::PROT_READ | libc::PROT_EXEC);
        }
        map(WRITABLE, 0, SCRATCH - BASE, libc::PROT_READ | libc::PROT_WRITE);
        libc::close(code);
    }
}

/// Code is run at another address than it was written at, so the processor has to be told: by
/// `iretq`, which does not leave a virtual machine, to the next instruction.
fn serialize() {
    unsafe {
        std::arch::asm!(
            "mov {stack}, rsp",
            "mov {part:e}, ss",
            "push {part}",
            "push {stack}",
            "pushfq",
            "mov {part:e}, cs",
            "push {part}",
            "lea {part}, [rip + 2f]",
            "push {part}",
            "iretq",
            "2:",
            stack = out(reg) _,
            part = out(reg) _,
        );
    }
}

fn protect(address: u64, bytes: u64, protection: libc::c_int) {
    assert_eq!(unsafe { libc::mprotect(address as *mut _, bytes as usize, protection) }, 0);
}

impl Arena {
    /// Maps the memory and catches the signals of faults.
    pub(crate) fn new() -> Self {
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
            let map = libc::mmap(BASE as *mut _, BYTES as usize, libc::PROT_NONE, flags, -1, 0);
            assert_eq!(map as u64, BASE, "{}", std::io::Error::last_os_error());
            map_code();
            // What is not written afresh for every run must fault.
            protect(SCRATCH, SCRATCH_BYTES, libc::PROT_READ | libc::PROT_WRITE);
            protect(STACK, STACK_BYTES, libc::PROT_READ | libc::PROT_WRITE);
            protect(EXIT, 0x1000, libc::PROT_READ | libc::PROT_WRITE);
            let stack: &'static mut [u8] = Box::leak(vec![0; 1 << 16].into_boxed_slice());
            let alternate = libc::stack_t {
                ss_sp: stack.as_mut_ptr().cast(),
                ss_flags: 0,
                ss_size: stack.len(),
            };
            assert_eq!(libc::sigaltstack(&alternate, std::ptr::null_mut()), 0);
            for signal in [
                libc::SIGSEGV,
                libc::SIGBUS,
                libc::SIGFPE,
                libc::SIGILL,
                libc::SIGTRAP,
                libc::SIGVTALRM,
            ] {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_signal as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
                assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
            }
        }
        let arena = Self(());
        for n in 0..THUNK_COUNT {
            // mov dword [EXIT], n; jmp [rip+0]; the exit's address. No flag changes.
            let at = THUNKS + n * 64;
            let mut thunk = vec![0xc7, 0x05];
            thunk.extend(((EXIT as i64 - (at as i64 + 10)) as i32).to_le_bytes());
            thunk.extend((n as u32).to_le_bytes());
            thunk.extend([0xff, 0x25, 0, 0, 0, 0]);
            thunk.extend((patch_test_exit as *const () as u64).to_le_bytes());
            arena.write(at, &thunk);
        }
        arena
    }

    /// From now on runs that are not stepped end, too: every so often one is taken for endless.
    #[allow(dead_code)] // not every test has such runs
    pub(crate) fn end_all(&self) {
        let every = libc::timeval { tv_sec: 0, tv_usec: 20_000 };
        let timer = libc::itimerval { it_interval: every, it_value: every };
        let set = unsafe { libc::setitimer(libc::ITIMER_VIRTUAL, &timer, std::ptr::null_mut()) };
        assert_eq!(set, 0);
    }

    pub(crate) fn write(&self, address: u64, bytes: &[u8]) {
        assert!(address >= BASE && address + bytes.len() as u64 <= BASE + BYTES);
        let code = address < SCRATCH && address & !(PAGE - 1) != EXIT;
        let at = if code { address - BASE + WRITABLE } else { address };
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len()) };
        if code {
            serialize();
        }
    }

    pub(crate) fn read(&self, range: Range<u64>) -> Vec<u8> {
        assert!(range.start >= BASE && range.end <= BASE + BYTES);
        unsafe {
            std::slice::from_raw_parts(range.start as *const u8, (range.end - range.start) as usize)
        }
        .to_vec()
    }

    /// Runs from `registers.rip` until a thunk or a fault.
    pub(crate) fn run(&self, registers: &Registers, step: bool) -> Outcome {
        let mut registers = *registers;
        registers.rflags = registers.rflags & FLAGS | 0x202 | if step { TRAP_FLAG } else { 0 };
        unsafe {
            let recording = RECORDING.0.get();
            (*recording).fault = 0;
            (*recording).steps = usize::from(step);
            // The first trap comes behind the first instruction.
            (*recording).trace[0] = Registers { rflags: registers.rflags & FLAGS, ..registers };
            patch_test_enter(&registers);
            let fault = (*recording).fault;
            let trace = (&(*recording).trace)[..(*recording).steps].to_vec();
            let mut end = patch_test_out;
            end.rflags &= FLAGS;
            if fault == 0 {
                end.rip = u64::from((EXIT as *const u32).read_volatile());
            }
            Outcome {
                fault,
                registers: end,
                trace,
                scratch: self.read(SCRATCH..SCRATCH + SCRATCH_BYTES),
                stack: self.read(STACK..STACK + STACK_BYTES),
            }
        }
    }
}
