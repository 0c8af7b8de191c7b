//! Functions with several exits, armed and disarmed as one: quietly, under running threads, and
//! while calls are pending.
#![allow(unsafe_code)]

mod common;

use common::{buckets, calls, cell, hooks, returns, untimed, unwound};
use std::arch::global_asm;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use uprobe::{Action, Armed, Config, Engine, Patching, Returns, Seen, Target};

// Every function takes a number and gives it back plus one.
global_asm!(
    ".macro target name",
    ".balign 64, 0xcc",
    ".globl \\name",
    ".type \\name, @function",
    "\\name:",
    ".endm",
    ".text",
    "target exits_three",
    "push rbx",
    "mov rbx, rdi",
    "test rbx, 1",
    "jz 2f",
    "lea rax, [rbx + 1]",
    "pop rbx",
    "ret",
    "2: test rbx, 2",
    "jz 3f",
    "lea rax, [rbx + 1]",
    "mov rbx, [rsp]",
    "add rsp, 8",
    "ret",
    "3: lea rax, [rbx + 1]",
    "pop rbx",
    "ret 0",
    "target exits_tail",
    "push rbx",
    "mov rbx, rdi",
    "lea rdi, [rbx]",
    "pop rbx",
    "test rdi, 1",
    "jnz exits_other",
    "lea rax, [rdi + 1]",
    "nop",
    "jmp exits_return",
    "target exits_other",
    "lea rax, [rdi + 2]",
    "lea rax, [rax - 1]",
    "ret",
    "target exits_return",
    "mov rcx, rax",
    "mov rax, rcx",
    "ret",
    "target exits_small",
    "lea rax, [rdi + 1]",
    "ret",
    "target exits_waits",
    "push rbx",
    "mov rbx, rdi",
    "call rsi",
    "lea rax, [rbx + 1]",
    "pop rbx",
    "ret",
    // recurse(n): n levels deep, 56 bytes each.
    "target exits_recurse",
    "sub rsp, 40",
    "xor eax, eax",
    "dec rdi",
    "jz 2f",
    "call exits_recurse",
    "2: inc rax",
    "add rsp, 40",
    "ret",
    "target exits_end",
    "nop",
);

unsafe extern "C" {
    fn exits_three(n: u64) -> u64;
    fn exits_tail(n: u64) -> u64;
    fn exits_small(n: u64) -> u64;
    fn exits_recurse(n: u64) -> u64;
    fn exits_waits(n: u64, f: extern "C" fn()) -> u64;
}

type Function = unsafe extern "C" fn(u64) -> u64;

/// Name, function, size, exits that are sites of their own.
const SHAPES: [(&str, Function, u32, u32); 3] = [
    ("three", exits_three, 53, 3),
    ("tail", exits_tail, 28, 2),
    // Left among the bytes that are displaced at its entry.
    ("small", exits_small, 5, 0),
];

fn size(f: Function, least: u32) -> u32 {
    // To the padding that is in front of the next function.
    let bytes = |n: u32| {
        let place = std::ptr::with_exposed_provenance::<u8>(f as usize + n as usize);
        // SAFETY: code of this file, and padding.
        unsafe { place.read() }
    };
    let padding = (0..64).rev().take_while(|n| bytes(*n) == 0xcc).count() as u32;
    let size = 64 - padding;
    assert!(size <= least + 8, "{size} {least}");
    size
}

/// The engine is the process's: one test at a time.
fn engine() -> (&'static Engine, MutexGuard<'static, ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    (Engine::start(hooks(), Config::default()).expect("the engine"), alone)
}

fn arm(engine: &'static Engine, f: Function, least: u32, action: Action, how: Patching) -> Armed {
    let mut batch = engine.batch();
    let size = size(f, least);
    let target = Target::entry(f as usize as u64, size, action);
    batch.add(Target { after: 64 - size, by: Returns::Exits, ..target });
    batch.commit(how).remove(0).expect("armed")
}

