//! The total time of a function is that of its outermost calls. With one outermost call it is the
//! longest one, to the tick: no clock decides here.
#![allow(unsafe_code)]

mod common;

use common::{Wrap, arm, calls, cell, returns, sum};
use std::sync::{Barrier, Mutex, PoisonError};
use uprobe::testing::Kind;
use wire::cell::{MAX, SELF, TOTAL};

/// Bytes of the threads' stacks.
const STACK: usize = 1 << 20;

/// Runs `f` in a thread whose stack is known, as those are that an agent sees start.
fn on_a_thread<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let known = || {
            uprobe::prepare_started_thread(STACK);
            f()
        };
        let builder = std::thread::Builder::new().stack_size(STACK);
        builder.spawn_scoped(scope, known).expect("a thread").join().expect("no panic")
    })
}

/// One after the other: they share cells, of which there are five.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `f` adds to the total, and the longest call that there was by then.
fn total_of(cell: u32, f: impl FnOnce()) -> (u64, u64) {
    let before = sum(cell, TOTAL);
    f();
    (sum(cell, TOTAL) - before, sum(cell, MAX))
}

#[test]
fn direct_and_mutual_recursion() {
    let _alone = alone();
    const CELL: u32 = cell(0);
    arm(common::recurse as *const () as usize, Kind::Time(CELL));
    on_a_thread(|| {
        // SAFETY: as many levels.
        let (total, longest) = total_of(CELL, || assert_eq!(unsafe { common::recurse(500) }, 500));
        assert_eq!(total, longest);
        assert!(sum(CELL, SELF) <= total, "the levels share the outermost one's time");
        assert_eq!((calls(CELL), returns(CELL)), (500, 500));
        // SAFETY: as above.
        let (total, _) = total_of(CELL, || assert_eq!(unsafe { common::recurse(1) }, 1));
        assert!(total > 0, "an outermost one again");
    });
}

/// a(b(a(b(... )))), to this depth.
extern "C-unwind" fn step(depth: usize) {
    if depth != 0 {
        let wrap: Wrap = if depth.is_multiple_of(2) { common::wrap_a } else { common::wrap_b };
        // SAFETY: a wrap calls the function.
        unsafe { wrap(step, depth - 1) };
    }
}

#[test]
fn mutual_recursion_on_several_threads() {
    let _alone = alone();
    let (a, b) = (cell(1), cell(2));
    arm(common::wrap_a as *const () as usize, Kind::Time(a));
    arm(common::wrap_b as *const () as usize, Kind::Time(b));
    let together = Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                on_a_thread(|| {
                    together.wait();
                    step(60);
                    // Their blocks are read before they are given to others.
                    together.wait();
                });
            });
        }
    });
    assert_eq!((calls(a), returns(a), calls(b)), (120, 120, 120));
    assert_eq!((sum(a, TOTAL), sum(b, TOTAL)), (sum(a, MAX), sum(b, MAX)));
}

/// Writes over the frames that were left: a place that nobody writes to looks as if its frame were
/// alive.
#[inline(never)]
fn overwrite() {
    std::hint::black_box([0_u8; 4096]);
}

/// A frame that nobody probes, over the place of those that were left, and in it a call.
extern "C-unwind" fn deeper(place: usize) {
    let frame = std::hint::black_box([0_u8; 4096]);
    once(place);
    std::hint::black_box(frame);
}

extern "C-unwind" fn nothing(_: usize) {}

/// A call of the probed function that calls nothing.
extern "C-unwind" fn once(_: usize) {
    // SAFETY: a wrap calls the function.
    unsafe { common::wrap_c(nothing, 0) };
}

extern "C-unwind" fn escape(place: usize) {
    // SAFETY: `attempt` has filled it and is still there.
    unsafe { common::escape(std::ptr::with_exposed_provenance_mut(place)) }
}

/// Enters the probed function, and leaves it by longjmp.
extern "C-unwind" fn left(place: usize) {
    // SAFETY: as above.
    unsafe { common::wrap_c(escape, place) };
}

/// Frames that were left do not make the function active for ever, where nothing that is probed
/// comes by their place again.
#[test]
fn frames_that_were_left() {
    let _alone = alone();
    const CELL: u32 = cell(3);
    arm(common::wrap_c as *const () as usize, Kind::Time(CELL));
    on_a_thread(|| {
        for round in 1..=50 {
            let mut place = 0_usize;
            let to = (&raw mut place).expose_provenance();
            // SAFETY: `attempt` calls the function, which escapes to it.
            assert_eq!(unsafe { common::attempt(&raw mut place, left, to) }, 1);
            overwrite();
            let (total, _) = total_of(CELL, || deeper(0));
            assert!(total > 0, "round {round}: the call is the outermost one");
            let (total, _) = total_of(CELL, || once(0));
            assert!(total > 0, "round {round}: here, too");
        }
    });
    assert_eq!(returns(CELL), 100);
}

/// An inner call is left by longjmp to the outer one, which calls again: part of the outer one.
#[test]
fn left_to_an_outer_call() {
    let _alone = alone();
    const CELL: u32 = cell(4);
    arm(common::wrap_d as *const () as usize, Kind::Time(CELL));
    extern "C-unwind" fn inner(place: usize) {
        // SAFETY: a wrap calls the function.
        unsafe { common::wrap_d(escape, place) };
    }
    extern "C-unwind" fn outer(_: usize) {
        for _ in 0..20 {
            let mut place = 0_usize;
            let to = (&raw mut place).expose_provenance();
            // SAFETY: `attempt` calls the function, which escapes to it.
            assert_eq!(unsafe { common::attempt(&raw mut place, inner, to) }, 1);
            // SAFETY: a wrap calls the function.
            unsafe { common::wrap_d(nothing, 0) };
        }
    }
    on_a_thread(|| {
        // SAFETY: a wrap calls the function.
        let (total, longest) = total_of(CELL, || unsafe { common::wrap_d(outer, 0) });
        assert_eq!(total, longest, "one outermost call");
    });
    assert_eq!(returns(CELL), 21);
}
