//! Every register, flag and vector lane is as it was, on hot and slow paths.
#![allow(unsafe_code)]

mod common;

use common::{arm_with, calls, cell};
use core::arch::global_asm;
use patch::Liveness;
use std::thread;
use uprobe::testing::{Armed, Kind};
use uprobe::{Consumer, Context, Vectors, Verdict};

/// All that a function can see: rax, rcx, rdx, rbx, rbp, rsi, rdi, r8 to r15, flags, vectors,
/// masks.
#[repr(C, align(64))]
#[derive(Clone, PartialEq, Debug)]
struct Everything {
    general: [u64; 15],
    flags: u64,
    vectors: [[u64; 8]; 32],
    masks: [u64; 8],
}

unsafe extern "C" {
    /// Loads everything from `before`, calls `f`, stores everything to `after`. `level`: 0 xmm, 1
    /// ymm, 2 zmm.
    fn call_with_everything(
        f: usize,
        before: *const Everything,
        after: *mut Everything,
        level: u64,
    );
    fn keep(n: u64) -> u64;
    fn keep_cold(n: u64) -> u64;
    fn keep_pair(n: u64) -> u64;
    fn keep_time(n: u64) -> u64;
    fn keep_time_careful(n: u64) -> u64;
    fn keep_call(n: u64) -> u64;
    fn keep_call_all(n: u64) -> u64;
    fn keep_go(n: u64) -> u64;
    /// Calls `f` above 4 KiB that it knows; how many words of them are others afterwards, at most
    /// 1.
    fn words_below(f: usize) -> u64;
}

global_asm!(
    ".pushsection .text.registers,\"ax\",@progbits",
    ".macro keep name",
    ".balign 64",
    ".globl \\name",
    ".type \\name, @function",
    "\\name:",
    "lea rsp, [rsp - 8]",
    "lea rsp, [rsp + 8]",
    "ret",
    ".size \\name, . - \\name",
    ".endm",
    "keep keep",
    "keep keep_cold",
    "keep keep_pair",
    "keep keep_time",
    "keep keep_time_careful",
    "keep keep_call",
    "keep keep_call_all",
    "keep keep_go",
    ".purgem keep",
    ".globl words_below",
    "words_below:",
    "push rbx",
    "mov rbx, rdi",
    "lea rdi, [rsp - 4096 - 8]",
    "mov ecx, 512",
    "movabs rax, 0x5a5a1234abcd5a5a",
    "rep stosq",
    "call rbx",
    "lea rdi, [rsp - 4096 - 8]",
    "mov ecx, 512",
    "movabs rax, 0x5a5a1234abcd5a5a",
    "repe scasq",
    "setne al",
    "movzx eax, al",
    "pop rbx",
    "ret",
    ".globl call_with_everything",
    "call_with_everything:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "push rcx",
    "push rdx",
    "push rdi",
    // Now [rsp] f, [rsp + 8] after, [rsp + 16] level.
    "cmp rcx, 1",
    "jb 2f",
    "je 3f",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, \
        23, 24, 25, 26, 27, 28, 29, 30, 31",
    "vmovups zmm\\n, zmmword ptr [rsi + 128 + 64 * \\n]",
    ".endr",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7",
    "kmovq k\\n, qword ptr [rsi + 2176 + 8 * \\n]",
    ".endr",
    "jmp 4f",
    "3:",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "vmovups ymm\\n, ymmword ptr [rsi + 128 + 64 * \\n]",
    ".endr",
    "jmp 4f",
    "2:",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "movups xmm\\n, xmmword ptr [rsi + 128 + 64 * \\n]",
    ".endr",
    "4:",
    "mov rax, qword ptr [rsi]",
    "mov rcx, qword ptr [rsi + 8]",
    "mov rdx, qword ptr [rsi + 16]",
    "mov rbx, qword ptr [rsi + 24]",
    "mov rbp, qword ptr [rsi + 32]",
    "mov rdi, qword ptr [rsi + 48]",
    "mov r8, qword ptr [rsi + 56]",
    "mov r9, qword ptr [rsi + 64]",
    "mov r10, qword ptr [rsi + 72]",
    "mov r11, qword ptr [rsi + 80]",
    "mov r12, qword ptr [rsi + 88]",
    "mov r13, qword ptr [rsi + 96]",
    "mov r14, qword ptr [rsi + 104]",
    "mov r15, qword ptr [rsi + 112]",
    "push qword ptr [rsi + 120]",
    "mov rsi, qword ptr [rsi + 40]",
    "popfq",
    "call qword ptr [rsp]",
    "pushfq",
    "push rsi",
    // Now [rsp] rsi, [rsp + 8] flags, [rsp + 16] f, [rsp + 24] after, [rsp + 32] level.
    "mov rsi, qword ptr [rsp + 24]",
    "mov qword ptr [rsi], rax",
    "mov qword ptr [rsi + 8], rcx",
    "mov qword ptr [rsi + 16], rdx",
    "mov qword ptr [rsi + 24], rbx",
    "mov qword ptr [rsi + 32], rbp",
    "mov qword ptr [rsi + 48], rdi",
    "mov qword ptr [rsi + 56], r8",
    "mov qword ptr [rsi + 64], r9",
    "mov qword ptr [rsi + 72], r10",
    "mov qword ptr [rsi + 80], r11",
    "mov qword ptr [rsi + 88], r12",
    "mov qword ptr [rsi + 96], r13",
    "mov qword ptr [rsi + 104], r14",
    "mov qword ptr [rsi + 112], r15",
    "pop rax",
    "mov qword ptr [rsi + 40], rax",
    "pop rax",
    "mov qword ptr [rsi + 120], rax",
    "cld",
    "pop rdi",
    "pop rdx",
    "pop rcx",
    "cmp rcx, 1",
    "jb 2f",
    "je 3f",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, \
        23, 24, 25, 26, 27, 28, 29, 30, 31",
    "vmovups zmmword ptr [rsi + 128 + 64 * \\n], zmm\\n",
    ".endr",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7",
    "kmovq qword ptr [rsi + 2176 + 8 * \\n], k\\n",
    ".endr",
    "vzeroupper",
    "jmp 4f",
    "3:",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "vmovups ymmword ptr [rsi + 128 + 64 * \\n], ymm\\n",
    ".endr",
    "vzeroupper",
    "jmp 4f",
    "2:",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "movups xmmword ptr [rsi + 128 + 64 * \\n], xmm\\n",
    ".endr",
    "4:",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    ".popsection",
);

