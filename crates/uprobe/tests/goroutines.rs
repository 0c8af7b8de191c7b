//! Functions of Go's convention on goroutines' stacks, as the tests make them: a descriptor in r14,
//! stacks of their own that are copied elsewhere while calls are pending, and threads that go on
//! with each other's. Nothing but r12, r13 and the flags may be changed, and nothing pushed.
#![allow(unsafe_code)]

mod common;

use common::{buckets, calls, cell, hooks, returns, sum, untimed, unwound};
use core::arch::global_asm;
use patch::{Convention, Function, Options};
use std::sync::{Mutex, MutexGuard, PoisonError};
use uprobe::{Action, Config, Engine, Patching, Returns, Seen, Target};
use wire::cell::{MAX, SELF, TOTAL};

/// A goroutine's descriptor: what the runtime has first, and what the tests need behind it.
#[repr(C)]
#[derive(Debug, Default)]
struct Descriptor {
    low: u64,
    high: u64,
    guard: u64,
    /// The thread's stack pointer while the goroutine runs.
    host: u64,
    /// Its own while it does not.
    own: u64,
    /// Where a panic goes on, and its stack pointer there.
    recovered: [u64; 2],
    registers: u64,
}

/// rax, rbx, rcx, rdx, rdi, rsi, r8 to r11, and the lower vector registers.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, PartialEq)]
struct Registers {
    general: [u64; 10],
    vectors: [[u64; 2]; 15],
    /// What has to be zero.
    xmm15: [u64; 2],
}

global_asm!(
    ".pushsection .text.goroutines,\"ax\",@progbits",
    ".macro function name",
    ".balign 64, 0xcc",
    ".globl \\name",
    ".type \\name,@function",
    "\\name:",
    ".endm",
    ".macro ends name",
    ".globl \\name\\()_end",
    "\\name\\()_end:",
    ".size \\name, . - \\name",
    ".endm",
    // As Go's compiler does it (1.19): the check, the frame, and a stack that grows behind.
    ".macro go name",
    "function \\name",
    "cmp rsp, qword ptr [r14 + 16]",
    "jbe 9f",
    "sub rsp, 24",
    "mov qword ptr [rsp + 16], rbp",
    "lea rbp, [rsp + 16]",
    ".endm",
    ".macro back",
    "mov rbp, qword ptr [rsp + 16]",
    "add rsp, 24",
    "ret",
    ".endm",
    ".macro og name",
    "back",
    "9:",
    "call go_more",
    "jmp \\name",
    "ends \\name",
    ".endm",
    "",
    ".macro registers what",
    "\\what rax, 0",
    "\\what rbx, 8",
    "\\what rcx, 16",
    "\\what rdx, 24",
    "\\what rdi, 32",
    "\\what rsi, 40",
    "\\what r8, 48",
    "\\what r9, 56",
    "\\what r10, 64",
    "\\what r11, 72",
    ".endm",
    ".macro load register, at",
    "mov \\register, qword ptr [r15 + \\at]",
    ".endm",
    ".macro store register, at",
    "mov qword ptr [r15 + \\at], \\register",
    ".endm",
    ".macro leave_host",
    ".irp register, rbx, rbp, r12, r13, r14, r15",
    "push \\register",
    ".endr",
    "mov qword ptr [rdi + 24], rsp",
    "mov r14, rdi",
    "mov r15, qword ptr [rdi + 56]",
    ".endm",
    ".macro to_host",
    "mov rsp, qword ptr [r14 + 24]",
    ".irp register, r15, r14, r13, r12, rbp, rbx",
    "pop \\register",
    ".endr",
    ".endm",
    "",
    // go_run(descriptor, function) -> whether it has returned.
    "function go_run",
    "leave_host",
    "mov rsp, qword ptr [r14 + 8]",
    "sub rsp, 64",
    "mov qword ptr [rsp], rsi",
    "registers load",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14",
    "movaps xmm\\n, xmmword ptr [r15 + 80 + 16 * \\n]",
    ".endr",
    "xorps xmm15, xmm15",
    "call qword ptr [rsp]",
    "registers store",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "movaps xmmword ptr [r15 + 80 + 16 * \\n], xmm\\n",
    ".endr",
    "to_host",
    "mov eax, 1",
    "ret",
    // go_resume(descriptor) -> whether it has returned.
    "function go_resume",
    "leave_host",
    "mov rsp, qword ptr [r14 + 32]",
    "ret",
    "function go_park",
    "mov qword ptr [r14 + 32], rsp",
    "to_host",
    "xor eax, eax",
    "ret",
    // A goroutine that was to be preempted comes back to the function's first byte.
    "function go_more",
    "mov r12, qword ptr [r14]",
    "mov qword ptr [r14 + 16], r12",
    "ret",
    "function go_panic",
    "mov rsp, qword ptr [r14 + 48]",
    "jmp qword ptr [r14 + 40]",
    "",
    "go go_keep",
    "og go_keep",
    "",
    // Without a check or a frame.
    "function go_plain",
    "lea rax, [rax + 2]",
    "lea rbx, [rbx + 4]",
    "ret",
    "ends go_plain",
    "",
    "go go_parks",
    "mov qword ptr [rsp + 8], rax",
    "call go_park",
    "mov rax, qword ptr [rsp + 8]",
    "og go_parks",
    "",
    // rax deep.
    "go go_deep",
    "test rax, rax",
    "jz 2f",
    "dec rax",
    "call go_deep",
    "inc rax",
    "2:",
    "og go_deep",
    "",
    // In turn with the other.
    "go go_even",
    "test rax, rax",
    "jz 2f",
    "dec rax",
    "call go_odd",
    "2:",
    "og go_even",
    "go go_odd",
    "test rax, rax",
    "jz 2f",
    "dec rax",
    "call go_even",
    "2:",
    "og go_odd",
    "",
    "go go_fails",
    "test rax, rax",
    "jz 2f",
    "call go_panic",
    "ud2",
    "2:",
    "og go_fails",
    "",
    // Recovers, and calls another one where the lost frame was.
    "go go_recovers",
    "lea r12, [rip + 3f]",
    "mov qword ptr [r14 + 40], r12",
    "mov qword ptr [r14 + 48], rsp",
    "call go_fails",
    "3:",
    "call go_keep",
    "og go_recovers",
    ".balign 64, 0xcc",
    ".purgem function",
    ".purgem ends",
    ".purgem go",
    ".purgem back",
    ".purgem og",
    ".purgem registers",
    ".purgem load",
    ".purgem store",
    ".purgem leave_host",
    ".purgem to_host",
    ".popsection",
);

