//! What one pop + push of the per-CPU list costs on this machine, beside an uncontended
//! compare-and-swap.

use percpu::rseq::lifo::{Lifo, LifoSlot};
use percpu::rseq::{self, Gate};
use percpu::{CachePadded, cpu};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A debug build shows that it works, and not what it costs.
const ROUNDS: u32 = if cfg!(debug_assertions) { 200_000 } else { 20_000_000 };

fn main() {
    if !rseq::available() {
        println!("no restartable sequences here");
        return;
    }
    let slots: Vec<_> = (0..cpu::count()).map(|_| CachePadded::new(LifoSlot::default())).collect();
    let links: Vec<_> = (0..=16).map(|_| AtomicU64::new(0)).collect();
    let gate = Gate::new();
    // SAFETY: all three are new and used by this view alone.
    let lifo = unsafe { Lifo::new(&slots, &links, &gate, 8) };
    for e in 1..=4 {
        // SAFETY: entries 1 to 4 have links, and each is given once.
        unsafe { lifo.push(e) }.expect("room");
    }
    for _ in 0..3 {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            // Now and then the thread moves to the other, empty list.
            if let Ok((e, _)) = lifo.pop() {
                // SAFETY: popped just now.
                let _ = unsafe { lifo.push(e) };
            }
        }
        report("pop + push", start);
        let cas = AtomicU64::new(0);
        let start = Instant::now();
        for i in 0..u64::from(ROUNDS) {
            let _ = black_box(cas.compare_exchange(i, i + 1, Ordering::AcqRel, Ordering::Relaxed));
        }
        report("compare-and-swap", start);
    }
}

fn report(name: &str, start: Instant) {
    println!("{name}: {:.2} ns", start.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
}