fn call(f: Function, n: u64) -> u64 {
    // SAFETY: a function above.
    unsafe { f(n) }
}

#[test]
fn every_shape_counts_each_return_once() {
    let (engine, _alone) = engine();
    for how in [Patching::Quiet, Patching::Live, Patching::Live] {
        for (name, f, least, exits) in SHAPES {
            for timed in [false, true] {
                let cell = cell(u32::from(timed));
                let action =
                    if timed { Action::Time { cell } } else { Action::CountReturn { cell } };
                let before = (calls(cell), returns(cell), buckets(cell));
                let armed = arm(engine, f, least, action, how);
                assert_eq!(armed.returns, Some(Seen::Exits(exits)), "{name}: {armed:?}");
                for n in 0..200 {
                    assert_eq!(call(f, n), n + 1, "{name}");
                }
                engine.remove(&[armed.id], how).expect("removed");
                let counted =
                    (calls(cell) - before.0, returns(cell) - before.1, buckets(cell) - before.2);
                assert_eq!(counted, (200, 200, if timed { 200 } else { 0 }), "{name}");
                assert_eq!(call(f, 7), 8);
                assert_eq!(calls(cell) - before.0, 200, "{name}, after it was removed");
                assert_eq!((unwound(cell), untimed(cell)), (0, 0), "{name}");
            }
        }
    }
    assert!(engine.armed().is_empty());
}

/// Two threads run the functions while they are armed and disarmed: every result is right, and what
/// is counted of the returns is no more than of the calls, but for those that had begun.
#[test]
fn arming_and_disarming_under_running_threads() {
    let (engine, _alone) = engine();
    let stop = AtomicBool::new(false);
    let runs = AtomicU64::new(0);
    let cells = [cell(2), cell(3)];
    thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                uprobe::prepare_thread();
                while !stop.load(Ordering::Relaxed) {
                    for n in 0..1000 {
                        for (_, f, ..) in SHAPES {
                            assert_eq!(call(f, n), n + 1);
                        }
                    }
                    runs.fetch_add(1000 * SHAPES.len() as u64, Ordering::Relaxed);
                }
            });
        }
        for round in 0..100 {
            let timed = round % 2 == 0;
            let ids: Vec<_> = SHAPES
                .iter()
                .map(|(_, f, least, _)| {
                    let cell = cells[usize::from(timed)];
                    let action =
                        if timed { Action::Time { cell } } else { Action::CountReturn { cell } };
                    arm(engine, *f, *least, action, Patching::Live).id
                })
                .collect();
            thread::yield_now();
            engine.remove(&ids, Patching::Live).expect("removed");
        }
        stop.store(true, Ordering::Relaxed);
    });
    for cell in cells {
        let (calls, returns) = (calls(cell), returns(cell));
        assert!(calls > 0 && returns > 0, "some hits fell into the armed times");
        assert!(calls <= runs.load(Ordering::Relaxed) + 10_000);
        // What is timed is paired: one call of each thread at most is under way when the exits go.
        // (Without a clock whoever had begun before counts as returned.)
        let pending = 2 * SHAPES.len() as u64 * 100;
        let paired = returns <= calls && calls <= returns + pending;
        assert!(paired || cell == cells[0], "{calls} calls, {returns} returns");
    }
    assert!(engine.armed().is_empty());
}

static ENGINE_STEP: Mutex<Option<fn()>> = Mutex::new(None);

extern "C" fn step() {
    let step = ENGINE_STEP.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(step) = step {
        step();
    }
}

const PENDING: u32 = cell(4);

fn arm_waits() -> Armed {
    let engine = Engine::get().expect("started");
    let f: Function = {
        let f: unsafe extern "C" fn(u64, extern "C" fn()) -> u64 = exits_waits;
        // SAFETY: only its address is used.
        unsafe { std::mem::transmute::<unsafe extern "C" fn(u64, extern "C" fn()) -> u64, _>(f) }
    };
    arm(engine, f, 16, Action::Time { cell: PENDING }, Patching::Quiet)
}

