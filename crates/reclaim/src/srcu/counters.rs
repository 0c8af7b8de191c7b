//! How many sections were ever begun and ended: four sums over all CPUs.
//!
//! A section of index `i` is counted in `begun[i]` where it begins and in `ended[i]` where it ends,
//! which may be another CPU and another thread. The sums only grow, and wrap; sections of an index
//! are open while its two sums differ.
//!
//! A cell is written by restartable sequences only or by atomic instructions only.
#![cfg_attr(
    not(loom),
    allow(unreachable_pub, reason = "models reach these types through `srcu::model`")
)]

use percpu::rseq::{self, Gate};
use percpu::sync::atomic::{AtomicU64, Ordering};
use percpu::{CachePadded, PerCpu};

/// The counters of one domain.
pub trait Counters: Send + Sync + 'static {
    /// All zero.
    fn new() -> Self;
    /// Counts the beginning of a section. Orders nothing by itself: a fence follows.
    fn begin(&self, index: usize);
    /// Counts the end of a section, after everything that happened in it (Release).
    fn end(&self, index: usize);
    /// How many began.
    fn begun(&self, index: usize) -> u64;
    /// How many ended (Acquire): the beginnings of these are in every sum of `begun` that is taken
    /// later.
    fn ended(&self, index: usize) -> u64;
    /// Forgets all sections. The caller is alone with the counters.
    fn forget(&self);
}

/// Counters for atomic adds: one line per CPU, all four on it.
#[derive(Debug)]
pub struct Atomic {
    lines: PerCpu<Line>,
}

#[derive(Debug, Default)]
struct Line {
    begun: [AtomicU64; 2],
    ended: [AtomicU64; 2],
}

impl Counters for Atomic {
    fn new() -> Self {
        Self { lines: PerCpu::new(|_| Line::default()) }
    }

    #[inline]
    fn begin(&self, index: usize) {
        // Relaxed: the fence in `Machine::enter` orders it.
        self.lines.current().begun[index].fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    fn end(&self, index: usize) {
        // Release pairs with the Acquire in `ended`.
        self.lines.current().ended[index].fetch_add(1, Ordering::Release);
    }

    fn begun(&self, index: usize) -> u64 {
        // Relaxed: ordered by the fence in `Machine::is_drained`, and by the Acquire of the `ended`
        // before it.
        self.lines
            .iter()
            .fold(0, |sum, line| sum.wrapping_add(line.begun[index].load(Ordering::Relaxed)))
    }

    fn ended(&self, index: usize) -> u64 {
        // Acquire pairs with the Release in `end`, and through it with the `begin` of the same
        // section.
        self.lines
            .iter()
            .fold(0, |sum, line| sum.wrapping_add(line.ended[index].load(Ordering::Acquire)))
    }

    fn forget(&self) {
        for cell in self.lines.iter().flat_map(|line| line.begun.iter().chain(&line.ended)) {
            cell.store(0, Ordering::Relaxed);
        }
    }
}

/// Counters for plain adds inside restartable sequences, with [`Atomic`] ones beside them for
/// threads that have none.
#[derive(Debug)]
pub(super) struct Sequenced {
    begun: [PerCpu<AtomicU64>; 2],
    ended: [PerCpu<AtomicU64>; 2],
    /// Always open: nobody takes anything out of the cells.
    gate: CachePadded<Gate>,
    others: Atomic,
}

impl Sequenced {
    #[cold]
    #[inline(never)]
    fn begin_slow(&self, index: usize) {
        if !(rseq::register_thread()
            && rseq::add(&self.gate, self.begun[index].as_slice(), 1).is_ok())
        {
            self.others.begin(index);
        }
    }

    #[cold]
    #[inline(never)]
    fn end_slow(&self, index: usize) {
        if !(rseq::register_thread()
            && rseq::add(&self.gate, self.ended[index].as_slice(), 1).is_ok())
        {
            self.others.end(index);
        }
    }
}

impl Counters for Sequenced {
    fn new() -> Self {
        let cells = || PerCpu::new(|_| AtomicU64::new(0));
        Self {
            begun: [cells(), cells()],
            ended: [cells(), cells()],
            gate: CachePadded::new(Gate::new()),
            others: Atomic::new(),
        }
    }

    #[inline(always)]
    fn begin(&self, index: usize) {
        if rseq::add(&self.gate, self.begun[index].as_slice(), 1).is_err() {
            self.begin_slow(index);
        }
    }

    #[inline(always)]
    fn end(&self, index: usize) {
        // A sequence is compiled for x86-64 only, where its store is a Release and its assembly is
        // a compiler fence.
        if rseq::add(&self.gate, self.ended[index].as_slice(), 1).is_err() {
            self.end_slow(index);
        }
    }

    fn begun(&self, index: usize) -> u64 {
        // Relaxed: as in `Atomic::begun`.
        self.begun[index].iter().fold(self.others.begun(index), |sum, cell| {
            sum.wrapping_add(cell.load(Ordering::Relaxed))
        })
    }

    fn ended(&self, index: usize) -> u64 {
        // Acquire pairs with the commit of the sequence in `end`.
        self.ended[index].iter().fold(self.others.ended(index), |sum, cell| {
            sum.wrapping_add(cell.load(Ordering::Acquire))
        })
    }

    fn forget(&self) {
        for cell in self.begun.iter().chain(&self.ended).flat_map(PerCpu::iter) {
            cell.store(0, Ordering::Relaxed);
        }
        self.others.forget();
    }
}
