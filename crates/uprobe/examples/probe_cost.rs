//! What a hit costs: `cargo run --release -p trapline-uprobe --example probe_cost`. Nanoseconds
//! over the bare call, median of the repeats.
#![allow(unsafe_code)]

use core::arch::{asm, global_asm};
use patch::Liveness;
use std::time::Instant;
use uprobe::testing::{self, Kind};
use uprobe::{Action, Config, Consumer, Context, Engine, Hooks, Patching, Returns, Seen, Target};
use uprobe::{Vectors, Verdict};

global_asm!(
    ".pushsection .text.targets,\"ax\",@progbits",
    ".macro target name",
    ".balign 64",
    ".globl \\name",
    "\\name:",
    "lea rax, [rdi + 1]",
    "nop",
    "ret",
    ".endm",
    "target cost_bare",
    "target cost_count",
    "target cost_count_all",
    "target cost_pair",
    "target cost_time",
    "target cost_call",
    "target cost_call_all",
    "target cost_call_return",
    // The same, larger than what a jump displaces: its exit is a site of its own.
    ".macro leaves name",
    ".balign 64",
    ".globl \\name",
    "\\name:",
    "lea rax, [rdi + 1]",
    "nop",
    "lea rsi, [rdi + 1]",
    "lea rax, [rsi + 1]",
    "ret",
    ".endm",
    "leaves cost_bare_exit",
    "leaves cost_pair_exit",
    "leaves cost_time_exit",
    "leaves cost_call_exit",
    ".purgem leaves",
    ".purgem target",
    ".popsection",
);

unsafe extern "C" {
    fn cost_bare(n: u64) -> u64;
    fn cost_count(n: u64) -> u64;
    fn cost_count_all(n: u64) -> u64;
    fn cost_pair(n: u64) -> u64;
    fn cost_time(n: u64) -> u64;
    fn cost_call(n: u64) -> u64;
    fn cost_call_all(n: u64) -> u64;
    fn cost_call_return(n: u64) -> u64;
    fn cost_bare_exit(n: u64) -> u64;
    fn cost_pair_exit(n: u64) -> u64;
    fn cost_time_exit(n: u64) -> u64;
    fn cost_call_exit(n: u64) -> u64;
}

fn block() -> *mut u8 {
    Box::leak(vec![0_u64; 8192].into_boxed_slice()).as_mut_ptr().cast()
}

fn see(_: &mut Context, _: usize, _: &mut u64) -> Verdict {
    Verdict::Return
}

fn seen(_: &mut Context, _: usize, _: u64) {}

#[inline(never)]
fn time(f: unsafe extern "C" fn(u64) -> u64) -> f64 {
    const CALLS: u64 = 50_000;
    let start = Instant::now();
    for _ in 0..CALLS {
        // SAFETY: a target keeps to the C calling convention.
        unsafe { asm!("call {f}", f = in(reg) f, inout("rdi") 1_u64 => _, clobber_abi("C")) };
    }
    start.elapsed().as_nanos() as f64 / CALLS as f64
}

/// Bytes of a target that is larger than what a jump displaces.
const LEAVES: u32 = 14;

/// A debug build shows that it works, and not what it costs.
const REPEATS: usize = if cfg!(debug_assertions) { 5 } else { 201 };

fn main() {
    let hooks = Hooks { thread_start: block, thread_exit: |_| (), lost: |_| () };
    testing::start(hooks).expect("start");
    let engine = Engine::start(hooks, Config::default()).expect("the engine");
    let dead = Liveness {
        flags: false,
        rax: false,
        r10: false,
        r11: false,
        red_zone: false,
        ..Liveness::ALL
    };
    let entry = Liveness { red_zone: false, ..Liveness::ALL };
    let consumer = |vectors, ret| Consumer {
        entry: Some(see),
        ret,
        span: None,
        busy: None,
        data: 0,
        vectors,
        limit: 0,
    };
    let arm = |f: unsafe extern "C" fn(u64) -> u64, kind, live: &Liveness| {
        // SAFETY: the targets begin with lea and nop, five bytes.
        unsafe { testing::arm(f as *const () as usize, 5, kind, live, false) }.expect("near memory")
    };
    arm(cost_count, Kind::Count(0), &dead);
    arm(cost_count_all, Kind::Count(64), &entry);
    arm(cost_pair, Kind::Pair(128), &dead);
    arm(cost_time, Kind::Time(4096), &dead);
    arm(cost_call, Kind::Call, &dead).attach(consumer(Vectors::Sse, None)).expect("a place");
    arm(cost_call_all, Kind::Call, &dead).attach(consumer(Vectors::All, None)).expect("a place");
    arm(cost_call_return, Kind::Call, &dead)
        .attach(consumer(Vectors::Sse, Some(seen)))
        .expect("a place");
    let arm_exits = |f: unsafe extern "C" fn(u64) -> u64, action| {
        let mut batch = engine.batch();
        let target = Target::entry(f as *const () as u64, LEAVES, action);
        batch.add(Target { after: 64 - LEAVES, by: Returns::Exits, ..target });
        let armed = batch.commit(Patching::Quiet).remove(0).expect("armed");
        assert_eq!(armed.returns, Some(Seen::Exits(1)), "{armed:?}");
    };
    arm_exits(cost_pair_exit, Action::CountReturn { cell: 8512 });
    arm_exits(cost_time_exit, Action::Time { cell: 16960 });
    arm_exits(cost_call_exit, Action::Call(consumer(Vectors::Sse, Some(seen))));
    let rows: [(&str, unsafe extern "C" fn(u64) -> u64); 12] = [
        ("bare", cost_bare),
        ("count, a register and the flags dead", cost_count),
        ("count, all registers and flags live", cost_count_all),
        ("entry + return, no clock", cost_pair),
        ("entry + return, histogram", cost_time),
        ("consumer, SSE", cost_call),
        ("consumer, all vector registers", cost_call_all),
        ("consumer, entry + return", cost_call_return),
        ("bare", cost_bare_exit),
        ("entry + exit, no clock", cost_pair_exit),
        ("entry + exit, histogram", cost_time_exit),
        ("consumer, entry + exit", cost_call_exit),
    ];
    let mut results: Vec<Vec<f64>> = vec![Vec::new(); rows.len()];
    for _ in 0..REPEATS {
        for (row, result) in rows.iter().zip(&mut results) {
            result.push(time(row.1));
        }
    }
    let mut bare = 0.0;
    for (row, result) in rows.iter().zip(&mut results) {
        result.sort_by(f64::total_cmp);
        let median = result[REPEATS / 2];
        if row.0 == "bare" {
            bare = median;
        }
        println!(
            "{:40} {:8.2} ns  (min {:.2}, max {:.2})",
            row.0,
            median - if row.0 == "bare" { 0.0 } else { bare },
            result[0] - bare,
            result[REPEATS - 1] - bare
        );
    }
}
