//! Functions to probe: the same few, once for each action, so that every way of the hit path is
//! taken. None but `call` calls anything but itself, and all keep what a function has to.

use crate::symbols::{Symbol, Symbols};
use std::arch::global_asm;
use uprobe::{Action, Armed, Batch, Config, Consumer, Context, Engine, Method, Patching, Returns};
use uprobe::{Seen, Target, Vectors, Verdict};

/// Begins the names of all targets.
pub(crate) const PREFIX: &str = "stepped_";

global_asm!(
    ".macro function name",
    ".balign 64, 0xcc",
    ".globl \\name",
    ".type \\name, @function",
    "\\name:",
    ".cfi_startproc",
    ".endm",
    ".macro done name",
    ".cfi_endproc",
    ".size \\name, . - \\name",
    ".endm",
    "",
    ".macro targets action",
    // call(argument, f): f(argument). Nothing of the caller's is live at its entry.
    "function stepped_\\action\\()_call",
    "sub rsp, 8",
    ".cfi_adjust_cfa_offset 8",
    "mov rax, rsi",
    "call rax",
    "add rsp, 8",
    ".cfi_adjust_cfa_offset -8",
    "ret",
    "done stepped_\\action\\()_call",
    // The same, and it reads a flag of its caller's.
    "function stepped_\\action\\()_call_carry",
    "setc al",
    "sub rsp, 8",
    ".cfi_adjust_cfa_offset 8",
    "mov rax, rsi",
    "call rax",
    "add rsp, 8",
    ".cfi_adjust_cfa_offset -8",
    "ret",
    "done stepped_\\action\\()_call_carry",
    // carry(n): reads a flag of its caller's.
    "function stepped_\\action\\()_carry",
    "setc al",
    "movzx eax, al",
    "ret",
    "done stepped_\\action\\()_carry",
    // recurse(n): n levels deep.
    "function stepped_\\action\\()_recurse",
    "sub rsp, 8",
    ".cfi_adjust_cfa_offset 8",
    "xor eax, eax",
    "dec rdi",
    "jz 2f",
    "call stepped_\\action\\()_recurse",
    "2:",
    "add rsp, 8",
    ".cfi_adjust_cfa_offset -8",
    "ret",
    "done stepped_\\action\\()_recurse",
    // The same, and it reads a flag.
    "function stepped_\\action\\()_recurse_carry",
    "setc al",
    "sub rsp, 8",
    ".cfi_adjust_cfa_offset 8",
    "dec rdi",
    "jz 2f",
    "call stepped_\\action\\()_recurse_carry",
    "2:",
    "add rsp, 8",
    ".cfi_adjust_cfa_offset -8",
    "ret",
    "done stepped_\\action\\()_recurse_carry",
    // ping(n): to pong(n - 1), by jumps, until it is 0.
    ".irp names, \"ping,pong\", \"pong,ping\"",
    "jump_to \\action, \\names",
    ".endr",
    // again(n): to itself by way of another function: a tail call, not a branch of its own.
    "function stepped_\\action\\()_again",
    "setc al",
    "lea rdi, [rdi - 1]",
    "test rdi, rdi",
    "jnz stepped_\\action\\()_again_by",
    "ret",
    "done stepped_\\action\\()_again",
    "function stepped_\\action\\()_again_by",
    "nop dword ptr [rax + 0x100]",
    "jmp stepped_\\action\\()_again",
    "done stepped_\\action\\()_again_by",
    // spin(n): branches back to its first byte, and its red zone is in use there. There is no room
    // to lead the branch past the probe.
    "function stepped_\\action\\()_spin",
    "3:",
    "lea rdi, [rdi - 1]",
    "test rdi, rdi",
    "mov qword ptr [rsp - 8], rdi",
    "jnz 3b",
    "ret",
    "done stepped_\\action\\()_spin",
    ".endm",
    "",
    ".macro jump_to action, from, to",
    "function stepped_\\action\\()_\\from",
    "lea rdi, [rdi - 1]",
    "nop",
    "test rdi, rdi",
    "jnz stepped_\\action\\()_\\to",
    "ret",
    "done stepped_\\action\\()_\\from",
    "function stepped_\\action\\()_\\from\\()_carry",
    "setc al",
    "lea rdi, [rdi - 1]",
    "test rdi, rdi",
    "jnz stepped_\\action\\()_\\to\\()_carry",
    "ret",
    "done stepped_\\action\\()_\\from\\()_carry",
    ".endm",
    "",
    ".pushsection .text.stepped,\"ax\",@progbits",
    "targets count",
    "targets pair",
    "targets time",
    "targets consume",
    "targets consume_all",
    "targets consume_entry",
    "targets exits_pair",
    "targets exits_time",
    "targets exits_consume",
    ".popsection",
    ".purgem targets",
    ".purgem jump_to",
    ".purgem function",
    ".purgem done",
    "",
    // attempt(argument, f): f(argument), unless that escapes to here.
    ".pushsection .text.stepped,\"ax\",@progbits",
    ".globl unstepped_attempt",
    "unstepped_attempt:",
    ".cfi_startproc",
    ".irp register, rbx, rbp, r12, r13, r14, r15",
    "push \\register",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_rel_offset \\register, 0",
    ".endr",
    "push qword ptr [rip + unstepped_place]",
    ".cfi_adjust_cfa_offset 8",
    "mov qword ptr [rip + unstepped_place], rsp",
    "call rsi",
    ".globl unstepped_landing",
    "unstepped_landing:",
    "2:",
    "pop qword ptr [rip + unstepped_place]",
    ".cfi_adjust_cfa_offset -8",
    ".irp register, r15, r14, r13, r12, rbp, rbx",
    "pop \\register",
    ".cfi_adjust_cfa_offset -8",
    ".cfi_restore \\register",
    ".endr",
    "ret",
    ".cfi_endproc",
    ".globl unstepped_escape",
    "unstepped_escape:",
    ".cfi_startproc",
    "mov rsp, qword ptr [rip + unstepped_place]",
    "jmp 2b",
    ".cfi_endproc",
    // backwards(argument, f): f(argument), called with the direction flag set, against the rules.
    ".globl unstepped_backwards",
    "unstepped_backwards:",
    ".cfi_startproc",
    "sub rsp, 8",
    ".cfi_adjust_cfa_offset 8",
    "std",
    "call rsi",
    "cld",
    "add rsp, 8",
    ".cfi_adjust_cfa_offset -8",
    "ret",
    ".cfi_endproc",
    ".popsection",
    ".pushsection .bss.stepped_place,\"aw\",@nobits",
    ".balign 8",
    "unstepped_place:",
    ".skip 8",
    ".popsection",
);

