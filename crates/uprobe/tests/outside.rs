//! Changes that somebody else writes: here this program itself, by the file of its memory.
#![allow(unsafe_code)]

mod common;

use common::{calls, cell, hooks, returns, through, wrap_a};
use std::arch::global_asm;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use uprobe::{
    Action, Change, Config, Consumer, Context, Engine, Method, Patching, Prepared, Refusal,
    Returns, Seen, Target, Vectors, Verdict,
};

// Each takes a number and gives back a larger one.
global_asm!(
    ".macro outside name",
    ".balign 64, 0xcc",
    ".globl \\name",
    ".type \\name, @function",
    "\\name:",
    ".endm",
    ".pushsection .text.outside,\"ax\",@progbits",
    "outside outside_steps",
    "lea rdi, [rdi + 1]",
    "lea rdi, [rdi + 1]",
    "lea rdi, [rdi + 1]",
    "mov rax, rdi",
    "ret",
    // The window ends with a call: who is in there comes back behind it.
    "outside outside_call",
    "push rbx",
    "call 1f",
    "pop rbx",
    "ret",
    "1: lea rax, [rdi + 3]",
    "ret",
    "outside outside_padded",
    "lea eax, [rdi + 3]",
    "ret",
    "outside outside_loop",
    "lea rdi, [rdi + 1]",
    "nop dword ptr [rax + rax]",
    "test dil, 3",
    "nop dword ptr [rax + rax]",
    "jnz outside_loop",
    "mov rax, rdi",
    "ret",
    "outside outside_whole",
    "xor eax, eax",
    "2: inc rax",
    "cmp rax, rdi",
    "jbe 2b",
    "ret",
    // getppid()
    "outside outside_syscall",
    "push 110",
    "pop rax",
    "syscall",
    "ret",
    "outside outside_crowded",
    "lea eax, [rdi + 3]",
    "ret",
    "3: ret",
    ".balign 64, 0xcc",
    ".popsection",
    ".purgem outside",
);

// The same function, whose first five bytes are the last of a page, or lie in two.
global_asm!(
    ".macro steps name, behind",
    ".balign 4096, 0xcc",
    ".skip \\behind, 0xcc",
    ".globl \\name",
    ".type \\name, @function",
    "\\name:",
    "lea rdi, [rdi + 1]",
    "lea rdi, [rdi + 1]",
    "lea rdi, [rdi + 1]",
    "mov rax, rdi",
    "ret",
    ".endm",
    ".pushsection .text.outside_pages,\"ax\",@progbits",
    "steps outside_in_page, 4091",
    "steps outside_in_two, 4092",
    ".balign 64, 0xcc",
    ".popsection",
    ".purgem steps",
);

type Function = unsafe extern "C" fn(u64) -> u64;

unsafe extern "C" {
    fn outside_steps(n: u64) -> u64;
    fn outside_call(n: u64) -> u64;
    fn outside_padded(n: u64) -> u64;
    fn outside_loop(n: u64) -> u64;
    fn outside_whole(n: u64) -> u64;
    fn outside_syscall(n: u64) -> u64;
    fn outside_crowded(n: u64) -> u64;
    fn outside_in_page(n: u64) -> u64;
    fn outside_in_two(n: u64) -> u64;
}

/// Function, size, bytes behind it that are nobody's, what it makes of 1, how many changes it takes
/// and how many bytes they displace.
const SHAPES: [(Function, u32, u32, u64, usize, u64); 5] = [
    (outside_steps, 16, 48, 4, 1, 8),
    (outside_call, 13, 51, 4, 1, 6),
    (outside_padded, 4, 60, 4, 1, 5),
    (outside_loop, 22, 42, 4, 2, 8),
    (outside_whole, 11, 53, 2, 1, 11),
];

/// The engine is the process's: one test at a time.
fn engine() -> (&'static Engine, MutexGuard<'static, ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    (Engine::start(hooks(), Config::default()).expect("the engine"), alone)
}

fn call(f: Function, n: u64) -> u64 {
    // SAFETY: a function above.
    unsafe { f(n) }
}

fn count(shape: usize, cell: u32) -> Target {
    let (f, size, after, ..) = SHAPES[shape];
    Target { after, ..Target::entry(f as usize as u64, size, Action::Count { cell }) }
}

fn read(at: u64, bytes: usize) -> Vec<u8> {
    let byte = |n| std::ptr::with_exposed_provenance::<u8>(at as usize + n);
    // SAFETY: code of this program. Volatile: it changes.
    (0..bytes).map(|n| unsafe { byte(n).read_volatile() }).collect()
}

/// All of them, while nobody is there.
fn write(changes: &[Change]) {
    let memory = File::options().write(true).open("/proc/self/mem").expect("memory");
    for change in changes {
        assert_eq!(read(change.address, change.old.len()), change.old);
        memory.write_all_at(&change.new, change.address).expect("code");
    }
}

fn prepare(engine: &'static Engine, targets: impl IntoIterator<Item = Target>) -> Prepared {
    let mut batch = engine.batch();
    targets.into_iter().for_each(|target| batch.add(target));
    batch.commit_outside()
}