fn level() -> u64 {
    if std::is_x86_feature_detected!("avx512bw") {
        2
    } else {
        u64::from(std::is_x86_feature_detected!("avx"))
    }
}

/// Values that differ everywhere, with these arithmetic flags.
fn pattern(seed: u64, flags: u64) -> Everything {
    let mut x = seed | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    let lanes = [2, 4, 8][level() as usize];
    let registers = if level() == 2 { 32 } else { 16 };
    let mut it =
        Everything { general: [0; 15], flags: 0x202 | flags, vectors: [[0; 8]; 32], masks: [0; 8] };
    it.general.fill_with(&mut next);
    it.vectors[..registers].iter_mut().for_each(|v| v[..lanes].fill_with(&mut next));
    if level() == 2 {
        it.masks.fill_with(&mut next);
    }
    it
}

/// Calls it with all combinations of flags.
fn check(f: unsafe extern "C" fn(u64) -> u64, what: &str) {
    check_but(f, what, |_, _| {});
}

/// The same; what need not be kept `but` copies from the first to the second.
fn check_but(
    f: unsafe extern "C" fn(u64) -> u64,
    what: &str,
    but: impl Fn(&Everything, &mut Everything),
) {
    const ARITHMETIC: [u64; 6] = [1, 4, 16, 64, 128, 2048];
    for bits in 0..64_u64 {
        let flags =
            ARITHMETIC.iter().enumerate().filter(|(n, _)| bits & 1 << n != 0).map(|(_, f)| f).sum();
        let before = pattern(0x9e37_79b9_7f4a_7c15 + bits, flags);
        let mut after =
            Everything { general: [0; 15], flags: 0, vectors: [[0; 8]; 32], masks: [0; 8] };
        // SAFETY: `f` keeps everything, so any values will do.
        unsafe {
            call_with_everything(
                f as *const () as usize,
                &raw const before,
                &raw mut after,
                level(),
            )
        };
        but(&before, &mut after);
        assert!(before == after, "{what}, flags {flags:#x}: {}", difference(&before, &after));
    }
}

