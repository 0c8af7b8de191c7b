//! Blocks for threads, targets that can be patched by hand, and sums over all blocks.
#![allow(unsafe_code, dead_code, missing_docs, unreachable_pub)]

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use patch::Liveness;
use std::sync::{Mutex, OnceLock, PoisonError};
use uprobe::testing::{self, Armed, Kind};
use uprobe::{
    Action, Config, Consumer, Context, Engine, Hooks, Loss, Patching, Returns, Seen, Target,
    Vectors,
};

/// Whether returns are seen at exits in this run of the tests, of which there are two.
pub const EXITS: bool = {
    let name = env!("CARGO_CRATE_NAME").as_bytes();
    name.len() > 6 && matches!(name.first_chunk(), Some(b"exits_"))
};

pub const BLOCKS: usize = 128;
const WORDS: usize = 16 * 1024 / 8;

struct Block {
    used: AtomicBool,
    words: [AtomicU64; WORDS],
}

static ALL: [Block; BLOCKS] =
    [const { Block { used: AtomicBool::new(false), words: [const { AtomicU64::new(0) }; WORDS] } };
        BLOCKS];

fn thread_start() -> *mut u8 {
    ALL.iter()
        .find(|b| {
            b.used.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
        })
        .map_or(core::ptr::null_mut(), |b| (&raw const b.words).cast::<u8>().cast_mut())
}

fn thread_exit(block: *mut u8) {
    if let Some(b) = ALL.iter().find(|b| (&raw const b.words).cast::<u8>() == block.cast_const()) {
        b.used.store(false, Ordering::Release);
    }
}

pub static LOST: [AtomicU64; uprobe::LOSSES] = [const { AtomicU64::new(0) }; uprobe::LOSSES];

fn lost(loss: Loss) {
    LOST[loss as usize].fetch_add(1, Ordering::Relaxed);
}

pub fn hooks() -> Hooks {
    Hooks { thread_start, thread_exit, lost }
}

pub fn start() {
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| testing::start(hooks()).expect("the hit path"));
}

/// The n-th timed cell of every block; there are five.
pub const fn cell(n: u32) -> u32 {
    assert!(n < 5);
    64 + n * wire::cell::TIMED_BYTES as u32
}

/// A field of a cell over all blocks.
pub fn sum(cell: u32, field: usize) -> u64 {
    ALL.iter().map(|b| b.words[(cell as usize + field) / 8].load(Ordering::Relaxed)).sum()
}

pub fn calls(cell: u32) -> u64 {
    sum(cell, wire::cell::CALLS)
}

pub fn returns(cell: u32) -> u64 {
    sum(cell, wire::cell::RETURNS)
}

pub fn unwound(cell: u32) -> u64 {
    sum(cell, wire::cell::UNWOUND)
}

pub fn untimed(cell: u32) -> u64 {
    sum(cell, wire::cell::UNTIMED)
}

pub fn buckets(cell: u32) -> u64 {
    (0..wire::cell::BUCKET_COUNT).map(|b| sum(cell, wire::cell::BUCKETS + 8 * b)).sum()
}

/// At the entry of a function under the calling convention.
pub const ENTRY: Liveness =
    Liveness { flags: false, rax: false, r10: false, r11: false, red_zone: false, ..Liveness::ALL };

/// Arms a target of this file (they begin with five bytes that run anywhere).
pub fn arm(function: usize, kind: Kind) -> Armed {
    start();
    arm_with(function, kind, &ENTRY, false)
}

pub fn arm_with(function: usize, kind: Kind, live: &Liveness, loops: bool) -> Armed {
    /// Two at once would take the pages' protection from each other.
    static ONE: Mutex<()> = Mutex::new(());
    start();
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if EXITS && !matches!(kind, Kind::Count(_)) {
        return arm_exits(function as u64, kind);
    }
    // SAFETY: see above; tests arm before they call.
    unsafe { testing::arm(function, 5, kind, live, loops) }.expect("memory near the target")
}

