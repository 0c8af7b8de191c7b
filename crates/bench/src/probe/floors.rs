//! Floors: the least that counting, timing and trapping can cost here.
#![allow(unsafe_code)]

use super::case::{Kind, ProbeCase};
use super::{functions, trap};
use crate::clock::Ticks;
use crate::harness::{Case, Entry, Job, Role};
use crate::sink::sink;
use percpu::{CachePadded, rseq};
use std::arch::asm;
use std::cell::Cell;
use std::sync::atomic::AtomicU64;

/// Row that is taken off all others of a table.
pub(super) const BARE: &str = "bare call";
/// Row of the breakpoint tables.
pub(super) const TRAP: &str = "bare int3 + SIGTRAP handler";
/// Row of the histogram tables.
const CLOCKS: &str = "two rdtsc around the call";
/// Row of the entry tables.
const DETOUR: &str = "jmp, inc [memory], jmp back";

/// Floors of single operations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floor(pub(super) usize);

impl Case for Floor {
    fn threads(&self) -> usize {
        self.0
    }

    fn title(&self) -> String {
        format!("floors: one operation, {} thread{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

/// Rows of the floors' own tables.
pub(super) fn single() -> Vec<Entry<Floor>> {
    thread_local!(static OWN: Cell<u64> = const { Cell::new(0) });
    vec![
        looped("call + ret", |n| functions::FUNCTIONS[0].call(n)),
        looped("add in memory", |n| {
            let mut word = 0_u64;
            for _ in 0..n {
                increment(&mut word);
            }
            sink(word);
        }),
        looped("thread-local add", |n| {
            for _ in 0..n {
                OWN.with(|own| own.set(own.get() + 1));
                sink(0);
            }
        }),
        rseq_add(),
        looped("rdtsc", |n| (0..n).for_each(|_| sink(Ticks::now()))),
        looped("two rdtsc", |n| {
            for _ in 0..n {
                sink(Ticks::now());
                sink(Ticks::now());
            }
        }),
        looped("clock_gettime (vDSO)", |n| (0..n).for_each(|_| sink(monotonic()))),
        looped("system call (getppid)", |n| {
            for _ in 0..n {
                // SAFETY: takes nothing and never fails.
                sink(unsafe { libc::syscall(libc::SYS_getppid) } as u64);
            }
        }),
        Entry::new(TRAP, Role::Floor, |_: &Floor| {
            let handler = trap::Handler::install()?;
            let job: Job = Box::new(move |_, meter| meter.run(|n| handler.trap(n)));
            Some(job)
        }),
    ]
}

/// Rows of the probe tables that are no contenders.
pub(super) fn contenders() -> Vec<Entry<ProbeCase>> {
    let of_kind = |name: &str, kind: Kind, make: fn(&ProbeCase) -> Option<Job>| {
        Entry::new(
            name,
            Role::Floor,
            move |case: &ProbeCase| if case.kind == kind { make(case) } else { None },
        )
    };
    vec![
        Entry::new(BARE, Role::Floor, |case: &ProbeCase| {
            let function = case.function();
            let job: Job = Box::new(move |_, meter| meter.run(|n| function.call(n)));
            Some(job)
        }),
        of_kind(DETOUR, Kind::Entry, |case| {
            (case.function == functions::PUSH)
                .then(|| -> Job { Box::new(|_, meter| meter.run(functions::call_detoured)) })
        }),
        of_kind(CLOCKS, Kind::Histogram, |case| {
            let function = case.function();
            let job: Job = Box::new(move |_, meter| meter.run(|n| function.call_clocked(n)));
            Some(job)
        }),
        of_kind(TRAP, Kind::Breakpoint, |_| {
            let handler = trap::Handler::install()?;
            let job: Job = Box::new(move |_, meter| meter.run(|n| handler.trap(n)));
            Some(job)
        }),
    ]
}

fn looped(name: &str, body: impl Fn(u64) + Copy + Sync + 'static) -> Entry<Floor> {
    Entry::new(name, Role::Floor, move |_: &Floor| {
        let job: Job = Box::new(move |_, meter| meter.run(body));
        Some(job)
    })
}

fn rseq_add() -> Entry<Floor> {
    const NAME: &str = "rseq per-CPU add";
    if !rseq::available() {
        return Entry::absent(NAME, Role::Floor, "no restartable sequences here");
    }
    Entry::new(NAME, Role::Floor, |_: &Floor| {
        let gate = rseq::Gate::new();
        let cells: Vec<CachePadded<AtomicU64>> =
            (0..gate.slots()).map(|_| CachePadded::new(AtomicU64::new(0))).collect();
        let job: Job = Box::new(move |_, meter| {
            rseq::register_thread();
            meter.run_counting(|n| {
                (0..n).filter(|_| rseq::add(&gate, &cells, 1).is_ok()).count() as u64
            });
        });
        Some(job)
    })
}

/// One instruction that the compiler can neither merge with the next nor keep in a register.
#[inline(always)]
fn increment(word: &mut u64) {
    // SAFETY: increments the word that the caller has lent.
    unsafe { asm!("inc qword ptr [{0}]", in(reg) word, options(nostack)) };
}

fn monotonic() -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a live timespec that the call fills.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut ts) };
    ts.tv_nsec as u64
}
