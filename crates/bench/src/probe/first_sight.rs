//! What it costs to see an address for the first time: its unwind table is read, with signals
//! blocked and all registers saved.
#![allow(unsafe_code)]

use super::chain;
use crate::options::Options;
use crate::report::{Bound, Sheet, Target};
use crate::stats::Summary;
use std::cell::{Cell, RefCell};
use std::time::Instant;
use unwind::{Bounds, Host, Method, Module, Start, Unwinder};

struct Program;

impl Host for Program {
    fn original(&self, address: u64, read: &mut dyn FnMut(u64, u64)) -> Option<u64> {
        uprobe::original_return_address(address, read)
    }

    fn slowly(&self, f: &mut dyn FnMut()) {
        uprobe::slowly(f);
    }
}

thread_local! {
    static UNWINDER: RefCell<Option<(Unwinder, Bounds)>> = const { RefCell::new(None) };
    static TOOK: Cell<f64> = const { Cell::new(0.0) };
}

/// Walks once, and says how long each address took.
extern "C" fn walk() {
    let (pc, sp, bp): (u64, u64, u64);
    // SAFETY: reads three registers.
    unsafe {
        std::arch::asm!(
            "lea {0}, [rip]",
            "mov {1}, rsp",
            "mov {2}, rbp",
            out(reg) pc,
            out(reg) sp,
            out(reg) bp,
        )
    };
    UNWINDER.with_borrow_mut(|state| {
        let Some((unwinder, bounds)) = state else { return };
        let before = unwinder.addresses();
        let started = Instant::now();
        unwinder.walk(
            &Program,
            Start { pc, sp, bp, entry: false },
            Method::Tables,
            bounds,
            &mut [0; chain::FRAMES],
        );
        let took = started.elapsed().as_nanos() as f64;
        let learned = unwinder.addresses() - before;
        if learned > 0 {
            TOOK.set(took / learned as f64);
        }
    });
}

/// The table and its goal.
pub(super) fn measure(options: &Options) -> Option<(Sheet, Target)> {
    chain::set_hook(walk);
    let modules = Module::all(&mut |_| 0);
    let mut took = Vec::new();
    let mut bounds = Bounds::default();
    for _ in 0..options.repeats(200) {
        let unwinder = Unwinder::new()?;
        unwinder.set_modules(modules.clone());
        UNWINDER.set(Some((unwinder, bounds)));
        chain::HOOKED.call(1, 1);
        bounds = UNWINDER.take()?.1;
        took.push(TOOK.get());
    }
    // The first time, the stack itself is looked for.
    let all = Summary::of(took.into_iter().skip(1));
    let mut sheet =
        Sheet::new("an address that is seen for the first time, ns", &["min", "median", "max"]);
    sheet.row(
        "unwind table read, rule kept",
        vec![all.map(|s| s.min), all.map(|s| s.median), all.map(|s| s.max)],
        "",
    );
    Some((
        sheet,
        Target::new("an address that is seen for the first time, ns", Bound::AtMost(5000.0), all),
    ))
}