#[test]
fn what_is_handed_out_arms_and_disarms() {
    let (engine, _alone) = engine();
    for (shape, (f, _, _, result, number, window)) in SHAPES.into_iter().enumerate() {
        let before = calls(cell(0));
        let counted = || calls(cell(0)) - before;
        let Prepared { armed, changes } = prepare(engine, [count(shape, cell(0))]);
        let armed = armed[0].expect("room for a jump");
        assert_eq!((armed.method, armed.counts_branches), (Method::Detour, false));
        assert_eq!(changes.len(), number, "{shape}");
        assert_eq!(changes[0].range, armed.address..armed.address + window, "{shape}");
        assert_eq!((call(f, 1), counted()), (result, 0), "nothing is written");
        assert!(engine.armed().contains(&armed.address));
        write(&changes);
        let threads: Vec<_> = (0..4).map(|_| thread::spawn(move || call(f, 1))).collect();
        assert!(threads.into_iter().all(|thread| thread.join().expect("no panic") == result));
        assert_eq!((call(f, 1), counted()), (result, 5), "{shape}");

        let back = engine.remove_outside(&[armed.id]);
        assert_eq!(back.len(), number);
        assert!(!engine.armed().contains(&armed.address));
        assert_eq!((call(f, 1), counted()), (result, 6), "it is still there");
        write(&back);
        assert_eq!((call(f, 1), counted()), (result, 6));
        for change in &changes {
            assert_eq!(read(change.address, change.old.len()), change.old);
        }
        assert!(engine.remove_outside(&[armed.id]).is_empty(), "once is enough");
    }
}

#[test]
fn threads_can_go_on_in_the_copies() {
    let (engine, _alone) = engine();
    let before = calls(cell(1));
    let Prepared { armed, changes } = prepare(engine, [count(0, cell(1))]);
    let at = armed[0].expect("room for a jump").address;
    write(&changes);
    let Change { moved, .. } = &changes[0];
    assert_eq!(moved.iter().map(|moved| moved.0 - at).collect::<Vec<_>>(), [0, 4]);
    for (steps, (_, copy)) in [3, 2].into_iter().zip(moved) {
        // SAFETY: a copy of the function from there on, which goes back behind the window.
        let f: Function = unsafe { std::mem::transmute(*copy as usize) };
        assert_eq!(call(f, 10), 10 + steps);
    }
    assert_eq!(calls(cell(1)), before, "they are behind the probe");
    write(&engine.remove_outside(&[armed[0].expect("armed").id]));

    // All of a function that is moved as a whole: its loop would come back into the jump.
    let Prepared { armed, changes } = prepare(engine, [count(4, cell(1))]);
    let starts: Vec<u64> = changes[0].moved.iter().map(|m| m.0 - changes[0].address).collect();
    assert_eq!(starts, [0, 2, 5, 8, 10]);
    engine.remove_outside(&[armed[0].expect("armed").id]);
    assert_eq!(call(outside_whole, 5), 6);
}

/// Between the list and the writing, calls that were pending end, and others come and go.
#[test]
fn calls_go_on_until_the_original_is_written() {
    const CELL: u32 = cell(4);
    let (engine, _alone) = engine();
    let (action, by) = (Action::Time { cell: CELL }, Returns::Exits);
    let target = Target::entry(wrap_a as *const () as u64, 18, action);
    let prepared = prepare(engine, [Target { after: 46, returns: false, by, ..target }]);
    let armed = prepared.armed[0].expect("armed");
    assert_eq!(armed.returns, Some(Seen::Exits(1)), "{armed:?}");
    write(&prepared.changes);
    let counted = || [calls(CELL), returns(CELL)];
    let mut back = Vec::new();
    through(wrap_a, || back = engine.remove_outside(&[armed.id]));
    assert_eq!(counted(), [1, 1]);
    through(wrap_a, || ());
    assert_eq!(counted(), [2, 2]);
    through(wrap_a, || {
        write(&back);
        engine.removed_outside(&[armed.id]);
    });
    through(wrap_a, || ());
    assert_eq!(counted(), [3, 2], "nobody saw it end");
}

#[test]
fn no_breakpoint_is_handed_out() {
    let (engine, _alone) = engine();
    let crowded = outside_crowded as *const () as u64;
    let crowded = Target::entry(crowded, 4, Action::Count { cell: cell(2) });
    let breakpoint = Target { breakpoint: true, ..count(0, cell(2)) };
    let Prepared { armed, changes } = prepare(engine, [crowded, breakpoint, count(1, cell(2))]);
    assert_eq!(armed[0].err(), Some(Refusal::NeedsTrap));
    assert_eq!(armed[1].err(), Some(Refusal::NeedsTrap));
    assert_eq!(changes.len(), 1);
    engine.remove_outside(&[armed[2].expect("armed").id]);
    assert_eq!(call(outside_call, 1), 4);
}

