//! The asymmetric fence on the machine: store buffering.
#![cfg(not(loom))]

use percpu::fence::{heavy, light};
use percpu::{CachePadded, cpu};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// One side stores x, fences lightly, loads y; the other stores y, fences heavily, loads x. Both
/// reading 0 is what the fences forbid.
#[test]
fn at_least_one_side_sees_the_other() {
    const ROUNDS: usize = 20_000;
    let (x, y) = (CachePadded::new(AtomicU32::new(0)), CachePadded::new(AtomicU32::new(0)));
    let (start, end) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|s| {
        let reader = s.spawn(|| {
            let mut seen = Vec::with_capacity(ROUNDS);
            for _ in 0..ROUNDS {
                start.wait();
                x.store(1, Ordering::Relaxed);
                light();
                seen.push(y.load(Ordering::Relaxed));
                end.wait();
            }
            seen
        });
        let mut seen = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            x.store(0, Ordering::Relaxed);
            y.store(0, Ordering::Relaxed);
            start.wait();
            y.store(1, Ordering::Relaxed);
            heavy();
            seen.push(x.load(Ordering::Relaxed));
            end.wait();
        }
        let other = reader.join().expect("no panic");
        let blind = seen.iter().zip(&other).filter(|pair| *pair == (&0, &0)).count();
        assert_eq!(blind, 0, "of {ROUNDS} rounds");
    });
}

#[test]
fn cpu_numbers_are_in_range() {
    assert!(cpu::count() >= 1);
    assert!(cpu::current() < cpu::count());
    if let Some(cid) = percpu::rseq::mm_cid() {
        assert!((cid as usize) < cpu::count());
    }
    percpu::init();
}