fn disarm_waits() {
    let engine = Engine::get().expect("started");
    let armed = arm_waits_again();
    engine.remove(&[armed], Patching::Quiet).expect("removed");
}

/// The number of the site, which it keeps.
fn arm_waits_again() -> uprobe::SiteId {
    static ID: Mutex<Option<uprobe::SiteId>> = Mutex::new(None);
    let mut id = ID.lock().unwrap_or_else(PoisonError::into_inner);
    *id.get_or_insert_with(|| arm_waits().id)
}

fn waits(n: u64, inside: fn()) -> u64 {
    *ENGINE_STEP.lock().unwrap_or_else(PoisonError::into_inner) = Some(inside);
    // SAFETY: a function above.
    unsafe { exits_waits(n, step) }
}

/// A call that had begun when the probe came is no return; one that is pending when it goes, and
/// when it is back, is neither a return nor left.
#[test]
fn calls_that_are_pending_when_probes_come_and_go() {
    let (_, _alone) = engine();
    let counts = || (calls(PENDING), returns(PENDING), unwound(PENDING), untimed(PENDING));
    assert_eq!(waits(1, || _ = arm_waits_again()), 2);
    assert_eq!(counts(), (0, 0, 0, 0));
    assert_eq!(waits(2, || ()), 3);
    assert_eq!(counts(), (1, 1, 0, 0));
    assert_eq!(waits(3, disarm_waits), 4);
    assert_eq!(counts(), (2, 1, 0, 0));
    assert_eq!(waits(4, || ()), 5, "nobody looks");
    assert_eq!(counts(), (2, 1, 0, 0));
    arm_waits();
    assert_eq!(waits(5, || ()), 6);
    assert_eq!(counts(), (3, 2, 0, 0), "what is left over of the third call was not left");
    disarm_waits();
}

/// Calls the function on another stack.
fn on_stack(stack: &mut [u64], f: Function, n: u64) -> u64 {
    let top = stack.as_mut_ptr_range().end.expose_provenance() & !15;
    let result;
    // SAFETY: the stack is large enough, and the function keeps to the calling convention.
    unsafe {
        std::arch::asm!(
            "mov r12, rsp",
            "mov rsp, {top}",
            "call {f}",
            "mov rsp, r12",
            top = in(reg) top,
            f = in(reg) f,
            in("rdi") n,
            out("r12") _,
            lateout("rax") result,
            clobber_abi("C"),
        )
    };
    result
}

/// On a stack of which nobody has said where it begins and ends, over several pages: one call from
/// outside is one outermost call, and all its time is somebody's own.
#[test]
fn recursion_on_a_stack_of_unknown_bounds() {
    const CELL: u32 = cell(0);
    let (engine, _alone) = engine();
    let earlier = (calls(CELL), returns(CELL));
    let how = Patching::Quiet;
    let armed = arm(engine, exits_recurse, 29, Action::Time { cell: CELL }, how);
    let sum = |field| common::sum(CELL, field);
    let mut stacks = [vec![0_u64; 8192], vec![0; 8192]];
    for round in 0..20 {
        for stack in &mut stacks {
            let before = (sum(wire::cell::TOTAL), sum(wire::cell::SELF));
            assert_eq!(on_stack(stack, exits_recurse, 1000), 1000);
            let total = sum(wire::cell::TOTAL) - before.0;
            assert_eq!(total, sum(wire::cell::SELF) - before.1, "round {round}");
        }
    }
    let counted = (calls(CELL) - earlier.0, returns(CELL) - earlier.1, unwound(CELL));
    assert_eq!(counted, (40_000, 40_000, 0));
    engine.remove(&[armed.id], how).expect("removed");
}