fn difference(a: &Everything, b: &Everything) -> String {
    let general = a
        .general
        .iter()
        .zip(&b.general)
        .enumerate()
        .filter(|(_, (a, b))| a != b)
        .map(|(n, (a, b))| format!("register {n}: {a:x} {b:x}; "));
    let vectors = a
        .vectors
        .iter()
        .zip(&b.vectors)
        .enumerate()
        .filter(|(_, (a, b))| a != b)
        .map(|(n, (a, b))| format!("vector {n}: {a:x?} {b:x?}; "));
    let masks = a
        .masks
        .iter()
        .zip(&b.masks)
        .enumerate()
        .filter(|(_, (a, b))| a != b)
        .map(|(n, (a, b))| format!("mask {n}: {a:x} {b:x}; "));
    let flags = (a.flags != b.flags).then(|| format!("flags: {:x} {:x}", a.flags, b.flags));
    general.chain(vectors).chain(masks).chain(flags).collect()
}

const ALL: Liveness = Liveness { red_zone: false, ..Liveness::ALL };

fn arm(f: unsafe extern "C" fn(u64) -> u64, kind: Kind, live: &Liveness) -> Armed {
    arm_with(f as *const () as usize, kind, live, false)
}

fn consumer(vectors: Vectors) -> Consumer {
    fn entry(context: &mut Context, _: usize, cookie: &mut u64) -> Verdict {
        *cookie = context.registers.rbx;
        if context.registers.rsi & 1 == 0 { Verdict::Return } else { Verdict::Skip }
    }
    fn entry_all(context: &mut Context, data: usize, cookie: &mut u64) -> Verdict {
        // Large enough for libc's copying with the widest registers there are.
        let from = [data as u8; 512];
        std::hint::black_box(std::hint::black_box(from).to_vec().len());
        entry(context, data, cookie)
    }
    fn ret(context: &mut Context, _: usize, cookie: u64) {
        assert_eq!(context.registers.rbx, cookie, "nobody changed it");
    }
    Consumer {
        entry: Some(if vectors == Vectors::All { entry_all } else { entry }),
        ret: Some(ret),
        span: None,
        busy: None,
        data: 3,
        vectors,
        limit: 0,
    }
}

#[test]
fn everything_is_kept() {
    check(keep, "bare");
    arm(keep, Kind::Count(0), &ALL);
    arm(keep_cold, Kind::Count(0), &Liveness::ALL);
    arm(keep_pair, Kind::Pair(cell(0)), &ALL);
    arm(keep_time, Kind::Time(cell(1)), &ALL);
    arm(keep_time_careful, Kind::Time(cell(2)), &Liveness::ALL);
    arm(keep_call, Kind::Call, &ALL).attach(consumer(Vectors::Sse)).expect("a place");
    arm(keep_call_all, Kind::Call, &Liveness::ALL).attach(consumer(Vectors::All)).expect("a place");
    let all: [(unsafe extern "C" fn(u64) -> u64, &str); 7] = [
        (keep, "count"),
        (keep_cold, "count, red zone"),
        (keep_pair, "pair"),
        (keep_time, "time"),
        (keep_time_careful, "time, red zone"),
        (keep_call, "consumer"),
        (keep_call_all, "consumer, all vectors"),
    ];
    for (f, what) in all {
        // The first hit of each thread takes the slow path.
        for _ in 0..3 {
            thread::spawn(move || check(f, what)).join().expect(what);
        }
        check(f, what);
    }
    assert_eq!(calls(0), 2 * 4 * 64);
    assert_eq!(calls(cell(1)), 4 * 64);
}

/// At the entry of a function of Go's: r12, r13 and the flags are free, and there is no stack.
#[test]
fn nothing_is_pushed_where_there_is_no_stack() {
    const R12: usize = 11;
    const R13: usize = 12;
    let free = |before: &Everything, after: &mut Everything| {
        after.general[R12] = before.general[R12];
        after.general[R13] = before.general[R13];
        after.flags = before.flags;
    };
    let place = cell(4);
    arm(keep_go, Kind::Count(place), &Liveness::GO);
    let go = keep_go as *const () as usize;
    // The first hit of each thread takes the slow path, of many of them at once.
    let threads: Vec<_> = (0..64)
        .map(|_| {
            thread::spawn(move || {
                // SAFETY: `keep_go` changes nothing that its caller needs.
                let first = unsafe { words_below(go) };
                // SAFETY: as above.
                let second = unsafe { words_below(go) };
                check_but(keep_go, "Go", free);
                (first, second)
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().expect("everything is kept"), (0, 0));
    }
    assert_eq!(calls(place), 64 * (2 + 64));
}
