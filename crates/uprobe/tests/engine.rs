//! The engine on functions of every shape: counts, results, arming and disarming while threads run.
#![allow(unsafe_code)]

mod common;

use common::{calls, cell, hooks, returns};
use patch::{Decision, Options};
use std::arch::global_asm;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use uprobe::{Action, Armed, Config, Engine, Method, Patching, Refusal, Target};

// Every function takes a number and gives it back plus one.
global_asm!(
    ".macro target name",
    ".balign 64, 0xcc",
    ".globl \\name",
    ".type \\name, @function",
    "\\name:",
    ".endm",
    ".text",
    "target first_load",
    "mov rax, qword ptr [rip + one]",
    "add rax, rdi",
    "ret",
    "target first_jump",
    "jmp 2f",
    "nop",
    "2: lea rax, [rdi + 1]",
    "ret",
    "target first_branch",
    "jrcxz 3f",
    "lea rax, [rdi + 1]",
    "ret",
    "3: lea rax, [rdi + 1]",
    "ret",
    "target first_condition",
    "cmp rdi, 5",
    "jb 4f",
    "lea rax, [rdi + 1]",
    "ret",
    "4: lea rax, [rdi + 1]",
    "ret",
    "target first_call",
    "call 5f",
    "add rax, 1",
    "ret",
    "5: mov rax, rdi",
    "ret",
    "target first_endbr",
    "endbr64",
    "lea rax, [rdi + 1]",
    "ret",
    "target first_nop5",
    "nop dword ptr [rax + rax]",
    "lea rax, [rdi + 1]",
    "ret",
    "target first_push",
    "push rbx",
    "lea rbx, [rdi + 1]",
    "mov rax, rbx",
    "pop rbx",
    "ret",
    "target three_bytes",
    "lea eax, [rdi + 1]",
    "ret",
    "target four_bytes_crowded",
    "lea eax, [rdi + 1]",
    "ret",
    ".type crowd, @function",
    "crowd: lea rax, [rdi + 1]",
    "ret",
    "target into_byte_two",
    "xor eax, eax",
    "6: inc rax",
    "cmp rax, rdi",
    "jbe 6b",
    "ret",
    "target to_byte_zero",
    "cmp rdi, rax",
    "lea rax, [rax + 1]",
    "jae to_byte_zero",
    "ret",
    "target busy",
    "push rbp",
    "mov rbp, rsp",
    "push rbx",
    "mov rbx, rdi",
    "lea rax, [rbx + 1]",
    "pop rbx",
    "pop rbp",
    "ret",
    "target ends",
    ".balign 8",
    "one: .quad 1",
);

unsafe extern "C" {
    fn first_load(n: u64) -> u64;
    fn first_jump(n: u64) -> u64;
    fn first_branch(n: u64) -> u64;
    fn first_condition(n: u64) -> u64;
    fn first_call(n: u64) -> u64;
    fn first_endbr(n: u64) -> u64;
    fn first_nop5(n: u64) -> u64;
    fn first_push(n: u64) -> u64;
    fn three_bytes(n: u64) -> u64;
    fn four_bytes_crowded(n: u64) -> u64;
    fn into_byte_two(n: u64) -> u64;
    fn to_byte_zero(n: u64) -> u64;
    fn busy(n: u64) -> u64;
}

type Function = unsafe extern "C" fn(u64) -> u64;

/// Function, size, bytes behind it that are nobody's.
const SHAPES: [(&str, Function, u32, u32); 11] = [
    ("first_load", first_load, 11, 50),
    ("first_jump", first_jump, 8, 50),
    ("first_branch", first_branch, 12, 50),
    ("first_condition", first_condition, 16, 48),
    ("first_call", first_call, 14, 50),
    ("first_endbr", first_endbr, 9, 50),
    ("first_nop5", first_nop5, 10, 50),
    ("first_push", first_push, 10, 50),
    ("three_bytes", three_bytes, 4, 50),
    ("four_bytes_crowded", four_bytes_crowded, 4, 0),
    ("into_byte_two", into_byte_two, 11, 50),
];

/// The engine is the process's: one test at a time.
fn engine() -> (&'static Engine, MutexGuard<'static, ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    (Engine::start(hooks(), Config::default()).expect("the engine"), alone)
}

fn arm(engine: &'static Engine, target: Target, patching: Patching) -> Armed {
    let mut batch = engine.batch();
    batch.add(target);
    batch.commit(patching).remove(0).expect("armed")
}

fn call(f: Function, n: u64) -> u64 {
    // SAFETY: a function above.
    unsafe { f(n) }
}

#[test]
fn every_shape_is_counted_exactly_and_gives_the_same_results() {
    let (engine, _alone) = engine();
    for breakpoint in [false, true] {
        for patching in [Patching::Quiet, Patching::Live] {
            for (name, f, size, after) in SHAPES {
                for (timed, decided) in [(false, false), (true, false), (false, true), (true, true)]
                {
                    let cell = cell(u32::from(timed));
                    let action = if timed { Action::Time { cell } } else { Action::Count { cell } };
                    let target = Target {
                        after,
                        breakpoint,
                        ..Target::entry(f as usize as u64, size, action)
                    };
                    // A stub that was made for another action stays: its site cannot become
                    // another.
                    let mut batch = engine.batch();
                    if decided {
                        batch.add_decided(target, decide(f, size, after, breakpoint));
                    } else {
                        batch.add(target);
                    }
                    let Ok(armed) = batch.commit(patching).remove(0) else { continue };
                    let before = (calls(cell), returns(cell));
                    for n in 1..200 {
                        assert_eq!(call(f, n), n + 1, "{name} {:?}", armed.method);
                    }
                    let counted = (calls(cell) - before.0, returns(cell) - before.1);
                    let returned = if timed && armed.entry_only.is_none() { 199 } else { 0 };
                    assert_eq!(
                        counted,
                        (199, returned),
                        "{name} {:?} {:?}",
                        armed.method,
                        armed.entry_only
                    );
                    engine.remove(&[armed.id], patching).expect("removed");
                    assert_eq!(call(f, 7), 8);
                    assert_eq!(calls(cell) - before.0, 199, "{name} after removal");
                    engine.forget(armed.address..armed.address + 1);
                }
            }
        }
    }
}