/// The same by the engine, with its exits.
fn arm_exits(function: u64, kind: Kind) -> Armed {
    fn nothing(_: &mut Context, _: usize, _: u64) {}
    let engine = Engine::start(hooks(), Config::default()).expect("the engine");
    let action = match kind {
        Kind::Count(cell) => Action::Count { cell },
        Kind::Time(cell) => Action::Time { cell },
        Kind::Pair(cell) => Action::CountReturn { cell },
        Kind::Call => Action::Call(Consumer {
            entry: None,
            ret: Some(nothing),
            span: None,
            busy: None,
            data: 0,
            vectors: Vectors::Sse,
            limit: 0,
        }),
    };
    let size = size_of(function);
    let mut batch = engine.batch();
    let after = size.next_multiple_of(64) - size;
    batch.add(Target { after, by: Returns::Exits, ..Target::entry(function, size, action) });
    let armed = batch.commit(Patching::Quiet).remove(0).expect("armed");
    assert!(matches!(armed.returns, Some(Seen::Exits(_))), "{armed:?}");
    let armed = Armed::of(armed);
    // It was there for the exits.
    armed.remove_all();
    armed
}

/// As the symbol table of this file has it.
fn size_of(function: u64) -> u32 {
    use object::{Object, ObjectSymbol};
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    let bytes = FILE.get_or_init(|| std::fs::read("/proc/self/exe").expect("this file"));
    let file = object::File::parse(&**bytes).expect("an ELF file");
    let known = file.symbols().find(|s| s.name() == Ok("wrap_a")).expect("the targets");
    let slide = (wrap_a as *const () as u64).wrapping_sub(known.address());
    let its = |s: &object::Symbol<'_, '_>| s.address().wrapping_add(slide) == function;
    file.symbols().find(|s| its(s) && s.size() != 0).expect("a target of this file").size() as u32
}

global_asm!(
    ".pushsection .text.uprobe_targets,\"ax\",@progbits",
    // wrap(f, argument): f(argument)
    ".macro wrap name",
    ".balign 64",
    ".globl \\name",
    ".type \\name,@function",
    "\\name:",
    ".cfi_startproc",
    "sub rsp, 8",
    "nop",
    ".cfi_adjust_cfa_offset 8",
    "mov rax, rdi",
    "mov rdi, rsi",
    "call rax",
    "add rsp, 8",
    ".cfi_adjust_cfa_offset -8",
    "ret",
    ".cfi_endproc",
    ".size \\name, . - \\name",
    ".endm",
    "wrap wrap_a",
    "wrap wrap_b",
    "wrap wrap_c",
    "wrap wrap_d",
    "wrap wrap_e",
    ".purgem wrap",
    // leaf(n): n + 1
    ".macro leaf name",
    ".balign 64",
    ".globl \\name",
    ".type \\name,@function",
    "\\name:",
    ".cfi_startproc",
    "lea rax, [rdi + 1]",
    "nop",
    "ret",
    ".cfi_endproc",
    ".size \\name, . - \\name",
    ".endm",
    "leaf leaf_a",
    "leaf leaf_b",
    "leaf leaf_c",
    "leaf leaf_d",
    "leaf leaf_e",
    "leaf leaf_f",
    "leaf leaf_g",
    ".purgem leaf",
    // recurse(n): n levels deep
    ".balign 64",
    ".globl recurse",
    ".type recurse,@function",
    "recurse:",
    ".cfi_startproc",
    "sub rsp, 8",
    "nop",
    ".cfi_adjust_cfa_offset 8",
    "xor eax, eax",
    "dec rdi",
    "jz 2f",
    "call recurse",
    "2:",
    "inc rax",
    "add rsp, 8",
    ".cfi_adjust_cfa_offset -8",
    "ret",
    ".cfi_endproc",
    ".size recurse, . - recurse",
    // ping(n): pong(n - 1), and so on, by jumps; 0 ends.
    ".macro ping name, other",
    ".balign 64",
    ".globl \\name",
    ".type \\name,@function",
    "\\name:",
    ".cfi_startproc",
    "lea rdi, [rdi - 1]",
    "nop",
    "test rdi, rdi",
    "jnz \\other",
    "mov eax, 77",
    "ret",
    ".cfi_endproc",
    ".size \\name, . - \\name",
    ".endm",
    "ping ping, pong",
    "ping pong, ping",
    ".purgem ping",
    // spin(n): branches back to its first byte n - 1 times, and keeps a sum in its red zone;
    // returns n.
    ".balign 64",
    ".globl spin",
    ".type spin,@function",
    "spin:",
    ".cfi_startproc",
    "lea rdi, [rdi - 1]",
    "nop",
    "cmp rsi, 0x5eed",
    "je 2f",
    "mov esi, 0x5eed",
    "mov qword ptr [rsp - 8], 0",
    "mov qword ptr [rsp - 128], 0",
    "2:",
    "inc qword ptr [rsp - 8]",
    "inc qword ptr [rsp - 128]",
    "test rdi, rdi",
    "jnz spin",
    "mov rax, qword ptr [rsp - 8]",
    "cmp rax, qword ptr [rsp - 128]",
    "je 3f",
    "mov rax, -1",
    "3:",
    "ret",
    ".cfi_endproc",
    ".size spin, . - spin",
    // attempt(place, f, argument): f(argument), unless it escapes to `place`; then 1.
    ".balign 64",
    ".globl attempt",
    ".type attempt,@function",
    "attempt:",
    ".cfi_startproc",
    "push rbx",
    ".cfi_adjust_cfa_offset 8",
    "push rbp",
    ".cfi_adjust_cfa_offset 8",
    "push r12",
    ".cfi_adjust_cfa_offset 8",
    "push r13",
    ".cfi_adjust_cfa_offset 8",
    "push r14",
    ".cfi_adjust_cfa_offset 8",
    "push r15",
    ".cfi_adjust_cfa_offset 8",
    "push rdi",
    ".cfi_adjust_cfa_offset 8",
    "mov qword ptr [rdi], rsp",
    "mov rdi, rdx",
    "call rsi",
    "xor eax, eax",
    "2:",
    "pop rdi",
    ".cfi_adjust_cfa_offset -8",
    "pop r15",
    ".cfi_adjust_cfa_offset -8",
    "pop r14",
    ".cfi_adjust_cfa_offset -8",
    "pop r13",
    ".cfi_adjust_cfa_offset -8",
    "pop r12",
    ".cfi_adjust_cfa_offset -8",
    "pop rbp",
    ".cfi_adjust_cfa_offset -8",
    "pop rbx",
    ".cfi_adjust_cfa_offset -8",
    "ret",
    ".globl escape",
    "escape:",
    "mov rsp, qword ptr [rdi]",
    "mov eax, 1",
    "jmp 2b",
    ".cfi_endproc",
    ".size attempt, . - attempt",
    ".popsection",
);