unsafe extern "C" {
    fn go_run(descriptor: *mut Descriptor, function: u64) -> u64;
    fn go_resume(descriptor: *mut Descriptor) -> u64;
    static go_keep: u8;
    static go_keep_end: u8;
    static go_plain: u8;
    static go_plain_end: u8;
    static go_parks: u8;
    static go_parks_end: u8;
    static go_deep: u8;
    static go_deep_end: u8;
    static go_even: u8;
    static go_even_end: u8;
    static go_odd: u8;
    static go_odd_end: u8;
    static go_fails: u8;
    static go_fails_end: u8;
    static go_recovers: u8;
    static go_recovers_end: u8;
}

macro_rules! function {
    ($start:ident, $end:ident) => {
        ((&raw const $start).addr() as u64, (&raw const $end).addr() as u64)
    };
}

/// Cells are few: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it lives, functions are timed.
struct Timed(Vec<uprobe::SiteId>, &'static Engine);

impl Timed {
    fn new(functions: &[((u64, u64), u32)]) -> Self {
        let engine = Engine::start(hooks(), Config::default()).expect("the engine");
        let mut batch = engine.batch();
        for ((start, end), cell) in functions {
            let size = (end - start) as usize;
            let after = size.next_multiple_of(64) - size;
            let at = core::ptr::with_exposed_provenance::<u8>(*start as usize);
            // SAFETY: a function of this file, and the padding behind it.
            let bytes = unsafe { core::slice::from_raw_parts(at, size + after) };
            let (code, after) = bytes.split_at(size);
            let function = Function { address: *start, code, after, site: 0 };
            let convention = Convention::Go;
            let options = Options { convention, exits: true, ..Options::default() };
            let plan = patch::plan(&function, &options);
            let target = Target::entry(*start, size as u32, Action::Time { cell: *cell });
            let by = Returns::Exits;
            batch.add_decided(Target { after: after.len() as u32, by, ..target }, plan);
        }
        let armed = batch.commit(Patching::Quiet);
        let armed = armed.into_iter().map(|armed| armed.expect("armed")).inspect(|armed| {
            assert!(matches!(armed.returns, Some(Seen::Exits(_))), "{armed:?}");
        });
        Self(armed.map(|armed| armed.id).collect(), engine)
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.1.remove(&self.0, Patching::Quiet).expect("removed");
    }
}

/// A goroutine with a stack of its own.
struct Goroutine {
    descriptor: Box<Descriptor>,
    registers: Box<Registers>,
    stack: Vec<u128>,
}

impl Goroutine {
    fn new(bytes: usize) -> Self {
        let mut registers = Box::new(Registers {
            general: core::array::from_fn(|n| 0x1111 * (n as u64 + 1)),
            vectors: core::array::from_fn(|n| [n as u64 + 3, !(n as u64)]),
            xmm15: [0; 2],
        });
        let mut descriptor = Box::new(Descriptor::default());
        descriptor.registers = (&raw mut *registers).expose_provenance() as u64;
        let mut new = Self { descriptor, registers, stack: Vec::new() };
        new.on(vec![0; bytes / 16]);
        new
    }

    fn on(&mut self, mut stack: Vec<u128>) {
        let end = stack.as_mut_ptr_range().end.expose_provenance() as u64;
        self.descriptor.high = end;
        self.descriptor.low = end - 16 * stack.len() as u64;
        self.descriptor.guard = self.descriptor.low;
        self.stack = stack;
    }

    /// Calls a function with this in rax. None: it is parked.
    fn run(&mut self, function: (u64, u64), argument: u64) -> Option<u64> {
        self.registers.general[0] = argument;
        // SAFETY: a function of this file, on a stack of its own that has room for it.
        let returned = unsafe { go_run(&raw mut *self.descriptor, function.0) };
        (returned != 0).then(|| self.registers.general[0])
    }

    fn resume(&mut self) -> Option<u64> {
        // SAFETY: it is parked.
        let returned = unsafe { go_resume(&raw mut *self.descriptor) };
        (returned != 0).then(|| self.registers.general[0])
    }

    /// Copies the stack of one that is parked to where there is as much more, as Go does.
    fn move_stack(&mut self, more: usize) {
        let old = core::mem::take(&mut self.stack);
        let (own, high) = (self.descriptor.own, self.descriptor.high);
        let mut new = vec![0; more / 16];
        new.extend_from_slice(&old);
        self.on(new);
        self.descriptor.own = self.descriptor.high - (high - own);
        // Whoever looks there finds something else.
        let mut old = old;
        old.fill(0x5a5a_5a5a);
        drop(old);
    }
}

#[test]
fn registers_are_kept_and_calls_are_exact() {
    let _alone = alone();
    let (keep, plain) = (function!(go_keep, go_keep_end), function!(go_plain, go_plain_end));
    let _timed = Timed::new(&[(keep, cell(0)), (plain, cell(1))]);
    let before = [calls(cell(0)), returns(cell(0)), calls(cell(1)), returns(cell(1))];
    let times = [sum(cell(0), TOTAL), sum(cell(0), SELF)];
    // In 16 stacks, which takes the slow way at first, and more often than that.
    let mut all: Vec<Goroutine> = (0..16).map(|_| Goroutine::new(4096)).collect();
    for n in 0..1000 {
        for goroutine in &mut all {
            let registers = *goroutine.registers;
            // Preempted every other time.
            let guard = if n % 2 == 0 { u64::MAX } else { goroutine.descriptor.low };
            goroutine.descriptor.guard = guard;
            assert_eq!(goroutine.run(keep, registers.general[0]), Some(registers.general[0]));
            assert_eq!(*goroutine.registers, registers, "{n}");
            assert_eq!(goroutine.run(plain, 5), Some(7));
            let mut changed = registers;
            (changed.general[0], changed.general[1]) = (7, registers.general[1] + 4);
            assert_eq!(*goroutine.registers, changed, "{n}");
            *goroutine.registers = registers;
        }
    }
    let after = [calls(cell(0)), returns(cell(0)), calls(cell(1)), returns(cell(1))];
    assert_eq!(after.map(|n| n - 16_000), before);
    assert_eq!(buckets(cell(0)), returns(cell(0)));
    let times = [sum(cell(0), TOTAL) - times[0], sum(cell(0), SELF) - times[1]];
    assert!(times[0] > 0 && times[0] == times[1], "{times:?}");
    assert!(common::LOST.iter().all(|n| n.load(core::sync::atomic::Ordering::Relaxed) == 0));
}

#[test]
fn stacks_move_and_threads_change_while_calls_are_pending() {
    let _alone = alone();
    let (parks, keep) = (function!(go_parks, go_parks_end), function!(go_keep, go_keep_end));
    let _timed = Timed::new(&[(parks, cell(2)), (keep, cell(3))]);
    let before = [calls(cell(2)), returns(cell(2)), unwound(cell(2))];
    let kept = [calls(cell(3)), returns(cell(3))];
    let mut all: Vec<Goroutine> = (0..100).map(|_| Goroutine::new(4096)).collect();
    for round in 0..50_u64 {
        for (n, goroutine) in all.iter_mut().enumerate() {
            assert_eq!(goroutine.run(parks, n as u64 + round), None);
        }
        all.iter_mut().filter(|_| round % 3 == 0).for_each(|g| g.move_stack(64 << (round / 8)));
        let check = |all: &mut Vec<Goroutine>| {
            for (n, goroutine) in all.iter_mut().enumerate() {
                assert_eq!(goroutine.resume(), Some(n as u64 + round));
                assert_eq!(goroutine.run(keep, 3), Some(3));
            }
        };
        if round % 2 == 0 {
            std::thread::scope(|scope| _ = scope.spawn(|| check(&mut all)).join());
        } else {
            check(&mut all);
        }
    }
    let after = [calls(cell(2)), returns(cell(2)), unwound(cell(2))];
    assert_eq!(after, [before[0] + 5000, before[1] + 5000, before[2]]);
    assert_eq!([calls(cell(3)), returns(cell(3))], kept.map(|n| n + 5000));
}

#[test]
fn recursion_is_one_outermost_call() {
    let _alone = alone();
    const DEEP: u64 = 100_000;
    let (deep, even, odd) = (
        function!(go_deep, go_deep_end),
        function!(go_even, go_even_end),
        function!(go_odd, go_odd_end),
    );
    let _timed = Timed::new(&[(deep, cell(0)), (even, cell(1)), (odd, cell(2))]);
    let fields = |cell: u32| [calls(cell), returns(cell), sum(cell, TOTAL), sum(cell, SELF)];
    let before = [0, 1, 2].map(|n| fields(cell(n)));
    let mut goroutine = Goroutine::new(8 << 20);
    assert_eq!(goroutine.run(deep, DEEP), Some(DEEP));
    assert_eq!(goroutine.run(even, DEEP), Some(0));
    let mut since = [0, 1, 2].map(|n| fields(cell(n)));
    for (now, before) in since.iter_mut().zip(before) {
        now.iter_mut().zip(before).for_each(|(now, before)| *now -= before);
    }
    let [deep, even, odd] = since;
    assert_eq!(deep[..2], [DEEP + 1; 2]);
    assert_eq!((even[..2].to_vec(), odd[..2].to_vec()), (vec![DEEP / 2 + 1; 2], vec![DEEP / 2; 2]));
    // The outermost call's time is all of its parts': to the tick, for nothing else was timed.
    assert_eq!(deep[2], deep[3], "total and self");
    assert_eq!(even[2], even[3] + odd[3], "total of the outer one, self of both");
    assert!(odd[2] <= even[2] && odd[2] >= odd[3]);
    assert!(sum(cell(0), MAX) >= deep[2]);
    assert_eq!(untimed(cell(0)), 0);
}

#[test]
fn frames_that_a_panic_leaves_are_left() {
    let _alone = alone();
    let (recovers, fails, keep) = (
        function!(go_recovers, go_recovers_end),
        function!(go_fails, go_fails_end),
        function!(go_keep, go_keep_end),
    );
    let _timed = Timed::new(&[(recovers, cell(0)), (fails, cell(3)), (keep, cell(4))]);
    let fields =
        || [cell(0), cell(3), cell(4)].map(|cell| [calls(cell), returns(cell), unwound(cell)]);
    let before = fields();
    let times = || [sum(cell(0), TOTAL), sum(cell(0), SELF), sum(cell(4), TOTAL)];
    let times_before = times();
    let mut goroutine = Goroutine::new(4096);
    for _ in 0..1000 {
        goroutine.run(recovers, 1).expect("recovered");
    }
    let mut since = fields();
    since.iter_mut().flatten().zip(before.iter().flatten()).for_each(|(now, b)| *now -= b);
    assert_eq!(since, [[1000, 1000, 0], [1000, 0, 1000], [1000, 1000, 0]]);
    // What calls together took is what the outer one took.
    let mut times = times();
    times.iter_mut().zip(times_before).for_each(|(now, before)| *now -= before);
    assert_eq!(times[0], times[1] + times[2]);
}

/// More goroutines than the assembly finds at first sight, with calls pending in all of them.
#[test]
fn goroutines_are_many() {
    let _alone = alone();
    let parks = function!(go_parks, go_parks_end);
    let _timed = Timed::new(&[(parks, cell(4))]);
    let before = [calls(cell(4)), returns(cell(4)), untimed(cell(4))];
    let mut all: Vec<Goroutine> = (0..20_000).map(|_| Goroutine::new(512)).collect();
    for round in 0..3 {
        for (n, goroutine) in all.iter_mut().enumerate() {
            assert_eq!(goroutine.run(parks, n as u64 + round), None);
        }
        for (n, goroutine) in all.iter_mut().enumerate() {
            assert_eq!(goroutine.resume(), Some(n as u64 + round));
        }
    }
    let after = [calls(cell(4)), returns(cell(4)), untimed(cell(4))];
    assert_eq!(after, [before[0] + 60_000, before[1] + 60_000, before[2]]);
}