/// What is decided for a function where its file is, which has other addresses.
fn decide(f: Function, size: u32, after: u32, breakpoint: bool) -> Decision {
    const BASE: u64 = 0x1_0000;
    let at = f as *const () as usize;
    // SAFETY: a function above, and the padding behind it.
    let bytes = unsafe {
        std::slice::from_raw_parts(
            std::ptr::with_exposed_provenance::<u8>(at),
            (size + after) as usize,
        )
    };
    let (code, after) = bytes.split_at(size as usize);
    let function = patch::Function { address: at as u64 - BASE, code, after, site: 0 };
    let decision = patch::plan(&function, &Options { breakpoint, ..Options::default() });
    let mut bytes = Vec::new();
    patch::encode(&decision, 0, &mut bytes);
    patch::decode(&bytes, BASE).expect("just written").0
}

/// Others may have changed the code: what was decided for the file is then of no use.
#[test]
fn decisions_about_other_bytes_are_not_used() {
    let (engine, _alone) = engine();
    let cell = cell(2);
    let target = Target {
        after: 50,
        ..Target::entry(first_push as *const () as u64, 10, Action::Count { cell })
    };
    let other = {
        // The plan for another function, as if it lay here.
        let code = [0x48, 0x8d, 0x47, 0x02, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3];
        let address = target.address;
        let function = patch::Function { address, code: &code, after: &[], site: 0 };
        patch::plan(&function, &Options::default())
    };
    let elsewhere = decide(busy, 15, 50, false);
    for decision in [other, elsewhere] {
        let mut batch = engine.batch();
        batch.add_decided(target, decision);
        let armed = batch.commit(Patching::Quiet).remove(0).expect("armed");
        let before = calls(cell);
        (0..10).for_each(|n| assert_eq!(call(first_push, n), n + 1));
        assert_eq!(calls(cell) - before, 10);
        engine.remove(&[armed.id], Patching::Quiet).expect("removed");
        engine.forget(armed.address..armed.address + 1);
    }
    let mut batch = engine.batch();
    batch.add_decided(target, Err(patch::Refusal::Transaction));
    let refused = batch.commit(Patching::Quiet).remove(0);
    assert!(matches!(refused, Err(Refusal::Code(patch::Refusal::Transaction))), "{refused:?}");
}

#[test]
fn the_method_is_what_the_shape_allows() {
    let (engine, _alone) = engine();
    for (name, f, size, after) in SHAPES {
        let target = Target {
            after,
            ..Target::entry(f as usize as u64, size, Action::Count { cell: cell(2) })
        };
        let armed = arm(engine, target, Patching::Quiet);
        let breakpoint = ["first_jump", "four_bytes_crowded"].contains(&name);
        assert_eq!(
            matches!(armed.method, Method::Breakpoint(_)),
            breakpoint,
            "{name}: {:?}",
            armed.method
        );
        engine.remove(&[armed.id], Patching::Quiet).expect("removed");
        engine.forget(armed.address..armed.address + 1);
    }
}

#[test]
fn a_branch_to_the_first_byte_is_no_call() {
    let (engine, _alone) = engine();
    let run = |n: u64| -> u64 {
        let result: u64;
        // SAFETY: the function uses rax and rdi.
        unsafe {
            std::arch::asm!(
                "xor eax, eax",
                "call {f}",
                f = sym to_byte_zero,
                in("rdi") n,
                out("rax") result,
                clobber_abi("C"),
            )
        };
        result
    };
    let armed = arm(
        engine,
        Target::entry(to_byte_zero as *const () as u64, 14, Action::Count { cell: cell(3) }),
        Patching::Quiet,
    );
    let before = calls(cell(3));
    for _ in 0..100 {
        assert_eq!(run(5), 7);
    }
    assert_eq!(calls(cell(3)) - before, 100);
    engine.remove(&[armed.id], Patching::Quiet).expect("removed");
    engine.forget(armed.address..armed.address + 1);
}

/// Two threads run the function while it is armed and disarmed: every result is right, and the
/// engine can say how many hits there were at most.
#[test]
fn arming_and_disarming_under_running_threads() {
    let (engine, _alone) = engine();
    let stop = AtomicBool::new(false);
    let runs = AtomicU64::new(0);
    thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                // Rust's threads have 8 KiB for signal handlers: too little for a debug build of a
                // first hit, after the processor's registers.
                uprobe::prepare_thread();
                while !stop.load(Ordering::Relaxed) {
                    for n in 0..1000 {
                        assert_eq!(call(busy, n), n + 1);
                    }
                    runs.fetch_add(1000, Ordering::Relaxed);
                }
            });
        }
        let before = calls(cell(4));
        for _ in 0..1000 {
            let armed = arm(
                engine,
                Target::entry(busy as *const () as u64, 15, Action::Time { cell: cell(4) }),
                Patching::Live,
            );
            thread::yield_now();
            engine.remove(&[armed.id], Patching::Live).expect("removed");
        }
        stop.store(true, Ordering::Relaxed);
        assert!(calls(cell(4)) > before, "some hits fell into the armed times");
    });
    assert!(calls(cell(4)) <= runs.load(Ordering::Relaxed) + 2000);
    assert!(engine.armed().is_empty());
}
