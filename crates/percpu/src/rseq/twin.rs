//! The broken twin of [`Gate::close`](super::Gate::close): without the membarrier, a visitor and a sequence in progress take the same entry.

use super::lifo::{Lifo, LifoSlot};
use super::{Gate, Ordering, VISITOR, available};
use crate::CachePadded;
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};
use std::vec::Vec;

fn close_without_fence(gate: &Gate) {
    gate.update(Ordering::SeqCst, |state| (state & !(VISITOR - 1)) + VISITOR);
}

/// How often an entry was in two hands: one thread pops and pushes, one visits, until the first conflict or the time is up.
fn conflicts(close: fn(&Gate), limit: Duration) -> u32 {
    const ENTRIES: usize = 8;
    let slots: Vec<_> = (0..crate::cpu::count()).map(|_| CachePadded::new(LifoSlot::default())).collect();
    let links: Vec<_> = (0..=ENTRIES).map(|_| AtomicU64::new(0)).collect();
    let depths: Vec<_> = (0..=ENTRIES).map(|_| AtomicU8::new(0)).collect();
    let owned: Vec<_> = (0..=ENTRIES).map(|_| AtomicBool::new(false)).collect();
    let gate = Gate::new();
    let lifo = Lifo::new(&slots, &links, &depths, &gate, 16);
    let conflicts = AtomicU32::new(0);
    let stop = AtomicBool::new(false);
    let take = |entry: u32| {
        if owned[entry as usize].swap(true, Ordering::AcqRel) {
            conflicts.fetch_add(1, Ordering::Relaxed);
            stop.store(true, Ordering::Relaxed);
        }
    };
    let give_back = |entry: u32| {
        owned[entry as usize].store(false, Ordering::Release);
        while lifo.push(entry).is_err() && !stop.load(Ordering::Relaxed) {}
    };
    (1..=ENTRIES as u32).for_each(&give_back);
    thread::scope(|s| {
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if let Ok((entry, _)) = lifo.pop() {
                    take(entry);
                    give_back(entry);
                }
            }
        });
        let end = Instant::now() + limit;
        while !stop.load(Ordering::Relaxed) && Instant::now() < end {
            close(&gate);
            let chain = (0..slots.len()).find_map(|slot| lifo.steal(slot, 1));
            if let Some(chain) = chain {
                take(chain.head);
            }
            gate.open();
            if let Some(chain) = chain {
                give_back(chain.head);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    conflicts.load(Ordering::Relaxed)
}

#[test]
fn a_closed_gate_keeps_owners_out() {
    if available() {
        assert_eq!(conflicts(Gate::close, Duration::from_millis(500)), 0);
    }
}

#[test]
fn twin_without_the_fence_lets_two_take_one_entry() {
    // On one CPU the switch between the threads aborts the sequence, as the fence would.
    if available() && thread::available_parallelism().is_ok_and(|n| n.get() > 1) {
        assert_ne!(conflicts(close_without_fence, Duration::from_secs(20)), 0);
    }
}
