//! The program's own call stack.
#![allow(unsafe_code)]

use core::arch::asm;
use core::hint::black_box;
use unwind::{Bounds, End, Host, Method, Module, Start, Unwinder};

/// Frames of the longest stack.
pub(crate) const MOST: usize = 64;
/// Calls of one function by itself.
const DEPTH: usize = 20;

/// Nobody replaces return addresses or interrupts.
struct Plain;

impl Host for Plain {
    fn original(&self, _: u64, _: &mut dyn FnMut(u64, u64)) -> Option<u64> {
        None
    }

    fn slowly(&self, f: &mut dyn FnMut()) {
        f();
    }
}

/// The stack of this thread, which is the program's first: up to its first instruction.
pub(crate) fn walk(frames: &mut [u64; MOST]) -> &[u64] {
    let modules = Module::all(&mut |mapping| {
        assert!(mapping.path.ends_with(b"freestanding") || mapping.path == b"[vdso]");
        0
    });
    let own = walk as *const () as u64;
    let is_own = |module: &&Module| module.range.contains(&own);
    assert_eq!(modules.iter().filter(is_own).count(), 1);
    let unwinder = Unwinder::new().expect("memory");
    unwinder.set_modules(modules);
    let mut walks = [(0, 0); 2];
    // The second time, from the same place, everything is known. (One place: the compiler does not
    // know how often.)
    for walk in &mut walks[..black_box(2)] {
        *walk = (recurse(&unwinder, DEPTH, frames), unwinder.addresses());
    }
    assert_eq!(walks[0], walks[1]);
    let stack = &frames[..walks[0].0];
    assert!(stack.windows(2).filter(|two| two[0] == two[1]).count() >= DEPTH - 2);
    stack
}

#[inline(never)]
fn recurse(unwinder: &Unwinder, depth: usize, frames: &mut [u64; MOST]) -> usize {
    if depth > 0 {
        return black_box(recurse(black_box(unwinder), depth - 1, frames));
    }
    let (pc, sp, bp): (u64, u64, u64);
    // SAFETY: reads three registers.
    unsafe {
        asm!("lea {}, [rip]", "mov {}, rsp", "mov {}, rbp", out(reg) pc, out(reg) sp, out(reg) bp)
    };
    let start = Start { pc, sp, bp, entry: false };
    let mut bounds = Bounds::default();
    let (len, end) = unwinder.walk(&Plain, start, Method::Tables, &mut bounds, frames);
    assert_eq!(end, End::Complete);
    len
}