#[test]
fn no_jump_is_handed_out_that_a_thread_in_a_system_call_comes_back_to() {
    let (engine, _alone) = engine();
    let action = Action::Count { cell: cell(2) };
    let entry = Target::entry(outside_syscall as *const () as u64, 6, action);
    let target = Target { after: 58, ..entry };
    let Prepared { armed, changes } = prepare(engine, [target]);
    assert_eq!((armed[0].err(), changes.len()), (Some(Refusal::SystemCall), 0));
    // Where threads that come back meet a trap it can be done.
    let mut batch = engine.batch();
    batch.add(target);
    let armed = batch.commit(Patching::Live).remove(0).expect("armed");
    assert_eq!(armed.method, Method::Detour);
    let before = calls(cell(2));
    assert_eq!(call(outside_syscall, 0), u64::from(std::os::unix::process::parent_id()));
    assert_eq!(calls(cell(2)) - before, 1);
    engine.remove(&[armed.id], Patching::Live).expect("removed");
}

#[test]
fn no_jump_is_handed_out_that_is_written_in_two_steps() {
    let (engine, _alone) = engine();
    for (f, refused) in
        [(outside_in_page as Function, None), (outside_in_two, Some(Refusal::TwoPages))]
    {
        let target = Target::entry(f as usize as u64, 16, Action::Count { cell: cell(2) });
        let Prepared { armed, changes } = prepare(engine, [target]);
        assert_eq!((armed[0].err(), changes.is_empty()), (refused, refused.is_some()));
        if let Ok(armed) = armed[0] {
            engine.remove_outside(&[armed.id]);
        }
        // In the process itself, threads that run into a half of it meet a trap.
        let mut batch = engine.batch();
        batch.add(target);
        let armed = batch.commit(Patching::Live).remove(0).expect("armed");
        let before = calls(cell(2));
        assert_eq!((call(f, 1), calls(cell(2)) - before), (4, 1));
        engine.remove(&[armed.id], Patching::Live).expect("removed");
    }
}

#[test]
fn a_site_is_armed_again_as_it_was_or_as_something_else() {
    static SEEN: AtomicU64 = AtomicU64::new(0);
    fn see(_: &mut Context, by: usize, _: &mut u64) -> Verdict {
        SEEN.fetch_add(by as u64, Ordering::Relaxed);
        Verdict::Skip
    }
    let by = |data| {
        let (ret, span, busy, vectors, limit) = (None, None, None, Vectors::Sse, 0);
        Action::Call(Consumer { entry: Some(see), ret, span, busy, data, vectors, limit })
    };
    let (engine, _alone) = engine();
    let as_counted = count(2, cell(3));
    let seen_by = |data| Target { action: by(data), ..as_counted };
    let mut jumps = Vec::new();
    for target in [as_counted, as_counted, seen_by(1), seen_by(100), as_counted] {
        let before = (calls(cell(3)), SEEN.load(Ordering::Relaxed));
        let Prepared { armed, changes } = prepare(engine, [target]);
        let armed = armed[0].expect("room for a jump");
        let busy = prepare(engine, [Target { action: Action::Count { cell: cell(4) }, ..target }]);
        assert_eq!(busy.armed[0].err(), Some(Refusal::AlreadyProbed));
        assert!(busy.changes.is_empty());
        write(&changes);
        assert_eq!(call(outside_padded, 1), 4);
        jumps.push((
            changes[0].new.clone(),
            calls(cell(3)) - before.0,
            SEEN.load(Ordering::Relaxed) - before.1,
        ));
        write(&engine.remove_outside(&[armed.id]));
    }
    let [one, two, three, four, five] = &jumps[..] else { unreachable!() };
    assert_eq!(
        [one, two, three, four, five].map(|j| (j.1, j.2)),
        [(1, 0), (1, 0), (0, 1), (0, 100), (1, 0)]
    );
    assert_eq!((&one.0, &three.0), (&two.0, &four.0), "the same stubs");
    assert!(one.0 != three.0 && three.0 != five.0);
    // And by the engine itself.
    let mut batch = engine.batch();
    batch.add(as_counted);
    let armed = batch.commit(Patching::Live).remove(0).expect("armed");
    let before = calls(cell(3));
    assert_eq!((call(outside_padded, 1), calls(cell(3)) - before), (4, 1));
    engine.remove(&[armed.id], Patching::Live).expect("removed");
}

/// Of two functions that share bytes one is armed at a time, however often and in whatever order
/// they were before.
#[test]
fn what_was_armed_makes_way_and_does_not_come_in_the_way() {
    let (engine, _alone) = engine();
    let inner = outside_steps as *const () as u64 + 4;
    let inner = Target { after: 48, ..Target::entry(inner, 12, Action::Count { cell: cell(0) }) };
    let outer = count(0, cell(1));
    for targets in [[outer, inner], [outer, inner], [inner, outer], [outer, inner], [inner, outer]]
    {
        let Prepared { armed, changes } = prepare(engine, targets);
        let first = armed[0].expect("room for a jump");
        assert_eq!(armed[1].err(), Some(Refusal::AlreadyProbed), "{targets:?}");
        assert_eq!(changes.len(), 1);
        write(&changes);
        assert_eq!(call(outside_steps, 1), 4);
        write(&engine.remove_outside(&[first.id]));
    }
}