/// Every target takes a number or what it calls its callback with, and the callback.
pub(crate) type Function = unsafe extern "C-unwind" fn(usize, Callback) -> usize;
/// What a target calls.
pub(crate) type Callback = unsafe extern "C-unwind" fn(usize) -> usize;

unsafe extern "C-unwind" {
    #[link_name = "unstepped_attempt"]
    pub(crate) fn attempt(argument: usize, f: Callback) -> usize;
    #[link_name = "unstepped_backwards"]
    pub(crate) fn backwards(argument: usize, f: Callback) -> usize;
    #[link_name = "unstepped_escape"]
    pub(crate) fn escape(argument: usize) -> !;
    #[link_name = "unstepped_landing"]
    static LANDING: u8;
}

/// Where `escape` goes.
pub(crate) fn landing() -> u64 {
    (&raw const LANDING).addr() as u64
}

/// Probes every target but the helpers; returns those that are probed.
pub(crate) fn arm(symbols: &Symbols) -> Vec<Symbol> {
    let engine = Engine::start(crate::common::hooks(), Config::default()).expect("the engine");
    let all: Vec<_> = symbols.functions(PREFIX).filter(|f| !f.name.ends_with("_by")).collect();
    let mut batch: Batch<'_> = engine.batch();
    for function in &all {
        let target = Target::entry(function.start, function.size() as u32, action(&function.name));
        let exits = function.name.starts_with("stepped_exits_");
        let by = if exits { Returns::Exits } else { Returns::Instances };
        let after = if exits { target.size.next_multiple_of(64) - target.size } else { 0 };
        batch.add(Target { traps: false, by, after, ..target });
    }
    let armed = batch.commit(Patching::Quiet);
    for (function, armed) in all.iter().zip(armed) {
        let name = &function.name;
        let armed = armed.unwrap_or_else(|why| panic!("{name}: {why}"));
        let exits = matches!(armed.returns, Some(Seen::Exits(_)));
        // What is led past the probe leaves no room behind it.
        let wanted = name.starts_with("stepped_exits_") && !name.ends_with("_spin");
        assert_eq!(exits, wanted, "{name}: {armed:?}");
        let Armed { address, method, .. } = armed;
        assert_eq!((method, address), (Method::Detour, function.start), "{name}");
    }
    all
}

fn action(name: &str) -> Action {
    let cell = crate::common::cell(0);
    let consumer = Consumer {
        entry: Some(entered),
        ret: Some(returned),
        span: None,
        busy: None,
        data: 0,
        vectors: Vectors::Sse,
        limit: 0,
    };
    match name {
        n if n.starts_with("stepped_count_") => Action::Count { cell },
        n if n.starts_with("stepped_pair_") || n.starts_with("stepped_exits_pair_") => {
            Action::CountReturn { cell }
        }
        n if n.starts_with("stepped_time_") || n.starts_with("stepped_exits_time_") => {
            Action::Time { cell }
        }
        n if n.starts_with("stepped_consume_all_") => {
            Action::Call(Consumer { vectors: Vectors::All, ..consumer })
        }
        n if n.starts_with("stepped_consume_entry_") => {
            Action::Call(Consumer { entry: Some(skipped), ..consumer })
        }
        _ => Action::Call(consumer),
    }
}

fn entered(_: &mut Context, _: usize, _: &mut u64) -> Verdict {
    // Whatever takes long in a consumer runs on a stack of the engine's.
    uprobe::slowly(&mut || ());
    crate::scenarios::in_consumer();
    Verdict::Return
}

fn skipped(_: &mut Context, _: usize, _: &mut u64) -> Verdict {
    Verdict::Skip
}

fn returned(_: &mut Context, _: usize, _: u64) {}