pub type Callback = extern "C-unwind" fn(usize);
pub type Wrap = unsafe extern "C-unwind" fn(Callback, usize);

unsafe extern "C-unwind" {
    pub fn wrap_a(f: Callback, argument: usize);
    pub fn wrap_b(f: Callback, argument: usize);
    pub fn wrap_c(f: Callback, argument: usize);
    pub fn wrap_d(f: Callback, argument: usize);
    pub fn wrap_e(f: Callback, argument: usize);
    pub fn leaf_a(n: u64) -> u64;
    pub fn leaf_b(n: u64) -> u64;
    pub fn leaf_c(n: u64) -> u64;
    pub fn leaf_d(n: u64) -> u64;
    pub fn leaf_e(n: u64) -> u64;
    pub fn leaf_f(n: u64) -> u64;
    pub fn leaf_g(n: u64) -> u64;
    pub fn recurse(n: u64) -> u64;
    pub fn ping(n: u64) -> u64;
    pub fn pong(n: u64) -> u64;
    pub fn spin(n: u64, state: u64) -> u64;
    pub fn attempt(place: *mut usize, f: Callback, argument: usize) -> u64;
    pub fn escape(place: *mut usize) -> !;
}

/// Calls a wrap with a closure.
pub fn through<F: FnMut()>(wrap: Wrap, mut f: F) {
    extern "C-unwind" fn call<F: FnMut()>(f: usize) {
        // SAFETY: `through` passes the address of its closure.
        unsafe { (*core::ptr::with_exposed_provenance_mut::<F>(f))() }
    }
    // SAFETY: a wrap calls the function with the argument.
    unsafe { wrap(call::<F>, (&raw mut f).expose_provenance()) };
}
